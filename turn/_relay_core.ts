// What relays for datagrams and relays for connections have in common. Shell.
import type { AccessToken } from "../stun/access_token.ts";
import type { TransportAddress } from "../stun/address.ts";
import type { Driver, MachineHandle, MachineHooks } from "../stun/net/driver.ts";
import { abortable, isWildcard } from "../stun/net/server_address.ts";
import { StunConnectionError } from "../stun/error.ts";
import { NetworkWatch } from "./_network_watch.ts";
import { TokenRenewal } from "./_token_renewal.ts";
import type { TurnClient } from "./client.ts";
import type { TurnClientEvent } from "./client_events.ts";

type Hooks = MachineHooks<TurnClientEvent>;

/** Promises by what they wait for: all who ask for the same wait for one answer. */
export class Waiters<T> {
  #waiting = new Map<number | string, PromiseWithResolvers<T>>();

  /** The promise of this key's next answer. */
  wait(key: number | string): Promise<T> {
    let waiter = this.#waiting.get(key);
    if (waiter === undefined) {
      this.#waiting.set(key, waiter = Promise.withResolvers<T>());
      // Whoever waits gets the error; nobody may.
      waiter.promise.catch(() => {});
    }
    return waiter.promise;
  }

  resolve(key: number | string, value: T): void {
    this.#take(key)?.resolve(value);
  }

  reject(key: number | string, error: Error): void {
    this.#take(key)?.reject(error);
  }

  rejectAll(error: Error): void {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  #take(key: number | string): PromiseWithResolvers<T> | undefined {
    const waiter = this.#waiting.get(key);
    this.#waiting.delete(key);
    return waiter;
  }
}

/** What arrives and who waits for it. Whoever puts something in bounds it. */
export class Inbox<T> {
  #queue: T[] = [];
  #readers: PromiseWithResolvers<IteratorResult<T, undefined>>[] = [];
  #end: { readonly error: Error | undefined } | undefined;

  /** How much waits to be read. */
  get length(): number {
    return this.#queue.length;
  }

  /** Gives it to whoever waits, or keeps it. Gives whether it was kept. */
  push(value: T): boolean {
    const reader = this.#readers.shift();
    reader?.resolve({ done: false, value });
    if (reader === undefined) this.#queue.push(value);
    return reader === undefined;
  }

  /** Takes out what came first, if there is something. */
  shift(): T | undefined {
    return this.#queue.shift();
  }

