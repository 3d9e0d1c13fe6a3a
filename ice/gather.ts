import { isIpAddress, TransportAddress } from "../stun/address.ts";
import type { SocketId, TlsClientOptions } from "../stun/machine.ts";
import type { Driver, MachineHandle } from "../stun/net/driver.ts";
import { defaultLocalAddress, isWildcard } from "../stun/net/server_address.ts";
import { type Host, type HostTimer, OpenError } from "../stun/net/transport.ts";
import { findServers, type ServerEndpoint } from "../stun/resolve.ts";
import type { StunUri } from "../stun/uri.ts";
import { StunError } from "../stun/error.ts";
import { TurnClient } from "../turn/client.ts";
import type { TurnClientEvent } from "../turn/client_events.ts";
import type { IceAgent } from "./agent.ts";
import { isLinkLocal, isLoopback, orderFamilies } from "./candidate.ts";
import type { GatheringError, IceEvent } from "./events.ts";

/** A TURN server, named as browsers do. */
export interface IceTurnServer {
  /** One or several URIs of it: `turn:HOST[:PORT][?transport=tcp]`, or `turns:` for TLS. Best first. */
  readonly urls: string | readonly string[];
  /** The user name. */
  readonly username?: string;
  /** The password. */
  readonly credential?: string;
  /** How to use TLS. Default: for the name in the URI, trusting the usual authorities. */
  readonly tls?: TlsClientOptions;
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
}

/** When gathering ends at the latest, in ms: a server that has not answered by then is not waited for. */
const GATHERING_LIMIT = 5000;
/** How long unused relays are kept after the nomination, in ms (RFC 8445 §8.3.1). */
const FREE_AFTER = 3000;

/** A TURN server under one of its URIs. */
type TurnUrl = Omit<IceTurnServer, "urls"> & { readonly url: string };

/** A relay of ours: a TURN client below the agent. */
interface Relay {
  readonly url: string;
  readonly rank: number;
  readonly client: TurnClient;
  readonly handle: MachineHandle<TurnClientEvent>;
  /** What the agent knows it by, once it has an allocation. */
  socket: SocketId | undefined;
  /** Tells whoever asked for it: there is an allocation, or why not. */
  readonly settled: (error: Error | undefined) => void;
  readonly closed: PromiseWithResolvers<void>;
}

/** RFC 7443 §3. */
const ALPN: readonly string[] = ["stun.turn"];

/** Gives an agent its sockets: one for each local address, one for each TURN server and IP version. */
export class Gatherer {
  #driver: Driver;
  #agent: IceAgent;
  #handle: MachineHandle<IceEvent>;
  #options: GatherOptions;
  #report: (event: GatheringError) => void;
  #relays: Relay[] = [];
  #timers: HostTimer[] = [];
  #addresses: readonly TransportAddress[];
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
   * @throws {RangeError} If an address in `bind` stands for all.
   */
  constructor(driver: Driver, agent: IceAgent, context: {
    readonly handle: MachineHandle<IceEvent>;
    readonly options: GatherOptions;
    readonly report: (event: GatheringError) => void;
  }) {
    this.#driver = driver;
    this.#agent = agent;
    this.#handle = context.handle;
    this.#options = context.options;
    this.#report = context.report;
    this.#addresses = context.options.bind?.map(parseBind) ?? hostAddresses(driver.host);
  }

