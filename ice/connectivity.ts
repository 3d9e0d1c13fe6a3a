import { USERNAME } from "../stun/attributes.ts";
import type { TransportAddress } from "../stun/address.ts";
import type { MachineIo } from "../stun/machine.ts";
import type { StunMessage } from "../stun/message.ts";
import { type Candidate, isLinkLocal, type RemoteCandidate } from "./candidate.ts";
import type { Checklist, ChecklistSet } from "./checklist.ts";
import type {
  ConnectivityListener,
  ConnectivityOptions,
  IceCounters,
  SharedConnectivity,
} from "./connectivity_options.ts";
import { IceCredentials } from "./credentials.ts";
import type { IceEvent } from "./events.ts";
import { type Base, CandidatePair, type IceRole } from "./pair.ts";
import { RemoteCandidates } from "./remote_candidates.ts";
import { Requests } from "./requests.ts";
import { Responses } from "./responses.ts";
import type { Roles } from "./roles.ts";
import type { IceParameters } from "./sdp.ts";
import { counterpart, kindOf } from "./tcp.ts";

/** A check after the nomination, to know of other paths, is repeated once: this is no matter of life and death. */
const EXPLORATORY = { rc: 2, rm: 4 } as const;
/** How long an answer to a request for consent is awaited: 16 times 500 ms. It is sent once (RFC 7675 §5.1). */
const CONSENT_RETRANSMIT = { rto: 500, rc: 1, rm: 16 } as const;
/** Over TCP a check is sent once (RFC 8489 §6.2.2), and waited for as long as is left when the connection took its time. */
const OVER_TCP = { reliable: true, ti: 19_500 } as const;
/** How many connections a pair gets that are closed before their check is answered. */
const MAX_CONNECTIONS = 3;

/**
 * The connectivity checks of one component of a data stream (RFC 8445 §7): credentials, role, candidate pairs and what becomes of them.
 * The peer's checks are answered by `requests`, ours are sent and their answers read by `responses`. When to send the
 * next check, what to nominate and where data goes is the agent's business.
 */
export class Connectivity {
  /** Its pairs. */
  readonly list: Checklist;
  /** Those of all components of all streams. */
  readonly set: ChecklistSet;
  /** The peer's candidates. */
  readonly remotes: RemoteCandidates;
  /** Both sides' credentials. */
  readonly credentials: IceCredentials;
  /** Packets that changed nothing. */
  readonly counters: IceCounters;
  /** What the peer told besides candidates. */
  remoteParameters: IceParameters | undefined;
  /** Who controls. */
  readonly roles: Roles;
  /** Whether this is a lite agent. */
  readonly isLite: boolean;
  /** Is told what comes out. */
  readonly listener: ConnectivityListener;
  /** The peer's checks. */
  readonly requests: Requests = new Requests(this);
  /** Ours. */
  readonly responses: Responses = new Responses(this);
  readonly #pairs: { count: number };
  #bases: Base[] = [];
  #nominations = 0;

  /**
   * Connectivity without candidates, in its first generation of credentials.
   *
   * @param options See `ConnectivityOptions`.
   * @param listener Is told what comes out.
   * @param context Its list, its component, and what it shares with others.
   */
  constructor(options: ConnectivityOptions, listener: ConnectivityListener, context: {
    readonly list: Checklist;
    readonly component: number;
    readonly shared: SharedConnectivity;
  }) {
    const { list, component, shared } = context;
    this.isLite = options.lite === true;
    this.list = list;
    this.set = shared.set;
    this.remotes = new RemoteCandidates(component);
    this.#pairs = shared.pairs;
    this.counters = shared.counters;
    this.credentials = new IceCredentials(options.random, shared.credentials);
    this.roles = shared.roles;
    this.listener = listener;
    list.isReady = false;
  }

  /** When `handleTimeout()` is due. */
  get deadline(): number {
    return this.responses.deadline;
  }

