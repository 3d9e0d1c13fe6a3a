import { createHash, createHmac } from "node:crypto";
import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { ICE_CONTROLLED, PRIORITY } from "../../ice/attributes.ts";
import {
  bytesAttribute,
  FINGERPRINT,
  IntegrityKey,
  MESSAGE_INTEGRITY,
  MESSAGE_INTEGRITY_SHA256,
  MessageWriter,
  METHOD,
  NONCE,
  opaqueString,
  PASSWORD_ALGORITHM,
  REALM,
  SOFTWARE,
  StunMessage,
  uint32Attribute,
  USERHASH,
  userHash,
  USERNAME,
  XOR_MAPPED_ADDRESS,
} from "../../stun/mod.ts";
import { anyMessageBytes } from "../arbitraries.ts";
import {
  hex,
  IPV4_RESPONSE,
  IPV6_RESPONSE,
  LONG_TERM_REQUEST,
  REQUEST,
  USERHASH_REQUEST,
  type Vector,
  VECTORS,
} from "../vectors/stun_messages.ts";

const ID = hex("b7e7a701 bc34d686 fa87dfae");
const key = IntegrityKey.shortTerm("secret");

function keyOf(vector: Vector): IntegrityKey {
  return vector.realm === undefined
    ? IntegrityKey.shortTerm(vector.password)
    : IntegrityKey.longTerm(vector.username!, vector.realm, vector.password, vector.algorithm);
}

function begin(): MessageWriter {
  return new MessageWriter(new Uint8Array(2048)).begin(METHOD.BINDING, "request", ID).add(USERNAME, "alice");
}

function parse(bytes: Uint8Array): StunMessage {
  return StunMessage.parse(bytes)!;
}

for (const vector of VECTORS) {
  Deno.test(`${vector.source}: integrity and fingerprint are right, and no bit of it may change`, () => {
    const message = parse(vector.bytes);
    assertEquals(message.verifyIntegrity(keyOf(vector)), true);
    assertEquals(message.verifyFingerprint(), message.has(FINGERPRINT));
    for (let bit = 0; bit < 8 * vector.bytes.length; bit++) {
      const index = bit >> 3;
      const changed = StunMessage.parse(vector.bytes.with(index, vector.bytes[index]! ^ (1 << (bit & 7))));
      if (changed === undefined) continue;
      // What lies behind the integrity, FINGERPRINT, it does not cover; only the length it is computed for.
      const covered = index < vector.bytes.length - (message.has(FINGERPRINT) ? 8 : 0);
      if (covered) assertEquals(changed.verifyIntegrity(keyOf(vector)), false, `bit ${bit}`);
      assertEquals(changed.verifyFingerprint(), false, `bit ${bit}`);
    }
  });
}

Deno.test("RFC 5769 §2.1: the attributes of the sample request", () => {
  const message = parse(REQUEST.bytes);
  assertEquals([message.method, message.class], [METHOD.BINDING, "request"]);
  assertEquals(message.get(SOFTWARE), "STUN test client");
  assertEquals(message.get(PRIORITY), 0x6e0001ff);
  assertEquals(message.get(ICE_CONTROLLED), 0x932ff9b151263b36n);
  assertEquals(message.get(USERNAME), REQUEST.username);
});

Deno.test("RFC 5769 §2.2, §2.3: the mapped addresses of the sample responses", () => {
  assertEquals(String(parse(IPV4_RESPONSE.bytes).get(XOR_MAPPED_ADDRESS)), "192.0.2.1:32853");
  const ipv6 = parse(IPV6_RESPONSE.bytes);
  assertEquals(String(ipv6.get(XOR_MAPPED_ADDRESS)), "[2001:db8:1234:5678:11:2233:4455:6677]:32853");
  assertEquals([ipv6.method, ipv6.class], [METHOD.BINDING, "success"]);
  assertEquals(ipv6.get(SOFTWARE), "test vector");
});

Deno.test("RFC 5769 §2.4: written by us, the sample long-term request is the same byte for byte", () => {
  const { bytes, username, realm } = LONG_TERM_REQUEST;
  const message = parse(bytes);
  assertEquals([message.get(USERNAME), message.get(REALM)], [username, realm]);
  const written = new MessageWriter(new Uint8Array(256)).begin(METHOD.BINDING, "request", message.transactionId)
    .add(USERNAME, username!).add(NONCE, "f//499k954d6OL34oL9FSTvy64sA").add(REALM, realm!)
    .addIntegrity(keyOf(LONG_TERM_REQUEST)).finish();
  assertEquals(written, bytes);
});

