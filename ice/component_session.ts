import type { TransportAddress } from "../stun/address.ts";
import type { MachineIo } from "../stun/machine.ts";
import type { Candidate } from "./candidate.ts";
import { Connectivity } from "./connectivity.ts";
import type { ConnectivityListener, ConnectivityOptions, SharedConnectivity } from "./connectivity_options.ts";
import type { IceEvent } from "./events.ts";
import { HeldData } from "./held_data.ts";
import { NamedCandidates } from "./named_candidates.ts";
import type { CandidatePair } from "./pair.ts";
import { Selection, type SelectionOptions } from "./selection.ts";

type Io = MachineIo<IceEvent>;

/** What a component tells its agent. */
export interface ComponentOwner extends Pick<ConnectivityListener, "mappedCandidate" | "connections"> {
  /** A pair is nominated. */
  pairNominated(pair: CandidatePair, io: Io): void;
  /** Another pair is selected, or none. */
  selectionChanged(io: Io): void;
  /** Data has come along a pair a moment before it was valid. */
  earlyData(pair: CandidatePair, io: Io): void;
}

/** Which component, and what it shares with the others of its session. */
export interface ComponentContext {
  /** Its number among those of all streams, from 0. */
  readonly flow: number;
  /** The data stream, from 0. */
  readonly stream: number;
  /** The component of the stream, from 1. */
  readonly component: number;
  /** What it shares. */
  readonly shared: SharedConnectivity;
}

/** One component of a data stream (RFC 8445 §4) from one restart to the next: its checks, and the pair that is in use. */
export class ComponentSession {
  /** Its number among those of all streams, from 0. */
  readonly flow: number;
  /** The data stream, from 0. */
  readonly stream: number;
  /** The component of the stream, from 1. */
  readonly component: number;
  /** Its checks. */
  readonly connectivity: Connectivity;
  /** The pair that data goes along. */
  readonly selection: Selection;
  /** The peer's candidates whose addresses are still to be found. */
  readonly named: NamedCandidates;
  /** Data that came a moment too early. */
  readonly held: HeldData = new HeldData();
  /** Whether the peer has no more candidates. */
  remoteDone = false;
  /** Whether its stream goes on without it: it is not looked at any more. */
  isRemoved = false;
  readonly #options: SelectionOptions;

  /**
   * A component without sockets.
   *
   * @param options See `ConnectivityOptions` and `SelectionOptions`.
   * @param owner Is told what comes out.
   * @param context Which it is.
   */
  constructor(options: ConnectivityOptions & SelectionOptions, owner: ComponentOwner, context: ComponentContext) {
    const { flow, stream, component, shared } = context;
    this.#options = options;
    this.flow = flow;
    this.stream = stream;
    this.component = component;
    this.named = new NamedCandidates(options.resolvesNames === true && options.lite !== true);
    const list = shared.set.lists[flow]!;
    const connectivity = this.connectivity = new Connectivity(options, this.#listener(owner), {
      list,
      component,
      shared,
    });
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
      if (address === undefined) continue;
      const found = { ...candidate, address: address.withPort(candidate.name!.port) };
      const { list, remotes, credentials } = this.connectivity;
      if (list.state !== "completed") this.addRemoteCandidate(found, io);
      // After the end nothing new is taken in, but a check may have shown it before: now it is known what that was.
      else remotes.explain(found, credentials.remoteUfrag);
    }
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

  #listener(owner: ComponentOwner): ConnectivityListener {
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
          io.deliver(pair.remote.address, bytes, 0, bytes.length, this.flow);
          owner.earlyData(pair, io);
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
