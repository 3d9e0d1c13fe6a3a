import type { AddressFamily, TransportAddress } from "../stun/address.ts";
import { denoHost } from "../stun/net/deno_host.ts";
import { Driver, type MachineHandle } from "../stun/net/driver.ts";
import { raceAttempts } from "../stun/net/happy_eyeballs.ts";
import { SHARED_RTO_CACHE } from "../stun/net/shared_rto_cache.ts";
import { abortable, defaultLocalAddress } from "../stun/net/server_address.ts";
import type { Host } from "../stun/net/transport.ts";
import { printable } from "../stun/requests.ts";
import type { ServerTransport } from "../stun/locate.ts";
import type { TlsClientOptions } from "../stun/machine.ts";
import { findServers, type ServerEndpoint } from "../stun/resolve.ts";
import type { RtoCache } from "../stun/rto_cache.ts";
import type { RetransmitOptions } from "../stun/transaction.ts";
import { TurnClient } from "./client.ts";
import type { TurnClientEvent } from "./client_events.ts";
import type { TurnClientStats } from "./client_stats.ts";

/** Datagrams that wait for the application at most. */
const QUEUE_COUNT = 1024;
const QUEUE_BYTES = 4 * 1024 * 1024;

/** How `allocate()` gets a relay. */
export interface AllocateOptions {
  /**
   * The server: `turn:HOST[:PORT][?transport=tcp]`, or `turns:` for TLS, or its address. Without a port, DNS may name
   * servers and ports (NAPTR and SRV records, RFC 5928); else it is 3478, or 5349 for `turns:`. All addresses of a name
   * are tried, each 250 ms after the last.
   */
  readonly server: string | TransportAddress;
  /** What to talk to the server over. Default: what the URI says, else `"udp"`. */
  readonly transport?: ServerTransport;
  /** How to use TLS. Default: for the name in the URI, trusting the usual authorities. */
  readonly tls?: TlsClientOptions;
  /** The user name. Leave it out, with the password, for a server that asks for none. */
  readonly username?: string;
  /** The password. */
  readonly password?: string;
  /** The local IP address to bind. Default: loopback for a server there, else all addresses. */
  readonly localAddress?: string;
  /** The IP version of the relayed address. Default: the server's choice, which is IPv4. */
  readonly family?: AddressFamily;
  /** Seconds to ask for at a time; it is refreshed in any case. Default: the server's own, usually 600. */
  readonly lifetime?: number;
  /** How to repeat requests. */
  readonly retransmit?: RetransmitOptions;
  /** Where RTOs are learnt (RFC 8489 §6.2.1). Default: one that all verbs of this program without `host` share. */
  readonly rtoCache?: RtoCache;
  /** The computer to work from. Default: `denoHost()`. */
  readonly host?: Host;
  /** Ends the wait for the allocation: the promise is rejected with its reason. Of no effect later. */
  readonly signal?: AbortSignal;
}

/** RFC 7443 §3. */
const ALPN: readonly string[] = ["stun.turn"];

/**
 * Gets a relayed address on a TURN server (RFC 8656) over UDP, TCP or TLS, and keeps it until the relay is closed.
 *
 * @example A datagram from one relay to another
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { allocate, serveTurn } from "@natkit/natkit/turn";
 *
 * const users = { alice: "secret" };
 * const allowPeers = ["127.0.0.0/8"];
 * await using server = serveTurn({ listen: ["127.0.0.1:0"], realm: "example.org", users, allowPeers });
 * const options = { server: `turn:${server.addresses[0]}`, username: "alice", password: "secret" };
 * await using a = await allocate(options);
 * await using b = await allocate(options);
 *
 * await b.permit(a.relayedAddress);
 * a.send(b.relayedAddress, new TextEncoder().encode("hello"));
 * for await (const { from, data } of b) {
 *   assertEquals(from, a.relayedAddress);
 *   assertEquals(new TextDecoder().decode(data), "hello");
 *   break;
 * }
 * ```
 *
 * @throws {SyntaxError} If the server's URI is none, or user name or password cannot be used.
 * @throws {Error} If the server's name is not found.
 * @throws {OpenError} If the local address cannot be bound, or the server not be connected to.
 * @throws {StunConnectionError} If the connection ends before there is an allocation.
 * @throws {TurnError} If the server refuses: its `code` is 401 for a wrong user name or password, 486 for too many
 * allocations of this user, 508 for a server that is full.
 * @throws {StunTimeoutError} If the server does not answer.
 * @throws {StunIntegrityError} If nothing that it answers is authenticated.
 * @throws {StunChallengeError} If its challenge cannot be met.
 * @throws {StunProtocolError} If its answer is of no use.
 */
