import { assert, assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { XOR_MAPPED_ADDRESS } from "../../stun/attributes.ts";
import { discoverNat } from "../../stun/discover.ts";
import { MessageWriter, StunMessage } from "../../stun/message.ts";
import type { Host } from "../../stun/net/transport.ts";
import { VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { serveStun } from "../../stun/serve.ts";
import type { ClassicNatType, NatBehavior } from "../../stun/nat_report.ts";
import { reportIn, SERVER } from "./nat_world.ts";

const BEHAVIORS: readonly Exclude<NatBehavior, "unknown">[] = [
  "endpoint-independent",
  "address-dependent",
  "address-and-port-dependent",
];
const CONES: readonly ClassicNatType[] = ["full cone", "restricted cone", "port restricted cone"];
const ALL_PEERS = [
  "open",
  "full cone",
  "restricted cone",
  "port restricted cone",
  "symmetric firewall",
  "symmetric",
  "blocked",
];

for (const mapping of BEHAVIORS) {
  for (const filtering of BEHAVIORS) {
    Deno.test(`RFC 5780 §4.3, §4.4: ${mapping} mapping with ${filtering} filtering is named so, whatever else the NAT does`, async () => {
      for (const hairpinning of ["external-source", "internal-source", "none"] as const) {
        for (const portAllocation of ["preserving", "sequential", "random"] as const) {
          const nat = { mapping, filtering, hairpinning, portAllocation, portStep: 2 };
          const { report } = await reportIn({ nat });
          // A symmetric NAT whose ports nobody can foretell shows by no test whether it hairpins.
          const isHidden = portAllocation === "random" && mapping !== "endpoint-independent" &&
            filtering !== "endpoint-independent";
          const hairpin = isHidden ? null : hairpinning !== "none";
          assertEquals({
            nat: report.nat,
            mapping: report.mapping,
            filtering: report.filtering,
            classic: report.classic,
            hairpin: report.hairpin,
            hairpinSource: report.hairpinSource,
            portAllocation: report.portAllocation,
            portStep: report.portStep,
            publicAddresses: report.publicAddresses,
            ipPooling: report.ipPooling,
            alg: report.alg,
            fragments: report.fragments,
            unknown: Object.keys(report.unknown),
          }, {
            nat: true,
            mapping,
            filtering,
            classic: mapping === "endpoint-independent" ? CONES[BEHAVIORS.indexOf(filtering)]! : "symmetric",
            hairpin,
            hairpinSource: hairpin ? hairpinning === "internal-source" ? "internal" : "external" : null,
            portAllocation,
            portStep: portAllocation === "sequential" ? 2 : null,
            publicAddresses: ["203.0.113.1"],
            ipPooling: "paired",
            alg: false,
            fragments: "pass",
            unknown: isHidden ? ["hairpin", "lifetime"] : ["lifetime"],
          });
          assertEquals(report.mapped?.address, "203.0.113.1");
          assertEquals(report.local?.address, "192.168.1.2");
        }
      }
    });
  }
}

Deno.test("RFC 3489 §10.1: open", async () => {
  const { report } = await reportIn({});
  assertEquals([report.nat, report.classic, report.mapping, report.filtering], [
    false,
    "open",
    "endpoint-independent",
    "endpoint-independent",
  ]);
  assertEquals(String(report.mapped), String(report.local));
  assertEquals([report.hairpin, report.portAllocation, report.publicAddresses], [null, "preserving", ["203.0.113.7"]]);
  assertEquals(report.reachableBy, ALL_PEERS.slice(0, 6) as ClassicNatType[]);
  assertEquals(report.relayFor, ["blocked"]);
  assertEquals(report.unknown.hairpin, "there is no NAT");
});

Deno.test("RFC 3489 §10.1: symmetric firewall, by address and by port", async () => {
  for (const filtering of ["address-dependent", "address-and-port-dependent"] as const) {
    const { report } = await reportIn({
      nat: { external: [], mapping: "endpoint-independent", filtering },
      address: "203.0.113.7",
    });
    assertEquals([report.nat, report.classic, report.filtering], [false, "symmetric firewall", filtering]);
    assertEquals(report.reachableBy.includes("symmetric"), filtering === "address-dependent");
  }
});

Deno.test("RFC 5780 §4.2: UDP blocked is known after 5 s, and 2.5 s more of listening for what is late", async () => {
  const { report } = await reportIn({ nat: { udp: "blocked", tcp: "blocked" } });
  assertEquals([report.classic, report.nat, report.mapped], ["blocked", false, null]);
  assertEquals(report.duration, 7500);
  assertEquals(report.servers.map(({ outcome }) => outcome), ["silent"]);
  assertEquals(report.tests.map(({ sends }) => sends), [4]);
  assertEquals(report.reachableBy, []);
  assertEquals(report.relayFor, ALL_PEERS as ClassicNatType[]);
  assertEquals(Object.keys(report.unknown).length, 9);
  assertEquals(report.answersTcp, false);
});

Deno.test("UDP blocked, in the virtual internet: serveStun() is found over TCP", async () => {
  const { report } = await reportIn({ nat: { udp: "blocked" } });
  assertEquals([report.classic, report.answersTcp, report.duration], ["blocked", true, 7500]);
  const only = await reportIn({ nat: { udp: "blocked" }, serve: { transports: ["udp"] } });
  assertEquals([only.report.classic, only.report.answersTcp], ["blocked", false]);
});

Deno.test("UDP blocked: a server that answers over TCP is there", async () => {
  const world = new VirtualWorld({ seed: 1 });
  const client = world.addHost("client", { addresses: ["203.0.113.7"] });
  const host = withTcp(client, (request) =>
    new MessageWriter(new Uint8Array(64))
      .beginResponse(StunMessage.parse(request)!, "success")
      .add(XOR_MAPPED_ADDRESS, TransportAddress.parse("203.0.113.7:1000")).finish());
  const report = await world.run(() => discoverNat({ servers: ["stun:198.51.100.1"], host }));
  assertEquals([report.classic, report.answersTcp, report.duration], ["blocked", true, 7500]);
  assertEquals(report.verdict, ["UDP is blocked: the server answers over TCP only. A relay over TCP or TLS can help."]);
});

/** A host whose connections all lead to somebody who answers each write. */
function withTcp(host: Host, answer: (bytes: Uint8Array) => Uint8Array): Host {
  const address = TransportAddress.parse("203.0.113.7:5000");
  return {
    now: () => host.now(),
    unixTime: () => host.unixTime(),
    random: host.random,
    createTimer: (ring) => host.createTimer(ring),
    openDatagram: (wish, receiver) => host.openDatagram(wish, receiver),
    interfaces: () => host.interfaces(),
    resolve: (name) => host.resolve(name),
    connectStream(wish, done) {
      const later = (work: () => void) => host.createTimer(work).set(host.now() + 1);
      later(() => {
        const receiver = done({
          transport: "tcp",
          localAddress: address,
          remoteAddress: wish.remote,
          alpn: undefined,
          resume() {},
          pause() {},
          send(bytes) {
            const reply = answer(bytes.slice());
            later(() => {
              receiver!.onSent();
              receiver!.onData(reply, 0, reply.length);
            });
          },
          end() {},
          close() {},
        });
      });
      return () => {};
    },
  };
}

Deno.test("IPv6: open, behind a firewall, and behind a NAT66", async () => {
  const listen = ["2001:db8::1", "2001:db8::2"];
  const open = await reportIn({ listen, address: "2001:db8:1::7" });
  assertEquals([open.report.family, open.report.classic], [6, "open"]);
  const firewall = await reportIn({ listen, address: "2001:db8:1::7", nat: { external: [] } });
  assertEquals([firewall.report.family, firewall.report.classic], [6, "symmetric firewall"]);
  const nat = { external: ["2001:db8:2::1"], mapping: "address-dependent" as const };
  const translated = await reportIn({ listen, address: "fd00::7", nat });
  assertEquals([translated.report.family, translated.report.mapping], [6, "address-dependent"]);
});

Deno.test("One IPv6 or IPv4 address of a name is picked by `family`, IPv4 by default", async () => {
  const listen = ["2001:db8::1", "198.51.100.1"];
  const prepare = (world: Parameters<NonNullable<Parameters<typeof reportIn>[0]["prepare"]>>[0]) => {
    world.names.set("stun.example.org", listen);
  };
  for (const [family, address] of [[4, "203.0.113.7"], [6, "2001:db8:1::7"]] as const) {
    const servers = ["stun:stun.example.org"];
    const { report } = await reportIn({ listen, address, prepare, discover: { servers, family } });
    assertEquals(report.family, family);
    assertEquals(report.local?.address, address);
  }
  const { report } = await reportIn({ listen, prepare, discover: { servers: ["stun:stun.example.org"] } });
  assertEquals(report.family, 4);
});

Deno.test("An ordinary server with one address: what can be known is, the rest says why not", async () => {
  const { report } = await reportIn({ listen: SERVER.slice(0, 1), nat: { portAllocation: "sequential" } });
  assertEquals([report.nat, report.mapping, report.filtering, report.classic], [true, "unknown", "unknown", "unknown"]);
  assertEquals([report.portAllocation, report.portStep, report.hairpin], ["sequential", 1, true]);
  assertEquals(
    report.unknown.mapping,
    "only one destination answered: it takes a server with two addresses, or several servers",
  );
  assertEquals(
    report.unknown.filtering,
    "the server has one address only, and nobody else can be asked to send to a socket that has not sent there",
  );
  assertEquals(report.reachableBy, ["open", "full cone", "restricted cone"]);
  assertEquals(report.relayFor, ["blocked"]);
});

Deno.test("Several ordinary servers tell about the mapping, and a symmetric NAT is known as one", async () => {
  const servers = [`stun:${SERVER[0]}`, `stun:${SERVER[1]}:3479`];
  const serve = { listen: [`${SERVER[0]}:3478`, `${SERVER[1]}:3479`] };
  const cone = await reportIn({ serve, nat: {}, discover: { servers } });
  assertEquals([cone.report.mapping, cone.report.filtering, cone.report.classic], [
    "endpoint-independent",
    "unknown",
    "unknown",
  ]);
  assertEquals(cone.report.reachableBy.includes("port restricted cone"), true);
  const symmetric = await reportIn({ serve, nat: { mapping: "address-dependent" }, discover: { servers } });
  assertEquals([symmetric.report.mapping, symmetric.report.classic], ["unknown", "symmetric"]);
  assertEquals(
    symmetric.report.unknown.mapping,
    "destinations see different public addresses, but none could be asked on two ports of one address",
  );
  assertEquals(symmetric.report.relayFor, ["port restricted cone", "symmetric firewall", "symmetric", "blocked"]);
});

Deno.test("The same server under two names counts once, and the first with two addresses is used", async () => {
  const servers = ["stun:198.51.100.9", `stun:${SERVER[0]}`, `stun:${SERVER[0]}:3478`];
  const { report } = await reportIn({ nat: {}, discover: { servers } });
  assertEquals(report.servers.map(({ outcome }) => outcome), ["silent", "answered", "answered"]);
  assertEquals([report.mapping, report.filtering], ["endpoint-independent", "address-and-port-dependent"]);
});

Deno.test("RFC 4787 §4.1: several public addresses, arbitrary pooling", async () => {
  const external = ["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"];
  for (const mapping of BEHAVIORS) {
    const { report } = await reportIn({
      nat: { external, pooling: "arbitrary", mapping, filtering: "address-dependent" },
    });
    assertEquals([report.mapping, report.filtering, report.ipPooling], [mapping, "address-dependent", "arbitrary"]);
    assert(report.publicAddresses.length > 1 && report.publicAddresses.every((one) => external.includes(one)));
  }
  const { report } = await reportIn({ nat: { external, pooling: "paired" } });
  assertEquals([report.ipPooling, report.publicAddresses.length], ["paired", 1]);
});

Deno.test("RFC 5780 §3.5: fragments are lost", async () => {
  const lost = await reportIn({ nat: { link: { mtu: 1500 } } });
  assertEquals(lost.report.fragments, "blocked");
  assertEquals(lost.report.classic, "port restricted cone");
});

Deno.test("A NAT behind a carrier's NAT shows as what both are together", async () => {
  const world = new VirtualWorld({ seed: 1 });
  const server = world.addHost("server", { addresses: SERVER });
  const carrier = world.addNat("carrier", { external: ["203.0.113.1"], filtering: "endpoint-independent" });
  const home = carrier.addNat("home", { external: ["100.64.0.5"], filtering: "address-dependent" });
  const host = home.addHost("client", { addresses: ["192.168.1.2"] });
  const report = await world.run(async () => {
    await using _service = serveStun({ listen: SERVER, host: server });
    return await discoverNat({ servers: [`stun:${SERVER[0]}`], host });
  });
  assertEquals([report.classic, report.mapped?.address], ["restricted cone", "203.0.113.1"]);
});

Deno.test("With 2 % of datagrams lost on every link the NAT is still named right", async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const nat = { mapping: "address-dependent", filtering: "address-dependent", portAllocation: "random" } as const;
    const { report } = await reportIn({ seed, link: { loss: 0.02, delay: 20, jitter: 10 }, nat });
    assertEquals([report.mapping, report.filtering], ["address-dependent", "address-dependent"], `seed ${seed}`);
  }
});

