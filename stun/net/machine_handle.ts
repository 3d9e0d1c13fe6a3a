import type { TransportAddress } from "../address.ts";
import {
  type ListenWish,
  type Machine,
  type MachineIo,
  type PipeMeter,
  type Random,
  type SocketId,
  type SocketWish,
  type StreamWish,
  Timer,
} from "../machine.ts";
import { ReusedPacket } from "./_reused_packet.ts";
import { detachStream } from "./_detached_stream.ts";
import type { Driver } from "./driver.ts";
import type { DtlsListener, DtlsListenOptions, StreamLimits, StreamListener } from "./streams.ts";
import type { DetachedStream, StreamListenWish } from "./transport.ts";

/** What a shell wants to hear from its machine. Called after the machine's call, never inside it. */
export interface MachineHooks<Event> {
  /** An event that the machine emitted. */
  onEvent?(event: Event): void;
  /** A datagram that the machine delivered upwards, of one of its flows. `bytes` is only good during the call. */
  onDeliver?(from: TransportAddress, bytes: Uint8Array, flow: number): void;
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

  /**
   * Binds a UDP socket for the machine that serves DTLS as well, told by the first byte (RFC 7983 §7). Associations are
   * connections: the machine hears of them by `handleAccepted`, with their first message.
   *
   * @throws {OpenError} If it can not, or the host has no DTLS, or the certificate can not be used.
   */
  bindDtls(wish: SocketWish, options: DtlsListenOptions): DtlsListener {
    return this.#driver.bindDtls(this as MachineHandle<unknown>, wish, options);
  }

  /**
   * Connects for the machine, which hears of it by nothing but its packets: tell it the socket's number.
   *
   * @param wish What to connect to.
   * @param options `signal` gives up.
   * @throws {OpenError} If it can not.
   * @throws {DOMException} The signal's reason, if it was aborted.
   */
  connect(wish: StreamWish, options: { signal?: AbortSignal } = {}): Promise<BoundSocket> {
    return this.#driver.connect(this as MachineHandle<unknown>, wish, options.signal);
  }

  /**
   * Listens for connections, which the machine hears of by `handleAccepted`.
   *
   * @param wish Where, and for what.
   * @param limits What connections may take of time and memory.
   * @throws {OpenError} If it can not.
   */
  listenStream(wish: StreamListenWish, limits?: StreamLimits): StreamListener {
    return this.#driver.listen(this as MachineHandle<unknown>, wish, limits);
  }

  /**
   * Takes a connection away from the machine, as streams of bytes: first what came after the last frame (`io.unframe`).
   *
   * @throws {TypeError} If the machine has no such connection.
   */
  detach(socket: SocketId): DetachedStream {
    const stream = this.#driver.stream(socket);
    if (stream === undefined || stream.handle !== (this as MachineHandle<unknown>)) {
      throw new TypeError(`Cannot detach socket as it is no connection of this machine: current value is ${socket}`);
    }
    this.#driver.unregister(socket);
    return detachStream(stream);
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

  get unixTime(): number {
    return this.#driver.host.unixTime();
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

  open(wish: SocketWish | StreamWish | ListenWish): SocketId {
    return this.#driver.open(this.#handle as MachineHandle<unknown>, wish);
  }

  close(socket: SocketId): void {
    this.#driver.closeSocket(socket);
  }

  setDontFragment(socket: SocketId, on: boolean): void {
    this.#driver.setDontFragment(socket, on);
  }

  unframe(socket: SocketId): void {
    this.#driver.stream(socket)?.unframe();
  }

  join(a: SocketId, b: SocketId, meter?: PipeMeter): void {
    const [one, other] = [this.#driver.stream(a), this.#driver.stream(b)];
    if (one === undefined || other === undefined || one === other) return;
    one.pipeTo(other, meter);
    other.pipeTo(one, meter);
  }

  deliver(from: TransportAddress, bytes: Uint8Array, offset = 0, length = bytes.length - offset, flow = 0): void {
    const upper = this.#handle.upper;
    if (upper === undefined) {
      const hook = this.#hooks.onDeliver;
      if (hook === undefined) return;
      return this.#driver.later(() => hook(from, bytes.subarray(offset, offset + length), flow));
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
