import type { TransportAddress } from "../stun/address.ts";
import type { MachineIo, Packet, SocketId } from "../stun/machine.ts";
import type { StunMessage } from "../stun/message.ts";
import type { Candidate } from "./candidate.ts";
import type { IceEvent } from "./events.ts";
import type { Generation } from "./generation.ts";
import type { CandidatePair } from "./pair.ts";
import { ufragOf } from "./remote_candidates.ts";
import type { IceParameters } from "./sdp.ts";
import type { Selection } from "./selection.ts";

type Io = MachineIo<IceEvent>;

/** How long the checks of the generation before are answered after the nomination in a new one, in ms (RFC 8445 §8.3). */
const ANSWER_AFTER = 3000;
/** How many candidates are kept for a restart of the peer's that is still to be told. */
const MAX_FUTURE = 100;

/** A candidate of a later generation, and its stream. */
interface FutureCandidate {
  readonly candidate: Candidate;
  readonly stream: number;
}

/** The generation of now, and after a restart the one before it until there is a new nominated pair (RFC 8445 §9). */
export class Generations {
  #current: Generation;
  #old: Generation | undefined;
  #oldUntil = Infinity;
  /** Whether the peer's data comes by the generation of now. */
  #isFollowing = false;
  /** The peer's username fragments before the latest restart. */
  #former = new Set<string>();
  /** Candidates of a generation of the peer's that is not known yet. */
  #future: FutureCandidate[] = [];
  /** The pair that the latest data came along: most comes along the same. */
  #latest: CandidatePair | undefined;

  /** @param first The generation to begin with. */
  constructor(first: Generation) {
    this.#current = first;
  }

  /** The generation of now. */
  get current(): Generation {
    return this.#current;
  }

