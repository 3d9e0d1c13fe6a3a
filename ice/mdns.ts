import { isIpAddress, TransportAddress } from "../stun/address.ts";
import { DeadlineHeap, type Machine, type MachineIo, type Packet, type SocketId, Timer } from "../stun/machine.ts";
import { decodeDns, type DnsMessage, encodeDns } from "./_dns_packet.ts";
import { Budget } from "./_mdns_budget.ts";
import { HeardNames } from "./_mdns_heard.ts";
import { announcementOf, type Answer, answerTo, type Registration } from "./_mdns_records.ts";
import { isMdnsName } from "./mdns_name.ts";

/** The port of mDNS (RFC 6762 §3). */
export const MDNS_PORT = 5353;
/** Its groups. */
export const MDNS_GROUPS: Readonly<Record<4 | 6, TransportAddress>> = {
  4: TransportAddress.of("224.0.0.251", MDNS_PORT),
  6: TransportAddress.of("ff02::fb", MDNS_PORT),
};

/** When a question is asked, in ms from the first time (RFC 6762 §5.2: a second apart, then twice that). */
const ASK_AT: readonly number[] = [0, 1000, 3000];
const GIVE_UP_AT = 5000;
/**
 * What is asked of a name: two messages, as Chromium answers those with one question only. Not for unicast responses, which
 * would go to whichever program of those that share the port has bound it last.
 */
const QUESTIONS: readonly string[] = ["A", "AAAA"];
/**
 * When a name is announced, in ms (RFC 6762 §8.3: twice, a second apart). Not at once: a record that was sent to all may
 * not be sent again within a second (§6), and the peer's question is about to come.
 */
const ANNOUNCE_AT: readonly number[] = [1000, 2000];
/** RFC 6762 §6: a record goes to all once in a second at most. */
const MULTICAST_GAP = 1000;
/** A message of one question or answer has some 80 bytes; RFC 6762 §17 allows no more than this. */
const MAX_MESSAGE = 9000;
const MAX_LOOKUPS = 64;
const MAX_REGISTRATIONS = 256;

/** What came of a lookup. */
export interface MdnsEvent {
  /** Says so. */
  readonly type: "resolved";
  /** The name, in lower case. */
  readonly name: string;
  /** The IP address, with port 0; `undefined` if there is none, or more than one. */
  readonly address: TransportAddress | undefined;
}

/** What was sent and refused. */
export interface MdnsCounters {
  /** Messages that ask. */
  queriesSent: number;
  /** Messages that answer. */
  answersSent: number;
  /** Messages that announce a name, or its end. */
  announcementsSent: number;
  /** Messages that were not sent, lookups and names that were not taken in: too many at a time. */
  overLimit: number;
  /** Messages that were none. */
  malformed: number;
}

/** A name that is looked up. */
interface Lookup {
  readonly kind: "lookup";
  readonly name: string;
  readonly startedAt: number;
  asked: number;
}

/** A name of ours, and its announcing. */
interface Own extends Registration {
  readonly kind: "own";
  readonly since: number;
  announced: number;
  /** When it last went to all. */
  toAllAt: number;
  readonly timer: Timer<Lookup | Own>;
}

/** A socket that has joined a group. */
interface Member {
  readonly socket: SocketId;
  readonly address: TransportAddress;
  /** The network interface's name. */
  readonly link: string;
}

/**
 * Multicast DNS (RFC 6762), as much of it as ICE candidates without addresses take (draft-ietf-rtcweb-mdns-ice-candidates):
 * the names of others are looked up, and those of ours answered for, each on the link that it belongs to.
 *
 * All it sends is bounded: six questions for a name on a link, and 50 messages at a time, 10 a second in the long run (§6.1 there).
 */
export class Mdns implements Machine<MdnsEvent> {
  /** What was sent and refused. */
  readonly counters: MdnsCounters = {
    queriesSent: 0,
    answersSent: 0,
    announcementsSent: 0,
    overLimit: 0,
    malformed: 0,
  };
  #members = new Map<SocketId, Member>();
  #lookups = new Map<string, Timer<Lookup | Own>>();
  #own = new Map<string, Own>();
  #timers = new DeadlineHeap<Lookup | Own>();
  #heard = new HeardNames();
  #budget = new Budget();

  /** When `handleTimeout()` is due. */
  get deadline(): number {
    return this.#timers.deadline;
  }

  /** How many lookups are under way. */
  get lookups(): number {
    return this.#lookups.size;
  }

