// deno-lint-ignore-file no-console
/**
 * Plots of what `relay.ts --results FILE` has measured.
 *
 * ```sh
 * deno run -A tests/bench/plots.ts results.json tests/bench/plots
 * ```
 */
import { type LoadGroup, type LoadResults, median, type Result } from "./_loads.ts";
import { type Line, linePlot } from "./_plot.ts";

const [file, folder] = Deno.args;
if (file === undefined || folder === undefined) throw new Error("Usage: plots.ts RESULTS FOLDER");
const { loads, versions } = JSON.parse(Deno.readTextFileSync(file)) as { loads: LoadResults[]; versions: string };

function lines(group: LoadGroup, value: (run: Result) => number, skip: readonly string[] = []): Line[] {
  const byName = new Map<string, [number, number][]>();
  for (const load of loads.filter((one) => one.group === group)) {
    for (const [name, runs] of Object.entries(load.results)) {
      if (runs.length === 0 || skip.includes(name)) continue;
      const points = byName.get(name) ?? [];
      points.push([load.x, median(runs.map(value))]);
      byName.set(name, points);
    }
  }
  return [...byName].map(([name, points]) => ({ name, points }));
}

Deno.mkdirSync(folder, { recursive: true });
const plots = {
  "clients.svg": linePlot({
    title: "CPU time for a relayed packet: clients in closed loop, 200 bytes",
    x: "clients",
    y: "us a packet",
    lines: lines("clients", (run) => run.cpuMicroseconds),
    note: versions,
  }),
  "throughput.svg": linePlot({
    title: "Relayed packets a second on one core: clients in closed loop, 200 bytes",
    x: "clients",
    y: "packets/s",
    lines: lines("clients", (run) => run.perSecond),
    note: versions,
  }),
  "growth.svg": linePlot({
    title: "CPU time for a relayed packet: 10 busy clients among many allocations",
    x: "allocations",
    y: "us a packet",
    lines: lines("growth", (run) => run.cpuMicroseconds),
    note: versions,
  }),
};
for (const [name, svg] of Object.entries(plots)) {
  if (svg === undefined) continue;
  Deno.writeTextFileSync(`${folder}/${name}`, svg);
  console.log(`${folder}/${name}`);
}
