import type { MachineIo } from "../stun/machine.ts";
import { Consent } from "./consent.ts";
import type { IceEvent } from "./events.ts";
import type { CandidatePair } from "./pair.ts";

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
  /** Sets a pair to Failed. */
  fail(pair: CandidatePair, io: Io): void;
  /** Is told that another pair is selected, or none. */
  changed(io: Io): void;
}

/**
 * The pair that data goes along, and the peer's consent to that (RFC 8445 §12.1, RFC 7675): the nominated pair; before
 * any, the best valid one.
 */
export class Selection {
  #owner: SelectionOwner;
  #pair: CandidatePair | undefined;
  #consent: Consent | undefined;
  #lost: string | undefined;

  /** @param owner Has the pairs, and does what is to be done with them. */
  constructor(owner: SelectionOwner) {
    this.#owner = owner;
  }

  /** The pair. */
  get pair(): CandidatePair | undefined {
    return this.#pair;
  }

  /** Why nothing may be sent any more with these credentials; `undefined` as long as it may. */
  get lost(): string | undefined {
    return this.#lost;
  }

  /** When `handleTimeout()` is due. */
  get deadline(): number {
    return this.#consent === undefined ? Infinity : this.#consent.deadline;
  }

  /** The pair, if data may be sent on it now. */
  usable(now: number): CandidatePair | undefined {
    if (this.#consent === undefined && this.#owner.consent !== "never") return undefined;
    return this.#consent?.maySend(now) === false ? undefined : this.#pair;
  }

  /** Selects again, after a pair has become valid, was nominated or has failed. */
  update(io: Io): void {
    if (this.#lost !== undefined) return;
    const valid = this.#owner.pairs.filter((pair) => pair.isValid);
    const nominated = valid.filter((pair) => pair.nominated);
    const candidates = nominated.length > 0 ? nominated : valid;
    // RFC 8445 §8.1.1: of several nominated ones the best. One that has gone silent gives way to another.
    this.#select(candidates.find((pair) => !pair.isSilent) ?? candidates[0], io);
  }

  /** An authenticated answer came along a pair. */
  handleAnswer(pair: CandidatePair, now: number): void {
    if (pair === this.#pair) this.#consent?.handleAnswer(now);
  }

  /** Asks for consent at once. */
  checkConsent(io: Io): void {
    this.#consent?.askNow(io.now);
    this.handleTimeout(io);
  }

  /** Asks for consent, and gives up a pair that has none any more. */
  handleTimeout(io: Io): void {
    while (this.#consent !== undefined) {
      const pair = this.#pair!;
      const step = this.#consent.handleTimeout(io.now, io.random);
      if (step === "wait") return;
      if (step === "ask") this.#owner.askConsent(pair, io);
      else if (step === "silent") {
        pair.isSilent = true;
        this.update(io);
      } else this.lose(pair, "The peer has not answered for 30 s, so that its consent has expired", io);
    }
  }

  /** The consent to a pair is over. With a nominated pair, so is all (RFC 7675 §5.1). */
  lose(pair: CandidatePair, reason: string, io: Io): void {
    if (pair === this.#pair && pair.nominated) this.#lost = reason;
    this.#owner.fail(pair, io);
    if (this.#lost !== undefined) this.#select(undefined, io);
  }

  /** Nothing is selected any more: the agent is closed, or another generation has taken over. */
  clear(io: Io): void {
    this.#select(undefined, io);
  }

  #select(pair: CandidatePair | undefined, io: Io): void {
    if (pair === this.#pair) return;
    this.#pair = pair;
    const { consent } = this.#owner;
    this.#consent = pair === undefined || consent === "never"
      ? undefined
      : new Consent(io.now, pair.answeredAt, io.random, consent === "asking");
    this.#owner.changed(io);
  }
}
