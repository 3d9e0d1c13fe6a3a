import { assert, assertEquals, assertThrows } from "@std/assert";
import { IntegrityKey, userHash } from "../../stun/integrity.ts";
import { restCredential, RestUsers } from "../../stun/rest_users.ts";
import { type LongTermUser, UserDirectories, type UserQuery, UserTable } from "../../stun/users.ts";
import { readUsers, userLine } from "../../stun/users_file.ts";

const realm = "example.org";
const NOW: UserQuery = { unixTime: 1_800_000_000, isNew: true };
const LATER: UserQuery = { ...NOW, isNew: false };
/** By `openssl dgst` over `alice:example.org:secret`. */
const MD5 = "543e1aec5d3614f03141652d6ada51b2";
const SHA256 = "d1659fff7a501be15962adc35514ca6a5868905695f2dd1093741f931e000a1f";

function keysOf(user: LongTermUser | undefined): (string | undefined)[] {
  return (["MD5", "SHA-256"] as const).map((algorithm) => user?.key(algorithm)?.bytes.toHex());
}

Deno.test("RFC 8489 §9.2.2: a stored key does what the password does, for the algorithm it is of", () => {
  assertEquals(keysOf(new UserTable(realm, [["alice", "secret"]]).find("alice")), [MD5, SHA256]);
  const stored = new UserTable(realm, [
    ["both", { md5: Uint8Array.fromHex(MD5), sha256: Uint8Array.fromHex(SHA256) }],
    ["old", { md5: Uint8Array.fromHex(MD5) }],
  ]);
  assertEquals(keysOf(stored.find("both")), [MD5, SHA256]);
  assertEquals(keysOf(stored.find("old")), [MD5, undefined]);
  assertThrows(() => new UserTable(realm, [["bad", { md5: new Uint8Array(15) }]]), RangeError);
});

Deno.test("UserTable.replace(): all or nothing, and USERHASH with it", () => {
  const users = new UserTable(realm, [["alice", "secret"]]);
  assertThrows(() => users.replace([["bob", "hidden"], ["", "x"]]), SyntaxError);
  assertEquals([users.find("alice")?.username, users.find("bob")], ["alice", undefined]);
  users.replace([["bob", "hidden"]]);
  assertEquals([users.size, users.find("alice"), users.find("bob")?.username], [1, undefined, "bob"]);
  assertEquals(users.findByHash(userHash("bob", realm))?.username, "bob");
  assertEquals(users.findByHash(userHash("alice", realm)), undefined);
});

Deno.test("UserDirectories: the first that knows a user has the say, also when it says later", () => {
  const asking = { find: (name: string) => name === "carol" ? "later" as const : undefined };
  const users = new UserDirectories([
    new UserTable(realm, [["alice", "a"]]),
    asking,
    new UserTable(realm, [["bob", "b"]]),
  ]);
  const name = (found: LongTermUser | "later" | undefined) => typeof found === "object" ? found.username : found;
  assertEquals(["alice", "carol", "bob", "dave"].map((one) => name(users.find(one, NOW))), [
    "alice",
    "later",
    "bob",
    undefined,
  ]);
  assertEquals(name(users.findByHash(userHash("bob", realm))), "bob");
  const hidden = new UserDirectories([new UserTable(realm, []), { find: () => undefined, findByHash: () => "later" }]);
  assertEquals(hidden.findByHash(userHash("bob", realm)), "later");
});

Deno.test("A users file: passwords with colons, keys, comments, empty lines, either end of line", () => {
  const text = `# users\r\nalice:se:cret\r\n\nbob:0x${MD5}\ncarol:0x${SHA256},0x${MD5.toUpperCase()}\ndave:0xnothex\n`;
  assertEquals(readUsers(text), [
    ["alice", "se:cret"],
    ["bob", { md5: Uint8Array.fromHex(MD5) }],
    ["carol", { sha256: Uint8Array.fromHex(SHA256), md5: Uint8Array.fromHex(MD5) }],
    ["dave", "0xnothex"],
  ]);
});

Deno.test("A users file: what is wrong is named by its line, and no secret is shown", () => {
  for (
    const [text, line] of [["alice", 1], ["\n:secret", 2], ["alice:", 1], ["a:b\na:c", 2], ["a:0x1234", 1], [
      "a:b\u0007",
      1,
    ]]
  ) {
    const error = assertThrows(() => readUsers(String(text)), SyntaxError, `line ${line} `);
    assert(!error.message.includes("secret") && !error.message.includes("1234"), error.message);
  }
});

Deno.test("userLine(): both keys, as openssl makes them, and readUsers() takes them", () => {
  const line = userLine("alice", realm, "secret");
  assertEquals(line, `alice:0x${MD5},0x${SHA256}`);
  assertEquals(keysOf(new UserTable(realm, readUsers(line)).find("alice")), [MD5, SHA256]);
  assertThrows(() => userLine("a:b", realm, "secret"), SyntaxError);
});

Deno.test("draft-uberti-rtcweb-turn-rest-00 §2.2: the password is base64 of HMAC-SHA1 over the user name", () => {
  assertEquals(restCredential("north", { expires: 1_800_000_000.5, user: "alice" }), {
    username: "1800000000:alice",
    // By openssl dgst -sha1 -hmac north.
    password: "sIm7pn/teO7y3AyXGeXl/xAQR6Q=",
  });
  assertEquals(restCredential("north", { expires: 1 }).username, "1");
});

Deno.test("draft-uberti-rtcweb-turn-rest-00 §4.2: the time counts for what is new", () => {
  const users = new RestUsers({ realm, secrets: ["north"] });
  const found = (name: string, query: UserQuery) => users.find(name, query)?.username;
  assertEquals(found("1800000001:alice", NOW), "1800000001:alice");
  assertEquals(found("1800000000:alice", NOW), undefined);
  assertEquals(found("1800000000:alice", LATER), "1800000000:alice");
  for (const name of ["alice", "", ":alice", "-1:alice", "0x7:alice", "1e12:alice", "1800000001 :a", "1".repeat(16)]) {
    assertEquals(found(name, NOW), undefined, name);
  }
  assertEquals(found("1800000001:a\u0007", NOW), undefined, "a name that nobody can have");
});

Deno.test("draft-uberti-rtcweb-turn-rest-00 §5.2: credentials of each secret are good while one replaces another", () => {
  const users = new RestUsers({ realm, secrets: ["new", "old"] });
  const keyOf = (secret: string) => {
    const { username, password } = restCredential(secret, { expires: NOW.unixTime + 1, user: "alice" });
    return IntegrityKey.longTerm(username, realm, password).bytes.toHex();
  };
  const user = users.find("1800000001:alice", NOW)!;
  assertEquals([user, ...user.alternatives!].map((one) => keysOf(one)[0]), [keyOf("new"), keyOf("old")]);
  users.setSecrets(["new"]);
  assertEquals(users.find("1800000001:alice", NOW)!.alternatives, []);
  assertThrows(() => users.setSecrets([]), RangeError);
});

Deno.test("Credentials of one user at several times count as one user's", () => {
  const users = new RestUsers({ realm, secrets: ["north"] });
  const names = ["1800000001:alice", "1800000002:alice", "1800000003", "1800000003:"];
  assertEquals(names.map((name) => users.find(name, NOW)?.account), ["alice", "alice", "1800000003", "1800000003:"]);
});
