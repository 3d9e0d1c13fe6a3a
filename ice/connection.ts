import { denoHost } from "../stun/net/deno_host.ts";
import { Driver, type MachineHandle } from "../stun/net/driver.ts";
import type { Host } from "../stun/net/transport.ts";
import { IceAgent } from "./agent.ts";
import type { IceAgentOptions } from "./agent_options.ts";
import type { Candidate } from "./candidate.ts";
import { DatagramQueue } from "./_datagram_queue.ts";
import { IceError } from "./error.ts";
import type { GatheringError, IceEvent, IceState } from "./events.ts";
import { Gatherer } from "./gather.ts";
import type { GatherOptions } from "./gather_options.ts";
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
import { SignalLog } from "./_signal_log.ts";
import { type IceStats, iceStats } from "./stats.ts";

/** How `openIce()` makes a connection. */
export interface OpenIceOptions
  extends GatherOptions, Partial<Pick<IceAgentOptions, "ta" | "maxPairs" | "ufrag" | "pwd" | "lite">> {
  /**
   * Who nominates: one side `"controlling"`, the other `"controlled"`; or both `"auto"`, so that their username fragments
   * decide. A conflict is repaired, which takes a round trip. Default: `"controlling"`.
   */
  readonly role?: IceRole | "auto";
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
  #gathered = Promise.withResolvers<void>();
  readonly #queue = new DatagramQueue();
  readonly #gatheringErrors: GatheringError[] = [];
  #signals = new SignalLog();
  #ufrag: string;
  #signaling: IceSignaling | undefined;
  #sending: Promise<void> = Promise.resolve();
  #datagrams: IceDatagrams | undefined;
  #receiver: AsyncIterator<string> | undefined;
  #closing: Promise<void> | undefined;

  /** @internal Made by `openIce()`. */
  constructor(options: OpenIceOptions) {
    const { role = "controlling", host = denoHost(), signal, ta, maxPairs, ufrag, pwd, lite, onDatagram } = options;
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
      ...(lite === undefined ? {} : { lite }),
      // Through relays alone no named address may be reached.
      resolvesNames: options.mdns !== "off" && options.policy !== "relay",
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
    this.#ufrag = this.localParameters.ufrag;
    this.#signals.push(formatFragment({ parameters: this.localParameters }));
    signal?.addEventListener("abort", this.#abort, { once: true });
    this.#gatherer.start();
  }

  /** The state. */
  get state(): IceState {
    return this.#agent.state;
  }

  /** The role, which a conflict may change; with `"auto"` it is decided when the peer's credentials are known. */
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
   * Each text goes into `addRemoteDescription()` of the other side. A restart ends it, and begins another.
   */
  localFragments(): AsyncIterable<string> {
    return this.#signals;
  }

  /**
   * Begins ICE anew (RFC 8445 §9), as when the network has changed: with new credentials and candidates, and without a gap
   * in the data, which goes the old way until there is a new one. The other side does the same by itself as soon as it has
   * the new description, and has a new one to give as well. Over signaling as in `connectIce()` all that comes by itself,
   * whichever side begins.
   *
   * @param format As in `localDescription()`.
   * @returns The new description, when all candidates are gathered.
   * @throws {IceError} If there is no candidate, or the connection is closed or has failed.
   */
  async restart(format: "line" | "sdp" = "line"): Promise<string> {
    if (this.#closing !== undefined || this.state === "failed") await this.closed;
    if (this.#closing !== undefined) throw new IceError("closed", "Cannot restart as the connection was closed");
    this.#handle.call((io) => this.#agent.restart(io));
    return this.localDescription(format);
  }

  /**
   * Takes in what the other side has to say: its one-line description, an SDP blob, or one of its fragments. Other
   * credentials than before are a restart of the other side's: the event `restart` tells that `localDescription()` is
   * another from now on, for the other side to take in.
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
    this.#signaling = signaling;
    this.#sendSignals(signaling);
    this.#receiveSignals(signaling).catch((error) => this.#failSignaling(error));
  }

  #failSignaling(cause: unknown): void {
    // A connection that is there needs no signaling any more.
    if (this.selectedPair !== undefined) return;
    this.#fail(new IceError("signaling", "Cannot connect as the signaling has broken", { cause }));
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
        // RFC 8838 §9: it tells which generation it belongs to.
        this.#signals.push(formatCandidate({ ...event.candidate, extensions: [["ufrag", this.#ufrag]] }));
        break;
      case "restart":
        this.#handleRestart(event.parameters);
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

  #handleRestart(parameters: IceParameters): void {
    const before = this.#gathered;
    this.#gathered = Promise.withResolvers();
    quiet(this.#gathered.promise);
    // Who waits for the description of before gets the one of now.
    before.resolve(this.#gathered.promise);
    this.#ufrag = parameters.ufrag;
    this.#signals.end();
    this.#signals = new SignalLog();
    this.#signals.push(formatFragment({ parameters }));
    if (this.#signaling !== undefined) this.#sendSignals(this.#signaling);
  }

  #handleGathered(): void {
    this.#signals.push("end-of-candidates");
    this.#signals.end();
    if (this.#agent.localCandidates.length > 0) return this.#gathered.resolve();
    const error = new IceError("no-candidates", "Cannot connect as there is no local candidate", {
      gatheringErrors: this.#gatheringErrors,
    });
    this.#gathered.reject(error);
    if (this.selectedPair === undefined) this.#fail(error);
  }

  #handleFailed(reason: string): void {
    const wasConnected = this.#agent.pairs.some(({ validAt }) => validAt !== undefined);
    this.#fail(
      wasConnected
        ? new IceError("consent-lost", `The connection is lost: ${lowerFirst(reason)}`)
        : new IceError("no-path", `Cannot connect: ${lowerFirst(reason)}`, { gatheringErrors: this.#gatheringErrors }),
    );
  }

  /** Sends all of this generation, after what is still to be sent of the one before. */
  #sendSignals(signaling: IceSignaling): void {
    const signals = this.#signals;
    this.#sending = this.#sending.then(async () => {
      for await (const text of signals) await signaling.send(text);
    }).catch((error) => this.#failSignaling(error));
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