  /**
   * Where data goes: along the pair from before a restart, as long as it answers and none is nominated anew. The peer does
   * likewise: once its data comes by a new pair, it has lost the old one, and would not get anything there.
   */
  carrier(flow = 0): Selection {
    const { selection } = this.#current.sessions[flow]!;
    const before = this.#old?.sessions[flow]?.selection;
    if (before?.pair === undefined || selection.pair?.nominated === true) return selection;
    return (before.pair.isSilent || this.#isFollowing) && selection.pair !== undefined ? selection : before;
  }

  /** Sends the application's data; gives whether there is a pair for it, with the peer's consent. */
  send(bytes: Uint8Array, io: Io, flow = 0): boolean {
    const pair = this.carrier(flow).usable(io.now);
    if (pair === undefined) return false;
    pair.counters.packetsSent++;
    pair.counters.bytesSent += bytes.length;
    io.send(pair.socket, pair.remote.address, bytes);
    return true;
  }

  /** Takes in the peer's data; gives whether another pair is in use from now on. */
  handleData(packet: Packet, io: Io): boolean {
    const { buffer, offset, length, from } = packet;
    const latest = this.#latest;
    // A TCP connection has one remote address, but not always the same object for it.
    const isSame = latest !== undefined && latest.socket === packet.socket &&
      (latest.isTcp || latest.remote.address === from);
    const pair = isSame ? latest : this.pairOf(packet.socket, from);
    const { isLite, counters } = this.#current.connectivity;
    // To a lite agent the peer's checks are all the proof there is.
    if (pair === undefined || !(pair.isValid || (isLite && pair.heard))) {
      // RFC 8445 §12.2 leaves it to us: data from where nobody has proved to be the peer is not let through.
      if (!this.#current.hold(pair, packet, io.now)) counters.dataDropped++;
      return false;
    }
    this.#latest = pair;
    pair.counters.packetsReceived++;
    pair.counters.bytesReceived += length;
    io.deliver(from, buffer, offset, length, pair.base.flow);
    return !isSame && this.follow(pair);
  }

  /** Whether a restart is under way: no pair is nominated anew yet. */
  get isRestarting(): boolean {
    return this.#current.isRestart && !this.#current.hasNominated;
  }

  /** When `handleTimeout()` is due. */
  get deadline(): number {
    const { deadline } = this.#current;
    return this.#old === undefined ? deadline : Math.min(deadline, this.#old.deadline, this.#oldUntil);
  }

  /** Lets both do what is due. */
  handleTimeout(io: Io): void {
    this.#current.handleTimeout(io);
    this.#old?.handleTimeout(io);
  }

  /**
   * Begins a new one. That of before carries the data, if it has a pair to do so; else the one before that goes on with
   * it.
   */
  begin(next: Generation, io: Io): void {
    const before = this.#current;
    const ufrags = before.sessions.map(({ connectivity }) => connectivity.remoteParameters?.ufrag);
    if (ufrags.some((ufrag) => ufrag !== undefined)) this.#former = new Set(ufrags.filter((one) => one !== undefined));
    this.#current = next;
    this.#isFollowing = false;
    const hasPair = (generation: Generation | undefined) =>
      generation?.sessions.some(({ selection }) => selection.pair);
    if (!hasPair(before) && hasPair(this.#old)) return before.stop(io);
    this.#drop(io);
    before.patienceAt = Infinity;
    before.conclude(io);
    this.#old = before;
  }

  /** Ends the work of the one before when a pair is nominated anew; its checks are answered a little longer. */
  retire(io: Io): void {
    if (this.#old === undefined || !this.#current.hasNominated) return;
    if (this.#oldUntil === Infinity) this.#oldUntil = io.now + ANSWER_AFTER;
    this.#old.clear(io);
    if (io.now >= this.#oldUntil) this.#drop(io);
  }

  /** Ends all. */
  stop(io: Io): void {
    const generations = [this.#current, this.#old];
    this.#drop(io);
    this.#current.patienceAt = Infinity;
    for (const generation of generations) {
      generation?.stop(io);
      generation?.clear(io);
    }
  }

  /** The one that a request is addressed to, or that a response is for. */
  addressee(message: StunMessage): Generation {
    return this.#old?.isAddressee(message) === true ? this.#old : this.#current;
  }

  /** The pair that a datagram came along: the peer goes on with the one from before until it has a new one. */
  pairOf(socket: SocketId, from: TransportAddress): CandidatePair | undefined {
    const pair = this.#current.pairOf(socket, from);
    return pair?.isValid === true || this.#old === undefined ? pair : this.#old.pairOf(socket, from) ?? pair;
  }

  /** Whether this socket is in use. */
  hasSocket(socket: SocketId): boolean {
    return this.#current.bases.has(socket) || this.#old?.bases.has(socket) === true;
  }

  /** Forgets a socket. */
  removeSocket(socket: SocketId, io: Io): void {
    this.#current.removeSocket(socket, io);
    this.#old?.removeSocket(socket, io);
  }

  /** Fails the pairs of a relay with an IP address that its server refuses to send to. */
  refusePeer(socket: SocketId, peer: TransportAddress, io: Io): void {
    this.#current.refusePeer(socket, peer, io);
    this.#old?.refusePeer(socket, peer, io);
  }

  /** Whether the peer's parameters for a stream are those of now, or of before the latest restart. */
  isKnown({ ufrag }: IceParameters, stream: number): boolean {
    return ufrag === this.parametersOf(stream)?.ufrag || this.#former.has(ufrag);
  }

  /** A username fragment from before a restart goes on, as the peer has restarted other streams only. */
  keepUfrag(ufrag: string): void {
    this.#former.delete(ufrag);
  }

  /** What the peer told about a stream besides candidates. */
  parametersOf(stream: number): IceParameters | undefined {
    return this.#current.ofStream(stream)[0]?.connectivity.remoteParameters;
  }

  /** Whether a candidate names another generation of the peer's; one that is still to come is kept for it (I25). */
  isOfAnother(candidate: Candidate, stream: number): boolean {
    const ufrag = ufragOf(candidate);
    const parameters = this.parametersOf(stream);
    if (ufrag === undefined || ufrag === parameters?.ufrag) return false;
    if (this.#former.has(ufrag)) return true;
    if (parameters === undefined) return false;
    if (this.#future.length < MAX_FUTURE) this.#future.push({ candidate, stream });
    return true;
  }

  /** Takes out the candidates that were kept for this generation of the peer's; the others of the stream are forgotten. */
  takeFuture(ufrag: string, stream: number): Candidate[] {
    const kept = this.#future.filter((one) => one.stream === stream && ufragOf(one.candidate) === ufrag);
    this.#future = this.#future.filter((one) => one.stream !== stream);
    return kept.map(({ candidate }) => candidate);
  }

  /** Goes on without a stream. */
  removeStream(stream: number, io: Io): void {
    this.#current.removeStream(stream, io);
    this.#old?.removeStream(stream, io);
  }

  /** The peer's data came along a valid pair; gives whether another pair is in use from now on. */
  follow({ base }: CandidatePair): boolean {
    if (this.#isFollowing || this.#old === undefined || this.#current.bases.get(base.socket) !== base) return false;
    return this.#isFollowing = true;
  }

  #drop(io: Io): void {
    this.#latest = undefined;
    this.#old?.stop(io);
    this.#old = undefined;
    this.#oldUntil = Infinity;
  }
}
