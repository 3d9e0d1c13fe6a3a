import { TransportAddress } from "../stun/address.ts";
import type { ServerTransport } from "../stun/locate.ts";
import { denoHost } from "../stun/net/deno_host.ts";
import type { IoChoice, SocketSetup } from "../stun/net/linux_host.ts";
import { listenWishes } from "../stun/net/listen_wishes.ts";
import type { StreamStats } from "../stun/net/streams.ts";
import { OpenError, openFailureText, type TlsServerOptions } from "../stun/net/transport.ts";
import { TokenUsers } from "../stun/access_token.ts";
import { longTermUser, type UserCredential } from "../stun/users.ts";
import type { ServeTurnOptions, TurnServerHandle } from "./serve.ts";
import type { TurnServerStats } from "./server_counters.ts";
import { SharedState } from "./shared_state.ts";
import {
  addUp,
  fromPlain,
  type PlainError,
  type PlainOptions,
  type WorkerOrder,
  type WorkerReport,
  type WorkerStart,
  type WorkerStats,
} from "./_worker_messages.ts";

/**
 * Options of `serveTurnWorkers()`: those of `serveTurn()`, as far as they can be copied to another thread. There is no
 * `mobility` with more than one worker; with `tcpRelay` the first worker has all TCP and TLS clients.
 */
export interface ServeTurnWorkersOptions
  extends Omit<ServeTurnOptions, "users" | "host" | "common" | "lookUpUserHash"> {
  /** How many workers there are, 1 to 256: one for each core that is to be used. */
  readonly workers: number;
  /** Who may allocate: user names with passwords or stored keys. */
  readonly users: Readonly<Record<string, UserCredential>> | Iterable<readonly [string, UserCredential]>;
  /** Which back end carries UDP. Sharing a port needs that of Linux. Default: `"auto"`. */
  readonly io?: IoChoice;
  /** How the Linux back end sets up its sockets. */
  readonly setup?: SocketSetup;
}

/**
 * A running TURN server of several workers. `stats()` and `streamStats()` are up to a second old, until it is shut down.
 * `finished` rejects if a worker has failed, which is the end of all.
 */
export interface TurnWorkersHandle extends TurnServerHandle {
  /** How UDP is carried, for people. */
  readonly io: string;
  /** What each worker did, as `stats()` tells it of all of them. */
  readonly workerStats: readonly TurnServerStats[];
  /**
   * Puts other users in the place of those of the options. Allocations that are there stay. This and the next ones resolve
   * when all workers go by it.
   *
   * @throws {SyntaxError} If a name or a password is empty or has a control character; the old ones stay.
   */
  setUsers(users: ServeTurnWorkersOptions["users"]): Promise<void>;
  /**
   * Takes another certificate, for the connections to come.
   *
   * @throws {TypeError} If the server was started without TLS.
   */
  setTls(tls: TlsServerOptions): Promise<void>;
  /**
   * Puts other secrets in the place of `restSecrets`.
   *
   * @throws {TypeError} If there were none from the beginning.
   */
  setRestSecrets(secrets: readonly string[]): Promise<void>;
  /**
   * Puts other keys in the place of those of `tokens`, whose own changes do not reach the workers.
   *
   * @throws {RangeError} If a key has a wrong length.
   * @throws {TypeError} If the server was started without `tokens`.
   */
  setTokenKeys(keys: Iterable<readonly [kid: string, key: Uint8Array]>): Promise<void>;
}

const MAX_WORKERS = 256;
const DEFAULT_PORT = 3478;
const DEFAULT_TLS_PORT = 5349;
const DEFAULT_LISTEN = [`0.0.0.0:${DEFAULT_PORT}`];
const NO_STREAMS = {} as StreamStats;

