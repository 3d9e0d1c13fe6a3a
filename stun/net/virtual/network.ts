import { TransportAddress } from "../../address.ts";
import { GatewayCore } from "./_gateway.ts";
import { TcpNatTable } from "./_tcp_nat.ts";
import type { Segment, Wire } from "./_wire.ts";
import { type InterfaceOptions, VirtualHost, type VirtualInterface } from "./host.ts";
import { type LinkOptions, VirtualLink } from "./link.ts";
import { type FilterOptions, type NatMapping, type NatOptions, NatTable } from "./nat.ts";
import type { VirtualCounters } from "./trace.ts";

/** What a gateway has besides its rules. */
export interface GatewayOptions {
  /** The link to the network outside. Default: the world's. */
  readonly link?: LinkOptions;
  /** Whether UDP gets through at all. Default: `"allowed"`. */
  readonly udp?: "allowed" | "blocked";
  /** Whether TCP gets through: `"tls only"` lets out what goes to port 443, and nothing else. Default: `"allowed"`. */
  readonly tcp?: "allowed" | "tls only" | "blocked";
}

/**
 * A network: hosts and gateways with addresses that are unique in it. There is the public internet, which the world is, and
 * the inside of each gateway.
 */
export class VirtualNetwork {
  #wire: Wire;
  #segment: Segment;
  #link: LinkOptions;

  /** @internal */
  constructor(wire: Wire, segment: Segment, link: LinkOptions) {
    this.#wire = wire;
    this.#segment = segment;
    this.#link = link;
  }

