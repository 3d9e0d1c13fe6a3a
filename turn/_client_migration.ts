import { TransportAddress } from "../stun/address.ts";
import { StunConnectionError, StunError } from "../stun/error.ts";
import type { CloseReason, MachineIo, OpenFailure, SocketId } from "../stun/machine.ts";
import { MessageWriter, METHOD, newTransactionId, type StunMessage } from "../stun/message.ts";
import { OpenError } from "../stun/net/transport.ts";
import type { ClientRequests, RequestOutcome } from "../stun/requests.ts";
import { DATA, MOBILITY_TICKET, XOR_PEER_ADDRESS } from "./attributes.ts";
import type { TurnClientEvent } from "./client_events.ts";
import { withAdvice } from "./_client_errors.ts";

type Io = MachineIo<TurnClientEvent>;

/** How long after a failed try the next one is made, in ms; each time twice as long, up to the second number. */
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 30_000;

/** What a `ClientMigration` needs of its client. */
export interface MigrationOwner {
  /** Asks for a socket of the kind that the client has. */
  open(localAddress: string | undefined, io: Io): SocketId;
  /** Requests of its own, to the server that the client is at. */
  newRequests(): ClientRequests<TurnClientEvent>;
  /** Adds what every Refresh request shall have. */
  write(writer: MessageWriter): void;
  /** The allocation is at the new socket now. */
  moved(socket: SocketId, localAddress: TransportAddress, outcome: Success, io: Io): void;
  /** It is not, and the old path is as good as it was. */
  stayed(error: Error, io: Io): void;
  /** It is not, the old path is gone, and there is no use in trying on. */
  lost(error: Error, io: Io): void;
  /** Until when it may be tried. */
  readonly expiresAt: number;
}

/** How an allocation is taken along. */
export interface MigrateOptions {
  /** The local IP address to bind. Default: as before. */
  readonly localAddress?: string | undefined;
  /**
   * Why the old socket is of no more use. Then it is tried again and again as long as the allocation lasts, and `"failed"`
   * with the cause follows if that does not help. Meanwhile up to 64 datagrams or 64 KiB wait that are to be sent.
   */
  readonly cause?: Error | undefined;
  /** Whether a move that is under way begins anew, as when the network has changed again. Default: it goes on. */
  readonly restart?: boolean;
}

type Success = Extract<RequestOutcome, { type: "success" }>;

/** The part of a TURN client that takes its allocation to another socket (RFC 8016). */
export class ClientMigration {
  /** What the server gave for the next move; `undefined` if it does not do that. */
  ticket: Uint8Array | undefined;
  /** The socket before the last move, until the server has followed; -1 otherwise. */
  former: SocketId = -1;
  readonly #owner: MigrationOwner;
  #socket: SocketId = -1;
  #localAddress: TransportAddress | undefined;
  #localIp: string | undefined;
  #requests: ClientRequests<TurnClientEvent> | undefined;
  /** Why the old path is of no more use, if it is not. */
  #cause: Error | undefined;
  #retryAt = Infinity;
  #pause = FIRST_PAUSE;

  constructor(owner: MigrationOwner) {
    this.#owner = owner;
  }

  get deadline(): number {
    return Math.min(this.#retryAt, this.#requests?.deadline ?? Infinity);
  }

  /** Whether a move is under way or will be tried again. */
  get isUnderWay(): boolean {
    return this.#socket !== -1 || this.#retryAt !== Infinity;
  }

  /** Whether the socket is the new one. */
  owns(socket: SocketId): boolean {
    return socket === this.#socket;
  }

  /** Moves, unless that is under way. `cause`: the old path is gone, so that it is tried for as long as the allocation lasts. */
  start(io: Io, options: MigrateOptions = {}): void {
    this.#cause ??= options.cause;
    if (this.isUnderWay && options.restart !== true) return;
    this.#reset(io);
    this.#pause = FIRST_PAUSE;
    this.#localIp = options.localAddress;
    this.#socket = this.#owner.open(this.#localIp, io);
  }

  /** Closes the former socket, if there is one. */
  leave(io: Io): void {
    if (this.former !== -1) io.close(this.former);
    this.former = -1;
  }

  /** Gives up. */
  cancel(io: Io): void {
    this.leave(io);
    this.#reset(io);
    this.#cause = undefined;
  }

  handleOpened(_socket: SocketId, localAddress: TransportAddress, io: Io): void {
    this.#localAddress = localAddress;
    const requests = this.#requests = this.#owner.newRequests();
    requests.socket = this.#socket;
    requests.start({
      method: METHOD.REFRESH,
      doing: `Cannot take the allocation on ${requests.server} along to ${localAddress}`,
      write: (writer) => {
        this.#owner.write(writer);
        writer.add(MOBILITY_TICKET, this.ticket!);
      },
      done: (outcome, io) => {
        if (outcome.type === "success") this.#handleMoved(outcome, io);
        else this.#handleFailed(outcome.error, io);
      },
    }, io);
  }

  handleOpenFailed(_socket: SocketId, failure: OpenFailure, detail: string, io: Io): void {
    this.#socket = -1;
    this.#handleFailed(new OpenError(failure, detail), io);
  }

  handleClosed(_socket: SocketId, reason: CloseReason, io: Io): void {
    this.#handleFailed(new StunConnectionError(`Cannot move the allocation: the connection ended (${reason})`), io);
  }

  handleResponse(_socket: SocketId, message: StunMessage, io: Io): boolean {
    return this.#requests?.handleResponse(message, io) ?? false;
  }

  handleTimeout(io: Io): void {
    this.#requests?.handleTimeout(io);
    if (io.now < this.#retryAt) return;
    this.#retryAt = Infinity;
    this.#socket = this.#owner.open(this.#localIp, io);
  }

  #handleMoved(outcome: Success, io: Io): void {
    const [socket, localAddress] = [this.#socket, this.#localAddress!];
    // RFC 8016 §3.2.3: the ticket for the next move is another one.
    this.ticket = outcome.response.get(MOBILITY_TICKET)?.slice();
    this.#socket = -1;
    this.cancel(io);
    this.#owner.moved(socket, localAddress, outcome, io);
  }

  #handleFailed(error: Error, io: Io): void {
    const cause = this.#cause;
    this.#reset(io);
    if (cause === undefined) return this.#owner.stayed(withAdvice(error), io);
    const isFinal = error instanceof StunError && error.code < 500;
    if (isFinal || io.now + this.#pause >= this.#owner.expiresAt) return this.#owner.lost(cause, io);
    this.#retryAt = io.now + this.#pause;
    this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE);
  }

  #reset(io: Io): void {
    this.#requests?.clear();
    this.#requests = undefined;
    if (this.#socket !== -1) io.close(this.#socket);
    this.#socket = -1;
    this.#retryAt = Infinity;
  }
}

/**
 * A Send indication that goes no further than the server, as nobody has a permission for that peer. RFC 8016 §3.2.2: a
 * server stays with the old path until it has seen data on the new one, and there may be none to send.
 */
export function dataForNobody(family: 4 | 6, io: Io): Uint8Array {
  return new MessageWriter(io.scratch(64)).begin(METHOD.SEND, "indication", newTransactionId(io.random))
    .add(XOR_PEER_ADDRESS, new TransportAddress(new Uint8Array(family === 4 ? 4 : 16), 9))
    .add(DATA, new Uint8Array())
    .finish();
}
