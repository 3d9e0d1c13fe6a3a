import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { OpenFailure } from "../../../../stun/machine.ts";
import { HEADROOM, OpenError, PacketBatch } from "../../../../stun/net/transport.ts";
import { type VirtualHost, VirtualWorld } from "../../../../stun/net/virtual/mod.ts";
import { TransportAddress } from "../../../../stun/address.ts";
import { counted, endpoint } from "./rig.ts";

function scene() {
  const world = new VirtualWorld({ seed: 1 });
  const a = world.addHost("a", { addresses: ["192.0.2.1", "192.0.2.11", "2001:db8::1"] });
  const b = world.addHost("b", { addresses: ["192.0.2.2", "2001:db8::2"] });
  return { world, a, b };
}

function failureOf(host: VirtualHost, address: string, port: number): [OpenFailure, string] {
  const error = assertThrows(() => host.openDatagram({ transport: "udp", address, port }, () => {}), OpenError);
  return [error.failure, error.message];
}

Deno.test("Host: ephemeral ports are random ones from 49152 up, by the host's seed", () => {
  const ports = () => {
    const { a } = scene();
    return Array.from({ length: 5 }, () => endpoint(a, "192.0.2.1:0").address.port);
  };
  assertEquals(ports(), [49700, 64321, 52181, 51136, 63952]);
  assertEquals(ports(), ports());
});

Deno.test("Host: all 16384 ephemeral ports of an address can be had, and no more", () => {
  const { a } = scene();
  const ports = new Set(Array.from({ length: 16_384 }, () => endpoint(a, "192.0.2.1:0").address.port));
  assertEquals([ports.size, Math.min(...ports), Math.max(...ports)], [16_384, 49_152, 65_535]);
  assertEquals(failureOf(a, "192.0.2.1", 0), [
    "address-in-use",
    'Cannot bind UDP 192.0.2.1 port 0 on "a" as no port is free',
  ]);
  endpoint(a, "192.0.2.11:0");
});

Deno.test("Host: a port belongs to one socket of one address, until it is closed", () => {
  const { a } = scene();
  const first = endpoint(a, "192.0.2.1:5000");
  endpoint(a, "192.0.2.11:5000");
  endpoint(a, "[2001:db8::1]:5000");
  assertEquals(failureOf(a, "192.0.2.1", 5000), [
    "address-in-use",
    'Cannot bind UDP 192.0.2.1 port 5000 on "a" as another socket has it',
  ]);
  first.socket.close();
  first.socket.close();
  endpoint(a, "192.0.2.1:5000");
});

Deno.test("Host: an address that is not the host's and no address at all are refused, each in its words", () => {
  const { a } = scene();
  assertEquals(failureOf(a, "192.0.2.2", 1), [
    "address-not-available",
    'Cannot bind UDP 192.0.2.2 port 1 on "a" as it has no such address',
  ]);
  assertEquals(failureOf(a, "nonsense", 1), ["other", 'Cannot bind UDP nonsense port 1 on "a"']);
  assertEquals(failureOf(a, "192.0.2.1", 70_000)[0], "other");
});

Deno.test("Host: a socket bound to all addresses gets what comes for any, and sends from the first", () => {
  const { world, a, b } = scene();
  const all = endpoint(a, "0.0.0.0:7");
  const six = endpoint(a, "[::]:7");
  const one = endpoint(b, "192.0.2.2:1");
  for (const to of ["192.0.2.1:7", "192.0.2.11:7"]) one.send(to);
  endpoint(b, "[2001:db8::2]:1").send("[2001:db8::1]:7");
  all.send(one.address);
  all.send("127.0.0.1:7"); // itself
  all.send("192.0.2.11:7");
  all.send("[2001:db8::2]:1"); // another family
  world.runUntilIdle();
  assertEquals(all.got, [
    "127.0.0.1:7 hello",
    "192.0.2.11:7 hello",
    "192.0.2.2:1 hello",
    "192.0.2.2:1 hello",
  ]);
  assertEquals([six.got, one.got], [["[2001:db8::2]:1 hello"], ["192.0.2.1:7 hello"]]);
  assertEquals(String(all.address), "0.0.0.0:7");
  assertEquals(all.socket.sendErrors, 1);
});

