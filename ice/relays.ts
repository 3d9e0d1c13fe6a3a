import { TransportAddress } from "../stun/address.ts";
import { ERROR_CODE, StunError } from "../stun/error.ts";
import type { SocketId } from "../stun/machine.ts";
import type { Driver, MachineHandle } from "../stun/net/driver.ts";
import { defaultLocalAddress, isWildcard } from "../stun/net/server_address.ts";
import { OpenError } from "../stun/net/transport.ts";
import type { ServerEndpoint } from "../stun/resolve.ts";
import { TurnClient } from "../turn/client.ts";
import type { TurnClientEvent } from "../turn/client_events.ts";
import type { IceAgent } from "./agent.ts";
import type { GatheringError, IceEvent } from "./events.ts";
import type { IceTurnServer } from "./gather_options.ts";
import type { IceComponent } from "./streams.ts";

/** A TURN server under one of its URIs. */
export type TurnUrl = Omit<IceTurnServer, "urls"> & { readonly url: string };

/** What the relays need of whoever gathers. */
export interface RelaysOwner {
  /** Where the agent is, and TURN clients will be. */
  readonly driver: Driver;
  /** The agent. */
  readonly agent: IceAgent;
  /** The agent's handle. */
  readonly handle: MachineHandle<IceEvent>;
  /** Whether the peer shall not learn by a relayed candidate where we are (RFC 8839 §5.1). */
  readonly hidesMapped: boolean;
  /** The local addresses in use. */
  readonly addresses: readonly TransportAddress[];
  /** Whether no others may be used. */
  readonly isFiltered: boolean;
  /** Is told which server gave nothing. */
  report(event: GatheringError): void;
}

/** How to get a relay. */
interface RelayWish {
  readonly turn: TurnUrl;
  readonly rank: number;
  readonly component: IceComponent;
  readonly localAddress: string | undefined;
}

/** A relay of ours: a TURN client below the agent. */
interface Relay {
  /** What it is for. */
  readonly component: IceComponent;
  readonly url: string;
  readonly rank: number;
  readonly protocol: ServerEndpoint["transport"];
  readonly client: TurnClient;
  readonly handle: MachineHandle<TurnClientEvent>;
  /** What the agent knows it by, once it has an allocation. */
  socket: SocketId | undefined;
  /** Our IP address on the way to the server, if it is known. */
  source: string | undefined;
  /** Tells whoever asked for it: there is an allocation, or why not. */
  readonly settled: (error: Error | undefined) => void;
  readonly closed: PromiseWithResolvers<void>;
}

/** RFC 7443 §3. */
const ALPN: readonly string[] = ["stun.turn"];

/** How many refusals are remembered: the peer names the addresses. */
const MAX_REFUSED = 1000;

/** An agent's relays: one for each TURN server and IP version. */
export class Relays {
  readonly #owner: RelaysOwner;
  #relays: Relay[] = [];
  /** Which IP addresses which servers do not send to (403), so that they are asked once. */
  readonly #refused = new Set<string>();
  #isClosed = false;

  /** @param owner Has the agent. */
  constructor(owner: RelaysOwner) {
    this.#owner = owner;
  }

