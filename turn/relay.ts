import type { AccessToken } from "../stun/access_token.ts";
import type { TransportAddress } from "../stun/address.ts";
import type { Driver } from "../stun/net/driver.ts";
import { abortable } from "../stun/net/server_address.ts";
import { printable } from "../stun/requests.ts";
import { Inbox, RelayCore, Waiters } from "./_relay_core.ts";
import type { AddressError, IcmpError } from "./attributes.ts";
import type { TurnClient } from "./client.ts";
import type { TurnClientEvent } from "./client_events.ts";
import type { TurnClientStats } from "./client_stats.ts";

/** Datagrams that wait for the application at most. */
const QUEUE_COUNT = 1024;
const QUEUE_BYTES = 4 * 1024 * 1024;

/** A datagram that came through a relay. */
export interface RelayDatagram {
  /** The peer that sent it. */
  readonly from: TransportAddress;
  /** What it holds, the receiver's to keep; may be empty. */
  readonly data: Uint8Array;
}

/** Is told of an ICMP message about what was sent to a peer (RFC 8656 §11.6). Its port is 0 if the server does not know it. */
export type IcmpListener = (peer: TransportAddress, icmp: IcmpError) => void;

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
  #core: RelayCore;
  #client: TurnClient;
  #onIcmp: IcmpListener | undefined;
  #channels = new Waiters<number>();
  #inbox = new Inbox<RelayDatagram>();
  #queuedBytes = 0;
  #droppedUnread = 0;

  /** @internal Made by `allocate()`. */
  constructor(driver: Driver, client: TurnClient, onIcmp: IcmpListener | undefined) {
    this.#client = client;
    this.#onIcmp = onIcmp;
    this.#core = new RelayCore(driver, client, {
      onEvent: (event) => this.#handleEvent(event),
      onDeliver: (from, bytes) => this.#handleData(from, bytes),
      onEnd: (error, isLost) => {
        this.#channels.rejectAll(error);
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

  /** The address at which peers reach this relay. */
  get relayedAddress(): TransportAddress {
    return this.#client.relayedAddress!;
  }

  /** The addresses at which peers reach this relay: with `family: "dual"` one of each IP version, if the server has them. */
  get relayedAddresses(): readonly TransportAddress[] {
    return this.#client.relayedAddresses;
  }

  /** Why one of two IP versions is missing, if the server said so: 440 for good, 508 for now. */
  get addressError(): AddressError | undefined {
    return this.#client.addressError;
  }

  /** What gets the port that is reserved, if `evenPort` was `"pair"`; good for 30 s or more. */
  get reservationToken(): Uint8Array | undefined {
    return this.#client.reservationToken;
  }

  /** Whether `send()` may be told not to fragment: it was asked for, and the server knows it. */
  get canSendUnfragmented(): boolean {
    return this.#client.canSendUnfragmented;
  }

  /** Whether the relay can move: `mobility` was asked for, and the server does that. */
  get canMigrate(): boolean {
    return this.#client.canMigrate;
  }

  /** The address from which the server sees this client, or saw it before it moved. */
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
   * @param peer The peer, of the IP version of a relayed address.
   * @param data Up to 65,456 bytes. Copied.
   * @param options `dontFragment`: what is too large on its way from the server to the peer shall be lost rather than
   * fragmented. It goes without a channel.
   * @throws {Error} If the relay is closed, or the allocation lost, or the server cannot do without fragments.
   */
  send(peer: TransportAddress, data: Uint8Array, options: { readonly dontFragment?: boolean } = {}): void {
    this.#core.mustBeOpen(`send to ${peer}`);
    this.#core.handle.call((io) => {
      if (options.dontFragment === true) this.#client.sendUnfragmented(peer, data, io);
      else this.#client.handleSend(peer, data, 0, data.length, io);
    });
  }

  /**
   * Lets a peer's IP address send to this relay, and keeps that up. Not needed for a peer that was sent to within the last
   * five minutes.
   *
   * @throws {TurnError} If the server refuses: 403 for a peer that its rules forbid.
   * @throws {StunTimeoutError} If the server does not answer.
   * @throws {Error} If the relay is closed, or the allocation lost.
   */
  permit(peer: TransportAddress, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    return this.#core.permit(peer, options.signal);
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
    this.#core.mustBeOpen(`bind a channel to ${peer}`);
    const waiting = this.#channels.wait(peer.key);
    this.#core.handle.call((io) => this.#client.bindChannel(peer, io));
    return await abortable(waiting, options.signal);
  }

  /**
   * Moves to another local address (RFC 8016), as when the network has changed: relayed address, permissions and channels
   * stay. Nothing is lost if the old path still works.
   *
   * @param options `localAddress`: the IP address to bind; by default as before. `signal` ends the wait, not the move.
   * @throws {TurnError} If the server refuses. The relay is where it was.
   * @throws {StunTimeoutError} If it does not answer. The relay is where it was.
   * @throws {OpenError} If there is no socket for it. The relay is where it was.
   * @throws {Error} If `canMigrate` is not set, the relay is closed, or the allocation lost.
   */
  migrate(options: { readonly localAddress?: string; readonly signal?: AbortSignal } = {}): Promise<void> {
    return this.#core.migrate(options);
  }

  /** What was counted so far. */
  stats(): RelayStats {
    return { ...this.#client.stats, droppedUnread: this.#droppedUnread };
  }

  /** Gives the allocation back, waiting up to 1.5 s for the server, and closes the socket. A second call does nothing more. */
  close(): Promise<void> {
    return this.#core.close();
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

  async #next(): Promise<IteratorResult<RelayDatagram, undefined>> {
    const { length } = this.#inbox;
    const result = await this.#inbox.next();
    if (length > 0 && !result.done) this.#queuedBytes -= result.value.data.length;
    return result;
  }

  #handleData(from: TransportAddress, bytes: Uint8Array): void {
    if (this.#inbox.length >= QUEUE_COUNT || this.#queuedBytes + bytes.length > QUEUE_BYTES) {
      this.#droppedUnread++;
    } else if (this.#inbox.push({ from, data: bytes.slice() })) this.#queuedBytes += bytes.length;
  }

  #handleEvent(event: TurnClientEvent): void {
    if (event.type === "channel-bound") this.#channels.resolve(event.peer.key, event.number);
    else if (event.type === "channel-failed") this.#channels.reject(event.peer.key, event.error);
    else if (event.type === "icmp") this.#onIcmp?.(event.peer, event.icmp);
  }
}
