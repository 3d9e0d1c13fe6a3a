import { IntegrityKey, opaqueString, type PasswordAlgorithm, userHash } from "./integrity.ts";

/** A user of the long-term credential mechanism, as a server knows it. */
export interface LongTermUser {
  /** The user name, prepared by OpaqueString. */
  readonly username: string;
  /** Whose limits it counts against, where one user goes by several names in the course of time. Default: `username`. */
  readonly account?: string;
  /**
   * When its right to be here ends, in seconds since 1970: no allocation lasts longer (RFC 7635). Default: it does not.
   */
  readonly until?: number;
  /** The same user with other passwords, as while a shared secret is being replaced. They are tried in turn. */
  readonly alternatives?: readonly LongTermUser[];
  /** The key for a password algorithm, the same object each time; `undefined` if only the other one is stored. */
  key(algorithm: PasswordAlgorithm): IntegrityKey | undefined;
}

/** What else is known when a user is looked for. */
export interface UserQuery {
  /** Wall-clock time in seconds since 1970. */
  readonly unixTime: number;
  /** Whether something new is asked for, as a new allocation, and not the use of what is there already. */
  readonly isNew: boolean;
}

/** Where a server finds its users. */
export interface UserDirectory {
  /**
   * The user of this name. The name comes from strangers.
   *
   * `"later"`: it takes a while to find out. A `TurnServer` then emits `userWanted` and waits for `handleCredential()`; a
   * `LongTermAuthenticator` alone takes it for nobody.
   */
  find(username: string, query: UserQuery): LongTermUser | "later" | undefined;
  /**
   * The user with this USERHASH of 32 bytes (RFC 8489 §14.4). Without it, USERHASH is answered with 401.
   *
   * `"later"`: as with `find()`; the event is `userHashWanted`, and the answer `handleHashedCredential()`.
   */
  findByHash?(hash: Uint8Array): LongTermUser | "later" | undefined;
}

/** Keys in place of a password, so that no password is on disk. A client that needs a missing one gets 401. */
export interface StoredKeys {
  /** MD5 of `username:realm:password`, 16 bytes: for clients from before RFC 8489. */
  readonly md5?: Uint8Array;
  /** SHA-256 of the same, 32 bytes. */
  readonly sha256?: Uint8Array;
}

/** What a server knows of a user: the password, or keys made of it. */
export type UserCredential = string | StoredKeys;

/**
 * A user by name and credential. Keys are derived once, when they are first needed.
 *
 * @throws {SyntaxError} If the name or the password is empty or has a control character.
 * @throws {RangeError} If a stored key has another length than its hash.
 */
export function longTermUser(username: string, realm: string, credential: UserCredential): LongTermUser {
  const name = opaqueString(username);
  if (typeof credential === "string") return new PasswordUser(name, realm, opaqueString(credential));
  const keys = { "MD5": storedKey(credential.md5, 16), "SHA-256": storedKey(credential.sha256, 32) };
  return { username: name, key: (algorithm) => keys[algorithm] };
}

/**
 * Users by name. Passwords become keys when they are first needed; passwords are kept until then.
 *
 * @example Looking up a user
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { UserTable } from "@natkit/natkit/stun";
 *
 * const users = new UserTable("example.org", [["alice", "secret"]]);
 * assertEquals(users.find("alice")?.username, "alice");
 * assertEquals(users.find("bob"), undefined);
 * ```
 */
export class UserTable implements UserDirectory {
  #realm: string;
  #users: ReadonlyMap<string, LongTermUser> = new Map();
  #byHash: ReadonlyMap<string, LongTermUser> = new Map();

  /**
   * A table of these users.
   *
   * @param realm The realm that the keys are bound to.
   * @param users Pairs of user name and password or keys, as a `Map` or `Object.entries()` gives them.
   * @throws {SyntaxError} If a name or a password is empty or has a control character.
   * @throws {RangeError} If a stored key has another length than its hash.
   */
  constructor(realm: string, users: Iterable<readonly [string, UserCredential]>) {
    this.#realm = realm;
    this.replace(users);
  }

  /** How many there are. */
  get size(): number {
    return this.#users.size;
  }

  /**
   * Puts other users in the place of all. If it throws, the old ones stay.
   *
   * @throws {SyntaxError} If a name or a password is empty or has a control character.
   * @throws {RangeError} If a stored key has another length than its hash.
   */
  replace(users: Iterable<readonly [string, UserCredential]>): void {
    const byName = new Map<string, LongTermUser>();
    const byHash = new Map<string, LongTermUser>();
    for (const [name, credential] of users) {
      const user = longTermUser(name, this.#realm, credential);
      byName.set(user.username, user);
      byHash.set(hashKey(userHash(name, this.#realm)), user);
    }
    this.#users = byName;
    this.#byHash = byHash;
  }

  /** The user of this name. */
  find(username: string): LongTermUser | undefined {
    return this.#users.get(username);
  }

  /** The user with this USERHASH. */
  findByHash(hash: Uint8Array): LongTermUser | undefined {
    return this.#byHash.get(hashKey(hash));
  }
}

/** Several directories as one: the first that knows a user, or wants to find out, has the say. */
export class UserDirectories implements UserDirectory {
  readonly #directories: readonly UserDirectory[];

  /** These directories, in this order. */
  constructor(directories: Iterable<UserDirectory>) {
    this.#directories = [...directories];
  }

  /** The user of this name. */
  find(username: string, query: UserQuery): LongTermUser | "later" | undefined {
    for (const directory of this.#directories) {
      const user = directory.find(username, query);
      if (user !== undefined) return user;
    }
    return undefined;
  }

  /** The user with this USERHASH. */
  findByHash(hash: Uint8Array): LongTermUser | "later" | undefined {
    for (const directory of this.#directories) {
      const user = directory.findByHash?.(hash);
      if (user !== undefined) return user;
    }
    return undefined;
  }
}

class PasswordUser implements LongTermUser {
  readonly username: string;
  #realm: string;
  #password: string;
  #md5: IntegrityKey | undefined;
  #sha256: IntegrityKey | undefined;

  constructor(username: string, realm: string, password: string) {
    this.username = username;
    this.#realm = realm;
    this.#password = password;
  }

  key(algorithm: PasswordAlgorithm): IntegrityKey {
    if (algorithm === "MD5") return this.#md5 ??= this.#derive(algorithm);
    return this.#sha256 ??= this.#derive(algorithm);
  }

  #derive(algorithm: PasswordAlgorithm): IntegrityKey {
    return IntegrityKey.longTerm(this.username, this.#realm, this.#password, algorithm);
  }
}

function storedKey(bytes: Uint8Array | undefined, length: number): IntegrityKey | undefined {
  if (bytes === undefined) return undefined;
  if (bytes.length === length) return new IntegrityKey(bytes.slice());
  throw new RangeError(`Cannot use stored key as it must have ${length} bytes: current length is ${bytes.length}`);
}

function hashKey(hash: Uint8Array): string {
  return String.fromCharCode(...hash);
}
