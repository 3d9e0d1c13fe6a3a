/** What the load generator prints. */
export interface Result {
  readonly perSecond: number;
  readonly cpuMicroseconds: number;
  readonly cpuShare: number;
  readonly foreign: number;
  readonly p50: number;
  readonly p99: number;
  readonly lostShare: number;
  readonly idle: number;
  readonly bytesPerAllocation: number;
}

/** A load to put on each server. */
export interface Load {
  readonly name: string;
  /** What `perSecond` counts. */
  readonly unit: string;
  readonly options: Readonly<Record<string, string | number>>;
  /** Whether a server that only forwards ChannelData can take it. */
  readonly forBare: boolean;
  /** Whether it has a rate that servers are to keep up with, with time to spare. */
  readonly isPaced: boolean;
}

/** The loads. In closed loop each client sends the next datagram when the last one is back, or keeps `window` on the way. */
export const LOADS: readonly Load[] = [
  relay("100 clients, 200 B, closed loop", { clients: 100, size: 200 }),
  relay("1000 clients, 200 B, closed loop", { clients: 1000, size: 200 }),
  relay("10 clients, 200 B, closed loop", { clients: 10, size: 200 }),
  relay("1 client, 200 B, 32 on the way", { clients: 1, size: 200, window: 32 }),
  relay("100 clients, 64 B, closed loop", { clients: 100, size: 64 }),
  relay("100 clients, 1200 B, closed loop", { clients: 100, size: 1200 }),
  relay("100 clients, 200 B, closed loop, indications", { clients: 100, size: 200, mode: "indication" }),
  relay("50 clients, 200 B, 25,000 packets/s", { clients: 50, size: 200, rate: 25_000 }, true),
  relay("100 clients, 200 B, 120,000 packets/s", { clients: 100, size: 200, rate: 120_000 }, true),
  relay("100 clients, 200 B, 400,000 packets/s offered", { clients: 100, size: 200, rate: 400_000 }),
  relay("10,000 allocations, 10 of them busy, 200 B, closed loop", { clients: 10_000, active: 10, size: 200 }),
  other("Binding requests", "responses/s", { clients: 100, mode: "binding" }),
  other("Allocations, 64 under way", "allocations/s", { clients: 500, mode: "allocate" }),
];

function relay(name: string, options: Load["options"], isPaced = false): Load {
  const forBare = options["mode"] === undefined && options["active"] === undefined;
  return { name, unit: "packets/s", options, forBare, isPaced };
}

function other(name: string, unit: string, options: Load["options"]): Load {
  return { name, unit, options, forBare: false, isPaced: false };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** A table in Markdown: the median, and in parentheses from where to where the runs reach. */
export function table(load: Load, results: ReadonlyMap<string, readonly Result[]>): string {
  const rows = [...results].filter(([, runs]) => runs.length > 0).map(([name, runs]) => {
    const of = (key: keyof Result) => runs.map((run) => run[key]);
    const cpu = of("cpuMicroseconds");
    return [
      name,
      Math.round(median(of("perSecond"))).toLocaleString("en"),
      `${median(cpu).toFixed(2)} (${Math.min(...cpu).toFixed(2)} - ${Math.max(...cpu).toFixed(2)})`,
      percent(median(of("cpuShare"))),
      `${median(of("p50")).toPrecision(3)} / ${median(of("p99")).toPrecision(3)}`,
      percent(median(of("lostShare"))),
      percent(median(of("idle"))),
      percent(Math.max(...of("foreign"))),
    ];
  });
  const heads = [
    load.name,
    load.unit,
    "CPU us each",
    "server busy",
    "p50 / p99 ms",
    "lost",
    "load idle",
    "others",
  ];
  return [heads, heads.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n") + "\n";
}

function percent(part: number): string {
  return `${Math.round(part * 100)} %`;
}
