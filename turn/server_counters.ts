/** Why a datagram was dropped. A request that can be answered never is. */
export const DROP_REASONS = [
  /** From a client: the first byte is none of STUN or ChannelData (RFC 7983 §7). */
  "notStun",
  /** Looks like STUN and is not. */
  "malformed",
  /** A FINGERPRINT is wrong. */
  "badFingerprint",
  /** A STUN method that this server does not have (RFC 8489 §6.3). */
  "unknownMethod",
  /** A response, or an indication that only servers send. */
  "unexpectedClass",
  /** An indication or ChannelData from a client without allocation (RFC 8656 §5). */
  "noAllocation",
  /** An Allocate that came again while its sockets are being bound: the answer is under way. */
  "alreadyOpening",
  /** A Send indication without a peer address or data, or with attributes that must be understood and are not. */
  "badSend",
  /** A Send indication to a peer of a family that has no relayed address. */
  "wrongFamily",
  /** A Send indication for a TCP allocation (RFC 6062). */
  "notUdp",
  /** A Send indication or peer datagram without permission (RFC 8656 §9). */
  "noPermission",
  /** A peer's datagram whose client's connection is gone, and who may come back on another (RFC 8016). */
  "noClient",
  /** Data for a peer that the policy refuses. */
  "refusedPeer",
  /** ChannelData that is shorter than it says (RFC 8656 §12.6). */
  "shortChannelData",
  /** ChannelData on a channel that is not bound. */
  "unboundChannel",
  /** A datagram that has no room for the header it needs. */
  "tooLong",
  /** A datagram on a socket that belongs to no allocation, as a reserved port. */
  "unknownSocket",
  /** What a source sent without good credentials after it had been answered as often as it may (`challengeRate`). */
  "challengeRate",
  /** A Binding request of a source that had been answered as often as it may (`bindingRate`). */
  "bindingRate",
  /** A request whose user was being looked for when it came again. */
  "alreadyWaiting",
  /** A request whose user would have to be looked for, while too many others wait for that. */
  "tooManyWaiting",
  /** A request whose user could not be looked for, or not in time. */
  "userSearchFailed",
  /** An ICMP message of a type that is not for clients (RFC 8656 §11.5). */
  "icmpType",
  /** An ICMP message after an allocation had as many as its client is told of. */
  "icmpRate",
  /** Data beyond what one allocation may relay in that time. */
  "allocationBandwidth",
  /** Data beyond what one user may relay in that time. */
  "userBandwidth",
  /** Data beyond what the server relays in that time. */
  "serverBandwidth",
] as const;

/** Why a datagram was dropped: one of `DROP_REASONS`. */
export type DropReason = typeof DROP_REASONS[number];

/** Why a connection with a peer came to nothing (RFC 6062 §5). */
export const CONNECTION_FAILURES = [
  /** A peer connected that has no permission. */
  "noPermission",
  /** A peer connected, and there are as many connections as there may be. */
  "tooMany",
  /** 447: a peer did not take a client's connection, or not in 30 s. */
  "notConnected",
  /** No ConnectionBind came in 30 s. */
  "notBound",
] as const;

/** Why a connection with a peer came to nothing: one of `CONNECTION_FAILURES`. */
export type ConnectionFailure = typeof CONNECTION_FAILURES[number];

/** What a request was refused for that was otherwise right. */
export const LIMIT_NAMES = [
  /** 486: the user has as many allocations and reserved ports as it may. */
  "allocationsPerUser",
  /** 508 or 300: the server has as many as it may. */
  "allocations",
  /** 508: the allocation has as many permissions as it may. */
  "permissions",
  /** 508: the allocation has as many channels as it may. */
  "channels",
  /** 508: the TCP allocation has as many connections as it may. */
  "connectionsPerAllocation",
  /** 508: the server has as many connections with peers as it may. */
  "connections",
  /** 508 or 300: no relay port is free, or the host would give none. */
  "ports",
  /** 508 or 300: the server takes no new allocations any more. */
  "draining",
] as const;

/** What a request was refused for: one of `LIMIT_NAMES`. */
export type LimitName = typeof LIMIT_NAMES[number];

