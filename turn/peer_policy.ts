import type { TransportAddress } from "../stun/address.ts";
import { type AddressRange, addressRanges, contains, hasPrefix } from "./_address_ranges.ts";

/**
 * Options of a `PeerPolicy`. Ranges are CIDR (`10.0.0.0/8`) or single addresses, with all ports or some:
 * `10.0.0.0/8:5000-6000`, `[2001:db8::/32]:53`.
 */
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

/** Not global unicast, by IANA's special-purpose registries; 240/4 has the broadcast address. */
const SPECIAL_IPV4 = addressRanges([
  ...["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"],
  ...["192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"],
  ...["224.0.0.0/4", "240.0.0.0/4"],
]);
/** All that is global unicast in IPv6 lies in here... */
const GLOBAL_IPV6 = addressRanges(["2000::/3"]);
/** ...but for these: protocol assignments with Teredo and ORCHID, documentation, 6to4, the former 6bone. */
const SPECIAL_IPV6 = addressRanges(["2001::/23", "2001:db8::/32", "2002::/16", "3ffe::/16", "3fff::/20"]);
/** NAT64's well-known prefix (RFC 6052 §2.1): what is reached is the IPv4 address in the last 32 bits. */
const NAT64 = addressRanges(["64:ff9b::/96"]);
/** RFC 8656 §21.4: "a TURN server MUST NOT accept Teredo or 6to4 addresses in these requests". */
const TUNNELS = addressRanges(["2001::/32", "2002::/16"]);
const LOOPBACK = addressRanges(["127.0.0.0/8", "::1"]);

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
  #allow: readonly AddressRange[];
  #deny: readonly AddressRange[];
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
    this.#allow = addressRanges(options.allow ?? []);
    this.#deny = addressRanges(options.deny ?? []);
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
    return this.#isListener(peer) ? "refused" : this.#judge(peer, peer.port);
  }

  /**
   * What the policy says about a peer's IP address for a permission, which is for all ports: whether there is a port that
   * is good. What is sent is judged with its port again.
   */
  judgeAddress(peer: TransportAddress): PeerVerdict {
    return this.#judge(peer, undefined);
  }

  #judge(peer: TransportAddress, port: number | undefined): PeerVerdict {
    const bytes = disguised(peer.bytes) ?? peer.bytes;
    // Who sends to the unspecified address reaches the host itself, by a name that no range of its own covers.
    if (bytes.every((byte) => byte === 0)) return "refused";
    if (contains(this.#deny, peer.bytes, port) || contains(this.#deny, bytes, port)) return "refused";
    if (contains(this.#allow, peer.bytes, port, true) || contains(this.#allow, bytes, port, true)) return "allowed";
    // Through a translator the way to a relay address of our own would be another one than clients expect.
    if (bytes === peer.bytes && this.#relays.has(textKey(bytes))) return "relay";
    if (this.#own.has(textKey(bytes))) return "refused";
    return isGlobal(peer.bytes) ? "allowed" : "refused";
  }

  /** Whether a client's address is a tunnel's end, from which no request may be accepted (RFC 8656 §21.4). */
  isTunnel(client: TransportAddress): boolean {
    return contains(TUNNELS, client.bytes, undefined) && !contains(this.#allow, client.bytes, client.port);
  }

  #isListener(peer: TransportAddress): boolean {
    const bytes = disguised(peer.bytes) ?? peer.bytes;
    const key = textKey(bytes);
    if (this.#listeners.has(`${peer.port} ${key}`)) return true;
    return this.#everywhere.has(peer.port) && (this.#own.has(key) || contains(LOOPBACK, bytes, undefined));
  }
}

function isGlobal(bytes: Uint8Array): boolean {
  if (bytes.length === 4) return !contains(SPECIAL_IPV4, bytes, undefined);
  // The other disguises are no way to reach anything: mapped and compatible addresses are never on a wire.
  if (contains(NAT64, bytes, undefined)) return isGlobal(bytes.subarray(12));
  return contains(GLOBAL_IPV6, bytes, undefined) && !contains(SPECIAL_IPV6, bytes, undefined);
}

/** The IPv4 address that an IPv6 address stands for, if it does. */
function disguised(bytes: Uint8Array): Uint8Array | undefined {
  if (bytes.length === 4) return undefined;
  if (bytes[0] === 0x20 && bytes[1] === 0x02) return bytes.subarray(2, 6);
  // Teredo (RFC 4380 §4): the client's address with all bits inverted.
  if (hasPrefix(TUNNELS[0]!.bytes, bytes, 32)) return bytes.slice(12).map((byte) => byte ^ 0xff);
  if (contains(NAT64, bytes, undefined)) return bytes.subarray(12);
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
