// ICE across NATs made by the Linux kernel, in network namespaces: `natkit connect --json` in both homes, `natkit serve` in
// between. Each pair of NATs gives the path that theory allows, the theory being that of `natkit lab`.
import { assert, assertEquals } from "@std/assert";
import { kindNamed } from "../../cli/lab_kinds.ts";
import { expectedPath, type LabPath } from "../../cli/lab_theory.ts";
import { LAB, type LabKind, labObstacle, NatLab } from "./_natlab.ts";
import { type Connected, crossAgents } from "./_pair.ts";
import { peerTest } from "./_peers.ts";

const root = new URL("../../", import.meta.url).pathname;
const natkit = (...args: readonly string[]) => [
  ...[Deno.execPath(), "run", "--quiet", "--no-prompt", "--no-check", "--allow-net", "--allow-sys=networkInterfaces"],
  "--allow-ffi",
  ...[`--config=${root}deno.json`, `${root}cli/main.ts`, ...args],
];
const SERVER = "198.51.100.1";
const TCP = ["--tcp", "both", "--io", "linux"];
/** The lab's kinds by the names that the theory knows them by. */
const KINDS = {
  open: "open",
  firewall: "symmetric firewall",
  fullcone: "full cone",
  restricted: "restricted cone",
  port: "port restricted cone",
  symmetric: "symmetric",
} as const satisfies Partial<Record<LabKind, string>>;
type Kind = keyof typeof KINDS;
/** How many labs at once. */
const AT_ONCE = 4;
/** For a connection once both have all candidates, in ms: relays wait longest, and the machine may be busy. */
const TIME_LIMIT = 5000;

const obstacle = await labObstacle();

function labTest(name: string, fn: (t: Deno.TestContext) => Promise<void>): void {
  if (obstacle === undefined) peerTest(name, LAB, fn);
  else Deno.test({ name: `${name} (skipped, ${obstacle})`, ignore: true, fn });
}

