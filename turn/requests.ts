import type { AddressFamily, TransportAddress } from "../stun/address.ts";
import { type Attribute, bytesAttribute } from "../stun/attribute.ts";
import { ACCESS_TOKEN, PASSWORD_ALGORITHM, XOR_MAPPED_ADDRESS } from "../stun/attributes.ts";
import { ERROR_CODE } from "../stun/error.ts";
import type { MachineIo } from "../stun/machine.ts";
import { type MessageWriter, METHOD, type StunMessage } from "../stun/message.ts";
import { STUN_ATTRIBUTES, unmappedAddress } from "../stun/server.ts";
import type { LongTermUser } from "../stun/users.ts";
import type { AllocationTable, RelayWish } from "./_allocation_table.ts";
import { writeAlternates } from "./_alternate.ts";
import { checkMove, grantMove, isMove } from "./_move.ts";
import { checkTcpAllocate, handleConnect, handleConnectionBind } from "./_tcp_requests.ts";
import { accountOf, type AllocateRequest, Allocation, type Listener, type Relay } from "./allocation.ts";
import {
  ADDITIONAL_ADDRESS_FAMILY,
  ADDRESS_ERROR_CODE,
  CHANNEL_NUMBER,
  CONNECTION_ID,
  DATA,
  DONT_FRAGMENT,
  EVEN_PORT,
  LIFETIME,
  MOBILITY_TICKET,
  REQUESTED_ADDRESS_FAMILY,
  REQUESTED_TRANSPORT,
  RESERVATION_TOKEN,
  TRANSPORT_PROTOCOL,
  XOR_PEER_ADDRESS,
  XOR_RELAYED_ADDRESS,
} from "./attributes.ts";
import { MAX_CHANNEL, MIN_CHANNEL } from "./channel_data.ts";
import type { PeerPolicy } from "./peer_policy.ts";
import type { LimitName } from "./server_counters.ts";
import type { TurnServerEvent } from "./server_events.ts";
import type { AlternateServers, TurnServerLimits } from "./server_options.ts";

/** "The default lifetime value of 600 seconds (10 minutes)" (RFC 8656 §6). */
export const DEFAULT_LIFETIME = 600;
/** The largest channel number of RFC 5766 §11. RFC 8656 §12 keeps those from 0x5000 on for other protocols. */
export const MAX_LEGACY_CHANNEL = 0x7fff;

/** The comprehension-required attributes that a TURN server knows. */
export const TURN_ATTRIBUTES: ReadonlySet<number> = new Set([
  ...STUN_ATTRIBUTES,
  CHANNEL_NUMBER.type,
  LIFETIME.type,
  XOR_PEER_ADDRESS.type,
  DATA.type,
  XOR_RELAYED_ADDRESS.type,
  REQUESTED_ADDRESS_FAMILY.type,
  EVEN_PORT.type,
  REQUESTED_TRANSPORT.type,
  RESERVATION_TOKEN.type,
  CONNECTION_ID.type,
]);

/** The same where the host can set DF. */
export const TURN_ATTRIBUTES_WITH_DF: ReadonlySet<number> = new Set([...TURN_ATTRIBUTES, DONT_FRAGMENT.type]);

/** What requests are about. */
export interface RequestScope {
  /** Allocations and reservations. */
  readonly table: AllocationTable;
  /** Which peers are good. */
  readonly policy: PeerPolicy;
  /** The comprehension-required attributes that are known. */
  readonly known: ReadonlySet<number>;
  /** How much anybody may have. */
  readonly limits: TurnServerLimits;
  /** The longest lifetime of an allocation, in seconds. */
  readonly maxLifetime: number;
  /** Whether RFC 5766's clients get its channel numbers. */
  readonly legacyChannels: boolean;
  /** Whether there are TCP allocations. */
  readonly tcpRelay: boolean;
  /** A client's connection is one to a peer from now on. */
  readonly giveUp: (listener: Listener) => void;
  /** Where clients are sent that are not taken here. */
  readonly alternates: AlternateServers | undefined;
  /** Whether no new allocations are made any more. */
  isDraining: boolean;
}

