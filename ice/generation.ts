import type { TransportAddress } from "../stun/address.ts";
import type { MachineIo, Packet, SocketId } from "../stun/machine.ts";
import type { StunMessage } from "../stun/message.ts";
import type { LocalCandidate } from "./candidate.ts";
import { Checklist, ChecklistSet, type ChecklistState } from "./checklist.ts";
import { type ComponentOwner, ComponentSession } from "./component_session.ts";
import type { Connectivity } from "./connectivity.ts";
import { type ConnectivityOptions, newCounters, type SharedConnectivity } from "./connectivity_options.ts";
import { IceCredentials } from "./credentials.ts";
import type { IceEvent } from "./events.ts";
import { Base, type CandidatePair } from "./pair.ts";
import { Roles } from "./roles.ts";
import type { Selection, SelectionOptions } from "./selection.ts";

type Io = MachineIo<IceEvent>;

/** What makes a generation. */
export interface GenerationOptions extends ConnectivityOptions, SelectionOptions {
  /** How many components each data stream has. */
  readonly components: readonly number[];
}

/** An ICE session from one restart to the next (RFC 8445 §9): the components of all its data streams. */
export class Generation {
  /** The components of the first stream, of the second, and so on. */
  readonly sessions: readonly ComponentSession[];
  /** What they have in common. */
  readonly shared: SharedConnectivity;
  /** Its sockets. */
  readonly bases: Map<SocketId, Base> = new Map();
  /** Whether there was one before. */
  readonly isRestart: boolean;
  /** Until when nothing has failed; `Infinity` before the peer's credentials are known, and afterwards. */
  patienceAt = Infinity;
  readonly #isLite: boolean;

  /**
   * A generation without sockets.
   *
   * @param options See `ConnectivityOptions` and `SelectionOptions`.
   * @param owner Is told what comes out.
   * @param before The generation before it, whose role it takes over.
   */
  constructor(options: GenerationOptions, owner: ComponentOwner, before?: Generation) {
    this.isRestart = before !== undefined;
    this.#isLite = options.lite === true;
    const places = options.components.flatMap((count, stream) =>
      Array.from({ length: count }, (_, i) => ({ stream, component: i + 1 }))
    );
    const { ufrag, pwd } = new IceCredentials(options.random, options);
    const shared = this.shared = {
      credentials: { ufrag, pwd },
      roles: new Roles(options, before?.shared.roles),
      set: new ChecklistSet(places.map(({ stream }) => new Checklist(stream)), options.maxPairs),
      counters: before?.shared.counters ?? newCounters(),
      pairs: before?.shared.pairs ?? { count: 0 },
    };
    this.sessions = places.map((place, flow) => new ComponentSession(options, owner, { ...place, flow, shared }));
  }

  /** The first component of the first stream. */
  get first(): ComponentSession {
    return this.sessions[0]!;
  }

  /** Its checks. */
  get connectivity(): Connectivity {
    return this.first.connectivity;
  }

  /** The pair that its data goes along. */
  get selection(): Selection {
    return this.first.selection;
  }

  /** The components of a stream. */
  ofStream(stream: number): readonly ComponentSession[] {
    return this.sessions.filter((session) => session.stream === stream);
  }

  /** A component of a stream; `undefined` if there is none, or it was removed. */
  session(stream: number, component: number): ComponentSession | undefined {
    const found = this.sessions.find((one) => one.stream === stream && one.component === component);
    return found?.isRemoved === false ? found : undefined;
  }

  /** Whether every component has a nominated pair. */
  get isCompleted(): boolean {
    return this.#live.every(({ connectivity: { list } }) => list.state === "completed");
  }

  /** Whether data goes along a nominated pair of this generation, in every component. */
  get hasNominated(): boolean {
    return this.#live.every(({ selection }) => selection.pair?.nominated === true);
  }

  /**
   * The state of the checklist of a stream (RFC 8445 §6.1.2.1): Completed when every component has a nominated pair, Failed
   * when one can not have any more.
   */
  checklistState(stream: number, hasFailed: (session: ComponentSession) => boolean): ChecklistState {
    const sessions = this.ofStream(stream);
    if (sessions.some(hasFailed)) return "failed";
    return sessions.every(({ connectivity: { list } }) => list.state === "completed") ? "completed" : "running";
  }

