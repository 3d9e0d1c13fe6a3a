import { denoHost } from "../stun/net/deno_host.ts";
import { Driver, type MachineHandle } from "../stun/net/driver.ts";
import type { Host } from "../stun/net/transport.ts";
import { IceAgent, type IceAgentOptions } from "./agent.ts";
import type { Candidate } from "./candidate.ts";
import { DatagramQueue } from "./datagram_queue.ts";
import { IceError } from "./error.ts";
import type { GatheringError, IceEvent, IceState } from "./events.ts";
import { Gatherer, type GatherOptions } from "./gather.ts";
import type { CandidatePair, IceRole } from "./pair.ts";
import {
  formatCandidate,
  formatDescription,
  formatDescriptionLine,
  type IceDescription,
  type IceParameters,
  parseCandidate,
  parseDescription,
} from "./sdp.ts";
import { type IceStats, iceStats } from "./stats.ts";

/** How `openIce()` makes a connection. */
export interface OpenIceOptions
  extends GatherOptions, Partial<Pick<IceAgentOptions, "ta" | "maxPairs" | "ufrag" | "pwd">> {
  /** Who nominates: one side `"controlling"`, the other `"controlled"`. A conflict is repaired. Default: `"controlling"`. */
  readonly role?: IceRole;
  /** Called for each event: candidates, checks, states, servers that gave nothing. Must not throw. */
  readonly onEvent?: (event: IceEvent) => void;
  /**
   * Called for each datagram, in place of iterating: without a copy, so `bytes` are good during the call only. Must not
   * throw.
   */
  readonly onDatagram?: (bytes: Uint8Array) => void;
  /** The computer to work from. Default: `denoHost()`. */
  readonly host?: Host;
  /** Closes the connection; what waits is rejected with its reason. */
  readonly signal?: AbortSignal;
}

/** How texts get to the other side, and from there: in order, each once. */
export interface IceSignaling {
  /** Takes a text to the other side. */
  send(text: string): void | Promise<void>;
  /** The texts from the other side. Its end means that no more candidates come. */
  readonly receive: AsyncIterable<string>;
}

/** How `connectIce()` makes a connection. */
export interface ConnectIceOptions extends OpenIceOptions {
  /** How texts get to the other side, and from there. */
  readonly signaling: IceSignaling;
}

/**
 * Connects to a peer that does the same, by the best path there is (RFC 8445), with candidates trickling both ways over
 * `signaling`. Needs `--unstable-net`, `--allow-net` and `--allow-sys=networkInterfaces`.
 *
 * No server is used but those that are named. The connection is returned as soon as data can flow.
 *
 * @example Two agents in one program
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { connectIce } from "@natkit/natkit/ice";
 *
 * // Stands for what carries texts between two programs, as a WebSocket does.
 * const [one, other] = [new TransformStream<string>(), new TransformStream<string>()];
 * const signalingOf = (out: TransformStream<string>, receive: TransformStream<string>) => {
 *   const writer = out.writable.getWriter();
 *   return { send: (text: string) => writer.write(text), receive: receive.readable };
 * };
 *
 * const [alice, bob] = await Promise.all([
 *   connectIce({ role: "controlling", bind: ["127.0.0.1"], signaling: signalingOf(one, other) }),
 *   connectIce({ role: "controlled", bind: ["127.0.0.1"], signaling: signalingOf(other, one) }),
 * ]);
 * alice.send(new TextEncoder().encode("hello"));
 * for await (const bytes of bob) {
 *   assertEquals(new TextDecoder().decode(bytes), "hello");
 *   break;
 * }
 * await Promise.all([alice.close(), bob.close()]);
 * ```
 *
 * @throws {IceError} If there is no local candidate, no path to the peer, or the signaling breaks.
 * @throws {RangeError} If an option is out of range.
 * @throws {SyntaxError} If an address in `bind` is none.
 */
export async function connectIce(options: ConnectIceOptions): Promise<IceConnection> {
  const connection = openIce(options);
  try {
    connection.signal(options.signaling);
    await connection.connected;
    return connection;
  } catch (error) {
    await connection.close();
    throw error;
  }
}

