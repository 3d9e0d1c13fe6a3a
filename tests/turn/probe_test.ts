import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { serveStun } from "../../stun/serve.ts";
import type { VirtualGateway, VirtualHost } from "../../stun/net/virtual/mod.ts";
import { VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { probeTurn, type ProbeTurnOptions } from "../../turn/probe.ts";
import type { TurnReport } from "../../turn/probe_report.ts";
import { serveTurn, type ServeTurnOptions } from "../../turn/serve.ts";
import { codes, serveSloppily, type Sloppiness } from "./_sloppy_server.ts";

const SERVER = "198.51.100.1:3478";

/** A server in the open and a client behind a NAT, 5 ms a link. */
class Place {
  readonly world = new VirtualWorld({ seed: 1, link: { delay: 5 } });
  readonly server: VirtualHost;
  readonly home: VirtualGateway;
  readonly client: VirtualHost;

  constructor(addresses: readonly string[] = ["198.51.100.1", "2001:db8::1"]) {
    this.server = this.world.addHost("server", { addresses });
    this.home = this.world.addNat("home", { external: ["203.0.113.1"] });
    this.client = this.home.addHost("client", { addresses: ["192.168.1.2"] });
    this.world.names.set("turn.example.org", ["198.51.100.1"]);
  }

  serve(options: Partial<ServeTurnOptions> = {}): void {
    serveTurn({
      listen: [SERVER],
      realm: "example.org",
      users: { alice: "secret" },
      // The world's public addresses are documentation addresses.
      allowPeers: ["203.0.113.0/24", "198.51.100.0/24", "2001:db8::/32"],
      relayAddresses: this.server.interfaces().map(({ address }) => address).filter((one) => !/^(127|::1)/.test(one)),
      host: this.server,
      ...options,
    });
  }

  probe(options: Partial<ProbeTurnOptions> = {}): Promise<TurnReport> {
    return this.world.run(() =>
      probeTurn({
        server: "turn:turn.example.org",
        username: "alice",
        password: "secret",
        host: this.client,
        transports: ["udp"],
        ...options,
      })
    );
  }
}

/** A report on a server that is sloppy about something. */
function probeSloppy(sloppiness: Sloppiness): Promise<TurnReport> {
  const place = new Place();
  serveSloppily(place.server, SERVER, sloppiness);
  return place.probe();
}

function kinds({ paths }: TurnReport): (string | undefined)[] {
  return paths.map(({ failure }) => failure?.kind);
}

function texts({ problems }: TurnReport, severity: string): string[] {
  return problems.filter((problem) => problem.severity === severity).map(({ text }) => text);
}

Deno.test("probeTurn(): a good server, to the millisecond", async () => {
  const place = new Place();
  place.serve({ software: "natkit test" });
  const report = await place.probe();
  const { works, verdict, problems, realm, software, permissionsEnforced, reachableFromOutside, unknown } = report;
  assertEquals({ works, verdict, problems }, { works: true, verdict: "TURN works over UDP", problems: [] });
  assertEquals({ realm, software }, { realm: "example.org", software: "natkit test" });
  assertEquals({ permissionsEnforced, reachableFromOutside }, {
    permissionsEnforced: true,
    reachableFromOutside: true,
  });
  assertEquals(unknown, {});
  const { dual, reservedPorts, tcpPeers } = report.features;
  // Only UDP was tried.
  assertEquals({ dual, reservedPorts, tcpPeers }, { dual: true, reservedPorts: true, tcpPeers: null });
  assertEquals(report.paths.length, 2);
  const [four, six] = report.paths;
  // Three links of 5 ms each way, and none between two relays of one host.
  const traffic = {
    ...{ sent: 100, received: 100, duplicated: 0, reordered: 0, corrupted: 0, size: 200 },
    roundTrips: { min: 30, median: 30, p95: 30, max: 30 },
  };
  const { local, mapped, relayed, ...rest } = four!;
  assertEquals([local!.address, mapped!.address, relayed!.address], ["0.0.0.0", "203.0.113.1", "198.51.100.1"]);
  assertEquals(JSON.parse(JSON.stringify(rest)), {
    transport: "udp",
    server: SERVER,
    relayFamily: 4,
    failure: null,
    lifetime: 600,
    setup: 60,
    direct: 30,
    channel: traffic,
    indications: traffic,
    largest: 65_503,
  });
  assertEquals([six!.relayed!.address, six!.channel!.received, six!.indications], ["2001:db8::1", 100, null]);
});

Deno.test("probeTurn(): over TCP and TLS, where UDP is blocked", async () => {
  const place = new Place(["198.51.100.1"]);
  const names = { certificate: "turn.example.org", key: "" };
  place.serve({ listenTls: ["198.51.100.1:5349"], tls: names });
  place.home.udp = "blocked";
  const { paths, verdict, reachableFromOutside, unknown } = await place.probe({ transports: ["udp", "tcp", "tls"] });
  const ofIpv4 = paths.filter(({ relayFamily }) => relayFamily !== 6);
  assertEquals(ofIpv4.map(({ transport, failure, channel }) => [transport, failure?.kind, channel?.received]), [
    ["udp", "silent", undefined],
    ["tcp", undefined, 100],
    ["tls", undefined, 100],
  ]);
  assertMatch(verdict, /^TURN works over TCP and TLS/);
  assertEquals([reachableFromOutside, unknown.outside], [
    null,
    "nothing came, but UDP may not get out of this network",
  ]);
});

Deno.test("probeTurn(): leaves nothing behind on the server, and sends to nobody else", async () => {
  const place = new Place();
  const to = new Set<string>();
  place.world.trace = ({ step, node, destination }) => {
    if (step === "sent" && node === "client") to.add(destination.address);
  };
  const options = { listen: [SERVER], realm: "example.org", users: { alice: "secret" }, host: place.server };
  const server = serveTurn({ ...options, allowPeers: ["203.0.113.0/24", "198.51.100.0/24"] });
  await place.probe();
  assertEquals(server.stats().allocations, 0);
  assertEquals([...to], ["198.51.100.1"]);
});

Deno.test("probeTurn(): the peers that a server refuses, and those that it should", async () => {
  const place = new Place();
  place.serve({ allowPeers: ["203.0.113.0/24", "198.51.100.0/24", "2001:db8::/32", "169.254.169.254", "10.0.0.0/8"] });
  const report = await place.probe();
  const granted = report.peers.filter(({ outcome }) => outcome === "granted").map(({ name }) => name);
  assertEquals(granted, ["private 10/8", "cloud metadata"]);
  assertEquals(report.peers.filter(({ outcome, code }) => outcome === "refused" && code === 403).length, 18);
  const risks = texts(report, "risk");
  assertEquals(risks.length, 2);
  assertMatch(risks[0]!, /reach the server's own network: granted private 10\/8 \(10\.0\.0\.1\)$/);
  assertMatch(risks[1]!, /metadata service.*: granted cloud metadata \(169\.254\.169\.254\)$/);
  // A risk is not a failure.
  assertEquals(report.works, true);
});

Deno.test("probeTurn(): 401 tells wrong, missing and expired credentials and another realm apart", async () => {
  const place = new Place();
  place.serve();
  const cases: [Partial<ProbeTurnOptions>, string, RegExp][] = [
    [
      { password: "guess" },
      "wrong-credentials",
      /^User name "alice" or its password is wrong in the realm "example.org"/,
    ],
    [{ username: "nobody" }, "wrong-credentials", /^User name "nobody" or its password/],
    [
      { username: "900000000:alice" },
      "expired-credentials",
      /^User name "900000000:alice" was good until 1998-07-09T16:00:00.000Z \(401\)/,
    ],
    [{ realm: "other.example", password: "x" }, "wrong-realm", /realm is "example.org" and not "other.example"/],
  ];
  for (const [options, kind, text] of cases) {
    const report = await place.probe(options);
    assertEquals([report.works, report.realm, kinds(report)], [false, "example.org", [kind]]);
    assertEquals(report.paths[0]!.failure!.code, 401);
    assertMatch(texts(report, "error").join(), text);
  }
  const server = "turn:turn.example.org?transport=udp";
  const anonymous = await place.world.run(() => probeTurn({ server, host: place.client }));
  assertEquals([kinds(anonymous), anonymous.realm], [["no-credentials"], "example.org"]);
  assertEquals(anonymous.verdict, "TURN does not work: user name and password are wanted");
});

Deno.test("probeTurn(): another realm with good credentials is a note", async () => {
  const place = new Place();
  place.serve();
  const report = await place.probe({ realm: "other.example" });
  assertEquals([report.works, texts(report, "note")], [true, [
    'The server\'s realm is "example.org" and not "other.example"',
  ]]);
});

Deno.test("probeTurn(): quota and capacity", async () => {
  for (
    const [limits, kind, code] of [[{ allocationsPerUser: 0 }, "quota", 486], [
      { allocations: 0 },
      "capacity",
      508,
    ]] as const
  ) {
    const place = new Place();
    place.serve({ limits });
    const report = await place.probe();
    assertEquals([kinds(report), report.paths[0]!.failure!.code], [[kind], code]);
  }
});

Deno.test("probeTurn(): with a quota of one, a relay sends to itself", async () => {
  const place = new Place();
  place.serve({ limits: { allocationsPerUser: 1 } });
  const report = await place.probe();
  assertEquals([report.works, report.permissionsEnforced], [true, null]);
  assertEquals(report.unknown.permissions, "that needs two relays");
  assertEquals(report.paths.map(({ channel }) => channel!.received), [100, 100]);
  assertMatch(texts(report, "note").join(), /one allocation at a time/);
});

Deno.test("probeTurn(): nobody there, only STUN there, and a server that answers Allocate with an error", async () => {
  const nowhere = await new Place().probe();
  assertEquals([kinds(nowhere), nowhere.duration], [["silent"], 60], "ICMP says it at once");
  const quiet = new Place();
  quiet.server.openDatagram({ transport: "udp", address: "198.51.100.1", port: 3478 }, () => {});
  const nobody = await quiet.probe();
  assertEquals([kinds(nobody), nobody.verdict], [["silent"], "TURN does not work: nothing answers"]);
  assertMatch(
    texts(nobody, "error").join(),
    /^Nothing answers on UDP 198\.51\.100\.1:3478: .* UDP port 3478 through\?$/,
  );
  // 5 s for each of Binding and Allocate.
  assertEquals(nobody.duration, 10_000);

  const place = new Place();
  serveStun({ listen: [SERVER], host: place.server });
  assertEquals(kinds(await place.probe()), ["not-turn"]);
  for (const code of [400, -1]) {
    assertEquals(kinds(await probeSloppy({ codes: codes({ ALLOCATE: code }) })), ["not-turn"]);
  }
  assertEquals(kinds(await probeSloppy({ codes: codes({ ALLOCATE: 403 }) })), ["forbidden"]);
  assertEquals(kinds(await probeSloppy({ codes: codes({ ALLOCATE: 500 }) })), ["refused"]);
});

Deno.test("probeTurn(): a server that answers Allocate alone works", async () => {
  const report = await probeSloppy({ codes: codes({ BINDING: -1 }) });
  assertEquals([report.works, report.paths[0]!.direct, report.paths[0]!.channel!.received], [true, null, 100]);
});

Deno.test("probeTurn(): permissions that are not enforced, and peers that all are granted, are risks", async () => {
  const report = await probeSloppy({});
  assertEquals([report.works, report.permissionsEnforced], [true, false]);
  assertEquals(report.peers.every(({ outcome }) => outcome === "granted"), true);
  const risks = texts(report, "risk");
  assertMatch(risks[0]!, /^Permissions are not enforced/);
  assertEquals(risks.length, 6);
});

Deno.test("probeTurn(): datagrams that come twice, changed, or not at all", async () => {
  let count = 0;
  const twice = await probeSloppy({ data: (bytes) => [bytes, bytes] });
  assertEquals(twice.paths[0]!.channel!.duplicated, 99);
  const changed = await probeSloppy({ data: (bytes) => [bytes.map((byte, i) => i === 100 ? byte ^ 1 : byte)] });
  assertEquals(changed.paths[0]!.channel!.corrupted, 100);
  assertMatch(texts(changed, "error").join(), /100 datagrams came with other contents/);
  const lossy = await probeSloppy({ data: (bytes) => ++count % 10 === 0 ? [] : [bytes] });
  assertEquals(lossy.paths[0]!.channel!.received, 90);
  assertMatch(texts(lossy, "error").join(), /10 of 100 datagrams were lost/);
  const none = await probeSloppy({ data: () => [] });
  assertEquals([none.works, none.permissionsEnforced, none.reachableFromOutside], [false, null, false]);
  assertEquals(none.verdict, "TURN does not work: the server lends relayed addresses, but nothing comes through");
});

Deno.test("probeTurn(): no channels is no reason to stop", async () => {
  const report = await probeSloppy({ codes: codes({ CHANNEL_BIND: 508 }) });
  const [path] = report.paths;
  assertEquals([report.works, path!.failure, path!.indications!.received, path!.channel], [true, null, 100, null]);
  assertMatch(texts(report, "error").join(), /There are no channels: .* 508 /);
  // The search goes on by indications.
  assert(path!.largest! > 60_000);
});

Deno.test("probeTurn(): what a link with an MTU leaves of a datagram", async () => {
  const place = new Place();
  place.serve();
  place.client.link.set({ mtu: 1500 });
  const { paths, problems } = await place.probe();
  // Headers of IPv4, UDP and ChannelData.
  assertEquals(paths[0]!.largest, 1500 - 28 - 4);
  assertEquals(problems, []);
  place.client.link.set({ mtu: 1200 });
  const small = await place.probe();
  assertEquals(small.paths[0]!.largest, 1200 - 28 - 4);
  assertMatch(texts(small, "error").join(), /largest datagram that passes has 1168 bytes/);
});

Deno.test("probeTurn(): relay ports that a firewall keeps closed", async () => {
  const place = new Place(["198.51.100.1"]);
  place.serve();
  place.server.link.down.set({ drop: ({ destination }) => destination.port !== 3478 });
  const report = await place.probe();
  assertEquals([report.works, report.reachableFromOutside], [true, false]);
  assertMatch(texts(report, "error").join(), /not reached from outside by UDP: firewalls must let .* relay ports/);
  // There is no IPv6 on that server, which is not wrong.
  assertEquals([kinds(report), report.problems.length], [[undefined, "family"], 2]);
});

Deno.test("probeTurn(): a client behind a NAT with several addresses is reached by whichever it gets", async () => {
  for (const pooling of ["paired", "arbitrary"] as const) {
    const place = new Place(["198.51.100.1"]);
    const external = ["203.0.113.11", "203.0.113.12", "203.0.113.13", "203.0.113.14"];
    const nat = {
      external,
      pooling,
      mapping: "address-and-port-dependent",
      filtering: "address-and-port-dependent",
    } as const;
    const host = place.world.addNat("carrier", nat).addHost("far", { addresses: ["100.64.0.2"] });
    place.serve();
    const report = await place.probe({ host });
    assertEquals([report.works, report.permissionsEnforced], [true, true]);
    if (pooling === "paired") assertEquals(report.reachableFromOutside, true);
  }
});

Deno.test("probeTurn(): a server behind a NAT that does not know its public address", async () => {
  const place = new Place();
  serveSloppily(place.server, SERVER, { relayed: (address) => TransportAddress.of("10.0.0.5", address.port) });
  const report = await place.probe();
  assertEquals(report.works, false);
  assertMatch(texts(report, "error")[0]!, /^The relayed address 10\.0\.0\.5:\d+ is private, .* "external address"/);
  assertEquals(report.unknown.outside, "the relayed address is private");
});

Deno.test("probeTurn(): a server whose relayed addresses cannot reach each other", async () => {
  const place = new Place();
  place.serve({ denyPeers: ["198.51.100.0/24"] });
  const report = await place.probe();
  assertMatch(texts(report, "error").join(), /refuses its own relayed address as a peer \(403 Forbidden\)/);
  // But others reach them.
  assertEquals([report.works, report.reachableFromOutside, report.permissionsEnforced], [true, true, null]);
});

Deno.test("probeTurn(): an own address that the server refuses leaves the outside unknown", async () => {
  const place = new Place();
  place.serve({ allowPeers: ["198.51.100.0/24"] });
  const { reachableFromOutside, unknown, works } = await place.probe();
  assertEquals([works, reachableFromOutside], [true, null]);
  assertEquals(unknown.outside, "the server refuses this computer's address 203.0.113.1 as a peer (403)");
});

Deno.test("probeTurn(): a name without address, a wrong URI and wrong numbers are refused", async () => {
  const place = new Place();
  await assertRejects(
    () => place.probe({ server: "turn:nowhere.example" }),
    Error,
    'Cannot find name "nowhere.example"',
  );
  await assertRejects(() => place.probe({ server: "stun:turn.example.org" }), SyntaxError, "turn: or turns:");
  await assertRejects(
    () => place.probe({ size: 7 }),
    RangeError,
    "Cannot use size as it must be a whole number in 8 to 65000",
  );
  await assertRejects(() => probeTurn({ server: "turn:x", username: "alice" }), TypeError, "no password");
});

Deno.test("probeTurn(): a signal ends it at any time, and gives the allocations back", async () => {
  for (const after of [0, 20, 70, 500, 1500, 2500, 3000]) {
    const place = new Place();
    const options = { listen: [SERVER], realm: "example.org", users: { alice: "secret" }, host: place.server };
    const server = serveTurn({ ...options, allowPeers: ["203.0.113.0/24", "198.51.100.0/24"] });
    const aborter = new AbortController();
    place.world.after(after, () => aborter.abort(new Error("enough")));
    await assertRejects(() => place.probe({ signal: aborter.signal }), Error, "enough");
    place.world.runUntilIdle();
    assertEquals(server.stats().allocations, 0, `${after} ms`);
  }
});
