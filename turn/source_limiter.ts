import type { TransportAddress } from "../stun/address.ts";
import { unmappedAddress } from "../stun/server.ts";

/** How often something may happen: so often a second in the long run, and so often at once after a rest. */
export interface Rate {
  /** A second. */
  readonly rate: number;
  /** At once. */
  readonly burst: number;
}

/** How many sources are told apart. Two in one place share its rate; there is no list to fill up. */
const PLACES = 65536;
/** An IPv6 source is a /64, since whoever has one address of it has all. */
const IPV6_WORDS = 2;

/**
 * A limit on how often anything happens for each source IP address, in bounded memory: a table of as many places as it
 * will ever have, found by a keyed hash, so that nobody can choose with whom to share one.
 */
export class SourceLimiter {
  #interval: number;
  #slack: number;
  #hash: HalfSipHash;
  /** For each place, when it would be empty: as a queue that is served at the rate (the generic cell rate algorithm). */
  #emptyAt: Float64Array;
  #clock: number;

  /**
   * A limiter that has seen nobody yet.
   *
   * @param limit The rate for each source.
   * @param secret What the hash is keyed with: 8 random bytes or more.
   * @param shared The table, if workers share one, and what they add to their time. They have the same secret.
   * @throws {RangeError} If the rate is not positive, or the burst less than one.
   */
  constructor({ rate, burst }: Rate, secret: Uint8Array, shared?: { sources: Float64Array; clock: number }) {
    if (!(rate > 0 && rate < Infinity && burst >= 1 && burst < Infinity)) {
      throw new RangeError(`Cannot limit to a rate that is not positive: current values are ${rate}/s, burst ${burst}`);
    }
    this.#interval = 1000 / rate;
    this.#slack = (burst - 1) * this.#interval;
    this.#hash = new HalfSipHash(secret);
    this.#emptyAt = shared?.sources ?? new Float64Array(PLACES);
    this.#clock = shared?.clock ?? 0;
  }

  /** Whether it may happen once more for this source at `now` in ms; then it is taken to have happened. */
  take(source: TransportAddress, now: number): boolean {
    const { bytes } = unmappedAddress(source);
    const place = this.#hash.of(bytes, bytes.length === 4 ? 1 : IPV6_WORDS) & (PLACES - 1);
    const time = now + this.#clock;
    const start = Math.max(this.#emptyAt[place]!, time);
    if (start - time > this.#slack) return false;
    this.#emptyAt[place] = start + this.#interval;
    return true;
  }
}

/** HalfSipHash-2-4 of a few 32-bit words: a keyed hash that is fast for short input. */
export class HalfSipHash {
  #k0: number;
  #k1: number;
  #v0 = 0;
  #v1 = 0;
  #v2 = 0;
  #v3 = 0;

  constructor(key: Uint8Array) {
    this.#k0 = wordAt(key, 0);
    this.#k1 = wordAt(key, 4);
  }

  /** The hash of the first `words` words of `bytes`, as a 32-bit integer. */
  of(bytes: Uint8Array, words: number): number {
    this.#v0 = this.#k0;
    this.#v1 = this.#k1;
    this.#v2 = 0x6c796765 ^ this.#k0;
    this.#v3 = 0x74656462 ^ this.#k1;
    for (let i = 0; i < words; i++) this.#absorb(wordAt(bytes, 4 * i));
    this.#absorb((4 * words) << 24);
    this.#v2 ^= 0xff;
    for (let i = 0; i < 4; i++) this.#round();
    return this.#v1 ^ this.#v3;
  }

  #absorb(word: number): void {
    this.#v3 ^= word;
    this.#round();
    this.#round();
    this.#v0 ^= word;
  }

  #round(): void {
    this.#v0 = (this.#v0 + this.#v1) | 0;
    this.#v1 = rotate(this.#v1, 5) ^ this.#v0;
    this.#v0 = rotate(this.#v0, 16);
    this.#v2 = (this.#v2 + this.#v3) | 0;
    this.#v3 = rotate(this.#v3, 8) ^ this.#v2;
    this.#v0 = (this.#v0 + this.#v3) | 0;
    this.#v3 = rotate(this.#v3, 7) ^ this.#v0;
    this.#v2 = (this.#v2 + this.#v1) | 0;
    this.#v1 = rotate(this.#v1, 13) ^ this.#v2;
    this.#v2 = rotate(this.#v2, 16);
  }
}

function rotate(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}

/** Little-endian. */
function wordAt(bytes: Uint8Array, i: number): number {
  return bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
}
