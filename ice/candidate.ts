import ipaddr from "ipaddr.js";
import type { AddressFamily, TransportAddress } from "../stun/address.ts";
import type { SocketId } from "../stun/machine.ts";
import { otherPreference, tcpLocalPreference, type TcpType } from "./tcp.ts";

/** How a candidate was found (RFC 8445 §4): on the host, by a server, by the peer, or lent by a relay. */
export type CandidateType = "host" | "srflx" | "prflx" | "relay";

/** The type preferences that RFC 8445 §5.1.2.2 recommends. */
export const TYPE_PREFERENCE: Readonly<Record<CandidateType, number>> = { host: 126, prflx: 110, srflx: 100, relay: 0 };

/**
 * The same for TCP: below those of UDP, since a connection holds back what comes after a loss, and above a relay's, which
 * costs somebody and adds a detour. RFC 6544 §4.2 recommends the values of UDP; with them a TCP host candidate would rank
 * above every reflexive address for UDP.
 */
export const TCP_TYPE_PREFERENCE: Readonly<Record<CandidateType, number>> = {
  host: 90,
  prflx: 80,
  srflx: 70,
  relay: 0,
};

/** A candidate as one agent tells it to the other (RFC 8839 §5.1). */
export interface Candidate {
  /** 1 to 32 characters. Candidates that share it likely work, or fail, alike. */
  readonly foundation: string;
  /** 1 to 256. */
  readonly component: number;
  /** The transport, in lower case: `"udp"` or `"tcp"`. */
  readonly protocol: string;
  /** How a TCP candidate comes by its connections. */
  readonly tcpType?: TcpType;
  /** 1 to 2^31-1, the higher the better. */
  readonly priority: number;
  /** IP address and port; `undefined` when there is but a name. */
  readonly address: TransportAddress | undefined;
  /** How it was found. */
  readonly type: CandidateType;
  /** The name and port of a candidate that hides its IP address (mDNS). It is told, and shown, in place of the address. */
  readonly name?: HostPort;
  /** For people only: the base of a reflexive candidate, the mapped address of a relayed one. */
  readonly relatedAddress?: TransportAddress;
  /** Further name-value pairs, in the order of the line. */
  readonly extensions?: readonly (readonly [name: string, value: string])[];
}

/** A name or an IP address, and a port. */
export interface HostPort {
  /** A name, or an IP address without brackets. */
  readonly host: string;
  /** 0 to 65535. */
  readonly port: number;
}

/**
 * The priority of a candidate by RFC 8445 §5.1.2.1.
 *
 * @param type Gives the type preference, by `TYPE_PREFERENCE`.
 * @param localPreference 0 to 65535, different for each candidate of a type.
 * @param component 1 to 256.
 * @param protocol With `"tcp"` the type preference is by `TCP_TYPE_PREFERENCE`. Default: `"udp"`.
 */
export function candidatePriority(
  type: CandidateType,
  localPreference: number,
  component = 1,
  protocol = "udp",
): number {
  const preference = protocol === "tcp" ? TCP_TYPE_PREFERENCE : TYPE_PREFERENCE;
  return preference[type] * 2 ** 24 + localPreference * 256 + (256 - component);
}

/** The priority that a candidate would have if the peer learned of it by a check: a check's PRIORITY (RFC 8445 §7.1.1). */
export function reflexivePriority({ protocol, tcpType, localPreference, component }: LocalCandidate): number {
  const preference = tcpType === undefined
    ? localPreference
    : tcpLocalPreference("prflx", tcpType, otherPreference(localPreference));
  return candidatePriority("prflx", preference, component, protocol);
}

/** One of our candidates. */
export interface LocalCandidate extends Candidate {
  /** Where its peer sends to. */
  readonly address: TransportAddress;
  /** The socket its checks and data leave from. */
  readonly socket: SocketId;
  /** The address that socket has: the candidate's own for host and relayed candidates (RFC 8445 §5.1.1). */
  readonly base: TransportAddress;
  /** The data stream that it is for, from 0. */
  readonly stream: number;
  /** 0 to 65535, as used in `priority`. */
  readonly localPreference: number;
  /** Whether the peer is not told of it. Default: it is. */
  readonly isHidden?: boolean;
  /** The STUN or TURN server that it came from. */
  readonly server?: TransportAddress;
  /** How we talk to the TURN server that a relayed candidate came from. */
  readonly relayProtocol?: "udp" | "tcp" | "tls" | "dtls";
}

