import { assertEquals, assertThrows } from "@std/assert";
import { TransportAddress } from "../../../../stun/address.ts";
import {
  NAT_TYPES,
  type NatBehavior,
  type NatOptions,
  type VirtualGateway,
  type VirtualHost,
  VirtualWorld,
} from "../../../../stun/net/virtual/mod.ts";
import { counted, type Endpoint, endpoint } from "./rig.ts";

const BEHAVIORS: NatBehavior[] = ["endpoint-independent", "address-dependent", "address-and-port-dependent"];
const MINUTE = 60_000;

interface Scene {
  readonly world: VirtualWorld;
  readonly nat: VirtualGateway;
  readonly alice: VirtualHost;
  /** Two ports on each of two addresses outside: `a1`, `a2` at 198.51.100.1, `b1`, `b2` at 198.51.100.2. */
  readonly servers: Record<"a1" | "a2" | "b1" | "b2", Endpoint>;
}

function scene(options: Partial<NatOptions> = {}): Scene {
  const world = new VirtualWorld({ seed: 1 });
  const server = world.addHost("server", { addresses: ["198.51.100.1", "198.51.100.2"] });
  const nat = world.addNat("nat", { external: ["203.0.113.1"], ...options });
  const alice = nat.addHost("alice", { addresses: ["192.168.1.2"] });
  const servers = {
    a1: endpoint(server, "198.51.100.1:1001"),
    a2: endpoint(server, "198.51.100.1:1002"),
    b1: endpoint(server, "198.51.100.2:1001"),
    b2: endpoint(server, "198.51.100.2:1002"),
  };
  return { world, nat, alice, servers };
}

/** How the servers saw alice's socket, one after the other. */
function seenBy({ world, servers }: Scene, from: Endpoint): string[] {
  return Object.values(servers).map((server) => {
    server.got.length = 0;
    from.send(server.address);
    world.runUntilIdle();
    return server.got[0]!.split(" ")[0]!;
  });
}

for (const mapping of BEHAVIORS) {
  Deno.test(`RFC 4787 §4.1: ${mapping} mapping`, () => {
    const rig = scene({ mapping, portAllocation: "sequential" });
    const [a1, a2, b1, b2] = seenBy(rig, endpoint(rig.alice, "192.168.1.2:5000"));
    const first = "203.0.113.1:1024";
    assertEquals(a1, first);
    // To the first address another port, then another address with each of the ports.
    const expected = {
      "endpoint-independent": [first, first, first],
      "address-dependent": [first, "203.0.113.1:1025", "203.0.113.1:1025"],
      "address-and-port-dependent": ["203.0.113.1:1025", "203.0.113.1:1026", "203.0.113.1:1027"],
    };
    assertEquals([a2, b1, b2], expected[mapping]);
    assertEquals(rig.nat.mappings.length, new Set([a1, a2, b1, b2]).size);
    assertEquals(rig.nat.mappingsCreated, rig.nat.mappings.length);
  });

  for (const filtering of BEHAVIORS) {
    Deno.test(`RFC 4787 §5: ${filtering} filtering of an ${mapping} mapping`, () => {
      const { world, nat, alice, servers: { a1, a2, b1 } } = scene({ mapping, filtering });
      const socket = endpoint(alice, "192.168.1.2:5000");
      socket.send(a1.address);
      world.runUntilIdle();
      for (const sender of [a1, a2, b1]) sender.send("203.0.113.1:5000");
      world.runUntilIdle();
      const senders = {
        "endpoint-independent": ["198.51.100.1:1001", "198.51.100.1:1002", "198.51.100.2:1001"],
        "address-dependent": ["198.51.100.1:1001", "198.51.100.1:1002"],
        "address-and-port-dependent": ["198.51.100.1:1001"],
      }[filtering];
      assertEquals(socket.got, senders.map((sender) => `${sender} hello`));
      assertEquals(nat.counters.filtered, 3 - senders.length);
      assertEquals(world.counters.delivered, 1 + senders.length);
    });
  }
}

Deno.test("RFC 4787 §5: what was sent through one mapping opens no other one", () => {
  const { world, nat, alice, servers: { a1, b1 } } = scene({ ...NAT_TYPES.symmetric, portAllocation: "sequential" });
  const socket = endpoint(alice, "192.168.1.2:5000");
  socket.send(a1.address);
  socket.send(b1.address);
  world.runUntilIdle();
  a1.send("203.0.113.1:1025");
  b1.send("203.0.113.1:1024");
  world.runUntilIdle();
  assertEquals(socket.got, []);
  assertEquals(counted(nat.counters), { translated: 2, filtered: 2 });
});