Deno.test("Host: a socket bound to all addresses sends from a link-local one to link-local ones only", () => {
  const { world, b } = scene();
  const c = world.addHost("c", { addresses: ["fe80::3", "2001:db8::3"] });
  const all = endpoint(c, "[::]:7");
  const far = endpoint(b, "[2001:db8::2]:1");
  all.send(far.address);
  all.send("[fe80::9]:1");
  const sources: string[] = [];
  world.trace = ({ step, source }) => step === "noRoute" && sources.push(String(source));
  world.runUntilIdle();
  assertEquals(far.got, ["[2001:db8::3]:7 hello"]);
  assertEquals(sources, ["[fe80::3]:7"]);
});

Deno.test("Host: a socket bound to all addresses shares its port with none of its family", () => {
  const { a } = scene();
  const all = endpoint(a, "0.0.0.0:7");
  assertEquals(failureOf(a, "192.0.2.1", 7)[0], "address-in-use");
  endpoint(a, "[2001:db8::1]:7");
  all.socket.close();
  const [one, other] = ["192.0.2.1:7", "192.0.2.11:7"].map((address) => endpoint(a, address));
  one!.socket.close();
  assertEquals(failureOf(a, "0.0.0.0", 7)[0], "address-in-use");
  other!.socket.close();
  endpoint(a, "0.0.0.0:7");
  const port = endpoint(a, "0.0.0.0:0").address.port;
  assert(port >= 49152);
});

Deno.test("Host: interfaces() has the loopback addresses and those of each interface", () => {
  const { world, a } = scene();
  const home = world.addNat("home", { external: ["203.0.113.1"] });
  home.join(a, { addresses: ["192.168.1.7"], interfaceName: "wlan0" });
  assertEquals(a.interfaces(), [
    { name: "lo", address: "127.0.0.1" },
    { name: "lo", address: "::1" },
    { name: "eth0", address: "192.0.2.1" },
    { name: "eth0", address: "192.0.2.11" },
    { name: "eth0", address: "2001:db8::1" },
    { name: "wlan0", address: "192.168.1.7" },
  ]);
});

Deno.test("Host: datagrams to an own address never leave the host and take no time", () => {
  const { world, a } = scene();
  a.link.set({ loss: 1 });
  const loopback = endpoint(a, "127.0.0.1:1");
  const own = endpoint(a, "192.0.2.1:1");
  own.send("127.0.0.1:1");
  own.send("192.0.2.1:1");
  loopback.send("192.0.2.1:1");
  endpoint(a, "[::1]:1").send("[2001:db8::1]:1");
  loopback.send("127.0.0.2:1");
  assertEquals(own.got, [], "nothing arrives inside send()");
  world.runUntilIdle();
  assertEquals(world.now, 0);
  assertEquals(loopback.got, ["192.0.2.1:1 hello"]);
  assertEquals(own.got, ["192.0.2.1:1 hello", "127.0.0.1:1 hello"]);
  assertEquals(counted(a.counters), { sent: 5, delivered: 3, noSocket: 2 });
});

Deno.test("Host: what can not be sent is a send error, and dropped", () => {
  const { world, a, b } = scene();
  const to = endpoint(b, "192.0.2.2:1");
  const from = endpoint(a, "192.0.2.1:1");
  from.send("[2001:db8::2]:1"); // another family
  from.send("192.0.2.2:0"); // no port
  from.send(to.address, "x".repeat(65_508)); // above MAX_DATAGRAM
  assertEquals(from.socket.sendErrors, 3);
  const loopback = endpoint(a, "127.0.0.1:1");
  loopback.send(to.address); // from an address that stays inside
  assertEquals(loopback.socket.sendErrors, 1);
  from.send(to.address, "x".repeat(65_507));
  world.runUntilIdle();
  assertEquals(to.got.map((line) => line.length), ["192.0.2.1:1 ".length + 65_507]);
  assertEquals(counted(a.counters), { sent: 5, noRoute: 3, tooBig: 1 });
});

