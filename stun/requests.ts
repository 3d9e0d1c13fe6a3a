import type { TransportAddress } from "./address.ts";
import { ERROR_CODE_ATTRIBUTE } from "./attributes.ts";
import type { RequestCredentials, StunChallengeError } from "./credentials.ts";
import { StunError, StunIntegrityError, StunProtocolError, StunTimeoutError, StunUnreachableError } from "./error.ts";
import { DeadlineHeap, type IcmpMessage, type MachineIo, type SocketId, Timer } from "./machine.ts";
import { MessageWriter, newTransactionId, type StunMessage, transactionKey } from "./message.ts";
import type { RtoCache } from "./rto_cache.ts";
import { ClientTransaction, DEFAULT_RTO, type RetransmitOptions, type TransactionOptions } from "./transaction.ts";

// Room for the longest USERNAME, REALM, NONCE and SOFTWARE together.
const REQUEST_SIZE = 4096;
/** How often a request may begin anew for a 401 or 438: a server may change its nonce as often as it likes. */
const MAX_ATTEMPTS = 6;
/** RFC 8489 §6.2: how many requests to one server may be under way; over TCP and TLS there is no such limit. */
const MAX_OUTSTANDING = 10;

/** How a request ended. */
export type RequestOutcome =
  /** A success response, authenticated if the request was. */
  | { readonly type: "success"; readonly response: StunMessage; readonly startedAt: number; readonly sends: number }
  /** An error response, authenticated if the request was (401 and 438 are not). */
  | { readonly type: "error"; readonly error: StunError; readonly response: StunMessage }
  /** No answer, or none that can be used. */
  | {
    readonly type: "failed";
    readonly error: StunTimeoutError | StunIntegrityError | StunChallengeError | StunProtocolError;
  };

/** A request to make. */
export interface RequestPlan<Event> {
  /** One of `METHOD`. */
  readonly method: number;
  /** What is being done, to begin error messages with: `Cannot allocate`. */
  readonly doing: string;
  /** How to repeat it, if not as the others. */
  readonly retransmit?: RetransmitOptions;
  /** Adds the method's attributes. Called again for each attempt. */
  write(writer: MessageWriter): void;
  /** Gets how it ended: once, unless `clear()` came first. The response is only good during the call. */
  done(outcome: RequestOutcome, io: MachineIo<Event>): void;
}

/** What a `ClientRequests` is made from. */
export interface ClientRequestsOptions {
  /** The server. */
  readonly server: TransportAddress;
  /** The comprehension-required attribute types that responses may have (RFC 8489 §6.3.3). */
  readonly known: ReadonlySet<number>;
  /** What requests are authenticated with, if the server may ask for it. */
  readonly credentials?: RequestCredentials;
  /** How to repeat requests. Default: as RFC 8489 §6.2.1 has it. */
  readonly retransmit?: RetransmitOptions;
  /** Where the RTO comes from, and where it is learnt, unless `retransmit` says it. Default: it is 500 ms each time. */
  readonly rtoCache?: RtoCache;
  /** Whether the socket is a connection, TCP or TLS (RFC 8489 §6.2.2). Default: no. */
  readonly reliable?: boolean;
}

/** One transaction of a request. */
class Attempt<Event> {
  readonly timer: Timer<Attempt<Event>> = new Timer<Attempt<Event>>(this);
  /** What the last response that had to be ignored said. */
  ignored: string | undefined;

  constructor(
    readonly plan: RequestPlan<Event>,
    readonly number: number,
    readonly key: string,
    readonly transaction: ClientTransaction,
    readonly signedWith: unknown,
  ) {}
}

/**
 * A client's requests to one server: transaction ids, retransmission, credentials. A part of a machine, which hands it
 * responses and time.
 *
 * Over UDP ten of them are under way at most, as RFC 8489 §6.2 asks for; what comes on top waits for its turn.
 */
export class ClientRequests<Event> {
  /** The server. */
  server: TransportAddress;
  /** The socket to send from. Its owner sets it before the first request. */
  socket: SocketId = -1;
  /** How many responses had to be ignored: not authenticated, or of another method. */
  ignored = 0;
  readonly #options: ClientRequestsOptions;
  #attempts = new Map<string, Attempt<Event>>();
  #waiting: RequestPlan<Event>[] = [];
  #timers = new DeadlineHeap<Attempt<Event>>();

