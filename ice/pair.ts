import type { TransportAddress } from "../stun/address.ts";
import type { SocketId } from "../stun/machine.ts";
import type { LocalCandidate, RemoteCandidate } from "./candidate.ts";
import type { Check } from "./check.ts";
import { PathQuality } from "./path_quality.ts";
import { type CandidateKind, kindOf } from "./tcp.ts";

/** The agent's role (RFC 8445 §6.1.1). The controlling agent nominates. */
export type IceRole = "controlling" | "controlled";

/** The state of a pair (RFC 8445 §6.1.2.6). */
export type PairState = "frozen" | "waiting" | "in-progress" | "succeeded" | "failed";

/** Where a pair may go from each state: figure 6 of RFC 8445, and what §7.2.5 and §7.3.1.4 add to it. */
export const PAIR_TRANSITIONS: Readonly<Record<PairState, readonly PairState[]>> = {
  // Failed at once when its socket is gone.
  frozen: ["waiting", "failed"],
  // Succeeded by the late answer to a cancelled check (§7.3.1.4).
  waiting: ["in-progress", "succeeded", "failed"],
  // Waiting again for a triggered check (§7.3.1.4) or with a new role (§7.2.5.1).
  "in-progress": ["succeeded", "failed", "waiting"],
  // Failed when its nomination fails (§7.2.5.3.4) or consent is lost (RFC 7675 §5.1).
  succeeded: ["failed"],
  // Waiting again when the peer's check shows that there is a way (§7.3.1.4).
  failed: ["waiting"],
};

/**
 * A socket that checks and data leave from, with the host or relayed candidate it stands for (RFC 8445 §4, "Base"). For TCP
 * the connections are sockets of their own; what they leave from or come in by is the base.
 */
export class Base {
  /** The socket; for TCP the listening one, and a negative number where nothing listens. */
  readonly socket: SocketId;
  /** Its host or relayed candidate. */
  readonly candidate: LocalCandidate;
  /** The number of its component among those of all data streams, from 0. */
  readonly flow: number;
  /** UDP, or in which direction its TCP connections are made. */
  readonly kind: CandidateKind;
  /** The pairs checked from here, by the key of the peer's address. */
  readonly pairs: Map<number | string, CandidatePair> = new Map();

  /** The base of this candidate, without pairs. */
  constructor(candidate: LocalCandidate, flow = 0) {
    this.flow = flow;
    this.socket = candidate.socket;
    this.candidate = candidate;
    this.kind = kindOf(candidate) ?? "udp";
  }
}

/** What was sent and received on a pair. */
export interface PairCounters {
  /** Checks sent, without their repetitions. */
  requestsSent: number;
  /** Repetitions of checks. */
  retransmissionsSent: number;
  /** Authenticated checks received. */
  requestsReceived: number;
  /** Answers sent. */
  responsesSent: number;
  /** Authenticated answers received. */
  responsesReceived: number;
  /** Checks sent to keep consent (RFC 7675), and to keep the pair warm while another is in use. */
  consentRequestsSent: number;
  /** The application's datagrams sent. */
  packetsSent: number;
  /** The application's datagrams received. */
  packetsReceived: number;
  /** The application's bytes sent. */
  bytesSent: number;
  /** The application's bytes received. */
  bytesReceived: number;
}

/** A local and a remote candidate: one way that the two agents may take (RFC 8445 §4). */
export class CandidatePair {
  /** Counts up from 1 within an agent. */
  readonly id: number;
  /** Where its checks and data leave from. */
  readonly base: Base;
  /** The peer's candidate. */
  readonly remote: RemoteCandidate;
  /**
   * Our candidate: at first the base's, since reflexive candidates are replaced by their base (RFC 8445 §6.1.2.4). When
   * a check succeeds, the one that the peer sees: the pair has become the valid pair of §7.2.5.3.2.
   */
  local: LocalCandidate;
  /** The socket that checks and data leave from: over TCP the pair's connection, 0 when there is none. */
  socket: SocketId;
  /** @internal Whether its TCP connection is being made. */
  isConnecting = false;
  /** Its state; see `moveTo()`. */
  state: PairState = "frozen";
  /** Whether it is nominated. */
  nominated = false;
  /** The controlling agent is about to nominate it: its checks carry USE-CANDIDATE. */
  nominating = false;
  /** The controlled agent got USE-CANDIDATE before the pair was valid (RFC 8445 §7.3.1.5). */
  nominateOnSuccess = false;
  /**
   * How new its latest nomination is: the value of NOMINATION, or 0 if it came without. The controlling agent counts from 1.
   */
  nomination = 0;
  /** The count of nominations that the one under way is; see `nominating`. */
  proposedNomination = 0;
  /** Of nominations without a value, by a peer that renominates: counts up. Else 0. */
  nominationOrder = 0;
  /** The peer has stopped answering requests for consent. */
  isSilent = false;
  /** @internal Its check that is on its way. */
  check: Check | undefined;
  /** @internal How many checks await answers, the cancelled ones included (RFC 8445 §7.3.1.4). */
  outstanding = 0;
  /** What checks have shown of the path. */
  readonly quality: PathQuality = new PathQuality();
  /** When its latest check was first sent; `undefined` before the first. */
  checkedAt: number | undefined;
  /** The RTO of its latest check in ms. */
  rto = 500;
  /** When a check succeeded first; `undefined` before. */
  validAt: number | undefined;
  /** When the latest authenticated answer came, which is what consent rests on; -Infinity before. */
  answeredAt: number = -Infinity;
  /** Whether the peer has sent an authenticated check along it. */
  heard = false;
  /** The transactions of the peer's latest checks. */
  #heardTransactions: string[] = [];
  /** What was sent and received on it. */
  readonly counters: PairCounters = {
    requestsSent: 0,
    retransmissionsSent: 0,
    requestsReceived: 0,
    responsesSent: 0,
    responsesReceived: 0,
    consentRequestsSent: 0,
    packetsSent: 0,
    packetsReceived: 0,
    bytesSent: 0,
    bytesReceived: 0,
  };
  // The 64 bits of the priority in two exact numbers: a sum of 2^32·MIN would not fit a double.
  #high = 0;
  #low = 0;

