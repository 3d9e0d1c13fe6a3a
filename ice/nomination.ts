import type { CandidatePair } from "./pair.ts";

/**
 * When the controlling agent nominates, and which pair (RFC 8445 §8.1.1 leaves both to us).
 *
 * Data flows on the best valid pair from the first moment, so nothing is lost by waiting, and nothing is waited for
 * without reason. There is no fixed time: a pair that is better than the best valid one holds the nomination back only
 * for as long as it still has a fair chance, and what is fair is measured in the round trips of the pair that works.
 *
 * - A better pair that is still to be checked: until its check has left, which the pacing bounds.
 * - A better pair whose check is on its way: for three round trips of the best valid pair. Had it a working path of about
 *   the same length, the answer would have come.
 * - A frozen pair: not at all. One like it is being checked; if that succeeds, this one is no longer frozen.
 * - A relay costs its owner and adds a detour, and hole punching needs the checks of both sides: the first check from
 *   here may well be dropped by the NAT over there. So while the best valid pair is relayed, direct pairs have until
 *   their second transmission could have been answered.
 * - The same goes for a TCP connection: it works where UDP is blocked, and where it is not, UDP is better and may take a
 *   little longer.
 * - While better candidates may still come (either side is gathering), a relayed pair is given as long for them. A direct
 *   one is taken: what is still to come are reflexive and relayed candidates, which would not be better.
 */
export interface NominationChoice {
  /** The pair to nominate. */
  readonly pair: CandidatePair;
  /** When to do it, if nothing changes until then; `Infinity` if something will. */
  readonly at: number;
}

/** How many round trips make a fair chance. */
const FAIR_ROUND_TRIPS = 3;
/** The first retransmission, by RFC 8445 §14.3, for candidates that are not there yet. */
const FIRST_RETRANSMISSION = 500;

/**
 * Picks the pair to nominate.
 *
 * @param pairs All pairs of the checklist, best first.
 * @param remoteMayTrickle Whether the peer may still send candidates.
 * @param isGathering Whether local candidates may still come.
 * @returns The choice, or `undefined` while no pair is valid.
 */
export function chooseNominee(
  pairs: readonly CandidatePair[],
  { remoteMayTrickle, isGathering }: { remoteMayTrickle: boolean; isGathering: boolean },
): NominationChoice | undefined {
  const best = pairs.find((pair) => pair.isValid);
  if (best === undefined) return undefined;
  // Where checks have crossed, an earlier one is answered first; then the others have less left to wait for.
  const patience = FAIR_ROUND_TRIPS * Math.min(best.rtt ?? Infinity, best.validAt! - best.checkedAt!);
  // An address that only a check has shown may be the peer's relay, as long as its candidate may be on its way.
  const isRelayed = best.isRelayed || (best.remote.type === "prflx" && remoteMayTrickle);
  const isSecondBest = isRelayed || best.isTcp;
  let at = -Infinity;
  if (isSecondBest && (remoteMayTrickle || isGathering)) at = best.validAt! + FIRST_RETRANSMISSION + patience;
  for (const pair of pairs) {
    if (pair === best) break;
    if (pair.state === "waiting") return { pair: best, at: Infinity };
    if (pair.state !== "in-progress") continue;
    at = Math.max(at, pair.checkedAt! + patience + (isSecondBest && !pair.isRelayed ? pair.rto : 0));
  }
  return { pair: best, at };
}
