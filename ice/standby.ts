import type { MachineIo, Random } from "../stun/machine.ts";
import { randomFraction } from "../stun/random.ts";
import type { LocalCandidate, RemoteCandidate } from "./candidate.ts";
import { CONSENT_EXPIRY } from "./consent.ts";
import type { IceEvent } from "./events.ts";
import type { CandidatePair } from "./pair.ts";

type Io = MachineIo<IceEvent>;

/** How often a pair is checked to keep it warm, in ms, 0.8 to 1.2 times: consent to it outlives a lost check. */
export const KEEP_WARM = 12_000;
/** The same where paths are compared by measurements. */
export const MEASURE = 5000;
/** How often a pair that went silent is asked whether it is back, in ms. */
const ASK_BACK = 2500;
/** So many checks in a row without an answer, and a pair is taken for silent. */
const UNANSWERED = 3;
/** The time for an answer before the next check, in ms, at least and at most. */
const SHORTEST_WAIT = 500;
const LONGEST_WAIT = 3000;

/** How often it is looked whether the peer's data has stopped, in ms; and how much of it makes a flow. */
const LOOK = 1000;
const FLOW = 5;

/** A pair under watch. */
interface Watch {
  readonly pair: CandidatePair;
  /** When something is due: the next check, or the judgement that there is no answer. */
  at: number;
  /** Checks in a row without an answer. */
  unanswered: number;
}

/** What is done about the pairs under watch. */
export interface StandbyOwner {
  /** Checks a pair. */
  probe(pair: CandidatePair, io: Io): void;
  /** A pair does not answer any more. */
  silent(pair: CandidatePair, io: Io): void;
  /** A pair has not answered for 30 s: its consent is over for good (RFC 7675 §5.1). */
  expired(pair: CandidatePair, io: Io): void;
}

/**
 * The pairs that take over when the one in use goes silent. Each is checked every 12 s or so, which keeps the bindings of
 * the NATs and the peer's consent, and shows its round trip and loss. And the one in use is watched more closely: as soon
 * as one of its requests for consent is not answered in time, two more follow, and then it is taken for silent. When a
 * flow of data from the peer stops, it is asked at once: that shows a cut path sooner, and costs a check when it pauses.
 */
export class Standby {
  #owner: StandbyOwner;
  #limit: number;
  #period: number;
  #watches: Watch[] = [];
  #selected: Watch | undefined;
  /** When to look at the peer's data again; how many datagrams there were then, and how many in the second before. */
  #lookAt = Infinity;
  #received = 0;
  #flow = 0;

  /**
   * Nothing is watched yet.
   *
   * @param owner Does what is to be done.
   * @param limit How many pairs are kept warm.
   * @param period How often, in ms.
   */
  constructor(owner: StandbyOwner, limit: number, period: number) {
    this.#owner = owner;
    this.#limit = limit;
    this.#period = period;
  }

