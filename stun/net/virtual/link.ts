import { randomFraction } from "../../random.ts";
import type { Random } from "../../machine.ts";
import type { Datagram, Hop, Node, Wire } from "./_wire.ts";
import type { DatagramView } from "./trace.ts";

/** How a link treats datagrams and TCP segments; TCP sends anew what gets lost. What is left out stays as it is; a new link starts with the world's `link`. */
export interface LinkOptions {
  /** How long one way takes, in milliseconds. Default: 1. */
  readonly delay?: number;
  /** Up to so many milliseconds more, by chance. Jitter alone never changes the order. Default: 0. */
  readonly jitter?: number;
  /** The share of datagrams that get lost, 0 to 1. Default: 0. */
  readonly loss?: number;
  /** The share of datagrams that arrive twice, 0 to 1. Default: 0. */
  readonly duplicate?: number;
  /** The share of datagrams that are held back by `reorderDelay`, so that later ones overtake them, 0 to 1. Default: 0. */
  readonly reorder?: number;
  /** How long they are held back, in milliseconds. Default: 10. */
  readonly reorderDelay?: number;
  /**
   * The largest IP packet in bytes, headers counted. Larger ones are dropped, also those that may be fragmented; of the
   * others an ICMP message tells sockets that asked for it. Default: no limit.
   */
  readonly mtu?: number;
  /** Drops those datagrams for which it gives `true`: for a loss at an exact place. Default: none. */
  readonly drop?: (datagram: DatagramView) => boolean;
}

const DEFAULTS: Required<LinkOptions> = {
  delay: 1,
  jitter: 0,
  loss: 0,
  duplicate: 0,
  reorder: 0,
  reorderDelay: 10,
  mtu: Infinity,
  drop: () => false,
};

/** The link between a host or gateway and its network. May be changed at any time; what is under way goes on as it was. */
export class VirtualLink {
  /** From the node to the network. */
  readonly up: LinkDirection;
  /** From the network to the node. */
  readonly down: LinkDirection;

  /** @internal */
  constructor(wire: Wire, node: Node, { name, link }: { name: string; link: LinkOptions }) {
    this.up = new LinkDirection(wire, node, wire.random(`link/${name}/up`));
    this.down = new LinkDirection(wire, node, wire.random(`link/${name}/down`));
    this.set(link);
  }

  /**
   * Changes both directions.
   *
   * @throws {RangeError} If a value is out of its range.
   */
  set(options: LinkOptions): void {
    this.up.set(options);
    this.down.set(options);
  }
}

/** One direction of a link. */
export class LinkDirection {
  #wire: Wire;
  #node: Node;
  #random: Random;
  #options: Required<LinkOptions> = DEFAULTS;
  #hasDrop = false;
  #lastArrival = 0;

  /** @internal */
  constructor(wire: Wire, node: Node, random: Random) {
    this.#wire = wire;
    this.#node = node;
    this.#random = random;
  }

  /** How it treats datagrams now. */
  get options(): Required<LinkOptions> {
    return this.#options;
  }

  /**
   * Changes this direction.
   *
   * @throws {RangeError} If a value is out of its range.
   */
  set(options: LinkOptions): void {
    checkOptions(options);
    this.#options = { ...this.#options, ...options };
    this.#hasDrop = this.#options.drop !== DEFAULTS.drop;
    this.#lastArrival = 0;
  }

  /** @internal */
  carry(datagram: Datagram, next: Hop): void {
    const { loss, duplicate, mtu } = this.#options;
    // IP header of 20 or 40 bytes, TCP header of 20, UDP header of 8.
    const headers = (datagram.destination.family === 4 ? 20 : 40) + (datagram.header === undefined ? 8 : 20);
    if (datagram.length + headers > mtu) return this.#wire.drop("tooBig", this.#node, datagram, mtu);
    if (this.#hasDrop) {
      this.#wire.touched = true;
      if (this.#options.drop(datagram)) return this.#lose(datagram);
    }
    if (loss > 0 && randomFraction(this.#random) < loss) return this.#lose(datagram);
    const second = duplicate > 0 && randomFraction(this.#random) < duplicate ? this.#wire.copy(datagram) : undefined;
    this.#schedule(datagram, next);
    if (second === undefined) return;
    this.#wire.record("duplicated", this.#node, second);
    this.#schedule(second, next);
  }

  #schedule(datagram: Datagram, next: Hop): void {
    const { delay, jitter, reorder, reorderDelay } = this.#options;
    let at = this.#wire.queue.now + delay;
    if (jitter > 0) at = Math.max(at + jitter * randomFraction(this.#random), this.#lastArrival);
    if (reorder > 0 && randomFraction(this.#random) < reorder) {
      at += reorderDelay;
      this.#wire.record("reordered", this.#node, datagram);
    } else this.#lastArrival = at;
    datagram.next = next;
    this.#wire.queue.set(datagram, at);
  }

  #lose(datagram: Datagram): void {
    this.#wire.drop("lost", this.#node, datagram);
  }
}

function checkOptions(options: LinkOptions): void {
  for (const name of ["loss", "duplicate", "reorder"] as const) {
    const value = options[name];
    if (value !== undefined && !(value >= 0 && value <= 1)) {
      throw new RangeError(`Cannot set a link's ${name} as it must be in 0 to 1: current value is ${value}`);
    }
  }
  for (const name of ["delay", "jitter", "reorderDelay"] as const) {
    const value = options[name];
    if (value !== undefined && !(value >= 0 && value < Infinity)) {
      throw new RangeError(
        `Cannot set a link's ${name} as it must be milliseconds from 0 up: current value is ${value}`,
      );
    }
  }
  if (options.mtu !== undefined && !(options.mtu >= 48)) {
    throw new RangeError(`Cannot set a link's mtu as it must be 48 or more: current value is ${options.mtu}`);
  }
}
