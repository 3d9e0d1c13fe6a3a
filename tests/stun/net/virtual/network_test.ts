import { assertEquals, assertThrows } from "@std/assert";
import { randomBelow } from "../../../../stun/random.ts";
import {
  addHostBehind,
  type ClassicType,
  NAT_TYPES,
  type NatBehavior,
  type VirtualCounters,
  type VirtualStep,
  VirtualWorld,
} from "../../../../stun/net/virtual/mod.ts";
import { counted, endpoint } from "./rig.ts";

/** How a host looks to servers: what they see of it, and which of three may answer. */
const CLASSIC: Record<ClassicType, string> = {
  "open": "same address, all three answer",
  "full cone": "all three answer",
  "restricted cone": "two answer",
  "port restricted cone": "one answers",
  "symmetric": "mapped anew, one answers",
  "symmetric firewall": "same address, one answers",
  "blocked": "none answers",
};

function internet() {
  const world = new VirtualWorld({ seed: 1 });
  const server = world.addHost("server", { addresses: ["198.51.100.1", "198.51.100.2", "2001:db8:1::1"] });
  return { world, server };
}

Deno.test("Network: a private address of another home is never reached, not even where both use the same", () => {
  const { world } = internet();
  const homes = ["home", "away"].map((name, i) => world.addNat(name, { external: [`203.0.113.${i + 1}`] }));
  const alice = endpoint(homes[0]!.addHost("alice", { addresses: ["192.168.1.2"] }), "192.168.1.2:5000");
  const bob = endpoint(homes[1]!.addHost("bob", { addresses: ["192.168.1.3"] }), "192.168.1.3:5000");
  const carol = endpoint(homes[1]!.addHost("carol", { addresses: ["192.168.1.2"] }), "192.168.1.2:5000");
  alice.send("192.168.1.3:5000");
  bob.send("192.168.1.2:5000");
  world.runUntilIdle();
  assertEquals([alice.got, bob.got, carol.got], [[], [], ["192.168.1.3:5000 hello"]]);
  assertEquals(counted(world.counters), { sent: 2, delivered: 1, translated: 1, noRoute: 1 });
});

Deno.test("Network: hosts behind one NAT reach each other on its inside, the NAT takes no part", () => {
  const { world } = internet();
  const home = world.addNat("home", { external: ["203.0.113.1"], udp: "blocked" });
  const alice = endpoint(home.addHost("alice", { addresses: ["192.168.1.2"] }), "192.168.1.2:5000");
  const bob = endpoint(home.addHost("bob", { addresses: ["192.168.1.3"] }), "192.168.1.3:5000");
  alice.send(bob.address);
  world.runUntilIdle();
  assertEquals(bob.got, ["192.168.1.2:5000 hello"]);
  assertEquals(counted(home.counters), {});
});

Deno.test("Network: the internet takes nothing from private addresses and brings nothing there", () => {
  const { world, server } = internet();
  const odd = world.addHost("odd", { addresses: ["192.0.2.1", "10.0.0.1", "fd00::1", "100.64.0.1"] });
  world.addHost("twin", { addresses: ["192.0.2.2", "10.0.0.1"] }); // everybody may have it
  endpoint(server, "198.51.100.1:1");
  endpoint(server, "[2001:db8:1::1]:1");
  for (const address of ["10.0.0.1:0", "100.64.0.1:0"]) endpoint(odd, address).send("198.51.100.1:1");
  endpoint(odd, "[fd00::1]:0").send("[2001:db8:1::1]:1");
  const from = endpoint(server, "198.51.100.1:0");
  for (const address of ["10.0.0.1:1", "172.16.0.1:1", "169.254.1.1:1", "224.0.0.1:1"]) from.send(address);
  endpoint(server, "[2001:db8:1::1]:0").send("[fd00::1]:1");
  world.runUntilIdle();
  assertEquals(counted(world.counters), { sent: 8, noRoute: 8 });
});

Deno.test("Network: gateways forward no link-local, multicast or unspecified addresses", () => {
  const { world } = internet();
  const home = world.addNat("home", { external: ["203.0.113.1"] });
  const alice = home.addHost("alice", { addresses: ["192.168.1.2", "169.254.7.7", "fe80::1"] });
  const bob = endpoint(home.addHost("bob", { addresses: ["169.254.7.8", "fe80::2"] }), "[fe80::2]:1");
  endpoint(alice, "[fe80::1]:1").send("[fe80::2]:1"); // on the link itself it is good
  endpoint(alice, "[fe80::1]:2").send("[2001:db8:1::1]:1");
  endpoint(alice, "169.254.7.7:2").send("198.51.100.1:1");
  for (const address of ["224.0.0.251:5353", "255.255.255.255:1", "0.0.0.0:1"]) {
    endpoint(alice, "192.168.1.2:0").send(address);
  }
  world.runUntilIdle();
  assertEquals(bob.got, ["[fe80::1]:1 hello"]);
  assertEquals(counted(home.counters), { noRoute: 5 });
});

