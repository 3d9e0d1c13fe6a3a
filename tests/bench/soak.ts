/**
 * Clients come and go over UDP, TCP, TLS and DTLS for minutes, and `natkit serve` must have the memory afterwards that it
 * had soon after the beginning. Needs coturn's turnutils_uclient.
 *
 * ```sh
 * deno run -A tests/bench/soak.ts --seconds 300 --modes udp,tcp,tls,dtls
 * ```
 *
 * Prints a line for each round, and ends with code 1 if memory grew or a datagram was lost. Some of the clients over UDP and
 * DTLS leave without a word; their allocations end by themselves, later than this.
 */
import { parseArgs } from "@std/cli/parse-args";
import { residentBytes } from "./_proc.ts";

const args = parseArgs(Deno.args, {
  string: ["io", "modes"],
  default: { seconds: 300, port: 3979, io: "auto", modes: "udp,tcp,tls,dtls" },
});
const root = new URL("../../", import.meta.url).pathname;
const MODES = { udp: [], tcp: ["-t"], tls: ["-t", "-S"], dtls: ["-S"] };
const modes = args.modes.split(",") as (keyof typeof MODES)[];
// Caches fill and code is compiled at first.
const WARM_UP = 0.3;
const GROWTH_MIB = 16;

const vector = (name: string) => `${root}tests/vectors/tls/${name}.pem`;
const server = new Deno.Command(Deno.execPath(), {
  args: [
    ...["run", "--quiet", "-A", "--unstable-net", `--config=${root}deno.json`, `${root}cli/main.ts`, "serve", "--json"],
    ...["--listen", `127.0.0.1:${args.port}`, "--realm", "example.org", "--user", "alice:secret", "--io", args.io],
    ...["--allow-peer", "127.0.0.0/8", "--cert", vector("one"), "--key", vector("one_key"), "--challenge-rate", "0"],
  ],
  stdout: "piped",
}).spawn();
const lines: string[] = [];
const reading = (async () => {
  let rest = "";
  for await (const text of server.stdout.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n");
    rest = parts.pop()!;
    // The last is all that matters.
    lines.splice(0, lines.length, ...parts.length === 0 ? lines : parts.slice(-1));
  }
})();

/** Ten clients send to each other. Gives how many datagrams were sent, and how many came. */
async function run(mode: keyof typeof MODES): Promise<[number, number]> {
  const common = ["-u", "alice", "-w", "secret", "-p", `${args.port}`, "-y", "-c", "-n", "500", "-m", "10", "-z", "5"];
  const { stdout } = await new Deno.Command("timeout", {
    args: ["60", "turnutils_uclient", ...common, "-l", "170", ...MODES[mode], "127.0.0.1"],
    stdout: "piped",
    stderr: "null",
  }).output();
  const found = /start_mclient: tot_send_msgs=(\d+), tot_recv_msgs=(\d+)/.exec(new TextDecoder().decode(stdout));
  return found === null ? [0, -1] : [Number(found[1]), Number(found[2])];
}

function print(line: string): void {
  // deno-lint-ignore no-console
  console.log(line);
}

await new Promise((resolve) => setTimeout(resolve, 2000));
const start = performance.now();
const sizes: [number, number][] = [];
let sent = 0;
let missing = 0;
while (performance.now() - start < Number(args.seconds) * 1000) {
  for (const [out, back] of await Promise.all(modes.map(run))) {
    sent += out;
    missing += out - back;
  }
  const seconds = (performance.now() - start) / 1000;
  const mib = residentBytes(server.pid) / 2 ** 20;
  sizes.push([seconds, mib]);
  print(`${seconds.toFixed(0)} s: ${sent} datagrams, ${missing} missing, ${mib.toFixed(0)} MiB`);
}
server.kill("SIGINT");
const { code } = await server.status;
await reading;
const last = JSON.parse(lines.at(-1)!);
const settled = sizes.filter(([seconds]) => seconds > WARM_UP * Number(args.seconds)).map(([, mib]) => mib);
const half = Math.ceil(settled.length / 2);
const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
const growth = settled.length < 2 ? 0 : mean(settled.slice(half)) - mean(settled.slice(0, half));
const { allocations, allocationsTotal, reservations } = last;
print(
  `grown by ${growth.toFixed(1)} MiB; ${allocationsTotal} allocations, ${allocations + reservations} not given back`,
);
if (growth > GROWTH_MIB || missing > 0 || code !== 0) Deno.exit(1);
