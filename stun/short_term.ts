import type { RequestAuthentication, RequestAuthenticator } from "./authenticator.ts";
import { MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256, USERNAME } from "./attributes.ts";
import { type ChallengeVerdict, prepare, prepareName, type RequestCredentials } from "./credentials.ts";
import { IntegrityKey } from "./integrity.ts";
import type { MessageWriter, StunMessage } from "./message.ts";

/**
 * The client's side of the short-term credential mechanism (RFC 8489 §9.1) towards one server.
 *
 * The first request has both kinds of integrity, so that servers of RFC 5389 understand it too; the others have the kind
 * that the server answered with.
 */
export class ShortTermCredentials implements RequestCredentials {
  /** The user name, prepared by OpaqueString. */
  readonly username: string;
  readonly #key: IntegrityKey;
  #kind: "sha1" | "sha256" | "both" = "both";

  /**
   * Credentials for both kinds of integrity.
   *
   * @param username 1 to 508 bytes of UTF-8.
   * @param password Not empty.
   * @throws {SyntaxError} If either is empty or has a control character.
   * @throws {RangeError} If the user name is too long.
   */
  constructor(username: string, password: string) {
    this.username = prepareName(username);
    this.#key = IntegrityKey.shortTerm(prepare("password", password));
  }

  /** Forgets which kind the server answered with. */
  forget(): void {
    this.#kind = "both";
  }

  /** Adds USERNAME, then MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 or both (§9.1.2, §9.1.5). Gives the kind. */
  sign(writer: MessageWriter): "sha1" | "sha256" | "both" {
    writer.add(USERNAME, this.username);
    if (this.#kind !== "sha256") writer.addIntegrity(this.#key, "sha1");
    if (this.#kind !== "sha1") writer.addIntegrity(this.#key, "sha256");
    return this.#kind;
  }

  /** Judges a response (§9.1.4): without the right integrity, of a kind that was sent, it says nothing. */
  handleResponse(response: StunMessage, signedWith: unknown): ChallengeVerdict {
    const kind = response.has(MESSAGE_INTEGRITY_SHA256) ? "sha256" : "sha1";
    if (signedWith !== "both" && signedWith !== kind && response.hasIntegrity) return "ignore";
    if (!response.verifyIntegrity(this.#key)) return "violated";
    this.#kind = kind;
    return "accept";
  }
}

/**
 * The server side of the short-term credential mechanism (RFC 8489 §9.1.3).
 *
 * @example A request without credentials
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { MessageWriter, METHOD, ShortTermAuthenticator, StunMessage } from "@natkit/natkit/stun";
 *
 * const authenticator = new ShortTermAuthenticator([["alice", "secret"]]);
 * const request = new MessageWriter(new Uint8Array(64)).begin(METHOD.BINDING, "request", new Uint8Array(12)).finish();
 * assertEquals(authenticator.authenticate(StunMessage.parse(request)!), { isAuthentic: false, code: 400, protection: undefined });
 * ```
 */
export class ShortTermAuthenticator implements RequestAuthenticator {
  readonly #keys = new Map<string, IntegrityKey>();

  /**
   * An authenticator for these users.
   *
   * @param passwords Pairs of user name and password, as a `Map` or `Object.entries()` gives them.
   * @throws {SyntaxError} If a name or a password is empty or has a control character.
   * @throws {RangeError} If a user name is too long.
   */
  constructor(passwords: Iterable<readonly [string, string]>) {
    for (const [name, password] of passwords) {
      this.#keys.set(prepareName(name), IntegrityKey.shortTerm(prepare("password", password)));
    }
  }

  /** Checks a request in the order of §9.1.3. Its FINGERPRINT, if any, is the caller's to check. */
  authenticate(request: StunMessage): RequestAuthentication {
    const isStrong = request.has(MESSAGE_INTEGRITY_SHA256);
    const integrity = request.get(isStrong ? MESSAGE_INTEGRITY_SHA256 : MESSAGE_INTEGRITY);
    const username = request.get(USERNAME);
    if (integrity === undefined || username === undefined) return refusal(400);
    const key = this.#keys.get(username);
    if (key === undefined || !request.verifyIntegrity(key)) return refusal(401);
    return { isAuthentic: true, protection: { key, hash: isStrong ? "sha256" : "sha1" } };
  }
}

function refusal(code: 400 | 401): RequestAuthentication {
  return { isAuthentic: false, code, protection: undefined };
}
