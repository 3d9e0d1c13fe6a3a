import type { TransportAddress } from "../stun/address.ts";
import type { Driver, MachineHandle } from "../stun/net/driver.ts";
import type { Host, HostTimer } from "../stun/net/transport.ts";
import { findServers, type ServerEndpoint } from "../stun/resolve.ts";
import type { StunUri } from "../stun/uri.ts";
import type { SocketId, TlsClientOptions } from "../stun/machine.ts";
import type { IceAgent } from "./agent.ts";
import type { GatheringError, IceEvent } from "./events.ts";
import { GatheringRound, type GatheringTask } from "./gathering_round.ts";
import type { GatherOptions } from "./gather_options.ts";
import { portsToTry } from "./host_addresses.ts";
import { type AddressChange, Hosts } from "./hosts.ts";
import { MdnsClient } from "./mdns_service.ts";
import { PortMappings } from "./port_mappings.ts";
import { Relays, type TurnUrl } from "./relays.ts";

/** How long unused relays are kept after the nomination, in ms (RFC 8445 §8.3.1). */
const FREE_AFTER = 3000;

/** What has changed on the host since sockets were bound. */
export interface NetworkChange extends AddressChange {
  /** Whether there is no address left to be used. */
  readonly isOffline: boolean;
  /** Whether what is new makes candidates of its own: not so with relays only. */
  readonly offersMore: boolean;
  /** Whether the pair that data goes along is gone with its address. */
  readonly losesSelected: boolean;
}

/** Gives an agent its sockets: one for each local address, one for each TURN server and IP version. */
export class Gatherer {
  #driver: Driver;
  #agent: IceAgent;
  #handle: MachineHandle<IceEvent>;
  #options: GatherOptions;
  #report: (event: GatheringError) => void;
  #relays: Relays;
  #mdns: MdnsClient;
  #mappings: PortMappings | undefined;
  #timers: HostTimer[] = [];
  #hosts: Hosts;
  #isClosed = false;
  /** Counts the restarts. */
  #generation = 0;

