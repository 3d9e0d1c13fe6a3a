import type { TransportAddress } from "../stun/address.ts";
import {
  ERROR_CODE_ATTRIBUTE,
  FINGERPRINT,
  MESSAGE_INTEGRITY,
  MESSAGE_INTEGRITY_SHA256,
  UNKNOWN_ATTRIBUTES,
  USERNAME,
  XOR_MAPPED_ADDRESS,
} from "../stun/attributes.ts";
import { ERROR_CODE } from "../stun/error.ts";
import { type Random, Timer } from "../stun/machine.ts";
import { MessageWriter, METHOD, newTransactionId, type StunMessage, transactionKey } from "../stun/message.ts";
import { ClientTransaction, type TransactionOptions } from "../stun/transaction.ts";
import { ICE_CONTROLLED, ICE_CONTROLLING, NOMINATION, PRIORITY, USE_CANDIDATE } from "./attributes.ts";
import { reflexivePriority } from "./candidate.ts";
import type { IceCredentials } from "./credentials.ts";
import type { CandidatePair, IceRole } from "./pair.ts";

/** How much memory an answer needs at most: addresses, integrity, fingerprint and a few unknown attributes. */
export const ANSWER_SIZE = 160;
const KNOWN_REQUIRED: ReadonlySet<number> = new Set(
  [USERNAME, MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256, PRIORITY, USE_CANDIDATE].map(({ type }) => type),
);

/** A Binding request of ours along a pair, and what has to be remembered until it is answered. */
export class Check {
  /** The pair it is sent along. */
  readonly pair: CandidatePair;
  /** The transaction. */
  readonly transaction: ClientTransaction;
  /** The transaction id as a map key. */
  readonly key: string;
  /** The credentials it was made with, which its answer is verified with. */
  readonly credentials: IceCredentials;
  /** Our role when it was sent. */
  readonly role: IceRole;
  /** The value of its PRIORITY. */
  readonly priority: number;
  /** Whether it carries USE-CANDIDATE to nominate. */
  readonly nominates: boolean;
  /** How many nominations there were with this one; 0 if it does not nominate. */
  readonly nomination: number;
  /** Whether it only asks for consent, or keeps a pair warm, outside of the checklist. */
  readonly isConsent: boolean;
  /** Due with the transaction. */
  readonly timer: Timer<Check>;
  /** Cancelled: a missing answer is no failure (RFC 8445 §7.3.1.4). */
  isCancelled = false;
  /** Sent more than once. */
  isRepeated = false;

  /** @internal Made by `startCheck()`. */
  constructor(
    pair: CandidatePair,
    request: Uint8Array,
    now: number,
    options: StartCheckOptions & { priority: number },
  ) {
    this.pair = pair;
    this.transaction = new ClientTransaction(request, now, options.retransmit);
    this.key = transactionKey(request, 8);
    this.credentials = options.credentials;
    this.role = options.role;
    this.priority = options.priority;
    this.nominates = options.useCandidate && pair.nominating;
    this.nomination = this.nominates ? options.nomination ?? 0 : 0;
    this.isConsent = options.isConsent === true;
    this.timer = new Timer<Check>(this);
  }
}

/** How to make a check. */
export interface StartCheckOptions {
  /** Both sides' credentials; the peer's are known. */
  readonly credentials: IceCredentials;
  /** Our role. */
  readonly role: IceRole;
  /** Our tie-breaker. */
  readonly tieBreaker: bigint;
  /** Whether to add USE-CANDIDATE. */
  readonly useCandidate: boolean;
  /** The count of nominations, with USE-CANDIDATE. */
  readonly nomination?: number;
  /** Whether to tell the peer that count as well, in NOMINATION. Default: no. */
  readonly tellsNomination?: boolean;
  /** How to repeat it. */
  readonly retransmit: TransactionOptions;
  /** Whether it only asks for consent. Default: no. */
  readonly isConsent?: boolean;
}

/** Makes the Binding request of a check (RFC 8445 §7.2); the caller sends `transaction.request`. */
export function startCheck(pair: CandidatePair, now: number, random: Random, options: StartCheckOptions): Check {
  const { credentials, role, tieBreaker } = options;
  const priority = reflexivePriority(pair.base.candidate);
  const writer = new MessageWriter(new Uint8Array(116 + 3 * credentials.username.length))
    .begin(METHOD.BINDING, "request", newTransactionId(random))
    .add(USERNAME, credentials.username)
    .add(role === "controlling" ? ICE_CONTROLLING : ICE_CONTROLLED, tieBreaker)
    .add(PRIORITY, priority);
  if (options.useCandidate) writer.add(USE_CANDIDATE, true);
  if (options.useCandidate && options.tellsNomination === true) writer.add(NOMINATION, options.nomination ?? 1);
  const request = writer.addIntegrity(credentials.remoteKey!).addFingerprint().finish();
  return new Check(pair, request, now, { ...options, priority });
}

/** How a check that came in is answered. */
export interface CheckAnswer {
  /** The response: a view of the memory that was given. */
  readonly bytes: Uint8Array;
  /**
   * `"accepted"`; `"switched"` if it is, and our role must change; `"conflict"` if the sender's must; `"refused"` if it
   * is malformed; `"unauthenticated"` if it is not from somebody who knows our password.
   */
  readonly outcome: "accepted" | "switched" | "conflict" | "refused" | "unauthenticated";
}

