/** How many of the latest checks the loss is counted over. */
const WINDOW = 32;
/** How many of the latest round trips `recent` is about. */
const RECENT = 8;

/**
 * What checks have shown of a path: round trip, jitter, loss. Measured are checks that were sent once, since of a repeated
 * one nobody knows which transmission was answered (Karn's algorithm, RFC 8489 §6.2.1).
 */
export class PathQuality {
  #rtt: number | undefined;
  #jitter = 0;
  #samples = 0;
  #total = 0;
  /** The latest checks, newest in the lowest bit: 1 is lost. */
  #lost = 0;
  #checks = 0;
  #recent: number[] = [];

  /** The round trip in ms, smoothed as RFC 6298 §2 does; `undefined` before the first measurement. */
  get rtt(): number | undefined {
    return this.#rtt;
  }

  /** How much the round trip varies, in ms: its mean deviation, smoothed as RFC 6298 §2 does, from 0. */
  get jitter(): number {
    return this.#jitter;
  }

  /** The share of the latest 32 checks, 0 to 1, that were not answered in time. */
  get loss(): number {
    let lost = 0;
    for (let bits = this.#lost; bits !== 0; bits &= bits - 1) lost++;
    return this.#checks === 0 ? 0 : lost / this.#checks;
  }

  /** How many round trips were measured. */
  get samples(): number {
    return this.#samples;
  }

  /** The sum of all measured round trips in ms. */
  get total(): number {
    return this.#total;
  }

  /**
   * The mean of the latest 8 round trips in ms, and their mean deviation from it, the largest of 3 or more left out: one
   * that was held up somewhere says nothing about the path. `undefined` before the first measurement.
   */
  get recent(): { readonly rtt: number; readonly jitter: number } | undefined {
    const all = [...this.#recent].sort((a, b) => a - b);
    if (all.length > 2) all.pop();
    if (all.length === 0) return undefined;
    const rtt = mean(all);
    return { rtt, jitter: mean(all.map((one) => Math.abs(one - rtt))) };
  }

  /** A check was answered after `rtt` ms. */
  answered(rtt: number): void {
    if (this.#rtt === undefined) this.#rtt = rtt;
    else {
      this.#jitter += (Math.abs(this.#rtt - rtt) - this.#jitter) / 4;
      this.#rtt += (rtt - this.#rtt) / 8;
    }
    this.#samples++;
    this.#total += rtt;
    if (this.#recent.push(rtt) > RECENT) this.#recent.shift();
    this.#count(0);
  }

  /** A check was not answered in time. */
  unanswered(): void {
    this.#count(1);
  }

  /** Forgets the losses: before both sides' NATs have let a check through, they say nothing about the path. */
  forgetLosses(): void {
    this.#lost = this.#checks = 0;
  }

  #count(lost: 0 | 1): void {
    this.#lost = (this.#lost << 1) | lost;
    this.#checks = Math.min(this.#checks + 1, WINDOW);
  }
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
