import type { VirtualHost } from "./host.ts";
import type { LinkOptions } from "./link.ts";
import type { NatBehavior, NatOptions } from "./nat.ts";
import type { GatewayOptions, VirtualGateway, VirtualNetwork } from "./network.ts";

/** The four kinds of NAT that RFC 3489 §5 names. */
export type NatType = "full cone" | "restricted cone" | "port restricted cone" | "symmetric";
/** What may lie between a host and the internet, in the words of RFC 3489 §10.1. */
export type ClassicType = "open" | NatType | "symmetric firewall" | "blocked";

/** RFC 3489's kinds of NAT in the words of RFC 4787. */
export const NAT_TYPES: Readonly<Record<NatType, { mapping: NatBehavior; filtering: NatBehavior }>> = {
  "full cone": { mapping: "endpoint-independent", filtering: "endpoint-independent" },
  "restricted cone": { mapping: "endpoint-independent", filtering: "address-dependent" },
  "port restricted cone": { mapping: "endpoint-independent", filtering: "address-and-port-dependent" },
  "symmetric": { mapping: "address-and-port-dependent", filtering: "address-and-port-dependent" },
};

/** A host and its way to the internet. */
export interface HostBehindOptions {
  /** The host's name; the gateway is named after it. */
  readonly name: string;
  /** What lies between. */
  readonly type: ClassicType;
  /** The address that the internet sees. */
  readonly external: string;
  /** The host's own address, where there is a NAT. Default: `192.168.1.2`. */
  readonly internal?: string;
  /** What to change of the NAT: `{ portAllocation: "sequential" }`, `{ tcp: "tls only" }`. */
  readonly nat?: Partial<NatOptions & Pick<GatewayOptions, "tcp">>;
  /** The links of host and gateway. Default: the world's. */
  readonly link?: LinkOptions;
}

/**
 * Puts a host behind a NAT of a classic kind, or behind a firewall, or into the open.
 *
 * @param network Where: the world, or the inside of a carrier's NAT.
 * @returns The host, and what lies between, which is `undefined` for `"open"`.
 */
export function addHostBehind(
  network: VirtualNetwork,
  { name, type, external, internal = "192.168.1.2", nat, link = {} }: HostBehindOptions,
): { readonly host: VirtualHost; readonly gateway: VirtualGateway | undefined } {
  if (type === "open") return { host: network.addHost(name, { addresses: [external], link }), gateway: undefined };
  if (type === "symmetric firewall") {
    const gateway = network.addFirewall(`${name}-firewall`, { link });
    return { host: gateway.addHost(name, { addresses: [external], link }), gateway };
  }
  // Nothing but UDP is blocked, so that there is a NAT for the rest.
  const udp = type === "blocked" ? "blocked" : "allowed";
  const rules = NAT_TYPES[type === "blocked" ? "port restricted cone" : type];
  const gateway = network.addNat(`${name}-nat`, { external: [external], ...rules, ...nat, udp, link });
  return { host: gateway.addHost(name, { addresses: [internal], link }), gateway };
}
