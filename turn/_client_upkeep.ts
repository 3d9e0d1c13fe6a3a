import type { TransportAddress } from "../stun/address.ts";
import { ERROR_CODE, StunError } from "../stun/error.ts";
import { DeadlineHeap, type MachineIo } from "../stun/machine.ts";
import { METHOD } from "../stun/message.ts";
import type { ClientRequests, RequestOutcome } from "../stun/requests.ts";
import { isTransient, retryPause, withAdvice } from "./_client_errors.ts";
import { Channel, type HeldDatagram, Permission, PERMISSION_LIFETIME } from "./_client_permission.ts";
import { CHANNEL_NUMBER, XOR_PEER_ADDRESS } from "./attributes.ts";
import { MAX_CHANNEL, MIN_CHANNEL } from "./channel_data.ts";
import type { TurnClientEvent } from "./client_events.ts";
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
/** What a response about a peer can say about the whole allocation. */
export interface PeersOwner {
  /** The allocation is no more, or no more what it was. */
  lost(error: TurnError, io: Io): void;
  /** It may be no more: better ask. */
  doubt(io: Io): void;
}

/** What a `PeerUpkeep` needs of its owner. */
export interface UpkeepOwner extends PeersOwner {
  /** What waited for a permission can be sent. */
  permitted(datagrams: readonly HeldDatagram[], io: Io): void;
  /** What waited for it never will be. */
  refused(datagrams: readonly HeldDatagram[]): void;
}

/** A TURN client's permissions and channels: how they are got from the server, kept and given up. */
export class PeerUpkeep {
  // What each datagram needs comes first.
  #channelsByPeer = new Map<number | string, Channel>();
  #channelsByNumber = new Map<number, Channel>();
  #permissions = new Map<number | string, Permission>();
  #timers = new DeadlineHeap<Permission | Channel>();
  #nextChannel = MIN_CHANNEL;
  #requests: ClientRequests<TurnClientEvent>;
  #owner: UpkeepOwner;

  constructor(requests: ClientRequests<TurnClientEvent>, owner: UpkeepOwner) {
    this.#requests = requests;
    this.#owner = owner;
  }

  get deadline(): number {
    return this.#timers.deadline;
  }

  /** The channel to a peer, bound or not. */
  channelTo(peer: TransportAddress): Channel | undefined {
    return this.#channelsByPeer.get(peer.key);
  }

  /** The channel that has a number, bound or not. */
  channelOf(number: number): Channel | undefined {
    return this.#channelsByNumber.get(number);
  }

  /** The permission for a peer, installed or not. */
  permissionOf(peer: TransportAddress): Permission | undefined {
    return this.#permissions.get(peer.ipKey);
  }

  /** The same; a new one if there is none. */
  permissionFor(peer: TransportAddress, now: number): Permission {
    let permission = this.#permissions.get(peer.ipKey);
    if (permission === undefined) this.#permissions.set(peer.ipKey, permission = new Permission(peer, now));
    return permission;
  }

  /** Forgets all; what waited is refused. */
  clear(): void {
    for (const permission of this.#permissions.values()) this.#owner.refused(permission.takeQueue());
    this.#permissions.clear();
    this.#channelsByPeer.clear();
    this.#channelsByNumber.clear();
    this.#timers = new DeadlineHeap();
  }

  createPermission(peer: TransportAddress, io: Io): void {
    const permission = this.permissionFor(peer, io.now);
    permission.isWanted = true;
    if (io.now < permission.expiresAt) io.emit({ type: "permission", peer });
    else if (permission.pending === 0) this.ask(permission, io);
  }

  bindChannel(peer: TransportAddress, io: Io): void {
    let channel = this.#channelsByPeer.get(peer.key);
    if (channel === undefined) {
      const number = this.#freeNumber();
      if (number === undefined) {
        const error = new RangeError("Cannot bind channel as all 4096 channel numbers are in use or at rest");
        return io.emit({ type: "channel-failed", peer, code: undefined, error });
      }
      channel = new Channel(number, this.permissionFor(peer, io.now), peer);
      this.#channelsByPeer.set(peer.key, channel);
      this.#channelsByNumber.set(number, channel);
    }
    if (io.now < channel.expiresAt) return io.emit({ type: "channel-bound", peer, number: channel.number });
    if (channel.isPending) return;
    channel.permission = this.permissionFor(peer, io.now);
    this.#bind(channel, io);
  }

  handleTimeout(io: Io): void {
    for (let timer = this.#timers.expire(io.now); timer !== undefined; timer = this.#timers.expire(io.now)) {
      if (timer.owner instanceof Permission) this.#handlePermissionDue(timer.owner, io);
      else this.#handleChannelDue(timer.owner, io);
    }
  }

  /** Installs or refreshes a permission, by a channel if there is one: that refreshes both. */
  ask(permission: Permission, io: Io): void {
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
    this.#owner.permitted(permission.takeQueue(), io);
  }

  #refused(permission: Permission, error: Error, io: Io): void {
    const isAnswer = error instanceof StunError;
    this.#owner.refused(permission.takeQueue());
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
      this.ask(permission, io);
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
