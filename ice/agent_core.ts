import type { TransportAddress } from "../stun/address.ts";
import type { MachineIo, Packet, SocketId } from "../stun/machine.ts";
import { METHOD, StunMessage } from "../stun/message.ts";
import { DEFAULT_STANDBY, DEFAULT_TA, type IceAgentOptions } from "./agent_options.ts";
import type { LocalCandidate } from "./candidate.ts";
import type { Connectivity } from "./connectivity.ts";
import type { ChecklistState } from "./checklist.ts";
import type { ConnectivityOptions } from "./connectivity_options.ts";
import { isStunLike } from "./demux.ts";
import type { IceEvent, IceState } from "./events.ts";
import { Generation } from "./generation.ts";
import { Generations } from "./generations.ts";
import { LocalSide, parametersOf } from "./local_side.ts";
import { Nominator } from "./nominator.ts";
import { Pacing } from "./pacing.ts";
import type { Base, CandidatePair } from "./pair.ts";
import type { IceParameters } from "./sdp.ts";
import { stateOf } from "./state.ts";
import type { StreamPart } from "./streams.ts";
import { TcpConnections } from "./tcp_connections.ts";

type Io = MachineIo<IceEvent>;

/**
 * What an agent consists of, and what it does by itself: takes in packets, checks and gathers at the agreed pace, nominates,
 * and tells of the state and of the pair that data goes along.
 */
export class AgentCore {
  /** See `IceAgentOptions`. */
  readonly options: IceAgentOptions;
  /** The session of now, and the one before a restart. */
  readonly generations: Generations;
  /** Our candidates, and the servers that are asked for more. */
  readonly local: LocalSide;
  /** The TCP connections. */
  readonly connections: TcpConnections<Io> = new TcpConnections<Io>();
  /** That a socket is gone which would explain all. */
  socketLost: string | undefined;
  readonly #ownTa: number;
  #state: IceState = "new";
  /** The pair of each component that was told of. */
  #announced: (CandidatePair | undefined)[] = [];
  #componentStates: readonly IceState[] = [];
  #streamStates: ChecklistState[] = [];
  #pacing = new Pacing();
  #nominator = new Nominator();

