import type { RoundTrips, TrafficReport } from "./probe_report.ts";

/** Bytes that each datagram begins with: the stream's number and its own. */
export const PROBE_HEADER = 8;

/** A stream of numbered datagrams: what was sent, what of it came, in which order and after which time. */
export class ProbeTraffic {
  readonly #stream: number;
  readonly #size: number;
  #sentAt: number[] = [];
  #times: (number | undefined)[] = [];
  #received = 0;
  #duplicated = 0;
  #reordered = 0;
  #corrupted = 0;
  #highest = -1;

  /**
   * A stream of which nothing is sent yet.
   *
   * @param stream What tells it from other streams: 32 bits.
   * @param size Bytes of each datagram, at least `PROBE_HEADER`.
   */
  constructor(stream: number, size: number) {
    this.#stream = stream;
    this.#size = size;
  }

  /** How many were sent. */
  get sent(): number {
    return this.#sentAt.length;
  }

  /** How many of them came. */
  get received(): number {
    return this.#received;
  }

  /** The next datagram, which leaves now. */
  next(now: number): Uint8Array {
    const bytes = datagram(this.#stream, this.#sentAt.length, this.#size);
    this.#sentAt.push(now);
    return bytes;
  }

  /** Takes a datagram that came. Gives whether it is of this stream. */
  handle(bytes: Uint8Array, now: number): boolean {
    if (bytes.length < PROBE_HEADER) return false;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const number = view.getUint32(4);
    if (view.getUint32(0) !== this.#stream || number >= this.#sentAt.length) return false;
    const expected = datagram(this.#stream, number, this.#size);
    if (bytes.length !== expected.length || bytes.some((byte, i) => byte !== expected[i])) this.#corrupted++;
    else if (this.#times[number] !== undefined) this.#duplicated++;
    else {
      this.#times[number] = now - this.#sentAt[number]!;
      this.#received++;
      if (number < this.#highest) this.#reordered++;
      this.#highest = Math.max(this.#highest, number);
    }
    return true;
  }

  /** What became of it. */
  report(): TrafficReport {
    return {
      sent: this.sent,
      received: this.#received,
      duplicated: this.#duplicated,
      reordered: this.#reordered,
      corrupted: this.#corrupted,
      size: this.#size,
      roundTrips: roundTrips(this.#times.filter((time) => time !== undefined)),
    };
  }
}

/** Statistics of some times; `null` for none. */
export function roundTrips(times: readonly number[]): RoundTrips | null {
  if (times.length === 0) return null;
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.ceil(share * sorted.length) - 1]!;
  return { min: sorted[0]!, median: at(0.5), p95: at(0.95), max: sorted.at(-1)! };
}

function datagram(stream: number, number: number, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, stream);
  view.setUint32(4, number);
  for (let i = PROBE_HEADER; i < size; i++) bytes[i] = (number + i) & 0xff;
  return bytes;
}