Deno.test("Host: a closed socket sends nothing and gets nothing", () => {
  const { world, a, b } = scene();
  const from = endpoint(a, "192.0.2.1:1");
  const to = endpoint(b, "192.0.2.2:1");
  from.send(to.address, "under way as the sender closes");
  from.socket.close();
  from.send(to.address, "too late");
  world.runUntilIdle();
  assertEquals(to.got, ["192.0.2.1:1 under way as the sender closes"]);
  to.send(from.address);
  world.runUntilIdle();
  assertEquals(counted(world.counters), { sent: 2, delivered: 1, noSocket: 1 });
});

Deno.test("Host: datagrams are copied as they are sent, and overwritten once they were received", () => {
  const { world, a, b } = scene();
  let kept: Uint8Array | undefined;
  b.openDatagram({ transport: "udp", address: "192.0.2.2", port: 1 }, (batch) => {
    assertEquals([batch.length, batch.offsets[0], batch.lengths[0]], [1, HEADROOM, 3]);
    kept = batch.buffers[0]!.subarray(HEADROOM, HEADROOM + 3);
    assertEquals([...kept], [1, 2, 3]);
    batch.buffers[0]!.fill(9, 0, HEADROOM); // a ChannelData header may be written there
  });
  const socket = a.openDatagram({ transport: "udp", address: "192.0.2.1", port: 1 }, () => {});
  const batch = new PacketBatch(2);
  const bytes = new Uint8Array([0, 1, 2, 3, 4]);
  batch.push(TransportAddress.parse("192.0.2.2:1"), bytes, 1, 3);
  socket.send(batch);
  bytes.fill(7);
  world.runUntilIdle();
  assert(kept !== undefined);
  assert(kept.every((byte) => byte === 0xdd), "a view that was kept shows that it should not have been");
});

Deno.test("Host: a duplicate has memory of its own", () => {
  const { world, a, b } = scene();
  b.link.down.set({ duplicate: 1 });
  const seen: number[] = [];
  b.openDatagram({ transport: "udp", address: "192.0.2.2", port: 1 }, (batch) => {
    seen.push(batch.buffers[0]![HEADROOM]!);
    batch.buffers[0]!.fill(0);
  });
  endpoint(a, "192.0.2.1:1").send("192.0.2.2:1", "A");
  world.runUntilIdle();
  assertEquals(seen, [65, 65]);
});

Deno.test("Host: an address change under way leaves old sockets deaf and dumb", () => {
  const { world, a, b } = scene();
  const [eth0] = a.networkInterfaces;
  const old = endpoint(a, "192.0.2.1:1");
  const peer = endpoint(b, "192.0.2.2:1");
  peer.send(old.address); // under way
  eth0!.setAddresses(["192.0.2.100"]);
  assertEquals(eth0!.addresses, ["192.0.2.100"]);
  old.send(peer.address);
  peer.send(old.address);
  assertEquals(old.socket.sendErrors, 1);
  world.runUntilIdle();
  assertEquals(counted(world.counters), { sent: 3, noRoute: 3 });

  endpoint(a, "192.0.2.100:1").send(peer.address);
  eth0!.setAddresses(["192.0.2.1"]);
  old.send(peer.address, "back again");
  world.runUntilIdle();
  assertEquals(peer.got, ["192.0.2.100:1 hello", "192.0.2.1:1 back again"]);
  assertThrows(
    () => eth0!.setAddresses(["192.0.2.3", "192.0.2.2"]),
    Error,
    'Cannot give 192.0.2.2 to "a" as it belongs to "b"',
  );
  assertEquals(eth0!.addresses, ["192.0.2.1"], "all of them or none");
});

