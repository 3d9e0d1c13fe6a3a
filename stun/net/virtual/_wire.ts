import type { TransportAddress } from "../../address.ts";
import type { IcmpMessage } from "../../machine.ts";
import { HEADROOM } from "../transport.ts";
import { EventQueue, VirtualEvent } from "./_queue.ts";
import { SeededRandom } from "./_random.ts";
import { flagsText, type TcpHeader } from "./_tcp_header.ts";
import { type DatagramView, newCounters, type TraceStep, type VirtualCounters, type VirtualStep } from "./trace.ts";

const SLOT_SIZE = 2048 + HEADROOM;
const SPARE_LIMIT = 4096;
// What a program finds in a datagram that it kept a view of, when it should have copied it.
const STALE = 0xdd;

/** A host or a gateway: what counters and traces name. */
export interface Node {
  readonly name: string;
  readonly counters: VirtualCounters;
}

/** Where a datagram goes next. */
export interface Hop {
  arrive(datagram: Datagram): void;
}

/** A node's side of a network: datagrams for its addresses go down its link and then to it. */
export interface Port extends Hop {
  readonly node: Node;
  readonly down: Carrier;
  /** Whether somebody here has joined this group. */
  hasJoined?(group: TransportAddress): boolean;
}

/** One direction of a link. */
export interface Carrier {
  carry(datagram: Datagram, next: Hop): void;
}

/** A network as those attached to it see it. */
export interface Segment extends Hop {
  /** Whose address it is, here or in a network from which it can be reached without translation. */
  ownerOf(address: TransportAddress): Port | undefined;
  attach(address: TransportAddress, port: Port): void;
  detach(address: TransportAddress): void;
}

/**
 * A datagram or a TCP segment under way: one event at a time, from hop to hop. Hops look at nothing but addresses and length;
 * gateways at the header too.
 */
export class Datagram extends VirtualEvent implements DatagramView {
  id = 0;
  source!: TransportAddress;
  destination!: TransportAddress;
  next!: Hop;
  /** `HEADROOM` free bytes, then the payload. */
  buffer: Uint8Array;
  length = 0;
  /** What makes it a TCP segment. */
  header: TcpHeader | undefined;
  /** Who is told by ICMP if it does not arrive. */
  reporter: IcmpReporter | undefined;

  constructor(buffer: Uint8Array) {
    super();
    this.buffer = buffer;
  }

  get tcp(): string | undefined {
    return this.header === undefined ? undefined : flagsText(this.header.flags);
  }

  get bytes(): Uint8Array {
    return this.buffer.subarray(HEADROOM, HEADROOM + this.length);
  }

  run(): void {
    this.next.arrive(this);
  }
}

/** The sender of a datagram, as ICMP needs it. */
export interface IcmpReporter {
  /** The destination, as the sender knows it. */
  readonly to: TransportAddress;
  /** When it was sent. */
  readonly sentAt: number;
  /** Whether it must not be fragmented. */
  readonly dontFragment: boolean;
  /** Takes the message. */
  report(message: IcmpMessage): void;
}

/** An ICMP message under way. Routers and gateways let it through, as RFC 5508 §3 has it, and translate what it is about. */
class IcmpEvent extends VirtualEvent {
  #wire: Wire;
  #reporter: IcmpReporter;
  #message: IcmpMessage;

  constructor(wire: Wire, reporter: IcmpReporter, message: IcmpMessage) {
    super();
    this.#wire = wire;
    this.#reporter = reporter;
    this.#message = message;
  }

  run(): void {
    this.#wire.touched = true;
    this.#reporter.report(this.#message);
  }
}

/** Type and code for what became of a datagram: of ICMP and of ICMPv6. */
const ICMP_CODES: Partial<Record<VirtualStep, { readonly 4: readonly number[]; readonly 6: readonly number[] }>> = {
  noSocket: { 4: [3, 3], 6: [1, 4] },
  noRoute: { 4: [3, 0], 6: [1, 0] },
  tooBig: { 4: [3, 4], 6: [2, 0] },
};

