/** A point on the page. */
export type Point = readonly [x: number, y: number];

interface Palette {
  readonly paper: string;
  readonly ink: string;
  readonly soft: string;
  readonly lane: string;
  readonly check: string;
  readonly good: string;
  readonly bad: string;
  readonly nominate: string;
}

const LIGHT: Palette = {
  paper: "#ffffff",
  ink: "#1f2328",
  soft: "#59636e",
  lane: "#d1d9e0",
  check: "#0969da",
  good: "#1a7f37",
  bad: "#cf222e",
  nominate: "#8250df",
};
const DARK: Palette = {
  paper: "#0d1117",
  ink: "#e6edf3",
  soft: "#9198a1",
  lane: "#3d444d",
  check: "#4493f8",
  good: "#3fb950",
  bad: "#f85149",
  nominate: "#ab7df8",
};

/** Written out twice, as not every viewer knows CSS variables. */
function colours({ paper, ink, soft, lane, check, good, bad, nominate }: Palette): string {
  const kinds = {
    check,
    answer: good,
    nomination: nominate,
    data: ink,
    stun: soft,
    turn: soft,
    tcp: soft,
    bad,
    soft,
    good,
  };
  return [
    `.paper { fill: ${paper}; }`,
    `text { fill: ${ink}; stroke: ${paper}; }`,
    `.lane { stroke: ${lane}; }`,
    `.dropped, .cross { stroke: ${bad}; }`,
    ...Object.entries(kinds).flatMap(([kind, colour]) => [
      `.way.${kind} { stroke: ${colour}; }`,
      `text.${kind}, .mark.${kind} { fill: ${colour}; }`,
    ]),
  ].join("\n");
}

/** The style sheet: colours for light paper, and for dark where the viewer wants that. */
export const STYLE: string = `
text { font: 11px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  paint-order: stroke; stroke-width: 3px; stroke-linejoin: round; }
.title { font-size: 15px; font-weight: 600; }
.name { font-size: 13px; font-weight: 600; }
.end { text-anchor: end; }
.middle { text-anchor: middle; }
.lane { stroke-width: 1.5; }
.far { stroke-dasharray: 2 4; }
.way { fill: none; stroke-width: 1.5; }
.way.nomination, .way.data { stroke-width: 2.5; }
text.nomination, text.data { font-weight: 600; }
.dropped { stroke-dasharray: 5 3; }
.cross { stroke-width: 2; }
${colours(LIGHT)}
@media (prefers-color-scheme: dark) {
${colours(DARK)}
}`;

/** An arrow's head at `to`. */
export function arrowHead(from: Point, to: Point, kind: string): string {
  const angle = Math.atan2(to[1] - from[1], to[0] - from[0]) * 180 / Math.PI;
  const turn = `translate(${to[0]},${to[1]}) rotate(${round(angle)})`;
  return `<path class="mark ${kind}" d="M0,0 L-9,-4 L-9,4 Z" transform="${turn}"/>`;
}

/** Where the shaft of an arrow ends, so that its point is on the lane. */
export function endOfShaft(from: Point, to: Point): Point {
  const length = Math.hypot(to[0] - from[0], to[1] - from[1]) || 1;
  return [round(to[0] - 7 * (to[0] - from[0]) / length), round(to[1] - 7 * (to[1] - from[1]) / length)];
}

/** The end of a datagram that did not arrive. */
export function cross([x, y]: Point): string {
  return `<path class="cross" d="M${x - 4},${y - 4} l8,8 m0,-8 l-8,8"/>`;
}

/** To a tenth. */
export function round(value: number): number {
  return Math.round(value * 10) / 10;
}

/** Text as XML wants it. */
export function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
