import type { TransportAddress } from "../stun/address.ts";
import { XOR_MAPPED_ADDRESS } from "../stun/attributes.ts";
import type { MachineIo, SocketId } from "../stun/machine.ts";
import { MessageWriter, METHOD, newTransactionId, type StunMessage, transactionKey } from "../stun/message.ts";
import type { ReflexiveFinding } from "./gathering.ts";
import type { Base } from "./pair.ts";

type Io = Pick<MachineIo, "now" | "random" | "open" | "close" | "send">;

/** How long connecting to a server may take, and then its answer, in ms: as long as one is waited for over UDP. */
const PATIENCE = 3500;
/** When TCP sends again what was lost first, in ms (RFC 6298 §2.1). */
const SECOND_TRANSMISSION = 1000;

/** The question "what is my address" over a connection from one base to one server. */
interface Question {
  readonly base: Base;
  readonly server: TransportAddress;
  /** `"kept"`: answered, and the connection stays, and with it the NAT's mapping. */
  state: "queued" | "connecting" | "asking" | "kept" | "over";
  socket: SocketId;
  key: string;
  startedAt: number;
  giveUpAt: number;
}

/**
 * Asks STUN servers over TCP what they see of the ports that simultaneous open leaves from (RFC 6544 §5.2): a NAT whose
 * mapping does not depend on the other end shows the peer the same one.
 */
export class TcpReflexive {
  #bases: Base[] = [];
  #servers: TransportAddress[] = [];
  #questions: Question[] = [];
  #isStopped = false;
  /** How long an answer may take besides the time until the second transmission, as others have shown. */
  #patience = PATIENCE;

  /** When `handleTimeout()` is due. */
  get deadline(): number {
    let deadline = Infinity;
    for (const { giveUpAt } of this.#questions) deadline = Math.min(deadline, giveUpAt);
    return deadline;
  }

  /** Whether every question has its answer or is given up. */
  get isDone(): boolean {
    return this.#questions.every(({ state }) => state === "kept" || state === "over");
  }

  /** Takes in a server. One that is known already is ignored. */
  addServer(address: TransportAddress): void {
    if (this.#servers.some((server) => server.equals(address))) return;
    this.#servers.push(address);
    for (const base of this.#bases) this.#plan(base, address);
  }

  /** Takes in a base for simultaneous open. */
  addBase(base: Base): void {
    this.#bases.push(base);
    for (const server of this.#servers) this.#plan(base, server);
  }

  /** Forgets a base. */
  removeBase(base: Base, io: Io): void {
    this.#bases = this.#bases.filter((other) => other !== base);
    for (const question of this.#questions) if (question.base === base) this.#giveUp(question, io);
  }

  /** Begins the next question, if there is one. */
  startNext(io: Io): boolean {
    const question = this.#questions.find(({ state }) => state === "queued");
    if (question === undefined) return false;
    const { address, port } = question.base.candidate.base;
    question.state = "connecting";
    question.startedAt = io.now;
    question.socket = io.open({ transport: "tcp", remote: question.server, address, port, timeout: PATIENCE });
    this.#limit(question);
    return true;
  }

  /** A connection is there: asks over it. Gives whether it is one of these. */
  handleOpened(socket: SocketId, io: Io): boolean {
    const question = this.#find(socket);
    if (question === undefined) return false;
    const request = new MessageWriter(new Uint8Array(20)).begin(METHOD.BINDING, "request", newTransactionId(io.random))
      .finish();
    question.state = "asking";
    question.key = transactionKey(request, 8);
    question.startedAt = io.now;
    this.#limit(question);
    io.send(socket, question.server, request);
    return true;
  }

  /** A connection is gone, or was never there. Gives whether it is one of these. */
  handleLost(socket: SocketId): boolean {
    const question = this.#find(socket);
    if (question !== undefined) end(question);
    return question !== undefined;
  }

  /** Takes in a response to one of the questions; `undefined` if it is none. */
  handleAnswer(message: StunMessage, socket: SocketId, io: Io): ReflexiveFinding | "nothing" | undefined {
    const question = this.#find(socket);
    if (question === undefined || question.key !== message.transactionKey) return undefined;
    const mapped = message.class === "success" ? message.get(XOR_MAPPED_ADDRESS) : undefined;
    question.giveUpAt = Infinity;
    if (mapped === undefined) {
      this.#giveUp(question, io);
      return "nothing";
    }
    question.state = "kept";
    return { base: question.base, server: question.server, mapped, askedAt: io.now };
  }

  /** Others have answered within so many ms: who takes much longer is not waited for. */
  hasten(patience: number): void {
    this.#patience = Math.min(this.#patience, patience);
    for (const question of this.#questions) if (question.giveUpAt !== Infinity) this.#limit(question);
  }

  /** Gives up what takes too long. */
  handleTimeout(io: Io): void {
    for (const question of this.#questions) if (question.giveUpAt <= io.now) this.#giveUp(question, io);
  }

  /** Asks nothing any more, and closes the connections. */
  stop(io: Io): void {
    this.#isStopped = true;
    for (const question of this.#questions) this.#giveUp(question, io);
    this.#questions = [];
  }

  #plan(base: Base, server: TransportAddress): void {
    if (this.#isStopped || base.candidate.base.family !== server.family) return;
    this.#questions.push({ base, server, state: "queued", socket: 0, key: "", startedAt: 0, giveUpAt: Infinity });
  }

  #limit(question: Question): void {
    question.giveUpAt = question.startedAt + Math.min(PATIENCE, SECOND_TRANSMISSION + this.#patience);
  }

  #find(socket: SocketId): Question | undefined {
    return this.#questions.find((question) => question.socket === socket && question.state !== "over");
  }

  #giveUp(question: Question, io: Io): void {
    if (question.socket !== 0 && question.state !== "over") io.close(question.socket);
    end(question);
  }
}

function end(question: Question): void {
  question.state = "over";
  question.socket = 0;
  question.giveUpAt = Infinity;
}
