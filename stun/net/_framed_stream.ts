import type { TransportAddress } from "../address.ts";
import { StreamFramer } from "../framing.ts";
import {
  type AcceptedConnection,
  type CloseReason,
  type Packet,
  type PipeMeter,
  type SocketId,
  type StreamFraming,
  Timer,
} from "../machine.ts";
import { SendQueue } from "./_send_queue.ts";
import type { MachineHandle } from "./machine_handle.ts";
import type { StreamLimits } from "./streams.ts";
import type { ByteStream, ByteStreamReceiver } from "./transport.ts";

/** How long the other end may take to end its side too, after we did, before the connection is closed on it. */
const LINGER = 2000;

/** Something that the stream layer's clock calls. */
export interface Due {
  readonly timer: Timer<Due>;
  handleTimeout(now: number): void;
}

/** The listening socket that a connection came in by. */
export interface StreamSource {
  /** Its number. */
  readonly socket: SocketId;
  /** The connection is closed. */
  release(from: TransportAddress): void;
}

/** The shell's end of a detached connection. */
export interface StreamTap {
  handleData(bytes: Uint8Array): void;
  handleSent(): void;
  handleEnd(reason: "end" | "reset"): void;
}

/** What a stream asks of the layer that holds it. */
export interface StreamOwner {
  readonly now: number;
  /** Frames have arrived. */
  receive(stream: FramedStream, bytes: Uint8Array, offset: number, length: number): void;
  /** The connection is gone by itself: the machine is to be told. */
  lose(stream: FramedStream, reason: CloseReason): void;
  /** Writes at the end of the turn. */
  writeLater(stream: FramedStream): void;
  /** Sets or moves a timer. */
  setTimer(timer: Timer<Due>, at: number): void;
  /** The connection is closed. */
  forget(stream: FramedStream): void;
}

/**
 * A connection in the driver: bytes to frames, frames to bytes, and the limits on how long each may take.
 *
 * Its timer is never later than the first limit that can be passed, and may be earlier: so it is moved once a minute or
 * so, and not for every frame.
 */
export class FramedStream implements ByteStreamReceiver, Due, Packet {
  readonly timer: Timer<Due> = new Timer<Due>(this);
  readonly framer: StreamFramer;
  readonly queue: SendQueue;
  readonly conn: ByteStream;
  /** The machine it belongs to. */
  readonly handle: MachineHandle<unknown>;
  /** The number the machine knows it by; 0 before the machine does. */
  socket: SocketId = 0;
  /** The listening socket it came in by. */
  readonly source: StreamSource | undefined;
  mode: "frames" | "raw" | "pipe" | "detached" = "frames";
  /** `closing`: the machine is done with it, and what was sent still leaves. */
  state: "open" | "closing" | "closed" = "open";
  /** Whether the other end has said that nothing more comes. */
  hasEnded = false;
  /** What arrived and is in no frame, for whoever takes the rest of the stream. */
  early: Uint8Array[] = [];
  /** The other connection of a pipe: where the bytes go in mode `pipe`. */
  partner: FramedStream | undefined;
  /** Where the bytes go in mode `detached`. */
  tap: StreamTap | undefined;
  /** For the layer: whether it is in the list of those that write at the end of the turn. */
  isWaiting = false;
  #owner: StreamOwner;
  #limits: Required<StreamLimits>;
  #startedAt: number;
  #heardAt: number;
  #partialSince = Infinity;
  #partialOf = 0;
  #writeSince = Infinity;
  #closeBy = Infinity;
  #endWanted = false;
  #endSent = false;
  #meter: PipeMeter | undefined;
  /** Until when its meter lets nothing be read. */
  #heldUntil = -Infinity;

  constructor(
    owner: StreamOwner,
    bytes: ByteStream,
    of: {
      handle: MachineHandle<unknown>;
      limits: Required<StreamLimits>;
      source?: StreamSource;
      framing: StreamFraming | undefined;
    },
  ) {
    this.#owner = owner;
    this.conn = bytes;
    this.handle = of.handle;
    this.source = of.source;
    this.#limits = of.limits;
    this.framer = new StreamFramer(of.framing === "rfc4571" ? of.framing : "stun");
    this.queue = new SendQueue(of.limits.queueLimit, of.framing);
    if (of.framing === "raw") this.mode = "raw";
    this.#startedAt = this.#heardAt = owner.now;
    this.#arm();
  }

