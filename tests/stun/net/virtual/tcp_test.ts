import { assert, assertEquals, assertThrows } from "@std/assert";
import { OpenError } from "../../../../stun/net/transport.ts";
import { type LinkOptions, VirtualWorld } from "../../../../stun/net/virtual/mod.ts";
import { counted } from "./rig.ts";
import { answer, dial } from "./stream_rig.ts";

const SERVER = "198.51.100.1:3478";
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

function direct(link: LinkOptions = { delay: 10 }, seed = 1) {
  const steps: string[] = [];
  const world = new VirtualWorld({ seed, link });
  const server = world.addHost("server", { addresses: ["198.51.100.1", "2001:db8::1"] });
  const alice = world.addHost("alice", { addresses: ["203.0.113.1", "2001:db8::2"] });
  world.trace = ({ at, node, step, tcp, bytes }) => steps.push(`${at} ${node} ${step} ${tcp} ${bytes.length}`);
  return { world, server, alice, steps };
}

Deno.test("RFC 9293 §3.5: a connection takes one round trip, and a word each way half of one", () => {
  const { world, server, alice, steps } = direct();
  const { ends } = answer(server, SERVER);
  const a = dial(alice, SERVER);
  world.runUntilIdle();
  a.say("hello");
  world.runUntilIdle();
  ends[0]!.say("welcome");
  world.runUntilIdle();
  assertEquals(a.log, ["40 open", "60 sent", "120 welcome"]);
  assertEquals(ends[0]!.log, ["60 open", "80 hello", "100 sent"]);
  assertEquals(steps.slice(0, 6), [
    "0 alice sent SYN 0",
    "20 server delivered SYN 0",
    "20 server sent SYN ACK 0",
    "40 alice delivered SYN ACK 0",
    "40 alice sent ACK 0",
    "60 server delivered ACK 0",
  ]);
  assertEquals(a.stream!.remoteAddress.toString(), SERVER);
  assertEquals(a.stream!.localAddress.toString(), ends[0]!.stream!.remoteAddress.toString());
  assertEquals(world.inFlight, 0);
});

Deno.test("Nothing is read before resume(), nor after pause()", () => {
  const { world, server, alice } = direct();
  const { ends } = answer(server, SERVER, { isReading: false });
  const a = dial(alice, SERVER);
  world.runUntilIdle();
  a.say("one");
  world.runUntilIdle();
  assertEquals(ends[0]!.log, ["60 open"]);
  ends[0]!.stream!.resume();
  assertEquals(ends[0]!.log, ["60 open"]);
  world.runUntilIdle();
  ends[0]!.stream!.pause();
  a.say("two");
  a.stream!.end();
  world.advance(1000);
  assertEquals(ends[0]!.log.length, 2);
  ends[0]!.stream!.resume();
  world.runUntilIdle();
  assertEquals(ends[0]!.log.map((line) => line.split(" ")[1]), ["open", "one", "two", "end"]);
});

Deno.test("RFC 9293 §3.8.6: a sender is held back by one that does not read, and goes on when it does", () => {
  const { world, server, alice } = direct();
  const { ends } = answer(server, SERVER, { isReading: false, isQuiet: true });
  const a = dial(alice, SERVER, { isQuiet: true });
  world.runUntilIdle();
  const bytes = Uint8Array.from({ length: 300_000 }, (_, i) => i * 31 >> 5);
  a.stream!.send(bytes);
  world.advance(HOUR);
  // The window and the sender's own memory are full; probes go on (§3.8.6.1).
  assertEquals(a.sentAt, -1);
  assertEquals(ends[0]!.bytes.length, 0);
  ends[0]!.stream!.resume();
  world.runUntilIdle();
  assert(a.sentAt > HOUR);
  assertEquals(ends[0]!.bytes, [...bytes]);
});

Deno.test("What is lost, doubled and overtaken on the way arrives once and in order, only later", () => {
  const bytes = Uint8Array.from({ length: 200_000 }, (_, i) => i * 31 >> 5);
  for (let seed = 1; seed <= 20; seed++) {
    const { world, server, alice } = direct({ delay: 10, jitter: 5, loss: 0.05, duplicate: 0.05, reorder: 0.05 }, seed);
    const { ends } = answer(server, SERVER, { isQuiet: true });
    const a = dial(alice, SERVER, { isQuiet: true });
    while (a.stream === undefined) assert(world.step());
    a.stream.send(bytes);
    while (a.sentAt === -1) assert(world.step());
    a.stream.end();
    world.runUntilIdle();
    ends[0]!.stream!.send(bytes);
    world.runUntilIdle();
    ends[0]!.stream!.end();
    world.runUntilIdle();
    for (const end of [a, ends[0]!]) {
      assertEquals(end.bytes.length, bytes.length, `Seed ${seed}`);
      assert(end.bytes.every((byte, i) => byte === bytes[i]), `Seed ${seed}`);
      assert(end.log.at(-1)!.endsWith(" end"), `Seed ${seed}: ${end.log}`);
    }
    assertEquals(world.inFlight, 0);
    const { sent, delivered, duplicated, lost, noSocket } = world.counters;
    assertEquals(sent + duplicated, delivered + lost + noSocket);
  }
});