Deno.test("Network: a NAT behind a carrier's NAT maps twice", () => {
  const { world, server } = internet();
  const carrier = world.addNat("carrier", { external: ["203.0.113.1"], portAllocation: "sequential" });
  const home = carrier.addNat("home", { external: ["100.64.0.7"] });
  const alice = endpoint(home.addHost("alice", { addresses: ["192.168.1.2"] }), "192.168.1.2:5000");
  const far = endpoint(server, "198.51.100.1:3478");
  alice.send(far.address);
  world.runUntilIdle();
  assertEquals(far.got, ["203.0.113.1:1024 hello"]);
  assertEquals(far.times, [4]);
  far.send("203.0.113.1:1024");
  world.runUntilIdle();
  assertEquals(alice.got, ["198.51.100.1:3478 hello"]);
  assertEquals(home.mappings.map(({ internal, external }) => `${internal} ${external}`), [
    "192.168.1.2:5000 100.64.0.7:5000",
  ]);
  assertEquals(carrier.mappings.map(({ internal, external }) => `${internal} ${external}`), [
    "100.64.0.7:5000 203.0.113.1:1024",
  ]);
  assertEquals([counted(home.counters), counted(carrier.counters)], [{ translated: 2 }, { translated: 2 }]);
});

Deno.test("Network: two homes of one carrier meet at its hairpin, or on its inside", () => {
  const { world, server } = internet();
  const carrier = world.addNat("carrier", { external: ["203.0.113.1"], ...NAT_TYPES["full cone"] });
  const [alice, bob] = ["alice", "bob"].map((name, i) => {
    const home = carrier.addNat(`${name}-nat`, { external: [`100.64.0.${i + 1}`], ...NAT_TYPES["full cone"] });
    return endpoint(home.addHost(name, { addresses: ["192.168.1.2"] }), `192.168.1.2:${5000 + i}`);
  });
  const far = endpoint(server, "198.51.100.1:3478");
  alice!.send(far.address);
  bob!.send(far.address);
  world.runUntilIdle();
  alice!.send("203.0.113.1:5001", "by the carrier's address");
  alice!.send("100.64.0.2:5001", "by the home's address");
  world.runUntilIdle();
  // The way around takes two links more: the carrier's inside is nobody's uplink.
  assertEquals(bob!.got, ["203.0.113.1:5000 by the carrier's address", "100.64.0.1:5000 by the home's address"]);
  assertEquals(carrier.counters.hairpinned, 1);
});

Deno.test("Network: a firewall lets in answers only, and translates nothing", () => {
  const filters: [NatBehavior, string[]][] = [
    ["endpoint-independent", ["198.51.100.1:1", "198.51.100.1:2", "198.51.100.2:1"]],
    ["address-dependent", ["198.51.100.1:1", "198.51.100.1:2"]],
    ["address-and-port-dependent", ["198.51.100.1:1"]],
  ];
  for (const [filtering, senders] of filters) {
    const { world, server } = internet();
    const firewall = world.addFirewall("firewall", { filtering });
    const alice = endpoint(firewall.addHost("alice", { addresses: ["203.0.113.5"] }), "203.0.113.5:5000");
    const others = ["198.51.100.1:1", "198.51.100.1:2", "198.51.100.2:1"].map((at) => endpoint(server, at));
    others[0]!.send(alice.address, "uninvited");
    world.runUntilIdle();
    alice.send(others[0]!.address);
    world.runUntilIdle();
    assertEquals(others[0]!.got, ["203.0.113.5:5000 hello"]);
    for (const other of others) other.send(alice.address);
    world.runUntilIdle();
    assertEquals(alice.got, senders.map((sender) => `${sender} hello`));
    assertEquals(counted(firewall.counters), { filtered: 1 + 3 - senders.length });
    assertEquals(firewall.external, []);
  }
});

