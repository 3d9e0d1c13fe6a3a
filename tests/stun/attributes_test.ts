import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import * as rfc8489 from "../../stun/attributes.ts";
import * as discovery from "../../stun/discovery_attributes.ts";
import {
  type Attribute,
  bytesAttribute,
  ERROR_CODE_ATTRIBUTE,
  flagAttribute,
  MAPPED_ADDRESS,
  MessageWriter,
  METHOD,
  NONCE,
  PASSWORD_ALGORITHM,
  PASSWORD_ALGORITHMS,
  REALM,
  RESPONSE_PORT,
  SOFTWARE,
  StunMessage,
  TransportAddress,
  uint32Attribute,
  uint64Attribute,
  UNKNOWN_ATTRIBUTES,
  USERHASH,
  USERNAME,
  XOR_MAPPED_ADDRESS,
} from "../../stun/mod.ts";
import { anyAddress, anyAttribute, anyTransactionId, ATTRIBUTE_VALUES } from "../arbitraries.ts";

const ID = Uint8Array.from(Array(12).keys());

function write<T>(attribute: Attribute<T>, value: T, transactionId: Uint8Array = ID): Uint8Array {
  return new MessageWriter(new Uint8Array(70000)).begin(METHOD.BINDING, "request", transactionId)
    .add(attribute, value).finish();
}

function read<T>(attribute: Attribute<T>, bytes: Uint8Array): T | undefined {
  return StunMessage.parse(bytes)!.get(attribute);
}

/** A message with one attribute whose value is `value`, as it stands. */
function raw<T>(attribute: Attribute<T>, value: readonly number[]): Uint8Array {
  return write(bytesAttribute(attribute.type, attribute.name), Uint8Array.from(value));
}

/** Addresses compare by what they mean, not by the texts and keys they keep. */
function plain(value: unknown): unknown {
  return value instanceof TransportAddress ? value.toString() : value;
}

Deno.test("RFC 8489 §14: every attribute that stun/ exports is read as it was written", () => {
  const exported = [...Object.values(rfc8489), ...Object.values(discovery)].filter((value) => "read" in value);
  assertEquals(exported.length, ATTRIBUTE_VALUES.size, "tests/arbitraries.ts lacks an attribute");
  for (const [attribute, values] of ATTRIBUTE_VALUES) {
    fc.assert(
      fc.property(values, anyTransactionId, (value, id) => {
        assertEquals(plain(read(attribute, write(attribute, value, id))), plain(value), attribute.name);
      }),
      { numRuns: 30 },
    );
  }
});

Deno.test("RFC 8489 §14: the length is the value's without padding, and the padding is zero", () => {
  fc.assert(fc.property(anyAttribute, ({ attribute, value }) => {
    const memory = new Uint8Array(16384).fill(0xff);
    const writer = new MessageWriter(memory).begin(METHOD.BINDING, "request", ID).add(attribute, value);
    const bytes = writer.finish();
    const length = (bytes[22]! << 8) | bytes[23]!;
    assertEquals(bytes.length, 24 + length + (4 - length % 4) % 4);
    assertEquals([...bytes.subarray(24 + length)].every((byte) => byte === 0), true);
    assertEquals((bytes[2]! << 8) | bytes[3]!, bytes.length - 20);
  }));
});

Deno.test("RFC 8489 §14: an attribute whose length does not fit is malformed, never an exception", () => {
  for (const [attribute] of ATTRIBUTE_VALUES) {
    for (let length = 0; length <= 40; length++) {
      const message = StunMessage.parse(raw(attribute, Array(length).fill(0xff)))!;
      message.get(attribute);
      assertEquals(message.has(attribute), true);
    }
  }
});

Deno.test("RFC 8489 §14.1: the first byte of an address is ignored, any family but 1 and 2 is malformed", () => {
  const value = [0xff, 1, 0x12, 0x34, 192, 0, 2, 1];
  assertEquals(String(read(MAPPED_ADDRESS, raw(MAPPED_ADDRESS, value))), "192.0.2.1:4660");
  assertEquals(read(MAPPED_ADDRESS, raw(MAPPED_ADDRESS, [0, 3, ...value.slice(2)])), undefined);
  assertEquals(read(MAPPED_ADDRESS, raw(MAPPED_ADDRESS, [0, 2, ...value.slice(2)])), undefined);
  assertEquals(read(MAPPED_ADDRESS, raw(MAPPED_ADDRESS, value.slice(0, 7))), undefined);
  assertEquals(read(MAPPED_ADDRESS, raw(MAPPED_ADDRESS, [...value, 0])), undefined);
});

