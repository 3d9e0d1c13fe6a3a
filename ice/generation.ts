import type { TransportAddress } from "../stun/address.ts";
import type { MachineIo, Packet, SocketId } from "../stun/machine.ts";
import type { Candidate, LocalCandidate } from "./candidate.ts";
import { Connectivity } from "./connectivity.ts";
import type { ConnectivityListener, ConnectivityOptions } from "./connectivity_options.ts";
import type { IceEvent } from "./events.ts";
import { HeldData } from "./held_data.ts";
import { NamedCandidates } from "./named_candidates.ts";
import { Base, type CandidatePair } from "./pair.ts";
import { Selection, type SelectionOptions } from "./selection.ts";

type Io = MachineIo<IceEvent>;

/** What a generation tells its agent. */
export interface GenerationOwner extends Pick<ConnectivityListener, "mappedCandidate" | "connections"> {
  /** A pair is nominated. */
  pairNominated(pair: CandidatePair, io: Io): void;
  /** Another pair is selected, or none. */
  selectionChanged(io: Io): void;
}

/** An ICE session from one restart to the next (RFC 8445 §9): both sides' credentials, the pairs, and the one in use. */
export class Generation {
  /** Its checks. */
  readonly connectivity: Connectivity;
  /** The pair that data goes along. */
  readonly selection: Selection;
  /** Its sockets. */
  readonly bases: Map<SocketId, Base> = new Map();
  /** The peer's candidates whose addresses are still to be found. */
  readonly named: NamedCandidates;
  /** Data that came a moment too early. */
  readonly held: HeldData = new HeldData();
  /** Whether there was one before. */
  readonly isRestart: boolean;
  /** Whether the peer has no more candidates. */
  remoteDone = false;
  /** Until when nothing has failed; `Infinity` before the peer's credentials are known, and afterwards. */
  patienceAt = Infinity;
  readonly #options: SelectionOptions;

  /**
   * A generation without sockets.
   *
   * @param options See `ConnectivityOptions` and `SelectionOptions`.
   * @param owner Is told what comes out.
   * @param before The generation before it, whose role it takes over.
   */
  constructor(options: ConnectivityOptions & SelectionOptions, owner: GenerationOwner, before?: Generation) {
    this.#options = options;
    this.isRestart = before !== undefined;
    this.named = new NamedCandidates(options.resolvesNames === true && options.lite !== true);
    const connectivity = this.connectivity = new Connectivity(options, this.#listener(owner), before?.connectivity);
    this.selection = new Selection({
      pairs: connectivity.list.pairs,
      get consent() {
        return connectivity.consent;
      },
      get isControlling() {
        return connectivity.role === "controlling" && !connectivity.isLite;
      },
      get isConcluded() {
        return connectivity.list.state === "completed";
      },
      get isPeerChecking() {
        return connectivity.remoteParameters?.lite !== true;
      },
      askConsent: (pair, io) => connectivity.askConsent(pair, io),
      probe: (pair, io) => connectivity.probe(pair, io),
      renominate: (pair, why) => this.#renominate(pair, why),
      fail: (pair, io) => connectivity.fail(pair, io),
      changed: (io) => owner.selectionChanged(io),
    }, options);
  }

  /** Takes in a candidate of the peer's; gives whether it is of use. One with a name is kept until that is looked up. */
  addRemoteCandidate(candidate: Candidate, io: Io): boolean {
    if (candidate.address === undefined) return this.named.add(candidate, io);
    if (!this.connectivity.addRemoteCandidate(candidate, io)) return false;
    // What a check had shown before may have turned out to be a relay.
    this.selection.update(io);
    return true;
  }

  /** Takes in what came of looking up a name. */
  handleLookup(name: string, address: TransportAddress | undefined, io: Io): void {
    for (const candidate of this.named.take(name)) {
      if (address === undefined || this.connectivity.list.state === "completed") continue;
      this.addRemoteCandidate({ ...candidate, address: address.withPort(candidate.name!.port) }, io);
    }
  }

  /** Takes in the socket of a host or relayed candidate. */
  addBase(candidate: LocalCandidate, io: Io): Base {
    const base = new Base(candidate);
    this.bases.set(base.socket, base);
    this.connectivity.addBase(base, io);
    return base;
  }

  /** Forgets a socket. */
  removeSocket(socket: SocketId, io: Io): void {
    const base = this.bases.get(socket);
    this.bases.delete(socket);
    if (base !== undefined) this.connectivity.removeBase(base, io);
  }

  /** Fails the pairs of a socket with an IP address. */
  refusePeer(socket: SocketId, { ipKey }: TransportAddress, io: Io): void {
    for (const pair of [...this.bases.get(socket)?.pairs.values() ?? []]) {
      if (pair.remote.address.ipKey === ipKey) this.connectivity.fail(pair, io);
    }
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
      this.held.hold(pair, { buffer, offset, length, now });
  }

  /** When `handleTimeout()` is due. */
  get deadline(): number {
    return Math.min(this.connectivity.deadline, this.selection.deadline, this.patienceAt);
  }

  /** Repeats checks, gives them up, and keeps consent. */
  handleTimeout(io: Io): void {
    this.connectivity.handleTimeout(io);
    this.selection.handleTimeout(io);
    if (io.now >= this.patienceAt) this.patienceAt = Infinity;
  }

  /** Whether paths are compared by measurements. */
  get #isComparing(): boolean {
    return this.#options.policy !== "first" && this.#options.policy !== "priority";
  }

