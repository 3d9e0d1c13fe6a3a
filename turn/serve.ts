import type { TokenUsers } from "../stun/access_token.ts";
import { isIpAddress, TransportAddress } from "../stun/address.ts";
import { DiscoveryServer } from "../stun/discovery_server.ts";
import type { ServerTransport } from "../stun/locate.ts";
import type { SocketId } from "../stun/machine.ts";
import { denoHost } from "../stun/net/deno_host.ts";
import { Driver, type MachineHandle } from "../stun/net/driver.ts";
import { listenWishes } from "../stun/net/listen_wishes.ts";
import { isWildcard } from "../stun/net/server_address.ts";
import { ServerSockets } from "../stun/net/server_sockets.ts";
import type { StreamLimits, StreamStats } from "../stun/net/streams.ts";
import type { Host, TlsServerOptions } from "../stun/net/transport.ts";
import { randomBytes } from "../stun/random.ts";
import { RestUsers } from "../stun/rest_users.ts";
import { longTermUser, type UserCredential, UserDirectories, type UserDirectory, UserTable } from "../stun/users.ts";
import { PeerPolicy } from "./peer_policy.ts";
import type { PortRange, RelayAddress } from "./relay_ports.ts";
import { type AlternateServers, type Rate, TurnServer, type TurnServerLimits } from "./server.ts";
import type { TurnServerStats } from "./server_counters.ts";
import type { AllocationEvent, TurnServerEvent } from "./server_events.ts";
import type { SharedState } from "./shared_state.ts";

