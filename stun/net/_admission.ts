import type { TransportAddress } from "../address.ts";

/** Counts the connections of one listening socket, in all and by source, against their limits. */
export class Admission {
  /** How many there are. */
  connections = 0;
  #maxConnections: number;
  #maxPerAddress: number;
  // Bounded by the number of connections: an entry goes with its last one.
  #perAddress = new Map<number | string, number>();

  constructor(limits: { readonly maxConnections: number; readonly maxPerAddress: number }) {
    this.#maxConnections = limits.maxConnections;
    this.#maxPerAddress = limits.maxPerAddress;
  }

  /** The limit that one more would pass, if any. */
  verdict(from: TransportAddress): "refused" | "refusedPerAddress" | undefined {
    if (this.connections >= this.#maxConnections) return "refused";
    return (this.#perAddress.get(sourceKey(from)) ?? 0) >= this.#maxPerAddress ? "refusedPerAddress" : undefined;
  }

  /** Counts a connection in. */
  admit(from: TransportAddress): void {
    const key = sourceKey(from);
    this.#perAddress.set(key, (this.#perAddress.get(key) ?? 0) + 1);
    this.connections++;
  }

  /** Counts a connection out. */
  release(from: TransportAddress): void {
    const key = sourceKey(from);
    const count = this.#perAddress.get(key) ?? 0;
    if (count > 1) this.#perAddress.set(key, count - 1);
    else this.#perAddress.delete(key);
    this.connections--;
  }
}

/** One customer has one IPv4 address, or a whole /64 of IPv6. */
function sourceKey(address: TransportAddress): number | string {
  return address.family === 4 ? address.ipKey : (address.ipKey as string).slice(0, 4);
}
