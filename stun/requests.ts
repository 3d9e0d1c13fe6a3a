import type { TransportAddress } from "./address.ts";
import { ERROR_CODE_ATTRIBUTE } from "./attributes.ts";
import type { Challenge, LongTermCredentials, StunChallengeError } from "./credentials.ts";
import { StunError, StunIntegrityError, StunProtocolError, StunTimeoutError } from "./error.ts";
import { DeadlineHeap, type MachineIo, type SocketId, Timer } from "./machine.ts";
import { MessageWriter, newTransactionId, type StunMessage, transactionKey } from "./message.ts";
import { ClientTransaction, type RetransmitOptions } from "./transaction.ts";

// Room for the longest USERNAME, REALM, NONCE and SOFTWARE together.
const REQUEST_SIZE = 4096;
/** How often a request may begin anew for a 401 or 438: a server may change its nonce as often as it likes. */
const MAX_ATTEMPTS = 6;

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
  /** Long-term credentials, if the server may ask for them. */
  readonly credentials?: LongTermCredentials;
  /** How to repeat requests. */
  readonly retransmit?: RetransmitOptions;
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
    readonly signedWith: Challenge | undefined,
  ) {}
}

/**
 * A client's requests to one server: transaction ids, retransmission, long-term credentials. A part of a machine, which
 * hands it responses and time.
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

  /** How many requests are under way. */
  get size(): number {
    return this.#attempts.size;
  }

  /** Sends a request. */
  start(plan: RequestPlan<Event>, io: MachineIo<Event>): void {
    this.#attempt(plan, 1, io);
  }

  /** Forgets all requests; their `done` is not called. */
  clear(): void {
    for (const { timer } of this.#attempts.values()) this.#timers.clear(timer);
    this.#attempts.clear();
  }

  /** Repeats or ends what is due. */
  handleTimeout(io: MachineIo<Event>): void {
    for (let timer = this.#timers.expire(io.now); timer !== undefined; timer = this.#timers.expire(io.now)) {
      const attempt = timer.owner;
      const action = attempt.transaction.handleTimeout(io.now);
      if (action === "timeout") {
        this.#end(attempt, { type: "failed", error: this.#timeoutError(attempt) }, io);
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
    const { credentials } = this.#options;
    const verdict = response.method !== attempt.plan.method
      ? "ignore"
      : credentials?.handleResponse(response, attempt.signedWith) ?? "accept";
    if (verdict === "ignore") {
      this.ignored++;
      const error = response.get(ERROR_CODE_ATTRIBUTE);
      attempt.ignored = error === undefined ? response.class : `${error.code} ${printable(error.reason)}`.trimEnd();
    } else if (verdict === "retry" && attempt.number < MAX_ATTEMPTS) {
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

  #attempt(plan: RequestPlan<Event>, number: number, io: MachineIo<Event>): void {
    const transactionId = newTransactionId(io.random);
    const writer = new MessageWriter(io.scratch(REQUEST_SIZE)).begin(plan.method, "request", transactionId);
    plan.write(writer);
    const signedWith = this.#options.credentials?.sign(writer);
    const transaction = new ClientTransaction(
      writer.finish().slice(),
      io.now,
      plan.retransmit ?? this.#options.retransmit,
    );
    const attempt = new Attempt(plan, number, transactionKey(transactionId), transaction, signedWith);
    this.#attempts.set(attempt.key, attempt);
    this.#timers.set(attempt.timer, transaction.deadline);
    io.send(this.socket, this.server, transaction.request);
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

  /** RFC 8489 §9.2.5: where all answers had to be ignored, that is what is reported, not silence. */
  #timeoutError({ plan, ignored, transaction }: Attempt<Event>): StunTimeoutError | StunIntegrityError {
    if (ignored !== undefined) {
      return new StunIntegrityError(
        `${plan.doing}: no answer of ${this.server} was authenticated; the last one said "${ignored}"`,
      );
    }
    const times = transaction.sends === 1 ? "1 request" : `${transaction.sends} requests`;
    return new StunTimeoutError(`${plan.doing}: ${this.server} did not answer ${times}`);
  }

  #end(attempt: Attempt<Event>, outcome: RequestOutcome, io: MachineIo<Event>): void {
    this.#remove(attempt);
    attempt.plan.done(outcome, io);
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

function failed(message: string): RequestOutcome {
  return { type: "failed", error: new StunProtocolError(message) };
}
