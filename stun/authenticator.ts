import { timingSafeEqual } from "@std/crypto/timing-safe-equal";
import type { TokenUsers } from "./access_token.ts";
import { Hmac } from "./_crypto.ts";
import type { TransportAddress } from "./address.ts";
import {
  ACCESS_TOKEN,
  MESSAGE_INTEGRITY,
  MESSAGE_INTEGRITY_SHA256,
  NONCE,
  PASSWORD_ALGORITHM,
  PASSWORD_ALGORITHM_NUMBER,
  PASSWORD_ALGORITHMS,
  type PasswordAlgorithmEntry,
  REALM,
  THIRD_PARTY_AUTHORIZATION,
  USERHASH,
  USERNAME,
} from "./attributes.ts";
import { type IntegrityKey, opaqueString, type PasswordAlgorithm } from "./integrity.ts";
import { MessageWriter, type StunMessage } from "./message.ts";
import type { LongTermUser, UserDirectory, UserQuery } from "./users.ts";

/** Between whom a request travels. A nonce is good on one path only. */
export interface RequestPath {
  /** The client as the server sees it. */
  readonly client: TransportAddress;
  /** The server's address that the client sends to. */
  readonly server: TransportAddress;
}

/** How the answer to an authenticated request is protected. */
export interface AnswerProtection {
  /** The user's key. */
  readonly key: IntegrityKey;
  /** `"sha256"` for MESSAGE-INTEGRITY-SHA256, `"sha1"` for MESSAGE-INTEGRITY. */
  readonly hash: "sha1" | "sha256";
}

/** What became of a request's authentication, by whatever mechanism. */
export type RequestAuthentication =
  | {
    /** The request is of whom it says. */
    readonly isAuthentic: true;
    /** What the answer must carry. */
    readonly protection: AnswerProtection;
  }
  | {
    /** The request must be answered with an error. */
    readonly isAuthentic: false;
    /** The error. */
    readonly code: 400 | 401 | 438;
    /** What the answer must carry; `undefined` when it can not be protected. */
    readonly protection: AnswerProtection | undefined;
  };

/** A server's side of a credential mechanism: `LongTermAuthenticator` or `ShortTermAuthenticator`. */
export interface RequestAuthenticator {
  /** Checks a request that travels on `path`; `now` is the time in ms. */
  authenticate(request: StunMessage, path: RequestPath, now: number): RequestAuthentication;
  /** Adds to a 401 or 438 answer what the client needs to try again, if the mechanism has such. */
  writeChallenge?(writer: MessageWriter, path: RequestPath, now: number): void;
}

/** What became of a request's authentication by a long-term credential. */
export type Authentication =
  | {
    /** The request is the user's. */
    readonly isAuthentic: true;
    /** Whose request it is. */
    readonly user: LongTermUser;
    /** What the answer must carry. */
    readonly protection: AnswerProtection;
  }
  | {
    /** The request must be answered with an error. */
    readonly isAuthentic: false;
    /** The error. 401 and 438 carry a challenge: `writeChallenge()`. */
    readonly code: 400 | 401 | 438;
    /** What the answer must carry; `undefined` when it can not be protected. */
    readonly protection: AnswerProtection | undefined;
  };

/** What a search for a request's user came to. */
export interface FoundUser {
  /** The user; `"later"` and none are the same here. */
  readonly user: LongTermUser | "later" | undefined;
}

/** Options of a `LongTermAuthenticator`. */
export interface LongTermAuthenticatorOptions {
  /** The realm. */
  readonly realm: string;
  /** The users. */
  readonly users: UserDirectory;
  /** Those who come with an access token (RFC 7635). Clients are then told of it. Default: nobody. */
  readonly tokens?: TokenUsers;
  /** What nonces are signed with: 16 random bytes or more. Servers that share it must share their clock as well. */
  readonly secret: Uint8Array;
  /** How long a nonce is good, in seconds, at most 3600 (RFC 8656 §5). Default: 3600. */
  readonly nonceLifetime?: number;
  /** Whether clients are told to hide user names behind USERHASH, which is taken in any case. Default: false. */
  readonly anonymity?: boolean;
}