Deno.test("Host: a socket's address tells the interface its datagrams leave by", () => {
  const { world, b } = scene();
  const home = world.addNat("home", { external: ["203.0.113.1"] });
  const phone = home.addHost("phone", { addresses: ["192.168.1.7"], interfaceName: "wlan0" });
  const cellular = world.addNat("carrier", { external: ["203.0.113.2"] });
  const wwan = cellular.join(phone, { addresses: ["10.0.0.7"], interfaceName: "wwan0", link: { delay: 50 } });
  const peer = endpoint(b, "192.0.2.2:1");
  endpoint(phone, "192.168.1.7:1000").send(peer.address);
  endpoint(phone, "10.0.0.7:2000").send(peer.address);
  world.runUntilIdle();
  assertEquals(peer.got, ["203.0.113.1:1000 hello", "203.0.113.2:2000 hello"]);
  assertEquals(peer.times, [3, 52]);
  wwan.setAddresses([]);
  assertEquals(phone.interfaces().map(({ address }) => address), ["127.0.0.1", "::1", "192.168.1.7"]);
});

Deno.test("Host: names are the world's", async () => {
  const { world, a } = scene();
  world.names.set("turn.example.org", ["198.51.100.1", "2001:db8::3478"]);
  assertEquals(await a.resolve("TURN.example.org"), ["198.51.100.1", "2001:db8::3478"]);
  assertEquals(await a.resolve("192.0.2.7"), ["192.0.2.7"]);
  assertEquals(await a.resolve("[2001:db8::7]"), ["2001:db8::7"]);
  assertEquals(await a.resolve("localhost"), ["127.0.0.1", "::1"]);
  await assertRejects(() => a.resolve("unknown.example.org"), Error, 'Cannot find name "unknown.example.org"');
});

Deno.test("Host: alarms ring once, at their time, in the order they were set; a new setting replaces the old", () => {
  const { world, a, b } = scene();
  const rung: string[] = [];
  const alarm = (host: VirtualHost, name: string) => host.createTimer(() => rung.push(`${name} ${world.now}`));
  const [one, two, three, four] = ["one", "two", "three", "four"].map((name, i) => alarm(i < 2 ? a : b, name));
  one!.set(20);
  two!.set(10);
  three!.set(10);
  four!.set(10);
  four!.set(Infinity);
  one!.set(30);
  two!.set(10); // as it is: keeps its place
  world.advance(25);
  assertEquals(rung, ["two 10", "three 10"]);
  two!.set(3); // in the past: at once
  world.advance(100);
  assertEquals(rung, ["two 10", "three 10", "two 25", "one 30"]);
  assertThrows(() => one!.set(NaN), RangeError, "not a number");
  world.runUntilIdle();
});

Deno.test("Host: randomness is the name's, and unlike another's", () => {
  const draw = (host: VirtualHost) => {
    const bytes = new Uint8Array(11);
    host.random.fill(bytes);
    return String(bytes);
  };
  const { a, b } = scene();
  const first = draw(a);
  assertEquals(first, draw(scene().a));
  assert(first !== draw(a) && first !== draw(b));
  const count = new Array(256).fill(0);
  const bytes = new Uint8Array(256_000);
  a.random.fill(bytes);
  for (const byte of bytes) count[byte]++;
  assert(Math.min(...count) > 850 && Math.max(...count) < 1150, "no byte is much more frequent than others");
});

Deno.test("Host: names and addresses are unique, and free again after a refusal", () => {
  const { world } = scene();
  assertThrows(() => world.addHost("a", { addresses: ["192.0.2.50"] }), Error, 'Cannot add "a"');
  assertThrows(
    () => world.addHost("c", { addresses: ["192.0.2.50", "192.0.2.1"] }),
    Error,
    'Cannot give 192.0.2.1 to "c"',
  );
  assertThrows(() => world.addHost("c", { addresses: [] }), RangeError, "no address");
  assertThrows(() => world.addHost("c", { addresses: ["example.org"] }), SyntaxError, "example.org");
  world.addHost("c", { addresses: ["192.0.2.50"] });
});
