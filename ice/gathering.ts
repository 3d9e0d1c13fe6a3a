import type { TransportAddress } from "../stun/address.ts";
import { ERROR_CODE_ATTRIBUTE, MAPPED_ADDRESS, XOR_MAPPED_ADDRESS } from "../stun/attributes.ts";
import { DeadlineHeap, type MachineIo, type SocketId, Timer } from "../stun/machine.ts";
import { MessageWriter, METHOD, newTransactionId, type StunMessage, transactionKey } from "../stun/message.ts";
import { ClientTransaction } from "../stun/transaction.ts";
import { isLinkLocal, isLoopback } from "./candidate.ts";
import type { GatheringError, IceEvent } from "./events.ts";
import type { Base } from "./pair.ts";

/** How long the NAT's binding behind a server-reflexive candidate is trusted to live, in ms (RFC 8445 §5.1.1.4). */
const REFRESH_AFTER = 15_000;
/** Sent three times, given up 3.5 s after the first with an RTO of 500 ms: a dead server must not delay the others. */
const SENDS = 3;
const LAST_WAIT = 4;

/** A STUN server as the agent knows it. */
interface Server {
  readonly address: TransportAddress;
  readonly url: string;
  /** How many questions to it are not answered, and why the latest one failed. */
  open: number;
  answered: boolean;
  reported: boolean;
  failure: { readonly code?: number; readonly text: string };
}

/** The question "what is my address" from one base to one server. */
class Question {
  readonly base: Base;
  readonly server: Server;
  readonly timer: Timer<Question> = new Timer<Question>(this);
  /** `"idle"` when it is answered or given up. */
  state: "queued" | "asking" | "idle" = "queued";
  isRefresh = false;
  transaction: ClientTransaction | undefined;
  key = "";
  giveUpAt = Infinity;

  constructor(base: Base, server: Server) {
    this.base = base;
    this.server = server;
  }
}

/** An answer: the address that the server saw. */
export interface ReflexiveFinding {
  /** The base that asked. */
  readonly base: Base;
  /** The server that answered. */
  readonly server: TransportAddress;
  /** What it saw. */
  readonly mapped: TransportAddress;
  /** When it was first asked. */
  readonly askedAt: number;
}

/**
 * Asks STUN servers for server-reflexive addresses (RFC 8445 §5.1.1.2), from every base to every server of its family.
 * Its owner gives it the turns of the pacing timer Ta. A server that is slow or dead holds up nothing: once one has
 * answered, every other question gets the time for two transmissions, and no more.
 */
export class ReflexiveGathering {
  #bases: Base[] = [];
  #servers: Server[] = [];
  #questions: Question[] = [];
  #asked = new Map<string, Question>();
  #timers = new DeadlineHeap<Question>();
  #ta: number;
  #patience: number | undefined;
  #stopped = false;

  /** @param ta The pacing in ms, for the RTO. */
  constructor(ta: number) {
    this.#ta = ta;
  }

  /** When `handleTimeout()` is due. */
  get deadline(): number {
    return this.#timers.deadline;
  }

  /** Whether a question waits for its turn. */
  get hasNext(): boolean {
    return this.#questions.some(({ state }) => state === "queued");
  }

  /** Whether every question has its answer or is given up; questions asked again do not count. */
  get isDone(): boolean {
    return this.#questions.every(({ state, isRefresh }) => state === "idle" || isRefresh);
  }

