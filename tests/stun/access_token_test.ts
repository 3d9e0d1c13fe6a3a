import { assert, assertEquals, assertThrows } from "@std/assert";
import { openAccessToken, readAccessToken, sealAccessToken, TokenUsers } from "../../stun/access_token.ts";

const text = new TextEncoder();
const LONG_TERM_KEY = text.encode("HGkj32KJGiuy098sdfaqbNjOiaz71923");
const KEYS = { A128GCM: LONG_TERM_KEY.subarray(0, 16), A256GCM: LONG_TERM_KEY };
const NAME = "blackdow.carleon.gov";
const MAC_KEY = text.encode("ZksjpweoixXmvn67534m");
const KID = "2783466234";
/** 92470300704768 in units of 1/65536 s. */
const TIMESTAMP = 1_410_984_813;
const SEALED = {
  serverName: NAME,
  nonce: text.encode("h4j3k2l2n4b5"),
  macKey: MAC_KEY,
  timestamp: TIMESTAMP,
  lifetime: 3600,
};
/** What Debian's turnutils_oauth (coturn 4.6.1) makes of the same. */
const TOKENS = {
  A128GCM: "AAxoNGozazJsMm40YjV/uemfCCe+PfHhvWUUk9MDHTbfVweXhK7l6stl+tTyf6saP5eXS2n4UbJL9a8J7aNX4A==",
  A256GCM: "AAxoNGozazJsMm40YjVhfvE0o9XkTpoZzH3BBLDAPQOypVHY/fXNO23KbxDPt35bLd7ITSk6XFBJk1nwwuJvdg==",
};

Deno.test("RFC 7635 §6.2: tokens are made and read as turnutils_oauth does, with AES-128 and AES-256", () => {
  for (const name of ["A128GCM", "A256GCM"] as const) {
    assertEquals(sealAccessToken(KEYS[name], SEALED).toBase64(), TOKENS[name]);
    const claims = openAccessToken(KEYS[name], NAME, Uint8Array.fromBase64(TOKENS[name]));
    assertEquals(claims, { macKey: MAC_KEY, timestamp: TIMESTAMP, lifetime: 3600 });
  }
});

Deno.test("RFC 7635 §6.2: a token of another key, for another server, cut anywhere or with any bit changed is none", () => {
  const token = sealAccessToken(LONG_TERM_KEY, SEALED);
  assertEquals(openAccessToken(new Uint8Array(32), NAME, token), undefined);
  assertEquals(openAccessToken(KEYS.A128GCM, NAME, token), undefined);
  assertEquals(openAccessToken(LONG_TERM_KEY, "blackdow.carleon.go", token), undefined);
  for (let length = 0; length < token.length; length++) {
    assertEquals(openAccessToken(LONG_TERM_KEY, NAME, token.subarray(0, length)), undefined);
  }
  for (let bit = 0; bit < 8 * token.length; bit++) {
    const changed = token.slice();
    changed[bit >> 3]! ^= 1 << (bit & 7);
    assertEquals(openAccessToken(LONG_TERM_KEY, NAME, changed), undefined);
  }
  assertEquals(openAccessToken(LONG_TERM_KEY, NAME, new Uint8Array(65535)), undefined);
});

Deno.test("RFC 7635 §6.2: a timestamp has fractions of 1/64000 s", () => {
  const token = sealAccessToken(LONG_TERM_KEY, { ...SEALED, timestamp: 1_800_000_000.5, lifetime: 0xffffffff });
  assertEquals(openAccessToken(LONG_TERM_KEY, NAME, token), {
    macKey: MAC_KEY,
    timestamp: 1_800_000_000.5,
    lifetime: 0xffffffff,
  });
});

Deno.test("RFC 7635: what can not be a token is not made into one", () => {
  assertThrows(() => sealAccessToken(new Uint8Array(24), SEALED), RangeError, "16 or 32 bytes");
  assertThrows(() => sealAccessToken(LONG_TERM_KEY, { ...SEALED, nonce: new Uint8Array(8) }), RangeError, "12 bytes");
  assertThrows(() => sealAccessToken(LONG_TERM_KEY, { ...SEALED, macKey: new Uint8Array() }), RangeError, "empty");
  assertThrows(
    () => new TokenUsers({ serverName: NAME, keys: [["a", new Uint8Array(33)]] }),
    RangeError,
    "length is 33",
  );
  assertThrows(() => new TokenUsers({ serverName: "", keys: [] }), SyntaxError);
});

Deno.test("RFC 7635: a token is good while lifetime + 5 s is more than the time from its timestamp, and so long is its user", () => {
  const users = new TokenUsers({ serverName: NAME, keys: [[KID, LONG_TERM_KEY]] });
  const token = sealAccessToken(LONG_TERM_KEY, SEALED);
  const until = (now: number) => users.find(KID, token, TIMESTAMP + now)?.until;
  assertEquals(until(0), TIMESTAMP + 3605);
  assertEquals(until(3604), TIMESTAMP + 3605);
  assertEquals([until(3605), until(-3605)], [undefined, undefined]);
  // Made by a clock that is ahead of this one: it is good no longer for that.
  assertEquals(until(-3604), TIMESTAMP - 3604 + 1);
  const user = users.find(KID, token, TIMESTAMP)!;
  assertEquals([user.username, user.key("MD5")!.bytes, user.key("SHA-256")!.bytes], [KID, MAC_KEY, MAC_KEY]);
  assertEquals(user.alternatives?.map((one) => one.key("MD5")!.bytes), [MAC_KEY.subarray(0, 16)]);
});

Deno.test("RFC 7635: several keys while one replaces another, found by the kid; limits count for each token", () => {
  const [old, young] = [new Uint8Array(16).fill(1), new Uint8Array(32).fill(2)];
  const users = new TokenUsers({ serverName: NAME, keys: [["old", old], ["young", young]] });
  const one = sealAccessToken(old, SEALED);
  const two = sealAccessToken(young, { ...SEALED, macKey: new Uint8Array(20) });
  const three = sealAccessToken(young, SEALED);
  const find = (kid: string, token: Uint8Array) => users.find(kid, token, TIMESTAMP);
  assertEquals([find("old", one)?.username, find("young", two)?.username], ["old", "young"]);
  assertEquals([find("old", two), find("young", one), find("", one), find("__proto__", one)], [
    ...[undefined, undefined, undefined, undefined],
  ]);
  assert(find("young", two)!.account !== find("young", three)!.account);
  users.setKeys([["young", young]]);
  assertEquals([find("old", one), find("young", two)?.username], [undefined, "young"]);
});

Deno.test("RFC 7635 Appendix B: what an authorization server gives, as turnutils_oauth prints it", () => {
  const json = `{"access_token":"${TOKENS.A256GCM}","token_type":"pop","expires_in":3600,"kid":"${KID}",` +
    `"key":"ZksjpweoixXmvn67534m","alg":""}`;
  const token = Uint8Array.fromBase64(TOKENS.A256GCM);
  assertEquals(readAccessToken(json, 1000), { kid: KID, macKey: MAC_KEY, token, expires: 4600 });
  for (const wrong of ["{}", "[]", "null", "3", "{", `{"access_token":"*","kid":"a","key":"b"}`]) {
    assertThrows(() => readAccessToken(wrong, 0), SyntaxError);
  }
});
