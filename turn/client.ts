import type { AccessToken } from "../stun/access_token.ts";
import type { TransportAddress } from "../stun/address.ts";
import type { CloseReason, IcmpMessage, MachineIo, OpenFailure, Packet, SocketId, Tunnel } from "../stun/machine.ts";
import { isStunByte, METHOD, StunMessage } from "../stun/message.ts";
import type { ClientRequests } from "../stun/requests.ts";
import { TURN_ATTRIBUTES_WITH_DF } from "./_known_attributes.ts";
import type { ClientConnections } from "./_client_connections.ts";
import { ClientLife } from "./_client_life.ts";
import type { ClientMigration, MigrateOptions } from "./_client_migration.ts";
import type { ClientPeers } from "./_client_peers.ts";
import type { AddressError } from "./attributes.ts";
import { isChannelByte } from "./channel_data.ts";
import type { TurnClientEvent, TurnClientState } from "./client_events.ts";
import type { TurnClientOptions } from "./client_options.ts";
import { newTurnClientStats, type TurnClientStats } from "./client_stats.ts";

export type { MigrateOptions } from "./_client_migration.ts";
export type { TurnClientOptions } from "./client_options.ts";

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
  readonly #requests: ClientRequests<TurnClientEvent>;
  readonly #peers: ClientPeers;
  readonly #connections: ClientConnections;
  readonly #migration: ClientMigration;
  readonly #life: ClientLife;

  /**
   * A client that has done nothing yet: `allocate()` is next.
   *
   * @throws {SyntaxError} If user name or password is empty or has a control character.
   * @throws {RangeError} If the user name, SOFTWARE, the lifetime or the reservation token cannot be written.
   * @throws {TypeError} If two options exclude each other (RFC 8656 §7.1).
   */
  constructor(options: TurnClientOptions) {
    this.#life = new ClientLife(options, this.stats);
    const { requests, peers, connections, migration } = this.#life;
    this.#requests = requests;
    this.#peers = peers;
    this.#connections = connections;
    this.#migration = migration;
  }

  /** Where it is. */
  get state(): TurnClientState {
    return this.#life.state;
  }

  /** The server, which may have named another than the one that was asked first. */
  get server(): TransportAddress {
    return this.#requests.server;
  }

  /** The address its socket is bound to, once it is. */
  get localAddress(): TransportAddress | undefined {
    return this.#life.localAddress;
  }

  /** The address on the server at which peers reach this client, once there is an allocation: IPv4 if there are two. */
  get relayedAddress(): TransportAddress | undefined {
    return this.#life.grant?.relayedAddresses[0];
  }

  /** All of them: one of each IP version at most, and none before there is an allocation. */
  get relayedAddresses(): readonly TransportAddress[] {
    return this.#life.grant?.relayedAddresses ?? [];
  }

  /** Why one of two IP versions is missing, if the server said so. */
  get addressError(): AddressError | undefined {
    return this.#life.grant?.addressError;
  }

  /** What gets the port that is reserved, if `evenPort` was `"pair"`: good for 30 s and more (RFC 8656 §7.2). */
  get reservationToken(): Uint8Array | undefined {
    return this.#life.grant?.reservationToken;
  }

  /** Whether `sendUnfragmented()` can be used: it was asked for, and the server knows it. */
  get canSendUnfragmented(): boolean {
    return this.#life.canSendUnfragmented;
  }

  /** The address from which the server sees this client, once there is an allocation. */
  get mappedAddress(): TransportAddress | undefined {
    return this.#life.grant?.mapped;
  }

  /** The seconds that the server granted last, once there is an allocation. */
  get lifetime(): number | undefined {
    return this.#life.grantedLifetime;
  }

  /** The realm that the server asked for credentials of, once it has. */
  get realm(): string | undefined {
    return this.#life.realm;
  }

  /** What the server says it is, fit for a line that people read, once there is an allocation. */
  get software(): string | undefined {
    return this.#life.grant?.software;
  }

  /** When `handleTimeout()` is due. */
  get deadline(): number {
    return this.#life.deadline;
  }

  /**
   * Opens a socket and asks for an allocation. `"allocated"` or `"failed"` follows.
   *
   * @throws {Error} If it was called before.
   */
  allocate(io: MachineIo<TurnClientEvent>): void {
    this.#life.begin(io);
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
    return this.#life.canMigrate;
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
    this.#life.migrate(io, options);
  }

  /**
   * Takes another access token (RFC 7635), and has the server take it with the next Refresh, which leaves at once.
   *
   * @throws {Error} If the client was not made with a token.
   * @throws {RangeError} If the token or its key is empty.
   */
  setAccessToken(token: AccessToken, io: MachineIo<TurnClientEvent>): void {
    this.#life.setAccessToken(token, io);
  }

  /** Gives the allocation back. `"closed"` follows, after 1.5 s if the server is silent. */
  close(io: MachineIo<TurnClientEvent>): void {
    this.#life.close(io);
  }

  /** Its socket is bound. */
  handleOpened(socket: SocketId, localAddress: TransportAddress, io: MachineIo<TurnClientEvent>): void {
    const part = this.#life.partOf(socket);
    if (part !== undefined) return part.handleOpened(socket, localAddress, io);
    this.#life.handleOpened(socket, localAddress, io);
  }

  /** There is no socket: this client has failed. */
  handleOpenFailed(socket: SocketId, failure: OpenFailure, io: MachineIo<TurnClientEvent>, detail: string): void {
    const part = this.#life.partOf(socket);
    if (part !== undefined) return part.handleOpenFailed(socket, failure, detail, io);
    this.#life.handleOpenFailed(socket, failure, detail, io);
  }

  /** The connection to the server is gone, and with it the allocation. */
  handleClosed(socket: SocketId, reason: CloseReason, io: MachineIo<TurnClientEvent>): void {
    const part = this.#life.partOf(socket);
    if (part !== undefined) return part.handleClosed(socket, reason, io);
    this.#life.handleClosed(socket, reason, io);
  }

  /**
   * Nobody is at the server's port: there will be no allocation. One that is there is not given up for a message that anybody
   * can forge.
   */
  handleIcmp(socket: SocketId, message: IcmpMessage, io: MachineIo<TurnClientEvent>): void {
    if (socket === this.#life.socket && this.state === "allocating") this.#requests.handleIcmp(message, io);
  }

  /** Repeats, refreshes and ends what is due. */
  handleTimeout(io: MachineIo<TurnClientEvent>): void {
    this.#life.handleTimeout(io);
  }

  /** Takes what arrived. What does not come from the server changes nothing. */
  handlePacket(packet: Packet, io: MachineIo<TurnClientEvent>): void {
    const { socket } = packet;
    const isOwn = socket === this.#life.socket || socket === this.#migration.former;
    const part = isOwn ? undefined : this.#life.partOf(socket);
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
        if (message.unknownRequired(TURN_ATTRIBUTES_WITH_DF).length > 0) break;
        if (message.method === METHOD.DATA) return this.#peers.handleData(message, packet, io);
        if (message.method === METHOD.CONNECTION_ATTEMPT) return this.#connections.handleAttempt(message, io);
        break;
      case "request":
        break;
    }
    this.stats.rejectedMalformed++;
  }
}
