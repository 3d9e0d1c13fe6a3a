import type { Random } from "../../machine.ts";

/**
 * A reproducible stream of random bytes: sfc32, whose state is spread over by hashing a text.
 *
 * Each consumer has a stream of its own, named after it, so that one more host does not change what another one draws.
 */
export class SeededRandom implements Random {
  #state: Uint32Array;

  /** @param name The stream: the world's seed and who draws from it. */
  constructor(name: string) {
    this.#state = new Uint32Array([hash(name, 0), hash(name, 1), hash(name, 2), 1]);
    for (let i = 0; i < 12; i++) this.#next();
  }

  fill(bytes: Uint8Array): void {
    for (let i = 0; i < bytes.length; i += 4) {
      const word = this.#next();
      const end = Math.min(i + 4, bytes.length);
      for (let j = i; j < end; j++) bytes[j] = word >>> (24 - 8 * (j - i));
    }
  }

  #next(): number {
    const state = this.#state;
    const b = state[1]!;
    const c = state[2]!;
    const counter = state[3]!;
    const out = (state[0]! + b + counter) >>> 0;
    state[3] = counter + 1;
    state[0] = b ^ (b >>> 9);
    state[1] = c + (c << 3);
    state[2] = ((c << 21) | (c >>> 11)) + out;
    return out;
  }
}

// FNV-1a over the characters, then a finishing mix, since FNV's high bits depend little on the last ones.
function hash(text: string, variant: number): number {
  let word = 0x811c9dc5 ^ Math.imul(variant, 0x9e3779b1);
  for (let i = 0; i < text.length; i++) word = Math.imul(word ^ text.charCodeAt(i), 0x01000193);
  word = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35);
  return (word ^ (word >>> 16)) >>> 0;
}
