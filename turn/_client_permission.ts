import type { TransportAddress } from "../stun/address.ts";
import { Timer } from "../stun/machine.ts";

/** In ms. RFC 8656 §9. */
export const PERMISSION_LIFETIME = 300_000;

/** Data that waits for a permission. */
export interface HeldDatagram {
  readonly to: TransportAddress;
  readonly bytes: Uint8Array;
  readonly isUnfragmented: boolean;
}

/** What a client knows of a permission: one for each peer IP address. */
export class Permission {
  readonly peer: TransportAddress;
  readonly timer: Timer<Permission | Channel> = new Timer<Permission | Channel>(this);
  /** Channels that are bound or being bound: their ChannelBind refreshes the permission as well. */
  readonly channels: Set<Channel> = new Set();
  expiresAt = -Infinity;
  /** Requests under way that install it. */
  pending = 0;
  /** Whether it was asked for by name, and is kept without traffic. */
  isWanted = false;
  usedAt: number;
  refusedUntil = -Infinity;
  queue: HeldDatagram[] = [];
  queuedBytes = 0;

  constructor(peer: TransportAddress, now: number) {
    this.peer = peer;
    this.usedAt = now;
  }

  /** What waits, which does no more. */
  takeQueue(): HeldDatagram[] {
    const { queue } = this;
    this.queue = [];
    this.queuedBytes = 0;
    return queue;
  }

  isKept(now: number): boolean {
    return this.isWanted || this.channels.size > 0 || now - this.usedAt < PERMISSION_LIFETIME;
  }

  /** Whether the server may relay from there: also as long as the answer to the request is on its way. */
  isAccepting(now: number): boolean {
    return this.pending > 0 || now < this.expiresAt;
  }
}

/** What a client knows of a channel. One that has failed or expired rests here until its number is free again. */
export class Channel {
  readonly number: number;
  readonly peer: TransportAddress;
  readonly timer: Timer<Permission | Channel> = new Timer<Permission | Channel>(this);
  permission: Permission;
  expiresAt = -Infinity;
  isPending = false;
  /** Whether its last refresh failed: then the permission is not left to it. */
  isDoubtful = false;

  constructor(number: number, permission: Permission, peer: TransportAddress) {
    this.number = number;
    this.permission = permission;
    this.peer = peer;
  }
}
