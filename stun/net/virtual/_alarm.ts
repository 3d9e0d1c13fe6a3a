import { VirtualEvent } from "./_queue.ts";
import type { Wire } from "./_wire.ts";

/** A piece of work that can be set to a time, moved and called off. */
export class Alarm extends VirtualEvent {
  #wire: Wire;
  #ring: () => void;

  /** An alarm, not set. */
  constructor(wire: Wire, ring: () => void) {
    super();
    this.#wire = wire;
    this.#ring = ring;
  }

  /** Rings once at this time; replaces an earlier setting. `Infinity` clears it. */
  set(at: number): void {
    this.#wire.queue.set(this, at);
  }

  run(): void {
    this.#wire.touched = true;
    this.#ring();
  }
}
