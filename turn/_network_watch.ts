// Whether the computer's addresses change. Shell.
import type { Host, HostTimer } from "../stun/net/transport.ts";

/** How often they are looked at, in ms. Nobody tells a program of it. */
const PERIOD = 1000;

/** Looks at a computer's IP addresses once a second, and tells of changes. */
export class NetworkWatch {
  readonly #host: Host;
  readonly #timer: HostTimer;
  readonly #onChange: (addresses: ReadonlySet<string>) => void;
  #addresses: ReadonlySet<string> = new Set();

  constructor(host: Host, onChange: (addresses: ReadonlySet<string>) => void) {
    this.#host = host;
    this.#onChange = onChange;
    this.#addresses = this.#look();
    this.#timer = host.createTimer(() => this.#ring());
    this.#timer.set(host.now() + PERIOD);
  }

  close(): void {
    this.#timer.set(Infinity);
  }

  #ring(): void {
    this.#timer.set(this.#host.now() + PERIOD);
    const before = this.#addresses;
    const now = this.#addresses = this.#look();
    if (now.symmetricDifference(before).size > 0) this.#onChange(now);
  }

  #look(): ReadonlySet<string> {
    try {
      return new Set(this.#host.interfaces().map(({ address }) => address));
    } catch {
      // Leave to look was taken back: nothing changes any more.
      return this.#addresses;
    }
  }
}