/** One of the peer's candidates. Mutable, as one that a check revealed may be signalled properly later. */
export class RemoteCandidate implements Candidate {
  /** See `Candidate`. */
  foundation: string;
  /** See `Candidate`. */
  readonly component: number;
  /** See `Candidate`. */
  readonly protocol: string;
  /** See `Candidate`. */
  readonly tcpType?: TcpType;
  /** See `Candidate`. */
  priority: number;
  /** See `Candidate`. */
  readonly address: TransportAddress;
  /** See `Candidate`. */
  type: CandidateType;
  /** What the peer has told in place of the address. */
  name?: HostPort;
  /** See `Candidate`. */
  relatedAddress?: TransportAddress;
  /** See `Candidate`. */
  extensions?: readonly (readonly [name: string, value: string])[];

  /** A candidate of which this is known; its address has been found. */
  constructor(candidate: Candidate & { readonly address: TransportAddress }) {
    this.foundation = candidate.foundation;
    this.component = candidate.component;
    this.protocol = candidate.protocol;
    if (candidate.tcpType !== undefined) this.tcpType = candidate.tcpType;
    this.address = candidate.address;
    this.priority = candidate.priority;
    this.type = candidate.type;
    this.describe(candidate);
  }

  /** Takes over what signalling says about a candidate that a check revealed before (RFC 8445 §7.3.1.3). */
  describe(candidate: Candidate): void {
    this.foundation = candidate.foundation;
    this.type = candidate.type;
    // The peer ranks its valid pairs by what it signals (RFC 8445 §7.2.5.3.2), so with it both see the same order. And
    // a relay that a check showed first would otherwise outrank direct paths by its PRIORITY for good.
    this.priority = candidate.priority;
    if (candidate.name !== undefined) this.name = candidate.name;
    if (candidate.relatedAddress !== undefined) this.relatedAddress = candidate.relatedAddress;
    if (candidate.extensions !== undefined) this.extensions = candidate.extensions;
  }
}

/** Whether an address can be checked at all: a port, and neither unspecified, multicast, broadcast nor IPv4-mapped. */
export function isCheckable({ bytes, port, family }: TransportAddress): boolean {
  if (port === 0 || bytes.every((byte) => byte === 0)) return false;
  if (family === 4) return bytes[0] !== 0 && bytes[0]! < 224;
  return bytes[0] !== 0xff &&
    !(bytes[10] === 0xff && bytes[11] === 0xff && bytes.subarray(0, 10).every((b) => b === 0));
}

/** Whether the address is an IPv6 link-local one, fe80::/10. */
export function isLinkLocal(address: TransportAddress): boolean {
  return address.family === 6 && address.bytes[0] === 0xfe && (address.bytes[1]! & 0xc0) === 0x80;
}

/**
 * The order in which addresses of two families are preferred: mixed, IPv6 first by a head start (RFC 8421 §4).
 *
 * @param addresses Best first within each family.
 */
export function orderFamilies<T extends { readonly family: AddressFamily }>(addresses: readonly T[]): T[] {
  const six = addresses.filter(({ family }) => family === 6);
  const four = addresses.filter(({ family }) => family === 4);
  if (six.length === 0 || four.length === 0) return [...addresses];
  const headStart = Math.floor((four.length + six.length) / four.length);
  const mixed = six.splice(0, headStart);
  while (six.length + four.length > 0) mixed.push(...four.splice(0, 1), ...six.splice(0, 1));
  return mixed;
}

/** Whether the address is a loopback one, 127/8 or ::1. */
export function isLoopback({ bytes, family }: TransportAddress): boolean {
  return family === 4 ? bytes[0] === 127 : bytes.every((byte, i) => byte === (i === 15 ? 1 : 0));
}

const PRIVATE: ReadonlySet<string> = new Set(["private", "uniqueLocal", "linkLocal", "loopback", "carrierGradeNat"]);

/** Whether the address is one that the Internet does not know: it tells about the network that it is in. */
export function isPrivate({ address }: TransportAddress): boolean {
  return PRIVATE.has(ipaddr.parse(address).range());
}