  /**
   * Gets a relay for each component, from the local addresses in turn.
   *
   * @returns Whether there is one; why not is reported.
   */
  async allocate(endpoint: ServerEndpoint, turn: TurnUrl, rank: number): Promise<boolean> {
    const components = this.#owner.agent.components.filter(({ state }) => state !== "closed");
    const found = await Promise.all(components.map((component) => this.#allocate(endpoint, { turn, rank, component })));
    return found.includes(true);
  }

  async #allocate(endpoint: ServerEndpoint, what: Omit<RelayWish, "localAddress">): Promise<boolean> {
    const { turn: { url }, component } = what;
    const server = endpoint.address;
    if (this.#hasRelay(url, server, component)) return true;
    let failure = `Cannot use ${url} as none of the addresses in use is IPv${server.family}`;
    for (const localAddress of this.#localAddresses(endpoint)) {
      const error = await this.#tryAllocate(endpoint, { ...what, localAddress });
      if (error === undefined) return true;
      if (this.#isClosed) return false;
      const code = error instanceof StunError ? { code: error.code } : {};
      const event: GatheringError = { type: "gathering-error", url, server, text: error.message, ...code };
      if (!(error instanceof OpenError)) {
        this.#owner.report(event);
        return false;
      }
      failure = error.message;
    }
    this.#owner.report({ type: "gathering-error", url, server, text: failure });
    return false;
  }

  /** Gets permissions as soon as they can be of use, and channels for the pair that was chosen. */
  handleEvent(event: IceEvent): void {
    if (event.type === "pair") {
      // Before the check is due: the peer's check may come first (RFC 8445 §7.2.1).
      const { pair } = event;
      const relay = this.#relayOf(pair.base.socket);
      if (pair.checkedAt === undefined && relay?.client.state === "allocated") {
        this.#permit(relay, pair.remote.address);
      }
    } else if (event.type === "nominated") {
      const relay = this.#relayOf(event.pair.base.socket);
      relay?.handle.call((io) => relay.client.bindChannel(event.pair.remote.address, io));
    }
  }

  /** Gives back all that data does not go along, nor would if the selected pair went silent. */
  freeUnused(): void {
    if (this.#isClosed) return;
    const { agent } = this.#owner;
    for (const relay of [...this.#relays]) {
      if (relay.socket === undefined || !agent.isInUse(relay.socket)) this.#giveBack(relay);
    }
  }

  /** The sockets of relays that are lost without these addresses of ours. */
  socketsOf(gone: readonly string[]): SocketId[] {
    const lost = this.#leftBy(gone).filter(({ client }) => !client.canMigrate);
    return lost.map(({ socket }) => socket).filter((socket) => socket !== undefined);
  }

  /**
   * These addresses are gone: what was reached from there is taken along, or else given back, if it can be.
   *
   * @returns The sockets that the agent is to forget.
   */
  leave(gone: readonly string[]): SocketId[] {
    const sockets = this.socketsOf(gone);
    for (const relay of this.#leftBy(gone)) {
      if (relay.client.canMigrate) this.#migrate(relay);
      else {
        relay.socket = undefined;
        relay.handle.call((io) => relay.client.close(io));
      }
    }
    return sockets;
  }

  /** Gives all back; takes up to 1.5 s if a server is silent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all(this.#relays.map((relay) => {
      relay.handle.call((io) => relay.client.close(io));
      return relay.client.state === "closed" ? undefined : relay.closed.promise;
    }));
  }

  /** Where a TURN client may bind: the filters of host candidates hold for it as well. `undefined` is the host's choice. */
  #localAddresses({ transport, address: server }: ServerEndpoint): (string | undefined)[] {
    const { addresses, isFiltered } = this.#owner;
    // Deno can not choose where a connection leaves from; `#isExcluded()` looks afterwards.
    const isDatagram = transport === "udp" || transport === "dtls";
    if (isDatagram && isFiltered) {
      return addresses.filter(({ family }) => family === server.family).map(({ address }) => address);
    }
    return [isDatagram ? defaultLocalAddress(server) : undefined];
  }

  #tryAllocate(
    { address: server, transport, serverName }: ServerEndpoint,
    { turn: { url, username, credential, tls, mobility = false }, localAddress, rank, component }: RelayWish,
  ): Promise<Error | undefined> {
    return new Promise((resolve) => {
      const client = new TurnClient({
        server,
        transport,
        tls: { serverName, alpn: ALPN, ...tls },
        requestedFamily: server.family,
        mobility,
        ...(localAddress === undefined ? {} : { localAddress }),
        ...(username === undefined || credential === undefined
          ? {}
          : { credentials: { username, password: credential } }),
      });
      const handle = this.#owner.driver.add(client, { onEvent: (event) => this.#handleRelayEvent(relay, event) });
      const relay: Relay = {
        url,
        rank,
        component,
        protocol: transport,
        client,
        handle,
        socket: undefined,
        source: undefined,
        settled: resolve,
        closed: Promise.withResolvers<void>(),
      };
      this.#relays.push(relay);
      handle.call((io) => client.allocate(io));
    });
  }

  #permit(relay: Relay, peer: TransportAddress): void {
    if (this.#refused.has(refusal(relay.client, peer))) return this.#refuse(relay, peer);
    relay.handle.call((io) => relay.client.createPermission(peer, io));
  }

  /** The pair fails at once: to check it would not only be in vain, the server would be asked each time. */
  #refuse(relay: Relay, peer: TransportAddress): void {
    const { agent, handle } = this.#owner;
    const { socket } = relay;
    if (socket !== undefined) handle.call((io) => agent.refusePeer(socket, peer, io));
  }

  #handleRelayEvent(relay: Relay, event: TurnClientEvent): void {
    if (event.type === "allocated") {
      if (this.#isExcluded(relay.client.localAddress)) {
        const { address } = relay.client.localAddress!;
        relay.handle.call((io) => relay.client.close(io));
        return relay.settled(
          new Error(`Cannot use ${relay.url} as the way to it leaves from ${address}, which is not to be used`),
        );
      }
      this.#handleAllocated(relay);
      relay.settled(undefined);
    } else if (event.type === "permission-failed" && event.code === ERROR_CODE.FORBIDDEN) {
      if (this.#refused.size < MAX_REFUSED) this.#refused.add(refusal(relay.client, event.peer));
      this.#refuse(relay, event.peer);
    } else if (event.type === "migrated") relay.source = this.#sourceOf(event.local);
    else if (event.type === "migration-failed") {
      // The way from before is gone: otherwise nobody would have moved.
      this.#owner.report({ type: "gathering-error", url: relay.url, text: event.error.message });
      this.#giveBack(relay);
    } else if (event.type === "closed") {
      relay.closed.resolve();
      relay.settled(undefined);
    } else if (event.type === "failed") {
      const { url, client: { server } } = relay;
      // One that fails later than when it was asked for has nobody who waits for the reason.
      if (relay.socket !== undefined) {
        this.#owner.report({ type: "gathering-error", url, server, text: event.error.message });
      }
      this.#removeRelay(relay);
      relay.settled(event.error);
    }
  }

  #sourceOf(local: TransportAddress): string | undefined {
    if (!isWildcard(local)) return local.address;
    const same = this.#owner.addresses.filter(({ family }) => family === local.family);
    return same.length === 1 ? same[0]!.address : undefined;
  }

  #isExcluded(local: TransportAddress | undefined): boolean {
    const { addresses, isFiltered } = this.#owner;
    if (!isFiltered || local === undefined) return false;
    return !addresses.some(({ ipKey }) => ipKey === local.ipKey);
  }

