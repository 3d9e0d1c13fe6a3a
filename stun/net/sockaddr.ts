import { TransportAddress } from "../address.ts";
import { AF_INET, AF_INET6 } from "./_libc.ts";

/** Bytes of a `sockaddr_in` and a `sockaddr_in6`. */
export const SOCKADDR_IN_SIZE = 16;
export const SOCKADDR_IN6_SIZE = 28;

const FIRST_SIZE = 1024;
// 10,000 clients and their peers fit. Strangers can not fill more memory than this.
const LIMIT = 65536;
const KEY_WORDS = 6;

/** The zones of link-local IPv6 addresses that arrived, so that the answer goes out where they came in. */
const zones = new WeakMap<TransportAddress, number>();

/** An IPv4 address and port as the two words of a `sockaddr_in` that count. Kept as small integers: no more objects. */
class SockaddrIn {
  readonly first: number;
  readonly second: number;

  constructor({ bytes, port }: TransportAddress) {
    this.first = AF_INET | (swap(port) << 16);
    this.second = word(bytes, 0);
  }
}

/**
 * Writes an address as a `sockaddr`, whose first word is at `index`.
 *
 * @param zone The interface index for a link-local address that has none of its own.
 * @returns How many bytes the `sockaddr` has.
 */
export function writeSockaddr(address: TransportAddress, words: Uint32Array, index: number, zone: number): number {
  const known = address.native;
  if (known instanceof SockaddrIn) {
    words[index] = known.first;
    words[index + 1] = known.second;
    return SOCKADDR_IN_SIZE;
  }
  const { bytes, port } = address;
  if (bytes.length === 4) {
    address.native = new SockaddrIn(address);
    return writeSockaddr(address, words, index, zone);
  }
  words[index] = AF_INET6 | (swap(port) << 16);
  words[index + 1] = 0;
  for (let i = 0; i < 4; i++) words[index + 2 + i] = word(bytes, 4 * i);
  words[index + 6] = isLinkLocal(bytes) ? zones.get(address) ?? zone : 0;
  return SOCKADDR_IN6_SIZE;
}

function swap(port: number): number {
  return ((port & 0xff) << 8) | (port >> 8);
}

function word(bytes: Uint8Array, offset: number): number {
  return bytes[offset]! | (bytes[offset + 1]! << 8) | (bytes[offset + 2]! << 16) | (bytes[offset + 3]! << 24);
}

function isLinkLocal(bytes: Uint8Array): boolean {
  return bytes[0] === 0xfe && (bytes[1]! & 0xc0) === 0x80;
}

/** Who has sent to us, by the raw `sockaddr`: the same object for the same sender, without making text or keys. */
export class AddressTable {
  #seed: number;
  #size = FIRST_SIZE;
  #count = 0;
  // Open addressing, at most half full; an entry of 0 is free, else it is the index of the address plus one.
  #index = new Uint32Array(2 * FIRST_SIZE);
  #keys = new Uint32Array(FIRST_SIZE * KEY_WORDS);
  #addresses: TransportAddress[] = [];

  /** @param seed A random 32-bit number, so that nobody can choose addresses that collide. */
  constructor(seed: number) {
    this.#seed = seed;
  }

  /** How many addresses are remembered. */
  get count(): number {
    return this.#count;
  }

  /** The address whose `sockaddr` begins at the word `index`. */
  get(words: Uint32Array, index: number): TransportAddress {
    const isV6 = (words[index]! & 0xffff) === AF_INET6;
    const mask = this.#index.length - 1;
    let place = this.#hash(words, index, isV6) & mask;
    for (;;) {
      const entry = this.#index[place]!;
      if (entry === 0) return this.#add(words, index, isV6);
      if (this.#isSame(words, index, isV6, (entry - 1) * KEY_WORDS)) return this.#addresses[entry - 1]!;
      place = (place + 1) & mask;
    }
  }

  #hash(words: Uint32Array, index: number, isV6: boolean): number {
    let hash = Math.imul(this.#seed ^ words[index]!, 0x9e3779b1);
    if (isV6) {
      for (let i = 2; i < 7; i++) hash = mix(hash ^ words[index + i]!);
    } else hash = mix(hash ^ words[index + 1]!);
    return hash;
  }

  #isSame(words: Uint32Array, index: number, isV6: boolean, key: number): boolean {
    const keys = this.#keys;
    if (keys[key] !== words[index]) return false;
    if (!isV6) return keys[key + 1] === words[index + 1];
    for (let i = 1; i < KEY_WORDS; i++) if (keys[key + i] !== words[index + 1 + i]) return false;
    return true;
  }

  #add(words: Uint32Array, index: number, isV6: boolean): TransportAddress {
    if (this.#count === this.#size) this.#grow();
    const entry = this.#count++;
    const key = entry * KEY_WORDS;
    this.#keys[key] = words[index]!;
    if (isV6) { for (let i = 1; i < KEY_WORDS; i++) this.#keys[key + i] = words[index + 1 + i]!; }
    else this.#keys[key + 1] = words[index + 1]!;
    this.#place(entry, isV6);
    return this.#addresses[entry] = readSockaddr(words, index);
  }

  #place(entry: number, isV6: boolean): void {
    const mask = this.#index.length - 1;
    const key = entry * KEY_WORDS;
    let hash = Math.imul(this.#seed ^ this.#keys[key]!, 0x9e3779b1);
    for (let i = 1; i < (isV6 ? KEY_WORDS : 2); i++) hash = mix(hash ^ this.#keys[key + i]!);
    let place = hash & mask;
    while (this.#index[place] !== 0) place = (place + 1) & mask;
    this.#index[place] = entry + 1;
  }

  #grow(): void {
    if (this.#size === LIMIT) {
      // Full of strangers, or of very many clients: start again. Whoever is still there is back with his next datagram.
      this.#count = 0;
      this.#addresses = [];
      this.#index.fill(0);
      return;
    }
    this.#size *= 4;
    const keys = new Uint32Array(this.#size * KEY_WORDS);
    keys.set(this.#keys);
    this.#keys = keys;
    this.#index = new Uint32Array(2 * this.#size);
    for (let i = 0; i < this.#count; i++) this.#place(i, this.#addresses[i]!.family === 6);
  }
}

function mix(hash: number): number {
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
  return hash ^ (hash >>> 13);
}

/** Reads the `sockaddr` whose first word is at `index`. */
export function readSockaddr(words: Uint32Array, index: number): TransportAddress {
  const first = words[index]!;
  const port = ((first >>> 8) & 0xff00) | (first >>> 24);
  const isV6 = (first & 0xffff) === AF_INET6;
  const start = words.byteOffset + 4 * (isV6 ? index + 2 : index + 1);
  const address = new TransportAddress(new Uint8Array(words.buffer.slice(start, start + (isV6 ? 16 : 4))), port);
  if (isV6 && words[index + 6] !== 0) zones.set(address, words[index + 6]!);
  return address;
}