/** A request that has been authenticated and whose attributes are all known. */
export interface TurnRequest {
  /** The message. */
  readonly message: StunMessage;
  /** Where it arrived. */
  readonly listener: Listener;
  /** Who sent it. */
  readonly client: TransportAddress;
  /** Whose it is. */
  readonly user: LongTermUser;
  /** What the answer to an Allocate needs. */
  readonly origin: AllocateRequest;
  /** The allocation of its 5-tuple, live or being opened. Nothing is left in it that has ended. */
  readonly allocation: Allocation | undefined;
}

/** What a request is answered with. */
export interface Answer {
  /** The error code; 0 for success. */
  readonly code: number;
  /** With 420: the types that are not known. */
  readonly unknown?: readonly number[];
  /** Adds the answer's own attributes. */
  readonly write?: (writer: MessageWriter) => void;
  /** The limit that is the reason for a refusal. */
  readonly limit?: LimitName;
  /** What follows when it has been sent. */
  readonly after?: (io: Io) => void;
}

/** `"later"`: the answer follows when the sockets are bound, or the peer has taken the connection. `"never"`: it is on its way already. */
export type Outcome = Answer | "later" | "never";

type Io = MachineIo<TurnServerEvent>;

const SUCCESS: Answer = { code: 0 };

/** Handles an authenticated request of any TURN method. */
export function handleTurnRequest(scope: RequestScope, request: TurnRequest, io: Io): Outcome {
  const { message, allocation, user } = request;
  const isTcp = message.method === METHOD.ALLOCATE && wantsTcp(scope, message);
  // With TCP DONT-FRAGMENT is bad, and no matter whether it is known (RFC 6062 §5.1).
  const unknown = message.unknownRequired(scope.known).filter((type) => !isTcp || type !== DONT_FRAGMENT.type);
  if (unknown.length > 0) return { code: ERROR_CODE.UNKNOWN_ATTRIBUTE, unknown };
  if (message.method === METHOD.ALLOCATE) return handleAllocate(scope, request, io);
  if (message.method === METHOD.CONNECTION_BIND) return handleConnectionBind(scope, request, io);
  if (isMove(message)) return handleMove(scope, request, io);
  if (allocation?.state !== "active") return refuse(ERROR_CODE.ALLOCATION_MISMATCH);
  // RFC 8656 §5: "All requests after the initial Allocate must use the same username". With access tokens the user name is
  // that of a key, which is replaced from time to time (RFC 7635).
  const isSameKind = isTokens(allocation) && user.until !== undefined;
  if (!isSameKind && allocation.username !== user.username) return refuse(ERROR_CODE.WRONG_CREDENTIALS);
  switch (message.method) {
    case METHOD.REFRESH:
      return handleRefresh(scope, request, allocation, io);
    case METHOD.CREATE_PERMISSION:
      return handleCreatePermission(scope, message, allocation, io);
    case METHOD.CONNECT:
      return handleConnect(scope, request, allocation, io);
    default:
      return handleChannelBind(scope, message, allocation, io);
  }
}

/** RFC 8656 §7.2. */
function handleAllocate(scope: RequestScope, request: TurnRequest, io: Io): Outcome {
  const { message, listener, client, user, origin, allocation: known } = request;
  if (known !== undefined) return answerKnown(scope, request, known, io);
  const refusal = checkAllocate(scope, request, io.now);
  if (refusal !== undefined) return refusal;
  const { table } = scope;
  const lifetime = desiredLifetime(scope, message, user, io) * 1000;
  const transport = wantsTcp(scope, message) ? "tcp" : "udp";
  const allocation = new Allocation(listener, client, user, origin, transport);
  // RFC 8016 §3.1.2: an empty one asks for a ticket. Who has connections can not take them along.
  if (transport === "udp" && message.get(MOBILITY_TICKET)?.length === 0) {
    table.mobility?.issue(allocation, allocation.path, io.random);
  }
  const token = message.get(RESERVATION_TOKEN);
  if (token !== undefined) {
    table.openReserved(allocation, token, lifetime, io);
    return allocation.state === "opening" ? "later" : answerAllocated(scope, allocation, io.now);
  }
  const wish: RelayWish = { families: wantedFamilies(scope, message, allocation), need: portNeed(message), lifetime };
  table.open(allocation, wish, io);
  return allocation.state === "opening" ? "later" : answerAllocated(scope, allocation, io.now);
}

