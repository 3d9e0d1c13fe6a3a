import type { TransportAddress } from "./address.ts";
import { type ClientTransaction, DEFAULT_RTO } from "./transaction.ts";

/** RFC 8489 §6.2.1: what was learnt longer ago is discarded. */
const STALE_AFTER = 10 * 60_000;
/** RFC 6298 §2.5 allows an upper bound of 60 s or more. */
const MAX_RTO = 60_000;

/** What is known of the way to one server (RFC 6298 §2), in ms. */
interface Estimate {
  /** The smoothed round-trip time and its variation; `undefined` until a request was answered at once. */
  smoothed: number | undefined;
  variation: number;
  rto: number;
  lastAt: number;
}

/**
 * The retransmission timeouts that were learnt, by the server's IP address (RFC 8489 §6.2.1, RFC 6298).
 *
 * Pure: time comes from outside. Those who ask the same servers share one. A timeout is never below 500 ms, and what was
 * not used for 10 minutes is forgotten.
 *
 * @example A server that is slow to answer
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ClientTransaction, RtoCache, TransportAddress } from "@natkit/natkit/stun";
 *
 * const cache = new RtoCache();
 * const server = TransportAddress.parse("192.0.2.1:3478");
 * assertEquals(cache.rtoFor(server, 0), 500);
 * cache.handleAnswer(server, new ClientTransaction(new Uint8Array(20), 0), 400); // answered after 400 ms
 * assertEquals(cache.rtoFor(server, 400), 1200);
 * ```
 */
export class RtoCache {
  readonly #capacity: number;
  // In the order of use: what was not used for longest goes first.
  readonly #estimates = new Map<number | string, Estimate>();

  /**
   * A cache that knows nothing.
   *
   * @param options `capacity`: how many servers to remember. Default: 256.
   */
  constructor(options: { readonly capacity?: number } = {}) {
    this.#capacity = options.capacity ?? 256;
  }

  /** How many servers are remembered. */
  get size(): number {
    return this.#estimates.size;
  }

  /** The first RTO in ms for a request to this server that leaves at `now`. */
  rtoFor(server: TransportAddress, now: number): number {
    return this.#estimate(server, now)?.rto ?? DEFAULT_RTO;
  }

  /** Learns from a transaction that is answered now. One over TCP or TLS says nothing. */
  handleAnswer(server: TransportAddress, transaction: ClientTransaction, now: number): void {
    if (transaction.isReliable) return;
    const known = this.#estimate(server, now);
    const estimate = known ?? { smoothed: undefined, variation: 0, rto: DEFAULT_RTO, lastAt: now };
    if (transaction.sends === 1) sample(estimate, now - transaction.startedAt);
    // Karn's algorithm: no telling which of them was answered. The timeout stays where it has grown to, so that the next
    // request may be answered in time.
    else estimate.rto = Math.min(transaction.rto, MAX_RTO);
    estimate.lastAt = now;
    this.#estimates.delete(server.ipKey);
    this.#estimates.set(server.ipKey, estimate);
    if (this.#estimates.size > this.#capacity) this.#estimates.delete(this.#estimates.keys().next().value!);
  }

  #estimate({ ipKey }: TransportAddress, now: number): Estimate | undefined {
    const estimate = this.#estimates.get(ipKey);
    if (estimate === undefined || now - estimate.lastAt <= STALE_AFTER) return estimate;
    this.#estimates.delete(ipKey);
    return undefined;
  }
}

/** RFC 6298 §2.2, §2.3, with RFC 8489's lower bound and without rounding to seconds. */
function sample(estimate: Estimate, rtt: number): void {
  const { smoothed, variation } = estimate;
  estimate.variation = smoothed === undefined ? rtt / 2 : 0.75 * variation + 0.25 * Math.abs(smoothed - rtt);
  estimate.smoothed = smoothed === undefined ? rtt : 0.875 * smoothed + 0.125 * rtt;
  estimate.rto = Math.min(Math.max(Math.ceil(estimate.smoothed + 4 * estimate.variation), DEFAULT_RTO), MAX_RTO);
}
