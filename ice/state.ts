import type { IceState } from "./events.ts";
import type { Generation } from "./generation.ts";
import type { CandidatePair } from "./pair.ts";

/** What an agent's state follows from. */
export interface StateOf {
  /** The time. */
  readonly now: number;
  /** The generation of now. */
  readonly current: Generation;
  /** The pair that data goes along, maybe from before a restart. */
  readonly selectedPair: CandidatePair | undefined;
  /** Whether no more local candidates come. */
  readonly isGatheringDone: boolean;
  /** That a socket is gone which would explain all; `undefined` else. */
  readonly socketLost: string | undefined;
}

/** The state of an agent, and why if it is not good. */
export function stateOf(view: StateOf): { readonly state: IceState; readonly reason?: string } {
  const { current, selectedPair } = view;
  const { pair, lost, isSettled } = current.selection;
  if (lost !== undefined && selectedPair === undefined) return { state: "failed", reason: lost };
  if (selectedPair !== undefined) {
    if (selectedPair.isSilent) return { state: "disconnected" };
    return { state: pair === selectedPair && isSettled ? "completed" : "connected" };
  }
  // After a restart the peer has been there before.
  if (!current.connectivity.isReady) return { state: current.isRestart ? "checking" : "new" };
  if (isHopeful(view)) return { state: "checking" };
  return { state: "failed", reason: view.socketLost ?? whyNoPath(current) };
}

/** RFC 8863 §4, RFC 8838 §8: before the nomination nothing has failed while something may still come. */
function isHopeful({ current: { connectivity, named, patienceAt }, isGatheringDone, now }: StateOf): boolean {
  if (connectivity.hasUnresolved) return true;
  if (connectivity.list.state === "completed") return false;
  return !isGatheringDone || named.isWaiting || (now < patienceAt && patienceAt !== Infinity);
}

/** Why an agent with these pairs has failed, for people. */
function whyNoPath({ connectivity: { isLite, list: { pairs } } }: Generation): string {
  if (isLite) return "The peer has nominated no pair";
  return pairs.length > 0
    ? "All checks have failed: no candidate of ours and none of the peer's reach each other"
    : "There is nothing to check: the peer has sent no candidate that fits one of ours";
}
