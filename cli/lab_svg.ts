import { endOfJourney, type Journey, STEP_WORDS, type Story, storyOf } from "./lab_journeys.ts";
import type { LabCell } from "./lab_run.ts";
import type { AgentStep, DatagramStep, LabStep } from "./lab_steps.ts";
import { type Lane, LANE_GAP, lanesOf, NOTE_WIDTH, RowPlan } from "./lab_svg_layout.ts";
import { arrowHead, cross, endOfShaft, escape, type Point, round, STYLE } from "./lab_svg_style.ts";

/**
 * Draws a cell's steps as a sequence diagram: time goes down, long silence is shortened, and lines slope as datagrams
 * travel. The addresses of each datagram are its tooltip.
 *
 * @param options `all` also shows what goes on between clients and servers, and what follows the nomination.
 * @returns A whole SVG file, readable on light and dark paper.
 */
export function drawSteps(
  steps: readonly LabStep[],
  cell: LabCell,
  { all = false }: { all?: boolean } = {},
): string {
  const story = storyOf(steps);
  const lanes = lanesOf(steps);
  const rows = new RowPlan(shortestHop(steps));
  const drawing = new Drawing(story, lanes);
  const journeys = new Map(
    story.parts.flatMap((part) => !("t" in part) && (all || part.isMain) ? [[part.sent.id, part] as const] : []),
  );
  let isDone = false;
  for (const step of steps) {
    if (step.t === "swap") drawing.band("both learn of each other: checks begin", step.at, rows);
    else if (step.t === "done") {
      isDone = true;
      if (all) drawing.band("the end of ICE's work, but for keeping the path", step.at, rows);
    } else if (step.t !== "datagram") {
      if (all || !isDone || step.t === "state") drawing.note(step, rows);
    } else {
      const journey = journeys.get(step.id);
      if (journey !== undefined) drawing.step(step, journey, rows);
    }
  }
  return drawing.finish(cell, rows);
}

class Drawing {
  #story: Story;
  #lanes: ReadonlyMap<string, Lane>;
  #points = new Map<number, Point[]>();
  #lines: string[] = [];
  #texts: string[] = [];
  #lastTime = { at: -1, y: -Infinity };

  constructor(story: Story, lanes: ReadonlyMap<string, Lane>) {
    this.#story = story;
    this.#lanes = lanes;
  }

  /** One step of a datagram. The line is drawn with the last one. */
  step(step: DatagramStep, journey: Journey, rows: RowPlan): void {
    if (step.step === "sent") return this.#start(step, journey, rows);
    const points = this.#points.get(step.id);
    if (points === undefined) return;
    points.push([this.#xOf(step, journey), rows.plain(step.at)]);
    if (step === endOfJourney(journey)) this.#way(journey, step, points);
  }

  /** Something that concerns both sides. */
  band(text: string, at: number, rows: RowPlan): void {
    const y = rows.band(at);
    const width = this.#width;
    this.#lines.push(`<line class="lane far" x1="56" x2="${width - 8}" y1="${y}" y2="${y}"/>`);
    this.#text(text, [width / 2, y - 4], "soft middle");
    this.#time(at, y);
  }

  /** An event of an agent. */
  note(step: AgentStep, rows: RowPlan): void {
    const note = noteOf(step);
    if (note === undefined) return;
    const { x } = this.#lanes.get(step.host)!;
    const y = rows.labelled(step.at, `${step.host} notes`);
    const isLeft = step.host === "A";
    this.#text(note.text, [x + (isLeft ? -9 : 9), y + 4], `${note.className}${isLeft ? " end" : ""}`, note.title);
    this.#lines.push(`<circle class="mark ${note.className}" cx="${x}" cy="${y}" r="3.5"/>`);
    this.#time(step.at, y);
  }

  /** The whole file. */
  finish(cell: LabCell, rows: RowPlan): string {
    const height = rows.end + 56;
    const width = this.#width;
    const lanes = [...this.#lanes.values()].flatMap(({ x, name, what, isFar }) => [
      `<line class="lane${isFar ? " far" : ""}" x1="${x}" x2="${x}" y1="${RowPlan.TOP - 14}" y2="${rows.end + 12}"/>`,
      ...[RowPlan.TOP - 34, rows.end + 30].flatMap((y) => [
        `<text class="name middle" x="${x}" y="${y}">${escape(name)}</text>`,
        `<text class="soft middle" x="${x}" y="${y + 14}">${escape(what)}</text>`,
      ]),
    ]);
    const title = `A behind ${cell.a}, B behind ${cell.b}`;
    return [
      `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" ` +
      `role="img" aria-label="${escape(`${title}: ${outcomeOf(cell)}`)}">`,
      `<style>${STYLE}</style>`,
      `<rect class="paper" width="${width}" height="${height}"/>`,
      `<text class="title" x="16" y="26">${escape(title)}</text>`,
      `<text class="soft" x="16" y="46">${escape(outcomeOf(cell))}</text>`,
      ...legend(width),
      ...lanes,
      ...this.#lines,
      ...this.#texts,
      `</svg>`,
      "",
    ].join("\n");
  }

  get #width(): number {
    return Math.max(...[...this.#lanes.values()].map(({ x }) => x)) + NOTE_WIDTH;
  }

  #start(step: DatagramStep, journey: Journey, rows: RowPlan): void {
    const { x } = this.#lanes.get(step.node)!;
    const goesRight = this.#goesRight(journey);
    const y = rows.labelled(step.at, `${step.node} ${goesRight}`);
    this.#points.set(step.id, [[x, y]]);
    this.#text(this.#labelOf(step), [x + (goesRight ? 8 : -8), y - 3], `${step.kind}${goesRight ? "" : " end"}`);
    this.#time(step.at, y);
  }

  /** Addresses are in the tooltip. */
  #labelOf({ text, kind, destination, peer, repeats }: DatagramStep): string {
    const bare = text.replace(/, you are .*$/, "").replace("check, USE-CANDIDATE", "USE-CANDIDATE")
      .replace(/ (for|from) \S+$/, "");
    const { owners } = this.#story;
    const whom = owners.get(owners.get(destination) === "server" ? peer ?? "" : destination);
    const to = kind === "answer" || whom === undefined || this.#lanes.has(whom) ? "" : ` to ${whom}`;
    return `${bare}${to}${repeats === 0 ? "" : " again"}`;
  }