Deno.test("RFC 8489 §14.2: XOR-MAPPED-ADDRESS is XORed with the cookie, for IPv6 with the transaction id as well", () => {
  fc.assert(fc.property(anyAddress, anyTransactionId, (address, id) => {
    const bytes = write(XOR_MAPPED_ADDRESS, address, id);
    const mask = [...bytes.subarray(4, 20)];
    assertEquals([...bytes.subarray(26, 28)], [(address.port >> 8) ^ 0x21, (address.port & 0xff) ^ 0x12]);
    assertEquals([...bytes.subarray(28)], [...address.bytes].map((byte, i) => byte ^ mask[i]!));
  }));
});

Deno.test("RFC 8489 §14.3: USERNAME is written with up to 508 bytes and read with up to 763", () => {
  assertEquals(read(USERNAME, write(USERNAME, "x".repeat(508))), "x".repeat(508));
  assertThrows(() => write(USERNAME, "x".repeat(509)), RangeError, "508 bytes");
  assertThrows(() => write(USERNAME, "\u00e4".repeat(255)), RangeError, "508 bytes");
  assertEquals(read(USERNAME, raw(USERNAME, Array(763).fill(0x78))), "x".repeat(763));
  assertEquals(read(USERNAME, raw(USERNAME, Array(764).fill(0x78))), undefined);
});

Deno.test("RFC 8489 §14.9, §14.10, §14.14: fewer than 128 characters and 510 bytes are written, up to 763 bytes read", () => {
  for (const attribute of [REALM, NONCE, SOFTWARE]) {
    // Outside the basic plane: one character, two units of a JavaScript string, four bytes.
    const longest = "\u{1f600}".repeat(127);
    assertEquals(read(attribute, write(attribute, longest)), longest);
    assertThrows(() => write(attribute, longest + "x"), RangeError, "127 characters");
    assertThrows(() => write(attribute, "x".repeat(128)), RangeError, "127 characters");
    assertEquals(read(attribute, raw(attribute, Array(763).fill(0x78))), "x".repeat(763));
    assertEquals(read(attribute, raw(attribute, Array(764).fill(0x78))), undefined);
  }
});

Deno.test("RFC 8489 §14.3: text that is not UTF-8 is malformed, and a byte order mark belongs to the text", () => {
  for (const wrong of [[0xff], [0xc0, 0x80], [0xe3, 0x83], [0xed, 0xa0, 0x80], [0x61, 0x80]]) {
    assertEquals(read(USERNAME, raw(USERNAME, wrong)), undefined);
  }
  assertEquals(read(USERNAME, write(USERNAME, "\ufeffx")), "\ufeffx");
  assertEquals(read(USERNAME, write(USERNAME, "")), "");
  assertEquals(read(USERNAME, write(USERNAME, "a\0b\u007f")), "a\0b\u007f");
});

Deno.test("RFC 8489 §14.8: ERROR-CODE has a class of 3 to 6 and a number of 0 to 99; the reserved bits are ignored", () => {
  const code = (...value: number[]) => read(ERROR_CODE_ATTRIBUTE, raw(ERROR_CODE_ATTRIBUTE, value))?.code;
  assertEquals(code(0, 0, 4, 20), 420);
  assertEquals(code(0xff, 0xff, 0xfc, 20), 420);
  assertEquals(code(0, 0, 6, 99), 699);
  assertEquals(code(0, 0, 2, 99), undefined);
  assertEquals(code(0, 0, 7, 0), undefined);
  assertEquals(code(0, 0, 4, 100), undefined);
  assertEquals(code(0, 0, 4), undefined);
  for (const wrong of [299, 700, 400.5, NaN]) {
    assertThrows(() => write(ERROR_CODE_ATTRIBUTE, { code: wrong, reason: "" }), RangeError, "300 to 699");
  }
});

Deno.test("RFC 8489 §14.8: a reason has fewer than 128 characters; one that is not UTF-8 does not hide the code", () => {
  assertThrows(() => write(ERROR_CODE_ATTRIBUTE, { code: 400, reason: "x".repeat(128) }), RangeError, "127 characters");
  const bytes = raw(ERROR_CODE_ATTRIBUTE, [0, 0, 4, 1, 0x61, 0xff]);
  assertEquals(read(ERROR_CODE_ATTRIBUTE, bytes), { code: 401, reason: "a\ufffd" });
});