  /**
   * A gatherer that has not begun.
   *
   * @param driver Where the agent is, and its relays will be.
   * @param agent The agent.
   * @param context The agent's handle, the options, and who is told which server gave nothing.
   * @throws {SyntaxError} If an address in `bind` is none.
   * @throws {RangeError} If an address in `bind` stands for all, or `portRange` is none.
   */
  constructor(driver: Driver, agent: IceAgent, context: {
    readonly handle: MachineHandle<IceEvent>;
    readonly options: GatherOptions;
    readonly report: (event: GatheringError) => void;
  }) {
    const { handle, options, report } = context;
    this.#driver = driver;
    this.#agent = agent;
    this.#handle = handle;
    this.#options = options;
    this.#report = report;
    if (options.portRange !== undefined) portsToTry(options.portRange, 0);
    this.#mdns = new MdnsClient(this.#host, (text) => report({ type: "gathering-error", url: "mdns", text }));
    const hosts = this.#hosts = new Hosts({
      ...{ host: driver.host, agent, handle, options, report },
      nameOf: (address) => this.#nameOf(address),
    });
    const { portMapping = false, policy } = options;
    if (portMapping !== false && policy !== "relay" && !agent.isLite) {
      const named = portMapping === true ? {} : portMapping;
      this.#mappings = new PortMappings({ driver, agent, handle, report }, named);
    }
    const isFiltered = options.bind !== undefined || options.interfaceFilter !== undefined;
    this.#relays = new Relays({
      driver,
      agent,
      handle,
      report,
      hidesMapped: options.policy === "relay" || options.mdns === "hide",
      isFiltered,
      get addresses() {
        return hosts.addresses;
      },
    });
  }

  /** Binds the host candidates at once, then asks the servers. Ends within 5 s, and never fails. */
  async start(): Promise<void> {
    this.#hosts.bindNew();
    await this.#askServers();
  }

  /** Looks what has changed on the host since sockets were bound. Changes nothing. */
  survey(): NetworkChange {
    const change = this.#hosts.survey();
    const selected = this.#agent.selectedPair?.base.socket;
    const lost = [...this.#hosts.socketsOf(change.lost), ...this.#relays.socketsOf(change.lost)];
    const offersMore = change.gained.length > 0 && this.#options.policy !== "relay";
    return { ...change, offersMore, losesSelected: selected !== undefined && lost.includes(selected) };
  }

  /** Takes in what has changed without a restart: what is gone is closed, what is new is used if it may still be told. */
  adapt(): void {
    const sockets = this.#forgetLost();
    this.#handle.call((io) => {
      for (const socket of sockets) this.#agent.removeSocket(socket, io);
      for (const socket of sockets) io.close(socket);
    });
    if (!this.#agent.isGatheringDone) this.#hosts.bindNew();
  }

  /** Restarts ICE with the addresses that there are now. The servers are asked again by the event that follows. */
  restart(): void {
    const without = this.#forgetLost();
    this.#handle.call((io) => {
      this.#agent.restart(io, { without });
      for (const socket of without) io.close(socket);
      this.#hosts.bindNew();
    });
  }

  async #askServers(): Promise<void> {
    const { policy = "all" } = this.#options;
    const { stunServers = [], turnServers = [] } = this.#agent.isLite ? {} : this.#options;
    const generation = ++this.#generation;
    const turns = turnServers.flatMap(({ urls, ...server }) => [urls].flat().map((url) => ({ url, ...server })));
    const hasten = (ms: number) => this.#handle.call((io) => this.#agent.expectAnswersWithin(ms, io));
    const round = new Round(this.#host, hasten);
    for (const url of stunServers) {
      this.#forEachServer(round, { url, schemes: ["stun"] }, ({ address }) => this.#askStun(address, url));
    }
    turns.forEach((turn, index) => {
      const { url, tls } = turn;
      this.#forEachServer(round, { url, schemes: ["turn", "turns"], ...(tls && { tls }) }, (endpoint) => {
        // A TURN server is a STUN server, too (RFC 8445 §5.1.1.2).
        if (policy === "all" && endpoint.transport === "udp") this.#askStun(endpoint.address, url);
        if (policy === "all" && endpoint.transport === "tcp") {
          this.#handle.call((io) => this.#agent.addTcpStunServer(endpoint.address, io));
        }
        this.#allocate(round, endpoint, { turn, rank: 2 * index + (endpoint.address.family === 6 ? 0 : 1) });
      });
    });
    if (this.#mappings !== undefined) {
      const mappings = this.#mappings;
      round.wait("mapping", async () => {
        await mappings.find();
        // How long a router takes says nothing about servers.
        return false;
      });
    }
    this.#timers.push(round.timer);
    round.arm();
    await round.over;
    if (this.#isClosed || generation !== this.#generation) return;
    this.#handle.call((io) => this.#agent.endOfLocalCandidates(io));
  }

  /** Looks after relays, which are given back when they are of no use any more, and gathers anew after a restart. */
  handleEvent(event: IceEvent): void {
    this.#relays.handleEvent(event);
    if (event.type === "lookup") this.#lookUp(event.name);
    if (event.type === "nominated") {
      const generation = this.#generation;
      this.#after(FREE_AFTER, () => {
        if (generation === this.#generation) this.#relays.freeUnused();
      });
    } else if (event.type === "restart") {
      // The peer's restarts are as good as ours to make use of what is new.
      this.adapt();
      this.#askServers();
    }
  }

  /** Gives all allocations back; takes up to 1.5 s if a server is silent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const timer of this.#timers) timer.set(Infinity);
    await Promise.all([this.#relays.close(), this.#mdns.close(), this.#mappings?.close()]);
  }

  #lookUp(name: string): void {
    this.#mdns.resolve(name, this.#hosts.addresses, (address) => {
      this.#handle.call((io) => this.#agent.handleLookup(name, address, io));
    });
  }

  get #host(): Host {
    return this.#driver.host;
  }

  /** The sockets of what is gone. With no address left they are kept: the same may come back. */
  #forgetLost(): SocketId[] {
    const { lost, isOffline } = this.#hosts.survey();
    if (isOffline) return [];
    const hosts = this.#hosts.refresh(lost);
    return [...hosts, ...this.#relays.leave(lost)];
  }

  /** What hides an address of ours. */
  #nameOf(address: TransportAddress): string | undefined {
    return this.#options.mdns === "hide" ? this.#mdns.nameOf(address) : undefined;
  }

  /** Finds a server, with one address of each IP version, and does with each what is to be done. */
  async #forEachServer(
    round: Round,
    { url, ...options }: {
      readonly url: string;
      readonly schemes: readonly StunUri["scheme"][];
      readonly tls?: TlsClientOptions;
    },
    work: (endpoint: ServerEndpoint) => void,
  ): Promise<void> {
    await round.wait("name", async () => {
      try {
        const found = await findServers(url, { ...options, host: this.#host });
        if (this.#isClosed) return false;
        const families = ([6, 4] as const).filter((family) => family === (this.#options.ipVersion ?? family));
        for (const family of families) {
          const endpoint = found.find(({ address }) => address.family === family);
          if (endpoint !== undefined) work(endpoint);
        }
      } catch (error) {
        this.#report({ type: "gathering-error", url, text: (error as Error).message });
      }
      return false;
    });
  }

  #askStun(server: TransportAddress, url: string): void {
    this.#handle.call((io) => this.#agent.addStunServer(server, io, url));
  }

  #allocate(
    round: Round,
    endpoint: ServerEndpoint,
    { turn, rank }: { readonly turn: TurnUrl; readonly rank: number },
  ): void {
    round.wait(endpoint.transport, () => this.#relays.allocate(endpoint, turn, rank));
  }

  #after(ms: number, work: () => void): void {
    const timer = this.#host.createTimer(work);
    timer.set(this.#host.now() + ms);
    this.#timers.push(timer);
  }
}

/** A `GatheringRound` with a clock. */
class Round {
  /** Rings when it is over. */
  readonly timer: HostTimer;
  /** It is over: nothing is left to be waited for, or it has taken long enough. */
  readonly over: Promise<void>;
  readonly #end: () => void;
  readonly #hasten: (ms: number) => void;
  readonly #host: Host;
  readonly #round: GatheringRound;

  /** @param hasten Is told how long an answer may take, when that is known. */
  constructor(host: Host, hasten: (ms: number) => void) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.over = promise;
    this.#end = resolve;
    this.#hasten = hasten;
    this.#host = host;
    this.#round = new GatheringRound(host.now());
    this.timer = host.createTimer(() => this.arm());
  }

  /** Waits for something; `work` tells whether a candidate has come of it. */
  async wait(by: GatheringTask["by"], work: () => Promise<boolean>): Promise<void> {
    const task = this.#round.begin(by, this.#host.now());
    const answered = await work();
    this.#round.end(task, answered, this.#host.now());
    this.arm();
  }

  /** Ends it when there is nothing to wait for, as at the beginning perhaps. */
  arm(): void {
    const now = this.#host.now();
    const patience = this.#round.patience(now);
    if (patience !== undefined) this.#hasten(patience);
    const { deadline } = this.#round;
    if (deadline > now) return this.timer.set(deadline);
    this.timer.set(Infinity);
    this.#end();
  }
}
