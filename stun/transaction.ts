/** How requests are repeated over UDP (RFC 8489 §6.2.1), and how long they are waited for over TCP and TLS (§6.2.2). */
export interface RetransmitOptions {
  /** The first retransmission timeout in ms. Default: 500. */
  readonly rto?: number;
  /** How often a request is sent in all. Default: 7. */
  readonly rc?: number;
  /** How many times RTO the last one is waited for. Default: 16. */
  readonly rm?: number;
  /** How many ms a request over TCP or TLS, which is sent once, is waited for. Default: 39,500. */
  readonly ti?: number;
}

/** How a `ClientTransaction` is carried out. */
export interface TransactionOptions extends RetransmitOptions {
  /** Whether the transport is TCP or TLS, which lose nothing. Default: no. */
  readonly reliable?: boolean;
}

/** The RTO in ms where nothing is known of the server (RFC 8489 §6.2.1). */
export const DEFAULT_RTO = 500;
/** RFC 8489 §6.2.2's Ti: as long as a request over UDP is waited for. */
const DEFAULT_TI = 39_500;

/**
 * A client transaction. Over UDP (RFC 8489 §6.2.1), with the defaults, the request leaves at 0, 500, 1500, 3500, 7500,
 * 15500 and 31500 ms and has failed at 39500 ms; over TCP and TLS (§6.2.2) it leaves once and has failed then as well.
 *
 * Pure: its owner sends `request` when it is made and whenever `handleTimeout()` says so.
 */
export class ClientTransaction {
  /** The request's bytes, the same each time. */
  readonly request: Uint8Array;
  /** When it was first sent, on the owner's clock. */
  readonly startedAt: number;
  /** Whether the transport is TCP or TLS. */
  readonly isReliable: boolean;
  /** How often it was sent. */
  sends = 1;
  /** When `handleTimeout()` is due; `Infinity` after the end. */
  deadline: number;
  #interval: number;
  #rto: number;
  #rc: number;
  #rm: number;

  /**
   * A transaction that begins now.
   *
   * @param request The request, which the owner sends now.
   * @param now The owner's time in ms.
   * @param options How to repeat it.
   */
  constructor(request: Uint8Array, now: number, options: TransactionOptions = {}) {
    const { reliable = false, ti = DEFAULT_TI } = options;
    this.request = request;
    this.startedAt = now;
    this.isReliable = reliable;
    this.#rto = options.rto ?? DEFAULT_RTO;
    this.#rc = reliable ? 1 : options.rc ?? 7;
    this.#rm = options.rm ?? 16;
    this.#interval = this.#rto;
    this.deadline = now + (reliable ? ti : this.#rc === 1 ? this.#rm * this.#rto : this.#rto);
  }

  /** The retransmission timeout that is under way, in ms: the first one, doubled for each time it was sent again. */
  get rto(): number {
    return this.#interval;
  }

  /** What to do at `now`, which has reached `deadline`: send again, or give up. */
  handleTimeout(now: number): "retransmit" | "timeout" | "wait" {
    if (now < this.deadline) return "wait";
    if (this.sends >= this.#rc) {
      this.deadline = Infinity;
      return "timeout";
    }
    this.sends++;
    this.#interval *= 2;
    this.deadline = now + (this.sends === this.#rc ? this.#rm * this.#rto : this.#interval);
    return "retransmit";
  }

  /** Sends no more, but an answer is still good until the same time as before (RFC 8445 §7.3.1.4: a cancelled check). */
  cancelRetransmissions(): void {
    if (this.sends >= this.#rc) return;
    let end = this.deadline;
    let interval = this.#interval;
    for (let sends = this.sends + 1; sends <= this.#rc; sends++) {
      interval *= 2;
      end += sends === this.#rc ? this.#rm * this.#rto : interval;
    }
    this.sends = this.#rc;
    this.deadline = end;
  }
}