Deno.test("RFC 8489 §B.1: written by us, the sample request with USERHASH and SHA-256 is the same byte for byte", () => {
  const { bytes, username, realm } = USERHASH_REQUEST;
  const written = new MessageWriter(new Uint8Array(256)).begin(METHOD.BINDING, "request", bytes.subarray(8, 20))
    .add(USERHASH, userHash(username!, realm!)).add(NONCE, "obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA")
    .add(REALM, realm!).add(PASSWORD_ALGORITHM, { algorithm: 2, parameters: new Uint8Array(0) })
    .addIntegrity(keyOf(USERHASH_REQUEST), "sha256").finish();
  assertEquals(written, bytes);
});

Deno.test("RFC 2104: the kept HMAC states give what another implementation computes, for keys of any length", () => {
  const anyKey = fc.uint8Array({ minLength: 1, maxLength: 200 });
  fc.assert(fc.property(anyKey, anyMessageBytes, fc.constantFrom("sha1", "sha256"), (secret, bytes, hash) => {
    const memory = new Uint8Array(bytes.length + 80);
    const writer = new MessageWriter(memory).begin(METHOD.BINDING, "request", ID)
      .add(bytesAttribute(0x7000, "X"), bytes.subarray(0, 1000)).addIntegrity(new IntegrityKey(secret), hash);
    const message = parse(writer.finish());
    const size = hash === "sha1" ? 20 : 32;
    const covered = message.bytes.subarray(0, message.bytes.length - size - 4);
    const wanted = createHmac(hash, secret).update(covered).digest();
    assertEquals(message.bytes.subarray(-size), new Uint8Array(wanted));
    assertEquals(message.verifyIntegrity(new IntegrityKey(secret)), true);
  }));
});

Deno.test("RFC 8489 §14.5: a wrong key does not verify, and a message without integrity verifies with none", () => {
  const other = IntegrityKey.shortTerm("Secret");
  assertEquals(parse(begin().addIntegrity(key).finish()).verifyIntegrity(other), false);
  assertEquals(parse(begin().addIntegrity(key, "sha256").finish()).verifyIntegrity(other), false);
  assertEquals(parse(begin().finish()).verifyIntegrity(key), false);
  assertEquals(parse(begin().finish()).hasIntegrity, false);
  assertEquals(parse(begin().addIntegrity(key).finish()).hasIntegrity, true);
  assertEquals(parse(begin().addIntegrity(key, "sha256").finish()).hasIntegrity, true);
});

Deno.test("RFC 8489 §9.2.4: with both integrities, the SHA-256 one decides", () => {
  const both = begin().addIntegrity(key).addIntegrity(key, "sha256").finish();
  assertEquals(parse(both).verifyIntegrity(key), true);
  const brokenSha1 = both.with(40, both[40]! ^ 1);
  assertEquals(parse(brokenSha1).get(MESSAGE_INTEGRITY)!.byteOffset, 36, "byte 40 is in MESSAGE-INTEGRITY");
  assertEquals(parse(brokenSha1).verifyIntegrity(key), false, "SHA-256 covers MESSAGE-INTEGRITY");
  assertEquals(parse(both.with(both.length - 1, both.at(-1)! ^ 1)).verifyIntegrity(key), false);
});

Deno.test("RFC 8489 §14.5: MESSAGE-INTEGRITY of any length but 20 does not verify", () => {
  for (let length = 0; length <= 40; length++) {
    if (length === 20) continue;
    const attribute = bytesAttribute(MESSAGE_INTEGRITY.type, "MESSAGE-INTEGRITY");
    assertEquals(parse(begin().add(attribute, new Uint8Array(length)).finish()).verifyIntegrity(key), false);
  }
});

Deno.test("RFC 8489 §14.6: MESSAGE-INTEGRITY-SHA256 may be cut to 16, 20, 24, 28 bytes, to nothing else", () => {
  const attribute = bytesAttribute(MESSAGE_INTEGRITY_SHA256.type, "MESSAGE-INTEGRITY-SHA256");
  const verified: number[] = [];
  for (let length = 0; length <= 40; length++) {
    const bytes = begin().add(attribute, new Uint8Array(length)).addFingerprint().finish();
    const offset = 32;
    const covered = bytes.slice(0, offset);
    new DataView(covered.buffer).setUint16(2, offset + 4 + length - 20);
    const digest = createHmac("sha256", key.bytes).update(covered).digest();
    bytes.set(digest.subarray(0, length), offset + 4);
    if (parse(bytes).verifyIntegrity(key)) verified.push(length);
  }
  assertEquals(verified, [16, 20, 24, 28, 32]);
});

