/**
 * Sizes that tell much, tried before anything between: all that a channel can carry, what passes nearly everywhere, and
 * what needs fragments on Ethernet.
 */
const LANDMARKS: readonly number[] = [1200, 1500];

/** The search for the largest size that passes: which one to try next, by bisection. */
export class SizeSearch {
  #passed = 0;
  #failed: number;
  #first: number[];

  /** A search from 0 to `max` bytes. */
  constructor(max: number) {
    this.#failed = max + 1;
    this.#first = [max, ...LANDMARKS.filter((size) => size < max)];
  }

  /** The largest size that passed so far; 0 if none did. */
  get largest(): number {
    return this.#passed;
  }

  /** The size to try; `undefined` when the answer is known. */
  get next(): number | undefined {
    const landmark = this.#first.find((size) => size > this.#passed && size < this.#failed);
    if (landmark !== undefined) return landmark;
    return this.#failed - this.#passed > 1 ? (this.#passed + this.#failed) >> 1 : undefined;
  }

  /** What came of a size. Larger ones than one that failed are taken to fail too, and the reverse. */
  handle(size: number, hasPassed: boolean): void {
    if (hasPassed) this.#passed = Math.max(this.#passed, size);
    else this.#failed = Math.min(this.#failed, size);
  }
}