  #goesRight({ sent, hops }: Journey): boolean {
    const from = this.#lanes.get(sent.node)!.x;
    const next = hops.find(({ node }) => node !== sent.node && this.#lanes.has(node));
    return next === undefined ? sent.node !== "B" : this.#lanes.get(next.node)!.x > from;
  }

  /** A datagram that its own link loses, or that finds no route, ends a little further on. */
  #xOf({ node }: DatagramStep, { sent, hops }: Journey): number {
    const lane = this.#lanes.get(node);
    const isAhead = lane === undefined || node === sent.node;
    if (!isAhead || node === "server") return lane!.x;
    const last = hops.findLast((hop) => this.#lanes.has(hop.node))?.node ?? sent.node;
    return this.#lanes.get(last)!.x + (sent.node === "B" ? -1 : 1) * LANE_GAP * 0.4;
  }

  #way({ sent, hops }: Journey, end: DatagramStep, points: readonly Point[]): void {
    const isDropped = end.step !== "delivered";
    const [last, before] = [points.at(-1)!, points.at(-2)!];
    const shaft = [...points.slice(0, -1), isDropped ? last : endOfShaft(before, last)];
    const steps = [sent, ...hops].map(({ at, node, step, source, destination }) =>
      `${round(at)} ms ${node} ${STEP_WORDS[step]}: ${source} to ${destination}`
    );
    this.#lines.push(
      `<g><title>${escape([sent.text, ...steps].join("\n"))}</title>` +
        `<polyline class="way ${isDropped ? "dropped" : sent.kind}" points="${shaft.join(" ")}"/>` +
        points.slice(1, -1).map(([x, y]) => `<circle class="mark ${sent.kind}" cx="${x}" cy="${y}" r="2.5"/>`).join(
          "",
        ) +
        (isDropped ? cross(last) : arrowHead(before, last, sent.kind)) + `</g>`,
    );
    if (!isDropped) return;
    const isLeft = sent.node === "B";
    this.#text(STEP_WORDS[end.step], [last[0] + (isLeft ? -9 : 9), last[1] + 4], isLeft ? "bad end" : "bad");
  }

  #time(at: number, y: number): void {
    if (at === this.#lastTime.at || y - this.#lastTime.y < 12) return;
    this.#lastTime = { at, y };
    this.#text(at < 10_000 ? `${round(at)} ms` : `${round(at / 100) / 10} s`, [50, y + 4], "soft end");
  }

  #text(text: string, [x, y]: Point, className: string, title?: string): void {
    const tooltip = title === undefined ? "" : `<title>${escape(title)}</title>`;
    this.#texts.push(`<text class="${className}" x="${x}" y="${y}">${tooltip}${escape(text)}</text>`);
  }
}

interface Note {
  readonly text: string;
  readonly className: string;
  readonly title?: string;
}

function noteOf(step: AgentStep): Note | undefined {
  switch (step.t) {
    case "candidate":
      return { text: `${step.type} ${step.address}`, className: "soft" };
    case "gathering-error":
      return { text: "a server gave nothing", className: "bad", title: step.text };
    case "role":
      return { text: `now ${step.role}`, className: "soft" };
    case "state":
      if (step.state !== "failed" && step.state !== "disconnected") return undefined;
      return { text: step.state, className: "bad", title: step.reason ?? step.state };
    case "pair": {
      if (step.state !== "succeeded" && step.state !== "failed") return undefined;
      const [word, className] = step.state === "succeeded" ? ["valid", "good"] as const : ["failed", "bad"] as const;
      const title = `${step.local.address} to ${step.remote.address}`;
      return { text: `${word}: ${step.local.type}-${step.remote.type}`, className, title };
    }
    case "selected":
      return undefined;
    case "nominated":
      return { text: `nominated: ${step.local.type}-${step.remote.type}`, className: "nomination" };
  }
}

function legend(width: number): string[] {
  const items = { check: "check", answer: "answer", nomination: "nominating check", data: "data", bad: "dropped" };
  let x = width - 16;
  return Object.entries(items).reverse().map(([className, text]) => {
    const item = `<text class="${className} end" x="${x}" y="46">${text}</text>`;
    x -= 7 * text.length + 14;
    return item;
  });
}

function outcomeOf({ path, transport, local, remote, connectedMs, nominatedMs, sent, errors }: LabCell): string {
  const datagrams = `${sent.a + sent.b + sent.server} datagrams`;
  if (errors !== undefined) return `no path, ${datagrams}`;
  return `${path}${transport === undefined ? "" : " over TCP"}, ${local} to ${remote}: data after ${
    round(connectedMs!)
  } ms, ` +
    `nominated after ${round(nominatedMs!)} ms, ${datagrams}`;
}

function shortestHop(steps: readonly LabStep[]): number {
  const latest = new Map<number, number>();
  let shortest = Infinity;
  for (const step of steps) {
    if (step.t !== "datagram") continue;
    const before = latest.get(step.id);
    if (before !== undefined && step.at > before) shortest = Math.min(shortest, step.at - before);
    latest.set(step.id, step.at);
  }
  return shortest;
}
