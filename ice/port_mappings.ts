import { TransportAddress } from "../stun/address.ts";
import type { SocketId } from "../stun/machine.ts";
import type { Driver, MachineHandle } from "../stun/net/driver.ts";
import { type HostTimer, OpenError } from "../stun/net/transport.ts";
import type { IceAgent } from "./agent.ts";
import { isLoopback, isPrivate } from "./candidate.ts";
import type { GatheringError, IceEvent } from "./events.ts";
import type { PortMappingOptions } from "./port_mapping_options.ts";
import { UpnpMappings } from "./upnp_mappings.ts";
import { type PortMapEvent, PortMapper } from "./port_mapper.ts";

/** What port mappings need of whoever gathers. */
export interface PortMappingsOwner {
  /** Where the agent is. */
  readonly driver: Driver;
  /** The agent. */
  readonly agent: IceAgent;
  /** The agent's handle. */
  readonly handle: MachineHandle<IceEvent>;
  /** Is told why there is no mapping. */
  report(event: GatheringError): void;
}

/** What was asked for, and what came of it. */
interface Asked {
  readonly internal: TransportAddress;
  readonly done: PromiseWithResolvers<boolean>;
  external?: TransportAddress;
  isUpnp?: boolean;
}

/** UPnP is asked when nothing else has answered after so many ms. */
const UPNP_AFTER = 500;
/** For how many sockets a router is asked. */
const MAX_PORTS = 16;

/** An agent's ports on its router (RFC 6887, RFC 6886, UPnP): one for each socket at a private IPv4 address. */
export class PortMappings {
  readonly #owner: PortMappingsOwner;
  readonly #options: PortMappingOptions;
  readonly #mapper = new PortMapper();
  readonly #handle: MachineHandle<PortMapEvent>;
  /** By IP address, for the requests. */
  readonly #sockets = new Map<string, SocketId>();
  /** By the endpoint inside: what was asked for, and what came of it. */
  readonly #asked = new Map<number | string, Asked>();
  readonly #upnp: UpnpMappings | undefined;
  #timers: HostTimer[] = [];
  #gateway: TransportAddress | undefined;
  #isClosed = false;

  /** Asks for nothing yet. */
  constructor(owner: PortMappingsOwner, options: PortMappingOptions) {
    this.#owner = owner;
    this.#options = options;
    this.#upnp = options.upnp === undefined ? undefined : new UpnpMappings(options.upnp, owner.driver.host);
    this.#handle = owner.driver.add(this.#mapper, { onEvent: (event) => this.#handleEvent(event) });
  }

