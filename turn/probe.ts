import type { AddressFamily } from "../stun/address.ts";
import { StunError, StunTimeoutError } from "../stun/error.ts";
import { denoHost } from "../stun/net/deno_host.ts";
import type { ServerEndpoint } from "../stun/resolve.ts";
import { findEndpoints } from "./_probe_endpoints.ts";
import { findFeatures } from "./_probe_features.ts";
import { credentialEnd, explainFailure } from "./probe_failure.ts";
import { rangeWord } from "./_probe_peers.ts";
import { arePermissionsEnforced, askAboutPeers, isReachedFromOutside, permit } from "./_probe_questions.ts";
import {
  findLargest,
  grace,
  knock,
  patiently,
  type ProbeScope,
  type RelayPair,
  stream,
  type Tap,
} from "./_probe_relay.ts";
import { ProbedServer } from "./_probe_server.ts";
import type { ProbeTurnOptions } from "./probe_options.ts";
import { PROBE_HEADER, roundTrips } from "./probe_traffic.ts";
import { judgeTurn, type TurnFacts } from "./probe_verdict.ts";
import { TurnError } from "./error.ts";
import type { TurnFeatures, TurnPathReport, TurnQuestion, TurnReport } from "./probe_report.ts";

export type { ProbeTurnOptions } from "./probe_options.ts";

/** How often the round trip without relay is measured. */
const DIRECT_ROUND_TRIPS = 5;
const RANGES = {
  count: [1, 100_000],
  size: [PROBE_HEADER, 65_000],
  rate: [1, 10_000],
  timeout: [100, 60_000],
} as const;

/**
 * Finds out what a TURN server does: gets two relays there, lets one send to the other, and asks for what should be
 * refused.
 *
 * Whatever the server does wrong is in the report; a server that does not answer is too. Nothing is sent to anybody but the
 * server, its relayed addresses, and by these to this computer. It takes some 5 s for each path.
 *
 * @example Does it relay?
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { probeTurn, serveTurn } from "@natkit/natkit/turn";
 *
 * const users = { alice: "secret" };
 * const allowPeers = ["127.0.0.1"];
 * await using server = serveTurn({ listen: ["127.0.0.1:0"], realm: "example.org", users, allowPeers });
 * const report = await probeTurn({
 *   server: `turn:${server.addresses[0]}?transport=udp`,
 *   username: "alice",
 *   password: "secret",
 *   count: 10,
 * });
 * assertEquals([report.works, report.verdict], [true, "TURN works over UDP"]);
 * assertEquals(report.paths[0]!.channel!.received, 10);
 * ```
 *
 * @throws {SyntaxError} If the URI is none, or user name or password cannot be used.
 * @throws {RangeError} If a number is out of its range.
 * @throws {Error} If the server's name is not found, or has no address that can be used.
 */
export async function probeTurn(options: ProbeTurnOptions): Promise<TurnReport> {
  if ((options.username === undefined) !== (options.password === undefined)) {
    throw new TypeError("Cannot probe with a user name and no password, or the reverse");
  }
  for (const [name, [min, max]] of Object.entries(RANGES) as [keyof typeof RANGES, readonly [number, number]][]) {
    const value = options[name] ?? min;
    if (value >= min && value <= max && Number.isInteger(value)) continue;
    throw new RangeError(
      `Cannot use ${name} as it must be a whole number in ${min} to ${max}: current value is ${value}`,
    );
  }
  return await new Probe(options).run();
}

/** A way to the server, and what its answer to a Binding request told. */
interface Way {
  readonly endpoint: ServerEndpoint;
  readonly isStun: boolean;
  readonly software: string | undefined;
  /** The relay that was got to see whether it answers at all, or why there is none. */
  readonly first: { readonly tap: Tap; readonly setup: number } | { readonly error: unknown } | undefined;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

class Probe {
  #options: ProbeTurnOptions;
  #scope: ProbeScope;
  #start: number;
  #server: ProbedServer;
  #ways: readonly Way[] = [];
  #paths: TurnPathReport[] = [];
  #unknown: Partial<Record<TurnQuestion, string>> = {};
  #facts: Mutable<Omit<TurnFacts, "paths" | "unknown" | "duration">>;

