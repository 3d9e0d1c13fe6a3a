// Tests against independent programs. A program that is not there skips the test by name, with the one command that
// installs it; with NATKIT_REQUIRE_PEERS=1 that is a failure instead.

/** What a test needs of the machine. */
export interface PeerPrograms {
  /** Programs by name, found on PATH, or by path. */
  readonly programs: readonly string[];
  /** The command that installs them. */
  readonly install: string;
}

/** A test that needs independent programs. */
export function peerTest(name: string, peers: PeerPrograms, fn: (t: Deno.TestContext) => void | Promise<void>): void {
  const missing = peers.programs.filter((program) => findProgram(program) === undefined);
  if (missing.length === 0) return Deno.test(name, fn);
  const advice = `needs ${missing.join(", ")}: ${peers.install}`;
  if (Deno.env.get("NATKIT_REQUIRE_PEERS") !== "1") {
    return Deno.test({ name: `${name} (skipped, ${advice})`, ignore: true, fn });
  }
  Deno.test(name, () => {
    throw new Error(`Cannot run test as a peer is missing and NATKIT_REQUIRE_PEERS=1: ${advice}`);
  });
}

/** Where a program lies, `undefined` if it does not. */
export function findProgram(program: string): string | undefined {
  const folders = program.includes("/") ? [""] : (Deno.env.get("PATH") ?? "").split(":").map((folder) => `${folder}/`);
  return folders.map((folder) => folder + program).find((path) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  });
}

/** What a program that has ended left behind. */
export interface PeerResult {
  /** Its exit code; 124 if it was stopped because its time was up. */
  readonly code: number;
  /** All that it wrote, to both. */
  readonly output: string;
}

/** Runs a program to its end. `timeout` is in ms. */
export async function runPeer(program: string, args: readonly string[], timeout = 60_000): Promise<PeerResult> {
  const child = new Deno.Command(program, { args: [...args], stdin: "null", stdout: "piped", stderr: "piped" }).spawn();
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    child.kill("SIGKILL");
  }, timeout);
  const { code, stdout, stderr } = await child.output();
  clearTimeout(timer);
  const decoder = new TextDecoder();
  return { code: isLate ? 124 : code, output: decoder.decode(stdout) + decoder.decode(stderr) };
}

/** Starts a program that runs until it is disposed of. What it writes is thrown away. */
export function startPeer(program: string, args: readonly string[]): AsyncDisposable {
  const child = new Deno.Command(program, { args: [...args], stdin: "null", stdout: "null", stderr: "null" }).spawn();
  return {
    async [Symbol.asyncDispose]() {
      try {
        child.kill("SIGKILL");
      } catch {
        // It has ended by itself.
      }
      await child.status;
    },
  };
}