Deno.test("RFC 8489 §14.7: FINGERPRINT is right, last and of 4 bytes, or it does not verify", () => {
  const good = begin().addFingerprint().finish();
  assertEquals(parse(good).verifyFingerprint(), true);
  assertEquals(parse(begin().finish()).verifyFingerprint(), false);
  assertEquals(parse(begin().addFingerprint().add(SOFTWARE, "x").finish()).verifyFingerprint(), false);
  assertEquals(parse(begin().add(uint32Attribute(FINGERPRINT.type, "X"), 1).finish()).verifyFingerprint(), false);
  // Two of them: the first counts, and it is not the last attribute.
  assertEquals(parse(begin().addFingerprint().addFingerprint().finish()).verifyFingerprint(), false);
  for (const length of [1, 2, 3]) {
    const short = good.with(good.length - 5, length);
    assertEquals(parse(short).has(FINGERPRINT), true);
    assertEquals(parse(short).verifyFingerprint(), false);
  }
});

Deno.test("RFC 8489 §18.5.1: long-term keys are MD5 and SHA-256 of user name, realm and password", () => {
  const text = "user:example.org:p:w";
  assertEquals(IntegrityKey.longTerm("user", "example.org", "p:w").bytes, digest("md5", text));
  assertEquals(IntegrityKey.longTerm("user", "example.org", "p:w", "SHA-256").bytes, digest("sha256", text));
  assertEquals(userHash("user", "example.org"), digest("sha256", "user:example.org"));
});

Deno.test("RFC 8265 §4.2: OpaqueString maps spaces, composes, keeps case, and leaves what is prepared as it is", () => {
  assertEquals(opaqueString("a\u00a0b\u3000c"), "a b c");
  assertEquals(opaqueString("e\u0301"), "\u00e9");
  assertEquals(opaqueString("Ab \u2168 \u00aa"), "Ab \u2168 \u00aa", "no compatibility mapping: NFC, not NFKC");
  assertEquals(opaqueString("\u{1f600}\u30de"), "\u{1f600}\u30de");
  fc.assert(fc.property(fc.string({ unit: "grapheme", minLength: 1 }), (text) => {
    let prepared: string;
    try {
      prepared = opaqueString(text);
    } catch {
      return;
    }
    assertEquals(opaqueString(prepared), prepared);
  }));
});

Deno.test("RFC 8264 §4.3: OpaqueString refuses what is outside the FreeformClass", () => {
  const refused = {
    "nothing": "",
    "a control": "a\u0007",
    "DEL": "\u007f",
    "a soft hyphen": "The\u00adM",
    "a line separator": "a\u2028b",
    "a byte order mark": "\ufeffa",
    "a noncharacter": "\uffff",
    "private use": "\ue000",
    "a lone surrogate": "\ud800",
    "unassigned": "\u0378",
    "old Hangul": "\u1100",
    "an exception": "\u0640",
  };
  for (const [what, text] of Object.entries(refused)) {
    assertThrows(() => opaqueString(text), SyntaxError, "OpaqueString", what);
  }
  assertThrows(() => IntegrityKey.shortTerm(""), SyntaxError, "it is empty");
  assertThrows(() => IntegrityKey.longTerm("a\n", "r", "p"), SyntaxError, "U+000A");
});

Deno.test("RFC 8489 §9.2.2: a realm that no profile allows, as the network may bring it, is not an exception", () => {
  for (const realm of ["", "a\u0000b", "\ud800"]) IntegrityKey.longTerm("user", realm, "secret");
  assertEquals(IntegrityKey.longTerm("u", "", "p").bytes, digest("md5", "u::p"));
  assertEquals(IntegrityKey.longTerm("u", "a\u00a0b", "p").bytes, digest("md5", "u:a b:p"));
  // "... the realm, with any quotes and trailing nulls removed"
  assertEquals(IntegrityKey.longTerm("u", '"r"\0\0', "p").bytes, digest("md5", "u:r:p"));
});

function digest(hash: string, text: string): Uint8Array {
  return new Uint8Array(createHash(hash).update(text).digest());
}
