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

/** What a load is there to show: those of one group go into one plot. */
export type LoadGroup =
  | "clients"
  | "sizes"
  | "indications"
  | "flow"
  | "paced"
  | "latency"
  | "overload"
  | "growth"
  | "other";

/** A load to put on each server. */
export interface Load {
  readonly name: string;
  readonly group: LoadGroup;
  /** Its place on the axis of the plot. */
  readonly x: number;
  /** What `perSecond` counts. */
  readonly unit: string;
  readonly options: Readonly<Record<string, string | number>>;
  /** Whether a server that only forwards ChannelData can take it. */
  readonly forBare: boolean;
}

/** What all servers did under one load, in the order of the rounds. */
export interface LoadResults extends Pick<Load, "name" | "group" | "x"> {
  readonly results: Readonly<Record<string, readonly Result[]>>;
}

const packets = { unit: "packets/s", forBare: true } as const;
const CLIENTS = [1, 10, 100, 1000] as const;
const SIZES = [64, 1200] as const;
const ALLOCATIONS = [10, 100, 1000, 10_000] as const;
/** Some 10 % and 80 % of what coturn relays on one core. */
const RATES = [20_000, 140_000] as const;

/** The loads. In closed loop each client sends the next datagram when the last one is back, or keeps `window` on the way. */
export const LOADS: readonly Load[] = [
  ...CLIENTS.map((clients): Load => ({
    ...packets,
    name: `${clients} client${clients === 1 ? "" : "s"}, 200 B, closed loop`,
    group: "clients",
    x: clients,
    options: { clients, size: 200 },
  })),
  {
    ...packets,
    name: "1 client, 200 B, 32 on the way",
    group: "flow",
    x: 32,
    options: { clients: 1, size: 200, window: 32 },
  },
  ...SIZES.map((size): Load => ({
    ...packets,
    name: `100 clients, ${size} B, closed loop`,
    group: "sizes",
    x: size,
    options: { clients: 100, size },
  })),
  ...[64, 200, 1200].map((size): Load => ({
    ...packets,
    name: `100 clients, ${size} B, indications, closed loop`,
    group: "indications",
    x: size,
    options: { clients: 100, size, mode: "indication" },
    forBare: false,
  })),
  {
    ...packets,
    name: "50 clients, 200 B, 25,000 packets/s",
    group: "paced",
    x: 25_000,
    options: { clients: 50, size: 200, rate: 25_000 },
  },
  ...RATES.map((rate): Load => ({
    ...packets,
    name: `100 clients, 200 B, ${rate.toLocaleString("en")} packets/s`,
    group: "latency",
    x: rate,
    options: { clients: 100, size: 200, rate },
  })),
  {
    ...packets,
    name: "100 clients, 200 B, 400,000 packets/s offered",
    group: "overload",
    x: 400_000,
    options: { clients: 100, size: 200, rate: 400_000 },
  },
  ...ALLOCATIONS.map((clients): Load => ({
    ...packets,
    name: `${clients.toLocaleString("en")} allocations, 10 of them busy, 200 B, closed loop`,
    group: "growth",
    x: clients,
    options: { clients, active: 10, size: 200 },
    forBare: false,
  })),
  other("Binding requests", "responses/s", { clients: 100, mode: "binding" }),
  other("Allocations, 64 under way", "allocations/s", { clients: 500, mode: "allocate" }),
];

function other(name: string, unit: string, options: Load["options"]): Load {
  return { name, group: "other", x: 0, unit, options, forBare: false };
}

/** The middle one, or the mean of the two. */
export function median(values: readonly number[]): number {
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
      load.group === "growth" ? Math.round(median(of("bytesPerAllocation"))).toLocaleString("en") : "",
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
    load.group === "growth" ? "bytes each" : "",
    "load idle",
    "others",
  ];
  // Only where memory grows is there a column for it.
  const lines = [heads, heads.map((head) => head === "" ? "" : "---"), ...rows];
  return lines.map((cells) => `| ${cells.filter((_, i) => heads[i] !== "").join(" | ")} |`).join("\n") + "\n";
}

function percent(part: number): string {
  return `${Math.round(part * 100)} %`;
}
