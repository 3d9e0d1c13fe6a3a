import type { AddressFamily } from "../stun/address.ts";
import { type Attribute, bytesAttribute } from "../stun/attribute.ts";
import { PASSWORD_ALGORITHM, XOR_MAPPED_ADDRESS } from "../stun/attributes.ts";
import { ERROR_CODE } from "../stun/error.ts";
import type { MachineIo } from "../stun/machine.ts";
import type { StunMessage } from "../stun/message.ts";
import { unmappedAddress } from "../stun/server.ts";
import type { LongTermUser } from "../stun/users.ts";
import type { RelayWish } from "./_allocation_table.ts";
import { writeAlternates } from "./_alternate.ts";
import { type Answer, isMalformed, type Outcome, refuse, type RequestScope, type TurnRequest } from "./_request.ts";
import { checkTcpAllocate } from "./_tcp_requests.ts";
import { accountOf, Allocation } from "./allocation.ts";
import {
  ADDITIONAL_ADDRESS_FAMILY,
  ADDRESS_ERROR_CODE,
  EVEN_PORT,
  LIFETIME,
  MOBILITY_TICKET,
  REQUESTED_ADDRESS_FAMILY,
  REQUESTED_TRANSPORT,
  RESERVATION_TOKEN,
  TRANSPORT_PROTOCOL,
  XOR_RELAYED_ADDRESS,
} from "./attributes.ts";
import type { LimitName } from "./server_counters.ts";
import type { TurnServerEvent } from "./server_events.ts";

/** "The default lifetime value of 600 seconds (10 minutes)" (RFC 8656 §6). */
export const DEFAULT_LIFETIME = 600;

type Io = MachineIo<TurnServerEvent>;

/** RFC 8656 §7.2. */
export function handleAllocate(scope: RequestScope, request: TurnRequest, io: Io): Outcome {
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
export function wantsTcp({ tcpRelay }: RequestScope, message: StunMessage): boolean {
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

/** REQUESTED-ADDRESS-FAMILY with any family: one that nobody has heard of is not malformed, but not supported. */
export const FAMILY_VALUE: Attribute<Uint8Array> = bytesAttribute(
  REQUESTED_ADDRESS_FAMILY.type,
  REQUESTED_ADDRESS_FAMILY.name,
  4,
  4,
);

/** The lifetime in seconds that RFC 8656 §7.2 and §8.2 compute; not for a LIFETIME of zero. */
export function desiredLifetime(scope: RequestScope, message: StunMessage, { until }: LongTermUser, io: Io): number {
  const lifetime = Math.max(DEFAULT_LIFETIME, Math.min(message.get(LIFETIME) ?? 0, scope.maxLifetime));
  // RFC 7635: no longer than the access token.
  return until === undefined ? lifetime : Math.max(1, Math.min(lifetime, Math.floor(until - io.unixTime)));
}
