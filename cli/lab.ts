import { bold, dim, green, red } from "@std/fmt/colors";
import type { LinkOptions } from "../stun/net/virtual/mod.ts";
import { choiceOption, numberOption, type Options, parseOptions } from "./config.ts";
import { CLASSIC_KINDS, findKind, LAB_KINDS, type LabKind, RFC4787_KINDS } from "./lab_kinds.ts";
import { LAB_DELAY, type LabCell, type LabOptions, runCell, runMatrix } from "./lab_run.ts";
import type { LabStep } from "./lab_steps.ts";
import { drawSteps } from "./lab_svg.ts";
import { tableOf } from "./lab_table.ts";
import { tellOutcome, tellSteps } from "./lab_text.ts";
import { expectedPath, isExpected } from "./lab_theory.ts";
import { type Command, type Terminal, UsageError } from "./terminal.ts";

const HELP = `natkit lab: how two hosts behind NATs get together, step by step, in virtual time

Usage: natkit lab --a KIND --b KIND [OPTIONS]    one pair of NATs, every datagram and what became of it
       natkit lab --matrix [OPTIONS]             all pairs in a table

Runs two ICE agents and a STUN and TURN server in an internet in memory: no network is touched, no time passes, and the
same seed gives the same run.

Kinds, as A or B is behind (a part of the name will do, with hyphens or spaces):
${LAB_KINDS.map(({ name, what }) => `  ${name.padEnd(21)} ${what}`).join("\n")}

Options:
  --controlling A|B   whose agent nominates (default: A)
  --seed TEXT         what all chance is drawn from (default: 1)
  --delay MS          one way along each link; each host and each NAT has one (default: ${LAB_DELAY})
  --jitter MS         up to so much more, by chance (default: 0)
  --loss PERCENT      datagrams lost on each link (default: 0)
  --trickle MS        tell candidates one by one as they are found, each taking so long (default: all at once, in no time)
  --all               also show requests to the servers, their answers, and what follows the nomination
  --svg FILE          write the sequence as a picture; "-" for stdout, in place of the text
  --rfc4787           with --matrix: the nine combinations of mapping and filtering in place of the other kinds
  --json              JSON lines: one for each step, {"t": ...}, then the outcome, {"t": "outcome", ...}; with --matrix
                      one outcome for each pair

Fails if a pair does not get the path that theory allows.

Example:
  natkit lab --a symmetric --b port-restricted`;

/** `natkit lab`. */
export const labCommand: Command = {
  name: "lab",
  summary: "Two hosts behind any NATs meet in virtual time, step by step",
  help: HELP,
  async run(args, terminal) {
    const options = parseOptions(args, {
      command: "lab",
      value: ["a", "b", "controlling", "seed", "delay", "jitter", "loss", "trickle", "svg"],
      flag: ["matrix", "rfc4787", "all", "json"],
    });
    const settings = labSettings(options);
    const [a, b] = [options.value("a"), options.value("b")];
    if (options.flag("matrix")) {
      for (const name of ["a", "b", "svg"]) {
        if (options.value(name) !== undefined) throw new UsageError(`Option --${name} does not go with --matrix`);
      }
      return await showMatrix(options.flag("rfc4787"), settings, { json: options.flag("json"), terminal });
    }
    if (a === undefined || b === undefined) throw new UsageError("Options --a and --b are needed, or --matrix");
    if (options.flag("rfc4787")) throw new UsageError("Option --rfc4787 goes with --matrix");
    return await showCell({ ...settings, a: findKind("a", a), b: findKind("b", b) }, options, terminal);
  },
};

type Settings = Omit<LabOptions, "a" | "b" | "onStep">;

function labSettings(options: Options): Settings {
  const number = (name: string, byDefault: string, max: number) =>
    numberOption(name, options.value(name) ?? byDefault, { min: 0, max });
  const link: LinkOptions = {
    delay: number("delay", String(LAB_DELAY), 10_000),
    jitter: number("jitter", "0", 10_000),
    loss: number("loss", "0", 100) / 100,
  };
  const controlling = choiceOption("controlling", (options.value("controlling") ?? "A").toUpperCase(), ["A", "B"]);
  const trickle = options.value("trickle") === undefined ? {} : { trickle: number("trickle", "0", 60_000) };
  return { seed: options.value("seed") ?? 1, link, controlling, ...trickle };
}

