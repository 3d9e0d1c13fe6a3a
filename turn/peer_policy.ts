import ipaddr from "ipaddr.js";
import type { TransportAddress } from "../stun/address.ts";

/** Options of a `PeerPolicy`. Ranges are CIDR (`10.0.0.0/8`) or single addresses. */
export interface PeerPolicyOptions {
  /** Ranges that are relayed to although they are not global, or are the server's own. Default: none. */
  readonly allow?: Iterable<string>;
  /** Ranges that are never relayed to. They win over `allow`. Default: none. */
  readonly deny?: Iterable<string>;
}

/**
 * What a policy says about a peer: `"relay"` is one of the server's own relay addresses, which is a good peer on the ports
 * that are relayed transport addresses at that moment, and on no other.
 */
export type PeerVerdict = "allowed" | "refused" | "relay";

interface Cidr {
  readonly bytes: Uint8Array;
  readonly prefix: number;
}

/** Not global unicast, by IANA's special-purpose registries; 240/4 has the broadcast address. */
const SPECIAL_IPV4 = cidrs([
  ...["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"],
  ...["192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"],
  ...["224.0.0.0/4", "240.0.0.0/4"],
]);
/** All that is global unicast in IPv6 lies in here... */
const GLOBAL_IPV6 = cidrs(["2000::/3"]);
/** ...but for these: protocol assignments with Teredo and ORCHID, documentation, 6to4, the former 6bone. */
const SPECIAL_IPV6 = cidrs(["2001::/23", "2001:db8::/32", "2002::/16", "3ffe::/16", "3fff::/20"]);
/** NAT64's well-known prefix (RFC 6052 §2.1): what is reached is the IPv4 address in the last 32 bits. */
const NAT64 = cidrs(["64:ff9b::/96"]);
/** RFC 8656 §21.4: "a TURN server MUST NOT accept Teredo or 6to4 addresses in these requests". */
const TUNNELS = cidrs(["2001::/32", "2002::/16"]);
const LOOPBACK = cidrs(["127.0.0.0/8", "::1"]);

/**
 * Which peers may be relayed to (RFC 8656 §21.2.2).
 *
 * Only global unicast addresses are, and not the server's own, unless `allow` names them. IPv6 addresses that stand for
 * an IPv4 address are judged by that address as well. Relaying between two clients of one server works by default: the
 * server's relay addresses are good peers, but only on ports that are relayed transport addresses, so that no other
 * service of the host can be reached through them. The sockets the server listens on are never peers.
 *
 * @example Allowing a private network
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { TransportAddress } from "@natkit/natkit/stun";
 * import { PeerPolicy } from "@natkit/natkit/turn";
 *
 * const policy = new PeerPolicy({ allow: ["10.1.0.0/16"], deny: ["10.1.9.0/24"] });
 * assertEquals(policy.judge(TransportAddress.parse("8.8.8.8:53")), "allowed");
 * assertEquals(policy.judge(TransportAddress.parse("10.1.2.3:5000")), "allowed");
 * assertEquals(policy.judge(TransportAddress.parse("10.1.9.3:5000")), "refused");
 * assertEquals(policy.judge(TransportAddress.parse("127.0.0.1:5000")), "refused");
 * ```
 */
export class PeerPolicy {
  #allow: readonly Cidr[];
  #deny: readonly Cidr[];
  #own = new Set<string>();
  #relays = new Set<string>();
  #listeners = new Set<string>();
  // Ports on which the server listens at whatever address the host has.
  #everywhere = new Set<number>();

  /**
   * A policy that knows no address of the server yet.
   *
   * @param options What differs from the default.
   * @throws {SyntaxError} If a range is none.
   */
  constructor(options: PeerPolicyOptions = {}) {
    this.#allow = cidrs(options.allow ?? []);
    this.#deny = cidrs(options.deny ?? []);
  }

  /** Makes an IP address known as the host's own. The port does not matter. */
  addOwnAddress(address: TransportAddress): void {
    this.#own.add(textKey(address.bytes));
  }

  /** Makes an IP address known as one whose ports are given out as relayed transport addresses. */
  addRelayAddress(address: TransportAddress): void {
    this.addOwnAddress(address);
    this.#relays.add(textKey(address.bytes));
  }

  /** Makes a transport address known on which the server listens: it is refused whatever `allow` says. */
  addListener(address: TransportAddress): void {
    if (address.bytes.every((byte) => byte === 0)) {
      this.#everywhere.add(address.port);
    } else {
      this.addOwnAddress(address);
      this.#listeners.add(`${address.port} ${textKey(address.bytes)}`);
    }
  }

