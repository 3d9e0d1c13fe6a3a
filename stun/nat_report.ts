import type { AddressFamily, TransportAddress } from "./address.ts";

/** How a NAT maps or filters (RFC 4787 §4.1, §5): what its decision depends on. */
export type NatBehavior = "endpoint-independent" | "address-dependent" | "address-and-port-dependent" | "unknown";

/** The labels of RFC 3489 §5 and §10.1. */
export type ClassicNatType =
  | "open"
  | "full cone"
  | "restricted cone"
  | "port restricted cone"
  | "symmetric"
  | "symmetric firewall"
  | "blocked"
  | "unknown";

/** How a NAT picks the public port of a new mapping (RFC 4787 §4.2.1). */
export type PortAllocation = "preserving" | "sequential" | "random" | "unknown";

/**
 * What becomes of datagrams that need IP fragments (RFC 5780 §3.5): they pass both ways, pass on the way out (nothing is
 * known of the way in), or are lost on one of the ways.
 */
export type FragmentHandling = "pass" | "outbound" | "blocked" | "unknown";

/** What came of a request. Each misbehaviour of a server has its own. */
export type ProbeOutcome =
  | "answered"
  /** The request itself came back in by another socket: the NAT hairpins. */
  | "looped"
  /** Answered, and more often than it was asked. */
  | "answered twice"
  /** Answered after the request was given up. */
  | "too late"
  /** From an address that it was not to come from; such an answer is not used. */
  | "wrong address"
  /** Answered only with another transaction id. */
  | "wrong transaction"
  /** Answered only with what is no STUN message. */
  | "garbage"
  /** Answered without an address that it saw. */
  | "no address"
  /** Answered with a STUN error. */
  | "error"
  /** No answer. */
  | "silent"
  /** Not sent, as there was no socket to send from. */
  | "not sent"
  /** No longer waited for, as the answer would not tell anything. */
  | "abandoned";

/** What came of one request. */
export interface ProbeResult {
  /** What it was for, as `"mapping: other address, same port"`. */
  readonly test: string;
  /** Where it was sent from: the local address, if it was sent. */
  readonly local: TransportAddress | null;
  /** Where it was sent to. */
  readonly to: TransportAddress;
  /** What came of it. */
  readonly outcome: ProbeOutcome;
  /** Where the answer came from. */
  readonly from: TransportAddress | null;
  /** The address that the server saw. */
  readonly mapped: TransportAddress | null;
  /** The STUN error code, 300 to 699. */
  readonly code: number | null;
  /** Milliseconds from the first sending to the answer. */
  readonly rtt: number | null;
  /** How often it was sent. */
  readonly sends: number;
}

/** A server as a report sees it: what came of its first request, and what it told. */
export interface ServerResult {
  /** The name it was given under. */
  readonly name: string;
  /** Where it was asked. */
  readonly address: TransportAddress;
  /** What came of the first request to it. */
  readonly outcome: ProbeOutcome;
  /** The STUN error code, 300 to 699. */
  readonly code: number | null;
  /** Milliseconds from the first sending to the answer. */
  readonly rtt: number | null;
  /** Its other address and port (OTHER-ADDRESS of RFC 5780, CHANGED-ADDRESS of RFC 3489). */
  readonly otherAddress: TransportAddress | null;
  /** Its SOFTWARE. */
  readonly software: string | null;
}

/** A binding's lifetime, by search. */
export interface LifetimeResult {
  /**
   * How it was found: the server was made to answer to the idle mapping (RFC 5780 §4.6, RFC 3489 §10.2), or the idle socket asked again
   * and was given another mapping.
   */
  readonly method: "response-port" | "response-address" | "remapping";
  /** Still alive after this many idle seconds. */
  readonly aliveSeconds: number;
  /** Gone after this many idle seconds; `null` if it never was within `maxSeconds`. */
  readonly goneSeconds: number | null;
  /** How close the two were to be brought. */
  readonly resolutionSeconds: number;
  /** The longest idle time that was tried. */
  readonly maxSeconds: number;
  /** Whether no shorter idle time lost a binding that a longer one kept. */
  readonly consistent: boolean;
}

