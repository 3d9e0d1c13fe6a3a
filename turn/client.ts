import type { AddressFamily, TransportAddress } from "../stun/address.ts";
import {
  ERROR_CODE_ATTRIBUTE,
  MAPPED_ADDRESS,
  MESSAGE_INTEGRITY,
  MESSAGE_INTEGRITY_SHA256,
  NONCE,
  PASSWORD_ALGORITHM,
  REALM,
  SOFTWARE,
  UNKNOWN_ATTRIBUTES,
  USERHASH,
  USERNAME,
  XOR_MAPPED_ADDRESS,
} from "../stun/attributes.ts";
import { ServerTrail } from "../stun/alternate.ts";
import { LongTermCredentials } from "../stun/credentials.ts";
import { ERROR_CODE, StunConnectionError, StunError, StunProtocolError } from "../stun/error.ts";
import type { CloseReason, MachineIo, OpenFailure, Packet, SocketId, StreamWish, Tunnel } from "../stun/machine.ts";
import { isStunByte, type MessageWriter, METHOD, StunMessage } from "../stun/message.ts";
import { OpenError } from "../stun/net/transport.ts";
import { ClientRequests, printable } from "../stun/requests.ts";
import type { RetransmitOptions } from "../stun/transaction.ts";
import { ClientLifetime, DEFAULT_LIFETIME } from "./_client_lifetime.ts";
import { ClientPeers } from "./_client_peers.ts";
import {
  CHANNEL_NUMBER,
  DATA,
  DONT_FRAGMENT,
  EVEN_PORT,
  LIFETIME,
  REQUESTED_ADDRESS_FAMILY,
  REQUESTED_TRANSPORT,
  RESERVATION_TOKEN,
  TRANSPORT_PROTOCOL,
  XOR_PEER_ADDRESS,
  XOR_RELAYED_ADDRESS,
} from "./attributes.ts";
import { isChannelByte } from "./channel_data.ts";
import type { TurnClientOptions } from "./client_options.ts";
import { TURN_CLIENT_TRANSITIONS, type TurnClientEvent, type TurnClientState } from "./client_events.ts";
import { newTurnClientStats, type TurnClientStats } from "./client_stats.ts";
import { TurnError } from "./error.ts";

export type { TurnClientOptions } from "./client_options.ts";

/** RFC 8656 §7.4: how many local addresses to try when the server says 437. */
const MAX_LOCAL_ADDRESSES = 3;
/** Giving an allocation back is a courtesy: it ends by itself. So this is quick: at 0 and 500 ms, over after 1500 ms. */
const RELEASE: RetransmitOptions = { rto: 500, rc: 2, rm: 2, ti: 1500 };

const KNOWN: ReadonlySet<number> = new Set([
  ...[MAPPED_ADDRESS, USERNAME, MESSAGE_INTEGRITY, ERROR_CODE_ATTRIBUTE, UNKNOWN_ATTRIBUTES, REALM, NONCE],
  ...[MESSAGE_INTEGRITY_SHA256, PASSWORD_ALGORITHM, USERHASH, XOR_MAPPED_ADDRESS],
  ...[CHANNEL_NUMBER, LIFETIME, XOR_PEER_ADDRESS, DATA, XOR_RELAYED_ADDRESS, REQUESTED_ADDRESS_FAMILY, EVEN_PORT],
  ...[REQUESTED_TRANSPORT, DONT_FRAGMENT, RESERVATION_TOKEN],
].map(({ type }) => type));

type Io = MachineIo<TurnClientEvent>;

/**
 * A TURN client over UDP, TCP or TLS (RFC 8656): one allocation, its permissions and channels, kept alive until `close()`.
 *
 * It opens its own socket, and another if the server takes the first for somebody else's (437). A connection that ends
 * takes the allocation with it. It is a tunnel: an ICE
 * agent stacked on it sends by `handleSend()`, which gets the permission that it needs on its own.
 *
 * @example In a driver
 * ```ts ignore
 * const client = new TurnClient({ server, localAddress: "0.0.0.0", credentials: { username, password } });
 * const handle = driver.add(client, { onEvent: (event) => console.log(event) });
 * handle.call((io) => client.allocate(io));
 * const socket = agentHandle.stackOn(handle);
 * ```
 */
