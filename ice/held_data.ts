import type { CandidatePair } from "./pair.ts";

const MAX_DATAGRAMS = 16;
const MAX_BYTES = 65536;
/** In ms: by then the answer to the triggered check has come, or the pair is none to wait for. */
const MAX_AGE = 1000;

interface Held {
  readonly pair: CandidatePair;
  readonly bytes: Uint8Array;
  readonly at: number;
}

/**
 * Data that came a moment too early: the peer's check of a pair has succeeded and it sends, but our own check of the
 * same pair is still to be answered, and data is taken from valid pairs only. It is held for that moment, if the peer
 * has authenticated itself on the pair by a check; bounded in number, bytes and time.
 */
export class HeldData {
  #held: Held[] = [];
  #bytes = 0;

  /** Keeps a copy of a datagram; gives whether there was room. */
  hold(pair: CandidatePair, { buffer, offset, length, now }: {
    buffer: Uint8Array;
    offset: number;
    length: number;
    now: number;
  }): boolean {
    if (this.#held.length >= MAX_DATAGRAMS || this.#bytes + length > MAX_BYTES) return false;
    this.#held.push({ pair, bytes: buffer.slice(offset, offset + length), at: now });
    this.#bytes += length;
    return true;
  }

  /** Takes out what came along a pair and is not too old, in order. */
  release(pair: CandidatePair, now: number): Uint8Array[] {
    if (this.#held.length === 0) return [];
    const released = this.#held.filter((one) => one.pair === pair && now - one.at <= MAX_AGE);
    this.#held = this.#held.filter((one) => one.pair !== pair && now - one.at <= MAX_AGE);
    this.#bytes = this.#held.reduce((sum, { bytes }) => sum + bytes.length, 0);
    return released.map(({ bytes }) => bytes);
  }
}