export async function allocate(options: AllocateOptions): Promise<Relay> {
  const { username, password, signal, host = denoHost() } = options;
  const rtoCache = options.rtoCache ?? (options.host === undefined ? SHARED_RTO_CACHE : undefined);
  if ((username === undefined) !== (password === undefined)) {
    throw new TypeError("Cannot allocate with a user name and no password, or the reverse");
  }
  const endpoints = await findServers(options.server, { ...options, schemes: ["turn", "turns"], host });
  const attempts = endpoints.map((endpoint) => (signal: AbortSignal) =>
    attempt(endpoint, { ...options, ...(rtoCache === undefined ? {} : { rtoCache }), host }, signal)
  );
  // RFC 8656 §3.11: where two addresses of a server both answer, the second allocation is given back.
  return await raceAttempts(attempts, { host, signal, discard: (relay) => relay.abandon() });
}

async function attempt(
  { transport, address: server, serverName }: ServerEndpoint,
  options: AllocateOptions & { readonly host: Host },
  signal: AbortSignal,
): Promise<Relay> {
  const { username, password, localAddress, family, lifetime, retransmit, rtoCache, host } = options;
  const local = localAddress ?? (transport === "udp" ? defaultLocalAddress(server) : undefined);
  const relay = new Relay(
    new Driver(host),
    new TurnClient({
      server,
      transport,
      tls: { serverName, alpn: ALPN, ...options.tls },
      ...(local === undefined ? {} : { localAddress: local }),
      ...(username === undefined || password === undefined ? {} : { credentials: { username, password } }),
      ...(family === undefined ? {} : { requestedFamily: family }),
      ...(lifetime === undefined ? {} : { lifetime }),
      ...(retransmit === undefined ? {} : { retransmit }),
      ...(rtoCache === undefined ? {} : { rtoCache }),
    }),
  );
  try {
    await abortable(relay.opened(), signal);
    return relay;
  } catch (error) {
    relay.abandon();
    throw error;
  }
}

/** A datagram that came through a relay. */
export interface RelayDatagram {
  /** The peer that sent it. */
  readonly from: TransportAddress;
  /** What it holds, the receiver's to keep; may be empty. */
  readonly data: Uint8Array;
}

/** What a `Relay` has counted. */
export interface RelayStats extends Readonly<TurnClientStats> {
  /** Datagrams that came while too many waited already: over 1024, or 4 MiB of them. */
  readonly droppedUnread: number;
}

/**
 * An allocation on a TURN server, made by `allocate()`: a datagram socket that is elsewhere.
 *
 * Iterating gives what peers send. It ends when the relay is closed, and throws when the allocation is lost. Breaking out
 * of it does not close the relay; `await using` or `close()` does.
 */
export class Relay implements AsyncIterable<RelayDatagram>, AsyncDisposable {
  #driver: Driver;
  #client: TurnClient;
  #handle: MachineHandle<TurnClientEvent>;
  #opened = Promise.withResolvers<void>();
  #ended = Promise.withResolvers<void>();
  #state: "open" | "lost" | "closed" = "open";
  #error: Error | undefined;
  #permissions = new Map<number | string, PromiseWithResolvers<void>>();
  #channels = new Map<number | string, PromiseWithResolvers<number>>();
  #queue: RelayDatagram[] = [];
  #queuedBytes = 0;
  #readers: PromiseWithResolvers<IteratorResult<RelayDatagram, undefined>>[] = [];
  #droppedUnread = 0;
  #closing: Promise<void> | undefined;

