/** A TURN server to measure. All serve user `test` with password `secret` on 127.0.0.1. */
export interface ServerKind {
  readonly name: string;
  /** Whether it only forwards ChannelData: no requests. */
  readonly isBare?: boolean;
  /** The command to run it, `undefined` where it is not installed. */
  command(port: number, folder: string, peerPort: number): readonly string[] | undefined;
}

const here = (name: string) => new URL(name, import.meta.url).pathname;
const deno = (...args: string[]) => [Deno.execPath(), "run", "--quiet", "--no-check", "--allow-all", ...args];

function natkit(name: string, ...args: string[]): ServerKind {
  return { name, command: (port) => deno(here("_serve.ts"), "--port", `${port}`, ...args) };
}

/** The servers, by name. */
export const SERVERS: readonly ServerKind[] = [
  natkit("natkit", "--io", "linux"),
  natkit("natkit, gathering 0.5 ms", "--io", "linux", "--gather", "0.5"),
  natkit("natkit, gathering 1 ms", "--io", "linux", "--gather", "1"),
  natkit("natkit, deno back end", "--io", "deno"),
  {
    name: "coturn",
    command(port, folder) {
      if (!isInstalled("turnserver")) return undefined;
      return [
        ...["turnserver", "-n", "--no-cli", "--log-file=/dev/null", "--simple-log", "--no-tls", "--no-dtls"],
        ...[`--pidfile=${folder}/pid`, `--db=${folder}/db`, "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1"],
        ...[`--listening-port=${port}`, "--min-port=40000", "--max-port=65000", "--lt-cred-mech"],
        ...["--user=test:secret", "--realm=bench.example", "--allow-loopback-peers"],
      ];
    },
  },
  {
    name: "C loop, forwards only",
    isBare: true,
    command(port, folder, peerPort) {
      const program = build(folder, "floor", "cc", ["-O2", "-o", `${folder}/floor`, here("floor.c")]);
      return program === undefined ? undefined : [program, `${port}`, `${peerPort}`, "1000"];
    },
  },
  {
    name: "pion",
    command(port, folder) {
      // Its certificate is for TLS, which nobody asks for here.
      const program = buildPion(folder);
      const [certificate, key] = ["one.pem", "one_key.pem"].map((name) => here(`../vectors/tls/${name}`));
      return program === undefined ? undefined : [program, `127.0.0.1:${port}`, certificate!, key!];
    },
  },
  {
    name: "npm turn-server",
    command(port) {
      const folder = Deno.env.get("PEERS_NPM");
      if (folder === undefined || !isInstalled("node")) return undefined;
      return ["node", here("npm_turn_server.mjs"), folder, `${port}`];
    },
  },
];

/** Builds pion's server from Debian's sources; `undefined` where they are not installed. */
function buildPion(folder: string): string | undefined {
  const source = here("../interop/agents/pion_server.go");
  const env = { GOPATH: "/usr/share/gocode", GO111MODULE: "off", GOFLAGS: "" };
  return build(folder, "pion", "go", ["build", "-o", `${folder}/pion`, source], env);
}

function build(folder: string, name: string, tool: string, args: string[], env = {}): string | undefined {
  const program = `${folder}/${name}`;
  if (!isInstalled(tool)) return undefined;
  if (existsSync(program)) return program;
  return new Deno.Command(tool, { args, env, stderr: "null" }).outputSync().success ? program : undefined;
}

function existsSync(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

function isInstalled(program: string): boolean {
  return (Deno.env.get("PATH") ?? "").split(":").some((folder) => existsSync(`${folder}/${program}`));
}
