import type { CandidatePair, IceRole } from "./pair.ts";

/** The state of a checklist (RFC 8445 §6.1.2.1). */
export type ChecklistState = "running" | "completed" | "failed";

/**
 * The pairs of one component of a data stream in the order of their checks, and those to be checked first. The lists of a
 * stream's components are one checklist of RFC 8445 §6.1.2: `ChecklistSet` takes the best pair of them.
 */
export class Checklist {
  /** The data stream, from 0. */
  readonly stream: number;
  /** Whether its checks may be sent: the peer's credentials are known. */
  isReady = true;
  /** Its state. */
  state: ChecklistState = "running";
  /** Whether only triggered checks are sent for now, as while a nomination is under way. */
  isHolding = false;
  /** Whether ordinary checks go on after the nomination, since the best path is still looked for. */
  isExploring = false;
  /** The pairs, best first. */
  readonly pairs: CandidatePair[] = [];
  #triggered: CandidatePair[] = [];

  /** @param stream The data stream, from 0. */
  constructor(stream = 0) {
    this.stream = stream;
  }

  /** Whether the pair waits for a triggered check. */
  isTriggered(pair: CandidatePair): boolean {
    return this.#triggered.includes(pair);
  }

  /** Puts a pair at the end of the triggered-check queue, unless it is in it (RFC 8445 §7.3.1.4). */
  trigger(pair: CandidatePair): void {
    if (!this.#triggered.includes(pair)) this.#triggered.push(pair);
  }

  /** Takes a pair out of the triggered-check queue. */
  untrigger(pair: CandidatePair): void {
    const index = this.#triggered.indexOf(pair);
    if (index !== -1) this.#triggered.splice(index, 1);
  }

  /** Lets all checks rest but one of this pair; those that were triggered wait with the ordinary ones. */
  hold(pair: CandidatePair): void {
    this.isHolding = true;
    this.#triggered = [pair];
  }

  /** Takes a pair out of the list and the queue. */
  remove(pair: CandidatePair): void {
    this.untrigger(pair);
    const index = this.pairs.indexOf(pair);
    if (index !== -1) this.pairs.splice(index, 1);
    pair.base.pairs.delete(pair.remote.address.key);
  }

  /** Puts the pairs in order again, after priorities have changed. */
  sort(): void {
    this.pairs.sort((a, b) => a.compare(b));
  }

  /** Whether a triggered check is to be sent. */
  get hasTriggered(): boolean {
    return this.#triggered.length > 0;
  }

  /** @internal Takes the next triggered pair out of the queue. */
  nextTriggered(): CandidatePair | undefined {
    return this.#triggered.shift();
  }
}

/** All checklists of an agent, since freezing, pacing and the limit go across them (RFC 8445 §6.1.2.6). */
export class ChecklistSet {
  /** The checklists in the order of their streams. */
  readonly lists: readonly Checklist[];
  readonly #limit: number;
  /** The lists of each stream. */
  readonly #streams: readonly (readonly Checklist[])[];
  #cursor = 0;

  /**
   * The checklists of one session.
   *
   * @param lists The checklists in the order of their streams and components.
   * @param limit How many pairs there may be in all. Default: 100 (RFC 8445 §6.1.2.5).
   */
  constructor(lists: readonly Checklist[], limit = 100) {
    this.lists = lists;
    this.#limit = limit;
    this.#streams = [...new Set(lists.map(({ stream }) => stream))].map((stream) =>
      lists.filter((list) => list.stream === stream)
    );
  }

  /** All pairs, list by list. */
  *pairs(): Generator<CandidatePair> {
    for (const list of this.lists) yield* list.pairs;
  }

  /** How many pairs are in this state. */
  count(state: CandidatePair["state"]): number {
    let count = 0;
    for (const list of this.lists) for (const pair of list.pairs) if (pair.state === state) count++;
    return count;
  }

  /** Whether a triggered check is to be sent. */
  get hasTriggered(): boolean {
    return this.lists.some((list) => list.isReady && list.hasTriggered);
  }

