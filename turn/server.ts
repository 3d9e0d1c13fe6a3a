import type { TransportAddress } from "../stun/address.ts";
import { ERROR_CODE_ATTRIBUTE, FINGERPRINT, SOFTWARE, UNKNOWN_ATTRIBUTES } from "../stun/attributes.ts";
import { LongTermAuthenticator } from "../stun/authenticator.ts";
import type { UserDirectory } from "../stun/users.ts";
import { ERROR_CODE } from "../stun/error.ts";
import { MAX_FRAME } from "../stun/framing.ts";
import type {
  AcceptedConnection,
  CloseReason,
  Machine,
  MachineIo,
  OpenFailure,
  Packet,
  SocketId,
} from "../stun/machine.ts";
import { isStunByte, MessageWriter, METHOD, StunMessage } from "../stun/message.ts";
import type { DiscoveryServer } from "../stun/discovery_server.ts";
import { answerBinding } from "../stun/server.ts";
import { AllocationTable } from "./_allocation_table.ts";
import {
  dataIndicationLength,
  SEND_INDICATION,
  SendIndication,
  TransactionIds,
  writeDataIndication,
} from "./_indications.ts";
import type { AllocateRequest, Allocation, Destination, Listener, Relay } from "./allocation.ts";
import { REQUESTED_TRANSPORT } from "./attributes.ts";
import {
  CHANNEL_HEADER_LENGTH,
  channelDataLength,
  channelNumber,
  MAX_CHANNEL,
  MIN_CHANNEL,
  writeChannelHeader,
} from "./channel_data.ts";
import { PeerPolicy } from "./peer_policy.ts";
import { type PortRange, RELAY_PORTS, type RelayAddress, RelayPorts } from "./relay_ports.ts";
import {
  type Answer,
  answerAllocated,
  DEFAULT_LIFETIME,
  handleTurnRequest,
  MAX_LEGACY_CHANNEL,
  type Outcome,
  type RequestScope,
  TURN_ATTRIBUTES,
  type TurnServerLimits,
} from "./requests.ts";
import { TurnServerCounters } from "./server_counters.ts";
import type { TurnServerEvent } from "./server_events.ts";

/** Options of a `TurnServer`. */
export interface TurnServerOptions {
  /** The realm of the long-term credentials. */
  readonly realm: string;
  /** Who may allocate. */
  readonly users: UserDirectory;
  /** What nonces are signed with: 16 random bytes or more. */
  readonly secret: Uint8Array;
  /** The IP addresses that relayed transport addresses are on. A client gets one of the address it talks to, if that is here. */
  readonly relayAddresses: readonly RelayAddress[];
  /** The ports of relayed transport addresses. Default: 49152 to 65535. */
  readonly relayPorts?: PortRange;
  /** Which peers are good. The server makes its own addresses known to it. Default: global unicast addresses. */
  readonly peerPolicy?: PeerPolicy;
  /** How much anybody may have. */
  readonly limits?: Partial<TurnServerLimits>;
  /** The longest lifetime of an allocation, in seconds, at least 600. Default: 3600 (RFC 8656 §7.2). */
  readonly maxLifetime?: number;
  /** How long a nonce is good, in seconds, at most 3600. Default: 3600. */
  readonly nonceLifetime?: number;
  /** Whether clients are told to hide user names behind USERHASH. Default: false. */
  readonly anonymity?: boolean;
  /**
   * Whether clients from before RFC 8489, which authenticate without PASSWORD-ALGORITHM, may bind channels up to 0x7FFF as
   * RFC 5766 had it. All others get 400 beyond 0x4FFF. Default: true, since RFC 8656 §12 "is not backwards compatible".
   */
  readonly legacyChannels?: boolean;
  /**
   * Answers Binding requests instead of this server: for NAT behaviour discovery (RFC 5780) and classic clients (RFC 3489).
   * It is told of all listeners.
   */
  readonly discovery?: DiscoveryServer;
  /** The text of SOFTWARE in answers to authenticated Allocate and Refresh requests. Default: none is sent. */
  readonly software?: string;
}

