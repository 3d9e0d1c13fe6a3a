import type { MachineIo } from "../stun/machine.ts";
import type { StunMessage } from "../stun/message.ts";
import { NOMINATION, PRIORITY, USE_CANDIDATE } from "./attributes.ts";
import { ANSWER_SIZE, answerCheck, senderUfrag } from "./check.ts";
import type { Connectivity } from "./connectivity.ts";
import { EarlyChecks, type ReceivedCheck } from "./early_checks.ts";
import type { IceEvent } from "./events.ts";
import type { Base } from "./pair.ts";
import type { Arrival } from "./responses.ts";
import { counterpart } from "./tcp.ts";

/**
 * How many checks of one pair may await answers. With a round trip longer than Ta the two sides' checks trigger each
 * other (RFC 8445 §7.3.1.4), in every slot until the first answer is there: that shall have an end.
 */
const MAX_OUTSTANDING = 4;

/** The peer's checks (RFC 8445 §7.3): answered at once, whoever sends them, and acted on if they are the peer's. */
export class Requests {
  #session: Connectivity;
  #early = new EarlyChecks();

  /** @param session What they are about. */
  constructor(session: Connectivity) {
    this.#session = session;
  }

  /** Takes in a Binding request; gives whether it is one of ICE's. */
  handle(message: StunMessage, base: Base, { socket, from }: Arrival, io: MachineIo<IceEvent>): boolean {
    // RFC 8445 §7.2.4: every check has a FINGERPRINT. What has none is somebody else's STUN, inside of our data.
    if (!message.verifyFingerprint()) return false;
    const { credentials, roles, remotes, counters, isLite, isReady, listener: { connections } } = this.#session;
    const isKnown = base.pairs.has(from.key) || remotes.get(from, counterpart(base.kind)) !== undefined || !isReady;
    const context = {
      credentials,
      // A role that is not decided conflicts with none.
      role: isLite ? "controlled" as const : roles.isOpen ? undefined : roles.role,
      // A lite agent does not take control of one that checks: that one has to.
      tieBreaker: isLite ? -1n : roles.tieBreaker,
      memory: io.scratch(ANSWER_SIZE),
      mayNominate: isKnown || remotes.hasRoom(from, base.socket),
    };
    const { bytes, outcome } = answerCheck(message, from, context);
    io.send(socket, from, bytes);
    if (outcome === "refused") counters.requestsRefused++;
    else if (outcome === "unauthenticated") counters.requestsUnauthenticated++;
    else connections.authenticate(socket);
    if (outcome !== "accepted" && outcome !== "switched") return true;
    if (outcome === "switched") this.#session.switchRole(io);
    const check: ReceivedCheck = {
      base,
      socket,
      from,
      ufrag: senderUfrag(message, credentials),
      // 0 is no priority (RFC 8445 §5.1.2).
      priority: message.get(PRIORITY) || undefined,
      ...nominationOf(message),
      transactionKey: message.transactionKey,
    };
    if (roles.isOpen) roles.adopt(message, check.ufrag);
    if (!isReady) {
      if (!this.#early.add(check)) counters.requestsOverLimit++;
    } else if (check.ufrag !== credentials.remoteUfrag) counters.requestsOfOthers++;
    else this.#act(check, io);
    return true;
  }

  /** Acts on the checks that came before the peer's credentials, which are known now. */
  releaseEarly(ufrag: string, io: MachineIo<IceEvent>): void {
    for (const check of this.#early.take(ufrag)) this.#act(check, io);
  }

  /** What an authenticated check of the peer's leads to (RFC 8445 §7.3.1.3 to §7.3.1.5). */
  #act(check: ReceivedCheck, io: MachineIo<IceEvent>): void {
    const session = this.#session;
    const { list } = session;
    const isNomination = check.useCandidate && session.role === "controlled";
    const pair = check.base.pairs.get(check.from.key) ?? this.#learnPair(check, isNomination, io);
    const { connections } = session.listener;
    if (pair === undefined) return connections.drop(check.socket, io);
    // One that came before the peer's credentials may have come over a connection that is gone.
    if (!connections.attach(pair, check.socket, session, io)) return;
    pair.counters.requestsReceived++;
    pair.counters.responsesSent++;
    if (!pair.heard) {
      pair.heard = true;
      session.listener.pairHeard(pair, io);
    }
    const isNews = pair.hear(check.transactionKey);
    const isNewNomination = isNomination && isNews && session.noteNomination(pair, check.nomination);
    if (session.isLite) {
      // RFC 8445 §7.3.2. What a full agent learns by checks of its own, a lite one takes from the peer's.
      pair.answeredAt = io.now;
      session.listener.pairAnswered(pair, { isFirst: false, wasSilent: false }, io);
      if (isNewNomination) session.accept(pair, io);
      return;
    }
    // Was each repetition to trigger a check, that would start anew each time, and the nomination would wait for it.
    if (!isNews) return;
    if (pair.isValid) {
      if (isNewNomination) session.setNominated(pair, io);
      return;
    }
    if (list.state === "completed" && !list.isExploring && !isNomination) return;
    if (isNomination) pair.nominateOnSuccess = true;
    if (pair.state === "in-progress" && pair.outstanding >= MAX_OUTSTANDING) return;
    session.trigger(pair, io);
  }

  /** The pair that a check shows (RFC 8445 §7.3.1.3); `undefined` if it is not wanted, or there is no room. */
  #learnPair({ base, socket, from, priority }: ReceivedCheck, isNomination: boolean, io: MachineIo<IceEvent>) {
    const { list, remotes, counters } = this.#session;
    // After the end only a nomination of the peer's can bring in another pair, unless others are looked for.
    if (list.state === "completed" && !list.isExploring && !isNomination) return undefined;
    const kind = counterpart(base.kind);
    const remote = remotes.get(from, kind) ??
      (priority === undefined ? undefined : remotes.learn(from, { kind, priority, socket: base.socket }));
    const isConnected = socket !== base.socket;
    const pair = remote === undefined ? undefined : this.#session.formPair(base, remote, io, isConnected);
    if (pair === undefined) counters.requestsOverLimit++;
    return pair;
  }
}

/**
 * Whether a check nominates, and how new the nomination is. Browsers send NOMINATION in place of USE-CANDIDATE to a peer
 * that has the option `renomination`; 0 is none (draft-thatcher-ice-renomination §4).
 */
function nominationOf(message: StunMessage): Pick<ReceivedCheck, "useCandidate" | "nomination"> {
  const nomination = (message.get(NOMINATION) ?? 0) & 0xffffff;
  return { useCandidate: nomination > 0 || message.has(USE_CANDIDATE), nomination };
}
