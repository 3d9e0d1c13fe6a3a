import type { TransportAddress } from "../stun/address.ts";
import { ACCESS_TOKEN } from "../stun/attributes.ts";
import type { DiscoveryServer } from "../stun/discovery_server.ts";
import { MAX_FRAME } from "../stun/framing.ts";
import type {
  AcceptedConnection,
  CloseReason,
  IcmpMessage,
  Machine,
  MachineIo,
  OpenFailure,
  Packet,
  SocketId,
} from "../stun/machine.ts";
import { isStunByte } from "../stun/message.ts";
import type { UserCredential } from "../stun/users.ts";
import { DEFAULT_LIFETIME } from "./_allocate_request.ts";
import { AllocationTable } from "./_allocation_table.ts";
import { DataRelay } from "./_data_relay.ts";
import { icmpIndication } from "./_icmp.ts";
import { SEND_INDICATION } from "./_indications.ts";
import { Mobility } from "./_mobility.ts";
import type { RequestScope } from "./_request.ts";
import { RequestDesk } from "./_request_desk.ts";
import type { Listener } from "./allocation.ts";
import { MAX_CHANNEL, MIN_CHANNEL } from "./channel_data.ts";
import { PeerPolicy } from "./peer_policy.ts";
import { RELAY_PORTS, RelayPorts } from "./relay_ports.ts";
import { TURN_ATTRIBUTES, TURN_ATTRIBUTES_WITH_DF } from "./_known_attributes.ts";
import { MAX_LEGACY_CHANNEL } from "./requests.ts";
import { TurnServerCounters } from "./server_counters.ts";
import type { TurnServerEvent } from "./server_events.ts";
import { DEFAULT_LIMITS, type TurnServerLimits, type TurnServerOptions } from "./server_options.ts";

export type { AlternateServers, Rate, TurnServerLimits, TurnServerOptions } from "./server_options.ts";

/** The largest UDP payload over IPv4 and IPv6. */
const MAX_PAYLOAD = { 4: 65507, 6: 65527 } as const;
/** What a connection carries has a length of its own. */
const MAX_STREAM_FRAME = { 4: MAX_FRAME, 6: MAX_FRAME } as const;
/** RFC 6347 §4.1: what a record may hold. */
const MAX_DTLS_RECORD = { 4: 16384, 6: 16384 } as const;
type Io = MachineIo<TurnServerEvent>;

/**
 * A TURN server over UDP, TCP, TLS and DTLS (RFC 8656), and a STUN server on the same sockets.
 *
 * Its owner binds sockets and makes them known by `addListener()`, and listens for connections; sockets for relayed
 * transport addresses it asks for itself. `serveTurn()` does all that on a real host.
 */
export class TurnServer implements Machine<TurnServerEvent> {
  /** What it did so far. */
  readonly counters: TurnServerCounters = new TurnServerCounters();
  // What each datagram needs comes first.
  #table: AllocationTable;
  #listeners = new Map<SocketId, Listener>();
  #data: DataRelay;
  #lastChannelByte: number;
  #desk: RequestDesk;
  #discovery: DiscoveryServer | undefined;
  #scope: RequestScope;
  #isDrained = false;

  /**
   * A server without listeners.
   *
   * @param options What it serves, and to whom.
   * @throws {RangeError} If a number is out of range, or the realm or SOFTWARE too long.
   * @throws {SyntaxError} If an address or the realm is malformed.
   */
  constructor(options: TurnServerOptions) {
    const { maxLifetime = 3600, peerPolicy = new PeerPolicy(), relayPorts = RELAY_PORTS, legacyChannels = true } =
      options;
    const { tcpRelay = false, alternates } = options;
    if (!(maxLifetime >= DEFAULT_LIFETIME && maxLifetime <= 0xffffffff)) {
      throw new RangeError(
        `Cannot use maxLifetime as it must be at least ${DEFAULT_LIFETIME} s (RFC 8656 §7.2): current value is ${maxLifetime}`,
      );
    }
    const { shared } = options;
    const ports = options.relayAddresses.map((address, i) =>
      new RelayPorts(address, relayPorts, shared?.portStates(i))
    );
    for (const { local, external } of ports) {
      peerPolicy.addOwnAddress(local);
      peerPolicy.addRelayAddress(external);
    }
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    checkLimits(limits);
    const { dontFragment = false, mobility = shared === undefined, secret } = options;
    const tickets = mobility ? new Mobility(secret) : undefined;
    this.#table = new AllocationTable(ports, limits, { counters: this.counters, shared, mobility: tickets });
    const plain = dontFragment ? TURN_ATTRIBUTES_WITH_DF : TURN_ATTRIBUTES;
    const known = options.tokens === undefined ? plain : new Set([...plain, ACCESS_TOKEN.type]);
    const scope = { known, policy: peerPolicy, limits, maxLifetime, legacyChannels, tcpRelay, alternates };
    const giveUp = (listener: Listener) => this.#forgetListener(listener);
    this.#scope = { ...scope, isDraining: false, table: this.#table, giveUp };
    this.#lastChannelByte = legacyChannels ? MAX_LEGACY_CHANNEL >> 8 : MAX_CHANNEL >> 8;
    this.#data = new DataRelay(this.#scope, this.counters);
    this.#discovery = options.discovery;
    this.#desk = new RequestDesk(this.#scope, this.counters, options);
  }