Deno.test("RFC 6298: a lost segment is sent again after 200 ms at least, then after twice as long, and three times in a row at once", () => {
  const { world, server, alice } = direct();
  const { ends } = answer(server, SERVER);
  const a = dial(alice, SERVER);
  world.runUntilIdle();
  let dropped = 0;
  alice.link.up.set({ drop: () => ++dropped <= 2 });
  a.say("late");
  world.runUntilIdle();
  assertEquals(ends[0]!.log.at(-1), `${60 + 200 + 400 + 20} late`);
  // Four segments behind a lost one: three repeated acknowledgements tell (RFC 5681 §3.2).
  const start = world.now;
  dropped = 0;
  alice.link.up.set({ drop: () => ++dropped === 1 });
  a.say("x".repeat(1460 * 5));
  world.runUntilIdle();
  assertEquals(ends[0]!.lastAt - start, 20 + 20 + 20);
});

Deno.test("RFC 9293 §3.6: each side ends by itself, and the other may go on", () => {
  const { world, server, alice } = direct();
  const { ends } = answer(server, SERVER);
  const a = dial(alice, SERVER);
  world.runUntilIdle();
  a.say("last");
  world.advance(0);
  a.stream!.end();
  world.runUntilIdle();
  assertEquals(ends[0]!.log, ["60 open", "80 last", "80 end"]);
  ends[0]!.say("and one more");
  world.advance(0);
  ends[0]!.stream!.close();
  world.runUntilIdle();
  assertEquals(a.log.slice(2).map((line) => line.replace(/^\d+ /, "")), ["and one more", "end"]);
  a.stream!.close();
  a.stream!.close();
  world.runUntilIdle();
  assertEquals(world.counters.noSocket, 0);
});

Deno.test("What was sent leaves before close() ends the connection; what comes for a closed one is answered by a reset", () => {
  const { world, server, alice } = direct();
  const { ends } = answer(server, SERVER);
  const a = dial(alice, SERVER);
  world.runUntilIdle();
  a.say("goodbye");
  a.stream!.close();
  world.runUntilIdle(1000 * MINUTE);
  assertEquals(ends[0]!.log, ["60 open", "80 goodbye", "80 end"]);
  assertEquals(a.log, ["40 open"]);

  const b = dial(alice, SERVER);
  const start = world.now;
  world.advance(100);
  b.stream!.close();
  ends[1]!.say("are you there?");
  world.runUntilIdle();
  assertEquals(ends[1]!.log.map((line) => line.replace(/^\d+ /, "")), ["open", "sent", "end"]);
  assert(world.now >= start);
});

Deno.test("RFC 2525 §2.17: closing over unread bytes is a reset", () => {
  const { world, server, alice } = direct();
  const { ends } = answer(server, SERVER, { isReading: false });
  const a = dial(alice, SERVER);
  world.runUntilIdle();
  a.say("read me");
  world.runUntilIdle();
  ends[0]!.stream!.close();
  world.runUntilIdle();
  assertEquals(a.log.map((line) => line.split(" ")[1]), ["open", "sent", "reset"]);
});

Deno.test("Nobody listens: refused after one round trip. No route: unreachable. No answer: a timeout after 127 s", () => {
  const { world, alice } = direct();
  const refused = dial(alice, SERVER);
  const unreachable = dial(alice, "198.51.100.9:3478");
  const otherFamily = world.addHost("six", { addresses: ["2001:db8::6"] });
  const noFamily = dial(otherFamily, SERVER);
  world.runUntilIdle();
  assertEquals(refused.log, ["40 refused"]);
  assertEquals(refused.error!.message, `Cannot connect to TCP ${SERVER}: nobody listens there`);
  assertEquals(unreachable.log, ["20 unreachable"]);
  assertEquals(noFamily.log, ["0 unreachable"]);
  alice.link.set({ loss: 1 });
  const { lost } = world.counters;
  const start = world.now;
  const late = dial(alice, SERVER);
  world.runUntilIdle();
  assertEquals(late.log, [`${start + 127_000} timeout`]);
  // Repeated after 1, 2, 4, 8, 16 and 32 s.
  assertEquals(world.counters.lost - lost, 7);
});