Deno.test("RFC 8489 §14.11: parameters of PASSWORD-ALGORITHMS are padded, and must fit", () => {
  const entries = [{ algorithm: 2, parameters: new Uint8Array(0) }, { algorithm: 9, parameters: new Uint8Array(3) }];
  const bytes = write(PASSWORD_ALGORITHMS, entries);
  assertEquals([...bytes.subarray(20)], [0x80, 2, 0, 12, 0, 2, 0, 0, 0, 9, 0, 3, 0, 0, 0, 0]);
  assertEquals(read(PASSWORD_ALGORITHMS, bytes), entries);
  // The padding of the last entry left out.
  assertEquals(read(PASSWORD_ALGORITHMS, raw(PASSWORD_ALGORITHMS, [0, 9, 0, 3, 0, 0, 0])), [entries[1]!]);
  assertEquals(read(PASSWORD_ALGORITHMS, raw(PASSWORD_ALGORITHMS, [0, 9, 0, 4, 0, 0, 0])), undefined);
  assertEquals(read(PASSWORD_ALGORITHMS, raw(PASSWORD_ALGORITHMS, [0, 2, 0])), undefined);
  assertEquals(read(PASSWORD_ALGORITHM, raw(PASSWORD_ALGORITHM, [0, 1, 0, 0, 0, 2, 0, 0])), undefined);
  assertEquals(read(PASSWORD_ALGORITHM, raw(PASSWORD_ALGORITHM, [])), undefined);
});

Deno.test("RFC 8489 §14.11: a stranger's list of algorithms costs no more than 32 entries", () => {
  const many = (count: number) =>
    Array.from({ length: count }, () => ({ algorithm: 9, parameters: new Uint8Array(0) }));
  assertEquals(read(PASSWORD_ALGORITHMS, write(PASSWORD_ALGORITHMS, many(32)))?.length, 32);
  assertEquals(read(PASSWORD_ALGORITHMS, write(PASSWORD_ALGORITHMS, many(33))), undefined);
});

Deno.test("RFC 8489 §14.13: UNKNOWN-ATTRIBUTES holds 16-bit types", () => {
  assertEquals(read(UNKNOWN_ATTRIBUTES, raw(UNKNOWN_ATTRIBUTES, [0, 0x1a, 0x7f, 0xff])), [0x1a, 0x7fff]);
  assertEquals(read(UNKNOWN_ATTRIBUTES, raw(UNKNOWN_ATTRIBUTES, [0, 0x1a, 0])), undefined);
  assertThrows(() => write(UNKNOWN_ATTRIBUTES, [0x10000]), RangeError, "0 to 65535");
});

Deno.test("RFC 5780 §7.5: RESPONSE-PORT is read with its two bytes of padding counted or not", () => {
  assertEquals([...write(RESPONSE_PORT, 0x1234).subarray(20)], [0, 0x27, 0, 4, 0x12, 0x34, 0, 0]);
  assertEquals(read(RESPONSE_PORT, raw(RESPONSE_PORT, [0x12, 0x34])), 0x1234);
});

Deno.test("Attribute codecs: a value without a wire form throws a RangeError that names the attribute", () => {
  for (const wrong of [-1, 2 ** 32, 0.5, NaN]) {
    assertThrows(() => write(uint32Attribute(0x7000, "X-NUMBER"), wrong), RangeError, "X-NUMBER");
  }
  for (const wrong of [-1n, 2n ** 64n]) {
    assertThrows(() => write(uint64Attribute(0x7000, "X-BIG"), wrong), RangeError, "X-BIG");
  }
  assertThrows(() => write(USERHASH, new Uint8Array(31)), RangeError, "USERHASH");
  assertThrows(() => write(bytesAttribute(0x7000, "X-BYTES"), new Uint8Array(65536)), RangeError, "X-BYTES");
});

Deno.test("Attribute codecs: numbers and flags are read as they were written, to their limits", () => {
  const big = uint64Attribute(0x7000, "X-BIG");
  for (const value of [0n, 1n, 2n ** 53n + 1n, 2n ** 64n - 1n]) assertEquals(read(big, write(big, value)), value);
  const number = uint32Attribute(0x7000, "X-NUMBER");
  for (const value of [0, 2 ** 31, 2 ** 32 - 1]) assertEquals(read(number, write(number, value)), value);
  const flag = flagAttribute(0x7000, "X-FLAG");
  assertEquals(read(flag, write(flag, true)), true);
  assertEquals(read(flag, raw(flag, [0])), undefined);
});
