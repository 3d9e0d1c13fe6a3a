import { TransportAddress } from "./address.ts";
import { type BindingAnswer, BindingClient, type BindingCredentials } from "./client.ts";
import type { ServerTransport } from "./locate.ts";
import type { TlsClientOptions } from "./machine.ts";
import { denoHost } from "./net/deno_host.ts";
import { Driver } from "./net/driver.ts";
import { raceAttempts } from "./net/happy_eyeballs.ts";
import { abortable, defaultLocalAddress, isWildcard, ownAddresses } from "./net/server_address.ts";
import { SHARED_RTO_CACHE } from "./net/shared_rto_cache.ts";
import { findServers, type ServerEndpoint } from "./resolve.ts";
import type { Host } from "./net/transport.ts";
import type { RtoCache } from "./rto_cache.ts";
import type { RetransmitOptions } from "./transaction.ts";

/** How `requestBinding()` asks. */
export interface RequestBindingOptions extends RetransmitOptions {
  /**
   * The server: `stun:HOST[:PORT]`, or `stuns:` for TLS, or its address. Without a port, DNS may name servers and ports
   * (SRV records); else it is 3478, or 5349 for `stuns:`. All addresses of a name are tried, each 250 ms after the last.
   */
  readonly server: string | TransportAddress;
  /** What to talk over; DTLS only if this says so. Default: `"udp"`, and `"tls"` for `stuns:`. */
  readonly transport?: ServerTransport;
  /** How to use TLS or DTLS. Default: for the name in the URI, trusting the usual authorities. */
  readonly tls?: TlsClientOptions;
  /** What to authenticate with, if the server wants it. Default: nothing. */
  readonly credentials?: BindingCredentials;
  /**
   * Where RTOs are learnt (RFC 8489 §6.2.1); one that is given as `rto` goes before. Default: one that all verbs of this
   * program without `host` share.
   */
  readonly rtoCache?: RtoCache;
  /** The local IP address to bind. Default: loopback for a server there, else all addresses. */
  readonly localAddress?: string;
  /** The local port to bind. Default: 0, the host chooses. */
  readonly localPort?: number;
  /** The computer to ask from. Default: `denoHost()`. */
  readonly host?: Host;
  /** Ends the wait: the promise is rejected with its reason. */
  readonly signal?: AbortSignal;
}

/** What `requestBinding()` found out. */
export interface BindingResult extends BindingAnswer {
  /**
   * The address that the request was sent from. When all addresses are bound, the one that fits is looked for (if Deno
   * may list them); `0.0.0.0` or `::` with the right port when none or several do.
   */
  readonly local: TransportAddress;
}

/** RFC 7443 §3: for STUN without TURN. */
const ALPN: readonly string[] = ["stun.nat-discovery"];

/**
 * Asks a STUN server what address it sees: the mapped address, which a NAT in between has made (RFC 8489 §2). Servers of
 * RFC 3489 are understood too. A server that names another one (300 Try Alternate) sends the request there.
 *
 * A silent server is asked seven times in 39.5 s, unless `rto`, `rc`, `rm` or `signal` say otherwise; over TCP or TLS it is
 * asked once, and waited for as long, unless `ti` says otherwise.
 *
 * @example What address a server sees
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { requestBinding, serveStun } from "@natkit/natkit/stun";
 *
 * await using service = serveStun({ listen: ["127.0.0.1:0"] });
 * const { mapped, local } = await requestBinding({ server: `stun:${service.addresses[0]}` });
 * assertEquals(mapped, local); // No NAT in between.
 * ```
 *
 * @throws {SyntaxError} If the server's URI is none, or does not go with the transport; if credentials cannot be used.
 * @throws {Error} If its name is not found.
 * @throws {OpenError} If the local address cannot be bound, or the server not be connected to.
 * @throws {StunTimeoutError} If the server does not answer; `StunUnreachableError` if the host hears that nobody is there.
 * @throws {StunConnectionError} If the connection ends before it has.
 * @throws {StunError} If it answers with an error: its `code` is 401 for wrong long-term credentials.
 * @throws {StunIntegrityError} If it answers, but has other credentials than these.
 * @throws {StunChallengeError} If it wants long-term credentials in a way that is not known here, or not safe.
 * @throws {StunProtocolError} If its answer is of no use.
 */
export async function requestBinding(options: RequestBindingOptions): Promise<BindingResult> {
  const { signal, host = denoHost() } = options;
  const endpoints = await findServers(options.server, { ...options, schemes: ["stun", "stuns"], host });
  const driver = new Driver(host);
  try {
    const attempts = endpoints.map((endpoint) => (signal: AbortSignal) => ask(driver, endpoint, options, signal));
    return await raceAttempts(attempts, { host, signal });
  } finally {
    await driver.close();
  }
}

async function ask(
  driver: Driver,
  { transport, address: server, serverName }: ServerEndpoint,
  options: RequestBindingOptions,
  signal: AbortSignal,
): Promise<BindingResult> {
  const { localAddress, localPort, rto, rc, rm, ti, credentials } = options;
  const rtoCache = options.rtoCache ?? (options.host === undefined ? SHARED_RTO_CACHE : undefined);
  const client = new BindingClient({
    server,
    transport,
    tls: { serverName, alpn: ALPN, ...options.tls },
    ...(transport === "udp" ? { localAddress: localAddress ?? defaultLocalAddress(server) } : {}),
    ...(transport !== "udp" && localAddress !== undefined ? { localAddress } : {}),
    ...(localPort === undefined ? {} : { localPort }),
    retransmit: { ...rto && { rto }, ...rc && { rc }, ...rm && { rm }, ...ti && { ti } },
    ...(credentials === undefined ? {} : { credentials }),
    ...(rtoCache === undefined ? {} : { rtoCache }),
  });
  const { promise, resolve, reject } = Promise.withResolvers<BindingAnswer>();
  let bound: TransportAddress | undefined;
  const handle = driver.add(client, {
    onEvent(event) {
      if (event.type === "bound") bound = event.local;
      else if (event.type === "answered") resolve(event.answer);
      else reject(event.error);
    },
  });
  try {
    handle.call((io) => client.request(io));
    const answer = await abortable(promise, signal);
    return { ...answer, local: isWildcard(bound!) ? findLocal(bound!, answer.mapped, driver.host, options) : bound! };
  } finally {
    handle.remove();
  }
}

/** The address of ours that the request was sent from, as far as it can be known when all of them were bound. */
function findLocal(
  bound: TransportAddress,
  mapped: TransportAddress,
  host: Host,
  options: RequestBindingOptions,
): TransportAddress {
  // Deno would stop and ask a person for the permission, which this is not worth.
  const isAllowed = options.host !== undefined ||
    Deno.permissions.querySync({ name: "sys", kind: "networkInterfaces" }).state === "granted";
  const own = isAllowed ? ownAddresses(bound.family, host) : [];
  const local = own.find((address) => address === mapped.address) ?? (own.length === 1 ? own[0] : undefined);
  return local === undefined ? bound : TransportAddress.of(local, bound.port);
}
