// What a NAT probe works with: sockets on ports of its own choice, paced requests, and a record of all that came of them.
import type { TransportAddress } from "./address.ts";
import {
  ERROR_CODE_ATTRIBUTE,
  MAPPED_ADDRESS,
  MESSAGE_INTEGRITY,
  MESSAGE_INTEGRITY_SHA256,
  NONCE,
  REALM,
  SOFTWARE,
  UNKNOWN_ATTRIBUTES,
  XOR_MAPPED_ADDRESS,
} from "./attributes.ts";
import {
  CHANGED_ADDRESS,
  OTHER_ADDRESS,
  PADDING,
  REFLECTED_FROM,
  RESPONSE_ADDRESS,
  RESPONSE_ORIGIN,
  SOURCE_ADDRESS,
} from "./discovery_attributes.ts";
import { DeadlineHeap, type MachineIo, type OpenFailure, type Packet, type SocketId, Timer } from "./machine.ts";
import { MessageWriter, METHOD, newTransactionId, StunMessage, transactionKey } from "./message.ts";
import type { ProbeOutcome, ProbeResult } from "./nat_report.ts";
import { randomBelow } from "./random.ts";
import { ClientTransaction, type RetransmitOptions } from "./transaction.ts";

/** What an answer may have below 0x8000 (RFC 8489 §6.3.3), classic servers' attributes among it. */
const KNOWN: ReadonlySet<number> = new Set([
  ...[MAPPED_ADDRESS, XOR_MAPPED_ADDRESS, ERROR_CODE_ATTRIBUTE, UNKNOWN_ATTRIBUTES, MESSAGE_INTEGRITY, PADDING],
  ...[REALM, NONCE, MESSAGE_INTEGRITY_SHA256, SOURCE_ADDRESS, CHANGED_ADDRESS, REFLECTED_FROM, RESPONSE_ADDRESS],
].map(({ type }) => type));
// RFC 5780 §4.1: ports at random from IANA's dynamic range, so that none has recent traffic.
const FIRST_PORT = 49152;
const PORT_COUNT = 16384;
const PORT_TRIES = 8;
const REQUEST_SIZE = 2048;

/** What an answer says. */
export interface ProbeAnswer {
  /** Where it came from. */
  readonly from: TransportAddress;
  /** Which socket it came to. */
  readonly socket: SocketId;
  /** The address that the server saw; by XOR-MAPPED-ADDRESS if there is one. */
  readonly mapped: TransportAddress;
  /** Whether MAPPED-ADDRESS and XOR-MAPPED-ADDRESS agree; `undefined` if there are not both. */
  readonly agrees: boolean | undefined;
  /** The server's other address and port. */
  readonly otherAddress: TransportAddress | undefined;
  /** Where the server says it has answered from (RESPONSE-ORIGIN). */
  readonly origin: TransportAddress | undefined;
  /** The length of its PADDING; `undefined` without one. */
  readonly padding: number | undefined;
  /** Its SOFTWARE, without what is not for people's eyes: a terminal may obey it. */
  readonly software: string | undefined;
  /** Whether the server looks like one of RFC 3489 only. */
  readonly isClassic: boolean;
}

/** A request to send. */
export interface ProbeWish<Event> {
  /** What it is for. */
  readonly test: string;
  /** Where to send it from. */
  readonly socket: SocketId;
  /** Where to send it to. */
  readonly to: TransportAddress;
  /** How to repeat it. */
  readonly retransmit: RetransmitOptions;
  /** Adds attributes. */
  readonly write?: (writer: MessageWriter) => void;
  /** Whether an answer may come from there, and to that socket. Default: from `to` to `socket` only. */
  readonly isRightWay?: (from: TransportAddress, socket: SocketId) => boolean;
  /** Whether it leaves at once rather than after those that were asked before it. */
  readonly isUrgent?: boolean;
  /** Called once at its end. */
  readonly done: (probe: Probe<Event>, io: MachineIo<Event>) => void;
}

