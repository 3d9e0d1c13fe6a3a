import type { TransportAddress } from "../stun/address.ts";
import { DeadlineHeap, type MachineIo, type PipeMeter, type SocketId, Timer } from "../stun/machine.ts";
import { MessageWriter, METHOD } from "../stun/message.ts";
import { randomBytes } from "../stun/random.ts";
import type { AllocateRequest, Allocation, Relay } from "./allocation.ts";
import { CONNECTION_ID, XOR_PEER_ADDRESS } from "./attributes.ts";
import type { TurnServerCounters } from "./server_counters.ts";
import type { ConnectionReport, TurnServerEvent } from "./server_events.ts";
import type { TurnServerLimits } from "./server_options.ts";

/** "The timeout value MUST be at least 30 seconds" (RFC 6062 §5.2), in ms. A client waits 39.5 s for its answer. */
const CONNECT_TIMEOUT = 30_000;
/** How long a connection waits for its ConnectionBind (RFC 6062 §5.2, §5.3), in ms. */
export const BIND_TIMEOUT = 30_000;
/** An indication with an IPv6 address. */
const ATTEMPT_SIZE = 64;

type Io = MachineIo<TurnServerEvent>;

/** A connection between a relayed transport address and a peer: RFC 6062's peer data connection. */
export class PeerConnection implements PipeMeter {
  /** Where it is from or to on this side. */
  readonly relay: Relay;
  /** The peer. */
  readonly peer: TransportAddress;
  /** What the client names it by. */
  readonly id: number;
  /** The connection to the peer. */
  readonly socket: SocketId;
  /** The Connect request that it answers; `undefined` if the peer has connected. */
  readonly request: AllocateRequest | undefined;
  /** `"waiting"` for the client's ConnectionBind; `"joined"` with the client's connection after it. */
  state: "connecting" | "waiting" | "joined" | "ended";
  /** The client's connection that it is joined with; 0: none. */
  client: SocketId = 0;
  /** Bytes from the client. */
  bytesToPeer = 0;
  /** Bytes from the peer. */
  bytesToClient = 0;
  /** Rings when it has waited long enough. */
  readonly timer: Timer<PeerConnection>;
  #counters: TurnServerCounters;

  constructor(
    of: { relay: Relay; peer: TransportAddress; id: number; socket: SocketId; request?: AllocateRequest },
    counters: TurnServerCounters,
  ) {
    this.relay = of.relay;
    this.peer = of.peer;
    this.id = of.id;
    this.socket = of.socket;
    this.request = of.request;
    this.state = of.request === undefined ? "waiting" : "connecting";
    this.timer = new Timer<PeerConnection>(this);
    this.#counters = counters;
  }

  /** Counts what went through, and slows it down to what may be relayed. */
  pass(from: SocketId, count: number, now: number): number {
    const { allocation } = this.relay;
    if (from === this.socket) {
      this.#counters.bytesToClients += count;
      allocation.bytesToClient += count;
      this.bytesToClient += count;
      return allocation.throttle?.delay("toClients", count, now) ?? 0;
    }
    this.#counters.bytesToPeers += count;
    allocation.bytesToPeers += count;
    this.bytesToPeer += count;
    return allocation.throttle?.delay("toPeers", count, now) ?? 0;
  }

  /** What it is and did, for people. */
  report(): ConnectionReport {
    const { peer, bytesToPeer, bytesToClient } = this;
    return { peer, by: this.request === undefined ? "peer" : "client", bytesToPeer, bytesToClient };
  }
}

/** A server's connections with peers (RFC 6062 §5). Each belongs to a relay, and ends with it. */
export class PeerConnections {
  #limits: TurnServerLimits;
  #counters: TurnServerCounters;
  /** By the peer's connection, and by the client's. */
  #bySocket = new Map<SocketId, PeerConnection>();
  /** Those that a client may take. */
  #waiting = new Map<number, PeerConnection>();
  #timers = new DeadlineHeap<PeerConnection>();

  constructor(limits: TurnServerLimits, counters: TurnServerCounters) {
    this.#limits = limits;
    this.#counters = counters;
  }

  /** When one has waited long enough. */
  get deadline(): number {
    return this.#timers.deadline;
  }

  /** How many things there are: zero when nothing is left. */
  get size(): number {
    return this.#bySocket.size + this.#waiting.size + this.#timers.size;
  }

  /** Whether a socket is one of its connections. */
  owns(socket: SocketId): boolean {
    return this.#bySocket.has(socket);
  }

