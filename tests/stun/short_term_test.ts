import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { bytesAttribute } from "../../stun/attribute.ts";
import { MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256, USERNAME } from "../../stun/attributes.ts";
import { IntegrityKey } from "../../stun/integrity.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import { ShortTermAuthenticator, ShortTermCredentials } from "../../stun/short_term.ts";

const KEY = IntegrityKey.shortTerm("secret");
const id = new Uint8Array(12);

function request(credentials: ShortTermCredentials) {
  const writer = new MessageWriter(new Uint8Array(1024)).begin(METHOD.BINDING, "request", id);
  const signedWith = credentials.sign(writer);
  const message = StunMessage.parse(writer.finish())!;
  return { message, signedWith, kinds: [message.has(MESSAGE_INTEGRITY), message.has(MESSAGE_INTEGRITY_SHA256)] };
}

function response(kind?: "sha1" | "sha256", key = KEY): StunMessage {
  const writer = new MessageWriter(new Uint8Array(256)).begin(METHOD.BINDING, "success", id);
  if (kind !== undefined) writer.addIntegrity(key, kind);
  return StunMessage.parse(writer.finish())!;
}

Deno.test("RFC 8489 §9.1.2: a first request has USERNAME and both kinds of integrity, each of them right", () => {
  const { message, kinds } = request(new ShortTermCredentials("alice", "secret"));
  assertEquals([message.get(USERNAME), ...kinds], ["alice", true, true]);
  assert(message.verifyIntegrity(KEY));
  // As a server of RFC 5389 reads it: the message ends with MESSAGE-INTEGRITY.
  const old = message.bytes.slice(0, -36);
  old[3] = old.length - 20;
  assert(StunMessage.parse(old)!.verifyIntegrity(KEY));
});

Deno.test("RFC 8489 §9.1.5: later requests have the kind that the server answered with; another server is asked anew", () => {
  for (const [kind, kinds] of [["sha1", [true, false]], ["sha256", [false, true]]] as const) {
    const credentials = new ShortTermCredentials("alice", "secret");
    const first = request(credentials);
    assertEquals(credentials.handleResponse(response(kind), first.signedWith), "accept");
    assertEquals(request(credentials).kinds, [...kinds]);
    credentials.forget();
    assertEquals(request(credentials).kinds, [true, true]);
  }
});

Deno.test("RFC 8489 §9.1.4: an answer of a kind that was not sent is discarded, even if it is right", () => {
  for (const [kind, other] of [["sha1", "sha256"], ["sha256", "sha1"]] as const) {
    const credentials = new ShortTermCredentials("alice", "secret");
    credentials.handleResponse(response(kind), request(credentials).signedWith);
    const second = request(credentials).signedWith;
    assertEquals(credentials.handleResponse(response(other), second), "ignore");
    assertEquals(credentials.handleResponse(response(kind), second), "accept");
  }
});

Deno.test("RFC 8489 §9.1.4: an answer with wrong integrity, or none, teaches nothing", () => {
  const credentials = new ShortTermCredentials("alice", "secret");
  const { signedWith } = request(credentials);
  for (const answer of [response(), response("sha1", IntegrityKey.shortTerm("guess"))]) {
    assertEquals(credentials.handleResponse(answer, signedWith), "violated");
  }
  assertEquals(request(credentials).kinds, [true, true]);
});

Deno.test("RFC 8489 §9.1.1: name and password go through OpaqueString; what it disallows is refused at once", () => {
  const { message } = request(new ShortTermCredentials("Zoe\u0308", "cafe\u0301"));
  assertEquals(new ShortTermAuthenticator([["Zo\u00eb", "caf\u00e9"]]).authenticate(message).isAuthentic, true);
  assertThrows(() => new ShortTermCredentials("", "secret"), SyntaxError, "Cannot use user name");
  assertThrows(() => new ShortTermCredentials("alice", "a\nb"), SyntaxError, "Cannot use password");
  assertThrows(() => new ShortTermCredentials("\u00e4".repeat(255), "secret"), RangeError, "508 bytes");
  assertThrows(() => new ShortTermAuthenticator([["alice", ""]]), SyntaxError, "Cannot use password");
});

Deno.test("RFC 8489 §9.1.3: no request whatever makes the authenticator throw, and none without the key gets in", () => {
  const authenticator = new ShortTermAuthenticator([["alice", "secret"], ["__proto__", "x"]]);
  const type = fc.constantFrom(USERNAME, MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256).map(({ type }) => type);
  const name = fc.constantFrom("alice", "__proto__", "constructor").map((text) => new TextEncoder().encode(text));
  const attribute = fc.tuple(type, fc.oneof(name, fc.uint8Array({ maxLength: 40 })));
  fc.assert(fc.property(fc.array(attribute, { maxLength: 5 }), (all) => {
    const writer = new MessageWriter(new Uint8Array(1024)).begin(METHOD.BINDING, "request", id);
    for (const [type, bytes] of all) writer.add(bytesAttribute(type, "any"), bytes);
    assertEquals(authenticator.authenticate(StunMessage.parse(writer.finish())!).isAuthentic, false);
  }));
});
