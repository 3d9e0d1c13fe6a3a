import type { TransportAddress } from "../address.ts";
import { framePadding } from "../framing.ts";
import { type AcceptedConnection, type CloseReason, type Packet, type SocketId, Timer } from "../machine.ts";
import type { Due } from "./_framed_stream.ts";
import type { DtlsCarrier, DtlsSession } from "./dtls.ts";
import type { MachineHandle } from "./machine_handle.ts";
import { HEADROOM } from "./transport.ts";

/** Where a record's handshake message begins (RFC 6347 §4.1). */
const RECORD_HEADER = 13;

/** How many ms an association may take. */
export interface AssociationLimits {
  /** For the handshake, and a server's client's first message. */
  readonly startTimeout: number;
  /** Without a message from the other end. */
  readonly idleTimeout: number;
}

/** What an association asks of the layer that holds it. */
export interface AssociationOwner {
  readonly now: number;
  /** Memory that is good until the turn ends. */
  scratch(size: number): Uint8Array;
  /** Sends a datagram. */
  sendDatagram(udp: SocketId, to: TransportAddress, bytes: Uint8Array, length: number): void;
  /** A client's handshake is done. */
  connected(association: DtlsAssociation): void;
  /** A message is there. */
  receive(association: DtlsAssociation): void;
  /** It is gone by itself: the machine is to be told. */
  lose(association: DtlsAssociation, reason: CloseReason): void;
  setTimer(timer: Timer<Due>, at: number): void;
  /** It is closed. */
  forget(association: DtlsAssociation): void;
}

/** What an association is made from. */
export interface AssociationSetup {
  readonly handle: MachineHandle<unknown>;
  /** The UDP socket that carries it. */
  readonly udp: SocketId;
  readonly localAddress: TransportAddress;
  readonly from: TransportAddress;
  readonly limits: AssociationLimits;
  readonly isServer: boolean;
}

/** A DTLS association in the driver: one more socket, whose packets are what its records carry. */
export class DtlsAssociation implements DtlsCarrier, Due, Packet {
  readonly timer: Timer<Due> = new Timer<Due>(this);
  readonly handle: MachineHandle<unknown>;
  readonly udp: SocketId;
  readonly from: TransportAddress;
  readonly localAddress: TransportAddress;
  readonly isServer: boolean;
  /** The number the machine knows it by; 0 before the machine does. */
  socket: SocketId = 0;
  /** Set right after it was made. */
  session!: DtlsSession;
  // As a Packet: the current message.
  buffer: Uint8Array = new Uint8Array(0);
  readonly offset: number = HEADROOM;
  length = 0;
  isClosed = false;
  #owner: AssociationOwner;
  #limits: AssociationLimits;
  #hello: Uint8Array | undefined;
  #isStarted = false;
  #startedAt: number;
  #heardAt: number;

  constructor(owner: AssociationOwner, setup: AssociationSetup) {
    this.#owner = owner;
    this.handle = setup.handle;
    this.udp = setup.udp;
    this.from = setup.from;
    this.localAddress = setup.localAddress;
    this.isServer = setup.isServer;
    this.#limits = setup.limits;
    this.#startedAt = this.#heardAt = owner.now;
  }

  get bytes(): Uint8Array {
    return this.buffer.subarray(this.offset, this.offset + this.length);
  }

  /** What a machine is told of it. */
  get accepted(): AcceptedConnection {
    const { udp: listener, from: remoteAddress, localAddress } = this;
    return { listener, transport: "dtls", remoteAddress, localAddress, alpn: undefined };
  }

  /** Keeps the ClientHello that it began with, so that a late copy of that is told from a new beginning. */
  noteHello({ buffer, offset, length }: Packet): void {
    this.#hello = buffer.slice(offset + RECORD_HEADER, offset + length);
  }

  /** Whether the client begins anew from the same address and port (RFC 6347 §4.2.8). */
  isRestart({ buffer, offset, length }: Packet): boolean {
    if (this.session.state !== "open" || length <= RECORD_HEADER || !isClientHello(buffer, offset)) return false;
    const hello = this.#hello;
    if (hello === undefined || hello.length !== length - RECORD_HEADER) return true;
    return hello.some((byte, i) => byte !== buffer[offset + RECORD_HEADER + i]);
  }

  /** A datagram from the other end. */
  handleDatagram({ buffer, offset, length }: Packet): void {
    this.session.receive(buffer, offset, length);
    this.settle();
  }

  /**
   * Sends a message. ChannelData is padded, as on TCP: RFC 8656 §12.5 leaves it free over UDP, and there are servers and
   * clients that read DTLS as the stream that TLS is.
   */
  send(bytes: Uint8Array, offset: number, length: number): void {
    if (this.isClosed || length === 0) return;
    const padding = bytes[offset]! >> 6 === 1 ? framePadding(length) : 0;
    if (padding === 0) this.session.send(bytes, offset, length);
    else {
      const padded = this.#owner.scratch(length + padding);
      padded.set(bytes.subarray(offset, offset + length));
      padded.fill(0, length);
      this.session.send(padded, 0, padded.length);
    }
    this.settle();
  }

  onDatagram(bytes: Uint8Array, offset: number, length: number): void {
    // What is sent in this turn must stay as it is until the turn ends; the session's memory does not.
    const kept = this.#owner.scratch(length);
    kept.set(bytes.subarray(offset, offset + length));
    this.#owner.sendDatagram(this.udp, this.from, kept, length);
  }

  onPlain(bytes: Uint8Array, offset: number, length: number): void {
    if (this.isClosed) return;
    const kept = this.#owner.scratch(HEADROOM + length);
    kept.set(bytes.subarray(offset, offset + length), HEADROOM);
    this.buffer = kept;
    this.length = length;
    this.#start();
    this.#heardAt = this.#owner.now;
    this.#owner.receive(this);
  }

  /** To be called when the session has done something: sees to its end and its time. */
  settle(): void {
    if (this.isClosed) return;
    const { state, failureText } = this.session;
    if (state === "closed") return this.#owner.lose(this, failureText === "" ? "end" : "reset");
    if (!this.isServer && state === "open") this.#start();
    const due = this.#dueAt();
    // In the middle of a handshake the time is exact; later the timer may ring too early, which spares moving it.
    if (state === "handshake" || due < this.timer.at) this.#owner.setTimer(this.timer, due);
  }

  /** The machine is done with it. `isSilent`: the other end is not told. */
  finish(isSilent = false): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.session.close(isSilent);
    this.#owner.setTimer(this.timer, Infinity);
    this.#owner.forget(this);
  }

  handleTimeout(now: number): void {
    this.#owner.setTimer(this.timer, Infinity);
    if (this.isClosed) return;
    if (now >= this.#limit()) return this.#owner.lose(this, "timeout");
    this.session.handleTimeout();
    this.settle();
  }

  #start(): void {
    if (this.#isStarted) return;
    this.#isStarted = true;
    if (!this.isServer) this.#owner.connected(this);
  }

  #limit(): number {
    const { startTimeout, idleTimeout } = this.#limits;
    return this.#isStarted ? this.#heardAt + idleTimeout : this.#startedAt + startTimeout;
  }

  #dueAt(): number {
    return Math.min(this.#limit(), this.#owner.now + this.session.timeLeft);
  }
}

/** A handshake record of the first epoch, and in it a ClientHello (RFC 6347 §4.1, §4.2.2). */
function isClientHello(buffer: Uint8Array, offset: number): boolean {
  return buffer[offset] === 22 && buffer[offset + 3] === 0 && buffer[offset + 4] === 0 &&
    buffer[offset + RECORD_HEADER] === 1;
}
