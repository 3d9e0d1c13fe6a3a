import { denoHost } from "../stun/net/deno_host.ts";
import { TransportProgress } from "./_transport_progress.ts";
import { describe, describePair, serversOf } from "./_transport_shapes.ts";
import { openIce } from "./connect.ts";
import type { IceConnection } from "./connection.ts";
import { IceCredentials } from "./credentials.ts";
import type { IceEvent, IceState } from "./events.ts";
import { ICE_OPTIONS } from "./local_side.ts";
import type { CandidatePair, IceRole } from "./pair.ts";
import { ufragOf } from "./remote_candidates.ts";
import { parseCandidate } from "./sdp.ts";
import {
  IceDatagramEvent,
  type IceTransportCandidate,
  type IceTransportCandidatePair,
  type IceTransportEventMap,
  type IceTransportGatheringState,
  type IceTransportHandler,
} from "./transport_events.ts";
import type {
  IceTransportCandidateInit,
  IceTransportGatherOptions,
  IceTransportOptions,
  IceTransportParameters,
} from "./transport_options.ts";
import { type IceTransportStats, statsReport } from "./transport_stats.ts";

export type {
  IceTransportCandidateInit,
  IceTransportGatherOptions,
  IceTransportOptions,
  IceTransportParameters,
} from "./transport_options.ts";

const EVENTS = [
  "icecandidate",
  "statechange",
  "gatheringstatechange",
  "selectedcandidatepairchange",
  "error",
  "datagram",
] as const;

/**
 * A connection in the shape of W3C's RTCIceTransport with the `gather()`, `start()`, `addRemoteCandidate()` and `stop()`
 * of its extension webrtc-ice, and with datagrams in addition: what uses that shape elsewhere runs here, and code for both
 * needs to be written once. Behind it is `openIce()`.
 *
 * Events come in their order, each in a microtask of its own; `state` and the others change together with their event.
 *
 * @example Candidates trickle from one to the other
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { IceTransport } from "@natkit/natkit/ice";
 *
 * const [alice, bob] = [new IceTransport({ bind: ["127.0.0.1"] }), new IceTransport({ bind: ["127.0.0.1"] })];
 * alice.onicecandidate = ({ candidate }) => bob.addRemoteCandidate(candidate ?? {});
 * bob.onicecandidate = ({ candidate }) => alice.addRemoteCandidate(candidate ?? {});
 * const received = new Promise<string>((resolve) => {
 *   bob.ondatagram = ({ data }) => resolve(new TextDecoder().decode(data));
 * });
 * alice.onselectedcandidatepairchange = () => alice.send(new TextEncoder().encode("hello"));
 *
 * alice.start(bob.getLocalParameters(), "controlling");
 * bob.start(alice.getLocalParameters(), "controlled");
 * alice.gather();
 * bob.gather();
 *
 * assertEquals(await received, "hello");
 * assertEquals(alice.getSelectedCandidatePair()?.remote.type, "host");
 * await Promise.all([alice.stop(), bob.stop()]);
 * ```
 */
export class IceTransport extends EventTarget implements AsyncDisposable {
  /** Called for each local candidate, and with `null` when there are no more. */
  onicecandidate: IceTransportHandler<"icecandidate"> = null;
  /** Called when `state` has changed. */
  onstatechange: IceTransportHandler<"statechange"> = null;
  /** Called when `gatheringState` has changed. */
  ongatheringstatechange: IceTransportHandler<"gatheringstatechange"> = null;
  /** Called when data goes along another pair, or along none any more. */
  onselectedcandidatepairchange: IceTransportHandler<"selectedcandidatepairchange"> = null;
  /** Called when a server gives no candidate, and when the connection fails. */
  onerror: IceTransportHandler<"error"> = null;
  /** Called for each datagram from the peer. */
  ondatagram: IceTransportHandler<"datagram"> = null;
  readonly #options: IceTransportOptions;
  readonly #credentials: IceCredentials;
  readonly #progress: TransportProgress;
  #connection: IceConnection | undefined;
  #role: IceRole | undefined;
  #remoteParameters: IceTransportParameters | undefined;
  #remoteCandidates: IceTransportCandidate[] = [];
  /** Whose failure is listened for. */
  #watched: Promise<void> | undefined;
  /** What the peer told before there was a connection to tell. */
  readonly #early: ((connection: IceConnection) => void)[] = [];

