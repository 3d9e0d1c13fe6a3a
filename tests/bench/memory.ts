/**
 * What an allocation costs in memory: live objects, and resident memory with all that was left over on the way.
 *
 * ```sh
 * deno run -A tests/bench/memory.ts --clients 10000
 * ```
 */
import { parseArgs } from "@std/cli/parse-args";

const args = parseArgs(Deno.args, { default: { clients: 10_000, port: 3978 } });
const clients = Number(args.clients);
const common = ["run", "--quiet", "-A", `--config=${new URL("../../deno.json", import.meta.url).pathname}`];
const path = (name: string) => new URL(name, import.meta.url).pathname;

/** Reads a process's lines one by one. */
async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
}

async function measure(io: "linux" | "deno"): Promise<string> {
  const flags = ["--v8-flags=--expose-gc", path("_serve.ts"), "--io", io, "--port", `${args.port}`];
  const server = new Deno.Command(Deno.execPath(), { args: [...common, ...flags], stdout: "piped" }).spawn();
  const lines = linesOf(server.stdout);
  await lines.next();
  const ask = async (): Promise<{ allocations: number; heapUsed: number; rss: number }> => {
    server.kill("SIGUSR2");
    return JSON.parse((await lines.next()).value!);
  };
  const before = await ask();
  const load = [path("loadgen.ts"), "--port", `${args.port}`, "--clients", `${clients}`];
  const rest = ["--active", "10", "--rate", "100", "--warmup", "0", "--seconds", "20", "--pid", `${server.pid}`];
  const generator = new Deno.Command(Deno.execPath(), { args: [...common, ...load, ...rest], stdout: "null" }).spawn();
  let after = before;
  while (after.allocations < clients) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    after = await ask();
  }
  // Channels follow the allocations.
  await new Promise((resolve) => setTimeout(resolve, 5000));
  after = await ask();
  generator.kill();
  server.kill();
  await Promise.all([generator.status, server.status, lines.return()]);
  const each = (name: "heapUsed" | "rss") => Math.round((after[name] - before[name]) / clients);
  return `${io}: ${each("heapUsed")} bytes of live objects, ${each("rss")} of resident memory each`;
}

for (const io of ["linux", "deno"] as const) {
  // deno-lint-ignore no-console
  console.log(await measure(io));
}