/** Options of `serveTurn()`. */
export interface ServeTurnOptions {
  /**
   * The IP addresses and ports to serve clients on, as `127.0.0.1:3478` or `[::1]:3478`. Port 0 lets the host choose one;
   * 3478 is meant when there is none. `0.0.0.0` and `[::]` stand for each address of the host, so that answers leave from
   * the address that was asked; this needs `--allow-sys=networkInterfaces`. Default: `["0.0.0.0:3478"]`.
   */
  readonly listen?: readonly string[];
  /**
   * What to serve on each address of `listen`: UDP, TCP, or both on the same port. Default: both, where the host has TCP.
   */
  readonly transports?: readonly ("udp" | "tcp")[];
  /**
   * The second port for NAT behaviour discovery (RFC 5780), which is on when `listen` names two IP addresses with the same
   * port. Default: the port above, or else any that is free.
   */
  readonly alternatePort?: number;
  /** Whether Binding requests of classic clients (RFC 3489) are answered as well. Default: false. */
  readonly classic?: boolean;
  /** A certificate and its key: each TCP port then serves TLS as well. Default: no TLS. */
  readonly tls?: TlsServerOptions;
  /**
   * Whether DTLS is served on UDP, told by the first byte, where there is a certificate. It needs OpenSSL 3 on Linux and
   * `--allow-ffi`. `true`: it must be, or an error is thrown. Default: if it can be.
   */
  readonly dtls?: boolean;
  /** Addresses to serve only TLS and DTLS on, as `0.0.0.0:5349`, which is the usual port. Default: none. */
  readonly listenTls?: readonly string[];
  /** What clients' connections may take of time and memory. Defaults: `DEFAULT_STREAM_LIMITS`. */
  readonly streamLimits?: StreamLimits;
  /** The realm, usually a domain name of whoever runs the server. */
  readonly realm: string;
  /** Who may allocate: user names with passwords or stored keys, or a directory. */
  readonly users:
    | Readonly<Record<string, UserCredential>>
    | Iterable<readonly [string, UserCredential]>
    | UserDirectory;
  /**
   * Secrets of time-limited credentials (draft-uberti-rtcweb-turn-rest-00), which `restCredential()` makes; several while one
   * replaces another. Default: none.
   */
  readonly restSecrets?: readonly string[];
  /**
   * Those who come with an access token of an authorization server (RFC 7635), for as long as it is good. Clients without
   * credentials are told its `serverName`. Default: nobody.
   */
  readonly tokens?: TokenUsers;
  /**
   * Asked for users that are not found by the above: gives password or keys, or `undefined` if there is none of that name.
   * Asked once for each allocation, and only for who gets what is sent to the address. If it fails or takes more than 8 s,
   * a client on a connection gets 500; over UDP the request is dropped, and the client repeats it.
   */
  readonly lookUpUser?: (username: string, client: TransportAddress) => Promise<UserCredential | undefined>;
  /**
   * The same for users who hide behind USERHASH, SHA-256 of `username:realm` (RFC 8489 §14.4): gives the user's name as
   * well. Without it they get 401, if they are not found by the above; clients hide only where `anonymity` asks for it.
   */
  readonly lookUpUserHash?: (
    userHash: Uint8Array,
    client: TransportAddress,
  ) => Promise<readonly [username: string, credential: UserCredential] | undefined>;
  /**
   * The IP addresses that relayed transport addresses are on; with `external`, what clients are told instead. Default:
   * the addresses of `listen`, each for its own clients.
   */
  readonly relayAddresses?: readonly (string | RelayAddress)[];
  /** The ports of relayed transport addresses. Default: 49152 to 65535. */
  readonly relayPorts?: PortRange;
  /**
   * Address ranges (CIDR) to relay to although they are private, or the host's own, with all ports or some:
   * `10.0.0.0/8:5000-6000`, `[fd00::/8]:53`. Default: none.
   */
  readonly allowPeers?: readonly string[];
  /** Address ranges (CIDR) never to relay to, with all ports or some. They win over `allowPeers`. Default: none. */
  readonly denyPeers?: readonly string[];
  /**
   * Whether there are TCP allocations (RFC 6062), for users to make and take TCP connections with peers. Browsers have no use
   * for them, and who has one can connect to any public server from this one's address. Default: false.
   */
  readonly tcpRelay?: boolean;
  /** How much anybody may have. Defaults: see `TurnServerLimits`. */
  readonly limits?: Partial<TurnServerLimits>;
  /**
   * How often a source IP address (IPv6: a /64) is answered on TURN requests that show no good credentials; what is beyond
   * is dropped. `false`: no limit. Default: 10 a second, 100 at once.
   */
  readonly challengeRate?: Rate | false;
  /**
   * How often Binding requests over UDP of a source IP address (IPv6: a /64) are answered, by each worker where there are
   * several; what is beyond is dropped. Default: false, no limit.
   */
  readonly bindingRate?: Rate | false;
  /** Where clients are sent when the server is full or draining, by 300 in place of 508. Default: nowhere. */
  readonly alternates?: AlternateServers;
  /** The longest lifetime of an allocation, in seconds, at least 600. Default: 3600. */
  readonly maxLifetime?: number;
  /** How long a nonce is good, in seconds, at most 3600. Default: 3600. */
  readonly nonceLifetime?: number;
  /** Whether clients are told to hide user names behind USERHASH. Default: false. */
  readonly anonymity?: boolean;
  /** Whether clients from before RFC 8489 may bind channels up to 0x7FFF, as RFC 5766 had it. Default: true. */
  readonly legacyChannels?: boolean;
  /**
   * Whether clients that ask for it may take their allocation along to another address or connection (RFC 8016): it then
   * outlives the connection, until its lifetime is over. `false`: they get 405. Default: true.
   */
  readonly mobility?: boolean;
  /** The text of SOFTWARE. Default: none is sent. */
  readonly software?: string;
  /** The computer to serve on. Default: `denoHost()`. */
  readonly host?: Host;
  /** Shuts the server down when it is aborted. */
  readonly signal?: AbortSignal;
  /** @internal What it has in common with other workers of one server. */
  readonly common?: WorkerCommon;
  /** Is told of allocations that come and go, and of their connections. */
  readonly onEvent?: (event: AllocationEvent) => void;
}

/** @internal What the workers of one server have in common. */
export interface WorkerCommon {
  /** Their limits and ports. */
  readonly shared: SharedState;
  /** What their nonces are signed with. */
  readonly secret: Uint8Array;
}