const DEFAULT_LIMITS: TurnServerLimits = {
  allocationsPerUser: 4096,
  allocations: 65536,
  permissions: 256,
  channels: 256,
};
const METHODS: ReadonlySet<number> = new Set([
  METHOD.ALLOCATE,
  METHOD.REFRESH,
  METHOD.CREATE_PERMISSION,
  METHOD.CHANNEL_BIND,
]);
/** Reason phrases (RFC 8656 §19). Who is not authenticated gets none: nobody there would read it. */
const REASONS: ReadonlyMap<number, string> = new Map([
  [ERROR_CODE.BAD_REQUEST, "Bad Request"],
  [ERROR_CODE.FORBIDDEN, "Forbidden"],
  [ERROR_CODE.UNKNOWN_ATTRIBUTE, "Unknown Attribute"],
  [ERROR_CODE.ALLOCATION_MISMATCH, "Allocation Mismatch"],
  [ERROR_CODE.STALE_NONCE, "Stale Nonce"],
  [ERROR_CODE.ADDRESS_FAMILY_NOT_SUPPORTED, "Address Family not Supported"],
  [ERROR_CODE.WRONG_CREDENTIALS, "Wrong Credentials"],
  [ERROR_CODE.UNSUPPORTED_TRANSPORT_PROTOCOL, "Unsupported Transport Protocol"],
  [ERROR_CODE.PEER_ADDRESS_FAMILY_MISMATCH, "Peer Address Family Mismatch"],
  [ERROR_CODE.ALLOCATION_QUOTA_REACHED, "Allocation Quota Reached"],
  [ERROR_CODE.INSUFFICIENT_CAPACITY, "Insufficient Capacity"],
]);
/** The largest UDP payload over IPv4 and IPv6. */
const MAX_PAYLOAD = { 4: 65507, 6: 65527 } as const;
/** What a connection carries has a length of its own. */
const MAX_STREAM_FRAME = { 4: MAX_FRAME, 6: MAX_FRAME } as const;
/** An answer without REALM, SOFTWARE and unknown attributes has no more than this. */
const ANSWER_SIZE = 320;

/** Where an answer goes, and what it must look like. */
interface AnswerTarget extends Omit<AllocateRequest, "transactionKey" | "protection"> {
  readonly listener: Listener;
  readonly client: TransportAddress;
  readonly method: number;
  protection: AllocateRequest["protection"] | undefined;
}

type Io = MachineIo<TurnServerEvent>;

/**
 * A TURN server over UDP, TCP and TLS (RFC 8656), and a STUN server on the same sockets.
 *
 * Its owner binds sockets and makes them known by `addListener()`, and listens for connections; sockets for relayed
 * transport addresses it asks for itself. `serveTurn()` does all that on a real host.
 */
export class TurnServer implements Machine<TurnServerEvent> {
  /** What it did so far. */
  readonly counters: TurnServerCounters = new TurnServerCounters();
  #authenticator: LongTermAuthenticator;
  #discovery: DiscoveryServer | undefined;
  #scope: RequestScope;
  #table: AllocationTable;
  #listeners = new Map<SocketId, Listener>();
  #software: string;
  #lastChannelByte: number;
  #send = new SendIndication();
  #transactionIds = new TransactionIds();

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
    if (!(maxLifetime >= DEFAULT_LIFETIME && maxLifetime <= 0xffffffff)) {
      throw new RangeError(
        `Cannot use maxLifetime as it must be at least ${DEFAULT_LIFETIME} s (RFC 8656 §7.2): current value is ${maxLifetime}`,
      );
    }
    this.#discovery = options.discovery;
    this.#authenticator = new LongTermAuthenticator(options);
    const ports = options.relayAddresses.map((address) => new RelayPorts(address, relayPorts));
    for (const { local, external } of ports) {
      peerPolicy.addOwnAddress(local);
      peerPolicy.addRelayAddress(external);
    }
    this.#table = new AllocationTable(ports, this.counters);
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#scope = { table: this.#table, policy: peerPolicy, limits, maxLifetime, legacyChannels };
    this.#lastChannelByte = legacyChannels ? MAX_LEGACY_CHANNEL >> 8 : MAX_CHANNEL >> 8;
    this.#software = options.software ?? "";
    // Throws now rather than in the first answer.
    new MessageWriter(new Uint8Array(1024)).begin(METHOD.ALLOCATE, "success", new Uint8Array(12))
      .add(SOFTWARE, this.#software);
  }

  /** When an allocation, permission, channel or reservation ends next. */
  get deadline(): number {
    return this.#table.deadline;
  }

