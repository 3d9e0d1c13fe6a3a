import type { TransportAddress } from "../stun/address.ts";
import type { Listener } from "./allocation.ts";

/** How long a request waits for its user, in ms: as long as a client of RFC 8489 waits after its fifth try. */
const PATIENCE = 8_000;
/** How many requests wait at a time. */
const MAX_PARKED = 1024;
/** How many of them for one user. */
const MAX_PER_USER = 32;

/** A request that waits until it is known who its user is. */
export interface ParkedRequest {
  /** Its bytes. */
  readonly bytes: Uint8Array;
  /** Where it arrived. */
  readonly listener: Listener;
  /** Who sent it. */
  readonly client: TransportAddress;
  /** Its transaction id. */
  readonly transactionKey: string;
}

/** What stands for the name of a user of whom nothing but the USERHASH is known. Nobody can have it for a name. */
export function hashedName(userHash: Uint8Array): string {
  return `\0${userHash.toHex()}`;
}

interface Search {
  readonly until: number;
  readonly requests: ParkedRequest[];
}

/** Requests that wait, by user name or `hashedName()`. Bounded; nothing waits longer than `PATIENCE`. */
export class ParkedRequests {
  /** In the order of time, since all wait equally long. */
  #searches = new Map<string, Search>();
  #size = 0;

  /** How many wait. */
  get size(): number {
    return this.#size;
  }

  /** When the first one has waited long enough. */
  get deadline(): number {
    for (const { until } of this.#searches.values()) return until;
    return Infinity;
  }

  /**
   * Takes in a request.
   *
   * @returns `"ask"`: it is the first one for its user. `"wait"`: its user is being looked for. `"again"`: it waits already.
   * `"full"`: it is not taken in.
   */
  park(username: string, request: ParkedRequest, now: number): "ask" | "wait" | "again" | "full" {
    const search = this.#searches.get(username);
    const isSame = (other: ParkedRequest) =>
      other.transactionKey === request.transactionKey && other.listener === request.listener &&
      other.client.key === request.client.key;
    if (search?.requests.some(isSame)) return "again";
    if (this.#size >= MAX_PARKED || (search !== undefined && search.requests.length >= MAX_PER_USER)) return "full";
    this.#size++;
    if (search === undefined) this.#searches.set(username, { until: now + PATIENCE, requests: [request] });
    else search.requests.push(request);
    return search === undefined ? "ask" : "wait";
  }

  /** Takes out all that wait for a user. */
  take(username: string): readonly ParkedRequest[] {
    const requests = this.#searches.get(username)?.requests ?? [];
    this.#searches.delete(username);
    this.#size -= requests.length;
    return requests;
  }

  /** Takes out what has waited long enough. */
  expire(now: number): ParkedRequest[] {
    const late: ParkedRequest[] = [];
    for (const [username, { until }] of this.#searches) {
      if (until > now) break;
      late.push(...this.take(username));
    }
    return late;
  }
}
