import type { AddressFamily, TransportAddress } from "../stun/address.ts";
import type { ServerTransport } from "../stun/locate.ts";

/** Why there is no relay. Each way to fail has its own. */
export type TurnFailureKind =
  /** No socket to ask from, or no way there. */
  | "local"
  /** Nothing answers. */
  | "silent"
  /** TCP: nothing listens there. */
  | "closed"
  /** TLS: the certificate is not good for the server's name, or nobody vouches for it. */
  | "certificate"
  /** TLS: the handshake failed for another reason; something else may listen there. */
  | "tls"
  /** It takes connections, but does not speak STUN. */
  | "not-stun"
  /** It answers STUN Binding requests, but does not allocate. */
  | "not-turn"
  /** It wants user name and password, and none were given (401). */
  | "no-credentials"
  /** User name or password are wrong (401). */
  | "wrong-credentials"
  /** The user name says itself until when it was good. */
  | "expired-credentials"
  /** The realm is another than the caller expects. */
  | "wrong-realm"
  /** The server may not or will not serve this user (403). */
  | "forbidden"
  /** This user has as many allocations as allowed (486). */
  | "quota"
  /** The server has nothing left to give (508). */
  | "capacity"
  /** The server has no relayed address of that IP version (440). */
  | "family"
  /** It names other servers, none of which can be used (300). */
  | "redirected"
  /** Its answers are not signed with this password, or were changed on the way. */
  | "not-authentic"
  /** Its answers break the protocol. */
  | "malformed"
  /** Another error code. */
  | "refused"
  /** There was a relay, but not for long. */
  | "lost";

/** A failure in a few words. */
export const TURN_FAILURE_WORDS: Readonly<Record<TurnFailureKind, string>> = {
  "local": "there is no way to the server from here",
  "silent": "nothing answers",
  "closed": "the port is closed",
  "certificate": "bad certificate",
  "tls": "no TLS there",
  "not-stun": "no STUN server there",
  "not-turn": "a STUN server, but no TURN server",
  "no-credentials": "user name and password are wanted",
  "wrong-credentials": "wrong user name or password",
  "expired-credentials": "the user name has expired",
  "wrong-realm": "another realm",
  "forbidden": "forbidden",
  "quota": "the user's quota is reached",
  "capacity": "the server is full",
  "family": "not supported",
  "redirected": "another server is named",
  "not-authentic": "the answers are not authentic",
  "malformed": "the answers are malformed",
  "refused": "refused",
  "lost": "the relay is lost again",
};

/** Why there is no relay. */
export interface TurnFailure {
  /** The reason for programs. */
  readonly kind: TurnFailureKind;
  /** The error code that the server gave, 300 to 699. */
  readonly code: number | null;
  /** What it means and what can be done, in a sentence. */
  readonly text: string;
}

/** What is worth knowing, worst first. */
export interface TurnProblem {
  /** `"error"`: something does not work; `"risk"`: the server lets its users do what they should not; `"note"`: the rest. */
  readonly severity: "error" | "risk" | "note";
  /** The problem in a sentence, and what can be done. */
  readonly text: string;
}

/** How long something took in ms, over all datagrams that came. */
export interface RoundTrips {
  /** The shortest. */
  readonly min: number;
  /** The median. */
  readonly median: number;
  /** 95 of 100 were no longer. */
  readonly p95: number;
  /** The longest. */
  readonly max: number;
}

/** What became of a stream of datagrams that went through the relay. */
export interface TrafficReport {
  /** Datagrams that were sent. */
  readonly sent: number;
  /** How many of them came. */
  readonly received: number;
  /** How many came more than once. */
  readonly duplicated: number;
  /** How many came after a later one. */
  readonly reordered: number;
  /** How many came with other contents. */
  readonly corrupted: number;
  /** Their size in bytes, headers not counted. */
  readonly size: number;
  /** How long they took to the relay and back; `null` if none came. */
  readonly roundTrips: RoundTrips | null;
}