  /**
   * A transport that does nothing yet.
   *
   * @param options See `OpenIceOptions`.
   * @throws {RangeError} If `ufrag` or `pwd` is not as it must be.
   */
  constructor(options: IceTransportOptions = {}) {
    super();
    const { host = denoHost(), ufrag, pwd } = options;
    this.#options = { ...options, host };
    this.#credentials = new IceCredentials(host.random, {
      ...(ufrag === undefined ? {} : { ufrag }),
      ...(pwd === undefined ? {} : { pwd }),
    });
    this.#progress = new TransportProgress(this, this.#credentials.ufrag);
    for (const type of EVENTS) {
      this.addEventListener(type, (event) => (this[`on${type}`] as ((event: Event) => void) | null)?.(event));
    }
  }

  /** The role; `"unknown"` before `start()`. A conflict may change it. */
  get role(): IceRole | "unknown" {
    return this.#role === undefined ? "unknown" : this.#connection?.role ?? this.#role;
  }

  /** Always the first component. */
  get component(): "rtp" {
    return "rtp";
  }

  /** The state. */
  get state(): IceState {
    return this.#progress.state;
  }

  /** The progress of gathering. */
  get gatheringState(): IceTransportGatheringState {
    return this.#progress.gatheringState;
  }

  /** The candidates to tell the peer, those so far. */
  getLocalCandidates(): IceTransportCandidate[] {
    return [...this.#progress.localCandidates];
  }

  /** The candidates that `addRemoteCandidate()` took in. */
  getRemoteCandidates(): IceTransportCandidate[] {
    return [...this.#remoteCandidates];
  }

  /** The pair that data goes along; `null` when there is none. */
  getSelectedCandidatePair(): IceTransportCandidatePair | null {
    return this.#progress.selectedPair;
  }

  /** The pairs that work and could be selected, best first. Not one of W3C's. */
  getCandidatePairs(): IceTransportCandidatePair[] {
    return this.#validPairs().map((pair) => describePair(pair, this.#progress.ufrag));
  }

  /**
   * Sends along another pair from now on, as long as it answers; the controlling side nominates it as well. As W3C's
   * extension has it.
   *
   * @param pair As `getCandidatePairs()` gives it.
   * @throws {DOMException} `InvalidStateError` if the transport is stopped; `NotFoundError` if there is no such pair; and
   * `OperationError` if the peer has not answered on it within 30 s.
   */
  // deno-lint-ignore require-await -- a promise, as W3C has it
  async selectCandidatePair(pair: IceTransportCandidatePair): Promise<void> {
    this.#assertOpen("select candidate pair");
    const found = this.#validPairs().find((one) => {
      const { local, remote } = describePair(one, this.#progress.ufrag);
      return local.candidate === pair.local.candidate && remote.candidate === pair.remote.candidate;
    });
    if (found === undefined) throw new DOMException("Cannot select a pair that does not work", "NotFoundError");
    if (!this.#connection!.selectPair(found)) {
      throw new DOMException("Cannot select a pair that the peer has not answered on lately", "OperationError");
    }
  }

  /** What to tell the peer besides candidates: there from the beginning, and others after a restart. */
  getLocalParameters(): IceTransportParameters {
    const { ufrag, pwd } = this.#connection?.localParameters ?? this.#credentials;
    const iceOptions = ICE_OPTIONS;
    return {
      usernameFragment: ufrag,
      password: pwd,
      iceOptions,
      ...(this.#options.lite === true && { iceLite: true }),
    };
  }

  /**
   * What it has and did, as W3C's RTCStatsReport: `transport`, `candidate-pair`, `local-candidate` and `remote-candidate` by
   * their ids. Empty before `gather()`.
   */
  getStats(): Promise<ReadonlyMap<string, IceTransportStats>> {
    if (this.#connection === undefined) return Promise.resolve(new Map());
    const { usernameFragment } = this.getLocalParameters();
    const timestamp = this.#options.host!.unixTime() * 1000;
    return Promise.resolve(statsReport(this.#connection.stats(), { timestamp, usernameFragment, role: this.role }));
  }

  /** What `start()` was given latest; `null` before. */
  getRemoteParameters(): IceTransportParameters | null {
    return this.#remoteParameters ?? null;
  }

  /**
   * Begins to gather candidates.
   *
   * @param options Where from.
   * @throws {DOMException} `InvalidStateError` if it was called before, or the transport is stopped.
   * @throws {SyntaxError} If an address in `bind` is none.
   * @throws {RangeError} If an option is out of range.
   */
  gather(options: IceTransportGatherOptions = {}): void {
    this.#assertOpen("gather");
    if (this.#connection !== undefined) throw invalidState("Cannot gather as it has begun before");
    const { ufrag, pwd } = this.#credentials;
    const connection = this.#connection = openIce({
      ...this.#options,
      ...serversOf(options.iceServers ?? []),
      policy: options.gatherPolicy ?? "all",
      role: this.#role ?? this.#options.role ?? "auto",
      ufrag,
      pwd,
      onEvent: (event) => queueMicrotask(() => this.#handleEvent(event)),
      onDatagram: (bytes) => this.dispatchEvent(new IceDatagramEvent(bytes.slice())),
    });
    this.#watch(connection);
    this.#progress.beginGathering();
    for (const tell of this.#early.splice(0)) tell(connection);
  }

  /**
   * Begins to check: with what the peer has told, and will tell.
   *
   * Called again with other parameters it is a restart (RFC 8445 §9): the peer's, which is answered by new parameters and
   * candidates of ours, to be told again; or the answer to ours, after `restart()`. With the same parameters nothing changes.
   *
   * @param remoteParameters The peer's.
   * @param role Ours. Default: that of the options, or `"controlled"`; in a restart as before.
   * @throws {DOMException} `InvalidStateError` if the transport is stopped, or a restart was to change the role.
   */
  start(remoteParameters: IceTransportParameters, role?: IceRole): void {
    this.#assertOpen("start");
    const { usernameFragment, password, iceLite, iceOptions } = remoteParameters;
    const before = this.#remoteParameters;
    if (before !== undefined && before.usernameFragment === usernameFragment) return;
    if (before !== undefined && role !== undefined && role !== this.role) {
      throw invalidState(`Cannot change the role in a restart: current role is "${this.role}"`);
    }
    this.#remoteParameters = { ...remoteParameters };
    if (before !== undefined) {
      this.#remoteCandidates = this.#remoteCandidates.filter((one) => one.usernameFragment === usernameFragment);
    }
    const first = before === undefined ? role ?? this.#options.role ?? "controlled" : undefined;
    this.#role ??= first;
    this.#tell((connection) => {
      if (first !== undefined) connection.setRole(first);
      connection.setRemoteParameters({
        ufrag: usernameFragment,
        pwd: password,
        ...(iceLite === undefined ? {} : { lite: iceLite }),
        ...(iceOptions === undefined ? {} : { options: iceOptions }),
      });
    });
  }

  /**
   * Restarts ICE (RFC 8445 §9), as when the network has changed or the connection has failed. Data goes on along the pair in
   * use. Candidates follow as after `gather()`; the peer takes the parameters by `start()`, and answers with new ones.
   *
   * @returns What to tell the peer: new parameters.
   * @throws {DOMException} `InvalidStateError` if it has not gathered yet, or the transport is stopped.
   */
  restart(): IceTransportParameters {
    this.#assertOpen("restart");
    if (this.#connection === undefined) throw invalidState("Cannot restart before gather() was called");
    // That there is no candidate is told by an event.
    this.#connection.restart().catch(() => {});
    return this.getLocalParameters();
  }

  /**
   * Takes in a candidate of the peer's. An empty one, or none, says that no more follow.
   *
   * @param init An event's candidate as it is, or its line.
   * @throws {DOMException} `InvalidStateError` if the transport is stopped.
   * @throws {SyntaxError} If the line is no candidate.
   */
  addRemoteCandidate(init: IceTransportCandidateInit = {}): void {
    this.#assertOpen("add candidate");
    const { candidate: line = "" } = init;
    if (line === "") return this.#tell((connection) => connection.endOfCandidates());
    const candidate = parseCandidate(line);
    this.#remoteCandidates.push(describe(candidate, ufragOf(candidate) ?? this.#remoteParameters?.usernameFragment));
    this.#tell((connection) => void connection.addRemoteCandidate(candidate));
  }

  /**
   * Sends a datagram to the peer.
   *
   * @param data Up to 65,507 bytes; 1200 get through nearly everywhere. Free to be changed afterwards.
   * @returns Whether it was sent: only while there is a selected pair.
   */
  send(data: Uint8Array): boolean {
    return this.#connection?.send(data) ?? false;
  }

  /** Ends all. Resolves when relays are given back: within 1.5 s if their server is silent. May be called again. */
  async stop(): Promise<void> {
    this.#progress.stop();
    await this.#connection?.close();
  }

  /** As `stop()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  /** As of any `EventTarget`, with the types of these events. */
  override addEventListener<K extends keyof IceTransportEventMap>(
    type: K,
    listener: ((event: IceTransportEventMap[K]) => void) | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  /** As of any `EventTarget`. */
  override addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  override addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void {
    super.addEventListener(type, listener, options);
  }

  #tell(what: (connection: IceConnection) => void): void {
    if (this.#connection === undefined) this.#early.push(what);
    else what(this.#connection);
  }

  #assertOpen(what: string): void {
    if (this.state === "closed") throw invalidState(`Cannot ${what} as the transport is stopped`);
  }

  #handleEvent(event: IceEvent): void {
    if (this.state === "closed") return;
    this.#watch(this.#connection!);
    this.#progress.handleEvent(event);
  }

  #validPairs(): CandidatePair[] {
    return (this.#connection?.pairs ?? []).filter((pair) => pair.isValid);
  }

  /** Hears of its failure: of each, if it is revived in between. */
  #watch(connection: IceConnection): void {
    const { closed } = connection;
    if (closed === this.#watched) return;
    this.#watched = closed;
    closed.catch((error: Error) => this.#handleFailed(error));
  }

  /** What the agent's state does not show as well: that there is no candidate at all. */
  #handleFailed(error: Error): void {
    if (this.state === "closed") return;
    this.#progress.fail(error);
  }
}

function invalidState(message: string): DOMException {
  return new DOMException(message, "InvalidStateError");
}