  /** How many things are kept, by kind: all zero when there is no allocation and no reservation. For tests and reports. */
  get sizes(): Readonly<Record<string, number>> {
    let clients = 0;
    for (const { allocations } of this.#listeners.values()) clients += allocations.size;
    return { ...this.#table.sizes, clients };
  }

  /** Serves clients on a socket that was bound to `localAddress`. */
  addListener(socket: SocketId, localAddress: TransportAddress): void {
    this.#listeners.set(socket, { socket, localAddress, allocations: new Map(), maxLength: MAX_PAYLOAD });
    this.#discovery?.addSocket(socket, localAddress);
    this.#scope.policy.addListener(localAddress);
  }

  /** A client connected by TCP or TLS. The connection is a socket like any other, with one client. */
  handleAccepted(socket: SocketId, { localAddress }: AcceptedConnection): void {
    this.#listeners.set(socket, { socket, localAddress, allocations: new Map(), maxLength: MAX_STREAM_FRAME });
  }

  /** A client's connection is gone, and with it the 5-tuple and its allocation. */
  handleClosed(socket: SocketId, _reason: CloseReason, io: MachineIo<TurnServerEvent>): void {
    const listener = this.#listeners.get(socket);
    if (listener === undefined) return;
    for (const allocation of [...listener.allocations.values()]) this.#table.end(allocation, "disconnected", io);
    this.#listeners.delete(socket);
  }

  /** Ends what is due. */
  handleTimeout(io: MachineIo<TurnServerEvent>): void {
    this.#table.handleTimeout(io);
  }

  /** A datagram from a client or a peer. */
  handlePacket(packet: Packet, io: MachineIo<TurnServerEvent>): void {
    const relay = this.#table.relays.get(packet.socket);
    if (relay !== undefined) return this.#relayToClient(relay, packet, io);
    const listener = this.#listeners.get(packet.socket);
    if (listener !== undefined) this.#handleClient(listener, packet, io);
    else this.counters.drops.unknownSocket++;
  }

  /** A relay's socket is bound: answers the Allocate request that waited for it. */
  handleOpened(socket: SocketId, localAddress: TransportAddress, io: MachineIo<TurnServerEvent>): void {
    this.#answerLate(this.#table.handleOpened(socket, localAddress, io), io);
  }

  /** A relay's socket can not be bound. */
  handleOpenFailed(socket: SocketId, failure: OpenFailure, io: MachineIo<TurnServerEvent>): void {
    this.#answerLate(this.#table.handleOpenFailed(socket, failure, io), io);
  }

  #handleClient(listener: Listener, packet: Packet, io: Io): void {
    const { buffer, offset, length } = packet;
    const first = length === 0 ? 0xff : buffer[offset]!;
    if (first >= MIN_CHANNEL >> 8 && first <= this.#lastChannelByte) this.#relayChannelData(listener, packet, io);
    else if (!isStunByte(first)) this.counters.drops.notStun++;
    else if (length >= 2 && first === SEND_INDICATION >> 8 && buffer[offset + 1] === (SEND_INDICATION & 0xff)) {
      this.#relaySend(listener, packet, io);
    } else this.#handleMessage(listener, packet, io);
  }

  // Data, from here on without objects per datagram.

  /** RFC 8656 §12.6. */
  #relayChannelData(listener: Listener, packet: Packet, io: Io): void {
    const { drops } = this.counters;
    const allocation = listener.allocations.get(packet.from.key);
    if (allocation === undefined || allocation.state !== "active") return void drops.noAllocation++;
    const { buffer, offset } = packet;
    const dataLength = channelDataLength(buffer, offset, packet.length);
    if (dataLength === -1) return void drops.shortChannelData++;
    const channel = allocation.channels.get(channelNumber(buffer, offset));
    if (channel === undefined || channel.expiresAt <= io.now) return void drops.unboundChannel++;
    this.#toPeer(channel.relay, channel, buffer, offset + CHANNEL_HEADER_LENGTH, dataLength, io);
  }

  /** RFC 8656 §11.2. */
  #relaySend(listener: Listener, packet: Packet, io: Io): void {
    const { drops } = this.counters;
    const send = this.#send;
    if (!send.read(packet.buffer, packet.offset, packet.length, TURN_ATTRIBUTES)) return void drops.badSend++;
    const allocation = listener.allocations.get(packet.from.key);
    if (allocation === undefined || allocation.state !== "active") return void drops.noAllocation++;
    const relay = allocation.relayOf(send.family);
    if (relay === undefined) return void drops.wrongFamily++;
    let destination = relay.destination(send.hash);
    if (destination === undefined || !send.isPeer(destination.peer)) destination = this.#findDestination(relay, io.now);
    if (destination === undefined) return;
    if (destination.permission.expiresAt <= io.now) return void drops.noPermission++;
    this.#toPeer(relay, destination, packet.buffer, send.dataOffset, send.dataLength, io);
  }