export class TurnClient implements Tunnel<TurnClientEvent> {
  /** What was counted so far. */
  readonly stats: TurnClientStats = newTurnClientStats();
  readonly #options: TurnClientOptions;
  readonly #requests: ClientRequests<TurnClientEvent>;
  readonly #peers: ClientPeers;
  readonly #lifetime: ClientLifetime;
  readonly #credentials: LongTermCredentials | undefined;
  #state: TurnClientState = "new";
  #socket: SocketId = -1;
  #localAddresses = 0;
  readonly #trail: ServerTrail;
  #alternateDomain: string | undefined;
  #family: AddressFamily | undefined;
  #localAddress: TransportAddress | undefined;
  #relayedAddress: TransportAddress | undefined;
  #mappedAddress: TransportAddress | undefined;
  #software: string | undefined;

  /**
   * A client that has done nothing yet: `allocate()` is next.
   *
   * @throws {SyntaxError} If user name or password is empty or has a control character.
   * @throws {RangeError} If the user name, SOFTWARE or the lifetime cannot be written.
   */
  constructor(options: TurnClientOptions) {
    const { server, credentials, lifetime = 0, retransmit, rtoCache } = options;
    if (!Number.isInteger(lifetime) || lifetime < 0 || lifetime > 0xffffffff) {
      throw new RangeError(`Cannot use lifetime as it must be in 0 to 2^32-1 seconds: current value is ${lifetime}`);
    }
    if ([...options.software ?? ""].length > 127) throw new RangeError("Cannot use software with over 127 characters");
    this.#options = options;
    this.#trail = new ServerTrail(server);
    this.#family = options.requestedFamily;
    this.#credentials = credentials && new LongTermCredentials(credentials.username, credentials.password);
    this.#requests = new ClientRequests({
      server,
      known: KNOWN,
      reliable: this.#isStream,
      ...(this.#credentials === undefined ? {} : { credentials: this.#credentials }),
      ...(retransmit === undefined ? {} : { retransmit }),
      ...(rtoCache === undefined ? {} : { rtoCache }),
    });
    this.#peers = new ClientPeers(this.#requests, this.stats, {
      lost: (error, io) => {
        if (error.code === ERROR_CODE.ALLOCATION_MISMATCH) this.#fail(error, io);
        else this.#lose(error, io);
      },
      doubt: (io) => this.#lifetime.doubt(io),
    });
    this.#lifetime = new ClientLifetime(this.#requests, {
      write: (writer) => {
        if (options.lifetime !== undefined) writer.add(LIFETIME, options.lifetime);
        this.#addSoftware(writer);
      },
      lost: (error, io) => this.#fail(error, io),
    });
  }

  /** Where it is. */
  get state(): TurnClientState {
    return this.#state;
  }

  /** The server, which may have named another than the one that was asked first. */
  get server(): TransportAddress {
    return this.#requests.server;
  }

  /** The address its socket is bound to, once it is. */
  get localAddress(): TransportAddress | undefined {
    return this.#localAddress;
  }

  /** The address on the server at which peers reach this client, once there is an allocation. */
  get relayedAddress(): TransportAddress | undefined {
    return this.#relayedAddress;
  }

  /** The address from which the server sees this client, once there is an allocation. */
  get mappedAddress(): TransportAddress | undefined {
    return this.#mappedAddress;
  }

  /** The seconds that the server granted last, once there is an allocation. */
  get lifetime(): number | undefined {
    return this.#lifetime.granted;
  }

  /** The realm that the server asked for credentials of, once it has. */
  get realm(): string | undefined {
    return this.#credentials?.realm;
  }

  /** What the server says it is, fit for a line that people read, once there is an allocation. */
  get software(): string | undefined {
    return this.#software;
  }

  /** When `handleTimeout()` is due. */
  get deadline(): number {
    return Math.min(this.#requests.deadline, this.#peers.deadline, this.#lifetime.deadline);
  }

  /**
   * Opens a socket and asks for an allocation. `"allocated"` or `"failed"` follows.
   *
   * @throws {Error} If it was called before.
   */
  allocate(io: MachineIo<TurnClientEvent>): void {
    if (this.#state !== "new") throw new Error(`Cannot allocate as this client is ${this.#state} already`);
    this.#open(this.#options.localPort ?? 0, io);
  }

  /** Asks for a permission, and keeps it. `"permission"` or `"permission-failed"` follows. */
  createPermission(peer: TransportAddress, io: MachineIo<TurnClientEvent>): void {
    const error = this.#peerFault(peer, "get permission for");
    if (error === undefined) this.#peers.createPermission(peer, io);
    else io.emit({ type: "permission-failed", peer, code: error instanceof StunError ? error.code : undefined, error });
  }

  /** Binds a channel to a peer, and keeps it and the permission. `"channel-bound"` or `"channel-failed"` follows. */
  bindChannel(peer: TransportAddress, io: MachineIo<TurnClientEvent>): void {
    const error = this.#peerFault(peer, "bind a channel to");
    if (error === undefined) this.#peers.bindChannel(peer, io);
    else io.emit({ type: "channel-failed", peer, code: error instanceof StunError ? error.code : undefined, error });
  }

  /**
   * Sends to a peer: by its channel, else by a Send indication. Without a permission it asks for one first, and holds up
   * to 16 datagrams or 16 KiB for each peer until the server has granted it.
   */
  handleSend(
    to: TransportAddress,
    bytes: Uint8Array,
    offset: number,
    length: number,
    io: MachineIo<TurnClientEvent>,
  ): void {
    if (this.#state !== "allocated") this.stats.droppedNotAllocated++;
    else if (to.family !== this.#relayedAddress!.family) this.stats.droppedFamily++;
    else this.#peers.send(to, bytes, offset, length, io);
  }

  /** Gives the allocation back. `"closed"` follows, after 1.5 s if the server is silent. */
  close(io: MachineIo<TurnClientEvent>): void {
    if (this.#state === "closing" || this.#state === "closed") return;
    if (this.#state === "allocating" || this.#state === "allocated") {
      this.#become("closing");
      this.#release(io, (io) => this.#closed(io));
    } else this.#closed(io);
  }

  /** Its socket is bound. */
  handleOpened(socket: SocketId, localAddress: TransportAddress, io: MachineIo<TurnClientEvent>): void {
    if (socket !== this.#socket || this.#state !== "opening") return io.close(socket);
    this.#localAddress = localAddress;
    this.#requests.socket = socket;
    this.#become("allocating");
    this.#askForAllocation(io);
  }

  /** There is no socket: this client has failed. */
  handleOpenFailed(socket: SocketId, failure: OpenFailure, io: MachineIo<TurnClientEvent>, detail: string): void {
    if (socket !== this.#socket || this.#state !== "opening") return;
    this.#fail(new OpenError(failure, detail), io);
  }

  /** The connection to the server is gone, and with it the allocation. */
  handleClosed(socket: SocketId, reason: CloseReason, io: MachineIo<TurnClientEvent>): void {
    if (socket !== this.#socket) return;
    if (this.#state === "closing") this.#closed(io);
    else if (this.#state === "allocating" || this.#state === "allocated") {
      const what = this.#state === "allocated" ? "Cannot keep the allocation" : "Cannot allocate";
      this.#fail(new StunConnectionError(`${what} on ${this.server}: the connection ended (${reason})`), io);
    }
  }

  /** Repeats, refreshes and ends what is due. */
  handleTimeout(io: MachineIo<TurnClientEvent>): void {
    this.#lifetime.handleTimeout(io);
    this.#requests.handleTimeout(io);
    this.#peers.handleTimeout(io);
  }

  /** Takes what arrived. What does not come from the server changes nothing. */
  handlePacket(packet: Packet, io: MachineIo<TurnClientEvent>): void {
    if (packet.socket !== this.#socket || !packet.from.equals(this.#requests.server)) {
      return void this.stats.rejectedSource++;
    }
    const first = packet.length === 0 ? 0xff : packet.buffer[packet.offset]!;
    if (isChannelByte(first)) return this.#peers.handleChannelData(packet, io);
    const message = isStunByte(first) ? StunMessage.parse(packet.bytes) : undefined;
    if (message === undefined) return void this.stats.rejectedMalformed++;
    switch (message.class) {
      case "success":
      case "error":
        if (!this.#requests.handleResponse(message, io)) this.stats.rejectedResponse++;
        this.stats.rejectedIntegrity = this.#requests.ignored;
        return;
      case "indication":
        // An indication with attributes that it needs and we do not know is dropped (RFC 8489 §6.3.2).
        if (message.method !== METHOD.DATA || message.unknownRequired(KNOWN).length > 0) break;
        return this.#peers.handleData(message, packet, io);
      case "request":
        break;
    }
    this.stats.rejectedMalformed++;
  }

  #become(state: TurnClientState): void {
    if (!TURN_CLIENT_TRANSITIONS[this.#state].includes(state)) {
      throw new Error(`Cannot become ${state} as the TURN client is ${this.#state}`);
    }
    this.#state = state;
  }

  #open(port: number, io: Io): void {
    this.#become("opening");
    this.#localAddresses++;
    const { transport = "udp", localAddress: address } = this.#options;
    this.#socket = transport === "udp"
      ? io.open({ transport, address: address ?? (this.server.family === 4 ? "0.0.0.0" : "::"), port })
      : io.open(this.#streamWish(transport, port));
  }

  get #isStream(): boolean {
    return (this.#options.transport ?? "udp") !== "udp";
  }

  #streamWish(transport: "tcp" | "tls", port: number): StreamWish {
    const { localAddress: address, tls = {} } = this.#options;
    return {
      transport,
      remote: this.server,
      tls: this.#alternateDomain === undefined ? tls : { ...tls, serverName: this.#alternateDomain },
      ...(address === undefined ? {} : { address }),
      ...(port === 0 ? {} : { port }),
    };
  }

  /** RFC 8656 §7.1. */
  #askForAllocation(io: Io): void {
    const { lifetime } = this.#options;
    this.#requests.start({
      method: METHOD.ALLOCATE,
      doing: `Cannot allocate on ${this.server}`,
      write: (writer) => {
        writer.add(REQUESTED_TRANSPORT, TRANSPORT_PROTOCOL.UDP);
        if (this.#family !== undefined) writer.add(REQUESTED_ADDRESS_FAMILY, this.#family);
        if (lifetime !== undefined) writer.add(LIFETIME, lifetime);
        this.#addSoftware(writer);
      },
      done: (outcome, io) => {
        if (outcome.type === "success") this.#handleAllocated(outcome.response, outcome.startedAt, io);
        else if (outcome.type === "error") this.#handleAllocateError(outcome.error, outcome.response, io);
        else this.#fail(outcome.error, io);
      },
    }, io);
  }

  /** RFC 8656 §7.3. */
  #handleAllocated(response: StunMessage, startedAt: number, io: Io): void {
    const relayed = response.get(XOR_RELAYED_ADDRESS);
    const mapped = response.get(XOR_MAPPED_ADDRESS);
    const lifetime = response.get(LIFETIME) ?? DEFAULT_LIFETIME;
    const wanted = this.#options.requestedFamily;
    if (
      relayed === undefined || mapped === undefined || lifetime === 0 || (wanted ?? relayed.family) !== relayed.family
    ) {
      const what = relayed === undefined || mapped === undefined
        ? "it does not name the relayed and the mapped address"
        : lifetime === 0
        ? "its lifetime is 0"
        : `the relayed address is IPv${relayed.family}`;
      return this.#lose(new StunProtocolError(`Cannot use the allocation of ${this.server} as ${what}`), io);
    }
    this.#become("allocated");
    this.#relayedAddress = relayed;
    this.#mappedAddress = mapped;
    this.#lifetime.set(lifetime, startedAt);
    const software = response.get(SOFTWARE);
    this.#software = software === undefined ? undefined : printable(software);
    io.emit({
      type: "allocated",
      relayed,
      mapped,
      lifetime,
      ...this.#software !== undefined && { software: this.#software },
    });
  }

  /** RFC 8656 §7.4. */
  #handleAllocateError(error: StunError, response: StunMessage, io: Io): void {
    const { code, reason, doing } = error;
    if (code === ERROR_CODE.ALLOCATION_MISMATCH) {
      if (this.#localAddresses < MAX_LOCAL_ADDRESSES) {
        io.close(this.#socket);
        return this.#open(0, io);
      }
      const hint = `it holds allocations for ${MAX_LOCAL_ADDRESSES} of our ports already; wait 2 minutes`;
      return this.#fail(new TurnError(code, reason, doing, { hint, retryAfter: 120_000 }), io);
    }
    if (code === ERROR_CODE.TRY_ALTERNATE) return this.#tryAlternate(error, response, io);
    const refused = code === ERROR_CODE.UNKNOWN_ATTRIBUTE ? response.get(UNKNOWN_ATTRIBUTES) : undefined;
    if (this.#family === 4 && refused?.includes(REQUESTED_ADDRESS_FAMILY.type)) {
      // A server from before RFC 6156: IPv4 is all that it has.
      this.#family = undefined;
      return this.#askForAllocation(io);
    }
    const isAnonymous = code === ERROR_CODE.UNAUTHENTICATED && this.#credentials === undefined;
    const hint = isAnonymous ? { hint: "it wants user name and password" } : {};
    const realm = this.realm ?? response.get(REALM);
    this.#fail(
      new TurnError(code, reason, doing, { ...hint, ...realm !== undefined && { realm: printable(realm) } }),
      io,
    );
  }

  /** RFC 8489 §10. */
  #tryAlternate({ code, reason, doing }: StunError, response: StunMessage, io: Io): void {
    const { next, domain, alternates, fault } = this.#trail.follow(response);
    if (next === undefined) return this.#fail(new TurnError(code, reason, doing, { alternates, hint: fault! }), io);
    this.#requests.server = next;
    this.#credentials?.forget();
    if (!this.#isStream) return this.#askForAllocation(io);
    // Its certificate is for this domain, or else for the same as the first server's.
    this.#alternateDomain = domain ?? this.#alternateDomain;
    io.close(this.#socket);
    this.#open(0, io);
  }

  #addSoftware(writer: MessageWriter): void {
    const { software = "natkit" } = this.#options;
    if (software !== "") writer.add(SOFTWARE, software);
  }

  #peerFault(peer: TransportAddress, doing: string): Error | undefined {
    if (this.#state !== "allocated") return new Error(`Cannot ${doing} ${peer} as the client is ${this.#state}`);
    if (peer.family === this.#relayedAddress!.family) return undefined;
    return new TurnError(ERROR_CODE.PEER_ADDRESS_FAMILY_MISMATCH, "", `Cannot ${doing} ${peer}`);
  }

  #fail(error: Error, io: Io): void {
    this.#end();
    this.#become("failed");
    io.close(this.#socket);
    io.emit({ type: "failed", error });
  }

  /** Fails, and gives back what the server may hold (RFC 8656 §7.3, §12.3). */
  #lose(error: Error, io: Io): void {
    this.#become("failed");
    this.#release(io, (io) => io.close(this.#socket));
    io.emit({ type: "failed", error });
  }

  #closed(io: Io): void {
    this.#end();
    this.#become("closed");
    if (this.#socket !== -1) io.close(this.#socket);
    io.emit({ type: "closed" });
  }

  #end(): void {
    this.#lifetime.clear();
    this.#requests.clear();
    this.#peers.clear();
  }

  #release(io: Io, done: (io: Io) => void): void {
    this.#end();
    this.#requests.start({
      method: METHOD.REFRESH,
      doing: `Cannot give back the allocation on ${this.server}`,
      retransmit: RELEASE,
      write: (writer) => void writer.add(LIFETIME, 0),
      // Whatever is answered: what is not deleted now expires.
      done: (_outcome, io) => done(io),
    }, io);
  }
}
