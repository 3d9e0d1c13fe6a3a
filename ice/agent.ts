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
import { AgentCore } from "./agent_core.ts";
import { assertAgentOptions, type IceAgentOptions, midsOf } from "./agent_options.ts";
import type { Candidate, LocalCandidate, RemoteCandidate } from "./candidate.ts";
import type { ChecklistState } from "./checklist.ts";
import type { IceCounters } from "./connectivity_options.ts";
import type { IceEvent, IceState } from "./events.ts";
import type { ComponentOf, NewRelay } from "./local_candidates.ts";
import type { CandidatePair, IceRole } from "./pair.ts";
import { RemoteSide } from "./remote_side.ts";
import type { IceDescription, IceParameters } from "./sdp.ts";
import { describeChoice, describeStreams, type IceComponent } from "./streams.ts";
import type { NewTcpHost } from "./tcp_connections.ts";

/**
 * A full or lite ICE agent (RFC 8445) for one data stream with one component, or several, as a pure machine.
 *
 * Its shell gives it sockets (`addHost`, `addRelay`), STUN servers (`addStunServer`) and what the peer signals
 * (`addRemoteDescription` or its three parts). By events it tells what to signal to the peer. Data goes out by `send()`
 * and comes in by `io.deliver`.
 */
export class IceAgent implements Machine<IceEvent> {
  #core: AgentCore;
  #mids: readonly string[];
  #remote: RemoteSide;

  /**
   * An agent that gathers nothing and checks nothing yet.
   *
   * @param options See `IceAgentOptions`.
   * @throws {RangeError} If `ta`, `standby`, `ufrag` or `pwd` is not as it must be.
   */
  constructor(options: IceAgentOptions) {
    assertAgentOptions(options);
    this.#core = new AgentCore(options);
    this.#mids = midsOf(options);
    this.#remote = new RemoteSide(this.#core, this.#mids);
  }

  /** The role, which a conflict may change; with `"auto"` it is decided when the peer's credentials are known. */
  get role(): IceRole {
    return this.#core.connectivity.role;
  }

  /**
   * Takes a role in place of that of the options, before the peer's credentials are known; gives whether it did. Later the
   * role is what both have agreed on.
   */
  setRole(role: IceRole, io: MachineIo<IceEvent>): boolean {
    return this.#core.current.connectivity.setRole(role, io);
  }

  /** Whether this is a lite agent (RFC 8445 §2.5). */
  get isLite(): boolean {
    return this.#core.isLite;
  }

  /** The state. */
  get state(): IceState {
    return this.#core.state;
  }

  /** What to tell the peer besides candidates. */
  get localParameters(): IceParameters {
    return this.#core.localParameters;
  }

  /** What the peer told besides candidates; `undefined` before. */
  get remoteParameters(): IceParameters | undefined {
    return this.#core.connectivity.remoteParameters;
  }

  /** Our candidates, in the order of their finding; also those that only answers have shown (prflx). */
  get localCandidates(): readonly LocalCandidate[] {
    return this.#core.local.candidates.all;
  }

  /** The peer's candidates, signalled and learned. */
  get remoteCandidates(): readonly RemoteCandidate[] {
    return this.#core.current.sessions.flatMap(({ connectivity }) => [...connectivity.remotes.all()]);
  }

  /** All pairs, best first; those of the first component, then of the others. */
  get pairs(): readonly CandidatePair[] {
    const { sessions, first } = this.#core.current;
    return sessions.length === 1
      ? first.connectivity.list.pairs
      : sessions.flatMap(({ connectivity: { list } }) => list.pairs);
  }