/** The same request again has the same answer; another one finds its 5-tuple taken. */
function answerKnown(scope: RequestScope, request: TurnRequest, known: Allocation, io: Io): Outcome {
  const isSame = known.request.transactionKey === request.origin.transactionKey &&
    known.username === request.user.username;
  if (!isSame) return refuse(ERROR_CODE.ALLOCATION_MISMATCH);
  return known.state === "opening" ? "never" : answerAllocated(scope, known, io.now);
}

/** The answer once the sockets are bound or not. */
export function answerAllocated(scope: RequestScope, allocation: Allocation, now: number): Answer {
  if (allocation.state === "ended") {
    const { client, listener, request } = allocation;
    return sendAway(scope, { client, listener, origin: request }, "ports");
  }
  return {
    code: 0,
    write(writer) {
      for (const relay of allocation.relays) writer.add(XOR_RELAYED_ADDRESS, relay.relayedAddress);
      writer.add(LIFETIME, Math.max(0, Math.ceil((allocation.expiresAt - now) / 1000)));
      if (allocation.reservationToken !== undefined) writer.add(RESERVATION_TOKEN, allocation.reservationToken);
      if (allocation.addressError !== undefined) writer.add(ADDRESS_ERROR_CODE, allocation.addressError);
      writer.add(XOR_MAPPED_ADDRESS, unmappedAddress(allocation.client));
      const [ticket] = allocation.tickets;
      if (ticket !== undefined) writer.add(MOBILITY_TICKET, ticket.bytes);
    },
  };
}

/** The checks of RFC 8656 §7.2, in its order. */
function checkAllocate(scope: RequestScope, request: TurnRequest, now: number): Answer | undefined {
  const { message, client } = request;
  const transport = message.get(REQUESTED_TRANSPORT);
  if (transport === undefined) return refuse(ERROR_CODE.BAD_REQUEST);
  const isTcp = wantsTcp(scope, message);
  if (!isTcp && transport !== TRANSPORT_PROTOCOL.UDP) return refuse(ERROR_CODE.UNSUPPORTED_TRANSPORT_PROTOCOL);
  const tcpRefusal = isTcp ? checkTcpAllocate(message, request) : undefined;
  if (tcpRefusal !== undefined) return tcpRefusal;
  if (isMalformed(message, LIFETIME) || isMalformed(message, EVEN_PORT)) return refuse(ERROR_CODE.BAD_REQUEST);
  const refusal = checkToken(scope, message, now) ?? checkFamilies(scope, message);
  if (refusal !== undefined) return refusal;
  if (scope.policy.isTunnel(client)) return refuse(ERROR_CODE.FORBIDDEN);
  // "TURN session mobility is forbidden by local policy" (RFC 8016 §3.1.2).
  const isForbidden = scope.table.mobility === undefined && message.get(MOBILITY_TICKET)?.length === 0;
  if (isForbidden) return refuse(ERROR_CODE.MOBILITY_FORBIDDEN);
  return checkLimits(scope, request, now);
}

/** Whether it asks for a TCP allocation, and there are such. */
function wantsTcp({ tcpRelay }: RequestScope, message: StunMessage): boolean {
  return tcpRelay && message.get(REQUESTED_TRANSPORT) === TRANSPORT_PROTOCOL.TCP;
}

