/** When gathering ends at the latest, in ms: a server that has not answered by then is not waited for. */
const LIMIT = 5000;
/** Three transmissions over UDP, and the wait for an answer to the last, in ms: as for a STUN server. */
const THREE_TRANSMISSIONS = 3500;
/** Until what was lost first is sent again, in ms: RFC 8489 §6.2.1, RFC 6298 §2.1, and the hellos of TLS and DTLS. */
const REPEATED_AFTER = { udp: 500, tcp: 1000, tls: 2000, dtls: 1000 } as const;

/** How long a router's answer is waited for, in ms: it is near. */
const MAPPING_LIMIT = 1500;

/** A server that is asked, or (`"name"`) looked for, or (`"mapping"`) a router. */
export interface GatheringTask {
  /** How. */
  readonly by: "name" | "mapping" | "udp" | "tcp" | "tls" | "dtls";
  /** When it began, in ms. */
  readonly startedAt: number;
}

/**
 * How long servers are waited for. A silent one over UDP has had its chance after three transmissions. And as soon as some
 * server has answered, the others get the time until their second transmission and three times what the slowest has taken
 * so far; to know its name takes as long as it takes. Nothing is waited for longer than 5 s. Pure: its owner has the clock.
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
  begin(by: GatheringTask["by"], now: number): GatheringTask {
    const task = { by, startedAt: now };
    this.#open.add(task);
    return task;
  }

  /** It is done; `answered` tells whether there is a candidate from it. */
  end(task: GatheringTask, answered: boolean, now: number): void {
    this.#open.delete(task);
    if (answered) this.#slowest = Math.max(this.#slowest ?? 0, now - task.startedAt);
  }

  /**
   * How many ms an answer to the second transmission may take; `undefined` while nothing is known of that, or connections
   * are under way, which may show more.
   */
  patience(now: number): number | undefined {
    const isOpen = [...this.#open].some((task) =>
      task.by !== "udp" && task.by !== "mapping" && this.#deadlineOf(task) > now
    );
    return isOpen || this.#slowest === undefined ? undefined : 3 * this.#slowest;
  }

  /** When it is over, in ms; `-Infinity` if there is nothing to wait for. */
  get deadline(): number {
    if (this.#open.size === 0) return -Infinity;
    return Math.min(this.#startedAt + LIMIT, Math.max(...[...this.#open].map((task) => this.#deadlineOf(task))));
  }

  #deadlineOf({ by, startedAt }: GatheringTask): number {
    if (by === "name") return Infinity;
    if (by === "mapping") return startedAt + MAPPING_LIMIT;
    const chance = this.#slowest === undefined ? Infinity : REPEATED_AFTER[by] + 3 * this.#slowest;
    return startedAt + (by === "udp" ? Math.min(THREE_TRANSMISSIONS, chance) : chance);
  }
}