  /** @param options They are as they must be. */
  constructor(options: IceAgentOptions) {
    this.options = options;
    this.#ownTa = options.ta ?? DEFAULT_TA;
    this.local = new LocalSide(this.#ownTa, { ...options, predictions: options.predictPorts ?? 0 });
    this.generations = new Generations(this.#newGeneration(options));
  }

  /** The state. */
  get state(): IceState {
    return this.#state;
  }

  /** Whether this is a lite agent. */
  get isLite(): boolean {
    return this.options.lite === true;
  }

  /** The session of now. */
  get current(): Generation {
    return this.generations.current;
  }

  /** Its checks. */
  get connectivity(): Connectivity {
    return this.current.connectivity;
  }

  /** The pair that data goes along. */
  get selectedPair(): CandidatePair | undefined {
    return this.generations.carrier().pair;
  }

  /** What to tell the peer besides candidates. */
  get localParameters(): IceParameters {
    return parametersOf(this.connectivity, this.#ownTa === DEFAULT_TA ? undefined : this.#ownTa);
  }

  /** The pacing in ms: the larger of what both propose (RFC 8445 §14.2). */
  get ta(): number {
    const { remoteParameters } = this.connectivity;
    return remoteParameters === undefined ? this.#ownTa : Math.max(this.#ownTa, remoteParameters.pacing ?? DEFAULT_TA);
  }

  /** The states of the components. */
  get componentStates(): readonly IceState[] {
    return this.#componentStates;
  }

  /** The states of the streams' checklists (RFC 8445 §6.1.2.1). */
  get streamStates(): readonly ChecklistState[] {
    return this.#streamStates;
  }

  /** Whether nothing new is taken in any more: each component has a nominated pair, or the agent is closed. */
  get isOver(): boolean {
    return this.current.isCompleted || this.#state === "closed";
  }

  /** When `handleTimeout()` is due. */
  get deadline(): number {
    return Math.min(
      this.generations.deadline,
      this.local.deadline,
      this.#pacing.deadline,
      this.#nominator.deadline,
    );
  }

  /** Does what is due. */
  handleTimeout(io: Io): void {
    this.generations.handleTimeout(io);
    this.local.handleTimeout(io);
    this.proceed(io);
  }

  /** Takes in a packet. */
  handlePacket(packet: Packet, io: Io): void {
    // RFC 7983 §7, RFC 8489 §5: by the first byte and the cookie, then by what the message says itself.
    if (isStunLike(packet) && this.#handleStun(packet, io)) return this.proceed(io);
    if (this.generations.handleData(packet, io)) this.#announce(io);
  }

  /** Takes in a socket's candidate, unless it comes too late. */
  addBase(add: () => LocalCandidate | undefined, io: Io): void {
    // RFC 8838 §13: nothing is trickled after the nomination, or after end-of-candidates.
    const candidate = this.isOver || this.local.isDone ? undefined : add();
    if (candidate !== undefined) this.#useCandidate(candidate, io);
  }

  #useCandidate(candidate: LocalCandidate, io: Io): void {
    // RFC 8838 §10: a candidate is trickled first, and paired then.
    this.local.announce(candidate, io);
    const base = this.current.addBase(candidate, io);
    if (base !== undefined) this.local.askFrom(base);
  }

  /** Forgets a socket and all that goes over it. */
  removeSocket(socket: SocketId, io: Io): void {
    if (!this.generations.hasSocket(socket)) return;
    this.local.removeSocket(socket, this.current.bases.get(socket), io);
    const pairs = this.current.sessions.map(({ flow }) => this.generations.carrier(flow).pair);
    const lost = pairs.find((pair) => pair?.base.socket === socket);
    if (lost !== undefined) this.socketLost = `The socket at ${lost.base.candidate.address} is gone`;
    this.generations.removeSocket(socket, io);
    this.connections.close(io, socket);
    this.proceed(io);
  }

  /** Goes on without a stream. */
  removeStream(stream: number, io: Io): void {
    const { bases } = this.current;
    const sockets = [...bases].filter(([, { candidate }]) => candidate.stream === stream).map(([socket]) => socket);
    this.generations.removeStream(stream, io);
    for (const socket of sockets) {
      this.removeSocket(socket, io);
      io.close(socket);
    }
    this.proceed(io);
  }

  /** Two lite agents with several pairs: the controlling one's updated offer says which (RFC 8445 §8.2). */
  takeChoice({ stream, candidates, remoteCandidates = [] }: StreamPart, io: Io): void {
    if (!this.isLite || this.connectivity.role !== "controlled") return;
    for (const [component, { host, port }] of remoteCandidates) {
      const session = this.current.session(stream, component);
      const pair = session?.connectivity.list.pairs.find(({ local, remote }) =>
        local.address.address === host && local.address.port === port &&
        candidates.some((one) => one.component === component && one.address?.equals(remote.address) === true)
      );
      if (pair !== undefined) session!.connectivity.acceptChoice(pair, io);
    }
  }

  /** Begins anew (RFC 8445 §9), without some sockets. */
  restart(
    io: Io,
    { without = [], ...credentials }: {
      readonly ufrag?: string;
      readonly pwd?: string;
      readonly without?: readonly SocketId[];
    },
  ): void {
    const { ufrag: _ufrag, pwd: _pwd, ...options } = this.options;
    for (const socket of without) this.local.removeSocket(socket, this.current.bases.get(socket), io);
    this.generations.begin(this.#newGeneration({ ...options, ...credentials }, this.current), io);
    for (const socket of without) this.generations.removeSocket(socket, io);
    this.local.restart(io);
    this.socketLost = undefined;
    io.emit({ type: "restart", parameters: this.localParameters });
    for (const candidate of this.local.candidates.all) this.#useCandidate(candidate, io);
    this.proceed(io);
  }

  /** Ends all. */
  close(io: Io): void {
    this.local.stop(io);
    this.#pacing.stop();
    this.#nominator.stop();
    this.generations.stop(io);
    this.connections.close(io);
    this.#componentStates = this.#componentStates.map(() => "closed");
    this.#setState("closed", io);
  }

  /** Does all that is due now, at the end of every input that is not data. */
  proceed(io: Io): void {
    if (this.#state === "closed") return;
    this.local.conclude(io);
    this.#considerNomination(io);
    this.#pace(io);
    this.generations.retire(io);
    this.#announce(io);
    this.#updateState(io);
  }

  #handleStun(packet: Packet, io: Io): boolean {
    const message = StunMessage.parse(packet.bytes);
    if (message === undefined || message.method !== METHOD.BINDING) return false;
    // Connections to STUN servers are of no base.
    const isResponse = message.class === "success" || message.class === "error";
    if (isResponse && this.local.handleAnswer(message, packet.socket, io)) return true;
    const generation = this.generations.addressee(message);
    const base = generation.baseOf(packet.socket);
    if (base === undefined) return false;
    const { connectivity } = generation.sessionOf(base);
    switch (message.class) {
      case "request":
        return connectivity.requests.handle(message, base, packet, io);
      case "indication":
        // A keepalive (RFC 8445 §11): nothing to do.
        return message.verifyFingerprint();
      default:
        return connectivity.responses.handle(message, base, packet, io);
    }
  }

  #newGeneration(options: ConnectivityOptions, before?: Generation): Generation {
    const owner = {
      connections: this.connections,
      mappedCandidate: (base: Base, mapped: TransportAddress, priority: number) =>
        this.local.mapped(base, mapped, priority),
      pairNominated: (pair: CandidatePair, io: Io) => {
        if (generation !== this.current) return;
        io.emit({ type: "nominated", pair });
        // The component that it is for is concluded right after this.
        const { sessions } = generation;
        const isLast = sessions.every((session) =>
          session.flow === pair.base.flow || session.isRemoved || session.connectivity.list.state === "completed"
        );
        if (isLast) this.local.stop(io);
      },
      selectionChanged: (io: Io) => this.#announce(io),
      earlyData: (pair: CandidatePair, io: Io) => {
        if (this.generations.follow(pair)) this.#announce(io);
      },
    };
    const { pathPolicy: policy = "priority", standby = DEFAULT_STANDBY } = this.options;
    const components = (this.options.streams ?? [{}]).map(({ components = 1 }) => components);
    const generation: Generation = new Generation({ ...options, policy, standby, components }, owner, before);
    return generation;
  }

  #announce(io: Io): void {
    for (const { flow, stream, component } of this.current.sessions) {
      const { pair } = this.generations.carrier(flow);
      if (pair === this.#announced[flow]) continue;
      this.#announced[flow] = pair;
      io.emit({ type: "selected-pair", pair, stream, component });
    }
  }

  #pace(io: Io): void {
    const { current } = this;
    const hasSent = this.#pacing.run(io.now, this.ta, {
      check: () => current.startNext(this.ta, io),
      gather: () => this.local.startNext(io),
      hasTriggered: current.shared.set.hasTriggered,
    });
    // A check that has left no longer keeps the nomination waiting for its turn.
    if (hasSent) this.#considerNomination(io);
  }

  #considerNomination(io: Io): void {
    this.#nominator.consider(this.current, this.local.isDone, io);
  }

  #updateState(io: Io): void {
    const { current, generations } = this;
    const { state, reason, components } = stateOf({
      now: io.now,
      current,
      selectedPair: (flow) => generations.carrier(flow).pair,
      isGatheringDone: this.local.isDone,
      socketLost: this.socketLost,
    });
    this.#componentStates = components;
    this.#updateStreams(io);
    this.#setState(state, io, reason);
  }

  #updateStreams(io: Io): void {
    const { current } = this;
    const states = (this.options.streams ?? [{}]).map((_, stream) =>
      current.checklistState(stream, ({ flow }) => this.#componentStates[flow] === "failed")
    );
    const before = this.#streamStates;
    this.#streamStates = states;
    if (current.sessions.length === 1) return;
    states.forEach((state, stream) => {
      if (state !== (before[stream] ?? "running")) io.emit({ type: "stream-state", stream, state });
    });
  }

  #setState(state: IceState, io: Io, reason?: string): void {
    if (state === this.#state) return;
    this.#state = state;
    io.emit({ type: "state", state, ...(reason === undefined ? {} : { reason }) });
  }
}