/**
 * Serves TURN with several threads on the same ports: the kernel gives each client, by its address and port, to one of
 * them. Quotas, speed limits, relay ports, counters and draining are those of one server. Needs Linux, `--allow-ffi`, and
 * `--allow-read` of its own code if that is on this machine.
 *
 * @example Two workers
 * ```ts ignore
 * import { serveTurnWorkers } from "@natkit/natkit/turn";
 *
 * const server = await serveTurnWorkers({ workers: 2, realm: "example.org", users: { alice: "secret" } });
 * console.log(server.addresses.map(String));
 * await server.finished;
 * ```
 *
 * @param options How many, where and to whom.
 * @throws {OpenError} If a socket can not be bound, as when the port is in use.
 * @throws {SyntaxError} If an address, a range, the realm, a name or a password is malformed.
 * @throws {RangeError} If a number is out of range.
 * @throws {TypeError} If the Linux back end does not work here.
 */
export async function serveTurnWorkers(options: ServeTurnWorkersOptions): Promise<TurnWorkersHandle> {
  const { workers, signal } = options;
  if (!Number.isInteger(workers) || workers < 1 || workers > MAX_WORKERS) {
    throw new RangeError(
      `Cannot use so many workers as there must be 1 to ${MAX_WORKERS}: current value is ${workers}`,
    );
  }
  if (workers > 1 && options.mobility === true) {
    // The kernel gives a client that has moved to any of them, and only one has its socket.
    throw new TypeError("Cannot offer mobility (RFC 8016) with more than one worker");
  }
  signal?.throwIfAborted();
  const crew = new Crew(options);
  try {
    await crew.start(workers);
  } catch (error) {
    await crew.shutdown();
    throw error;
  }
  signal?.addEventListener("abort", () => void crew.shutdown(), { once: true });
  return crew;
}

/** All workers of a server. */
class Crew implements TurnWorkersHandle {
  addresses: readonly TransportAddress[] = [];
  transports: readonly (readonly ServerTransport[])[] = [];
  io = "";
  readonly finished: Promise<void>;
  #options: ServeTurnWorkersOptions;
  #plain: PlainOptions;
  #members: Member[] = [];
  #common: Pick<WorkerStart, "memory" | "secret" | "epoch">;
  #finish: () => void;
  #fail: (error: Error) => void;
  #drained: Promise<void> | undefined;

