import type { TransportAddress } from "../stun/address.ts";
import type {
  AcceptedConnection,
  CloseReason,
  Machine,
  MachineIo,
  OpenFailure,
  Packet,
  SocketId,
} from "../stun/machine.ts";
import { METHOD, StunMessage } from "../stun/message.ts";
import type { Candidate, LocalCandidate, RemoteCandidate } from "./candidate.ts";
import { DEFAULT_TA, type IceAgentOptions, ownTa } from "./agent_options.ts";
import type { Connectivity } from "./connectivity.ts";
import type { ConnectivityOptions, IceCounters } from "./connectivity_options.ts";
import { isStunLike } from "./demux.ts";
import type { IceEvent, IceState } from "./events.ts";
import { Generation } from "./generation.ts";
import { Generations } from "./generations.ts";
import type { NewRelay } from "./local_candidates.ts";
import { LocalSide, parametersOf } from "./local_side.ts";
import { Nominator } from "./nominator.ts";
import { Pacing } from "./pacing.ts";
import type { Base, CandidatePair, IceRole } from "./pair.ts";
import type { IceDescription, IceParameters } from "./sdp.ts";
import { stateOf } from "./state.ts";
import { type NewTcpHost, TcpConnections } from "./tcp_connections.ts";

/** How long a check takes with all its repetitions, in ms: for so long RFC 8863 §4 lets nothing fail. */
const PATIENCE = 39_500;

/**
 * A full or lite ICE agent (RFC 8445) for one data stream with one component, as a pure machine.
 *
 * Its shell gives it sockets (`addHost`, `addRelay`), STUN servers (`addStunServer`) and what the peer signals
 * (`addRemoteDescription` or its three parts). By events it tells what to signal to the peer. Data goes out by `send()`
 * and comes in by `io.deliver`.
 */
export class IceAgent implements Machine<IceEvent> {
  #options: IceAgentOptions;
  #generations: Generations;
  #announced: CandidatePair | undefined;
  #state: IceState = "new";
  #ownTa: number;
  #local: LocalSide;
  #pacing = new Pacing();
  #nominator = new Nominator();
  #connections = new TcpConnections<MachineIo<IceEvent>>();
  #socketLost: string | undefined;

  /**
   * An agent that gathers nothing and checks nothing yet.
   *
   * @param options See `IceAgentOptions`.
   * @throws {RangeError} If `ta`, `ufrag` or `pwd` is not as it must be.
   */
  constructor(options: IceAgentOptions) {
    this.#ownTa = ownTa(options);
    this.#options = options;
    this.#generations = new Generations(this.#newGeneration(options));
    this.#local = new LocalSide(this.#ownTa);
  }

  /** The role, which a conflict may change; with `"auto"` it is decided when the peer's credentials are known. */
  get role(): IceRole {
    return this.#connectivity.role;
  }

  /** Whether this is a lite agent (RFC 8445 §2.5). */
  get isLite(): boolean {
    return this.#options.lite === true;
  }

  /** The state. */
  get state(): IceState {
    return this.#state;
  }

