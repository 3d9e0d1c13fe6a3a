// NAT behaviour discovery against independent programs on loopback: two of theirs ask our server, our report asks two of
// theirs. On loopback there is no NAT, and all must say so. What they say of NATs is in natlab_test.ts.
import { assertEquals, assertStringIncludes } from "@std/assert";
import { discoverNat } from "../../stun/discover.ts";
import type { NatReport } from "../../stun/nat_report.ts";
import { serveStun, type StunServerHandle } from "../../stun/serve.ts";
import { serveTurn, type TurnServerHandle } from "../../turn/serve.ts";
import { peerTest, runPeer, startPeer } from "./_peers.ts";
import { freePort } from "../free_port.ts";

const NATDISCOVERY = { programs: ["turnutils_natdiscovery"], install: "apt-get install -y coturn" };
const STUN = { programs: ["stun"], install: "apt-get install -y stun-client" };
const COTURN = { programs: ["turnserver"], install: "apt-get install -y coturn" };
const STUND = { programs: ["stund"], install: "apt-get install -y stun-server" };

function serve(addresses: readonly string[] = ["127.0.0.1:0", "127.0.0.2:0"]): StunServerHandle {
  return serveStun({ listen: addresses, classic: true });
}

peerTest("turnutils_natdiscovery reports no NAT against our servers with two addresses", NATDISCOVERY, async () => {
  for (const start of [serve, serveTurnOnTwo]) {
    await using service = start();
    const { port } = service.addresses[0]!;
    const { code, output } = await runPeer("turnutils_natdiscovery", ["-m", "-f", "-p", String(port), "127.0.0.1"]);
    assertEquals(code, 0, output);
    assertStringIncludes(output, `Other addr: : 127.0.0.2:${service.addresses[2]!.port}`);
    assertStringIncludes(output, "NAT with Endpoint Independent Mapping!");
    assertStringIncludes(output, "NAT with Endpoint Independent Filtering!");
    assertStringIncludes(output, "No ALG: Mapped == XOR-Mapped");
  }
});

peerTest("turnutils_natdiscovery with PADDING gets the same", NATDISCOVERY, async () => {
  await using service = serve();
  const port = String(service.addresses[0]!.port);
  const { code, output } = await runPeer("turnutils_natdiscovery", ["-m", "-f", "-P", "-p", port, "127.0.0.1"]);
  assertEquals(code, 0, output);
  assertStringIncludes(output, "NAT with Endpoint Independent Mapping!");
  assertStringIncludes(output, "NAT with Endpoint Independent Filtering!");
});

peerTest(
  "turnutils_natdiscovery takes our server with one address for one that can not do it",
  NATDISCOVERY,
  async () => {
    await using service = serve(["127.0.0.1:0"]);
    assertEquals(service.hasDiscovery, false);
    const port = String(service.addresses[0]!.port);
    const { output } = await runPeer("turnutils_natdiscovery", ["-m", "-f", "-p", port, "127.0.0.1"]);
    assertEquals(output.includes("Other addr"), false, output);
  },
);

peerTest("The classic client stun reports an open path against our servers with two addresses", STUN, async () => {
  for (const start of [serve, serveTurnOnTwo]) {
    await using service = start();
    const { output } = await runPeer("stun", [String(service.addresses[0]), "-v"]);
    assertStringIncludes(output, "Primary: Open");
    assertStringIncludes(output, `ChangedAddress = 127.0.0.2:${service.addresses[2]!.port}`);
  }
});

/** As `natkit serve --listen A --listen B --classic`. */
function serveTurnOnTwo(): TurnServerHandle {
  const port = freePort();
  return serveTurn({ listen: [`127.0.0.1:${port}`, `127.0.0.2:${port}`], realm: "lab", users: [], classic: true });
}

function facts({ nat, mapping, filtering, classic, alg, mapped, local }: NatReport): unknown {
  return { nat, mapping, filtering, classic, alg, isSame: String(mapped) === String(local) };
}

const OPEN = {
  nat: false,
  mapping: "endpoint-independent",
  filtering: "endpoint-independent",
  classic: "open",
  alg: false,
  isSame: true,
};

peerTest("Our report against coturn with two listening addresses: open, with all tests answered", COTURN, async () => {
  const port = freePort();
  const folder = await Deno.makeTempDir({ prefix: "natkit-" });
  try {
    await using _server = startPeer("turnserver", [
      ...[
        "-n",
        "--no-cli",
        "--log-file=stdout",
        `--pidfile=${folder}/pid`,
        `--db=${folder}/db`,
        "--no-tls",
        "--no-dtls",
      ],
      ...["--listening-ip=127.0.0.1", "--listening-ip=127.0.0.2", "--relay-ip=127.0.0.1", `--listening-port=${port}`],
    ]);
    const report = await discoverNat({ servers: [`stun:127.0.0.1:${port}`] });
    assertEquals(facts(report), OPEN);
    assertEquals(report.fragments, "pass");
    assertEquals(String(report.servers[0]!.otherAddress), `127.0.0.2:${port + 1}`);
    assertEquals([...new Set(report.tests.map(({ outcome }) => outcome))], ["answered"]);
    assertEquals(report.notes, []);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

peerTest("Our report against the classic server stund: open, by CHANGED-ADDRESS", STUND, async () => {
  const port = freePort();
  await using _server = startPeer("stund", [
    "-h",
    "127.0.0.1",
    "-a",
    "127.0.0.2",
    "-p",
    `${port}`,
    "-o",
    `${port + 1}`,
  ]);
  const report = await discoverNat({ servers: [`stun:127.0.0.1:${port}`] });
  assertEquals(facts(report), OPEN);
  assertEquals(String(report.servers[0]!.otherAddress), `127.0.0.2:${port + 1}`);
  assertEquals([report.fragments, report.unknown.fragments], [
    "unknown",
    "the server does not understand long requests (PADDING)",
  ]);
  assertEquals(report.notes, []);
});
