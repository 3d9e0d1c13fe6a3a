/** How many ms of full speed may be saved up, unless the largest datagram takes longer. */
const SAVED = 1000;
const LARGEST = 65535;

/** A limit in bits per second. */
export interface Meter {
  /** Whether so many bytes may pass at `now`. */
  fits(bytes: number, now: number): boolean;
  /** They pass. */
  take(bytes: number, now: number): void;
  /** How many ms later what has passed would have been within the limit. */
  debt(now: number): number;
}

/**
 * A token bucket with one number for a state, and no timer.
 *
 * It starts without anything saved up. Otherwise ending and making allocations would give more than the rate.
 */
class OwnMeter implements Meter {
  #msPerByte: number;
  #saved: number;
  #emptyAt: number;

  constructor(bitsPerSecond: number, now: number) {
    this.#msPerByte = 8000 / bitsPerSecond;
    this.#saved = Math.max(SAVED, LARGEST * this.#msPerByte);
    this.#emptyAt = now + this.#saved;
  }

  fits(bytes: number, now: number): boolean {
    return Math.max(this.#emptyAt, now) - now + bytes * this.#msPerByte <= this.#saved;
  }

  take(bytes: number, now: number): void {
    this.#emptyAt = Math.max(this.#emptyAt, now) + bytes * this.#msPerByte;
  }

  debt(now: number): number {
    return Math.max(0, this.#emptyAt - now - this.#saved);
  }
}

/** A number in memory that workers share: when a bucket would be empty, by the time of all of them. */
export interface MeterCells {
  readonly cells: Float64Array;
  readonly index: number;
}

/**
 * The same for all workers of a server, in one place or in several that others may share: what fits into one of them may
 * pass. Places are not locked: two workers at once may count one datagram for two.
 */
export class SharedMeter implements Meter {
  #msPerByte: number;
  #saved: number;
  #places: readonly MeterCells[];
  #clock: number;

  constructor(bitsPerSecond: number, places: readonly MeterCells[], { clock, now }: { clock: number; now: number }) {
    this.#msPerByte = 8000 / bitsPerSecond;
    this.#saved = Math.max(SAVED, LARGEST * this.#msPerByte);
    this.#places = places;
    this.#clock = clock;
    // Nothing is saved up where nobody has been.
    for (const { cells, index } of places) if (cells[index] === 0) cells[index] = now + clock + this.#saved;
  }

  fits(bytes: number, now: number): boolean {
    const time = now + this.#clock;
    for (const { cells, index } of this.#places) {
      if (Math.max(cells[index]!, time) - time + bytes * this.#msPerByte <= this.#saved) return true;
    }
    return false;
  }

  take(bytes: number, now: number): void {
    const time = now + this.#clock;
    for (const { cells, index } of this.#places) {
      cells[index] = Math.max(cells[index]!, time) + bytes * this.#msPerByte;
    }
  }

  debt(now: number): number {
    let least = Infinity;
    for (const { cells, index } of this.#places) least = Math.min(least, cells[index]!);
    return Math.max(0, least - now - this.#clock - this.#saved);
  }
}

/** A limit for each direction. */
export interface Speed {
  readonly toPeers: Meter;
  readonly toClients: Meter;
}

/** Limits in each direction; `undefined` if there is none. */
export function speedLimit(bitsPerSecond: number | undefined, now: number): Speed | undefined {
  if (bitsPerSecond === undefined || bitsPerSecond === Infinity) return undefined;
  return { toPeers: new OwnMeter(bitsPerSecond, now), toClients: new OwnMeter(bitsPerSecond, now) };
}

/** Whose limit a datagram was dropped for. */
export type BandwidthDrop = "allocationBandwidth" | "userBandwidth" | "serverBandwidth";

/** All limits that hold for one allocation. */
export class Throttle {
  #own: Speed | undefined;
  #user: Speed | undefined;
  #all: Speed | undefined;

  constructor(own: Speed | undefined, user: Speed | undefined, all: Speed | undefined) {
    this.#own = own;
    this.#user = user;
    this.#all = all;
  }

  /** Lets a datagram pass, or says whose limit is in the way. What does not pass counts against nobody. */
  refuse(direction: keyof Speed, bytes: number, now: number): BandwidthDrop | undefined {
    const own = this.#own?.[direction];
    const user = this.#user?.[direction];
    const all = this.#all?.[direction];
    if (own?.fits(bytes, now) === false) return "allocationBandwidth";
    if (user?.fits(bytes, now) === false) return "userBandwidth";
    if (all?.fits(bytes, now) === false) return "serverBandwidth";
    own?.take(bytes, now);
    user?.take(bytes, now);
    all?.take(bytes, now);
    return undefined;
  }

  /** Takes in what passed on a connection, where nothing is dropped. Gives the ms in which nothing more may. */
  delay(direction: keyof Speed, bytes: number, now: number): number {
    let wait = 0;
    for (const speed of [this.#own, this.#user, this.#all]) {
      const meter = speed?.[direction];
      meter?.take(bytes, now);
      wait = Math.max(wait, meter?.debt(now) ?? 0);
    }
    return wait;
  }
}