  /** Binds the host candidates at once, then asks the servers. Ends within 5 s, and never fails. */
  async start(): Promise<void> {
    if (this.#options.policy !== "relay") { for (const address of this.#addresses) this.#bindHost(address); }
    await this.#askServers();
  }

  async #askServers(): Promise<void> {
    const { policy = "all" } = this.#options;
    const { stunServers = [], turnServers = [] } = this.#agent.isLite ? {} : this.#options;
    const generation = ++this.#generation;
    const turns = turnServers.flatMap(({ urls, ...server }) => [urls].flat().map((url) => ({ url, ...server })));
    const tasks = [
      ...stunServers.map((url) =>
        this.#forEachServer(url, { schemes: ["stun"] }, ({ address }) => this.#askStun(address, url))
      ),
      ...turns.map((turn, index) => {
        const { url, tls } = turn;
        return this.#forEachServer(url, { schemes: ["turn", "turns"], ...(tls && { tls }) }, (endpoint) => {
          // A TURN server is a STUN server, too (RFC 8445 §5.1.1.2).
          if (policy === "all" && endpoint.transport === "udp") this.#askStun(endpoint.address, url);
          return this.#allocate(endpoint, turn, 2 * index + (endpoint.address.family === 6 ? 0 : 1));
        });
      }),
    ];
    await this.#within(GATHERING_LIMIT, Promise.all(tasks));
    if (this.#isClosed || generation !== this.#generation) return;
    this.#handle.call((io) => this.#agent.endOfLocalCandidates(io));
  }

  /** Gets permissions as soon as they can be of use, channels for the pair that was chosen, and frees relays. */
  handleEvent(event: IceEvent): void {
    if (event.type === "pair") {
      // Before the check is due: the peer's check may come first (RFC 8445 §7.2.1).
      const relay = this.#relayOf(event.pair.base.socket);
      if (event.pair.checkedAt === undefined && relay?.client.state === "allocated") {
        relay.handle.call((io) => relay.client.createPermission(event.pair.remote.address, io));
      }
    } else if (event.type === "nominated") {
      const relay = this.#relayOf(event.pair.base.socket);
      relay?.handle.call((io) => relay.client.bindChannel(event.pair.remote.address, io));
      const generation = this.#generation;
      this.#after(FREE_AFTER, () => {
        if (generation === this.#generation) this.#freeUnused();
      });
    } else if (event.type === "restart") this.#askServers();
  }

  /** Gives all allocations back; takes up to 1.5 s if a server is silent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const timer of this.#timers) timer.set(Infinity);
    await Promise.all(this.#relays.map((relay) => {
      relay.handle.call((io) => relay.client.close(io));
      return relay.client.state === "closed" ? undefined : relay.closed.promise;
    }));
  }

  get #host(): Host {
    return this.#driver.host;
  }

  #bindHost({ address, port }: TransportAddress): void {
    try {
      const { socket, localAddress } = this.#handle.bind({ transport: "udp", address, port });
      this.#handle.call((io) => this.#agent.addHost(socket, localAddress, io));
    } catch (error) {
      if (!(error instanceof OpenError)) throw error;
      this.#report({ type: "gathering-error", url: address, text: error.message });
    }
  }

  /** Finds a server, with one address of each IP version, and does with each what is to be done. */
  async #forEachServer(
    url: string,
    options: { readonly schemes: readonly StunUri["scheme"][]; readonly tls?: TlsClientOptions },
    work: (endpoint: ServerEndpoint) => void | Promise<void>,
  ): Promise<void> {
    try {
      const found = await findServers(url, { ...options, host: this.#host });
      const endpoints = ([6, 4] as const).map((family) => found.find(({ address }) => address.family === family));
      if (this.#isClosed) return;
      await Promise.all(endpoints.filter((endpoint) => endpoint !== undefined).map(work));
    } catch (error) {
      this.#report({ type: "gathering-error", url, text: (error as Error).message });
    }
  }

  #askStun(server: TransportAddress, url: string): void {
    this.#handle.call((io) => this.#agent.addStunServer(server, io, url));
  }

  /** Gets a relay from the local addresses in turn; settles when there is one, or none to be had. */
  async #allocate(endpoint: ServerEndpoint, turn: TurnUrl, rank: number): Promise<void> {
    const { url } = turn;
    const server = endpoint.address;
    if (this.#hasRelay(url, server)) return;
    let failure = `Cannot use ${url} as none of the addresses in use is IPv${server.family}`;
    for (const localAddress of this.#relayAddresses(endpoint)) {
      const error = await this.#tryAllocate(endpoint, { turn, localAddress, rank });
      if (error === undefined || this.#isClosed) return;
      const code = error instanceof StunError ? { code: error.code } : {};
      const event: GatheringError = { type: "gathering-error", url, server, text: error.message, ...code };
      if (!(error instanceof OpenError)) return this.#report(event);
      failure = error.message;
    }
    this.#report({ type: "gathering-error", url, server, text: failure });
  }

  /** Where a TURN client may bind: the filter of `bind` holds for it as well. `undefined` is the host's choice. */
  #relayAddresses({ transport, address: server }: ServerEndpoint): (string | undefined)[] {
    // Deno can not choose where a connection leaves from; `#isExcluded()` looks afterwards.
    if (transport === "udp" && this.#options.bind !== undefined) {
      return this.#addresses.filter(({ family }) => family === server.family).map(({ address }) => address);
    }
    return [transport === "udp" ? defaultLocalAddress(server) : undefined];
  }

  #tryAllocate(
    { address: server, transport, serverName }: ServerEndpoint,
    { turn: { url, username, credential, tls }, localAddress, rank }: {
      readonly turn: TurnUrl;
      readonly localAddress: string | undefined;
      readonly rank: number;
    },
  ): Promise<Error | undefined> {
    return new Promise((resolve) => {
      const client = new TurnClient({
        server,
        transport,
        tls: { serverName, alpn: ALPN, ...tls },
        requestedFamily: server.family,
        ...(localAddress === undefined ? {} : { localAddress }),
        ...(username === undefined || credential === undefined
          ? {}
          : { credentials: { username, password: credential } }),
      });
      const handle = this.#driver.add(client, { onEvent: (event) => this.#handleRelayEvent(relay, event) });
      const relay: Relay = {
        url,
        rank,
        client,
        handle,
        socket: undefined,
        settled: resolve,
        closed: Promise.withResolvers<void>(),
      };
      this.#relays.push(relay);
      handle.call((io) => client.allocate(io));
    });
  }

  #handleRelayEvent(relay: Relay, event: TurnClientEvent): void {
    if (event.type === "allocated") {
      if (this.#isExcluded(relay.client.localAddress)) {
        const text = `Cannot use ${relay.url} as the way to it leaves from ${
          relay.client.localAddress!.address
        }, which bind excludes`;
        relay.handle.call((io) => relay.client.close(io));
        return relay.settled(new Error(text));
      }
      this.#handleAllocated(relay);
      relay.settled(undefined);
    } else if (event.type === "closed") {
      relay.closed.resolve();
      relay.settled(undefined);
    } else if (event.type === "failed") {
      const { url, client: { server } } = relay;
      // One that fails later than when it was asked for has nobody who waits for the reason.
      if (relay.socket !== undefined) {
        this.#report({ type: "gathering-error", url, server, text: event.error.message });
      }
      this.#removeRelay(relay);
      relay.settled(event.error);
    }
  }

  #isExcluded(local: TransportAddress | undefined): boolean {
    if (this.#options.bind === undefined || local === undefined) return false;
    return !this.#addresses.some(({ address }) => address === local.address);
  }

  #handleAllocated(relay: Relay): void {
    const { client, rank } = relay;
    if (this.#isClosed) return;
    const socket = relay.socket = this.#handle.stackOn(relay.handle);
    const address = client.relayedAddress!;
    // RFC 8839 §5.1: whoever uses relays only does not want the peer to learn the address by the way, either.
    const mapped = this.#options.policy === "relay"
      ? TransportAddress.of(address.family === 4 ? "0.0.0.0" : "::", 9)
      : client.mappedAddress!;
    this.#handle.call((io) => this.#agent.addRelay(socket, { address, mapped, server: client.server, rank }, io));
    // The agent has no use for it any more: it came too late.
    if (!this.#agent.hasSocket(socket)) this.#giveBack(relay);
  }

  /** Whether there is a relay from before a restart: it goes on. */
  #hasRelay(url: string, server: TransportAddress): boolean {
    return this.#relays.some((relay) =>
      relay.url === url && relay.socket !== undefined && relay.client.server.equals(server) &&
      relay.client.state === "allocated"
    );
  }

  #relayOf(socket: SocketId): Relay | undefined {
    return this.#relays.find((relay) => relay.socket === socket);
  }

  #freeUnused(): void {
    if (this.#isClosed) return;
    const used = this.#agent.selectedPair?.base.socket;
    for (const relay of [...this.#relays]) if (relay.socket !== used) this.#giveBack(relay);
  }

  #giveBack(relay: Relay): void {
    this.#removeRelay(relay);
    relay.handle.call((io) => relay.client.close(io));
  }

  #removeRelay(relay: Relay): void {
    const { socket } = relay;
    if (socket === undefined) return;
    relay.socket = undefined;
    this.#handle.call((io) => {
      this.#agent.removeSocket(socket, io);
      io.close(socket);
    });
  }

  /** Waits for the promise, but only so long. */
  #within(ms: number, promise: Promise<unknown>): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#after(ms, resolve);
      promise.then(() => {
        cancel();
        resolve();
      });
    });
  }

  #after(ms: number, work: () => void): () => void {
    const timer = this.#host.createTimer(work);
    timer.set(this.#host.now() + ms);
    this.#timers.push(timer);
    return () => timer.set(Infinity);
  }
}

