import type { AddressFamily, TransportAddress } from "../../address.ts";
import type { Random } from "../../machine.ts";
import { randomBelow } from "../../random.ts";

/** What a mapping or a filter depends on, of the endpoint outside (RFC 4787 §4.1 and §5). */
export type NatBehavior = "endpoint-independent" | "address-dependent" | "address-and-port-dependent";
/** How a NAT picks external ports. */
export type PortAllocation = "preserving" | "sequential" | "random";
/** What a NAT does with datagrams from inside to its own external addresses (RFC 4787 §6). */
export type Hairpinning = "external-source" | "internal-source" | "none";

/** How a gateway guards its inside: all there is to a firewall without translation. */
export interface FilterOptions {
  /**
   * Whose datagrams come in through a mapping: anyone's, those from addresses, or from addresses and ports, that were
   * sent to through it. Default: `"address-and-port-dependent"`.
   */
  readonly filtering?: NatBehavior;
  /**
   * How many milliseconds a mapping lasts after the last datagram out (RFC 4787 REQ-5), and in it the permission for each
   * endpoint that was sent to. Default: 120000.
   */
  readonly mappingLifetime?: number;
  /** Whether datagrams that come in make a mapping last as well (RFC 4787 REQ-6a). Default: `false`. */
  readonly inboundRefresh?: boolean;
  /** How TCP is treated. */
  readonly tcpRules?: TcpRules;
}

/** How a gateway treats TCP; the defaults are RFC 5382's, and the port is picked as for UDP. */
export interface TcpRules {
  /** What a mapping depends on besides the endpoint inside. Default: `"endpoint-independent"` (REQ-1). */
  readonly mapping?: NatBehavior;
  /**
   * Whose SYN comes in through a mapping, to begin a connection: anyone's, or that of an address, or endpoint, that a
   * connection was begun with from inside. Others are dropped without an answer. Default: `"address-and-port-dependent"`.
   */
  readonly filtering?: NatBehavior;
  /** How many milliseconds an open connection may be silent. Default: 7440000, 2 h 4 min (REQ-5). */
  readonly establishedLifetime?: number;
  /** The same for one that is being opened or closed. Default: 240000, 4 min (REQ-5). */
  readonly transitoryLifetime?: number;
}

/** How a NAT translates. The defaults are those of RFC 4787 with its strictest filter: a port restricted cone. */
export interface NatOptions extends FilterOptions {
  /**
   * The addresses outside. An address family with none is not translated but passed through a filter, as home routers do
   * with IPv6.
   */
  readonly external: readonly string[];
  /** What a mapping depends on besides the endpoint inside. Default: `"endpoint-independent"` (REQ-1). */
  readonly mapping?: NatBehavior;
  /**
   * How external ports are picked: `"preserving"` takes the internal port or the next free one above, `"sequential"` the
   * next one, `"random"` any. Default: `"preserving"`.
   */
  readonly portAllocation?: PortAllocation;
  /** What `"sequential"` adds each time. Default: 1. */
  readonly portStep?: number;
  /** The first and the last external port to use. Default: `[1024, 65535]`. */
  readonly portRange?: readonly [first: number, last: number];
  /**
   * With several external addresses: `"paired"` gives all mappings of one inside address the same, `"arbitrary"` picks one
   * for each mapping. Default: `"paired"` (REQ-2).
   */
  readonly pooling?: "paired" | "arbitrary";
  /**
   * Whether hosts inside reach each other by external addresses, and which source the receiver then sees. Default:
   * `"external-source"` (REQ-9a).
   */
  readonly hairpinning?: Hairpinning;
}

/** A mapping, as it is at the moment. */
export interface NatMapping {
  /** The endpoint inside. */
  readonly internal: TransportAddress;
  /** The endpoint that the outside sees. */
  readonly external: TransportAddress;
  /** When it ends, in virtual milliseconds, if nothing refreshes it. */
  readonly expiresAt: number;
}

/** Why something that came from outside does not go in. */
export type Refusal = "noRoute" | "unmapped" | "expired" | "filtered";

/**
 * The translation of one protocol in one gateway: pure, with the time passed in.
 *
 * Expired mappings stay until their port or their inside endpoint is needed again, so that a late datagram can be told
 * from one that never had a mapping.
 */
export class NatTable {
  /** How many mappings were ever made. */
  created = 0;
  readonly #options: Required<Omit<NatOptions, "external" | "hairpinning" | "tcpRules">>;
  #random: Random;
  #pools = new Map<number | string, Pool>();
  #families = new Set<AddressFamily>();
  #paired = new Map<number | string, Pool>();
  #nextPaired = 0;
  /** By the endpoint inside, then by what else the mapping depends on. */
  #byInternal = new Map<number | string, Map<number | string, Mapping>>();
  #forwarded = new Map<number | string, Mapping>();

  /**
   * @param options Checked by `checkNatOptions()`.
   * @param random Where ports and addresses are drawn from.
   */
  constructor(options: Omit<NatOptions, "external" | "hairpinning" | "tcpRules">, random: Random) {
    this.#options = {
      mapping: "endpoint-independent",
      filtering: "address-and-port-dependent",
      mappingLifetime: 120_000,
      inboundRefresh: false,
      portAllocation: "preserving",
      portStep: 1,
      portRange: [1024, 65535],
      pooling: "paired",
      ...options,
    };
    checkNatOptions(this.#options);
    this.#random = random;
  }