  /** The peer that `#send` names, if it may be sent to. */
  #findDestination(relay: Relay, now: number): Destination | undefined {
    const peer = this.#send.toPeer();
    const permission = relay.permissionFor(peer.ipKey, now);
    if (permission === undefined) {
      this.counters.drops.noPermission++;
      return undefined;
    }
    const verdict = this.#scope.policy.judge(peer);
    if (verdict === "refused") {
      this.counters.drops.refusedPeer++;
      return undefined;
    }
    const destination: Destination = { peer, permission, isRelay: verdict === "relay" };
    relay.keepDestination(this.#send.hash, destination);
    return destination;
  }

  #toPeer(
    relay: Relay,
    { peer, isRelay }: { readonly peer: TransportAddress; readonly isRelay: boolean },
    buffer: Uint8Array,
    offset: number,
    length: number,
    io: Io,
  ): void {
    const { counters } = this;
    if (relay.expiresAt <= io.now) return void counters.drops.noAllocation++;
    let to = peer;
    if (isRelay) {
      // Only while the port is a relayed transport address: whoever has it after that is no peer (class PeerPolicy).
      const other = this.#table.relaysByAddress.get(peer.key);
      if (other === undefined) return void counters.drops.refusedPeer++;
      to = other.localAddress;
    }
    counters.packetsToPeers++;
    counters.bytesToPeers += length;
    relay.allocation.packetsToPeers++;
    relay.allocation.bytesToPeers += length;
    io.send(relay.socket, to, buffer, offset, length);
  }

  /** RFC 8656 §11.3, §12.7. The data is never looked at. */
  #relayToClient(relay: Relay, packet: Packet, io: Io): void {
    const { counters } = this;
    const { allocation } = relay;
    const { length } = packet;
    if (relay.expiresAt <= io.now || allocation.state !== "active") return void counters.drops.noAllocation++;
    let peer = packet.from;
    if (this.#table.relaysByMapped.size > 0) {
      // A relay of this server, seen by its inner address: clients know the outer one.
      peer = this.#table.relaysByMapped.get(peer.key)?.relayedAddress ?? peer;
    }
    const channel = relay.channelTo(peer.key, io.now);
    const permission = channel?.permission ?? relay.permissions.get(peer.ipKey);
    if (permission === undefined || permission.expiresAt <= io.now) return void counters.drops.noPermission++;
    const { client, listener } = allocation;
    const size = channel === undefined ? dataIndicationLength(peer, length) : CHANNEL_HEADER_LENGTH + length;
    if (size > listener.maxLength[client.family]) return void counters.drops.tooLong++;
    counters.packetsToClients++;
    counters.bytesToClients += length;
    allocation.packetsToClient++;
    allocation.bytesToClient += length;
    if (channel === undefined) return this.#sendDataIndication(listener, client, peer, packet, io);
    // The header goes into the four free bytes in front of the datagram, so nothing is copied.
    const start = packet.offset - CHANNEL_HEADER_LENGTH;
    writeChannelHeader(packet.buffer, start, channel.number, length);
    io.send(listener.socket, client, packet.buffer, start, length + CHANNEL_HEADER_LENGTH);
  }

  #sendDataIndication(
    listener: Listener,
    client: TransportAddress,
    peer: TransportAddress,
    packet: Packet,
    io: Io,
  ): void {
    const out = io.scratch(dataIndicationLength(peer, packet.length));
    this.#transactionIds.write(out, 8, io.random);
    writeDataIndication(out, peer, packet.bytes);
    io.send(listener.socket, client, out);
  }

  // Control.

  #handleMessage(listener: Listener, packet: Packet, io: Io): void {
    const { counters } = this;
    const message = StunMessage.parse(packet.bytes, { classic: this.#discovery?.classic ?? false });
    if (message === undefined) return void counters.drops.malformed++;
    if (!message.hasCookie && message.method !== METHOD.BINDING) return void counters.drops.malformed++;
    if (message.has(FINGERPRINT) && !message.verifyFingerprint()) return void counters.drops.badFingerprint++;
    const { method } = message;
    const isBinding = method === METHOD.BINDING;
    if (message.class === "indication" && isBinding) return; // A keepalive: its way through the NATs is all it is for.
    if (message.class !== "request") return void counters.drops.unexpectedClass++;
    if (isBinding) {
      counters.bindings++;
      const code = this.#discovery === undefined
        ? answerBinding(message, packet, io)
        : this.#discovery.handleBinding(message, packet, io) ?? 0;
      if (code !== 0) counters.addError(code);
    } else if (METHODS.has(method)) this.#handleRequest(listener, message, packet.from, io);
    else counters.drops.unknownMethod++;
  }

  /** The one place where requests are answered: what comes out of the steps is sent, whatever it is. */
  #handleRequest(listener: Listener, message: StunMessage, client: TransportAddress, io: Io): void {
    this.counters.requests++;
    const target: AnswerTarget = {
      listener,
      client,
      method: message.method,
      transactionId: message.transactionId,
      hasFingerprint: message.has(FINGERPRINT),
      protection: undefined,
    };
    const outcome = this.#process(message, target, io);
    if (outcome === "never") this.counters.drops.alreadyOpening++;
    else if (outcome !== "later") this.#answer(target, outcome, io);
  }

  #process(message: StunMessage, target: AnswerTarget, io: Io): Outcome {
    const { listener, client } = target;
    const allocation = this.#liveAllocation(listener, client, io);
    if (!message.hasIntegrity) {
      const refusal = refuseStranger(message, allocation);
      if (refusal !== undefined) return refusal;
    }
    const authentication = this.#authenticator.authenticate(message, pathOf(target), io.now);
    target.protection = authentication.protection;
    if (!authentication.isAuthentic) return { code: authentication.code };
    const origin: AllocateRequest = {
      transactionId: message.transactionId.slice(),
      transactionKey: message.transactionKey,
      hasFingerprint: target.hasFingerprint,
      protection: authentication.protection,
    };
    return handleTurnRequest(
      this.#scope,
      { message, listener, client, user: authentication.user, origin, allocation },
      io,
    );
  }

  /** The allocation of a 5-tuple, unless its time is over. */
  #liveAllocation(listener: Listener, client: TransportAddress, io: Io): Allocation | undefined {
    const allocation = listener.allocations.get(client.key);
    if (allocation?.state === "active" && allocation.nextDue <= io.now) this.#table.expire(allocation, io);
    return allocation?.state === "ended" ? undefined : allocation;
  }

  #answerLate(allocation: Allocation | undefined, io: Io): void {
    if (allocation === undefined) return;
    const { listener, client, request } = allocation;
    this.#answer({ ...request, listener, client, method: METHOD.ALLOCATE }, answerAllocated(allocation, io.now), io);
  }

  #answer(target: AnswerTarget, answer: Answer, io: Io): void {
    const { listener, client, method, protection } = target;
    const { code, unknown = [] } = answer;
    const size = ANSWER_SIZE + 3 * (this.#authenticator.realm.length + this.#software.length) + 2 * unknown.length;
    const writer = new MessageWriter(io.scratch(size));
    writer.begin(method, code === 0 ? "success" : "error", target.transactionId);
    if (code !== 0) {
      this.counters.addError(code);
      const reason = protection === undefined ? "" : REASONS.get(code) ?? "";
      writer.add(ERROR_CODE_ATTRIBUTE, { code, reason });
    }
    if (unknown.length > 0) writer.add(UNKNOWN_ATTRIBUTES, unknown);
    if (code === ERROR_CODE.UNAUTHENTICATED || code === ERROR_CODE.STALE_NONCE) {
      this.#authenticator.writeChallenge(writer, pathOf(target), io.now);
    }
    answer.write?.(writer);
    const hasSoftware = method === METHOD.ALLOCATE || method === METHOD.REFRESH;
    if (hasSoftware && this.#software !== "" && protection !== undefined) writer.add(SOFTWARE, this.#software);
    if (protection !== undefined) writer.addIntegrity(protection.key, protection.hash);
    if (target.hasFingerprint) writer.addFingerprint();
    io.send(listener.socket, client, writer.finish());
  }
}

/**
 * The answer to a request without MESSAGE-INTEGRITY that has no use for a challenge: the same code as after
 * authentication, but in an answer that is hardly longer than the request, whoever sent it.
 */
function refuseStranger(message: StunMessage, allocation: Allocation | undefined): Answer | undefined {
  if (message.method !== METHOD.ALLOCATE) {
    return allocation === undefined ? { code: ERROR_CODE.ALLOCATION_MISMATCH } : undefined;
  }
  return message.get(REQUESTED_TRANSPORT) === undefined ? { code: ERROR_CODE.BAD_REQUEST } : undefined;
}

function pathOf({ client, listener }: AnswerTarget): { client: TransportAddress; server: TransportAddress } {
  return { client, server: listener.localAddress };
}
