import type { Random } from "../stun/machine.ts";
import { randomFraction } from "../stun/random.ts";

/** Consent lasts this long after the latest valid answer, in ms (RFC 7675 §5.1). */
export const CONSENT_EXPIRY = 30_000;
const PERIOD = 5000;
/** Requests are never closer than that (RFC 7675 §5.1). */
const SHORTEST = 4000;
// A timer that comes this late was not late because of load: the computer slept.
const SLEPT = 5000;

/**
 * The consent to send on the pair in use (RFC 7675): when to ask again, when the peer has gone silent, and when it is over.
 *
 * A pair that was not in use for a while has no consent that was kept up. It is asked for at once, data waits if the
 * latest answer is more than 30 s old, and it is given up when there is no answer in another 30 s.
 *
 * Pure: its owner asks when `handleTimeout()` says so.
 */
export class Consent {
  /** When `handleTimeout()` is due. */
  deadline: number;
  #askAt: number;
  #silentAt = Infinity;
  #sendUntil: number;
  #expiresAt: number;
  #unanswered = 0;
  #asks: boolean;

  /**
   * @param now When the pair came into use.
   * @param answeredAt When the latest valid answer came.
   * @param random Spreads the requests.
   * @param asks Whether to ask. A lite agent does not (RFC 7675 §1); it takes the peer's checks for answers.
   */
  constructor(now: number, answeredAt: number, random: Random, asks = true) {
    this.#askAt = !asks ? Infinity : now - answeredAt < SHORTEST ? now + interval(random) : now;
    this.#asks = asks;
    this.#sendUntil = answeredAt + CONSENT_EXPIRY;
    this.#expiresAt = now + CONSENT_EXPIRY;
    this.deadline = this.#earliest();
  }

  /** Whether data may be sent: the latest answer is not older than 30 s. */
  maySend(now: number): boolean {
    return now < this.#sendUntil;
  }

  /** Asks at once, and allows the time for an answer, as when the computer has slept and no clock has told so. */
  askNow(now: number): void {
    if (!this.#asks || this.deadline === Infinity) return;
    this.#askAt = now;
    this.#expiresAt = Math.max(this.#expiresAt, now + PERIOD);
    this.deadline = this.#earliest();
  }

  /** What to do at `now`: send a request, take the peer for silent, or stop for good. */
  handleTimeout(now: number, random: Random): "ask" | "silent" | "expired" | "wait" {
    if (now < this.deadline) return "wait";
    if (now - this.deadline > SLEPT) {
      // Whether the peer still wants our data is not known; it gets one chance to say so, and no data before that.
      this.#sendUntil = -Infinity;
      this.#expiresAt = now + PERIOD;
      this.#askAt = this.#asks ? now : Infinity;
    }
    if (now >= this.#expiresAt) {
      this.#sendUntil = -Infinity;
      this.deadline = Infinity;
      return "expired";
    }
    if (now >= this.#silentAt) {
      this.#silentAt = Infinity;
      this.deadline = this.#earliest();
      return "silent";
    }
    if (now < this.#askAt) {
      this.deadline = this.#earliest();
      return "wait";
    }
    this.#unanswered++;
    this.#askAt = now + interval(random);
    // One request in a row may be lost; after the second the path is in doubt.
    if (this.#unanswered === 2) this.#silentAt = now + 1000;
    this.deadline = this.#earliest();
    return "ask";
  }

  /** A valid, authenticated answer came. */
  handleAnswer(now: number): void {
    this.#unanswered = 0;
    this.#silentAt = Infinity;
    this.#sendUntil = this.#expiresAt = now + CONSENT_EXPIRY;
    this.deadline = this.#earliest();
  }

  #earliest(): number {
    return Math.min(this.#askAt, this.#silentAt, this.#expiresAt);
  }
}

/** 0.8 to 1.2 times 5 s, never below 4 s (RFC 7675 §5.1). */
function interval(random: Random): number {
  return PERIOD * (0.8 + 0.4 * randomFraction(random));
}