  /** The limit that one more connection of an allocation would pass, if any. */
  limitFor(allocation: Allocation): "connections" | "connectionsPerAllocation" | undefined {
    let count = 0;
    for (const { connections } of allocation.relays) count += connections.size;
    if (count >= this.#limits.connectionsPerAllocation) return "connectionsPerAllocation";
    return this.#counters.connections >= this.#limits.connections ? "connections" : undefined;
  }

  /**
   * Connects to a peer for a client.
   *
   * @param to Where the peer is found: its address, or another one if it is a relay of this server.
   */
  connect(relay: Relay, peer: TransportAddress, to: TransportAddress, request: AllocateRequest, io: Io): void {
    const { address, port } = relay.localAddress;
    // "The local endpoint is the relayed transport address" (§5.2), as far as the host can do that.
    const from = { address, port, isLocalOptional: true };
    const socket = io.open({ transport: "tcp", remote: to, ...from, framing: "raw", timeout: CONNECT_TIMEOUT });
    this.#add(new PeerConnection({ relay, peer, id: this.#newId(io), socket, request }, this.#counters));
  }

  /** RFC 6062 §5.3: somebody has connected to a relayed transport address. */
  handleAccepted(relay: Relay, socket: SocketId, peer: TransportAddress, io: Io): void {
    const { allocation } = relay;
    const { connectionFailures } = this.#counters;
    const isPermitted = relay.expiresAt > io.now && relay.permissionFor(peer.ipKey, io.now) !== undefined;
    if (!isPermitted || allocation.state !== "active") {
      connectionFailures.noPermission++;
      return io.close(socket);
    }
    if (this.limitFor(allocation) !== undefined) {
      connectionFailures.tooMany++;
      return io.close(socket);
    }
    const connection = new PeerConnection({ relay, peer, id: this.#newId(io), socket }, this.#counters);
    this.#add(connection);
    this.#wait(connection, io);
    const writer = new MessageWriter(io.scratch(ATTEMPT_SIZE));
    writer.begin(METHOD.CONNECTION_ATTEMPT, "indication", randomBytes(io.random, 12));
    writer.add(XOR_PEER_ADDRESS, peer).add(CONNECTION_ID, connection.id);
    io.send(allocation.listener.socket, allocation.client, writer.finish());
  }

  /** A peer has taken the connection that a client asked for. */
  handleOpened(socket: SocketId, io: Io): PeerConnection {
    const connection = this.#bySocket.get(socket)!;
    this.#wait(connection, io);
    return connection;
  }

  /** A peer has not. */
  handleOpenFailed(socket: SocketId, io: Io): PeerConnection {
    const connection = this.#bySocket.get(socket)!;
    this.#counters.connectionFailures.notConnected++;
    this.#forget(connection, io);
    return connection;
  }

  /** One of its connections is gone, and the other one that it was joined with. */
  handleClosed(socket: SocketId, io: Io): void {
    const connection = this.#bySocket.get(socket)!;
    // The driver lets both go, and the slow one in its own time.
    this.#forget(connection, io);
  }

  /** The connection that waits under this id. */
  find(id: number, now: number): PeerConnection | undefined {
    const connection = this.#waiting.get(id);
    return connection !== undefined && connection.timer.at > now ? connection : undefined;
  }

  /** A client takes a connection, on one of its own. `join()` follows. */
  take(connection: PeerConnection, client: SocketId, io: Io): void {
    connection.state = "joined";
    connection.client = client;
    this.#waiting.delete(connection.id);
    this.#timers.clear(connection.timer);
    this.#bySocket.set(client, connection);
    this.#counters.connectionsTotal++;
    io.emit({
      type: "connected",
      allocation: connection.relay.allocation.report(),
      connection: connection.report(),
    });
  }

  /** Both become one pipe. */
  join(connection: PeerConnection, io: Io): void {
    io.join?.(connection.client, connection.socket, connection);
  }

  /** Ends all connections of a relay. */
  endAll({ connections }: Relay, io: Io): void {
    for (const connection of [...connections]) this.#end(connection, io);
  }

  /** Ends what has waited long enough: "the peer data connection MUST be closed" (RFC 6062 §5.2, §5.3). */
  handleTimeout(io: Io): void {
    for (let timer = this.#timers.expire(io.now); timer !== undefined; timer = this.#timers.expire(io.now)) {
      this.#counters.connectionFailures.notBound++;
      this.#end(timer.owner, io);
    }
  }

  #add(connection: PeerConnection): void {
    connection.relay.connections.add(connection);
    this.#bySocket.set(connection.socket, connection);
    this.#counters.connections++;
  }

  #wait(connection: PeerConnection, io: Io): void {
    connection.state = "waiting";
    this.#waiting.set(connection.id, connection);
    this.#timers.set(connection.timer, io.now + BIND_TIMEOUT);
  }

  #end(connection: PeerConnection, io: Io): void {
    const { socket, client } = connection;
    this.#forget(connection, io);
    io.close(socket);
    if (client !== 0) io.close(client);
  }

  #forget(connection: PeerConnection, io: Io): void {
    const { relay, socket, client, id, timer } = connection;
    const wasJoined = connection.state === "joined";
    connection.state = "ended";
    relay.connections.delete(connection);
    this.#bySocket.delete(socket);
    this.#bySocket.delete(client);
    this.#waiting.delete(id);
    this.#timers.clear(timer);
    this.#counters.connections--;
    if (!wasJoined) return;
    io.emit({ type: "disconnected", allocation: relay.allocation.report(), connection: connection.report() });
  }

  /** Random, so that a guess is worth nothing; unique among those that wait. */
  #newId(io: Io): number {
    for (;;) {
      const [a, b, c, d] = randomBytes(io.random, 4) as unknown as [number, number, number, number];
      const id = ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
      if (!this.#waiting.has(id)) return id;
    }
  }
}
