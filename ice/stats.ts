import type { TransportAddress } from "../stun/address.ts";
import type { IceAgent } from "./agent.ts";
import type { Candidate, CandidateType, LocalCandidate } from "./candidate.ts";
import type { IceCounters } from "./connectivity_options.ts";
import type { IceState } from "./events.ts";
import type { CandidatePair, IceRole, PairState } from "./pair.ts";
import { concealsBase } from "./presentation.ts";
import type { TcpType } from "./tcp.ts";

/** A candidate, named as in W3C's RTCIceCandidateStats. */
export interface IceCandidateStats {
  /** The IP address, or the name that hides it; empty if it is one of ours that the peer is not told. */
  readonly address: string;
  /** The port. */
  readonly port: number;
  /** The transport: `"udp"` or `"tcp"`. */
  readonly protocol: string;
  /** How a TCP candidate comes by its connections. */
  readonly tcpType?: TcpType;
  /** How it was found. */
  readonly candidateType: CandidateType;
  /** Its priority. */
  readonly priority: number;
  /** Its foundation. */
  readonly foundation: string;
}

/** A pair, named as in W3C's RTCIceCandidatePairStats. Round trips are in seconds there, and so here. */
export interface IceCandidatePairStats {
  /** The same as long as the agent lives. */
  readonly id: string;
  /** Ours. */
  readonly local: IceCandidateStats;
  /** The peer's. */
  readonly remote: IceCandidateStats;
  /** Its state. */
  readonly state: PairState;
  /** Whether it is nominated. */
  readonly nominated: boolean;
  /** The 64-bit priority. */
  readonly priority: bigint;
  /** Data sent. */
  readonly packetsSent: number;
  /** Data received. */
  readonly packetsReceived: number;
  /** Bytes of data sent. */
  readonly bytesSent: number;
  /** Bytes of data received. */
  readonly bytesReceived: number;
  /** The sum of all measured round trips in seconds. */
  readonly totalRoundTripTime: number;
  /** The latest, smoothed, in seconds; missing before the first measurement. */
  readonly currentRoundTripTime?: number;
  /** How much the round trip varies, smoothed, in seconds; missing before the first measurement. Not one of W3C's. */
  readonly roundTripTimeJitter?: number;
  /** The share of its latest checks, 32 at most, that got lost: 0 to 1. Not one of W3C's. */
  readonly checkLoss: number;
  /** Whether it is kept warm, to take over when the selected one goes silent. Not one of W3C's. */
  readonly standby: boolean;
  /** Checks sent, without repetitions. */
  readonly requestsSent: number;
  /** Repetitions of checks sent. */
  readonly retransmissionsSent: number;
  /** Checks received. */
  readonly requestsReceived: number;
  /** Answers sent. */
  readonly responsesSent: number;
  /** Answers received. */
  readonly responsesReceived: number;
  /** Requests for consent sent, and checks that kept the pair warm. */
  readonly consentRequestsSent: number;
}

/** What an agent has and did. */
export interface IceStats {
  /** The state. */
  readonly state: IceState;
  /** The role. */
  readonly role: IceRole;
  /** The pair that data goes along. */
  readonly selectedPair?: IceCandidatePairStats;
  /** All pairs, best first. */
  readonly pairs: readonly IceCandidatePairStats[];
  /** Our candidates. */
  readonly localCandidates: readonly IceCandidateStats[];
  /** The peer's candidates. */
  readonly remoteCandidates: readonly IceCandidateStats[];
  /** Packets that changed nothing, by reason. */
  readonly counters: Readonly<IceCounters>;
}

/** What an agent has and did so far. */
export function iceStats(agent: IceAgent): IceStats {
  const { selectedPair } = agent;
  const standby = new Set(agent.standbyPairs);
  const secrets = new Set(agent.localCandidates.filter(concealsBase).map(({ base }) => base.ipKey));
  const statsOf = (pair: CandidatePair) => pairStats(pair, { standby: standby.has(pair), secrets });
  return {
    state: agent.state,
    role: agent.role,
    ...(selectedPair === undefined ? {} : { selectedPair: statsOf(selectedPair) }),
    pairs: agent.pairs.map(statsOf),
    localCandidates: agent.localCandidates.map((one) => localStats(one, secrets)),
    remoteCandidates: agent.remoteCandidates.map(candidateStats),
    counters: { ...agent.counters },
  };
}

type Secrets = ReadonlySet<TransportAddress["ipKey"]>;

/** Without an address that the peer is not told: statistics are often told to others. */
function localStats(candidate: LocalCandidate, secrets: Secrets): IceCandidateStats {
  const { type, isHidden, address } = candidate;
  const stats = candidateStats(candidate);
  const isUntold = isHidden === true || (type === "prflx" && secrets.has(address.ipKey));
  return isUntold ? { ...stats, address: "" } : stats;
}

function pairStats(
  pair: CandidatePair,
  { standby, secrets }: { readonly standby: boolean; readonly secrets: Secrets },
): IceCandidatePairStats {
  return {
    id: `CP${pair.id}`,
    local: localStats(pair.local, secrets),
    remote: candidateStats(pair.remote),
    state: pair.state,
    nominated: pair.nominated,
    priority: pair.priority,
    totalRoundTripTime: pair.totalRtt / 1000,
    ...(pair.rtt === undefined ? {} : {
      currentRoundTripTime: pair.rtt / 1000,
      roundTripTimeJitter: pair.jitter / 1000,
    }),
    checkLoss: pair.loss,
    standby,
    ...pair.counters,
  };
}

function candidateStats(
  { address, name, protocol, tcpType, type, priority, foundation }: Candidate,
): IceCandidateStats {
  return {
    address: name?.host ?? address?.address ?? "",
    port: name?.port ?? address?.port ?? 0,
    protocol,
    ...(tcpType === undefined ? {} : { tcpType }),
    candidateType: type,
    priority,
    foundation,
  };
}
