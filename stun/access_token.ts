import { NONCE_LENGTH, open, seal } from "./_aead.ts";
import { sha256 } from "./_crypto.ts";
import { IntegrityKey, opaqueString } from "./integrity.ts";
import type { LongTermUser } from "./users.ts";

const encoder = new TextEncoder();
/** "The RECOMMENDED value for the allowed Delta is 5 seconds" (RFC 7635): how far two clocks may be apart. */
const DELTA = 5;
/** As long as the keys of passwords were before RFC 8489. */
const COMMON_KEY_LENGTH = 16;
/** RFC 7635 §6.2: a timestamp counts 1/64000 s. */
const TICKS = 64_000;
/** What is behind the key in the encrypted block: timestamp (8) and lifetime (4). */
const TIMES_LENGTH = 12;

/** What an access token says (RFC 7635 §6.2). */
export interface AccessTokenClaims {
  /** What its holder signs requests with: 20 bytes or more. */
  readonly macKey: Uint8Array;
  /** When it was made, in seconds since 1970. */
  readonly timestamp: number;
  /** How long it is good, in seconds from `timestamp`. */
  readonly lifetime: number;
}

/** What a client gets of an authorization server (RFC 7635 Appendix B). */
export interface AccessToken {
  /** Which key of the server the token was made with; the client's user name. */
  readonly kid: string;
  /** What requests are signed with. */
  readonly macKey: Uint8Array;
  /** The token: bytes that only the server understands. */
  readonly token: Uint8Array;
  /** When it ends, in seconds since 1970, if that is known. */
  readonly expires?: number;
}

/** Whom and when a token is made for. */
export interface SealTokenOptions extends AccessTokenClaims {
  /** The server's name, as its THIRD-PARTY-AUTHORIZATION has it: the token is good there only. */
  readonly serverName: string;
  /** 12 bytes, never twice with one key. */
  readonly nonce: Uint8Array;
}

/**
 * Makes an access token (RFC 7635 §6.2), as an authorization server does.
 *
 * @example A token and what the server reads in it
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openAccessToken, sealAccessToken } from "@natkit/natkit/stun";
 *
 * const random = (length: number) => crypto.getRandomValues(new Uint8Array(length));
 * const [key, macKey] = [random(32), random(32)];
 * const times = { timestamp: 1_800_000_000, lifetime: 3600 };
 * const token = sealAccessToken(key, { serverName: "turn.example.org", nonce: random(12), macKey, ...times });
 * assertEquals(openAccessToken(key, "turn.example.org", token), { macKey, ...times });
 * assertEquals(openAccessToken(key, "other.example.org", token), undefined);
 * ```
 *
 * @param key The key that authorization server and server share: 16 bytes for AES-128-GCM, 32 for AES-256-GCM.
 * @param options What it says.
 * @throws {RangeError} If the key or the nonce has another length, or a number does not fit.
 */
export function sealAccessToken(key: Uint8Array, options: SealTokenOptions): Uint8Array {
  const { serverName, nonce, macKey, timestamp, lifetime } = options;
  checkKey(key);
  if (nonce.length !== NONCE_LENGTH) {
    throw new RangeError(`Cannot use nonce as it must have ${NONCE_LENGTH} bytes: current length is ${nonce.length}`);
  }
  if (!(macKey.length > 0 && macKey.length <= 0xffff && timestamp >= 0 && timestamp < 2 ** 48)) {
    throw new RangeError("Cannot make token as its key is empty or its timestamp out of range");
  }
  const block = new Uint8Array(2 + macKey.length + TIMES_LENGTH);
  const view = new DataView(block.buffer);
  view.setUint16(0, macKey.length);
  block.set(macKey, 2);
  const seconds = Math.floor(timestamp);
  const at = 2 + macKey.length;
  view.setUint32(at, Math.floor(seconds / 0x10000));
  view.setUint16(at + 4, seconds % 0x10000);
  view.setUint16(at + 6, Math.floor((timestamp - seconds) * TICKS));
  view.setUint32(at + 8, lifetime);
  const sealed = seal({ key, nonce, associated: encoder.encode(serverName) }, block);
  const token = new Uint8Array(2 + NONCE_LENGTH + sealed.length);
  token[1] = NONCE_LENGTH;
  token.set(nonce, 2);
  token.set(sealed, 2 + NONCE_LENGTH);
  return token;
}

