import ipaddr from "ipaddr.js";
import type { AddressFamily, TransportAddress } from "../stun/address.ts";

/** A class of addresses behind or beside a server that its users have no business with (RFC 8656 §21.2.2, §21.4). */
export interface PeerClass {
  readonly name: string;
  /** An IP address that stands for the class. Nothing is ever sent to it. */
  readonly address: string;
  /** What whoever has an account could do if it were granted. */
  readonly risk: string;
}

const OWN_SERVICES = "reach services on the server that only listen for itself";
const OWN_NETWORK = "reach the server's own network";
const CLOUD = "reach the cloud's metadata service, which hands out the server's keys";
const MANY = "send to many with one datagram";
const NOWHERE = "make the server send to addresses that nobody should be at";

const PEER_CLASSES: Readonly<Record<AddressFamily, readonly PeerClass[]>> = {
  4: [
    { name: "unspecified", address: "0.0.0.0", risk: OWN_SERVICES },
    { name: "loopback", address: "127.0.0.1", risk: OWN_SERVICES },
    { name: "private 10/8", address: "10.0.0.1", risk: OWN_NETWORK },
    { name: "private 172.16/12", address: "172.16.0.1", risk: OWN_NETWORK },
    { name: "private 192.168/16", address: "192.168.0.1", risk: OWN_NETWORK },
    { name: "carrier NAT", address: "100.64.0.1", risk: OWN_NETWORK },
    { name: "link-local", address: "169.254.0.1", risk: OWN_NETWORK },
    { name: "cloud metadata", address: "169.254.169.254", risk: CLOUD },
    { name: "multicast", address: "224.0.0.1", risk: MANY },
    { name: "reserved", address: "240.0.0.1", risk: NOWHERE },
    { name: "broadcast", address: "255.255.255.255", risk: MANY },
  ],
  6: [
    { name: "unspecified", address: "::", risk: OWN_SERVICES },
    { name: "loopback", address: "::1", risk: OWN_SERVICES },
    { name: "mapped loopback", address: "::ffff:127.0.0.1", risk: OWN_SERVICES },
    { name: "NAT64 loopback", address: "64:ff9b::7f00:1", risk: OWN_SERVICES },
    { name: "6to4 loopback", address: "2002:7f00:1::1", risk: OWN_SERVICES },
    { name: "unique local", address: "fd00::1", risk: OWN_NETWORK },
    { name: "link-local", address: "fe80::1", risk: OWN_NETWORK },
    { name: "cloud metadata", address: "fd00:ec2::254", risk: CLOUD },
    { name: "multicast", address: "ff02::1", risk: MANY },
  ],
};

/** The classes to ask about on a relay of this IP version. */
export function peerClasses(family: AddressFamily): readonly PeerClass[] {
  return PEER_CLASSES[family];
}

/** What could be done with a granted class. */
export function riskOf(name: string): string {
  return [...PEER_CLASSES[4], ...PEER_CLASSES[6]].find((one) => one.name === name)?.risk ?? OWN_NETWORK;
}

/** What keeps others from reaching an address, in a word; `undefined` if nothing does. */
export function rangeWord({ address }: TransportAddress): string | undefined {
  return RANGE_WORDS.get(ipaddr.parse(address).range());
}

const RANGE_WORDS: ReadonlyMap<string, string> = new Map([
  ["private", "private"],
  ["uniqueLocal", "private"],
  ["carrierGradeNat", "a carrier NAT's"],
  ["loopback", "loopback"],
  ["linkLocal", "link-local"],
  ["unspecified", "unspecified"],
]);
