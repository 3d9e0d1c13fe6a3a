import type { TransportAddress } from "../stun/address.ts";
import { ERROR_CODE_ATTRIBUTE, XOR_MAPPED_ADDRESS } from "../stun/attributes.ts";
import { ERROR_CODE } from "../stun/error.ts";
import { DeadlineHeap, type MachineIo, type Packet } from "../stun/machine.ts";
import type { StunMessage } from "../stun/message.ts";
import { type Check, isFingerprintPlausible, startCheck, type StartCheckOptions } from "./check.ts";
import type { Connectivity } from "./connectivity.ts";
import type { IceEvent } from "./events.ts";
import type { Base, CandidatePair } from "./pair.ts";

/** Where a message arrived, and from where. */
export type Arrival = Pick<Packet, "socket" | "from">;

/** Our checks that are on their way, and what their answers lead to (RFC 8445 §7.2.5). */
export class Responses {
  #session: Connectivity;
  #checks = new Map<string, Check>();
  #timers = new DeadlineHeap<Check>();

  /** @param session What they are about. */
  constructor(session: Connectivity) {
    this.#session = session;
  }

  /** When `handleTimeout()` is due. */
  get deadline(): number {
    return this.#timers.deadline;
  }

  /** Whether a response is to one of these checks. */
  isAwaited(message: StunMessage): boolean {
    return this.#checks.has(message.transactionKey);
  }

  /** Sends a check, and awaits its answer. */
  start(
    pair: CandidatePair,
    io: MachineIo<IceEvent>,
    options: Pick<StartCheckOptions, "useCandidate" | "nomination" | "tellsNomination" | "retransmit" | "isConsent">,
  ): Check {
    const { credentials, roles: { role, tieBreaker } } = this.#session;
    const check = startCheck(pair, io.now, io.random, { credentials, role, tieBreaker, ...options });
    this.#checks.set(check.key, check);
    if (!check.isConsent) pair.outstanding++;
    this.#timers.set(check.timer, check.transaction.deadline);
    io.send(pair.socket, pair.remote.address, check.transaction.request);
    return check;
  }

  /** Sends no more of a check, but waits for its answer. */
  cancel(check: Check): void {
    if (check.isCancelled) return;
    check.isCancelled = true;
    check.transaction.cancelRetransmissions();
    this.#timers.set(check.timer, check.transaction.deadline);
  }

  /** Awaits an answer no more. */
  forget(check: Check): void {
    if (this.#checks.delete(check.key) && !check.isConsent) check.pair.outstanding--;
    this.#timers.clear(check.timer);
    if (check.pair.check === check) check.pair.check = undefined;
  }

  /** Awaits nothing any more. */
  stop(): void {
    for (const check of [...this.#checks.values()]) this.forget(check);
  }

  /** Repeats checks and gives them up. */
  handleTimeout(io: MachineIo<IceEvent>): void {
    for (let timer = this.#timers.expire(io.now); timer !== undefined; timer = this.#timers.expire(io.now)) {
      const check = timer.owner;
      const { pair, transaction } = check;
      const step = transaction.handleTimeout(io.now);
      if (step === "timeout") {
        const isCurrent = pair.check === check;
        this.forget(check);
        if (check.isConsent) pair.quality.unanswered();
        if (isCurrent && (!check.isCancelled || pair.state === "in-progress")) this.#session.fail(pair, io);
        continue;
      }
      if (step === "retransmit") {
        if (!check.isRepeated) pair.quality.unanswered();
        check.isRepeated = true;
        pair.counters.retransmissionsSent++;
        io.send(pair.socket, pair.remote.address, transaction.request);
      }
      this.#timers.set(timer, transaction.deadline);
    }
  }

  /** Takes in a Binding response; gives whether it is one of ICE's. */
  handle(message: StunMessage, base: Base, { socket, from }: Arrival, io: MachineIo<IceEvent>): boolean {
    const { counters } = this.#session;
    const check = this.#checks.get(message.transactionKey);
    if (check === undefined) {
      if (!message.verifyFingerprint()) return false;
      counters.responsesUnmatched++;
      return true;
    }
    // Whatever is not signed by the peer changes nothing (RFC 8489 §9.1.4), error responses included.
    const mapped = message.get(XOR_MAPPED_ADDRESS);
    const isUseful = message.class === "error" || mapped !== undefined;
    if (!isUseful || !isFingerprintPlausible(message) || !message.verifyIntegrity(check.credentials.remoteKey!)) {
      counters.responsesRefused++;
      return true;
    }
    this.forget(check);
    const { pair } = check;
    pair.counters.responsesReceived++;
    if (pair.base !== base || pair.socket !== socket || !pair.remote.address.equals(from)) {
      // RFC 8445 §7.2.5.2.1: an answer by another way proves nothing about this one.
      if (isDecisive(check)) this.#session.fail(pair, io);
    } else if (message.class === "error") this.#handleError(check, message.get(ERROR_CODE_ATTRIBUTE)?.code, io);
    else this.#handleSuccess(check, mapped!, io);
    return true;
  }

  #handleSuccess(check: Check, mapped: TransportAddress, io: MachineIo<IceEvent>): void {
    const session = this.#session;
    const { pair } = check;
    if (pair.base.pairs.get(pair.remote.address.key) !== pair) return;
    const wasSilent = pair.isSilent;
    pair.answeredAt = io.now;
    pair.isSilent = false;
    // With repetitions nobody knows which one was answered (Karn's algorithm, RFC 8489 §6.2.1).
    if (!check.isRepeated) pair.quality.answered(io.now - check.transaction.startedAt);
    const isFirst = !pair.isValid;
    if (isFirst) {
      if (check.isConsent || pair.state === "failed" || pair.state === "frozen") return;
      if (pair.check !== undefined) this.cancel(pair.check);
      session.validate(pair, { mapped, priority: check.priority }, io);
    }
    session.listener.pairAnswered(pair, { isFirst, wasSilent }, io);
    const isOurChoice = check.nominates && pair.nominating && session.role === "controlling";
    const isTheirChoice = pair.nominateOnSuccess && session.role === "controlled";
    if (isOurChoice) pair.nomination = check.nomination;
    if (isOurChoice || isTheirChoice) session.setNominated(pair, io);
  }

  #handleError(check: Check, code: number | undefined, io: MachineIo<IceEvent>): void {
    const session = this.#session;
    const { pair } = check;
    // A lite peer is controlled, whatever it says.
    if (code === ERROR_CODE.ROLE_CONFLICT && session.remoteParameters?.lite !== true) {
      // Of several 487s only the first finds us in the role that it is about (RFC 8445 §7.2.5.1).
      if (check.role === session.role) {
        session.switchRole(io);
        session.roles.renewTieBreaker(io.random);
      }
      if (check.isConsent || pair.isValid || pair.state === "failed") return;
      session.trigger(pair, io);
    } else if (check.isConsent) {
      if (code === ERROR_CODE.FORBIDDEN) session.listener.consentRevoked(pair, io);
    } else if (isDecisive(check)) session.fail(pair, io);
  }
}

/** Whether the pair fails if this check does: not if another has succeeded, unless this one is to nominate it. */
function isDecisive(check: Check): boolean {
  return !check.isConsent && (!check.pair.isValid || check.nominates);
}
