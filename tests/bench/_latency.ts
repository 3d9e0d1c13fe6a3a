// Buckets of 5 % from 1 us on.
const GROWTH = Math.log(1.05);
const BUCKETS = 400;

/** Latencies in milliseconds, counted in buckets that are 5 % wide. */
export class LatencyHistogram {
  #counts = new Float64Array(BUCKETS);
  #total = 0;

  /** Counts one. */
  add(milliseconds: number): void {
    const bucket = milliseconds <= 0.001 ? 0 : Math.log(milliseconds * 1000) / GROWTH;
    this.#counts[Math.min(BUCKETS - 1, Math.trunc(bucket))]!++;
    this.#total++;
  }

  /** Forgets all. */
  clear(): void {
    this.#counts.fill(0);
    this.#total = 0;
  }

  /** The latency in milliseconds that this part of all does not exceed, to about 5 %; 0 when nothing was counted. */
  quantile(part: number): number {
    let left = this.#total * part;
    for (let i = 0; i < BUCKETS; i++) {
      left -= this.#counts[i]!;
      if (left < 0) return Number((Math.exp((i + 1) * GROWTH) / 1000).toPrecision(3));
    }
    return 0;
  }
}
