import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { TransportAddress } from "../../stun/address.ts";
import { NONCE, PASSWORD_ALGORITHM, PASSWORD_ALGORITHMS, REALM, USERHASH, USERNAME } from "../../stun/attributes.ts";
import { LongTermAuthenticator, type RequestPath } from "../../stun/authenticator.ts";
import { longTermUser, UserTable } from "../../stun/users.ts";
import { IntegrityKey, type PasswordAlgorithm, userHash } from "../../stun/integrity.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";

const realm = "example.org";
const path: RequestPath = {
  client: TransportAddress.parse("192.0.2.7:50000"),
  server: TransportAddress.parse("198.51.100.1:3478"),
};
const NONE = new Uint8Array(0);
const SHA256 = { algorithm: 2, parameters: NONE };
const MD5 = { algorithm: 1, parameters: NONE };
const OFFER = [SHA256, MD5];
const T0 = 5_000_000.25;

function make(
  options: { anonymity?: boolean; nonceLifetime?: number; secret?: Uint8Array } = {},
): LongTermAuthenticator {
  const users = new UserTable(realm, [["alice", "secret"], ["bob", "hidden"]]);
  return new LongTermAuthenticator({ realm, users, secret: new Uint8Array(32).fill(3), ...options });
}

function challenge(authenticator: LongTermAuthenticator, on: RequestPath = path, now = T0): StunMessage {
  const writer = new MessageWriter(new Uint8Array(256)).begin(METHOD.ALLOCATE, "error", new Uint8Array(12));
  authenticator.writeChallenge(writer, on, now);
  return StunMessage.parse(writer.finish())!;
}

function nonceOf(authenticator: LongTermAuthenticator, on: RequestPath = path, now = T0): string {
  return challenge(authenticator, on, now).get(NONCE)!;
}

type Build = (writer: MessageWriter) => unknown;

/** A request with whatever attributes, then integrity of the wanted kind. */
function request(
  build: Build,
  key: IntegrityKey | null = keyOf("MD5"),
  hash: "sha1" | "sha256" = "sha1",
): StunMessage {
  const writer = new MessageWriter(new Uint8Array(1024)).begin(METHOD.ALLOCATE, "request", new Uint8Array(12));
  build(writer);
  if (key !== null) writer.addIntegrity(key, hash);
  return StunMessage.parse(writer.finish())!;
}

function keyOf(algorithm: PasswordAlgorithm, username = "alice", password = "secret"): IntegrityKey {
  return IntegrityKey.longTerm(username, realm, password, algorithm);
}

/** The outcome as `[code]`, or user and kind of protection. */
function outcome(authenticator: LongTermAuthenticator, message: StunMessage, on = path, now = T0): (string | number)[] {
  const result = authenticator.authenticate(message, on, now);
  return result.isAuthentic ? [result.user.username, result.protection.hash] : [result.code];
}

function credentials(nonce: string, username = "alice"): Build {
  return (writer) => writer.add(USERNAME, username).add(REALM, realm).add(NONCE, nonce);
}

Deno.test("RFC 8489 §9.2.4, T1: a request without integrity gets 401 with REALM, NONCE and PASSWORD-ALGORITHMS", () => {
  const authenticator = make();
  const result = authenticator.authenticate(request(() => {}, null), path, T0);
  assertEquals(result, { isAuthentic: false, code: 401, protection: undefined });
  const answer = challenge(authenticator);
  assertEquals(answer.attributeTypes(), [REALM.type, NONCE.type, PASSWORD_ALGORITHMS.type]);
  assertEquals(answer.get(REALM), realm);
  assertEquals(answer.get(PASSWORD_ALGORITHMS)!.map(({ algorithm }) => algorithm), [2, 1]);
});

Deno.test("RFC 8489 §9.2.4, T1: integrity without USERNAME or USERHASH, REALM or NONCE gets 400", () => {
  const authenticator = make();
  const nonce = nonceOf(authenticator);
  const without: Record<string, Build> = {
    user: (w) => w.add(REALM, realm).add(NONCE, nonce),
    realm: (w) => w.add(USERNAME, "alice").add(NONCE, nonce),
    nonce: (w) => w.add(USERNAME, "alice").add(REALM, realm),
    "a user name": (w) => w.add(USERNAME, "").add(REALM, realm).add(NONCE, nonce),
    "a realm name": (w) => w.add(USERNAME, "alice").add(REALM, "").add(NONCE, nonce),
    "a nonce of any length": (w) => w.add(USERNAME, "alice").add(REALM, realm).add(NONCE, ""),
  };
  for (const [what, build] of Object.entries(without)) {
    assertEquals(outcome(authenticator, request(build)), [400], what);
  }
});

