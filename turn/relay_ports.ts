import { type AddressFamily, TransportAddress } from "../stun/address.ts";
import type { Random } from "../stun/machine.ts";
import { randomBelow } from "../stun/random.ts";

/** An IP address on which relayed transport addresses are given out. */
export interface RelayAddress {
  /** The local IP address to bind. */
  readonly address: string;
  /** What clients are told in its place when the server is behind a 1:1 address mapping. Default: `address`. */
  readonly external?: string;
}

/** A range of ports, both ends included. */
export interface PortRange {
  /** The smallest port. */
  readonly min: number;
  /** The largest port. */
  readonly max: number;
}

/** The Dynamic and/or Private Port range, from which relayed transport addresses SHOULD be (RFC 8656 §7.2). */
export const RELAY_PORTS: PortRange = { min: 49152, max: 65535 };

/** What a port must be like: `"pair"` is an even one whose successor is free too (RFC 8656 §7.2). */
export type PortNeed = "any" | "even" | "pair";

const RANDOM_TRIES = 8;
/** What a port is doing. */
const FREE = 0;
const TAKEN = 1;
const RELAYED = { udp: 2, tcp: 3 } as const;

/** The ports of one relay address: which are in use by the server itself. The host may know of others. */
export class RelayPorts {
  /** The local IP address, with port 0. */
  readonly local: TransportAddress;
  /** The IP address that clients are told, with port 0. */
  readonly external: TransportAddress;
  /** The IP version of both. */
  readonly family: AddressFamily;
  /** How many ports are in use. */
  used = 0;
  #min: number;
  #used: Uint8Array;
  /** Addresses by port, made when first asked for. */
  #inner = new Map<number, TransportAddress>();
  #outer = new Map<number, TransportAddress>();

  /**
   * All ports free.
   *
   * @param address The address.
   * @param range Its ports. Default: `RELAY_PORTS`.
   * @param shared What all ports of this address are doing, 65,536 bytes, where several servers share it.
   * @throws {SyntaxError} If an address is no IP address.
   * @throws {RangeError} If the range is none, or both addresses are not of one family.
   */
  constructor(address: RelayAddress, range: PortRange = RELAY_PORTS, shared?: Uint8Array) {
    const { min, max } = range;
    if (!Number.isInteger(min) || !Number.isInteger(max) || min < 1 || max > 65535 || min > max) {
      throw new RangeError(
        `Cannot use relay ports as they must be a range in 1 to 65535: current value is ${min}-${max}`,
      );
    }
    this.local = TransportAddress.of(address.address, 0);
    this.external = TransportAddress.of(address.external ?? address.address, 0);
    this.family = this.local.family;
    if (this.external.family !== this.family) {
      throw new RangeError(
        `Cannot map relay address as both must be IPv4 or both IPv6: ${address.address} to ${address.external}`,
      );
    }
    this.#min = min;
    this.#used = shared?.subarray(min, max + 1) ?? new Uint8Array(max - min + 1);
  }

  /** Takes a random free port (RFC 6056 §3.3), with `"pair"` its successor as well. Gives the port, or -1 if there is none. */
  take(need: PortNeed, random: Random): number {
    const size = this.#used.length;
    for (let i = 0; i < RANDOM_TRIES; i++) {
      const port = this.#tryIndex(randomBelow(random, size), need);
      if (port !== -1) return port;
    }
    const start = randomBelow(random, size);
    for (let i = 0; i < size; i++) {
      const port = this.#tryIndex((start + i) % size, need);
      if (port !== -1) return port;
    }
    return -1;
  }

  /** Gives a port back. */
  release(port: number): void {
    if (!this.#has(port)) return;
    if (Atomics.exchange(this.#used, port - this.#min, FREE) !== FREE) this.used--;
  }

  /** Takes over a port that another server has taken and offered. */
  adopt(): void {
    this.used++;
  }

  /** Another server has taken over a port. */
  abandon(): void {
    this.used--;
  }

  /** A port that is taken is a relayed transport address from now on, until it is given back. */
  setRelayed(port: number, transport: "udp" | "tcp" = "udp"): void {
    Atomics.store(this.#used, port - this.#min, RELAYED[transport]);
  }

  /** Whether a port is a relayed transport address now, of this server or of one that shares the ports. */
  isRelayed(port: number, transport: "udp" | "tcp" = "udp"): boolean {
    return this.#has(port) && Atomics.load(this.#used, port - this.#min) === RELAYED[transport];
  }

  /** The address that a relay on this port is bound to. */
  innerAddress(port: number): TransportAddress {
    return memo(this.#inner, this.local, port);
  }

  /** The address that clients and peers know a relay on this port by. */
  outerAddress(port: number): TransportAddress {
    return memo(this.#outer, this.external, port);
  }

  #has(port: number): boolean {
    return port >= this.#min && port < this.#min + this.#used.length;
  }

  #tryIndex(index: number, need: PortNeed): number {
    const port = this.#min + index;
    if (need !== "any" && (port & 1) !== 0) return -1;
    if (!this.#mark(index)) return -1;
    if (need !== "pair" || this.#mark(index + 1)) return port;
    this.release(port);
    return -1;
  }

  /** Marks a port as taken if it is free. */
  #mark(index: number): boolean {
    if (index >= this.#used.length || Atomics.compareExchange(this.#used, index, FREE, TAKEN) !== FREE) return false;
    this.used++;
    return true;
  }
}

function memo(known: Map<number, TransportAddress>, address: TransportAddress, port: number): TransportAddress {
  let made = known.get(port);
  if (made === undefined) known.set(port, made = address.withPort(port));
  return made;
}
