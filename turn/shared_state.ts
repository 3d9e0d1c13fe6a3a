import { type MeterCells, SharedMeter, type Speed } from "./_bandwidth.ts";
import { HalfSipHash } from "./source_limiter.ts";

/** Tables for users, each with another hash. */
const TABLES = 4;
/** Places for users in each of them. */
const USER_PLACES = 65536;
/** Where the key of each hash begins in the secret. */
const KEYS = Array.from({ length: TABLES }, (_, i) => 8 * i);
/** Places for sources that have shown no credentials. */
const SOURCE_PLACES = 65536;
/** How many reserved ports there may be at a time. A token has its number in the first 12 bits. */
const RESERVATIONS = 4096;
/** The words of one: its state, the rest of the token, and what it stands for. */
const RESERVATION_WORDS = 4;
const PORTS = 65536;
const TRIES = 16;
const encoder = new TextEncoder();

/** What a reserved port is doing. */
const FREE = 0;
const BUSY = 1;
const OFFERED = 2;

// Where things are, in bytes.
const TOTAL = 0;
const SERVER_METERS = 8;
const USER_COUNTS = 64;
const USER_METERS = USER_COUNTS + TABLES * USER_PLACES * 4;
const SOURCES = USER_METERS + 2 * TABLES * USER_PLACES * 8;
const RESERVED = SOURCES + SOURCE_PLACES * 8;
const PORT_STATES = RESERVED + RESERVATIONS * RESERVATION_WORDS * 4;

/** A port that another worker may take over. */
export interface ReservedPort {
  /** Which of the relay addresses, counted from 0. */
  readonly address: number;
  /** The port. */
  readonly port: number;
}

/** What makes a `SharedState`. */
export interface SharedStateOptions {
  /** What user names are hashed with, the same for all workers: 32 random bytes or more. */
  readonly secret: Uint8Array;
  /** What this worker adds to its time to get that of all of them, in ms. */
  readonly clock: number;
}

/**
 * What the workers of one server have in common, in memory that they share: limits of users and of all, and the ports of
 * relayed transport addresses.
 *
 * Users have no list, which would have to be locked, but four places each, by keyed hashes, that others may share; the
 * smallest number counts. So one is held to be at its limit too soon only if others share all four: with 2000 users
 * that is one in a million.
 * Two requests in the same microsecond may each take the last of something, and a datagram then and now is not counted.
 */
export class SharedState {
  /** When a source's place would be empty, for `SourceLimiter`. */
  readonly sources: Float64Array;
  /** What this worker adds to its time to get that of all of them, in ms. */
  readonly clock: number;
  #memory: SharedArrayBuffer;
  #total: Int32Array;
  #users: readonly Int32Array[];
  #reserved: Int32Array;
  #hashes: readonly HalfSipHash[];

  /**
   * @param memory What `allocate()` gave, or the same memory in another worker.
   * @param options See `SharedStateOptions`.
   */
  constructor(memory: SharedArrayBuffer, { secret, clock }: SharedStateOptions) {
    this.#memory = memory;
    this.clock = clock;
    this.#total = new Int32Array(memory, TOTAL, 1);
    this.#users = KEYS.map((_, i) => new Int32Array(memory, USER_COUNTS + i * USER_PLACES * 4, USER_PLACES));
    this.sources = new Float64Array(memory, SOURCES, SOURCE_PLACES);
    this.#reserved = new Int32Array(memory, RESERVED, RESERVATIONS * RESERVATION_WORDS);
    this.#hashes = KEYS.map((start) => new HalfSipHash(secret.subarray(start, start + 8)));
  }

  /** Memory for a server with so many relay addresses: 5.8 MB, and 64 KiB for each of them. */
  static allocate(relayAddresses: number): SharedArrayBuffer {
    return new SharedArrayBuffer(PORT_STATES + relayAddresses * PORTS);
  }

