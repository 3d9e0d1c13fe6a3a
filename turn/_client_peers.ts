import type { AddressFamily, TransportAddress } from "../stun/address.ts";
import { ERROR_CODE, StunError } from "../stun/error.ts";
import { DeadlineHeap, type MachineIo, type Packet } from "../stun/machine.ts";
import { MessageWriter, METHOD, type StunMessage } from "../stun/message.ts";
import type { ClientRequests, RequestOutcome } from "../stun/requests.ts";
import { CHANNEL_NUMBER, DATA, DONT_FRAGMENT, ICMP, XOR_PEER_ADDRESS } from "./attributes.ts";
import {
  CHANNEL_HEADER_LENGTH,
  channelDataLength,
  channelNumber,
  MAX_CHANNEL,
  MIN_CHANNEL,
  writeChannelHeader,
} from "./channel_data.ts";
import { Channel, type HeldDatagram, Permission, PERMISSION_LIFETIME } from "./_client_permission.ts";
import type { TurnClientEvent } from "./client_events.ts";
import type { TurnClientStats } from "./client_stats.ts";
import { isTransient, retryPause, withAdvice } from "./_client_errors.ts";
import { TurnError } from "./error.ts";

type Io = MachineIo<TurnClientEvent>;

/** RFC 8656 §12. */
const CHANNEL_LIFETIME = 600_000;
/** RFC 8656 §12: how long an expired channel's number and peer are left alone. */
const CHANNEL_REST = 300_000;
/** How long before its end something is refreshed: a whole transaction of 39.5 s fits, and the start of another. */
const REFRESH_MARGIN = 60_000;
/** How long a peer that the server refused is not asked for again because of mere data. */
const REFUSED_PAUSE = 60_000;
/** Datagrams held for a permission that is under way: enough for a few checks, not for a stream. */
const QUEUE_COUNT = 16;
const QUEUE_BYTES = 16_384;
/** Datagrams held while there is no way to the server: what is said in a second or so of a call. */
const AWAY_COUNT = 64;
const AWAY_BYTES = 65_536;
const MAX_CHANNEL_DATA = 65_503;
// 65,507 less the header, a peer's IPv6 address, the header of DATA and its padding.
const MAX_INDICATION_DATA = 65_507 - 20 - 24 - 4 - 3;

/** What a response about a peer can say about the whole allocation. */
export interface PeersOwner {
  /** The allocation is no more, or no more what it was. */
  lost(error: TurnError, io: Io): void;
  /** It may be no more: better ask. */
  doubt(io: Io): void;
}

/** Why a peer cannot be had, without asking the server. */
interface PeerFault {
  readonly code: number | undefined;
  readonly error: Error;
}

/** The part of a TURN client that deals with peers: permissions, channels, data both ways. */
export class ClientPeers {
  #requests: ClientRequests<TurnClientEvent>;
  #stats: TurnClientStats;
  #owner: PeersOwner;
  /** The IP versions that peers may have; none when there is no allocation. */
  #families = new Set<AddressFamily>();
  #hasDatagrams = false;
  #permissions = new Map<number | string, Permission>();
  #channelsByPeer = new Map<number | string, Channel>();
  #channelsByNumber = new Map<number, Channel>();
  #nextChannel = MIN_CHANNEL;
  #timers = new DeadlineHeap<Permission | Channel>();
  #indicationId = new Uint8Array(12);
  /** What waits until there is a way to the server again; `undefined` if there is one. */
  #away: HeldDatagram[] | undefined;
  #awayBytes = 0;

  constructor(requests: ClientRequests<TurnClientEvent>, stats: TurnClientStats, owner: PeersOwner) {
    this.#requests = requests;
    this.#stats = stats;
    this.#owner = owner;
  }

