/**
 * The command line of natkit: `natkit serve`, `password`, `stun`, `nat`, `turn`, `connect`, `lab` and `demo`.
 *
 * @example From a checkout
 * ```sh
 * npx -y deno task natkit --help
 * npx -y deno task natkit serve --listen 127.0.0.1:3478 --realm example.org --user alice:secret
 * ```
 *
 * @module
 */
import project from "../deno.json" with { type: "json" };
import { type Command, denoTerminal, type Terminal, UsageError } from "./terminal.ts";
import { serveCommand } from "./serve.ts";
import { natCommand } from "./nat.ts";
import { turnCommand } from "./turn.ts";
import { stunCommand } from "./stun.ts";
import { connectCommand } from "./connect.ts";
import { labCommand } from "./lab.ts";
import { demoCommand } from "./demo.ts";
import { passwordCommand } from "./password.ts";

const COMMANDS: readonly Command[] = [
  serveCommand,
  passwordCommand,
  stunCommand,
  natCommand,
  turnCommand,
  connectCommand,
  labCommand,
  demoCommand,
];

const HELP = `natkit ${project.version}: NAT traversal with STUN, TURN and ICE

Usage: natkit COMMAND [OPTIONS]

Commands:
${COMMANDS.map(({ name, summary }) => `  ${name.padEnd(9)} ${summary}`).join("\n")}

"natkit COMMAND --help" explains a command. Every command takes --json, for machines.
Exit codes: 0 ok, 1 failed, 2 wrong usage.`;

export type { Terminal } from "./terminal.ts";

/**
 * Runs the command line.
 *
 * @param args The arguments after the program's name.
 * @param terminal Where it reads and writes. Default: the process's own.
 * @returns The exit code: 0 ok, 1 failed, 2 wrong usage.
 */
export async function main(args: readonly string[], terminal: Terminal = denoTerminal()): Promise<number> {
  try {
    return await dispatch(args, terminal);
  } catch (error) {
    terminal.progress("");
    const text = error instanceof Error ? error.message : String(error);
    if (args.includes("--json")) {
      terminal.out(JSON.stringify({ t: "failed", error: text, code: error instanceof UsageError ? 2 : 1 }));
    }
    terminal.err(`natkit: ${text}`);
    return error instanceof UsageError ? 2 : 1;
  }
}

async function dispatch(args: readonly string[], terminal: Terminal): Promise<number> {
  const [name, ...rest] = args;
  if (name === "--version" || name === "version") {
    terminal.out(args.includes("--json") ? JSON.stringify({ version: project.version }) : `natkit ${project.version}`);
    return 0;
  }
  if (name === "--help" || name === "-h" || name === "help") {
    terminal.say(HELP);
    return 0;
  }
  if (name === undefined) throw new UsageError('Missing command: see "natkit --help"');
  const command = COMMANDS.find((one) => one.name === name);
  if (command === undefined) {
    throw new UsageError(
      `Unknown command "${name}": the commands are ${COMMANDS.map((one) => one.name).join(", ")}`,
    );
  }
  if (rest.includes("--help") || rest.includes("-h")) {
    terminal.say(command.help);
    return 0;
  }
  requireUnstableNet();
  return await command.run(rest, terminal);
}

/** UDP is still behind a flag in Deno: say so at once, with the words to type. */
function requireUnstableNet(): void {
  if (typeof Deno.listenDatagram === "function") return;
  throw new Error(
    "UDP needs Deno's flag --unstable-net: deno run --unstable-net --allow-net ... or deno task natkit ...",
  );
}

if (import.meta.main) Deno.exit(await main(Deno.args));