  /** What comes next. What came before the end is read first. */
  next(): Promise<IteratorResult<T, undefined>> {
    const value = this.#queue.shift();
    if (value !== undefined) return Promise.resolve({ done: false, value });
    if (this.#end?.error !== undefined) return Promise.reject(this.#end.error);
    if (this.#end !== undefined) return Promise.resolve({ done: true, value: undefined });
    const reader = Promise.withResolvers<IteratorResult<T, undefined>>();
    this.#readers.push(reader);
    return reader.promise;
  }

  /** Nothing more will come: because of an error, or not. The first reason counts. */
  end(error: Error | undefined): void {
    this.#end ??= { error };
    for (const { resolve, reject } of this.#readers.splice(0)) {
      if (error !== undefined) reject(error);
      else resolve({ done: true, value: undefined });
    }
  }
}

/** An allocation from its beginning to its end: what its shell does besides carrying data. */
export class RelayCore {
  readonly client: TurnClient;
  readonly handle: MachineHandle<TurnClientEvent>;
  readonly #driver: Driver;
  #opened = Promise.withResolvers<void>();
  #ended = Promise.withResolvers<void>();
  #state: "open" | "lost" | "closed" = "open";
  #error: Error | undefined;
  #permissions = new Waiters<void>();
  #migrations = new Waiters<void>();
  #closing: Promise<void> | undefined;
  #watch: NetworkWatch | undefined;
  #renewal: TokenRenewal | undefined;
  #onEnd: (error: Error, isLost: boolean) => void;

  /**
   * Takes over the client.
   *
   * @param driver Its driver, which is its own.
   * @param client A client that has done nothing yet.
   * @param hooks Hear what the core has no use for, and of the end.
   */
  constructor(driver: Driver, client: TurnClient, hooks: Hooks & { onEnd(error: Error, isLost: boolean): void }) {
    this.#driver = driver;
    this.client = client;
    this.#onEnd = (error, isLost) => hooks.onEnd(error, isLost);
    // Whoever waits gets the error; nobody may.
    this.#opened.promise.catch(() => {});
    this.handle = driver.add(client, {
      onEvent: (event) => this.#handleEvent(event) || hooks.onEvent?.(event),
      onDeliver: (from, bytes, flow) => hooks.onDeliver?.(from, bytes, flow),
    });
  }

  opened(): Promise<void> {
    this.handle.call((io) => this.client.allocate(io));
    return this.#opened.promise;
  }

  /** Closes at once, telling the server if that takes no waiting. */
  abandon(): void {
    this.handle.call((io) => this.client.close(io));
    this.#driver.close();
  }

  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async permit(peer: TransportAddress, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    this.mustBeOpen(`get permission for ${peer}`);
    const waiting = this.#permissions.wait(peer.ipKey);
    this.handle.call((io) => this.client.createPermission(peer, io));
    await abortable(waiting, signal);
  }

  async migrate({ localAddress, signal }: { localAddress?: string; signal?: AbortSignal }): Promise<void> {
    signal?.throwIfAborted();
    this.mustBeOpen("migrate");
    const waiting = this.#migrations.wait(0);
    try {
      this.handle.call((io) => this.client.migrate(io, { localAddress }));
    } catch (error) {
      this.#migrations.reject(0, error as Error);
    }
    await abortable(waiting, signal);
  }

  /** Moves whenever the computer's addresses change so that it may have to. */
  followNetwork(): void {
    if (!this.client.canMigrate || this.#state !== "open") return;
    this.#watch = new NetworkWatch(this.#driver.host, (addresses) => this.#handleNetwork(addresses));
  }

  #handleNetwork(addresses: ReadonlySet<string>): void {
    const { client } = this;
    if (!client.canMigrate) return;
    const { localAddress: local } = client;
    const { address, family } = local!;
    // A socket of all addresses does not tell which one it uses: moving does no harm where that is still there.
    if (isWildcard(local!)) return this.handle.call((io) => client.migrate(io, { restart: true }));
    if (addresses.has(address)) return;
    const cause = new StunConnectionError(
      `Lost the way to ${client.server} as ${address} is no address of ours any more`,
    );
    const localAddress = family === 4 ? "0.0.0.0" : "::";
    this.handle.call((io) => client.migrate(io, { localAddress, cause, restart: true }));
  }

  renewToken(next: () => Promise<AccessToken>, token: AccessToken): void {
    if (this.#state !== "open") return;
    this.#renewal = new TokenRenewal(this.#driver.host, next, (token) => {
      if (this.#state === "open") this.handle.call((io) => this.client.setAccessToken(token, io));
    });
    this.#renewal.follow(token);
  }

  mustBeOpen(doing: string): void {
    if (this.#state === "lost") throw new Error(`Cannot ${doing} as the allocation is lost`, { cause: this.#error });
    if (this.#closing !== undefined) throw new Error(`Cannot ${doing} as the relay is closed`);
  }

  async #close(): Promise<void> {
    this.handle.call((io) => this.client.close(io));
    await this.#ended.promise;
    await this.#driver.close();
  }

  /** Gives whether the event was the core's. */
  #handleEvent(event: TurnClientEvent): boolean {
    switch (event.type) {
      case "allocated":
        this.#opened.resolve();
        return true;
      case "migrated":
        this.#migrations.resolve(0, undefined);
        return true;
      case "migration-failed":
        this.#migrations.reject(0, event.error);
        return true;
      case "permission":
        this.#permissions.resolve(event.peer.ipKey, undefined);
        return true;
      case "permission-failed":
        this.#permissions.reject(event.peer.ipKey, event.error);
        return true;
      case "failed":
        this.#opened.reject(event.error);
        this.#end("lost", event.error);
        return true;
      case "closed":
        this.#end("closed", new Error("The relay was closed"));
        this.#ended.resolve();
        return true;
    }
    return false;
  }

  #end(state: "lost" | "closed", error: Error): void {
    this.#watch?.close();
    this.#renewal?.close();
    this.#state = state;
    this.#error ??= error;
    this.#permissions.rejectAll(error);
    this.#migrations.rejectAll(error);
    this.#onEnd(error, state === "lost");
  }
}
