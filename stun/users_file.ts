import { IntegrityKey, opaqueString } from "./integrity.ts";
import type { StoredKeys, UserCredential } from "./users.ts";

const KEYS = /^0x[0-9a-f]+(,0x[0-9a-f]+)*$/i;

/**
 * Reads a users file: a line `NAME:PASSWORD` for each user, or `NAME:0xKEY[,0xKEY]` with keys in place of the password,
 * 32 hexadecimal digits for MD5 and 64 for SHA-256, as `userLine()` makes them. A name has no colon, but a password may.
 * Empty lines and lines that begin with `#` are skipped.
 *
 * @example Two users, one of them without a password on disk
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { readUsers, userLine, UserTable } from "@natkit/natkit/stun";
 *
 * const text = `# who may relay\nalice:secret\n${userLine("bob", "example.org", "hidden")}\n`;
 * const users = new UserTable("example.org", readUsers(text));
 * assertEquals(users.size, 2);
 * assertEquals(users.find("bob")?.username, "bob");
 * ```
 *
 * @param text The file's text.
 * @throws {SyntaxError} If a line is none of these, or a name comes twice. Names the line, and never shows what is in it.
 */
export function readUsers(text: string): [name: string, credential: UserCredential][] {
  const users = new Map<string, UserCredential>();
  for (const [i, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    const fail = (why: string) => new SyntaxError(`Cannot read users as line ${i + 1} ${why}`);
    const colon = line.indexOf(":");
    if (colon < 1 || colon === line.length - 1) throw fail("must be NAME:PASSWORD or NAME:0xKEY");
    const name = prepared(line.slice(0, colon), fail);
    if (users.has(name)) throw fail("has a name that an earlier one has");
    const secret = line.slice(colon + 1);
    if (KEYS.test(secret)) users.set(name, readKeys(secret, fail));
    else users.set(name, prepared(secret, fail));
  }
  return [...users];
}

/**
 * A line for a users file that has both keys and not the password. The keys are good for this realm only; whoever has
 * them can use the server as that user, so the file is still a secret.
 *
 * @throws {SyntaxError} If the name or the password is empty or has a control character, or the name has a colon.
 */
export function userLine(username: string, realm: string, password: string): string {
  const name = opaqueString(username);
  if (name.includes(":") || name.startsWith("#")) {
    throw new SyntaxError(`Cannot write user as the name must have no ":" and not begin with "#": "${name}"`);
  }
  const keys = (["MD5", "SHA-256"] as const).map((algorithm) =>
    `0x${IntegrityKey.longTerm(name, realm, password, algorithm).bytes.toHex()}`
  );
  return `${name}:${keys.join(",")}`;
}

function readKeys(text: string, fail: (why: string) => SyntaxError): StoredKeys {
  const keys: { md5?: Uint8Array; sha256?: Uint8Array } = {};
  for (const one of text.split(",")) {
    const digits = one.slice(2);
    if (digits.length === 32 && keys.md5 === undefined) keys.md5 = Uint8Array.fromHex(digits);
    else if (digits.length === 64 && keys.sha256 === undefined) keys.sha256 = Uint8Array.fromHex(digits);
    else throw fail("must have keys of 32 or 64 hexadecimal digits, one of each at most");
  }
  return keys;
}

function prepared(text: string, fail: (why: string) => SyntaxError): string {
  try {
    return opaqueString(text);
  } catch {
    throw fail("has a character that names and passwords must not have");
  }
}
