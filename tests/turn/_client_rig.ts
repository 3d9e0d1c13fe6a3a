// A TURN client, a server that does what a test says, and 20 virtual milliseconds between them.
import { assert } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { ERROR_CODE_ATTRIBUTE, NONCE, REALM, USERNAME, XOR_MAPPED_ADDRESS } from "../../stun/attributes.ts";
import { IntegrityKey } from "../../stun/integrity.ts";
import type { MachineIo, OpenFailure, Packet, Random, SocketId, SocketWish } from "../../stun/machine.ts";
import { isStunByte, MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import { LIFETIME, REQUESTED_ADDRESS_FAMILY, XOR_RELAYED_ADDRESS } from "../../turn/attributes.ts";
import { TurnClient, type TurnClientOptions } from "../../turn/client.ts";
import type { TurnClientEvent } from "../../turn/client_events.ts";

export const SERVER = TransportAddress.parse("198.51.100.1:3478");
export const LOCAL = TransportAddress.parse("192.0.2.7:50000");
export const MAPPED = TransportAddress.parse("203.0.113.9:40000");
export const RELAYED = TransportAddress.parse("198.51.100.1:55000");
export const PEER = TransportAddress.parse("203.0.113.50:7000");
const HEADROOM = 4;
/** One way. */
const DELAY = 10;

/** A datagram that the client sent. */
export interface SentDatagram {
  readonly at: number;
  readonly socket: SocketId;
  readonly to: TransportAddress;
  readonly bytes: Uint8Array;
}

/** What a test's server says to a request: `undefined` for nothing at all. */
export type Answer = (request: StunMessage, server: ScriptedServer) => Uint8Array | undefined;

/** A TURN server without sockets: challenges, grants all, unless a test has put other answers in line. */
export class ScriptedServer {
  realm = "example.org";
  nonce = "nonce-1";
  lifetime = 600;
  /** `undefined`: credentials are not asked for. */
  password: string | undefined = "secret";
  /** Answers in place of the usual ones, by method, first come first used. */
  readonly next: Map<number, Answer[]> = new Map();
  /** Every request: when it came, its method, and the code of the answer (0 success, -1 none). */
  readonly log: { readonly at: number; readonly method: number; readonly code: number }[] = [];

  get key(): IntegrityKey {
    return IntegrityKey.longTerm("alice", this.realm, this.password ?? "none");
  }

  /** Puts answers in line. */
  script(method: number, ...answers: Answer[]): void {
    this.next.set(method, [...this.next.get(method) ?? [], ...answers]);
  }

  /** How often a method was asked for. */
  count(method: number): number {
    return this.log.filter((entry) => entry.method === method).length;
  }

  /** When a method was asked for. */
  times(method: number): number[] {
    return this.log.filter((entry) => entry.method === method).map(({ at }) => at);
  }

  handle(request: StunMessage, at: number): Uint8Array | undefined {
    const scripted = this.next.get(request.method)?.shift();
    const answer = scripted === undefined ? this.answer(request) : scripted(request, this);
    const code = answer === undefined ? -1 : StunMessage.parse(answer)?.get(ERROR_CODE_ATTRIBUTE)?.code ?? 0;
    this.log.push({ at, method: request.method, code });
    return answer;
  }

  /** The usual answer. */
  answer(request: StunMessage): Uint8Array {
    if (this.password !== undefined) {
      if (!request.hasIntegrity || request.get(USERNAME) !== "alice" || !request.verifyIntegrity(this.key)) {
        return this.challenge(request, 401);
      }
      if (request.get(NONCE) !== this.nonce) return this.challenge(request, 438);
    }
    return this.success(request);
  }

  challenge(request: StunMessage, code: 401 | 438): Uint8Array {
    return error(code, (writer) => writer.add(REALM, this.realm).add(NONCE, this.nonce))(request, this)!;
  }

  success(request: StunMessage, add: (writer: MessageWriter) => unknown = () => {}): Uint8Array {
    const writer = new MessageWriter(new Uint8Array(1024)).beginResponse(request, "success");
    const lifetime = request.get(LIFETIME) === 0 ? 0 : this.lifetime;
    if (request.method === METHOD.ALLOCATE) {
      const family = request.get(REQUESTED_ADDRESS_FAMILY);
      const relayed = family === 6 ? TransportAddress.parse("[2001:db8::1]:55000") : RELAYED;
      writer.add(XOR_RELAYED_ADDRESS, relayed).add(XOR_MAPPED_ADDRESS, MAPPED).add(LIFETIME, lifetime);
    } else if (request.method === METHOD.REFRESH) writer.add(LIFETIME, lifetime);
    add(writer);
    if (request.hasIntegrity) writer.addIntegrity(this.key);
    return writer.finish();
  }
}

/** An error response, signed if the request was and the code is not one of authentication. */
export function error(code: number, add: (writer: MessageWriter) => unknown = () => {}): Answer {
  return (request, server) => {
    const writer = new MessageWriter(new Uint8Array(1024)).beginResponse(request, "error");
    writer.add(ERROR_CODE_ATTRIBUTE, { code, reason: `Reason ${code}` });
    add(writer);
    if (request.hasIntegrity && code !== 401 && code !== 438) writer.addIntegrity(server.key);
    return writer.finish();
  };
}

/** No answer. */
export const silence: Answer = () => undefined;

/** The usual answer. */
export const usual: Answer = (request, server) => server.answer(request);

/** A new nonce, and 438 for the one that was used. */
export function stale(nonce: string): Answer {
  return (request, server) => {
    server.nonce = nonce;
    return server.challenge(request, 438);
  };
}

class CountingRandom implements Random {
  #next = 1;
  fill(bytes: Uint8Array): void {
    for (let i = 0; i < bytes.length; i++) {
      this.#next = (Math.imul(this.#next, 1664525) + 1013904223) >>> 0;
      bytes[i] = this.#next >>> 24;
    }
  }
}

/** The rig. Its `io` is what the client is called with. */
export class ClientRig {
  readonly client: TurnClient;
  readonly server = new ScriptedServer();
  readonly events: TurnClientEvent[] = [];
  readonly delivered: { readonly from: string; readonly text: string; readonly headroom: number }[] = [];
  /** What the client sent and no test has taken yet; requests too. */
  readonly sent: SentDatagram[] = [];
  readonly opened: SocketWish[] = [];
  readonly closed: SocketId[] = [];
  /** Connections whose framing has ended. */
  readonly unframed: SocketId[] = [];
  /** The binds that fail, first come first used. */
  readonly openFailures: OpenFailure[] = [];
  /** The address of the server that is there. */
  serverAddress = SERVER;
  readonly io: MachineIo<TurnClientEvent>;
  #now = 1000;
  #socket = 0;
  #opening: SocketId[] = [];
  #arriving: { readonly at: number; readonly bytes: Uint8Array; readonly socket: SocketId }[] = [];

  constructor(options: Partial<TurnClientOptions> = {}, hasCredentials = true) {
    this.client = new TurnClient({
      server: SERVER,
      localAddress: LOCAL.address,
      ...(hasCredentials ? { credentials: { username: "alice", password: "secret" } } : {}),
      ...options,
    });
    // deno-lint-ignore no-this-alias
    const rig = this;
    const random = new CountingRandom();
    this.io = {
      get now() {
        return rig.#now;
      },
      unixTime: 946_684_800,
      random,
      scratch: (size) => new Uint8Array(size).fill(0xaa),
      send: (socket, to, bytes, offset = 0, length = bytes.length - offset) =>
        this.#take({ at: this.#now, socket, to, bytes: bytes.slice(offset, offset + length) }),
      open: (wish) => {
        this.opened.push(wish as SocketWish);
        this.#opening.push(++this.#socket);
        return this.#socket;
      },
      close: (socket) => void this.closed.push(socket),
      unframe: (socket) => void this.unframed.push(socket),
      deliver: (from, bytes, offset = 0, length = bytes.length - offset) => {
        const text = new TextDecoder().decode(bytes.subarray(offset, offset + length));
        this.delivered.push({ from: from.toString(), text, headroom: offset });
      },
      emit: (event) => void this.events.push(event),
    };
  }

  get now(): number {
    return this.#now;
  }

  /** The socket that was opened last. */
  get socket(): SocketId {
    return this.#socket;
  }

  /** Runs a verb of the client's, and binds what it opened. */
  call(verb: (client: TurnClient, io: MachineIo<TurnClientEvent>) => void): void {
    verb(this.client, this.io);
    this.#bind();
  }

  /** A client that has its allocation, with events and datagrams up to here forgotten. */
  static allocated(options: Partial<TurnClientOptions> = {}, lifetime = 600): ClientRig {
    const rig = new ClientRig(options);
    rig.server.lifetime = lifetime;
    rig.call((client, io) => client.allocate(io));
    rig.advance(100);
    assert(rig.client.state === "allocated", "The rig has no allocation");
    rig.reset();
    return rig;
  }

  /** Forgets what was recorded. */
  reset(): void {
    this.events.length =
      this.delivered.length =
      this.sent.length =
      this.server.log.length =
        0;
  }

  /** Lets time pass: timers and answers in their order. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const arrival = this.#arriving[0]?.at ?? Infinity;
      const next = Math.min(arrival, this.client.deadline);
      if (next > end) break;
      this.#now = Math.max(this.#now, next);
      if (arrival <= next) {
        const { bytes, socket } = this.#arriving.shift()!;
        this.receive(bytes, { socket });
      } else {
        this.client.handleTimeout(this.io);
        assert(this.client.deadline > this.#now, `The deadline ${this.client.deadline} has not moved`);
      }
      this.#bind();
    }
    this.#now = end;
  }

  /** Hands the client a datagram. */
  receive(bytes: Uint8Array, how: { from?: TransportAddress; socket?: SocketId } = {}): void {
    const buffer = new Uint8Array(HEADROOM + bytes.length);
    buffer.set(bytes, HEADROOM);
    const packet: Packet = {
      socket: how.socket ?? this.#socket,
      from: how.from ?? this.serverAddress,
      buffer,
      offset: HEADROOM,
      length: bytes.length,
      bytes: buffer.subarray(HEADROOM),
    };
    this.client.handlePacket(packet, this.io);
    this.#bind();
  }

  send(to: TransportAddress, text: string): void {
    const bytes = new TextEncoder().encode(`..${text}..`);
    this.client.handleSend(to, bytes, 2, bytes.length - 4, this.io);
  }

  /** What was sent that is no request. */
  data(): Uint8Array[] {
    return this.sent.map(({ bytes }) => bytes).filter((bytes) =>
      !isStunByte(bytes[0]!) || StunMessage.parse(bytes)?.class === "indication"
    );
  }

  /** The events of one type. */
  eventsOf<T extends TurnClientEvent["type"]>(type: T): Extract<TurnClientEvent, { type: T }>[] {
    return this.events.filter((event): event is Extract<TurnClientEvent, { type: T }> => event.type === type);
  }

  #take(datagram: SentDatagram): void {
    this.sent.push(datagram);
    const request = isStunByte(datagram.bytes[0]!) ? StunMessage.parse(datagram.bytes) : undefined;
    if (request?.class !== "request" || !datagram.to.equals(this.serverAddress)) return;
    const answer = this.server.handle(request, this.#now);
    if (answer === undefined) return;
    this.#arriving.push({ at: this.#now + 2 * DELAY, bytes: answer.slice(), socket: datagram.socket });
  }

  #bind(): void {
    for (let socket = this.#opening.shift(); socket !== undefined; socket = this.#opening.shift()) {
      const failure = this.openFailures.shift();
      if (failure === undefined) this.client.handleOpened(socket, LOCAL.withPort(LOCAL.port + socket), this.io);
      else this.client.handleOpenFailed(socket, failure, this.io, `Cannot bind: ${failure}`);
    }
  }
}

/** A ChannelData message. */
export function channelData(channel: number, text: string, length?: number): Uint8Array {
  const data = new TextEncoder().encode(text);
  return Uint8Array.of(
    channel >> 8,
    channel & 255,
    (length ?? data.length) >> 8,
    (length ?? data.length) & 255,
    ...data,
  );
}
