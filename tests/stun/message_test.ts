import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  FINGERPRINT,
  IntegrityKey,
  isStunByte,
  MAPPED_ADDRESS,
  MESSAGE_INTEGRITY,
  MESSAGE_INTEGRITY_SHA256,
  type MessageClass,
  MessageWriter,
  METHOD,
  NONCE,
  PADDING,
  REALM,
  SOFTWARE,
  StunMessage,
  TransportAddress,
  uint32Attribute,
  USERNAME,
} from "../../stun/mod.ts";
import { anyMessageBytes, anyTransactionId, ATTRIBUTE_VALUES } from "../arbitraries.ts";
import { hex, REQUEST, VECTORS } from "../vectors/stun_messages.ts";

const ID = hex("b7e7a701 bc34d686 fa87dfae");
const CLASSES: readonly MessageClass[] = ["request", "indication", "success", "error"];
const key = IntegrityKey.shortTerm("secret");

function begin(size = 4096): MessageWriter {
  return new MessageWriter(new Uint8Array(size)).begin(METHOD.BINDING, "request", ID);
}

/** Asks everything a message can be asked. None of it may throw, whatever arrived. */
function askEverything(message: StunMessage): void {
  void [message.method, message.class, message.transactionId, message.transactionKey, message.hasIntegrity];
  for (const attribute of ATTRIBUTE_VALUES.keys()) {
    message.get(attribute);
    message.getAll(attribute);
    message.has(attribute);
  }
  message.attributeTypes();
  message.unknownRequired(new Set());
  message.verifyFingerprint();
  message.verifyIntegrity(key);
}

Deno.test("RFC 8489 §5: method and class keep their bits apart, for all methods and classes", () => {
  for (let method = 0; method <= 0xff; method++) {
    for (const messageClass of CLASSES) {
      const bytes = new MessageWriter(new Uint8Array(20)).begin(method, messageClass, ID).finish();
      const message = StunMessage.parse(bytes)!;
      assertStrictEquals(message.method, method);
      assertStrictEquals(message.class, messageClass);
    }
  }
});

Deno.test("RFC 8489 §5: the message type of the methods in use, bit by bit", () => {
  const type = (method: number, messageClass: MessageClass) => {
    const bytes = new MessageWriter(new Uint8Array(20)).begin(method, messageClass, ID).finish();
    return (bytes[0]! << 8) | bytes[1]!;
  };
  assertEquals(CLASSES.map((each) => type(METHOD.BINDING, each)), [0x0001, 0x0011, 0x0101, 0x0111]);
  assertEquals(CLASSES.map((each) => type(METHOD.ALLOCATE, each)), [0x0003, 0x0013, 0x0103, 0x0113]);
  assertEquals(type(METHOD.SEND, "indication"), 0x0016);
  assertEquals(type(METHOD.DATA, "indication"), 0x0017);
  assertEquals(type(METHOD.CHANNEL_BIND, "success"), 0x0109);
  assertEquals(type(0xff, "error"), 0x03ff);
});

Deno.test("RFC 8489 §5: header fields are where the figure shows them", () => {
  const message = StunMessage.parse(begin().add(SOFTWARE, "x").finish())!;
  assertEquals(message.bytes, hex("0001 0008 2112a442 b7e7a701 bc34d686 fa87dfae 8022 0001 78000000"));
  assertEquals(message.transactionId, ID);
  assertEquals(message.hasCookie, true);
});

Deno.test("RFC 8489 §6: what is not a message of exactly this size is none", () => {
  const bytes = begin().add(SOFTWARE, "abc").add(USERNAME, "x").finish();
  const longer = new Uint8Array([...bytes, 0, 0, 0, 0]);
  assertEquals(StunMessage.parse(longer), undefined);
  for (let size = 0; size < bytes.length; size++) assertEquals(StunMessage.parse(bytes.slice(0, size)), undefined);
  for (const [index, value] of [[0, 0x40], [0, 0x80], [4, 0x20], [3, 0x11], [3, 0xff]] as const) {
    assertEquals(StunMessage.parse(bytes.with(index, value)), undefined, `byte ${index} = ${value}`);
  }
});

Deno.test("RFC 8489 §14: an attribute that runs past the end makes the message none, with or without its padding", () => {
  const bytes = begin().add(SOFTWARE, "abcd").finish();
  for (let length = 0; length <= 0xffff; length++) {
    const changed = bytes.with(22, length >> 8).with(23, length & 0xff);
    // With a length of 0 the four bytes of the value are a second attribute, of an absurd length.
    assertEquals(StunMessage.parse(changed) !== undefined, length >= 1 && length <= 4, `length ${length}`);
  }
});

Deno.test("RFC 7983 §7: datagrams whose first byte is 0 to 3 may be STUN, no others", () => {
  const stun = [...Array(256).keys()].filter(isStunByte);
  assertEquals(stun, [0, 1, 2, 3]);
});

