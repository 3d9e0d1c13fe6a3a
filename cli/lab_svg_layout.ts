import { LAB_SERVER } from "./lab_run.ts";
import type { LabStep } from "./lab_steps.ts";

/** Between two lifelines. */
export const LANE_GAP = 190;
/** What notes beside a host may take. */
export const NOTE_WIDTH = 200;
const TIME_WIDTH = 56;

/** A lifeline. */
export interface Lane {
  /** Where it is. */
  readonly x: number;
  /** What is written above it. */
  readonly name: string;
  /** What is written below that. */
  readonly what: string;
  /** Whether most datagrams pass it by. */
  readonly isFar: boolean;
}

/** The lifelines, by the names of hosts and gateways: from A over its NATs to the server, and on to B. */
export function lanesOf(steps: readonly LabStep[]): Map<string, Lane> {
  const addresses = new Map<string, string>();
  const nodes = new Set<string>(["A", "server", "B"]);
  for (const step of steps) {
    if (step.t === "candidate" && step.type === "host") addresses.set(step.host, ipOf(step.address));
    if (step.t !== "datagram" || step.node === "internet") continue;
    nodes.add(step.node);
    // What leaves through a gateway carries its outside address.
    const isOut = step.step === "translated" && step.destination.startsWith(LAB_SERVER);
    if (isOut) addresses.set(step.node, ipOf(step.source));
  }
  addresses.set("server", LAB_SERVER);
  const ofA = [...nodes].filter((name) => name.startsWith("A")).sort((a, b) => rank(a) - rank(b));
  const ofB = [...nodes].filter((name) => name.startsWith("B")).sort((a, b) => rank(b) - rank(a));
  return new Map(
    [...ofA, "server", ...ofB].map((name, i) => [name, {
      x: TIME_WIDTH + NOTE_WIDTH + i * LANE_GAP,
      name: name === "server" ? "STUN and TURN server" : name.replace("-nat", "'s NAT").replace("-", "'s "),
      what: addresses.get(name) ?? "",
      isFar: name === "server",
    }]),
  );
}

function rank(name: string): number {
  return name.length === 1 ? 0 : name.endsWith("-carrier") ? 2 : 1;
}

function ipOf(address: string): string {
  return address.replace(/:\d+$/, "");
}

const LABEL = 15;
const LONGEST_GAP = 44;

/**
 * Gives steps their height on the page: never above an earlier one, the further down the more time has passed, and far
 * enough from the label before in the same column.
 */
export class RowPlan {
  /** Where the first row is. */
  static readonly TOP = 124;
  #y: number = RowPlan.TOP;
  #at = 0;
  #scale: number;
  #free = new Map<string, number>();

  /** @param hop The shortest way of a datagram from node to node in ms, which is given some 16 pixels. */
  constructor(hop: number) {
    this.#scale = Math.min(4, Math.max(0.2, 16 / hop));
  }

  /** The lowest row so far. */
  get end(): number {
    return this.#y;
  }

  /** A row without text. */
  plain(at: number): number {
    if (at > this.#at) this.#y += Math.min(LONGEST_GAP, (at - this.#at) * this.#scale);
    this.#at = Math.max(this.#at, at);
    return this.#y = Math.round(this.#y * 10) / 10;
  }

  /** A row with text in this column. */
  labelled(at: number, column: string): number {
    const y = Math.max(this.plain(at), this.#free.get(column) ?? 0);
    this.#free.set(column, y + LABEL);
    return this.#y = y;
  }

  /** A row of its own. */
  band(at: number): number {
    this.plain(at);
    this.#y += LABEL;
    const y = this.#y;
    this.#y += LABEL + 4;
    return y;
  }
}
