import { type Speed, speedLimit, Throttle } from "./_bandwidth.ts";
import type { TurnServerLimits } from "./server_options.ts";
import type { SharedState } from "./shared_state.ts";

/** What one user has. */
interface Usage {
  /** Allocations and reservations. */
  count: number;
  /** Kept as long as there are any. */
  readonly speed: Speed | undefined;
}

/** What users have of allocations, reserved ports and bandwidth: with several workers, at all of them. */
export class Accounts {
  #limits: TurnServerLimits;
  #shared: SharedState | undefined;
  #byUser = new Map<string, Usage>();
  #total = 0;
  #speed: Speed | undefined;

  constructor(limits: TurnServerLimits, shared: SharedState | undefined) {
    this.#limits = limits;
    this.#shared = shared;
    // Before there is time, there is nobody to have used it.
    const { serverBandwidth } = limits;
    this.#speed = shared === undefined ? speedLimit(serverBandwidth, 0) : shared.serverSpeed(serverBandwidth, 0);
  }

  /** How many users of this worker have something. */
  get size(): number {
    return this.#byUser.size;
  }

  /** Allocations and reserved ports of all users. */
  get total(): number {
    return this.#shared?.total ?? this.#total;
  }

  /** Allocations and reserved ports of a user. */
  countOf(account: string): number {
    return this.#shared?.countOf(account) ?? this.#byUser.get(account)?.count ?? 0;
  }

  /** Counts one more for a user, or one less. */
  count(account: string, change: 1 | -1, now = 0): void {
    const known = this.#byUser.get(account);
    const usage = known ?? { count: 0, speed: this.#speedOf(account, now) };
    usage.count += change;
    this.#total += change;
    this.#shared?.count(account, change);
    if (usage.count === 0) this.#byUser.delete(account);
    else if (known === undefined) this.#byUser.set(account, usage);
  }

  /** What slows down a new allocation of a user who has been counted; `undefined` if nothing does. */
  throttle(account: string, now: number): Throttle | undefined {
    const own = speedLimit(this.#limits.allocationBandwidth, now);
    const speed = this.#byUser.get(account)?.speed;
    if (own === undefined && speed === undefined && this.#speed === undefined) return undefined;
    return new Throttle(own, speed, this.#speed);
  }

  #speedOf(account: string, now: number): Speed | undefined {
    const { userBandwidth } = this.#limits;
    return this.#shared === undefined
      ? speedLimit(userBandwidth, now)
      : this.#shared.userSpeed(account, userBandwidth, now);
  }
}