Deno.test("Network: a firewall forgets as a NAT does", () => {
  const { world, server } = internet();
  const firewall = world.addFirewall("firewall", { mappingLifetime: 30_000 });
  const alice = endpoint(firewall.addHost("alice", { addresses: ["203.0.113.5"] }), "203.0.113.5:5000");
  const far = endpoint(server, "198.51.100.1:1");
  alice.send(far.address);
  world.advance(30_001);
  far.send(alice.address);
  world.runUntilIdle();
  assertEquals(counted(firewall.counters), { expired: 1 });
});

Deno.test("Network: a home without external IPv6 passes IPv6 through its filter, untranslated", () => {
  const { world, server } = internet();
  const home = world.addNat("home", { external: ["203.0.113.1"] });
  const alice = home.addHost("alice", { addresses: ["192.168.1.2", "2001:db8:2::2"] });
  const six = endpoint(alice, "[2001:db8:2::2]:5000");
  const far = endpoint(server, "[2001:db8:1::1]:1");
  far.send(six.address, "uninvited");
  world.runUntilIdle();
  six.send(far.address);
  world.runUntilIdle();
  far.send(six.address);
  world.runUntilIdle();
  assertEquals(far.got, ["[2001:db8:2::2]:5000 hello"]);
  assertEquals(six.got, ["[2001:db8:1::1]:1 hello"]);
  assertEquals(counted(home.counters), { filtered: 1 });
  // Its address is taken in all the internet.
  assertThrows(() => world.addHost("thief", { addresses: ["2001:db8:2::2"] }), Error, 'belongs to "home"');
});

Deno.test("Network: IPv6 through two NATs of IPv4 is found from outside as from inside", () => {
  const { world, server } = internet();
  const open = { filtering: "endpoint-independent" } as const;
  const carrier = world.addNat("carrier", { external: ["203.0.113.1"], ...open });
  const home = carrier.addNat("home", { external: ["100.64.0.1"], ...open });
  const other = carrier.addHost("other", { addresses: ["100.64.0.9", "2001:db8:3::9"] });
  const alice = home.addHost("alice", { addresses: ["192.168.1.2", "2001:db8:2::2"] });
  const six = endpoint(alice, "[2001:db8:2::2]:5000");
  six.send("[2001:db8:1::1]:1");
  world.runUntilIdle();
  endpoint(server, "[2001:db8:1::1]:1").send(six.address);
  endpoint(other, "[2001:db8:3::9]:1").send(six.address);
  world.runUntilIdle();
  assertEquals(six.got, ["[2001:db8:3::9]:1 hello", "[2001:db8:1::1]:1 hello"]);
});

Deno.test("Network: IPv6 is translated where the NAT has IPv6 addresses", () => {
  const { world, server } = internet();
  const home = world.addNat("home", { external: ["203.0.113.1", "2001:db8:5::1"] });
  const alice = home.addHost("alice", { addresses: ["fd00::2"] });
  const far = endpoint(server, "[2001:db8:1::1]:1");
  const six = endpoint(alice, "[fd00::2]:5000");
  six.send(far.address);
  world.runUntilIdle();
  far.send("[2001:db8:5::1]:5000");
  world.runUntilIdle();
  assertEquals(far.got, ["[2001:db8:5::1]:5000 hello"]);
  assertEquals(six.got, ["[2001:db8:1::1]:1 hello"]);
});

Deno.test("Network: where UDP is blocked nothing passes either way, until it is allowed", () => {
  const { world, server } = internet();
  const { host, gateway } = addHostBehind(world, { name: "alice", type: "blocked", external: "203.0.113.1" });
  const alice = endpoint(host, "192.168.1.2:5000");
  const far = endpoint(server, "198.51.100.1:1");
  alice.send(far.address);
  far.send("203.0.113.1:5000");
  world.runUntilIdle();
  assertEquals(counted(gateway!.counters), { blocked: 2 });
  assertEquals(gateway!.udp, "blocked");
  gateway!.udp = "allowed";
  alice.send(far.address);
  world.runUntilIdle();
  assertEquals(far.got, ["203.0.113.1:5000 hello"]);
});

