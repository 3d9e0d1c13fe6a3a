import { assert, assertEquals, assertInstanceOf, assertStrictEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { type Attribute, bytesAttribute } from "../../stun/attribute.ts";
import * as attributes from "../../stun/attributes.ts";
import { type Challenge, LongTermCredentials, StunChallengeError } from "../../stun/credentials.ts";
import { IntegrityKey, userHash } from "../../stun/integrity.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";

const { ERROR_CODE_ATTRIBUTE, MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256, NONCE, PASSWORD_ALGORITHM } = attributes;
const { PASSWORD_ALGORITHMS, REALM, USERHASH, USERNAME } = attributes;
const RAW_NONCE: Attribute<Uint8Array> = bytesAttribute(NONCE.type, "NONCE");
const RAW_REALM: Attribute<Uint8Array> = bytesAttribute(REALM.type, "REALM");
const RAW_ALGORITHMS: Attribute<Uint8Array> = bytesAttribute(PASSWORD_ALGORITHMS.type, "PASSWORD-ALGORITHMS");

const MD5 = { algorithm: 1, parameters: new Uint8Array() };
const SHA256 = { algorithm: 2, parameters: new Uint8Array() };
/** The nonce cookies: no features, password algorithms, username anonymity, both. */
const [PLAIN, ALGORITHMS, ANONYMOUS, BOTH] = ["AAAA", "AAAB", "AAAC", "AAAD"].map((bits) => `obMatJos2${bits}`);
const id = new Uint8Array(12);

function alice(): LongTermCredentials {
  return new LongTermCredentials("alice", "secret");
}

function request(credentials: LongTermCredentials): { message: StunMessage; signedWith: Challenge | undefined } {
  const writer = new MessageWriter(new Uint8Array(4096)).begin(METHOD.ALLOCATE, "request", id);
  const signedWith = credentials.sign(writer);
  return { message: StunMessage.parse(writer.finish())!, signedWith };
}

function response(
  code: number | undefined,
  add: (writer: MessageWriter) => unknown = () => {},
  key?: IntegrityKey,
  hash: "sha1" | "sha256" = "sha1",
): StunMessage {
  const writer = new MessageWriter(new Uint8Array(4096));
  writer.begin(METHOD.ALLOCATE, code === undefined ? "success" : "error", id);
  if (code !== undefined) writer.add(ERROR_CODE_ATTRIBUTE, { code, reason: "" });
  add(writer);
  if (key !== undefined) writer.addIntegrity(key, hash);
  return StunMessage.parse(writer.finish())!;
}

function challenge(
  code: number,
  nonce: string,
  algorithms?: readonly attributes.PasswordAlgorithmEntry[],
): StunMessage {
  return response(code, (writer) => {
    writer.add(REALM, "example.org").add(NONCE, nonce);
    if (algorithms !== undefined) writer.add(PASSWORD_ALGORITHMS, algorithms);
  });
}

/** Credentials that have met a 401, and what they sign with. */
function challenged(
  nonce: string,
  algorithms?: readonly attributes.PasswordAlgorithmEntry[],
): { credentials: LongTermCredentials; signedWith: Challenge } {
  const credentials = alice();
  assertEquals(credentials.handleResponse(challenge(401, nonce, algorithms), undefined), "retry");
  return { credentials, signedWith: request(credentials).signedWith! };
}

Deno.test("RFC 8489 §9.2.3.1: the first request has nothing of credentials", () => {
  const credentials = alice();
  const { message, signedWith } = request(credentials);
  assertEquals(message.attributeTypes(), []);
  assertEquals(message.hasIntegrity, false);
  assertEquals(signedWith, undefined);
  assertEquals(credentials.isReady, false);
});

Deno.test("RFC 8489 §9.2.5: after a 401 without cookie: USERNAME, REALM, NONCE, MESSAGE-INTEGRITY by an MD5 key", () => {
  const { credentials } = challenged("f//499k954d6OL34oL9FSTvy64sA");
  const { message } = request(credentials);
  assertEquals(message.attributeTypes(), [USERNAME.type, REALM.type, NONCE.type]);
  assertEquals(message.get(USERNAME), "alice");
  assertEquals(message.get(REALM), "example.org");
  assertEquals(message.get(NONCE), "f//499k954d6OL34oL9FSTvy64sA");
  assert(message.has(MESSAGE_INTEGRITY));
  assert(!message.has(MESSAGE_INTEGRITY_SHA256));
  assert(message.verifyIntegrity(IntegrityKey.longTerm("alice", "example.org", "secret")));
});

Deno.test("RFC 8489 §9.2.5, §18.1: USERHASH exactly when the nonce promises username anonymity", () => {
  for (const [nonce, isAnonymous] of [[PLAIN, false], [ANONYMOUS, true], ["obMatJos2**", false]] as const) {
    const { message } = request(challenged(`${nonce}rest`).credentials);
    assertEquals(message.has(USERHASH), isAnonymous, nonce);
    assertEquals(message.has(USERNAME), !isAnonymous, nonce);
    if (isAnonymous) assertEquals(message.get(USERHASH), userHash("alice", "example.org"));
  }
});

Deno.test("RFC 8489 §9.2.5: the first known of PASSWORD-ALGORITHMS is chosen and the list echoed, with SHA-256 integrity", () => {
  const unknown = { algorithm: 0x1234, parameters: Uint8Array.of(1, 2, 3) };
  const strange = { algorithm: 2, parameters: Uint8Array.of(1) };
  for (
    const [offered, chosen] of [
      [[SHA256, MD5], SHA256],
      [[MD5, SHA256], MD5],
      [[unknown, strange, MD5], MD5],
    ] as const
  ) {
    const { credentials } = challenged(`${ALGORITHMS}x`, offered);
    const { message } = request(credentials);
    assertEquals(
      message.attributeTypes(),
      [USERNAME, REALM, NONCE, PASSWORD_ALGORITHMS, PASSWORD_ALGORITHM].map(({ type }) => type),
    );
    assertEquals(message.get(PASSWORD_ALGORITHM), chosen);
    assertEquals(message.get(RAW_ALGORITHMS), challenge(401, "", offered).get(RAW_ALGORITHMS));
    assert(message.has(MESSAGE_INTEGRITY_SHA256));
    assert(!message.has(MESSAGE_INTEGRITY));
    const algorithm = chosen === MD5 ? "MD5" : "SHA-256";
    assert(message.verifyIntegrity(IntegrityKey.longTerm("alice", "example.org", "secret", algorithm)));
  }
});

Deno.test("RFC 8489 §9.2.5: no retry without a password algorithm that is known", () => {
  for (const offered of [[], [{ algorithm: 3, parameters: new Uint8Array() }]]) {
    const credentials = alice();
    assertInstanceOf(
      credentials.handleResponse(challenge(401, `${ALGORITHMS}x`, offered), undefined),
      StunChallengeError,
    );
    assertEquals(credentials.isReady, false);
  }
});

Deno.test("RFC 8489 §9.2.1: a challenge whose nonce promises PASSWORD-ALGORITHMS and does not have it is refused", () => {
  for (const nonce of [ALGORITHMS, BOTH]) {
    assertInstanceOf(alice().handleResponse(challenge(401, `${nonce}x`), undefined), StunChallengeError);
    const { credentials, signedWith } = challenged(`${nonce}1`, [SHA256]);
    assertInstanceOf(credentials.handleResponse(challenge(438, `${nonce}2`), signedWith), StunChallengeError);
  }
});

Deno.test("RFC 8489 §9.2.5: what was once SHA-256 does not fall back to MD5, whatever a 438 says", () => {
  const { credentials, signedWith } = challenged(`${ALGORITHMS}1`, [SHA256]);
  assertInstanceOf(credentials.handleResponse(challenge(438, "plain"), signedWith), StunChallengeError);
  assert(request(credentials).message.has(MESSAGE_INTEGRITY_SHA256));
});

Deno.test("RFC 8489 §9.2.5: a 401 in spite of credentials is final, unless it is for another realm", () => {
  const { credentials, signedWith } = challenged("1");
  assertEquals(credentials.handleResponse(challenge(401, "2"), signedWith), "accept");
  const other = response(401, (writer) => writer.add(REALM, "example.com").add(NONCE, "3"));
  assertEquals(credentials.handleResponse(other, signedWith), "retry");
  assertEquals(request(credentials).message.get(REALM), "example.com");
});

Deno.test("RFC 8489 §9.2.5: a 438 brings a new nonce, the key stays; the refused nonce again is final", () => {
  const { credentials, signedWith } = challenged("1");
  assertEquals(credentials.handleResponse(challenge(438, "2"), signedWith), "retry");
  const second = request(credentials).signedWith!;
  assertEquals(new TextDecoder().decode(second.nonce), "2");
  assertStrictEquals(second.key, signedWith.key);
  assertEquals(credentials.handleResponse(challenge(438, "2"), second), "accept");
  // Another request that was signed with the first nonce goes on with what is the newest now.
  assertEquals(credentials.handleResponse(challenge(438, "2"), signedWith), "retry");
});

Deno.test("RFC 8489 §9.2.5: a 438 may leave out REALM, and count only if its integrity is right", () => {
  const { credentials, signedWith } = challenged("1");
  const forged = IntegrityKey.longTerm("alice", "example.org", "guess");
  assertEquals(
    credentials.handleResponse(response(438, (writer) => writer.add(NONCE, "2"), forged), signedWith),
    "violated",
  );
  assertEquals(new TextDecoder().decode(request(credentials).signedWith!.nonce), "1");
  assertEquals(
    credentials.handleResponse(response(438, (writer) => writer.add(NONCE, "2"), signedWith.key), signedWith),
    "retry",
  );
  assertEquals(request(credentials).message.get(REALM), "example.org");
});

Deno.test("RFC 8489 §9.2.5: other responses count with the right integrity of either kind, and only then", () => {
  const { credentials, signedWith } = challenged("1");
  const wrong = IntegrityKey.longTerm("alice", "example.org", "guess");
  for (const code of [undefined, 300, 400, 403, 437, 486, 508]) {
    for (const hash of ["sha1", "sha256"] as const) {
      const signed = response(code, undefined, signedWith.key, hash);
      assertEquals(credentials.handleResponse(signed, signedWith), "accept", `${code} ${hash}`);
      const forged = response(code, undefined, wrong, hash);
      assertEquals(credentials.handleResponse(forged, signedWith), "violated", `${code} ${hash}`);
    }
    // A 400 may be from before the server looked at the credentials.
    const verdict = code === 400 ? "ignore" : "violated";
    assertEquals(credentials.handleResponse(response(code), signedWith), verdict, `${code} without`);
  }
});

Deno.test("RFC 8489 §9.2.5: a 400 without integrity is ignored even before there are credentials", () => {
  assertEquals(alice().handleResponse(response(400), undefined), "ignore");
  assertEquals(alice().handleResponse(response(486), undefined), "accept");
  assertEquals(alice().handleResponse(response(undefined), undefined), "accept");
});

Deno.test("RFC 8489 §9.2.5: a response whose nonce promises PASSWORD-ALGORITHMS and does not have it is ignored", () => {
  const { credentials, signedWith } = challenged("1");
  const stripped = response(undefined, (writer) => writer.add(NONCE, `${ALGORITHMS}x`), signedWith.key);
  assertEquals(credentials.handleResponse(stripped, signedWith), "ignore");
});

Deno.test("RFC 8489 §9.2.2: the key is made from the realm without quotes; the realm is echoed as it came", () => {
  const credentials = alice();
  credentials.handleResponse(response(401, (writer) => writer.add(REALM, `"example.org"`).add(NONCE, "1")), undefined);
  const { message } = request(credentials);
  assertEquals(message.get(REALM), `"example.org"`);
  assert(message.verifyIntegrity(IntegrityKey.longTerm("alice", "example.org", "secret")));
});

Deno.test("RFC 8489 §9.2.5: a realm that OpaqueString disallows is a realm all the same", () => {
  for (const realm of ["", "a\nb", "\u1100"]) {
    const credentials = alice();
    credentials.handleResponse(response(401, (writer) => writer.add(REALM, realm).add(NONCE, "1")), undefined);
    assert(request(credentials).message.verifyIntegrity(IntegrityKey.longTerm("alice", realm, "secret")));
  }
});

Deno.test("RFC 8489 §14.10: a nonce is opaque: bytes that are no UTF-8 come back as they were", () => {
  const nonce = Uint8Array.from({ length: 256 }, (_, i) => 255 - i);
  const credentials = alice();
  const verdict = credentials.handleResponse(
    response(401, (writer) => writer.add(REALM, "r").add(RAW_NONCE, nonce)),
    undefined,
  );
  assertEquals(verdict, "retry");
  assertEquals(request(credentials).message.get(RAW_NONCE), nonce);
});

Deno.test("RFC 8489 §14.9: the longest realm and nonce of RFC 5389 fit, what is longer is no challenge", () => {
  const long = (length: number) => new TextEncoder().encode("r".repeat(length));
  const of = (realm: number, nonce: number) =>
    response(401, (writer) => writer.add(RAW_REALM, long(realm)).add(RAW_NONCE, long(nonce)));
  const credentials = alice();
  assertEquals(credentials.handleResponse(of(763, 763), undefined), "retry");
  assertEquals(request(credentials).message.get(RAW_REALM)?.length, 763);
  assertInstanceOf(alice().handleResponse(of(764, 10), undefined), StunChallengeError);
  assertInstanceOf(alice().handleResponse(of(10, 764), undefined), StunChallengeError);
});

Deno.test("RFC 8489 §9.2.5: a 401 without REALM or NONCE, or with a REALM that is no text, ends the request", () => {
  const broken: ((writer: MessageWriter) => unknown)[] = [
    () => {},
    (writer) => writer.add(REALM, "example.org"),
    (writer) => writer.add(NONCE, "1"),
    (writer) => writer.add(RAW_REALM, Uint8Array.of(0xff)).add(NONCE, "1"),
    (writer) => writer.add(REALM, "r").add(NONCE, "1").add(RAW_ALGORITHMS, Uint8Array.of(0, 1, 0, 99)),
  ];
  for (const add of broken) assertInstanceOf(alice().handleResponse(response(401, add), undefined), StunChallengeError);
});

Deno.test("RFC 8489 §9.2.5: no response whatever makes signing or judging throw", () => {
  const types = [USERNAME, REALM, NONCE, PASSWORD_ALGORITHMS, PASSWORD_ALGORITHM, MESSAGE_INTEGRITY, USERHASH]
    .map(({ type }) => type);
  const attribute = fc.tuple(fc.constantFrom(...types), fc.uint8Array({ maxLength: 40 }));
  const nonce = fc.constantFrom(PLAIN, ALGORITHMS, ANONYMOUS, BOTH, "x");
  fc.assert(fc.property(
    fc.array(fc.tuple(fc.constantFrom(401, 438, 400, undefined), fc.array(attribute, { maxLength: 5 }), nonce), {
      maxLength: 6,
    }),
    (responses) => {
      const credentials = alice();
      for (const [code, added, nonce] of responses) {
        const { signedWith } = request(credentials);
        const message = response(code, (writer) => {
          if (added.length % 2 === 0) writer.add(REALM, "example.org").add(NONCE, nonce!);
          for (const [type, bytes] of added) writer.add(bytesAttribute(type, "any"), bytes);
        });
        credentials.handleResponse(message, signedWith);
      }
      request(credentials);
    },
  ));
});

Deno.test("LongTermCredentials: a name or password that has no wire form is refused at once", () => {
  assertThrows(() => new LongTermCredentials("", "secret"), SyntaxError, "Cannot use user name");
  assertThrows(() => new LongTermCredentials("alice", ""), SyntaxError, "Cannot use password");
  assertThrows(() => new LongTermCredentials("ali\nce", "secret"), SyntaxError, "Cannot use user name");
  assertThrows(() => new LongTermCredentials("ä".repeat(255), "secret"), RangeError, "508 bytes");
  assertEquals(new LongTermCredentials("ä".repeat(254), "secret").username.length, 254);
});

Deno.test("LongTermCredentials.forget(): the next request is a first one again", () => {
  const { credentials } = challenged("1");
  credentials.forget();
  assertEquals(request(credentials).message.attributeTypes(), []);
});