/**
 * Begins a connection whose signaling is done by hand: gathering starts at once; `localDescription()` is what the other
 * side needs, and what comes from there goes into `addRemoteDescription()`.
 *
 * @example One line each way, to copy and paste
 * ```ts
 * import { openIce } from "@natkit/natkit/ice";
 *
 * await using alice = openIce({ role: "controlling", bind: ["127.0.0.1"] });
 * await using bob = openIce({ role: "controlled", bind: ["127.0.0.1"] });
 * bob.addRemoteDescription(await alice.localDescription());
 * alice.addRemoteDescription(await bob.localDescription());
 * console.log(`alice: ${await alice.connected}`);
 * ```
 *
 * @throws {RangeError} If an option is out of range.
 * @throws {SyntaxError} If an address in `bind` is none.
 */
export function openIce(options: OpenIceOptions = {}): IceConnection {
  return new IceConnection(options);
}

/** WebTransport-like streams of datagrams. */
export interface IceDatagrams {
  /** What the peer sends, in competition with iterating. */
  readonly readable: ReadableStream<Uint8Array>;
  /** What is sent to the peer. A write waits until data can flow for the first time, and is lost if it can not later. */
  readonly writable: WritableStream<Uint8Array>;
}

/**
 * A connection to a peer: datagrams along the best path, with nothing promised about loss, order and repetition, as UDP.
 *
 * Iterating gives what the peer sends; it ends with `close()` and throws when the connection fails. `await using` closes.
 */
export class IceConnection implements AsyncIterable<Uint8Array>, AsyncDisposable {
  /** Data can flow: the first pair works. Rejected with an `IceError` if none does, or by `close()`. */
  readonly connected: Promise<CandidatePair>;
  /** A pair is nominated. Rejected as `connected` is. */
  readonly nominated: Promise<CandidatePair>;
  /** Fulfilled by `close()`, rejected with an `IceError` when the connection fails after all. */
  readonly closed: Promise<void>;
  readonly #agent: IceAgent;
  readonly #driver: Driver;
  readonly #handle: MachineHandle<IceEvent>;
  readonly #gatherer: Gatherer;
  readonly #options: OpenIceOptions;
  readonly #connected = Promise.withResolvers<CandidatePair>();
  readonly #nominated = Promise.withResolvers<CandidatePair>();
  readonly #closed = Promise.withResolvers<void>();
  readonly #gathered = Promise.withResolvers<void>();
  readonly #queue = new DatagramQueue();
  readonly #gatheringErrors: GatheringError[] = [];
  readonly #signals = new SignalLog();
  #datagrams: IceDatagrams | undefined;
  #receiver: AsyncIterator<string> | undefined;
  #closing: Promise<void> | undefined;

