import type { Candidate } from "./candidate.ts";
import { isMdnsName } from "./mdns_name.ts";

/** How many of the peer's candidates may wait for their addresses. */
const MAX_WAITING = 64;

/** The peer's candidates that have a name in place of an address (draft-ietf-rtcweb-mdns-ice-candidates §3.2). */
export class NamedCandidates {
  #waiting = new Map<string, Candidate[]>();
  #count = 0;

  /** Whether some address is still to be found: until then nothing has failed (I21). */
  get isWaiting(): boolean {
    return this.#count > 0;
  }

  /**
   * Keeps a candidate until its address is found.
   *
   * @returns The name to look up; `"known"` if that is under way; `undefined` if the candidate is of no use.
   */
  add(candidate: Candidate): string | undefined {
    const { name, protocol } = candidate;
    if (name === undefined || !isMdnsName(name.host) || protocol !== "udp" || name.port === 0) return undefined;
    if (this.#count >= MAX_WAITING) return undefined;
    const key = name.host.toLowerCase();
    const others = this.#waiting.get(key);
    this.#count++;
    this.#waiting.set(key, [...others ?? [], candidate]);
    return others === undefined ? key : "known";
  }

  /** Takes out those with this name. */
  take(name: string): Candidate[] {
    const found = this.#waiting.get(name) ?? [];
    this.#waiting.delete(name);
    this.#count -= found.length;
    return found;
  }

  /** Forgets all, as they were of another session. */
  clear(): void {
    this.#waiting.clear();
    this.#count = 0;
  }
}