  /**
   * A frozen pair.
   *
   * @param id Counts up from 1 within an agent.
   * @param base Where its checks leave from.
   * @param remote The peer's candidate.
   * @param role The agent's role, for the priority.
   */
  constructor(id: number, base: Base, remote: RemoteCandidate, role: IceRole) {
    this.id = id;
    this.base = base;
    this.socket = base.kind === "udp" ? base.socket : 0;
    this.remote = remote;
    this.local = base.candidate;
    this.prioritize(role);
  }

  /** The combination of both foundations (RFC 8445 §6.1.2.6). */
  get foundation(): string {
    return `${this.base.candidate.foundation} ${this.remote.foundation}`;
  }

  /** The component both candidates are for. */
  get component(): number {
    return this.remote.component;
  }

  /** The data stream both candidates are for, from 0. */
  get stream(): number {
    return this.base.candidate.stream;
  }

  /** The priority, 2^32·MIN(G,D) + 2·MAX(G,D) + (G>D ? 1 : 0) (RFC 8445 §6.1.2.3). */
  get priority(): bigint {
    return (BigInt(this.#high) << 32n) + BigInt(this.#low);
  }

  /** Whether a check has succeeded and the pair is still good: data may be sent and received on it. */
  get isValid(): boolean {
    return this.state === "succeeded";
  }

  /** Whether the data takes a detour through a relay, on either side. */
  get isRelayed(): boolean {
    return this.base.candidate.type === "relay" || this.remote.type === "relay";
  }

  /** Whether it is for TCP. */
  get isTcp(): boolean {
    return this.base.kind !== "udp";
  }

  /** The latest smoothed round trip in ms; `undefined` before the first measurement. */
  get rtt(): number | undefined {
    return this.quality.rtt;
  }

  /** How much the round trip varies, in ms: its smoothed mean deviation (RFC 6298 §2). */
  get jitter(): number {
    return this.quality.jitter;
  }

  /** The share of its latest checks, 32 at most, that got lost: 0 to 1. */
  get loss(): number {
    return this.quality.loss;
  }

  /** The sum of all measured round trips in ms. */
  get totalRtt(): number {
    return this.quality.total;
  }

  /** How many round trips were measured. */
  get rttCount(): number {
    return this.quality.samples;
  }

  /** Computes the priority again, after the role or a candidate has changed. */
  prioritize(role: IceRole): void {
    const ours = this.local.priority;
    const theirs = this.remote.priority;
    const isControllingHigher = role === "controlling" ? ours > theirs : theirs > ours;
    const rest = 2 * Math.max(ours, theirs) + (isControllingHigher ? 1 : 0);
    this.#high = Math.min(ours, theirs) + Math.floor(rest / 2 ** 32);
    this.#low = rest % 2 ** 32;
  }

  /** Negative if this pair comes before the other: by higher priority, then by lower component (RFC 8445 §6.1.4.2). */
  compare(other: CandidatePair): number {
    return other.#high - this.#high || other.#low - this.#low || this.component - other.component;
  }

  /**
   * Changes the state.
   *
   * @throws {Error} If `PAIR_TRANSITIONS` has no such step.
   */
  moveTo(state: PairState): void {
    if (state === this.state) return;
    if (!PAIR_TRANSITIONS[this.state].includes(state)) {
      throw new Error(`Cannot move candidate pair to "${state}": current state is "${this.state}"`);
    }
    this.state = state;
  }

  /** Negative if this pair's nomination goes before the other's: the newer one, of equal ones that with higher priority. */
  compareNomination(other: CandidatePair): number {
    return other.nomination - this.nomination || other.nominationOrder - this.nominationOrder || this.compare(other);
  }

  /** @internal Takes in the transaction of a check of the peer's; tells whether it is new, and no repetition. */
  hear(transactionKey: string): boolean {
    if (this.#heardTransactions.includes(transactionKey)) return false;
    if (this.#heardTransactions.push(transactionKey) > 4) this.#heardTransactions.shift();
    return true;
  }

  /** The peer's address. */
  get remoteAddress(): TransportAddress {
    return this.remote.address;
  }

  /** As `192.0.2.1:5000 host -> 198.51.100.7:6000 srflx`; for TCP as `192.0.2.1:9 tcp host -> ...`. */
  toString(): string {
    const { local, remote } = this;
    const transport = this.isTcp ? "tcp " : "";
    return `${local.address} ${transport}${local.type} -> ${remote.address} ${transport}${remote.type}`;
  }
}