/** Answers a check (RFC 8445 §7.3): authenticates it, looks for a conflict of roles, and writes the response. */
export function answerCheck(
  request: StunMessage,
  from: TransportAddress,
  { credentials, role, tieBreaker, memory, mayNominate }: {
    readonly credentials: IceCredentials;
    /** Our role; `undefined` while it is open. */
    readonly role: IceRole | undefined;
    readonly tieBreaker: bigint;
    readonly memory: Uint8Array;
    /** Whether a pair could be nominated by it. */
    readonly mayNominate: boolean;
  },
): CheckAnswer {
  const refusal = authenticateRequest(request, credentials);
  if (refusal !== undefined) {
    const outcome = refusal === ERROR_CODE.UNAUTHENTICATED ? "unauthenticated" : "refused";
    return { bytes: writeError(request, refusal, { credentials: undefined, memory }), outcome };
  }
  const unknown = request.unknownRequired(KNOWN_REQUIRED);
  if (unknown.length > 0) {
    const bytes = writeError(request, ERROR_CODE.UNKNOWN_ATTRIBUTE, { credentials, memory, unknown });
    return { bytes, outcome: "refused" };
  }
  const conflict = roleConflict(request, role, tieBreaker);
  if (conflict === "keep") {
    return { bytes: writeError(request, ERROR_CODE.ROLE_CONFLICT, { credentials, memory }), outcome: "conflict" };
  }
  if (!mayNominate && request.has(USE_CANDIDATE)) {
    // RFC 8445 §7.3.1.5: a nomination that is not accepted must be refused, lest the peer take it for agreed.
    return { bytes: writeError(request, ERROR_CODE.BAD_REQUEST, { credentials, memory }), outcome: "refused" };
  }
  const bytes = writeSuccess(request, from, { credentials, memory });
  return { bytes, outcome: conflict === "switch" ? "switched" : "accepted" };
}

/** Gives the code of the error response to a request that is not authenticated (RFC 8489 §9.1.3). */
function authenticateRequest(message: StunMessage, credentials: IceCredentials): number | undefined {
  const username = message.get(USERNAME);
  if (username === undefined || !message.hasIntegrity) return ERROR_CODE.BAD_REQUEST;
  const isOurs = username.startsWith(credentials.ufrag) && username[credentials.ufrag.length] === ":";
  if (!isOurs || !message.verifyIntegrity(credentials.localKey)) return ERROR_CODE.UNAUTHENTICATED;
  return undefined;
}

/** The username fragment of the peer that sent an authenticated check: what follows the colon. */
export function senderUfrag(message: StunMessage, credentials: IceCredentials): string {
  return message.get(USERNAME)!.slice(credentials.ufrag.length + 1);
}

function writeSuccess(
  request: StunMessage,
  from: TransportAddress,
  { credentials, memory }: { credentials: IceCredentials; memory: Uint8Array },
): Uint8Array {
  return new MessageWriter(memory)
    .beginResponse(request, "success")
    .add(XOR_MAPPED_ADDRESS, from)
    .addIntegrity(credentials.localKey, request.has(MESSAGE_INTEGRITY_SHA256) ? "sha256" : "sha1")
    .addFingerprint()
    .finish();
}

/**
 * Writes an error response. It is signed with our password once the request was authenticated, and not before (RFC 8489
 * §9.1.4). The reason is left out: an answer to a stranger stays short.
 */
function writeError(
  request: StunMessage,
  code: number,
  { credentials, memory, unknown }: {
    credentials: IceCredentials | undefined;
    memory: Uint8Array;
    unknown?: readonly number[];
  },
): Uint8Array {
  const error = { code, reason: "" };
  const writer = new MessageWriter(memory).beginResponse(request, "error").add(ERROR_CODE_ATTRIBUTE, error);
  if (unknown !== undefined) writer.add(UNKNOWN_ATTRIBUTES, unknown.slice(0, 16));
  if (credentials !== undefined) {
    writer.addIntegrity(credentials.localKey, request.has(MESSAGE_INTEGRITY_SHA256) ? "sha256" : "sha1");
  }
  return writer.addFingerprint().finish();
}

/**
 * Whether the role of the sender of a check collides with ours, and what follows (RFC 8445 §7.3.1.1): `"keep"` ours and
 * answer 487, or `"switch"` it.
 */
function roleConflict(
  message: StunMessage,
  role: IceRole | undefined,
  tieBreaker: bigint,
): "keep" | "switch" | undefined {
  if (role === undefined) return undefined;
  const theirs = message.get(role === "controlling" ? ICE_CONTROLLING : ICE_CONTROLLED);
  if (theirs === undefined) return undefined;
  const isOursHigher = tieBreaker >= theirs;
  // The higher tie-breaker ends up controlling, whichever role both had taken.
  return isOursHigher === (role === "controlling") ? "keep" : "switch";
}

/** Whether a STUN message has no FINGERPRINT or a right one; a wrong one means that it is no STUN at all. */
export function isFingerprintPlausible(message: StunMessage): boolean {
  return !message.has(FINGERPRINT) || message.verifyFingerprint();
}