/** A running TURN server, shaped like what `Deno.serve()` gives. */
export interface TurnServerHandle extends AsyncDisposable {
  /**
   * The addresses it serves clients on, in the order of `listen`, then of `listenTls`, then those with the second port for
   * NAT behaviour discovery.
   */
  readonly addresses: readonly TransportAddress[];
  /** What is served on each of `addresses`. */
  readonly transports: readonly (readonly ServerTransport[])[];
  /** Resolves when it has been shut down. */
  readonly finished: Promise<void>;
  /** Closes all sockets. Allocations end without a word: TURN has none for it. A second call does nothing. */
  shutdown(): Promise<void>;
  /**
   * From now on no new allocations are made; those that are there live on. Clients are sent to `alternates` by 300, or get
   * 508. Resolves when no allocation is left, or it has been shut down.
   */
  drain(): Promise<void>;
  /** What it did so far and has now. */
  stats(): TurnServerStats;
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

const DEFAULT_PORT = 3478;
const DEFAULT_TLS_PORT = 5349;

/**
 * Serves TURN (RFC 8656) and STUN Binding (RFC 8489) over UDP, TCP, TLS and DTLS. Needs `--unstable-net` and
 * `--allow-net`.
 *
 * @example A server for local tests
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { serveTurn } from "@natkit/natkit/turn";
 *
 * await using server = serveTurn({
 *   listen: ["127.0.0.1:0"],
 *   realm: "example.org",
 *   users: { alice: "secret" },
 *   allowPeers: ["127.0.0.0/8"],
 * });
 * assertEquals(server.addresses.map(({ address }) => address), ["127.0.0.1"]);
 * assertEquals(server.stats().allocations, 0);
 * ```
 *
 * @param options Where and to whom.
 * @throws {OpenError} If a socket can not be bound, as when the port is in use.
 * @throws {SyntaxError} If an address, a range, the realm, a name or a password is malformed.
 * @throws {RangeError} If a number is out of range.
 */
export function serveTurn(options: ServeTurnOptions): TurnServerHandle {
  const { host = denoHost(), signal, listen = [`0.0.0.0:${DEFAULT_PORT}`] } = options;
  signal?.throwIfAborted();
  const wishes = listenWishes(listen, DEFAULT_PORT, host);
  const tlsWishes = options.listenTls === undefined ? [] : listenWishes(options.listenTls, DEFAULT_TLS_PORT, host);
  const named = listen.map((text) => TransportAddress.parse(text, DEFAULT_PORT)).filter((one) => !isWildcard(one));
  const { classic = false } = options;
  const discovery = classic || named.length > 1 ? new DiscoveryServer({ classic }) : undefined;
  const settings = serverOptions(options, wishes, host);
  const server = new TurnServer({
    ...settings,
    ...(discovery === undefined ? {} : { discovery }),
    dontFragment: host.canSetDontFragment ?? false,
    ...(options.common === undefined ? { secret: randomBytes(host.random, 32) } : options.common),
  });
  const driver = new Driver(host);
  const { promise: finished, resolve } = Promise.withResolvers<void>();
  const shutdown = (): Promise<void> => {
    signal?.removeEventListener("abort", shutdown);
    driver.close().then(resolve);
    return finished;
  };
  const drained = Promise.withResolvers<void>();
  const onEvent = (event: TurnServerEvent) => {
    if (event.type === "userWanted" || event.type === "userHashWanted") {
      return void lookUp(server, handle, options, event);
    }
    if (event.type === "drained") return drained.resolve();
    options.onEvent?.(event);
  };
  const handle: MachineHandle<TurnServerEvent> = driver.add(server, { onEvent });
  try {
    const onUdp = (socket: SocketId, address: TransportAddress) => server.addListener(socket, address);
    const isShared = options.common !== undefined;
    const sockets = new ServerSockets(handle, host, { ...options, isShared, dontFragment: false, onUdp });
    for (const wish of wishes) sockets.open(wish);
    for (const wish of tlsWishes) sockets.openTls(wish);
    if (discovery !== undefined) sockets.openAlternates(named, discovery);
    for (const address of sockets.addresses) settings.peerPolicy.addListener(address);
    signal?.addEventListener("abort", shutdown);
    return {
      addresses: sockets.addresses,
      transports: sockets.transports,
      finished,
      shutdown,
      drain() {
        handle.call((io) => server.drain(io));
        return Promise.race([drained.promise, finished]);
      },
      stats: () => server.counters.snapshot(),
      streamStats: () => driver.streamStats,
      setTls: (tls) => sockets.setTls(tls),
      [Symbol.asyncDispose]: shutdown,
    };
  } catch (error) {
    driver.close();
    throw error;
  }
}

/** Asks whoever runs the server, and tells the server. */
async function lookUp(
  server: TurnServer,
  handle: MachineHandle<TurnServerEvent>,
  { lookUpUser, lookUpUserHash, realm }: ServeTurnOptions,
  event: Extract<TurnServerEvent, { client: TransportAddress }>,
): Promise<void> {
  const { client } = event;
  const user = event.type === "userWanted" ? event.username : event.userHash;
  let found: readonly [string, UserCredential] | undefined;
  try {
    if (typeof user === "string") {
      const credential = await lookUpUser?.(user, client);
      if (credential !== undefined) found = [user, credential];
    } else found = await lookUpUserHash?.(user, client);
    // One that is none is no better than no answer.
    if (found !== undefined) longTermUser(found[0], realm, found[1]);
  } catch {
    return handle.call((io) => server.handleCredentialFailed(user, io));
  }
  handle.call((io) => {
    if (typeof user === "string") server.handleCredential(user, found?.[1], io);
    else server.handleHashedCredential(user, found, io);
  });
}

function serverOptions(options: ServeTurnOptions, wishes: readonly TransportAddress[], host: Host) {
  const { realm, relayPorts, limits, challengeRate, bindingRate, alternates, maxLifetime, nonceLifetime } = options;
  const { anonymity, legacyChannels, mobility, tokens, software, tcpRelay } = options;
  const relayAddresses = options.relayAddresses?.map((one) => typeof one === "string" ? { address: one } : one) ??
    [...new Set(wishes.map(({ address }) => address))].map((address) => ({ address }));
  const peerPolicy = new PeerPolicy({ allow: options.allowPeers ?? [], deny: options.denyPeers ?? [] });
  for (const address of ownAddresses(host, options.host !== undefined)) peerPolicy.addOwnAddress(address);
  return {
    realm,
    users: allUsers(options),
    relayAddresses,
    peerPolicy,
    ...(relayPorts === undefined ? {} : { relayPorts }),
    ...(limits === undefined ? {} : { limits }),
    ...(challengeRate === undefined ? {} : { challengeRate }),
    ...(bindingRate === undefined ? {} : { bindingRate }),
    ...(alternates === undefined ? {} : { alternates }),
    ...(maxLifetime === undefined ? {} : { maxLifetime }),
    ...(nonceLifetime === undefined ? {} : { nonceLifetime }),
    ...(anonymity === undefined ? {} : { anonymity }),
    ...(legacyChannels === undefined ? {} : { legacyChannels }),
    ...(mobility === undefined ? {} : { mobility }),
    ...(tokens === undefined ? {} : { tokens }),
    ...(software === undefined ? {} : { software }),
    ...(tcpRelay === undefined ? {} : { tcpRelay }),
  };
}

/** Users, then time-limited credentials, then who is not known yet. */
function allUsers({ realm, users, restSecrets = [], lookUpUser, lookUpUserHash }: ServeTurnOptions): UserDirectory {
  const known = toDirectory(realm, users);
  const rest = restSecrets.length === 0 ? [] : [new RestUsers({ realm, secrets: restSecrets })];
  const asked: UserDirectory[] = lookUpUser === undefined && lookUpUserHash === undefined ? [] : [{
    find: () => lookUpUser === undefined ? undefined : "later",
    findByHash: () => lookUpUserHash === undefined ? undefined : "later",
  }];
  return rest.length + asked.length === 0 ? known : new UserDirectories([known, ...rest, ...asked]);
}

function toDirectory(realm: string, users: ServeTurnOptions["users"]): UserDirectory {
  // Pairs first: an array has a find() as well.
  if (Symbol.iterator in users) return new UserTable(realm, users as Iterable<readonly [string, UserCredential]>);
  if ("find" in users && typeof users.find === "function") return users as UserDirectory;
  return new UserTable(realm, Object.entries(users));
}

/** The host's addresses, as far as they can be known without asking anybody for leave. */
function ownAddresses(host: Host, isGiven: boolean): TransportAddress[] {
  if (!isGiven && Deno.permissions.querySync({ name: "sys", kind: "networkInterfaces" }).state !== "granted") return [];
  return host.interfaces().map(({ address }) => address).filter(isIpAddress).map((text) =>
    TransportAddress.of(text, 0)
  );
}
