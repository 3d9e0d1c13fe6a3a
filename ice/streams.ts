import type { Candidate } from "./candidate.ts";
import type { IceState } from "./events.ts";
import type { LocalSide } from "./local_side.ts";
import type { CandidatePair } from "./pair.ts";
import type { IceDescription, IceParameters, IceStreamDescription } from "./sdp.ts";

/** One component of a data stream. */
export interface IceComponent {
  /** The stream, from 0. */
  readonly stream: number;
  /** What the stream is called. */
  readonly mid: string;
  /** The component, from 1. */
  readonly component: number;
  /** Its state, which has the meaning of an agent's; `"closed"` if its stream was removed. */
  readonly state: IceState;
  /** The pair that its data goes along. */
  readonly selectedPair: CandidatePair | undefined;
}

/** What a description says of one of our data streams. */
export interface StreamPart {
  /** Its number, from 0. */
  readonly stream: number;
  /** The peer's credentials and options for it. */
  readonly parameters?: IceParameters;
  /** The peer's candidates for it. */
  readonly candidates: readonly Candidate[];
  /** Whether no more follow. */
  readonly endOfCandidates: boolean;
  /** Whether the peer does not want the stream. */
  readonly isRejected?: boolean;
  /** Which of our candidates are in use, in an updated offer. */
  readonly remoteCandidates?: IceStreamDescription["remoteCandidates"];
}

/** What a description of the peer's says of each of our streams, by `mid`, else by place. */
export function streamsOf(description: IceDescription, mids: readonly string[]): StreamPart[] {
  const { streams, parameters, candidates, endOfCandidates } = description;
  if (mids.length === 1 || streams === undefined) {
    const remoteCandidates = streams?.find(({ isRejected }) => isRejected !== true)?.remoteCandidates;
    const choice = remoteCandidates === undefined ? {} : { remoteCandidates };
    if (mids.length === 1) return [{ ...optional(parameters), stream: 0, candidates, endOfCandidates, ...choice }];
    // Credentials and the end of candidates are the session's, candidates without a name those of the first stream.
    return mids.map((_, stream) => ({
      ...optional(parameters),
      stream,
      candidates: stream === 0 ? candidates : [],
      endOfCandidates,
    }));
  }
  const parts: StreamPart[] = [];
  streams.forEach((one, place) => {
    const named = one.mid === undefined ? -1 : mids.indexOf(one.mid);
    const stream = named !== -1 ? named : one.index ?? place;
    if (stream >= mids.length) return;
    parts.push({
      ...optional(one.parameters ?? parameters),
      stream,
      candidates: one.candidates,
      endOfCandidates: one.endOfCandidates,
      ...(one.isRejected === true ? { isRejected: true } : {}),
      ...(one.remoteCandidates === undefined ? {} : { remoteCandidates: one.remoteCandidates }),
    });
  });
  return parts;
}

/** Our candidates, and what there is to say about streams if there are several, or one with several components. */
export function describeStreams(
  local: LocalSide,
  mids: readonly string[],
): Pick<IceDescription, "candidates" | "endOfCandidates" | "streams"> {
  const { signalled, isDone: endOfCandidates } = local;
  if (mids.length === 1) return { candidates: signalled, endOfCandidates };
  return {
    candidates: signalled.filter(({ stream }) => stream === 0),
    endOfCandidates,
    streams: mids.map((mid, stream) => ({
      mid,
      candidates: signalled.filter((candidate) => candidate.stream === stream),
      endOfCandidates,
    })),
  };
}

/** The candidates in use on both sides, stream by stream. */
export function describeChoice(
  components: readonly IceComponent[],
  mids: readonly string[],
): Pick<IceDescription, "candidates" | "endOfCandidates" | "streams"> {
  const streams = mids.map((mid, stream) => {
    const own = components.filter((one) => one.stream === stream && one.selectedPair !== undefined);
    return {
      mid,
      candidates: own.map(({ selectedPair }) => selectedPair!.local),
      endOfCandidates: true,
      remoteCandidates: own.map(({ component, selectedPair }) => {
        const { address, port } = selectedPair!.remote.address;
        return [component, { host: address, port }] as const;
      }),
    };
  });
  return { candidates: streams[0]!.candidates, endOfCandidates: true, streams };
}

function optional(parameters: IceParameters | undefined): { parameters?: IceParameters } {
  return parameters === undefined ? {} : { parameters };
}
