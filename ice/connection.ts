import { denoHost } from "../stun/net/deno_host.ts";
import { Driver, type MachineHandle } from "../stun/net/driver.ts";
import type { Host } from "../stun/net/transport.ts";
import { IceAgent } from "./agent.ts";
import type { Candidate } from "./candidate.ts";
import { ConnectionStreams, type IceStreamConnection } from "./component_connection.ts";
import { agentOptionsOf, type IceDatagrams, type IceSignaling, type OpenIceOptions } from "./connection_options.ts";
import { IceError } from "./error.ts";
import type { GatheringError, IceEvent, IceState } from "./events.ts";
import { Gatherer } from "./gather.ts";
import { type HostChange, type NetworkWatch, watchOf } from "./network_watch.ts";
import { Outcome, pending } from "./_outcome.ts";
import type { Membership } from "./mux_table.ts";
import type { CandidatePair, IceRole } from "./pair.ts";
import {
  formatDescription,
  formatDescriptionLine,
  type IceDescription,
  type IceParameters,
  parseCandidate,
  parseDescription,
} from "./sdp.ts";
import { Recovery, RECOVERY_LIMIT } from "./recovery.ts";
import { candidateFragment, formatFragment, Signals } from "./_signaling.ts";
import { type IceStats, iceStats } from "./stats.ts";
import { webDatagrams } from "./_web_datagrams.ts";

export type { IceDatagrams, IceSignaling, OpenIceOptions } from "./connection_options.ts";

/** The sleep after which the peer has taken us for gone, in ms (RFC 7675 §5.1). */
const CONSENT_GONE = 30_000;

let defaultHost: Host | undefined;

/**
 * A connection to a peer: datagrams along the best path, with nothing promised about loss, order and repetition, as UDP.
 *
 * Iterating gives what the peer sends; it ends with `close()` and throws when the connection fails. `await using` closes.
 *
 * A connection that has failed can be revived: by `restart()`, or by a candidate of the peer's that works. `connected`,
 * `nominated` and `closed` are other promises then, and what comes can be iterated again.
 */
export class IceConnection implements AsyncIterable<Uint8Array>, AsyncDisposable {
  readonly #agent: IceAgent;
  readonly #driver: Driver;
  readonly #membership: Membership | undefined;
  readonly #handle: MachineHandle<IceEvent>;
  readonly #gatherer: Gatherer;
  readonly #options: OpenIceOptions;
  readonly #outcome = new Outcome();
  readonly #recovery: Recovery;
  readonly #watch: NetworkWatch | undefined;
  readonly #stopWatching: () => void;
  #gathered = pending<void>();
  readonly #streams: ConnectionStreams;
  #gatheringErrors: GatheringError[] = [];
  readonly #signals = new Signals((cause) => this.#failSignaling(cause));
  #ufrag: string;
  /** Whether a restart waits for the peer's answer to the one before. */
  #isRestartDue = false;
  #datagrams: IceDatagrams | undefined;
  #closing: Promise<void> | undefined;