  /** @internal Made by `openIce()`. */
  constructor(options: OpenIceOptions) {
    const { role = "controlling", host = denoHost(), signal, ta, maxPairs, ufrag, pwd, onDatagram } = options;
    signal?.throwIfAborted();
    this.#options = options;
    this.connected = quiet(this.#connected.promise);
    this.nominated = quiet(this.#nominated.promise);
    this.closed = quiet(this.#closed.promise);
    quiet(this.#gathered.promise);
    this.#agent = new IceAgent({
      role,
      random: host.random,
      ...(ta === undefined ? {} : { ta }),
      ...(maxPairs === undefined ? {} : { maxPairs }),
      ...(ufrag === undefined ? {} : { ufrag }),
      ...(pwd === undefined ? {} : { pwd }),
    });
    this.#driver = new Driver(host);
    this.#handle = this.#driver.add(this.#agent, {
      onEvent: (event) => this.#handleEvent(event),
      onDeliver: onDatagram === undefined
        ? (_from, bytes) => this.#queue.push(bytes)
        : (_from, bytes) => onDatagram(bytes),
    });
    this.#gatherer = new Gatherer(this.#driver, this.#agent, {
      handle: this.#handle,
      options,
      report: (event) => this.#handleEvent(event),
    });
    this.#signals.push(formatFragment({ parameters: this.localParameters }));
    signal?.addEventListener("abort", this.#abort, { once: true });
    this.#gatherer.start();
  }

  /** The state. */
  get state(): IceState {
    return this.#agent.state;
  }

  /** The role, which a conflict may have changed. */
  get role(): IceRole {
    return this.#agent.role;
  }

  /** The pair that data goes along. Its candidates' addresses, its `rtt` in ms, its counters. */
  get selectedPair(): CandidatePair | undefined {
    return this.#agent.selectedPair;
  }

  /** What to tell the peer besides candidates. */
  get localParameters(): IceParameters {
    return this.#agent.localParameters;
  }

  /** Datagrams as Web Streams, made on first use. */
  get datagrams(): IceDatagrams {
    return this.#datagrams ??= {
      readable: new ReadableStream<Uint8Array>({
        pull: async (controller) => {
          const { done, value } = await this.#queue.next();
          if (done) controller.close();
          else controller.enqueue(value);
        },
      }, { highWaterMark: 0 }),
      writable: new WritableStream<Uint8Array>({
        write: async (bytes) => {
          await this.connected;
          this.send(bytes);
        },
      }),
    };
  }

  /**
   * Everything the other side needs, when all candidates are gathered: after some 100 ms as a rule, 5 s at most.
   *
   * @param format `"line"` is one line without spaces, to copy and paste; `"sdp"` SDP attribute lines. Both sides take
   * either. Default: `"line"`.
   * @throws {IceError} If there is no candidate.
   */
  async localDescription(format: "line" | "sdp" = "line"): Promise<string> {
    await this.#gathered.promise;
    const description = this.#agent.localDescription;
    return format === "line" ? formatDescriptionLine(description) : formatDescription(description);
  }

  /**
   * The same bit by bit, as it comes (RFC 8838): first credentials, then each candidate, at last the end of candidates.
   * Each text goes into `addRemoteDescription()` of the other side.
   */
  localFragments(): AsyncIterable<string> {
    return this.#signals;
  }

  /**
   * Takes in what the other side has to say: its one-line description, an SDP blob, or one of its fragments.
   *
   * @throws {SyntaxError} Naming the line that is wrong.
   */
  addRemoteDescription(description: string | IceDescription): void {
    const parsed = typeof description === "string" ? parseDescription(description) : description;
    this.#handle.call((io) => this.#agent.addRemoteDescription(parsed, io));
  }

  /** Takes in the peer's credentials; checks begin. */
  setRemoteParameters(parameters: IceParameters): void {
    this.#handle.call((io) => this.#agent.setRemoteParameters(parameters, io));
  }

  /**
   * Takes in a candidate of the peer's; gives whether it is of use.
   *
   * @throws {SyntaxError} If the text is no candidate.
   */
  addRemoteCandidate(candidate: string | Candidate): boolean {
    const parsed = typeof candidate === "string" ? parseCandidate(candidate) : candidate;
    return this.#handle.call((io) => this.#agent.addRemoteCandidate(parsed, io));
  }

  /** The peer has no more candidates. */
  endOfCandidates(): void {
    this.#handle.call((io) => this.#agent.endOfCandidates(io));
  }

  /** @internal Trickles both ways until the connection is closed. */
  signal(signaling: IceSignaling): void {
    const fail = (cause: unknown) => this.#fail(new IceError("signaling", "The signaling has broken", { cause }));
    this.#sendSignals(signaling).catch(fail);
    this.#receiveSignals(signaling).catch(fail);
  }

  /**
   * Sends a datagram to the peer.
   *
   * @param bytes Up to 65,507 bytes; 1200 get through nearly everywhere. Free to be changed afterwards.
   * @returns Whether it was sent: not so before `connected`, and after the connection has failed or was closed.
   */
  send(bytes: Uint8Array): boolean {
    return this.#closing === undefined && this.#handle.call((io) => this.#agent.send(bytes, io));
  }

  /** Candidates, pairs and counts, with W3C's names. */
  stats(): IceStats & { readonly droppedUnread: number } {
    return { ...iceStats(this.#agent), droppedUnread: this.#queue.dropped };
  }

  /** Closes the connection and gives relays back, which takes up to 1.5 s if their server is silent. May be called again. */
  close(): Promise<void> {
    return this.#closing ??= this.#close(new IceError("closed", "The connection was closed"));
  }

  /** As `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** What the peer sends. */
  [Symbol.asyncIterator](): AsyncIterator<Uint8Array, undefined> {
    return { next: () => this.#queue.next(), return: () => Promise.resolve({ done: true, value: undefined }) };
  }

  async #close(reason: unknown): Promise<void> {
    this.#options.signal?.removeEventListener("abort", this.#abort);
    this.#handle.call((io) => this.#agent.close(io));
    for (const { reject } of [this.#connected, this.#nominated, this.#gathered]) reject(reason);
    this.#queue.end();
    this.#signals.end();
    this.#receiver?.return?.();
    await this.#gatherer.close();
    this.#driver.close();
    this.#closed.resolve();
  }

  #abort = () => {
    this.#closing ??= this.#close(this.#options.signal!.reason);
  };

  #fail(error: Error): void {
    for (const { reject } of [this.#connected, this.#nominated, this.#closed]) reject(error);
    this.#queue.end(error);
  }

  #handleEvent(event: IceEvent): void {
    this.#gatherer.handleEvent(event);
    switch (event.type) {
      case "local-candidate":
        this.#signals.push(formatCandidate(event.candidate));
        break;
      case "gathering-done":
        this.#handleGathered();
        break;
      case "gathering-error":
        this.#gatheringErrors.push(event);
        break;
      case "selected-pair":
        if (event.pair !== undefined) this.#connected.resolve(event.pair);
        break;
      case "nominated":
        this.#nominated.resolve(event.pair);
        break;
      case "state":
        if (event.state === "failed") this.#handleFailed(event.reason!);
        break;
    }
    this.#options.onEvent?.(event);
  }

  #handleGathered(): void {
    this.#signals.push("end-of-candidates");
    this.#signals.end();
    if (this.#agent.localCandidates.length > 0) return this.#gathered.resolve();
    const error = new IceError("no-candidates", "Cannot connect as there is no local candidate", {
      gatheringErrors: this.#gatheringErrors,
    });
    this.#gathered.reject(error);
    this.#fail(error);
  }

  #handleFailed(reason: string): void {
    const wasConnected = this.#agent.pairs.some(({ validAt }) => validAt !== undefined);
    this.#fail(
      wasConnected
        ? new IceError("consent-lost", `The connection is lost: ${lowerFirst(reason)}`)
        : new IceError("no-path", `Cannot connect: ${lowerFirst(reason)}`, { gatheringErrors: this.#gatheringErrors }),
    );
  }

  async #sendSignals(signaling: IceSignaling): Promise<void> {
    for await (const text of this.#signals) await signaling.send(text);
  }

  async #receiveSignals(signaling: IceSignaling): Promise<void> {
    const receiver = this.#receiver = signaling.receive[Symbol.asyncIterator]();
    while (this.#closing === undefined) {
      const { done, value } = await receiver.next();
      if (this.#closing !== undefined) return;
      if (done) return this.endOfCandidates();
      this.addRemoteDescription(value);
    }
  }
}

/** The fragments told so far and to come; each reader gets all of them. */
class SignalLog implements AsyncIterable<string> {
  #texts: string[] = [];
  #isDone = false;
  #more = Promise.withResolvers<void>();

  push(text: string): void {
    if (this.#isDone) return;
    this.#texts.push(text);
    this.#wake();
  }

  end(): void {
    this.#isDone = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<string> {
    for (let i = 0;; i++) {
      while (i >= this.#texts.length) {
        if (this.#isDone) return;
        await this.#more.promise;
      }
      yield this.#texts[i]!;
    }
  }

  #wake(): void {
    this.#more.resolve();
    this.#more = Promise.withResolvers<void>();
  }
}

function formatFragment(part: Partial<IceDescription>): string {
  return formatDescriptionLine({ candidates: [], endOfCandidates: false, ignored: [], ...part });
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

/** Nobody has to wait for it: a rejection is for those who do. */
function quiet<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}
