// RFC 7635, the client's side of a request.
import { assertEquals } from "@std/assert";
import type { AccessToken } from "../../stun/access_token.ts";
import { ACCESS_TOKEN, ERROR_CODE_ATTRIBUTE, NONCE, REALM, USERHASH, USERNAME } from "../../stun/attributes.ts";
import { type Challenge, LongTermCredentials } from "../../stun/credentials.ts";
import { IntegrityKey } from "../../stun/integrity.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";

const ID = new Uint8Array(12);

function token(fill: number, length = 20): AccessToken {
  return { kid: `key ${fill}`, macKey: new Uint8Array(length).fill(fill), token: new Uint8Array(40).fill(fill) };
}

function sign(credentials: LongTermCredentials, method: number = METHOD.ALLOCATE) {
  const writer = new MessageWriter(new Uint8Array(512)).begin(method, "request", ID);
  const signedWith = credentials.sign(writer);
  return { signedWith, message: StunMessage.parse(writer.finish().slice())! };
}

/** A response: an error with a challenge, or success that is signed. */
function respond(code: number, { nonce = "nonce", key }: { nonce?: string; key?: Uint8Array } = {}): StunMessage {
  const writer = new MessageWriter(new Uint8Array(512)).begin(METHOD.ALLOCATE, code === 0 ? "success" : "error", ID);
  if (code !== 0) writer.add(ERROR_CODE_ATTRIBUTE, { code, reason: "" }).add(REALM, "example.org").add(NONCE, nonce);
  if (key !== undefined) writer.addIntegrity(new IntegrityKey(key));
  return StunMessage.parse(writer.finish().slice())!;
}

/** Credentials that have been challenged. */
function challenged(first: AccessToken, nonce?: string): LongTermCredentials {
  const credentials = LongTermCredentials.withToken(first);
  assertEquals(credentials.handleResponse(respond(401, nonce === undefined ? {} : { nonce }), undefined), "retry");
  return credentials;
}

function handle(credentials: LongTermCredentials, response: StunMessage, signedWith: Challenge | undefined): unknown {
  return credentials.handleResponse(response, signedWith);
}

Deno.test("RFC 7635: a request has token, kid and the token's key; once the server said yes, only Allocate and Refresh have it", () => {
  const credentials = challenged(token(1));
  const { message, signedWith } = sign(credentials);
  assertEquals([message.get(USERNAME), message.get(ACCESS_TOKEN)], ["key 1", token(1).token]);
  assertEquals(message.verifyIntegrity(new IntegrityKey(token(1).macKey)), true);
  const has = (method: number) => sign(credentials, method).message.has(ACCESS_TOKEN);
  assertEquals([has(METHOD.CREATE_PERMISSION), has(METHOD.REFRESH)], [true, true]);
  assertEquals(handle(credentials, respond(0, { key: token(1).macKey }), signedWith), "accept");
  assertEquals([has(METHOD.CREATE_PERMISSION), has(METHOD.CHANNEL_BIND)], [false, false]);
  assertEquals([has(METHOD.ALLOCATE), has(METHOD.REFRESH)], [true, true]);
  // Another one is new again.
  credentials.setToken(token(2));
  assertEquals([has(METHOD.CREATE_PERMISSION), credentials.username], [true, "key 2"]);
  assertEquals(handle(credentials, respond(0, { key: token(2).macKey }), sign(credentials).signedWith), "accept");
  assertEquals(has(METHOD.CREATE_PERMISSION), false);
});

Deno.test("RFC 7635: a 401 to the token before is no word on the new one; answers to requests with the old one are still known", () => {
  const credentials = challenged(token(1, 16));
  const before = sign(credentials);
  credentials.setToken(token(2, 16));
  assertEquals(handle(credentials, respond(0, { key: token(1, 16).macKey }), before.signedWith), "accept");
  assertEquals(handle(credentials, respond(401), before.signedWith), "retry");
  const after = sign(credentials);
  assertEquals(after.message.verifyIntegrity(new IntegrityKey(token(2, 16).macKey)), true);
  assertEquals(handle(credentials, respond(401), after.signedWith), "accept");
});

Deno.test("RFC 7635: a server that does not take the key may take the first 16 bytes of it, of the next token as well", () => {
  const credentials = challenged(token(1, 32));
  assertEquals(handle(credentials, respond(401), sign(credentials).signedWith), "retry");
  const short = sign(credentials);
  assertEquals(short.message.verifyIntegrity(new IntegrityKey(token(1, 16).macKey)), true);
  assertEquals(handle(credentials, respond(401), short.signedWith), "accept");
  credentials.setToken(token(2, 32));
  assertEquals(sign(credentials).message.verifyIntegrity(new IntegrityKey(token(2, 16).macKey)), true);
});

Deno.test("RFC 7635: a kid is not hidden behind USERHASH, as it is nobody's name", () => {
  const credentials = challenged(token(1), "obMatJos2AAAC and more");
  const { message } = sign(credentials);
  assertEquals([message.has(USERHASH), message.get(USERNAME)], [false, "key 1"]);
});
