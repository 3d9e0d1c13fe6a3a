import type { MachineIo } from "../stun/machine.ts";
import { Consent, CONSENT_EXPIRY } from "./consent.ts";
import type { IceEvent } from "./events.ts";
import type { CandidatePair } from "./pair.ts";
import { inOrder, PathJudge, type PathPolicy } from "./path_policy.ts";
import { KEEP_WARM, MEASURE, Standby } from "./standby.ts";

type Io = MachineIo<IceEvent>;

/** What the selection needs of the agent. */
export interface SelectionOwner {
  /** All pairs, best first. */
  readonly pairs: readonly CandidatePair[];
  /**
   * How consent to send on a pair is known: by `"asking"`, or for a lite agent by `"hearing"` the peer's checks, or, as two
   * lite agents send none, `"never"`.
   */
  readonly consent: "asking" | "hearing" | "never";
  /** Asks the peer for consent along a pair. */
  askConsent(pair: CandidatePair, io: Io): void;
  /** Whether this agent nominates. */
  readonly isControlling: boolean;
  /** Whether a pair was nominated before. */
  readonly isConcluded: boolean;
  /** Whether the peer checks pairs itself: a lite one does not. */
  readonly isPeerChecking: boolean;
  /** Checks a pair that is not in use. */
  probe(pair: CandidatePair, io: Io): void;
  /**
   * Nominates another pair than before.
   *
   * @param why `"silent"`: the one in use does not answer; `"better"`: another is; `"chosen"`: the application says so.
   * @returns Whether the peer may be told so.
   */
  renominate(pair: CandidatePair, why: "silent" | "better" | "chosen"): boolean;
  /** Sets a pair to Failed. */
  fail(pair: CandidatePair, io: Io): void;
  /** Is told that another pair is selected, or none. */
  changed(io: Io): void;
}

/** Which path to use, and how many others to keep warm. */
export interface SelectionOptions {
  /** See `PathPolicy`. */
  readonly policy: PathPolicy;
  /** How many pairs to keep warm. */
  readonly standby: number;
}

/**
 * The pair that data goes along, and the peer's consent to that (RFC 8445 §12.1, RFC 7675): the nominated pair; before
 * any, the best valid one. When it goes silent, one that was kept warm takes over at once, whether this side controls or
 * not; the controlling side nominates it as well. And the controlling side goes over to a better one, by its policy.
 */
export class Selection {
  #owner: SelectionOwner;
  #pair: CandidatePair | undefined;
  #consent: Consent | undefined;
  #lost: string | undefined;
  #standby: Standby;
  #judge: PathJudge;
  /** The application's choice. */
  #pinned: CandidatePair | undefined;