  get deadline(): number {
    return this.#timers.deadline;
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
    for (const permission of this.#permissions.values()) this.#dropQueue(permission);
    this.#permissions.clear();
    this.#channelsByPeer.clear();
    this.#channelsByNumber.clear();
    this.#timers = new DeadlineHeap();
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
    const permission = this.#permissionFor(peer, io);
    permission.isWanted = true;
    if (io.now < permission.expiresAt) io.emit({ type: "permission", peer });
    else if (permission.pending === 0) this.#ask(permission, io);
  }

  bindChannel(peer: TransportAddress, io: Io): void {
    const fault = this.#fault(peer, "bind a channel to", true);
    if (fault !== undefined) return io.emit({ type: "channel-failed", peer, ...fault });
    let channel = this.#channelsByPeer.get(peer.key);
    if (channel === undefined) {
      const number = this.#freeNumber();
      if (number === undefined) {
        const error = new RangeError("Cannot bind channel as all 4096 channel numbers are in use or at rest");
        return io.emit({ type: "channel-failed", peer, code: undefined, error });
      }
      channel = new Channel(number, this.#permissionFor(peer, io), peer);
      this.#channelsByPeer.set(peer.key, channel);
      this.#channelsByNumber.set(number, channel);
    }
    if (io.now < channel.expiresAt) return io.emit({ type: "channel-bound", peer, number: channel.number });
    if (channel.isPending) return;
    channel.permission = this.#permissionFor(peer, io);
    this.#bind(channel, io);
  }

  /** Data from the application: by channel, by Send indication, or held until there is a permission. */
  send(to: TransportAddress, bytes: Uint8Array, offset: number, length: number, io: Io): void {
    if (!this.#canSend(to)) return;
    if (this.#away !== undefined) {
      return this.#keep({ to, bytes: bytes.slice(offset, offset + length), isUnfragmented: false });
    }
    const channel = this.#channelsByPeer.get(to.key);
    if (channel !== undefined && io.now < channel.expiresAt && io.now < channel.permission.expiresAt) {
      channel.permission.usedAt = io.now;
      return this.#sendChannelData(channel, bytes, offset, length, io);
    }
    const permission = this.#permissionFor(to, io);
    permission.usedAt = io.now;
    if (io.now < permission.expiresAt) this.#sendIndication(to, bytes.subarray(offset, offset + length), false, io);
    else this.#hold(permission, { to, bytes: bytes.slice(offset, offset + length), isUnfragmented: false }, io);
  }

  /** By Send indication, as channels have no room for DONT-FRAGMENT. */
  sendUnfragmented(to: TransportAddress, bytes: Uint8Array, io: Io): void {
    if (!this.#canSend(to)) return;
    if (this.#away !== undefined) return this.#keep({ to, bytes: bytes.slice(), isUnfragmented: true });
    const permission = this.#permissionFor(to, io);
    permission.usedAt = io.now;
    if (io.now < permission.expiresAt) this.#sendIndication(to, bytes, true, io);
    else this.#hold(permission, { to, bytes: bytes.slice(), isUnfragmented: true }, io);
  }

  /** RFC 8656 §12.6. */
  handleChannelData(packet: Packet, io: Io): void {
    const length = channelDataLength(packet.buffer, packet.offset, packet.length);
    if (length === -1) return void this.#stats.rejectedMalformed++;
    const channel = this.#channelsByNumber.get(channelNumber(packet.buffer, packet.offset));
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
    const permission = this.#permissions.get(peer.ipKey);
    if (permission === undefined || !permission.isAccepting(io.now)) return void this.#stats.rejectedPeer++;
    if (icmp !== undefined) return io.emit({ type: "icmp", peer, icmp });
    permission.usedAt = io.now;
    this.#stats.receivedIndications++;
    // In the packet's own memory, not as a view, so that there is room in front of it for the next header.
    io.deliver(peer, packet.buffer, data!.byteOffset - packet.buffer.byteOffset, data!.length);
  }

  handleTimeout(io: Io): void {
    for (let timer = this.#timers.expire(io.now); timer !== undefined; timer = this.#timers.expire(io.now)) {
      if (timer.owner instanceof Permission) this.#handlePermissionDue(timer.owner, io);
      else this.#handleChannelDue(timer.owner, io);
    }
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

  #permissionFor(peer: TransportAddress, io: Io): Permission {
    let permission = this.#permissions.get(peer.ipKey);
    if (permission === undefined) this.#permissions.set(peer.ipKey, permission = new Permission(peer, io.now));
    return permission;
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
    if (permission.pending === 0) this.#ask(permission, io);
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

  #dropQueue(permission: Permission): void {
    this.#stats.droppedRefused += permission.queue.length;
    permission.queue = [];
    permission.queuedBytes = 0;
  }

  /** Installs or refreshes a permission, by a channel if there is one: that refreshes both. */
  #ask(permission: Permission, io: Io): void {
    for (const channel of permission.channels) {
      if (!channel.isDoubtful) return channel.isPending ? undefined : this.#bind(channel, io);
    }
    permission.pending++;
    const { peer } = permission;
    this.#requests.start({
      method: METHOD.CREATE_PERMISSION,
      doing: `Cannot get permission for ${peer.address} from ${this.#requests.server}`,
      write: (writer) => void writer.add(XOR_PEER_ADDRESS, peer),
      done: (outcome, io) => this.#handlePermissionOutcome(permission, outcome, io),
    }, io);
  }

  #handlePermissionOutcome(permission: Permission, outcome: RequestOutcome, io: Io): void {
    permission.pending--;
    if (outcome.type === "success") return this.#installed(permission, outcome.startedAt, io);
    const isInstalled = io.now < permission.expiresAt;
    if (this.#isLost(outcome.error, isInstalled, io)) return;
    if (isInstalled && isTransient(outcome.error)) {
      this.#timers.set(permission.timer, Math.min(io.now + retryPause(outcome.error), permission.expiresAt));
    } else this.#refused(permission, outcome.error, io);
  }

  #installed(permission: Permission, startedAt: number, io: Io): void {
    const wasInstalled = io.now < permission.expiresAt;
    // From when it was asked for: the server's own clock started some time after.
    permission.expiresAt = Math.max(permission.expiresAt, startedAt + PERMISSION_LIFETIME);
    permission.refusedUntil = -Infinity;
    this.#timers.set(permission.timer, permission.expiresAt - REFRESH_MARGIN);
    if (!wasInstalled) io.emit({ type: "permission", peer: permission.peer });
    const { queue } = permission;
    permission.queue = [];
    permission.queuedBytes = 0;
    for (const datagram of queue) this.#sendHeld(datagram, io);
  }

  #sendHeld({ to, bytes, isUnfragmented }: HeldDatagram, io: Io): void {
    if (isUnfragmented) this.sendUnfragmented(to, bytes, io);
    else this.send(to, bytes, 0, bytes.length, io);
  }

