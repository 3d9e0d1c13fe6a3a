import { assert, assertEquals, assertMatch } from "@std/assert";
import { main } from "../../cli/main.ts";
import { describeTurn } from "../../cli/turn_text.ts";
import { serveTurn, type ServeTurnOptions, type TurnReport } from "../../turn/mod.ts";
import { FakeTerminal } from "./_terminal.ts";

const folder = new URL("../vectors/tls/", import.meta.url);
const read = (name: string) => Deno.readTextFileSync(new URL(`${name}.pem`, folder));
const CA = new URL("ca.pem", folder).pathname;

async function run(...args: string[]): Promise<{ code: number; stdout: string[]; stderr: string }> {
  const terminal = new FakeTerminal();
  const code = await main(["turn", ...args], terminal);
  // What was wrapped is one line again.
  const stdout = terminal.stdout.map((line) => line.replace(/\n +/g, " "));
  return { code, stdout, stderr: terminal.stderr.join("\n") };
}

function serve(options: Partial<ServeTurnOptions> = {}) {
  return serveTurn({
    listen: ["127.0.0.1:0"],
    realm: "example.org",
    users: { alice: "secret" },
    allowPeers: ["127.0.0.1"],
    software: "natkit test",
    ...options,
  });
}

Deno.test("natkit turn on loopback: UDP, TCP and TLS, in words", async () => {
  await using server = serve({ tls: { certificate: read("one"), key: read("one_key") } });
  const uri = `turn:${server.addresses[0]}`;
  const { code, stdout, stderr } = await run(uri, "--user", "alice:secret", "--count", "10", "--ca", CA);
  assertEquals([code, stderr], [0, ""]);
  assertEquals(stdout.slice(0, 2), [`  Server            ${uri}  natkit test`, "  Realm             example.org"]);
  const table = stdout.filter((line) => /^ {2}(UDP|TCP|TLS) 127/.test(line));
  // The last one asks for an IPv6 relay, which this server has not.
  assertEquals(table.map((line) => line.slice(2, 5)), ["UDP", "TCP", "TLS", "UDP"]);
  for (const line of table.slice(0, 3)) assertMatch(line, /127\.0\.0\.1:\d+ .* ms .* ms .* ms +0 of 10 +65503 bytes$/);
  assertMatch(table[3]!, /no IPv6 relay: not supported$/);
  const row = (label: string) => stdout.find((line) => line.startsWith(`  ${label}`))?.slice(20);
  assertMatch(row("By indication")!, /^0 of 10 lost, .* ms to .* ms, median /);
  assertMatch(row("By channel")!, /^0 of 10 lost, /);
  assertEquals([row("Permissions"), row("From outside"), row("Granted peers")], ["enforced", "reached", "loopback"]);
  assertMatch(row("Refused peers")!, /^unspecified, private 10\/8, .*carrier NAT/);
  assert(stdout.some((line) => line.startsWith("! Whoever has an account can reach services on the server")));
  assertMatch(stdout.at(-1)!, /^TURN works over UDP, TCP and TLS\.$/);
});

Deno.test("natkit turn --json: one object with the whole report", async () => {
  await using server = serve();
  const uri = `turn:${server.addresses[0]}?transport=udp`;
  const { code, stdout, stderr } = await run(uri, "--user", "alice", "--pass", "secret", "--count", "5", "--json");
  assertEquals([code, stderr, stdout.length], [0, "", 1]);
  const report = JSON.parse(stdout[0]!);
  assertEquals([report.server, report.works, report.verdict], [uri, true, "TURN works over UDP"]);
  assertEquals([report.realm, report.software], ["example.org", "natkit test"]);
  assertEquals(report.paths[0].server, String(server.addresses[0]));
  assertEquals([report.paths[0].channel.received, report.paths[0].lifetime], [5, 600]);
  assertEquals([report.permissionsEnforced, report.reachableFromOutside], [true, true]);
});

