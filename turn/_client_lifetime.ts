import { StunProtocolError, StunTimeoutError } from "../stun/error.ts";
import type { MachineIo } from "../stun/machine.ts";
import { type MessageWriter, METHOD } from "../stun/message.ts";
import type { ClientRequests, RequestOutcome } from "../stun/requests.ts";
import { isTransient, retryPause, withAdvice } from "./_client_errors.ts";
import { LIFETIME } from "./attributes.ts";
import type { TurnClientEvent } from "./client_events.ts";

type Io = MachineIo<TurnClientEvent>;

/** Seconds that an allocation lasts when the server does not say (RFC 8656 §3.2). */
export const DEFAULT_LIFETIME = 600;
/** RFC 8656 §8: refresh about a minute before the end. */
const REFRESH_MARGIN = 60_000;

/** What a `ClientLifetime` needs of its client. */
export interface LifetimeOwner {
  /** Adds what a Refresh request shall have. */
  write(writer: MessageWriter): void;
  /** The server says so: there is an allocation on this 5-tuple. */
  confirmed(io: Io): void;
  /** The server does not answer. It is asked again in any case. */
  silent(io: Io): void;
  /** The allocation is no more. */
  lost(error: Error, io: Io): void;
}

/** The part of a TURN client that keeps the allocation: when it ends, and the Refresh in time (RFC 8656 §8). */
export class ClientLifetime {
  #requests: ClientRequests<TurnClientEvent>;
  #owner: LifetimeOwner;
  #refreshAt = Infinity;
  #expiresAt = Infinity;
  #isRefreshing = false;
  /** What the server granted last, in seconds. */
  granted: number | undefined;
  /** Why the last Refresh failed. */
  #error: Error | undefined;

  constructor(requests: ClientRequests<TurnClientEvent>, owner: LifetimeOwner) {
    this.#requests = requests;
    this.#owner = owner;
  }

  get deadline(): number {
    return this.#refreshAt;
  }

  /** Until when there is an allocation unless it is refreshed. */
  get expiresAt(): number {
    return this.#expiresAt;
  }

  /** The server's word, in seconds, from when it was asked: its own clock started some time after. */
  set(lifetime: number, startedAt: number): void {
    this.granted = lifetime;
    const ms = lifetime * 1000;
    this.#expiresAt = startedAt + ms;
    this.#refreshAt = startedAt + Math.max(ms - REFRESH_MARGIN, ms / 2);
  }

  /** There is no allocation to keep. */
  clear(): void {
    this.#refreshAt = Infinity;
  }

  /** The allocation may be gone: asks now. */
  doubt(io: Io): void {
    if (!this.#isRefreshing) this.#refreshAt = Math.min(this.#refreshAt, io.now);
  }

  handleTimeout(io: Io): void {
    if (io.now < this.#refreshAt) return;
    const { server } = this.#requests;
    if (io.now >= this.#expiresAt) {
      const message = `Lost the allocation on ${server} as it could not be refreshed in time`;
      return this.#owner.lost(new StunTimeoutError(message, { cause: this.#error }), io);
    }
    this.#isRefreshing = true;
    this.#refreshAt = this.#expiresAt;
    this.#requests.start({
      method: METHOD.REFRESH,
      doing: `Cannot refresh the allocation on ${server}`,
      write: (writer) => this.#owner.write(writer),
      done: (outcome, io) => this.#handleOutcome(outcome, io),
    }, io);
  }

  /** RFC 8656 §8.3. */
  #handleOutcome(outcome: RequestOutcome, io: Io): void {
    this.#isRefreshing = false;
    if (outcome.type === "success") {
      const lifetime = outcome.response.get(LIFETIME) ?? DEFAULT_LIFETIME;
      this.#error = undefined;
      if (lifetime > 0) {
        this.set(lifetime, outcome.startedAt);
        return this.#owner.confirmed(io);
      }
      const message = `Lost the allocation on ${this.#requests.server} as it was refreshed to 0 s`;
      return this.#owner.lost(new StunProtocolError(message), io);
    }
    if (!isTransient(outcome.error)) return this.#owner.lost(withAdvice(outcome.error), io);
    this.#error = outcome.error;
    this.#refreshAt = Math.min(io.now + retryPause(outcome.error), this.#expiresAt);
    if (outcome.type === "failed") this.#owner.silent(io);
  }
}