  #handleAllocated(relay: Relay): void {
    const { agent, handle, hidesMapped } = this.#owner;
    const { client, rank, protocol, component: { stream, component } } = relay;
    if (this.#isClosed) return;
    const socket = relay.socket = handle.stackOn(relay.handle);
    const address = client.relayedAddress!;
    relay.source = this.#sourceOf(client.localAddress!);
    const mapped = hidesMapped
      ? TransportAddress.of(address.family === 4 ? "0.0.0.0" : "::", 9)
      : client.mappedAddress!;
    const { server } = client;
    handle.call((io) => agent.addRelay(socket, { address, mapped, server, protocol, rank, stream, component }, io));
    // The agent has no use for it any more: it came too late.
    if (!agent.hasSocket(socket)) this.#giveBack(relay);
  }

  /** Whether there is a relay from before a restart: it goes on. */
  #hasRelay(url: string, server: TransportAddress, { stream, component }: IceComponent): boolean {
    return this.#relays.some((relay) =>
      relay.component.stream === stream && relay.component.component === component && relay.url === url &&
      relay.socket !== undefined && relay.client.server.equals(server) &&
      relay.client.state === "allocated"
    );
  }

  /** RFC 8016 §3.2: from the best of the addresses that there are now, or as the host chooses. */
  #migrate({ client, handle }: Relay): void {
    const { addresses, isFiltered } = this.#owner;
    const localAddress = isFiltered
      ? addresses.find(({ family }) => family === client.server.family)?.address
      : undefined;
    handle.call((io) => client.migrate(io, { localAddress }));
  }

  #leftBy(gone: readonly string[]): Relay[] {
    return this.#relays.filter(({ socket, source }) => {
      if (socket === undefined || gone.length === 0) return false;
      // From where a socket bound to all addresses sends, nobody tells; one network less, and it is elsewhere.
      return source === undefined || gone.includes(source);
    });
  }

  #relayOf(socket: SocketId): Relay | undefined {
    return this.#relays.find((relay) => relay.socket === socket);
  }

  #giveBack(relay: Relay): void {
    this.#removeRelay(relay);
    relay.handle.call((io) => relay.client.close(io));
  }

  #removeRelay(relay: Relay): void {
    const { agent, handle } = this.#owner;
    const { socket } = relay;
    if (socket === undefined) return;
    relay.socket = undefined;
    handle.call((io) => {
      agent.removeSocket(socket, io);
      io.close(socket);
    });
  }
}

function refusal({ server }: TurnClient, peer: TransportAddress): string {
  return `${server} ${peer.address}`;
}