  /** Our role; provisional with `"auto"`, until the peer's credentials are known. */
  get role(): IceRole {
    return this.roles.role;
  }

  /** Whether checks may be sent: the peer's credentials are known. */
  get isReady(): boolean {
    return this.credentials.remoteKey !== undefined;
  }

  /** Whether some pair may still become valid. */
  get hasUnresolved(): boolean {
    return !this.isLite &&
      this.list.pairs.some(({ state, check, isConnecting }) =>
        state === "waiting" || state === "frozen" || (state === "in-progress" && (check !== undefined || isConnecting))
      );
  }

  /** Takes in the peer's parameters, and acts on the checks that came before them. */
  setRemote(parameters: IceParameters, io: MachineIo<IceEvent>): void {
    this.remoteParameters = parameters;
    this.credentials.setRemote(parameters);
    this.list.isReady = true;
    // RFC 8445 §6.1.1: with a full peer a lite agent is controlled.
    if (this.isLite && parameters.lite !== true) {
      this.roles.isOpen = false;
      if (this.role === "controlling") this.switchRole(io);
    }
    if (this.roles.isOpen) {
      this.roles.decide(this.credentials.ufrag, parameters.ufrag);
      this.set.prioritize(this.role);
      io.emit({ type: "role", role: this.role });
    }
    // RFC 8445 §6.1.1: of a full and a lite agent the full one controls.
    if (parameters.lite === true && !this.isLite && this.role === "controlled") this.switchRole(io);
    for (const other of this.remotes.keepSession(parameters.ufrag)) {
      for (const pair of this.list.pairs.filter(({ remote }) => remote === other)) this.list.remove(pair);
    }
    this.requests.releaseEarly(parameters.ufrag, io);
  }

  /** Takes in a socket, and pairs it with the peer's candidates (RFC 8838 §10). */
  addBase(base: Base, io: MachineIo<IceEvent>): void {
    this.#bases.push(base);
    for (const remote of this.remotes.all()) this.formPair(base, remote, io);
  }

  /** Forgets a socket and its pairs. */
  removeBase(base: Base, io: MachineIo<IceEvent>): void {
    this.#bases = this.#bases.filter((other) => other !== base);
    for (const pair of [...base.pairs.values()]) {
      this.fail(pair, io);
      this.list.remove(pair);
    }
  }

  /** Takes in a signalled candidate, and pairs it (RFC 8838 §11); gives whether it is of use. */
  addRemoteCandidate(candidate: Candidate, io: MachineIo<IceEvent>): boolean {
    const remote = this.remotes.signal(candidate, this.credentials.remoteUfrag);
    if (remote === undefined) return false;
    this.set.prioritize(this.role);
    for (const base of this.#bases) this.formPair(base, remote, io);
    return true;
  }

  /** See `SelectionOwner`. */
  get consent(): "asking" | "hearing" | "never" {
    if (!this.isLite) return "asking";
    return this.remoteParameters?.lite === true ? "never" : "hearing";
  }

  /** Sends the check of a pair, whose turn it is (RFC 8445 §6.1.4.2). */
  startCheck(pair: CandidatePair, ta: number, io: MachineIo<IceEvent>): void {
    this.#move(pair, pair.isValid ? "succeeded" : "in-progress", io);
    // RFC 8445 §14.3, without the factor N: it wants every first transmission to come before any repetition (§14.1),
    // for which the number of checks under way is enough; with N squared a lost packet would cost many seconds.
    pair.rto = Math.max(500, ta * (this.set.count("waiting") + this.set.count("in-progress")));
    if (pair.check !== undefined) this.responses.cancel(pair.check);
    pair.checkedAt = io.now;
    // Over TCP there is no check before there is a connection (RFC 6544 §7.1).
    if (pair.isTcp && pair.socket === 0) this.listener.connections.connect(pair, this, io);
    else this.#check(pair, io);
  }

  /** See `ConnectionUser`. */
  connected(pair: CandidatePair, io: MachineIo<IceEvent>): void {
    if (pair.state === "in-progress" && pair.check === undefined) this.#check(pair, io);
  }

  /** See `ConnectionUser`. One that ends before its check is answered may have been too slow for the peer: it is made again. */
  disconnected(pair: CandidatePair, io: MachineIo<IceEvent>): void {
    if (pair.check !== undefined && !pair.isValid && pair.counters.requestsSent < MAX_CONNECTIONS) {
      this.responses.forget(pair.check);
      if (pair.base.kind !== "passive") return this.trigger(pair, io);
    }
    this.listener.pairDisconnected(pair, io);
  }

  #check(pair: CandidatePair, io: MachineIo<IceEvent>): void {
    pair.counters.requestsSent++;
    const isExploratory = this.list.state === "completed" && !pair.nominating && !pair.nominateOnSuccess;
    const retransmit = pair.isTcp ? OVER_TCP : { rto: pair.rto, ...(isExploratory ? EXPLORATORY : {}) };
    pair.check = this.responses.start(pair, io, {
      useCandidate: pair.nominating,
      ...this.#nominationOf(pair),
      retransmit,
    });
  }

