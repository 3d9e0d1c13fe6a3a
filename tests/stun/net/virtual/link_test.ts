import { assert, assertEquals, assertThrows } from "@std/assert";
import { type LinkOptions, type TraceStep, VirtualWorld } from "../../../../stun/net/virtual/mod.ts";
import { counted, endpoint } from "./rig.ts";

/** Two hosts in the open; only a's way up is other than instant. */
function scene(options: LinkOptions, seed = 1) {
  const world = new VirtualWorld({ seed, link: { delay: 0 } });
  const a = world.addHost("a", { addresses: ["192.0.2.1"] });
  const b = world.addHost("b", { addresses: ["192.0.2.2"] });
  a.link.up.set(options);
  return { world, a, b, from: endpoint(a, "192.0.2.1:1000"), to: endpoint(b, "192.0.2.2:2000") };
}

/** Sends `count` numbered datagrams, one each millisecond. Gives the numbers in the order of arrival. */
function stream({ world, from, to }: ReturnType<typeof scene>, count: number): number[] {
  for (let i = 0; i < count; i++) {
    from.send(to.address, String(i));
    world.advance(1);
  }
  world.runUntilIdle();
  return to.got.map((line) => Number(line.split(" ")[1]));
}

function inOrder(numbers: readonly number[]): boolean {
  return numbers.every((number, i) => i === 0 || numbers[i - 1]! <= number);
}

Deno.test("Link: each way takes both links' delay", () => {
  const world = new VirtualWorld();
  const a = world.addHost("a", { addresses: ["192.0.2.1"], link: { delay: 30 } });
  const b = world.addHost("b", { addresses: ["192.0.2.2"], link: { delay: 5 } });
  const from = endpoint(a, "192.0.2.1:1000");
  const to = endpoint(b, "192.0.2.2:2000");
  from.send(to.address);
  world.runUntilIdle();
  assertEquals(to.times, [35]);
  a.link.down.set({ delay: 100 });
  to.send(from.address);
  world.runUntilIdle();
  assertEquals(from.times, [35 + 105]);
});

Deno.test("Link: one millisecond where nothing is said, and what a world says where a link does not", () => {
  const plain = new VirtualWorld().addHost("a", { addresses: ["192.0.2.1"] });
  assertEquals(plain.link.up.options.delay, 1);
  const world = new VirtualWorld({ link: { delay: 40, loss: 0.1 } });
  const home = world.addNat("home", { external: ["203.0.113.1"], link: { loss: 0 } });
  assertEquals([home.link.down.options.delay, home.link.down.options.loss], [40, 0]);
  const alice = home.addHost("alice", { addresses: ["192.168.1.2"], link: { delay: 2 } });
  assertEquals([alice.link.down.options.delay, alice.link.down.options.loss], [2, 0.1]);
});

Deno.test("Link: loss takes its share, to the datagram", () => {
  const rig = scene({ loss: 0.1 });
  const got = stream(rig, 10_000);
  assertEquals(counted(rig.world.counters), { sent: 10_000, delivered: 9048, lost: 952 });
  assert(inOrder(got));
  assertEquals(rig.a.counters.lost, 952);
  assertEquals(stream(scene({ loss: 1 }), 100), []);
});

Deno.test("Link: duplicates arrive right behind their originals", () => {
  const rig = scene({ duplicate: 0.05 });
  const got = stream(rig, 10_000);
  assertEquals(counted(rig.world.counters), { sent: 10_000, delivered: 10_466, duplicated: 466 });
  assertEquals(got.length, 10_466);
  assert(inOrder(got));
});

Deno.test("Link: jitter spreads arrivals over its range and keeps the order", () => {
  const rig = scene({ delay: 10, jitter: 8 });
  const got = stream(rig, 10_000);
  assertEquals(got.length, 10_000);
  assert(inOrder(got));
  const delays = rig.to.times.map((time, i) => time - i);
  assert(Math.min(...delays) >= 10 && Math.max(...delays) < 18);
  assert(new Set(delays).size > 5000);
});

Deno.test("Link: reordered datagrams are overtaken by those of the next milliseconds", () => {
  const rig = scene({ delay: 5, reorder: 0.01, reorderDelay: 3.5 });
  const got = stream(rig, 10_000);
  assertEquals(counted(rig.world.counters), { sent: 10_000, delivered: 10_000, reordered: 92 });
  assertEquals(got.toSorted((x, y) => x - y), Array.from({ length: 10_000 }, (_, i) => i));
  // Each of them arrives behind the three sent after it.
  const late = got.filter((number, i) => i > 0 && got[i - 1]! > number);
  assert(late.length > 80 && late.length <= 92);
  assert(late.every((number) => got.indexOf(number) - number <= 3));
});

