import type { Random } from "../stun/machine.ts";
import { randomFraction } from "../stun/random.ts";

/** Consent lasts this long after the latest valid answer, in ms (RFC 7675 §5.1). */
export const CONSENT_EXPIRY = 30_000;
const PERIOD = 5000;
// A timer that comes this late was not late because of load: the computer slept.
const SLEPT = 5000;

/**
 * The consent to send on one pair (RFC 7675): when to ask again, when the peer has gone silent, and when it is over.
 *
 * Pure: its owner asks when `handleTimeout()` says so.
 */
export class Consent {
  /** When `handleTimeout()` is due. */
  deadline: number;
  #maySend = true;
  #askAt: number;
  #silentAt = Infinity;
  #expiresAt: number;
  #unanswered = 0;

  /**
   * @param now The owner's time in ms.
   * @param answeredAt When the latest valid answer came.
   * @param random Spreads the requests.
   */
  constructor(now: number, answeredAt: number, random: Random) {
    this.#askAt = now + interval(random);
    this.#expiresAt = answeredAt + CONSENT_EXPIRY;
    this.deadline = this.#earliest();
  }

  /** Whether data may be sent. Not so after a sleep of the computer, until the peer has answered again. */
  maySend(now: number): boolean {
    return this.#maySend && now < this.#expiresAt;
  }

  /** What to do at `now`: send a request, take the peer for silent, or stop for good. */
  handleTimeout(now: number, random: Random): "ask" | "silent" | "expired" | "wait" {
    if (now < this.deadline) return "wait";
    if (now - this.deadline > SLEPT) {
      // Whether the peer still wants our data is not known; it gets one chance to say so, and no data before that.
      this.#maySend = false;
      this.#expiresAt = now + PERIOD;
      this.#askAt = now;
    }
    if (now >= this.#expiresAt) {
      this.#maySend = false;
      this.deadline = Infinity;
      return "expired";
    }
    if (now >= this.#silentAt) {
      this.#silentAt = Infinity;
      this.deadline = this.#earliest();
      return "silent";
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
    this.#maySend = true;
    this.#unanswered = 0;
    this.#silentAt = Infinity;
    this.#expiresAt = now + CONSENT_EXPIRY;
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