  /** What the policy says about a peer's IP address and port. */
  judge(peer: TransportAddress): PeerVerdict {
    return this.#isListener(peer) ? "refused" : this.judgeAddress(peer);
  }

  /** What the policy says about a peer's IP address, whatever the port: for a permission, which has none. */
  judgeAddress(peer: TransportAddress): PeerVerdict {
    const bytes = disguised(peer.bytes) ?? peer.bytes;
    // Who sends to the unspecified address reaches the host itself, by a name that no range of its own covers.
    if (bytes.every((byte) => byte === 0)) return "refused";
    if (contains(this.#deny, peer.bytes) || contains(this.#deny, bytes)) return "refused";
    if (contains(this.#allow, peer.bytes) || contains(this.#allow, bytes)) return "allowed";
    // Through a translator the way to a relay address of our own would be another one than clients expect.
    if (bytes === peer.bytes && this.#relays.has(textKey(bytes))) return "relay";
    if (this.#own.has(textKey(bytes))) return "refused";
    return isGlobal(peer.bytes) ? "allowed" : "refused";
  }

  /** Whether a client's address is a tunnel's end, from which no request may be accepted (RFC 8656 §21.4). */
  isTunnel(client: TransportAddress): boolean {
    return contains(TUNNELS, client.bytes) && !contains(this.#allow, client.bytes);
  }

  #isListener(peer: TransportAddress): boolean {
    const bytes = disguised(peer.bytes) ?? peer.bytes;
    const key = textKey(bytes);
    if (this.#listeners.has(`${peer.port} ${key}`)) return true;
    return this.#everywhere.has(peer.port) && (this.#own.has(key) || contains(LOOPBACK, bytes));
  }
}

/**
 * Reads ranges.
 *
 * @throws {SyntaxError} If one is none.
 */
function cidrs(texts: Iterable<string>): Cidr[] {
  return [...texts].map((text) => {
    try {
      const [address, prefix] = text.includes("/")
        ? ipaddr.parseCIDR(text)
        : [ipaddr.parse(text), ipaddr.parse(text).kind() === "ipv4" ? 32 : 128];
      if (address.kind() === "ipv4" && !ipaddr.IPv4.isValidFourPartDecimal(text.split("/")[0]!)) throw new Error();
      return { bytes: Uint8Array.from(address.toByteArray()), prefix };
    } catch {
      throw new SyntaxError(`Cannot parse address range as it must be like "10.0.0.0/8" or "2001:db8::/32": "${text}"`);
    }
  });
}

function contains(list: readonly Cidr[], address: Uint8Array): boolean {
  for (const { bytes, prefix } of list) {
    if (bytes.length === address.length && matches(bytes, address, prefix)) return true;
  }
  return false;
}

function matches(a: Uint8Array, b: Uint8Array, prefix: number): boolean {
  const whole = prefix >> 3;
  for (let i = 0; i < whole; i++) if (a[i] !== b[i]) return false;
  return (prefix & 7) === 0 || ((a[whole]! ^ b[whole]!) >> (8 - (prefix & 7))) === 0;
}

function isGlobal(bytes: Uint8Array): boolean {
  if (bytes.length === 4) return !contains(SPECIAL_IPV4, bytes);
  // The other disguises are no way to reach anything: mapped and compatible addresses are never on a wire.
  if (contains(NAT64, bytes)) return isGlobal(bytes.subarray(12));
  return contains(GLOBAL_IPV6, bytes) && !contains(SPECIAL_IPV6, bytes);
}

/** The IPv4 address that an IPv6 address stands for, if it does. */
function disguised(bytes: Uint8Array): Uint8Array | undefined {
  if (bytes.length === 4) return undefined;
  if (bytes[0] === 0x20 && bytes[1] === 0x02) return bytes.subarray(2, 6);
  // Teredo (RFC 4380 §4): the client's address with all bits inverted.
  if (matches(TUNNELS[0]!.bytes, bytes, 32)) return bytes.slice(12).map((byte) => byte ^ 0xff);
  if (contains(NAT64, bytes)) return bytes.subarray(12);
  for (let i = 0; i < 8; i++) if (bytes[i] !== 0) return undefined;
  // Mapped (::ffff:0:0/96), translated (::ffff:0:0:0/96) and compatible (::/96), of which :: and ::1 are no disguise.
  const middle = (bytes[8]! << 24) | (bytes[9]! << 16) | (bytes[10]! << 8) | bytes[11]!;
  if (middle === 0xffff || middle === -0x10000) return bytes.subarray(12);
  const isSmall = bytes[12] === 0 && bytes[13] === 0 && bytes[14] === 0 && bytes[15]! <= 1;
  return middle === 0 && !isSmall ? bytes.subarray(12) : undefined;
}

function textKey(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}