Deno.test("RFC 3489 §10.1: each classic type, told by who can answer", () => {
  const counts = ["none answers", "one answers", "two answer", "all three answer"];
  for (const type of Object.keys(CLASSIC) as ClassicType[]) {
    const { world, server } = internet();
    const { host } = addHostBehind(world, { name: "alice", type, external: "203.0.113.1" });
    const own = host.networkInterfaces[0]!.addresses[0]!;
    const alice = endpoint(host, `${own}:5000`);
    const servers = ["198.51.100.1:1", "198.51.100.1:2", "198.51.100.2:1"].map((at) => endpoint(server, at));
    alice.send(servers[0]!.address);
    world.runUntilIdle();
    const seen = servers[0]!.got[0]?.split(" ")[0];
    if (seen !== undefined) { for (const each of servers) each.send(seen); }
    world.runUntilIdle();
    const answers = counts[alice.got.length]!;
    alice.send(servers[2]!.address);
    world.runUntilIdle();
    const isNew = servers[2]!.got.length > 0 && servers[2]!.got[0]!.split(" ")[0] !== seen;
    const prefix = seen === `${own}:5000` ? "same address, " : isNew ? "mapped anew, " : "";
    assertEquals(prefix + answers, CLASSIC[type], type);
  }
});

Deno.test("Network: a host behind a classic NAT can have a carrier's NAT in front, and options of its own", () => {
  const { world, server } = internet();
  const carrier = world.addNat("carrier", { external: ["203.0.113.1"], portAllocation: "sequential" });
  const { host, gateway } = addHostBehind(carrier, {
    name: "alice",
    type: "symmetric",
    external: "100.64.0.1",
    internal: "10.1.1.1",
    nat: { portAllocation: "sequential", portRange: [7000, 7999] },
    link: { delay: 4 },
  });
  const far = endpoint(server, "198.51.100.1:1");
  endpoint(host, "10.1.1.1:5000").send(far.address);
  world.runUntilIdle();
  assertEquals(gateway!.mappings.map(({ external }) => String(external)), ["100.64.0.1:7000"]);
  assertEquals([far.got, far.times], [["203.0.113.1:1024 hello"], [4 + 4 + 1 + 1]]);
});

Deno.test("Network: whatever is sent wherever, each datagram is accounted for, by the world and by where it happened", () => {
  const types = Object.keys(CLASSIC) as ClassicType[];
  for (let seed = 1; seed <= 20; seed++) {
    const world = new VirtualWorld({ seed, link: { jitter: 3, loss: 0.05, duplicate: 0.05, reorder: 0.05 } });
    const dice = new VirtualWorld({ seed }).addHost("dice", { addresses: ["192.0.2.1"] }).random;
    const carrier = world.addNat("carrier", { external: ["203.0.113.100"], portAllocation: "random" });
    const nodes: { readonly counters: VirtualCounters }[] = [carrier];
    const endpoints = types.flatMap((type, i) => {
      const [network, external] = i % 2 === 0 ? [world, `203.0.113.${i}`] : [carrier, `100.64.0.${i}`];
      const { host, gateway } = addHostBehind(network, { name: `host ${i}`, type, external });
      nodes.push(host, ...gateway === undefined ? [] : [gateway]);
      const own = host.networkInterfaces[0]!.addresses[0]!;
      return [1000, 0].map((port) => endpoint(host, `${own}:${port}`));
    });
    const places = ["203.0.113.100", "100.64.0.1", "192.168.1.2", "10.9.9.9", ...types.map((_, i) => `203.0.113.${i}`)];
    for (let i = 0; i < 500; i++) {
      const to = `${places[randomBelow(dice, places.length)]}:${randomBelow(dice, 2) === 0 ? 1000 : 50_000}`;
      endpoints[randomBelow(dice, endpoints.length)]!.send(to);
      world.advance(randomBelow(dice, 3));
      assertEquals(world.inFlight, inFlight(world.counters));
    }
    world.runUntilIdle();
    assertEquals([world.counters.sent, world.inFlight, inFlight(world.counters)], [500, 0, 0]);
    assertEquals(world.counters.delivered, endpoints.reduce((sum, { got }) => sum + got.length, 0));
    for (const [step, count] of Object.entries(world.counters) as [VirtualStep, number][]) {
      const there = nodes.reduce((sum, { counters }) => sum + counters[step], 0);
      // What has no route in the internet happens at no node.
      if (step !== "noRoute") assertEquals(there, count, step);
    }
  }
});

/** How many must be under way, by what is known of all others. */
function inFlight(counters: Readonly<VirtualCounters>): number {
  const { sent, duplicated, delivered, lost, tooBig, noRoute, noSocket, ...rest } = counters;
  const { blocked, filtered, unmapped, expired, noPort, noHairpin } = rest;
  const gone = delivered + lost + tooBig + noRoute + noSocket + blocked + filtered + unmapped + expired;
  return sent + duplicated - gone - noPort - noHairpin;
}
