/**
 * How long ICE takes from both sides having both descriptions, on loopback: host to host, and relay to relay through
 * coturn. natkit beside the agents of tests/interop/agents/ that are installed, each against itself, in one run.
 *
 * ```sh
 * PEERS_NPM=folder deno run -A tests/bench/ice_connect.ts --runs 20
 * ```
 *
 * "Nominated" is the slower side's by the agents' own clocks; starting the programs and gathering are not in it. "First
 * datagram" is the bench's clock: from handing over the descriptions until the other side has said that something
 * arrived, sent as soon as the controlling side takes data; reading and writing JSON lines is in it. The agents have a
 * process each that makes one connection, as natkit has in the row "natkit"; in "natkit, warm" both sides
 * are in one process, which has connected some times before, and nothing is JSON.
 */
import { parseArgs } from "@std/cli/parse-args";
import { openIce, type OpenIceOptions } from "../../ice/mod.ts";
import { type Coturn, ICE_PROGRAMS, isInstalled, NATKIT, startCoturn } from "../interop/ice_agents.ts";
import { IceProcess } from "./_ice_process.ts";

const args = parseArgs(Deno.args, { string: ["only"], default: { runs: 20 } });
const RUNS = Number(args.runs);
const WARM_UP = 10;
/** Who is not connected by then, in ms, is not counted but told of. */
const TIME_LIMIT = 10_000;

type Way = "host" | "relay";
const WAYS: readonly Way[] = ["host", "relay"];

/** Of one connection, in milliseconds. */
interface Times {
  readonly first: number;
  readonly nominated: number;
}

/** Both sides in this process. */
async function connectHere(options: OpenIceOptions): Promise<Times> {
  const first = Promise.withResolvers<number>();
  await using one = openIce({ ...options, role: "controlling" });
  await using other = openIce({
    ...options,
    role: "controlled",
    onDatagram: () => first.resolve(performance.now()),
  });
  const descriptions = await Promise.all([one.localDescription(), other.localDescription()]);
  const start = performance.now();
  other.addRemoteDescription(descriptions[0]);
  one.addRemoteDescription(descriptions[1]);
  const nominated = Promise.all([one.nominated, other.nominated]).then(() => performance.now());
  await one.connected;
  one.send(new Uint8Array(100));
  const times = await Promise.all([first.promise, nominated]);
  return { first: times[0] - start, nominated: times[1] - start };
}

/** A process for each side. `undefined`: not connected in time. */
async function connectProcesses(command: readonly string[], options: readonly string[]): Promise<Times | undefined> {
  await using one = new IceProcess([...command, ...options, "--role", "controlling"]);
  await using other = new IceProcess([...command, ...options, "--role", "controlled"]);
  const late = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => late.resolve(undefined), TIME_LIMIT);
  const times = await Promise.race([exchange(one, other), late.promise]);
  clearTimeout(timer);
  return times;
}

async function exchange(one: IceProcess, other: IceProcess): Promise<Times> {
  const descriptions = await Promise.all([one.described.promise, other.described.promise]);
  const start = performance.now();
  other.write(descriptions[0]);
  one.write(descriptions[1]);
  await one.ready.promise;
  one.write(`{"t":"send","d":"first"}\n`);
  const nominated = await Promise.all([one.connected.promise, other.connected.promise]);
  return { first: await other.received.promise - start, nominated: Math.max(...nominated) };
}

function optionsHere(way: Way, { address }: Coturn): OpenIceOptions {
  const turnServers = [{ urls: `turn:${address}`, username: "test", credential: "secret" }];
  return { bind: ["127.0.0.1"], ...(way === "relay" ? { policy: "relay", turnServers } : {}) };
}

function optionsOf(way: Way, name: string, { address }: Coturn): string[] {
  const turn = ["--turn", String(address), "--user", "test", "--pass", "secret", "--policy", "relay"];
  // werift always asks a STUN server.
  const stun = name === "werift" ? ["--stun", String(address)] : [];
  return ["--bind", "127.0.0.1", ...stun, ...(way === "relay" ? turn : [])];
}

async function measure(connect: () => Promise<Times | undefined>, warmUp = 0): Promise<Times[]> {
  const all: (Times | undefined)[] = [];
  for (let i = 0; i < warmUp + RUNS; i++) all.push(await connect());
  return all.slice(warmUp).filter((times) => times !== undefined);
}

/** As `12.3 (10.1 - 20.4)`: the median and how far the middle 80 % reach. */
function summary(values: readonly number[]): string {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (part: number) => {
    const value = sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]!;
    return value < 100 ? value.toFixed(1) : value.toFixed(0);
  };
  return `${at(0.5)} (${at(0.1)} - ${at(0.9)})`;
}

function row(name: string, columns: readonly string[]): string {
  return `| ${[name.padEnd(24), ...columns.map((column) => column.padEnd(21))].join(" | ")} |`;
}

await using coturn = await startCoturn();
const print = (text: string) => Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`));
print(row(`${RUNS} runs, milliseconds`, WAYS.flatMap((way) => [`${way}: first datagram`, `${way}: nominated`])));
print(row("---", ["---", "---", "---", "---"]));

async function printRow(name: string, connect: (way: Way) => Promise<Times | undefined>, warmUp = 0): Promise<void> {
  if (args.only !== undefined && !name.startsWith(args.only)) return;
  const columns: string[] = [];
  for (const way of WAYS) {
    const times = await measure(() => connect(way), warmUp);
    if (times.length < RUNS) {
      print(`${name}, ${way}: ${RUNS - times.length} of ${RUNS} not connected in ${TIME_LIMIT} ms`);
    }
    columns.push(summary(times.map(({ first }) => first)), summary(times.map(({ nominated }) => nominated)));
  }
  print(row(name, columns));
}

await printRow("natkit, warm", (way) => connectHere(optionsHere(way, coturn)), WARM_UP);
await printRow("natkit, warm, Ta of 5 ms", (way) => connectHere({ ...optionsHere(way, coturn), ta: 5 }), WARM_UP);
await printRow("natkit", (way) => connectProcesses(NATKIT, optionsOf(way, "natkit", coturn)));
for (const program of ICE_PROGRAMS) {
  if (!isInstalled(program)) {
    print(`${program.name} is not here: ${program.peers.install}`);
    continue;
  }
  await using agent = await program.build();
  await printRow(program.name, (way) => connectProcesses(agent.command, optionsOf(way, program.name, coturn)));
}
