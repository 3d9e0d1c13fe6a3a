/** When gathering ends at the latest, in ms: a server that has not answered by then is not waited for. */
const LIMIT = 5000;
/** Three transmissions over UDP, and the wait for an answer to the last, in ms: as for a STUN server. */
const THREE_TRANSMISSIONS = 3500;
/** The first retransmission of RFC 8489 §6.2.1, in ms. */
const RTO = 500;

/** A server that is being looked for or asked. */
export interface GatheringTask {
  /** Whether a silent server looks as a datagram lost does. A connection tells by itself that there is none. */
  readonly isUdp: boolean;
  /** When it began, in ms. */
  readonly startedAt: number;
}

/**
 * How long servers are waited for. A server over UDP that says nothing at all has had its chance after three
 * transmissions; and as soon as all connections have come to their end, one way or the other, and some server has answered,
 * after two transmissions and three times what the slowest of those that did has taken. Nothing is waited for longer than
 * 5 s. Pure: its owner has the clock.
 */
export class GatheringRound {
  readonly #startedAt: number;
  readonly #open = new Set<GatheringTask>();
  #slowest: number | undefined;

  /** @param now In ms. */
  constructor(now: number) {
    this.#startedAt = now;
  }

  /** Something is being done about a server. */
  begin(isUdp: boolean, now: number): GatheringTask {
    const task = { isUdp, startedAt: now };
    this.#open.add(task);
    return task;
  }

  /** It is done; `answered` tells whether there is a candidate from it. */
  end(task: GatheringTask, answered: boolean, now: number): void {
    this.#open.delete(task);
    if (answered) this.#slowest = Math.max(this.#slowest ?? 0, now - task.startedAt);
  }

  /**
   * How many ms an answer may take besides the time until the second transmission; `undefined` while that is not known, or
   * connections are still being made.
   */
  get patience(): number | undefined {
    const isConnecting = [...this.#open].some(({ isUdp }) => !isUdp);
    return isConnecting || this.#slowest === undefined ? undefined : 3 * this.#slowest;
  }

  /** When it is over, in ms; `-Infinity` if there is nothing to wait for. */
  get deadline(): number {
    const { patience } = this;
    const ends = [...this.#open].map(({ isUdp, startedAt }) => {
      if (!isUdp) return Infinity;
      return startedAt + Math.min(THREE_TRANSMISSIONS, patience === undefined ? Infinity : RTO + patience);
    });
    return ends.length === 0 ? -Infinity : Math.min(this.#startedAt + LIMIT, Math.max(...ends));
  }
}