  /** @internal Made by `openIce()`. */
  constructor(options: OpenIceOptions) {
    const { signal, onDatagram } = options;
    signal?.throwIfAborted();
    this.#membership = options.mux?.join({ isLite: options.lite === true });
    const host = this.#membership?.host ?? options.host ?? (defaultHost ??= denoHost());
    if (this.#membership !== undefined) {
      const { bind, hasTcp } = this.#membership;
      options = { ...(hasTcp ? { tcp: "passive" as const } : {}), ...options, bind };
    }
    this.#options = options;
    this.#agent = new IceAgent(agentOptionsOf(options, host));
    this.#streams = new ConnectionStreams({
      agent: this.#agent,
      send: (bytes, flow) => this.#send(bytes, flow),
      removeStream: (stream) => {
        this.#handle.call((io) => this.#agent.removeStream(stream, io));
        this.#settle();
      },
    });
    if (options.mux !== undefined && this.#streams.components.length > 1) {
      throw new RangeError("Cannot use mux for several components as each needs a port of its own");
    }
    this.#driver = new Driver(host);
    this.#handle = this.#driver.add(this.#agent, {
      onEvent: (event) => this.#handleEvent(event),
      onDeliver: onDatagram === undefined
        ? (_from, bytes, flow) => this.#streams.components[flow]!.queue.push(bytes)
        : (_from, bytes, flow) => onDatagram(bytes, this.#streams.components[flow]!),
    });
    this.#gatherer = new Gatherer(this.#driver, this.#agent, {
      handle: this.#handle,
      options,
      report: (event) => this.#handleEvent(event),
    });
    this.#recovery = new Recovery({
      host,
      limit: options.recoverWithin ?? RECOVERY_LIMIT,
      canRestart: () => this.#canRestart,
      isRestarting: () => this.#agent.isRestarting,
      restart: () => this.#restart(),
      giveUp: (reason) => this.#loseForGood(reason),
    });
    this.#ufrag = this.localParameters.ufrag;
    this.#membership?.addUfrag(this.#ufrag);
    this.#signals.log.push(formatFragment({ parameters: this.localParameters }));
    signal?.addEventListener("abort", this.#abort, { once: true });
    const isWatching = options.watchNetwork ?? options.bind === undefined;
    this.#watch = isWatching ? watchOf(host) : undefined;
    this.#driver.onSendError = () => this.#watch?.lookSoon();
    this.#stopWatching = this.#watch?.add((change) => this.#handleHostChange(change)) ?? (() => {});
    this.#gatherer.start();
  }

  /** Data can flow: the first pair works. Rejected with an `IceError` if none does, or by `close()`. */
  get connected(): Promise<CandidatePair> {
    return this.#outcome.connected.promise;
  }

  /** A pair is nominated. Rejected as `connected` is. */
  get nominated(): Promise<CandidatePair> {
    return this.#outcome.nominated.promise;
  }

  /** Fulfilled by `close()`, rejected with an `IceError` when the connection fails after all. */
  get closed(): Promise<void> {
    return this.#outcome.closed.promise;
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

  /** All pairs, best first, with what was measured on each: `rtt` and `jitter` in ms, `loss`. */
  get pairs(): readonly CandidatePair[] {
    return this.#agent.pairs;
  }

  /** The pairs that are kept warm, to take over at once when the selected one goes silent. */
  get standbyPairs(): readonly CandidatePair[] {
    return this.#agent.standbyPairs;
  }

  /** The data streams: one, unless the option `streams` says otherwise. */
  get streams(): readonly IceStreamConnection[] {
    return this.#streams.all;
  }

  /**
   * One of the data streams: `connection.stream(1).component(2).send(bytes)`.
   *
   * @param index Its number, from 0, or what it is called.
   * @throws {RangeError} If there is none.
   */
  stream(index: number | string): IceStreamConnection {
    const found = this.#streams.all.find((one) => one.index === index || one.mid === index);
    if (found !== undefined) return found;
    throw new RangeError(`Cannot get stream ${index} as there are ${this.#streams.all.length}, counted from 0`);
  }

  /** What to tell the peer besides candidates. */
  get localParameters(): IceParameters {
    return this.#agent.localParameters;
  }

  /** Datagrams as Web Streams, made on first use. */
  get datagrams(): IceDatagrams {
    return this.#datagrams ??= webDatagrams(this.#streams.first, this);
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
    return this.#signals.log;
  }

  /**
   * Begins ICE anew (RFC 8445 §9), as when the network has changed: with new credentials and candidates, and without a gap
   * in the data, which goes the old way until there is a new one. The other side does the same by itself as soon as it has
   * the new description, and has a new one to give as well. Over signaling as in `connectIce()` all that comes by itself,
   * whichever side begins. The network interfaces are looked at again. A connection that has failed is revived.
   *
   * @param format As in `localDescription()`.
   * @returns The new description, when all candidates are gathered.
   * @throws {IceError} If there is no candidate, or the connection is closed.
   */
  async restart(format: "line" | "sdp" = "line"): Promise<string> {
    if (this.#closing !== undefined) throw new IceError("closed", "Cannot restart as the connection was closed");
    this.#restart();
    return await this.localDescription(format);
  }

  /**
   * Looks at once whether the network has changed, and whether the peer is still there: for a program that is told of
   * changes by its system, or that does not let natkit watch. New addresses make new candidates, and what is gone is not
   * used any more. With `autoRestart` ICE is restarted if that is needed; else it is for `restart()` to make use of an
   * address that has come after gathering was done. The event `network-change` tells what has changed.
   */
  networkChanged(): void {
    if (this.#closing !== undefined) return;
    const change = this.#gatherer.survey();
    if (change.gained.length === 0 && change.lost.length === 0) return this.#checkPeer();
    this.#handleEvent({ type: "network-change", gained: change.gained, lost: change.lost });
    // What is gone may come back as it was, and until then there is nothing to change to.
    if (change.isOffline) return;
    const isUseful = change.offersMore || change.losesSelected;
    if (this.#canRestart && isUseful && (this.#agent.isGatheringDone || change.losesSelected)) this.#restart();
    else this.#gatherer.adapt();
  }

  /**
   * One restart after the other where they come by themselves: what the peer has said to the one before would be taken for
   * the answer to the next, its answer for a restart of its own, and so on without an end.
   */
  #restart(): void {
    const { hasFailed } = this.#outcome;
    this.#isRestartDue = this.#canRestart && this.#agent.remoteParameters === undefined && !hasFailed;
    if (this.#isRestartDue) return this.#gatherer.adapt();
    if (hasFailed) this.#revive();
    this.#gatherer.restart();
  }

  #restartIfDue(): void {
    if (this.#isRestartDue && this.#agent.remoteParameters !== undefined) this.#restart();
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
    this.#restartIfDue();
  }

  /** Takes in the peer's credentials; checks begin. */
  setRemoteParameters(parameters: IceParameters): void {
    this.#handle.call((io) => this.#agent.setRemoteParameters(parameters, io));
    this.#restartIfDue();
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

  /** Takes a role in place of that of the options, before the peer's credentials are known; gives whether it did. */
  setRole(role: IceRole): boolean {
    return this.#handle.call((io) => this.#agent.setRole(role, io));
  }

  /** The peer has no more candidates. */
  endOfCandidates(): void {
    this.#handle.call((io) => this.#agent.endOfCandidates(io));
  }

  /** @internal Trickles both ways until the connection is closed. */
  signal(signaling: IceSignaling): void {
    this.#signals.connect(signaling, (text) => {
      if (text === undefined) this.endOfCandidates();
      else this.addRemoteDescription(text);
    });
  }

  #failSignaling(cause: unknown): void {
    // A connection that is there needs no signaling any more.
    if (this.selectedPair !== undefined) return;
    this.#fail(new IceError("signaling", "Cannot connect as the signaling has broken", { cause }));
  }

  /**
   * Sends a datagram to the peer: of several streams to the first component of the first one.
   *
   * @param bytes Up to 65,507 bytes; 1200 get through nearly everywhere. Free to be changed afterwards.
   * @returns Whether it was sent: not so before `connected`, and after the connection has failed or was closed.
   */
  send(bytes: Uint8Array): boolean {
    return this.#send(bytes, 0);
  }

  #send(bytes: Uint8Array, flow: number): boolean {
    return this.#closing === undefined && this.#handle.call((io) => this.#agent.send(bytes, io, flow));
  }

  /**
   * Sends along this pair from now on, as long as it answers; with `undefined`, along the one that `pathPolicy` says. The
   * controlling side nominates it as well, so that the peer does the same.
   *
   * @param pair One of `pairs`.
   * @returns Whether that can be: the peer has answered on it within 30 s, as it does on those that are kept warm.
   */
  selectPair(pair: CandidatePair | undefined): boolean {
    return this.#closing === undefined && this.#handle.call((io) => this.#agent.selectPair(pair, io));
  }

  /** Candidates, pairs and counts, with W3C's names. */
  stats(): IceStats & { readonly droppedUnread: number } {
    return { ...iceStats(this.#agent), droppedUnread: this.#streams.dropped };
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
    return { next: () => this.#streams.first.next(), return: () => Promise.resolve({ done: true, value: undefined }) };
  }

  async #close(reason: unknown): Promise<void> {
    this.#options.signal?.removeEventListener("abort", this.#abort);
    this.#stopWatching();
    this.#recovery.close();
    this.#handle.call((io) => this.#agent.close(io));
    for (const { reject } of [this.#outcome.connected, this.#outcome.nominated, this.#gathered]) reject(reason);
    this.#streams.end();
    this.#signals.close();
    await this.#gatherer.close();
    this.#driver.close();
    this.#membership?.leave();
    this.#outcome.closed.resolve();
  }

  #abort = () => {
    this.#closing ??= this.#close(this.#options.signal!.reason);
  };

  #fail(error: Error): void {
    this.#outcome.fail(error);
    this.#streams.end(error);
  }

  #revive(): void {
    this.#outcome.revive();
    this.#streams.reopen();
    this.#datagrams = undefined;
  }

  get #canRestart(): boolean {
    const { autoRestart = this.#signals.isLive } = this.#options;
    return autoRestart && this.#closing === undefined;
  }

  #loseForGood(reason: string): void {
    const gatheringErrors = this.#gatheringErrors;
    this.#fail(new IceError("consent-lost", `The connection is lost: ${lowerFirst(reason)}`, { gatheringErrors }));
  }

  #handleHostChange({ sleptMs }: HostChange): void {
    this.networkChanged();
    // Its consent has expired over there: nothing is to be expected any more with these credentials.
    if (sleptMs >= CONSENT_GONE && this.#canRestart && !this.#agent.isRestarting) this.#restart();
  }

  #checkPeer(): void {
    this.#handle.call((io) => this.#agent.checkConsent(io));
  }

  #handleEvent(event: IceEvent): void {
    this.#gatherer.handleEvent(event);
    switch (event.type) {
      case "local-candidate":
        this.#signals.log.push(
          candidateFragment(event.candidate, this.#ufrag, this.#streams.all.map(({ mid }) => mid)),
        );
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
      case "nominated":
        this.#settle();
        break;
      case "state":
        this.#handleState(event);
        break;
    }
    this.#options.onEvent?.(event);
  }

  /** Tells who waits, once every component has a pair. */
  #settle(): void {
    const live = this.#agent.components.filter(({ state }) => state !== "closed");
    const pairs = live.map(({ selectedPair }) => selectedPair);
    const [first] = pairs;
    if (first === undefined || pairs.includes(undefined)) return;
    this.#outcome.connected.resolve(first);
    if (pairs.every((pair) => pair!.nominated)) this.#outcome.nominated.resolve(first);
  }

  #handleState(event: Extract<IceEvent, { type: "state" }>): void {
    const { state, reason = "" } = event;
    if (this.#outcome.hasFailed && (state === "checking" || state === "connected")) this.#revive();
    if (!this.#recovery.handleState(event) && state === "failed") this.#handleFailed(reason);
  }

  #handleRestart(parameters: IceParameters): void {
    this.#gatheringErrors = [];
    const before = this.#gathered;
    this.#gathered = pending();
    // Who waits for the description of before gets the one of now.
    before.resolve(this.#gathered.promise);
    this.#ufrag = parameters.ufrag;
    this.#membership?.addUfrag(this.#ufrag);
    this.#signals.renew();
    this.#signals.log.push(formatFragment({ parameters }));
    // The interfaces were looked at for it: were the watch not to know, it would miss that a change is taken back.
    this.#watch?.look();
  }

  #handleGathered(): void {
    this.#signals.log.push("end-of-candidates");
    this.#signals.log.end();
    if (this.#agent.localCandidates.length > 0) return this.#gathered.resolve();
    const error = new IceError("no-candidates", "Cannot connect as there is no local candidate", {
      gatheringErrors: this.#gatheringErrors,
    });
    this.#gathered.reject(error);
    if (this.selectedPair === undefined && !this.#recovery.isUnderWay) this.#fail(error);
  }

  #handleFailed(reason: string): void {
    const wasConnected = this.#agent.pairs.some(({ validAt }) => validAt !== undefined);
    this.#fail(
      wasConnected
        ? new IceError("consent-lost", `The connection is lost: ${lowerFirst(reason)}`)
        : new IceError("no-path", `Cannot connect: ${lowerFirst(reason)}`, { gatheringErrors: this.#gatheringErrors }),
    );
  }
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
