import type { TransportAddress } from "../address.ts";
import { type CloseReason, DeadlineHeap, type SocketId, type StreamWish, type Timer } from "../machine.ts";
import { type AssociationOwner, DtlsAssociation } from "./_dtls_association.ts";
import { DtlsPort } from "./_dtls_port.ts";
import type { Due } from "./_framed_stream.ts";
import type { Driver } from "./driver.ts";
import type { DtlsLibrary } from "./dtls.ts";
import type { MachineHandle } from "./machine_handle.ts";
import { defaultLocalAddress } from "./server_address.ts";
import type { DtlsListenOptions, StreamStats } from "./streams.ts";
import { OpenError, openFailureText } from "./transport.ts";

const CONNECT_TIMEOUT = 39_500;

/** Counts of associations. */
export interface DtlsCounts {
  accepted: number;
  connected: number;
  refused: number;
  refusedPerAddress: number;
  malformed: number;
  timedOut: number;
  challenged: number;
}

/** A client's association that is on its way. */
interface Connecting {
  readonly association: DtlsAssociation;
  readonly done: (result: DtlsAssociation | OpenError) => void;
}

/** The driver's DTLS associations. */
export class DtlsTable implements AssociationOwner {
  readonly counts: DtlsCounts = {
    accepted: 0,
    connected: 0,
    refused: 0,
    refusedPerAddress: 0,
    malformed: 0,
    timedOut: 0,
    challenged: 0,
  };
  #driver: Driver;
  #deadlines = new DeadlineHeap<Due>();
  #associations = new Set<DtlsAssociation>();
  #ports = new Map<SocketId, DtlsPort>();
  #pending = new Map<SocketId, Connecting>();

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

  /** Counts of all connections, from those of the others. */
  addTo(streams: Omit<StreamStats, "challenged">): StreamStats {
    const { accepted, connected, refused, refusedPerAddress, malformed, timedOut, challenged } = this.counts;
    return {
      accepted: streams.accepted + accepted,
      connected: streams.connected + connected,
      open: streams.open + this.#associations.size,
      refused: streams.refused + refused,
      refusedPerAddress: streams.refusedPerAddress + refusedPerAddress,
      malformed: streams.malformed + malformed,
      timedOut: streams.timedOut + timedOut,
      dropped: streams.dropped,
      challenged,
    };
  }

  /** Handles what is due at `now`. */
  expire(now: number): void {
    for (let due = this.#deadlines.expire(now); due !== undefined; due = this.#deadlines.expire(now)) {
      const association = due.owner as DtlsAssociation;
      this.#driver.turn(association.handle, () => association.handleTimeout(now));
    }
  }

