import type { TransportAddress } from "../stun/address.ts";
import type { DiscoveryServer } from "../stun/discovery_server.ts";
import type { TokenUsers } from "../stun/access_token.ts";
import type { UserDirectory } from "../stun/users.ts";
import type { Rate } from "./source_limiter.ts";
import type { PeerPolicy } from "./peer_policy.ts";
import type { PortRange, RelayAddress } from "./relay_ports.ts";
import type { SharedState } from "./shared_state.ts";

export type { Rate } from "./source_limiter.ts";

/** How much one server, user or allocation may have. */
export interface TurnServerLimits {
  /** Allocations and reserved ports of one user; beyond it 486. Default: 4096. */
  readonly allocationsPerUser: number;
  /** Allocations and reserved ports in all; beyond it 508, or 300 where there is another server. Default: 65536. */
  readonly allocations: number;
  /** Permissions of one allocation; beyond it 508. Default: 256. */
  readonly permissions: number;
  /** Channels of one allocation; beyond it 508. Default: 256. */
  readonly channels: number;
  /**
   * Connections with peers of one TCP allocation, those that are being made and that wait for the client too; beyond it
   * 508, and what peers make is closed. Default: 64.
   */
  readonly connectionsPerAllocation: number;
  /** The same for all allocations. Each takes two of the host's file descriptors. Default: 4096. */
  readonly connections: number;
  /**
   * Bits of data a second that are relayed in each direction for one allocation. Of datagrams, what is beyond is dropped;
   * connections are slowed down. Default: no limit.
   *
   * For this and the next two, a second's worth (64 KiB at least) may be saved up and sent at once; nothing is saved up at
   * the beginning, so that new allocations are no way to get more.
   */
  readonly allocationBandwidth: number;
  /** The same for all allocations of one user. Default: no limit. */
  readonly userBandwidth: number;
  /** The same for all allocations. Default: no limit. */
  readonly serverBandwidth: number;
}

/** What limits are when nothing is said. */
export const DEFAULT_LIMITS: TurnServerLimits = {
  allocationsPerUser: 4096,
  allocations: 65536,
  permissions: 256,
  channels: 256,
  connectionsPerAllocation: 64,
  connections: 4096,
  allocationBandwidth: Infinity,
  userBandwidth: Infinity,
  serverBandwidth: Infinity,
};
/** How often a source is answered that has shown no credentials. */
export const DEFAULT_CHALLENGE_RATE: Rate = { rate: 10, burst: 100 };

/** Where clients are sent that this server does not take (RFC 8489 §10). */
export interface AlternateServers {
  /** The servers' addresses. A client is told the first of its own family, and the first of the other one behind it. */
  readonly addresses: readonly TransportAddress[];
  /** The name in their certificate, if it is another than this server's: for TLS. */
  readonly domain?: string;
}

/** Options of a `TurnServer`. */
export interface TurnServerOptions {
  /** The realm of the long-term credentials. */
  readonly realm: string;
  /** Who may allocate. */
  readonly users: UserDirectory;
  /** Who else may: those with an access token (RFC 7635), as long as it is good. Default: nobody. */
  readonly tokens?: TokenUsers;
  /** What nonces are signed with: 16 random bytes or more. */
  readonly secret: Uint8Array;
  /** The IP addresses that relayed transport addresses are on. A client gets one of the address it talks to, if that is here. */
  readonly relayAddresses: readonly RelayAddress[];
  /** The ports of relayed transport addresses. Default: 49152 to 65535. */
  readonly relayPorts?: PortRange;
  /** Which peers are good. The server makes its own addresses known to it. Default: global unicast addresses. */
  readonly peerPolicy?: PeerPolicy;
  /**
   * Whether there are TCP allocations (RFC 6062), for connections with peers. Who has one can connect to any peer that the
   * policy does not refuse, from the server's address. Default: false; asking for one is answered with 442.
   */
  readonly tcpRelay?: boolean;
  /** How much anybody may have. Defaults: see `TurnServerLimits`. */
  readonly limits?: Partial<TurnServerLimits>;
  /**
   * How often a source IP address (IPv6: a /64) is answered on TURN requests that show no good credentials; what is beyond
   * is dropped. A server that strangers can make send is of use to those who want to flood others by it. `false`: no
   * limit. Default: 10 a second, 100 at once.
   */
  readonly challengeRate?: Rate | false;
  /**
   * How often Binding requests over UDP of a source IP address (IPv6: a /64) are answered; what is beyond is dropped. Their
   * answers are at most 1.4 times as long, and many clients may be behind one address. Default: false, no limit.
   */
  readonly bindingRate?: Rate | false;
  /** Where clients are sent when the server is full or draining, by 300 in place of 508. Default: nowhere. */
  readonly alternates?: AlternateServers;
  /** The longest lifetime of an allocation, in seconds, at least 600. Default: 3600 (RFC 8656 §7.2). */
  readonly maxLifetime?: number;
  /**
   * Whether `io.setDontFragment` works here, so that DONT-FRAGMENT can be honoured. Default: false, and it gets 420
   * (RFC 8656 §7.2).
   */
  readonly dontFragment?: boolean;
  /** How long a nonce is good, in seconds, at most 3600. Default: 3600. */
  readonly nonceLifetime?: number;
  /** Whether clients are told to hide user names behind USERHASH. Default: false. */
  readonly anonymity?: boolean;
  /**
   * Whether clients from before RFC 8489, which authenticate without PASSWORD-ALGORITHM, may bind channels up to 0x7FFF as
   * RFC 5766 had it. All others get 400 beyond 0x4FFF. Default: true, since RFC 8656 §12 "is not backwards compatible".
   */
  readonly legacyChannels?: boolean;
  /**
   * Whether clients that ask for it may take their allocation along to another address or connection (RFC 8016). Such an
   * allocation outlives its client's connection, until its lifetime is over. `false`: they get 405. Default: true, but
   * false where servers share a port (`shared`), since a client's next address may be another server's.
   */
  readonly mobility?: boolean;
  /**
   * Answers Binding requests instead of this server: for NAT behaviour discovery (RFC 5780) and classic clients (RFC 3489).
   * It is told of all listeners.
   */
  readonly discovery?: DiscoveryServer;
  /** @internal What this server has in common with others that serve the same addresses, each in its worker. Default: nothing. */
  readonly shared?: SharedState;
  /** The text of SOFTWARE in answers to authenticated Allocate and Refresh requests. Default: none is sent. */
  readonly software?: string;
}