Deno.test("RFC 8489 §9.2.4, T1: right credentials, with MD5 and SHA-1 as RFC 5389 had them", () => {
  const authenticator = make();
  assertEquals(outcome(authenticator, request(credentials(nonceOf(authenticator)))), ["alice", "sha1"]);
});

Deno.test("RFC 8489 §9.2.4, T1: right credentials with the algorithm of choice; the answer has MESSAGE-INTEGRITY-SHA256", () => {
  const authenticator = make();
  const nonce = nonceOf(authenticator);
  for (const [choice, algorithm] of [[SHA256, "SHA-256"], [MD5, "MD5"]] as const) {
    const build: Build = (writer) => {
      credentials(nonce)(writer);
      writer.add(PASSWORD_ALGORITHM, choice).add(PASSWORD_ALGORITHMS, OFFER);
    };
    assertEquals(outcome(authenticator, request(build, keyOf(algorithm), "sha256")), ["alice", "sha256"]);
    // "Any response generated by the server MUST include the MESSAGE-INTEGRITY-SHA256 attribute", whatever came.
    assertEquals(outcome(authenticator, request(build, keyOf(algorithm), "sha1")), ["alice", "sha256"]);
  }
});

Deno.test("RFC 8489 §9.2.1, T1: an offer that was changed on its way gets 400", () => {
  const authenticator = make();
  const nonce = nonceOf(authenticator);
  const faults: Record<string, Build> = {
    "choice without offer": (w) => w.add(PASSWORD_ALGORITHM, MD5),
    "offer without choice": (w) => w.add(PASSWORD_ALGORITHMS, OFFER),
    "offer cut down": (w) => w.add(PASSWORD_ALGORITHM, MD5).add(PASSWORD_ALGORITHMS, [MD5]),
    "offer turned round": (w) => w.add(PASSWORD_ALGORITHM, MD5).add(PASSWORD_ALGORITHMS, [MD5, SHA256]),
    "offer with parameters": (w) =>
      w.add(PASSWORD_ALGORITHM, MD5).add(PASSWORD_ALGORITHMS, [{ algorithm: 2, parameters: new Uint8Array(4) }, MD5]),
    "choice not offered": (w) =>
      w.add(PASSWORD_ALGORITHM, { algorithm: 3, parameters: NONE }).add(PASSWORD_ALGORITHMS, OFFER),
  };
  for (const [what, build] of Object.entries(faults)) {
    for (const key of [keyOf("MD5"), keyOf("SHA-256")]) {
      const message = request(
        (writer) => {
          credentials(nonce)(writer);
          build(writer);
        },
        key,
        "sha256",
      );
      assertEquals(outcome(authenticator, message), [400], what);
    }
  }
});

Deno.test("RFC 8489 §9.2.1: a nonce whose cookie an attacker changed is stale, not good", () => {
  const authenticator = make();
  const stripped = nonceOf(authenticator).replace("obMatJos2AAAB", "obMatJos2AAAA");
  assertEquals(outcome(authenticator, request(credentials(stripped))), [438]);
});

Deno.test("RFC 8489 §9.2.4, T1: unknown users and wrong passwords get 401, before the nonce is looked at", () => {
  const authenticator = make();
  for (const nonce of [nonceOf(authenticator), "stale"]) {
    assertEquals(outcome(authenticator, request(credentials(nonce, "mallory"))), [401]);
    assertEquals(outcome(authenticator, request(credentials(nonce, "bob"))), [401]);
    assertEquals(outcome(authenticator, request(credentials(nonce), keyOf("MD5", "alice", "guess"))), [401]);
    assertEquals(outcome(authenticator, request(credentials(nonce), keyOf("SHA-256"))), [401]);
  }
});

Deno.test("RFC 8489 §9.2.4: names that mean something to JavaScript are unknown users like any other", () => {
  const authenticator = make();
  for (const name of ["__proto__", "constructor", "toString", "hasOwnProperty"]) {
    assertEquals(outcome(authenticator, request(credentials(nonceOf(authenticator), name))), [401]);
  }
});

