import { assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { isIpAddress, isIpv4, TransportAddress } from "../../stun/mod.ts";
import { anyAddress } from "../arbitraries.ts";

Deno.test("TransportAddress: text, bytes and halves all lead back to the same address", () => {
  fc.assert(fc.property(anyAddress, (address) => {
    const again = TransportAddress.parse(address.toString());
    assertEquals(again.bytes, address.bytes);
    assertEquals([again.family, again.port], [address.family, address.port]);
    const halves = TransportAddress.of(address.address, address.port);
    assertEquals(halves.equals(address), true);
    assertEquals(halves.key, address.key);
    assertEquals(JSON.stringify({ address }), `{"address":"${address}"}`);
  }));
});

Deno.test("TransportAddress: two addresses have one key only if IP address and port are the same", () => {
  fc.assert(fc.property(anyAddress, anyAddress, fc.nat(65535), (a, b, port) => {
    const isSameIp = a.bytes.length === b.bytes.length && a.bytes.every((byte, i) => byte === b.bytes[i]);
    assertEquals(a.ipKey === b.ipKey, isSameIp);
    assertEquals(a.key === b.key, isSameIp && a.port === b.port);
    assertEquals(a.equals(b), isSameIp && a.port === b.port);
    assertEquals(a.withPort(port).ipKey, a.ipKey);
    assertEquals(a.withPort(port).equals(a), port === a.port);
  }));
  assertNotEquals(TransportAddress.of("0.0.0.1", 0).key, TransportAddress.of("0.0.0.0", 1).key);
  assertNotEquals(TransportAddress.of("::", 1).key, TransportAddress.of("0.0.0.0", 1).key);
  assertNotEquals(TransportAddress.of("::ffff:1.2.3.4", 1).key, TransportAddress.of("1.2.3.4", 1).key);
});

Deno.test("RFC 5952 §4: IPv6 text is in lower case, without leading zeros, with the longest run of zeros cut", () => {
  const texts = {
    "2001:DB8:0:0:0:0:0:1": "2001:db8::1",
    "2001:0db8:0000:0001:0001:0001:0001:0001": "2001:db8:0:1:1:1:1:1",
    "2001:0:0:1:0:0:0:1": "2001:0:0:1::1",
    "2001:db8:0:0:1:0:0:1": "2001:db8::1:0:0:1",
    "0:0:0:0:0:0:0:0": "::",
    "fe80::1%eth0": "fe80::1",
  };
  for (const [text, wanted] of Object.entries(texts)) assertEquals(TransportAddress.of(text, 1).address, wanted);
  assertEquals(String(TransportAddress.parse("[2001:DB8::0:1]:3478")), "[2001:db8::1]:3478");
  assertEquals(TransportAddress.of("::ffff:192.0.2.1", 1).bytes.subarray(12), Uint8Array.of(192, 0, 2, 1));
});

Deno.test("TransportAddress.parse: a port is needed unless there is a default", () => {
  assertEquals(String(TransportAddress.parse("192.0.2.1", 3478)), "192.0.2.1:3478");
  assertEquals(String(TransportAddress.parse("192.0.2.1:80", 3478)), "192.0.2.1:80");
  assertEquals(String(TransportAddress.parse("2001:db8::1", 3478)), "[2001:db8::1]:3478");
  assertEquals(String(TransportAddress.parse("[2001:db8::1]", 3478)), "[2001:db8::1]:3478");
  assertThrows(() => TransportAddress.parse("192.0.2.1"), SyntaxError, '"IP:port"');
});

Deno.test("TransportAddress.parse: what is no transport address is a SyntaxError", () => {
  const wrong = [
    ...["", ":", "x", "192.0.2.1:", "192.0.2.1:x", "192.0.2.1:65536", "192.0.2.1:-1", "192.0.2:1", "192.0.2.256:1"],
    ...["010.0.0.1:1", "0x7f.1:1", "1:1", "[::1:1", "::1]:1", "[::1]]:1", "[192.0.2.1]:1", "[:::]:1", "localhost:1"],
    ...[" 192.0.2.1:1", "192.0.2.1:1 ", "192.0.2.1:1\n", "[::1]:1:1", "192.0.2.1:123456"],
  ];
  for (const text of wrong) assertThrows(() => TransportAddress.parse(text), SyntaxError, "Cannot parse", text);
});

Deno.test("TransportAddress: what is out of range is a RangeError", () => {
  for (const port of [-1, 65536, 1.5, NaN]) {
    assertThrows(() => TransportAddress.of("192.0.2.1", port), RangeError, "0 to 65535");
  }
  for (const length of [0, 3, 5, 15, 17]) {
    assertThrows(() => new TransportAddress(new Uint8Array(length), 1), RangeError, `current length is ${length}`);
  }
  assertThrows(() => TransportAddress.of("192.0.2.1:1", 1), SyntaxError, "192.0.2.1:1");
});

Deno.test("isIpAddress: IP addresses of both versions, and nothing that merely looks like one", () => {
  for (const text of ["0.0.0.0", "255.255.255.255", "::", "fe80::1", "::ffff:1.2.3.4"]) {
    assertEquals(isIpAddress(text), true, text);
  }
  for (
    const text of ["", "1", "1.2.3", "01.2.3.4", "0x1.2.3.4", "1.2.3.4.5", "a.b.c.d", "::1::", "[::1]", "1.2.3.4:5"]
  ) {
    assertEquals(isIpAddress(text), false, text);
  }
  assertEquals([isIpv4("1.2.3.4"), isIpv4("::1"), isIpv4("1.2.3")], [true, false, false]);
});