  /**
   * Makes the server's side of a UDP socket.
   *
   * @throws {OpenError} If the host has no DTLS, or the certificate can not be used.
   */
  listen(
    handle: MachineHandle<unknown>,
    socket: SocketId,
    options: DtlsListenOptions,
  ): DtlsPort {
    const port = new DtlsPort(this, handle, socket, this.#library(), options);
    this.#ports.set(socket, port);
    return port;
  }

  /** Connects. `done` is called once, later or at once. */
  connect(
    handle: MachineHandle<unknown>,
    socket: SocketId,
    wish: StreamWish,
    done: (result: DtlsAssociation | OpenError) => void,
  ): void {
    const { remote, timeout = CONNECT_TIMEOUT } = wish;
    const local = { address: wish.address ?? defaultLocalAddress(remote), port: wish.port ?? 0 };
    let udp: SocketId | undefined;
    try {
      const library = this.#library();
      const bound = this.#driver.bindFor(handle, { transport: "udp", ...local }, {
        take(packet) {
          if (packet.from.equals(remote)) association.handleDatagram(packet);
          return true;
        },
      });
      udp = bound.socket;
      const limits = { startTimeout: timeout, idleTimeout: Infinity };
      const setup = { handle, udp, localAddress: bound.localAddress, from: remote, limits, isServer: false };
      const association = new DtlsAssociation(this, setup);
      association.session = library.connect(wish.tls ?? {}, remote.address, association);
      association.socket = socket;
      this.#associations.add(association);
      this.#pending.set(socket, { association, done });
      this.#driver.turn(handle, () => {
        association.session.start();
        association.settle();
      });
    } catch (error) {
      if (!(error instanceof OpenError)) throw error;
      if (udp !== undefined) this.#driver.closeSocket(udp);
      done(error);
    }
  }

  /** Gives up connecting. */
  cancel(socket: SocketId): void {
    const attempt = this.#pending.get(socket);
    this.#pending.delete(socket);
    attempt?.association.finish();
  }

  /** Lets go of what a machine waits for. The rest goes with its sockets. */
  remove(handle: MachineHandle<unknown>): void {
    for (const [socket, { association }] of this.#pending) if (association.handle === handle) this.cancel(socket);
  }

  connected(association: DtlsAssociation): void {
    const attempt = this.#pending.get(association.socket);
    if (attempt === undefined) return;
    this.#pending.delete(association.socket);
    this.counts.connected++;
    attempt.done(association);
  }

  receive(association: DtlsAssociation): void {
    const { handle } = association;
    if (handle.removed) return;
    if (association.socket === 0) {
      // A machine hears of an association with its first message: what never sends one costs it nothing.
      association.socket = this.#driver.register(handle, association);
      handle.machine.handleAccepted?.(association.socket, association.accepted, handle.io);
    }
    if (!association.isClosed) handle.machine.handlePacket(association, handle.io);
  }

  lose(association: DtlsAssociation, reason: CloseReason, isSilent = false): void {
    if (association.isClosed) return;
    const { handle, socket, session, from } = association;
    if (reason === "timeout") this.counts.timedOut++;
    if (reason === "reset") this.counts.malformed++;
    const { failure, failureText } = session;
    association.finish(isSilent);
    const attempt = this.#pending.get(socket);
    if (attempt !== undefined) {
      this.#pending.delete(socket);
      const why = reason === "timeout" ? "timeout" : failure;
      const text = why === "timeout" ? openFailureText(why) : failureText || openFailureText(why);
      return attempt.done(new OpenError(why, `Cannot connect to DTLS ${from}: ${text}`));
    }
    if (socket === 0) return;
    this.#driver.unregister(socket);
    if (!handle.removed) handle.call((io) => handle.machine.handleClosed?.(socket, reason, io));
  }

  scratch(size: number): Uint8Array {
    return this.#driver.scratch(size);
  }

  sendDatagram(udp: SocketId, to: TransportAddress, bytes: Uint8Array, length: number): void {
    this.#driver.send(udp, to, bytes, 0, length);
  }

  setTimer(timer: Timer<Due>, at: number): void {
    this.#deadlines.set(timer, at);
    this.#driver.rearm();
  }

  /** A new one of a server. */
  add(association: DtlsAssociation): void {
    this.counts.accepted++;
    this.#associations.add(association);
  }

  forget(association: DtlsAssociation): void {
    this.#associations.delete(association);
    if (association.isServer) this.#ports.get(association.udp)?.forget(association);
    // What it has just sent, close_notify as it were, goes before.
    else this.#driver.closeSocket(association.udp);
  }

  /** The UDP socket is closed. */
  closePort(socket: SocketId): void {
    const port = this.#ports.get(socket);
    if (port === undefined) return;
    for (const association of this.#associations) if (association.udp === socket) this.lose(association, "end");
    this.#ports.delete(socket);
    port.closeDoor();
  }

  /** Closes everything; what is to be said is recorded. */
  close(): void {
    this.#pending.clear();
    for (const association of this.#associations) association.finish();
    for (const port of this.#ports.values()) port.closeDoor();
    this.#ports.clear();
  }

  #library(): DtlsLibrary {
    const { dtls } = this.#driver.host;
    if (dtls === undefined) throw new OpenError("other", "Cannot use DTLS as this host has none");
    return dtls;
  }
}
