// deno-lint-ignore-file no-console
/**
 * Relaying, beside every TURN server on the machine: one table for each load, in one run.
 *
 * ```sh
 * PEERS_NPM=$PWD/peers deno run -A tests/bench/relay.ts --rounds 5 --only "100 clients;Binding"
 * ```
 *
 * Server on core 0, load and echoing peer on core 1, servers in turn, medians. A run during which others took a good
 * part of the machine is done again. Needs Linux with at least 2 cores; `PEERS_NPM` is a folder in which
 * `npm install turn-server@0.6.6` was run. `--results FILE` keeps every single run, for `tests/bench/plots.ts`.
 */
import { parseArgs } from "@std/cli/parse-args";
import { type ServerKind, SERVERS } from "./_servers.ts";
import { type Load, type LoadResults, LOADS, type Result, table } from "./_loads.ts";

const args = parseArgs(Deno.args, {
  string: ["only", "servers", "results"],
  default: { rounds: 3, seconds: 3, only: "", servers: "", results: "" },
});

const only: string[] = args.only.split(";");
const RETRIES = 3;
const MAX_FOREIGN = 0.06;
const PORT = 9300;
const PEER_PORT = 9299;
const folder = Deno.makeTempDirSync();
const loadgen = new URL("loadgen.ts", import.meta.url).pathname;

function pinned(core: number, command: readonly string[], stdout: "piped" | "null"): Deno.Command {
  // Some servers end with their stdin.
  return new Deno.Command("taskset", { args: ["-c", `${core}`, ...command], stdin: "piped", stdout, stderr: "null" });
}

async function runLoad(kind: ServerKind, load: Load, pid: number): Promise<Result | undefined> {
  const options = { ...load.options, port: PORT, pid, seconds: Number(args.seconds), "peer-port": PEER_PORT };
  const list = Object.entries(options).flatMap(([name, value]) => [`--${name}`, `${value}`]);
  if (kind.isBare === true) list.push("--bare");
  const program = [Deno.execPath(), "run", "--quiet", "--no-check", "--allow-all", loadgen, ...list];
  const child = pinned(1, program, "piped").spawn();
  await child.stdin.close();
  const { success, stdout } = await child.output();
  return success ? JSON.parse(new TextDecoder().decode(stdout)) : undefined;
}

/** One measurement on a fresh server, again if the machine was not ours. */
async function measure(kind: ServerKind, load: Load): Promise<Result | undefined> {
  let best: Result | undefined;
  for (let i = 0; i < RETRIES; i++) {
    const command = kind.command(PORT, folder, PEER_PORT);
    if (command === undefined) return undefined;
    await using server = start(command);
    const result = await runLoad(kind, load, server.pid);
    if (result !== undefined && (best === undefined || result.foreign < best.foreign)) best = result;
    if (best !== undefined && best.foreign <= MAX_FOREIGN) break;
  }
  return best;
}

function start(command: readonly string[]): AsyncDisposable & { readonly pid: number } {
  const child = pinned(0, command, "null").spawn();
  return {
    pid: child.pid,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await child.stdin.close();
      await child.status;
    },
  };
}

const kinds = SERVERS.filter(({ name }) => args.servers === "" || args.servers.split(";").includes(name))
  .filter((kind) => kind.command(PORT, folder, PEER_PORT) !== undefined);
const versions = `Deno ${Deno.version.deno} (V8 ${Deno.version.v8}), Linux ${Deno.osRelease()}`;
console.log(`${versions}, ${navigator.hardwareConcurrency} cores, load ${Deno.loadavg()[0]!.toFixed(1)}\n`);
const report: LoadResults[] = [];
for (const load of LOADS.filter(({ name }) => only.some((part) => name.includes(part)))) {
  const suited = kinds.filter(({ name, isBare }) => {
    const isGathering = name.includes("gathering");
    return (isBare !== true || load.forBare) && (!isGathering || load.group === "paced" || load.group === "latency");
  });
  const results = new Map<string, Result[]>(suited.map(({ name }) => [name, []]));
  for (let round = 0; round < Number(args.rounds); round++) {
    for (const kind of suited) {
      const result = await measure(kind, load);
      if (result !== undefined) results.get(kind.name)!.push(result);
    }
  }
  console.log(table(load, results));
  report.push({ name: load.name, group: load.group, x: load.x, results: Object.fromEntries(results) });
}
if (args.results !== "") {
  Deno.writeTextFileSync(args.results, JSON.stringify({ versions, loads: report }, null, 1) + "\n");
}
await Deno.remove(folder, { recursive: true });