/** What a token says; `undefined` if it was not made with this key for this server. */
export function openAccessToken(
  key: Uint8Array,
  serverName: string,
  token: Uint8Array,
): AccessTokenClaims | undefined {
  if (token.length < 2 || token[0] !== 0 || token[1] !== NONCE_LENGTH) return undefined;
  const nonce = token.subarray(2, 2 + NONCE_LENGTH);
  const block = open({ key, nonce, associated: encoder.encode(serverName) }, token.subarray(2 + NONCE_LENGTH));
  if (block === undefined || block.length < 2) return undefined;
  const view = new DataView(block.buffer, block.byteOffset);
  const length = view.getUint16(0);
  if (length === 0 || block.length !== 2 + length + TIMES_LENGTH) return undefined;
  const at = 2 + length;
  const seconds = view.getUint32(at) * 0x10000 + view.getUint16(at + 4);
  return {
    macKey: block.slice(2, at),
    timestamp: seconds + view.getUint16(at + 6) / TICKS,
    lifetime: view.getUint32(at + 8),
  };
}

/**
 * Reads what an authorization server gives, as in RFC 7635 Appendix B: a JSON object with `access_token` (base64), `kid`,
 * `key` (text, whose bytes are the key) and `expires_in` (seconds).
 *
 * @param text The JSON.
 * @param unixTime When it was given, in seconds since 1970.
 * @throws {SyntaxError} If it is something else.
 */
export function readAccessToken(text: string, unixTime: number): AccessToken {
  const fields = new Map<string, unknown>(Object.entries(JSON.parse(text) ?? {}));
  const [token, kid, key, lifetime] = ["access_token", "kid", "key", "expires_in"].map((name) => fields.get(name));
  if (typeof token !== "string" || typeof kid !== "string" || typeof key !== "string" || key === "") {
    throw new SyntaxError("Cannot read token as access_token, kid and key must be text (RFC 7635 Appendix B)");
  }
  return {
    kid: opaqueString(kid),
    macKey: encoder.encode(key),
    token: Uint8Array.fromBase64(token),
    ...typeof lifetime === "number" && { expires: unixTime + lifetime },
  };
}

/** Options of `TokenUsers`. */
export interface TokenUsersOptions {
  /** The server's name: what tokens must have been made for, and clients are told. */
  readonly serverName: string;
  /** Keys by their `kid`: 16 bytes for AES-128-GCM, 32 for AES-256-GCM. Several while one replaces another. */
  readonly keys: Iterable<readonly [kid: string, key: Uint8Array]>;
}

/**
 * The users of a server that come with an access token of an authorization server (RFC 7635). The two share a key, and
 * nothing else is stored.
 *
 * A user name is a `kid`, which many have; limits count for each token. Requests may be signed with the token's key or
 * with its first 16 bytes, as some clients do.
 */
export class TokenUsers {
  /** The server's name. */
  readonly serverName: string;
  #keys: ReadonlyMap<string, Uint8Array> = new Map();

  /**
   * Users with tokens made with these keys.
   *
   * @throws {SyntaxError} If the server's name or a `kid` is empty or has a control character.
   * @throws {RangeError} If a key has a wrong length.
   */
  constructor(options: TokenUsersOptions) {
    this.serverName = opaqueString(options.serverName);
    this.setKeys(options.keys);
  }

  /** The keys by their `kid`. */
  get keys(): ReadonlyMap<string, Uint8Array> {
    return this.#keys;
  }

  /**
   * Takes other keys in place of all.
   *
   * @throws {SyntaxError} If a `kid` is empty or has a control character.
   * @throws {RangeError} If a key has a wrong length.
   */
  setKeys(keys: Iterable<readonly [kid: string, key: Uint8Array]>): void {
    const checked = new Map<string, Uint8Array>();
    for (const [kid, key] of keys) {
      checkKey(key);
      checked.set(opaqueString(kid), key.slice());
    }
    this.#keys = checked;
  }

  /** Who has this token, unless it is not authentic, or its time is over at `unixTime`. */
  find(kid: string, token: Uint8Array, unixTime: number): LongTermUser | undefined {
    const key = this.#keys.get(kid);
    const claims = key === undefined ? undefined : openAccessToken(key, this.serverName, token);
    if (claims === undefined) return undefined;
    // "lifetime + Delta > abs(RDnew - TS)"
    const left = claims.lifetime + DELTA - Math.abs(unixTime - claims.timestamp);
    if (!(left > 0)) return undefined;
    const account = `${kid} ${sha256(claims.macKey).toBase64()}`;
    const holder = (macKey: Uint8Array): LongTermUser => {
      const integrityKey = new IntegrityKey(macKey);
      return { username: kid, account, until: unixTime + left, key: () => integrityKey };
    };
    const user = holder(claims.macKey);
    // turnutils_uclient signs with so much of it, as with the MD5 of a password.
    const part = claims.macKey.subarray(0, COMMON_KEY_LENGTH);
    return part.length === claims.macKey.length ? user : { ...user, alternatives: [holder(part)] };
  }
}

function checkKey(key: Uint8Array): void {
  if (key.length === 16 || key.length === 32) return;
  throw new RangeError(`Cannot use key as it must have 16 or 32 bytes: current length is ${key.length}`);
}