Deno.test("RFC 5780 §5: ten new transactions a second at the most, apart from two that must be sent together", async () => {
  const { report } = await reportIn({ nat: { mapping: "address-and-port-dependent" } });
  assert(report.tests.length >= 15);
  assert(report.duration >= 100 * (report.tests.length - 6));
});

Deno.test("A report is JSON, with addresses as text", async () => {
  const { report } = await reportIn({ nat: {} });
  const json = JSON.parse(JSON.stringify(report));
  assertEquals(json.local, String(report.local));
  assertEquals(json.mapped, String(report.mapped));
  assertEquals(json.servers[0].otherAddress, "198.51.100.2:3479");
  for (
    const name of [
      ...["family", "local", "mapped", "nat", "mapping", "filtering", "classic", "hairpin", "lifetimeSeconds"],
      ...["portAllocation", "alg", "fragments", "reachableBy"],
    ]
  ) assert(name in json, name);
});

Deno.test("Several local addresses: the one that gets an answer is used", async () => {
  const world = new VirtualWorld({ seed: 1 });
  const server = world.addHost("server", { addresses: SERVER });
  const dead = world.addNat("dead", { external: ["203.0.113.8"], udp: "blocked" });
  const home = world.addNat("home", { external: ["203.0.113.9"] });
  const host = dead.addHost("client", { addresses: ["172.17.0.1"] });
  home.join(host, { addresses: ["192.168.1.2"] });
  const report = await world.run(async () => {
    await using _service = serveStun({ listen: SERVER, host: server });
    return await discoverNat({ servers: [`stun:${SERVER[0]}`], host });
  });
  assertEquals([report.local?.address, report.mapped?.address], ["192.168.1.2", "203.0.113.9"]);
  assertEquals([report.servers[0]!.outcome, report.classic], ["answered", "port restricted cone"]);
});
