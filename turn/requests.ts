import type { TransportAddress } from "../stun/address.ts";
import { ACCESS_TOKEN, PASSWORD_ALGORITHM } from "../stun/attributes.ts";
import { ERROR_CODE } from "../stun/error.ts";
import type { MachineIo } from "../stun/machine.ts";
import { METHOD, type StunMessage } from "../stun/message.ts";
import type { LongTermUser } from "../stun/users.ts";
import { desiredLifetime, FAMILY_VALUE, handleAllocate, wantsTcp } from "./_allocate_request.ts";
import { checkMove, grantMove, isMove } from "./_move.ts";
import { type Answer, isMalformed, type Outcome, refuse, type RequestScope, type TurnRequest } from "./_request.ts";
import { handleConnect, handleConnectionBind } from "./_tcp_requests.ts";
import type { Allocation, Relay } from "./allocation.ts";
import { CHANNEL_NUMBER, DONT_FRAGMENT, LIFETIME, REQUESTED_ADDRESS_FAMILY, XOR_PEER_ADDRESS } from "./attributes.ts";
import { MAX_CHANNEL, MIN_CHANNEL } from "./channel_data.ts";
import type { TurnServerEvent } from "./server_events.ts";
import type { TurnServerLimits } from "./server_options.ts";

/** The largest channel number of RFC 5766 §11. RFC 8656 §12 keeps those from 0x5000 on for other protocols. */
export const MAX_LEGACY_CHANNEL = 0x7fff;

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