  /** Checks a pair that is not in use, to keep it warm and to measure it; a missing answer does not make it fail. */
  probe(pair: CandidatePair, io: MachineIo<IceEvent>): void {
    pair.counters.consentRequestsSent++;
    this.responses.start(pair, io, { useCandidate: false, retransmit: CONSENT_RETRANSMIT, isConsent: true });
  }

  /** Asks for consent to go on sending (RFC 7675 §5.1). */
  askConsent(pair: CandidatePair, io: MachineIo<IceEvent>): void {
    pair.counters.consentRequestsSent++;
    // A nomination on its way gets one more chance. A lite peer may take the latest USE-CANDIDATE for the choice.
    const isChoice = pair.nominating && !this.list.isTriggered(pair);
    const useCandidate = isChoice || (pair.nominated && this.remoteParameters?.lite === true);
    this.responses.start(pair, io, {
      useCandidate,
      ...this.#nominationOf(pair),
      retransmit: CONSENT_RETRANSMIT,
      isConsent: true,
    });
  }

  /** Whether the peer follows the latest nomination, whatever the priorities (draft-thatcher-ice-renomination §3). */
  get isRenominating(): boolean {
    return this.remoteParameters?.options?.includes("renomination") === true;
  }

  /** The pair whose nomination waits for its turn: nothing of it has left yet. */
  get queuedNominee(): CandidatePair | undefined {
    return this.list.pairs.find((pair) => pair.nominating && this.list.isTriggered(pair));
  }

  /**
   * Nominates a valid pair: repeats its check with USE-CANDIDATE (RFC 8445 §8.1.1). It takes the place of one whose
   * nomination has not left yet. All other checks rest: that was the decision to stop them.
   */
  nominate(pair: CandidatePair): void {
    const before = this.queuedNominee;
    if (before !== undefined) before.nominating = false;
    pair.nominating = true;
    pair.proposedNomination = before?.proposedNomination ?? ++this.#nominations;
    this.list.hold(pair);
  }

  /** Nominates another pair than before, which is valid as well. The old one stays until the peer has answered. */
  renominate(pair: CandidatePair): void {
    for (const other of this.list.pairs) {
      if (!other.nominating) continue;
      other.nominating = false;
      this.list.untrigger(other);
    }
    pair.nominating = true;
    pair.proposedNomination = ++this.#nominations;
    this.list.trigger(pair);
  }