  /** Allocations and reserved ports in all. */
  get total(): number {
    return Atomics.load(this.#total, 0);
  }

  /** Allocations and reserved ports of a user. */
  countOf(account: string): number {
    return Math.min(...this.#placesOf(account).map((place, i) => Atomics.load(this.#users[i]!, place)));
  }

  /** Counts allocations and reserved ports of a user, or counts them out. */
  count(account: string, change: number): void {
    Atomics.add(this.#total, 0, change);
    for (const [i, place] of this.#placesOf(account).entries()) Atomics.add(this.#users[i]!, place, change);
  }

  /** The speed limit of all, in bits a second, or none. */
  serverSpeed(bitsPerSecond: number, now: number): Speed | undefined {
    if (bitsPerSecond === Infinity) return undefined;
    const cells = new Float64Array(this.#memory, SERVER_METERS, 2);
    const { clock } = this;
    const meter = (index: number) => new SharedMeter(bitsPerSecond, [{ cells, index }], { clock, now });
    return { toPeers: meter(0), toClients: meter(1) };
  }

  /** The speed limit of a user, in bits a second, or none. */
  userSpeed(account: string, bitsPerSecond: number, now: number): Speed | undefined {
    if (bitsPerSecond === Infinity) return undefined;
    const { clock } = this;
    const places = this.#placesOf(account);
    const meter = (direction: number) => {
      const cells = places.map((index, i): MeterCells => {
        const start = USER_METERS + (TABLES * direction + i) * USER_PLACES * 8;
        return { cells: new Float64Array(this.#memory, start, USER_PLACES), index };
      });
      return new SharedMeter(bitsPerSecond, cells, { clock, now });
    };
    return { toPeers: meter(0), toClients: meter(1) };
  }

  /** The states of all ports of one relay address, for `RelayPorts`. */
  portStates(address: number): Uint8Array {
    return new Uint8Array(this.#memory, PORT_STATES + address * PORTS, PORTS);
  }

  /**
   * Offers a port to whoever brings the token, at any worker.
   *
   * @param newToken Makes 8 random bytes; the first 12 bits are overwritten.
   * @returns The token, or `undefined` if too many are offered.
   */
  offer({ address, port }: ReservedPort, newToken: () => Uint8Array): Uint8Array | undefined {
    for (let i = 0; i < TRIES; i++) {
      const token = newToken();
      const { start, low, high } = this.#place(token);
      if (Atomics.compareExchange(this.#reserved, start, FREE, BUSY) !== FREE) continue;
      this.#reserved[start + 1] = low;
      this.#reserved[start + 2] = high;
      this.#reserved[start + 3] = (address << 16) | port;
      Atomics.store(this.#reserved, start, OFFERED);
      return token;
    }
    return undefined;
  }

  /** Whether a port is offered for this token. */
  isOffered(token: Uint8Array): boolean {
    const { start, low, high } = this.#place(token);
    return Atomics.load(this.#reserved, start) === OFFERED && this.#reserved[start + 1] === low &&
      this.#reserved[start + 2] === high;
  }

  /** Takes the port that is offered for this token; nobody else will get it. */
  take(token: Uint8Array): ReservedPort | undefined {
    const { start } = this.#place(token);
    if (!this.isOffered(token)) return undefined;
    if (Atomics.compareExchange(this.#reserved, start, OFFERED, BUSY) !== OFFERED) return undefined;
    const packed = this.#reserved[start + 3]!;
    Atomics.store(this.#reserved, start, FREE);
    return { address: packed >>> 16, port: packed & 0xffff };
  }

  #placesOf(account: string): number[] {
    const text = encoder.encode(account);
    const bytes = new Uint8Array(Math.ceil((text.length + 1) / 4) * 4);
    bytes.set(text);
    // Names that differ only in zeros at the end differ here.
    bytes[bytes.length - 1] = text.length;
    return this.#hashes.map((hash) => hash.of(bytes, bytes.length / 4) & (USER_PLACES - 1));
  }

  #place(token: Uint8Array): { start: number; low: number; high: number } {
    const view = new DataView(token.buffer, token.byteOffset, 8);
    return { start: (view.getUint16(0) >>> 4) * RESERVATION_WORDS, low: view.getInt32(0), high: view.getInt32(4) };
  }
}
