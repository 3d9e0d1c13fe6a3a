import { assertEquals, assertStrictEquals } from "@std/assert";
import { TransportAddress } from "../../../stun/address.ts";
import { AddressTable, readSockaddr, writeSockaddr } from "../../../stun/net/sockaddr.ts";

const ADDRESSES = [
  "192.0.2.1:3478",
  "255.255.255.255:65535",
  "0.0.0.0:0",
  "[2001:db8::1]:3478",
  "[::]:1",
  "[fe80::1]:9",
];

function words(text: string, zone = 0): Uint32Array<ArrayBuffer> {
  const memory = new Uint32Array(10).fill(0xdeadbeef);
  writeSockaddr(TransportAddress.parse(text), memory, 2, zone);
  return memory;
}

Deno.test("sockaddr: an address comes back as it was, and the kernel's layout is kept", () => {
  for (const text of ADDRESSES) assertEquals(String(readSockaddr(words(text), 2)), text);
  const four = new Uint8Array(words("192.0.2.1:3478").buffer, 8, 8);
  assertEquals([...four], [2, 0, 0x0d, 0x96, 192, 0, 2, 1]);
  const six = new Uint8Array(words("[2001:db8::1]:3478").buffer, 8, 28);
  assertEquals([...six], [10, 0, 0x0d, 0x96, 0, 0, 0, 0, 0x20, 1, 0x0d, 0xb8, ...new Array(11).fill(0), 1, 0, 0, 0, 0]);
});

Deno.test("sockaddr: an answer to a link-local address goes out where it came in", () => {
  const came = readSockaddr(words("[fe80::1]:9", 7), 2);
  const answer = new Uint32Array(10);
  writeSockaddr(came, answer, 0, 3);
  assertEquals(answer[6], 7);
  // Others take the socket's.
  writeSockaddr(TransportAddress.parse("[fe80::1]:9"), answer, 0, 3);
  assertEquals(answer[6], 3);
  writeSockaddr(TransportAddress.parse("[2001:db8::1]:9"), answer, 0, 3);
  assertEquals(answer[6], 0);
});

Deno.test("AddressTable: one sender is one object; port, zone and family count", () => {
  const table = new AddressTable(1);
  const texts = [...ADDRESSES, "192.0.2.1:3479", "192.0.2.2:3478", "[2001:db8::1]:3479", "[2001:db8::2]:3478"];
  const known = texts.map((text) => table.get(words(text), 2));
  assertEquals(known.map(String), texts);
  texts.forEach((text, i) => assertStrictEquals(table.get(words(text), 2), known[i]));
  assertEquals(table.count, texts.length);
  table.get(words("[fe80::1]:9", 7), 2);
  assertEquals(table.count, texts.length + 1);
});

Deno.test("AddressTable: strangers can not fill memory, and every address is right at any time", () => {
  const table = new AddressTable(0x12345678);
  const memory = new Uint32Array(8);
  let most = 0;
  for (let i = 0; i < 200_000; i++) {
    memory[0] = 2 | ((i & 0xffff) << 16);
    memory[1] = Math.imul(i, 0x9e3779b1);
    const address = table.get(memory, 0);
    assertEquals(address.bytes[0], memory[1]! & 255);
    assertStrictEquals(table.get(memory, 0), address);
    most = Math.max(most, table.count);
  }
  assertEquals(most, 65536);
});