  /** What to tell the peer besides candidates. */
  get localParameters(): IceParameters {
    return parametersOf(this.#connectivity, this.#ownTa === DEFAULT_TA ? undefined : this.#ownTa);
  }

  /** What the peer told besides candidates; `undefined` before. */
  get remoteParameters(): IceParameters | undefined {
    return this.#connectivity.remoteParameters;
  }

  /** Our candidates, in the order of their finding; also those that only answers have shown (prflx). */
  get localCandidates(): readonly LocalCandidate[] {
    return this.#local.candidates.all;
  }

  /** The peer's candidates, signalled and learned. */
  get remoteCandidates(): readonly RemoteCandidate[] {
    return [...this.#connectivity.remotes.all()];
  }

  /** All pairs, best first. */
  get pairs(): readonly CandidatePair[] {
    return this.#connectivity.list.pairs;
  }

  /**
   * The pair that data goes along: the nominated one, before that the best valid one (RFC 8445 §12.1). After a restart
   * the one from before, as long as it works, until one is nominated anew.
   */
  get selectedPair(): CandidatePair | undefined {
    return this.#generations.carrier.pair;
  }

  /** Whether a restart is under way: no pair is nominated anew yet. */
  get isRestarting(): boolean {
    return this.#generations.isRestarting;
  }

  /** Whether no more local candidates come. */
  get isGatheringDone(): boolean {
    return this.#local.isDone;
  }

  /** Our parameters and candidates so far, to be signalled. */
  get localDescription(): IceDescription {
    return {
      parameters: this.localParameters,
      candidates: this.#local.signalled,
      endOfCandidates: this.#local.isDone,
      ignored: [],
    };
  }

  /** Packets that changed nothing, by reason. */
  get counters(): Readonly<IceCounters> {
    return this.#connectivity.counters;
  }

  /** The pacing in ms: the larger of what both propose (RFC 8445 §14.2). */
  get ta(): number {
    const { remoteParameters } = this;
    return remoteParameters === undefined ? this.#ownTa : Math.max(this.#ownTa, remoteParameters.pacing ?? DEFAULT_TA);
  }

  /**
   * Takes in a socket that is bound to one local address: a host candidate. Best addresses come first.
   *
   * @param name What to tell the peer in place of the address: a name that mDNS knows. Default: the address is told.
   * @throws {RangeError} If the address is unspecified, as 0.0.0.0.
   */
  addHost(socket: SocketId, address: TransportAddress, io: MachineIo<IceEvent>, name?: string): void {
    if (address.bytes.every((byte) => byte === 0)) {
      throw new RangeError(`Cannot use ${address} as host candidate as it must be the address of one interface`);
    }
    this.#addBase(() => this.#local.candidates.addHost(socket, address, name), io);
    this.#proceed(io);
  }

  /**
   * Takes in a way to have TCP connections (RFC 6544 §4.1): a host candidate. Best addresses come first. A lite agent has
   * passive ones only.
   */
  addTcp(host: NewTcpHost, io: MachineIo<IceEvent>): void {
    if (this.isLite && host.tcpType !== "passive") return;
    this.#addBase(() => this.#local.candidates.addTcp(...this.#connections.baseFor(host)), io);
    this.#proceed(io);
  }

  /** Takes in a tunnel through a relay: a relayed candidate. A lite agent has none. */
  addRelay(socket: SocketId, relay: NewRelay, io: MachineIo<IceEvent>): void {
    if (this.isLite) return;
    this.#addBase(() => this.#local.candidates.addRelay(socket, relay), io);
    this.#proceed(io);
  }

  /** Whether the agent uses this socket. Not so if it came too late to become a candidate. */
  hasSocket(socket: SocketId): boolean {
    return this.#generations.hasSocket(socket);
  }

  /** Takes in a STUN server, to be asked from each host socket of its family, by a full agent. `url` is for people. */
  addStunServer(address: TransportAddress, io: MachineIo<IceEvent>, url: string = String(address)): void {
    if (this.#isOver || this.isLite) return;
    this.#local.gathering.addServer(address, url);
    this.#proceed(io);
  }

  /**
   * Tells how long an answer of a STUN server may take, in ms, besides the time until the second transmission, as other
   * servers have shown: one that says nothing by then is not waited for.
   */
  expectAnswersWithin(ms: number, io: MachineIo<IceEvent>): void {
    this.#local.gathering.hasten(ms);
    this.#proceed(io);
  }

  /** Forgets a socket and all that goes over it, as when its network or its relay is gone. */
  removeSocket(socket: SocketId, io: MachineIo<IceEvent>): void {
    if (!this.hasSocket(socket)) return;
    this.#local.removeSocket(socket, this.#current.bases.get(socket));
    const { selectedPair } = this;
    if (selectedPair?.base.socket === socket) {
      this.#socketLost = `The socket at ${selectedPair.base.candidate.address} is gone`;
    }
    this.#generations.removeSocket(socket, io);
    this.#connections.close(io, socket);
    this.#proceed(io);
  }

  /** The relay behind this socket sends nothing to this IP address, as its server has refused to: what goes there fails. */
  refusePeer(socket: SocketId, peer: TransportAddress, io: MachineIo<IceEvent>): void {
    this.#generations.refusePeer(socket, peer, io);
    this.#proceed(io);
  }

  /** No more sockets and servers follow: `gathering-done` comes when every server has had its time. */
  endOfLocalCandidates(io: MachineIo<IceEvent>): void {
    this.#local.end();
    this.#proceed(io);
  }

  /**
   * Takes in what the peer tells besides candidates; checks begin. When they have begun, the same again changes nothing,
   * and another username fragment is a restart of the peer's: it is answered by one of ours (RFC 8445 §9).
   */
  setRemoteParameters(parameters: IceParameters, io: MachineIo<IceEvent>): void {
    if (this.#state === "closed" || this.#generations.isKnown(parameters)) return;
    if (this.remoteParameters !== undefined) this.restart(io);
    this.#current.patienceAt = io.now + PATIENCE;
    this.#connectivity.setRemote(parameters, io);
    for (const candidate of this.#generations.takeFuture(parameters.ufrag)) this.addRemoteCandidate(candidate, io);
    this.#proceed(io);
  }

  /**
   * Begins anew (RFC 8445 §9): with new credentials, which the event `restart` tells, and the sockets that there are. STUN
   * servers and further sockets are to be given again, and the end of them. Data goes along the pair in use, and the peer's
   * checks with the old credentials are answered, until a pair is nominated anew.
   *
   * @param options The new credentials, random by default, and the sockets that are not to be used any more.
   * @throws {RangeError} If they are not as they must be.
   */
  restart(
    io: MachineIo<IceEvent>,
    { without = [], ...credentials }: {
      readonly ufrag?: string;
      readonly pwd?: string;
      readonly without?: readonly SocketId[];
    } = {},
  ): void {
    if (this.#state === "closed") return;
    const { ufrag: _ufrag, pwd: _pwd, ...options } = this.#options;
    for (const socket of without) this.#local.removeSocket(socket, this.#current.bases.get(socket));
    this.#generations.begin(this.#newGeneration({ ...options, ...credentials }, this.#current), io);
    for (const socket of without) this.#generations.removeSocket(socket, io);
    this.#local.restart();
    this.#socketLost = undefined;
    io.emit({ type: "restart", parameters: this.localParameters });
    for (const candidate of this.#local.candidates.all) this.#useCandidate(candidate, io);
    this.#proceed(io);
  }

  /** Takes in a candidate of the peer's; gives whether it is of use to this agent. */
  addRemoteCandidate(candidate: Candidate, io: MachineIo<IceEvent>): boolean {
    if (this.#generations.isOfAnother(candidate)) return false;
    // RFC 8838 §14: after end-of-candidates new ones are ignored, and §13: so they are after the nomination.
    if (this.#current.remoteDone || this.#isOver) return false;
    if (!this.#current.addRemoteCandidate(candidate, io)) return false;
    this.#proceed(io);
    return true;
  }

  /**
   * Takes in what came of an event `lookup`: the peer's candidates with this name have an address, or are of no use.
   *
   * @param name As in the event.
   * @param address The IP address, whose port does not matter; `undefined` if there is none.
   */
  handleLookup(name: string, address: TransportAddress | undefined, io: MachineIo<IceEvent>): void {
    if (this.#state !== "closed") this.#current.handleLookup(name, address, io);
    this.#proceed(io);
  }

  /** The peer has no more candidates (RFC 8838 §14). */
  endOfCandidates(io: MachineIo<IceEvent>): void {
    this.#current.remoteDone = true;
    this.#proceed(io);
  }

  /** Takes in a description of the peer's, or a part of one that has trickled in. */
  addRemoteDescription(description: IceDescription, io: MachineIo<IceEvent>): void {
    const { parameters } = description;
    if (parameters !== undefined && parameters.ufrag !== this.remoteParameters?.ufrag) {
      // Of before the restart: whoever signals has repeated it.
      if (this.#generations.isKnown(parameters)) return;
      if (this.remoteParameters !== undefined) this.restart(io);
    }
    // Candidates first: the checks then begin with the best pair.
    for (const candidate of description.candidates) this.addRemoteCandidate(candidate, io);
    if (parameters !== undefined) this.setRemoteParameters(parameters, io);
    if (description.endOfCandidates) this.endOfCandidates(io);
  }

  /**
   * Sends a datagram to the peer's application along the selected pair.
   *
   * @param bytes Must stay as they are until the call of the machine ends.
   * @returns Whether there is a pair to send on, with the peer's consent.
   */
  send(bytes: Uint8Array, io: MachineIo<IceEvent>): boolean {
    return this.#generations.send(bytes, io);
  }

  /** Asks the peer at once whether it is still there, as after the computer has slept. Its answer is due in 5 s. */
  checkConsent(io: MachineIo<IceEvent>): void {
    this.#generations.carrier.checkConsent(io);
    this.#proceed(io);
  }

  /** Ends all: nothing is sent or taken in any more. A second call does nothing. */
  close(io: MachineIo<IceEvent>): void {
    if (this.#state === "closed") return;
    this.#local.gathering.stop();
    this.#pacing.stop();
    this.#nominator.stop();
    this.#generations.stop(io);
    this.#connections.close(io);
    this.#setState("closed", io);
  }

  /** See `Machine`. */
  get deadline(): number {
    return Math.min(
      this.#generations.deadline,
      this.#local.gathering.deadline,
      this.#pacing.deadline,
      this.#nominator.deadline,
    );
  }

  /** See `Machine`. */
  handleTimeout(io: MachineIo<IceEvent>): void {
    if (this.#state === "closed") return;
    this.#generations.handleTimeout(io);
    this.#local.gathering.handleTimeout(io);
    this.#proceed(io);
  }

  /** See `Machine`. */
  handlePacket(packet: Packet, io: MachineIo<IceEvent>): void {
    if (this.#state === "closed") return;
    this.#handlePacket(packet, io);
    // Whoever connects shows first that it knows our password.
    if (!this.#connections.hasFresh || !this.#connections.dropStranger(packet.socket, io)) return;
    this.#connectivity.counters.connectionsRefused++;
  }

  /** See `Machine`. */
  handleOpened(socket: SocketId, localAddress: TransportAddress, io: MachineIo<IceEvent>): void {
    this.#connections.handleOpened(socket, localAddress, io);
    this.#proceed(io);
  }

  /** See `Machine`. */
  handleOpenFailed(socket: SocketId, _failure: OpenFailure, io: MachineIo<IceEvent>): void {
    this.handleClosed(socket, "end", io);
  }

  /** See `Machine`. */
  handleAccepted(socket: SocketId, { listener }: AcceptedConnection, io: MachineIo<IceEvent>): void {
    const base = this.#current.bases.get(listener);
    if (base === undefined || this.#state === "closed") io.close(socket);
    else this.#connections.accept(socket, base);
  }

  /** See `Machine`. */
  handleClosed(socket: SocketId, _reason: CloseReason, io: MachineIo<IceEvent>): void {
    const lost = this.#connections.handleLost(socket);
    if (lost === undefined) return;
    const { pair, user } = lost;
    if (pair === this.selectedPair) this.#socketLost = `The TCP connection to ${pair.remote.address} was closed`;
    user.fail(pair, io);
    this.#proceed(io);
  }

  #handlePacket(packet: Packet, io: MachineIo<IceEvent>): void {
    // RFC 7983 §7, RFC 8489 §5: by the first byte and the cookie, then by what the message says itself.
    if (isStunLike(packet) && this.#handleStun(packet, io)) return this.#proceed(io);
    if (this.#generations.handleData(packet, this.#announced, io)) this.#announce(io);
  }

  /** Whether nothing new is taken in any more: a pair is nominated, or the agent closed. */
  get #isOver(): boolean {
    return this.#connectivity.list.state === "completed" || this.#state === "closed";
  }

  #handleStun(packet: Packet, io: MachineIo<IceEvent>): boolean {
    const message = StunMessage.parse(packet.bytes);
    if (message === undefined || message.method !== METHOD.BINDING) return false;
    const generation = this.#generations.addressee(message);
    const { connectivity } = generation;
    const base = generation.baseOf(packet.socket);
    if (base === undefined) return false;
    switch (message.class) {
      case "request":
        return connectivity.requests.handle(message, base, packet, io);
      case "indication":
        // A keepalive (RFC 8445 §11): nothing to do.
        return message.verifyFingerprint();
      default:
        return this.#local.handleAnswer(message, packet.socket, io) ||
          connectivity.responses.handle(message, base, packet, io);
    }
  }

  #addBase(add: () => LocalCandidate | undefined, io: MachineIo<IceEvent>): void {
    // RFC 8838 §13: nothing is trickled after the nomination, or after end-of-candidates.
    const candidate = this.#isOver || this.#local.isDone ? undefined : add();
    if (candidate !== undefined) this.#useCandidate(candidate, io);
  }

  #useCandidate(candidate: LocalCandidate, io: MachineIo<IceEvent>): void {
    // RFC 8838 §10: a candidate is trickled first, and paired then.
    io.emit({ type: "local-candidate", candidate });
    const base: Base = this.#current.addBase(candidate, io);
    if (candidate.type === "host" && base.kind === "udp") this.#local.gathering.addBase(base);
  }

  get #current(): Generation {
    return this.#generations.current;
  }

  get #connectivity(): Connectivity {
    return this.#current.connectivity;
  }

  #newGeneration(options: ConnectivityOptions, before?: Generation): Generation {
    const owner = {
      connections: this.#connections,
      mappedCandidate: (base: Base, mapped: TransportAddress, priority: number) =>
        this.#local.mapped(base, mapped, priority),
      pairNominated: (pair: CandidatePair, io: MachineIo<IceEvent>) => {
        if (generation !== this.#current) return;
        io.emit({ type: "nominated", pair });
        this.#local.gathering.stop();
      },
      selectionChanged: (io: MachineIo<IceEvent>) => this.#announce(io),
    };
    const generation: Generation = new Generation(options, owner, before);
    return generation;
  }

  #announce(io: MachineIo<IceEvent>): void {
    const pair = this.selectedPair;
    if (pair === this.#announced) return;
    this.#announced = pair;
    io.emit({ type: "selected-pair", pair });
  }

  /** Does all that is due now, at the end of every input that is not data. */
  #proceed(io: MachineIo<IceEvent>): void {
    if (this.#state === "closed") return;
    this.#local.conclude(io);
    this.#considerNomination(io);
    this.#pace(io);
    this.#generations.retire(io);
    this.#announce(io);
    this.#updateState(io);
  }

  #pace(io: MachineIo<IceEvent>): void {
    const { set } = this.#connectivity;
    const hasSent = this.#pacing.run(io.now, this.ta, {
      check: () => this.#connectivity.startNext(this.ta, io),
      gather: () => this.#local.gathering.startNext(io),
      hasTriggered: set.hasTriggered,
    });
    // A check that has left no longer keeps the nomination waiting for its turn.
    if (hasSent) this.#considerNomination(io);
  }

  #considerNomination(io: MachineIo<IceEvent>): void {
    this.#nominator.consider(this.#current, this.#local.isDone, io);
  }

  #updateState(io: MachineIo<IceEvent>): void {
    const { state, reason } = stateOf({
      now: io.now,
      current: this.#current,
      selectedPair: this.selectedPair,
      isGatheringDone: this.#local.isDone,
      socketLost: this.#socketLost,
    });
    this.#setState(state, io, reason);
  }

  #setState(state: IceState, io: MachineIo<IceEvent>, reason?: string): void {
    if (state === this.#state) return;
    this.#state = state;
    io.emit({ type: "state", state, ...(reason === undefined ? {} : { reason }) });
  }
}
