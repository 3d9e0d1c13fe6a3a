import { timingSafeEqual } from "@std/crypto/timing-safe-equal";
import { HASH_LENGTH, type HashName, Hmac, md5, sha256 } from "./_crypto.ts";

const encoder = new TextEncoder();
const digests = { sha1: new Uint8Array(20), sha256: new Uint8Array(32) } as const;

/** How a long-term password becomes a key (RFC 8489 §18.5.1). */
export type PasswordAlgorithm = "MD5" | "SHA-256";

/** A key for MESSAGE-INTEGRITY and MESSAGE-INTEGRITY-SHA256. Make it once per credential: it keeps its HMAC states. */
export class IntegrityKey {
  /** The key itself. Secret. */
  readonly bytes: Uint8Array;
  #sha1: Hmac | undefined;
  #sha256: Hmac | undefined;

  /** A key from its bytes, which are kept, not copied. */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /**
   * The key of a short-term credential: the password, prepared by OpaqueString (RFC 8489 §9.1.1).
   *
   * @throws {SyntaxError} If the profile disallows the password.
   */
  static shortTerm(password: string): IntegrityKey {
    return new IntegrityKey(encoder.encode(opaqueString(password)));
  }

  /**
   * The key of a long-term credential (RFC 8489 §9.2.2, §18.5.1). User name and password are prepared by OpaqueString.
   *
   * So is the realm, except that one which the profile disallows is taken as it is: a realm comes from the network.
   *
   * @throws {SyntaxError} If the profile disallows the user name or the password.
   */
  static longTerm(
    username: string,
    realm: string,
    password: string,
    algorithm: PasswordAlgorithm = "MD5",
  ): IntegrityKey {
    const text = encoder.encode(`${opaqueString(username)}:${preparedRealm(realm)}:${opaqueString(password)}`);
    return new IntegrityKey(algorithm === "MD5" ? md5(text) : sha256(text));
  }

  /** @internal The keyed HMAC. */
  hmac(hash: HashName): Hmac {
    if (hash === "sha1") return this.#sha1 ??= new Hmac("sha1", this.bytes);
    return this.#sha256 ??= new Hmac("sha256", this.bytes);
  }
}

/**
 * The USERHASH of RFC 8489 §14.4: 32 bytes.
 *
 * @throws {SyntaxError} If OpaqueString disallows the user name.
 */
export function userHash(username: string, realm: string): Uint8Array {
  return sha256(encoder.encode(`${opaqueString(username)}:${preparedRealm(realm)}`));
}

/** Outside RFC 8264 §4.3's FreeformClass: letters, digits, marks, symbols, punctuation and spaces are inside it. */
const DISALLOWED = new RegExp(
  [
    // Controls, unassigned, private use and surrogates, line and paragraph separators. The two joiners come back below.
    "(?![\\u200c\\u200d])[\\p{C}\\p{Zl}\\p{Zp}\\p{Default_Ignorable_Code_Point}\\p{Noncharacter_Code_Point}]",
    // OldHangulJamo (§9.9).
    "[\\u1100-\\u11ff\\ua960-\\ua97c\\ud7b0-\\ud7fb]",
    // Exceptions (§9.6, from RFC 5892 §2.6).
    "[\\u0640\\u07fa\\u302e\\u302f\\u3031-\\u3035\\u303b]",
  ].join("|"),
  "u",
);

/**
 * Prepares a password, realm or user name by the OpaqueString profile (RFC 8265 §4.2): spaces outside ASCII become
 * U+0020, then NFC. Text that is prepared stays as it is.
 *
 * Characters that Unicode allows in some surroundings only (RFC 5892 appendix A) are let through in any.
 *
 * @throws {SyntaxError} If the text is empty or has a character that the profile disallows.
 */
export function opaqueString(text: string): string {
  if (/^[ -~]+$/.test(text)) return text;
  const wrong = DISALLOWED.exec(text)?.[0];
  if (text === "" || wrong !== undefined) {
    const why = wrong === undefined ? "it is empty" : `it has the character U+${codePoint(wrong)}`;
    throw new SyntaxError(`Cannot use text as a name or password as ${why} (RFC 8265, OpaqueString)`);
  }
  return text.replace(/\p{Zs}/gu, " ").normalize("NFC");
}

/** RFC 8489 §9.2.2: "with any quotes and trailing nulls removed". */
function preparedRealm(realm: string): string {
  const bare = realm.replace(/\0+$/, "").replace(/^"(.*)"$/s, "$1");
  return bare === "" || DISALLOWED.test(bare) ? bare : opaqueString(bare);
}

function codePoint(character: string): string {
  return character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0");
}

/** @internal Puts the HMAC into the integrity attribute at `offset`, whose header is already there. */
export function signMessage(bytes: Uint8Array, offset: number, hash: HashName, key: IntegrityKey): void {
  const digest = digests[hash];
  key.hmac(hash).sign(bytes, 0, offset, digest);
  bytes.set(digest, offset + 4);
}

/** @internal Checks the integrity attribute at `offset`. */
export function verifyMessage(bytes: Uint8Array, offset: number, hash: HashName, key: IntegrityKey): boolean {
  const length = (bytes[offset + 2]! << 8) | bytes[offset + 3]!;
  const full = HASH_LENGTH[hash];
  // RFC 8489 §14.6: MESSAGE-INTEGRITY-SHA256 may be cut to a multiple of four, but not below 16 bytes.
  if (length !== full && (hash !== "sha256" || length > full || length < 16 || (length & 3) !== 0)) return false;
  // The HMAC is taken as if the message ended with this attribute (§14.5): the length field is changed for that while.
  const high = bytes[2]!;
  const low = bytes[3]!;
  const covered = offset + 4 + length - 20;
  bytes[2] = covered >> 8;
  bytes[3] = covered & 0xff;
  const digest = digests[hash];
  key.hmac(hash).sign(bytes, 0, offset, digest);
  bytes[2] = high;
  bytes[3] = low;
  const wanted = length === full ? digest : digest.subarray(0, length);
  return timingSafeEqual(wanted, bytes.subarray(offset + 4, offset + 4 + length));
}
