// An ICE agent on a table: virtual time, everything it sends and reports in lists, and a peer made of single messages.
import { TransportAddress } from "../../stun/address.ts";
import { ERROR_CODE_ATTRIBUTE, USERNAME, XOR_MAPPED_ADDRESS } from "../../stun/attributes.ts";
import type { Attribute } from "../../stun/attribute.ts";
import { IntegrityKey } from "../../stun/integrity.ts";
import type { MachineIo, Packet, Random, SocketId, StreamWish } from "../../stun/machine.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import { IceAgent } from "../../ice/agent.ts";
import type { IceAgentOptions } from "../../ice/agent_options.ts";
import { ICE_CONTROLLED, ICE_CONTROLLING, NOMINATION, PRIORITY, USE_CANDIDATE } from "../../ice/attributes.ts";
import type { IceEvent } from "../../ice/events.ts";
import { parseCandidate } from "../../ice/sdp.ts";

/** The agent's only host address, unless a test adds others. */
export const HOST: TransportAddress = TransportAddress.parse("192.0.2.1:5000");
/** Where the peer is. */
export const PEER: TransportAddress = TransportAddress.parse("198.51.100.2:6000");
/** The peer's credentials. */
export const PEER_UFRAG = "PEER";
export const PEER_PWD = "peerpeerpeerpeerpeerpeer";

/** Seeded, for tests only. */
export function seeded(seed = 1): Random {
  let state = seed >>> 0;
  return {
    fill(bytes) {
      for (let i = 0; i < bytes.length; i++) {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        bytes[i] = state >>> 24;
      }
    },
  };
}

/** A datagram that the agent sent. */
export interface Sent {
  readonly socket: SocketId;
  readonly to: TransportAddress;
  readonly bytes: Uint8Array;
  readonly message: StunMessage | undefined;
  readonly at: number;
}

/** What a check of the peer's looks like. */
export interface RequestOptions {
  readonly useCandidate?: boolean;
  /** The value of NOMINATION. Default: without. */
  readonly nomination?: number;
  /** The peer's role and tie-breaker. Default: the role that the agent does not have, and 1. */
  readonly role?: "controlling" | "controlled" | "none";
  readonly tieBreaker?: bigint;
  readonly priority?: number;
  readonly username?: string;
  readonly pwd?: string;
  readonly fingerprint?: boolean;
  readonly integrity?: boolean | "sha256";
  readonly extra?: readonly [Attribute<Uint8Array>, Uint8Array];
}

/** What the agent of a `Rig` is made of; its role is controlling unless it is said. */
export type RigOptions = Partial<IceAgentOptions>;

export class Rig {
  now = 0;
  readonly random: Random = seeded(7);
  readonly agent: IceAgent;
  readonly sent: Sent[] = [];
  readonly events: IceEvent[] = [];
  /** Connections that the agent asked for: 100, 101, ... */
  readonly opened: { socket: SocketId; wish: StreamWish }[] = [];
  /** What the agent closed. */
  readonly closed: SocketId[] = [];
  readonly delivered: { from: TransportAddress; bytes: Uint8Array; flow: number }[] = [];
  readonly io: MachineIo<IceEvent>;
  #transactions = 0;

  constructor(options: RigOptions = {}) {
    this.agent = new IceAgent({ role: "controlling", random: this.random, ...options });
    const now = () => this.now;
    this.io = {
      get now() {
        return now();
      },
      unixTime: 946_684_800,
      random: this.random,
      scratch: (size) => new Uint8Array(size),
      send: (socket, to, bytes, offset = 0, length = bytes.length - offset) => {
        const copy = bytes.slice(offset, offset + length);
        this.sent.push({ socket, to, bytes: copy, message: StunMessage.parse(copy), at: this.now });
      },
      open: (wish) => {
        this.opened.push({ socket: 100 + this.opened.length, wish: wish as StreamWish });
        return this.opened.at(-1)!.socket;
      },
      close: (socket) => void this.closed.push(socket),
      deliver: (from, bytes, offset = 0, length = bytes.length - offset, flow = 0) => {
        this.delivered.push({ from, bytes: bytes.slice(offset, offset + length), flow });
      },
      emit: (event) => void this.events.push(event),
    };
  }

  /** With the usual host address on socket 1, and nothing more to gather. */
  static gathered(options: RigOptions = {}): Rig {
    const rig = new Rig(options);
    rig.agent.addHost(1, HOST, rig.io);
    rig.agent.endOfLocalCandidates(rig.io);
    return rig;
  }

  /** With the peer's credentials as well, and its one candidate: the first check has left. */
  static checking(options: RigOptions = {}): Rig {
    const rig = Rig.gathered(options);
    rig.candidate(PEER, "host");
    rig.remote();
    rig.agent.endOfCandidates(rig.io);
    return rig;
  }

  /** With a pair that works, and all that was sent until then forgotten. */
  static connected(options: RigOptions = {}): Rig {
    const rig = Rig.checking(options);
    rig.advance(10);
    rig.succeed(rig.lastRequest());
    rig.sent.length = 0;
    return rig;
  }

  /** With a nominated pair, and all that was sent until then forgotten. */
  static completed(options: RigOptions = {}): Rig {
    const rig = Rig.connected(options);
    if (rig.agent.role === "controlling") {
      rig.advance(40);
      rig.succeed(rig.lastRequest());
    } else rig.request({ useCandidate: true });
    rig.sent.length = 0;
    return rig;
  }

