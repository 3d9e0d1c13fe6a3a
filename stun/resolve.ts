import { isIpAddress, TransportAddress } from "./address.ts";
import {
  interleaveFamilies,
  type NaptrRecord,
  orderSrv,
  relayPointers,
  type ServerTransport,
  srvName,
  type SrvRecord,
  transportsOf,
} from "./locate.ts";
import { denoHost } from "./net/deno_host.ts";
import type { TlsClientOptions } from "./machine.ts";
import { abortable, familyOf } from "./net/server_address.ts";
import type { Host } from "./net/transport.ts";
import { defaultPort, parseStunUri, type StunUri } from "./uri.ts";

/** How many servers are looked for at most, whatever DNS says. */
const MAX_ENDPOINTS = 16;
/** How many names are asked for NAPTR records at most, as these may lead from one to the next. */
const MAX_NAPTR_NAMES = 8;

/** How `resolveServers()` looks. */
export interface ResolveOptions {
  /** What the caller can talk over, best first. Default: all that the URI's scheme has, UDP first. */
  readonly transports?: readonly ServerTransport[];
  /** The computer to look from. Default: `denoHost()`. */
  readonly host?: Host;
  /** Ends the wait: the promise is rejected with its reason. */
  readonly signal?: AbortSignal;
  /**
   * Whether `stuns:` with an IP address is taken, which RFC 8489 §8.1 forbids as nobody vouches for the address. For
   * callers who verify the certificate against a name that they know otherwise. Default: no.
   */
  readonly allowSecureAddress?: boolean;
  /**
   * Whether it is for NAT behaviour discovery: SRV records of `stun-behavior` go before those of `stun` (RFC 5780 §5.1).
   * Says nothing about TURN. Default: no.
   */
  readonly behavior?: boolean;
}

/** One way to reach a server. */
export interface ServerEndpoint {
  /** What to talk over. */
  readonly transport: ServerTransport;
  /** Where. */
  readonly address: TransportAddress;
  /** What the certificate of a TLS or DTLS server must be for: the URI's host, whatever DNS makes of it (RFC 5928 §4). */
  readonly serverName: string;
}

/**
 * Finds out where a STUN or TURN server is (RFC 8489 §8.1, RFC 5928): by the URI's port, or by NAPTR and SRV records, or at
 * the default port.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { resolveServers } from "@natkit/natkit/stun";
 *
 * const found = await resolveServers("turn:192.0.2.1?transport=tcp");
 * assertEquals(found.map(({ transport, address }) => `${transport} ${address}`), ["tcp 192.0.2.1:3478"]);
 * ```
 *
 * @param server A URI, as text or parsed.
 * @param options What to look for, and from where.
 * @returns At least one way and at most 16, in the order to try them. Several addresses of one server alternate between
 * IP versions, IPv6 first for connections, which are quick to fail (RFC 8305 §4).
 * @throws {SyntaxError} If the URI is none, or needs a transport that the caller does not have.
 * @throws {Error} If the name, and whatever it refers to, has no address.
 */
export async function resolveServers(
  server: string | StunUri,
  options: ResolveOptions = {},
): Promise<ServerEndpoint[]> {
  const { transports: supported = ["udp", "tcp", "tls", "dtls"], host = denoHost(), signal } = options;
  signal?.throwIfAborted();
  const uri = typeof server === "string" ? parseStunUri(server) : server;
  const transports = transportsOf(uri, supported);
  if (uri.scheme === "stuns" && isIpAddress(uri.host) && options.allowSecureAddress !== true) {
    throw new SyntaxError(
      `Cannot use "stuns:" with an IP address (RFC 8489 §8.1): name the server, as its certificate does`,
    );
  }
  const endpoints = await new Search(uri, {
    transports,
    host,
    signal,
    behavior: options.behavior === true && uri.scheme.startsWith("stun"),
  }).run();
  signal?.throwIfAborted();
  return endpoints.slice(0, MAX_ENDPOINTS);
}