  /** Sends the next check, if there is one (RFC 8445 §6.1.4.2). */
  startNext(ta: number, io: Io): boolean {
    const pair = this.#isLite ? undefined : this.shared.set.next();
    if (pair === undefined) return false;
    this.sessionOf(pair.base).connectivity.startCheck(pair, ta, io);
    return true;
  }

  /** Takes in what came of looking up a name. */
  handleLookup(name: string, address: TransportAddress | undefined, io: Io): void {
    for (const session of this.#live) session.handleLookup(name, address, io);
  }

  /** Takes in the socket of a host or relayed candidate. */
  addBase(candidate: LocalCandidate, io: Io): Base | undefined {
    const session = this.session(candidate.stream, candidate.component);
    if (session === undefined) return undefined;
    const base = new Base(candidate, session.flow);
    this.bases.set(base.socket, base);
    session.connectivity.addBase(base, io);
    return base;
  }

  /** Forgets a socket. */
  removeSocket(socket: SocketId, io: Io): void {
    const base = this.bases.get(socket);
    this.bases.delete(socket);
    if (base !== undefined) this.sessionOf(base).connectivity.removeBase(base, io);
  }

  /** Fails the pairs of a socket with an IP address. */
  refusePeer(socket: SocketId, { ipKey }: TransportAddress, io: Io): void {
    for (const pair of [...this.bases.get(socket)?.pairs.values() ?? []]) {
      if (pair.remote.address.ipKey === ipKey) this.sessionOf(pair.base).connectivity.fail(pair, io);
    }
  }

  /** The component that a base is for. */
  sessionOf({ flow }: Base): ComponentSession {
    return this.sessions[flow]!;
  }

  /** The pair that a datagram came along, if there is one. */
  pairOf(socket: SocketId, from: TransportAddress): CandidatePair | undefined {
    const pair = this.baseOf(socket)?.pairs.get(from.key);
    // Over TCP another generation may have a connection of its own between the same addresses.
    return pair?.socket === socket ? pair : undefined;
  }

  /** The base that a socket belongs to, if it does. */
  baseOf(socket: SocketId): Base | undefined {
    return this.bases.get(socket) ?? this.bases.get(this.connectivity.listener.connections.baseOf(socket));
  }

  /** Keeps data that came before the answer to our check, if the peer has checked this pair; gives whether it did. */
  hold(pair: CandidatePair | undefined, { buffer, offset, length }: Packet, now: number): boolean {
    return pair !== undefined && pair.heard && pair.state !== "failed" &&
      this.sessionOf(pair.base).held.hold(pair, { buffer, offset, length, now });
  }

  /** Whether a request is to these credentials, or a response to a check of these. */
  isAddressee(message: StunMessage): boolean {
    if (message.class === "request") return this.connectivity.isAddressee(message);
    return this.sessions.some(({ connectivity }) => connectivity.isAddressee(message));
  }

  /** When `handleTimeout()` is due. */
  get deadline(): number {
    let deadline = this.patienceAt;
    for (const { connectivity, selection } of this.sessions) {
      deadline = Math.min(deadline, connectivity.deadline, selection.deadline);
    }
    return deadline;
  }

  /** Repeats checks, gives them up, and keeps consent. */
  handleTimeout(io: Io): void {
    for (const { connectivity, selection } of this.sessions) {
      connectivity.handleTimeout(io);
      selection.handleTimeout(io);
    }
    if (io.now >= this.patienceAt) this.patienceAt = Infinity;
  }

  /** Ends the checks. */
  conclude(io: Io): void {
    for (const { connectivity } of this.sessions) connectivity.conclude(io);
  }

  /** Sends and awaits nothing any more. */
  stop(io: Io): void {
    for (const { connectivity } of this.sessions) connectivity.stop(io);
  }

  /** Nothing is selected any more. */
  clear(io: Io): void {
    for (const { selection } of this.sessions) selection.clear(io);
  }

  /** Goes on without a stream (RFC 8445 §8.1.2). Its sockets are to be removed as well. */
  removeStream(stream: number, io: Io): void {
    for (const session of this.ofStream(stream)) {
      session.isRemoved = true;
      session.connectivity.stop(io);
      session.selection.clear(io);
    }
  }

  get #live(): readonly ComponentSession[] {
    return this.sessions.filter(({ isRemoved }) => !isRemoved);
  }
}
