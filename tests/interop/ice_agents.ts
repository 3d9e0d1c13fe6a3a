// Independent ICE agents as programs that speak JSON lines (agents/README.md), and ours.
import { assert } from "@std/assert";
import { COTURN } from "./_coturn.ts";
import { findProgram, type PeerPrograms, runPeer } from "./_peers.ts";

export { type Connected, crossAgents } from "./_pair.ts";
export { COTURN, type Coturn, startCoturn } from "./_coturn.ts";
export { findProgram } from "./_peers.ts";

const root = new URL("../../", import.meta.url);
const path = (file: string) => new URL(file, root).pathname;

/** An agent that can be started, until it is disposed of. */
export interface BuiltAgent extends AsyncDisposable {
  readonly command: readonly string[];
}

/** An ICE implementation as a program. */
export interface IceProgram {
  readonly name: string;
  /** What it needs, coturn included. */
  readonly peers: PeerPrograms;
  /** Whether it repairs a conflict of roles (RFC 8445 §7.3.1.1). */
  readonly repairsConflicts: boolean;
  /** Makes it ready to run. */
  build(): Promise<BuiltAgent>;
}

/** Our own agent, as a program. */
export const NATKIT: readonly string[] = [
  ...[Deno.execPath(), "run", "--quiet", "--no-prompt", "--allow-net", "--allow-sys=networkInterfaces"],
  ...["--config", path("deno.json"), path("cli/main.ts"), "connect", "--json"],
];

const PION_GO = { GOPATH: "/usr/share/gocode", GO111MODULE: "off", GOFLAGS: "" };
const PEERS_NPM = Deno.env.get("PEERS_NPM");

/** The others. */
export const ICE_PROGRAMS: readonly IceProgram[] = [
  {
    name: "aioice",
    peers: needs(["/usr/lib/python3/dist-packages/aioice/__init__.py"], "apt-get install -y coturn python3-aioice"),
    repairsConflicts: true,
    build: () => Promise.resolve(ready(["/usr/bin/python3", path("tests/interop/agents/aioice_agent.py")])),
  },
  {
    name: "libnice",
    peers: needs(
      ["gcc", "/usr/include/nice/agent.h", "/usr/include/json-glib-1.0/json-glib/json-glib.h"],
      "apt-get install -y coturn gcc pkg-config libnice-dev libjson-glib-dev",
    ),
    repairsConflicts: true,
    build: () =>
      compile((program) => [
        ...["bash", "-c", `gcc -o "$1" "$2" $(pkg-config --cflags --libs nice json-glib-1.0)`, "bash", program],
        path("tests/interop/agents/nice_agent.c"),
      ]),
  },
  {
    name: "pion",
    peers: needs(
      ["go", `${PION_GO.GOPATH}/src/github.com/pion/ice/v2/agent.go`],
      "apt-get install -y coturn golang-go golang-github-pion-ice.v2-dev",
    ),
    repairsConflicts: false,
    build: () =>
      compile((program) => {
        const variables = Object.entries(PION_GO).map(([name, value]) => `${name}=${value}`);
        return ["env", ...variables, "go", "build", "-o", program, path("tests/interop/agents/pion_agent.go")];
      }),
  },
  {
    name: "werift",
    peers: needs(
      ["node", `${PEERS_NPM ?? "$PEERS_NPM"}/node_modules/werift/package.json`],
      "apt-get install -y coturn; npm i werift, in the folder that PEERS_NPM names",
    ),
    repairsConflicts: true,
    build: () => Promise.resolve(ready(["node", path("tests/interop/agents/werift_agent.mjs")])),
  },
];

/** The one of this name. */
export function iceProgram(name: string): IceProgram {
  return ICE_PROGRAMS.find((program) => program.name === name)!;
}

/** Whether all that it needs is here. */
export function isInstalled({ peers }: IceProgram): boolean {
  return peers.programs.every((program) => findProgram(program) !== undefined);
}

function needs(programs: readonly string[], install: string): PeerPrograms {
  return { programs: [...COTURN.programs, ...programs], install };
}

function ready(command: readonly string[]): BuiltAgent {
  return { command, [Symbol.asyncDispose]: () => Promise.resolve() };
}

/** Compiles into a folder that goes when the agent is disposed of. */
async function compile(commandFor: (program: string) => string[]): Promise<BuiltAgent> {
  const folder = await Deno.makeTempDir({ prefix: "natkit-agent-" });
  const remove = () => Deno.remove(folder, { recursive: true });
  const [compiler, ...args] = commandFor(`${folder}/agent`);
  const { code, output } = await runPeer(compiler!, args, 240_000);
  if (code !== 0) await remove();
  assert(code === 0, output);
  return { command: [`${folder}/agent`], [Symbol.asyncDispose]: remove };
}