async function showCell(options: LabOptions, given: Options, terminal: Terminal): Promise<number> {
  const json = given.flag("json");
  const svg = given.value("svg");
  const all = given.flag("all");
  const steps: LabStep[] = [];
  terminal.progress(`${options.a.name} and ${options.b.name} ...`);
  const cell = await runCell({ ...options, onStep: (step) => steps.push(step) });
  terminal.progress("");
  const isRight = isExpected(cell);
  if (svg !== undefined) writePicture(svg, drawSteps(steps, cell, { all }), terminal);
  if (json) {
    for (const step of steps) terminal.out(JSON.stringify(step));
    terminal.out(JSON.stringify(outcomeOf(cell)));
  } else if (svg !== "-") {
    for (const [host, kind] of [["A", options.a], ["B", options.b]] as const) {
      terminal.say(`${bold(`${host} behind ${kind.name}`)} ${dim(`(${kind.what})`)}`);
    }
    terminal.say("");
    for (const line of [...tellSteps(steps, { all }), "", ...tellOutcome(cell)]) terminal.say(line);
    if (!isRight) terminal.say(red(`Theory allows ${theoryOf(options.a, options.b)}.`));
    if (svg !== undefined) terminal.say(dim(`Picture in ${svg}`));
  }
  return isRight ? 0 : 1;
}

/** A cell as JSON. */
function outcomeOf(cell: LabCell): object {
  return { t: "outcome", ...cell, isExpected: isExpected(cell) };
}

function theoryOf(a: LabKind, b: LabKind): string {
  const { path, transport, local, remote } = expectedPath(a, b);
  if (path === "none") return "no path";
  if (path === "relay") return "a path through one relay";
  return `a direct path${transport === undefined ? "" : " over TCP"}, ${local} to ${remote}`;
}

function writePicture(file: string, picture: string, terminal: Terminal): void {
  if (file === "-") return terminal.out(picture);
  try {
    Deno.writeTextFileSync(file, picture);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotCapable)) throw error;
    throw new Error(`Cannot write ${file} without permission: give Deno --allow-write=${file}, or redirect --svg -`);
  }
}

async function showMatrix(
  isRfc4787: boolean,
  settings: Settings,
  { json, terminal }: { json: boolean; terminal: Terminal },
): Promise<number> {
  const kinds = isRfc4787 ? RFC4787_KINDS : CLASSIC_KINDS;
  const before = (text: string) => {
    terminal.interrupted.throwIfAborted();
    terminal.progress(text);
  };
  const cells = await runMatrix(kinds, { ...settings, before });
  terminal.progress("");
  const isRight = cells.every(isExpected);
  if (json) {
    for (const cell of cells) terminal.out(JSON.stringify(outcomeOf(cell)));
    return isRight ? 0 : 1;
  }
  for (const line of tableOf(kinds, cells, describeCell, terminal.columns)) terminal.say(line);
  for (const line of MATRIX_LEGEND) terminal.say(dim(`  ${line}`));
  const verdict = isRight ? green("Every path is") : red("Not every path is");
  terminal.say(`  ${verdict} the best that theory allows.`);
  return isRight ? 0 : 1;
}

const MATRIX_LEGEND: readonly string[] = [
  "Each cell: A's and B's candidate type (host, srflx, prflx, relay; + over TCP); virtual ms until data could flow /",
  "until the path was nominated; datagrams and TCP segments that A, B and the server sent until then, with gathering.",
];

function describeCell({ path, transport, local, remote, connectedMs, nominatedMs, sent }: LabCell): string {
  if (path === "none") return "none";
  const datagrams = sent.a + sent.b + sent.server;
  const types = `${local![0]}${remote![0]}${transport === undefined ? "" : "+"}`;
  return `${types} ${Math.round(connectedMs!)}/${Math.round(nominatedMs!)} ${datagrams}`;
}