Deno.test("RFC 8489 §6: whatever bytes arrive, nothing throws", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (bytes, classic) => {
      const message = StunMessage.parse(bytes, { classic });
      if (message !== undefined) askEverything(message);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("RFC 8489 §6: whatever attributes arrive behind a good header, nothing throws", () => {
  const anyWords = fc.array(fc.integer({ min: 0, max: 0xffffffff }), { maxLength: 40 });
  fc.assert(
    fc.property(anyWords, (words) => {
      const bytes = new Uint8Array(20 + 4 * words.length);
      const view = new DataView(bytes.buffer);
      view.setUint32(0, 0x00010000 | (4 * words.length));
      view.setUint32(4, 0x2112a442);
      // Small lengths, so that the attributes of most messages fit.
      words.forEach((word, i) => view.setUint32(20 + 4 * i, word & 0xffff0007));
      const message = StunMessage.parse(bytes);
      if (message !== undefined) askEverything(message);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("RFC 8489 §6: a good message with bytes changed, cut off or added never throws", () => {
  const anyChange = fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }));
  fc.assert(
    fc.property(
      fc.oneof(anyMessageBytes, fc.constantFrom(...VECTORS.map((vector) => vector.bytes))),
      fc.array(anyChange, { maxLength: 6 }),
      fc.nat(40),
      fc.boolean(),
      (bytes, changes, cut, isLengthKept) => {
        const changed = bytes.slice(0, bytes.length - cut);
        for (const [index, value] of changes) if (changed.length > 0) changed[index % changed.length] = value;
        if (!isLengthKept && changed.length >= 20) new DataView(changed.buffer).setUint16(2, changed.length - 20);
        const message = StunMessage.parse(changed);
        if (message !== undefined) askEverything(message);
      },
    ),
    { numRuns: 2000 },
  );
});

Deno.test("RFC 8489 §6: reading leaves the bytes as they were", () => {
  fc.assert(fc.property(anyMessageBytes, (bytes) => {
    const before = bytes.slice();
    askEverything(StunMessage.parse(bytes)!);
    assertEquals(bytes, before);
  }));
});

Deno.test("RFC 8489 §14: of several attributes of one type the first counts, even if it is malformed", () => {
  const message = StunMessage.parse(begin().add(USERNAME, "first").add(USERNAME, "second").finish())!;
  assertEquals(message.get(USERNAME), "first");
  assertEquals(message.getAll(USERNAME), ["first", "second"]);
  const short = uint32Attribute(MAPPED_ADDRESS.type, "too short");
  const address = TransportAddress.parse("192.0.2.1:1");
  const malformed = StunMessage.parse(begin().add(short, 0).add(MAPPED_ADDRESS, address).finish())!;
  assertEquals(malformed.get(MAPPED_ADDRESS), undefined);
  assertEquals(malformed.has(MAPPED_ADDRESS), true);
  assertEquals(malformed.getAll(MAPPED_ADDRESS).map(String), ["undefined", "192.0.2.1:1"]);
});

Deno.test("RFC 8489 §9: what follows MESSAGE-INTEGRITY is ignored, except the other integrity and FINGERPRINT", () => {
  for (const hash of ["sha1", "sha256"] as const) {
    const bytes = begin().add(USERNAME, "alice").addIntegrity(key, hash).add(REALM, "forged").add(USERNAME, "mallory")
      .addFingerprint().finish();
    const message = StunMessage.parse(bytes)!;
    assertEquals(message.has(REALM), false);
    assertEquals(message.get(REALM), undefined);
    assertEquals(message.getAll(USERNAME), ["alice"]);
    assertEquals(message.attributeTypes(), [USERNAME.type]);
    assertEquals(message.unknownRequired(new Set()), [USERNAME.type]);
    assertEquals(message.verifyIntegrity(key), true);
    assertEquals(message.verifyFingerprint(), true);
  }
  const both = StunMessage.parse(begin().addIntegrity(key).addIntegrity(key, "sha256").addFingerprint().finish())!;
  assertEquals(both.has(MESSAGE_INTEGRITY), true);
  assertEquals(both.has(MESSAGE_INTEGRITY_SHA256), true);
  assertEquals(both.has(FINGERPRINT), true);
});

Deno.test("RFC 8489 §6.3.1: unknown comprehension-required attributes are told, each once, optional ones are not", () => {
  const odd = uint32Attribute(0x7abc, "X-ODD");
  const optional = uint32Attribute(0x8abc, "X-OPTIONAL");
  const bytes = begin().add(odd, 1).add(optional, 1).add(USERNAME, "x").add(odd, 2).add(NONCE, "y").finish();
  assertEquals(StunMessage.parse(bytes)!.unknownRequired(new Set([USERNAME.type])), [0x7abc, NONCE.type]);
  assertEquals(StunMessage.parse(begin().finish())!.unknownRequired(new Set()), []);
});

Deno.test("RFC 8489 §6.3.1: a request of nothing but unknown attributes is answered with 64 of them at most", () => {
  const writer = begin(65000);
  for (let i = 0; i < 8000; i++) writer.add(uint32Attribute(0x3000 + i, "X"), i);
  const unknown = StunMessage.parse(writer.finish())!.unknownRequired(new Set());
  assertEquals(unknown, [...Array(64).keys()].map((i) => 0x3000 + i));
});

Deno.test("RFC 3489 §11.1: a classic message is read on request only, and answered with its 16-byte transaction id", () => {
  const bytes = hex("0001 0000 00112233 44556677 8899aabb ccddeeff");
  assertEquals(StunMessage.parse(bytes), undefined);
  const message = StunMessage.parse(bytes, { classic: true })!;
  assertEquals(message.hasCookie, false);
  assertEquals(message.method, METHOD.BINDING);
  const answer = new MessageWriter(new Uint8Array(64)).beginResponse(message, "success")
    .add(MAPPED_ADDRESS, TransportAddress.parse("192.0.2.1:3478")).finish();
  assertEquals(answer, hex("0101 000c 00112233 44556677 8899aabb ccddeeff 0001 0008 0001 0d96 c0000201"));
  assertEquals(StunMessage.parse(REQUEST.bytes, { classic: true })!.hasCookie, true);
});

Deno.test("RFC 8489 §6.3.1.1: a response has the request's method and transaction id", () => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 0xff }), anyTransactionId, (method, id) => {
    const request = StunMessage.parse(new MessageWriter(new Uint8Array(20)).begin(method, "request", id).finish())!;
    const answer = StunMessage.parse(new MessageWriter(new Uint8Array(20)).beginResponse(request, "error").finish())!;
    assertEquals([answer.method, answer.class], [method, "error"]);
    assertEquals(answer.transactionId, id);
    assertEquals(answer.transactionKey, request.transactionKey);
  }));
});

