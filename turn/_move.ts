import { XOR_MAPPED_ADDRESS } from "../stun/attributes.ts";
import { ERROR_CODE } from "../stun/error.ts";
import type { MachineIo } from "../stun/machine.ts";
import { METHOD, type StunMessage } from "../stun/message.ts";
import { unmappedAddress } from "../stun/server.ts";
import { type Holder, isSamePath } from "./_mobility.ts";
import type { Allocation, ClientPath, Move } from "./allocation.ts";
import { MOBILITY_TICKET } from "./attributes.ts";
import type { Answer, RequestScope, TurnRequest } from "./_request.ts";
import type { TurnServerEvent } from "./server_events.ts";

type Io = MachineIo<TurnServerEvent>;

/** What a Refresh request with a ticket is about. */
export interface MoveRequest {
  readonly allocation: Allocation;
  /** The same request was granted before. */
  readonly known: Move | undefined;
}

/** Whether a request is one that takes an allocation along to another 5-tuple (RFC 8016 §3.2.1). */
export function isMove(message: StunMessage): boolean {
  return message.method === METHOD.REFRESH && message.has(MOBILITY_TICKET);
}

/** The allocation that a request wants to take along, whoever sends it. */
export function subjectOfMove({ table }: RequestScope, message: StunMessage): Allocation | undefined {
  return isMove(message) ? holderOf(table.mobility, message)?.allocation : undefined;
}

/** RFC 8016 §3.2.2: what a request wants to take along, or why it must not. */
export function checkMove(scope: RequestScope, request: TurnRequest, io: Io): MoveRequest | Answer {
  const { message, allocation: present, user, client } = request;
  const { mobility } = scope.table;
  if (mobility === undefined) return { code: ERROR_CODE.MOBILITY_FORBIDDEN };
  const known = present?.lastMove;
  const isRepeated = known?.transactionKey === message.transactionKey && isSamePath(known.path, request);
  if (isRepeated && present!.username === user.username) return { allocation: present!, known };
  const holder = holderOf(mobility, message);
  const { allocation } = holder ?? {};
  if (allocation !== undefined && allocation.nextDue <= io.now) scope.table.expire(allocation, io);
  if (holder === undefined || allocation?.state !== "active") {
    // By the letter, a ticket holds a 5-tuple: one whose allocation has gone, or moved on, is not malformed.
    const isOwn = mobility.isOwn(message.get(MOBILITY_TICKET) ?? new Uint8Array());
    return { code: isOwn ? ERROR_CODE.ALLOCATION_MISMATCH : ERROR_CODE.BAD_REQUEST };
  }
  if (isSamePath(holder.ticket.path, request)) return { code: ERROR_CODE.BAD_REQUEST };
  if (!allocation.isOwnedBy(user)) return { code: ERROR_CODE.WRONG_CREDENTIALS };
  if (present !== undefined && present !== allocation) return { code: ERROR_CODE.ALLOCATION_MISMATCH };
  if (scope.policy.isTunnel(client)) return { code: ERROR_CODE.FORBIDDEN };
  return { allocation, known: undefined };
}

/** Takes the allocation along. Gives the answer, which is `refreshed` with a ticket for the next time. */
export function grantMove(
  scope: RequestScope,
  { listener, client, message }: TurnRequest,
  { allocation, known }: MoveRequest,
  refreshed: Answer,
  io: Io,
): Answer {
  const path: ClientPath = { listener, client };
  const ticket = known?.ticket ?? scope.table.mobility!.move(allocation, path, io.random);
  allocation.lastMove = { transactionKey: message.transactionKey, path, ticket };
  // Nothing more can come from a connection that is gone, nor go there.
  if (allocation.listener.isClosed) scope.table.arrive(allocation, io);
  return {
    code: 0,
    write(writer) {
      refreshed.write?.(writer);
      writer.add(MOBILITY_TICKET, ticket.bytes).add(XOR_MAPPED_ADDRESS, unmappedAddress(client));
    },
  };
}

function holderOf(mobility: RequestScope["table"]["mobility"], message: StunMessage): Holder | undefined {
  const ticket = message.get(MOBILITY_TICKET);
  return ticket === undefined ? undefined : mobility?.find(ticket);
}
