import { TransportAddress } from "./address.ts";
import {
  LongTermAuthenticator,
  type LongTermAuthenticatorOptions,
  type RequestAuthenticator,
} from "./authenticator.ts";
import { type AlternateServer, DiscoveryServer, type DiscoveryServerCounters } from "./discovery_server.ts";
import type { ServerTransport } from "./locate.ts";
import { denoHost } from "./net/deno_host.ts";
import { Driver } from "./net/driver.ts";
import { listenWishes } from "./net/listen_wishes.ts";
import { isWildcard } from "./net/server_address.ts";
import { ServerSockets } from "./net/server_sockets.ts";
import type { StreamLimits, StreamStats } from "./net/streams.ts";
import type { Host, TlsServerOptions } from "./net/transport.ts";
import { randomBytes } from "./random.ts";
import { ShortTermAuthenticator } from "./short_term.ts";

const DEFAULT_PORT = 3478;
const DEFAULT_TLS_PORT = 5349;
/** RFC 7443 §3: for STUN without TURN. */
const ALPN: readonly string[] = ["stun.nat-discovery"];
/** For ms without a byte. There is no allocation that would have to outlive it. */
const IDLE_TIMEOUT = 600_000;

/** The credentials that a server wants to see. */
export type ServeStunCredentials =
  /** Short-term ones (RFC 8489 §9.1): pairs of user name and password. */
  | { readonly type: "short-term"; readonly users: Iterable<readonly [string, string]> }
  /** Long-term ones (§9.2), as for a `LongTermAuthenticator`. */
  | { readonly type: "long-term" } & Omit<LongTermAuthenticatorOptions, "secret">;

/** How `serveStun()` serves. */
export interface ServeStunOptions {
  /**
   * The addresses to listen at, as `192.0.2.1:3478`, with port 3478 as the default. Two IP addresses with the same port
   * make it a server for NAT behaviour discovery (RFC 5780). `0.0.0.0` and `::` stand for every address the host has, so
   * that answers leave from the address that was asked; they need `--allow-sys=networkInterfaces`, and do not count as two
   * addresses, as not all of them may be reached from everywhere.
   */
  readonly listen: readonly (string | TransportAddress)[];
  /** What to serve on each address of `listen`: UDP, TCP, or both on the same port. Default: both, where the host has TCP. */
  readonly transports?: readonly ("udp" | "tcp")[];
  /**
   * A certificate and its key: each TCP port then serves TLS as well, told by the first byte. Its `alpn` is
   * `stun.nat-discovery` (RFC 7443) if it has none. Default: no TLS.
   */
  readonly tls?: TlsServerOptions;
  /**
   * Whether DTLS is served on UDP, told by the first byte, where there is a certificate. It needs OpenSSL 3 on Linux and
   * `--allow-ffi`. `true`: it must be, or an error is thrown. Default: if it can be.
   */
  readonly dtls?: boolean;
  /** Addresses to serve only TLS and DTLS on, as `192.0.2.1:5349`, which is the default port. Default: none. */
  readonly listenTls?: readonly (string | TransportAddress)[];
  /** What clients' connections may take of time and memory. Default of `idleTimeout`: 600,000. */
  readonly streamLimits?: StreamLimits;
  /** The second port, for NAT behaviour discovery, which needs UDP. Default: the one above the first, or else any that is free. */
  readonly alternatePort?: number;
  /** Whether classic requests (RFC 3489) are answered as well. Default: no. */
  readonly classic?: boolean;
  /** The text of SOFTWARE. Default: none. */
  readonly software?: string;
  /** What requests must be authenticated with. Default: nothing, as is usual (RFC 8489 §12). Does not go with `classic`. */
  readonly credentials?: ServeStunCredentials;
  /** Another server that all clients are sent to (RFC 8489 §10). Default: none. */
  readonly alternate?: AlternateServer;
  /** The computer to serve on. Default: `denoHost()`. */
  readonly host?: Host;
  /** Shuts the server down when it is aborted. */
  readonly signal?: AbortSignal;
}