/** RFC 8656 §7.2 steps 10 and 11. A port that was reserved counts already: as its holder's, whoever uses the token. */
function checkLimits(scope: RequestScope, request: TurnRequest, now: number): Answer | undefined {
  const { table, limits } = scope;
  const { message, user } = request;
  const token = message.get(RESERVATION_TOKEN);
  const account = accountOf(user);
  const isHeld = token !== undefined && table.reservedFor(token, now) === account;
  const count = isHeld ? 0 : portNeed(message) === "pair" ? 2 : 1;
  if (table.countOf(account) + count > limits.allocationsPerUser) {
    return { code: ERROR_CODE.ALLOCATION_QUOTA_REACHED, limit: "allocationsPerUser" };
  }
  if (token !== undefined) return undefined;
  if (scope.isDraining) return sendAway(scope, request, "draining");
  return table.count + count > limits.allocations ? sendAway(scope, request, "allocations") : undefined;
}

/**
 * What a client is told that is not taken: 300 if there is another server, else 508. Both let it come back some time, which
 * 403 would not (§7.4).
 */
function sendAway(
  scope: RequestScope,
  request: Pick<TurnRequest, "client" | "listener" | "origin">,
  limit: LimitName,
): Answer {
  const { client, listener, origin: { protection } } = request;
  const write = writeAlternates(scope.alternates, { client, listener, protection });
  if (write === undefined) return { code: ERROR_CODE.INSUFFICIENT_CAPACITY, limit };
  return { code: ERROR_CODE.TRY_ALTERNATE, limit, write };
}

function checkToken(scope: RequestScope, message: StunMessage, now: number): Answer | undefined {
  if (!message.has(RESERVATION_TOKEN)) return undefined;
  const rivals = [EVEN_PORT, REQUESTED_ADDRESS_FAMILY, additionalFamily(message)];
  const token = message.get(RESERVATION_TOKEN);
  if (token === undefined || rivals.some((rival) => message.has(rival))) return refuse(ERROR_CODE.BAD_REQUEST);
  return scope.table.reservedFor(token, now) === undefined ? refuse(ERROR_CODE.INSUFFICIENT_CAPACITY) : undefined;
}

function checkFamilies(scope: RequestScope, message: StunMessage): Answer | undefined {
  if (message.has(RESERVATION_TOKEN)) return undefined;
  const hasFamily = message.has(REQUESTED_ADDRESS_FAMILY);
  const hasAdditional = message.has(additionalFamily(message));
  if (hasFamily && (hasAdditional || message.get(FAMILY_VALUE) === undefined)) return refuse(ERROR_CODE.BAD_REQUEST);
  if (hasAdditional) {
    // "The attribute value MUST be set to 0x02", and two ports can not be reserved at once (§7.1).
    const isRight = message.get(additionalFamily(message)) === 6 && message.get(EVEN_PORT) !== true;
    if (!isRight) return refuse(ERROR_CODE.BAD_REQUEST);
    return scope.table.addresses.hasFamily(4) || scope.table.addresses.hasFamily(6)
      ? undefined
      : refuse(ERROR_CODE.ADDRESS_FAMILY_NOT_SUPPORTED);
  }
  const family = hasFamily ? message.get(REQUESTED_ADDRESS_FAMILY) : 4;
  const isSupported = family !== undefined && scope.table.addresses.hasFamily(family);
  return isSupported ? undefined : refuse(ERROR_CODE.ADDRESS_FAMILY_NOT_SUPPORTED);
}

/** The number that clients used before IANA gave ADDITIONAL-ADDRESS-FAMILY one. */
const LEGACY_ADDITIONAL_ADDRESS_FAMILY: Attribute<AddressFamily> = { ...ADDITIONAL_ADDRESS_FAMILY, type: 0x8032 };

/** The attribute that asks for a dual allocation: clients from before RFC 8489 may have it under another number. */
function additionalFamily(message: StunMessage): Attribute<AddressFamily> {
  return message.has(PASSWORD_ALGORITHM) || message.has(ADDITIONAL_ADDRESS_FAMILY)
    ? ADDITIONAL_ADDRESS_FAMILY
    : LEGACY_ADDITIONAL_ADDRESS_FAMILY;
}

/** REQUESTED-ADDRESS-FAMILY with any family: one that nobody has heard of is not malformed, but not supported. */
const FAMILY_VALUE = bytesAttribute(REQUESTED_ADDRESS_FAMILY.type, REQUESTED_ADDRESS_FAMILY.name, 4, 4);

