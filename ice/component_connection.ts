import type { IceAgent } from "./agent.ts";
import { DatagramQueue } from "./_datagram_queue.ts";
import type { ChecklistState } from "./checklist.ts";
import type { IceState } from "./events.ts";
import type { CandidatePair } from "./pair.ts";

/** What a component needs of its connection. */
export interface ComponentHost {
  /** The agent. */
  readonly agent: IceAgent;
  /** Sends along the pair of a component, by its place among all of them. */
  send(bytes: Uint8Array, flow: number): boolean;
  /** Goes on without a stream. */
  removeStream(stream: number): void;
}

/** One component of a data stream of a connection: datagrams of its own, along a path of its own. */
export class IceComponentConnection implements AsyncIterable<Uint8Array> {
  /** The stream, from 0. */
  readonly stream: number;
  /** The component, from 1. */
  readonly component: number;
  /** @internal What has come and is not read. */
  readonly queue: DatagramQueue = new DatagramQueue();
  readonly #host: ComponentHost;
  readonly #flow: number;

  /** @internal Made by a connection. */
  constructor(host: ComponentHost, flow: number) {
    const { stream, component } = host.agent.components[flow]!;
    this.#host = host;
    this.#flow = flow;
    this.stream = stream;
    this.component = component;
  }

  /** Its state; `"closed"` if its stream was removed. */
  get state(): IceState {
    return this.#host.agent.components[this.#flow]!.state;
  }

  /** The pair that its data goes along. */
  get selectedPair(): CandidatePair | undefined {
    return this.#host.agent.components[this.#flow]!.selectedPair;
  }

  /**
   * Sends a datagram to the same component of the peer's.
   *
   * @param bytes As of `send()` of the connection.
   * @returns Whether it was sent.
   */
  send(bytes: Uint8Array): boolean {
    return this.#host.send(bytes, this.#flow);
  }

  /** What the peer sends to this component, unless the connection has `onDatagram`. */
  [Symbol.asyncIterator](): AsyncIterator<Uint8Array, undefined> {
    return { next: () => this.queue.next(), return: () => Promise.resolve({ done: true, value: undefined }) };
  }
}

/** One data stream of a connection. */
export class IceStreamConnection {
  /** Its number, from 0. */
  readonly index: number;
  /** What it is called (`a=mid`). */
  readonly mid: string;
  readonly #host: ComponentHost;
  readonly #components: readonly IceComponentConnection[];

  /** @internal Made by a connection. */
  constructor(host: ComponentHost, index: number, components: readonly IceComponentConnection[]) {
    this.index = index;
    this.mid = host.agent.components.find(({ stream }) => stream === index)!.mid;
    this.#host = host;
    this.#components = components;
  }

  /** The state of its checklist (RFC 8445 §6.1.2.1). */
  get state(): ChecklistState {
    return this.#host.agent.streamStates[this.index] ?? "running";
  }

  /** Its components. */
  get components(): readonly IceComponentConnection[] {
    return this.#components;
  }

  /**
   * One of its components.
   *
   * @param component From 1.
   * @throws {RangeError} If it has none with this number.
   */
  component(component: number): IceComponentConnection {
    const found = this.#components[component - 1];
    if (found !== undefined) return found;
    throw new RangeError(
      `Cannot get component ${component} as stream ${this.index} has ${this.#components.length}, counted from 1`,
    );
  }

  /** Goes on without this stream, as when its checks have failed (RFC 8445 §8.1.2). Its sockets are closed. */
  remove(): void {
    this.#host.removeStream(this.index);
  }
}

/** The streams of a connection, and who reads what comes. */
export class ConnectionStreams {
  /** The components of all streams. */
  readonly components: readonly IceComponentConnection[];
  readonly #streams: readonly IceStreamConnection[];

  /** @param host The connection. */
  constructor(host: ComponentHost) {
    const all = host.agent.components;
    this.components = all.map((_, flow) => new IceComponentConnection(host, flow));
    this.#streams = [...new Set(all.map(({ stream }) => stream))].map((index) =>
      new IceStreamConnection(host, index, this.components.filter(({ stream }) => stream === index))
    );
  }

  /** The first component of the first stream: what it is all about if there is no other. */
  get first(): DatagramQueue {
    return this.components[0]!.queue;
  }

  /** All streams. */
  get all(): readonly IceStreamConnection[] {
    return this.#streams;
  }

  /** How many datagrams found nobody to read them. */
  get dropped(): number {
    return this.components.reduce((sum, { queue }) => sum + queue.dropped, 0);
  }

  /** Nothing more comes. */
  end(error?: Error): void {
    for (const { queue } of this.components) queue.end(error);
  }

  /** It goes on after all. */
  reopen(): void {
    for (const { queue } of this.components) queue.reopen();
  }
}
