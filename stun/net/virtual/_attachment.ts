import { TransportAddress } from "../../address.ts";
import type { Port, Segment } from "./_wire.ts";

/** The addresses that a port has in its network. */
export class Attachment {
  #segment: Segment;
  #port: Port;
  #addresses = new Map<number | string, TransportAddress>();
  #list: readonly TransportAddress[] = [];

  constructor(segment: Segment, port: Port) {
    this.#segment = segment;
    this.#port = port;
  }

  /** The network. */
  get segment(): Segment {
    return this.#segment;
  }

  /** The addresses, with port 0. */
  get addresses(): readonly TransportAddress[] {
    return this.#list;
  }

  /** Whether the IP address with this key is one of them. */
  has(ipKey: number | string): boolean {
    return this.#addresses.has(ipKey);
  }

  /**
   * Replaces all of them: either wholly or, when it throws, not at all.
   *
   * @throws {SyntaxError} If one is no IP address.
   * @throws {Error} If one belongs to another in the same network.
   */
  set(texts: readonly string[]): void {
    const wanted = texts.map((text) => TransportAddress.of(text, 0));
    for (const address of wanted) {
      const owner = this.#segment.ownerOf(address);
      if (owner === undefined || owner === this.#port) continue;
      throw new Error(
        `Cannot give ${address.address} to "${this.#port.node.name}" as it belongs to "${owner.node.name}"`,
      );
    }
    for (const address of this.#addresses.values()) this.#segment.detach(address);
    this.#addresses.clear();
    for (const address of wanted) {
      this.#addresses.set(address.ipKey, address);
      this.#segment.attach(address, this.#port);
    }
    this.#list = [...this.#addresses.values()];
  }
}
