/** How many messages may leave at a time, and how many a second in the long run. */
const BURST = 50;
const PER_SECOND = 10;

/** What all names together may send, so that nobody can have a network flooded by us. */
export class Budget {
  #left = BURST;
  #at = -Infinity;

  /** Takes so many messages out of it, if there are. */
  take(count: number, now: number): boolean {
    if (this.#at !== -Infinity) this.#left = Math.min(BURST, this.#left + (now - this.#at) / 1000 * PER_SECOND);
    this.#at = now;
    if (this.#left < count) return false;
    this.#left -= count;
    return true;
  }

  /** When there will be so many, after `take()` has refused them. */
  nextAt(count: number): number {
    return this.#at + Math.ceil((Math.min(count, BURST) - this.#left) / PER_SECOND * 1000);
  }
}
