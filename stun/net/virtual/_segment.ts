import type { TransportAddress } from "../../address.ts";
import { isMulticast, isPublic } from "./_reach.ts";
import type { Datagram, Node, Port, Segment, Wire } from "./_wire.ts";

/** What lies beyond a network: its gateway, or nothing. */
export interface Exit {
  /** A datagram for an address that nobody in the network has. */
  leave(datagram: Datagram): void;
  /** Whose address it is outside, when addresses of its kind are not translated on the way. */
  ownerOf(address: TransportAddress): Port | undefined;
  /** Makes the address reachable from outside, when addresses of its kind are not translated on the way. */
  attach(address: TransportAddress): void;
  detach(address: TransportAddress): void;
}

/** A network: who has which address, and the way out. It takes no time itself; the links of those attached do. */
export class Subnet implements Segment {
  #ports = new Map<number | string, Port>();
  #exit: Exit;
  #wire: Wire | undefined;

  /** @param wire For what is sent to groups. Without it nothing is. */
  constructor(exit: Exit, wire?: Wire) {
    this.#exit = exit;
    this.#wire = wire;
  }

  arrive(datagram: Datagram): void {
    if (this.#wire !== undefined && isMulticast(datagram.destination.bytes)) this.#spread(datagram, this.#wire);
    else if (!this.deliver(datagram)) this.#exit.leave(datagram);
  }

  /** Gives whether somebody in the network has the destination. */
  deliver(datagram: Datagram): boolean {
    const port = this.#ports.get(datagram.destination.ipKey);
    if (port === undefined) return false;
    port.down.carry(datagram, port);
    return true;
  }

  /** To all who have joined but the sender, as a switch does that listens to who joins what. Routers pass none on. */
  #spread(datagram: Datagram, wire: Wire): void {
    const { source, destination } = datagram;
    const sender = this.#ports.get(source.ipKey);
    const ports = [...new Set(this.#ports.values())].filter((port) =>
      port !== sender && port.hasJoined?.(destination) === true
    );
    if (ports.length === 0) return this.#exit.leave(datagram);
    for (const port of ports) port.down.carry(wire.copy(datagram), port);
    wire.release(datagram);
  }

  ownerOf(address: TransportAddress): Port | undefined {
    return this.#ports.get(address.ipKey) ?? this.#exit.ownerOf(address);
  }

  attach(address: TransportAddress, port: Port): void {
    this.#ports.set(address.ipKey, port);
    this.#exit.attach(address);
  }

  detach(address: TransportAddress): void {
    this.#ports.delete(address.ipKey);
    this.#exit.detach(address);
  }
}

/** The public internet: beyond it is nothing, and it neither takes datagrams from private addresses nor brings them there. */
export class Internet implements Segment {
  #subnet: Subnet;
  #wire: Wire;
  #node: Node;

  constructor(wire: Wire) {
    this.#wire = wire;
    this.#node = { name: "internet", counters: wire.counters };
    this.#subnet = new Subnet({
      leave: (datagram) => wire.drop("noRoute", this.#node, datagram),
      ownerOf: () => undefined,
      attach: () => {},
      detach: () => {},
    });
  }

  arrive(datagram: Datagram): void {
    if (isPublic(datagram.source.bytes)) this.#subnet.arrive(datagram);
    else this.#wire.drop("noRoute", this.#node, datagram);
  }

  ownerOf(address: TransportAddress): Port | undefined {
    return this.#subnet.ownerOf(address);
  }

  attach(address: TransportAddress, port: Port): void {
    if (isPublic(address.bytes)) this.#subnet.attach(address, port);
  }

  detach(address: TransportAddress): void {
    this.#subnet.detach(address);
  }
}