/** A running STUN server, shaped like what `Deno.serve()` gives. */
export interface StunServerHandle extends AsyncDisposable {
  /** All addresses that it listens at: those of `listen`, of `listenTls`, then those with the second port. */
  readonly addresses: readonly TransportAddress[];
  /** What is served on each of `addresses`. */
  readonly transports: readonly (readonly ServerTransport[])[];
  /** Whether there are two addresses with two ports, as NAT behaviour discovery needs. */
  readonly hasDiscovery: boolean;
  /** Resolves when it has been shut down. */
  readonly finished: Promise<void>;
  /** Closes all sockets. Resolves when their ports are free. A second call does nothing. */
  shutdown(): Promise<void>;
  /** What it has seen so far. */
  stats(): DiscoveryServerCounters;
  /** What its clients' connections did so far. */
  streamStats(): StreamStats;
  /**
   * Takes another certificate, for the connections to come.
   *
   * @throws {OpenError} If it can not be used; the old one stays.
   * @throws {TypeError} If the server was started without TLS.
   */
  setTls(options: TlsServerOptions): void;
  /** Shuts it down. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Serves STUN over UDP, TCP, TLS and DTLS: Binding requests (RFC 8489), and NAT behaviour discovery (RFC 5780) if it is
 * given two addresses.
 *
 * @example A server, and what it sees
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { requestBinding, serveStun } from "@natkit/natkit/stun";
 *
 * await using server = serveStun({ listen: ["127.0.0.1:0"] });
 * const { local, mapped } = await requestBinding({ server: server.addresses[0]! });
 * assertEquals(String(mapped), String(local)); // no NAT on the way
 * ```
 *
 * @throws {SyntaxError} If an address is none, or a user name or password cannot be used.
 * @throws {TypeError} If credentials are wanted of classic clients.
 * @throws {OpenError} If an address can not be bound.
 */
export function serveStun(options: ServeStunOptions): StunServerHandle {
  const { host = denoHost(), classic = false, software = "", signal } = options;
  signal?.throwIfAborted();
  const wishes = listenWishes(options.listen, DEFAULT_PORT, host);
  const tlsWishes = options.listenTls === undefined ? [] : listenWishes(options.listenTls, DEFAULT_TLS_PORT, host);
  const named = options.listen.map((one) => typeof one === "string" ? TransportAddress.parse(one, DEFAULT_PORT) : one);
  const driver = new Driver(host);
  try {
    const server = new DiscoveryServer({
      classic,
      software,
      ...(options.credentials === undefined ? {} : { authenticator: authenticatorOf(options.credentials, host) }),
      ...(options.alternate === undefined ? {} : { alternate: options.alternate }),
    });
    const { tls, ...others } = options;
    const sockets = new ServerSockets(driver.add(server), host, {
      ...others,
      ...(tls === undefined ? {} : { tls: { alpn: ALPN, ...tls } }),
      streamLimits: { idleTimeout: IDLE_TIMEOUT, ...options.streamLimits },
      onUdp: (socket, address) => server.addSocket(socket, address),
    });
    openAll(sockets, wishes);
    for (const wish of tlsWishes) sockets.openTls(wish);
    sockets.openAlternates(named.filter((one) => !isWildcard(one)), server);
    const { promise: finished, resolve } = Promise.withResolvers<void>();
    const shutdown = (): Promise<void> => {
      signal?.removeEventListener("abort", shutdown);
      driver.close().then(resolve);
      return finished;
    };
    signal?.addEventListener("abort", shutdown);
    return {
      addresses: sockets.addresses,
      transports: sockets.transports,
      hasDiscovery: server.hasAlternate,
      finished,
      shutdown,
      stats: () => ({ ...server.counters }),
      streamStats: () => driver.streamStats,
      setTls: (tls) => sockets.setTls({ alpn: ALPN, ...tls }),
      [Symbol.asyncDispose]: shutdown,
    };
  } catch (error) {
    driver.close();
    throw error;
  }
}

function authenticatorOf(credentials: ServeStunCredentials, host: Host): RequestAuthenticator {
  if (credentials.type === "short-term") return new ShortTermAuthenticator(credentials.users);
  return new LongTermAuthenticator({ ...credentials, secret: randomBytes(host.random, 32) });
}

/** Those with port 0 get a free one, the same for all of a family if it can be had: they are alternates then. */
function openAll(sockets: ServerSockets<never>, wishes: readonly TransportAddress[]): void {
  for (const wish of wishes) {
    const sibling = sockets.addresses.find(({ family }) => wish.port === 0 && family === wish.family);
    sockets.open(sibling === undefined ? wish : wish.withPort(sibling.port));
  }
}
