import { TransportAddress } from "./address.ts";
import {
  LongTermAuthenticator,
  type LongTermAuthenticatorOptions,
  type RequestAuthenticator,
} from "./authenticator.ts";
import { type AlternateServer, DiscoveryServer, type DiscoveryServerCounters } from "./discovery_server.ts";
import { denoHost } from "./net/deno_host.ts";
import { alternateGroups, bindAlternates } from "./net/discovery_sockets.ts";
import { Driver, type MachineHandle } from "./net/driver.ts";
import { isWildcard } from "./net/server_address.ts";
import type { Host } from "./net/transport.ts";
import { randomBytes } from "./random.ts";
import { ShortTermAuthenticator } from "./short_term.ts";

const DEFAULT_PORT = 3478;

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
  /** The second port, for NAT behaviour discovery. Default: the one above the first, or else any that is free. */
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
  /** All addresses that it listens at: the given ones first, then those with the second port. */
  readonly addresses: readonly TransportAddress[];
  /** Whether there are two addresses with two ports, as NAT behaviour discovery needs. */
  readonly hasDiscovery: boolean;
  /** Resolves when it has been shut down. */
  readonly finished: Promise<void>;
  /** Closes all sockets. Resolves when their ports are free. A second call does nothing. */
  shutdown(): Promise<void>;
  /** What it has seen so far. */
  stats(): DiscoveryServerCounters;
  /** Shuts it down. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Serves STUN over UDP: Binding requests (RFC 8489), and NAT behaviour discovery (RFC 5780) if it is given two addresses.
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
  const { host = denoHost(), alternatePort, classic = false, software = "", signal } = options;
  signal?.throwIfAborted();
  const listen = options.listen.map((one) =>
    one instanceof TransportAddress ? one : TransportAddress.parse(one, DEFAULT_PORT)
  );
  if (listen.length === 0) throw new RangeError("Cannot serve STUN as there is no address to listen at");
  const driver = new Driver(host);
  try {
    const server = new DiscoveryServer({
      classic,
      software,
      ...(options.credentials === undefined ? {} : { authenticator: authenticatorOf(options.credentials, host) }),
      ...(options.alternate === undefined ? {} : { alternate: options.alternate }),
    });
    const handle = driver.add(server);
    const bound = bindAll(handle, server, listen.filter((one) => !isWildcard(one)));
    const alternates: TransportAddress[] = [];
    for (const group of alternateGroups(bound)) {
      // Two ports on each of two addresses may all have been given.
      if (server.hasAlternateFor(group[0]!)) continue;
      for (const { socket, localAddress } of bindAlternates(handle, group, alternatePort)) {
        server.addSocket(socket, localAddress);
        alternates.push(localAddress);
      }
    }
    bound.push(
      ...bindAll(handle, server, listen.filter(isWildcard).flatMap((one) => expand(one, host))),
      ...alternates,
    );
    const { promise: finished, resolve } = Promise.withResolvers<void>();
    const shutdown = (): Promise<void> => {
      signal?.removeEventListener("abort", shutdown);
      driver.close().then(resolve);
      return finished;
    };
    signal?.addEventListener("abort", shutdown);
    return {
      addresses: bound,
      hasDiscovery: server.hasAlternate,
      finished,
      shutdown,
      stats: () => ({ ...server.counters }),
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

/** The addresses that a wildcard stands for, without link-local ones, which are none without their zone. */
function expand(one: TransportAddress, host: Host): TransportAddress[] {
  const all = host.interfaces().filter(({ address }) => !/^fe[89ab]/i.test(address));
  return all.map(({ address }) => TransportAddress.of(address, one.port)).filter(({ family }) => family === one.family);
}

/** Binds addresses. Those with port 0 get a free one, the same for all of a family if it can be had. */
function bindAll(
  handle: MachineHandle<never>,
  server: DiscoveryServer,
  listen: TransportAddress[],
): TransportAddress[] {
  const bound: TransportAddress[] = [];
  for (const address of listen) {
    const sibling = bound.find(({ family }) => address.port === 0 && family === address.family);
    bound.push(bindOne(handle, server, sibling === undefined ? address : address.withPort(sibling.port)));
  }
  return bound;
}

function bindOne(handle: MachineHandle<never>, server: DiscoveryServer, address: TransportAddress): TransportAddress {
  const { socket, localAddress } = handle.bind({ transport: "udp", address: address.address, port: address.port });
  server.addSocket(socket, localAddress);
  return localAddress;
}
