import type { Host, HostTimer } from "../stun/net/transport.ts";

/** How often the interfaces are looked at, in ms. */
const PERIOD = 1000;
/** How often at most when something could not be sent, in ms. */
const SHORTEST_PERIOD = 100;
/** A wall clock that has gone on by so many ms more than the monotonic one: the computer slept. */
const SLEPT = 2000;

/** What has changed since the last look. */
export interface HostChange {
  /** Whether an address of an interface has come or gone. */
  readonly addresses: boolean;
  /** How many ms the computer has slept, 0 if it has not. */
  readonly sleptMs: number;
}

/** Is told of changes. */
export type Listener = (change: HostChange) => void;

/** Looks at a computer's network interfaces and clocks once a second: one for all connections on it. */
export class NetworkWatch {
  readonly #host: Host;
  readonly #listeners = new Set<Listener>();
  readonly #timer: HostTimer;
  #snapshot = "";
  #clockLead = 0;
  #lookedAt = -Infinity;

  /** @internal Made by `watchOf()`. */
  constructor(host: Host) {
    this.#host = host;
    this.#timer = host.createTimer(() => this.look());
  }

  /**
   * Begins to tell somebody of changes.
   *
   * @returns A function that ends it.
   */
  add(listener: Listener): () => void {
    if (this.#listeners.size === 0) {
      this.#snapshot = this.#takeSnapshot();
      this.#clockLead = this.#lead();
      this.#timer.set(this.#host.now() + PERIOD);
    }
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.#timer.set(Infinity);
    };
  }

  /** Something could not be sent: looks at once, unless it just has. */
  lookSoon(): void {
    if (this.#listeners.size > 0 && this.#host.now() - this.#lookedAt >= SHORTEST_PERIOD) this.look();
  }

  /** Looks now, as somebody has seen the interfaces by other ways. */
  look(): void {
    if (this.#listeners.size === 0) return;
    this.#lookedAt = this.#host.now();
    const [snapshot, lead] = [this.#takeSnapshot(), this.#lead()];
    const slept = lead - this.#clockLead;
    const change = { addresses: snapshot !== this.#snapshot, sleptMs: slept > SLEPT ? slept : 0 };
    this.#snapshot = snapshot;
    this.#clockLead = lead;
    this.#timer.set(this.#host.now() + PERIOD);
    if (change.addresses || change.sleptMs > 0) { for (const listener of [...this.#listeners]) listener(change); }
  }

  #takeSnapshot(): string {
    return this.#host.interfaces().map(({ name, address }) => `${name} ${address}`).sort().join();
  }

  /** How far the wall clock is ahead, in ms. On Linux the monotonic one stands still while the computer sleeps. */
  #lead(): number {
    return this.#host.unixTime() * 1000 - this.#host.now();
  }
}

const watches = new WeakMap<Host, NetworkWatch>();

/** The watch of a computer. */
export function watchOf(host: Host): NetworkWatch {
  let watch = watches.get(host);
  if (watch === undefined) watches.set(host, watch = new NetworkWatch(host));
  return watch;
}
