// A TurnServer with a recording io, sockets that open at once, and clients that speak TURN by hand.
import { assert, assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import {
  ERROR_CODE_ATTRIBUTE,
  NONCE,
  PASSWORD_ALGORITHM,
  PASSWORD_ALGORITHMS,
  REALM,
  USERNAME,
} from "../../stun/attributes.ts";
import { UserTable } from "../../stun/users.ts";
import { IntegrityKey } from "../../stun/integrity.ts";
import type { OpenFailure, SocketId, StreamWish } from "../../stun/machine.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import {
  CHANNEL_NUMBER,
  DATA,
  LIFETIME,
  REQUESTED_TRANSPORT,
  TRANSPORT_PROTOCOL,
  XOR_PEER_ADDRESS,
  XOR_RELAYED_ADDRESS,
} from "../../turn/attributes.ts";
import { writeChannelHeader } from "../../turn/channel_data.ts";
import { TurnServer, type TurnServerOptions } from "../../turn/server.ts";
import type { TurnServerEvent } from "../../turn/server_events.ts";
import { recordedPacket, type RecordedSend, RecordingIo } from "../_recorder.ts";

export const REALM_NAME = "example.org";
export const SERVER = TransportAddress.parse("198.18.0.1:3478");
export const SERVER6 = TransportAddress.parse("[2001:db8::1]:3478");
export const CLIENT = TransportAddress.parse("192.0.2.7:50000");
export const PEER = TransportAddress.parse("8.8.8.8:7000");
export const PEER6 = TransportAddress.parse("[2606:4700::1111]:7000");
export const SOCKET: SocketId = 1;
export const SOCKET6: SocketId = 2;

/** What a test's request may differ in. */
export interface RequestOptions {
  /** How it is authenticated: as an RFC 5389 client, as an RFC 8489 client, or not. Default: `"sha1"`. */
  readonly auth?: "sha1" | "sha256" | "none";
  readonly fingerprint?: boolean;
  readonly transactionId?: Uint8Array;
}

export type Attributes = (writer: MessageWriter) => unknown;

/** The server and its surroundings. */
export class ServerRig {
  readonly io: RecordingIo<TurnServerEvent>;
  readonly server: TurnServer;
  /** Why a socket is not to be opened, by port. */
  readonly failures: Map<number, OpenFailure> = new Map();
  /** Sockets that were opened, by port. */
  readonly sockets: Map<number, SocketId> = new Map();
  /** Connections to peers that were asked for, to be answered by the test. */
  readonly connects: { readonly socket: SocketId; readonly wish: StreamWish }[] = [];
  /** Whether sockets open as soon as they are asked for. */
  opensAtOnce = true;
  #transactions = 0;

  constructor(options: Partial<TurnServerOptions> = {}) {
    this.io = new RecordingIo();
    this.server = new TurnServer({
      realm: REALM_NAME,
      users: new UserTable(REALM_NAME, [["alice", "secret"], ["bob", "hidden"]]),
      secret: new Uint8Array(32).fill(7),
      relayAddresses: [{ address: SERVER.address }, { address: SERVER6.address }],
      ...options,
    });
    this.server.addListener(SOCKET, SERVER);
    this.server.addListener(SOCKET6, SERVER6);
  }

  client(address: TransportAddress = CLIENT, username = "alice"): RigClient {
    return new RigClient(this, address, username);
  }

  /** A client that came by a connection, with the number `socket`. */
  connect(socket: SocketId, address: TransportAddress = CLIENT, username = "alice"): RigClient {
    this.accept(90, socket, address);
    const client = new RigClient(this, address, username);
    Object.assign(client, { socket });
    return client;
  }

  /** Somebody connects to a listening socket. Gives what the server sent. */
  accept(
    listener: SocketId,
    socket: SocketId,
    remoteAddress: TransportAddress,
    transport: "tcp" | "tls" | "dtls" = "tcp",
  ): RecordedSend[] {
    const connection = { listener, transport, remoteAddress, localAddress: SERVER, alpn: undefined } as const;
    this.server.handleAccepted(socket, connection, this.io);
    return this.io.takeSends();
  }