const NONCE_COOKIE = "obMatJos2";
/** IANA's "STUN Security Features". Bit 0 is the least significant one: RFC 8489's text was corrected by an erratum. */
const PASSWORD_ALGORITHMS_BIT = 1;
const USERNAME_ANONYMITY_BIT = 2;
const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const COOKIE_LENGTH = 13;
/** 19 characters: with the cookie that makes 32, so none is lost to padding. */
const BODY_CHARACTERS = 19;
/** Time (4), count (1) and MAC (9): 112 of the 114 bits. */
const BODY_BYTES = 14;
const MAC_OFFSET = 5;
const DEFAULT_NONCE_LIFETIME = 3600;
const MAX_NONCE_LIFETIME = 3600;

const NO_PARAMETERS = new Uint8Array(0);
/** What is offered, best first (RFC 8489 §14.11). */
const OFFERED: readonly PasswordAlgorithmEntry[] = [
  { algorithm: PASSWORD_ALGORITHM_NUMBER["SHA-256"], parameters: NO_PARAMETERS },
  { algorithm: PASSWORD_ALGORITHM_NUMBER.MD5, parameters: NO_PARAMETERS },
];

/**
 * The server side of the long-term credential mechanism (RFC 8489 §9.2.4).
 *
 * Keeps nothing about anybody: a nonce carries its time and a MAC over time, client and server address.
 *
 * @example Challenging a request that has no credentials
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { LongTermAuthenticator, MessageWriter, METHOD, StunMessage, TransportAddress, UserTable } from "@natkit/natkit/stun";
 *
 * const authenticator = new LongTermAuthenticator({
 *   realm: "example.org",
 *   users: new UserTable("example.org", [["alice", "secret"]]),
 *   secret: crypto.getRandomValues(new Uint8Array(32)),
 * });
 * const path = { client: TransportAddress.parse("198.51.100.7:40000"), server: TransportAddress.parse("192.0.2.1:3478") };
 * const request = new MessageWriter(new Uint8Array(64)).begin(METHOD.ALLOCATE, "request", new Uint8Array(12)).finish();
 * const result = authenticator.authenticate(StunMessage.parse(request)!, path, performance.now());
 * assertEquals(result.isAuthentic, false);
 * ```
 */
export class LongTermAuthenticator implements RequestAuthenticator {
  /** The realm. */
  readonly realm: string;
  #users: UserDirectory;
  #tokens: TokenUsers | undefined;
  #hmac: Hmac;
  #lifetime: number;
  #cookie: string;
  // What the MAC covers: time (8), count (1), client (1 + 16 + 2), server (1 + 16 + 2).
  #input = new Uint8Array(47);
  #digest = new Uint8Array(32);
  #body = new Uint8Array(BODY_BYTES);
  #expected = new Uint8Array(BODY_BYTES);
  #count = 0;

  /**
   * An authenticator for one realm.
   *
   * @param options What to check against.
   * @throws {SyntaxError} If the realm is empty or has a control character.
   * @throws {RangeError} If the realm is too long, the secret too short or the nonce's lifetime out of range.
   */
  constructor(options: LongTermAuthenticatorOptions) {
    const { realm, users, secret, nonceLifetime = DEFAULT_NONCE_LIFETIME, anonymity = false } = options;
    if (secret.length < 16) {
      throw new RangeError(`Cannot use secret as it must have at least 16 bytes: current length is ${secret.length}`);
    }
    if (!(nonceLifetime > 0 && nonceLifetime <= MAX_NONCE_LIFETIME)) {
      throw new RangeError(
        `Cannot use nonceLifetime as it must be in 1 to ${MAX_NONCE_LIFETIME} s: current value is ${nonceLifetime}`,
      );
    }
    this.realm = opaqueString(realm);
    this.#users = users;
    this.#tokens = options.tokens;
    this.#hmac = new Hmac("sha256", secret);
    this.#lifetime = nonceLifetime * 1000;
    // Throws now rather than in the first answer.
    new MessageWriter(new Uint8Array(1024)).begin(0, "error", new Uint8Array(12)).add(REALM, this.realm);
    const features = PASSWORD_ALGORITHMS_BIT | (anonymity ? USERNAME_ANONYMITY_BIT : 0);
    this.#cookie = `${NONCE_COOKIE}AAA${BASE64[features]}`;
  }