/**
 * The addresses of a host that make candidates (RFC 8445 §5.1.1.1): without loopback, unless there is nothing else,
 * without IPv6 link-local, site-local and IPv4-mapped ones. In the order of preference of RFC 8421.
 */
export function hostAddresses(host: Host): TransportAddress[] {
  const texts = [...new Set(host.interfaces().map(({ address }) => address))].filter(isIpAddress);
  const all = texts.map((text) => TransportAddress.of(text, 0)).filter((address) =>
    !isLinkLocal(address) && !isUnfit(address)
  );
  const beyond = all.filter((address) => !isLoopback(address));
  return orderFamilies(beyond.length > 0 ? beyond : all);
}

function parseBind(text: string): TransportAddress {
  const address = TransportAddress.parse(text, 0);
  if (!isWildcard(address)) return address;
  throw new RangeError(`Cannot bind "${text}" as it must be one address of an interface; leave it out for all of them`);
}

/** IPv6 site-local fec0::/10, IPv4-mapped ::ffff:0:0/96 and IPv4-compatible ::/96. */
function isUnfit({ family, bytes }: TransportAddress): boolean {
  if (family === 4) return false;
  if (bytes[0] === 0xfe && (bytes[1]! & 0xc0) === 0xc0) return true;
  const isLoopback6 = bytes.every((byte, i) => byte === (i === 15 ? 1 : 0));
  return !isLoopback6 && bytes.subarray(0, 10).every((byte) => byte === 0);
}
