import type { TransportAddress } from "../../address.ts";
import { Attachment } from "./_attachment.ts";
import { isForwarded } from "./_reach.ts";
import { type Exit, Subnet } from "./_segment.ts";
import type { Carrier, Datagram, Node, Port, Segment, Wire } from "./_wire.ts";
import type { VirtualLink } from "./link.ts";
import type { TcpNatTable } from "./_tcp_nat.ts";
import type { Hairpinning, NatTable, Refusal } from "./nat.ts";
import { newCounters, type VirtualCounters } from "./trace.ts";

const HTTPS = 443;

/** A gateway's inner workings: a port outside, the exit of a network inside, and the tables between them. */
export class GatewayCore implements Port, Exit, Node {
  readonly name: string;
  readonly counters: VirtualCounters = newCounters();
  readonly inside: Subnet;
  readonly outside: Attachment;
  /** UDP's table. */
  readonly table: NatTable;
  readonly tcpTable: TcpNatTable;
  readonly hairpinning: Hairpinning;
  link!: VirtualLink;
  isUdpBlocked = false;
  tcp: "allowed" | "tls only" | "blocked" = "allowed";
  #wire: Wire;

  constructor(wire: Wire, name: string, to: {
    outside: Segment;
    table: NatTable;
    tcpTable: TcpNatTable;
    hairpinning: Hairpinning;
  }) {
    this.#wire = wire;
    this.name = name;
    this.table = to.table;
    this.tcpTable = to.tcpTable;
    this.hairpinning = to.hairpinning;
    this.inside = new Subnet(this, wire);
    this.outside = new Attachment(to.outside, this);
  }

  get node(): Node {
    return this;
  }

  get down(): Carrier {
    return this.link.down;
  }

  /** From inside to an address that nobody inside has. */
  leave(datagram: Datagram): void {
    const { source, destination } = datagram;
    if (this.#isBlocked(datagram, destination.port)) return this.#drop("blocked", datagram);
    if (!isForwarded(source.bytes) || !isForwarded(destination.bytes)) return this.#drop("noRoute", datagram);
    const isHairpin = this.outside.has(destination.ipKey);
    if (isHairpin && this.hairpinning === "none") return this.#drop("noHairpin", datagram);
    const external = this.#outbound(datagram);
    if (typeof external === "string") return this.#drop(external, datagram);
    if (isHairpin) return this.#turnBack(datagram, external);
    datagram.source = external;
    if (external !== source) this.#wire.record("translated", this, datagram);
    this.link.up.carry(datagram, this.outside.segment);
  }

  /** From outside. */
  arrive(datagram: Datagram): void {
    const { source, destination } = datagram;
    if (this.#isBlocked(datagram, source.port)) return this.#drop("blocked", datagram);
    const internal = this.#inbound(source, datagram);
    if (typeof internal === "string") return this.#drop(internal, datagram);
    datagram.destination = internal;
    if (internal !== destination && !internal.equals(destination)) this.#wire.record("translated", this, datagram);
    if (!this.inside.deliver(datagram)) this.#drop("noRoute", datagram);
  }

  ownerOf(address: TransportAddress): Port | undefined {
    return this.table.isTranslated(address.family) ? undefined : this.outside.segment.ownerOf(address);
  }

  attach(address: TransportAddress): void {
    if (this.#isRouted(address)) this.outside.segment.attach(address, this);
  }

  detach(address: TransportAddress): void {
    if (this.#isRouted(address)) this.outside.segment.detach(address);
  }

  #isRouted(address: TransportAddress): boolean {
    return !this.table.isTranslated(address.family) && isForwarded(address.bytes);
  }

  // RFC 4787 §6: as if it had gone out and come in again, filter and all.
  #turnBack(datagram: Datagram, external: TransportAddress): void {
    const internal = this.#inbound(external, datagram);
    if (typeof internal === "string") return this.#drop(internal, datagram);
    if (this.hairpinning === "external-source") datagram.source = external;
    datagram.destination = internal;
    this.#wire.record("hairpinned", this, datagram);
    if (!this.inside.deliver(datagram)) this.#drop("noRoute", datagram);
  }

  /** A network that is for browsing only knows one port out there. */
  #isBlocked({ header }: Datagram, portOutside: number): boolean {
    if (header === undefined) return this.isUdpBlocked;
    return this.tcp === "blocked" || (this.tcp === "tls only" && portOutside !== HTTPS);
  }

  #outbound({ source, destination, header }: Datagram): TransportAddress | Refusal | "noPort" {
    const { now } = this.#wire.queue;
    if (header === undefined) return this.table.outbound(source, destination, now) ?? "noPort";
    return this.tcpTable.outbound(source, destination, { flags: header.flags, now });
  }

  #inbound(source: TransportAddress, { destination, header }: Datagram): TransportAddress | Refusal {
    const { now } = this.#wire.queue;
    if (header === undefined) return this.table.inbound(source, destination, now);
    return this.tcpTable.inbound(source, destination, { flags: header.flags, now });
  }

  #drop(step: Parameters<Wire["drop"]>[0], datagram: Datagram): void {
    this.#wire.drop(step, this, datagram);
  }
}