  /** No requests yet. */
  constructor(options: ClientRequestsOptions) {
    this.#options = options;
    this.server = options.server;
  }

  /** When `handleTimeout()` is due. */
  get deadline(): number {
    return this.#timers.deadline;
  }

  /** How many requests have no outcome yet. */
  get size(): number {
    return this.#attempts.size + this.#waiting.length;
  }

  /** Sends a request, at once unless ten are under way. */
  start(plan: RequestPlan<Event>, io: MachineIo<Event>): void {
    if (this.#hasRoom && this.#waiting.length === 0) this.#attempt(plan, 1, io);
    else this.#waiting.push(plan);
  }

  /** Forgets all requests; their `done` is not called. */
  clear(): void {
    for (const { timer } of this.#attempts.values()) this.#timers.clear(timer);
    this.#attempts.clear();
    this.#waiting.length = 0;
  }

  /** Sends all that has no answer yet once more, as when there is another socket now. */
  repeat(io: MachineIo<Event>): void {
    for (const { transaction } of this.#attempts.values()) io.send(this.socket, this.server, transaction.request);
  }

  /** Repeats or ends what is due. */
  handleTimeout(io: MachineIo<Event>): void {
    for (let timer = this.#timers.expire(io.now); timer !== undefined; timer = this.#timers.expire(io.now)) {
      const attempt = timer.owner;
      const action = attempt.transaction.handleTimeout(io.now);
      if (action === "timeout") {
        this.#end(attempt, this.#unanswered(attempt), io);
        continue;
      }
      if (action === "retransmit") io.send(this.socket, this.server, attempt.transaction.request);
      this.#timers.set(timer, attempt.transaction.deadline);
    }
  }

  /**
   * Takes a response that came from the server.
   *
   * @returns Whether it belongs to a request that is under way.
   */
  handleResponse(response: StunMessage, io: MachineIo<Event>): boolean {
    const attempt = this.#attempts.get(response.transactionKey);
    if (attempt === undefined) return false;
    const { credentials, reliable, rtoCache } = this.#options;
    const verdict = response.method !== attempt.plan.method
      ? "ignore"
      : credentials?.handleResponse(response, attempt.signedWith) ?? "accept";
    if (verdict === "ignore" || verdict === "violated") {
      this.ignored++;
      const error = response.get(ERROR_CODE_ATTRIBUTE);
      attempt.ignored = error === undefined ? response.class : `${error.code} ${printable(error.reason)}`.trimEnd();
      // §9.1.4, §9.2.5: over UDP the right answer may still come, over a connection nothing better will.
      if (verdict === "violated" && reliable) this.#end(attempt, this.#unanswered(attempt), io);
      return true;
    }
    rtoCache?.handleAnswer(this.server, attempt.transaction, io.now);
    if (verdict === "retry" && attempt.number < MAX_ATTEMPTS) {
      this.#remove(attempt);
      this.#attempt(attempt.plan, attempt.number + 1, io);
    } else if (verdict === "retry" || verdict === "accept") {
      this.#end(attempt, this.#outcomeOf(attempt, response), io);
    } else {
      verdict.message = `${attempt.plan.doing}: ${verdict.message}`;
      this.#end(attempt, { type: "failed", error: verdict }, io);
    }
    return true;
  }

  /**
   * Takes an ICMP message about what was sent from the socket. If it is a hard error of a request's destination, all requests
   * fail: "A STUN transaction over UDP ... is also considered failed if there has been a hard ICMP error" (§6.2.1).
   */
  handleIcmp(message: IcmpMessage, io: MachineIo<Event>): void {
    if (!isHardError(message) || !message.to.equals(this.server)) return;
    const { to, type, code } = message;
    const why = `nobody is at ${to} (ICMP type ${type}, code ${code})`;
    // Those that wait for their turn get it, and a message of their own.
    for (const attempt of [...this.#attempts.values()]) {
      const error = new StunUnreachableError(`${attempt.plan.doing}: ${why}`);
      if (this.#attempts.has(attempt.key)) this.#end(attempt, { type: "failed", error }, io);
    }
  }

  #attempt(plan: RequestPlan<Event>, number: number, io: MachineIo<Event>): void {
    const transactionId = newTransactionId(io.random);
    const writer = new MessageWriter(io.scratch(REQUEST_SIZE)).begin(plan.method, "request", transactionId);
    plan.write(writer);
    const signedWith = this.#options.credentials?.sign(writer);
    const transaction = new ClientTransaction(writer.finish().slice(), io.now, this.#howToRepeat(plan, io.now));
    const attempt = new Attempt(plan, number, transactionKey(transactionId), transaction, signedWith);
    this.#attempts.set(attempt.key, attempt);
    this.#timers.set(attempt.timer, transaction.deadline);
    io.send(this.socket, this.server, transaction.request);
  }

  get #hasRoom(): boolean {
    return this.#options.reliable === true || this.#attempts.size < MAX_OUTSTANDING;
  }

  #howToRepeat(plan: RequestPlan<Event>, now: number): TransactionOptions {
    const { rtoCache, reliable = false } = this.#options;
    const retransmit = plan.retransmit ?? this.#options.retransmit ?? {};
    return { rto: rtoCache?.rtoFor(this.server, now) ?? DEFAULT_RTO, ...retransmit, reliable };
  }

  /** RFC 8489 §6.3.3, §6.3.4. */
  #outcomeOf({ plan, transaction }: Attempt<Event>, response: StunMessage): RequestOutcome {
    const unknown = response.unknownRequired(this.#options.known);
    if (unknown.length > 0) {
      const types = unknown.map((type) => `0x${type.toString(16).padStart(4, "0")}`).join(", ");
      return failed(`${plan.doing}: the answer has attributes that are not known here: ${types}`);
    }
    if (response.class === "success") {
      return { type: "success", response, startedAt: transaction.startedAt, sends: transaction.sends };
    }
    const error = response.get(ERROR_CODE_ATTRIBUTE);
    if (error === undefined) return failed(`${plan.doing}: the answer is an error without a valid ERROR-CODE`);
    return { type: "error", error: new StunError(error.code, printable(error.reason), plan.doing), response };
  }

  /** RFC 8489 §9.1.4, §9.2.5: where all answers had to be ignored, that is what is reported, not silence. */
  #unanswered({ plan, ignored, transaction, signedWith }: Attempt<Event>): RequestOutcome {
    if (ignored !== undefined) {
      const what = `no answer of ${this.server} was authenticated; the last one said "${ignored}"`;
      const isSigned = signedWith !== undefined;
      return { type: "failed", error: new StunIntegrityError(`${plan.doing}: ${what}`, { isSigned }) };
    }
    const times = transaction.sends === 1 ? "1 request" : `${transaction.sends} requests`;
    return { type: "failed", error: new StunTimeoutError(`${plan.doing}: ${this.server} did not answer ${times}`) };
  }

  #end(attempt: Attempt<Event>, outcome: RequestOutcome, io: MachineIo<Event>): void {
    this.#remove(attempt);
    attempt.plan.done(outcome, io);
    // After `done`, which may have dropped them.
    while (this.#waiting.length > 0 && this.#hasRoom) this.#attempt(this.#waiting.shift()!, 1, io);
  }

  #remove(attempt: Attempt<Event>): void {
    this.#attempts.delete(attempt.key);
    this.#timers.clear(attempt.timer);
  }
}

/** Text from the network for a line that people read: control characters become spaces, what is too long is cut. */
export function printable(text: string): string {
  return text.slice(0, 127).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, " ").trim();
}

/** RFC 1122 §3.2.2.1: protocol or port unreachable; the port of ICMPv6 (RFC 4443 §3.1). Others may be over soon. */
function isHardError({ to, type, code }: IcmpMessage): boolean {
  return to.family === 4 ? type === 3 && (code === 2 || code === 3) : type === 1 && code === 4;
}

function failed(message: string): RequestOutcome {
  return { type: "failed", error: new StunProtocolError(message) };
}
