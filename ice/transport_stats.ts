import type { IceState } from "./events.ts";
import type { IceRole } from "./pair.ts";
import type { IceCandidatePairStats, IceCandidateStats, IceStats } from "./stats.ts";

/** What every entry of a report has, named as in W3C's RTCStats. */
export interface IceTransportStatsEntry<Type extends string> {
  /** Unique in the report, and the same in the next. */
  readonly id: string;
  /** What it is about. */
  readonly type: Type;
  /** When it was made: ms since 1970. */
  readonly timestamp: number;
}

/** The transport as a whole, named as in W3C's RTCTransportStats. */
export interface IceTransportSummary extends IceTransportStatsEntry<"transport"> {
  /** The role. */
  readonly iceRole: IceRole | "unknown";
  /** The state. */
  readonly iceState: IceState;
  /** Our username fragment. */
  readonly iceLocalUsernameFragment: string;
  /** Which pair the data goes along; missing if there is none. */
  readonly selectedCandidatePairId?: string;
  /** Data sent since the latest restart. */
  readonly packetsSent: number;
  /** Data received since then. */
  readonly packetsReceived: number;
  /** Bytes of data sent since then. */
  readonly bytesSent: number;
  /** Bytes of data received since then. */
  readonly bytesReceived: number;
}

/** A candidate, named as in W3C's RTCIceCandidateStats. */
export interface IceTransportCandidateStats
  extends IceTransportStatsEntry<"local-candidate" | "remote-candidate">, IceCandidateStats {
  /** The transport's entry. */
  readonly transportId: string;
}

/** A pair, named as in W3C's RTCIceCandidatePairStats. Round trips are in seconds. */
export interface IceTransportPairStats
  extends IceTransportStatsEntry<"candidate-pair">, Omit<IceCandidatePairStats, "id" | "local" | "remote"> {
  /** The transport's entry. */
  readonly transportId: string;
  /** Our candidate's entry. */
  readonly localCandidateId: string;
  /** The entry of the peer's candidate. */
  readonly remoteCandidateId: string;
}

/** An entry of a report. */
export type IceTransportStats = IceTransportSummary | IceTransportCandidateStats | IceTransportPairStats;

const TRANSPORT = "T1";

/**
 * Statistics as W3C's `getStats()` gives them: entries by their ids.
 *
 * @param stats What the agent has and did.
 * @param about What it does not know: the time, our username fragment, and whether there is a role yet.
 */
export function statsReport(
  { state, selectedPair, pairs, localCandidates, remoteCandidates }: IceStats,
  { timestamp, usernameFragment, role }: {
    readonly timestamp: number;
    readonly usernameFragment: string;
    readonly role: IceRole | "unknown";
  },
): Map<string, IceTransportStats> {
  const report = new Map<string, IceTransportStats>();
  const add = (entry: IceTransportStats) => void report.set(entry.id, entry);
  const sum = (name: "packetsSent" | "packetsReceived" | "bytesSent" | "bytesReceived") =>
    pairs.reduce((total, pair) => total + pair[name], 0);
  const common = { timestamp, transportId: TRANSPORT };
  add({
    id: TRANSPORT,
    type: "transport",
    timestamp,
    iceRole: role,
    iceState: state,
    iceLocalUsernameFragment: usernameFragment,
    ...(selectedPair === undefined ? {} : { selectedCandidatePairId: selectedPair.id }),
    packetsSent: sum("packetsSent"),
    packetsReceived: sum("packetsReceived"),
    bytesSent: sum("bytesSent"),
    bytesReceived: sum("bytesReceived"),
  });
  for (const one of localCandidates) add({ id: idOf("L", one), type: "local-candidate", ...common, ...one });
  for (const one of remoteCandidates) add({ id: idOf("R", one), type: "remote-candidate", ...common, ...one });
  for (const { id, local, remote, ...rest } of selectedPair === undefined ? pairs : [selectedPair, ...pairs]) {
    const [localCandidateId, remoteCandidateId] = [idOf("L", local), idOf("R", remote)];
    add({ id, type: "candidate-pair", ...common, localCandidateId, remoteCandidateId, ...rest });
  }
  return report;
}

function idOf(side: "L" | "R", { candidateType, protocol, foundation, address, port }: IceCandidateStats): string {
  return `${side}-${candidateType}-${protocol}-${foundation}-${address}-${port}`;
}