Deno.test("Giving up: nobody is told, and an answer that still comes is refused", () => {
  const { world, server, alice } = direct();
  const { ends } = answer(server, SERVER);
  const a = dial(alice, SERVER);
  world.advance(30);
  a.cancel();
  a.cancel();
  const early = dial(alice, SERVER);
  early.cancel();
  world.runUntilIdle();
  assertEquals([a.log, early.log, ends.length], [[], [], 0]);
  assertEquals(counted(world.counters), { sent: 3, delivered: 2, noSocket: 1 });
});

Deno.test("A line that goes dead resets a connection with something to say after 100 s; a silent one never hears of it", () => {
  const { world, server, alice } = direct();
  const { ends } = answer(server, SERVER);
  const a = dial(alice, SERVER);
  world.runUntilIdle();
  alice.link.set({ loss: 1 });
  world.advance(DAY);
  const start = world.now;
  a.say("anybody?");
  world.runUntilIdle();
  assertEquals(a.log.at(-1)!.split(" ")[1], "reset");
  assert(world.now - start >= 100_000 && world.now - start < 200_000);
  assertEquals(ends[0]!.log, ["60 open"]);
  a.say("nothing happens");
  a.stream!.end();
  a.stream!.close();
  assertEquals(world.step(), false);
});

Deno.test("A port: in use once, free after close(), shared by a listening socket and connections from it", () => {
  const { world, server, alice } = direct();
  const { listener, ends } = answer(server, SERVER);
  assertEquals(assertThrows(() => answer(server, SERVER), OpenError).failure, "address-in-use");
  assertEquals(assertThrows(() => answer(server, "0.0.0.0:3478"), OpenError).failure, "address-in-use");
  assertEquals(assertThrows(() => answer(server, "192.0.2.1:3478"), OpenError).failure, "address-not-available");
  const local = { address: "203.0.113.1", port: 5000 };
  answer(alice, "203.0.113.1:5000");
  const one = dial(alice, SERVER, local);
  const same = dial(alice, SERVER, local);
  const foreign = dial(alice, SERVER, { address: "192.0.2.1" });
  const picked = dial(alice, SERVER, { address: "0.0.0.0" });
  world.runUntilIdle();
  assertEquals(one.stream!.localAddress.toString(), "203.0.113.1:5000");
  assertEquals([same.error!.failure, foreign.error!.failure], ["address-in-use", "address-not-available"]);
  assertEquals(picked.stream!.localAddress.address, "203.0.113.1");
  listener.close();
  listener.close();
  one.say("still here");
  world.runUntilIdle();
  assertEquals(ends[0]!.log.at(-1)!.slice(-10), "still here");
  answer(server, SERVER);
});

Deno.test("RFC 9293 §3.5: two SYNs that cross make one connection", () => {
  const { world, server, alice } = direct();
  const a = dial(alice, "198.51.100.1:5001", { address: "203.0.113.1", port: 5000 });
  const b = dial(server, "203.0.113.1:5000", { address: "198.51.100.1", port: 5001 });
  world.runUntilIdle();
  assertEquals([a.log, b.log], [["40 open"], ["40 open"]]);
  a.say("one");
  b.say("other");
  world.runUntilIdle();
  assertEquals([a.log.at(-1), b.log.at(-1)], ["60 other", "60 one"]);
});

Deno.test("IPv6, a wildcard address and loopback", () => {
  const { world, server, alice } = direct();
  answer(server, "[::]:3478");
  const six = dial(alice, "[2001:db8::1]:3478");
  const own = dial(server, "[::1]:3478");
  world.runUntilIdle();
  assertEquals([six.log, own.log], [["40 open"], ["0 open"]]);
  assertEquals(own.stream!.localAddress.address, "::1");
});

Deno.test("RFC 1191: segments get smaller until they fit a narrow link on the way", () => {
  const { world, server, alice } = direct();
  server.link.down.set({ mtu: 600 });
  const { ends } = answer(server, SERVER, { isQuiet: true });
  const a = dial(alice, SERVER, { isQuiet: true });
  world.runUntilIdle();
  const bytes = Uint8Array.from({ length: 20_000 }, (_, i) => i >> 4);
  a.stream!.send(bytes);
  world.runUntilIdle();
  assertEquals(ends[0]!.bytes, [...bytes]);
  assert(world.counters.tooBig > 0);
});

Deno.test("The same seed gives the same run, to the last segment", () => {
  const run = () => {
    const { world, server, alice, steps } = direct({ delay: 10, jitter: 5, loss: 0.1 });
    answer(server, SERVER, { isQuiet: true });
    const a = dial(alice, SERVER, { isQuiet: true });
    while (a.stream === undefined) world.step();
    a.stream.send(new Uint8Array(50_000));
    world.runUntilIdle();
    return steps;
  };
  assertEquals(run(), run());
});
