/** A line of a plot. */
export interface Line {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** What a plot shows. */
export interface Plot {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  readonly lines: readonly Line[];
  readonly note: string;
}

const WIDTH = 760;
const HEIGHT = 400;
const LEFT = 84;
const RIGHT = 190;
const TOP = 48;
const BOTTOM = 70;
const COLOURS = ["#0969da", "#8250df", "#cf222e", "#bc4c00", "#1a7f37", "#59636e", "#9a6700"];
/** How far apart two names are at least. */
const LEADING = 16;

/** Lines over a logarithmic axis, with their names at their ends, as SVG; `undefined` without points. */
export function linePlot({ title, x, y, lines, note }: Plot): string | undefined {
  const all = lines.flatMap(({ points }) => points);
  if (all.length === 0) return undefined;
  const xs = [...new Set(all.map(([at]) => at))].sort((a, b) => a - b);
  const [low, high] = [Math.log(xs[0]!), Math.log(xs.at(-1)!)];
  const step = niceStep(Math.max(...all.map(([, value]) => value)) / 5);
  const top = step * Math.ceil(Math.max(...all.map(([, value]) => value)) / step);
  const px = (at: number) => LEFT + (WIDTH - LEFT - RIGHT) * (high === low ? 0.5 : (Math.log(at) - low) / (high - low));
  const py = (value: number) => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top;
  const out: string[] = [];
  for (let value = 0; value <= top + step / 2; value += step) {
    out.push(`<path class="grid" d="M${LEFT} ${py(value)}H${WIDTH - RIGHT}"/>`);
    out.push(text(LEFT - 8, py(value) + 4, value.toLocaleString("en"), "end"));
  }
  for (const at of xs) out.push(text(px(at), HEIGHT - BOTTOM + 20, at.toLocaleString("en"), "middle"));
  out.push(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 40, x, "middle"));
  out.push(text(LEFT, TOP - 10, y, "end"), text(16, 22, title, "start", "title"));
  out.push(text(16, HEIGHT - 8, note, "start", "note"));
  const ends = lines.map(({ points }) => py(points.at(-1)![1]));
  const places = spread(ends);
  lines.forEach(({ name, points }, i) => {
    const colour = COLOURS[i % COLOURS.length]!;
    const path = points.map(([at, value], j) => `${j === 0 ? "M" : "L"}${px(at).toFixed(1)} ${py(value).toFixed(1)}`);
    out.push(`<path d="${path.join("")}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    for (const [at, value] of points) {
      out.push(`<circle cx="${px(at).toFixed(1)}" cy="${py(value).toFixed(1)}" r="3" fill="${colour}"/>`);
    }
    out.push(
      `<text x="${WIDTH - RIGHT + 10}" y="${(places[i]! + 4).toFixed(1)}" style="fill:${colour}">${name}</text>`,
    );
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${title}">
<style>
svg { background: #ffffff; font: 13px system-ui, sans-serif; }
text { fill: #1f2328; } .title { font-weight: 600; font-size: 15px; } .note { fill: #59636e; font-size: 11px; }
.grid { stroke: #d1d9e0; }
</style>
${out.join("\n")}
</svg>
`;
}

function text(x: number, y: number, what: string, anchor: string, kind = ""): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}" class="${kind}">${what}</text>`;
}

/** 1, 2 or 5 and zeros, not less than this. */
function niceStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least)!;
}

/** The same heights, moved down where two are too close. */
function spread(heights: readonly number[]): number[] {
  const order = heights.map((_, i) => i).sort((a, b) => heights[a]! - heights[b]!);
  const places = [...heights];
  let last = -Infinity;
  for (const i of order) last = places[i] = Math.max(heights[i]!, last + LEADING);
  return places;
}