  newTransactionId(): Uint8Array {
    const id = new Uint8Array(12);
    new DataView(id.buffer).setUint32(8, ++this.#transactions);
    return id;
  }

  /** Hands a datagram to the server, opens what it asks for, and gives what it sent. */
  receive(socket: SocketId, from: TransportAddress, bytes: Uint8Array): RecordedSend[] {
    this.server.handlePacket(recordedPacket(socket, from, bytes), this.io);
    if (this.opensAtOnce) this.openAll();
    return this.io.takeSends();
  }

  /** Answers all that the server has asked for so far, and what it asks for meanwhile. */
  openAll(): void {
    for (let opens = this.io.takeOpens(); opens.length > 0; opens = this.io.takeOpens()) {
      for (const { socket, wish } of opens) {
        // What is closed before it is open, is never open.
        if (this.io.closed.includes(socket)) continue;
        if ("remote" in wish) {
          this.connects.push({ socket, wish });
          continue;
        }
        const failure = this.failures.get(wish.port);
        if (failure !== undefined) this.server.handleOpenFailed(socket, failure, this.io);
        else {
          this.sockets.set(wish.port, socket);
          this.server.handleOpened(socket, TransportAddress.of(wish.address, wish.port), this.io);
        }
      }
    }
  }

  advance(ms: number): void {
    this.io.advance(this.server, ms);
  }

  /** What is left of anything. */
  get leftovers(): Record<string, number> {
    return Object.fromEntries(Object.entries(this.server.sizes).filter(([, size]) => size !== 0));
  }

  /** Drops so far, those that are not zero. */
  get drops(): Record<string, number> {
    return Object.fromEntries(Object.entries(this.server.counters.drops).filter(([, count]) => count !== 0));
  }

  /** What the driver has been told to open, and not to close, from now on. */
  watchSockets(): Set<SocketId> {
    const live = new Set<SocketId>();
    const { io } = this;
    const { open, close } = io;
    io.open = (wish) => {
      const socket = open.call(io, wish);
      live.add(socket);
      return socket;
    };
    io.close = (socket) => {
      if (!live.delete(socket)) throw new Error(`Socket ${socket} is closed twice, or was none`);
      close.call(io, socket);
    };
    return live;
  }
}

/** A client: remembers its nonce. */
export class RigClient {
  readonly rig: ServerRig;
  readonly address: TransportAddress;
  readonly username: string;
  readonly socket: SocketId;
  nonce = "";

  constructor(rig: ServerRig, address: TransportAddress, username: string) {
    this.rig = rig;
    this.address = address;
    this.username = username;
    this.socket = address.family === 4 ? SOCKET : SOCKET6;
  }

  /** The client's key, for both directions. */
  key(auth: "sha1" | "sha256" = "sha1"): IntegrityKey {
    const password = this.username === "alice" ? "secret" : "hidden";
    return IntegrityKey.longTerm(this.username, REALM_NAME, password, auth === "sha1" ? "MD5" : "SHA-256");
  }

  /** A request's bytes. */
  build(method: number, attributes: Attributes = () => {}, options: RequestOptions = {}): Uint8Array {
    const { auth = "sha1", fingerprint = false, transactionId = this.rig.newTransactionId() } = options;
    const writer = new MessageWriter(new Uint8Array(2048)).begin(method, "request", transactionId);
    attributes(writer);
    if (auth !== "none") {
      writer.add(USERNAME, this.username).add(REALM, REALM_NAME).add(NONCE, this.nonce);
      if (auth === "sha256") {
        const parameters = new Uint8Array(0);
        const offer = [{ algorithm: 2, parameters }, { algorithm: 1, parameters }];
        writer.add(PASSWORD_ALGORITHM, offer[0]!).add(PASSWORD_ALGORITHMS, offer);
      }
      writer.addIntegrity(this.key(auth), auth);
    }
    if (fingerprint) writer.addFingerprint();
    return writer.finish();
  }

  /** Sends a datagram. Gives what the server sent. */
  send(bytes: Uint8Array): RecordedSend[] {
    return this.rig.receive(this.socket, this.address, bytes);
  }