  constructor(options: ServeTurnWorkersOptions) {
    this.#options = options;
    this.#plain = plainOptions(options);
    ({ promise: this.finished, resolve: this.#finish, reject: this.#fail } = Promise.withResolvers<void>());
    // Not more relay addresses than this: without `relayAddresses` they are those of `listen`.
    const addresses = options.relayAddresses?.length ??
      listenWishes(this.#plain.listen!, DEFAULT_PORT, denoHost()).length;
    const secret = crypto.getRandomValues(new Uint8Array(32));
    this.#common = { memory: SharedState.allocate(addresses), secret, epoch: performance.timeOrigin };
  }

  /** The first worker finds out what ports there are; the others take the same. */
  async start(workers: number): Promise<void> {
    const { listen = DEFAULT_LISTEN, listenTls = [], transports = ["udp", "tcp"] } = this.#plain;
    for (const text of listen) probePort(TransportAddress.parse(text, DEFAULT_PORT), transports);
    for (const text of listenTls) probePort(TransportAddress.parse(text, DEFAULT_TLS_PORT), ["tcp"]);
    const first = await this.#hire(this.#plain);
    this.addresses = first.addresses.map((text) => TransportAddress.parse(text));
    this.transports = first.transports;
    this.io = first.reason;
    const isExact = (text: string) => !/^0\.0\.0\.0|^\[::\]/.test(text);
    const named = listen.every(isExact) && listenTls.every(isExact);
    const options = named
      ? {
        ...this.#plain,
        listen: first.addresses.slice(0, listen.length),
        ...(listenTls.length === 0
          ? {}
          : { listenTls: first.addresses.slice(listen.length, listen.length + listenTls.length) }),
      }
      : this.#plain;
    const alternatePort = named ? this.addresses[listen.length + listenTls.length]?.port : undefined;
    const others = withoutTcpRelay({ ...options, ...(alternatePort === undefined ? {} : { alternatePort }) });
    await Promise.all(Array.from({ length: workers - 1 }, () => this.#hire(others)));
  }

  #hire(options: PlainOptions): Promise<Extract<WorkerReport, { t: "listening" }>> {
    const { io = "auto", setup = {}, lookUpUser, onEvent } = this.#options;
    const member = new Member(this.#options, (error) => {
      // What one has lost, its clients would miss for up to an hour: better all begin anew.
      this.#fail(new Error(`A worker has failed, so that the server has ended: ${error.message}`, { cause: error }));
      void this.shutdown();
    });
    this.#members.push(member);
    return member.start({
      t: "start",
      options,
      io,
      setup,
      asksForUsers: lookUpUser !== undefined,
      reports: onEvent !== undefined,
      ...this.#common,
    });
  }

  get workerStats(): readonly TurnServerStats[] {
    return this.#members.flatMap(({ stats }) => stats === undefined ? [] : [stats.turn]);
  }

  stats(): TurnServerStats {
    return addUp(this.workerStats);
  }

  streamStats(): StreamStats {
    return addUp(this.#members.map(({ stats }) => stats?.streams ?? NO_STREAMS));
  }

  async setTls(tls: TlsServerOptions): Promise<void> {
    if (this.#plain.tls === undefined) {
      throw new TypeError("Cannot take a certificate as the server was started without TLS");
    }
    await this.#order({ t: "tls", tls });
  }

  async setUsers(users: ServeTurnWorkersOptions["users"]): Promise<void> {
    const entries = toEntries(users);
    for (const [name, credential] of entries) longTermUser(name, this.#plain.realm, credential);
    await this.#order({ t: "users", users: entries });
  }

  async setRestSecrets(secrets: readonly string[]): Promise<void> {
    if ((this.#plain.restSecrets ?? []).length === 0) {
      throw new TypeError("Cannot take secrets as the server was started without any");
    }
    await this.#order({ t: "secrets", secrets });
  }

  async setTokenKeys(keys: Iterable<readonly [kid: string, key: Uint8Array]>): Promise<void> {
    const { tokens } = this.#plain;
    if (tokens === undefined) {
      throw new TypeError("Cannot take keys of access tokens as the server was started without");
    }
    const entries = [...keys];
    // Throws now rather than in the workers.
    new TokenUsers({ ...tokens, keys: entries });
    await this.#order({ t: "tokenKeys", keys: entries });
  }

  drain(): Promise<void> {
    this.#drained ??= Promise.all(this.#members.map((member) => member.drain())).then(() => {});
    return Promise.race([this.#drained, this.finished]);
  }

  async shutdown(): Promise<void> {
    await Promise.all(this.#members.map((member) => member.shutdown()));
    this.#finish();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.shutdown();
  }

  /** Resolves when all workers have carried it out. */
  async #order(order: WorkerOrder): Promise<void> {
    await Promise.all(this.#members.map((member) => member.order(order)));
  }
}

/** One worker, seen from outside. */
class Member {
  stats: WorkerStats | undefined;
  #worker = new Worker(import.meta.resolve("./_serve_worker.ts"), { type: "module" });
  #options: ServeTurnWorkersOptions;
  #listening = Promise.withResolvers<Extract<WorkerReport, { t: "listening" }>>();
  #drained = Promise.withResolvers<void>();
  #finished = Promise.withResolvers<void>();
  #isOver = false;
  /** Who waits for an order to be carried out. */
  #syncs: (() => void)[] = [];

  constructor(options: ServeTurnWorkersOptions, onFailure: (error: Error) => void) {
    this.#options = options;
    this.#worker.onmessage = ({ data }: MessageEvent<WorkerReport>) => this.#handle(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      const error = new Error(startError(event.message));
      this.#listening.reject(error);
      if (this.#isOver) return;
      this.#end();
      onFailure(error);
    };
    this.#listening.promise.catch(() => {});
  }

  start(order: WorkerStart): Promise<Extract<WorkerReport, { t: "listening" }>> {
    this.tell(order);
    return this.#listening.promise;
  }

  tell(order: WorkerOrder): void {
    if (!this.#isOver) this.#worker.postMessage(order);
  }

  /** Resolves when it has been carried out: orders are, one after the other, but packets may come in between. */
  order(order: WorkerOrder): Promise<void> {
    this.tell(order);
    if (this.#isOver) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#syncs.push(resolve);
    this.tell({ t: "sync" });
    return promise;
  }

  drain(): Promise<void> {
    this.tell({ t: "drain" });
    return this.#drained.promise;
  }

  shutdown(): Promise<void> {
    this.tell({ t: "shutdown" });
    return this.#finished.promise;
  }

  #handle(report: WorkerReport): void {
    switch (report.t) {
      case "listening":
        return this.#listening.resolve(report);
      case "failed":
        this.#listening.reject(toError(report.error));
        return this.#end();
      case "event":
        return this.#options.onEvent?.(fromPlain(report.event));
      case "wanted":
        return void this.#lookUp(report.id, report.username, report.client);
      case "drained":
        return this.#drained.resolve();
      case "synced":
        return this.#syncs.shift()?.();
      case "stats":
        this.stats = report.stats;
        return;
      case "finished":
        this.stats = report.stats;
        return this.#end();
    }
  }

  async #lookUp(id: number, username: string, client: string): Promise<void> {
    try {
      const credential = await this.#options.lookUpUser?.(username, TransportAddress.parse(client));
      this.tell({ t: "found", id, credential });
    } catch (error) {
      this.tell({ t: "notFound", id, why: String(error) });
    }
  }

  #end(): void {
    this.#isOver = true;
    this.#worker.terminate();
    this.#drained.resolve();
    this.#finished.resolve();
    for (const resolve of this.#syncs.splice(0)) resolve();
  }
}

/**
 * Binds a port that nobody shares, for a moment: who shares one would not notice another server on it.
 *
 * @throws {OpenError} If it can not.
 */
function probePort({ address, port }: TransportAddress, transports: readonly ("udp" | "tcp")[]): void {
  if (port === 0) return;
  for (const transport of transports) {
    try {
      const options = { hostname: address, port };
      if (transport === "tcp") Deno.listen({ transport, ...options }).close();
      else Deno.listenDatagram({ transport, ...options }).close();
    } catch (cause) {
      if (!(cause instanceof Deno.errors.AddrInUse)) continue;
      const failure = "address-in-use";
      throw new OpenError(
        failure,
        `Cannot bind ${transport.toUpperCase()} ${address} port ${port}: ${openFailureText(failure)}`,
        { cause },
      );
    }
  }
}

/** Deno loads a worker's code as a program of its own, for which it wants leave. */
function startError(message: string): string {
  const [, path] = /Requires read access to "([^"]+)"/.exec(message) ?? [];
  if (path === undefined) return message;
  return `Cannot start a worker as Deno may not read its code: give it --allow-read=${path}, or --allow-read`;
}

/**
 * With TCP allocations (RFC 6062) the first worker has all connections: those that a client makes for its data have to
 * come to the one that has its allocation.
 */
function withoutTcpRelay(options: PlainOptions): PlainOptions {
  if (options.tcpRelay !== true) return options;
  const { listenTls: _, ...rest } = options;
  return { ...rest, tcpRelay: false, transports: ["udp"] };
}

function plainOptions(options: ServeTurnWorkersOptions): PlainOptions {
  const {
    users,
    alternates,
    workers: _w,
    io: _i,
    setup: _s,
    signal: _g,
    lookUpUser: _l,
    onEvent: _e,
    tokens,
    ...rest
  } = options;
  return {
    ...rest,
    ...(options.workers > 1 ? { mobility: false } : {}),
    listen: options.listen ?? DEFAULT_LISTEN,
    users: toEntries(users),
    ...(tokens === undefined ? {} : { tokens: { serverName: tokens.serverName, keys: [...tokens.keys] } }),
    ...(alternates === undefined ? {} : {
      alternates: { ...alternates, addresses: alternates.addresses.map(String) },
    }),
  };
}

function toEntries(users: ServeTurnWorkersOptions["users"]): [string, UserCredential][] {
  return Symbol.iterator in users ? [...users as Iterable<[string, UserCredential]>] : Object.entries(users);
}

function toError({ name, message, failure }: PlainError): Error {
  if (failure !== undefined) return new OpenError(failure, message);
  if (name === "RangeError") return new RangeError(message);
  if (name === "SyntaxError") return new SyntaxError(message);
  return name === "TypeError" ? new TypeError(message) : new Error(message);
}