Deno.test("Link: all at once, nothing is left unaccounted", () => {
  const rig = scene({ delay: 5, jitter: 20, loss: 0.1, duplicate: 0.1, reorder: 0.1 });
  for (let i = 0; i < 1000; i++) rig.from.send(rig.to.address, String(i));
  rig.world.advance(10);
  const { sent, duplicated, delivered, lost } = rig.world.counters;
  assert(rig.world.inFlight > 0);
  assertEquals(sent + duplicated, delivered + lost + rig.world.inFlight);
  rig.world.runUntilIdle();
  assertEquals(rig.world.inFlight, 0);
  assertEquals(counted(rig.world.counters), { sent: 1000, delivered: 996, duplicated: 89, reordered: 114, lost: 93 });
});

Deno.test("Link: another seed is another run, the same seed the same", () => {
  const options = { jitter: 5, loss: 0.3, duplicate: 0.1, reorder: 0.2 };
  assertEquals(stream(scene(options, 7), 200), stream(scene(options, 7), 200));
  assert(String(stream(scene(options, 7), 200)) !== String(stream(scene(options, 8), 200)));
});

Deno.test("Link: one more host changes nobody else's chance", () => {
  const options = { jitter: 5, loss: 0.3, duplicate: 0.1, reorder: 0.2 };
  const alone = stream(scene(options), 200);
  const rig = scene(options);
  const other = rig.world.addHost("other", { addresses: ["192.0.2.3"], link: { loss: 0.5, jitter: 3 } });
  const noise = endpoint(other, "192.0.2.3:1000");
  for (let i = 0; i < 50; i++) noise.send("192.0.2.9:9");
  assertEquals(stream(rig, 200), alone);
});

Deno.test("Link: a change holds for what is sent from then on", () => {
  const rig = scene({ delay: 50 });
  rig.from.send(rig.to.address, "slow");
  rig.a.link.set({ delay: 10 });
  rig.from.send(rig.to.address, "fast");
  rig.a.link.set({ loss: 1 });
  rig.from.send(rig.to.address, "gone");
  rig.world.runUntilIdle();
  assertEquals(rig.to.got, ["192.0.2.1:1000 fast", "192.0.2.1:1000 slow"]);
});

Deno.test("Link: drop() loses exactly what it is asked to", () => {
  const rig = scene({});
  let seen = 0;
  rig.b.link.down.set({ drop: ({ source, bytes }) => source.port === 1000 && bytes[0] === 0x33 && ++seen <= 2 });
  for (const text of ["1", "3", "2", "3", "3"]) rig.from.send(rig.to.address, text);
  rig.world.runUntilIdle();
  assertEquals(rig.to.got.map((line) => line.split(" ")[1]), ["1", "2", "3"]);
  assertEquals(rig.b.counters.lost, 2);
  assertEquals(rig.a.counters.lost, 0);
});

Deno.test("Link: mtu counts the headers of IP and UDP", () => {
  const world = new VirtualWorld();
  const addresses = (n: number) => [`192.0.2.${n}`, `2001:db8::${n}`];
  const a = world.addHost("a", { addresses: addresses(1), link: { mtu: 1280 } });
  const b = world.addHost("b", { addresses: addresses(2) });
  const four = endpoint(b, "192.0.2.2:1");
  const six = endpoint(b, "[2001:db8::2]:1");
  for (const size of [1252, 1253]) endpoint(a, "192.0.2.1:0").send(four.address, "x".repeat(size));
  for (const size of [1232, 1233]) endpoint(a, "[2001:db8::1]:0").send(six.address, "x".repeat(size));
  world.runUntilIdle();
  assertEquals([four.got.length, six.got.length], [1, 1]);
  assertEquals(counted(a.counters), { sent: 4, tooBig: 2 });
});

