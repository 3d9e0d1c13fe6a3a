import { assertEquals, assertMatch } from "@std/assert";
import { main } from "../../cli/main.ts";
import { serveStun, UserTable } from "../../stun/mod.ts";
import { serveTurn } from "../../turn/mod.ts";
import { FakeTerminal } from "./_terminal.ts";

async function run(...args: string[]): Promise<{ code: number; stdout: string[]; stderr: string }> {
  const terminal = new FakeTerminal();
  const code = await main(["stun", ...args], terminal);
  return { code, stdout: terminal.stdout, stderr: terminal.stderr.join("\n") };
}

Deno.test("natkit stun --user --pass: long- and short-term credentials; wrong ones are one clear line", async () => {
  const users = new UserTable("example.org", [["alice", "secret"]]);
  await using long = serveStun({
    listen: ["127.0.0.1:0"],
    credentials: { type: "long-term", realm: "example.org", users },
  });
  await using short = serveStun({
    listen: ["127.0.0.1:0"],
    credentials: { type: "short-term", users: [["alice", "secret"]] },
  });
  for (const [server, flags] of [[long, []], [short, ["--short-term"]]] as const) {
    const uri = `stun:${server.addresses[0]}`;
    const { code, stdout, stderr } = await run(uri, "--user", "alice", "--pass", "secret", ...flags, "--json");
    assertEquals([code, stderr], [0, ""]);
    const { mapped, local } = JSON.parse(stdout[0]!);
    assertEquals(mapped, local);
  }
  const { code, stderr } = await run(`stun:${long.addresses[0]}`, "--user", "alice", "--pass", "guess");
  assertEquals(code, 1);
  assertMatch(stderr, /^natkit: Cannot ask 127\.0\.0\.1:\d+ for the mapped address: 401 Unauthenticated$/);
});

Deno.test("natkit stun: half of a credential is wrong usage", async () => {
  for (const args of [["--user", "alice"], ["--pass", "secret"], ["--short-term"]]) {
    const { code, stderr } = await run("stun:127.0.0.1", ...args);
    assertMatch(stderr, /^natkit: Option --(?:user must be NAME:PASSWORD|pass needs --user|short-term needs --user)/);
    assertEquals(code, 2);
  }
});

Deno.test("natkit stun --transport, stuns: and --ca: over TCP and TLS", async () => {
  const file = (name: string) => new URL(`../vectors/tls/${name}.pem`, import.meta.url).pathname;
  const tls = { certificate: Deno.readTextFileSync(file("one")), key: Deno.readTextFileSync(file("one_key")) };
  await using server = serveTurn({ listen: ["127.0.0.1:0"], realm: "example.org", users: {}, tls });
  const { port } = server.addresses[0]!;
  const good = [
    [`stun:127.0.0.1:${port}`, "--transport", "tcp"],
    [`stuns:localhost:${port}`, "--ca", file("ca")],
    [`stuns:127.0.0.1:${port}`, "--ca", file("ca"), "--server-name", "one.example"],
    [`stuns:127.0.0.1:${port}`, "--insecure"],
  ];
  for (const args of good) {
    const { code, stdout, stderr } = await run(...args, "--json");
    assertEquals([code, stderr], [0, ""], args.join(" "));
    const { mapped, local } = JSON.parse(stdout[0]!);
    assertEquals(mapped, local);
  }
  const bad: [string[], number, RegExp][] = [
    [[`stuns:localhost:${port}`], 1, /: nobody who is trusted here vouches for its certificate$/],
    [[`stuns:127.0.0.1:${port}`], 1, /IP address \(RFC 8489 §8\.1\)/],
    [["stun:127.0.0.1:9", "--transport", "tcp"], 1, /Cannot connect to TCP 127\.0\.0\.1:9: nobody listens there$/],
    [["stun:127.0.0.1", "--transport", "sctp"], 2, /--transport must be one of udp, tcp, tls/],
    [["stun:127.0.0.1", "--transport", "tls"], 2, /Cannot use the URI/],
    [["stuns:localhost", "--transport", "udp"], 2, /Cannot use the URI/],
    [["stuns:localhost", "--ca", "/nowhere"], 2, /Option --ca: cannot read "\/nowhere"/],
  ];
  for (const [args, expected, message] of bad) {
    const { code, stderr } = await run(...args);
    assertEquals(code, expected, stderr);
    assertMatch(stderr, message);
  }
});

Deno.test("natkit stun: a silent server is told with what it was asked over", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const server = `stuns:localhost:${listener.addr.port}`;
  const { code, stderr } = await run(server, "--timeout", "1");
  assertEquals([code, stderr.split(": ").at(-1)], [1, "is it a STUN server, and does TLS get there?"]);
  (await listener.accept()).close();
});