  #refused(permission: Permission, error: Error, io: Io): void {
    const isAnswer = error instanceof StunError;
    this.#dropQueue(permission);
    permission.expiresAt = -Infinity;
    permission.isWanted = false;
    permission.refusedUntil = io.now + (isAnswer ? REFUSED_PAUSE : 0);
    this.#timers.set(permission.timer, permission.refusedUntil);
    const code = isAnswer ? error.code : undefined;
    io.emit({ type: "permission-failed", peer: permission.peer, code, error: withAdvice(error) });
  }

  #handlePermissionDue(permission: Permission, io: Io): void {
    if (permission.pending > 0) return;
    const isWorth = permission.isKept(io.now) && io.now >= permission.refusedUntil;
    const isOver = io.now >= permission.expiresAt;
    if (isOver && (!isWorth || permission.refusedUntil !== -Infinity)) {
      this.#permissions.delete(permission.peer.ipKey);
    } else if (isWorth) {
      this.#ask(permission, io);
    } else {
      this.#timers.set(permission.timer, permission.expiresAt);
    }
  }

  #bind(channel: Channel, io: Io): void {
    const { number, peer, permission } = channel;
    channel.isPending = true;
    permission.channels.add(channel);
    permission.pending++;
    this.#requests.start({
      method: METHOD.CHANNEL_BIND,
      doing: `Cannot bind channel to ${peer} on ${this.#requests.server}`,
      write: (writer) => void writer.add(CHANNEL_NUMBER, number).add(XOR_PEER_ADDRESS, peer),
      done: (outcome, io) => this.#handleBindOutcome(channel, outcome, io),
    }, io);
  }

  #handleBindOutcome(channel: Channel, outcome: RequestOutcome, io: Io): void {
    const { permission, peer, number } = channel;
    channel.isPending = false;
    permission.pending--;
    const wasBound = io.now < channel.expiresAt;
    if (outcome.type === "success") {
      channel.expiresAt = outcome.startedAt + CHANNEL_LIFETIME;
      channel.isDoubtful = false;
      this.#timers.set(channel.timer, channel.expiresAt - REFRESH_MARGIN);
      if (!wasBound) io.emit({ type: "channel-bound", peer, number });
      return this.#installed(permission, outcome.startedAt, io);
    }
    if (this.#isLost(outcome.error, wasBound, io)) return;
    const retryAt = io.now + retryPause(outcome.error);
    if (wasBound && isTransient(outcome.error)) {
      channel.isDoubtful = true;
      const { expiresAt } = channel;
      this.#timers.set(channel.timer, Math.min(Math.max(retryAt, expiresAt - REFRESH_MARGIN), expiresAt));
    } else this.#channelFailed(channel, outcome.error, io);
    if (permission.channels.size > 0 || io.now < permission.expiresAt) {
      // Its own refresh may have been this request, and then no timer is set for the next.
      if (permission.timer.index === -1) this.#timers.set(permission.timer, retryAt);
    } else if (permission.pending === 0) this.#refused(permission, outcome.error, io);
  }

  #channelFailed(channel: Channel, error: Error, io: Io): void {
    // The server may have bound it even so, and keep it that long; the client leaves it alone until some time after that.
    const until = Math.max(channel.expiresAt, io.now + CHANNEL_LIFETIME) + CHANNEL_REST;
    channel.expiresAt = -Infinity;
    channel.permission.channels.delete(channel);
    this.#timers.set(channel.timer, until);
    const code = error instanceof StunError ? error.code : undefined;
    io.emit({ type: "channel-failed", peer: channel.peer, code, error: withAdvice(error) });
  }

  #handleChannelDue(channel: Channel, io: Io): void {
    if (channel.isPending) return;
    if (io.now < channel.expiresAt) return this.#bind(channel, io);
    if (channel.permission.channels.has(channel)) {
      const doing = `Cannot refresh channel to ${channel.peer} on ${this.#requests.server}`;
      return this.#channelFailed(channel, new Error(`${doing}: it has expired`), io);
    }
    this.#channelsByPeer.delete(channel.peer.key);
    this.#channelsByNumber.delete(channel.number);
  }

  #freeNumber(): number | undefined {
    for (let tries = MIN_CHANNEL; tries <= MAX_CHANNEL; tries++) {
      const number = this.#nextChannel;
      this.#nextChannel = number === MAX_CHANNEL ? MIN_CHANNEL : number + 1;
      if (!this.#channelsByNumber.has(number)) return number;
    }
    return undefined;
  }

  /**
   * RFC 8656 §5: 437 means that there is no allocation; §12.3: so may a 400 to what was right before. To something new a
   * 400 may mean that too: coturn 4.6 answers so when it has been restarted. Then a Refresh tells.
   */
  #isLost(error: Error, wasThere: boolean, io: Io): boolean {
    if (!(error instanceof StunError)) return false;
    const { code } = error;
    if (code === ERROR_CODE.BAD_REQUEST && !wasThere) this.#owner.doubt(io);
    const isLost = code === ERROR_CODE.ALLOCATION_MISMATCH || (wasThere && code === ERROR_CODE.BAD_REQUEST);
    if (isLost) {
      const hint = "the server no longer knows the allocation as it was";
      this.#owner.lost(
        new TurnError(code, error.reason, `Lost the allocation on ${this.#requests.server}`, { hint }),
        io,
      );
    }
    return isLost;
  }
}