Deno.test("RFC 4787 §5: nothing comes in where there is no mapping", () => {
  const { world, nat, servers: { a1 } } = scene({ filtering: "endpoint-independent" });
  a1.send("203.0.113.1:5000");
  world.runUntilIdle();
  assertEquals(counted(nat.counters), { unmapped: 1 });
});

Deno.test("RFC 4787 REQ-5: a mapping lasts as long as it is set to after the last datagram out, and no longer", () => {
  const { world, nat, alice, servers: { a1 } } = scene({ mappingLifetime: 2 * MINUTE });
  const socket = endpoint(alice, "192.168.1.2:5000");
  socket.send(a1.address);
  world.advance(1); // one link: it is at the NAT now
  const [mapping] = nat.mappings;
  assertEquals(mapping!.expiresAt, 2 * MINUTE + 1);

  a1.send("203.0.113.1:5000");
  world.advance(2); // at the NAT, in time
  world.advanceTo(mapping!.expiresAt - 3);
  a1.send("203.0.113.1:5000"); // reaches the NAT a millisecond too early to be late
  world.advance(1);
  a1.send("203.0.113.1:5000"); // and this one as it ends
  world.runUntilIdle();
  assertEquals(socket.got.length, 2);
  assertEquals(counted(nat.counters), { translated: 3, expired: 1 });
  assertEquals(nat.mappings, []);
});

Deno.test("RFC 4787 REQ-6: datagrams out refresh a mapping, datagrams in do not", () => {
  const { world, nat, alice, servers: { a1 } } = scene({ mappingLifetime: 2 * MINUTE });
  const socket = endpoint(alice, "192.168.1.2:5000");
  for (let i = 0; i < 5; i++) {
    socket.send(a1.address);
    world.advance(MINUTE);
  }
  assertEquals(nat.mappingsCreated, 1);
  for (let i = 0; i < 5; i++) {
    a1.send("203.0.113.1:5000");
    world.advance(MINUTE);
  }
  // The last one out was a minute before the first one in.
  assertEquals(socket.got.length, 1);
  assertEquals(counted(nat.counters), { translated: 6, expired: 4 });
});

Deno.test("RFC 4787 REQ-6a: datagrams in refresh a mapping where that is switched on, if they pass the filter", () => {
  const { world, nat, alice, servers: { a1, b1 } } = scene({ mappingLifetime: 2 * MINUTE, inboundRefresh: true });
  const socket = endpoint(alice, "192.168.1.2:5000");
  socket.send(a1.address);
  for (let i = 0; i < 5; i++) {
    world.advance(MINUTE);
    a1.send("203.0.113.1:5000");
  }
  world.runUntilIdle();
  assertEquals(socket.got.length, 5);
  for (let i = 0; i < 5; i++) {
    world.advance(MINUTE);
    b1.send("203.0.113.1:5000");
  }
  world.runUntilIdle();
  assertEquals(counted(nat.counters), { translated: 6, filtered: 1, expired: 4 });
});

Deno.test("RFC 4787 §4.3: the permission of each endpoint ends on its own, the mapping with the last datagram out", () => {
  const { world, nat, alice, servers: { a1, b1 } } = scene({ mappingLifetime: 2 * MINUTE });
  const socket = endpoint(alice, "192.168.1.2:5000");
  socket.send(a1.address);
  world.advance(MINUTE);
  socket.send(b1.address);
  world.advance(MINUTE + 10);
  a1.send("203.0.113.1:5000");
  b1.send("203.0.113.1:5000");
  world.runUntilIdle();
  assertEquals(socket.got, ["198.51.100.2:1001 hello"]);
  assertEquals(counted(nat.counters), { translated: 3, filtered: 1 });
});

Deno.test("RFC 4787 §4.3: after a mapping has expired there is a new one", () => {
  const rig = scene({ portAllocation: "sequential", mappingLifetime: MINUTE });
  const socket = endpoint(rig.alice, "192.168.1.2:5000");
  assertEquals(seenBy(rig, socket)[0], "203.0.113.1:1024");
  rig.world.advance(MINUTE);
  assertEquals(seenBy(rig, socket)[0], "203.0.113.1:1025");
  assertEquals(rig.nat.mappings.map(({ internal, external }) => `${internal} ${external}`), [
    "192.168.1.2:5000 203.0.113.1:1025",
  ]);
});