Deno.test("Link: a trace tells each step, by the addresses it carried there", () => {
  const steps: string[] = [];
  const trace = ({ at, step, node, id, source, destination, bytes }: TraceStep) =>
    steps.push(`${at} #${id} ${node} ${step} ${source} -> ${destination} ${bytes.length}`);
  const world = new VirtualWorld({ trace });
  const home = world.addNat("home", { external: ["203.0.113.1"] });
  const alice = home.addHost("alice", { addresses: ["192.168.1.2"] });
  const server = world.addHost("server", { addresses: ["198.51.100.1"], link: { duplicate: 1 } });
  endpoint(server, "198.51.100.1:3478");
  const socket = endpoint(alice, "192.168.1.2:5000");
  socket.send("198.51.100.1:3478");
  socket.send("198.51.100.9:3478");
  world.runUntilIdle();
  assertEquals(steps, [
    "0 #1 alice sent 192.168.1.2:5000 -> 198.51.100.1:3478 5",
    "0 #2 alice sent 192.168.1.2:5000 -> 198.51.100.9:3478 5",
    "1 #1 home translated 203.0.113.1:5000 -> 198.51.100.1:3478 5",
    "1 #2 home translated 203.0.113.1:5000 -> 198.51.100.9:3478 5",
    "2 #1 server duplicated 203.0.113.1:5000 -> 198.51.100.1:3478 5",
    "2 #2 internet noRoute 203.0.113.1:5000 -> 198.51.100.9:3478 5",
    "3 #1 server delivered 203.0.113.1:5000 -> 198.51.100.1:3478 5",
    "3 #1 server delivered 203.0.113.1:5000 -> 198.51.100.1:3478 5",
  ]);
});

Deno.test("Link: values out of range are refused with what would be right", () => {
  const { a } = scene({});
  assertThrows(() => a.link.set({ loss: 2 }), RangeError, "loss as it must be in 0 to 1: current value is 2");
  assertThrows(() => a.link.set({ delay: -1 }), RangeError, "delay as it must be milliseconds from 0 up");
  assertThrows(() => a.link.set({ jitter: NaN }), RangeError, "jitter");
  assertThrows(() => a.link.set({ mtu: 20 }), RangeError, "mtu as it must be 48 or more");
});

Deno.test("ICMP: a socket that asked for it hears of closed ports, missing routes and narrow links, after a round trip", () => {
  const world = new VirtualWorld({ link: { delay: 10 } });
  const nat = world.addNat("nat", { external: ["192.0.2.9", "2001:db8:9::1"] });
  const a = nat.addHost("a", { addresses: ["10.0.0.2", "fd00::2"] });
  const b = world.addHost("b", { addresses: ["192.0.2.2", "2001:db8::2"] });
  b.link.down.set({ mtu: 100 });
  const told: string[] = [];
  const from = [endpoint(a, "10.0.0.2:1000"), endpoint(a, "[fd00::2]:1000")];
  for (const { socket } of from) {
    socket.reportIcmp!(({ to, type, code, mtu }) => told.push(`${a.now()} ${to} ${type} ${code} ${mtu}`));
  }
  for (const [i, host] of ["192.0.2.2", "[2001:db8::2]"].entries()) {
    from[i]!.send(`${host}:7`);
    from[i]!.send(`${host}:8`, "x".repeat(90));
    world.runUntilIdle();
  }
  from[0]!.send("192.0.2.99:9");
  world.runUntilIdle();
  const [first, second] = ["192.0.2.2", "[2001:db8::2]"];
  assertEquals(told.map((line) => line.replace(/^\d+ /, "")), [
    `${first}:8 3 4 100`,
    `${first}:7 3 3 0`,
    `${second}:8 2 0 100`,
    `${second}:7 1 4 0`,
    "192.0.2.99:9 3 0 0",
  ]);
  // Two links to the narrow one, three to the port, and as long back.
  assertEquals(told.slice(0, 2).map((line) => Number(line.split(" ")[0])), [40, 60]);
});

Deno.test("ICMP: nobody is told of what may be fragmented, of what is lost, after close() and without asking", () => {
  const { world, a, from, to } = scene({ mtu: 100 });
  const told: number[] = [];
  from.send(to.address, "x".repeat(90));
  from.socket.reportIcmp!(({ type }) => told.push(type));
  from.socket.setDontFragment!(false);
  from.send(to.address, "x".repeat(90));
  a.link.up.set({ loss: 1 });
  from.send("192.0.2.2:9");
  world.runUntilIdle();
  a.link.up.set({ loss: 0 });
  from.send("192.0.2.2:9");
  from.socket.close();
  world.runUntilIdle();
  assertEquals(told, []);
});
