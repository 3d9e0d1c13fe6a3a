import type { TransportAddress } from "../stun/address.ts";

/** How many names are remembered. */
const LIMIT = 256;
/** For how long at most, in seconds, whatever the one who told says. */
const LONGEST = 120;

/**
 * Names that were told to all before they were asked for: a peer announces its names, and may not say the same again for a
 * second (RFC 6762 §6), just when its candidates arrive.
 */
export class HeardNames {
  #names = new Map<string, { readonly address: TransportAddress; readonly until: number }>();

  /** Remembers a name for so many seconds; with 0 it is forgotten (RFC 6762 §10.1). */
  set(name: string, address: TransportAddress, ttl: number, now: number): void {
    this.#names.delete(name);
    if (ttl === 0) return;
    // The oldest goes first.
    if (this.#names.size >= LIMIT) this.#names.delete(this.#names.keys().next().value!);
    this.#names.set(name, { address, until: now + Math.min(ttl, LONGEST) * 1000 });
  }

  /** Forgets a name. */
  delete(name: string): void {
    this.#names.delete(name);
  }

  /** The address of a name, if it was told not too long ago. */
  get(name: string, now: number): TransportAddress | undefined {
    const found = this.#names.get(name);
    return found !== undefined && now < found.until ? found.address : undefined;
  }
}
