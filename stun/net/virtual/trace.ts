import type { TransportAddress } from "../../address.ts";

/**
 * What became of datagrams and TCP segments, counted. Kept by a world for all of it, and by each host and gateway for what happened there.
 *
 * In a world, `sent + duplicated` is always `delivered` plus everything from `lost` down plus `inFlight`.
 */
export interface VirtualCounters {
  /** A program handed a datagram to its socket. */
  sent: number;
  /** A datagram reached a socket. */
  delivered: number;
  /** A link made a second copy. */
  duplicated: number;
  /** A link held a datagram back, so that later ones overtake it. */
  reordered: number;
  /** A NAT rewrote source or destination. */
  translated: number;
  /** A NAT turned a datagram from inside back to the inside (RFC 4787 §6). */
  hairpinned: number;
  /** Dropped: a link lost it. */
  lost: number;
  /** Dropped: larger than UDP can carry, or than the link's `mtu`. */
  tooBig: number;
  /** Dropped: nobody has this destination, as seen from where the datagram was. */
  noRoute: number;
  /** Dropped: the host has the address, but no socket at this port. A TCP segment is answered by a reset. */
  noSocket: number;
  /** Dropped: the gateway lets no UDP through, or no TCP of this kind. */
  blocked: number;
  /** Dropped: the gateway's filter does not expect this sender (RFC 4787 §5), or knows of no connection with it. */
  filtered: number;
  /** Dropped: the NAT has no mapping at this external port. */
  unmapped: number;
  /** Dropped: the NAT had a mapping at this external port, but it has expired (RFC 4787 §4.3). */
  expired: number;
  /** Dropped: the NAT has no free port for a new mapping. */
  noPort: number;
  /** Dropped: sent to the NAT's own external address from inside, and it does not do hairpinning. */
  noHairpin: number;
}

/** What happened to a datagram: the counter that counts it. */
export type VirtualStep = keyof VirtualCounters;

/** A datagram or a TCP segment on its way, as callbacks see it. */
export interface DatagramView {
  /** The source address it carries at this point. */
  readonly source: TransportAddress;
  /** The destination address it carries at this point. */
  readonly destination: TransportAddress;
  /** The payload. Only good during the call, and not to be written to. */
  readonly bytes: Uint8Array;
  /** A TCP segment's flags, as `"SYN"`, `"SYN ACK"` or `"ACK"`; `undefined` for a UDP datagram. */
  readonly tcp?: string | undefined;
}

/** One step of one datagram. */
export interface TraceStep extends DatagramView {
  /** The virtual time in milliseconds. */
  readonly at: number;
  /** What happened. */
  readonly step: VirtualStep;
  /** The name of the host or gateway where it happened; `"internet"` for what had no route there. */
  readonly node: string;
  /** The datagram's number, from 1 in the order of sending. A duplicate has its original's. */
  readonly id: number;
}

/** Counters, all at zero. */
export function newCounters(): VirtualCounters {
  return {
    sent: 0,
    delivered: 0,
    duplicated: 0,
    reordered: 0,
    translated: 0,
    hairpinned: 0,
    lost: 0,
    tooBig: 0,
    noRoute: 0,
    noSocket: 0,
    blocked: 0,
    filtered: 0,
    unmapped: 0,
    expired: 0,
    noPort: 0,
    noHairpin: 0,
  };
}
