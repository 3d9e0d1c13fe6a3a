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

  /** @param bytes The key itself. */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** The key of a short-term credential: the password, prepared by OpaqueString (RFC 8489 §9.1.1). */
  static shortTerm(password: string): IntegrityKey {
    return new IntegrityKey(encoder.encode(opaqueString(password)));
  }

  /** The key of a long-term credential (RFC 8489 §9.2.2, §18.5.1). Realm and password are prepared by OpaqueString. */
  static longTerm(
    username: string,
    realm: string,
    password: string,
    algorithm: PasswordAlgorithm = "MD5",
  ): IntegrityKey {
    const text = encoder.encode(`${opaqueString(username)}:${opaqueString(realm)}:${opaqueString(password)}`);
    return new IntegrityKey(algorithm === "MD5" ? md5(text) : sha256(text));
  }

  /** @internal The keyed HMAC. */
  hmac(hash: HashName): Hmac {
    if (hash === "sha1") return this.#sha1 ??= new Hmac("sha1", this.bytes);
    return this.#sha256 ??= new Hmac("sha256", this.bytes);
  }
}

/** The USERHASH of RFC 8489 §14.4: 32 bytes. */
export function userHash(username: string, realm: string): Uint8Array {
  return sha256(encoder.encode(`${opaqueString(username)}:${opaqueString(realm)}`));
}

/**
 * Prepares a password, realm or user name by the OpaqueString profile (RFC 8265 §4.2): spaces outside ASCII become
 * U+0020, then NFC.
 *
 * @throws {SyntaxError} If the text is empty or has a control character, which the profile disallows.
 */
export function opaqueString(text: string): string {
  if (text === "" || /\p{Cc}/u.test(text)) {
    throw new SyntaxError("Cannot prepare text by OpaqueString as it is empty or has a control character");
  }
  return text.replace(/\p{Zs}/gu, " ").normalize("NFC");
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
  return timingSafeEqual(digest.subarray(0, length), bytes.subarray(offset + 4, offset + 4 + length));
}
