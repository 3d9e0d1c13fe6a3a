import type { ComponentSession } from "./component_session.ts";
import type { IceState } from "./events.ts";
import type { Generation } from "./generation.ts";
import type { CandidatePair } from "./pair.ts";

/** What the states of an agent's components follow from. */
export interface StateOf {
  /** The time. */
  readonly now: number;
  /** The generation of now. */
  readonly current: Generation;
  /** The pair that data of a component goes along, maybe from before a restart. */
  selectedPair(flow: number): CandidatePair | undefined;
  /** Whether no more local candidates come. */
  readonly isGatheringDone: boolean;
  /** That a socket is gone which would explain all; `undefined` else. */
  readonly socketLost: string | undefined;
}

/** A state, and why if it is not good. */
export interface StateWithReason {
  /** The state. */
  readonly state: IceState;
  /** Why. */
  readonly reason?: string;
}

/** Of the states of several components the first in this order is that of the agent, as for W3C's RTCPeerConnection. */
const WORST_FIRST: readonly IceState[] = ["failed", "disconnected", "checking", "new", "connected", "completed"];

/** The state of an agent, of its components, and why if it is not good. */
export function stateOf(view: StateOf): StateWithReason & { readonly components: readonly IceState[] } {
  const all = view.current.sessions.map((session) => session.isRemoved ? undefined : componentState(session, view));
  const components = all.map((one) => one?.state ?? "closed");
  const live = all.filter((one) => one !== undefined);
  const states = live.map(({ state }) => state);
  // Some components that are new do not make those that work so; but it is not the beginning any more.
  const isMixed = states.includes("new") && states.some((state) => state !== "new");
  const state = WORST_FIRST.find((one) => states.includes(one)) ?? "closed";
  const { reason } = live.find((one) => one.state === state) ?? {};
  return {
    state: isMixed && state === "new" ? "checking" : state,
    components,
    ...(reason === undefined ? {} : { reason }),
  };
}

function componentState(session: ComponentSession, view: StateOf): StateWithReason {
  const { pair, lost, isSettled } = session.selection;
  const selectedPair = view.selectedPair(session.flow);
  if (lost !== undefined && selectedPair === undefined) return { state: "failed", reason: lost };
  if (selectedPair !== undefined) {
    if (selectedPair.isSilent) return { state: "disconnected" };
    return { state: pair === selectedPair && isSettled ? "completed" : "connected" };
  }
  // After a restart the peer has been there before.
  if (!session.connectivity.isReady) return { state: view.current.isRestart ? "checking" : "new" };
  if (isHopeful(session, view)) return { state: "checking" };
  return { state: "failed", reason: view.socketLost ?? whyNoPath(session) };
}

/** RFC 8863 §4, RFC 8838 §8: before the nomination nothing has failed while something may still come. */
function isHopeful(
  { connectivity, named }: ComponentSession,
  { current: { patienceAt }, isGatheringDone, now }: StateOf,
): boolean {
  if (connectivity.hasUnresolved) return true;
  if (connectivity.list.state === "completed") return false;
  return !isGatheringDone || named.isWaiting || (now < patienceAt && patienceAt !== Infinity);
}

/** Why an agent with these pairs has failed, for people. */
function whyNoPath({ connectivity: { isLite, list: { pairs } } }: ComponentSession): string {
  if (isLite) return "The peer has nominated no pair";
  return pairs.length > 0
    ? "All checks have failed: no candidate of ours and none of the peer's reach each other"
    : "There is nothing to check: the peer has sent no candidate that fits one of ours";
}