  /** Takes in a server, as `url` to people. One that is known already is ignored. */
  addServer(address: TransportAddress, url: string): void {
    if (this.#servers.some((server) => server.address.equals(address))) return;
    const failure = { text: `No answer from STUN server ${url} (${address})` };
    const server: Server = { address, url, open: 0, answered: false, reported: false, failure };
    this.#servers.push(server);
    for (const base of this.#bases) this.#plan(base, server);
  }

  /** Takes in a base. */
  addBase(base: Base): void {
    this.#bases.push(base);
    for (const server of this.#servers) this.#plan(base, server);
  }

  /** Forgets a base. */
  removeBase(base: Base): void {
    this.#bases = this.#bases.filter((other) => other !== base);
    for (const question of this.#questions) if (question.base === base) this.#drop(question);
    this.#questions = this.#questions.filter((question) => question.base !== base);
  }

  /** Asks the next question, if there is one. */
  startNext(io: MachineIo<IceEvent>): boolean {
    const question = this.#questions.find(({ state }) => state === "queued");
    if (question === undefined) return false;
    const request = new MessageWriter(new Uint8Array(20)).begin(METHOD.BINDING, "request", newTransactionId(io.random))
      .finish();
    // RFC 8445 §14.3.
    const rto = Math.max(500, this.#ta * this.#questions.length);
    question.state = "asking";
    question.transaction = new ClientTransaction(request, io.now, { rto, rc: SENDS, rm: LAST_WAIT });
    question.key = transactionKey(request, 8);
    question.giveUpAt = this.#patience === undefined ? Infinity : io.now + rto + this.#patience;
    this.#asked.set(question.key, question);
    this.#arm(question);
    io.send(question.base.socket, question.server.address, request);
    return true;
  }

  /** Whether a response answers one of the questions. */
  isAnswer(message: StunMessage, socket: SocketId): boolean {
    return this.#asked.get(message.transactionKey)?.base.socket === socket;
  }

  /** Takes in a response for which `isAnswer()` is true. */
  handleAnswer(message: StunMessage, io: MachineIo<IceEvent>): ReflexiveFinding | undefined {
    const question = this.#asked.get(message.transactionKey)!;
    const { base, server, transaction } = question;
    if (message.class === "error") {
      const error = message.get(ERROR_CODE_ATTRIBUTE);
      const why = error === undefined ? "an error" : `${error.code} ${error.reason}`.trim();
      server.failure = {
        ...(error === undefined ? {} : { code: error.code }),
        text: `STUN server ${server.url} (${server.address}) answered ${why}`,
      };
      this.#finish(question, io);
      return undefined;
    }
    // Old servers know only MAPPED-ADDRESS; ALTERNATE-SERVER is not followed (RFC 8445 §5.1.1.2).
    const mapped = message.get(XOR_MAPPED_ADDRESS) ?? message.get(MAPPED_ADDRESS);
    if (mapped === undefined || mapped.family !== base.candidate.base.family) return undefined;
    server.answered = true;
    const askedAt = transaction!.startedAt;
    this.hasten(3 * (io.now - askedAt));
    this.#finish(question, io);
    if (!this.#stopped) this.#timers.set(question.timer, io.now + REFRESH_AFTER);
    return { base, server: server.address, mapped, askedAt };
  }

  /** Repeats and gives up questions, and queues those that are to be asked again to keep the NAT's binding. */
  handleTimeout(io: MachineIo<IceEvent>): void {
    for (let timer = this.#timers.expire(io.now); timer !== undefined; timer = this.#timers.expire(io.now)) {
      const question = timer.owner;
      if (question.state === "idle") {
        question.state = "queued";
        question.isRefresh = true;
        continue;
      }
      const step = io.now >= question.giveUpAt ? "timeout" : question.transaction!.handleTimeout(io.now);
      if (step === "timeout") {
        const { isRefresh } = question;
        this.#finish(question, io);
        if (isRefresh && !this.#stopped) this.#timers.set(question.timer, io.now + REFRESH_AFTER);
        continue;
      }
      if (step === "retransmit") io.send(question.base.socket, question.server.address, question.transaction!.request);
      this.#arm(question);
    }
  }

  /**
   * Gives every question the time for two transmissions and so many ms more, and no longer: some server has shown how long
   * an answer takes. The first call counts.
   */
  hasten(patience: number): void {
    if (this.#patience !== undefined) return;
    this.#patience = patience;
    for (const other of this.#asked.values()) {
      other.giveUpAt = other.transaction!.startedAt + Math.max(500, this.#ta * this.#questions.length) + patience;
      this.#arm(other);
    }
  }

  /** Asks nothing any more: ICE has come to its end. */
  stop(): void {
    this.#stopped = true;
    for (const question of this.#questions) this.#drop(question);
    this.#questions = [];
  }

  #plan(base: Base, server: Server): void {
    const local = base.candidate.base;
    const remote = server.address;
    // Neither loopback nor link-local addresses reach a server beyond, and waiting for that would delay the end.
    if (this.#stopped || local.family !== remote.family) return;
    if ((isLoopback(local) && !isLoopback(remote)) || isLinkLocal(local) !== isLinkLocal(remote)) return;
    server.open++;
    this.#questions.push(new Question(base, server));
  }

  #arm(question: Question): void {
    this.#timers.set(question.timer, Math.min(question.transaction!.deadline, question.giveUpAt));
  }

  #drop(question: Question): void {
    this.#timers.clear(question.timer);
    this.#asked.delete(question.key);
    question.state = "idle";
  }

  #finish(question: Question, io: MachineIo<IceEvent>): void {
    const { server, isRefresh } = question;
    this.#drop(question);
    question.isRefresh = false;
    if (isRefresh || --server.open > 0 || server.answered || server.reported) return;
    server.reported = true;
    const event: GatheringError = {
      type: "gathering-error",
      url: server.url,
      server: server.address,
      ...server.failure,
    };
    io.emit(event);
  }
}
