import type { AddressFamily, TransportAddress } from "../stun/address.ts";
import { denoHost } from "../stun/net/deno_host.ts";
import { Driver } from "../stun/net/driver.ts";
import { raceAttempts } from "../stun/net/happy_eyeballs.ts";
import { SHARED_RTO_CACHE } from "../stun/net/shared_rto_cache.ts";
import { abortable, defaultLocalAddress } from "../stun/net/server_address.ts";
import type { Host } from "../stun/net/transport.ts";
import type { ServerTransport } from "../stun/locate.ts";
import type { TlsClientOptions } from "../stun/machine.ts";
import { findServers, type ServerEndpoint } from "../stun/resolve.ts";
import type { RtoCache } from "../stun/rto_cache.ts";
import type { RetransmitOptions } from "../stun/transaction.ts";
import { TurnClient } from "./client.ts";
import { Relay } from "./relay.ts";

export { Relay, type RelayDatagram, type RelayStats } from "./relay.ts";

/** How `allocate()` gets a relay. */
export interface AllocateOptions {
  /**
   * The server: `turn:HOST[:PORT][?transport=tcp]`, or `turns:` for TLS, or its address. Without a port, DNS may name
   * servers and ports (NAPTR and SRV records, RFC 5928); else it is 3478, or 5349 for `turns:`. All addresses of a name
   * are tried, each 250 ms after the last.
   */
  readonly server: string | TransportAddress;
  /** What to talk to the server over. Default: what the URI says, else `"udp"`. */
  readonly transport?: ServerTransport;
  /** How to use TLS. Default: for the name in the URI, trusting the usual authorities. */
  readonly tls?: TlsClientOptions;
  /** The user name. Leave it out, with the password, for a server that asks for none. */
  readonly username?: string;
  /** The password. */
  readonly password?: string;
  /** The local IP address to bind. Default: loopback for a server there, else all addresses. */
  readonly localAddress?: string;
  /**
   * The IP version of the relayed address; `"dual"` asks for one of each, and takes one if the server has no more. Default:
   * the server's choice, which is IPv4.
   */
  readonly family?: AddressFamily | "dual";
  /** Whether the relayed port must be even; `"pair"` also reserves the next one for whoever has `reservationToken`. */
  readonly evenPort?: "even" | "pair";
  /** The `reservationToken` of a relay whose `evenPort` was `"pair"`: asks for the port that is reserved. */
  readonly reservationToken?: Uint8Array;
  /** Whether to ask for DONT-FRAGMENT, for `send()` with `dontFragment`. Default: no. */
  readonly dontFragment?: boolean;
  /**
   * Whether the allocation shall be able to move to another local address (RFC 8016), by `migrate()` or by itself when the
   * server does not answer any more or the connection ends. Default: no.
   */
  readonly mobility?: boolean;
  /** Seconds to ask for at a time; it is refreshed in any case. Default: the server's own, usually 600. */
  readonly lifetime?: number;
  /** How to repeat requests. */
  readonly retransmit?: RetransmitOptions;
  /** Where RTOs are learnt (RFC 8489 §6.2.1). Default: one that all verbs of this program without `host` share. */
  readonly rtoCache?: RtoCache;
  /** The computer to work from. Default: `denoHost()`. */
  readonly host?: Host;
  /** Ends the wait for the allocation: the promise is rejected with its reason. Of no effect later. */
  readonly signal?: AbortSignal;
}

/** RFC 7443 §3. */
const ALPN: readonly string[] = ["stun.turn"];

/**
 * Gets a relayed address on a TURN server (RFC 8656) over UDP, TCP or TLS, and keeps it until the relay is closed.
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
 * @throws {StunTimeoutError} If the server does not answer.
 * @throws {StunIntegrityError} If nothing that it answers is authenticated.
 * @throws {StunChallengeError} If its challenge cannot be met.
 * @throws {StunProtocolError} If its answer is of no use.
 */
export async function allocate(options: AllocateOptions): Promise<Relay> {
  const { username, password, signal, host = denoHost() } = options;
  const rtoCache = options.rtoCache ?? (options.host === undefined ? SHARED_RTO_CACHE : undefined);
  if ((username === undefined) !== (password === undefined)) {
    throw new TypeError("Cannot allocate with a user name and no password, or the reverse");
  }
  const endpoints = await findServers(options.server, { ...options, schemes: ["turn", "turns"], host });
  const attempts = endpoints.map((endpoint) => (signal: AbortSignal) =>
    attempt(endpoint, { ...options, ...(rtoCache === undefined ? {} : { rtoCache }), host }, signal)
  );
  // RFC 8656 §3.11: where two addresses of a server both answer, the second allocation is given back.
  return await raceAttempts(attempts, { host, signal, discard: (relay) => relay.abandon() });
}

async function attempt(
  { transport, address: server, serverName }: ServerEndpoint,
  options: AllocateOptions & { readonly host: Host },
  signal: AbortSignal,
): Promise<Relay> {
  const { username, password, localAddress, family, lifetime, retransmit, rtoCache, host } = options;
  const { evenPort, reservationToken, dontFragment, mobility } = options;
  const local = localAddress ?? (transport === "udp" ? defaultLocalAddress(server) : undefined);
  const relay = new Relay(
    new Driver(host),
    new TurnClient({
      server,
      transport,
      tls: { serverName, alpn: ALPN, ...options.tls },
      ...(local === undefined ? {} : { localAddress: local }),
      ...(username === undefined || password === undefined ? {} : { credentials: { username, password } }),
      ...(family === undefined ? {} : { requestedFamily: family }),
      ...(evenPort === undefined ? {} : { evenPort }),
      ...(reservationToken === undefined ? {} : { reservationToken }),
      ...(dontFragment === undefined ? {} : { dontFragment }),
      ...(mobility === undefined ? {} : { mobility }),
      ...(lifetime === undefined ? {} : { lifetime }),
      ...(retransmit === undefined ? {} : { retransmit }),
      ...(rtoCache === undefined ? {} : { rtoCache }),
    }),
  );
  try {
    await abortable(relay.opened(), signal);
    return relay;
  } catch (error) {
    relay.abandon();
    throw error;
  }
}