Deno.test("RFC 8489 §14.4, T1: USERHASH in place of USERNAME", () => {
  const authenticator = make();
  const nonce = nonceOf(authenticator);
  const hashed = (hash: Uint8Array): Build => (w) => w.add(USERHASH, hash).add(REALM, realm).add(NONCE, nonce);
  assertEquals(outcome(authenticator, request(hashed(userHash("alice", realm)))), ["alice", "sha1"]);
  assertEquals(outcome(authenticator, request(hashed(userHash("mallory", realm)))), [401]);
  const nobody = { find: () => undefined };
  const without = new LongTermAuthenticator({ realm, users: nobody, secret: new Uint8Array(16) });
  assertEquals(outcome(without, request(hashed(userHash("alice", realm)))), [401]);
});

Deno.test("RFC 8489 §9.2.4, T1: a stale nonce gets 438, protected as the request was", () => {
  const authenticator = make();
  const stale = nonceOf(authenticator, path, T0 - 3_600_002);
  const result = authenticator.authenticate(request(credentials(stale)), path, T0);
  assert(!result.isAuthentic);
  assertEquals([result.code, result.protection?.hash], [438, "sha1"]);
});

Deno.test("RFC 8656 §5, T2: a nonce is good for an hour at most, or for as long as was asked for", () => {
  for (const [nonceLifetime, ms] of [[undefined, 3_600_000], [60, 60_000]] as const) {
    const authenticator = make(nonceLifetime === undefined ? {} : { nonceLifetime });
    const message = request(credentials(nonceOf(authenticator)));
    assertEquals(outcome(authenticator, message, path, T0 + ms), ["alice", "sha1"]);
    assertEquals(outcome(authenticator, message, path, T0 + ms + 1), [438]);
    // Nobody's nonce is from the future.
    assertEquals(outcome(authenticator, message, path, T0 - 10), [438]);
  }
  assertThrows(() => make({ nonceLifetime: 3601 }), RangeError, "nonceLifetime");
  assertThrows(() => make({ nonceLifetime: 0 }), RangeError, "nonceLifetime");
});

Deno.test("RFC 8489 §9.2.4, T2: a nonce is good for its client's address and port and the server's only", () => {
  const authenticator = make();
  const message = request(credentials(nonceOf(authenticator)));
  const others = ["192.0.2.7:50001", "192.0.2.8:50000", "[::ffff:192.0.2.7]:50000"].map((text) =>
    TransportAddress.parse(text)
  );
  for (const client of others) assertEquals(outcome(authenticator, message, { ...path, client }), [438]);
  const server = TransportAddress.parse("198.51.100.1:3479");
  assertEquals(outcome(authenticator, message, { ...path, server }), [438]);
  assertEquals(outcome(make({ secret: new Uint8Array(32).fill(4) }), message), [438]);
});

Deno.test("RFC 8656 §5, T2: a new nonce each time, even within one millisecond", () => {
  const authenticator = make();
  const nonces = new Set(Array.from({ length: 200 }, () => nonceOf(authenticator)));
  assertEquals(nonces.size, 200);
});

Deno.test("RFC 8489 §9.2.4, T2: a nonce is still good, and no older one, when the low half of its time has gone round", () => {
  const authenticator = make();
  const later = T0 + 3 * 2 ** 32;
  const message = request(credentials(nonceOf(authenticator)));
  assertEquals(outcome(authenticator, message, path, later), [438]);
  const edge = 2 ** 32 - 5;
  const young = request(credentials(nonceOf(authenticator, path, edge)));
  assertEquals(outcome(authenticator, young, path, edge + 10), ["alice", "sha1"]);
});

Deno.test("RFC 8489 §18.1, T3: the nonce cookie has bit 0 as the least significant one", () => {
  assertEquals(nonceOf(make()).slice(0, 13), "obMatJos2AAAB");
  assertEquals(nonceOf(make({ anonymity: true })).slice(0, 13), "obMatJos2AAAD");
  const authenticator = make({ anonymity: true });
  assertEquals(outcome(authenticator, request(credentials(nonceOf(authenticator)))), ["alice", "sha1"]);
});

