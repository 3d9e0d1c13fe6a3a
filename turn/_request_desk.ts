import type { TransportAddress } from "../stun/address.ts";
import {
  ACCESS_TOKEN,
  ERROR_CODE_ATTRIBUTE,
  FINGERPRINT,
  SOFTWARE,
  THIRD_PARTY_AUTHORIZATION,
  UNKNOWN_ATTRIBUTES,
  USERHASH,
  USERNAME,
} from "../stun/attributes.ts";
import { type FoundUser, LongTermAuthenticator } from "../stun/authenticator.ts";
import type { DiscoveryServer } from "../stun/discovery_server.ts";
import { ERROR_CODE } from "../stun/error.ts";
import { opaqueString, userHash as hashOf } from "../stun/integrity.ts";
import type { MachineIo, Packet } from "../stun/machine.ts";
import { MessageWriter, METHOD, StunMessage } from "../stun/message.ts";
import { answerBinding } from "../stun/server.ts";
import { type LongTermUser, longTermUser, type UserCredential } from "../stun/users.ts";
import { subjectOfMove } from "./_move.ts";
import { hashedName, type ParkedRequest, ParkedRequests } from "./_parked_requests.ts";
import type { Answer, Outcome, RequestScope } from "./_request.ts";
import { answerAllocated } from "./_allocate_request.ts";
import { SourceLimiter } from "./source_limiter.ts";
import type { PeerConnection } from "./_peer_connections.ts";
import { subjectOfBind } from "./_tcp_requests.ts";
import type { AllocateRequest, Allocation, Listener } from "./allocation.ts";
import { CONNECTION_ID, REQUESTED_TRANSPORT } from "./attributes.ts";
import { handleTurnRequest } from "./requests.ts";
import type { TurnServerCounters } from "./server_counters.ts";
import type { TurnServerEvent } from "./server_events.ts";
import { DEFAULT_CHALLENGE_RATE, type TurnServerOptions } from "./server_options.ts";

const METHODS: ReadonlySet<number> = new Set([
  METHOD.ALLOCATE,
  METHOD.REFRESH,
  METHOD.CREATE_PERMISSION,
  METHOD.CHANNEL_BIND,
]);
/** With RFC 6062. */
const TCP_METHODS: ReadonlySet<number> = new Set([...METHODS, METHOD.CONNECT, METHOD.CONNECTION_BIND]);
/** Reason phrases (RFC 8656 §19). Who is not authenticated gets none: nobody there would read it. */
const REASONS: ReadonlyMap<number, string> = new Map([
  [ERROR_CODE.TRY_ALTERNATE, "Try Alternate"],
  [ERROR_CODE.BAD_REQUEST, "Bad Request"],
  [ERROR_CODE.FORBIDDEN, "Forbidden"],
  [ERROR_CODE.MOBILITY_FORBIDDEN, "Mobility Forbidden"],
  [ERROR_CODE.UNKNOWN_ATTRIBUTE, "Unknown Attribute"],
  [ERROR_CODE.ALLOCATION_MISMATCH, "Allocation Mismatch"],
  [ERROR_CODE.STALE_NONCE, "Stale Nonce"],
  [ERROR_CODE.ADDRESS_FAMILY_NOT_SUPPORTED, "Address Family not Supported"],
  [ERROR_CODE.WRONG_CREDENTIALS, "Wrong Credentials"],
  [ERROR_CODE.UNSUPPORTED_TRANSPORT_PROTOCOL, "Unsupported Transport Protocol"],
  [ERROR_CODE.PEER_ADDRESS_FAMILY_MISMATCH, "Peer Address Family Mismatch"],
  [ERROR_CODE.CONNECTION_ALREADY_EXISTS, "Connection Already Exists"],
  [ERROR_CODE.CONNECTION_TIMEOUT_OR_FAILURE, "Connection Timeout or Failure"],
  [ERROR_CODE.ALLOCATION_QUOTA_REACHED, "Allocation Quota Reached"],
  [ERROR_CODE.INSUFFICIENT_CAPACITY, "Insufficient Capacity"],
]);
const SERVER_ERROR: Answer = { code: ERROR_CODE.SERVER_ERROR };
/** An answer without REALM, SOFTWARE, ALTERNATE-DOMAIN and unknown attributes has no more than this. */
const ANSWER_SIZE = 360;

/** Where an answer goes, and what it must look like. */
interface AnswerTarget extends Omit<AllocateRequest, "transactionKey" | "protection"> {
  readonly listener: Listener;
  readonly client: TransportAddress;
  readonly method: number;
  protection: AllocateRequest["protection"] | undefined;
}

type Io = MachineIo<TurnServerEvent>;

