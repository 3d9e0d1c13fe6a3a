import type { MachineIo } from "../stun/machine.ts";
import type { Candidate } from "./candidate.ts";
import type { IceEvent } from "./events.ts";
import { isMdnsName } from "./mdns_name.ts";

/** How many of the peer's candidates may wait for their addresses. */
const MAX_WAITING = 64;

/** The peer's candidates that have a name in place of an address (draft-ietf-rtcweb-mdns-ice-candidates §3.2). */
export class NamedCandidates {
  #isEnabled: boolean;
  #waiting = new Map<string, Candidate[]>();
  #count = 0;

  /** @param isEnabled Whether names are looked up at all. */
  constructor(isEnabled: boolean) {
    this.#isEnabled = isEnabled;
  }

  /** Whether some address is still to be found: until then nothing has failed (I21). */
  get isWaiting(): boolean {
    return this.#count > 0;
  }

  /** Keeps a candidate until its address is found, and asks for that; gives whether it can be of use. */
  add(candidate: Candidate, io: MachineIo<IceEvent>): boolean {
    const { name } = candidate;
    if (!this.#isEnabled || name === undefined || !isMdnsName(name.host)) return false;
    if (this.#count >= MAX_WAITING) return false;
    const key = name.host.toLowerCase();
    const others = this.#waiting.get(key);
    this.#count++;
    this.#waiting.set(key, [...others ?? [], candidate]);
    if (others === undefined) io.emit({ type: "lookup", name: key });
    return true;
  }

  /** Takes out those with this name. */
  take(name: string): Candidate[] {
    const found = this.#waiting.get(name) ?? [];
    this.#waiting.delete(name);
    this.#count -= found.length;
    return found;
  }
}