  /** @internal Made by `allocate()`. */
  constructor(driver: Driver, client: TurnClient) {
    this.#driver = driver;
    this.#client = client;
    // Whoever waits gets the error; nobody may.
    this.#opened.promise.catch(() => {});
    this.#handle = driver.add(client, {
      onEvent: (event) => this.#handleEvent(event),
      onDeliver: (from, bytes) => this.#handleData(from, bytes),
    });
  }

  /** @internal */
  opened(): Promise<void> {
    this.#handle.call((io) => this.#client.allocate(io));
    return this.#opened.promise;
  }

  /** @internal Closes at once, telling the server if that takes no waiting. */
  abandon(): void {
    this.#handle.call((io) => this.#client.close(io));
    this.#driver.close();
  }

  /** The address at which peers reach this relay. */
  get relayedAddress(): TransportAddress {
    return this.#client.relayedAddress!;
  }

  /** The address from which the server sees this client. */
  get mappedAddress(): TransportAddress {
    return this.#client.mappedAddress!;
  }

  /** The seconds that the server granted last. */
  get lifetime(): number {
    return this.#client.lifetime!;
  }

  /** The server's realm, if it asked for user name and password; fit for a line that people read. */
  get realm(): string | undefined {
    const { realm } = this.#client;
    return realm === undefined ? undefined : printable(realm);
  }

  /** What the server says it is, if it does; fit for a line that people read. */
  get software(): string | undefined {
    return this.#client.software;
  }

  /** The local address. */
  get localAddress(): TransportAddress {
    return this.#client.localAddress!;
  }

  /** The server, which may be another than asked if that one named it (300 Try Alternate). */
  get server(): TransportAddress {
    return this.#client.server;
  }

  /**
   * Sends a datagram to a peer. The first one to an IP address asks the server for a permission and waits for it inside
   * the relay; a few more may wait with it. Nobody is told when a datagram is lost; `stats()` counts those dropped here.
   *
   * @param peer The peer, of the relayed address's IP version.
   * @param data Up to 65,456 bytes. Copied.
   * @throws {Error} If the relay is closed, or the allocation lost.
   */
  send(peer: TransportAddress, data: Uint8Array): void {
    this.#mustBeOpen(`send to ${peer}`);
    this.#handle.call((io) => this.#client.handleSend(peer, data, 0, data.length, io));
  }

  /**
   * Lets a peer's IP address send to this relay, and keeps that up. Not needed for a peer that was sent to within the last
   * five minutes.
   *
   * @throws {TurnError} If the server refuses: 403 for a peer that its rules forbid.
   * @throws {StunTimeoutError} If the server does not answer.
   * @throws {Error} If the relay is closed, or the allocation lost.
   */
  async permit(peer: TransportAddress, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    options.signal?.throwIfAborted();
    this.#mustBeOpen(`get permission for ${peer}`);
    const waiting = waiterFor(this.#permissions, peer.ipKey);
    this.#handle.call((io) => this.#client.createPermission(peer, io));
    await abortable(waiting, options.signal);
  }

  /**
   * Binds a channel to a peer, and keeps it: each datagram then costs 4 bytes more instead of 36 or more.
   *
   * @returns The channel's number, 0x4000 to 0x4FFF.
   * @throws {TurnError} If the server refuses.
   * @throws {StunTimeoutError} If the server does not answer.
   * @throws {Error} If the relay is closed, or the allocation lost.
   */
  async bindChannel(peer: TransportAddress, options: { readonly signal?: AbortSignal } = {}): Promise<number> {
    options.signal?.throwIfAborted();
    this.#mustBeOpen(`bind a channel to ${peer}`);
    const waiting = waiterFor(this.#channels, peer.key);
    this.#handle.call((io) => this.#client.bindChannel(peer, io));
    return await abortable(waiting, options.signal);
  }

  /** What was counted so far. */
  stats(): RelayStats {
    return { ...this.#client.stats, droppedUnread: this.#droppedUnread };
  }

  /** Gives the allocation back, waiting up to 1.5 s for the server, and closes the socket. A second call does nothing more. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  /** As `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** What peers send. */
  [Symbol.asyncIterator](): AsyncIterator<RelayDatagram, undefined> {
    return {
      next: () => this.#next(),
      return: () => Promise.resolve({ done: true, value: undefined }),
    };
  }

  async #close(): Promise<void> {
    this.#handle.call((io) => this.#client.close(io));
    await this.#ended.promise;
    this.#driver.close();
  }

  #next(): Promise<IteratorResult<RelayDatagram, undefined>> {
    const value = this.#queue.shift();
    if (value !== undefined) {
      this.#queuedBytes -= value.data.length;
      return Promise.resolve({ done: false, value });
    }
    if (this.#state === "lost") return Promise.reject(this.#error);
    if (this.#state === "closed") return Promise.resolve({ done: true, value: undefined });
    const reader = Promise.withResolvers<IteratorResult<RelayDatagram, undefined>>();
    this.#readers.push(reader);
    return reader.promise;
  }

  #handleData(from: TransportAddress, bytes: Uint8Array): void {
    const reader = this.#readers.shift();
    if (reader !== undefined) return reader.resolve({ done: false, value: { from, data: bytes.slice() } });
    if (this.#queue.length >= QUEUE_COUNT || this.#queuedBytes + bytes.length > QUEUE_BYTES) {
      this.#droppedUnread++;
      return;
    }
    this.#queue.push({ from, data: bytes.slice() });
    this.#queuedBytes += bytes.length;
  }

  #handleEvent(event: TurnClientEvent): void {
    switch (event.type) {
      case "allocated":
        return this.#opened.resolve();
      case "permission":
        return take(this.#permissions, event.peer.ipKey)?.resolve();
      case "permission-failed":
        return take(this.#permissions, event.peer.ipKey)?.reject(event.error);
      case "channel-bound":
        return take(this.#channels, event.peer.key)?.resolve(event.number);
      case "channel-failed":
        return take(this.#channels, event.peer.key)?.reject(event.error);
      case "failed":
        this.#opened.reject(event.error);
        return this.#end("lost", event.error);
      case "closed":
        this.#end("closed", new Error("The relay was closed"));
        return this.#ended.resolve();
      case "icmp":
        return;
    }
  }

  #end(state: "lost" | "closed", error: Error): void {
    this.#state = state;
    this.#error ??= error;
    for (const { reject } of [...this.#permissions.values(), ...this.#channels.values()]) reject(error);
    this.#permissions.clear();
    this.#channels.clear();
    for (const { resolve, reject } of this.#readers.splice(0)) {
      if (state === "lost") reject(error);
      else resolve({ done: true, value: undefined });
    }
  }

  #mustBeOpen(doing: string): void {
    if (this.#state === "lost") throw new Error(`Cannot ${doing} as the allocation is lost`, { cause: this.#error });
    if (this.#closing !== undefined) throw new Error(`Cannot ${doing} as the relay is closed`);
  }
}

function waiterFor<T>(waiters: Map<number | string, PromiseWithResolvers<T>>, key: number | string): Promise<T> {
  let waiter = waiters.get(key);
  if (waiter === undefined) waiters.set(key, waiter = Promise.withResolvers<T>());
  return waiter.promise;
}

function take<T>(
  waiters: Map<number | string, PromiseWithResolvers<T>>,
  key: number | string,
): PromiseWithResolvers<T> | undefined {
  const waiter = waiters.get(key);
  waiters.delete(key);
  return waiter;
}