  /**
   * Nothing is selected yet.
   *
   * @param owner Has the pairs, and does what is to be done with them.
   * @param options Which path to use.
   */
  constructor(owner: SelectionOwner, { policy, standby }: SelectionOptions) {
    this.#owner = owner;
    this.#judge = new PathJudge(policy);
    const period = policy === "first" || policy === "priority" ? KEEP_WARM : MEASURE;
    this.#standby = new Standby(
      {
        probe: (pair, io) => owner.probe(pair, io),
        silent: (pair, io) => {
          pair.isSilent = true;
          this.update(io);
        },
        expired: (pair, io) => owner.fail(pair, io),
      },
      policy === "first" ? 0 : standby,
      period,
    );
  }

  /** The pair. */
  get pair(): CandidatePair | undefined {
    return this.#pair;
  }

  /** The pairs that are kept warm, to take over. */
  get standby(): CandidatePair[] {
    return this.#standby.pairs;
  }

  /** Whether the pair is the one that was chosen: by nomination, or by the application. */
  get isSettled(): boolean {
    return this.#pair !== undefined && (this.#pair.nominated || this.#pair === this.#pinned);
  }

  /** Why nothing may be sent any more with these credentials; `undefined` as long as it may. */
  get lost(): string | undefined {
    return this.#lost;
  }

  /** When `handleTimeout()` is due. */
  get deadline(): number {
    return Math.min(this.#consent?.deadline ?? Infinity, this.#standby.deadline);
  }

  /** The pair, if data may be sent on it now. */
  usable(now: number): CandidatePair | undefined {
    if (this.#consent === undefined && this.#owner.consent !== "never") return undefined;
    return this.#consent?.maySend(now) === false ? undefined : this.#pair;
  }

  /** Selects again, after a pair has become valid, was nominated, has gone silent, has answered again or has failed. */
  update(io: Io): void {
    if (this.#lost !== undefined) return;
    const valid = this.#owner.pairs.filter((pair) => pair.isValid);
    this.#select(this.#choose(valid, io), io);
    if (this.#owner.consent !== "asking" || !valid.some(({ nominated }) => nominated)) return;
    this.#standby.update(this.#pair, inOrder(this.#judge.policy, valid), io.now, io.random);
  }

  /**
   * The application's choice of a pair, good as long as it answers: data goes along it at once, and the controlling side
   * nominates it. `undefined` leaves the choice to the policy again.
   *
   * @returns Whether it can be used: it is valid, and the peer has answered on it within 30 s.
   */
  choose(pair: CandidatePair | undefined, io: Io): boolean {
    if (this.#lost !== undefined) return false;
    if (pair !== undefined && !this.#fresh(this.#owner.pairs, io.now).includes(pair)) return false;
    this.#pinned = pair;
    if (pair !== undefined && this.#owner.isControlling) this.#owner.renominate(pair, "chosen");
    this.update(io);
    return true;
  }

  /** An authenticated answer came along a pair. */
  handleAnswer(pair: CandidatePair, io: Io): void {
    this.#standby.handleAnswer(pair, io.now, io.random);
    if (pair === this.#pair) this.#consent?.handleAnswer(io.now);
    this.#judgePaths(io);
  }

  /** Asks for consent at once. */
  checkConsent(io: Io): void {
    this.#consent?.askNow(io.now);
    this.handleTimeout(io);
  }

  /** Asks for consent, keeps other pairs warm, and gives up a pair that has no consent any more. */
  handleTimeout(io: Io): void {
    this.#standby.handleTimeout(io);
    while (this.#consent !== undefined) {
      const pair = this.#pair!;
      const step = this.#consent.handleTimeout(io.now, io.random);
      if (step === "wait") return;
      if (step === "ask") {
        this.#owner.askConsent(pair, io);
        this.#standby.handleAsked(io.now);
      } else if (step === "silent") {
        pair.isSilent = true;
        this.update(io);
      } else this.lose(pair, "The peer has not answered for 30 s, so that its consent has expired", io);
    }
  }

  /** The consent to a pair is over. With a nominated pair, so is all (RFC 7675 §5.1), unless another takes over. */
  lose(pair: CandidatePair, reason: string, io: Io): void {
    if (this.#standbyFor(pair, io.now) !== undefined) {
      pair.isSilent = true;
      this.update(io);
    } else if (pair === this.#pair && pair.nominated) this.#lost = reason;
    this.#owner.fail(pair, io);
    if (this.#lost !== undefined) this.#select(undefined, io);
  }

  /** Nothing is selected any more: the agent is closed, or another generation has taken over. */
  clear(io: Io): void {
    this.#select(undefined, io);
  }

  /** The pair to use of those that are valid, best first. */
  #choose(valid: readonly CandidatePair[], io: Io): CandidatePair | undefined {
    if (this.#pinned !== undefined && (!valid.includes(this.#pinned) || this.#pinned.isSilent)) {
      this.#pinned = undefined;
    }
    if (this.#pinned !== undefined) return this.#pinned;
    const nominated = valid.filter((pair) => pair.nominated);
    // One that has gone silent gives way to another.
    const { isConcluded, isControlling, isPeerChecking } = this.#owner;
    if (nominated.length === 0 && (!isConcluded || this.#judge.policy === "first")) {
      return valid.find((pair) => !pair.isSilent) ?? valid[0];
    }
    const working = nominated.filter((pair) => !pair.isSilent).sort((a, b) => a.compareNomination(b));
    // What the peer has not checked itself it may not take data from yet: the one before goes on until then.
    const choice = working.find(({ heard }) => heard || !isPeerChecking) ?? working[0];
    if (choice !== undefined) return choice;
    const substitute = this.#standbyFor(undefined, io.now) ?? (nominated.length === 0 ? valid[0] : undefined);
    if (substitute === undefined) return nominated[0];
    if (isControlling && !substitute.nominating) this.#owner.renominate(substitute, "silent");
    return substitute;
  }

  /** What can take over from a pair at once: the best that was kept warm. */
  #standbyFor(pair: CandidatePair | undefined, now: number): CandidatePair | undefined {
    const others = this.#fresh(this.#standby.pairs, now).filter((other) => other !== pair);
    return inOrder(this.#judge.policy, others)[0];
  }

  /** Those that work, and have answered while consent lasts. */
  #fresh(pairs: readonly CandidatePair[], now: number): CandidatePair[] {
    return pairs.filter((pair) => pair.isValid && !pair.isSilent && now - pair.answeredAt < CONSENT_EXPIRY);
  }

  /** Goes over to a better path, if there is one for a while: the peer is told, and data follows when it has agreed. */
  #judgePaths(io: Io): void {
    const pair = this.#pair;
    if (pair?.nominated !== true || !this.#owner.isControlling || this.#pinned !== undefined) return;
    if (this.#owner.pairs.some(({ nominating }) => nominating)) return;
    const better = this.#judge.evaluate(this.#fresh(this.#owner.pairs, io.now), pair, io.now);
    if (better !== undefined) this.#owner.renominate(better, "better");
  }

  #select(pair: CandidatePair | undefined, io: Io): void {
    if (pair === undefined) this.#standby.stop();
    if (pair === this.#pair) return;
    this.#pair = pair;
    const { consent } = this.#owner;
    this.#consent = pair === undefined || consent === "never"
      ? undefined
      : new Consent(io.now, pair.answeredAt, io.random, consent === "asking");
    this.#owner.changed(io);
  }
}