  /** Forgets everything and goes on with these external addresses. */
  reset(external: readonly TransportAddress[]): void {
    this.#pools = new Map(external.map((address) => [address.ipKey, new Pool(address)]));
    this.#families = new Set(external.map((address) => address.family));
    this.#paired.clear();
    this.#byInternal.clear();
    this.#forwarded.clear();
  }

  /** Whether addresses of this family are translated. */
  isTranslated(family: AddressFamily): boolean {
    return this.#families.has(family);
  }

  /** The mappings that are alive. */
  mappings(now: number): NatMapping[] {
    const alive: NatMapping[] = [...this.#forwarded.values()].filter(({ expiresAt }) => expiresAt > now);
    for (const remotes of this.#byInternal.values()) {
      for (const { internal, external, expiresAt } of remotes.values()) {
        if (expiresAt > now) alive.push({ internal, external, expiresAt });
      }
    }
    return alive;
  }

  /**
   * Maps an endpoint inside for everybody, whatever the NAT's behaviour is otherwise, until `until`; what it sends leaves
   * from there as well. Gives `undefined` if no port is free. A second call moves the end.
   *
   * @param port The external port to take if it is free.
   */
  forward(
    internal: TransportAddress,
    { port, until, now }: { port: number; until: number; now: number },
  ): NatMapping | undefined {
    const before = this.#forwarded.get(internal.key);
    if (before !== undefined && before.expiresAt > now) {
      before.expiresAt = until;
      return before;
    }
    const pool = this.#poolFor(internal);
    const holder = pool.mappings.get(port);
    const isOwn = holder !== undefined && holder.internal.equals(internal);
    const free = isOwn || this.#isFree(pool, port, now) ? port : this.#freePort(pool, internal.port, now);
    if (free === undefined) return undefined;
    if (isOwn) this.#forget(holder);
    const mapping = new Mapping(internal, pool.address.withPort(free));
    mapping.isForwarded = true;
    mapping.expiresAt = until;
    pool.mappings.set(free, mapping);
    this.#forwarded.set(internal.key, mapping);
    return mapping;
  }

  /** Ends what `forward()` has begun. */
  unforward(internal: TransportAddress): void {
    const mapping = this.#forwarded.get(internal.key);
    if (mapping !== undefined) this.#forget(mapping);
  }

  /** Takes note of a datagram out. Gives its source as the outside sees it, `undefined` if no port is free. */
  outbound(source: TransportAddress, destination: TransportAddress, now: number): TransportAddress | undefined {
    const { mapping: behavior, filtering, mappingLifetime } = this.#options;
    const forwarded = this.#forwarded.get(source.key);
    if (forwarded !== undefined && forwarded.expiresAt > now) return forwarded.external;
    const isTranslated = this.isTranslated(source.family);
    const remote = isTranslated ? keyFor(behavior, destination) : 0;
    let mapping = this.#byInternal.get(source.key)?.get(remote);
    if (mapping === undefined || mapping.expiresAt <= now) {
      if (mapping !== undefined) this.#forget(mapping);
      mapping = this.#create(source, isTranslated, now);
      if (mapping === undefined) return undefined;
      mapping.remote = remote;
      let remotes = this.#byInternal.get(source.key);
      if (remotes === undefined) this.#byInternal.set(source.key, remotes = new Map());
      remotes.set(remote, mapping);
    }
    mapping.expiresAt = now + mappingLifetime;
    if (filtering !== "endpoint-independent") {
      mapping.permitted.set(keyFor(filtering, destination), mapping.expiresAt);
    }
    return mapping.external;
  }

  /** Where inside a datagram from outside goes, or why it does not. */
  inbound(source: TransportAddress, destination: TransportAddress, now: number): TransportAddress | Refusal {
    const { filtering, inboundRefresh, mappingLifetime } = this.#options;
    const pool = this.#pools.get(destination.ipKey);
    const mapping = pool === undefined
      ? this.#byInternal.get(destination.key)?.get(0)
      : pool.mappings.get(destination.port);
    if (pool === undefined && this.isTranslated(destination.family)) return "noRoute";
    if (mapping === undefined) return pool === undefined ? "filtered" : "unmapped";
    if (mapping.expiresAt <= now) return "expired";
    if (mapping.isForwarded) return mapping.internal;
    const permission = keyFor(filtering, source);
    if (filtering !== "endpoint-independent") {
      const until = mapping.permitted.get(permission);
      if (until === undefined || until <= now) return "filtered";
    }
    if (inboundRefresh) {
      mapping.expiresAt = now + mappingLifetime;
      if (filtering !== "endpoint-independent") mapping.permitted.set(permission, mapping.expiresAt);
    }
    return mapping.internal;
  }

  /** Makes a mapping, and the permission for one endpoint in it, last until `until`; earlier ends count, too. */
  extend(mapping: { internal: TransportAddress; external: TransportAddress }, remote: TransportAddress, until: number) {
    const { internal, external } = mapping;
    const pool = this.#pools.get(external.ipKey);
    const found = pool === undefined ? this.#byInternal.get(internal.key)?.get(0) : pool.mappings.get(external.port);
    if (found?.internal.equals(internal) !== true) return;
    const { permitted } = found;
    if (this.#options.filtering !== "endpoint-independent") {
      permitted.set(keyFor(this.#options.filtering, remote), until);
    }
    found.expiresAt = permitted.size === 0 ? Math.max(found.expiresAt, until) : Math.max(...permitted.values());
  }

  #create(internal: TransportAddress, isTranslated: boolean, now: number): Mapping | undefined {
    if (!isTranslated) {
      this.created++;
      return new Mapping(internal, internal);
    }
    const pool = this.#poolFor(internal);
    const port = this.#freePort(pool, internal.port, now);
    if (port === undefined) return undefined;
    const mapping = new Mapping(internal, pool.address.withPort(port));
    pool.mappings.set(port, mapping);
    this.created++;
    return mapping;
  }

  #poolFor(internal: TransportAddress): Pool {
    const paired = this.#paired.get(internal.ipKey);
    if (paired !== undefined) return paired;
    const pools = [...this.#pools.values()].filter((pool) => pool.address.family === internal.family);
    if (this.#options.pooling === "arbitrary") return pools[randomBelow(this.#random, pools.length)]!;
    const pool = pools[this.#nextPaired++ % pools.length]!;
    this.#paired.set(internal.ipKey, pool);
    return pool;
  }

  #freePort(pool: Pool, internalPort: number, now: number): number | undefined {
    const { portAllocation, portStep } = this.#options;
    // REQ-3a: well-known ports are mapped to well-known ports.
    const isLow = portAllocation === "preserving" && internalPort < 1024;
    const [first, last] = isLow ? [1, 1023] : this.#options.portRange;
    const size = last - first + 1;
    const step = portAllocation === "sequential" ? portStep : 1;
    let at = 0;
    if (portAllocation === "random") at = randomBelow(this.#random, size);
    else if (portAllocation === "sequential") at = pool.nextIndex % size;
    else if (internalPort >= first && internalPort <= last) at = internalPort - first;
    // A step that shares a factor with the size does not come by every port; the last pass does.
    for (let tries = 0; tries < 2 * size; tries++) {
      const port = first + at;
      if (this.#isFree(pool, port, now)) {
        if (portAllocation === "sequential") pool.nextIndex = at + portStep;
        return port;
      }
      at = (at + (tries < size ? step : 1)) % size;
    }
    return undefined;
  }

  #isFree(pool: Pool, port: number, now: number): boolean {
    const mapping = pool.mappings.get(port);
    if (mapping === undefined) return true;
    if (mapping.expiresAt > now) return false;
    this.#forget(mapping);
    return true;
  }

  #forget(mapping: Mapping): void {
    this.#pools.get(mapping.external.ipKey)?.mappings.delete(mapping.external.port);
    if (mapping.isForwarded) return void this.#forwarded.delete(mapping.internal.key);
    const remotes = this.#byInternal.get(mapping.internal.key);
    remotes?.delete(mapping.remote);
    if (remotes?.size === 0) this.#byInternal.delete(mapping.internal.key);
  }
}

class Mapping implements NatMapping {
  readonly internal: TransportAddress;
  readonly external: TransportAddress;
  /** What it depends on besides `internal`. */
  remote: number | string = 0;
  /** Whether it was asked for by `forward()`. */
  isForwarded = false;
  expiresAt = 0;
  /** Who may send in, and until when. */
  readonly permitted: Map<number | string, number> = new Map();

  constructor(internal: TransportAddress, external: TransportAddress) {
    this.internal = internal;
    this.external = external;
  }
}

/** One external address and its ports. */
class Pool {
  readonly address: TransportAddress;
  readonly mappings: Map<number, Mapping> = new Map();
  nextIndex = 0;

  constructor(address: TransportAddress) {
    this.address = address;
  }
}

function keyFor(behavior: NatBehavior, remote: TransportAddress): number | string {
  if (behavior === "endpoint-independent") return 0;
  return behavior === "address-dependent" ? remote.ipKey : remote.key;
}

function checkNatOptions(
  { mappingLifetime, portStep, portRange }: Required<Omit<NatOptions, "external" | "hairpinning" | "tcpRules">>,
) {
  if (!(mappingLifetime > 0)) {
    throw new RangeError(`Cannot use mappingLifetime as it must be above 0 ms: current value is ${mappingLifetime}`);
  }
  if (!Number.isInteger(portStep) || portStep < 1) {
    throw new RangeError(`Cannot use portStep as it must be a whole number from 1: current value is ${portStep}`);
  }
  const [first, last] = portRange;
  if (!Number.isInteger(first) || !Number.isInteger(last) || first < 1 || last > 65535 || first > last) {
    throw new RangeError(
      `Cannot use portRange as it must be two ports, the lower first: current value is ${portRange}`,
    );
  }
}
