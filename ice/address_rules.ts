import ipaddr from "ipaddr.js";
import { isIpAddress, TransportAddress } from "../stun/address.ts";
import type { LocalInterface } from "../stun/net/transport.ts";
import { interfaceOf } from "./host_addresses.ts";
import type { AddressMapping } from "./presentation.ts";

/**
 * Which address of ours others know by which, as on a computer in a cloud that has a private address, and a public one in
 * front of it that keeps all ports.
 */
export interface AddressRule {
  /**
   * The local addresses it is for: an IP address, a range as `10.0.0.0/8`, or the name of an interface as `eth0`. Default:
   * all of the IP versions that `to` has.
   */
  readonly from?: string;
  /** The IP address, or several of them, that the peer is to be told. */
  readonly to: string | readonly string[];
  /**
   * What kind of candidate it makes. `"host"`: as if it were our own. `"srflx"`: as if a STUN server had told it. Default:
   * `"host"`.
   */
  readonly as?: "host" | "srflx";
  /**
   * `"replace"`: in place of the local address, which the peer is then not told in any way, or with `as: "srflx"` in place of
   * what STUN servers would tell: none is asked from there. `"append"`: in addition. Default: `"replace"` for hosts, else
   * `"append"`.
   */
  readonly mode?: "replace" | "append";
}

interface Rule {
  readonly matches: (address: TransportAddress) => boolean;
  readonly to: readonly TransportAddress[];
  readonly as: "host" | "srflx";
  readonly mode: "replace" | "append";
}

/**
 * Makes a function of rules: of those that are for an address, and name others of its IP version, the first one holds.
 *
 * @param rules The rules.
 * @param interfaces All interfaces, asked for when a rule names one.
 * @throws {SyntaxError} If an address or a range is none.
 */
export function addressMapper(
  rules: readonly AddressRule[],
  interfaces: () => readonly LocalInterface[],
): (address: TransportAddress) => AddressMapping | undefined {
  const all = rules.map((rule) => readRule(rule, interfaces));
  return (address) => {
    for (const { matches, to, as, mode } of all) {
      const same = to.filter(({ family }) => family === address.family);
      if (same.length > 0 && matches(address)) return { to: same, as, mode };
    }
    return undefined;
  };
}

function readRule({ from, to, as = "host", mode }: AddressRule, interfaces: () => readonly LocalInterface[]): Rule {
  return {
    matches: from === undefined ? () => true : matcher(from, interfaces),
    to: [to].flat().map((text) => readAddress(text)),
    as,
    mode: mode ?? (as === "host" ? "replace" : "append"),
  };
}

function matcher(from: string, interfaces: () => readonly LocalInterface[]): Rule["matches"] {
  if (from.includes("/")) {
    const range = readRange(from);
    return ({ bytes }) => range[0].toByteArray().length === bytes.length && hasPrefix(bytes, range);
  }
  if (!isIpAddress(from)) return (address) => interfaceOf(address, interfaces()) === from;
  const { ipKey } = readAddress(from);
  return (address) => address.ipKey === ipKey;
}

function hasPrefix(bytes: Uint8Array, range: [ipaddr.IPv4 | ipaddr.IPv6, number]): boolean {
  const address = ipaddr.fromByteArray([...bytes]);
  return address.match(range as [ipaddr.IPv4, number] & [ipaddr.IPv6, number]);
}

function readRange(text: string): [ipaddr.IPv4 | ipaddr.IPv6, number] {
  try {
    return ipaddr.parseCIDR(text);
  } catch {
    throw new SyntaxError(`Cannot read address rule as "${text}" is no range: it must be like "10.0.0.0/8"`);
  }
}

function readAddress(text: string): TransportAddress {
  if (isIpAddress(text)) return TransportAddress.of(text, 0);
  throw new SyntaxError(`Cannot read address rule as "${text}" is no IP address`);
}