  constructor(options: ProbeTurnOptions) {
    const { host = denoHost(), signal, timeout = 5000, count = 100, size = 200, rate = 100 } = options;
    this.#options = options;
    this.#scope = { host, signal, timeout, plan: { count, size, rate } };
    this.#server = new ProbedServer(options, this.#scope);
    this.#start = host.now();
    this.#facts = {
      server: options.server,
      realm: null,
      software: null,
      permissionsEnforced: null,
      reachableFromOutside: null,
      peers: [],
      features: { dual: null, dontFragment: null, mobility: null, reservedPorts: null, tcpPeers: null },
      ownRelayRefused: undefined,
      isAlone: false,
      expectedRealm: options.realm,
    };
  }

  async run(): Promise<TurnReport> {
    await using _server = this.#server;
    const { server, transports, localAddress } = this.#options;
    const { host, signal } = this.#scope;
    const { endpoints, missing } = await findEndpoints({ server, transports, localAddress, host, signal });
    this.#unknown = { ...missing };
    this.#say(
      `Asking ${endpoints.map(({ transport, address }) => `${transport.toUpperCase()} ${address}`).join(", ")}`,
    );
    const ways = this.#ways = await Promise.all(endpoints.map((endpoint) => this.#knockOn(endpoint)));
    let main: Way | undefined;
    for (const way of ways) {
      const hasRelay = await this.#follow(way, main === undefined);
      if (hasRelay) main ??= way;
    }
    if (main !== undefined) {
      await this.#tryOtherFamily(main);
      this.#facts.features = await this.#findFeatures(main);
    }
    return this.#report();
  }

  #report(): TurnReport {
    const { ownRelayRefused, isAlone, expectedRealm, ...known } = this.#facts;
    const found = {
      ...known,
      paths: this.#paths,
      unknown: this.#unknown,
      duration: this.#scope.host.now() - this.#start,
    };
    const { works, verdict, problems } = judgeTurn({ ...found, ownRelayRefused, isAlone, expectedRealm });
    const { server, ...rest } = found;
    return { server, works, verdict, problems, ...rest };
  }

  /** Whether anybody is there. A server that is silent to STUN may still allocate. */
  async #knockOn(endpoint: ServerEndpoint): Promise<Way> {
    try {
      const { software } = await this.#server.bind(endpoint);
      return { endpoint, isStun: true, software, first: undefined };
    } catch (error) {
      this.#scope.signal?.throwIfAborted();
      if (error instanceof StunError) return { endpoint, isStun: true, software: undefined, first: undefined };
      const first = error instanceof StunTimeoutError
        ? await this.#server.allocate(endpoint).catch((error: unknown) => ({ error }))
        : { error };
      return { endpoint, isStun: false, software: undefined, first };
    }
  }

  /** Follows a way to its end. Gives whether there was a relay. */
  async #follow(way: Way, isFirst: boolean, family?: AddressFamily): Promise<boolean> {
    const { endpoint: { transport, address } } = way;
    this.#say(
      `Trying ${transport.toUpperCase()} ${address}${family === undefined ? "" : ` for an IPv${family} relay`}`,
    );
    const path: Mutable<TurnPathReport> = {
      transport,
      server: address,
      relayFamily: family ?? 4,
      failure: null,
      local: null,
      mapped: null,
      relayed: null,
      lifetime: null,
      setup: null,
      direct: null,
      channel: null,
      indications: null,
      largest: null,
    };
    this.#paths.push(path);
    try {
      const first = way.first ?? await this.#server.allocate(way.endpoint, family === undefined ? {} : { family });
      if ("error" in first) throw first.error;
      await using tap = first.tap;
      this.#note(way, tap, path, first.setup);
      path.direct = way.isStun ? await this.#measureDirect(way.endpoint) : null;
      await using second = await this.#allocateSecond(way.endpoint, family);
      await this.#measure({ from: tap, to: second ?? tap }, path, isFirst);
      if (isFirst) await this.#askOutside(tap);
      if (isFirst || family !== undefined) {
        this.#say("Asking what it refuses");
        this.#facts.peers = [...this.#facts.peers, ...await askAboutPeers(this.#scope, tap)];
      }
      return true;
    } catch (error) {
      this.#scope.signal?.throwIfAborted();
      path.failure = path.relayed === null
        ? this.#explain(error, way, path.relayFamily)
        : { kind: "lost", code: null, text: error instanceof Error ? error.message : String(error) };
      return false;
    }
  }

  /** IPv6 relays by IPv4 servers, and the reverse. */
  async #tryOtherFamily(main: Way): Promise<void> {
    const had = this.#paths.find(({ relayed }) => relayed !== null)!.relayFamily;
    await this.#follow({ ...main, first: undefined }, false, had === 4 ? 6 : 4);
  }

  async #findFeatures({ endpoint }: Way): Promise<TurnFeatures> {
    this.#say("Asking what else it can do");
    const isStream = ({ transport }: ServerEndpoint) => transport === "tcp" || transport === "tls";
    const stream = this.#ways.find(({ endpoint, isStun }) => isStream(endpoint) && isStun)?.endpoint;
    return await findFeatures({
      allocate: async (wishes) => (await this.#server.allocate(endpoint, wishes)).tap.relay,
      allocateTcp: stream === undefined ? undefined : () => this.#server.allocateTcp(stream),
      signal: this.#scope.signal,
    });
  }

  #note(way: Way, { relay }: Tap, path: Mutable<TurnPathReport>, setup: number): void {
    path.local = relay.localAddress;
    path.mapped = relay.mappedAddress;
    path.relayed = relay.relayedAddress;
    path.relayFamily = relay.relayedAddress.family;
    path.lifetime = relay.lifetime;
    path.setup = setup;
    this.#facts.realm ??= relay.realm ?? null;
    this.#facts.software ??= relay.software ?? way.software ?? null;
  }

  async #measure(pair: RelayPair, path: Mutable<TurnPathReport>, isFirst: boolean): Promise<void> {
    const scope = this.#scope;
    const { plan } = scope;
    const { from, to } = pair;
    const wait = grace(path.direct ?? path.setup ?? 100);
    try {
      if (isFirst) await this.#testPermissions(pair, wait);
      await permit(scope, from, to.relay.relayedAddress);
      await permit(scope, to, from.relay.relayedAddress);
    } catch (error) {
      scope.signal?.throwIfAborted();
      if (!(error instanceof TurnError)) throw error;
      if (isFirst) this.#facts.ownRelayRefused = `${error.code} ${error.reason}`.trimEnd();
      this.#unknown.relaying ??= "the server refuses its own relayed address as a peer";
      return;
    }
    if (!await knock(scope, pair, wait)) {
      this.#unknown.largest ??= "nothing comes through";
      return;
    }
    if (isFirst) {
      this.#say(`Sending ${plan.count} datagrams by indications`);
      path.indications = await stream(scope, pair, { wait, plan });
    }
    this.#say(`Sending ${plan.count} datagrams by channel, ${path.transport.toUpperCase()}`);
    if (await this.#bindChannels(pair)) path.channel = await stream(scope, pair, { wait, plan });
    this.#say(`Looking for the largest datagram, ${path.transport.toUpperCase()}`);
    const seen = path.channel ?? path.indications;
    const copies = seen === null || seen.received < seen.sent ? 4 : 2;
    path.largest = await findLargest(scope, pair, { wait: grace(seen?.roundTrips?.p95 ?? 500), copies });
  }

  async #bindChannels({ from, to }: RelayPair): Promise<boolean> {
    const bind = (one: Tap, other: Tap) =>
      patiently(this.#scope, (signal) => one.relay.bindChannel(other.relay.relayedAddress, { signal }));
    try {
      await bind(from, to);
      if (from !== to) await bind(to, from);
      return true;
    } catch (error) {
      if (!(error instanceof StunError || error instanceof StunTimeoutError)) throw error;
      this.#unknown.channel = error.message;
      return false;
    }
  }

  async #testPermissions({ from, to }: RelayPair, wait: number): Promise<void> {
    if (from === to) return void (this.#unknown.permissions = "that needs two relays");
    this.#say("Seeing whether permissions are enforced");
    const answer = await arePermissionsEnforced(this.#scope, { from, to }, wait);
    if (answer === undefined) this.#unknown.permissions = "nothing comes through with a permission either";
    else this.#facts.permissionsEnforced = answer;
  }

  async #askOutside(tap: Tap): Promise<void> {
    const { relayedAddress, mappedAddress, server } = tap.relay;
    const why = rangeWord(relayedAddress) !== undefined && rangeWord(server) === undefined
      ? `the relayed address is ${rangeWord(relayedAddress)}`
      : relayedAddress.family === mappedAddress.family
      ? undefined
      : `the server sees this computer by IPv${mappedAddress.family} only`;
    if (why !== undefined) return void (this.#unknown.outside = why);
    this.#say("Knocking on the relayed address from outside");
    try {
      const udp = this.#ways.find(({ endpoint: { transport, address }, isStun, first }) => {
        return transport === "udp" && address.family === relayedAddress.family &&
          (isStun || (first !== undefined && "tap" in first));
      });
      const asks = udp?.isStun === true ? udp.endpoint.address : undefined;
      const isReached = await isReachedFromOutside(this.#scope, tap, { asks, otherwise: mappedAddress });
      if (isReached || udp !== undefined) this.#facts.reachableFromOutside = isReached;
      else this.#unknown.outside = "nothing came, but UDP may not get out of this network";
    } catch (error) {
      this.#scope.signal?.throwIfAborted();
      this.#unknown.outside = error instanceof StunError
        ? `the server refuses this computer's address ${mappedAddress.address} as a peer (${error.code})`
        : `${error instanceof Error ? error.message : error}`;
    }
  }

  /** `undefined` if there is only one for this user. */
  async #allocateSecond(endpoint: ServerEndpoint, family: AddressFamily | undefined): Promise<Tap | undefined> {
    try {
      return (await this.#server.allocate(endpoint, family === undefined ? {} : { family })).tap;
    } catch (error) {
      if (!(error instanceof StunError)) throw error;
      this.#facts.isAlone = true;
      return undefined;
    }
  }

  async #measureDirect(endpoint: ServerEndpoint): Promise<number | null> {
    const times: number[] = [];
    for (let i = 0; i < DIRECT_ROUND_TRIPS; i++) {
      const { rtt, sends } = await this.#server.bind(endpoint);
      if (sends === 1) times.push(rtt);
    }
    return roundTrips(times)?.median ?? null;
  }

  #explain(error: unknown, { endpoint, isStun }: Way, relayFamily: AddressFamily): TurnPathReport["failure"] {
    const { username, accessToken, realm, tls } = this.#options;
    if (error instanceof TurnError) this.#facts.realm ??= error.realm ?? null;
    const end = username === undefined ? undefined : credentialEnd(username);
    return explainFailure(error, {
      transport: endpoint.transport,
      server: endpoint.address,
      relayFamily,
      serverName: tls?.serverName ?? endpoint.serverName,
      username,
      kid: accessToken?.kid,
      expectedRealm: realm,
      expiredAt: end === undefined || end > this.#scope.host.unixTime()
        ? undefined
        : new Date(end * 1000).toISOString(),
      isStun,
    });
  }

  #say(doing: string): void {
    this.#options.onProgress?.(doing);
  }
}
