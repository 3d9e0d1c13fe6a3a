import type { TransportAddress } from "../stun/address.ts";
import { ERROR_CODE_ATTRIBUTE, USERNAME, XOR_MAPPED_ADDRESS } from "../stun/attributes.ts";
import { ERROR_CODE } from "../stun/error.ts";
import { DeadlineHeap, type MachineIo } from "../stun/machine.ts";
import type { StunMessage } from "../stun/message.ts";
import { ICE_CONTROLLED, ICE_CONTROLLING, PRIORITY, USE_CANDIDATE } from "./attributes.ts";
import { type Candidate, isLinkLocal, type RemoteCandidate } from "./candidate.ts";
import { ANSWER_SIZE, answerCheck, type Check, isFingerprintPlausible, senderUfrag, startCheck } from "./check.ts";
import { Checklist, ChecklistSet } from "./checklist.ts";
import {
  type ConnectivityListener,
  type ConnectivityOptions,
  type IceCounters,
  newCounters,
} from "./connectivity_options.ts";
import { IceCredentials, randomTieBreaker } from "./credentials.ts";
import { EarlyChecks, type ReceivedCheck } from "./early_checks.ts";
import type { IceEvent } from "./events.ts";
import { type Base, CandidatePair, type IceRole } from "./pair.ts";
import { RemoteCandidates } from "./remote_candidates.ts";
import type { IceParameters } from "./sdp.ts";

/** How long an answer to a request for consent is awaited: 16 times 500 ms. It is sent once (RFC 7675 §5.1). */
const CONSENT_RETRANSMIT = { rto: 500, rc: 1, rm: 16 } as const;

/**
 * How many checks of one pair may await answers. With a round trip longer than Ta the two sides' checks trigger each
 * other (RFC 8445 §7.3.1.4), in every slot until the first answer is there: that shall have an end.
 */
const MAX_OUTSTANDING = 4;

/**
 * The connectivity checks of one ICE session (RFC 8445 §7): credentials, roles, pairs, and the requests and responses
 * that go along them. When to send the next check, what to nominate and where data goes is the agent's business.
 */
export class Connectivity {
  /** The pairs of the one stream. */
  readonly list: Checklist = new Checklist();
  /** All checklists. */
  readonly set: ChecklistSet;
  /** The peer's candidates. */
  readonly remotes: RemoteCandidates = new RemoteCandidates();
  /** Both sides' credentials. */
  readonly credentials: IceCredentials;
  /** Packets that changed nothing. */
  readonly counters: IceCounters;
  /** What the peer told besides candidates. */
  remoteParameters: IceParameters | undefined;
  /** Our role; provisional with `"auto"`, until the peer's credentials are known. */
  role: IceRole;
  readonly #isLite: boolean;
  #isRoleOpen: boolean;
  /** Whose check has told us our role while it was open. */
  #roleToldBy: string | undefined;
  #tieBreaker: bigint;
  #listener: ConnectivityListener;
  #bases: Base[] = [];
  #early = new EarlyChecks();
  #checks = new Map<string, Check>();
  #timers = new DeadlineHeap<Check>();
  #pairCount: number;

  /**
   * Connectivity without candidates, in its first generation of credentials.
   *
   * @param options See `ConnectivityOptions`.
   * @param listener Is told what comes out.
   * @param before What a restart takes over from: the role stays (RFC 8445 §9).
   */
  constructor(options: ConnectivityOptions, listener: ConnectivityListener, before?: Connectivity) {
    this.role = before?.role ?? (options.role === "auto" ? "controlling" : options.role);
    this.#isLite = options.lite === true;
    this.#isRoleOpen = before === undefined ? options.role === "auto" : before.#isRoleOpen;
    this.#pairCount = before === undefined ? 0 : before.#pairCount;
    this.counters = before?.counters ?? newCounters();
    this.credentials = new IceCredentials(options.random, options);
    this.#tieBreaker = options.tieBreaker ?? randomTieBreaker(options.random);
    this.set = new ChecklistSet([this.list], options.maxPairs);
    this.#listener = listener;
  }

  /** When `handleTimeout()` is due. */
  get deadline(): number {
    return this.#timers.deadline;
  }

  /** Whether checks may be sent: the peer's credentials are known. */
  get isReady(): boolean {
    return this.credentials.remoteKey !== undefined;
  }