/** What a TURN server did and has. All numbers only grow, but for `allocations`, `reservations` and `connections`. */
export class TurnServerCounters {
  /** Allocations at this moment. */
  allocations = 0;
  /** Reserved ports at this moment. */
  reservations = 0;
  /** Allocations ever made. */
  allocationsTotal = 0;
  /** How often an allocation went along with its client to another 5-tuple (RFC 8016). */
  moves = 0;
  /** Connections with peers at this moment (RFC 6062), those that are being made and that wait for the client too. */
  connections = 0;
  /** Connections ever made between a client and a peer. */
  connectionsTotal = 0;
  /** TURN requests ever received, retransmissions too. */
  requests = 0;
  /** Binding requests ever received. */
  bindings = 0;
  /** Relay sockets that could not be bound. */
  openFailures = 0;
  /** Datagrams relayed from clients to peers. */
  packetsToPeers = 0;
  /** Bytes of data in them, without headers, and on connections. */
  bytesToPeers = 0;
  /** Datagrams relayed from peers to clients. */
  packetsToClients = 0;
  /** Bytes of data in them, without headers, and on connections. */
  bytesToClients = 0;
  /** ICMP messages that clients were told of. */
  icmpToClients = 0;
  /** Dropped datagrams by reason. */
  readonly drops: Record<DropReason, number> = Object.fromEntries(DROP_REASONS.map((reason) => [reason, 0])) as Record<
    DropReason,
    number
  >;
  /** Requests that a limit stood in the way of, by limit. */
  readonly limits: Record<LimitName, number> = Object.fromEntries(LIMIT_NAMES.map((name) => [name, 0])) as Record<
    LimitName,
    number
  >;
  /** Connections that came to nothing, by reason. */
  readonly connectionFailures: Record<ConnectionFailure, number> = Object.fromEntries(
    CONNECTION_FAILURES.map((reason) => [reason, 0]),
  ) as Record<ConnectionFailure, number>;
  /** Error answers by code. */
  readonly errors: Map<number, number> = new Map();

  /** Counts an error answer. */
  addError(code: number): void {
    this.errors.set(code, (this.errors.get(code) ?? 0) + 1);
  }

  /** A copy that can be kept and written as JSON. */
  snapshot(): TurnServerStats {
    const { drops, limits, connectionFailures, errors, ...numbers } = this;
    const copies = { drops: { ...drops }, limits: { ...limits }, connectionFailures: { ...connectionFailures } };
    return { ...numbers, ...copies, errors: Object.fromEntries(errors) };
  }
}

/** A TURN server's counters at one moment. */
export interface TurnServerStats {
  /** Allocations at this moment. */
  readonly allocations: number;
  /** Reserved ports at this moment. */
  readonly reservations: number;
  /** Allocations ever made. */
  readonly allocationsTotal: number;
  /** How often an allocation went along with its client to another 5-tuple (RFC 8016). */
  readonly moves: number;
  /** Connections with peers at this moment (RFC 6062), those that are being made and that wait for the client too. */
  readonly connections: number;
  /** Connections ever made between a client and a peer. */
  readonly connectionsTotal: number;
  /** TURN requests ever received, retransmissions too. */
  readonly requests: number;
  /** Binding requests ever received. */
  readonly bindings: number;
  /** Relay sockets that could not be bound. */
  readonly openFailures: number;
  /** Datagrams relayed from clients to peers. */
  readonly packetsToPeers: number;
  /** Bytes of data in them, without headers, and on connections. */
  readonly bytesToPeers: number;
  /** Datagrams relayed from peers to clients. */
  readonly packetsToClients: number;
  /** Bytes of data in them, without headers, and on connections. */
  readonly bytesToClients: number;
  /** ICMP messages that clients were told of. */
  readonly icmpToClients: number;
  /** Dropped datagrams by reason. */
  readonly drops: Readonly<Record<DropReason, number>>;
  /** Requests that a limit stood in the way of, by limit. */
  readonly limits: Readonly<Record<LimitName, number>>;
  /** Connections that came to nothing, by reason. */
  readonly connectionFailures: Readonly<Record<ConnectionFailure, number>>;
  /** Error answers by code. */
  readonly errors: Readonly<Record<string, number>>;
}