Deno.test("RFC 4787 §4.2.1: preserving takes the internal port, or the next free one above", () => {
  const rig = scene({ portAllocation: "preserving" });
  const bob = rig.nat.addHost("bob", { addresses: ["192.168.1.3"] });
  assertEquals(seenBy(rig, endpoint(rig.alice, "192.168.1.2:5000"))[0], "203.0.113.1:5000");
  assertEquals(seenBy(rig, endpoint(bob, "192.168.1.3:5000"))[0], "203.0.113.1:5001");
  assertEquals(seenBy(rig, endpoint(bob, "192.168.1.3:65535"))[0], "203.0.113.1:65535");
  assertEquals(seenBy(rig, endpoint(rig.alice, "192.168.1.2:65535"))[0], "203.0.113.1:1024");
});

Deno.test("RFC 4787 REQ-3a: preserving keeps well-known ports among themselves", () => {
  const rig = scene({ portAllocation: "preserving" });
  const bob = rig.nat.addHost("bob", { addresses: ["192.168.1.3"] });
  assertEquals(seenBy(rig, endpoint(rig.alice, "192.168.1.2:1023"))[0], "203.0.113.1:1023");
  assertEquals(seenBy(rig, endpoint(bob, "192.168.1.3:1023"))[0], "203.0.113.1:1");
});

Deno.test("RFC 4787 §4.2.1: sequential adds its step, past ports in use and around the end", () => {
  const rig = scene({ ...NAT_TYPES.symmetric, portAllocation: "sequential", portStep: 3, portRange: [2000, 2009] });
  assertEquals(
    seenBy(rig, endpoint(rig.alice, "192.168.1.2:5000")).map((address) => address.split(":")[1]),
    ["2000", "2003", "2006", "2009"],
  );
  assertEquals(
    seenBy(rig, endpoint(rig.alice, "192.168.1.2:5001")).map((address) => address.split(":")[1]),
    ["2002", "2005", "2008", "2001"],
  );
});

Deno.test("RFC 4787 §4.2.1: random ports are in the range, differ, and follow the seed", () => {
  const options: Partial<NatOptions> = { ...NAT_TYPES.symmetric, portAllocation: "random", portRange: [40000, 40999] };
  const ports = () => {
    const rig = scene(options);
    const socket = endpoint(rig.alice, "192.168.1.2:5000");
    return seenBy(rig, socket).map((address) => Number(address.split(":")[1]));
  };
  assertEquals(ports(), [40758, 40739, 40325, 40552]);
  assertEquals(ports(), ports());
});

Deno.test("RFC 4787 REQ-3: ports are never shared; with none free a datagram is dropped until one expires", () => {
  for (const portAllocation of ["preserving", "sequential", "random"] as const) {
    const { world, nat, alice, servers: { a1 } } = scene({ portAllocation, portRange: [3000, 3002] });
    const sockets = [5000, 5001, 5002, 5003].map((port) => endpoint(alice, `192.168.1.2:${port}`));
    for (const socket of sockets) socket.send(a1.address);
    world.runUntilIdle();
    assertEquals(new Set(nat.mappings.map(({ external }) => external.port)), new Set([3000, 3001, 3002]));
    assertEquals(counted(nat.counters), { translated: 3, noPort: 1 });
    world.advance(120_000);
    sockets[3]!.send(a1.address);
    world.runUntilIdle();
    assertEquals(nat.mappings.map(({ internal }) => internal.port), [5003]);
  }
});

Deno.test("RFC 4787 REQ-2: paired pooling gives all mappings of a host the same address", () => {
  const rig = scene({ external: ["203.0.113.1", "203.0.113.2"], portAllocation: "sequential" });
  const bob = rig.nat.addHost("bob", { addresses: ["192.168.1.3"] });
  const from = (host: VirtualHost, address: string) => seenBy(rig, endpoint(host, address))[0];
  assertEquals(from(rig.alice, "192.168.1.2:5000"), "203.0.113.1:1024");
  assertEquals(from(bob, "192.168.1.3:5000"), "203.0.113.2:1024");
  assertEquals(from(rig.alice, "192.168.1.2:5001"), "203.0.113.1:1025");
  assertEquals(from(bob, "192.168.1.3:5001"), "203.0.113.2:1025");
});

Deno.test("RFC 4787 §4.1: arbitrary pooling picks an address for each mapping", () => {
  const rig = scene({
    external: ["203.0.113.1", "203.0.113.2"],
    mapping: "address-and-port-dependent",
    pooling: "arbitrary",
  });
  const seen = seenBy(rig, endpoint(rig.alice, "192.168.1.2:5000"));
  assertEquals(seen, ["203.0.113.1:5000", "203.0.113.2:5000", "203.0.113.2:5001", "203.0.113.1:5001"]);
});

