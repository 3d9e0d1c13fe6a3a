/** How requests are repeated over UDP (RFC 8489 §6.2.1). */
export interface RetransmitOptions {
  /** The first retransmission timeout in ms. Default: 500. */
  readonly rto?: number;
  /** How often a request is sent in all. Default: 7. */
  readonly rc?: number;
  /** How many times RTO the last one is waited for. Default: 16. */
  readonly rm?: number;
}

/**
 * A client transaction over UDP (RFC 8489 §6.2.1): with the defaults the request leaves at 0, 500, 1500, 3500, 7500,
 * 15500 and 31500 ms and has failed at 39500 ms.
 *
 * Pure: its owner sends `request` when it is made and whenever `handleTimeout()` says so.
 */
export class ClientTransaction {
  /** The request's bytes, the same each time. */
  readonly request: Uint8Array;
  /** When it was first sent, on the owner's clock. */
  readonly startedAt: number;
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
  constructor(request: Uint8Array, now: number, options: RetransmitOptions = {}) {
    this.request = request;
    this.startedAt = now;
    this.#rto = options.rto ?? 500;
    this.#rc = options.rc ?? 7;
    this.#rm = options.rm ?? 16;
    this.#interval = this.#rto;
    this.deadline = now + (this.#rc === 1 ? this.#rm * this.#rto : this.#rto);
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