/** The families to open, after the checks. What is missing of a dual allocation for good is noted in it (§7.2 step 9). */
function wantedFamilies(scope: RequestScope, message: StunMessage, allocation: Allocation): AddressFamily[] {
  if (!message.has(additionalFamily(message))) return [message.get(REQUESTED_ADDRESS_FAMILY) ?? 4];
  const both: AddressFamily[] = [4, 6];
  const missing = both.find((family) => !scope.table.addresses.hasFamily(family));
  if (missing === undefined) return both;
  allocation.addressError = { family: missing, code: ERROR_CODE.ADDRESS_FAMILY_NOT_SUPPORTED, reason: "" };
  return both.filter((family) => family !== missing);
}

function portNeed(message: StunMessage): RelayWish["need"] {
  const evenPort = message.get(EVEN_PORT);
  return evenPort === undefined ? "any" : evenPort ? "pair" : "even";
}

/** The lifetime in seconds that RFC 8656 §7.2 and §8.2 compute; not for a LIFETIME of zero. */
function desiredLifetime(scope: RequestScope, message: StunMessage, { until }: LongTermUser, io: Io): number {
  const lifetime = Math.max(DEFAULT_LIFETIME, Math.min(message.get(LIFETIME) ?? 0, scope.maxLifetime));
  // RFC 7635: no longer than the access token.
  return until === undefined ? lifetime : Math.max(1, Math.min(lifetime, Math.floor(until - io.unixTime)));
}

/** RFC 8656 §8.2. */
function handleRefresh(scope: RequestScope, request: TurnRequest, allocation: Allocation, io: Io): Answer {
  const { message, user } = request;
  if (isMalformed(message, LIFETIME)) return refuse(ERROR_CODE.BAD_REQUEST);
  const isDeletion = message.get(LIFETIME) === 0;
  const isRepeated = isDeletion && allocation.lastDeletion === message.transactionKey;
  let relays: readonly Relay[] = [...allocation.relays];
  if (message.has(REQUESTED_ADDRESS_FAMILY)) {
    if (message.get(FAMILY_VALUE) === undefined) return refuse(ERROR_CODE.BAD_REQUEST);
    const family = message.get(REQUESTED_ADDRESS_FAMILY);
    relays = relays.filter((relay) => relay.family === family);
    if (relays.length === 0 && !isRepeated) return refuse(ERROR_CODE.PEER_ADDRESS_FAMILY_MISMATCH);
  }
  if (isDeletion) allocation.lastDeletion = message.transactionKey;
  if (isTokens(allocation) && message.has(ACCESS_TOKEN)) takeToken(allocation, user);
  const lifetime = isDeletion ? 0 : desiredLifetime(scope, message, allocation.user, io);
  for (const relay of relays) {
    if (isDeletion) scope.table.endRelay(relay, "deleted", io);
    else relay.expiresAt = io.now + lifetime * 1000;
  }
  scope.table.reschedule(allocation);
  return { code: 0, write: (writer) => writer.add(LIFETIME, lifetime) };
}

/** Whether an allocation was made with an access token (RFC 7635). */
function isTokens({ user }: Allocation): boolean {
  return user.until !== undefined;
}

/** RFC 7635: another token of the user. What was asked with the key of the last one may still be under way. */
function takeToken(allocation: Allocation, user: LongTermUser): void {
  const { alternatives: _, ...last } = allocation.user;
  allocation.user = { ...user, alternatives: [...user.alternatives ?? [], last] };
}

/** RFC 8016 §3.2.2. */
function handleMove(scope: RequestScope, request: TurnRequest, io: Io): Answer {
  const move = checkMove(scope, request, io);
  if ("code" in move) return move;
  const answer = handleRefresh(scope, request, move.allocation, io);
  return answer.code !== 0 || move.allocation.state === "ended" ? answer : grantMove(scope, request, move, answer, io);
}

