import type { AccessToken } from "./access_token.ts";
import { type Attribute, bytesAttribute } from "./attribute.ts";
import {
  ACCESS_TOKEN,
  ERROR_CODE_ATTRIBUTE,
  NONCE,
  PASSWORD_ALGORITHM,
  PASSWORD_ALGORITHM_NUMBER,
  PASSWORD_ALGORITHMS,
  type PasswordAlgorithmEntry,
  REALM,
  USERHASH,
  USERNAME,
} from "./attributes.ts";
import { ERROR_CODE } from "./error.ts";
import { IntegrityKey, opaqueString, type PasswordAlgorithm, userHash } from "./integrity.ts";
import { type MessageWriter, METHOD, type StunMessage } from "./message.ts";

/** What a nonce begins with when its server knows RFC 8489 (§9.2). Four base64 characters with the features follow. */
const NONCE_COOKIE = "obMatJos2";
/** As long as the keys of passwords were before RFC 8489. */
const COMMON_KEY_LENGTH = 16;
const PASSWORD_ALGORITHMS_BIT = 1;
const USERNAME_ANONYMITY_BIT = 2;

// What is echoed must come back as it came, whatever its bytes are: read and written raw.
const RAW_REALM: Attribute<Uint8Array> = bytesAttribute(REALM.type, REALM.name, 0, 763);
const RAW_NONCE: Attribute<Uint8Array> = bytesAttribute(NONCE.type, NONCE.name, 0, 763);
const RAW_ALGORITHMS: Attribute<Uint8Array> = bytesAttribute(PASSWORD_ALGORITHMS.type, PASSWORD_ALGORITHMS.name, 4, 64);

/** A server's challenge cannot be met: it is malformed, offers nothing that we can do, or was tampered with. */
export class StunChallengeError extends Error {
  /** `"StunChallengeError"`. */
  override readonly name: string = "StunChallengeError";
}

/** What a request was authenticated with, or will be. Immutable. */
export interface Challenge {
  /** The realm. */
  readonly realm: string;
  /** The realm's bytes as the server sent them. */
  readonly realmBytes: Uint8Array;
  /** The nonce's bytes as the server sent them. */
  readonly nonce: Uint8Array;
  /** Whether USERHASH takes the place of USERNAME. */
  readonly isAnonymous: boolean;
  /** The server's PASSWORD-ALGORITHMS, if it sent them; then MESSAGE-INTEGRITY-SHA256 is used. */
  readonly algorithms: Uint8Array | undefined;
  /** The algorithm that was chosen of them. MD5 without them. */
  readonly algorithm: PasswordAlgorithm;
  /** The key that follows from it. */
  readonly key: IntegrityKey;
}

/**
 * What to do with a response: `"accept"` it as the server's word, `"retry"` the request with what was learnt, or
 * `"ignore"` it as if it had not come. A `"violated"` one, whose integrity is wrong, is ignored as well, but ends a request
 * that went over a connection. An error ends the request.
 */
export type ChallengeVerdict = "accept" | "retry" | "ignore" | "violated" | StunChallengeError;

/** What authenticates a client's requests to one server, and judges the responses. */
export interface RequestCredentials {
  /** Forgets what was learnt of the server, as there is another now. */
  forget(): void;
  /** Adds what authenticates a request; only FINGERPRINT may follow. Gives what the response is judged by. */
  sign(writer: MessageWriter): unknown;
  /** Judges the response to a request, for which `sign()` gave `signedWith`. */
  handleResponse(response: StunMessage, signedWith: unknown): ChallengeVerdict;
}

/**
 * The client's side of the long-term credential mechanism (RFC 8489 §9.2) towards one server: it learns realm and nonce,
 * authenticates requests and judges responses.
 *
 * The caller bounds how often it retries.
 */
export class LongTermCredentials implements RequestCredentials {
  #username: string;
  #password: string;
  #token: { readonly bytes: Uint8Array; readonly macKey: Uint8Array; readonly key: IntegrityKey } | undefined;
  /** Whether the server has not said yes to the token. */
  #isTokenNew = false;
  /** Of a token's key as many bytes are used. */
  #keyLength = Infinity;
  #challenge: Challenge | undefined;

  /**
   * Credentials of which only name and password are known yet.
   *
   * @param username 1 to 508 bytes of UTF-8.
   * @param password Not empty.
   * @throws {SyntaxError} If either is empty or has a control character.
   * @throws {RangeError} If the user name is too long.
   */
  constructor(username: string, password: string) {
    this.#username = prepareName(username);
    this.#password = prepare("password", password);
  }

  /**
   * Credentials of somebody with an access token (RFC 7635), whose user name is its `kid`.
   *
   * @throws {SyntaxError} If the `kid` is empty or has a control character.
   * @throws {RangeError} If the `kid` is too long, or the token or its key empty.
   */
  static withToken(token: AccessToken): LongTermCredentials {
    const credentials = new LongTermCredentials(token.kid, "-");
    credentials.setToken(token);
    return credentials;
  }

