import type { TransportAddress } from "../address.ts";
import {
  DeadlineHeap,
  type Machine,
  type MachineIo,
  type Packet,
  type Random,
  type SocketId,
  type SocketWish,
  Timer,
  type Tunnel,
} from "../machine.ts";
import { type DatagramSocket, type Host, type HostTimer, OpenError, PacketBatch } from "./transport.ts";

const OUT_CAPACITY = 64;
const ARENA_SIZE = 65536;

/** What a shell wants to hear from its machine. Called after the machine's call, never inside it. */
export interface MachineHooks<Event> {
  /** An event that the machine emitted. */
  onEvent?(event: Event): void;
  /** A datagram that the machine delivered upwards. `bytes` is only good during the call. */
  onDeliver?(from: TransportAddress, bytes: Uint8Array): void;
}

/** A socket as the driver knows it: one of the host's, or the upper side of a tunnel. */
interface Entry {
  readonly owner: MachineHandle<unknown>;
  readonly datagrams: DatagramSocket | undefined;
  readonly tunnel: MachineHandle<unknown> | undefined;
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
  #timer: HostTimer;
  #deadlines = new DeadlineHeap<MachineHandle<unknown>>();
  #sockets = new Map<SocketId, Entry>();
  #nextSocket = 1;
  #depth = 0;
  #now = 0;
  #arena = new Uint8Array(ARENA_SIZE);
  #arenaUsed = 0;
  #out = new PacketBatch(OUT_CAPACITY);
  #outSocket: DatagramSocket | undefined;
  #later: (() => void)[] = [];
  #closed = false;

  /** @param host The computer to run on. */
  constructor(host: Host) {
    this.host = host;
    this.#timer = host.createTimer(() => this.#ring());
  }

  /** Takes in a machine. */
  add<Event>(machine: Machine<Event>, hooks: MachineHooks<Event> = {}): MachineHandle<Event> {
    return new MachineHandle(this, machine, hooks);
  }

