import type { AccessToken } from "../stun/access_token.ts";
import type { TransportAddress } from "../stun/address.ts";
import { XOR_MAPPED_ADDRESS } from "../stun/attributes.ts";
import type { LongTermCredentials } from "../stun/credentials.ts";
import { ERROR_CODE, StunConnectionError, StunError } from "../stun/error.ts";
import type { CloseReason, IcmpMessage, MachineIo, OpenFailure, Packet, SocketId, Tunnel } from "../stun/machine.ts";
import { isStunByte, METHOD, StunMessage } from "../stun/message.ts";
import { OpenError } from "../stun/net/transport.ts";
import { ClientRequests, type RequestOutcome } from "../stun/requests.ts";
import type { RetransmitOptions } from "../stun/transaction.ts";
import { ClientAllocating } from "./_client_allocating.ts";
import { AllocationWish, type Grant } from "./_client_allocation.ts";
import { KNOWN_TO_CLIENT } from "./_client_attributes.ts";
import { credentialsOf } from "./_client_credentials.ts";
import { ClientConnections } from "./_client_connections.ts";
import { ClientLifetime, DEFAULT_LIFETIME } from "./_client_lifetime.ts";
import { ClientMigration, dataForNobody, type MigrateOptions } from "./_client_migration.ts";
import { ClientPeers } from "./_client_peers.ts";
import { isReliable, isStream, type SocketPlace, socketWish } from "./_client_socket.ts";
import { type AddressError, LIFETIME } from "./attributes.ts";
import { isChannelByte } from "./channel_data.ts";
import type { TurnClientOptions } from "./client_options.ts";
import { TURN_CLIENT_TRANSITIONS, type TurnClientEvent, type TurnClientState } from "./client_events.ts";
import { newTurnClientStats, type TurnClientStats } from "./client_stats.ts";

export type { MigrateOptions } from "./_client_migration.ts";
export type { TurnClientOptions } from "./client_options.ts";

/** Giving an allocation back is a courtesy: it ends by itself. So this is quick: at 0 and 500 ms, over after 1500 ms. */
const RELEASE: RetransmitOptions = { rto: 500, rc: 2, rm: 2, ti: 1500 };

type Io = MachineIo<TurnClientEvent>;
type Success = Extract<RequestOutcome, { type: "success" }>;