  remote(ufrag = PEER_UFRAG, pwd = PEER_PWD, more: { lite?: boolean; pacing?: number } = {}): void {
    this.agent.setRemoteParameters({ ufrag, pwd, options: ["ice2"], ...more }, this.io);
  }

  candidate(address: TransportAddress, type = "host", priority = 2130706431, more = ""): boolean {
    const line = `${type}${address.port} 1 udp ${priority} ${address.address} ${address.port} typ ${type}${more}`;
    return this.agent.addRemoteCandidate(parseCandidate(line), this.io);
  }

  receive(bytes: Uint8Array, from: TransportAddress = PEER, socket: SocketId = 1): void {
    const buffer = new Uint8Array(4 + bytes.length);
    buffer.set(bytes, 4);
    const packet: Packet = {
      socket,
      from,
      buffer,
      offset: 4,
      length: bytes.length,
      get bytes() {
        return buffer.subarray(4);
      },
    };
    this.agent.handlePacket(packet, this.io);
  }

  /** Lets time pass, with each deadline on the way. */
  advance(ms: number): void {
    const end = this.now + ms;
    while (this.agent.deadline <= end) {
      this.now = Math.max(this.now, this.agent.deadline);
      this.agent.handleTimeout(this.io);
    }
    this.now = end;
  }

  /** The requests among what was sent. */
  get requests(): Sent[] {
    return this.sent.filter(({ message }) => message?.class === "request");
  }

  get answers(): Sent[] {
    return this.sent.filter(({ message }) => message?.class === "success" || message?.class === "error");
  }

  lastRequest(): Sent {
    return this.requests.at(-1)!;
  }

  lastAnswer(): StunMessage {
    return this.answers.at(-1)!.message!;
  }

  transactionId(): Uint8Array {
    const id = new Uint8Array(12);
    new DataView(id.buffer).setUint32(8, ++this.#transactions);
    return id;
  }

  /** The bytes of a check from the peer. */
  requestBytes(options: RequestOptions = {}): Uint8Array {
    const { agent } = this;
    const { ufrag, pwd } = agent.localParameters;
    const role = options.role ?? (agent.role === "controlling" ? "controlled" : "controlling");
    const writer = new MessageWriter(new Uint8Array(1000)).begin(METHOD.BINDING, "request", this.transactionId());
    const username = options.username ?? `${ufrag}:${PEER_UFRAG}`;
    if (username !== "") writer.add(USERNAME, username);
    if (role !== "none") {
      writer.add(role === "controlling" ? ICE_CONTROLLING : ICE_CONTROLLED, options.tieBreaker ?? 1n);
    }
    const { priority = 1853693695 } = options;
    if (priority >= 0) writer.add(PRIORITY, priority);
    if (options.useCandidate === true) writer.add(USE_CANDIDATE, true);
    if (options.nomination !== undefined) writer.add(NOMINATION, options.nomination);
    if (options.extra !== undefined) writer.add(...options.extra);
    if (options.integrity !== false) {
      writer.addIntegrity(
        IntegrityKey.shortTerm(options.pwd ?? pwd),
        options.integrity === "sha256" ? "sha256" : "sha1",
      );
    }
    if (options.fingerprint !== false) writer.addFingerprint();
    return writer.finish().slice();
  }

  /** A check from the peer arrives. */
  request(options: RequestOptions & { from?: TransportAddress; socket?: SocketId } = {}): void {
    this.receive(this.requestBytes(options), options.from, options.socket);
  }

  /** The bytes of the peer's success response to a request of the agent's. */
  successBytes(
    { message }: Sent,
    { mapped = HOST, pwd = PEER_PWD, fingerprint = true, integrity = true }: {
      mapped?: TransportAddress;
      pwd?: string;
      fingerprint?: boolean;
      integrity?: boolean;
    } = {},
  ): Uint8Array {
    const writer = new MessageWriter(new Uint8Array(200)).beginResponse(message!, "success").add(
      XOR_MAPPED_ADDRESS,
      mapped,
    );
    if (integrity) writer.addIntegrity(IntegrityKey.shortTerm(pwd));
    if (fingerprint) writer.addFingerprint();
    return writer.finish().slice();
  }

  /** The peer answers a request. */
  succeed(
    request: Sent,
    options: { mapped?: TransportAddress; from?: TransportAddress; socket?: SocketId } = {},
  ): void {
    this.receive(this.successBytes(request, options), options.from ?? request.to, options.socket ?? request.socket);
  }

  errorBytes({ message }: Sent, code: number, pwd: string | undefined = PEER_PWD): Uint8Array {
    const writer = new MessageWriter(new Uint8Array(200)).beginResponse(message!, "error")
      .add(ERROR_CODE_ATTRIBUTE, { code, reason: "" });
    if (pwd !== "") writer.addIntegrity(IntegrityKey.shortTerm(pwd));
    return writer.addFingerprint().finish().slice();
  }

  /** The peer answers a request with an error. */
  refuse(request: Sent, code: number, options: { from?: TransportAddress; pwd?: string } = {}): void {
    this.receive(this.errorBytes(request, code, options.pwd), options.from ?? request.to, request.socket);
  }

  /** The types of the events so far, with what matters of each. */
  eventTypes(): string[] {
    return this.events.map((event) => event.type === "state" ? `state ${event.state}` : event.type);
  }
}
