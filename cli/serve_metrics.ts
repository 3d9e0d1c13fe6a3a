import type { StreamStats, TransportAddress } from "../stun/mod.ts";
import type { TurnServerHandle, TurnServerStats } from "../turn/mod.ts";

/** What is a number of now; all else only grows. */
const GAUGES: ReadonlySet<string> = new Set(["allocations", "reservations", "connections", "open"]);
/** The names of what is counted by name, and of the label. */
const LABELS: Readonly<Record<string, readonly [name: string, label: string]>> = {
  drops: ["dropped", "reason"],
  limits: ["refused", "limit"],
  connectionFailures: ["connection_failures", "reason"],
  errors: ["error_answers", "code"],
};

/** Whether a server takes new clients, and what it does. */
export interface MetricsSource {
  readonly server: TurnServerHandle;
  /** Whether it takes no new allocations any more. */
  isDraining(): boolean;
}

/**
 * Serves counters by HTTP, for monitoring: `/metrics` in the text format of Prometheus, `/stats` as JSON, `/health` with 200,
 * or 503 when the server is draining.
 *
 * @returns Where, and what ends it.
 * @throws {Error} If the port can not be bound.
 */
export function serveMetrics(
  { address, port }: TransportAddress,
  source: MetricsSource,
): { readonly url: string; close(): Promise<void> } {
  const server = Deno.serve({ hostname: address, port, onListen() {} }, (request) => answer(request, source));
  const { hostname, port: bound } = server.addr;
  const host = hostname.includes(":") ? `[${hostname}]` : hostname;
  return { url: `http://${host}:${bound}/metrics`, close: () => server.shutdown() };
}

function answer(request: Request, { server, isDraining }: MetricsSource): Response {
  if (request.method !== "GET" && request.method !== "HEAD") return new Response(null, { status: 405 });
  switch (new URL(request.url).pathname) {
    case "/metrics":
      return new Response(metricsText(server.stats(), server.streamStats()), {
        headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
      });
    case "/stats":
      return Response.json({ ...server.stats(), streams: server.streamStats() });
    case "/health":
      return isDraining() ? new Response("draining\n", { status: 503 }) : new Response("ok\n");
    default:
      return new Response("There is /metrics, /stats and /health\n", { status: 404 });
  }
}

/** All counters in the text format of Prometheus. */
export function metricsText(turn: TurnServerStats, streams: StreamStats): string {
  return [...lines("natkit_turn_", turn), ...lines("natkit_stream_", streams)].join("\n") + "\n";
}

function* lines(prefix: string, stats: object): Generator<string> {
  for (const [key, value] of Object.entries(stats)) {
    if (typeof value === "number") {
      const isGauge = GAUGES.has(key);
      const name = prefix + snakeCase(isGauge ? key : key.replace(/Total$/, "")) + (isGauge ? "" : "_total");
      yield `# TYPE ${name} ${isGauge ? "gauge" : "counter"}`;
      yield `${name} ${value}`;
      continue;
    }
    const [base, label] = LABELS[key] ?? [snakeCase(key), "name"];
    const name = `${prefix}${base}_total`;
    yield `# TYPE ${name} counter`;
    for (const [which, count] of Object.entries(value as Record<string, number>)) {
      yield `${name}{${label}="${which}"} ${count}`;
    }
  }
}

function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