/** What a report may not have found out. */
export type NatQuestion =
  | "nat"
  | "mapping"
  | "filtering"
  | "hairpin"
  | "lifetime"
  | "portAllocation"
  | "alg"
  | "fragments"
  | "ipPooling";

/**
 * A NAT report: how the path between this computer and the Internet treats UDP, as of now and towards the servers that were
 * asked (RFC 5780 §1: not a promise for later, nor for others).
 *
 * `JSON.stringify()` of it is what `natkit nat --json` prints: addresses become text.
 */
export interface NatReport {
  /** `4` or `6`. */
  readonly family: AddressFamily;
  /** The local address that was asked from; `null` without any socket. */
  readonly local: TransportAddress | null;
  /** The public address that the server saw for `local`; `null` if none answered. */
  readonly mapped: TransportAddress | null;
  /** Whether there is a NAT: the server saw another address or port than `local`. `false` if none answered. */
  readonly nat: boolean;
  /** How public addresses are given out (RFC 4787 §4.1). */
  readonly mapping: NatBehavior;
  /** Who may send to them (RFC 4787 §5). Without a NAT: what a firewall lets in. */
  readonly filtering: NatBehavior;
  /** The label of RFC 3489. Any mapping that is not endpoint-independent is `"symmetric"`. */
  readonly classic: ClassicNatType;
  /** Whether the first server answers over TCP. `null`: not tried, as UDP works. */
  readonly answersTcp: boolean | null;
  /** Whether two hosts inside reach each other by their public addresses (RFC 4787 §6). `null`: not found out. */
  readonly hairpin: boolean | null;
  /** The source address that looped datagrams carry (RFC 4787 REQ-9 wants the external one). */
  readonly hairpinSource: "external" | "internal" | null;
  /**
   * For how long a mapping lives without traffic. If even the longest time that was tried did not end it, that time.
   * `null`: not searched for, or not found out. Details are in `lifetime`.
   */
  readonly lifetimeSeconds: number | null;
  /** How the lifetime was found. */
  readonly lifetime: LifetimeResult | null;
  /** How public ports are picked. Without a NAT: `"preserving"`. */
  readonly portAllocation: PortAllocation;
  /** From one new mapping to the next, the public port grows by this; for `"sequential"` only. */
  readonly portStep: number | null;
  /** All public IP addresses that were seen. */
  readonly publicAddresses: readonly string[];
  /** Whether all sockets share one public IP address (RFC 4787 §4.1). */
  readonly ipPooling: "paired" | "arbitrary" | "unknown";
  /** Whether something rewrites addresses inside of datagrams (RFC 5780 §3.6). `null`: not found out. */
  readonly alg: boolean | null;
  /** What becomes of datagrams that need IP fragments. */
  readonly fragments: FragmentHandling;
  /** Which kinds of peers reach this computer directly, by their classic label, when both sides use ICE. */
  readonly reachableBy: readonly ClassicNatType[];
  /** Which kinds of peers need a relay. A kind that is in neither list depends on what was not found out. */
  readonly relayFor: readonly ClassicNatType[];
  /** The verdict in plain words. */
  readonly verdict: readonly string[];
  /** What was not found out, and why. */
  readonly unknown: Readonly<Partial<Record<NatQuestion, string>>>;
  /** What else is worth knowing: oddities of the servers and of the path. */
  readonly notes: readonly string[];
  /** The servers, in the order in which they were given. */
  readonly servers: readonly ServerResult[];
  /** Every request but those of the lifetime search. */
  readonly tests: readonly ProbeResult[];
  /** How long it took in ms. */
  readonly duration: number;
}