/** A request and what came of it, so far. */
export class Probe<Event> {
  /** What was asked. */
  readonly wish: ProbeWish<Event>;
  /** Where it was sent from. */
  readonly local: TransportAddress | undefined;
  /** What came of it; `"silent"` as long as nothing did. */
  outcome: ProbeOutcome = "silent";
  /** The answer, if there is one that can be used. */
  answer: ProbeAnswer | undefined;
  /** The code of an error response. */
  code: number | undefined;
  /** Where the first answer came from, be it of use or not. */
  from: TransportAddress | undefined;
  /** When the first answer came after the first sending, in ms. */
  rtt: number | undefined;
  /** How many answers came the right way. */
  answers = 0;
  /** Whether `done` was called. */
  isDone = false;
  /** Where the request itself came back in, and from where: the NAT hairpins. */
  looped: { readonly socket: SocketId; readonly from: TransportAddress } | undefined;
  /** @internal Set when it is sent. */
  transaction: ClientTransaction | undefined;
  /** @internal */
  readonly timer: Timer<Task<Event>>;

  /** @internal */
  constructor(wish: ProbeWish<Event>, local: TransportAddress | undefined, due: (probe: Probe<Event>) => Task<Event>) {
    this.wish = wish;
    this.local = local;
    this.timer = new Timer(due(this));
  }

  /** When it was first sent; `NaN` before. */
  get startedAt(): number {
    return this.transaction?.startedAt ?? NaN;
  }

  /** For the report. */
  get result(): ProbeResult {
    const sends = this.transaction?.sends ?? 0;
    return {
      test: this.wish.test,
      local: this.local ?? null,
      to: this.wish.to,
      // Each sending may have been answered once.
      outcome: this.outcome === "answered" && this.answers > sends ? "answered twice" : this.outcome,
      from: this.from ?? null,
      mapped: this.answer?.mapped ?? null,
      code: this.code ?? null,
      rtt: this.rtt === undefined ? null : Math.round(this.rtt * 1000) / 1000,
      sends,
    };
  }
}

/** Something to do later. */
export type Task<Event> = (io: MachineIo<Event>) => void;

/** A socket that was opened. */
export interface ProbeSocket {
  /** Its number. */
  readonly socket: SocketId;
  /** What it is bound to. */
  readonly local: TransportAddress;
}

interface Opening<Event> {
  readonly address: string;
  readonly tries: number;
  readonly then: (opened: ProbeSocket | undefined, failure: OpenFailure | undefined, io: MachineIo<Event>) => void;
}

/** Sockets, timers and requests of a NAT probe. A part of a machine, which hands it everything that happens. */
export class ProbeRig<Event> {
  /** Every request, in the order of asking. */
  readonly probes: Probe<Event>[] = [];
  /** How many datagrams came that belong to nothing. */
  strays = 0;
  #pacing: number;
  #onEnd: (probe: Probe<Event>, io: MachineIo<Event>) => void;
  #timers = new DeadlineHeap<Task<Event>>();
  #openings = new Map<SocketId, Opening<Event>>();
  #sockets = new Map<SocketId, TransportAddress>();
  #byKey = new Map<string, Probe<Event>>();
  #queue: Probe<Event>[] = [];
  #paceTimer = new Timer<Task<Event>>((io) => this.#startNext(io));
  #nextStart = -Infinity;

  /**
   * @param pacing How many ms are between the first sendings of two requests (RFC 5780 §5: 100 at least).
   * @param onEnd Called whenever a request ends, before its `done`.
   */
  constructor(pacing: number, onEnd: (probe: Probe<Event>, io: MachineIo<Event>) => void) {
    this.#pacing = pacing;
    this.#onEnd = onEnd;
  }

  /** When `handleTimeout()` is due. */
  get deadline(): number {
    return this.#timers.deadline;
  }

  /** Does something at a time. */
  at(time: number, task: Task<Event>): Timer<Task<Event>> {
    const timer = new Timer(task);
    this.#timers.set(timer, time);
    return timer;
  }

  /** Takes back what `at()` or a later time was set for. */
  clear(timer: Timer<Task<Event>>): void {
    this.#timers.clear(timer);
  }

  /** Opens several sockets. */
  openAll(
    address: string,
    count: number,
    io: MachineIo<Event>,
    then: (opened: readonly ProbeSocket[], io: MachineIo<Event>) => void,
  ): void {
    const all: ProbeSocket[] = [];
    let answers = 0;
    for (let i = 0; i < count; i++) {
      this.open(address, io, (opened, _failure, io) => {
        if (opened !== undefined) all.push(opened);
        if (++answers === count) then(all, io);
      });
    }
  }

