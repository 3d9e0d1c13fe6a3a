import type { TlsClientOptions } from "../stun/machine.ts";
import type { AddressRule } from "./address_rules.ts";
import type { PortMappingOptions } from "./port_mapping_options.ts";
import type { LocalInterface } from "../stun/net/transport.ts";

/** A TURN server, named as browsers do. */
export interface IceTurnServer {
  /** One or several URIs of it: `turn:HOST[:PORT][?transport=tcp]`, `turns:` for TLS, with `?transport=udp` DTLS. Best first. */
  readonly urls: string | readonly string[];
  /** The user name. */
  readonly username?: string;
  /** The password. */
  readonly credential?: string;
  /** How to use TLS. Default: for the name in the URI, trusting the usual authorities. */
  readonly tls?: TlsClientOptions;
  /**
   * Whether a relay is to be taken along when the network changes (RFC 8016): its address stays, and the pair in use with
   * it. A server that forbids it costs a round trip more. Default: no, and another relay is asked for.
   */
  readonly mobility?: boolean;
}

/** Where candidates come from. */
export interface GatherOptions {
  /** STUN servers, as `stun:stun.example.org:3478`. Default: none. TURN servers are asked as well. */
  readonly stunServers?: readonly string[];
  /** TURN servers. Default: none. */
  readonly turnServers?: readonly IceTurnServer[];
  /** `"relay"` uses relayed candidates only, so that the peer learns no address of ours. Default: `"all"`. */
  readonly policy?: "all" | "relay";
  /**
   * The local IP addresses to use, as `192.0.2.1`, or with a port, as `192.0.2.1:5000`. Default: those of all interfaces,
   * without loopback (unless there is nothing else) and IPv6 link-local ones.
   */
  readonly bind?: readonly string[];
  /**
   * Whether to use an address of an interface at all: no socket is bound to one that is refused, neither for candidates nor
   * towards STUN and TURN servers over UDP; a connection to a TURN server that leaves from there is closed. Must not throw.
   * Default: all of them.
   *
   * @example Without the virtual private network
   * ```ts
   * import { openIce } from "@natkit/natkit/ice";
   *
   * await using connection = openIce({ interfaceFilter: ({ name }) => !name.startsWith("tun") });
   * ```
   */
  readonly interfaceFilter?: (address: LocalInterface) => boolean;
  /** `4` or `6`: use addresses and servers of this IP version only. Default: both. */
  readonly ipVersion?: 4 | 6;
  /**
   * Names in place of addresses, by multicast DNS on the local links (draft-ietf-rtcweb-mdns-ice-candidates): `"resolve"`
   * looks up those that the peer has, as browsers do by default; `"hide"` also gives our host addresses such names, and no
   * candidate tells them; `"off"` ignores candidates with names. Port 5353 is opened when the first name needs it.
   * Default: `"resolve"`.
   */
  readonly mdns?: "off" | "resolve" | "hide";
  /**
   * TCP candidates (RFC 6544), for networks that block UDP:
   *
   * - `"active"` makes connections to a peer that listens. It costs nothing if there is none: what browsers do.
   * - `"passive"` listens for connections on a port of each address, so that browsers behind such a network get through to
   *   a host that they can reach.
   * - `"both"` is both; where the host can leave from a port of its choice, also simultaneous open of public addresses,
   *   which gets through two firewalls.
   *
   * A direct path over UDP is used before one over TCP, and that before a relay. Default: `"active"`.
   */
  readonly tcp?: "none" | "active" | "passive" | "both";
  /**
   * Whether to ask the router for ports, by PCP (RFC 6887) or NAT-PMP (RFC 6886): one more server-reflexive candidate, which
   * everybody reaches even behind a symmetric NAT. The ports are given back when the connection is closed. Gathering waits
   * 1.5 s at most for a router that does not answer. IPv4. Default: no, since it opens ports.
   */
  readonly portMapping?: boolean | PortMappingOptions;
  /**
   * The UDP ports to bind for host candidates, and the TCP ports to listen on: the first and the last one, 1 to 65535. They
   * are tried from a random one on, each once. A port in `bind` stands above it. Default: the host chooses.
   */
  readonly portRange?: readonly [min: number, max: number];
  /**
   * By which addresses others know ours, where that is known without asking.
   *
   * @example A server in a cloud
   * ```ts
   * import { openIce } from "@natkit/natkit/ice";
   *
   * await using connection = openIce({ addressRules: [{ from: "10.0.0.0/8", to: "203.0.113.9" }] });
   * ```
   */
  readonly addressRules?: readonly AddressRule[];
}