  /** Asks for what is not asked for yet. Resolves when all are answered: with whether there is a mapping. */
  async find(): Promise<boolean> {
    // Another network has another router.
    this.#gateway = await this.#findGateway().catch(() => undefined);
    if (this.#isClosed) return false;
    const wanted = this.#wanted();
    this.#forgetOthers(wanted);
    for (const internal of wanted) this.#map(internal);
    const found = await Promise.all(wanted.map(({ key }) => this.#asked.get(key)?.done.promise));
    return found.includes(true);
  }

  /** Gives all mappings back; takes 1.5 s at most. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const timer of this.#timers) timer.set(Infinity);
    this.#handle.call((io) => this.#mapper.close(io));
    for (const { done } of this.#asked.values()) done.resolve(false);
    await this.#upnp?.close();
  }

  async #findGateway(): Promise<TransportAddress | undefined> {
    const { host } = this.#owner.driver;
    const text = this.#options.gateway ?? await host.gateway?.().catch(() => undefined);
    if (text !== undefined) return TransportAddress.of(text, 0);
    if (this.#upnp !== undefined) return undefined;
    this.#report(
      "router",
      "Cannot ask the router for ports as its address is not known: name it, as portMapping: { gateway }",
    );
    return undefined;
  }

  #wanted(): TransportAddress[] {
    const hosts = this.#owner.agent.localCandidates.filter(({ type, protocol }) =>
      type === "host" && protocol === "udp"
    );
    const fit = hosts.map(({ base }) => base).filter((base) =>
      base.family === 4 && isPrivate(base) && !isLoopback(base)
    );
    return fit.slice(0, MAX_PORTS);
  }

  /** Gives back what was for sockets that are gone with their addresses. */
  #forgetOthers(wanted: readonly TransportAddress[]): void {
    for (const [key, { internal, done }] of this.#asked) {
      if (wanted.some((one) => one.key === key)) continue;
      this.#asked.delete(key);
      done.resolve(false);
      this.#handle.call((io) => this.#mapper.unmap(internal, io));
    }
    for (const [address, socket] of this.#sockets) {
      if (wanted.some((one) => one.address === address)) continue;
      this.#sockets.delete(address);
      this.#handle.call((io) => io.close(socket));
    }
  }

  #map(internal: TransportAddress): void {
    const known = this.#asked.get(internal.key);
    // After a restart the same one is told again.
    if (known?.external !== undefined) this.#tell(internal, known.external);
    if (known !== undefined) return;
    const gateway = this.#gateway;
    if (gateway === undefined && this.#upnp === undefined) return;
    const done = Promise.withResolvers<boolean>();
    this.#asked.set(internal.key, { internal, done });
    if (gateway === undefined) return void this.#askUpnp(internal);
    if (this.#upnp !== undefined) this.#after(UPNP_AFTER, () => void this.#askUpnp(internal));
    try {
      const socket = this.#socketAt(internal.address);
      this.#handle.call((io) => this.#mapper.map({ internal, socket, gateway }, io));
    } catch (error) {
      if (!(error instanceof OpenError)) throw error;
      done.resolve(false);
      this.#report(gateway.address, error.message);
    }
  }

  /** Asks by UPnP, if there is no port by another way, and it was not done before. */
  async #askUpnp(internal: TransportAddress): Promise<void> {
    const asked = this.#asked.get(internal.key);
    if (this.#upnp === undefined || asked === undefined || asked.external !== undefined || asked.isUpnp === true) {
      return;
    }
    asked.isUpnp = true;
    try {
      const external = await this.#upnp.map(internal);
      this.#take(internal, external, "UPnP");
    } catch (error) {
      if (this.#isClosed) return;
      this.#report("UPnP", `No port for ${internal}: ${(error as Error).message}`);
      asked.done.resolve(false);
    }
  }

  #after(ms: number, work: () => void): void {
    const { host } = this.#owner.driver;
    const timer = host.createTimer(work);
    timer.set(host.now() + ms);
    this.#timers.push(timer);
  }

  /** One socket for all ports of an address: the router gives ports to whoever asks. */
  #socketAt(address: string): SocketId {
    const known = this.#sockets.get(address);
    if (known !== undefined) return known;
    const { socket } = this.#handle.bind({ transport: "udp", address, port: 0 });
    this.#sockets.set(address, socket);
    return socket;
  }

  #handleEvent(event: PortMapEvent): void {
    const asked = this.#asked.get(event.internal.key);
    if (asked === undefined || this.#isClosed) return;
    if (event.type === "mapped") return this.#take(event.internal, event.external, String(this.#gateway?.address));
    this.#report(String(this.#gateway?.address), `No port for ${event.internal}: ${event.text}`);
    if (asked.isUpnp === true) return;
    if (this.#upnp !== undefined && asked.external === undefined) return void this.#askUpnp(event.internal);
    this.#asked.delete(event.internal.key);
    asked.done.resolve(false);
  }

  #take(internal: TransportAddress, external: TransportAddress, by: string): void {
    const asked = this.#asked.get(internal.key);
    if (asked === undefined || this.#isClosed) return;
    asked.external = external;
    // Another NAT lies beyond: the Internet does not know the address.
    if (isPrivate(external)) {
      this.#report(
        by,
        `The port for ${internal} is of no use as the router has a private address outside, ${external}`,
      );
    } else this.#tell(internal, external);
    asked.done.resolve(!isPrivate(external));
  }

  #tell(internal: TransportAddress, external: TransportAddress): void {
    const { agent, handle } = this.#owner;
    if (isPrivate(external)) return;
    handle.call((io) => agent.addMapped(internal, external, this.#gateway ?? external, io));
  }

  #report(url: string, text: string): void {
    this.#owner.report({ type: "gathering-error", url: `port mapping by ${url}`, text });
  }
}