  /**
   * Takes note of a nomination of the peer's (I10): of several the newest counts, if the peer renominates, and else the one
   * of the pair with the highest priority.
   *
   * @param value That of NOMINATION, or 0.
   * @returns Whether it is news.
   */
  noteNomination(pair: CandidatePair, value: number): boolean {
    if (pair.nominated && value !== 0 && value <= pair.nomination) return false;
    if (value > pair.nomination) pair.nomination = value;
    else if (value === 0 && this.isRenominating && this.#isOvertaken(pair)) pair.nominationOrder = ++this.#nominations;
    else if (pair.nominated) return false;
    return true;
  }

  #isOvertaken(pair: CandidatePair): boolean {
    return this.list.pairs.some((other) => other.nominated && other !== pair && other.compareNomination(pair) < 0);
  }

  /**
   * Ends the checks, now that a pair is nominated (RFC 8445 §8.1.2): answers that are on their way still count.
   *
   * @param isExploring Whether to check what was not checked yet all the same, once and with one repetition, since other
   * paths are looked for, to take over. Default: no.
   */
  conclude(io: MachineIo<IceEvent>, isExploring = false): void {
    this.list.state = "completed";
    this.list.isHolding = false;
    this.list.isExploring = isExploring;
    // A lite agent checks nothing, and what it takes now another offer of a lite peer's may replace (RFC 8445 §8.2).
    if (this.isLite) return;
    for (const pair of [...this.list.pairs]) {
      if (pair.isConnecting) this.fail(pair, io);
      if (pair.check !== undefined && !pair.nominating) this.responses.cancel(pair.check);
      if (pair.nominateOnSuccess || (isExploring && !pair.isTcp)) continue;
      if (pair.state === "waiting" || pair.state === "frozen") this.list.remove(pair);
      this.list.untrigger(pair);
    }
  }

  /** Sends and awaits nothing any more. */
  stop(io: MachineIo<IceEvent>): void {
    this.responses.stop();
    for (const pair of this.list.pairs) this.listener.connections.release(pair, io);
  }

  /** Sets a pair to Failed. */
  fail(pair: CandidatePair, io: MachineIo<IceEvent>): void {
    if (pair.state === "failed") return;
    if (pair.check !== undefined) this.responses.forget(pair.check);
    if (pair.nominating) this.list.isHolding = false;
    pair.nominating = pair.nominated = pair.nominateOnSuccess = false;
    pair.nomination = pair.nominationOrder = 0;
    this.list.untrigger(pair);
    this.listener.connections.release(pair, io);
    this.#move(pair, "failed", io);
    this.listener.pairFailed(pair, io);
  }

  /** Repeats checks and gives them up. */
  handleTimeout(io: MachineIo<IceEvent>): void {
    this.responses.handleTimeout(io);
  }

  /** Whether a request is to these credentials, or a response to a check of these. */
  isAddressee(message: StunMessage): boolean {
    if (message.class !== "request") return this.responses.isAwaited(message);
    return message.get(USERNAME)?.startsWith(`${this.credentials.ufrag}:`) === true;
  }

  /** Checks a pair anew, before all that nobody has asked for (RFC 8445 §7.3.1.4). */
  trigger(pair: CandidatePair, io: MachineIo<IceEvent>): void {
    if (pair.check !== undefined) this.responses.cancel(pair.check);
    this.#move(pair, "waiting", io);
    this.list.trigger(pair);
  }

  /**
   * A check of the pair has succeeded: it becomes the valid pair, whose local candidate is what the peer sees (RFC 8445
   * §7.2.5.3).
   *
   * @param seen The address that the peer sees, and the PRIORITY that it was told.
   */
  validate(
    pair: CandidatePair,
    { mapped, priority }: { readonly mapped: TransportAddress; readonly priority: number },
    io: MachineIo<IceEvent>,
  ): void {
    this.list.untrigger(pair);
    const local = this.listener.mappedCandidate(pair.base, mapped, priority);
    if (local !== undefined && local !== pair.local) {
      pair.local = local;
      pair.prioritize(this.role);
      this.list.sort();
    }
    pair.validAt = io.now;
    pair.quality.forgetLosses();
    this.#move(pair, "succeeded", io);
    for (const thawed of this.set.unfreeze(pair.foundation)) report(thawed, io);
  }

