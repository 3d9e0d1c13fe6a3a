import type { TransportAddress } from "../stun/address.ts";
import type { MachineIo, SocketId } from "../stun/machine.ts";
import type { Base, CandidatePair } from "./pair.ts";
import { ACTIVE_PORT, type TcpType } from "./tcp.ts";

/** How long connecting may take, in ms. With the check that follows it takes as long as a check over UDP does. */
const CONNECT_TIMEOUT = 20_000;

/** A way to have TCP connections from or to one of the host's addresses. */
export interface NewTcpHost {
  /** Which end makes the connections. */
  readonly tcpType: TcpType;
  /** The address of the interface; with the port that is listened on, unless it is active. */
  readonly address: TransportAddress;
  /** What to tell the peer in place of the address: a name that mDNS knows. Default: the address is told. */
  readonly name?: string | undefined;
  /** Whether the peer is not told of it: a port behind a NAT, for what STUN servers see of it. Default: no. */
  readonly isUntold?: boolean | undefined;
  /** The socket that listens. Not needed for an active one. */
  readonly socket?: SocketId;
  /** Whether the host can choose the address that connections leave from. Default: no. */
  readonly isBound?: boolean;
  /** The data stream that it is for, from 0. Default: 0. */
  readonly stream?: number;
  /** The component of the stream, from 1. Default: 1. */
  readonly component?: number;
}

/** Whose connection it is: what becomes of it. */
export interface ConnectionUser<Io> {
  /** The connection of a pair is there: its check can leave. */
  connected(pair: CandidatePair, io: Io): void;
  /** The connection is another than the pair's. */
  fail(pair: CandidatePair, io: Io): void;
  /** The connection of a pair could not be made, or was closed. */
  disconnected(pair: CandidatePair, io: Io): void;
}

interface Connection<Io> {
  /** The number of the base it came in by or leaves from. */
  readonly base: SocketId;
  pair: CandidatePair | undefined;
  user: ConnectionUser<Io> | undefined;
}

/**
 * The TCP connections of an agent (RFC 6544 §7): each belongs to one pair and stays with it for the data. Which socket has
 * which pair, in all generations.
 *
 * Generic in `io` so that it knows nothing of events.
 */
export class TcpConnections<Io extends Pick<MachineIo, "open" | "close"> = MachineIo> {
  #all = new Map<SocketId, Connection<Io>>();
  /** Connections that came in and have not shown yet who they are. Their first packet decides. */
  #fresh = new Set<SocketId>();
  #activeCount = 0;
  /** Active bases whose connections can be bound to their address. */
  #bound = new Set<SocketId>();

  /** What its candidate is made of: an active one has no socket of its own, but a number. */
  baseFor(
    { tcpType, address, socket, isBound = false, ...options }: NewTcpHost,
  ): [socket: SocketId, address: TransportAddress, kind: Omit<NewTcpHost, "address" | "socket" | "isBound">] {
    if (tcpType !== "active") return [socket!, address, { tcpType, ...options }];
    const number = -++this.#activeCount;
    if (isBound) this.#bound.add(number);
    return [number, address.withPort(ACTIVE_PORT), { tcpType, ...options }];
  }

  /** The number of the base that a socket belongs to: for UDP itself. */
  baseOf(socket: SocketId): SocketId {
    return this.#all.get(socket)?.base ?? socket;
  }

  /** Whether some connection has not shown yet who it is. */
  get hasFresh(): boolean {
    return this.#fresh.size > 0;
  }

  /** Begins a connection for a pair. */
  connect(pair: CandidatePair, user: ConnectionUser<Io>, io: Io): void {
    const { base, remote } = pair;
    const { address, port } = base.candidate.base;
    const socket = io.open({
      transport: "tcp",
      remote: remote.address,
      framing: "rfc4571",
      timeout: CONNECT_TIMEOUT,
      // Both ends of a simultaneous open leave from the ports that they have told (RFC 6544 §7.1).
      ...(base.kind === "so" ? { address, port } : this.#bound.has(base.socket) ? { address } : {}),
    });
    this.#all.set(socket, { base: base.socket, pair, user });
    pair.socket = socket;
    pair.isConnecting = true;
  }

  /** A connection that was begun is there. */
  handleOpened(socket: SocketId, localAddress: TransportAddress, io: Io): void {
    const connection = this.#all.get(socket);
    const { pair, user } = connection ?? {};
    if (pair === undefined || user === undefined) return;
    pair.isConnecting = false;
    // Where the host chooses, it may leave from another address than this candidate's, for which there is another pair.
    if (localAddress.address !== pair.base.candidate.base.address) user.fail(pair, io);
    else user.connected(pair, io);
  }

  /** A connection came in by the listening socket of a base. */
  accept(socket: SocketId, base: Base): void {
    this.#all.set(socket, { base: base.socket, pair: undefined, user: undefined });
    this.#fresh.add(socket);
  }

  /** Its first packet was a check with our credentials. */
  authenticate(socket: SocketId): void {
    this.#fresh.delete(socket);
  }

  /** Closes a connection whose first packet was something else; gives whether it was one. */
  dropStranger(socket: SocketId, io: Io): boolean {
    if (!this.#fresh.has(socket)) return false;
    this.drop(socket, io);
    return true;
  }

  /**
   * A check came by this connection: it is the pair's, in place of one that was begun meanwhile.
   *
   * @returns Whether there is such a connection; for UDP there is nothing to do.
   */
  attach(pair: CandidatePair, socket: SocketId, user: ConnectionUser<Io>, io: Io): boolean {
    if (pair.socket === socket) return true;
    const connection = this.#all.get(socket);
    if (connection === undefined) return false;
    this.release(pair, io);
    connection.pair = pair;
    connection.user = user;
    pair.socket = socket;
    return true;
  }

  /** Closes the connection of a pair, if it has one. */
  release(pair: CandidatePair, io: Io): void {
    if (pair.base.kind === "udp" || pair.socket === 0) return;
    const { socket } = pair;
    pair.socket = 0;
    pair.isConnecting = false;
    this.drop(socket, io);
  }

  /** Closes a connection that nobody wants. Sockets of UDP are left alone. */
  drop(socket: SocketId, io: Io): void {
    if (!this.#all.has(socket)) return;
    this.#forget(socket);
    io.close(socket);
  }

  /** A connection is gone, or was never there. */
  handleLost(socket: SocketId, io: Io): void {
    const { pair, user } = this.#all.get(socket) ?? {};
    this.#forget(socket);
    if (pair === undefined || user === undefined || pair.socket !== socket) return;
    pair.socket = 0;
    pair.isConnecting = false;
    user.disconnected(pair, io);
  }

  /** Closes all that belong to a base, or all. */
  close(io: Io, base?: SocketId): void {
    for (const [socket, connection] of [...this.#all]) {
      if (base === undefined || connection.base === base) this.drop(socket, io);
    }
  }

  #forget(socket: SocketId): void {
    this.#all.delete(socket);
    this.#fresh.delete(socket);
  }
}
