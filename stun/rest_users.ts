import { Hmac } from "./_crypto.ts";
import { opaqueString } from "./integrity.ts";
import { type LongTermUser, longTermUser, type UserDirectory, type UserQuery } from "./users.ts";

const encoder = new TextEncoder();

/** A credential that a web service hands out, and that a server can check without asking it. */
export interface RestCredential {
  /** When it ends, in seconds since 1970, and, behind a colon, whose it is. */
  readonly username: string;
  /** Base64 of HMAC-SHA1 over the user name. */
  readonly password: string;
}

/**
 * Makes a time-limited credential (draft-uberti-rtcweb-turn-rest-00 §2.2), as other TURN servers take it too.
 *
 * @example A credential for a day
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { restCredential } from "@natkit/natkit/stun";
 *
 * const { username, password } = restCredential("shared secret", { expires: 1_800_000_000, user: "alice" });
 * assertEquals(username, "1800000000:alice");
 * assertEquals(password.length, 28);
 * ```
 *
 * @param secret What is shared with the server: text, taken as UTF-8.
 * @param options When it ends, in seconds since 1970, and for whom it is, if it is for one in particular.
 */
export function restCredential(secret: string, options: { expires: number; user?: string }): RestCredential {
  const { expires, user = "" } = options;
  const username = `${Math.floor(expires)}${user === "" ? "" : ":"}${user}`;
  return { username, password: passwordOf(new Hmac("sha1", encoder.encode(secret)), username) };
}

/** Options of `RestUsers`. */
export interface RestUsersOptions {
  /** The realm that the keys are bound to. */
  readonly realm: string;
  /** Secrets shared with who hands the credentials out, at least one. Several while one replaces another. */
  readonly secrets: readonly string[];
}

/**
 * Users with time-limited credentials (draft-uberti-rtcweb-turn-rest-00): nothing is stored but the secrets.
 *
 * The time counts for what is new only: an allocation can be refreshed after its credential has ended (§4.2). All
 * credentials of one user, whatever their time, count against one user's limits.
 */
export class RestUsers implements UserDirectory {
  #realm: string;
  #hmacs: readonly Hmac[] = [];

  /**
   * A directory with these secrets.
   *
   * @throws {RangeError} If there is no secret, or an empty one.
   */
  constructor(options: RestUsersOptions) {
    this.#realm = options.realm;
    this.setSecrets(options.secrets);
  }

  /**
   * Takes other secrets in place of all.
   *
   * @throws {RangeError} If there is none, or an empty one.
   */
  setSecrets(secrets: readonly string[]): void {
    if (secrets.length === 0 || secrets.includes("")) {
      throw new RangeError("Cannot use secrets as there must be at least one and none may be empty");
    }
    this.#hmacs = secrets.map((secret) => new Hmac("sha1", encoder.encode(secret)));
  }

  /** The user of this name, unless its time is over. */
  find(username: string, { unixTime, isNew }: UserQuery): LongTermUser | undefined {
    const [, time, user] = /^(\d{1,15})(?::(.*))?$/s.exec(username) ?? [];
    if (time === undefined || (isNew && Number(time) <= unixTime)) return undefined;
    try {
      const account = user === undefined || user === "" ? opaqueString(username) : opaqueString(user);
      const [first, ...alternatives] = this.#hmacs.map((hmac) => {
        const found = longTermUser(username, this.#realm, passwordOf(hmac, username));
        return { username: found.username, account, key: found.key.bind(found) };
      });
      return { ...first!, alternatives };
    } catch {
      // A name that OpaqueString disallows is nobody's.
      return undefined;
    }
  }
}

function passwordOf(hmac: Hmac, username: string): string {
  const name = encoder.encode(username);
  const digest = new Uint8Array(20);
  hmac.sign(name, 0, name.length, digest);
  return digest.toBase64();
}