/** RFC 8656 §10.2: all of the permissions or none. */
function handleCreatePermission(scope: RequestScope, message: StunMessage, allocation: Allocation, io: Io): Answer {
  const peers = message.getAll(XOR_PEER_ADDRESS).map((peer) =>
    peer === undefined ? undefined : toGrant(allocation, peer)
  );
  if (peers.length === 0 || peers.includes(undefined)) return refuse(ERROR_CODE.BAD_REQUEST);
  const grants = peers as Grant[];
  if (grants.some(({ relay }) => relay === undefined)) return refuse(ERROR_CODE.PEER_ADDRESS_FAMILY_MISMATCH);
  if (grants.some(({ peer }) => scope.policy.judgeAddress(peer) === "refused")) return refuse(ERROR_CODE.FORBIDDEN);
  const fresh = new Set(
    grants.filter(({ relay, peer }) => !relay!.permissions.has(peer.ipKey)).map(({ peer }) => peer.ipKey),
  );
  if (!hasRoom(allocation, fresh.size, scope.limits)) return refuse(ERROR_CODE.INSUFFICIENT_CAPACITY, "permissions");
  for (const { relay, peer } of grants) allocation.permit(relay!, peer, io.now);
  scope.table.reschedule(allocation);
  return SUCCESS;
}

interface Grant {
  readonly peer: TransportAddress;
  readonly relay: Relay | undefined;
}

function toGrant(allocation: Allocation, peer: TransportAddress): Grant {
  return { peer, relay: allocation.relayOf(peer.family) };
}

/** Whether so many more permissions fit. */
function hasRoom(allocation: Allocation, more: number, limits: TurnServerLimits): boolean {
  return more === 0 || allocation.permissionCount + more <= limits.permissions;
}

/** RFC 8656 §12.2. */
function handleChannelBind(scope: RequestScope, message: StunMessage, allocation: Allocation, io: Io): Answer {
  // Channels are for datagrams: RFC 6062 has none.
  if (allocation.transport === "tcp") return refuse(ERROR_CODE.FORBIDDEN);
  const number = message.get(CHANNEL_NUMBER);
  const peer = message.get(XOR_PEER_ADDRESS);
  if (number === undefined || peer === undefined || peer.port === 0) return refuse(ERROR_CODE.BAD_REQUEST);
  // A client that leaves the offer of PASSWORD-ALGORITHMS unanswered is from before RFC 8489, and so before RFC 8656.
  const isLegacy = scope.legacyChannels && !message.has(PASSWORD_ALGORITHM);
  if (number < MIN_CHANNEL || number > (isLegacy ? MAX_LEGACY_CHANNEL : MAX_CHANNEL)) {
    return refuse(ERROR_CODE.BAD_REQUEST);
  }
  const relay = allocation.relayOf(peer.family);
  if (relay === undefined) return refuse(ERROR_CODE.PEER_ADDRESS_FAMILY_MISMATCH);
  if (allocation.hasConflict(number, relay, peer)) return refuse(ERROR_CODE.BAD_REQUEST);
  const verdict = scope.policy.judge(peer);
  const isRelay = verdict === "relay";
  if (verdict === "refused" || (isRelay && scope.table.addresses.inner(peer) === undefined)) {
    return refuse(ERROR_CODE.FORBIDDEN);
  }
  if (!allocation.channels.has(number) && allocation.channels.size >= scope.limits.channels) {
    return refuse(ERROR_CODE.INSUFFICIENT_CAPACITY, "channels");
  }
  if (!hasRoom(allocation, relay.permissions.has(peer.ipKey) ? 0 : 1, scope.limits)) {
    return refuse(ERROR_CODE.INSUFFICIENT_CAPACITY, "permissions");
  }
  allocation.bind(number, relay, peer, { isRelay, now: io.now });
  scope.table.reschedule(allocation);
  return SUCCESS;
}

function isMalformed(message: StunMessage, attribute: Parameters<StunMessage["has"]>[0]): boolean {
  return message.has(attribute) && message.get(attribute) === undefined;
}

function refuse(code: number, limit?: LimitName): Answer {
  return limit === undefined ? { code } : { code, limit };
}
