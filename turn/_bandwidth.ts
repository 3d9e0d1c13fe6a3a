/** How many ms of full speed may be saved up, unless the largest datagram takes longer. */
const SAVED = 1000;
const LARGEST = 65535;

/**
 * A limit in bits per second: a token bucket with one number for a state, and no timer.
 *
 * It starts without anything saved up. Otherwise ending and making allocations would give more than the rate.
 */
export class Meter {
  #msPerByte: number;
  #saved: number;
  #emptyAt: number;

  constructor(bitsPerSecond: number, now: number) {
    this.#msPerByte = 8000 / bitsPerSecond;
    this.#saved = Math.max(SAVED, LARGEST * this.#msPerByte);
    this.#emptyAt = now + this.#saved;
  }

  /** Whether so many bytes may pass at `now`. */
  fits(bytes: number, now: number): boolean {
    return Math.max(this.#emptyAt, now) - now + bytes * this.#msPerByte <= this.#saved;
  }

  /** They pass. */
  take(bytes: number, now: number): void {
    this.#emptyAt = Math.max(this.#emptyAt, now) + bytes * this.#msPerByte;
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
  return { toPeers: new Meter(bitsPerSecond, now), toClients: new Meter(bitsPerSecond, now) };
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
}
