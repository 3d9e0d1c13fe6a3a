import type { CandidatePair } from "./pair.ts";
import type { PathQuality } from "./path_quality.ts";

/**
 * Which of the pairs that work to use: gives one of `pairs`, or `undefined` to leave it as it is. Called with each
 * measurement, once a pair was nominated; a pure function of what it is given.
 *
 * @param pairs Those that work and have answered lately, best priority first: see `rtt`, `jitter`, `loss`, `isRelayed`.
 * @param selected The one in use; among `pairs` unless it is in doubt.
 */
export type PathChooser = (pairs: readonly CandidatePair[], selected: CandidatePair) => CandidatePair | undefined;

/**
 * Which path to use when several work, after the first nomination.
 *
 * - `"first"`: the pair that was nominated, as long as it works; nothing else is kept warm.
 * - `"priority"`: the best by priority (RFC 8445 §6.1.2.3); others are kept warm, to take over when it goes silent.
 * - `"quality"`: the best by measured round trip, jitter and loss; otherwise as `"priority"`.
 * - A function: whichever it says.
 */
export type PathPolicy = "first" | "priority" | "quality" | PathChooser;

/** A better pair has to be better for so long, in ms, before data goes over to it. */
export const BETTER_FOR = 5000;
/** And it must have answered so many checks in that time. */
export const BETTER_ANSWERS = 2;
/** How much less its cost must be, in ms and as a share of the other's cost. */
export const GAIN_MS = 10;
/** See `GAIN_MS`. */
export const GAIN_SHARE = 0.15;
/** What a loss of everything would cost, in ms. */
const LOSS_COST = 1000;

/**
 * What a path costs in ms, for `"quality"`: its recent round trip, twice the deviation from it, and 10 ms for each percent
 * of its checks that got lost. `Infinity` before the first measurement.
 */
export function pathCost({ recent, loss }: Pick<PathQuality, "recent" | "loss">): number {
  return recent === undefined ? Infinity : recent.rtt + 2 * recent.jitter + LOSS_COST * loss;
}

/** Whether one pair is clearly better than another by a policy. */
export function isBetter(policy: "priority" | "quality", one: CandidatePair, other: CandidatePair): boolean {
  if (policy === "priority") return one.compare(other) < 0;
  const [cost, than] = [pathCost(one.quality), pathCost(other.quality)];
  return than - cost >= Math.max(GAIN_MS, GAIN_SHARE * than);
}

/**
 * These pairs, best first, for a policy: where paths are compared by measurements the cheapest, else those of the highest
 * priority.
 */
export function inOrder(policy: PathPolicy, pairs: readonly CandidatePair[]): CandidatePair[] {
  const byPriority = [...pairs].sort((a, b) => a.compare(b));
  if (policy === "first" || policy === "priority") return byPriority;
  return byPriority.sort((a, b) => (pathCost(a.quality) - pathCost(b.quality)) || 0);
}

/** Decides when to go over to another path: only to one that is clearly better, and has been for a while. */
export class PathJudge {
  #policy: PathPolicy;
  #rival: CandidatePair | undefined;
  #rivalSince = 0;
  #rivalSamples = 0;

  /** @param policy Which path to use. */
  constructor(policy: PathPolicy) {
    this.#policy = policy;
  }

  /** Which path to use. */
  get policy(): PathPolicy {
    return this.#policy;
  }

  /**
   * The pair to go over to; `undefined` to stay.
   *
   * @param pairs Those that work and have answered lately, best priority first.
   * @param selected The one in use.
   * @param now The time in ms.
   */
  evaluate(pairs: readonly CandidatePair[], selected: CandidatePair, now: number): CandidatePair | undefined {
    const policy = this.#policy;
    if (policy === "first") return undefined;
    if (typeof policy === "function") {
      const choice = policy(pairs, selected);
      return choice === selected || choice === undefined || !pairs.includes(choice) ? undefined : choice;
    }
    const [best] = inOrder(policy, pairs);
    if (best === undefined || best === selected || !isBetter(policy, best, selected)) {
      this.#rival = undefined;
      return undefined;
    }
    if (best !== this.#rival) {
      this.#rival = best;
      this.#rivalSince = now;
      this.#rivalSamples = best.rttCount;
    }
    if (now - this.#rivalSince < BETTER_FOR || best.rttCount - this.#rivalSamples < BETTER_ANSWERS) return undefined;
    this.#rival = undefined;
    return best;
  }
}
