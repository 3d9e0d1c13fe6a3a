import type { TransportAddress } from "../address.ts";
import {
  type ByteStreamWish,
  type CloseReason,
  DeadlineHeap,
  type SocketId,
  type StreamFraming,
  Timer,
} from "../machine.ts";
import { Admission } from "./_admission.ts";
import { type Due, FramedStream, type StreamOwner, type StreamSource } from "./_framed_stream.ts";
import type { Driver } from "./driver.ts";
import type { MachineHandle } from "./machine_handle.ts";
import { DEFAULT_STREAM_LIMITS, type StreamLimits, type StreamListener, type StreamStats } from "./streams.ts";
import {
  type ByteStream,
  type ByteStreamListener,
  type Host,
  OpenError,
  openFailureText,
  type StreamListenWish,
  type TlsServerOptions,
} from "./transport.ts";

const CONNECT_TIMEOUT = 39_500;

/** The driver's connections. */
export class StreamTable implements StreamOwner {
  #driver: Driver;
  #deadlines = new DeadlineHeap<Due>();
  #streams = new Set<FramedStream>();
  #listeners = new Map<SocketId, Listener>();
  #pending = new Map<SocketId, Connecting>();
  #toWrite: FramedStream[] = [];
  /** Listening sockets whose ports are about to become free. */
  #freeing = new Set<Promise<void>>();
  #counts = { accepted: 0, connected: 0, refused: 0, refusedPerAddress: 0, malformed: 0, timedOut: 0, dropped: 0 };

  /** @param driver The driver it is part of. */
  constructor(driver: Driver) {
    this.#driver = driver;
  }

  get now(): number {
    return this.#driver.now;
  }

  get deadline(): number {
    return this.#deadlines.deadline;
  }

  get stats(): Omit<StreamStats, "challenged"> {
    let dropped = this.#counts.dropped;
    for (const stream of this.#streams) dropped += stream.queue.dropped;
    return { ...this.#counts, dropped, open: this.#streams.size };
  }

  /** Handles what is due at `now`. */
  expire(now: number): void {
    for (let due = this.#deadlines.expire(now); due !== undefined; due = this.#deadlines.expire(now)) {
      due.owner.handleTimeout(now);
    }
  }

  connect(
    handle: MachineHandle<unknown>,
    socket: SocketId,
    wish: ByteStreamWish,
    done: (result: FramedStream | OpenError) => void,
  ): void {
    const { host } = this.#driver;
    if (host.connectStream === undefined) {
      return done(new OpenError("other", `Cannot connect by ${wish.transport} as this host has no TCP`));
    }
    const what = `Cannot connect to ${wish.transport.toUpperCase()} ${wish.remote}: ${openFailureText("timeout")}`;
    const attempt = new Connecting(this, handle, socket, () => done(new OpenError("timeout", what)));
    this.#pending.set(socket, attempt);
    this.setTimer(attempt.timer, this.now + (wish.timeout ?? CONNECT_TIMEOUT));
    attempt.giveUp = host.connectStream(wish, (result) => {
      if (!this.endConnect(socket)) return undefined;
      if (result instanceof OpenError) {
        done(result);
        return undefined;
      }
      const stream = new FramedStream(this, result, { handle, limits: DEFAULT_STREAM_LIMITS, framing: wish.framing });
      stream.socket = socket;
      this.#counts.connected++;
      this.#streams.add(stream);
      if (wish.framing !== "raw") result.resume();
      done(stream);
      return stream;
    });
  }

  /** Takes an attempt out of the table. Gives whether it was in it. */
  endConnect(socket: SocketId): boolean {
    const attempt = this.#pending.get(socket);
    if (attempt === undefined) return false;
    this.#pending.delete(socket);
    this.setTimer(attempt.timer, Infinity);
    return true;
  }

  /** Gives up connecting, or listening. */
  cancel(socket: SocketId): void {
    const attempt = this.#pending.get(socket);
    if (this.endConnect(socket)) attempt!.giveUp();
    else this.#listeners.get(socket)?.close();
  }

  listen(
    handle: MachineHandle<unknown>,
    socket: SocketId,
    wish: StreamListenWish,
    limits: StreamLimits = {},
  ): StreamListener {
    const { host } = this.#driver;
    if (host.listenStream === undefined) {
      throw new OpenError("other", `Cannot listen for ${wish.transport} as this host has no TCP`);
    }
    const { framing } = wish;
    const listener = new Listener(this, handle, { socket, limits: { ...DEFAULT_STREAM_LIMITS, ...limits }, framing });
    listener.start(host, wish);
    this.#listeners.set(socket, listener);
    return listener;
  }

  accept(listener: Listener, bytes: ByteStream): FramedStream | undefined {
    if (!this.#listeners.has(listener.socket)) return undefined;
    const verdict = listener.admit(bytes.remoteAddress);
    if (verdict !== undefined) {
      this.#counts[verdict]++;
      return undefined;
    }
    const { handle, limits, framing } = listener;
    const stream = new FramedStream(this, bytes, { handle, limits, source: listener, framing });
    this.#counts.accepted++;
    this.#streams.add(stream);
    if (framing === "raw") {
      this.#driver.turn(handle, () => this.#announce(stream));
    } else bytes.resume();
    return stream;
  }

  receive(stream: FramedStream, bytes: Uint8Array, offset: number, length: number): void {
    const { handle, framer } = stream;
    this.#driver.turn(handle, () => {
      framer.push(bytes, offset, length);
      while (stream.mode === "frames" && stream.state === "open" && !handle.removed && framer.next()) {
        if (stream.socket === 0) this.#announce(stream);
        if (stream.state === "open") handle.machine.handlePacket(stream, handle.io);
      }
      if (framer.isMalformed) this.lose(stream, "malformed");
      else stream.watchPartial();
    });
  }

  /** A machine hears of a connection with its first frame: what never sends one costs it nothing. */
  #announce(stream: FramedStream): void {
    const { handle } = stream;
    stream.socket = this.#driver.register(handle, stream);
    handle.machine.handleAccepted?.(stream.socket, stream.accepted, handle.io);
  }

