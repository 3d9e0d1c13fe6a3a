import { type AddressFamily, isIpAddress, TransportAddress } from "../stun/address.ts";
import type { SocketId } from "../stun/machine.ts";
import type { Driver, MachineHandle } from "../stun/net/driver.ts";
import { defaultLocalAddress, isWildcard } from "../stun/net/server_address.ts";
import { type Host, type HostTimer, OpenError } from "../stun/net/transport.ts";
import { defaultPort, parseStunUri, type StunUri } from "../stun/uri.ts";
import { StunError } from "../stun/error.ts";
import { TurnClient } from "../turn/client.ts";
import type { TurnClientEvent } from "../turn/client_events.ts";
import type { IceAgent } from "./agent.ts";
import { isLinkLocal, isLoopback, orderFamilies } from "./candidate.ts";
import type { GatheringError, IceEvent } from "./events.ts";

/** A TURN server, named as browsers do. */
export interface IceTurnServer {
  /** One or several URIs of it: `turn:HOST[:PORT]`. */
  readonly urls: string | readonly string[];
  /** The user name. */
  readonly username?: string;
  /** The password. */
  readonly credential?: string;
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

/** A relay of ours: a TURN client below the agent. */
interface Relay {
  readonly url: string;
  readonly client: TurnClient;
  readonly handle: MachineHandle<TurnClientEvent>;
  /** What the agent knows it by, once it has an allocation. */
  socket: SocketId | undefined;
  readonly closed: PromiseWithResolvers<void>;
}

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
    const { stunServers = [], turnServers = [], policy = "all" } = this.#options;
    if (policy === "all") { for (const address of this.#addresses) this.#bindHost(address); }
    const turnUrls = turnServers.flatMap(({ urls, ...rest }) => [urls].flat().map((url) => ({ url, ...rest })));
    let rank = 0;
    const tasks = [
      ...stunServers.map((url) => this.#forEachServer(url, ["stun"], (server) => this.#askStun(server, url))),
      ...turnUrls.map(({ url, username, credential }) => {
        const first = rank;
        rank += 2;
        return this.#forEachServer(url, ["turn"], (server) => {
          // A TURN server is a STUN server, too (RFC 8445 §5.1.1.2).
          if (policy === "all") this.#askStun(server, url);
          const credentials = username === undefined || credential === undefined
            ? {}
            : { credentials: { username, password: credential } };
          return this.#allocate(server, { url, rank: first + (server.family === 6 ? 0 : 1), ...credentials });
        });
      }),
    ];
    await this.#within(GATHERING_LIMIT, Promise.all(tasks));
    if (!this.#isClosed) this.#handle.call((io) => this.#agent.endOfLocalCandidates(io));
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
      this.#after(FREE_AFTER, () => this.#freeUnused());
    }
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

  /** Finds a server's addresses, one of each IP version, and does with each what is to be done. */
  async #forEachServer(
    url: string,
    schemes: readonly StunUri["scheme"][],
    work: (server: TransportAddress) => void | Promise<void>,
  ): Promise<void> {
    try {
      const uri = parseStunUri(url);
      if (!schemes.includes(uri.scheme) || uri.transport === "tcp") {
        throw new SyntaxError(`Cannot use "${url}" as only ${schemes.join(": and ")}: over UDP is supported here`);
      }
      const port = uri.port ?? defaultPort(uri.scheme);
      const found = (await this.#host.resolve(uri.host)).map((address) => TransportAddress.of(address, port));
      const servers = ([6, 4] as const).map((family) => found.find((server) => server.family === family));
      if (this.#isClosed) return;
      await Promise.all(servers.filter((server) => server !== undefined).map(work));
    } catch (error) {
      this.#report({ type: "gathering-error", url, text: (error as Error).message });
    }
  }

  #askStun(server: TransportAddress, url: string): void {
    this.#handle.call((io) => this.#agent.addStunServer(server, io, url));
  }

  /** Gets a relay from the local addresses in turn; settles when there is one, or none to be had. */
  async #allocate(
    server: TransportAddress,
    options: { url: string; rank: number; credentials?: { username: string; password: string } },
  ): Promise<void> {
    const { url } = options;
    let failure = `Cannot use ${url} as none of the addresses in use is IPv${server.family}`;
    for (const localAddress of this.#relayAddresses(server)) {
      const error = await this.#tryAllocate(server, localAddress, options);
      if (error === undefined || this.#isClosed) return;
      const code = error instanceof StunError ? { code: error.code } : {};
      const event: GatheringError = { type: "gathering-error", url, server, text: error.message, ...code };
      if (!(error instanceof OpenError)) return this.#report(event);
      failure = error.message;
    }
    this.#report({ type: "gathering-error", url, server, text: failure });
  }

  /** Where a TURN client may bind: the filter of `bind` holds for it as well. */
  *#relayAddresses(server: TransportAddress): Generator<string, void> {
    if (this.#options.bind === undefined) return yield defaultLocalAddress(server);
    for (const { address, family } of this.#addresses) if (family === server.family) yield address;
  }

  #tryAllocate(
    server: TransportAddress,
    localAddress: string,
    { url, rank, credentials }: {
      url: string;
      rank: number;
      credentials?: { username: string; password: string };
    },
  ): Promise<Error | undefined> {
    return new Promise((resolve) => {
      const client = new TurnClient({
        server,
        localAddress,
        requestedFamily: server.family satisfies AddressFamily,
        ...(credentials === undefined ? {} : { credentials }),
      });
      const handle = this.#driver.add(client, {
        onEvent: (event) => {
          if (event.type === "allocated") this.#handleAllocated(relay, rank);
          else if (event.type === "failed") this.#removeRelay(relay);
          else if (event.type === "closed") relay.closed.resolve();
          if (event.type === "allocated" || event.type === "closed") resolve(undefined);
          else if (event.type === "failed") {
            if (relay.socket === undefined) resolve(event.error);
            else this.#report({ type: "gathering-error", url, server, text: event.error.message });
          }
        },
      });
      const relay: Relay = {
        url,
        client,
        handle,
        socket: undefined,
        closed: Promise.withResolvers<void>(),
      };
      this.#relays.push(relay);
      handle.call((io) => client.allocate(io));
    });
  }

  #handleAllocated(relay: Relay, rank: number): void {
    const { client } = relay;
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