  /** Whether some pair may still become valid. */
  get hasUnresolved(): boolean {
    return !this.#isLite &&
      this.list.pairs.some(({ state, check }) =>
        state === "waiting" || state === "frozen" || (state === "in-progress" && check !== undefined)
      );
  }

  /** Takes in the peer's parameters, and acts on the checks that came before them. */
  setRemote(parameters: IceParameters, io: MachineIo<IceEvent>): void {
    this.remoteParameters = parameters;
    this.credentials.setRemote(parameters);
    // RFC 8445 §6.1.1: with a full peer a lite agent is controlled.
    if (this.#isLite && parameters.lite !== true) {
      this.#isRoleOpen = false;
      if (this.role === "controlling") this.#switchRole(io);
    }
    if (this.#isRoleOpen) this.#closeRole(parameters, io);
    // RFC 8445 §6.1.1: of a full and a lite agent the full one controls.
    if (parameters.lite === true && !this.#isLite && this.role === "controlled") this.#switchRole(io);
    for (const other of this.remotes.keepSession(parameters.ufrag)) {
      for (const pair of this.list.pairs.filter(({ remote }) => remote === other)) this.list.remove(pair);
    }
    for (const check of this.#early.take(parameters.ufrag)) this.#act(check, io);
  }

  /** Takes in a socket, and pairs it with the peer's candidates (RFC 8838 §10). */
  addBase(base: Base, io: MachineIo<IceEvent>): void {
    this.#bases.push(base);
    for (const remote of this.remotes.all()) this.#formPair(base, remote, io);
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
    for (const base of this.#bases) this.#formPair(base, remote, io);
    return true;
  }

  /** See `SelectionOwner`. */
  get consent(): "asking" | "hearing" | "never" {
    if (!this.#isLite) return "asking";
    return this.remoteParameters?.lite === true ? "never" : "hearing";
  }

  /** Sends the next check, if there is one (RFC 8445 §6.1.4.2). */
  startNext(ta: number, io: MachineIo<IceEvent>): boolean {
    if (!this.isReady || this.#isLite) return false;
    const pair = this.set.next();
    if (pair === undefined) return false;
    this.#move(pair, pair.isValid ? "succeeded" : "in-progress", io);
    // RFC 8445 §14.3, without the factor N: it wants every first transmission to come before any repetition (§14.1),
    // for which the number of checks under way is enough; with N squared a lost packet would cost many seconds.
    pair.rto = Math.max(500, ta * (this.set.count("waiting") + this.set.count("in-progress")));
    if (pair.check !== undefined) this.#cancel(pair.check);
    pair.checkedAt = io.now;
    pair.counters.requestsSent++;
    pair.check = this.#start(pair, io, { useCandidate: pair.nominating, retransmit: { rto: pair.rto } });
    return true;
  }

  /** Asks for consent to go on sending (RFC 7675 §5.1). */
  askConsent(pair: CandidatePair, io: MachineIo<IceEvent>): void {
    pair.counters.consentRequestsSent++;
    // A nomination on its way gets one more chance. A lite peer may take the latest USE-CANDIDATE for the choice.
    const isChoice = pair.nominating && !this.list.isTriggered(pair);
    const useCandidate = isChoice || (pair.nominated && this.remoteParameters?.lite === true);
    this.#start(pair, io, { useCandidate, retransmit: CONSENT_RETRANSMIT, isConsent: true });
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
    this.list.hold(pair);
  }

  /** Ends the checks, now that a pair is nominated (RFC 8445 §8.1.2): answers that are on their way still count. */
  conclude(): void {
    this.list.state = "completed";
    this.list.isHolding = false;
    for (const pair of [...this.list.pairs]) {
      if (pair.check !== undefined && !pair.nominating) this.#cancel(pair.check);
      if ((pair.state === "waiting" || pair.state === "frozen") && !pair.nominateOnSuccess) this.list.remove(pair);
      if (!pair.nominateOnSuccess) this.list.untrigger(pair);
    }
  }

  /** Sends and awaits nothing any more. */
  stop(): void {
    for (const check of [...this.#checks.values()]) this.#forget(check);
  }

  /** Sets a pair to Failed. */
  fail(pair: CandidatePair, io: MachineIo<IceEvent>): void {
    if (pair.state === "failed") return;
    if (pair.check !== undefined) this.#forget(pair.check);
    if (pair.nominating) this.list.isHolding = false;
    pair.nominating = pair.nominated = pair.nominateOnSuccess = false;
    this.list.untrigger(pair);
    this.#move(pair, "failed", io);
    this.#listener.pairFailed(pair, io);
  }

  /** Repeats checks and gives them up. */
  handleTimeout(io: MachineIo<IceEvent>): void {
    for (let timer = this.#timers.expire(io.now); timer !== undefined; timer = this.#timers.expire(io.now)) {
      const check = timer.owner;
      const { pair, transaction } = check;
      const step = transaction.handleTimeout(io.now);
      if (step === "timeout") {
        const isCurrent = pair.check === check;
        this.#forget(check);
        if (isCurrent && (!check.isCancelled || pair.state === "in-progress")) this.fail(pair, io);
        continue;
      }
      if (step === "retransmit") {
        check.isRepeated = true;
        pair.counters.retransmissionsSent++;
        io.send(pair.base.socket, pair.remote.address, transaction.request);
      }
      this.#timers.set(timer, transaction.deadline);
    }
  }

  /** Whether a request is to these credentials, or a response to a check of these. */
  isAddressee(message: StunMessage): boolean {
    if (message.class !== "request") return this.#checks.has(message.transactionKey);
    return message.get(USERNAME)?.startsWith(`${this.credentials.ufrag}:`) === true;
  }

  /** Takes in a Binding request; gives whether it is one of ICE's. */
  handleRequest(message: StunMessage, base: Base, from: TransportAddress, io: MachineIo<IceEvent>): boolean {
    // RFC 8445 §7.2.4: every check has a FINGERPRINT. What has none is somebody else's STUN, inside of our data.
    if (!message.verifyFingerprint()) return false;
    const { credentials } = this;
    const isKnown = base.pairs.has(from.key) || this.remotes.get(from) !== undefined || !this.isReady;
    const context = {
      credentials,
      // A role that is not decided conflicts with none.
      role: this.#isLite ? "controlled" as const : this.#isRoleOpen ? undefined : this.role,
      // A lite agent does not take control of one that checks: that one has to.
      tieBreaker: this.#isLite ? -1n : this.#tieBreaker,
      memory: io.scratch(ANSWER_SIZE),
      mayNominate: isKnown || this.remotes.hasRoom(from, base.socket),
    };
    const { bytes, outcome } = answerCheck(message, from, context);
    io.send(base.socket, from, bytes);
    if (outcome === "refused") this.counters.requestsRefused++;
    else if (outcome === "unauthenticated") this.counters.requestsUnauthenticated++;
    if (outcome !== "accepted" && outcome !== "switched") return true;
    if (outcome === "switched") this.#switchRole(io);
    const check: ReceivedCheck = {
      base,
      from,
      ufrag: senderUfrag(message, credentials),
      // 0 is no priority (RFC 8445 §5.1.2).
      priority: message.get(PRIORITY) || undefined,
      useCandidate: message.has(USE_CANDIDATE),
      transactionKey: message.transactionKey,
    };
    if (this.#isRoleOpen) this.#adoptRole(message, check.ufrag);
    if (!this.isReady) {
      if (!this.#early.add(check)) this.counters.requestsOverLimit++;
    } else if (check.ufrag !== credentials.remoteUfrag) this.counters.requestsOfOthers++;
    else this.#act(check, io);
    return true;
  }

  /** Takes in a Binding response; gives whether it is one of ICE's. */
  handleResponse(message: StunMessage, base: Base, from: TransportAddress, io: MachineIo<IceEvent>): boolean {
    const check = this.#checks.get(message.transactionKey);
    if (check === undefined) {
      if (!message.verifyFingerprint()) return false;
      this.counters.responsesUnmatched++;
      return true;
    }
    // Whatever is not signed by the peer changes nothing (RFC 8489 §9.1.4), error responses included.
    const mapped = message.get(XOR_MAPPED_ADDRESS);
    const isUseful = message.class === "error" || mapped !== undefined;
    if (!isUseful || !isFingerprintPlausible(message) || !message.verifyIntegrity(check.credentials.remoteKey!)) {
      this.counters.responsesRefused++;
      return true;
    }
    this.#forget(check);
    const { pair } = check;
    pair.counters.responsesReceived++;
    if (pair.base !== base || !pair.remote.address.equals(from)) {
      // RFC 8445 §7.2.5.2.1: an answer by another way proves nothing about this one.
      if (this.#isDecisive(check)) this.fail(pair, io);
    } else if (message.class === "error") this.#handleError(check, message.get(ERROR_CODE_ATTRIBUTE)?.code, io);
    else this.#handleSuccess(check, mapped!, io);
    return true;
  }

  #handleSuccess(check: Check, mapped: TransportAddress, io: MachineIo<IceEvent>): void {
    const { pair } = check;
    if (pair.base.pairs.get(pair.remote.address.key) !== pair) return;
    pair.answeredAt = io.now;
    pair.isSilent = false;
    // With repetitions nobody knows which one was answered (Karn's algorithm, RFC 8489 §6.2.1).
    if (!check.isRepeated) pair.measure(io.now - check.transaction.startedAt);
    const isFirst = !pair.isValid;
    if (isFirst) {
      if (check.isConsent || pair.state === "failed" || pair.state === "frozen") return;
      this.#validate(pair, check, mapped, io);
    }
    this.#listener.pairAnswered(pair, isFirst, io);
    const isOurChoice = check.nominates && pair.nominating && this.role === "controlling";
    const isTheirChoice = pair.nominateOnSuccess && this.role === "controlled";
    if (isOurChoice || isTheirChoice) this.#setNominated(pair, io);
  }

  /** The pair becomes the valid pair: its local candidate is what the peer sees (RFC 8445 §7.2.5.3). */
  #validate(pair: CandidatePair, check: Check, mapped: TransportAddress, io: MachineIo<IceEvent>): void {
    if (pair.check !== undefined) this.#cancel(pair.check);
    this.list.untrigger(pair);
    const local = this.#listener.mappedCandidate(pair.base, mapped, check.priority);
    if (local !== undefined && local !== pair.local) {
      pair.local = local;
      pair.prioritize(this.role);
      this.list.sort();
    }
    pair.validAt = io.now;
    this.#move(pair, "succeeded", io);
    for (const thawed of this.set.unfreeze(pair.foundation)) report(thawed, io);
  }

  #handleError(check: Check, code: number | undefined, io: MachineIo<IceEvent>): void {
    const { pair } = check;
    // A lite peer is controlled, whatever it says.
    if (code === ERROR_CODE.ROLE_CONFLICT && this.remoteParameters?.lite !== true) {
      // Of several 487s only the first finds us in the role that it is about (RFC 8445 §7.2.5.1).
      if (check.role === this.role) {
        this.#switchRole(io);
        this.#tieBreaker = randomTieBreaker(io.random);
      }
      if (check.isConsent || pair.isValid || pair.state === "failed") return;
      this.#move(pair, "waiting", io);
      this.list.trigger(pair);
    } else if (check.isConsent) {
      if (code === ERROR_CODE.FORBIDDEN) this.#listener.consentRevoked(pair, io);
    } else if (this.#isDecisive(check)) this.fail(pair, io);
  }

  /** Whether the pair fails if this check does: not if another has succeeded, unless this one is to nominate it. */
  #isDecisive(check: Check): boolean {
    return !check.isConsent && (!check.pair.isValid || check.nominates);
  }

  /** What an authenticated check of the peer's leads to (RFC 8445 §7.3.1.3 to §7.3.1.5). */
  #act({ base, from, priority, useCandidate, transactionKey }: ReceivedCheck, io: MachineIo<IceEvent>): void {
    const isNomination = useCandidate && this.role === "controlled";
    let pair = base.pairs.get(from.key);
    if (pair === undefined) {
      // After the end only a nomination of the peer's can bring in another pair.
      if (this.list.state === "completed" && !isNomination) return;
      const remote = this.remotes.get(from) ??
        (priority === undefined ? undefined : this.remotes.learn(from, priority, base.socket));
      pair = remote === undefined ? undefined : this.#formPair(base, remote, io);
      if (pair === undefined) {
        this.counters.requestsOverLimit++;
        return;
      }
    }
    pair.heard = true;
    pair.counters.requestsReceived++;
    pair.counters.responsesSent++;
    if (this.#isLite) {
      // RFC 8445 §7.3.2. What a full agent learns by checks of its own, a lite one takes from the peer's.
      pair.answeredAt = io.now;
      this.#listener.pairAnswered(pair, false, io);
      if (isNomination && !pair.nominated) this.accept(pair, io);
      return;
    }
    // Was each repetition to trigger a check, that would start anew each time, and the nomination would wait for it.
    if (!pair.hear(transactionKey)) return;
    if (pair.isValid) {
      if (isNomination && !pair.nominated) this.#setNominated(pair, io);
      return;
    }
    if (this.list.state === "completed" && !isNomination) return;
    if (isNomination) pair.nominateOnSuccess = true;
    if (pair.state === "in-progress" && pair.outstanding >= MAX_OUTSTANDING) return;
    if (pair.check !== undefined) this.#cancel(pair.check);
    this.#move(pair, "waiting", io);
    this.list.trigger(pair);
  }

  /** A lite agent's way to a nominated pair: without a check (RFC 8445 §7.3.2, §8.2). */
  accept(pair: CandidatePair, io: MachineIo<IceEvent>): void {
    if (!pair.isValid) {
      pair.validAt = pair.answeredAt = io.now;
      this.#move(pair, "waiting", io);
      this.#move(pair, "succeeded", io);
      this.#listener.pairAnswered(pair, true, io);
    }
    this.#setNominated(pair, io);
  }

  #setNominated(pair: CandidatePair, io: MachineIo<IceEvent>): void {
    pair.nominating = pair.nominateOnSuccess = false;
    pair.nominated = true;
    this.#listener.pairNominated(pair, io);
  }

  #formPair(base: Base, remote: RemoteCandidate, io: MachineIo<IceEvent>): CandidatePair | undefined {
    const local = base.candidate;
    const isApart = local.address.family !== remote.address.family || local.component !== remote.component ||
      isLinkLocal(local.address) !== isLinkLocal(remote.address);
    if (isApart || base.pairs.has(remote.address.key)) return undefined;
    const pair = new CandidatePair(++this.#pairCount, base, remote, this.role);
    if (!this.set.insert(this.list, pair)) return undefined;
    base.pairs.set(remote.address.key, pair);
    report(pair, io);
    return pair;
  }

  #start(
    pair: CandidatePair,
    io: MachineIo<IceEvent>,
    options: { useCandidate: boolean; retransmit: { rto: number; rc?: number; rm?: number }; isConsent?: boolean },
  ): Check {
    const { credentials, role } = this;
    const check = startCheck(pair, io.now, io.random, {
      credentials,
      role,
      tieBreaker: this.#tieBreaker,
      ...options,
    });
    this.#checks.set(check.key, check);
    if (!check.isConsent) pair.outstanding++;
    this.#timers.set(check.timer, check.transaction.deadline);
    io.send(pair.base.socket, pair.remote.address, check.transaction.request);
    return check;
  }

  /** Sends no more of a check, but waits for its answer. */
  #cancel(check: Check): void {
    if (check.isCancelled) return;
    check.isCancelled = true;
    check.transaction.cancelRetransmissions();
    this.#timers.set(check.timer, check.transaction.deadline);
  }

  #forget(check: Check): void {
    if (this.#checks.delete(check.key) && !check.isConsent) check.pair.outstanding--;
    this.#timers.clear(check.timer);
    if (check.pair.check === check) check.pair.check = undefined;
  }

  /** A peer that checks already has a role: ours is the other. */
  #adoptRole(message: StunMessage, ufrag: string): void {
    if (message.has(ICE_CONTROLLING)) this.role = "controlled";
    else if (message.has(ICE_CONTROLLED)) this.role = "controlling";
    else return;
    this.#roleToldBy = ufrag;
  }

  #closeRole({ ufrag }: IceParameters, io: MachineIo<IceEvent>): void {
    this.#isRoleOpen = false;
    if (this.#roleToldBy !== ufrag) this.role = this.credentials.ufrag < ufrag ? "controlling" : "controlled";
    this.set.prioritize(this.role);
    io.emit({ type: "role", role: this.role });
  }

  #switchRole(io: MachineIo<IceEvent>): void {
    const role = this.role = this.role === "controlling" ? "controlled" : "controlling";
    for (const pair of this.list.pairs) {
      if (pair.nominating) this.list.untrigger(pair);
      pair.nominating = false;
    }
    this.list.isHolding = false;
    this.set.prioritize(role);
    io.emit({ type: "role", role });
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
