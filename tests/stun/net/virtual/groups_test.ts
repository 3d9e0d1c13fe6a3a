import { assertEquals, assertThrows } from "@std/assert";
import { TransportAddress } from "../../../../stun/address.ts";
import { OpenError, PacketBatch } from "../../../../stun/net/transport.ts";
import { type VirtualHost, VirtualWorld } from "../../../../stun/net/virtual/mod.ts";
import { counted } from "./rig.ts";

const GROUP = "224.0.0.251";

/** A socket in the group, what it got, and how to send. */
function member(host: VirtualHost, address: string, group = GROUP) {
  const got: string[] = [];
  const socket = host.openGroup({ transport: "udp", address, port: 5353, group }, (batch) => {
    got.push(`${batch.addresses[0]} at ${host.now()}`);
  });
  const send = (to: string) => {
    const batch = new PacketBatch(1);
    batch.push(TransportAddress.parse(to), new Uint8Array(5), 0, 5);
    socket.send(batch);
  };
  return { socket, got, send };
}

Deno.test("Groups: what is sent to one reaches its members in the network, this host's too, and nobody else", () => {
  const world = new VirtualWorld({ link: { delay: 10 } });
  const home = world.addNat("home", { external: ["203.0.113.1"] });
  const [a, b, c] = ["a", "b", "c"].map((name, i) => home.addHost(name, { addresses: [`192.168.1.${i + 2}`] }));
  const other = world.addNat("other", { external: ["203.0.113.2"] }).addHost("d", { addresses: ["192.168.1.2"] });
  const one = member(a!, "192.168.1.2");
  const [two, twin] = [member(b!, "192.168.1.3"), member(b!, "192.168.1.3")];
  const elsewhere = member(other, "192.168.1.2");
  const another = member(c!, "192.168.1.4", "224.0.0.252");
  one.send(`${GROUP}:5353`);
  one.send(`${GROUP}:5354`);
  world.runUntilIdle();
  assertEquals(one.got, ["192.168.1.2:5353 at 0"]);
  assertEquals([two.got, twin.got], [["192.168.1.2:5353 at 20"], ["192.168.1.2:5353 at 20"]]);
  assertEquals([elsewhere.got, another.got], [[], []]);
  assertEquals([counted(a!.counters), counted(b!.counters)], [{ sent: 2, delivered: 1 }, { delivered: 2 }]);
  assertEquals([counted(c!.counters), counted(home.counters)], [{}, { noRoute: 1 }]);
  assertEquals(world.inFlight, 0);
});

Deno.test("Groups: what is sent to a member's own address gets there; of several on a host the latest has it", () => {
  const world = new VirtualWorld({ link: { delay: 10 } });
  const home = world.addNat("home", { external: ["203.0.113.1"] });
  const [a, b] = ["a", "b"].map((name, i) => home.addHost(name, { addresses: [`192.168.1.${i + 2}`] }));
  const one = member(a!, "192.168.1.2");
  const [two, twin] = [member(b!, "192.168.1.3"), member(b!, "192.168.1.3")];
  one.send("192.168.1.3:5353");
  world.runUntilIdle();
  twin.socket.close();
  one.send("192.168.1.3:5353");
  world.runUntilIdle();
  two.socket.close();
  one.send("192.168.1.3:5353");
  world.runUntilIdle();
  assertEquals([two.got.length, twin.got.length, b!.counters.noSocket], [1, 1, 1]);
});

Deno.test("Groups: on loopback they stay on the host, and in the public internet there are none", () => {
  const world = new VirtualWorld();
  const a = world.addHost("a", { addresses: ["198.51.100.1"] });
  const b = world.addHost("b", { addresses: ["198.51.100.2"] });
  const [inside, outside, far] = [member(a, "127.0.0.1"), member(a, "198.51.100.1"), member(b, "198.51.100.2")];
  inside.send(`${GROUP}:5353`);
  world.runUntilIdle();
  assertEquals([inside.got, outside.got, far.got], [["127.0.0.1:5353 at 0"], [], []]);
  outside.send(`${GROUP}:5353`);
  world.runUntilIdle();
  assertEquals([outside.got.length, far.got], [1, []]);
  assertThrows(() => member(a, "192.0.2.9"), OpenError, "has no such address");
});

Deno.test("Groups: IPv6, where link-local addresses are members as any", () => {
  const world = new VirtualWorld();
  const home = world.addFirewall("home");
  const a = home.addHost("a", { addresses: ["fe80::1", "2001:db8::1"] });
  const b = home.addHost("b", { addresses: ["fe80::2"] });
  const [one, two] = [member(a, "fe80::1", "ff02::fb"), member(b, "fe80::2", "ff02::fb")];
  one.send("[ff02::fb]:5353");
  world.runUntilIdle();
  assertEquals([one.got, two.got], [["[fe80::1]:5353 at 0"], ["[fe80::1]:5353 at 2"]]);
});