/** Where a server's requests are authenticated, kept waiting and answered. */
export class RequestDesk {
  #scope: RequestScope;
  #counters: TurnServerCounters;
  #authenticator: LongTermAuthenticator;
  #discovery: DiscoveryServer | undefined;
  #limiter: SourceLimiter | undefined;
  #bindingLimiter: SourceLimiter | undefined;
  #parked = new ParkedRequests();
  #software: string;
  #methods: ReadonlySet<number>;
  #serverName: string;

  constructor(scope: RequestScope, counters: TurnServerCounters, options: TurnServerOptions) {
    const { challengeRate = DEFAULT_CHALLENGE_RATE, bindingRate = false, secret, software = "" } = options;
    this.#scope = scope;
    this.#counters = counters;
    this.#authenticator = new LongTermAuthenticator(options);
    this.#limiter = challengeRate === false ? undefined : new SourceLimiter(challengeRate, secret, options.shared);
    this.#bindingLimiter = bindingRate === false ? undefined : new SourceLimiter(bindingRate, secret);
    this.#software = software;
    this.#methods = scope.tcpRelay ? TCP_METHODS : METHODS;
    this.#serverName = options.tokens?.serverName ?? "";
    this.#discovery = options.discovery;
    // Throws now rather than in the first answer.
    new MessageWriter(new Uint8Array(2048)).begin(METHOD.ALLOCATE, "success", new Uint8Array(12))
      .add(SOFTWARE, software).add(THIRD_PARTY_AUTHORIZATION, this.#serverName);
  }

  /** When a request has waited long enough. */
  get deadline(): number {
    return this.#parked.deadline;
  }

  /** How many requests wait. */
  get waiting(): number {
    return this.#parked.size;
  }

  handleTimeout(io: Io): void {
    this.#fail(this.#parked.expire(io.now), io);
  }

  /** Anything from a client that begins like STUN, but for Send indications. */
  handleMessage(listener: Listener, packet: Packet, io: Io): void {
    const counters = this.#counters;
    const message = StunMessage.parse(packet.bytes, { classic: this.#discovery?.classic ?? false });
    if (message === undefined) return void counters.drops.malformed++;
    if (!message.hasCookie && message.method !== METHOD.BINDING) return void counters.drops.malformed++;
    if (message.has(FINGERPRINT) && !message.verifyFingerprint()) return void counters.drops.badFingerprint++;
    const { method } = message;
    const isBinding = method === METHOD.BINDING;
    if (message.class === "indication" && isBinding) return; // A keepalive: its way through the NATs is all it is for.
    if (message.class !== "request") return void counters.drops.unexpectedClass++;
    if (isBinding) {
      counters.bindings++;
      // Who has a connection is who it says.
      if (!listener.isStream && this.#bindingLimiter?.take(packet.from, io.now) === false) {
        return void counters.drops.bindingRate++;
      }
      const code = this.#discovery === undefined
        ? answerBinding(message, packet, io)
        : this.#discovery.handleBinding(message, packet, io, listener.localAddress) ?? 0;
      if (code !== 0) counters.addError(code);
    } else if (this.#methods.has(method)) {
      counters.requests++;
      this.#handleRequest(listener, message, packet.from, io);
    } else counters.drops.unknownMethod++;
  }

  /** The user that was looked for has this credential; `undefined`: there is none of that name. */
  handleCredential(username: string, credential: UserCredential | undefined, io: Io): void {
    const { realm } = this.#authenticator;
    this.#handleFound(username, credential === undefined ? undefined : longTermUser(username, realm, credential), io);
  }

  /** The user that was looked for by USERHASH is this one; `undefined`: there is none. */
  handleHashedCredential(userHash: Uint8Array, found: readonly [string, UserCredential] | undefined, io: Io): void {
    const { realm } = this.#authenticator;
    const user = found === undefined ? undefined : longTermUser(found[0], realm, found[1]);
    // A user with another hash is not who was asked for.
    const isRight = user !== undefined && isSame(hashOf(user.username, realm), userHash);
    this.#handleFound(hashedName(userHash), isRight ? user : undefined, io);
  }

  /** The user that was looked for can not be found out about now. */
  handleCredentialFailed(user: string | Uint8Array, io: Io): void {
    this.#fail(this.#parked.take(typeof user === "string" ? user : hashedName(user)), io);
  }

  #handleFound(name: string, user: LongTermUser | undefined, io: Io): void {
    for (const { listener, bytes, client } of this.#parked.take(name)) {
      const message = StunMessage.parse(bytes);
      if (message !== undefined && !listener.isClosed) this.#handleRequest(listener, message, client, io, { user });
    }
  }

  /** Over UDP clients ask again; over a connection they would wait for 39.5 s (RFC 8489 §6.2.2). */
  #fail(requests: readonly ParkedRequest[], io: Io): void {
    this.#counters.drops.userSearchFailed += requests.length;
    for (const { listener, bytes, client } of requests) {
      const message = listener.isStream && !listener.isClosed ? StunMessage.parse(bytes) : undefined;
      if (message !== undefined) this.#answer(targetOf(listener, message, client), SERVER_ERROR, io);
    }
  }

  /** Answers the Allocate request whose sockets are bound or not. */
  answerLate(allocation: Allocation | undefined, io: Io): void {
    if (allocation === undefined) return;
    const { listener, client, request } = allocation;
    const answer = answerAllocated(this.#scope, allocation, io.now);
    this.#answer({ ...request, listener, client, method: METHOD.ALLOCATE }, answer, io);
  }

  /** Answers the Connect request whose connection is there, or is not (RFC 6062 §5.2). */
  answerConnect({ relay, request, id, state }: PeerConnection, io: Io): void {
    const { listener, client } = relay.allocation;
    const answer: Answer = state === "waiting"
      ? { code: 0, write: (writer) => void writer.add(CONNECTION_ID, id) }
      : { code: ERROR_CODE.CONNECTION_TIMEOUT_OR_FAILURE };
    this.#answer({ ...request!, listener, client, method: METHOD.CONNECT }, answer, io);
  }

  /** The one place where requests are answered: what comes out of the steps is sent, whatever it is. */
  #handleRequest(listener: Listener, message: StunMessage, client: TransportAddress, io: Io, found?: FoundUser): void {
    const target = targetOf(listener, message, client);
    const outcome = this.#process(message, target, io, found);
    if (outcome === "never") this.#counters.drops.alreadyOpening++;
    else if (outcome !== "later") this.#answer(target, outcome, io);
  }

  #process(message: StunMessage, target: AnswerTarget, io: Io, known?: FoundUser): Outcome {
    const { listener, client } = target;
    const allocation = this.#liveAllocation(listener, client, io);
    const subject = allocation ?? subjectOfMove(this.#scope, message) ??
      subjectOfBind(this.#scope, message, io.now);
    if (!message.hasIntegrity) {
      const refusal = refuseStranger(message, listener, subject);
      if (refusal !== undefined) return refusal;
    }
    const path = this.#pathOf(target);
    const found = known ?? this.#findUser(message, subject, io);
    if (found.user === "later" && this.#authenticator.hasOwnNonce(message, path, io.now)) {
      return this.#park(message, target, io);
    }
    const authentication = this.#authenticator.authenticate(message, path, io.now, found);
    target.protection = authentication.protection;
    if (!authentication.isAuthentic) {
      // Nobody is looked for on behalf of who may not be at that address. A fresh nonce will show.
      const isUnknown = found.user === "later" && authentication.code === ERROR_CODE.UNAUTHENTICATED;
      return { code: isUnknown ? ERROR_CODE.STALE_NONCE : authentication.code };
    }
    const origin: AllocateRequest = {
      transactionId: message.transactionId.slice(),
      transactionKey: message.transactionKey,
      hasFingerprint: target.hasFingerprint,
      protection: authentication.protection,
    };
    const request = { message, listener, client, user: authentication.user, origin, allocation };
    return handleTurnRequest(this.#scope, request, io);
  }

  /** A nonce is good for one address; where clients have several connections each, for all from its IP address. */
  #pathOf({ client, listener }: AnswerTarget): { client: TransportAddress; server: TransportAddress } {
    const hasMany = this.#scope.tcpRelay && listener.isStream;
    return { client: hasMany ? client.withPort(0) : client, server: listener.localAddress };
  }

  #findUser(message: StunMessage, allocation: Allocation | undefined, io: Io): FoundUser {
    if (!message.hasIntegrity) return { user: undefined };
    const isNew = message.method === METHOD.ALLOCATE && allocation === undefined;
    // RFC 7635: a token comes with Allocate and Refresh; its key is good for what is asked in between.
    if (allocation?.user.until !== undefined && !message.has(ACCESS_TOKEN)) return { user: allocation.user };
    const user = this.#authenticator.identify(message, { unixTime: io.unixTime, isNew });
    const isAllocations = user === "later" && allocation !== undefined &&
      isNamed(message, allocation.username, this.#authenticator.realm);
    return { user: isAllocations ? allocation!.user : user };
  }

  /** Keeps a request until its user is known. */
  #park(message: StunMessage, { listener, client }: AnswerTarget, io: Io): Outcome {
    const { drops } = this.#counters;
    const username = message.get(USERNAME);
    const userHash = message.get(USERHASH);
    if (username === undefined ? userHash === undefined : !isName(username)) {
      return { code: ERROR_CODE.UNAUTHENTICATED };
    }
    if (!this.#allows(client, io)) return "later";
    const { transactionKey } = message;
    const verdict = this.#parked.park(
      username ?? hashedName(userHash!),
      { bytes: message.bytes.slice(), listener, client, transactionKey },
      io.now,
    );
    if (verdict === "again") drops.alreadyWaiting++;
    else if (verdict === "full") drops.tooManyWaiting++;
    else if (verdict === "ask" && username !== undefined) io.emit({ type: "userWanted", username, client });
    else if (verdict === "ask") io.emit({ type: "userHashWanted", userHash: userHash!.slice(), client });
    return "later";
  }

  /** Whether a source may have one more thing done for it without good credentials. */
  #allows(client: TransportAddress, io: Io): boolean {
    if (this.#limiter === undefined || this.#limiter.take(client, io.now)) return true;
    this.#counters.drops.challengeRate++;
    return false;
  }

  /** The allocation of a 5-tuple, unless its time is over. */
  #liveAllocation(listener: Listener, client: TransportAddress, io: Io): Allocation | undefined {
    const allocation = listener.allocations.get(client.key);
    if (allocation?.state === "active" && allocation.nextDue <= io.now) this.#scope.table.expire(allocation, io);
    return allocation?.state === "ended" ? undefined : allocation;
  }