  /** When `handleTimeout()` is due. */
  get deadline(): number {
    let deadline = Math.min(this.#selected?.at ?? Infinity, this.#lookAt);
    for (const { at } of this.#watches) if (at < deadline) deadline = at;
    return deadline;
  }

  /** The pairs that are kept warm, and those that are asked whether they are back. */
  get pairs(): CandidatePair[] {
    return this.#watches.map(({ pair }) => pair);
  }

  /** Chooses what to keep warm of these valid pairs, best first, now that this one is in use. */
  update(selected: CandidatePair | undefined, pairs: readonly CandidatePair[], now: number, random: Random): void {
    if (this.#selected?.pair !== selected) {
      this.#selected = selected === undefined ? undefined : { pair: selected, at: Infinity, unanswered: 0 };
      this.#lookAt = Infinity;
    }
    if (selected === undefined || this.#limit === 0) {
      this.#watches = [];
      return;
    }
    const back = pairs.filter((pair) => pair !== selected && pair.isValid && pair.isSilent);
    const wanted = [...chooseStandby(pairs, selected, this.#limit), ...back];
    this.#watches = wanted.map((pair) => {
      const known = this.#watches.find((watch) => watch.pair === pair);
      return known ?? { pair, at: Math.max(now, pair.answeredAt + this.#interval(random)), unanswered: 0 };
    });
  }

  /** A request for consent left along the pair in use. */
  handleAsked(now: number): void {
    const watch = this.#selected;
    // Without a pair to go over to there is nothing to hurry for.
    if (watch === undefined || watch.at !== Infinity || !this.#hasOther) return;
    watch.unanswered = 1;
    watch.at = now + waitFor(watch.pair);
  }

  /** An answer came along a pair. */
  handleAnswer(pair: CandidatePair, now: number, random: Random): void {
    if (pair === this.#selected?.pair) {
      this.#selected.at = Infinity;
      if (this.#lookAt === Infinity && this.#hasOther) this.#look(now, 0);
      return;
    }
    const watch = this.#watches.find((one) => one.pair === pair);
    if (watch === undefined) return;
    watch.unanswered = 0;
    watch.at = now + this.#interval(random);
  }

  /** Checks what is to be checked, and tells what does not answer. */
  handleTimeout(io: Io): void {
    if (io.now >= this.#lookAt) this.#handleLook(io);
    const watches = this.#selected === undefined ? [...this.#watches] : [this.#selected, ...this.#watches];
    for (const watch of watches) if (watch.at <= io.now) this.#handleDue(watch, io);
  }

  /** Watches nothing any more. */
  stop(): void {
    this.#lookAt = Infinity;
    this.#watches = [];
    this.#selected = undefined;
  }

  /** Whether there is a pair to go over to. */
  get #hasOther(): boolean {
    return this.#watches.some(({ pair }) => !pair.isSilent);
  }

  #look(now: number, flow: number): void {
    this.#received = this.#selected!.pair.counters.packetsReceived;
    this.#flow = flow;
    this.#lookAt = now + LOOK;
  }

  #handleLook(io: Io): void {
    const watch = this.#selected!;
    const count = watch.pair.counters.packetsReceived - this.#received;
    // Without a flow there is nothing to see; the next answer begins anew.
    this.#lookAt = Infinity;
    if (count >= FLOW) this.#look(io.now, count);
    else if (count === 0 && this.#flow > 0 && watch.at === Infinity && this.#hasOther) {
      watch.unanswered = 0;
      this.#handleDue(watch, io);
    }
  }

  #handleDue(watch: Watch, io: Io): void {
    const { pair } = watch;
    if (pair.isSilent && io.now >= pair.answeredAt + CONSENT_EXPIRY) {
      watch.at = Infinity;
      return this.#owner.expired(pair, io);
    }
    if (watch.unanswered >= UNANSWERED && !pair.isSilent) {
      watch.at = watch === this.#selected ? Infinity : io.now + ASK_BACK;
      return this.#owner.silent(pair, io);
    }
    watch.unanswered++;
    watch.at = io.now + (pair.isSilent ? ASK_BACK : waitFor(pair));
    this.#owner.probe(pair, io);
  }

  /** 0.8 to 1.2 times the period, as for consent (RFC 7675 §5.1): so that the pairs are not checked in step. */
  #interval(random: Random): number {
    return this.#period * (0.8 + 0.4 * randomFraction(random));
  }
}

/** How long an answer may take. */
function waitFor({ rtt = LONGEST_WAIT, jitter }: CandidatePair): number {
  return Math.min(LONGEST_WAIT, Math.max(SHORTEST_WAIT, 2 * rtt + 4 * jitter));
}

/**
 * The best pairs besides the one in use: first one that shares no end with it, if there is one, and as the last of several
 * a relayed one, which goes on when the direct ways are cut. More relays are not kept for it. Another port of the same way
 * is none.
 *
 * @param pairs Those that are valid, best first.
 */
export function chooseStandby(
  pairs: readonly CandidatePair[],
  selected: CandidatePair,
  limit: number,
): CandidatePair[] {
  const others = pairs.filter((pair) =>
    pair !== selected && pair.isValid && !pair.isSilent && relaysOf(pair) <= Math.max(1, relaysOf(selected)) &&
    sharedEnds(pair, selected) < 2
  );
  const direct = others.filter((pair) => !pair.isRelayed);
  const apart = direct.find((pair) => sharedEnds(pair, selected) === 0);
  const wanted = apart === undefined ? direct : [apart, ...direct.filter((pair) => pair !== apart)];
  const relayed = others.find((pair) => pair.isRelayed);
  if (relayed === undefined || (limit === 1 && wanted.length > 0)) return wanted.slice(0, limit);
  return [...wanted.slice(0, limit - 1), relayed].slice(0, limit);
}

/** How many ends of two pairs are at the same interface, or relay: 0 to 2. */
function sharedEnds({ base, remote }: CandidatePair, other: CandidatePair): number {
  return Number(isSameWay(base.candidate, other.base.candidate)) + Number(isSameWay(remote, other.remote));
}

function isSameWay(one: LocalCandidate | RemoteCandidate, other: LocalCandidate | RemoteCandidate): boolean {
  return one.address.ipKey === other.address.ipKey && (one.type === "relay") === (other.type === "relay");
}

/** How many relays a pair goes through. */
function relaysOf({ base, remote }: CandidatePair): number {
  return Number(base.candidate.type === "relay") + Number(remote.type === "relay");
}
