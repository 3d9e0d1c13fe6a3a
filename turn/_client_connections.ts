import type { TransportAddress } from "../stun/address.ts";
import { ERROR_CODE, StunConnectionError, StunError, StunProtocolError } from "../stun/error.ts";
import type { CloseReason, MachineIo, OpenFailure, SocketId } from "../stun/machine.ts";
import { METHOD, type StunMessage } from "../stun/message.ts";
import { OpenError } from "../stun/net/transport.ts";
import type { ClientRequests } from "../stun/requests.ts";
import { withAdvice } from "./_client_errors.ts";
import { CONNECTION_ID, XOR_PEER_ADDRESS } from "./attributes.ts";
import type { TurnClientEvent } from "./client_events.ts";
import type { TurnClientStats } from "./client_stats.ts";

type Io = MachineIo<TurnClientEvent>;

/** RFC 6062 §4.3, §4.4: how long a server waits for a ConnectionBind, in ms. */
const BIND_TIME = 30_000;
/** Connections that are being made at a time; a server's word alone must not open more. */
const MAX_BINDING = 64;

/** What a `ClientConnections` needs of its client. */
export interface ConnectionsOwner {
  /** The requests on the control connection. */
  readonly requests: ClientRequests<TurnClientEvent>;
  readonly stats: TurnClientStats;
  /** Connects to the server once more. */
  open(io: Io): SocketId;
  /** Requests of its own for such a connection. */
  newRequests(): ClientRequests<TurnClientEvent>;
  /** The allocation is no more. */
  lost(error: Error, io: Io): void;
}

/** A connection to the server that is to become one to a peer. */
interface DataConnection {
  readonly socket: SocketId;
  readonly peer: TransportAddress;
  readonly id: number;
  /** The call that it answers; `undefined` for a peer's. */
  readonly call: number | undefined;
  requests: ClientRequests<TurnClientEvent> | undefined;
}

/** The part of a TURN client that makes connections to peers, and takes theirs (RFC 6062 §4.3, §4.4). */
export class ClientConnections {
  readonly #owner: ConnectionsOwner;
  #binding = new Map<SocketId, DataConnection>();
  #calls = 0;

  constructor(owner: ConnectionsOwner) {
    this.#owner = owner;
  }

  get deadline(): number {
    if (this.#binding.size === 0) return Infinity;
    let deadline = Infinity;
    for (const { requests } of this.#binding.values()) deadline = Math.min(deadline, requests?.deadline ?? Infinity);
    return deadline;
  }

  /** Forgets what is under way. Connections that are made belong to whoever has them. */
  clear(io: Io): void {
    for (const { socket } of this.#binding.values()) io.close(socket);
    this.#binding.clear();
  }

  owns(socket: SocketId): boolean {
    return this.#binding.has(socket);
  }

  /** RFC 6062 §4.3. Gives the number of this call. */
  connect(peer: TransportAddress, io: Io): number {
    const { requests } = this.#owner;
    const call = ++this.#calls;
    requests.start({
      method: METHOD.CONNECT,
      doing: `Cannot connect to ${peer} by ${requests.server}`,
      write: (writer) => void writer.add(XOR_PEER_ADDRESS, peer),
      done: (outcome, io) => {
        if (outcome.type === "success") {
          const id = outcome.response.get(CONNECTION_ID);
          if (id !== undefined) return this.#open(peer, { id, call }, io);
          const error = new StunProtocolError(`Cannot connect to ${peer}: the answer has no CONNECTION-ID`);
          return io.emit({ type: "connect-failed", peer, call, error });
        }
        const { error } = outcome;
        if (error instanceof StunError && error.code === ERROR_CODE.ALLOCATION_MISMATCH) {
          return this.#owner.lost(withAdvice(error), io);
        }
        io.emit({ type: "connect-failed", peer, call, error: withAdvice(error) });
      },
    }, io);
    return call;
  }

  /** RFC 6062 §4.4: a peer with a permission has connected. */
  handleAttempt(message: StunMessage, io: Io): void {
    const peer = message.get(XOR_PEER_ADDRESS);
    const id = message.get(CONNECTION_ID);
    if (peer === undefined || id === undefined) return void this.#owner.stats.rejectedMalformed++;
    if (this.#binding.size >= MAX_BINDING) return void this.#owner.stats.droppedAttempts++;
    this.#open(peer, { id, call: undefined }, io);
  }

  handleOpened(socket: SocketId, _localAddress: TransportAddress, io: Io): void {
    const connection = this.#binding.get(socket)!;
    const { peer, id, call } = connection;
    const requests = connection.requests = this.#owner.newRequests();
    requests.socket = socket;
    requests.start({
      method: METHOD.CONNECTION_BIND,
      doing: `Cannot take the connection to ${peer} from ${requests.server}`,
      retransmit: { ti: BIND_TIME },
      write: (writer) => void writer.add(CONNECTION_ID, id),
      done: (outcome, io) => {
        if (outcome.type !== "success") return this.#fail(connection, withAdvice(outcome.error), io);
        this.#binding.delete(socket);
        // What follows comes from the peer, as it is.
        io.unframe?.(socket);
        io.emit({ type: "connected", peer, socket, call });
      },
    }, io);
  }

  handleOpenFailed(socket: SocketId, failure: OpenFailure, detail: string, io: Io): void {
    const connection = this.#binding.get(socket)!;
    this.#fail(connection, new OpenError(failure, detail), io);
  }

  handleClosed(socket: SocketId, reason: CloseReason, io: Io): void {
    const connection = this.#binding.get(socket)!;
    const what = `Cannot take the connection to ${connection.peer}: the server ended it (${reason})`;
    this.#fail(connection, new StunConnectionError(what), io);
  }

  /** What came on one of its connections, before it is the peer's. */
  handleResponse(socket: SocketId, message: StunMessage, io: Io): boolean {
    return this.#binding.get(socket)?.requests?.handleResponse(message, io) ?? false;
  }

  handleTimeout(io: Io): void {
    if (this.#binding.size === 0) return;
    for (const { requests } of [...this.#binding.values()]) requests?.handleTimeout(io);
  }

  #open(peer: TransportAddress, { id, call }: { id: number; call: number | undefined }, io: Io): void {
    const socket = this.#owner.open(io);
    this.#binding.set(socket, { socket, peer, id, call, requests: undefined });
  }

  #fail({ socket, peer, call }: DataConnection, error: Error, io: Io): void {
    this.#binding.delete(socket);
    io.close(socket);
    if (call !== undefined) io.emit({ type: "connect-failed", peer, call, error });
    else this.#owner.stats.droppedAttempts++;
  }
}