Deno.test("A nonce has 32 characters, which fill its attribute without padding", () => {
  const nonce = nonceOf(make());
  assertEquals(nonce.length, 32);
  assert(/^[A-Za-z0-9+/]+$/.test(nonce));
});

Deno.test("RFC 8489 §14.5, T4: what follows the integrity is not looked at", () => {
  const authenticator = make();
  const writer = new MessageWriter(new Uint8Array(512)).begin(METHOD.ALLOCATE, "request", new Uint8Array(12));
  writer.addIntegrity(keyOf("MD5"));
  credentials(nonceOf(authenticator))(writer);
  assertEquals(outcome(authenticator, StunMessage.parse(writer.finish())!), [400]);
});

Deno.test("RFC 8489 §9.2.4: no change of a single bit of a nonce is let through", () => {
  const authenticator = make();
  const nonce = nonceOf(authenticator);
  fc.assert(fc.property(fc.nat(31), fc.integer({ min: 0, max: 5 }), (at, bit) => {
    const base64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const changed = nonce.slice(0, at) + base64[base64.indexOf(nonce[at]!) ^ (1 << bit)] + nonce.slice(at + 1);
    assertNotEquals(outcome(authenticator, request(credentials(changed))), ["alice", "sha1"]);
  }));
});

Deno.test("RFC 8489 §9.2.4: any text as nonce is 438 and no exception", () => {
  const authenticator = make();
  const text = fc.string({ unit: "binary", minLength: 1, maxLength: 127 });
  const nonceLike = fc.string({ minLength: 19, maxLength: 19 }).map((body) => `obMatJos2AAAB${body}`);
  fc.assert(fc.property(fc.oneof(text, nonceLike), (nonce) => {
    const [code] = outcome(authenticator, request(credentials(nonce)));
    assert(code === 438);
  }));
});

Deno.test("RFC 8489 §9.2.4: of a user's several passwords the one is taken that the request was made with", () => {
  const authenticator = make();
  const message = request(credentials(nonceOf(authenticator)));
  const user = (password: string) => longTermUser("alice", realm, password);
  const alternatives = [user("secret"), user("old")];
  const found = { username: "alice", key: () => keyOf("MD5", "alice", "new"), alternatives };
  const result = authenticator.authenticate(message, path, T0, { user: found });
  assert(result.isAuthentic && result.user === alternatives[0]);
  assertEquals(authenticator.authenticate(message, path, T0, { user: user("new") }).isAuthentic, false);
  assertEquals(authenticator.authenticate(message, path, T0, { user: "later" }).isAuthentic, false);
});

Deno.test("A nonce of one's own is told from a made up one, also when it is stale", () => {
  const authenticator = make();
  const message = request(credentials(nonceOf(authenticator)));
  const other = { ...path, client: TransportAddress.parse("192.0.2.7:50001") };
  assertEquals(authenticator.hasOwnNonce(message, path, T0 + 10_000_000), true);
  assertEquals(authenticator.hasOwnNonce(message, other, T0), false);
  assertEquals(authenticator.hasOwnNonce(request(credentials("made up")), path, T0), false);
  assertEquals(authenticator.hasOwnNonce(request(() => {}), path, T0), false);
});

Deno.test("UserTable: keys are made once, names are prepared by OpaqueString", () => {
  const users = new UserTable(realm, new Map([["jos\u0065\u0301", "pass"]]));
  const user = users.find("jos\u00e9");
  assertEquals(user?.key("MD5"), user?.key("MD5"));
  assert(user?.key("MD5") === user?.key("MD5"));
  assertEquals(user?.key("SHA-256")?.bytes, IntegrityKey.longTerm("jos\u00e9", realm, "pass", "SHA-256").bytes);
  assertThrows(() => new UserTable(realm, [["", "pass"]]), SyntaxError);
});

Deno.test("LongTermAuthenticator: refuses a short secret, and a realm that is empty or too long for its attribute", () => {
  assertThrows(() => make({ secret: new Uint8Array(15) }), RangeError, "at least 16 bytes");
  const users = { find: () => undefined };
  const secret = new Uint8Array(16);
  assertThrows(() => new LongTermAuthenticator({ realm: "", users, secret }), SyntaxError);
  assertThrows(() => new LongTermAuthenticator({ realm: "x".repeat(128), users, secret }), RangeError);
});