  /** Whether other paths are looked for after the nomination: some may take over, if the peer lets them. */
  get #isExploring(): boolean {
    const { isLite, isRenominating } = this.connectivity;
    const { policy, standby } = this.#options;
    return !isLite && policy !== "first" && standby > 0 && (isRenominating || this.#isComparing);
  }

  /**
   * RFC 8445 §8.1.1 allows one nomination, draft-thatcher-ice-renomination any number if the peer agrees. A peer that does
   * not is told of another pair if the one in use is silent, or the application asks for it; and, as peers that know
   * aggressive nomination go by priority, of a pair of higher priority if this was asked for by the policy.
   */
  #renominate(pair: CandidatePair, why: "silent" | "better" | "chosen"): boolean {
    const { connectivity, selection } = this;
    const isHigher = selection.pair !== undefined && pair.compare(selection.pair) < 0;
    if (!connectivity.isRenominating && why === "better" && !(this.#isComparing && isHigher)) return false;
    connectivity.renominate(pair);
    return true;
  }

  #listener(owner: GenerationOwner): ConnectivityListener {
    return {
      connections: owner.connections,
      mappedCandidate: (base, mapped, priority) => owner.mappedCandidate(base, mapped, priority),
      pairAnswered: (pair, { isFirst, wasSilent }, io) => {
        this.selection.handleAnswer(pair, io);
        if (wasSilent) this.selection.update(io);
        if (!isFirst) return;
        this.selection.update(io);
        for (const bytes of this.held.release(pair, io.now)) {
          pair.counters.packetsReceived++;
          pair.counters.bytesReceived += bytes.length;
          io.deliver(pair.remote.address, bytes);
        }
      },
      pairHeard: (pair, io) => {
        if (pair.nominated) this.selection.update(io);
      },
      pairNominated: (pair, io) => {
        owner.pairNominated(pair, io);
        this.connectivity.conclude(io, this.#isExploring);
        this.selection.update(io);
      },
      pairFailed: (pair, io) => {
        if (pair === this.selection.pair) this.selection.update(io);
      },
      pairDisconnected: (pair, io) => {
        const { connectivity, selection } = this;
        const hasOther = connectivity.list.pairs.some((other) => other !== pair && other.isValid);
        if (pair !== selection.pair || hasOther) return connectivity.fail(pair, io);
        selection.lose(pair, `The TCP connection to ${pair.remote.address} was closed`, io);
      },
      consentRevoked: (pair, io) => this.selection.lose(pair, "The peer has revoked its consent", io),
    };
  }
}
