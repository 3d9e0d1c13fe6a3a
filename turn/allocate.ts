import type { AccessToken } from "../stun/access_token.ts";
import type { AddressFamily, TransportAddress } from "../stun/address.ts";
import { denoHost } from "../stun/net/deno_host.ts";
import { Driver } from "../stun/net/driver.ts";
import { raceAttempts } from "../stun/net/happy_eyeballs.ts";
import { SHARED_RTO_CACHE } from "../stun/net/shared_rto_cache.ts";
import { abortable } from "../stun/net/server_address.ts";
import type { Host } from "../stun/net/transport.ts";
import type { ServerTransport } from "../stun/locate.ts";
import type { TlsClientOptions } from "../stun/machine.ts";
import { findServers } from "../stun/resolve.ts";
import type { RtoCache } from "../stun/rto_cache.ts";
import type { RetransmitOptions } from "../stun/transaction.ts";
import { clientFor } from "./_endpoint_client.ts";
import type { TurnClient } from "./client.ts";
import { type IcmpListener, Relay } from "./relay.ts";
import { TcpRelay } from "./tcp_relay.ts";

export { type IcmpListener, Relay, type RelayDatagram, type RelayStats } from "./relay.ts";
export { type RelayConnection, TcpRelay, type TcpRelayStats } from "./tcp_relay.ts";

/** How `allocate()` gets a relay. */
export interface AllocateOptions {
  /**
   * The server: `turn:HOST[:PORT][?transport=tcp]`, or `turns:` for TLS, with `?transport=udp` for DTLS, or its address. Without a port, DNS may name
   * servers and ports (NAPTR and SRV records, RFC 5928); else it is 3478, or 5349 for `turns:`. All addresses of a name
   * are tried, each 250 ms after the last.
   */
  readonly server: string | TransportAddress;
  /** What to talk to the server over. Default: what the URI says, else `"udp"`. */
  readonly transport?: ServerTransport;
  /** How to use TLS or DTLS. Default: for the name in the URI, trusting the usual authorities. */
  readonly tls?: TlsClientOptions;
  /** The user name. Leave it out, with the password, for a server that asks for none. */
  readonly username?: string;
  /** The password. */
  readonly password?: string;
  /**
   * An access token of an authorization server (RFC 7635), in place of user name and password. Given as a function, it is
   * asked for another one each time before the last one ends, if that says when; else the allocation ends with it.
   */
  readonly accessToken?: AccessToken | (() => Promise<AccessToken>);
  /** The local IP address to bind. Default: loopback for a server there, else all addresses. */
  readonly localAddress?: string;
  /**
   * The IP version of the relayed address; `"dual"` asks for one of each, and takes one if the server has no more. Default:
   * the server's choice, which is IPv4.
   */
  readonly family?: AddressFamily | "dual";
  /**
   * Whether the relayed port must be even; `"pair"` also reserves the next one for whoever has `reservationToken`. Default:
   * any port.
   */
  readonly evenPort?: "even" | "pair";
  /** The `reservationToken` of a relay whose `evenPort` was `"pair"`: asks for the port that is reserved. */
  readonly reservationToken?: Uint8Array;
  /** Whether to ask for DONT-FRAGMENT, for `send()` with `dontFragment`. Default: no. */
  readonly dontFragment?: boolean;
  /**
   * Is told of ICMP messages about what was sent to peers, if the server passes them on: that a peer is unreachable, or
   * what went with `dontFragment` too long. They are not authenticated, so they are hints.
   */
  readonly onIcmp?: IcmpListener;
  /**
   * Whether the allocation shall be able to move to another local address (RFC 8016), by `migrate()`, or by itself when the
   * server does not answer any more, the connection ends, or, with `--allow-sys=networkInterfaces`, the computer's
   * addresses change. Default: no.
   */
  readonly mobility?: boolean;
  /** Seconds to ask for at a time; it is refreshed in any case. Default: the server's own, usually 600. */
  readonly lifetime?: number;
  /** How to repeat requests. Default: as RFC 8489 §6.2.1 has it. */
  readonly retransmit?: RetransmitOptions;
  /** Where RTOs are learnt (RFC 8489 §6.2.1). Default: one that all verbs of this program without `host` share. */
  readonly rtoCache?: RtoCache;
  /** The computer to work from. Default: `denoHost()`. */
  readonly host?: Host;
  /** Ends the wait for the allocation: the promise is rejected with its reason. Of no effect later. */
  readonly signal?: AbortSignal;
}

