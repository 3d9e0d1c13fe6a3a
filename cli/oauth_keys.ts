import { TokenUsers } from "../stun/mod.ts";
import type { Options } from "./config.ts";
import { UsageError } from "./terminal.ts";

/** A key of access tokens and its name. */
export type TokenKey = readonly [kid: string, key: Uint8Array];

/**
 * Reads `KID:BASE64`, as `--oauth-key` has it. Whitespace at the end of the key is no part of it.
 *
 * @throws {SyntaxError} If it is something else. The message does not show the key.
 */
export function parseTokenKey(text: string): TokenKey {
  const colon = text.lastIndexOf(":");
  let key: Uint8Array | undefined;
  try {
    key = Uint8Array.fromBase64(text.slice(colon + 1));
  } catch {
    // Below.
  }
  if (colon < 1 || key === undefined || (key.length !== 16 && key.length !== 32)) {
    const why = key === undefined || colon < 1 ? "" : `: it has ${key.length} bytes`;
    throw new SyntaxError(
      `A key of access tokens must be KID:KEY, where KEY is 16 or 32 bytes as base64, not "${
        text.slice(0, colon + 1)
      }..."${why}`,
    );
  }
  return [text.slice(0, colon), key];
}

/**
 * A file with one key a line.
 *
 * @throws {SyntaxError} If a line is none, or there is none.
 */
export function readTokenKeys(text: string): TokenKey[] {
  const lines = text.split(/\r?\n/).filter((line) => line !== "" && !line.startsWith("#"));
  if (lines.length === 0) throw new SyntaxError("Cannot read keys of access tokens as there is none");
  return lines.map(parseTokenKey);
}

/** Who comes with access tokens, if options say that somebody does. The keys are put in their place by `setKeys()`. */
export function tokenUsers(options: Options, realm: string): TokenUsers | undefined {
  const serverName = options.value("oauth-name");
  if (options.list("oauth-key").length === 0 && options.value("oauth-key-file") === undefined) {
    if (serverName !== undefined) throw new UsageError("Option --oauth-name needs --oauth-key or --oauth-key-file");
    return undefined;
  }
  return new TokenUsers({ serverName: serverName ?? realm, keys: [] });
}
