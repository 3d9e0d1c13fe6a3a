import type { TransportAddress } from "../address.ts";
import {
  DeadlineHeap,
  type ListenWish,
  type Machine,
  type Packet,
  type SocketId,
  type SocketWish,
  type StreamWish,
  type Tunnel,
} from "../machine.ts";
import { DatagramTable } from "./_datagram_table.ts";
import { DtlsTable } from "./_dtls_table.ts";
import { FramedStream } from "./_framed_stream.ts";
import { ReusedPacket } from "./_reused_packet.ts";
import { SocketOpener } from "./_socket_opener.ts";
import { StreamTable } from "./_stream_table.ts";
import { type BoundSocket, MachineHandle, type MachineHooks } from "./machine_handle.ts";
import type { DtlsListener, DtlsListenOptions, StreamLimits, StreamListener, StreamStats } from "./streams.ts";
import { type Host, type HostTimer, OpenError, type PacketBatch, type StreamListenWish } from "./transport.ts";

export { type BoundSocket, MachineHandle, type MachineHooks } from "./machine_handle.ts";

const ARENA_SIZE = 65536;

/** A socket as the driver knows it: a UDP socket when it is neither a connection nor the upper side of a tunnel. */
interface Entry {
  readonly owner: MachineHandle<unknown>;
  readonly tunnel?: MachineHandle<unknown>;
  readonly conn?: Connection;
}

/** A TCP or TLS connection, or a DTLS association. */
export interface Connection {
  /** Its local end. */
  readonly localAddress: TransportAddress;
  /** Sends one frame, or message. */
  send(bytes: Uint8Array, offset: number, length: number): void;
  /** Closes it once all that was sent has left. */
  finish(): void;
}

/** Takes some of a UDP socket's datagrams before its machine gets them. */
export interface DatagramFilter {
  /** Gives whether it has taken this one. */
  take(packet: Packet): boolean;
}

/**
 * The one loop: it owns sockets, clock and timer, calls the machines and carries out what they recorded.
 *
 * Every turn is the same: take in a batch, an alarm or a call from a shell; let the machine run; send what it recorded;
 * then hand on what it delivered and emitted.
 */
export class Driver {
  /** The computer it runs on. */
  readonly host: Host;
  /** Called after a turn, or between turns, when a datagram could not be handed to the network. */
  onSendError: (() => void) | undefined;
  // What each datagram needs comes first.
  #depth = 0;
  #now = 0;
  #datagrams = new DatagramTable(this);
  #packet = new ReusedPacket(0);
  #deadlines = new DeadlineHeap<MachineHandle<unknown>>();
  #arena = new Uint8Array(ARENA_SIZE);
  #arenaUsed = 0;
  #later: (() => void)[] = [];
  #timer: HostTimer;
  #sockets = new Map<SocketId, Entry>();
  #nextSocket = 1;
  #streams = new StreamTable(this);
  #dtls = new DtlsTable(this);
  #opener = new SocketOpener(this, this.#streams, this.#dtls);
  #closed = false;
  #closing: Promise<void> | undefined;

  /** A driver without machines on this computer. */
  constructor(host: Host) {
    this.host = host;
    this.#timer = host.createTimer(() => this.#ring());
  }

  /** Takes in a machine. */
  add<Event>(machine: Machine<Event>, hooks: MachineHooks<Event> = {}): MachineHandle<Event> {
    return new MachineHandle(this, machine, hooks);
  }

  /** Closes all sockets and stops. Resolves when its ports are free. A second call does nothing. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    this.#closed = true;
    this.#timer.set(Infinity);
    // DTLS closes some of them already.
    const freed = this.#datagrams.freed();
    this.#dtls.close();
    this.#datagrams.close();
    this.#sockets.clear();
    await Promise.all([this.#streams.close(), freed]);
  }

  /** Counts of its connections. */
  get streamStats(): StreamStats {
    return this.#dtls.addTo(this.#streams.stats);
  }

