/** What today's systems wait at least; RFC 6298 §2.4's whole second is not in use any more. */
const MIN_RTO = 200;
const MAX_RTO = 120_000;
const INITIAL_RTO = 1000;

/** RFC 6298: how long to wait for an acknowledgement. All in ms. */
export class RetransmissionTimer {
  #rto = INITIAL_RTO;
  #srtt: number | undefined;
  #rttvar = 0;
  #timedSeq = Infinity;
  #timedAt = 0;

  /** How long. */
  get rto(): number {
    return this.#rto;
  }

  /** A segment that ends at `seq` is sent, for the first time. One at a time is timed. */
  handleSent(seq: number, now: number): void {
    if (this.#timedSeq !== Infinity) return;
    this.#timedSeq = seq;
    this.#timedAt = now;
  }

  /** Everything before `ack` has arrived. */
  handleAcknowledged(ack: number, now: number): void {
    if (ack >= this.#timedSeq) {
      this.#measure(now - this.#timedAt);
      this.#timedSeq = Infinity;
    }
    // §5.7: new data ends the doubling.
    if (this.#srtt !== undefined) this.#rto = this.#fromMeasured(this.#srtt);
  }

  /** It has run out: the next takes twice as long (§5.5), and what was under way tells no round trip (§3). */
  handleExpired(): void {
    this.#rto = Math.min(2 * this.#rto, MAX_RTO);
    this.#timedSeq = Infinity;
  }

  /** Something is sent again out of turn: it tells no round trip. */
  ignore(): void {
    this.#timedSeq = Infinity;
  }

  #measure(rtt: number): void {
    if (this.#srtt === undefined) {
      this.#srtt = rtt;
      this.#rttvar = rtt / 2;
    } else {
      this.#rttvar = 0.75 * this.#rttvar + 0.25 * Math.abs(this.#srtt - rtt);
      this.#srtt = 0.875 * this.#srtt + 0.125 * rtt;
    }
  }

  #fromMeasured(srtt: number): number {
    return Math.min(MAX_RTO, Math.max(MIN_RTO, srtt + 4 * this.#rttvar));
  }
}
