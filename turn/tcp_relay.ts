import type { AccessToken } from "../stun/access_token.ts";
import type { TransportAddress } from "../stun/address.ts";
import type { SocketId } from "../stun/machine.ts";
import type { Driver } from "../stun/net/driver.ts";
import { abortable } from "../stun/net/server_address.ts";
import type { DetachedStream } from "../stun/net/transport.ts";
import { Inbox, RelayCore } from "./_relay_core.ts";
import type { TurnClient } from "./client.ts";
import type { TurnClientEvent } from "./client_events.ts";
import type { TurnClientStats } from "./client_stats.ts";

/** Connections that wait for the application at most. */
const BACKLOG = 64;

/** A connection between a relayed address and a peer, shaped like `Deno.Conn`. */
export interface RelayConnection extends Disposable {
  /** The peer. */
  readonly peer: TransportAddress;
  /** What the peer sends. */
  readonly readable: ReadableStream<Uint8Array>;
  /** What to send. Closing it tells the peer that nothing more follows. */
  readonly writable: WritableStream<Uint8Array>;
  /** Closes both ways at once. A second call does nothing. */
  close(): void;
}

/** What a `TcpRelay` has counted. */
export interface TcpRelayStats extends Readonly<TurnClientStats> {
  /** Connections that came while 64 waited already, and were closed. */
  readonly droppedUnread: number;
}

/** Who waits for a connection that was asked for. */
interface Caller extends PromiseWithResolvers<RelayConnection> {
  isGone: boolean;
}

/**
 * A TCP allocation on a TURN server (RFC 6062), made by `allocateTcp()`: connections to peers from an address that is
 * elsewhere, and from peers to it.
 *
 * Iterating gives the connections of peers that have a permission. It ends when the relay is closed, and throws when the
 * allocation is lost. Closing the relay ends its connections.
 */
export class TcpRelay implements AsyncIterable<RelayConnection>, AsyncDisposable {
  #core: RelayCore;
  #client: TurnClient;
  #callers = new Map<number, Caller>();
  #inbox = new Inbox<RelayConnection>();
  #droppedUnread = 0;

  /** @internal Made by `allocateTcp()`. */
  constructor(driver: Driver, client: TurnClient) {
    this.#client = client;
    this.#core = new RelayCore(driver, client, {
      onEvent: (event) => this.#handleEvent(event),
      onEnd: (error, isLost) => {
        for (const caller of this.#callers.values()) caller.reject(error);
        this.#callers.clear();
        this.#inbox.end(isLost ? error : undefined);
      },
    });
  }

  /** @internal */
  opened(): Promise<void> {
    return this.#core.opened();
  }

  /** @internal Moves by itself when the computer's addresses change. */
  followNetwork(): void {
    this.#core.followNetwork();
  }

  /** @internal Gets another access token each time before the last one ends. */
  renewToken(next: () => Promise<AccessToken>, token: AccessToken): void {
    this.#core.renewToken(next, token);
  }

  /** @internal Closes at once, telling the server if that takes no waiting. */
  abandon(): void {
    this.#core.abandon();
  }

  /** The address from which peers see connections come, and to which they can connect. */
  get relayedAddress(): TransportAddress {
    return this.#client.relayedAddress!;
  }

  /** The address from which the server sees this client. */
  get mappedAddress(): TransportAddress {
    return this.#client.mappedAddress!;
  }

  /** The server, which may be another than asked if that one named it (300 Try Alternate). */
  get server(): TransportAddress {
    return this.#client.server;
  }

  /** The seconds that the server granted last. */
  get lifetime(): number {
    return this.#client.lifetime!;
  }

  /**
   * Connects to a peer by way of the server (RFC 6062 §4.3).
   *
   * @param peer The peer, of the relayed address's IP version.
   * @param options `signal` ends the wait; the connection is closed if it comes later.
   * @throws {TurnError} If the server refuses: 403 for a peer that its rules forbid, 446 if there is a connection to this
   * peer already, 447 if the peer does not take it.
   * @throws {OpenError} If there is no second connection to the server.
   * @throws {StunTimeoutError} If the server does not answer.
   * @throws {StunConnectionError} If the server ends it.
   * @throws {Error} If the relay is closed, or the allocation lost.
   */
  async connect(peer: TransportAddress, options: { readonly signal?: AbortSignal } = {}): Promise<RelayConnection> {
    const { signal } = options;
    signal?.throwIfAborted();
    this.#core.mustBeOpen(`connect to ${peer}`);
    const caller: Caller = { ...Promise.withResolvers<RelayConnection>(), isGone: false };
    // Whoever waits gets the error; nobody may.
    caller.promise.catch(() => {});
    this.#core.handle.call((io) => {
      // Inside the call, as the answer may come at its end.
      this.#callers.set(this.#client.connect(peer, io), caller);
    });
    try {
      return await abortable(caller.promise, signal);
    } catch (error) {
      caller.isGone = true;
      throw error;
    }
  }

  /**
   * Lets a peer's IP address connect to this relay, and keeps that up.
   *
   * @throws {TurnError} If the server refuses: 403 for a peer that its rules forbid.
   * @throws {StunTimeoutError} If the server does not answer.
   * @throws {Error} If the relay is closed, or the allocation lost.
   */
  permit(peer: TransportAddress, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    return this.#core.permit(peer, options.signal);
  }

  /** What was counted so far. */
  stats(): TcpRelayStats {
    return { ...this.#client.stats, droppedUnread: this.#droppedUnread };
  }

  /** Gives the allocation back, waiting up to 1.5 s for the server, and closes all connections. A second call does nothing more. */
  close(): Promise<void> {
    for (let unread = this.#inbox.shift(); unread !== undefined; unread = this.#inbox.shift()) unread.close();
    return this.#core.close();
  }

  /** As `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The connections of peers. */
  [Symbol.asyncIterator](): AsyncIterator<RelayConnection, undefined> {
    return {
      next: () => this.#inbox.next(),
      return: () => Promise.resolve({ done: true, value: undefined }),
    };
  }

  #handleEvent(event: TurnClientEvent): void {
    if (event.type === "connect-failed") this.#take(event.call)?.reject(event.error);
    else if (event.type === "connected") this.#handleConnected(event.peer, event.socket, event.call);
  }

  #handleConnected(peer: TransportAddress, socket: SocketId, call: number | undefined): void {
    const connection = connectionOf(peer, this.#core.handle.detach(socket));
    if (call !== undefined) {
      const caller = this.#take(call);
      if (caller === undefined || caller.isGone) connection.close();
      else caller.resolve(connection);
    } else if (this.#inbox.length < BACKLOG) this.#inbox.push(connection);
    else {
      this.#droppedUnread++;
      connection.close();
    }
  }

  #take(call: number): Caller | undefined {
    const caller = this.#callers.get(call);
    this.#callers.delete(call);
    return caller;
  }
}

function connectionOf(peer: TransportAddress, stream: DetachedStream): RelayConnection {
  const { readable, writable } = stream;
  const close = () => stream.close();
  return { peer, readable, writable, close, [Symbol.dispose]: close };
}
