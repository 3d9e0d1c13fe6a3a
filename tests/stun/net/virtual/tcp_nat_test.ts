import { assert, assertEquals } from "@std/assert";
import { type NatOptions, VirtualWorld } from "../../../../stun/net/virtual/mod.ts";
import { answer, dial } from "./stream_rig.ts";

const SERVER = "198.51.100.1:3478";
const MINUTE = 60_000;

function behindNat(options: Partial<NatOptions> & { tcp?: "tls only" | "blocked" } = {}) {
  const world = new VirtualWorld({ link: { delay: 10 } });
  const server = world.addHost("server", { addresses: ["198.51.100.1", "198.51.100.2"] });
  const nat = world.addNat("nat", { external: ["203.0.113.1"], ...options });
  const alice = nat.addHost("alice", { addresses: ["192.168.1.2"] });
  return { world, server, nat, alice };
}

Deno.test("RFC 5382 REQ-1: a NAT maps TCP by the endpoint inside, and counts what it translates", () => {
  const { world, server, nat, alice } = behindNat({ mapping: "address-and-port-dependent" });
  const one = answer(server, "198.51.100.1:80");
  const other = answer(server, "198.51.100.2:80");
  const local = { address: "192.168.1.2", port: 5000 };
  const a = dial(alice, "198.51.100.1:80", local);
  dial(alice, "198.51.100.2:80", local);
  world.runUntilIdle();
  assertEquals(a.log, ["60 open"]);
  for (const { ends } of [one, other]) assertEquals(String(ends[0]!.stream!.remoteAddress), "203.0.113.1:5000");
  assertEquals(nat.tcpMappings.map(({ external }) => String(external)), ["203.0.113.1:5000"]);
  assertEquals([nat.mappings.length, nat.counters.translated], [0, 6]);

  const strict = behindNat({ tcpRules: { mapping: "address-and-port-dependent" }, portAllocation: "sequential" });
  const seen = [answer(strict.server, "198.51.100.1:80"), answer(strict.server, "198.51.100.2:80")];
  dial(strict.alice, "198.51.100.1:80", local);
  dial(strict.alice, "198.51.100.2:80", local);
  strict.world.runUntilIdle();
  assertEquals(seen.map(({ ends }) => ends[0]!.stream!.remoteAddress.port), [1024, 1025]);
});

Deno.test("RFC 5382 REQ-3, REQ-4: a SYN that nobody asked for is dropped without an answer, by every filter as it says", () => {
  for (const filtering of ["endpoint-independent", "address-dependent", "address-and-port-dependent"] as const) {
    const { world, server, nat, alice } = behindNat({ tcpRules: { filtering } });
    answer(server, "198.51.100.1:80");
    answer(alice, "192.168.1.2:5000");
    const before = dial(server, "203.0.113.1:5000");
    world.advance(900);
    before.cancel();
    assertEquals(nat.counters.unmapped, 1);
    dial(alice, "198.51.100.1:80", { address: "192.168.1.2", port: 5000 });
    world.advance(1000);
    const sameAddress = dial(server, "203.0.113.1:5000", { address: "198.51.100.1" });
    const otherAddress = dial(server, "203.0.113.1:5000", { address: "198.51.100.2" });
    world.advance(500);
    const isIn = [sameAddress.stream !== undefined, otherAddress.stream !== undefined];
    const expected = { "endpoint-independent": 2, "address-dependent": 1, "address-and-port-dependent": 0 }[filtering];
    assertEquals(isIn.filter(Boolean).length, expected, filtering);
    assertEquals(nat.counters.filtered, 2 - expected);
  }
});

