import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { main } from "../../cli/main.ts";
import { serveStun } from "../../stun/mod.ts";
import { serveTurn } from "../../turn/mod.ts";
import { FakeTerminal } from "./_terminal.ts";

async function run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const terminal = new FakeTerminal();
  const code = await main(args, terminal);
  return { code, stdout: terminal.stdout.join("\n"), stderr: terminal.stderr.join("\n") };
}

/** A port that somebody else has, who never answers. */
function boundPort(): { port: number } & Disposable {
  const conn = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
  return { port: (conn.addr as Deno.NetAddr).port, [Symbol.dispose]: () => conn.close() };
}

Deno.test("--help is there for natkit and each of its commands, on stdout, with exit code 0", async () => {
  const top = await run("--help");
  assertEquals(top.code, 0);
  const commands = [...top.stdout.matchAll(/^ {2}(\w+) +\S/gm)].map(([, name]) => name!);
  assert(commands.length >= 4, top.stdout);
  for (const command of commands) {
    const { code, stdout, stderr } = await run(command, "--help");
    assertEquals([code, stderr], [0, ""]);
    assertStringIncludes(stdout, `natkit ${command}`);
    assertStringIncludes(stdout, "--json");
  }
});

Deno.test("Wrong usage is one line that says what was wrong and what would be right, exit code 2", async () => {
  const cases: [string[], RegExp][] = [
    [[], /^natkit: Missing command: see "natkit --help"$/],
    [["sreve"], /^natkit: Unknown command "sreve": the commands are .*serve/],
    [["serve", "--listn", "x"], /^natkit: Unknown option "--listn": see "natkit serve --help"$/],
    [["serve", "--realm"], /^natkit: Option --realm needs a value/],
    [["serve", "--user", "alice"], /^natkit: Option --user must be NAME:PASSWORD: "alice"$/],
    [["serve", "--listen", "nonsense:port"], /^natkit: Cannot parse transport address .*"nonsense:port"$/],
    [["serve", "--allow-peer", "10.0.0.0/33"], /^natkit: .*10\.0\.0\.0\/33/],
    [["serve", "--relay-ports", "9-1"], /^natkit: Option --relay-ports must be MIN-MAX within 1-65535: "9-1"$/],
    [
      ["serve", "--max-lifetime", "soon"],
      /^natkit: Option --max-lifetime must be a whole number from 600 to 86400: "soon"$/,
    ],
    [["stun"], /^natkit: Missing server URI, as stun:HOST\[:PORT\]/],
    [["stun", "stun:a", "stun:b"], /^natkit: Unexpected argument "stun:b"/],
    [["stun", "http://example.org"], /^natkit: .*"http:\/\/example.org"/],
    [["connect", "--role", "boss"], /^natkit: Option --role must be one of auto, controlling, controlled: "boss"$/],
    [["connect", "--policy", "relay"], /^natkit: Option --policy relay needs --turn$/],
    [["connect", "--turn", "127.0.0.1:1"], /^natkit: Option --turn needs --user NAME:PASSWORD$/],
    [["connect", "--bind", "here"], /^natkit: .*"here"/],
  ];
  for (const [args, expected] of cases) {
    const { code, stdout, stderr } = await run(...args);
    assertMatch(stderr, expected);
    assertEquals([code, stdout], [2, ""], args.join(" "));
  }
});

Deno.test("With --json a failure is an object on stdout as well", async () => {
  const { code, stdout } = await run("stun", "--json", "--local");
  assertEquals(code, 2);
  const { t, error } = JSON.parse(stdout);
  assertEquals(t, "failed");
  assertMatch(error, /--local needs a value/);
});

Deno.test("stun: the address that the server sees, for people and for machines", async () => {
  await using server = serveTurn({ listen: ["127.0.0.1:0"], realm: "example.org", users: {} });
  const uri = `stun:${server.addresses[0]}`;
  const people = await run("stun", uri);
  assertEquals([people.code, people.stderr], [0, ""]);
  assertMatch(people.stdout, /127\.0\.0\.1:\d+/);
  const machines = await run("stun", uri, "--json");
  const answer = JSON.parse(machines.stdout);
  assertEquals([answer.server, answer.mapped], [String(server.addresses[0]), answer.local]);
  assert(answer.rtt > 0);
});

Deno.test("stun: a host and port without stun: will do", async () => {
  await using server = serveStun({ listen: ["127.0.0.1:0"] });
  const terminal = new FakeTerminal();
  assertEquals(await main(["stun", String(server.addresses[0]), "--json"], terminal), 0);
  assertEquals(JSON.parse(terminal.stdout[0]!).server, String(server.addresses[0]));
});

Deno.test("stun: a silent server is one clear line and exit code 1", async () => {
  using silent = boundPort();
  const { port } = silent;
  const { code, stderr } = await run("stun", `stun:127.0.0.1:${port}`, "--timeout", "1");
  assertEquals(code, 1);
  assertMatch(stderr, /^natkit: No answer from stun:127\.0\.0\.1:\d+ within 1 s/);
});

Deno.test("stun: a name that is not found is one clear line and exit code 1", async () => {
  const { code, stderr } = await run("stun", "stun:nowhere.invalid");
  assertEquals(code, 1);
  assertMatch(stderr, /^natkit: Cannot find name "nowhere\.invalid"/);
  assertEquals(stderr.split("\n").length, 1);
});

Deno.test("serve: a port in use is one clear line and exit code 1", async () => {
  using taken = boundPort();
  const { port } = taken;
  const { code, stderr } = await run("serve", "--listen", `127.0.0.1:${port}`, "--user", "alice:secret");
  assertEquals(code, 1);
  assertMatch(stderr, new RegExp(`^natkit: .*127\\.0\\.0\\.1.*${port}.*in use`));
  assertEquals(stderr.split("\n").length, 1);
});
