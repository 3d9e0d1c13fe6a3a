import type { AddressFamily, TransportAddress } from "../stun/address.ts";
import { ERROR_CODE } from "../stun/error.ts";
import type { MachineIo, Packet } from "../stun/machine.ts";
import { MessageWriter, METHOD, type StunMessage } from "../stun/message.ts";
import type { ClientRequests } from "../stun/requests.ts";
import type { Channel, HeldDatagram, Permission } from "./_client_permission.ts";
import { type PeersOwner, PeerUpkeep } from "./_client_upkeep.ts";
import { DATA, DONT_FRAGMENT, ICMP, XOR_PEER_ADDRESS } from "./attributes.ts";
import { CHANNEL_HEADER_LENGTH, channelDataLength, channelNumber, writeChannelHeader } from "./channel_data.ts";
import type { TurnClientEvent } from "./client_events.ts";
import type { TurnClientStats } from "./client_stats.ts";
import { TurnError } from "./error.ts";

type Io = MachineIo<TurnClientEvent>;

/** Datagrams held for a permission that is under way: enough for a few checks, not for a stream. */
const QUEUE_COUNT = 16;
const QUEUE_BYTES = 16_384;
/** Datagrams held while there is no way to the server: what is said in a second or so of a call. */
const AWAY_COUNT = 64;
const AWAY_BYTES = 65_536;
const MAX_CHANNEL_DATA = 65_503;
// 65,507 less the header, a peer's IPv6 address, the header of DATA and its padding.
const MAX_INDICATION_DATA = 65_507 - 20 - 24 - 4 - 3;

/** Why a peer cannot be had, without asking the server. */
interface PeerFault {
  readonly code: number | undefined;
  readonly error: Error;
}

/** The part of a TURN client that deals with peers: permissions, channels, data both ways. */
export class ClientPeers {
  #requests: ClientRequests<TurnClientEvent>;
  #stats: TurnClientStats;
  #upkeep: PeerUpkeep;
  /** The IP versions that peers may have; none when there is no allocation. */
  #families = new Set<AddressFamily>();
  #hasDatagrams = false;
  #indicationId = new Uint8Array(12);
  /** What waits until there is a way to the server again; `undefined` if there is one. */
  #away: HeldDatagram[] | undefined;
  #awayBytes = 0;