  /** The components of all data streams, as they are now. */
  get components(): readonly IceComponent[] {
    return this.#core.current.sessions.map(({ flow, stream, component }) => ({
      stream,
      mid: this.#mids[stream]!,
      component,
      state: this.#core.componentStates[flow] ?? "new",
      selectedPair: this.#core.generations.carrier(flow).pair,
    }));
  }

  /** The state of each data stream's checklist (RFC 8445 §6.1.2.1): Completed when each component has a nominated pair. */
  get streamStates(): readonly ChecklistState[] {
    return this.#core.streamStates;
  }

  /**
   * The pair that data of the first component goes along: the nominated one, before that the best valid one (RFC 8445 §12.1). After a restart
   * the one from before, as long as it works, until one is nominated anew.
   */
  get selectedPair(): CandidatePair | undefined {
    return this.#core.selectedPair;
  }

  /** Whether a restart is under way: no pair is nominated anew yet. */
  get isRestarting(): boolean {
    return this.#core.generations.isRestarting;
  }

  /** The pairs that are kept warm, to take over when the selected one goes silent. */
  get standbyPairs(): readonly CandidatePair[] {
    return this.#core.current.sessions.flatMap(({ selection }) => selection.standby);
  }

  /** Whether no more local candidates come. */
  get isGatheringDone(): boolean {
    return this.#core.local.isDone;
  }

  /** Our parameters and candidates so far, to be signalled. */
  get localDescription(): IceDescription {
    return {
      parameters: this.localParameters,
      ...describeStreams(this.#core.local, this.#mids),
      ignored: [],
    };
  }

  /**
   * What the controlling side's updated offer tells when ICE is done (RFC 8839 §4.4.1.2.2): of each component the candidates
   * in use on both sides. Between two lite agents with several pairs it makes the peer take our choice (RFC 8445 §8.2).
   * `undefined` before, and on the controlled side.
   */
  get updatedDescription(): IceDescription | undefined {
    if (this.role !== "controlling" || this.state !== "completed") return undefined;
    return { parameters: this.localParameters, ...describeChoice(this.components, this.#mids), ignored: [] };
  }

  /** Packets that changed nothing, by reason. */
  get counters(): Readonly<IceCounters> {
    return this.#core.connectivity.counters;
  }

  /** The pacing in ms: the larger of what both propose (RFC 8445 §14.2). */
  get ta(): number {
    return this.#core.ta;
  }

  /**
   * Takes in a socket that is bound to one local address: a host candidate. Best addresses come first.
   *
   * @param options What the socket is for, and what to tell the peer in place of the address: a name that mDNS knows. By
   * default the address is told, and the socket for the first component of the first stream.
   * @throws {RangeError} If the address is unspecified, as 0.0.0.0.
   */
  addHost(
    socket: SocketId,
    address: TransportAddress,
    io: MachineIo<IceEvent>,
    options: ComponentOf & { readonly name?: string | undefined } = {},
  ): void {
    if (address.bytes.every((byte) => byte === 0)) {
      throw new RangeError(`Cannot use ${address} as host candidate as it must be the address of one interface`);
    }
    this.#core.addBase(() => this.#core.local.candidates.addHost(socket, address, options), io);
    this.#core.proceed(io);
  }

  /**
   * Takes in a way to have TCP connections (RFC 6544 §4.1): a host candidate. Best addresses come first. A lite agent has
   * passive ones only.
   */
  addTcp(host: NewTcpHost, io: MachineIo<IceEvent>): void {
    if (this.isLite && host.tcpType !== "passive") return;
    this.#core.addBase(() => this.#core.local.candidates.addTcp(...this.#core.connections.baseFor(host)), io);
    this.#core.proceed(io);
  }

  /** Takes in a tunnel through a relay: a relayed candidate. A lite agent has none. */
  addRelay(socket: SocketId, relay: NewRelay, io: MachineIo<IceEvent>): void {
    if (this.isLite) return;
    this.#core.addBase(() => this.#core.local.candidates.addRelay(socket, relay), io);
    this.#core.proceed(io);
  }

  /** Whether the agent uses this socket. Not so if it came too late to become a candidate. */
  hasSocket(socket: SocketId): boolean {
    return this.#core.generations.hasSocket(socket);
  }

  /** Whether data goes over this socket, would if the selected pair went silent, or may do so as nothing is nominated yet. */
  isInUse(socket: SocketId): boolean {
    const { current, generations } = this.#core;
    return current.sessions.some(({ flow, selection, connectivity: { list } }) => {
      const base = current.bases.get(socket);
      if (base?.flow === flow && list.state !== "completed") return true;
      return [generations.carrier(flow).pair, ...selection.standby].some((pair) => pair?.base.socket === socket);
    });
  }

  /** Takes in a STUN server, to be asked from each host socket of its family, by a full agent. `url` is for people. */
  addStunServer(address: TransportAddress, io: MachineIo<IceEvent>, url: string = String(address)): void {
    if (this.#core.isOver || this.isLite) return;
    this.#core.local.gathering.addServer(address, url);
    this.#core.proceed(io);
  }

  /** Takes in a STUN server that answers over TCP: asked from the ports of simultaneous open. */
  addTcpStunServer(address: TransportAddress, io: MachineIo<IceEvent>): void {
    if (this.#core.isOver || this.isLite) return;
    this.#core.local.overTcp.addServer(address);
    this.#core.proceed(io);
  }

  /**
   * Takes in the address at which a router lets in what is for one of our sockets (RFC 6887): a server-reflexive candidate
   * of a full agent's. What comes after the end of gathering is left out.
   *
   * @param internal The address of the socket.
   * @param mapped The address outside.
   * @param router Who has made it so.
   */
  addMapped(
    internal: TransportAddress,
    mapped: TransportAddress,
    router: TransportAddress,
    io: MachineIo<IceEvent>,
  ): void {
    if (this.#core.isOver || this.isLite) return;
    this.#core.local.addMapped(internal, mapped, router, io);
    this.#core.proceed(io);
  }

  /**
   * Tells how long an answer of a STUN server may take, in ms, besides the time until the second transmission, as other
   * servers have shown: one that says nothing by then is not waited for.
   */
  expectAnswersWithin(ms: number, io: MachineIo<IceEvent>): void {
    this.#core.local.hasten(ms);
    this.#core.proceed(io);
  }

  /** Forgets a socket and all that goes over it, as when its network or its relay is gone. */
  removeSocket(socket: SocketId, io: MachineIo<IceEvent>): void {
    this.#core.removeSocket(socket, io);
  }

  /** The relay behind this socket sends nothing to this IP address, as its server has refused to: what goes there fails. */
  refusePeer(socket: SocketId, peer: TransportAddress, io: MachineIo<IceEvent>): void {
    this.#core.generations.refusePeer(socket, peer, io);
    this.#core.proceed(io);
  }

  /** No more sockets and servers follow: `gathering-done` comes when every server has had its time. */
  endOfLocalCandidates(io: MachineIo<IceEvent>): void {
    this.#core.local.end();
    this.#core.proceed(io);
  }

  /**
   * Takes in what the peer tells besides candidates; checks begin. When they have begun, the same again changes nothing,
   * and another username fragment is a restart of the peer's: it is answered by one of ours (RFC 8445 §9).
   *
   * @param stream The data stream that it is about, from 0. Default: all of them.
   */
  setRemoteParameters(parameters: IceParameters, io: MachineIo<IceEvent>, stream?: number): void {
    this.#remote.setParameters(parameters, io, stream);
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
    options: { readonly ufrag?: string; readonly pwd?: string; readonly without?: readonly SocketId[] } = {},
  ): void {
    if (this.state === "closed") return;
    this.#core.restart(io, options);
  }

  /**
   * Takes in a candidate of the peer's; gives whether it is of use to this agent.
   *
   * @param stream The data stream that it is for, from 0. Default: the first.
   */
  addRemoteCandidate(candidate: Candidate, io: MachineIo<IceEvent>, stream = 0): boolean {
    return this.#remote.addCandidate(candidate, io, stream);
  }

  /**
   * Takes in what came of an event `lookup`: the peer's candidates with this name have an address, or are of no use.
   *
   * @param name As in the event.
   * @param address The IP address, whose port does not matter; `undefined` if there is none.
   */
  handleLookup(name: string, address: TransportAddress | undefined, io: MachineIo<IceEvent>): void {
    if (this.state !== "closed") this.#core.current.handleLookup(name, address, io);
    this.#core.proceed(io);
  }

  /**
   * The peer has no more candidates (RFC 8838 §14).
   *
   * @param stream For this data stream, from 0. Default: for all of them.
   */
  endOfCandidates(io: MachineIo<IceEvent>, stream?: number): void {
    this.#remote.endOfCandidates(io, stream);
  }

  /**
   * Takes in a description of the peer's, or a part of one that has trickled in. Of one with several streams each is for
   * ours with the same `mid`, else for the one in its place.
   */
  addRemoteDescription(description: IceDescription, io: MachineIo<IceEvent>): void {
    this.#remote.addDescription(description, io);
  }

  /**
   * Sends a datagram to the peer's application along the selected pair.
   *
   * @param bytes Must stay as they are until the call of the machine ends.
   * @param flow For which of `components`, by its place there. Default: the first. What comes is delivered with the same.
   * @returns Whether there is a pair to send on, with the peer's consent.
   */
  send(bytes: Uint8Array, io: MachineIo<IceEvent>, flow = 0): boolean {
    return this.#core.generations.send(bytes, io, flow);
  }

  /** Asks the peer at once whether it is still there, as after the computer has slept. Its answer is due in 5 s. */
  checkConsent(io: MachineIo<IceEvent>): void {
    for (const { flow } of this.#core.current.sessions) this.#core.generations.carrier(flow).checkConsent(io);
    this.#core.proceed(io);
  }

  /**
   * Sends along a pair of the application's choice from now on, as long as it answers; a controlling agent nominates it,
   * too. The policy rests until then. With `undefined` it takes over again.
   *
   * @param pair One of `pairs`, for its component. `undefined` is about all of them.
   * @returns Whether that can be: the pair is valid, and the peer has answered on it within 30 s. The pairs that are kept
   * warm are such.
   */
  selectPair(pair: CandidatePair | undefined, io: MachineIo<IceEvent>): boolean {
    if (this.state === "closed" || this.isLite) return false;
    const { current } = this.#core;
    const sessions = pair === undefined ? current.sessions : [current.sessionOf(pair.base)];
    const isChosen = sessions.map(({ selection }) => selection.choose(pair, io)).every(Boolean);
    this.#core.proceed(io);
    return isChosen;
  }

  /**
   * Goes on without a data stream, as one whose checks have failed (RFC 8445 §8.1.2): its sockets are closed, and it does
   * not count for the state any more.
   *
   * @param stream Its number, from 0.
   */
  removeStream(stream: number, io: MachineIo<IceEvent>): void {
    this.#core.removeStream(stream, io);
  }

  /** Ends all: nothing is sent or taken in any more. A second call does nothing. */
  close(io: MachineIo<IceEvent>): void {
    if (this.state === "closed") return;
    this.#core.close(io);
  }

  /** See `Machine`. */
  get deadline(): number {
    return this.#core.deadline;
  }

  /** See `Machine`. */
  handleTimeout(io: MachineIo<IceEvent>): void {
    if (this.state === "closed") return;
    this.#core.handleTimeout(io);
  }

  /** See `Machine`. */
  handlePacket(packet: Packet, io: MachineIo<IceEvent>): void {
    if (this.state === "closed") return;
    this.#core.handlePacket(packet, io);
    // Whoever connects shows first that it knows our password.
    if (!this.#core.connections.hasFresh || !this.#core.connections.dropStranger(packet.socket, io)) return;
    this.#core.connectivity.counters.connectionsRefused++;
  }

  /** See `Machine`. */
  handleOpened(socket: SocketId, localAddress: TransportAddress, io: MachineIo<IceEvent>): void {
    if (!this.#core.local.overTcp.handleOpened(socket, io)) {
      this.#core.connections.handleOpened(socket, localAddress, io);
    }
    this.#core.proceed(io);
  }

  /** See `Machine`. */
  handleOpenFailed(socket: SocketId, _failure: OpenFailure, io: MachineIo<IceEvent>): void {
    this.handleClosed(socket, "end", io);
  }

  /** See `Machine`. */
  handleAccepted(socket: SocketId, { listener }: AcceptedConnection, io: MachineIo<IceEvent>): void {
    const base = this.#core.current.bases.get(listener);
    if (base === undefined || this.state === "closed") io.close(socket);
    else this.#core.connections.accept(socket, base);
  }

  /** See `Machine`. */
  handleClosed(socket: SocketId, _reason: CloseReason, io: MachineIo<IceEvent>): void {
    if (!this.#core.local.overTcp.handleLost(socket)) this.#core.connections.handleLost(socket, io);
    this.#core.proceed(io);
  }
}
