import { type AddressFamily, TransportAddress } from "./address.ts";
import { NatProbe, type NatProbeEvent, type NatServer } from "./nat.ts";
import type { LifetimeOptions } from "./nat_lifetime.ts";
import type { NatReport } from "./nat_report.ts";
import { denoHost } from "./net/deno_host.ts";
import { Driver } from "./net/driver.ts";
import { abortable, familyOf, isLoopback, ownAddresses } from "./net/server_address.ts";
import type { Host } from "./net/transport.ts";
import { resolveServers } from "./resolve.ts";
import { parseStunUri } from "./uri.ts";

// Each server is asked from each address, ten times a second in all: more would take too long.
const MAX_LOCAL_ADDRESSES = 4;
const MAX_SERVERS = 8;

/** How `discoverNat()` goes about it. */
export interface DiscoverNatOptions {
  /**
   * The servers, 1 to 8: `stun:HOST[:PORT]`, or addresses. Without a port, DNS may name server and port (SRV records of
   * `stun-behavior`, RFC 5780 §5.1, or else of `stun`); else it is 3478. One that has two addresses (RFC 5780, or
   * classic RFC 3489) tells most; several ordinary ones still tell about the mapping. There is no default: whom to tell
   * one's address is for the caller to decide.
   */
  readonly servers: readonly (string | TransportAddress)[];
  /** The IP version. Default: 4 if the first server has an IPv4 address, else 6. */
  readonly family?: AddressFamily;
  /** The local IP address to ask from. Default: the one that gets an answer; `--allow-sys=networkInterfaces` is needed. */
  readonly localAddress?: string;
  /** Whether to search for the lifetime of mappings, which takes minutes, and how. Default: no. */
  readonly lifetime?: boolean | LifetimeOptions;
  /** Called for each step. */
  readonly onProgress?: (event: NatProbeEvent) => void;
  /** Ends it early: the promise is rejected with the signal's reason. */
  readonly signal?: AbortSignal;
  /** The computer to ask from. Default: `denoHost()`. */
  readonly host?: Host;
}

/**
 * Finds out how the NATs and firewalls in front of this computer treat UDP: a NAT report (RFC 5780).
 *
 * It takes some 5 s and 20 s at the most, a search for the lifetime aside. Servers that are silent or misbehave do not
 * make it fail: the report says so.
 *
 * @example What kind of NAT is this?
 * ```ts ignore
 * import { discoverNat } from "@natkit/natkit/stun";
 *
 * const report = await discoverNat({ servers: ["stun:stun.example.org"] });
 * console.log(report.classic, report.mapping, report.filtering, `${report.mapped}`);
 * console.log(report.verdict.join("\n"));
 * ```
 *
 * @throws {SyntaxError} If a server's URI is none, or not of the kind that runs over UDP.
 * @throws {RangeError} If no server is given, or more than 8, or `lifetime` leaves nothing to try.
 * @throws {Error} If a server's name is not found, or has no address of the IP version.
 */
export async function discoverNat(options: DiscoverNatOptions): Promise<NatReport> {
  const { localAddress, lifetime = false, onProgress, signal, host = denoHost() } = options;
  const servers = await findServers(options, host);
  const localAddresses = localAddress === undefined ? findLocalAddresses(servers, host) : [localAddress];
  const probe = new NatProbe({
    servers,
    localAddresses,
    ...(lifetime === false ? {} : { lifetime: lifetime === true ? {} : lifetime }),
  });
  const driver = new Driver(host);
  try {
    const { promise, resolve } = Promise.withResolvers<NatReport>();
    const handle = driver.add(probe, {
      onEvent(event) {
        onProgress?.(event);
        if (event.type === "report") resolve(event.report);
      },
    });
    handle.call((io) => probe.start(io));
    return await abortable(promise, signal);
  } finally {
    await driver.close();
  }
}

/** All servers, in one IP version: that of the local address, or the first that the first server has. */
async function findServers(options: DiscoverNatOptions, host: Host): Promise<NatServer[]> {
  const { servers, localAddress } = options;
  let family = options.family ?? (localAddress === undefined ? undefined : familyOf(localAddress));
  if (servers.length === 0) throw new RangeError("Cannot make a NAT report as there is no server to ask");
  if (servers.length > MAX_SERVERS) {
    throw new RangeError(`Cannot ask more than ${MAX_SERVERS} servers: current number is ${servers.length}`);
  }
  const found: NatServer[] = [];
  for (const server of servers) {
    const address = server instanceof TransportAddress ? server : await locate(server, { ...options, host }, family);
    family ??= address.family;
    if (address.family !== family) {
      throw new Error(`Cannot ask ${server} in a report on IPv${family}: ask for one IP version at a time`);
    }
    found.push({ name: String(server), address });
  }
  return found;
}

/** The best address of a server by DNS, of this IP version, or of 4 if it has one. */
async function locate(
  server: string,
  { host, signal }: { readonly host: Host; readonly signal?: AbortSignal },
  family: AddressFamily | undefined,
): Promise<TransportAddress> {
  const uri = parseStunUri(server);
  if (uri.scheme !== "stun" && uri.scheme !== "turn") {
    throw new SyntaxError(`Cannot use "${server}" as it must begin with stun: or turn:`);
  }
  const endpoints = await resolveServers(uri, {
    transports: ["udp"],
    host,
    behavior: uri.scheme === "stun",
    ...(signal === undefined ? {} : { signal }),
  });
  const fitting = endpoints.find(({ address }) => address.family === (family ?? 4)) ??
    (family === undefined ? endpoints[0] : undefined);
  if (fitting === undefined) throw new Error(`Cannot use "${server}" as "${uri.host}" has no IPv${family} address`);
  return fitting.address;
}

/** The addresses that may reach the servers: loopback for loopback, one's own for one's own, else all of the machine's. */
function findLocalAddresses(servers: readonly NatServer[], host: Host): string[] {
  const { address } = servers[0]!;
  if (isLoopback(address)) return [address.family === 4 ? "127.0.0.1" : "::1"];
  const own = ownAddresses(address.family, host);
  return own.includes(address.address) ? [address.address] : own.slice(0, MAX_LOCAL_ADDRESSES);
}