/** What a client verb is told about its server. */
export interface FindServersOptions {
  /** The schemes that the URI may have. */
  readonly schemes: readonly StunUri["scheme"][];
  /** The computer to look from. */
  readonly host: Host;
  /** What to talk over. Default: what the URI says, else UDP, or TLS for `stuns:` and `turns:`. */
  readonly transport?: ServerTransport;
  /** How TLS or DTLS is used. */
  readonly tls?: TlsClientOptions;
  /** The local IP address: only servers of its IP version are found. Default: servers of both. */
  readonly localAddress?: string;
  /** Ends the wait. */
  readonly signal?: AbortSignal;
}

/**
 * The ways to reach the server that a client verb was given, in the order to try them.
 *
 * @param server A URI, or the server's address.
 * @param options What else the verb was told.
 * @throws {SyntaxError} If the URI is none, or does not go with the schemes or the transport.
 * @throws {Error} If the name is not found, or has no address of the IP version that is needed.
 */
export async function findServers(
  server: string | TransportAddress,
  options: FindServersOptions,
): Promise<ServerEndpoint[]> {
  const { schemes, host, transport, tls, localAddress, signal } = options;
  signal?.throwIfAborted();
  if (server instanceof TransportAddress) {
    return [{ transport: transport ?? "udp", address: server, serverName: server.address }];
  }
  const uri = parseStunUri(server);
  if (!schemes.includes(uri.scheme)) {
    throw new SyntaxError(`Cannot use "${server}" as it must begin with ${schemes.join(": or ")}:`);
  }
  const endpoints = await resolveServers(uri, {
    transports: [transport ?? defaultTransport(uri)],
    host,
    // The certificate is verified against another name, or not at all.
    allowSecureAddress: tls?.serverName !== undefined || tls?.insecureAcceptAnyCertificate === true,
    ...(signal === undefined ? {} : { signal }),
  });
  const family = localAddress === undefined ? undefined : familyOf(localAddress);
  const fitting = endpoints.filter(({ address }) => family === undefined || address.family === family);
  if (fitting.length === 0) throw new Error(`Cannot use "${server}" as "${uri.host}" has no IPv${family} address`);
  return fitting;
}

/** TLS where the URI wants security and says nothing of UDP. */
function defaultTransport({ scheme, transport }: StunUri): ServerTransport {
  if (scheme.endsWith("s")) return transport === "udp" ? "dtls" : "tls";
  return transport ?? "udp";
}

/** A host name and port that DNS named for a transport. */
interface Target {
  readonly transport: ServerTransport;
  readonly name: string;
  readonly port: number;
}

class Search {
  #uri: StunUri;
  #transports: readonly ServerTransport[];
  #host: Host;
  #signal: AbortSignal | undefined;
  #behavior: boolean;
  #found = new Map<string, Promise<readonly string[]>>();
  #naptrNames = new Set<string>();

  constructor(
    uri: StunUri,
    options: {
      transports: readonly ServerTransport[];
      host: Host;
      signal: AbortSignal | undefined;
      behavior: boolean;
    },
  ) {
    this.#uri = uri;
    this.#transports = options.transports;
    this.#host = options.host;
    this.#signal = options.signal;
    this.#behavior = options.behavior;
  }

  async run(): Promise<ServerEndpoint[]> {
    const { host, port } = this.#uri;
    // An address, a port, or a name that DNS has nothing to say about (RFC 6761 §6.3): no records are asked for.
    if (isIpAddress(host) || port !== undefined || host === "localhost" || this.#host.resolveSrv === undefined) {
      return await this.#endpoints(this.#atPort(host, port));
    }
    // Asked for at once: most servers have no records but addresses.
    this.#addresses(host).catch(() => {});
    const behavior = this.#behavior ? await this.#bySrv("_stun-behavior") : undefined;
    const targets = behavior ?? await this.#byNaptr(host) ?? await this.#bySrv();
    return await this.#endpoints(targets ?? this.#atPort(host, undefined));
  }