  /** A lite agent's way to a nominated pair: without a check (RFC 8445 §7.3.2, §8.2). */
  accept(pair: CandidatePair, io: MachineIo<IceEvent>): void {
    if (!pair.isValid) {
      pair.validAt = pair.answeredAt = io.now;
      this.#move(pair, "waiting", io);
      this.#move(pair, "succeeded", io);
      this.listener.pairAnswered(pair, { isFirst: true, wasSilent: false }, io);
    }
    this.setNominated(pair, io);
  }

  /** As `accept()`, in place of what was taken before. */
  acceptChoice(pair: CandidatePair, io: MachineIo<IceEvent>): void {
    pair.nominationOrder = ++this.#nominations;
    this.accept(pair, io);
  }

  /** A pair is nominated, by us or by the peer. */
  setNominated(pair: CandidatePair, io: MachineIo<IceEvent>): void {
    pair.nominating = pair.nominateOnSuccess = false;
    pair.nominated = true;
    this.listener.pairNominated(pair, io);
  }

  /**
   * Pairs a base with a candidate of the peer's, if they fit and there is room (RFC 8445 §6.1.2.2). A passive one makes no
   * pairs before there is a connection (RFC 6544 §6.2): where it will come from nobody knows.
   */
  formPair(
    base: Base,
    remote: RemoteCandidate,
    io: MachineIo<IceEvent>,
    isConnected = false,
  ): CandidatePair | undefined {
    const local = base.candidate;
    if (kindOf(remote) !== counterpart(base.kind) || (base.kind === "passive" && !isConnected)) return undefined;
    const isApart = local.address.family !== remote.address.family || local.component !== remote.component ||
      isLinkLocal(local.address) !== isLinkLocal(remote.address) ||
      // The relay's server would learn the address (draft-ietf-rtcweb-mdns-ice-candidates §3.3.2).
      (local.type === "relay" && remote.name !== undefined);
    if (isApart || base.pairs.has(remote.address.key)) return undefined;
    const pair = new CandidatePair(++this.#pairs.count, base, remote, this.role);
    if (!this.set.insert(this.list, pair)) return undefined;
    base.pairs.set(remote.address.key, pair);
    report(pair, io);
    return pair;
  }

  /** Takes a role, while the peer's credentials are not known; later only a conflict changes it. Gives whether it did. */
  setRole(role: IceRole, io: MachineIo<IceEvent>): boolean {
    if (this.isReady) return false;
    this.roles.role = role;
    this.roles.isOpen = false;
    this.set.prioritize(role);
    io.emit({ type: "role", role });
    return true;
  }

  /** Takes the other role, after a conflict (RFC 8445 §7.3.1.1). */
  switchRole(io: MachineIo<IceEvent>): void {
    const role = this.roles.flip();
    for (const list of this.set.lists) {
      for (const pair of list.pairs) {
        if (pair.nominating) list.untrigger(pair);
        pair.nominating = false;
      }
      list.isHolding = false;
    }
    this.set.prioritize(role);
    io.emit({ type: "role", role });
  }

  #nominationOf(pair: CandidatePair): { nomination: number; tellsNomination: boolean } {
    // The first one is told by USE-CANDIDATE, which everybody understands, alone.
    const nomination = pair.proposedNomination;
    return { nomination, tellsNomination: this.isRenominating && nomination > 1 };
  }

  #move(pair: CandidatePair, state: CandidatePair["state"], io: MachineIo<IceEvent>): void {
    if (pair.state === state) return;
    pair.moveTo(state);
    report(pair, io);
  }
}

function report(pair: CandidatePair, io: MachineIo<IceEvent>): void {
  io.emit({ type: "pair", pair, state: pair.state });
}
