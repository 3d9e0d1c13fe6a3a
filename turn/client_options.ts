import type { AccessToken } from "../stun/access_token.ts";
import type { AddressFamily, TransportAddress } from "../stun/address.ts";
import type { ServerTransport } from "../stun/locate.ts";
import type { TlsClientOptions } from "../stun/machine.ts";
import type { RtoCache } from "../stun/rto_cache.ts";
import type { RetransmitOptions } from "../stun/transaction.ts";

/** What a `TurnClient` is made from. */
export interface TurnClientOptions {
  /** The server. */
  readonly server: TransportAddress;
  /** What to talk to it over. Default: `"udp"`. */
  readonly transport?: ServerTransport;
  /** How to use TLS or DTLS. Default: for the server's name, trusting the usual authorities. */
  readonly tls?: TlsClientOptions;
  /** The local IP address to bind. Default: for UDP all of them, for a connection the host's choice. */
  readonly localAddress?: string;
  /** The local port to bind. Default: 0, the host chooses. */
  readonly localPort?: number;
  /** The long-term credential (RFC 8489 §9.2). Without it the server must let anybody in. */
  readonly credentials?: { readonly username: string; readonly password: string };
  /**
   * An access token of an authorization server (RFC 7635), in place of `credentials`. The allocation ends with it, unless
   * there is another one in time: `setAccessToken()`.
   */
  readonly accessToken?: AccessToken;
  /**
   * The relayed address's IP version; `"dual"` asks for one of each, and takes one if the server has no more. Default: the
   * server's choice, which is IPv4 (RFC 8656 §7.2).
   */
  readonly requestedFamily?: AddressFamily | "dual";
  /**
   * What peers are reached over. With `"tcp"` (RFC 6062) there are no datagrams but connections, by `connect()` and from
   * peers that have a permission; the server must be talked to over TCP or TLS. Default: `"udp"`.
   */
  readonly peerTransport?: "udp" | "tcp";
  /**
   * Whether the relayed port must be even; `"pair"` also reserves the next one for whoever has `reservationToken`. Default:
   * any port.
   */
  readonly evenPort?: "even" | "pair";
  /** What came with an allocation whose `evenPort` was `"pair"`: 8 bytes. Asks for the port that is reserved. */
  readonly reservationToken?: Uint8Array;
  /**
   * Whether to ask for DONT-FRAGMENT, for `sendUnfragmented()`. A server that does not know it is asked without.
   * Default: no.
   */
  readonly dontFragment?: boolean;
  /**
   * Whether to ask for a ticket (RFC 8016) with which the allocation can move to another local address by `migrate()`, and
   * moves by itself when its connection ends, or the server no longer knows its address or no longer answers. Default: no.
   */
  readonly mobility?: boolean;
  /** Seconds to ask for; the server decides. Default: its own, usually 600. */
  readonly lifetime?: number;
  /** What to say in SOFTWARE, up to 127 characters. Default: `natkit`. */
  readonly software?: string;
  /** How to repeat requests. Default: as RFC 8489 §6.2.1 has it. */
  readonly retransmit?: RetransmitOptions;
  /** Where the first RTO comes from and is learnt (RFC 8489 §6.2.1), unless `retransmit` says it. Default: 500 ms each time. */
  readonly rtoCache?: RtoCache;
}
