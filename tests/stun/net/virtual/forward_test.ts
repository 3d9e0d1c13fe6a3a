import { assertEquals } from "@std/assert";
import { VirtualWorld } from "../../../../stun/net/virtual/mod.ts";
import { endpoint } from "./rig.ts";

Deno.test("NAT: a port that is forwarded lets everybody in, whatever the NAT is, and is the source of what goes out", () => {
  const world = new VirtualWorld();
  const nat = world.addNat("home", {
    external: ["203.0.113.1"],
    mapping: "address-and-port-dependent",
    portAllocation: "random",
  });
  const [inside, other] = ["192.168.1.2:5000", "192.168.1.3:5000"].map((address) =>
    endpoint(nat.addHost(address, { addresses: [address.split(":")[0]!] }), address)
  );
  const outside = endpoint(world.addHost("outside", { addresses: ["192.0.2.1"] }), "192.0.2.1:7");
  // A mapping that the NAT has made by itself does not stand in the way.
  inside!.send(outside.address);
  world.runUntilIdle();
  assertEquals(String(nat.forward("192.168.1.2:5000")!.external), "203.0.113.1:5000");
  // Who comes second gets another.
  const second = nat.forward("192.168.1.3:5000", { lifetime: 1000 })!;
  assertEquals([second.external.port === 5000, second.expiresAt], [false, world.now + 1000]);
  outside.send("203.0.113.1:5000");
  outside.send(second.external);
  inside!.send(outside.address);
  other!.send(outside.address);
  world.runUntilIdle();
  assertEquals([inside!.got.length, other!.got.length], [1, 1]);
  assertEquals(outside.got.slice(1), ["203.0.113.1:5000 hello", `${second.external} hello`]);
  world.advance(1001);
  nat.unforward("192.168.1.2:5000");
  outside.send("203.0.113.1:5000");
  outside.send(second.external);
  world.runUntilIdle();
  assertEquals([inside!.got.length, other!.got.length, nat.counters.unmapped, nat.counters.expired], [1, 1, 1, 1]);
  nat.forward("192.168.1.2:5000");
  nat.reset();
  assertEquals(nat.mappings, []);
});