/** Our TURN server in the public network. Ready when this resolves. */
async function serve(lab: NatLab): Promise<AsyncDisposable> {
  const ranges = ["198.51.100.0/24", "10.0.0.0/8"].flatMap((range) => ["--allow-peer", range]);
  const args = ["serve", "--json", "--listen", `${SERVER}:3478`, "--realm", "example.org", "--user", "alice:secret"];
  const child = new Deno.Command("ip", {
    args: lab.in("pub", ...natkit(...args, "--io", "deno", ...ranges)),
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const output = child.stdout.getReader();
  await output.read();
  return {
    async [Symbol.asyncDispose]() {
      child.kill("SIGINT");
      while (!(await output.read()).done);
      await child.status;
    },
  };
}

interface Meeting {
  readonly a: LabKind;
  readonly b: LabKind;
  readonly transport?: "udp" | "tcp";
  /** Whether both have TCP candidates, simultaneous open among them. */
  readonly hasTcp?: boolean;
}

/** Lets the homes meet and gives what both say. */
async function meet({ a, b, transport = "udp", hasTcp = false }: Meeting): Promise<[Connected, Connected]> {
  await using lab = await NatLab.up({ a, b });
  await using _server = await serve(lab);
  const options = ["--turn", `${SERVER}:3478`, "--turn-transport", transport, "--user", "alice", "--pass", "secret"];
  const agent = (node: "a" | "b", role: string) => [
    "ip",
    ...lab.in(node, ...natkit("connect", "--json", ...options, ...(hasTcp ? TCP : []), "--role", role)),
  ];
  return await crossAgents([agent("a", "controlling"), agent("b", "controlled")]);
}

/** What a path is, whichever came first: an address is peer-reflexive until a server or the signaling names it. */
interface PathKind {
  readonly path: LabPath["path"];
  readonly local?: "host" | "reflexive";
}

/** What an end says of the path. */
function pathOf({ local, remote }: Connected): PathKind {
  const [ours, theirs] = [local, remote].map((line) => / typ (\w+)/.exec(line)![1]!);
  if (ours === "relay" || theirs === "relay") return { path: "relay" };
  return { path: "direct", local: ours === "host" ? "host" : "reflexive" };
}

/** The same by theory. */
function theoryOf(a: Kind, b: Kind): PathKind {
  const expected = expectedPath(kindNamed(KINDS[a]), kindNamed(KINDS[b]));
  if (expected.path !== "direct") return { path: expected.path };
  return { path: "direct", local: expected.local === "host" ? "host" : "reflexive" };
}

/** IP address and port of a candidate line. */
function addressOf(line: string): string {
  return line.split(" ").slice(4, 6).join(" ");
}

/** Runs so many at once, and waits for all, so that no lab is left behind when one fails. */
async function inTurns<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<PromiseSettledResult<R>[]> {
  const results: PromiseSettledResult<R>[] = [];
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const i = next++;
      [results[i]] = await Promise.allSettled([work(items[i]!)]) as [PromiseSettledResult<R>];
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}

labTest("ICE across the kernel's NATs: each pair gets the path that theory allows, in time", async (t) => {
  const kinds = Object.keys(KINDS) as Kind[];
  const cases = kinds.flatMap((a) => kinds.map((b) => ({ a, b })));
  const results = await inTurns(cases, meet);
  for (const [i, { a, b }] of cases.entries()) {
    await t.step(`${a} and ${b}`, () => {
      const result = results[i]!;
      if (result.status === "rejected") throw result.reason;
      const [ofA, ofB] = result.value;
      assertEquals(pathOf(ofA), theoryOf(a, b));
      assertEquals(pathOf(ofB).path, pathOf(ofA).path);
      // Both mean the same path.
      assertEquals([addressOf(ofA.remote), addressOf(ofB.remote)], [addressOf(ofB.local), addressOf(ofA.local)]);
      assert(Math.max(ofA.ms, ofB.ms) < TIME_LIMIT, `took ${ofA.ms} and ${ofB.ms} ms`);
    });
  }
});

labTest("ICE where UDP is blocked: by a relay over TCP, from whichever side", async (t) => {
  const cases = [{ a: "blocked", b: "open" }, { a: "port", b: "blocked" }, { a: "blocked", b: "blocked" }] as const;
  const results = await inTurns(cases, (kinds) => meet({ ...kinds, transport: "tcp" }));
  for (const [i, { a, b }] of cases.entries()) {
    await t.step(`${a} and ${b}`, () => {
      const result = results[i]!;
      if (result.status === "rejected") throw result.reason;
      for (const end of result.value) assertEquals(pathOf(end), { path: "relay" });
    });
  }
});

labTest(
  "RFC 6544 §7.1, I36: where UDP is blocked, directly by TCP: by simultaneous open through two NATs",
  async (t) => {
    const cases = [
      { a: "blocked", b: "blocked", types: "srflx so, srflx so" },
      { a: "port", b: "blocked", types: "srflx so, srflx so" },
      { a: "blocked", b: "port", types: "srflx so, srflx so" },
      { a: "blocked", b: "open", types: "prflx active, host passive" },
    ] as const;
    const results = await inTurns(cases, (kinds) => meet({ ...kinds, transport: "tcp", hasTcp: true }));
    const typeOf = (line: string) => `${/ typ (\w+)/.exec(line)![1]} ${/ tcptype (\w+)/.exec(line)?.[1]}`;
    for (const [i, { a, b, types }] of cases.entries()) {
      await t.step(`${a} and ${b}`, () => {
        const result = results[i]!;
        if (result.status === "rejected") throw result.reason;
        const [ofA, ofB] = result.value;
        assertEquals(`${typeOf(ofA.local)}, ${typeOf(ofA.remote)}`, types);
        assertEquals([addressOf(ofA.remote), addressOf(ofB.remote)], [addressOf(ofB.local), addressOf(ofA.local)]);
      });
    }
  },
);