Deno.test("RFC 4787 REQ-9a: hairpinning shows the external source, and the filter applies", () => {
  const { world, nat, alice, servers: { a1 } } = scene({ filtering: "address-and-port-dependent" });
  const bob = nat.addHost("bob", { addresses: ["192.168.1.3"] });
  const one = endpoint(alice, "192.168.1.2:5000");
  const two = endpoint(bob, "192.168.1.3:6000");
  one.send(a1.address);
  two.send(a1.address);
  world.runUntilIdle();
  one.send("203.0.113.1:6000", "too early"); // opens alice's mapping for bob's
  two.send("203.0.113.1:5000", "to alice");
  one.send("203.0.113.1:6000", "to bob");
  world.runUntilIdle();
  assertEquals(one.got, ["203.0.113.1:6000 to alice"]);
  assertEquals(two.got, ["203.0.113.1:5000 to bob"]);
  assertEquals(counted(nat.counters), { translated: 2, filtered: 1, hairpinned: 2 });
});

Deno.test("RFC 4787 §6: hairpinning can show the internal source, or be missing", () => {
  for (const hairpinning of ["internal-source", "none"] as const) {
    const { world, nat, alice, servers: { a1 } } = scene({ filtering: "endpoint-independent", hairpinning });
    const bob = nat.addHost("bob", { addresses: ["192.168.1.3"] });
    const two = endpoint(bob, "192.168.1.3:6000");
    two.send(a1.address);
    endpoint(alice, "192.168.1.2:5000").send("203.0.113.1:6000");
    world.runUntilIdle();
    assertEquals(two.got, hairpinning === "none" ? [] : ["192.168.1.2:5000 hello"]);
    assertEquals(
      counted(nat.counters),
      hairpinning === "none" ? { translated: 1, noHairpin: 1 } : { translated: 1, hairpinned: 1 },
    );
  }
});

Deno.test("RFC 4787 §6: a socket reaches itself through its own mapping", () => {
  const { world, nat, alice } = scene();
  const socket = endpoint(alice, "192.168.1.2:5000");
  // The first datagram makes the mapping that it comes back by.
  socket.send("203.0.113.1:5000");
  world.runUntilIdle();
  assertEquals(socket.got, ["203.0.113.1:5000 hello"]);
  assertEquals(counted(nat.counters), { hairpinned: 1 });
});

Deno.test("NAT: a restart or a new external address ends all mappings", () => {
  const rig = scene({ filtering: "endpoint-independent" });
  const socket = endpoint(rig.alice, "192.168.1.2:5000");
  seenBy(rig, socket);
  rig.nat.reset();
  rig.servers.a1.send("203.0.113.1:5000");
  rig.world.runUntilIdle();
  assertEquals(rig.nat.counters.unmapped, 1);

  rig.servers.a1.send("203.0.113.1:5000"); // under way as the address goes
  rig.world.advance(1);
  rig.nat.setExternal(["203.0.113.9"]);
  rig.servers.a1.send("203.0.113.1:5000");
  rig.world.runUntilIdle();
  assertEquals(rig.nat.counters.noRoute, 1);
  assertEquals(rig.world.counters.noRoute, 2);
  assertEquals(seenBy(rig, socket)[0], "203.0.113.9:5000");
  assertEquals(rig.nat.external, ["203.0.113.9"]);
  assertThrows(() => rig.nat.setExternal(["2001:db8::1"]), Error, "families must stay: current families are IPv4");
  assertThrows(() => rig.nat.setExternal(["198.51.100.1"]), Error, 'belongs to "server"');
  assertEquals(rig.nat.external, ["203.0.113.9"]);
});

Deno.test("NAT: options out of range are refused with what would be right", () => {
  const world = new VirtualWorld();
  const add = (options: Partial<NatOptions>) => () => world.addNat("nat", { external: ["203.0.113.1"], ...options });
  assertThrows(add({ mappingLifetime: 0 }), RangeError, "above 0 ms: current value is 0");
  assertThrows(add({ portStep: 0 }), RangeError, "whole number from 1");
  assertThrows(add({ portRange: [2000, 1000] }), RangeError, "lower first: current value is 2000,1000");
  assertThrows(add({ external: ["nonsense"] }), SyntaxError, '"nonsense"');
  add({})(); // the name is still free
});

Deno.test("NAT: 60000 mappings are found as fast as ten", () => {
  const { world, nat, alice, servers: { a1 } } = scene({ ...NAT_TYPES.symmetric, portAllocation: "sequential" });
  const socket = endpoint(alice, "192.168.1.2:5000");
  for (let port = 1; port <= 60_000; port++) socket.send(TransportAddress.of("198.51.100.1", port));
  world.runUntilIdle();
  assertEquals(nat.mappings.length, 60_000);
  assertEquals(a1.got, ["203.0.113.1:2024 hello"]);
  assertEquals(world.counters.noSocket, 59_998);
  assertEquals(nat.counters.noPort, 0);
});