/**
 * Gets a relayed address on a TURN server (RFC 8656) over UDP, TCP, TLS or DTLS, and keeps it until the relay is closed.
 *
 * @example A datagram from one relay to another
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { allocate, serveTurn } from "@natkit/natkit/turn";
 *
 * const users = { alice: "secret" };
 * const allowPeers = ["127.0.0.0/8"];
 * await using server = serveTurn({ listen: ["127.0.0.1:0"], realm: "example.org", users, allowPeers });
 * const options = { server: `turn:${server.addresses[0]}`, username: "alice", password: "secret" };
 * await using a = await allocate(options);
 * await using b = await allocate(options);
 *
 * await b.permit(a.relayedAddress);
 * a.send(b.relayedAddress, new TextEncoder().encode("hello"));
 * for await (const { from, data } of b) {
 *   assertEquals(from, a.relayedAddress);
 *   assertEquals(new TextDecoder().decode(data), "hello");
 *   break;
 * }
 * ```
 *
 * @throws {SyntaxError} If the server's URI is none, or user name or password cannot be used.
 * @throws {Error} If the server's name is not found.
 * @throws {OpenError} If the local address cannot be bound, or the server not be connected to.
 * @throws {StunConnectionError} If the connection ends before there is an allocation.
 * @throws {TurnError} If the server refuses: its `code` is 401 for a wrong user name or password, 486 for too many
 * allocations of this user, 508 for a server that is full.
 * @throws {StunTimeoutError} If the server does not answer; `StunUnreachableError` if the host hears that nobody is there.
 * @throws {StunIntegrityError} If nothing that it answers is authenticated.
 * @throws {StunChallengeError} If its challenge cannot be met.
 * @throws {StunProtocolError} If its answer is of no use.
 */
export async function allocate(options: AllocateOptions): Promise<Relay> {
  return await race(options, "udp", (driver, client) => new Relay(driver, client, options.onIcmp));
}

/** How `allocateTcp()` gets a relay. */
export type AllocateTcpOptions =
  & Omit<AllocateOptions, "transport" | "evenPort" | "reservationToken" | "dontFragment" | "onIcmp">
  & {
    /** What to talk to the server over. Default: `"tls"` for `turns:`, else `"tcp"`. */
    readonly transport?: "tcp" | "tls";
  };

/**
 * Gets a relayed address for TCP on a TURN server (RFC 6062), to connect to peers from, and for peers to connect to.
 *
 * @example A peer that sends back what it gets
 * ```ts ignore
 * await using relay = await allocateTcp({ server: "turn:turn.example.org", username: "alice", password: "secret" });
 * using connection = await relay.connect(TransportAddress.parse("192.0.2.7:7"));
 * const writer = connection.writable.getWriter();
 * await writer.write(new TextEncoder().encode("hello"));
 * for await (const bytes of connection.readable) console.log(new TextDecoder().decode(bytes));
 * ```
 *
 * @throws {SyntaxError} If the server's URI is none or says UDP, or user name or password cannot be used.
 * @throws {TurnError} If the server refuses: its `code` is 442 if it relays no TCP, else as for `allocate()`.
 * @throws {Error} As `allocate()`.
 */
export async function allocateTcp(options: AllocateTcpOptions): Promise<TcpRelay> {
  const isSecure = typeof options.server === "string" && /^turns:/i.test(options.server);
  const transport = options.transport ?? (isSecure ? "tls" : "tcp");
  return await race({ ...options, transport }, "tcp", (driver, client) => new TcpRelay(driver, client));
}

/** Tries all of a server's addresses, and gives the first relay that opens. */
async function race<R extends Opening>(
  options: AllocateOptions,
  peerTransport: "udp" | "tcp",
  make: (driver: Driver, client: TurnClient) => R,
): Promise<R> {
  const { username, password, signal, host = denoHost() } = options;
  const rtoCache = options.rtoCache ?? (options.host === undefined ? SHARED_RTO_CACHE : undefined);
  if ((username === undefined) !== (password === undefined)) {
    throw new TypeError("Cannot allocate with a user name and no password, or the reverse");
  }
  const token = typeof options.accessToken === "function" ? await options.accessToken() : options.accessToken;
  const endpoints = await findServers(options.server, { ...options, schemes: ["turn", "turns"], host });
  const attempts = endpoints.map((endpoint) => async (signal: AbortSignal) => {
    const client = clientFor(endpoint, { ...options, ...rtoCache !== undefined && { rtoCache } }, peerTransport, token);
    const relay = make(new Driver(host), client);
    try {
      await abortable(relay.opened(), signal);
      if (mayListInterfaces()) relay.followNetwork();
      if (typeof options.accessToken === "function") relay.renewToken(options.accessToken, token!);
      return relay;
    } catch (error) {
      relay.abandon();
      throw error;
    }
  });
  // RFC 8656 §3.11: where two addresses of a server both answer, the second allocation is given back.
  return await raceAttempts(attempts, { host, signal, discard: (relay) => relay.abandon() });
}

/** Without asking anybody for leave. */
function mayListInterfaces(): boolean {
  return Deno.permissions.querySync({ name: "sys", kind: "networkInterfaces" }).state === "granted";
}

interface Opening {
  opened(): Promise<void>;
  followNetwork(): void;
  renewToken(next: () => Promise<AccessToken>, token: AccessToken): void;
  abandon(): void;
}