  /** Opens a socket on a random port. */
  open(address: string, io: MachineIo<Event>, then: Opening<Event>["then"]): void {
    this.#open({ address, tries: 1, then }, io);
  }

  /** Closes a socket. What is still to be sent from it is not, and nothing of it is `done`. */
  close(socket: SocketId, io: MachineIo<Event>): void {
    if (!this.#sockets.delete(socket)) return;
    for (const probe of this.probes) if (probe.wish.socket === socket && !probe.isDone) this.abandon(probe);
    io.close(socket);
  }

  /** Sends a request, as soon as it is its turn. */
  ask(wish: ProbeWish<Event>, io: MachineIo<Event>): Probe<Event> {
    const probe = new Probe(wish, this.#sockets.get(wish.socket), (probe) => (io) => this.#handleDue(probe, io));
    this.probes.push(probe);
    if (wish.isUrgent === true || (this.#queue.length === 0 && io.now >= this.#nextStart)) this.#start(probe, io);
    else {
      this.#queue.push(probe);
      if (this.#paceTimer.index === -1) this.#timers.set(this.#paceTimer, Math.max(io.now, this.#nextStart));
    }
    return probe;
  }

  /** Waits for it no longer, without its `done`. */
  abandon(probe: Probe<Event>): void {
    if (probe.isDone) return;
    probe.isDone = true;
    if (probe.outcome === "silent") probe.outcome = "abandoned";
    this.#timers.clear(probe.timer);
    const queued = this.#queue.indexOf(probe);
    if (queued !== -1) this.#queue.splice(queued, 1);
  }

  /** Does what is due. */
  handleTimeout(io: MachineIo<Event>): void {
    for (let due = this.#timers.expire(io.now); due !== undefined; due = this.#timers.expire(io.now)) due.owner(io);
  }

  /** A socket is there. */
  handleOpened(socket: SocketId, local: TransportAddress, io: MachineIo<Event>): void {
    const opening = this.#openings.get(socket);
    this.#openings.delete(socket);
    if (opening === undefined) return io.close(socket);
    this.#sockets.set(socket, local);
    opening.then({ socket, local }, undefined, io);
  }

  /** A socket is not there. */
  handleOpenFailed(socket: SocketId, failure: OpenFailure, io: MachineIo<Event>): void {
    const opening = this.#openings.get(socket);
    this.#openings.delete(socket);
    if (opening === undefined) return;
    if (failure === "address-in-use" && opening.tries < PORT_TRIES) {
      return this.#open({ ...opening, tries: opening.tries + 1 }, io);
    }
    opening.then(undefined, failure, io);
  }

  /** Takes in a datagram: an answer, or a request of our own that a NAT has turned back. */
  handlePacket(packet: Packet, io: MachineIo<Event>): void {
    const message = StunMessage.parse(packet.bytes, { classic: true });
    const probe = message === undefined ? undefined : this.#byKey.get(message.transactionKey);
    if (message === undefined || probe === undefined || message.class === "indication" || !message.hasCookie) {
      return this.#noteMisfit(packet, message === undefined ? "garbage" : "wrong transaction");
    }
    if (message.class === "request") {
      // To the socket that sent it no NAT turns it back, but a server may.
      if (packet.socket === probe.wish.socket) return this.#noteMisfit(packet, "garbage");
      return this.#handleLoop(probe, packet, io);
    }
    probe.from ??= packet.from;
    const { isRightWay, to, socket } = probe.wish;
    const isRight = isRightWay?.(packet.from, packet.socket) ?? (packet.from.equals(to) && packet.socket === socket);
    if (!isRight) {
      if (probe.outcome === "silent") probe.outcome = "wrong address";
      return;
    }
    this.#handleAnswer(probe, message, packet, io);
  }

  #handleAnswer(probe: Probe<Event>, message: StunMessage, packet: Packet, io: MachineIo<Event>): void {
    probe.answers++;
    if (probe.answer !== undefined || probe.code !== undefined) return;
    probe.rtt = io.now - probe.startedAt;
    probe.from = packet.from;
    if (probe.isDone) {
      if (probe.outcome !== "abandoned") probe.outcome = "too late";
      return;
    }
    if (message.method !== METHOD.BINDING || message.unknownRequired(KNOWN).length > 0) probe.outcome = "garbage";
    else if (message.class === "error") {
      probe.outcome = "error";
      probe.code = message.get(ERROR_CODE_ATTRIBUTE)?.code;
    } else {
      probe.answer = readAnswer(message, packet);
      probe.outcome = probe.answer === undefined ? "no address" : "answered";
    }
    this.#end(probe, io);
  }

  #handleLoop(probe: Probe<Event>, packet: Packet, io: MachineIo<Event>): void {
    if (probe.looped !== undefined || probe.isDone) return;
    probe.outcome = "looped";
    probe.looped = { socket: packet.socket, from: packet.from };
    this.#end(probe, io);
  }

  /** Something that is no answer came from where an answer was expected. */
  #noteMisfit(packet: Packet, outcome: "garbage" | "wrong transaction"): void {
    let isExpected = false;
    for (const probe of this.#byKey.values()) {
      if (probe.isDone || probe.wish.socket !== packet.socket || !probe.wish.to.equals(packet.from)) continue;
      isExpected = true;
      probe.from ??= packet.from;
      if (probe.outcome === "silent" || probe.outcome === "garbage") probe.outcome = outcome;
    }
    if (!isExpected) this.strays++;
  }

  #open(opening: Opening<Event>, io: MachineIo<Event>): void {
    // The host's own choice comes last: it may know of ports that are free.
    const port = opening.tries < PORT_TRIES ? FIRST_PORT + randomBelow(io.random, PORT_COUNT) : 0;
    this.#openings.set(io.open({ transport: "udp", address: opening.address, port }), opening);
  }

  #startNext(io: MachineIo<Event>): void {
    const next = this.#queue.shift();
    if (next !== undefined) this.#start(next, io);
    if (this.#queue.length > 0) this.#timers.set(this.#paceTimer, this.#nextStart);
  }

  #start(probe: Probe<Event>, io: MachineIo<Event>): void {
    this.#nextStart = io.now + this.#pacing;
    const { wish } = probe;
    const writer = new MessageWriter(io.scratch(REQUEST_SIZE));
    const transactionId = newTransactionId(io.random);
    writer.begin(METHOD.BINDING, "request", transactionId);
    wish.write?.(writer);
    probe.transaction = new ClientTransaction(writer.finish().slice(), io.now, wish.retransmit);
    this.#byKey.set(transactionKey(transactionId), probe);
    this.#timers.set(probe.timer, probe.transaction.deadline);
    io.send(wish.socket, wish.to, probe.transaction.request);
  }

  #handleDue(probe: Probe<Event>, io: MachineIo<Event>): void {
    const transaction = probe.transaction!;
    const action = transaction.handleTimeout(io.now);
    if (action === "timeout") return this.#end(probe, io);
    if (action === "retransmit") io.send(probe.wish.socket, probe.wish.to, transaction.request);
    this.#timers.set(probe.timer, transaction.deadline);
  }

  #end(probe: Probe<Event>, io: MachineIo<Event>): void {
    probe.isDone = true;
    this.#timers.clear(probe.timer);
    this.#onEnd(probe, io);
    probe.wish.done(probe, io);
  }
}

function readAnswer(message: StunMessage, { from, socket }: Packet): ProbeAnswer | undefined {
  const xored = message.get(XOR_MAPPED_ADDRESS);
  const plain = message.get(MAPPED_ADDRESS);
  const mapped = xored ?? plain;
  if (mapped === undefined) return undefined;
  return {
    from,
    socket,
    mapped,
    agrees: xored === undefined || plain === undefined ? undefined : xored.equals(plain),
    otherAddress: message.get(OTHER_ADDRESS) ?? message.get(CHANGED_ADDRESS),
    origin: message.get(RESPONSE_ORIGIN),
    padding: message.get(PADDING)?.length,
    software: message.get(SOFTWARE)?.replace(/\p{C}/gu, ""),
    isClassic: message.has(CHANGED_ADDRESS) && !message.has(OTHER_ADDRESS),
  };
}