  /** Closes all sockets and stops. A second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer.set(Infinity);
    for (const entry of this.#sockets.values()) entry.datagrams?.close();
    this.#sockets.clear();
  }

  /** @internal One turn: run `work`, then send, deliver and report what it recorded. */
  turn<T>(handle: MachineHandle<unknown>, work: () => T): T {
    if (this.#depth++ === 0) this.#now = this.host.now();
    try {
      return work();
    } finally {
      this.#settle(handle);
      if (this.#depth === 1) this.#finish();
      this.#depth--;
    }
  }

  /** @internal Monotonic time, constant during a turn. */
  get now(): number {
    return this.#depth === 0 ? this.host.now() : this.#now;
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
    const entry = this.#sockets.get(socket);
    if (entry === undefined) return;
    if (entry.tunnel !== undefined) {
      const lower = entry.tunnel;
      (lower.machine as Tunnel<unknown>).handleSend(to, bytes, offset, length, lower.io);
      this.#settle(lower);
      return;
    }
    if (this.#outSocket !== entry.datagrams || this.#out.length === OUT_CAPACITY) {
      this.#flush();
      this.#outSocket = entry.datagrams;
    }
    this.#out.push(to, bytes, offset, length);
  }

  /** @internal */
  open(owner: MachineHandle<unknown>, wish: SocketWish): SocketId {
    const socket = this.#nextSocket++;
    this.later(() => {
      if (owner.removed) return;
      try {
        const local = this.#bind(owner, socket, wish);
        owner.call((io) => owner.machine.handleOpened?.(socket, local, io));
      } catch (error) {
        if (!(error instanceof OpenError)) throw error;
        owner.call((io) => owner.machine.handleOpenFailed?.(socket, error.failure, io));
      }
    });
    return socket;
  }

  /** @internal */
  bind(owner: MachineHandle<unknown>, wish: SocketWish): BoundSocket {
    const socket = this.#nextSocket++;
    return { socket, localAddress: this.#bind(owner, socket, wish) };
  }

  /** @internal */
  stack(owner: MachineHandle<unknown>, tunnel: MachineHandle<unknown>): SocketId {
    const socket = this.#nextSocket++;
    this.#sockets.set(socket, { owner, datagrams: undefined, tunnel });
    tunnel.upper = { handle: owner, socket };
    return socket;
  }

  /** @internal */
  closeSocket(socket: SocketId): void {
    const entry = this.#sockets.get(socket);
    if (entry === undefined) return;
    if (entry.datagrams === this.#outSocket) this.#flush();
    this.#sockets.delete(socket);
    if (entry.tunnel !== undefined) entry.tunnel.upper = undefined;
    entry.datagrams?.close();
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
  }

  #bind(owner: MachineHandle<unknown>, socket: SocketId, wish: SocketWish): TransportAddress {
    if (this.#closed) throw new OpenError("other", "Cannot open a socket as the driver is closed");
    const packet = new ReusedPacket(socket);
    const datagrams = this.host.openDatagram(wish, (batch) => this.#receive(owner, packet, batch));
    this.#sockets.set(socket, { owner, datagrams, tunnel: undefined });
    return datagrams.localAddress;
  }

  #receive(owner: MachineHandle<unknown>, packet: ReusedPacket, batch: PacketBatch): void {
    this.turn(owner, () => {
      for (let i = 0; i < batch.length && !owner.removed; i++) {
        packet.from = batch.addresses[i]!;
        packet.buffer = batch.buffers[i]!;
        packet.offset = batch.offsets[i]!;
        packet.length = batch.lengths[i]!;
        owner.machine.handlePacket(packet, owner.io);
      }
    });
  }

  #ring(): void {
    while (!this.#closed) {
      const due = this.#deadlines.expire(this.host.now());
      if (due === undefined) break;
      due.owner.call((io) => due.owner.machine.handleTimeout(io));
    }
    if (!this.#closed) this.#timer.set(this.#deadlines.deadline);
  }

  #settle(handle: MachineHandle<unknown>): void {
    if (handle.removed) return;
    const deadline = handle.machine.deadline;
    if (deadline === handle.timer.at || (deadline === Infinity && handle.timer.index === -1)) return;
    this.#deadlines.set(handle.timer, deadline);
  }

  #finish(): void {
    // What is run later may record more of the same, so both go on until nothing is left.
    try {
      for (let i = 0; i < this.#later.length; i++) this.#later[i]!();
    } finally {
      this.#later.length = 0;
      this.#flush();
      this.#arenaUsed = 0;
      if (!this.#closed) this.#timer.set(this.#deadlines.deadline);
    }
  }

  #flush(): void {
    if (this.#out.length !== 0) this.#outSocket?.send(this.#out);
    this.#out.length = 0;
    this.#outSocket = undefined;
  }
}

/** A socket that a shell bound for its machine. */
export interface BoundSocket {
  /** The number the machine knows it by. */
  readonly socket: SocketId;
  /** The address it is bound to. */
  readonly localAddress: TransportAddress;
}

/** A machine inside a driver: how its shell talks to it. */
export class MachineHandle<Event> {
  /** The machine. */
  readonly machine: Machine<Event>;
  /** @internal */
  readonly io: MachineIo<Event>;
  /** @internal */
  readonly timer: Timer<MachineHandle<unknown>>;
  /** @internal The machine above, when this one is a tunnel. */
  upper: { handle: MachineHandle<unknown>; socket: SocketId } | undefined;
  /** Whether `remove()` was called. */
  removed = false;
  #driver: Driver;

  /** @internal Made by `Driver.add()`. */
  constructor(driver: Driver, machine: Machine<Event>, hooks: MachineHooks<Event>) {
    this.#driver = driver;
    this.machine = machine;
    this.timer = new Timer<MachineHandle<unknown>>(this as MachineHandle<unknown>);
    this.io = new DriverIo(driver, this, hooks);
  }

  /** Runs one of the machine's verbs, with all that a turn brings. Gives what `verb` gives. */
  call<T>(verb: (io: MachineIo<Event>) => T): T {
    return this.#driver.turn(this as MachineHandle<unknown>, () => verb(this.io));
  }

  /**
   * Binds a socket for the machine.
   *
   * @throws {OpenError} If it can not.
   */
  bind(wish: SocketWish): BoundSocket {
    return this.#driver.bind(this as MachineHandle<unknown>, wish);
  }

  /** Puts this machine on top of a tunnel. Gives the number under which it sees the tunnel as a socket. */
  stackOn<E>(tunnel: MachineHandle<E>): SocketId {
    return this.#driver.stack(this as MachineHandle<unknown>, tunnel as MachineHandle<unknown>);
  }

  /** Closes the machine's sockets and forgets it. A second call does nothing. */
  remove(): void {
    if (this.removed) return;
    this.removed = true;
    this.#driver.remove(this as MachineHandle<unknown>);
  }
}

class ReusedPacket implements Packet {
  readonly socket: SocketId;
  from!: TransportAddress;
  buffer!: Uint8Array;
  offset = 0;
  length = 0;

  constructor(socket: SocketId) {
    this.socket = socket;
  }

  get bytes(): Uint8Array {
    return this.buffer.subarray(this.offset, this.offset + this.length);
  }
}

class DriverIo<Event> implements MachineIo<Event> {
  #driver: Driver;
  #handle: MachineHandle<Event>;
  #hooks: MachineHooks<Event>;

  constructor(driver: Driver, handle: MachineHandle<Event>, hooks: MachineHooks<Event>) {
    this.#driver = driver;
    this.#handle = handle;
    this.#hooks = hooks;
  }

  get now(): number {
    return this.#driver.now;
  }

  get random(): Random {
    return this.#driver.host.random;
  }

  scratch(size: number): Uint8Array {
    return this.#driver.scratch(size);
  }

  send(socket: SocketId, to: TransportAddress, bytes: Uint8Array, offset = 0, length = bytes.length - offset): void {
    this.#driver.send(socket, to, bytes, offset, length);
  }

  open(wish: SocketWish): SocketId {
    return this.#driver.open(this.#handle as MachineHandle<unknown>, wish);
  }

  close(socket: SocketId): void {
    this.#driver.closeSocket(socket);
  }

  deliver(from: TransportAddress, bytes: Uint8Array, offset = 0, length = bytes.length - offset): void {
    const upper = this.#handle.upper;
    if (upper === undefined) {
      const hook = this.#hooks.onDeliver;
      if (hook === undefined) return;
      return this.#driver.later(() => hook(from, bytes.subarray(offset, offset + length)));
    }
    this.#driver.later(() => {
      if (upper.handle.removed) return;
      const packet = new ReusedPacket(upper.socket);
      packet.from = from;
      packet.buffer = bytes;
      packet.offset = offset;
      packet.length = length;
      upper.handle.call((io) => upper.handle.machine.handlePacket(packet, io));
    });
  }

  emit(event: Event): void {
    const hook = this.#hooks.onEvent;
    if (hook !== undefined) this.#driver.later(() => hook(event));
  }
}
