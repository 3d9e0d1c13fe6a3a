import type { TransportAddress } from "../../address.ts";
import type { Random } from "../../machine.ts";
import { randomBelow } from "../../random.ts";

/** RFC 6335 §6's dynamic ports. */
const EPHEMERAL_FIRST = 49152;
const EPHEMERAL_COUNT = 65536 - EPHEMERAL_FIRST;

/** Whether it stands for all addresses of its family: 0.0.0.0 or ::. */
export function isWildcard(address: TransportAddress): boolean {
  return address.bytes.every((byte) => byte === 0);
}

/** What can be bound. */
export interface Bound {
  readonly localAddress: TransportAddress;
}

/** A host's open sockets of one protocol, by the addresses they are bound to. */
export class SocketTable<T extends Bound> {
  #bound = new Map<number | string, T>();
  #wildcards = new Map<number, T>();
  /** How many sockets a port of a family has. */
  #counts = new Map<number, number>();

  /** The socket that gets what comes for this address: one bound to it, else one bound to all. */
  find(destination: TransportAddress): T | undefined {
    return this.#bound.get(destination.key) ?? this.#wildcards.get(portKey(destination));
  }

  /** Whether a socket can not be bound here. One bound to all addresses shares its port with none. */
  isTaken(address: TransportAddress): boolean {
    if (isWildcard(address)) return this.#counts.has(portKey(address));
    return this.#bound.has(address.key) || this.#wildcards.has(portKey(address));
  }

  /** The address with a random port that is free, and not taken otherwise either; `undefined` if there is none. */
  pickPort(
    address: TransportAddress,
    random: Random,
    isTaken: (address: TransportAddress) => boolean = () => false,
  ): TransportAddress | undefined {
    const start = randomBelow(random, EPHEMERAL_COUNT);
    for (let i = 0; i < EPHEMERAL_COUNT; i++) {
      const candidate = address.withPort(EPHEMERAL_FIRST + (start + i) % EPHEMERAL_COUNT);
      if (!this.isTaken(candidate) && !isTaken(candidate)) return candidate;
    }
    return undefined;
  }

  add(socket: T): void {
    const { localAddress } = socket;
    const key = portKey(localAddress);
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    if (isWildcard(localAddress)) this.#wildcards.set(key, socket);
    else this.#bound.set(localAddress.key, socket);
  }

  remove({ localAddress }: T): void {
    const key = portKey(localAddress);
    const count = this.#counts.get(key)! - 1;
    if (count === 0) this.#counts.delete(key);
    else this.#counts.set(key, count);
    if (isWildcard(localAddress)) this.#wildcards.delete(key);
    else this.#bound.delete(localAddress.key);
  }
}

function portKey({ family, port }: TransportAddress): number {
  return family * 65536 + port;
}
