import type { TransportAddress } from "../stun/address.ts";
import type { MachineIo, Random } from "../stun/machine.ts";
import type { ChecklistSet } from "./checklist.ts";
import type { IceEvent } from "./events.ts";
import type { Base, CandidatePair, IceRole } from "./pair.ts";
import type { Roles } from "./roles.ts";
import type { TcpConnections } from "./tcp_connections.ts";

/** What makes the checks of a session. */
export interface ConnectivityOptions {
  /**
   * The role to begin with. `"auto"`: the one that the peer does not have, if a check of its shows that before its
   * credentials come; else of both sides the one whose username fragment sorts first controls, so that two of them agree
   * without a conflict.
   */
  readonly role: IceRole | "auto";
  /** Makes credentials and tie-breaker. */
  readonly random: Random;
  /**
   * Whether to be a lite agent (RFC 8445 §2.5), for a host that everybody reaches: it has host candidates only, sends no
   * checks, and takes what a full peer nominates. `role` counts only if the peer is lite as well. Default: no.
   */
  readonly lite?: boolean;
  /**
   * Whether somebody looks names up that stand for the peer's addresses: event `lookup`. Default: no, and candidates with
   * names are ignored.
   */
  readonly resolvesNames?: boolean;
  /** How many candidate pairs there may be. Default: 100. */
  readonly maxPairs?: number;
  /** Our username fragment. Default: 8 random characters. */
  readonly ufrag?: string;
  /** Our password. Default: 24 random characters. */
  readonly pwd?: string;
  /** Our tie-breaker, 64 bits. Default: random. */
  readonly tieBreaker?: bigint;
}

/** What the components of a session have in common. */
export interface SharedConnectivity {
  /** Who controls. */
  readonly roles: Roles;
  /** All checklists. */
  readonly set: ChecklistSet;
  /** Packets that changed nothing. */
  readonly counters: IceCounters;
  /** Our credentials. */
  readonly credentials: { readonly ufrag: string; readonly pwd: string };
  /** The latest number of a pair. */
  readonly pairs: { count: number };
}

/** What is new about a pair that was answered on. */
export interface PairAnswer {
  /** Whether this made it valid. */
  readonly isFirst: boolean;
  /** Whether it had gone silent before. */
  readonly wasSilent: boolean;
}

/** What the checks tell the agent. */
export interface ConnectivityListener {
  /** The agent's TCP connections. */
  readonly connections: TcpConnections<MachineIo<IceEvent>>;
  /** The address that the peer sees: gives our candidate for it, made up if it is new (RFC 8445 §7.2.5.3.1). */
  mappedCandidate(base: Base, mapped: TransportAddress, priority: number): CandidatePair["local"] | undefined;
  /** An authenticated success response came along a pair, which is valid. */
  pairAnswered(pair: CandidatePair, how: PairAnswer, io: MachineIo<IceEvent>): void;
  /** The peer's first authenticated check came along a pair. */
  pairHeard(pair: CandidatePair, io: MachineIo<IceEvent>): void;
  /** A pair is nominated, by us or by the peer; the peer may do so again. */
  pairNominated(pair: CandidatePair, io: MachineIo<IceEvent>): void;
  /** A pair that was valid or about to become so is not any more. */
  pairFailed(pair: CandidatePair, io: MachineIo<IceEvent>): void;
  /** The TCP connection of a pair could not be made, or was closed. */
  pairDisconnected(pair: CandidatePair, io: MachineIo<IceEvent>): void;
  /** The peer has revoked its consent (RFC 7675 §5.2). */
  consentRevoked(pair: CandidatePair, io: MachineIo<IceEvent>): void;
}

/** Packets that changed nothing, by reason. */
export interface IceCounters {
  /** Checks without USERNAME or MESSAGE-INTEGRITY, or with unknown attributes. */
  requestsRefused: number;
  /** Checks with a foreign user name or a wrong integrity. */
  requestsUnauthenticated: number;
  /** Authenticated checks of another session of the peer's. */
  requestsOfOthers: number;
  /** Checks that could not be remembered or learned from, since a limit was reached. */
  requestsOverLimit: number;
  /** Responses to nothing that we asked, or too late. */
  responsesUnmatched: number;
  /** Responses with a wrong integrity or fingerprint, or without the mapped address. */
  responsesRefused: number;
  /** Datagrams from addresses that no check has validated. */
  dataDropped: number;
  /** TCP connections that were closed as their first packet was no check with our credentials. */
  connectionsRefused: number;
}

/** All counters at 0. */
export function newCounters(): IceCounters {
  return {
    requestsRefused: 0,
    requestsUnauthenticated: 0,
    requestsOfOthers: 0,
    requestsOverLimit: 0,
    responsesUnmatched: 0,
    responsesRefused: 0,
    dataDropped: 0,
    connectionsRefused: 0,
  };
}
