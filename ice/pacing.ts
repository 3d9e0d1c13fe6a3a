/** What wants a turn: sends one thing if it has one to send, and tells whether it did. */
export type Turn = () => boolean;

/**
 * The pacing timer Ta (RFC 8445 §14.2): one transaction per Ta over all that checks and gathers, the first at once. Checks
 * of the triggered queue go first, then checks and gathering in turn: where there is something to check, that comes first.
 */
export class Pacing {
  /** When the next turn is; `Infinity` when nobody wants one. */
  deadline: number = Infinity;
  #slotAt = -Infinity;
  #wasGathering = true;

  /**
   * Gives a turn to whoever wants one, if it is time.
   *
   * @param now The time.
   * @param ta The pacing in ms.
   * @param wishes Who may want one, and whether a check was triggered.
   * @returns Whether something was sent.
   */
  run(now: number, ta: number, wishes: { check: Turn; gather: Turn; hasTriggered: boolean }): boolean {
    if (now < this.#slotAt) {
      this.deadline = this.#slotAt;
      return false;
    }
    const hasSent = this.#next(wishes);
    this.deadline = hasSent ? this.#slotAt = now + ta : Infinity;
    return hasSent;
  }

  /** Nobody wants a turn any more. */
  stop(): void {
    this.deadline = Infinity;
  }

  #next({ check, gather, hasTriggered }: { check: Turn; gather: Turn; hasTriggered: boolean }): boolean {
    if (hasTriggered && check()) return true;
    const [first, second] = this.#wasGathering ? [check, gather] : [gather, check];
    const sender = first() ? first : second() ? second : undefined;
    if (sender !== undefined) this.#wasGathering = sender === gather;
    return sender !== undefined;
  }
}