  lose(stream: FramedStream, reason: CloseReason): void {
    if (stream.state !== "open") return;
    if (reason === "malformed") this.#counts.malformed++;
    if (reason === "timeout") this.#counts.timedOut++;
    if (reason === "end" || reason === "malformed") stream.finish();
    else stream.close();
    this.#report(stream, reason);
    const { partner } = stream;
    if (partner === undefined || partner.state !== "open") return;
    // What came from the one that is gone is still for the other.
    partner.finishPipe();
    this.#report(partner, reason);
  }

  #report(stream: FramedStream, reason: CloseReason): void {
    const { handle, socket } = stream;
    if (socket !== 0) {
      this.#driver.unregister(socket);
      if (!handle.removed) handle.call((io) => handle.machine.handleClosed?.(socket, reason, io));
    }
  }

  writeLater(stream: FramedStream): void {
    if (!this.#driver.isInTurn) return stream.write();
    if (stream.isWaiting) return;
    stream.isWaiting = true;
    this.#toWrite.push(stream);
  }

  /** Writes what was queued in a turn: one write for each connection. */
  flush(): void {
    for (const stream of this.#toWrite) {
      stream.isWaiting = false;
      if (stream.state !== "closed") stream.write();
    }
    this.#toWrite.length = 0;
  }

  setTimer(timer: Timer<Due>, at: number): void {
    this.#deadlines.set(timer, at);
    this.#driver.rearm();
  }

  forget(stream: FramedStream): void {
    this.#streams.delete(stream);
    this.#counts.dropped += stream.queue.dropped;
    stream.source?.release(stream.from);
  }

  forgetListener(listener: Listener): void {
    if (!this.#listeners.delete(listener.socket)) return;
    const { closed } = listener;
    if (closed === undefined) return;
    this.#freeing.add(closed);
    closed.then(() => this.#freeing.delete(closed));
  }

  /** Lets go of all that belongs to a machine. */
  remove(handle: MachineHandle<unknown>): void {
    for (const listener of this.#listeners.values()) if (listener.handle === handle) listener.close();
    for (const attempt of this.#pending.values()) if (attempt.handle === handle) this.cancel(attempt.socket);
    for (const stream of this.#streams) if (stream.handle === handle) stream.finish();
  }

  /** Closes everything. Resolves when the ports of its listening sockets are free. */
  async close(): Promise<void> {
    for (const listener of this.#listeners.values()) listener.close();
    for (const socket of this.#pending.keys()) this.cancel(socket);
    for (const stream of this.#streams) stream.close();
    await Promise.all(this.#freeing);
  }
}

class Connecting implements Due {
  readonly timer: Timer<Due> = new Timer<Due>(this);
  readonly handle: MachineHandle<unknown>;
  readonly socket: SocketId;
  giveUp: () => void = () => {};
  #table: StreamTable;
  #late: () => void;

  constructor(table: StreamTable, handle: MachineHandle<unknown>, socket: SocketId, late: () => void) {
    this.#table = table;
    this.handle = handle;
    this.socket = socket;
    this.#late = late;
  }

  handleTimeout(): void {
    this.#table.cancel(this.socket);
    this.#late();
  }
}

class Listener implements StreamListener, StreamSource {
  readonly socket: SocketId;
  readonly handle: MachineHandle<unknown>;
  readonly limits: Required<StreamLimits>;
  /** With `"raw"` the machine is told of connections before anything has come by them. */
  readonly framing: StreamFraming | undefined;
  #table: StreamTable;
  #native: ByteStreamListener | undefined;
  #admission: Admission;

  constructor(
    table: StreamTable,
    handle: MachineHandle<unknown>,
    options: { socket: SocketId; limits: Required<StreamLimits>; framing: StreamFraming | undefined },
  ) {
    this.#table = table;
    this.handle = handle;
    this.socket = options.socket;
    this.limits = options.limits;
    this.framing = options.framing;
    this.#admission = new Admission(options.limits);
  }

  get connections(): number {
    return this.#admission.connections;
  }

  start(host: Host, wish: StreamListenWish): void {
    this.#native = host.listenStream!(wish, (bytes) => this.#table.accept(this, bytes));
  }

  get localAddress(): TransportAddress {
    return this.#native!.localAddress;
  }

  get acceptErrors(): number {
    return this.#native!.acceptErrors;
  }

  get closed(): Promise<void> | undefined {
    return this.#native!.closed;
  }

  setTls(options: TlsServerOptions): void {
    this.#native!.setTls(options);
  }

  close(): void {
    this.#native!.close();
    this.#table.forgetListener(this);
  }

  /** Counts a connection in. Gives the limit that it would pass, if any. */
  admit(from: TransportAddress): "refused" | "refusedPerAddress" | undefined {
    const verdict = this.#admission.verdict(from);
    if (verdict === undefined) this.#admission.admit(from);
    return verdict;
  }

  /** Counts a connection out. */
  release(from: TransportAddress): void {
    this.#admission.release(from);
  }
}