  /**
   * Checks a request in the order of RFC 8489 §9.2.4.
   *
   * @param request The request. Its FINGERPRINT, if any, is the caller's to check.
   * @param path Between whom it travels.
   * @param now The time in ms, on the clock of `writeChallenge()`.
   * @param found The user, if the caller has looked for it: `identify()`. Default: who the directory has, for use of what
   *   is there already.
   */
  authenticate(
    request: StunMessage,
    path: RequestPath,
    now: number,
    found: FoundUser = { user: this.identify(request, ANYTIME) },
  ): Authentication {
    if (!request.hasIntegrity) return UNAUTHENTICATED;
    const nonce = request.get(NONCE);
    if (!isComplete(request) || !nonce) return BAD_REQUEST;
    const algorithm = chooseAlgorithm(request, nonce);
    if (algorithm === undefined) return BAD_REQUEST;
    const user = found.user === "later" ? undefined : matchUser(request, found.user, algorithm);
    const key = user?.key(algorithm);
    if (user === undefined || key === undefined) return UNAUTHENTICATED;
    // "Any response generated by the server MUST include the MESSAGE-INTEGRITY-SHA256 attribute ... unless the request
    // was processed as though PASSWORD-ALGORITHM was MD5 (because the request contained neither ...)."
    const protection: AnswerProtection = { key, hash: request.has(PASSWORD_ALGORITHM) ? "sha256" : "sha1" };
    if (!this.#isFresh(nonce, path, now)) return { isAuthentic: false, code: 438, protection };
    return { isAuthentic: true, user, protection };
  }

  /** Who a request says it is of. Nothing is proved by that. */
  identify(request: StunMessage, query: UserQuery): LongTermUser | "later" | undefined {
    const username = request.get(USERNAME);
    const token = this.#tokens === undefined ? undefined : request.get(ACCESS_TOKEN);
    if (token !== undefined) return this.#tokens!.find(username ?? "", token, query.unixTime);
    if (username !== undefined) return this.#users.find(username, query);
    const hash = request.get(USERHASH);
    return hash === undefined ? undefined : this.#users.findByHash?.(hash);
  }

  /** Whether a request has a nonce from here, fresh or stale: then its sender gets what is sent to its address. */
  hasOwnNonce(request: StunMessage, path: RequestPath, now: number): boolean {
    return this.#ageOf(request.get(NONCE) ?? "", path, now) !== -1;
  }

  /**
   * Adds REALM, a fresh NONCE and PASSWORD-ALGORITHMS to a 401 or 438 answer, and to the former, where access tokens are
   * taken, THIRD-PARTY-AUTHORIZATION. `now` is the time in ms.
   */
  writeChallenge(writer: MessageWriter, path: RequestPath, now: number, code: 401 | 438 = 401): void {
    writer.add(REALM, this.realm).add(NONCE, this.#makeNonce(path, now)).add(PASSWORD_ALGORITHMS, OFFERED);
    if (code === 401 && this.#tokens !== undefined) writer.add(THIRD_PARTY_AUTHORIZATION, this.#tokens.serverName);
  }

  #makeNonce(path: RequestPath, now: number): string {
    // Two challenges in one millisecond differ by the count.
    this.#count = (this.#count + 1) & 0xff;
    this.#seal(this.#body, Math.floor(now), this.#count, path);
    return this.#cookie + encodeBody(this.#body);
  }

  #isFresh(nonce: string, path: RequestPath, now: number): boolean {
    const age = this.#ageOf(nonce, path, now);
    return age !== -1 && age <= this.#lifetime;
  }

  /** How old a nonce is, in ms; -1 if it was not made here for this path. */
  #ageOf(nonce: string, path: RequestPath, now: number): number {
    if (nonce.length !== COOKIE_LENGTH + BODY_CHARACTERS || !nonce.startsWith(this.#cookie)) return -1;
    const body = this.#body;
    if (!decodeBody(nonce, COOKIE_LENGTH, body)) return -1;
    // The nonce has the lower half of its time; the upper half is that of the latest time with this lower half.
    const time = ((body[0]! << 24) | (body[1]! << 16) | (body[2]! << 8) | body[3]!) >>> 0;
    const age = (Math.floor(now) - time) % 0x1_0000_0000;
    const past = age < 0 ? age + 0x1_0000_0000 : age;
    this.#seal(this.#expected, Math.floor(now) - past, body[4]!, path);
    return timingSafeEqual(this.#expected, body) ? past : -1;
  }

  #seal(body: Uint8Array, time: number, count: number, path: RequestPath): void {
    const input = this.#input.fill(0);
    putUint32(input, 0, Math.floor(time / 0x1_0000_0000));
    putUint32(input, 4, time % 0x1_0000_0000);
    input[8] = count;
    putAddress(input, 9, path.client);
    putAddress(input, 28, path.server);
    this.#hmac.sign(input, 0, input.length, this.#digest);
    body.set(input.subarray(4, 9));
    body.set(this.#digest.subarray(0, BODY_BYTES - MAC_OFFSET), MAC_OFFSET);
  }
}

const ANYTIME: UserQuery = { unixTime: 0, isNew: false };

/** The one of a user's passwords that a request was made with. */
function matchUser(
  request: StunMessage,
  user: LongTermUser | undefined,
  algorithm: PasswordAlgorithm,
): LongTermUser | undefined {
  for (const one of user === undefined ? [] : [user, ...user.alternatives ?? []]) {
    const key = one.key(algorithm);
    if (key !== undefined && request.verifyIntegrity(key)) return one;
  }
  return undefined;
}

const UNAUTHENTICATED: Authentication = { isAuthentic: false, code: 401, protection: undefined };
const BAD_REQUEST: Authentication = { isAuthentic: false, code: 400, protection: undefined };

/**
 * Whether a request with integrity has all it needs to be checked. Empty and malformed values count as missing: nobody
 * can mean them, and so the shortest request that is worth a challenge is not much shorter than the challenge.
 */
function isComplete(request: StunMessage): boolean {
  const integrity = request.has(MESSAGE_INTEGRITY_SHA256) ? MESSAGE_INTEGRITY_SHA256 : MESSAGE_INTEGRITY;
  if (request.get(integrity) === undefined || !request.get(REALM)) return false;
  return request.has(USERNAME) ? !!request.get(USERNAME) : request.get(USERHASH) !== undefined;
}

/** The algorithm that the request's key was made with, or `undefined` if the request is to be answered with 400. */
function chooseAlgorithm(request: StunMessage, nonce: string): PasswordAlgorithm | undefined {
  const hasChoice = request.has(PASSWORD_ALGORITHM);
  const hasOffer = request.has(PASSWORD_ALGORITHMS);
  if (!hasChoice && !hasOffer) return "MD5";
  const choice = request.get(PASSWORD_ALGORITHM)?.algorithm;
  // A nonce without our cookie is stale, and answered with 438 once the integrity has been checked.
  if (hasAlgorithmsBit(nonce) && !(hasChoice && hasOffer && isOffered(request.get(PASSWORD_ALGORITHMS)))) {
    return undefined;
  }
  if (choice === PASSWORD_ALGORITHM_NUMBER["SHA-256"]) return "SHA-256";
  return choice === PASSWORD_ALGORITHM_NUMBER.MD5 ? "MD5" : undefined;
}

function hasAlgorithmsBit(nonce: string): boolean {
  return nonce.startsWith(NONCE_COOKIE) && (BASE64.indexOf(nonce[COOKIE_LENGTH - 1] ?? "A") & 1) !== 0;
}

/** Whether the list is the one that was sent: an attacker who removed the better algorithm is found out here. */
function isOffered(list: readonly PasswordAlgorithmEntry[] | undefined): boolean {
  return list !== undefined && list.length === OFFERED.length &&
    list.every(({ algorithm, parameters }, i) => algorithm === OFFERED[i]!.algorithm && parameters.length === 0);
}

function encodeBody(body: Uint8Array): string {
  let text = "";
  let bits = 0;
  let count = 0;
  for (const byte of body) {
    bits = (bits << 8) | byte;
    for (count += 8; count >= 6; count -= 6) text += BASE64[(bits >> (count - 6)) & 63];
  }
  return text + BASE64[(bits << (6 - count)) & 63];
}

/** Whether the characters from `start` on are a body; it is then in `body`. */
function decodeBody(nonce: string, start: number, body: Uint8Array): boolean {
  let bits = 0;
  let count = 0;
  let length = 0;
  for (let i = 0; i < BODY_CHARACTERS; i++) {
    const value = BASE64.indexOf(nonce[start + i]!);
    if (value === -1) return false;
    bits = ((bits << 6) | value) & 0xffff;
    count += 6;
    if (count >= 8 && length < BODY_BYTES) {
      count -= 8;
      body[length++] = (bits >> count) & 0xff;
    }
  }
  // The last two bits carry nothing: only zeros, so that a nonce has one form.
  return (bits & 3) === 0;
}

function putUint32(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 24;
  bytes[offset + 1] = value >>> 16;
  bytes[offset + 2] = value >>> 8;
  bytes[offset + 3] = value;
}

function putAddress(bytes: Uint8Array, offset: number, address: TransportAddress): void {
  bytes[offset] = address.family;
  bytes.set(address.bytes, offset + 1);
  bytes[offset + 17] = address.port >> 8;
  bytes[offset + 18] = address.port;
}
