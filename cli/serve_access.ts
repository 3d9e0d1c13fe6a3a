import {
  readUsers,
  RestUsers,
  type TlsServerOptions,
  type TokenUsers,
  type TransportAddress,
  type UserCredential,
  UserDirectories,
  type UserDirectory,
  UserTable,
} from "../stun/mod.ts";
import { authHook } from "./auth_hook.ts";
import { type Options, usage } from "./config.ts";
import { parseTokenKey, readTokenKeys, type TokenKey, tokenUsers } from "./oauth_keys.ts";
import { UsageError } from "./terminal.ts";

/** Who may use a server, and its certificate: what is in files and can change while the server runs. */
export class ServerAccess {
  /** All users that are known here. */
  readonly users: UserDirectory;
  /** Who else is asked, with `--auth-url`. */
  readonly lookUpUser?: (username: string, client: TransportAddress) => Promise<UserCredential | undefined>;
  /** Who comes with access tokens, if anybody does. */
  readonly tokens: TokenUsers | undefined;
  /** The files that it was read from. */
  readonly files: readonly string[];
  /** The certificate, if there is one. */
  tls: TlsServerOptions | undefined;
  /** The users with passwords or stored keys, in one list. */
  entries: readonly (readonly [string, UserCredential])[] = [];
  /** The secrets of time-limited credentials. */
  secrets: readonly string[] = [];
  #named: UserTable;
  #filed: UserTable;
  #rest: RestUsers | undefined;
  #options: Options;
  #namedKeys: readonly TokenKey[];
  #authUrl: string | undefined;

  constructor(options: Options, realm: string) {
    this.#options = options;
    this.#named = usage(() => new UserTable(realm, options.list("user").map(parseUser)));
    this.#filed = new UserTable(realm, []);
    const isRest = options.list("rest-secret").length > 0 || options.value("rest-secret-file") !== undefined;
    // Secrets are put in their place when the files are read.
    this.#rest = isRest ? new RestUsers({ realm, secrets: ["-"] }) : undefined;
    this.users = new UserDirectories([
      this.#named,
      this.#filed,
      ...(this.#rest === undefined ? [] : [this.#rest]),
    ]);
    this.tokens = usage(() => tokenUsers(options, realm));
    this.#namedKeys = usage(() => options.list("oauth-key").map(parseTokenKey));
    this.#authUrl = options.value("auth-url");
    if (this.#authUrl !== undefined) this.lookUpUser = usage(() => authHook(this.#authUrl!, realm));
    this.files = ["users-file", "rest-secret-file", "oauth-key-file", "cert", "key"]
      .flatMap((name) => options.value(name) ?? []);
    if ((options.value("cert") === undefined) !== (options.value("key") === undefined)) {
      throw new UsageError("Options --cert and --key belong together");
    }
  }

  /** Whether anybody can allocate. */
  get isOpen(): boolean {
    return this.#named.size + this.#filed.size > 0 || this.#rest !== undefined || this.#authUrl !== undefined ||
      this.tokens !== undefined || this.#options.value("users-file") !== undefined;
  }

  /** Who that is, for people. */
  describe(): string {
    const count = this.#named.size + this.#filed.size;
    const kinds = [
      ...(count > 0 || this.#options.value("users-file") !== undefined
        ? [`${count} user${count === 1 ? "" : "s"}`]
        : []),
      ...(this.#rest === undefined ? [] : ["time-limited credentials"]),
      ...(this.tokens === undefined ? [] : ["access tokens"]),
      ...(this.#authUrl === undefined ? [] : [`whom ${new URL(this.#authUrl).origin} knows`]),
    ];
    return kinds.join(", ").replace(/, ([^,]*)$/, " and $1");
  }

  /**
   * Reads all files. If it throws, all is as before.
   *
   * @throws {Error} If a file can not be read, or is not what it should be: the message names it.
   */
  async load(): Promise<void> {
    const options = this.#options;
    const users = await readIf(options.value("users-file"), readUsers);
    const filed = await readIf(options.value("rest-secret-file"), readSecrets);
    const keys = await readIf(options.value("oauth-key-file"), readTokenKeys);
    const certificate = await readIf(options.value("cert"), (text) => text);
    const key = await readIf(options.value("key"), (text) => text);
    const secrets = [...options.list("rest-secret"), ...filed ?? []];
    this.#rest?.setSecrets(secrets);
    this.tokens?.setKeys([...this.#namedKeys, ...keys ?? []]);
    if (users !== undefined) this.#filed.replace(users);
    this.secrets = secrets;
    // Of two of one name the first has the say.
    this.entries = [...new Map([...users ?? [], ...options.list("user").map(parseUser)])];
    if (certificate !== undefined && key !== undefined) this.tls = { certificate, key };
  }
}

/** One secret a line. */
function readSecrets(text: string): string[] {
  const secrets = text.split(/\r?\n/).filter((line) => line !== "" && !line.startsWith("#"));
  if (secrets.length === 0) throw new SyntaxError("Cannot read secrets as there is none");
  return secrets;
}

async function readIf<T>(path: string | undefined, read: (text: string) => T): Promise<T | undefined> {
  if (path === undefined) return undefined;
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (cause) {
    const hint = cause instanceof Deno.errors.NotCapable ? `: give Deno --allow-read=${path}` : "";
    const why = cause instanceof Deno.errors.NotFound ? "there is no such file" : "it can not be read";
    throw new Error(`Cannot read ${path} as ${why}${hint}`, { cause });
  }
  try {
    return read(text);
  } catch (cause) {
    throw new Error(`${path}: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

function parseUser(text: string): [string, string] {
  const colon = text.indexOf(":");
  if (colon < 1 || colon === text.length - 1) {
    throw new UsageError(`Option --user must be NAME:PASSWORD: "${colon === -1 ? text : text.slice(0, colon + 1)}"`);
  }
  return [text.slice(0, colon), text.slice(colon + 1)];
}

/**
 * Calls back some time after one of the files has changed, also when it was put in the place of the old one.
 *
 * @returns Ends that.
 */
export function watchFiles(paths: readonly string[], onChange: () => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const watchers = new Map<string, Deno.FsWatcher>();
  const names = new Set(paths.map((path) => path.slice(path.lastIndexOf("/") + 1)));
  for (const path of paths) {
    const slash = path.lastIndexOf("/");
    const folder = slash === -1 ? "." : path.slice(0, slash + 1);
    if (watchers.has(folder)) continue;
    try {
      watchers.set(folder, Deno.watchFs(folder, { recursive: false }));
    } catch {
      // Without leave to read the folder there is still SIGHUP.
    }
  }
  const follow = async (watcher: Deno.FsWatcher) => {
    for await (const { kind, paths: changed } of watcher) {
      if (kind === "access" || !changed.some((path) => names.has(path.slice(path.lastIndexOf("/") + 1)))) continue;
      clearTimeout(timer);
      timer = setTimeout(onChange, SETTLE);
    }
  };
  for (const watcher of watchers.values()) void follow(watcher);
  return () => {
    clearTimeout(timer);
    for (const watcher of watchers.values()) watcher.close();
  };
}

/** A file is written in several steps: read it when it has been left alone for so many ms. */
const SETTLE = 100;