/**
 * A TURN client over UDP, TCP, TLS or DTLS (RFC 8656): one allocation, its permissions and channels, kept alive until `close()`.
 *
 * It opens its own socket, and another if the server takes the first for somebody else's (437). A connection that ends
 * takes the allocation with it, unless there is mobility (RFC 8016). It is a tunnel: an ICE agent stacked on it sends by
 * `handleSend()`, which gets the permission that it needs on its own. With `peerTransport: "tcp"` it makes connections to
 * peers instead (RFC 6062).
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
  readonly #migration: ClientMigration;
  readonly #connections: ClientConnections;
  readonly #credentials: LongTermCredentials | undefined;
  readonly #wish: AllocationWish;
  readonly #allocating: ClientAllocating;
  #state: TurnClientState = "new";
  #socket: SocketId = -1;
  #localAddress: TransportAddress | undefined;
  #grant: Grant | undefined;

  /**
   * A client that has done nothing yet: `allocate()` is next.
   *
   * @throws {SyntaxError} If user name or password is empty or has a control character.
   * @throws {RangeError} If the user name, SOFTWARE, the lifetime or the reservation token cannot be written.
   * @throws {TypeError} If two options exclude each other (RFC 8656 §7.1).
   */
  constructor(options: TurnClientOptions) {
    const { server, retransmit, rtoCache } = options;
    this.#wish = new AllocationWish(options);
    this.#options = options;
    this.#credentials = credentialsOf(options);
    const requests = {
      server,
      known: KNOWN_TO_CLIENT,
      reliable: isReliable(options),
      ...(this.#credentials === undefined ? {} : { credentials: this.#credentials }),
      ...(retransmit === undefined ? {} : { retransmit }),
      ...(rtoCache === undefined ? {} : { rtoCache }),
    };
    this.#requests = new ClientRequests(requests);
    this.#allocating = new ClientAllocating({
      requests: this.#requests,
      wish: this.#wish,
      credentials: this.#credentials,
      isStream: isStream(options),
      reopen: (io) => {
        io.close(this.#socket);
        this.#open(0, io);
      },
      granted: (grant, startedAt, io) => this.#handleAllocated(grant, startedAt, io),
      useless: (error, io) => this.#lose(error, io),
      failed: (error, io) => this.#fail(error, io),
    });
    this.#peers = new ClientPeers(this.#requests, this.stats, {
      lost: (error, io) => {
        if (error.code === ERROR_CODE.ALLOCATION_MISMATCH) this.#losePath(error, io);
        else this.#lose(error, io);
      },
      doubt: (io) => this.#lifetime.doubt(io),
    });
    this.#lifetime = new ClientLifetime(this.#requests, {
      write: (writer) => this.#wish.writeCommon(writer),
      confirmed: (io) => this.#migration.leave(io),
      silent: (io) => this.canMigrate && this.#migration.start(io),
      lost: (error, io) => {
        if (error instanceof StunError && error.code === ERROR_CODE.ALLOCATION_MISMATCH) this.#losePath(error, io);
        else this.#fail(error, io);
      },
    });
    const newRequests = () => new ClientRequests<TurnClientEvent>({ ...requests, server: this.server });
    const lifetime = this.#lifetime;
    this.#migration = new ClientMigration({
      open: (localAddress, io) => io.open(socketWish(options, { ...this.#place(0), localAddress })),
      newRequests,
      write: (writer) => this.#wish.writeCommon(writer),
      moved: (socket, localAddress, outcome, io) => this.#handleMoved(socket, localAddress, outcome, io),
      stayed: (error, io) => io.emit({ type: "migration-failed", error }),
      lost: (error, io) => this.#fail(error, io),
      get expiresAt() {
        return lifetime.expiresAt;
      },
    });
    this.#connections = new ClientConnections({
      requests: this.#requests,
      stats: this.stats,
      open: (io) => io.open(socketWish(options, this.#place(0))),
      newRequests,
      lost: (error, io) => this.#losePath(error, io),
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

  /** The address on the server at which peers reach this client, once there is an allocation: IPv4 if there are two. */
  get relayedAddress(): TransportAddress | undefined {
    return this.#grant?.relayedAddresses[0];
  }

  /** All of them: one of each IP version at most, and none before there is an allocation. */
  get relayedAddresses(): readonly TransportAddress[] {
    return this.#grant?.relayedAddresses ?? [];
  }

  /** Why one of two IP versions is missing, if the server said so. */
  get addressError(): AddressError | undefined {
    return this.#grant?.addressError;
  }

  /** What gets the port that is reserved, if `evenPort` was `"pair"`: good for 30 s and more (RFC 8656 §7.2). */
  get reservationToken(): Uint8Array | undefined {
    return this.#grant?.reservationToken;
  }

  /** Whether `sendUnfragmented()` can be used: it was asked for, and the server knows it. */
  get canSendUnfragmented(): boolean {
    return this.#grant !== undefined && this.#wish.dontFragment;
  }

  /** The address from which the server sees this client, once there is an allocation. */
  get mappedAddress(): TransportAddress | undefined {
    return this.#grant?.mapped;
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
    return this.#grant?.software;
  }

  /** When `handleTimeout()` is due. */
  get deadline(): number {
    const { deadline } = this.#requests;
    const upkeep = Math.min(this.#peers.deadline, this.#lifetime.deadline);
    return Math.min(deadline, upkeep, this.#migration.deadline, this.#connections.deadline);
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
    this.#peers.createPermission(peer, io);
  }

  /** Binds a channel to a peer, and keeps it and the permission. `"channel-bound"` or `"channel-failed"` follows. */
  bindChannel(peer: TransportAddress, io: MachineIo<TurnClientEvent>): void {
    this.#peers.bindChannel(peer, io);
  }

  /**
   * Connects to a peer, on an allocation whose `peerTransport` is `"tcp"`. `"connected"` or `"connect-failed"` follows.
   *
   * @returns The number of this call, by which the answer is known.
   */
  connect(peer: TransportAddress, io: MachineIo<TurnClientEvent>): number {
    return this.#connections.connect(peer, io);
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
    this.#peers.send(to, bytes, offset, length, io);
  }

  /**
   * Sends to a peer by a Send indication that forbids to fragment it on its way from the server (RFC 8656 §11.1, §14):
   * what is too large is lost, and if the server says so an `"icmp"` event follows.
   *
   * @throws {Error} If `canSendUnfragmented` is not set.
   */
  sendUnfragmented(to: TransportAddress, bytes: Uint8Array, io: MachineIo<TurnClientEvent>): void {
    if (!this.canSendUnfragmented) {
      throw new Error(`Cannot forbid to fragment as it was not asked for, or ${this.server} does not know it`);
    }
    this.#peers.sendUnfragmented(to, bytes, io);
  }

  /** Whether `migrate()` can be used: mobility was asked for, and the server gave a ticket. */
  get canMigrate(): boolean {
    return this.#state === "allocated" && this.#migration.ticket !== undefined;
  }

  /**
   * Takes the allocation along to a new socket (RFC 8016), as when the network has changed. `"migrated"` or
   * `"migration-failed"` follows; until then, and if it fails, the old socket is used.
   *
   * @param io The machine's io.
   * @param options From where, and whether it must be.
   * @throws {Error} If `canMigrate` is not set.
   */
  migrate(io: MachineIo<TurnClientEvent>, options: MigrateOptions = {}): void {
    if (!this.canMigrate) {
      throw new Error(`Cannot migrate as ${this.server} gave no ticket, or there is no allocation`);
    }
    if (options.cause !== undefined) this.#peers.suspend();
    this.#migration.start(io, options);
  }

  /**
   * Takes another access token (RFC 7635), and has the server take it with the next Refresh, which leaves at once.
   *
   * @throws {Error} If the client was not made with a token.
   * @throws {RangeError} If the token or its key is empty.
   */
  setAccessToken(token: AccessToken, io: MachineIo<TurnClientEvent>): void {
    if (this.#options.accessToken === undefined) throw new Error("Cannot use token as this client has none to replace");
    this.#credentials!.setToken(token);
    if (this.#state === "allocated") this.#lifetime.doubt(io);
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
    const part = this.#partOf(socket);
    if (part !== undefined) return part.handleOpened(socket, localAddress, io);
    if (socket !== this.#socket || this.#state !== "opening") return io.close(socket);
    this.#localAddress = localAddress;
    this.#requests.socket = socket;
    this.#become("allocating");
    this.#allocating.ask(io);
  }

  /** There is no socket: this client has failed. */
  handleOpenFailed(socket: SocketId, failure: OpenFailure, io: MachineIo<TurnClientEvent>, detail: string): void {
    const part = this.#partOf(socket);
    if (part !== undefined) return part.handleOpenFailed(socket, failure, detail, io);
    if (socket !== this.#socket || this.#state !== "opening") return;
    this.#fail(new OpenError(failure, detail), io);
  }

  /** The connection to the server is gone, and with it the allocation. */
  handleClosed(socket: SocketId, reason: CloseReason, io: MachineIo<TurnClientEvent>): void {
    const part = this.#partOf(socket);
    if (part !== undefined) return part.handleClosed(socket, reason, io);
    if (socket !== this.#socket) return;
    if (this.#state === "closing") this.#closed(io);
    else if (this.#state === "allocating" || this.#state === "allocated") {
      const what = this.#state === "allocated" ? "Cannot keep the allocation" : "Cannot allocate";
      this.#losePath(new StunConnectionError(`${what} on ${this.server}: the connection ended (${reason})`), io);
    }
  }

  /**
   * Nobody is at the server's port: there will be no allocation. One that is there is not given up for a message that anybody
   * can forge.
   */
  handleIcmp(socket: SocketId, message: IcmpMessage, io: MachineIo<TurnClientEvent>): void {
    if (socket === this.#socket && this.#state === "allocating") this.#requests.handleIcmp(message, io);
  }

  /** Repeats, refreshes and ends what is due. */
  handleTimeout(io: MachineIo<TurnClientEvent>): void {
    this.#lifetime.handleTimeout(io);
    this.#migration.handleTimeout(io);
    this.#requests.handleTimeout(io);
    this.#peers.handleTimeout(io);
    this.#connections.handleTimeout(io);
  }

  /** Takes what arrived. What does not come from the server changes nothing. */
  handlePacket(packet: Packet, io: MachineIo<TurnClientEvent>): void {
    const { socket } = packet;
    const isOwn = socket === this.#socket || socket === this.#migration.former;
    const part = isOwn ? undefined : this.#partOf(socket);
    if (!(isOwn || part !== undefined) || !packet.from.equals(this.#requests.server)) {
      return void this.stats.rejectedSource++;
    }
    const first = packet.length === 0 ? 0xff : packet.buffer[packet.offset]!;
    if (isChannelByte(first)) return this.#peers.handleChannelData(packet, io);
    const message = isStunByte(first) ? StunMessage.parse(packet.bytes) : undefined;
    if (message === undefined) return void this.stats.rejectedMalformed++;
    switch (message.class) {
      case "success":
      case "error":
        // The server has left the old path; the answer on the new one counts.
        if (socket === this.#migration.former && message.class === "error") return void this.stats.rejectedResponse++;
        if (!(part?.handleResponse(socket, message, io) ?? this.#requests.handleResponse(message, io))) {
          this.stats.rejectedResponse++;
        }
        this.stats.rejectedIntegrity = this.#requests.ignored;
        return;
      case "indication":
        // An indication with attributes that it needs and we do not know is dropped (RFC 8489 §6.3.2).
        if (message.unknownRequired(KNOWN_TO_CLIENT).length > 0) break;
        if (message.method === METHOD.DATA) return this.#peers.handleData(message, packet, io);
        if (message.method === METHOD.CONNECTION_ATTEMPT) return this.#connections.handleAttempt(message, io);
        break;
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
    this.#socket = io.open(socketWish(this.#options, this.#place(port)));
  }

  /** The part that has this socket, if it is not the client's own. */
  #partOf(socket: SocketId): ClientMigration | ClientConnections | undefined {
    return this.#migration.owns(socket)
      ? this.#migration
      : this.#connections.owns(socket)
      ? this.#connections
      : undefined;
  }

  #place(port: number): SocketPlace {
    return { server: this.server, domain: this.#allocating.domain, port };
  }

  #handleAllocated(grant: Grant, startedAt: number, io: Io): void {
    this.#become("allocated");
    this.#grant = grant;
    const { relayedAddresses, mapped, lifetime, software } = grant;
    this.#lifetime.set(lifetime, startedAt);
    this.#migration.ticket = grant.ticket;
    this.#peers.open(relayedAddresses, this.#options.peerTransport !== "tcp");
    io.emit({
      type: "allocated",
      relayed: relayedAddresses[0]!,
      relayedAddresses,
      mapped,
      lifetime,
      ...software !== undefined && { software },
    });
  }

  /** RFC 8016 §3.2.3. */
  #handleMoved(socket: SocketId, localAddress: TransportAddress, outcome: Success, io: Io): void {
    const { response, startedAt } = outcome;
    this.#migration.former = this.#socket;
    this.#socket = this.#requests.socket = socket;
    this.#localAddress = localAddress;
    const mapped = response.get(XOR_MAPPED_ADDRESS);
    if (mapped !== undefined) this.#grant = { ...this.#grant!, mapped };
    this.#lifetime.set(response.get(LIFETIME) ?? DEFAULT_LIFETIME, startedAt);
    io.send(socket, this.server, dataForNobody(this.relayedAddress!.family, io));
    this.#peers.resume(io);
    // Over a connection they would not be repeated, and their answers would be looked for on the old path.
    this.#requests.repeat(io);
    // Its answer says that the server has followed.
    this.#lifetime.doubt(io);
    io.emit({ type: "migrated", local: localAddress });
  }

  /** The server does not know this 5-tuple any more. */
  #losePath(error: Error, io: Io): void {
    if (this.canMigrate) this.migrate(io, { cause: error });
    else this.#fail(error, io);
  }

  #fail(error: Error, io: Io): void {
    this.#end(io);
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
    this.#end(io);
    this.#become("closed");
    if (this.#socket !== -1) io.close(this.#socket);
    io.emit({ type: "closed" });
  }

  #end(io: Io): void {
    this.#lifetime.clear();
    this.#migration.cancel(io);
    this.#requests.clear();
    this.#peers.clear();
    this.#connections.clear(io);
  }

  #release(io: Io, done: (io: Io) => void): void {
    this.#end(io);
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
