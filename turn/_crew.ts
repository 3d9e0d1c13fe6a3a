import { TokenUsers } from "../stun/access_token.ts";
import { TransportAddress } from "../stun/address.ts";
import type { ServerTransport } from "../stun/locate.ts";
import { denoHost } from "../stun/net/deno_host.ts";
import { listenWishes } from "../stun/net/listen_wishes.ts";
import { isWildcard } from "../stun/net/server_address.ts";
import type { StreamStats } from "../stun/net/streams.ts";
import { OpenError, openFailureText, type TlsServerOptions } from "../stun/net/transport.ts";
import { longTermUser, type UserCredential } from "../stun/users.ts";
import { Member } from "./_crew_member.ts";
import type { ServeTurnWorkersOptions, TurnWorkersHandle } from "./serve_workers.ts";
import type { TurnServerStats } from "./server_counters.ts";
import { SharedState } from "./shared_state.ts";
import { addUp, type PlainOptions, type WorkerOrder, type WorkerReport, type WorkerStart } from "./_worker_messages.ts";

const DEFAULT_PORT = 3478;
const DEFAULT_TLS_PORT = 5349;
const DEFAULT_LISTEN = [`0.0.0.0:${DEFAULT_PORT}`];
const NO_STREAMS = {} as StreamStats;

/** All workers of a server. */
export class Crew implements TurnWorkersHandle {
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
    const named = [...listen, ...listenTls].every((text) => !isWildcard(TransportAddress.parse(text, DEFAULT_PORT)));
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
