import { assertEquals, assertThrows } from "@std/assert";
import {
  interleaveFamilies,
  type NaptrRecord,
  orderSrv,
  relayPointers,
  type ServerTransport,
  srvName,
  type SrvRecord,
  transportsOf,
} from "../../stun/locate.ts";
import type { Random } from "../../stun/machine.ts";
import { parseStunUri } from "../../stun/uri.ts";

/** Randomness that counts up: `randomBelow(random, n)` walks through 0 to n-1. */
function counting(): Random {
  let next = 0;
  return {
    fill(bytes) {
      bytes.fill(0);
      bytes[bytes.length - 1] = next & 0xff;
      bytes[bytes.length - 2] = next++ >> 8;
    },
  };
}

function srv(priority: number, weight: number, target: string): SrvRecord {
  return { priority, weight, port: 3478, target };
}

function naptr(order: number, preference: number, flags: string, services: string): NaptrRecord {
  return { order, preference, flags, services, regexp: "", replacement: `${order}-${preference}.example.` };
}

Deno.test("RFC 2782: lower priorities first, whatever the weights", () => {
  const records = [srv(20, 65535, "c"), srv(10, 0, "b"), srv(5, 1, "a"), srv(30, 0, ".")];
  for (const random of [counting(), { fill: (bytes: Uint8Array) => void bytes.fill(0xfe) }]) {
    assertEquals(orderSrv(records, random).map(({ target }) => target), ["a", "b", "c"]);
  }
  assertEquals(orderSrv([], counting()), []);
});

Deno.test("RFC 2782: among equals, each is first as often as its weight says, and all are there", () => {
  const records = [srv(1, 60, "a"), srv(1, 30, "b"), srv(1, 9, "c"), srv(1, 0, "d")];
  const random = counting();
  const firsts: Record<string, number> = {};
  // Each record has weight + 1 of 100 values, the zero one 1 and the last drawn from one less.
  for (let i = 0; i < 2000; i++) {
    const ordered = orderSrv(records, random).map(({ target }) => target);
    assertEquals(ordered.toSorted(), ["a", "b", "c", "d"]);
    firsts[ordered[0]!] = (firsts[ordered[0]!] ?? 0) + 1;
  }
  const share = (target: string) => Math.round((firsts[target] ?? 0) / 200);
  assertEquals([share("a"), share("b"), share("c")], [6, 3, 1]);
  assertEquals((firsts.d ?? 0) > 0, true);
});

Deno.test("RFC 5928 §3, RFC 8489 §8.1: names of SRV records", () => {
  assertEquals(srvName(parseStunUri("stun:example.org"), "udp"), "_stun._udp.example.org");
  assertEquals(srvName(parseStunUri("stuns:example.org"), "tls"), "_stuns._tcp.example.org");
  assertEquals(srvName(parseStunUri("turn:example.org"), "tcp"), "_turn._tcp.example.org");
  assertEquals(srvName(parseStunUri("turns:example.org"), "tls"), "_turns._tcp.example.org");
  assertEquals(srvName(parseStunUri("turns:example.org"), "dtls"), "_turns._udp.example.org");
});

Deno.test("RFC 5928 §3: the transports that are left by URI and caller", () => {
  const of = (uri: string, supported: readonly ServerTransport[] = ["udp", "tcp", "tls", "dtls"]) =>
    transportsOf(parseStunUri(uri), supported);
  assertEquals(of("turn:h"), ["udp", "tcp"]);
  assertEquals(of("turn:h", ["tcp", "udp"]), ["tcp", "udp"]);
  assertEquals(of("turn:h?transport=tcp"), ["tcp"]);
  assertEquals(of("turns:h"), ["tls", "dtls"]);
  assertEquals(of("turns:h?transport=tcp"), ["tls"]);
  assertEquals(of("turns:h?transport=udp"), ["dtls"]);
  assertEquals(of("stuns:h", ["dtls", "tls", "udp"]), ["dtls", "tls"]);
  assertThrows(() => of("turns:h?transport=udp", ["udp", "tls"]), SyntaxError, "does not go with udp or tls");
  assertThrows(() => of("turn:h?transport=tcp", ["udp"]), SyntaxError, "does not go with udp");
  assertThrows(() => of("stuns:h", ["udp", "tcp"]), SyntaxError, "does not go with udp or tcp");
});

Deno.test("RFC 5928 §3, RFC 3958: NAPTR records in order, those of no use left out", () => {
  const records = [
    naptr(100, 50, "s", "RELAY:turn.udp"),
    naptr(100, 20, "S", "relay:turn.tls:turn.tcp"),
    naptr(50, 10, "u", "RELAY:turn.udp"),
    naptr(50, 20, "s", "SIP+D2U"),
    naptr(50, 30, "a", "RELAY:turn.tcp"),
    naptr(200, 1, "", "RELAY:turn.udp"),
    { ...naptr(1, 1, "s", "RELAY:turn.udp"), regexp: "!.*!x!" },
  ];
  assertEquals(relayPointers(records, ["udp", "tcp"]), [
    { transport: "tcp", kind: "address", name: "50-30.example" },
    { transport: "tcp", kind: "srv", name: "100-20.example" },
    { transport: "udp", kind: "srv", name: "100-50.example" },
    { transport: "udp", kind: "naptr", name: "200-1.example" },
  ]);
  assertEquals(relayPointers(records, ["tls"]), [{ transport: "tls", kind: "srv", name: "100-20.example" }]);
});

Deno.test("RFC 8305 §4: addresses alternate between IP versions", () => {
  const addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2"];
  assertEquals(interleaveFamilies(addresses, 6), [
    ...["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "192.0.2.3"],
  ]);
  assertEquals(interleaveFamilies(addresses, 4).slice(0, 2), ["192.0.2.1", "2001:db8::1"]);
  assertEquals(interleaveFamilies([], 6), []);
});