  constructor(requests: ClientRequests<TurnClientEvent>, stats: TurnClientStats, owner: PeersOwner) {
    this.#requests = requests;
    this.#stats = stats;
    this.#upkeep = new PeerUpkeep(requests, {
      ...owner,
      permitted: (datagrams, io) => {
        for (const datagram of datagrams) this.#sendHeld(datagram, io);
      },
      refused: (datagrams) => void (stats.droppedRefused += datagrams.length),
    });
  }

  get deadline(): number {
    return this.#upkeep.deadline;
  }

  /** There is an allocation with these relayed addresses. */
  open(relayedAddresses: readonly TransportAddress[], hasDatagrams: boolean): void {
    for (const { family } of relayedAddresses) this.#families.add(family);
    this.#hasDatagrams = hasDatagrams;
  }

  /** Forgets all, the allocation too; what was held is counted as dropped. */
  clear(): void {
    this.#families.clear();
    this.#stats.droppedNotAllocated += this.#away?.length ?? 0;
    this.#away = undefined;
    this.#upkeep.clear();
  }

  /** There is no way to the server: data waits. */
  suspend(): void {
    this.#away ??= [];
  }

  /** There is one again. */
  resume(io: Io): void {
    const waiting = this.#away ?? [];
    this.#away = undefined;
    this.#awayBytes = 0;
    for (const datagram of waiting) this.#sendHeld(datagram, io);
  }

  createPermission(peer: TransportAddress, io: Io): void {
    const fault = this.#fault(peer, "get permission for", false);
    if (fault !== undefined) return io.emit({ type: "permission-failed", peer, ...fault });
    this.#upkeep.createPermission(peer, io);
  }

  bindChannel(peer: TransportAddress, io: Io): void {
    const fault = this.#fault(peer, "bind a channel to", true);
    if (fault !== undefined) return io.emit({ type: "channel-failed", peer, ...fault });
    this.#upkeep.bindChannel(peer, io);
  }

  /** Data from the application: by channel, by Send indication, or held until there is a permission. */
  send(to: TransportAddress, bytes: Uint8Array, offset: number, length: number, io: Io): void {
    if (!this.#canSend(to)) return;
    if (this.#away !== undefined) {
      return this.#keep({ to, bytes: bytes.slice(offset, offset + length), isUnfragmented: false });
    }
    const channel = this.#upkeep.channelTo(to);
    if (channel !== undefined && io.now < channel.expiresAt && io.now < channel.permission.expiresAt) {
      channel.permission.usedAt = io.now;
      return this.#sendChannelData(channel, bytes, offset, length, io);
    }
    const permission = this.#upkeep.permissionFor(to, io.now);
    permission.usedAt = io.now;
    if (io.now < permission.expiresAt) this.#sendIndication(to, bytes.subarray(offset, offset + length), false, io);
    else this.#hold(permission, { to, bytes: bytes.slice(offset, offset + length), isUnfragmented: false }, io);
  }

  /** By Send indication, as channels have no room for DONT-FRAGMENT. */
  sendUnfragmented(to: TransportAddress, bytes: Uint8Array, io: Io): void {
    if (!this.#canSend(to)) return;
    if (this.#away !== undefined) return this.#keep({ to, bytes: bytes.slice(), isUnfragmented: true });
    const permission = this.#upkeep.permissionFor(to, io.now);
    permission.usedAt = io.now;
    if (io.now < permission.expiresAt) this.#sendIndication(to, bytes, true, io);
    else this.#hold(permission, { to, bytes: bytes.slice(), isUnfragmented: true }, io);
  }

  /** RFC 8656 §12.6. */
  handleChannelData(packet: Packet, io: Io): void {
    const length = channelDataLength(packet.buffer, packet.offset, packet.length);
    if (length === -1) return void this.#stats.rejectedMalformed++;
    const channel = this.#upkeep.channelOf(channelNumber(packet.buffer, packet.offset));
    // It may come before the success response does (§12).
    if (channel === undefined || !(channel.isPending || io.now < channel.expiresAt)) {
      return void this.#stats.rejectedChannel++;
    }
    if (!channel.permission.isAccepting(io.now)) return void this.#stats.rejectedPeer++;
    channel.permission.usedAt = io.now;
    this.#stats.receivedChannelData++;
    io.deliver(channel.peer, packet.buffer, packet.offset + CHANNEL_HEADER_LENGTH, length);
  }

  /** RFC 8656 §11.4, §11.6. */
  handleData(message: StunMessage, packet: Packet, io: Io): void {
    const peer = message.get(XOR_PEER_ADDRESS);
    const data = message.get(DATA);
    const icmp = data === undefined ? message.get(ICMP) : undefined;
    if (peer === undefined || (data === undefined && icmp === undefined)) return void this.#stats.rejectedMalformed++;
    const permission = this.#upkeep.permissionOf(peer);
    if (permission === undefined || !permission.isAccepting(io.now)) return void this.#stats.rejectedPeer++;
    if (icmp !== undefined) return io.emit({ type: "icmp", peer, icmp });
    permission.usedAt = io.now;
    this.#stats.receivedIndications++;
    // In the packet's own memory, not as a view, so that there is room in front of it for the next header.
    io.deliver(peer, packet.buffer, data!.byteOffset - packet.buffer.byteOffset, data!.length);
  }

  handleTimeout(io: Io): void {
    this.#upkeep.handleTimeout(io);
  }

  #canSend(to: TransportAddress): boolean {
    if (this.#families.size === 0 || !this.#hasDatagrams) this.#stats.droppedNotAllocated++;
    else if (!this.#families.has(to.family)) this.#stats.droppedFamily++;
    else return true;
    return false;
  }

  #fault(peer: TransportAddress, doing: string, needsDatagrams: boolean): PeerFault | undefined {
    if (this.#families.size === 0 || (needsDatagrams && !this.#hasDatagrams)) {
      const why = this.#families.size === 0 ? "there is no allocation" : "the relay is for connections";
      return { code: undefined, error: new Error(`Cannot ${doing} ${peer} as ${why}`) };
    }
    if (this.#families.has(peer.family)) return undefined;
    const code = ERROR_CODE.PEER_ADDRESS_FAMILY_MISMATCH;
    return { code, error: new TurnError(code, "", `Cannot ${doing} ${peer}`) };
  }

  #sendChannelData(channel: Channel, bytes: Uint8Array, offset: number, length: number, io: Io): void {
    if (length > MAX_CHANNEL_DATA) return void this.#stats.droppedTooLong++;
    // Copied: whose memory lies in front of the caller's data is not known here.
    const frame = io.scratch(CHANNEL_HEADER_LENGTH + length);
    writeChannelHeader(frame, 0, channel.number, length);
    frame.set(offset === 0 && length === bytes.length ? bytes : bytes.subarray(offset, offset + length), 4);
    this.#stats.sentChannelData++;
    io.send(this.#requests.socket, this.#requests.server, frame, 0, CHANNEL_HEADER_LENGTH + length);
  }

  #sendIndication(to: TransportAddress, bytes: Uint8Array, isUnfragmented: boolean, io: Io): void {
    if (bytes.length > MAX_INDICATION_DATA - (isUnfragmented ? 4 : 0)) return void this.#stats.droppedTooLong++;
    io.random.fill(this.#indicationId);
    const writer = new MessageWriter(io.scratch(bytes.length + 56))
      .begin(METHOD.SEND, "indication", this.#indicationId)
      .add(XOR_PEER_ADDRESS, to);
    if (isUnfragmented) writer.add(DONT_FRAGMENT, true);
    const message = writer.add(DATA, bytes).finish();
    this.#stats.sentIndications++;
    io.send(this.#requests.socket, this.#requests.server, message);
  }

  #hold(permission: Permission, datagram: HeldDatagram, io: Io): void {
    const { length } = datagram.bytes;
    if (io.now < permission.refusedUntil) return void this.#stats.droppedRefused++;
    if (permission.queue.length >= QUEUE_COUNT || permission.queuedBytes + length > QUEUE_BYTES) {
      return void this.#stats.droppedQueueFull++;
    }
    permission.queue.push(datagram);
    permission.queuedBytes += length;
    this.#stats.held++;
    if (permission.pending === 0) this.#upkeep.ask(permission, io);
  }

  /** Until there is a way to the server. */
  #keep(datagram: HeldDatagram): void {
    const { length } = datagram.bytes;
    if (this.#away!.length >= AWAY_COUNT || this.#awayBytes + length > AWAY_BYTES) {
      return void this.#stats.droppedQueueFull++;
    }
    this.#away!.push(datagram);
    this.#awayBytes += length;
    this.#stats.held++;
  }

  #sendHeld({ to, bytes, isUnfragmented }: HeldDatagram, io: Io): void {
    if (isUnfragmented) this.sendUnfragmented(to, bytes, io);
    else this.send(to, bytes, 0, bytes.length, io);
  }
}