  /**
   * Puts a host into this network.
   *
   * @param name Unique in the world. It also names the host's randomness.
   * @throws {Error} If the name or an address is taken.
   */
  addHost(name: string, options: InterfaceOptions): VirtualHost {
    return this.#wire.register(name, () => {
      const host = new VirtualHost(this.#wire, name);
      this.join(host, options);
      return host;
    });
  }

  /**
   * Gives a host, wherever it is so far, one more interface, which is in this network. Which one a datagram leaves by is
   * told by the address its socket is bound to.
   *
   * @throws {Error} If an address is taken.
   */
  join(host: VirtualHost, options: InterfaceOptions): VirtualInterface {
    return host.join(this.#segment, { ...options, link: { ...this.#link, ...options.link } });
  }

  /**
   * Puts a NAT into this network, with a network of its own inside. NATs can be nested, as behind a carrier's NAT.
   *
   * @param name Unique in the world.
   * @throws {Error} If the name or an external address is taken.
   */
  addNat(name: string, options: NatOptions & GatewayOptions): VirtualGateway {
    const place = { outside: this.#segment, defaultLink: this.#link };
    return this.#wire.register(name, () => new VirtualGateway(this.#wire, name, { ...options, ...place }));
  }

  /**
   * Puts a stateful firewall into this network: hosts inside have addresses of the network outside, and nothing comes in
   * but answers.
   *
   * @param name Unique in the world.
   * @throws {Error} If the name is taken.
   */
  addFirewall(name: string, options: FilterOptions & GatewayOptions = {}): VirtualGateway {
    return this.addNat(name, { ...options, external: [] });
  }
}

/** @internal */
interface Place {
  readonly outside: Segment;
  readonly defaultLink: LinkOptions;
}

/** A NAT or a firewall, and the network inside. Made by `addNat()` and `addFirewall()`. */
export class VirtualGateway extends VirtualNetwork {
  /** The name, unique in its world. */
  readonly name: string;
  /** The link to the network outside. */
  readonly link: VirtualLink;
  /** What became of datagrams here. */
  readonly counters: VirtualCounters;
  #wire: Wire;
  #core: GatewayCore;

  /** @internal */
  constructor(wire: Wire, name: string, options: NatOptions & GatewayOptions & Place) {
    const { external, hairpinning, link, udp, tcp, outside, defaultLink, ...rules } = options;
    const core = new GatewayCore(wire, name, {
      outside,
      table: new NatTable(rules, wire.random(`nat/${name}`)),
      tcpTable: new TcpNatTable(rules, wire.random(`nat/${name}/tcp`)),
      hairpinning: hairpinning ?? "external-source",
    });
    super(wire, core.inside, defaultLink);
    this.#wire = wire;
    this.#core = core;
    this.name = name;
    this.counters = core.counters;
    this.link = core.link = new VirtualLink(wire, core, { name, link: { ...defaultLink, ...link } });
    core.isUdpBlocked = udp === "blocked";
    core.tcp = tcp ?? "allowed";
    core.outside.set(external);
    this.reset();
  }

  /** The addresses outside; none for a firewall. */
  get external(): readonly string[] {
    return this.#core.outside.addresses.map(({ address }) => address);
  }

  /**
   * Changes the addresses outside, as when a line comes up again. All mappings end.
   *
   * @throws {Error} If an address is taken, or there were none of its family so far, or there would be none any more.
   */
  setExternal(external: readonly string[]): void {
    const families = (addresses: readonly string[]) =>
      [...new Set(addresses.map((address) => address.includes(":") ? "IPv6" : "IPv4"))].sort().join(" and ");
    if (families(external) !== families(this.external)) {
      throw new Error(
        `Cannot change external addresses of "${this.name}" as their families must stay: ` +
          `current families are ${families(this.external) || "none"}`,
      );
    }
    this.#core.outside.set(external);
    this.reset();
  }

  /** Ends all mappings, and forgets all connections, as when the device is started anew. */
  reset(): void {
    this.#core.table.reset(this.#core.outside.addresses);
    this.#core.tcpTable.reset(this.#core.outside.addresses);
  }

  /**
   * Maps an external UDP port to an endpoint inside, as by hand or at the request of a host inside: whoever sends to it gets
   * through, and what comes from inside has it as source.
   *
   * @param internal The endpoint inside, as `192.168.1.2:5000`.
   * @param options The port to take if it is free, by default the same as inside, and how many virtual ms it lasts, by
   * default for ever. A second call for the same endpoint changes how long.
   * @returns The mapping; `undefined` if no port is free.
   */
  forward(
    internal: TransportAddress | string,
    options: { readonly port?: number; readonly lifetime?: number } = {},
  ): NatMapping | undefined {
    const { now } = this.#wire.queue;
    const endpoint = typeof internal === "string" ? TransportAddress.parse(internal) : internal;
    const { port = endpoint.port, lifetime = Infinity } = options;
    return this.#core.table.forward(endpoint, { port, until: now + lifetime, now });
  }

  /** Ends what `forward()` has begun. */
  unforward(internal: TransportAddress | string): void {
    this.#core.table.unforward(typeof internal === "string" ? TransportAddress.parse(internal) : internal);
  }

  /** Whether UDP gets through at all. May be changed at any time. */
  get udp(): "allowed" | "blocked" {
    return this.#core.isUdpBlocked ? "blocked" : "allowed";
  }

  set udp(udp: "allowed" | "blocked") {
    this.#core.isUdpBlocked = udp === "blocked";
  }

  /** Whether TCP gets through. May be changed at any time. */
  get tcp(): "allowed" | "tls only" | "blocked" {
    return this.#core.tcp;
  }

  set tcp(tcp: "allowed" | "tls only" | "blocked") {
    this.#core.tcp = tcp;
  }

  /** TCP's mappings that are alive. */
  get tcpMappings(): readonly NatMapping[] {
    return this.#core.tcpTable.table.mappings(this.#wire.queue.now);
  }

  /** UDP's mappings that are alive. A firewall's have the same address on both sides. */
  get mappings(): readonly NatMapping[] {
    return this.#core.table.mappings(this.#wire.queue.now);
  }

  /** How many mappings of UDP there ever were. */
  get mappingsCreated(): number {
    return this.#core.table.created;
  }
}
