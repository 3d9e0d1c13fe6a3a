import { assert, assertEquals, assertThrows } from "@std/assert";
import { OpenError } from "../../../../stun/net/transport.ts";
import { type LinkOptions, type NatOptions, VirtualWorld } from "../../../../stun/net/virtual/mod.ts";
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

function behindNat(options: Partial<NatOptions> & { tcp?: "tls only" | "blocked" } = {}) {
  const world = new VirtualWorld({ link: { delay: 10 } });
  const server = world.addHost("server", { addresses: ["198.51.100.1", "198.51.100.2"] });
  const nat = world.addNat("nat", { external: ["203.0.113.1"], ...options });
  const alice = nat.addHost("alice", { addresses: ["192.168.1.2"] });
  return { world, server, nat, alice };
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

const TLS = { tls: { certificate: "one.example *.two.example", key: "" } };

Deno.test("TLS takes two round trips more, and is for certain names", () => {
  const { world, server, alice } = direct();
  const { ends } = answer(server, "198.51.100.1:443", { transport: "tls", ...TLS });
  const to = (serverName?: string, more = {}) =>
    dial(alice, "198.51.100.1:443", { transport: "tls", tls: { ...(serverName && { serverName }), ...more } });
  const one = to("ONE.example", { alpn: ["stun.turn"] });
  const two = to("a.two.example");
  const wrong = [to("two.example"), to("a.b.two.example"), to()];
  const lax = to(undefined, { insecureAcceptAnyCertificate: true });
  world.advance(1000);
  assertEquals([one.log, two.log, lax.log], [["120 open"], ["120 open"], ["120 open"]]);
  for (const { log, error } of wrong) {
    assertEquals(log, ["80 certificate"]);
    assertEquals(error!.message, "Cannot connect to TLS 198.51.100.1:443: its certificate can not be trusted");
  }
  assertEquals([one.stream!.transport, one.stream!.alpn, two.stream!.alpn], ["tls", "stun.turn", undefined]);
  one.say("hello");
  world.runUntilIdle();
  assertEquals(ends[0]!.log.slice(0, 2), ["60 open", "1020 hello"]);
  assertEquals([ends[0]!.stream!.transport, ends[0]!.stream!.alpn], ["tls", "stun.turn"]);
  assertEquals(ends[2]!.log, ["60 open", "100 reset"]);
});

Deno.test("RFC 7301 §3.2: no protocol in common, no connection; SNI picks the certificate, which can be replaced", () => {
  const { world, server, alice } = direct();
  const names = new Map([["Two.example", { certificate: "two.example", key: "" }]]);
  const tls = { certificate: "one.example", key: "", names };
  const { listener } = answer(server, "198.51.100.1:443", { transport: "tls", tls });
  const to = (serverName: string, alpn: string[] = []) =>
    dial(alice, "198.51.100.1:443", { transport: "tls", tls: { serverName, alpn } });
  const all = [to("one.example"), to("two.example"), to("one.example", ["h2"])];
  world.runUntilIdle();
  assertEquals(all.map(({ error }) => error?.failure), [undefined, undefined, "other"]);
  listener.setTls({ certificate: "new.example", key: "" });
  const later = [to("one.example"), to("new.example")];
  world.runUntilIdle();
  assertEquals(later.map(({ error }) => error?.failure), ["certificate", undefined]);
  assertThrows(() => answer(server, "198.51.100.1:5349", { transport: "tls" }), OpenError, "without a certificate");
});

Deno.test("RFC 8489 §8.1: one port serves TCP and TLS, the first byte tells; a port for one refuses the other", () => {
  const { world, server, alice } = direct();
  const { ends } = answer(server, SERVER, { transport: "tcp+tls", ...TLS });
  answer(server, "198.51.100.1:443", { transport: "tls", ...TLS });
  const plain = dial(alice, SERVER);
  const secure = dial(alice, SERVER, { transport: "tls", tls: { serverName: "one.example" } });
  const wrong = dial(alice, "198.51.100.1:443");
  world.advance(1000);
  for (const end of [plain, secure, wrong]) end.say("hello");
  world.runUntilIdle();
  assertEquals(ends.map(({ stream, log }) => [stream!.transport, log.at(-1)]), [
    ["tcp", "1020 hello"],
    ["tls", "1020 hello"],
  ]);
  // A server that does not speak TLS: what comes is no handshake.
  answer(server, "198.51.100.1:80");
  const nobody = dial(alice, "198.51.100.1:80", { transport: "tls" });
  world.advance(1000);
  assertEquals(nobody.log, []);
});

Deno.test("Paused right after the handshake, and with what came with its last flight", () => {
  const { world, server, alice } = direct();
  const { ends } = answer(server, "198.51.100.1:443", { transport: "tls", ...TLS });
  const a = dial(alice, "198.51.100.1:443", {
    ...{ transport: "tls", tls: { serverName: "one.example" }, isReading: false },
  });
  while (ends[0] === undefined) world.step();
  world.advance(40); // the server's end is through at 100 ms, the client's at 120
  ends[0].say("early");
  world.runUntilIdle();
  assertEquals(a.log, ["120 open"]);
  a.stream!.resume();
  world.runUntilIdle();
  assertEquals(a.log.at(-1)!.split(" ")[1], "early");
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