/** What all parts of one world share: queue and clock, counters, trace, names, the memory of datagrams. */
export class Wire {
  readonly queue: EventQueue = new EventQueue();
  readonly counters: VirtualCounters = newCounters();
  readonly names: Map<string, readonly string[]> = new Map();
  /** Datagrams that are under way. */
  inFlight = 0;
  /** Set whenever code from outside the virtual internet has run, and may have woken more of it. */
  touched = false;
  trace: ((step: TraceStep) => void) | undefined;
  #seed: number | string;
  #nodes = new Set<string>();
  #lastSequence = 0;
  #spares: Datagram[] = [];
  #lastId = 0;

  constructor(seed: number | string) {
    this.#seed = seed;
  }

  /** The random stream of this name. */
  random(name: string): SeededRandom {
    return new SeededRandom(`${this.#seed}/${name}`);
  }

  /** Adds a host or gateway. Its name is unique, as it also names random streams; it is free again if `add` throws. */
  register<T>(name: string, add: () => T): T {
    if (this.#nodes.has(name)) throw new Error(`Cannot add "${name}" as the world has a host or gateway of that name`);
    const added = add();
    this.#nodes.add(name);
    return added;
  }

  /** An initial sequence number. Connections have 4 GiB each before two could be taken for one another. */
  nextSequence(): number {
    return this.#lastSequence += 2 ** 32;
  }

  /** A datagram with a copy of the payload; with a header it is a TCP segment. */
  datagram(
    source: TransportAddress,
    destination: TransportAddress,
    { bytes, offset, length }: { bytes: Uint8Array; offset: number; length: number },
    header?: TcpHeader,
  ): Datagram {
    const datagram = this.#blank(length);
    datagram.header = header;
    datagram.reporter = undefined;
    datagram.id = ++this.#lastId;
    datagram.source = source;
    datagram.destination = destination;
    datagram.buffer.set(bytes.subarray(offset, offset + length), HEADROOM);
    return datagram;
  }

  /** A second one of the same. */
  copy(original: Datagram): Datagram {
    const datagram = this.#blank(original.length);
    datagram.id = original.id;
    datagram.header = original.header;
    datagram.reporter = undefined;
    datagram.source = original.source;
    datagram.destination = original.destination;
    datagram.buffer.set(original.bytes, HEADROOM);
    return datagram;
  }

  /** Counts and traces a step. */
  record(step: VirtualStep, node: Node, datagram: Datagram): void {
    this.counters[step]++;
    if (node.counters !== this.counters) node.counters[step]++;
    if (this.trace === undefined) return;
    this.touched = true;
    const { id, source, destination, bytes, tcp } = datagram;
    const step_ = { at: this.queue.now, step, node: node.name, id, source, destination, bytes };
    this.trace(tcp === undefined ? step_ : { ...step_, tcp });
  }

  /** The end of a datagram that was not delivered; with `mtu` it was too long for that. */
  drop(step: VirtualStep, node: Node, datagram: Datagram, mtu = 0): void {
    this.record(step, node, datagram);
    if (datagram.reporter !== undefined) this.#answerByIcmp(step, datagram.reporter, mtu);
    if (step === "noRoute" || step === "tooBig") datagram.header?.onRefused?.(step);
    this.release(datagram);
  }

  /** Takes a datagram's memory back. It is overwritten, so that a program that goes on reading it is found out. */
  release(datagram: Datagram): void {
    this.inFlight--;
    datagram.buffer.fill(STALE, 0, HEADROOM + datagram.length);
    if (datagram.buffer.length === SLOT_SIZE && this.#spares.length < SPARE_LIMIT) this.#spares.push(datagram);
  }

  #answerByIcmp(step: VirtualStep, reporter: IcmpReporter, mtu: number): void {
    const { to, sentAt, dontFragment } = reporter;
    const codes = ICMP_CODES[step]?.[to.family];
    // IPv4 routers would have fragmented it: nobody tells of a fragment that got lost.
    const isSilent = step === "tooBig" && (mtu === 0 || (!dontFragment && to.family === 4));
    if (codes === undefined || isSilent) return;
    const message: IcmpMessage = { to, type: codes[0]!, code: codes[1]!, mtu };
    const { now } = this.queue;
    this.queue.set(new IcmpEvent(this, reporter, message), now + (now - sentAt));
  }

  #blank(length: number): Datagram {
    this.inFlight++;
    const datagram = length <= SLOT_SIZE - HEADROOM
      ? this.#spares.pop() ?? new Datagram(new Uint8Array(SLOT_SIZE))
      : new Datagram(new Uint8Array(HEADROOM + length));
    datagram.length = length;
    return datagram;
  }
}
