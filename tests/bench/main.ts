// deno-lint-ignore-file no-console
/**
 * All benchmarks, one after the other: relaying beside other TURN servers, the codec beside npm packages, ICE connect
 * times beside other agents. What is not installed is left out.
 *
 * ```sh
 * mkdir peers && npm install --prefix peers turn-server@0.6.6 stun@2.1.0 werift@0.24.4
 * PEERS_NPM=$PWD/peers deno task bench
 * deno task bench --quick            # one round of a second each
 * deno task bench --only relaying    # or codec, ice
 * ```
 */
import { parseArgs } from "@std/cli/parse-args";

const args = parseArgs(Deno.args, {
  string: ["only", "rounds", "results"],
  boolean: ["quick"],
  default: { only: "", rounds: "3", results: "", quick: false },
});
const here = (name: string) => new URL(name, import.meta.url).pathname;
const deno = (...rest: string[]) => [Deno.execPath(), ...rest];
const relayArgs = args.quick ? ["--rounds", "1", "--seconds", "1"] : ["--rounds", args.rounds];
const results = args.results === "" ? [] : ["--results", args.results];
const parts: { name: string; title: string; command: string[]; needs: string }[] = [
  {
    name: "relaying",
    title: "Relaying",
    command: deno("run", "-q", "-A", here("relay.ts"), ...relayArgs, ...results),
    needs: "linux",
  },
  {
    name: "codec",
    title: "Codec (nanoseconds a message)",
    command: deno("bench", "-q", "--allow-env", "--allow-read", here("codec_bench.ts")),
    needs: "",
  },
  {
    name: "ice",
    title: "ICE connect times",
    command: deno("run", "-q", "-A", here("ice_connect.ts"), "--runs", args.quick ? "3" : "20"),
    needs: "",
  },
];

for (const { name, title, command: [program, ...rest], needs } of parts) {
  if (args.only !== "" && args.only !== name) continue;
  console.log(`## ${title}\n`);
  if (needs !== "" && needs !== Deno.build.os) {
    console.log(`left out: needs ${needs}\n`);
    continue;
  }
  const { success } = await new Deno.Command(program!, { args: rest, stdout: "inherit", stderr: "inherit" }).spawn()
    .status;
  if (!success) Deno.exit(1);
  console.log();
}