  /** Sends a datagram to which there must be one answer, to this client. */
  ask(bytes: Uint8Array): StunMessage {
    const sends = this.send(bytes);
    assertEquals(sends.map(({ socket, to }) => [socket, String(to)]), [[this.socket, String(this.address)]]);
    const answer = StunMessage.parse(sends[0]!.bytes);
    assert(answer !== undefined, "The answer is no STUN message");
    assertEquals(answer.transactionKey, StunMessage.parse(bytes)!.transactionKey);
    assertEquals(answer.method, StunMessage.parse(bytes)!.method);
    return answer;
  }

  /** Gets a nonce, which takes an Allocate without credentials. */
  challenge(): StunMessage {
    const answer = this.ask(this.build(METHOD.ALLOCATE, addTransport, { auth: "none" }));
    this.nonce = answer.get(NONCE)!;
    return answer;
  }

  /** Sends an authenticated request; takes the nonce first if there is none. */
  request(method: number, attributes?: Attributes, options?: RequestOptions): StunMessage {
    if (this.nonce === "") this.challenge();
    return this.ask(this.build(method, attributes, options));
  }

  /** As `request()`, but gives the error code, or 0. */
  code(method: number, attributes?: Attributes, options?: RequestOptions): number {
    return codeOf(this.request(method, attributes, options));
  }

  /** Sends an Allocate request for UDP. */
  allocate(attributes: Attributes = () => {}, options?: RequestOptions): StunMessage {
    return this.request(METHOD.ALLOCATE, (writer) => attributes(addTransport(writer)), options);
  }

  /** Makes an allocation, which must succeed. Gives the relay's socket and the relayed address, for each family. */
  mustAllocate(attributes?: Attributes): { socket: SocketId; relayed: TransportAddress }[] {
    const answer = this.allocate(attributes);
    assertEquals(codeOf(answer), 0);
    return answer.getAll(XOR_RELAYED_ADDRESS).map((relayed) => {
      return { relayed: relayed!, socket: this.rig.sockets.get(relayed!.port)! };
    });
  }

  refresh(lifetime?: number, attributes: Attributes = () => {}): StunMessage {
    return this.request(METHOD.REFRESH, (writer) => {
      if (lifetime !== undefined) writer.add(LIFETIME, lifetime);
      attributes(writer);
    });
  }

  permit(...peers: TransportAddress[]): number {
    return this.code(METHOD.CREATE_PERMISSION, (writer) => peers.forEach((peer) => writer.add(XOR_PEER_ADDRESS, peer)));
  }

  bind(number: number, peer: TransportAddress, options?: RequestOptions): number {
    return this.code(METHOD.CHANNEL_BIND, (w) => w.add(CHANNEL_NUMBER, number).add(XOR_PEER_ADDRESS, peer), options);
  }

  /** Sends a Send indication. Gives what the server sent. */
  sendTo(peer: TransportAddress, data: Uint8Array, attributes: Attributes = () => {}): RecordedSend[] {
    const writer = new MessageWriter(new Uint8Array(data.length + 256))
      .begin(METHOD.SEND, "indication", this.rig.newTransactionId()).add(XOR_PEER_ADDRESS, peer).add(DATA, data);
    attributes(writer);
    return this.send(writer.finish());
  }

  /** Sends ChannelData. Gives what the server sent. */
  sendOn(channel: number, data: Uint8Array, padding = 0): RecordedSend[] {
    return this.send(channelData(channel, data, padding));
  }
}

export function channelData(channel: number, data: Uint8Array, padding = 0): Uint8Array {
  const bytes = new Uint8Array(4 + data.length + padding);
  writeChannelHeader(bytes, 0, channel, data.length);
  bytes.set(data, 4);
  return bytes;
}

export function addTransport(writer: MessageWriter): MessageWriter {
  return writer.add(REQUESTED_TRANSPORT, TRANSPORT_PROTOCOL.UDP);
}

/** The error code of an answer; 0 for success. */
export function codeOf(answer: StunMessage): number {
  return answer.class === "success" ? 0 : answer.get(ERROR_CODE_ATTRIBUTE)!.code;
}

export function bytes(...values: number[]): Uint8Array {
  return Uint8Array.from(values);
}