Deno.test("natkit turn: each way to fail ends with exit code 1 and says what to do", async () => {
  const tls = { certificate: read("one"), key: read("one_key") };
  await using server = serve({ tls });
  await using full = serve({ limits: { allocationsPerUser: 0 } });
  const { port } = server.addresses[0]!;
  const uri = `turn:127.0.0.1:${port}`;
  const silent = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
  using _silent = { [Symbol.dispose]: () => silent.close() };
  const silentPort = (silent.addr as Deno.NetAddr).port;
  const udp = ["--transport", "udp"];
  const cases: [string[], RegExp, RegExp][] = [
    [
      [uri, "--user", "alice:guess", ...udp],
      /^x User name "alice" or its password is wrong/,
      /wrong user name or password/,
    ],
    [[uri, ...udp], /^x The server wants user name and password for the realm "example.org"/, /are wanted/],
    [
      [uri, "--user", "bob:x", "--realm", "other", ...udp],
      /^x The server's realm is "example.org" and not "other"/,
      /another realm/,
    ],
    [
      [`turn:${full.addresses[0]}`, "--user", "alice:secret", ...udp],
      /^x The quota of user "alice" is reached/,
      /quota/,
    ],
    [
      [`turn:127.0.0.1:${silentPort}`, "--user", "alice:secret", "--timeout", "1", ...udp],
      /^x Nothing answers on UDP 127\.0\.0\.1/,
      /nothing answers/,
    ],
    [
      [`turn:127.0.0.1:${silentPort}`, "--user", "alice:secret", "--transport", "tcp"],
      /^x TCP 127\.0\.0\.1:\d+ is closed/,
      /the port is closed/,
    ],
    [
      [`turns:localhost:${port}`, "--user", "alice:secret"],
      /^x The certificate of TLS .* is not good for "localhost": nobody who is trusted here vouches for it/,
      /bad certificate/,
    ],
    [
      [`turns:127.0.0.1:${port}`, "--user", "alice:secret", "--ca", CA, "--server-name", "two.example"],
      /^x The certificate of TLS .* is not good for "two.example": it is for another name/,
      /bad certificate/,
    ],
    [
      [`turns:${full.addresses[0]}`, "--user", "alice:secret"],
      /^x Cannot connect to TLS .*: is that a port for TLS\?/,
      /no TLS there/,
    ],
  ];
  for (const [args, problem, verdict] of cases) {
    const { code, stdout, stderr } = await run(...args);
    assertEquals([code, stderr], [1, ""], args.join(" "));
    assertMatch(stdout.find((line) => line.startsWith("x "))!, problem);
    assertMatch(stdout.at(-1)!, /^TURN does not work: .*\.$/);
    assertMatch(stdout.at(-1)!, verdict);
  }
});

Deno.test("natkit turn --insecure takes any certificate", async () => {
  await using server = serve({ tls: { certificate: read("one"), key: read("one_key") } });
  const args = [`turns:${server.addresses[0]}`, "--user", "alice:secret", "--count", "5"];
  const { code, stdout } = await run(...args, "--insecure");
  assertEquals([code, stdout.at(-1)], [0, "TURN works over TLS."]);
});

Deno.test("natkit turn: wrong usage is one line and exit code 2, before anything is sent", async () => {
  const cases: [string[], RegExp][] = [
    [[], /^natkit: Missing server URI, as turn:HOST\[:PORT\]: see "natkit turn --help"$/],
    [["stun:example.org"], /^natkit: The server must begin with turn: or turns:, not "stun:"$/],
    [["turn://example.org"], /^natkit: .*there is no "\/\/"/],
    [["turn:x", "--user", "alice"], /^natkit: Option --user must be NAME:PASSWORD: "alice"$/],
    [["turn:x", "--pass", "secret"], /^natkit: Option --pass needs --user$/],
    [["turn:x", "--transport", "udp,quic"], /^natkit: Option --transport must be one of udp, tcp, tls, dtls: "quic"$/],
    [
      ["turns:x", "--transport", "udp"],
      /^natkit: Option --transport must be tls or dtls for a server that begins with turns:$/,
    ],
    [["turn:x", "--size", "7"], /^natkit: Option --size must be a whole number from 8 to 65000: "7"$/],
    [["turn:x", "--local", "eth0"], /^natkit: Option --local must be an IP address: "eth0"$/],
    [["turn:x", "--ca", "/nonexistent.pem"], /^natkit: Option --ca: cannot read "\/nonexistent.pem": /],
  ];
  for (const [args, expected] of cases) {
    const { code, stdout, stderr } = await run(...args);
    assertMatch(stderr, expected);
    assertEquals([code, stdout], [2, []], args.join(" "));
  }
});

Deno.test("natkit turn: a name that is not found is one line and exit code 1", async () => {
  const { code, stderr } = await run("turn:nowhere.invalid", "--user", "alice:secret");
  assertEquals(code, 1);
  assertMatch(stderr, /^natkit: Cannot find name "nowhere\.invalid"/);
});

Deno.test("natkit turn: what was not found out is said with its reason", () => {
  const report: TurnReport = {
    server: "turn:x",
    works: false,
    verdict: "TURN does not work: nothing answers",
    problems: [{ severity: "error", text: "Nothing answers" }, { severity: "note", text: "A note" }],
    realm: null,
    software: null,
    paths: [],
    permissionsEnforced: null,
    reachableFromOutside: null,
    peers: [],
    features: { dual: null, dontFragment: null, mobility: null, reservedPorts: null, tcpPeers: null },
    unknown: { tcp: "this computer has no connections" },
    duration: 1,
  };
  assertEquals(describeTurn(report), [
    "  Server            turn:x",
    "  Realm             unknown",
    "",
    "  No TCP            not tried: this computer has no connections",
    "",
    "x Nothing answers",
    "- A note",
    "",
    "TURN does not work: nothing answers.",
  ]);
});
