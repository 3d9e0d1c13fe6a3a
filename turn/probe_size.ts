/**
 * Sizes that tell much, tried before anything between: what passes nearly everywhere, what needs fragments on Ethernet, what
 * fits a large frame. Larger ones follow one by one, as there are servers whose connections stall when one is too large.
 */
const LANDMARKS: readonly (readonly number[])[] = [[1200, 1500, 8000], [16_000], [32_000]];
/** Sizes that are tried at a time. */
const AT_A_TIME = 7;

/** The search for the largest size that passes: which sizes to try next, some at a time. */
export class SizeSearch {
  #passed = 0;
  #failed: number;
  #landmarks: (readonly number[])[];

  /** A search from 0 to `max` bytes. */
  constructor(max: number) {
    this.#failed = max + 1;
    const below = LANDMARKS.map((sizes) => sizes.filter((size) => size < max));
    this.#landmarks = [...below.filter((sizes) => sizes.length > 0), [max]];
  }

  /** The largest size that passed so far; 0 if none did. */
  get largest(): number {
    return this.#passed;
  }

  /** The sizes to try, smallest first; none when the answer is known. */
  get next(): readonly number[] {
    if (this.#landmarks.length > 0) return this.#landmarks[0]!;
    const gap = this.#failed - this.#passed;
    const count = Math.min(AT_A_TIME, gap - 1);
    return Array.from({ length: count }, (_, i) => this.#passed + Math.floor(gap * (i + 1) / (count + 1)));
  }

  /**
   * What came of the sizes of `next`.
   *
   * @param passed Those that passed. What is smaller than one of them is taken to pass too.
   */
  handle(passed: ReadonlySet<number>): void {
    const tried = this.next;
    this.#passed = Math.max(this.#passed, ...passed);
    this.#failed = Math.min(this.#failed, ...tried.filter((size) => size > this.#passed));
    // Beyond what failed there is nothing to look for.
    this.#landmarks = passed.size === tried.length ? this.#landmarks.slice(1) : [];
  }
}