  /**
   * Inserts a new pair by its priority, unfrozen if RFC 8838 §12 says so. At the limit a less useful one has to go.
   *
   * @returns Whether there was room.
   */
  insert(list: Checklist, pair: CandidatePair): boolean {
    if (this.lists.reduce((sum, { pairs }) => sum + pairs.length, 0) >= this.#limit) {
      const dropped = this.#leastUseful(pair);
      if (dropped === undefined) return false;
      for (const one of this.lists) if (one.pairs.includes(dropped)) one.remove(dropped);
    }
    if (this.#startsWaiting(pair)) pair.moveTo("waiting");
    const index = list.pairs.findIndex((other) => pair.compare(other) < 0);
    list.pairs.splice(index === -1 ? list.pairs.length : index, 0, pair);
    return true;
  }

  /** Unfreezes all pairs of this foundation in all checklists, since one has succeeded (RFC 8445 §7.2.5.3.3). */
  unfreeze(foundation: string): CandidatePair[] {
    const thawed = [...this.pairs()].filter((pair) => pair.state === "frozen" && pair.foundation === foundation);
    for (const pair of thawed) pair.moveTo("waiting");
    return thawed;
  }

  /** The pair to check now, taken from the checklists in turn (RFC 8445 §6.1.4.2); `undefined` if there is none. */
  next(): CandidatePair | undefined {
    const { length } = this.#streams;
    for (let i = 0; i < length; i++) {
      const lists = this.#streams[(this.#cursor + i) % length]!.filter(({ isReady }) => isReady);
      const pair = lists.find((list) => list.hasTriggered)?.nextTriggered() ?? this.#bestOrdinary(lists);
      if (pair === undefined) continue;
      this.#cursor = (this.#cursor + i + 1) % length;
      return pair;
    }
    return undefined;
  }

  /** Of all components of a stream the pair of the highest priority. */
  #bestOrdinary(lists: readonly Checklist[]): CandidatePair | undefined {
    let best: CandidatePair | undefined;
    for (const list of lists) {
      const pair = this.#nextOrdinary(list);
      if (pair !== undefined && (best === undefined || pair.compare(best) < 0)) best = pair;
    }
    return best;
  }

  /** Computes all priorities again: they depend on the role (RFC 8445 §7.3.1.1). */
  prioritize(role: IceRole): void {
    for (const list of this.lists) {
      for (const pair of list.pairs) pair.prioritize(role);
      list.sort();
    }
  }

  #nextOrdinary(list: Checklist): CandidatePair | undefined {
    if ((list.state !== "running" && !list.isExploring) || list.isHolding) return undefined;
    const waiting = list.pairs.find((pair) => pair.state === "waiting");
    if (waiting !== undefined) return waiting;
    // Step 2: nothing is waiting, so a frozen pair goes ahead if no other of its foundation is on its way.
    for (const pair of list.pairs) {
      if (pair.state === "frozen" && !this.#hasActive(pair.foundation)) pair.moveTo("waiting");
    }
    return list.pairs.find((pair) => pair.state === "waiting");
  }

  #hasActive(foundation: string): boolean {
    for (const pair of this.pairs()) {
      if ((pair.state === "waiting" || pair.state === "in-progress") && pair.foundation === foundation) return true;
    }
    return false;
  }

  #startsWaiting(pair: CandidatePair): boolean {
    let isTop = true;
    for (const other of this.pairs()) {
      if (other.foundation !== pair.foundation) continue;
      if (other.state === "succeeded") return true;
      // Streams that are alike have pairs of equal priority: exactly one starts.
      if ((other.component - pair.component || other.compare(pair)) <= 0) isTop = false;
    }
    return isTop;
  }

  /** A failed pair, else the worst that is not under way and worse than `than` (RFC 8838 §10). */
  #leastUseful(than: CandidatePair): CandidatePair | undefined {
    const longest = [...this.lists].sort((a, b) => b.pairs.length - a.pairs.length)[0]!;
    const backwards = [...longest.pairs].reverse();
    return backwards.find(({ state }) => state === "failed") ??
      backwards.find((pair) => (pair.state === "frozen" || pair.state === "waiting") && than.compare(pair) < 0);
  }
}