Deno.test("RFC 5382 REQ-2: a simultaneous open gets through two NATs", () => {
  const world = new VirtualWorld({ link: { delay: 10 } });
  const homes = [1, 2].map((i) => world.addNat(`nat${i}`, { external: [`203.0.113.${i}`] }));
  const [a, b] = homes.map((nat, i) => {
    const host = nat.addHost(`host${i}`, { addresses: ["192.168.1.2"] });
    return dial(host, `203.0.113.${2 - i}:5000`, { address: "192.168.1.2", port: 5000 });
  });
  world.runUntilIdle();
  assertEquals([a!.log, b!.log], [["80 open"], ["80 open"]]);
  a!.say("hello");
  world.runUntilIdle();
  assertEquals(b!.log.at(-1), "120 hello");
});

Deno.test("RFC 5382 REQ-5: an open connection may be silent for 2 h 4 min, one that is closed is forgotten after 4 min", () => {
  const { world, server, nat, alice } = behindNat();
  const { ends } = answer(server, SERVER);
  const a = dial(alice, SERVER);
  world.runUntilIdle();
  world.advance(124 * MINUTE - 100);
  ends[0]!.say("in time");
  world.runUntilIdle();
  assertEquals(a.log.at(-1)!.slice(-7), "in time");
  world.advance(124 * MINUTE + 100);
  assertEquals(nat.tcpMappings, []);
  ends[0]!.say("too late");
  world.runUntilIdle();
  assertEquals(ends[0]!.log.at(-1)!.split(" ")[1], "reset");
  assert(nat.counters.expired > 0);
  // The NAT knows of no connection, so nothing of it leaves.
  a.say("me too");
  world.runUntilIdle();
  assertEquals(a.log.at(-1)!.split(" ")[1], "reset");
  assert(nat.counters.unmapped > 0);

  const b = dial(alice, SERVER);
  world.runUntilIdle();
  b.stream!.close();
  ends[1]!.stream!.close();
  world.advance(1000);
  assertEquals(nat.tcpMappings.length, 1);
  world.advance(4 * MINUTE);
  assertEquals(nat.tcpMappings, []);
});

Deno.test("A NAT that starts anew breaks connections; new ones get through", () => {
  const { world, server, nat, alice } = behindNat();
  const { ends } = answer(server, SERVER);
  const a = dial(alice, SERVER);
  world.runUntilIdle();
  nat.reset();
  a.say("hello?");
  world.runUntilIdle();
  assertEquals(a.log.at(-1)!.split(" ")[1], "reset");
  dial(alice, SERVER);
  world.runUntilIdle();
  assertEquals(ends.length, 2);
});

Deno.test("RFC 5382 REQ-8: two hosts behind one NAT connect by its outside address", () => {
  const { world, nat, alice } = behindNat({ tcpRules: { filtering: "endpoint-independent" } });
  const bob = nat.addHost("bob", { addresses: ["192.168.1.3"] });
  const server = answer(world.addHost("other", { addresses: ["198.51.100.9"] }), "198.51.100.9:80");
  const { ends } = answer(bob, "192.168.1.3:5000");
  dial(bob, "198.51.100.9:80", { address: "192.168.1.3", port: 5000 });
  world.runUntilIdle();
  assertEquals(server.ends.length, 1);
  const a = dial(alice, "203.0.113.1:5000");
  world.runUntilIdle();
  assertEquals(a.stream?.remoteAddress.toString(), "203.0.113.1:5000");
  assertEquals(ends[0]!.stream!.remoteAddress.address, "203.0.113.1");
});

Deno.test("A gateway lets all TCP through, only to port 443, or none; UDP is another matter", () => {
  const outcome = (tcp?: "tls only" | "blocked") => {
    const { world, server, nat, alice } = behindNat({ ...(tcp && { tcp }) });
    nat.udp = "blocked";
    answer(server, "198.51.100.1:80");
    answer(server, "198.51.100.1:443");
    const both = [dial(alice, "198.51.100.1:80"), dial(alice, "198.51.100.1:443")];
    world.advance(500);
    return [...both.map(({ stream }) => stream !== undefined), nat.counters.blocked];
  };
  assertEquals(outcome(), [true, true, 0]);
  assertEquals(outcome("tls only"), [false, true, 1]);
  assertEquals(outcome("blocked"), [false, false, 2]);
});
