import type { Random } from "./machine.ts";

const word = new Uint8Array(4);
/** RFC 8839 §5.1's ice-char: 64 characters, so each carries 6 bits. */
const ICE_CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** `count` fresh random bytes. */
export function randomBytes(random: Random, count: number): Uint8Array {
  const bytes = new Uint8Array(count);
  random.fill(bytes);
  return bytes;
}

/** A random integer from 0 to 2^32-1. */
export function randomUint32(random: Random): number {
  random.fill(word);
  return ((word[0]! << 24) | (word[1]! << 16) | (word[2]! << 8) | word[3]!) >>> 0;
}

/** A random integer from 0 to `limit - 1`, without bias. `limit` is at most 2^32. */
export function randomBelow(random: Random, limit: number): number {
  const fair = 0x1_0000_0000 - (0x1_0000_0000 % limit);
  for (;;) {
    const value = randomUint32(random);
    if (value < fair) return value % limit;
  }
}

/** A random number in [0, 1). */
export function randomFraction(random: Random): number {
  return randomUint32(random) / 0x1_0000_0000;
}

/** `length` random characters of RFC 8839's ice-char, 6 bits each. */
export function randomIceChars(random: Random, length: number): string {
  let text = "";
  for (const byte of randomBytes(random, length)) text += ICE_CHARS[byte & 63];
  return text;
}