  #answer(target: AnswerTarget, answer: Answer, io: Io): void {
    const { listener, client, method, protection } = target;
    const { code, unknown = [], limit } = answer;
    if (protection === undefined && !this.#allows(client, io)) return;
    if (limit !== undefined) this.#counters.limits[limit]++;
    const texts = this.#authenticator.realm.length + this.#software.length +
      (this.#scope.alternates?.domain?.length ?? 0) + this.#serverName.length;
    const writer = new MessageWriter(io.scratch(ANSWER_SIZE + 3 * texts + 2 * unknown.length));
    writer.begin(method, code === 0 ? "success" : "error", target.transactionId);
    if (code !== 0) {
      this.#counters.addError(code);
      const reason = protection === undefined ? "" : REASONS.get(code) ?? "";
      writer.add(ERROR_CODE_ATTRIBUTE, { code, reason });
    }
    if (unknown.length > 0) writer.add(UNKNOWN_ATTRIBUTES, unknown);
    if (code === ERROR_CODE.UNAUTHENTICATED || code === ERROR_CODE.STALE_NONCE) {
      this.#authenticator.writeChallenge(writer, this.#pathOf(target), io.now, code);
    }
    answer.write?.(writer);
    const hasSoftware = method === METHOD.ALLOCATE || method === METHOD.REFRESH;
    if (hasSoftware && this.#software !== "" && protection !== undefined) writer.add(SOFTWARE, this.#software);
    if (protection !== undefined) writer.addIntegrity(protection.key, protection.hash);
    if (target.hasFingerprint) writer.addFingerprint();
    io.send(listener.socket, client, writer.finish());
    answer.after?.(io);
  }
}

/**
 * The answer to a request without MESSAGE-INTEGRITY that has no use for a challenge: the same code as after
 * authentication, but in an answer that is hardly longer than the request, whoever sent it.
 */
function refuseStranger(
  message: StunMessage,
  listener: Listener,
  allocation: Allocation | undefined,
): Answer | undefined {
  if (message.method === METHOD.CONNECTION_BIND) {
    return listener.isStream ? undefined : { code: ERROR_CODE.BAD_REQUEST };
  }
  if (message.method !== METHOD.ALLOCATE) {
    return allocation === undefined ? { code: ERROR_CODE.ALLOCATION_MISMATCH } : undefined;
  }
  return message.get(REQUESTED_TRANSPORT) === undefined ? { code: ERROR_CODE.BAD_REQUEST } : undefined;
}

function targetOf(listener: Listener, message: StunMessage, client: TransportAddress): AnswerTarget {
  return {
    listener,
    client,
    method: message.method,
    transactionId: message.transactionId,
    hasFingerprint: message.has(FINGERPRINT),
    protection: undefined,
  };
}

/** Whether a request says that it is of this user, by USERNAME or USERHASH. */
function isNamed(message: StunMessage, username: string, realm: string): boolean {
  const name = message.get(USERNAME);
  if (name !== undefined) return name === username;
  const userHash = message.get(USERHASH);
  return userHash !== undefined && isSame(hashOf(username, realm), userHash);
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** Whether anybody can have this name. */
function isName(text: string): boolean {
  try {
    opaqueString(text);
    return true;
  } catch {
    return false;
  }
}