  // As a Packet: the current frame.

  get from(): TransportAddress {
    return this.conn.remoteAddress;
  }
  get localAddress(): TransportAddress {
    return this.conn.localAddress;
  }
  get buffer(): Uint8Array {
    return this.framer.buffer;
  }
  get offset(): number {
    return this.framer.offset;
  }
  get length(): number {
    return this.framer.length;
  }
  get bytes(): Uint8Array {
    return this.buffer.subarray(this.offset, this.offset + this.length);
  }

  /** What a machine is told of it. */
  get accepted(): AcceptedConnection {
    const { transport, remoteAddress, localAddress, alpn } = this.conn;
    return { listener: this.source!.socket, transport, remoteAddress, localAddress, alpn };
  }

  /** Queues a frame. */
  send(bytes: Uint8Array, offset: number, length: number): void {
    if (this.state !== "open" || this.mode !== "frames" || length === 0) return;
    if (this.queue.push(bytes, offset, length)) this.#owner.writeLater(this);
  }

  onData(bytes: Uint8Array, offset: number, length: number): void {
    if (this.state !== "open") return;
    this.#heardAt = this.#owner.now;
    if (this.mode === "frames") this.#owner.receive(this, bytes, offset, length);
    else if (this.partner !== undefined) this.#passOn(this.partner, bytes, offset, length);
    else if (this.tap !== undefined) this.tap.handleData(bytes.slice(offset, offset + length));
    else this.early.push(bytes.slice(offset, offset + length));
  }

  onSent(): void {
    this.queue.finishWrite();
    this.#writeSince = Infinity;
    this.#heardAt = this.#owner.now;
    if (this.state === "closed") return;
    this.write();
    if (this.partner !== undefined) {
      this.partner.#readOn();
      this.#endPipe();
    }
    this.tap?.handleSent();
  }