Deno.test("RFC 8489 §5: two transaction ids have one key only if they are the same", () => {
  fc.assert(fc.property(anyTransactionId, anyTransactionId, (a, b) => {
    const keyOf = (id: Uint8Array) =>
      StunMessage.parse(new MessageWriter(new Uint8Array(20)).begin(1, "request", id).finish())!.transactionKey;
    assertEquals(keyOf(a) === keyOf(b), a.every((byte, i) => byte === b[i]));
    assertEquals(keyOf(a), keyOf(a.slice()));
  }));
});

Deno.test("MessageWriter: memory that is too small throws a RangeError at every size, and writes nothing beyond it", () => {
  const write = (memory: Uint8Array) =>
    new MessageWriter(memory).begin(METHOD.BINDING, "request", ID).add(SOFTWARE, "odd")
      .add(MAPPED_ADDRESS, TransportAddress.parse("[2001:db8::1]:1")).addIntegrity(key).addFingerprint().finish();
  const whole = write(new Uint8Array(200));
  for (let size = 0; size < whole.length; size++) {
    const memory = new Uint8Array(200).fill(0xee);
    assertThrows(() => write(memory.subarray(0, size)), RangeError, "memory is too small");
    assertEquals(memory.subarray(size).every((byte) => byte === 0xee), true, `size ${size}`);
  }
  assertEquals(write(new Uint8Array(whole.length)), whole);
});

Deno.test("MessageWriter: a message longer than its 16-bit length throws, and one of the greatest length does not", () => {
  const writer = () => new MessageWriter(new Uint8Array(70000)).begin(METHOD.BINDING, "request", ID);
  assertEquals(StunMessage.parse(writer().add(PADDING, new Uint8Array(65528)).finish())!.bytes.length, 65552);
  assertThrows(() => writer().add(PADDING, new Uint8Array(65529)), RangeError, "must fit 16 bits");
  assertThrows(() => writer().add(PADDING, new Uint8Array(65528)).addFingerprint(), RangeError, "must fit 16 bits");
  assertThrows(() => writer().add(PADDING, new Uint8Array(65528)).addIntegrity(key), RangeError, "must fit 16 bits");
});

Deno.test("MessageWriter: a method or transaction id that no header can hold throws", () => {
  const writer = new MessageWriter(new Uint8Array(64));
  assertThrows(() => writer.begin(0x100, "request", ID), RangeError, "0 to 0xFF");
  assertThrows(() => writer.begin(-1, "request", ID), RangeError, "0 to 0xFF");
  assertThrows(() => writer.begin(1, "request", ID.slice(1)), RangeError, "11 bytes");
});

Deno.test("MessageWriter: begin starts over in the same memory", () => {
  const writer = begin();
  const first = writer.add(USERNAME, "somebody").addFingerprint().finish().slice();
  const second = writer.begin(METHOD.BINDING, "indication", ID).addFingerprint().finish();
  assertEquals(first.length, 40);
  assertEquals(StunMessage.parse(second)!.verifyFingerprint(), true);
});