/** One way to the server, and one kind of relayed address there. */
export interface TurnPathReport {
  /** What is spoken with the server. */
  readonly transport: ServerTransport;
  /** The server's address. */
  readonly server: TransportAddress;
  /** The IP version of the relayed address. */
  readonly relayFamily: AddressFamily;
  /** Why there is no relay; `null` if there was one. */
  readonly failure: TurnFailure | null;
  /** The address that this side was bound to. */
  readonly local: TransportAddress | null;
  /** The address that the server saw. */
  readonly mapped: TransportAddress | null;
  /** The address that the server lent. */
  readonly relayed: TransportAddress | null;
  /** For how many seconds at a time. */
  readonly lifetime: number | null;
  /** How long it took to get it in ms, with connecting and authentication. */
  readonly setup: number | null;
  /** The round trip without relay in ms: the median of some Binding requests. */
  readonly direct: number | null;
  /** Datagrams by channel, out to the relay and back in by it. */
  readonly channel: TrafficReport | null;
  /** Datagrams by Send and Data indications; tried on the first path that works. */
  readonly indications: TrafficReport | null;
  /** The largest datagram in bytes that passes by channel, headers not counted. */
  readonly largest: number | null;
}

/** A class of addresses that a relay should not reach. */
export interface PeerClassReport {
  /** What it is, as `loopback` or `cloud metadata`. */
  readonly name: string;
  /** The IP address that stood for it. */
  readonly address: string;
  /** What the server said to a CreatePermission for it. `"granted"` is a risk; `"refused"` is 403. */
  readonly outcome: "refused" | "granted" | "error" | "silent";
  /** The error code. */
  readonly code: number | null;
}

/** What a server can do besides what all must. `null`: not found out. */
export interface TurnFeatures {
  /** One relayed address of each IP version at once (ADDITIONAL-ADDRESS-FAMILY, RFC 8656 §7.2). */
  readonly dual: boolean | null;
  /** Datagrams that are not fragmented (DONT-FRAGMENT, RFC 8656 §14). */
  readonly dontFragment: boolean | null;
  /** Allocations that move along with their client (RFC 8016). */
  readonly mobility: boolean | null;
  /** Pairs of ports (EVEN-PORT and RESERVATION-TOKEN, RFC 8656 §7.2). */
  readonly reservedPorts: boolean | null;
  /** Connections to peers (RFC 6062). */
  readonly tcpPeers: boolean | null;
}

/** What a report may not have found out. */
export type TurnQuestion =
  | "channel"
  | "udp"
  | "tcp"
  | "tls"
  | "dtls"
  | "ipv6"
  | "relaying"
  | "permissions"
  | "outside"
  | "peers"
  | "largest";

/**
 * What `probeTurn()` found out about a TURN server.
 *
 * `JSON.stringify()` of it is what `natkit turn --json` prints: addresses become text.
 */
export interface TurnReport {
  /** The server as it was named. */
  readonly server: string;
  /** Whether datagrams went through a relay there. */
  readonly works: boolean;
  /** The verdict in plain words. */
  readonly verdict: string;
  /** What is wrong, worst first. */
  readonly problems: readonly TurnProblem[];
  /** The server's realm. */
  readonly realm: string | null;
  /** What the server says it is. */
  readonly software: string | null;
  /** Every way that was tried. */
  readonly paths: readonly TurnPathReport[];
  /** Whether a peer without permission is kept out (RFC 8656 §9). `null`: not found out. */
  readonly permissionsEnforced: boolean | null;
  /** Whether a socket outside reaches the relayed address, and is reached from there. `null`: not found out. */
  readonly reachableFromOutside: boolean | null;
  /** What the server says to peers that it should refuse. */
  readonly peers: readonly PeerClassReport[];
  /** What else the server can do. */
  readonly features: TurnFeatures;
  /** What was not found out, and why. */
  readonly unknown: Readonly<Partial<Record<TurnQuestion, string>>>;
  /** How long it took in ms. */
  readonly duration: number;
}