  /** @internal One turn: run `work`, then send, deliver and report what it recorded. */
  turn<T>(handle: MachineHandle<unknown>, work: () => T): T {
    if (this.#depth++ === 0) this.#now = this.host.now();
    try {
      return work();
    } finally {
      this.#end(handle);
    }
  }

  #end(handle: MachineHandle<unknown>): void {
    try {
      this.#settle(handle);
      if (this.#depth === 1) this.#finish();
    } finally {
      this.#depth--;
    }
  }

  /** @internal Monotonic time, constant during a turn. */
  get now(): number {
    return this.#depth === 0 ? this.host.now() : this.#now;
  }

  /** @internal Whether `close()` was called. */
  get isClosed(): boolean {
    return this.#closed;
  }

  /** @internal Whether a turn is under way. */
  get isInTurn(): boolean {
    return this.#depth !== 0;
  }

  /** @internal Sets the alarm anew, as the connections' timers have changed. In a turn that happens at its end. */
  rearm(): void {
    if (this.#depth === 0) this.#setAlarm();
  }

  /** @internal Memory that is free again at the end of the turn. */
  scratch(size: number): Uint8Array {
    if (this.#arenaUsed + size > ARENA_SIZE) return new Uint8Array(size);
    const start = this.#arenaUsed;
    this.#arenaUsed += size;
    return this.#arena.subarray(start, start + size);
  }

  /** @internal */
  send(socket: SocketId, to: TransportAddress, bytes: Uint8Array, offset: number, length: number): void {
    if (!this.#datagrams.send(socket, to, bytes, offset, length)) {
      this.#sendElsewhere(socket, to, bytes, offset, length);
    }
  }

  #sendElsewhere(socket: SocketId, to: TransportAddress, bytes: Uint8Array, offset: number, length: number): void {
    const entry = this.#sockets.get(socket);
    if (entry?.tunnel !== undefined) {
      const lower = entry.tunnel;
      (lower.machine as Tunnel<unknown>).handleSend(to, bytes, offset, length, lower.io);
      this.#settle(lower);
    } else entry?.conn?.send(bytes, offset, length);
  }

  /** @internal */
  open(owner: MachineHandle<unknown>, wish: SocketWish | StreamWish | ListenWish): SocketId {
    const socket = this.#nextSocket++;
    this.#opener.open(owner, socket, wish);
    return socket;
  }

  /** @internal */
  bind(owner: MachineHandle<unknown>, wish: SocketWish): BoundSocket {
    const socket = this.#nextSocket++;
    return { socket, localAddress: this.bindSocket(owner, socket, wish) };
  }

  /** @internal */
  async connect(owner: MachineHandle<unknown>, wish: StreamWish, signal?: AbortSignal): Promise<BoundSocket> {
    signal?.throwIfAborted();
    return await this.#opener.connect(owner, this.#nextSocket++, wish, signal);
  }

  /** @internal */
  listen(owner: MachineHandle<unknown>, wish: StreamListenWish, limits?: StreamLimits): StreamListener {
    if (this.#closed) throw new OpenError("other", "Cannot listen as the driver is closed");
    return this.#streams.listen(owner, this.#nextSocket++, wish, limits);
  }

  /** @internal */
  bindDtls(owner: MachineHandle<unknown>, wish: SocketWish, options: DtlsListenOptions): DtlsListener {
    const socket = this.#nextSocket++;
    const port = this.#dtls.listen(owner, socket, options);
    try {
      port.localAddress = this.bindSocket(owner, socket, wish, port);
      return port;
    } catch (error) {
      this.#dtls.closePort(socket);
      throw error;
    }
  }

  /** @internal Binds a socket whose datagrams are for `filter`. */
  bindFor(owner: MachineHandle<unknown>, wish: SocketWish, filter: DatagramFilter): BoundSocket {
    const socket = this.#nextSocket++;
    return { socket, localAddress: this.bindSocket(owner, socket, wish, filter) };
  }

  /** @internal Gives an accepted connection its number. */
  register(owner: MachineHandle<unknown>, conn: Connection): SocketId {
    const socket = this.#nextSocket++;
    this.enter(socket, owner, conn);
    return socket;
  }

  /** @internal A connection is there, under this number. */
  enter(socket: SocketId, owner: MachineHandle<unknown>, conn: Connection): void {
    this.#sockets.set(socket, { owner, conn });
  }

  /** @internal A connection is gone. */
  unregister(socket: SocketId): void {
    this.#sockets.delete(socket);
  }

  /** @internal The connection that has this number, if it has. */
  stream(socket: SocketId): FramedStream | undefined {
    const conn = this.#sockets.get(socket)?.conn;
    return conn instanceof FramedStream ? conn : undefined;
  }

  /** @internal */
  stack(owner: MachineHandle<unknown>, tunnel: MachineHandle<unknown>): SocketId {
    const socket = this.#nextSocket++;
    this.#sockets.set(socket, { owner, tunnel });
    tunnel.upper = { handle: owner, socket };
    return socket;
  }

  /** @internal */
  closeSocket(socket: SocketId): void {
    if (this.#opener.withdraw(socket)) return;
    const entry = this.#sockets.get(socket);
    if (entry === undefined) return this.#opener.giveUp(socket);
    this.#sockets.delete(socket);
    if (entry.tunnel !== undefined) entry.tunnel.upper = undefined;
    entry.conn?.finish();
    this.#dtls.closePort(socket);
    this.#datagrams.closeSocket(socket);
  }

  /** @internal */
  setDontFragment(socket: SocketId, on: boolean): void {
    this.#datagrams.setDontFragment(socket, on);
  }

  /** @internal Runs `work` at the end of the turn, in order; at once when there is no turn. */
  later(work: () => void): void {
    if (this.#depth === 0) return work();
    this.#later.push(work);
  }

  /** @internal */
  remove(handle: MachineHandle<unknown>): void {
    this.#deadlines.clear(handle.timer);
    for (const [socket, entry] of this.#sockets) if (entry.owner === handle) this.closeSocket(socket);
    this.#streams.remove(handle);
    this.#dtls.remove(handle);
  }

  /** @internal Binds a UDP socket under this number. */
  bindSocket(
    owner: MachineHandle<unknown>,
    socket: SocketId,
    wish: SocketWish,
    filter?: DatagramFilter,
  ): TransportAddress {
    if (this.#closed) throw new OpenError("other", "Cannot open a socket as the driver is closed");
    const receiver = (batch: PacketBatch) => this.#receive(owner, socket, batch, filter);
    const datagrams = this.#datagrams.bind(socket, wish, receiver);
    this.#sockets.set(socket, { owner });
    if (wish.icmp === true) {
      datagrams.reportIcmp?.((message) => {
        if (!owner.removed) owner.call((io) => owner.machine.handleIcmp?.(socket, message, io));
      });
    }
    return datagrams.localAddress;
  }

  // A turn as `turn()` is, for each batch that arrives: without a closure.
  #receive(owner: MachineHandle<unknown>, socket: SocketId, batch: PacketBatch, filter?: DatagramFilter): void {
    const packet = this.#depth === 0 ? this.#packet : new ReusedPacket(socket);
    if (this.#depth++ === 0) this.#now = this.host.now();
    try {
      packet.socket = socket;
      for (let i = 0; i < batch.length && !owner.removed; i++) {
        packet.from = batch.addresses[i]!;
        packet.buffer = batch.buffers[i]!;
        packet.offset = batch.offsets[i]!;
        packet.length = batch.lengths[i]!;
        if (filter === undefined || !filter.take(packet)) owner.machine.handlePacket(packet, owner.io);
      }
    } finally {
      this.#end(owner);
    }
  }

  #ring(): void {
    while (!this.#closed) {
      const due = this.#deadlines.expire(this.host.now());
      if (due === undefined) break;
      due.owner.call((io) => due.owner.machine.handleTimeout(io));
    }
    if (!this.#closed) this.#streams.expire(this.host.now());
    if (!this.#closed) this.#dtls.expire(this.host.now());
    this.#setAlarm();
  }

  #setAlarm(): void {
    if (!this.#closed) {
      this.#timer.set(Math.min(this.#deadlines.deadline, this.#streams.deadline, this.#dtls.deadline));
    }
  }

  #settle(handle: MachineHandle<unknown>): void {
    if (handle.removed) return;
    const deadline = handle.machine.deadline;
    if (deadline === handle.timer.at || (deadline === Infinity && handle.timer.index === -1)) return;
    this.#deadlines.set(handle.timer, deadline);
  }

  #finish(): void {
    this.#datagrams.flush();
    // What is run later may record more of the same, so both go on until nothing is left. A hook that throws takes
    // nobody's answers and events with it.
    let failure: { readonly error: unknown } | undefined;
    for (let i = 0; i < this.#later.length; i++) {
      try {
        this.#later[i]!();
      } catch (error) {
        failure ??= { error };
      }
    }
    this.#later.length = 0;
    this.#datagrams.flush();
    this.#streams.flush();
    this.#arenaUsed = 0;
    this.#setAlarm();
    if (failure !== undefined) throw failure.error;
  }
}
