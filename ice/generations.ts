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

/** The generation of now, and after a restart the one before it until there is a new nominated pair (RFC 8445 §9). */
export class Generations {
  #current: Generation;
  #old: Generation | undefined;
  #oldUntil = Infinity;
  /** Whether the peer's data comes by the generation of now. */
  #isFollowing = false;
  /** The peer's username fragment before the latest restart. */
  #formerUfrag: string | undefined;
  /** Candidates of a generation of the peer's that is not known yet. */
  #future: Candidate[] = [];

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
  get carrier(): Selection {
    const { selection } = this.#current;
    const before = this.#old?.selection;
    if (before?.pair === undefined || selection.pair?.nominated === true) return selection;
    return (before.pair.isSilent || this.#isFollowing) && selection.pair !== undefined ? selection : before;
  }

  /** Sends the application's data; gives whether there is a pair for it, with the peer's consent. */
  send(bytes: Uint8Array, io: Io): boolean {
    const pair = this.carrier.usable(io.now);
    if (pair === undefined) return false;
    pair.counters.packetsSent++;
    pair.counters.bytesSent += bytes.length;
    io.send(pair.socket, pair.remote.address, bytes);
    return true;
  }

  /**
   * Takes in the peer's data.
   *
   * @param selected The pair in use: most data comes along it.
   * @returns Whether another pair is in use from now on.
   */
  handleData(packet: Packet, selected: CandidatePair | undefined, io: Io): boolean {
    const { buffer, offset, length, from } = packet;
    const pair = selected !== undefined && selected.socket === packet.socket && selected.remote.address === from
      ? selected
      : this.pairOf(packet.socket, from);
    const { connectivity } = this.#current;
    // To a lite agent the peer's checks are all the proof there is.
    if (pair === undefined || !(pair.isValid || (connectivity.isLite && pair.heard))) {
      // RFC 8445 §12.2 leaves it to us: data from where nobody has proved to be the peer is not let through.
      if (!this.#current.hold(pair, packet, io.now)) connectivity.counters.dataDropped++;
      return false;
    }
    pair.counters.packetsReceived++;
    pair.counters.bytesReceived += length;
    io.deliver(from, buffer, offset, length);
    return pair !== selected && this.#follow(pair);
  }

  /** Whether a restart is under way: no pair is nominated anew yet. */
  get isRestarting(): boolean {
    return this.#current.isRestart && this.#current.selection.pair?.nominated !== true;
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
    this.#formerUfrag = before.connectivity.remoteParameters?.ufrag ?? this.#formerUfrag;
    this.#current = next;
    this.#isFollowing = false;
    if (before.selection.pair === undefined && this.#old?.selection.pair !== undefined) {
      return before.connectivity.stop(io);
    }
    this.#drop(io);
    before.patienceAt = Infinity;
    before.connectivity.conclude(io);
    this.#old = before;
  }

  /** Ends the work of the one before when a pair is nominated anew; its checks are answered a little longer. */
  retire(io: Io): void {
    if (this.#old === undefined || this.#current.selection.pair?.nominated !== true) return;
    if (this.#oldUntil === Infinity) this.#oldUntil = io.now + ANSWER_AFTER;
    this.#old.selection.clear(io);
    if (io.now >= this.#oldUntil) this.#drop(io);
  }

  /** Ends all. */
  stop(io: Io): void {
    const generations = [this.#current, this.#old];
    this.#drop(io);
    this.#current.patienceAt = Infinity;
    for (const generation of generations) {
      generation?.connectivity.stop(io);
      generation?.selection.clear(io);
    }
  }

  /** The one that a request is addressed to, or that a response is for. */
  addressee(message: StunMessage): Generation {
    return this.#old?.connectivity.isAddressee(message) === true ? this.#old : this.#current;
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

  /** Whether the peer's parameters are those of now, or of before the latest restart. */
  isKnown({ ufrag }: IceParameters): boolean {
    return ufrag === this.#current.connectivity.remoteParameters?.ufrag || ufrag === this.#formerUfrag;
  }

  /** Whether a candidate names another generation of the peer's; one that is still to come is kept for it (I25). */
  isOfAnother(candidate: Candidate): boolean {
    const ufrag = ufragOf(candidate);
    const { remoteParameters } = this.#current.connectivity;
    if (ufrag === undefined || ufrag === remoteParameters?.ufrag) return false;
    if (ufrag === this.#formerUfrag) return true;
    if (remoteParameters === undefined) return false;
    if (this.#future.length < MAX_FUTURE) this.#future.push(candidate);
    return true;
  }

  /** Takes out the candidates that were kept for this generation of the peer's; the others are forgotten. */
  takeFuture(ufrag: string): Candidate[] {
    return this.#future.splice(0).filter((candidate) => ufragOf(candidate) === ufrag);
  }

  #follow({ base }: CandidatePair): boolean {
    if (this.#isFollowing || this.#old === undefined || this.#current.bases.get(base.socket) !== base) return false;
    return this.#isFollowing = true;
  }

  #drop(io: Io): void {
    this.#old?.connectivity.stop(io);
    this.#old = undefined;
    this.#oldUntil = Infinity;
  }
}
