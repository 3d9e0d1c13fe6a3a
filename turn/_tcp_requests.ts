import { ERROR_CODE } from "../stun/error.ts";
import type { MachineIo } from "../stun/machine.ts";
import { METHOD, type StunMessage } from "../stun/message.ts";
import type { Allocation, Relay } from "./allocation.ts";
import { CONNECTION_ID, DONT_FRAGMENT, EVEN_PORT, RESERVATION_TOKEN, XOR_PEER_ADDRESS } from "./attributes.ts";
import type { Answer, Outcome, RequestScope, TurnRequest } from "./_request.ts";
import type { TurnServerEvent } from "./server_events.ts";

type Io = MachineIo<TurnServerEvent>;

const BAD_REQUEST: Answer = { code: ERROR_CODE.BAD_REQUEST };

/** What RFC 6062 §5.1 adds to the checks of an Allocate request: for TCP. */
export function checkTcpAllocate(message: StunMessage, { listener }: TurnRequest): Answer | undefined {
  if (!listener.isStream) return BAD_REQUEST;
  // "the server MUST reject the request with a 400 (Bad Request) error"
  const hasRival = [DONT_FRAGMENT, EVEN_PORT, RESERVATION_TOKEN].some((attribute) => message.has(attribute));
  return hasRival ? BAD_REQUEST : undefined;
}

/** RFC 6062 §5.2. It needs no permission and makes none: whom the client names it wants to talk to. */
export function handleConnect(
  scope: RequestScope,
  { message, origin }: TurnRequest,
  allocation: Allocation,
  io: Io,
): Outcome {
  if (allocation.transport !== "tcp") return { code: ERROR_CODE.FORBIDDEN };
  const peer = message.get(XOR_PEER_ADDRESS);
  if (peer === undefined || peer.port === 0) return BAD_REQUEST;
  const relay = allocation.relayOf(peer.family);
  if (relay === undefined) return { code: ERROR_CODE.PEER_ADDRESS_FAMILY_MISMATCH };
  if (isConnected(relay, peer.key)) return { code: ERROR_CODE.CONNECTION_ALREADY_EXISTS };
  const verdict = scope.policy.judge(peer);
  const inner = verdict === "relay" ? scope.table.addresses.inner(peer, "tcp") : peer;
  // A relay can not be its own peer.
  const isOwn = peer.equals(relay.relayedAddress);
  if (verdict === "refused" || inner === undefined || isOwn) return { code: ERROR_CODE.FORBIDDEN };
  const { connections } = scope.table;
  const limit = connections.limitFor(allocation);
  if (limit !== undefined) return { code: ERROR_CODE.INSUFFICIENT_CAPACITY, limit };
  connections.connect(relay, peer, inner, origin, io);
  return "later";
}

/** RFC 6062 §5.4. */
export function handleConnectionBind(scope: RequestScope, request: TurnRequest, io: Io): Outcome {
  const { message, listener, user, allocation } = request;
  if (!listener.isStream) return BAD_REQUEST;
  // The control connection stays one (RFC 8656 §19: a request "that requires no allocation, but an allocation exists").
  if (allocation !== undefined) return { code: ERROR_CODE.ALLOCATION_MISMATCH };
  const id = message.get(CONNECTION_ID);
  const { connections } = scope.table;
  const connection = id === undefined ? undefined : connections.find(id, io.now);
  if (connection === undefined) return BAD_REQUEST;
  if (!connection.relay.allocation.isOwnedBy(user)) return { code: ERROR_CODE.WRONG_CREDENTIALS };
  connections.take(connection, listener.socket, io);
  scope.giveUp(listener);
  return { code: 0, after: (io) => connections.join(connection, io) };
}

/** The allocation that a ConnectionBind is about, whoever sends it. */
export function subjectOfBind(scope: RequestScope, message: StunMessage, now: number): Allocation | undefined {
  if (message.method !== METHOD.CONNECTION_BIND) return undefined;
  const id = message.get(CONNECTION_ID);
  return id === undefined ? undefined : scope.table.connections.find(id, now)?.relay.allocation;
}

/** Whether there is a connection to this peer, or one is being made (446). A peer's own counts: it has the same ends. */
function isConnected(relay: Relay, key: number | string): boolean {
  for (const { peer } of relay.connections) if (peer.key === key) return true;
  return false;
}