  #atPort(name: string, port: number | undefined): Target[] {
    return this.#transports.map((transport) => ({ transport, name, port: port ?? defaultPort(this.#uri.scheme) }));
  }

  /** RFC 5928 §3 step 4: only for TURN, and only if the URI has no transport. */
  async #byNaptr(name: string): Promise<Target[] | undefined> {
    if (!this.#uri.scheme.startsWith("turn") || this.#uri.transport !== undefined) return undefined;
    if (this.#naptrNames.has(name) || this.#naptrNames.size === MAX_NAPTR_NAMES) return undefined;
    this.#naptrNames.add(name);
    const targets: Target[] = [];
    const records = await this.#records<NaptrRecord>(this.#host.resolveNaptr?.(name, this.#signal));
    for (const { transport, kind, name } of relayPointers(records, this.#transports)) {
      if (targets.length >= MAX_ENDPOINTS) break;
      if (kind === "address") targets.push({ transport, name, port: defaultPort(this.#uri.scheme) });
      else if (kind === "srv") targets.push(...(await this.#srv(name, transport)).targets);
      else targets.push(...(await this.#byNaptr(name) ?? []).filter((one) => one.transport === transport));
    }
    return targets.length === 0 ? undefined : targets;
  }

  /** RFC 5928 §3 steps 3 and 5, RFC 8489 §8.1. Of RFC 5780's service `stuns` is `stun-behaviors`. */
  async #bySrv(service = "_stun"): Promise<Target[] | undefined> {
    const found = await Promise.all(this.#transports.map((transport) => {
      return this.#srv(srvName(this.#uri, transport).replace(/^_stun/, service), transport);
    }));
    if (found.every(({ isThere }) => !isThere)) return undefined;
    return found.flatMap(({ targets }) => targets);
  }

  async #srv(name: string, transport: ServerTransport): Promise<{ isThere: boolean; targets: Target[] }> {
    const records = await this.#records<SrvRecord>(this.#host.resolveSrv!(name, this.#signal));
    const targets = orderSrv(records, this.#host.random).map(({ target, port }) => {
      return { transport, name: target.replace(/\.$/, ""), port };
    });
    return { isThere: records.length > 0, targets };
  }

  /** No answer is no records: a server is still looked for by its addresses. */
  async #records<T>(answer: Promise<readonly T[]> | undefined): Promise<readonly T[]> {
    try {
      return await answer ?? [];
    } catch {
      this.#signal?.throwIfAborted();
      return [];
    }
  }

  async #endpoints(targets: readonly Target[]): Promise<ServerEndpoint[]> {
    const names = [...new Set(targets.map(({ name }) => name))].slice(0, MAX_ENDPOINTS);
    const found = await Promise.allSettled(names.map((name) => this.#addresses(name)));
    this.#signal?.throwIfAborted();
    const byName = new Map(names.map((name, i) => [name, found[i]!]));
    const endpoints = targets.flatMap(({ transport, name, port }) => {
      const answer = byName.get(name);
      if (answer?.status !== "fulfilled") return [];
      return interleaveFamilies(answer.value, transport === "udp" || transport === "dtls" ? 4 : 6).map((address) => {
        return { transport, address: TransportAddress.of(address, port), serverName: this.#uri.host };
      });
    });
    const seen = new Set<string>();
    const distinct = endpoints.filter(({ transport, address }) => {
      const key = `${transport} ${address}`;
      return !seen.has(key) && seen.add(key);
    });
    if (distinct.length > 0) return distinct;
    const failed = found.find(({ status }) => status === "rejected");
    if (failed?.status === "rejected") throw failed.reason;
    throw new Error(`Cannot find a server as "${this.#uri.host}" says in DNS that it has none`);
  }

  #addresses(name: string): Promise<readonly string[]> {
    let found = this.#found.get(name);
    if (found === undefined) this.#found.set(name, found = this.#host.resolve(name, this.#signal));
    return abortable(found, this.#signal);
  }
}