  /**
   * Takes another access token, for the requests to come.
   *
   * @throws {SyntaxError} If the `kid` is empty or has a control character.
   * @throws {RangeError} If the `kid` is too long, or the token or its key empty.
   */
  setToken({ kid, macKey, token }: AccessToken): void {
    if (macKey.length === 0 || token.length === 0) throw new RangeError("Cannot use token as it or its key is empty");
    this.#username = prepareName(kid);
    const key = new IntegrityKey(macKey.slice(0, this.#keyLength));
    this.#token = { bytes: token.slice(), macKey: macKey.slice(), key };
    this.#isTokenNew = true;
    if (this.#challenge !== undefined) this.#challenge = { ...this.#challenge, key };
  }

  /** The user name, prepared by OpaqueString. */
  get username(): string {
    return this.#username;
  }

  /** Whether realm and nonce are known, so that requests are authenticated. */
  get isReady(): boolean {
    return this.#challenge !== undefined;
  }

  /** The realm that the server named last, once it has. */
  get realm(): string | undefined {
    return this.#challenge?.realm;
  }

  /** Forgets realm and nonce, as another server's are others. */
  forget(): void {
    this.#challenge = undefined;
  }

  /**
   * Adds the attributes of §9.2.3.2 and the integrity attribute; only FINGERPRINT may follow.
   *
   * @returns What they were made with, to judge the response by. `undefined` if there was no challenge yet: then nothing
   * is added (§9.2.3.1).
   */
  sign(writer: MessageWriter): Challenge | undefined {
    const challenge = this.#challenge;
    if (challenge === undefined) return undefined;
    const { method } = writer;
    // A token comes with Allocate and Refresh (RFC 7635), and until it is known to have arrived with everything.
    if (this.#token !== undefined && (this.#isTokenNew || method === METHOD.ALLOCATE || method === METHOD.REFRESH)) {
      writer.add(ACCESS_TOKEN, this.#token.bytes);
    }
    if (challenge.isAnonymous) writer.add(USERHASH, userHash(this.username, challenge.realm));
    else writer.add(USERNAME, this.username);
    writer.add(RAW_REALM, challenge.realmBytes).add(RAW_NONCE, challenge.nonce);
    if (challenge.algorithms === undefined) {
      writer.addIntegrity(challenge.key);
    } else {
      const parameters = new Uint8Array();
      writer.add(RAW_ALGORITHMS, challenge.algorithms)
        .add(PASSWORD_ALGORITHM, { algorithm: PASSWORD_ALGORITHM_NUMBER[challenge.algorithm], parameters })
        .addIntegrity(challenge.key, "sha256");
    }
    return challenge;
  }

  /**
   * Judges the response to a request (§9.2.5).
   *
   * @param response The response.
   * @param signedWith What `sign()` gave for the request.
   */
  handleResponse(response: StunMessage, signedWith: Challenge | undefined): ChallengeVerdict {
    const code = response.class === "error" ? response.get(ERROR_CODE_ATTRIBUTE)?.code : undefined;
    if (code === ERROR_CODE.UNAUTHENTICATED || code === ERROR_CODE.STALE_NONCE) {
      return this.#handleChallenge(response, code, signedWith);
    }
    const nonce = response.get(RAW_NONCE);
    const promised = nonce === undefined ? 0 : securityFeatures(nonce);
    if ((promised & PASSWORD_ALGORITHMS_BIT) !== 0 && !response.has(PASSWORD_ALGORITHMS)) return "ignore";
    if (code === ERROR_CODE.BAD_REQUEST && !response.hasIntegrity) return "ignore";
    if (signedWith === undefined) return "accept";
    if (!response.verifyIntegrity(signedWith.key)) return "violated";
    if (response.class === "success" && signedWith.key === this.#token?.key) this.#isTokenNew = false;
    return "accept";
  }

  #handleChallenge(response: StunMessage, code: number, signedWith: Challenge | undefined): ChallengeVerdict {
    const isStale = code === ERROR_CODE.STALE_NONCE && signedWith !== undefined;
    // A 401's integrity is not looked at: one that is made with the right password says nothing to those who have a wrong one.
    if (isStale && response.hasIntegrity && !response.verifyIntegrity(signedWith.key)) return "violated";
    const challenge = this.#read(response, isStale ? signedWith : undefined);
    if (challenge instanceof StunChallengeError) return challenge;
    // §9.2.5: no second try with the same name and password; and no second try with the nonce that was refused.
    const isSame = signedWith !== undefined && !(this.#token !== undefined && signedWith.key !== this.#token.key) &&
      (isStale
        ? equalBytes(signedWith.nonce, challenge.nonce)
        : signedWith.realm === challenge.realm && signedWith.isAnonymous === challenge.isAnonymous);
    if (isSame && !(code === ERROR_CODE.UNAUTHENTICATED && this.#shortenKey())) return "accept";
    this.#challenge = { ...challenge, key: this.#token?.key ?? challenge.key };
    return "retry";
  }

  /** There are servers that take the first 16 bytes of a token's key for the key. Gives whether that is another one. */
  #shortenKey(): boolean {
    const token = this.#token;
    if (token === undefined || token.key.bytes.length <= COMMON_KEY_LENGTH) return false;
    this.#keyLength = COMMON_KEY_LENGTH;
    this.#token = { ...token, key: new IntegrityKey(token.macKey.slice(0, COMMON_KEY_LENGTH)) };
    return true;
  }

  #read(response: StunMessage, previous: Challenge | undefined): Challenge | StunChallengeError {
    const isRealmSent = previous === undefined || response.has(REALM);
    const realm = isRealmSent ? response.get(REALM) : previous.realm;
    const realmBytes = isRealmSent ? response.get(RAW_REALM)?.slice() : previous.realmBytes;
    const nonce = response.get(RAW_NONCE)?.slice();
    if (realm === undefined || realmBytes === undefined || nonce === undefined) {
      return new StunChallengeError("the server's challenge has no valid REALM or no valid NONCE");
    }
    const promised = securityFeatures(nonce);
    const isOffered = response.has(PASSWORD_ALGORITHMS);
    if (!isOffered && ((promised & PASSWORD_ALGORITHMS_BIT) !== 0 || this.#challenge?.algorithms !== undefined)) {
      return new StunChallengeError(
        "somebody took PASSWORD-ALGORITHMS out of the server's challenge (RFC 8489 §9.2.1)",
      );
    }
    const algorithm = isOffered ? chooseAlgorithm(response.get(PASSWORD_ALGORITHMS)) : "MD5";
    const algorithms = isOffered ? response.get(RAW_ALGORITHMS)?.slice() : undefined;
    if (algorithm === undefined || (isOffered && algorithms === undefined)) {
      return new StunChallengeError("the server takes no password algorithm that is known here");
    }
    const key = this.#keyFor(realm, algorithm);
    // The server finds its key by the name of it, which is nobody's.
    const isAnonymous = (promised & USERNAME_ANONYMITY_BIT) !== 0 && this.#token === undefined;
    return { realm, realmBytes, nonce, isAnonymous, algorithms, algorithm, key };
  }

  /** The key, made once for a realm and an algorithm. */
  #keyFor(realm: string, algorithm: PasswordAlgorithm): IntegrityKey {
    if (this.#token !== undefined) return this.#token.key;
    const known = this.#challenge;
    if (known !== undefined && known.realm === realm && known.algorithm === algorithm) return known.key;
    return IntegrityKey.longTerm(this.username, realm, this.#password, algorithm);
  }
}

/** The 24 bits of a nonce cookie (RFC 8489 §18.1, as corrected: bit 0 is the least significant one); 0 without cookie. */
function securityFeatures(nonce: Uint8Array): number {
  let text = "";
  for (let i = 0; i < 13 && i < nonce.length; i++) text += String.fromCharCode(nonce[i]!);
  if (!text.startsWith(NONCE_COOKIE) || !/^.{9}[A-Za-z0-9+/]{4}$/.test(text)) return 0;
  const bytes = atob(text.slice(9));
  return (bytes.charCodeAt(0) << 16) | (bytes.charCodeAt(1) << 8) | bytes.charCodeAt(2);
}

/** The first algorithm of the server's list that we know (§9.2.5). */
function chooseAlgorithm(offered: readonly PasswordAlgorithmEntry[] | undefined): PasswordAlgorithm | undefined {
  for (const { algorithm, parameters } of offered ?? []) {
    if (parameters.length !== 0) continue;
    if (algorithm === PASSWORD_ALGORITHM_NUMBER["SHA-256"]) return "SHA-256";
    if (algorithm === PASSWORD_ALGORITHM_NUMBER.MD5) return "MD5";
  }
  return undefined;
}

/** @internal A user name that fits into USERNAME, prepared by OpaqueString. */
export function prepareName(username: string): string {
  const prepared = prepare("user name", username);
  const { length } = new TextEncoder().encode(prepared);
  if (length <= 508) return prepared;
  throw new RangeError(`Cannot use user name as it may have 508 bytes: current length is ${length}`);
}

/** @internal Text prepared by OpaqueString; the error says what it was for. */
export function prepare(what: string, text: string): string {
  try {
    return opaqueString(text);
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : "it is not allowed";
    throw new SyntaxError(message.replace("text as a name or password", what), { cause });
  }
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