  /** When an allocation, permission, channel or reservation ends next, or a request has waited long enough. */
  get deadline(): number {
    return Math.min(this.#table.deadline, this.#desk.deadline);
  }

  /** Whether it takes no new allocations any more. */
  get isDraining(): boolean {
    return this.#scope.isDraining;
  }

  /**
   * From now on no new allocations are made: clients are sent elsewhere by 300, or get 508 where there is no other server.
   * Those that are there can be used and refreshed as before, and reserved ports can be taken. When none of either is left,
   * it emits `drained`.
   */
  drain(io: MachineIo<TurnServerEvent>): void {
    this.#scope.isDraining = true;
    this.#noteDrained(io);
  }

  #noteDrained(io: Io): void {
    const { allocations, reservations } = this.counters;
    if (!this.#scope.isDraining || this.#isDrained || allocations + reservations > 0) return;
    this.#isDrained = true;
    io.emit({ type: "drained" });
  }

  /** How many things are kept, by kind: all zero when there is no allocation and no reservation. For tests and reports. */
  get sizes(): Readonly<Record<string, number>> {
    let clients = 0;
    for (const { allocations } of this.#listeners.values()) clients += allocations.size;
    return { ...this.#table.sizes, clients, waiting: this.#desk.waiting };
  }

  /** Serves clients on a socket that was bound to `localAddress`. */
  addListener(socket: SocketId, localAddress: TransportAddress): void {
    const maxLength = MAX_PAYLOAD;
    const kind = { isStream: false, isSecure: false };
    this.#listeners.set(socket, { socket, localAddress, ...newClients(), maxLength, ...kind });
    this.#discovery?.addSocket(socket, localAddress);
    this.#scope.policy.addListener(localAddress);
  }

  /** A client connected by TCP, TLS or DTLS: a socket like any other, with one client. Or a peer connected to a relay. */
  handleAccepted(socket: SocketId, connection: AcceptedConnection, io: MachineIo<TurnServerEvent>): void {
    const { localAddress, remoteAddress, transport, listener } = connection;
    const relay = this.#table.relays.get(listener);
    if (relay !== undefined) {
      const peer = this.#table.addresses.outerOfConnected(remoteAddress);
      return this.#table.connections.handleAccepted(relay, socket, peer, io);
    }
    const isDtls = transport === "dtls";
    const maxLength = isDtls ? MAX_DTLS_RECORD : MAX_STREAM_FRAME;
    const kind = { isStream: !isDtls, isSecure: transport !== "tcp" };
    this.#listeners.set(socket, { socket, localAddress, ...newClients(), maxLength, ...kind });
  }

  #forgetListener(listener: Listener): void {
    listener.isClosed = true;
    this.#listeners.delete(listener.socket);
  }

  /**
   * A client's connection is gone, and with it the 5-tuple and its allocation, unless that is one that can move. Or one with
   * a peer is.
   */
  handleClosed(socket: SocketId, _reason: CloseReason, io: MachineIo<TurnServerEvent>): void {
    if (this.#table.connections.owns(socket)) return this.#table.connections.handleClosed(socket, io);
    const listener = this.#listeners.get(socket);
    if (listener === undefined) return;
    this.#table.leave(listener, io);
    this.#forgetListener(listener);
    this.#noteDrained(io);
  }

  /** Ends what is due. */
  handleTimeout(io: MachineIo<TurnServerEvent>): void {
    this.#table.handleTimeout(io);
    this.#desk.handleTimeout(io);
    this.#noteDrained(io);
  }

  /**
   * The answer to `userWanted`: the user's credential, or `undefined` if there is no such user. Requests that waited for it
   * are answered. A name that nobody waits for is no error.
   *
   * @throws {SyntaxError} If the password is empty or has a control character.
   * @throws {RangeError} If a stored key has another length than its hash.
   */
  handleCredential(username: string, credential: UserCredential | undefined, io: MachineIo<TurnServerEvent>): void {
    this.#desk.handleCredential(username, credential, io);
  }

  /**
   * The answer to `userHashWanted`: the user's name and credential, or `undefined` if there is no such user. One with
   * another USERHASH is no answer: there is none, then.
   *
   * @throws {SyntaxError} If name or password is empty or has a control character.
   * @throws {RangeError} If a stored key has another length than its hash.
   */
  handleHashedCredential(
    userHash: Uint8Array,
    found: readonly [username: string, credential: UserCredential] | undefined,
    io: MachineIo<TurnServerEvent>,
  ): void {
    this.#desk.handleHashedCredential(userHash, found, io);
  }

  /**
   * The answer to `userWanted` and `userHashWanted`: it can not be found out now. Over UDP what waited for it is dropped, and
   * clients repeat it; over a connection the answer is 500.
   */
  handleCredentialFailed(user: string | Uint8Array, io: MachineIo<TurnServerEvent>): void {
    this.#desk.handleCredentialFailed(user, io);
  }

  /** A datagram from a client or a peer. */
  handlePacket(packet: Packet, io: MachineIo<TurnServerEvent>): void {
    const relay = this.#table.relays.get(packet.socket);
    if (relay !== undefined) return this.#data.toClient(relay, packet, io);
    const listener = this.#listeners.get(packet.socket);
    if (listener !== undefined) this.#handleClient(listener, packet, io);
    else this.counters.drops.unknownSocket++;
  }

  /** A relay's socket is bound, or a peer has taken a connection: answers the request that waited for it. */
  handleOpened(socket: SocketId, localAddress: TransportAddress, io: MachineIo<TurnServerEvent>): void {
    const { connections } = this.#table;
    if (connections.owns(socket)) return this.#desk.answerConnect(connections.handleOpened(socket, io), io);
    this.#desk.answerLate(this.#table.handleOpened(socket, localAddress, io), io);
    this.#noteDrained(io);
  }

  /** A relay's socket can not be bound, or a peer does not take a connection. */
  handleOpenFailed(socket: SocketId, failure: OpenFailure, io: MachineIo<TurnServerEvent>): void {
    const { connections } = this.#table;
    if (connections.owns(socket)) return this.#desk.answerConnect(connections.handleOpenFailed(socket, io), io);
    this.#desk.answerLate(this.#table.handleOpenFailed(socket, failure, io), io);
    this.#noteDrained(io);
  }

  /** An ICMP message about what a relay sent. */
  handleIcmp(socket: SocketId, message: IcmpMessage, io: MachineIo<TurnServerEvent>): void {
    const relay = this.#table.relays.get(socket);
    if (relay === undefined || relay.expiresAt <= io.now || relay.allocation.state !== "active") return;
    const peer = this.#table.addresses.outer(message.to);
    const indication = icmpIndication(relay, peer, message, io);
    if (typeof indication === "string") return void this.counters.drops[indication]++;
    this.counters.icmpToClients++;
    const { listener, client } = relay.allocation;
    io.send(listener.socket, client, indication);
  }

  #handleClient(listener: Listener, packet: Packet, io: Io): void {
    const { buffer, offset, length } = packet;
    const first = length === 0 ? 0xff : buffer[offset]!;
    if (first >= MIN_CHANNEL >> 8 && first <= this.#lastChannelByte) this.#data.handleChannelData(listener, packet, io);
    else if (!isStunByte(first)) this.counters.drops.notStun++;
    else if (length >= 2 && first === SEND_INDICATION >> 8 && buffer[offset + 1] === (SEND_INDICATION & 0xff)) {
      this.#data.handleSend(listener, packet, io);
    } else {
      this.#desk.handleMessage(listener, packet, io);
      this.#noteDrained(io);
    }
  }
}

function newClients(): Pick<Listener, "allocations" | "isClosed"> {
  return { allocations: new Map(), isClosed: false };
}

/** Numbers that mean nothing must not become no limit at all. */
function checkLimits(limits: TurnServerLimits): void {
  for (const [name, value] of Object.entries(limits)) {
    if (value >= 0 && !(value === 0 && name.endsWith("Bandwidth"))) continue;
    throw new RangeError(`Cannot use limit ${name} as it must be a positive number: current value is ${value}`);
  }
}