  /** Takes in a socket that has joined the group of its family on an interface. */
  addSocket(socket: SocketId, address: TransportAddress, link: string): void {
    this.#members.set(socket, { socket, address, link });
  }

  /** Forgets a socket. */
  removeSocket(socket: SocketId): void {
    this.#members.delete(socket);
  }

  /**
   * Looks up a name; an event tells what came of it, within 5 s. A lookup that is under way is not begun again.
   *
   * @param name In lower case.
   */
  resolve(name: string, io: MachineIo<MdnsEvent>): void {
    const known = this.#own.get(name)?.address ?? this.#heard.get(name, io.now);
    if (known !== undefined) return io.emit({ type: "resolved", name, address: known });
    if (this.#lookups.has(name)) return;
    if (this.#lookups.size >= MAX_LOOKUPS) {
      this.counters.overLimit++;
      return io.emit({ type: "resolved", name, address: undefined });
    }
    const timer = new Timer<Lookup | Own>({ kind: "lookup", name, startedAt: io.now, asked: 0 });
    this.#lookups.set(name, timer);
    this.#ask(timer, timer.owner as Lookup, io);
  }

  /** Ends a lookup without an event. */
  cancel(name: string): void {
    const timer = this.#lookups.get(name);
    if (timer !== undefined) this.#timers.clear(timer);
    this.#lookups.delete(name);
  }

  /**
   * Answers for a name from now on.
   *
   * @param name In lower case.
   * @param address The IP address that it stands for; its port does not matter.
   * @param link The name of the interface that has it: there, and nowhere else, the name is known.
   */
  register(name: string, address: TransportAddress, link: string, io: MachineIo<MdnsEvent>): void {
    if (this.#own.size >= MAX_REGISTRATIONS) {
      this.counters.overLimit++;
      return;
    }
    const own: Own = {
      kind: "own",
      name,
      address: address.withPort(0),
      link,
      since: io.now,
      announced: 0,
      toAllAt: -Infinity,
      get timer() {
        return timer;
      },
    };
    const timer = new Timer<Lookup | Own>(own);
    this.#own.set(name, own);
    this.#timers.set(timer, io.now + ANNOUNCE_AT[0]!);
  }

  /** Does not answer for a name any more, and says so to those who have heard of it (RFC 6762 §10.1). */
  unregister(name: string, io: MachineIo<MdnsEvent>): void {
    const own = this.#own.get(name);
    if (own === undefined) return;
    this.#own.delete(name);
    this.#timers.clear(own.timer);
    if (own.toAllAt !== -Infinity) this.#sendToAll([own], announcementOf([own], 0), "announcementsSent", io);
  }

  /** See `Machine`. */
  handleTimeout(io: MachineIo<MdnsEvent>): void {
    for (let timer = this.#timers.expire(io.now); timer !== undefined; timer = this.#timers.expire(io.now)) {
      const { owner } = timer;
      if (owner.kind === "own") this.#announce(owner, io);
      else if (io.now < owner.startedAt + GIVE_UP_AT) this.#ask(timer, owner, io);
      else this.#settle(owner.name, undefined, io);
    }
  }

  /** See `Machine`. */
  handlePacket(packet: Packet, io: MachineIo<MdnsEvent>): void {
    const { length } = packet;
    // RFC 6762 §18.3, §18.11: with an opcode or a response code it is not for us.
    const flags = length < 12 ? 0 : (packet.buffer[packet.offset + 2]! << 8) | packet.buffer[packet.offset + 3]!;
    if (length < 12 || length > MAX_MESSAGE || (flags & 0x780f) !== 0) {
      this.counters.malformed++;
      return;
    }
    const isResponse = (flags & 0x8000) !== 0;
    if (!isResponse && this.#own.size === 0) return;
    const message = decodeDns(packet.bytes);
    if (message === undefined) this.counters.malformed++;
    // RFC 6762 §6: a response from another port is none.
    else if (!isResponse) this.#handleQuery(message, packet, io);
    else if (packet.from.port === MDNS_PORT) this.#handleResponse(message, io);
  }

  #ask(timer: Timer<Lookup | Own>, lookup: Lookup, io: MachineIo<MdnsEvent>): void {
    const members = [...this.#members.values()];
    const cost = QUESTIONS.length * members.length;
    if (lookup.asked < ASK_AT.length && !this.#budget.take(cost, io.now)) {
      this.counters.overLimit++;
      this.#timers.set(timer, Math.min(this.#budget.nextAt(cost), lookup.startedAt + GIVE_UP_AT));
      return;
    }
    if (lookup.asked < ASK_AT.length) {
      for (const type of QUESTIONS) {
        const query = encodeDns({ type: "query", questions: [{ name: lookup.name, type }] });
        for (const { socket, address } of members) io.send(socket, MDNS_GROUPS[address.family], query);
      }
      this.counters.queriesSent += cost;
      lookup.asked++;
    }
    this.#timers.set(timer, lookup.startedAt + (ASK_AT[lookup.asked] ?? GIVE_UP_AT));
  }

  #handleResponse({ answers, additionals }: Required<DnsMessage>, io: MachineIo<MdnsEvent>): void {
    const found = new Map<string, { readonly ttl: number; readonly addresses: Set<string> }>();
    for (const { name, type, data, ttl } of [...answers, ...additionals]) {
      const key = name.toLowerCase();
      // A record that was cut short decodes to something that is no address.
      if ((type !== "A" && type !== "AAAA") || !isMdnsName(key) || !isIpAddress(String(data))) continue;
      const { addresses } = found.get(key) ?? { addresses: new Set<string>() };
      found.set(key, { ttl, addresses: addresses.add(String(data)) });
    }
    for (const [name, { ttl, addresses: [text, another] }] of found) {
      // §3.2.2 of the draft: with more than one address a candidate is ignored.
      const address = another === undefined ? TransportAddress.of(text!, 0) : undefined;
      if (address === undefined) this.#heard.delete(name);
      else this.#heard.set(name, address, ttl, io.now);
      // Without time to live it is a farewell (RFC 6762 §10.1).
      if (ttl > 0 && this.#lookups.has(name)) this.#settle(name, address, io);
    }
  }

  #settle(name: string, address: TransportAddress | undefined, io: MachineIo<MdnsEvent>): void {
    this.cancel(name);
    io.emit({ type: "resolved", name, address });
  }

  #handleQuery(query: Required<DnsMessage>, { from }: Packet, io: MachineIo<MdnsEvent>): void {
    const isLegacy = from.port !== MDNS_PORT;
    for (const answer of answerTo(query, this.#own, isLegacy)) {
      const own = this.#own.get(answer.name)!;
      const isRecent = io.now < own.toAllAt + MULTICAST_GAP;
      if (isLegacy || answer.wantsUnicast || isRecent) this.#sendToOne(own, answer, from, io);
      else this.#sendToAll([own], answer.message, "answersSent", io);
    }
  }

  #sendToOne(own: Own, { message }: Answer, to: TransportAddress, io: MachineIo<MdnsEvent>): void {
    // RFC 6762 §11: who is not on the link gets nothing. What goes to all can not leave the link.
    const member = [...this.#members.values()].find(({ address, link }) => link === own.link && isNear(address, to));
    if (member === undefined) return;
    if (!this.#budget.take(1, io.now)) {
      this.counters.overLimit++;
      return;
    }
    io.send(member.socket, to, encodeDns(message));
    this.counters.answersSent++;
  }

  #announce(own: Own, io: MachineIo<MdnsEvent>): void {
    own.announced++;
    if (io.now >= own.toAllAt + MULTICAST_GAP) {
      this.#sendToAll([own], announcementOf([own]), "announcementsSent", io);
    }
    const next = ANNOUNCE_AT[own.announced];
    if (next !== undefined) this.#timers.set(own.timer, own.since + next);
  }

  #sendToAll(
    names: readonly Own[],
    message: DnsMessage,
    counter: "answersSent" | "announcementsSent",
    io: MachineIo<MdnsEvent>,
  ): void {
    const { link } = names[0]!;
    const members = [...this.#members.values()].filter((member) => member.link === link);
    if (members.length === 0) return;
    if (!this.#budget.take(members.length, io.now)) {
      this.counters.overLimit++;
      return;
    }
    const bytes = encodeDns(message);
    for (const { socket, address } of members) io.send(socket, MDNS_GROUPS[address.family], bytes);
    for (const own of names) own.toAllAt = io.now;
    this.counters[counter] += members.length;
  }
}

/** Whether two addresses are likely of one link: both link-local or loopback, or alike in 24 or 64 bits. */
function isNear(one: TransportAddress, other: TransportAddress): boolean {
  if (one.family !== other.family) return false;
  const prefix = one.family === 6 ? 8 : one.bytes[0] === 127 ? 1 : one.bytes[0] === 169 && one.bytes[1] === 254 ? 2 : 3;
  return one.bytes.subarray(0, prefix).every((byte, i) => byte === other.bytes[i]);
}
