// probeTurn() against Debian's turnserver (coturn).
import { assert, assertEquals, assertMatch } from "@std/assert";
import { probeTurn, type ProbeTurnOptions } from "../../turn/probe.ts";
import type { TurnReport } from "../../turn/probe_report.ts";
import { COTURN, type Coturn, startCoturn } from "./_coturn.ts";
import { peerTest } from "./_peers.ts";
import { freePort } from "../free_port.ts";

function probe({ address }: Coturn, options: Partial<ProbeTurnOptions> = {}): Promise<TurnReport> {
  const server = `turn:${address}`;
  return probeTurn({ server, username: "test", password: "secret", transports: ["udp"], count: 20, ...options });
}

peerTest("coturn: probeTurn() measures it, and says what it grants", COTURN, async () => {
  await using coturn = await startCoturn(["--no-multicast-peers", "--denied-peer-ip=169.254.0.0-169.254.255.255"]);
  const report = await probe(coturn);
  const { works, verdict, realm, permissionsEnforced, reachableFromOutside } = report;
  assertEquals({ works, verdict, realm }, { works: true, verdict: "TURN works over UDP", realm: "example.org" });
  assertEquals({ permissionsEnforced, reachableFromOutside }, {
    permissionsEnforced: true,
    reachableFromOutside: true,
  });
  assertMatch(report.software!, /^Coturn/);
  const [path] = report.paths;
  assertEquals([path!.channel!.received, path!.indications!.received, path!.lifetime], [20, 20, 600]);
  assert(path!.largest! > 1400, `${path!.largest}`);
  // It is told to take loopback here, and to refuse this.
  const outcomes = new Map(report.peers.map(({ name, outcome }) => [name, outcome]));
  assertEquals([outcomes.get("loopback"), outcomes.get("multicast")], ["granted", "refused"]);
  assertEquals(outcomes.get("cloud metadata"), "refused");
});

peerTest("coturn: probeTurn() over TCP and TLS too", COTURN, async () => {
  const file = (name: string) => new URL(`../vectors/tls/${name}.pem`, import.meta.url).pathname;
  await using coturn = await startCoturn([], freePort(), { certificate: file("one"), key: file("one_key") });
  const tls = { ca: [await Deno.readTextFile(file("ca"))] };
  const report = await probe(coturn, { transports: ["udp", "tcp", "tls"], tls });
  assertEquals(report.verdict, "TURN works over UDP, TCP and TLS");
  const { dual, mobility, reservedPorts, tcpPeers } = report.features;
  const expected = { dual: false, mobility: false, reservedPorts: true, tcpPeers: true };
  assertEquals({ dual, mobility, reservedPorts, tcpPeers }, expected);
});

peerTest("coturn: probeTurn() names a wrong password, a quota of one and a quota of none", COTURN, async () => {
  await using coturn = await startCoturn(["--user-quota=1"]);
  const wrong = await probe(coturn, { password: "guess" });
  assertEquals(wrong.paths.map(({ failure }) => failure?.kind), ["wrong-credentials"]);
  const alone = await probe(coturn);
  assertEquals([alone.works, alone.paths[0]!.channel!.received], [true, 20]);
  assertMatch(alone.problems.map(({ text }) => text).join("\n"), /one allocation at a time/);
});

peerTest("coturn: probeTurn() sees that there is only STUN", COTURN, async () => {
  await using coturn = await startCoturn(["--stun-only"]);
  const report = await probe(coturn, { timeout: 1000 });
  assertEquals(report.paths.map(({ failure }) => failure?.kind), ["not-turn"]);
});
