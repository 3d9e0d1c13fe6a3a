import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { main } from "../../cli/main.ts";
import { describeReport } from "../../cli/nat.ts";
import { serveStun } from "../../stun/mod.ts";
import { reportIn, SERVER } from "../stun/nat_world.ts";
import { FakeTerminal } from "./_terminal.ts";

async function run(...args: string[]): Promise<{ code: number; stdout: string[]; stderr: string }> {
  const terminal = new FakeTerminal();
  const code = await main(["nat", ...args], terminal);
  return { code, stdout: terminal.stdout, stderr: terminal.stderr.join("\n") };
}

Deno.test("natkit nat on loopback: open, in words and in JSON", async () => {
  await using service = serveStun({ listen: ["127.0.0.1:0", "127.0.0.2:0"] });
  const server = `stun:${service.addresses[0]}`;
  const [words, json] = await Promise.all([run(server), run(server, "--json")]);
  assertEquals([words.code, words.stderr, json.code, json.stderr], [0, "", 0, ""]);
  assertEquals(words.stdout[0], "Open: no NAT, and nothing filters UDP. Anybody can send to this address.");
  assert(words.stdout.includes("  Filtering         endpoint-independent"));
  assertEquals(json.stdout.length, 1);
  const { family, classic, nat, mapping, filtering, hairpin, lifetimeSeconds, alg, reachableBy } = JSON.parse(
    json.stdout[0]!,
  );
  assertEquals(
    { family, classic, nat, mapping, filtering, hairpin, lifetimeSeconds, alg },
    {
      family: 4,
      classic: "open",
      nat: false,
      mapping: "endpoint-independent",
      filtering: "endpoint-independent",
      hairpin: null,
      lifetimeSeconds: null,
      alg: false,
    },
  );
  assertEquals(reachableBy.length, 6);
});

Deno.test("natkit nat --family both makes a report for each, and one line of JSON each", async () => {
  await using service = serveStun({ listen: ["127.0.0.1:0"] });
  const { port } = service.addresses[0]!;
  await using _six = serveStun({ listen: [`[::1]:${port}`] });
  const { code, stdout } = await run(`stun:localhost:${port}`, "--family", "both", "--json");
  assertEquals([code, stdout.map((line) => JSON.parse(line).family)], [0, [4, 6]]);
});

Deno.test("natkit nat: wrong usage is told before anything is sent", async () => {
  const cases: [string[], RegExp][] = [
    [[], /^natkit: Missing server URI, as stun:HOST\[:PORT\]: see "natkit nat --help"$/],
    [["http://example.org"], /^natkit: .*"http:\/\/example.org"/],
    [["stuns:example.org"], /^natkit: Only UDP tells about NATs, not "stuns:"$/],
    [["stun:127.0.0.1", "--family", "5"], /^natkit: Option --family must be one of first, 4, 6, both: "5"$/],
    [["stun:127.0.0.1", "--local", "eth0"], /^natkit: Option --local must be an IP address: "eth0"$/],
    [
      ["stun:127.0.0.1", "--lifetime-max", "1"],
      /^natkit: Option --lifetime-max must be a whole number from 2 to 86400/,
    ],
    [["stun:127.0.0.1", "--resolution", "0"], /^natkit: Option --resolution must be a whole number from 1 to 3600/],
  ];
  for (const [args, expected] of cases) {
    const { code, stdout, stderr } = await run(...args);
    assertMatch(stderr, expected);
    assertEquals([code, stdout], [2, []]);
  }
});

Deno.test("natkit nat: Ctrl-C ends it at once", async () => {
  const silent = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
  const terminal = new FakeTerminal();
  const done = main(["nat", `stun:127.0.0.1:${(silent.addr as Deno.NetAddr).port}`], terminal);
  await silent.receive();
  terminal.interrupt();
  assertEquals(await done, 1);
  assertEquals(terminal.stderr, ["natkit: Interrupted"]);
  silent.close();
});

Deno.test("The report in words: a port restricted cone", async () => {
  const { report } = await reportIn({ nat: { mappingLifetime: 30_000 }, discover: { lifetime: true } });
  assertEquals(describeReport(report), [
    "Port restricted cone NAT: the public address is the same for all, and lets in the very ports that were sent to.",
    "  Direct: peers in the open, behind a full cone, restricted cone or port restricted cone NAT, or behind a firewall.",
    "  By a relay only: peers behind a symmetric NAT or cut off from UDP.",
    "",
    `  Local address     ${report.local}`,
    `  Public address    ${report.mapped}`,
    "  NAT               yes",
    "  Mapping           endpoint-independent",
    "  Filtering         address-and-port-dependent",
    "  Classic label     port restricted cone",
    "  Port allocation   preserving",
    "  Hairpinning       yes",
    "  Binding lifetime  30 s (alive after 29.5 s, gone after 30.5 s)",
    "  Fragments         pass",
    "  ALG               none",
    "",
    "! A mapping is gone after 30 s, RFC 4787 REQ-5 wants 120 s at least: send a keepalive every 15 s.",
    "stun:198.51.100.1 (198.51.100.1:3478): answered in 6.0 ms",
  ]);
});

Deno.test("The report in words: one address only, so much is unknown, and why is said", async () => {
  const { report } = await reportIn({ listen: SERVER.slice(0, 1), nat: {} });
  const text = describeReport(report).join("\n");
  assertStringIncludes(text, "A NAT, but not enough was found out to name it.");
  assertStringIncludes(
    text,
    "  Filtering         unknown: the server has one address only, and nobody else can be asked to send to a socket",
  );
  assertStringIncludes(
    text,
    "  Not known, as it depends on what was not found out: peers behind a port restricted cone or symmetric NAT, or behind a firewall.",
  );
});

Deno.test("The report in words: UDP is blocked", async () => {
  const { report } = await reportIn({ nat: { udp: "blocked", tcp: "blocked" } });
  assertEquals(describeReport(report), [
    "UDP is blocked, or no server answers: only a relay over TCP or TLS can help.",
    "",
    `  Local address     ${report.local}`,
    "",
    "! stun:198.51.100.1 (198.51.100.1:3478) did not answer.",
    "stun:198.51.100.1 (198.51.100.1:3478): silent",
  ]);
});

Deno.test("The report in words: with --tests every request is a line", async () => {
  const { report } = await reportIn({ nat: { mapping: "address-dependent", filtering: "address-dependent" } });
  const plain = describeReport(report);
  const lines = describeReport(report, true).slice(plain.length + 1);
  assertEquals(lines.length, report.tests.length);
  assertMatch(
    lines[0]!,
    /^ {2}address +192\.168\.1\.2:\d+ -> 198\.51\.100\.1:3478, 1x: answered in 6\.0 ms, saw 203\.0\.113\.1:\d+$/,
  );
});