  onEnd(reason: "end" | "reset"): void {
    this.hasEnded = true;
    if (this.state === "closing") {
      if (reason === "reset" || this.#endSent) this.close();
    } else if (this.tap !== undefined) {
      this.tap.handleEnd(reason);
      if (reason === "reset" || this.#endSent) this.close();
    } else if (this.state === "open") {
      if (reason === "reset" || this.partner === undefined) return this.#owner.lose(this, reason);
      // One direction of a pipe may go on after the other has ended.
      this.partner.end();
      this.#endPipe();
    }
  }

  /** A pipe is over when both ends have said that they send no more, and all has been passed on. */
  #endPipe(): void {
    const { partner } = this;
    if (this.state !== "open" || !this.hasEnded || !this.#endSent) return;
    if (partner?.hasEnded === true && partner.#endSent) this.#owner.lose(this, "end");
  }

  /** Writes what waits, and says that this is the end when it is. */
  write(): void {
    const bytes = this.queue.startWrite();
    if (bytes !== undefined) {
      this.#writeSince = this.#owner.now;
      this.#arm();
      this.conn.send(bytes, this.queue.ends);
    } else if (this.#endWanted && this.queue.size === 0) {
      if (this.hasEnded && (this.state === "closing" || this.tap !== undefined)) return this.close();
      if (!this.#endSent) this.conn.end();
      this.#endSent = true;
    }
  }

  /** Sends what waits, and then that nothing more follows. */
  end(): void {
    this.#endWanted = true;
    this.#owner.writeLater(this);
  }

  /** The machine is done with it: what was sent still leaves, then it is closed, in bounded time. */
  finish(linger: number = LINGER): void {
    if (this.state !== "open") return;
    // Where nothing was read or sent there is nothing to wait for.
    if (this.mode === "raw" && this.queue.size === 0) return this.close();
    this.state = "closing";
    this.#closeBy = this.#owner.now + linger;
    this.#arm();
    // What still arrives is read and dropped: closing over unread bytes would take back what was just sent.
    this.conn.resume();
    this.end();
  }

  /** The other end of its pipe is gone: what came from there still leaves. */
  finishPipe(): void {
    if (this.queue.size === 0) this.close();
    else this.finish(this.#limits.writeTimeout);
  }

  /** Closes it now. What waits goes as far as the network takes it at once. */
  close(): void {
    if (this.state === "closed") return;
    this.state = "closed";
    const bytes = this.queue.startWrite();
    if (bytes !== undefined) this.conn.send(bytes, this.queue.ends);
    this.conn.close();
    this.#owner.setTimer(this.timer, Infinity);
    this.#owner.forget(this);
  }

  /** Ends framing. What arrived beyond the current frame is kept in `early`. */
  unframe(): void {
    if (this.mode !== "frames") return;
    this.mode = "raw";
    this.#partialSince = Infinity;
    const rest = this.framer.takeRest();
    if (rest.length !== 0) this.early.push(rest);
    this.conn.pause();
  }

  /** From here on the bytes go to `other`, those that came early first. */
  pipeTo(other: FramedStream, meter: PipeMeter | undefined): void {
    this.unframe();
    this.mode = "pipe";
    this.partner = other;
    this.#meter = meter;
    for (const bytes of this.early) {
      other.queue.pushRaw(bytes, 0, bytes.length);
      this.#measure(bytes.length);
    }
    this.early.length = 0;
    this.#owner.writeLater(other);
    this.#readOn();
  }

  /** From here on the bytes go to a shell, those that came early first. */
  detach(tap: StreamTap): void {
    this.unframe();
    this.mode = "detached";
    this.tap = tap;
    for (const bytes of this.early) tap.handleData(bytes);
    this.early.length = 0;
    if (this.hasEnded) tap.handleEnd("end");
    this.#owner.setTimer(this.timer, Infinity);
  }

  /** To be called when frames were taken: watches how long an unfinished one stays so. */
  watchPartial(): void {
    if (this.framer.buffered === 0 || this.mode !== "frames") this.#partialSince = Infinity;
    else if (this.#partialSince === Infinity || this.#partialOf !== this.framer.frames) {
      this.#partialSince = this.#owner.now;
      this.#partialOf = this.framer.frames;
      this.#arm();
    }
  }

  handleTimeout(now: number): void {
    const due = this.#dueAt();
    if (now < due) return this.#owner.setTimer(this.timer, due);
    if (this.state === "closing") return this.close();
    if (this.#heldUntil === due) {
      this.#heldUntil = -Infinity;
      this.#owner.setTimer(this.timer, this.#dueAt());
      return this.#readOn();
    }
    this.#owner.lose(this, "timeout");
  }

  /** When the first limit is passed if nothing happens. */
  #dueAt(): number {
    if (this.mode === "detached") return Infinity;
    if (this.state === "closing") return this.#closeBy;
    const { firstFrameTimeout, frameTimeout, writeTimeout, idleTimeout } = this.#limits;
    // Whoever is slow in a pipe slows the other end down, as if nobody were in between.
    if (this.mode === "pipe") {
      if (this.#heldUntil !== -Infinity) return this.#heldUntil;
      return Math.max(this.#heardAt, this.partner!.#heardAt) + idleTimeout;
    }
    const isFirstDue = this.source !== undefined && this.framer.frames === 0 && this.mode === "frames";
    return Math.min(
      isFirstDue ? this.#startedAt + firstFrameTimeout : Infinity,
      this.#partialSince + frameTimeout,
      this.#writeSince + writeTimeout,
      this.#heardAt + idleTimeout,
    );
  }

  #passOn(other: FramedStream, bytes: Uint8Array, offset: number, length: number): void {
    if (other.state !== "open") return;
    other.queue.pushRaw(bytes, offset, length);
    other.write();
    if (other.queue.isFull) this.conn.pause();
    this.#measure(length);
  }

  #measure(length: number): void {
    const { now } = this.#owner;
    const wait = this.#meter?.pass(this.socket, length, now) ?? 0;
    if (wait <= 0) return;
    this.#heldUntil = now + wait;
    this.conn.pause();
    this.#arm();
  }

  /** Reads on in a pipe, if neither the other end nor the meter is in the way. */
  #readOn(): void {
    if (this.state === "open" && this.#heldUntil === -Infinity && !this.partner!.queue.isFull) this.conn.resume();
  }

  #arm(): void {
    const due = this.#dueAt();
    if (due < this.timer.at) this.#owner.setTimer(this.timer, due);
  }
}
