import type { TransportAddress } from "./address.ts";

/**
 * The contract between protocol machines and whatever drives them.
 *
 * A machine is told what happened (`handle...`) and is handed an `io` that holds the time and randomness and *records*
 * what the machine wants done. It never waits, reads no clock and opens no socket. The same machine therefore runs over
 * real sockets and inside the virtual internet.
 */

/** A socket's number. The driver gives them out; a machine only keeps and compares them. */
export type SocketId = number;

/** Randomness, injected. */
export interface Random {
  /** Fills all of `bytes`. On a real host the bytes are cryptographically strong. */
  fill(bytes: Uint8Array): void;
}

/** A datagram that arrived. The object and its memory are reused: read it inside `handlePacket`, keep nothing of it. */
export interface Packet {
  /** Where it arrived. */
  readonly socket: SocketId;
  /** Who sent it. */
  readonly from: TransportAddress;
  /**
   * The memory it lies in. At least 4 bytes before `offset` are free to write to (room for a ChannelData header), except
   * on a connection, where the frame before may lie there.
   */
  readonly buffer: Uint8Array;
  /** Where in `buffer` it begins. */
  readonly offset: number;
  /** How many bytes it has. */
  readonly length: number;
  /** The datagram as a view, made on each call: for the control path. */
  readonly bytes: Uint8Array;
}

/** What a machine asks of a new socket. */
export interface SocketWish {
  /** The only transport so far. */
  readonly transport: "udp";
  /** The local IP address to bind. */
  readonly address: string;
  /** The local port to bind. `0` lets the host choose. */
  readonly port: number;
  /**
   * The IP address of a multicast group to join on the interface that has `address`. What is sent to the group leaves by
   * it, and other sockets may have the port as well. Default: none.
   */
  readonly group?: string;
  /** Whether the machine is told of ICMP messages about what it sends (`handleIcmp`), where the host can. Default: no. */
  readonly icmp?: boolean;
  /** As `io.setDontFragment`, where the host can: from the first datagram on. Default: as the system sees fit. */
  readonly dontFragment?: boolean;
  /**
   * Whether others that say so may bind the same port: the host spreads the senders over them (SO_REUSEPORT). Only
   * `linuxHost()` can. Default: no.
   */
  readonly isShared?: boolean;
}

/** An ICMP message about a datagram that a socket sent. Anybody can forge one who knows both addresses. */
export interface IcmpMessage {
  /** Who should have had the datagram. The port is 0 where the system does not tell it. */
  readonly to: TransportAddress;
  /** The type, of ICMP or ICMPv6 as `to` is IPv4 or IPv6. */
  readonly type: number;
  /** Its code. */
  readonly code: number;
  /** The MTU that the datagram was too long for, where the message is about that; else 0. */
  readonly mtu: number;
}

/**
 * How the bytes of a connection become packets: by STUN and ChannelData messages, by the length in front of each packet
 * (`"rfc4571"`, as ICE has it over TCP; the first must be a STUN message), or (`"raw"`) as after `io.unframe`.
 */
export type StreamFraming = "stun" | "rfc4571" | "raw";

/** How a client uses TLS or DTLS. */
export interface TlsClientOptions {
  /** The name that the certificate must have, sent as SNI. Default: the remote IP address. */
  readonly serverName?: string;
  /** Certificates (PEM) to trust: of authorities, or one that the server made itself. Default: the usual authorities. */
  readonly ca?: readonly string[];
  /** Protocol names to offer, as RFC 7443's `stun.turn` and `stun.nat-discovery`. Default: none. */
  readonly alpn?: readonly string[];
  /** Accepts any certificate of anybody: for labs, since whoever is in between can then read and change all. Default: no. */
  readonly insecureAcceptAnyCertificate?: boolean;
}

/**
 * What a machine asks of a new connection. A connection is one more socket: each frame of it is a `Packet` from the
 * remote address, and `io.send` on it writes one frame, whatever the address it is given.
 */
export interface StreamWish {
  /** TLS is TLS over TCP. DTLS is over UDP, hence neither reliable nor framed: each record is a packet. */
  readonly transport: "tcp" | "tls" | "dtls";
  /** Where to connect to. */
  readonly remote: TransportAddress;
  /** The local IP address to bind. Default: the host chooses. */
  readonly address?: string;
  /** The local port to bind. Default: the host chooses. It may be that of a listening socket. */
  readonly port?: number;
  /** Whether the host may choose another local address and port where it can not bind these. Default: it may not. */
  readonly isLocalOptional?: boolean;
  /** How to use TLS or DTLS. */
  readonly tls?: TlsClientOptions;
  /** How bytes become packets. Default: `"stun"`. */
  readonly framing?: StreamFraming;
  /** How many ms connecting may take, TLS's handshake included. Default: 39,500 (Ti of RFC 8489 §6.2.2). */
  readonly timeout?: number;
}

/** A `StreamWish` for a connection of bytes. */
export type ByteStreamWish = StreamWish & {
  /** TLS is TLS over TCP. */
  readonly transport: "tcp" | "tls";
};

/**
 * What a machine asks of a listening socket. It hears of each connection at once (`handleAccepted`), before anything has
 * come by it: as after `io.unframe`, bytes are left in the network until `io.join`.
 */
export interface ListenWish {
  /** Listens for TCP. */
  readonly transport: "tcp-listen";
  /** The local IP address to bind. */
  readonly address: string;
  /** The local port to bind. `0` lets the host choose. */
  readonly port: number;
  /** How many connections may be open at a time; more are closed when they come. */
  readonly maxConnections: number;
}

/** What is told of the bytes that go through a pipe, and may slow them down. */
export interface PipeMeter {
  /**
   * Bytes from one end were handed on.
   *
   * @param from The connection that they came by.
   * @param count How many.
   * @param now The time, as `io.now`.
   * @returns For how many ms nothing more is to be read from that end; 0 for no pause.
   */
  pass(from: SocketId, count: number, now: number): number;
}

/** A connection that came in. */
export interface AcceptedConnection {
  /** The number of the listening socket; for DTLS of the UDP socket. */
  readonly listener: SocketId;
  /** What the client speaks. */
  readonly transport: "tcp" | "tls" | "dtls";
  /** The client's address. */
  readonly remoteAddress: TransportAddress;
  /** The address it connected to. */
  readonly localAddress: TransportAddress;
  /** The protocol that TLS agreed on (ALPN), as `stun.turn`. */
  readonly alpn: string | undefined;
}

/**
 * Why a connection is gone: its other end closed it, it broke, what came was no frame, or it took too long (to show a
 * first frame, to finish a frame, to be heard of again).
 */
export type CloseReason = "end" | "reset" | "malformed" | "timeout";

/** Why a socket could not be opened. The last four are about connections. */
export type OpenFailure =
  | "address-in-use"
  | "address-not-available"
  | "permission-denied"
  | "other"
  | "refused"
  | "unreachable"
  | "timeout"
  | "certificate";

/** What a machine may do, valid during the call it is passed to. */
export interface MachineIo<Event = never> {
  /** Monotonic time in milliseconds; constant during a call. */
  readonly now: number;
  /** Wall-clock time in seconds since 1970 (Unix time), which may jump: for what is dated, as credentials are. */
  readonly unixTime: number;
  /** Randomness. */
  readonly random: Random;
  /** Memory to build a message in, with unspecified contents. It is free again when the driver has sent what was recorded. */
  scratch(size: number): Uint8Array;
  /**
   * Records a datagram to send.
   *
   * @param bytes Must stay as it is until the call ends: a received packet's memory or `scratch()`.
   * @param offset Where in `bytes` the datagram begins. Default: 0.
   * @param length How long it is. Default: up to the end of `bytes`.
   */
  send(socket: SocketId, to: TransportAddress, bytes: Uint8Array, offset?: number, length?: number): void;
  /** Asks for a socket. Its number is given at once; `handleOpened` or `handleOpenFailed` follows after the call. */
  open(wish: SocketWish | StreamWish | ListenWish): SocketId;
  /** Closes a socket. What was sent on a connection before still leaves. Connections outlive their listening socket. */
  close(socket: SocketId): void;
  /**
   * Says whether routers may fragment what is sent on a datagram socket from here on (IPv4: no DF bit). If not, what is
   * longer than the path takes is lost, and an ICMP message may say so. Missing where the host can not.
   */
  setDontFragment?(socket: SocketId, on: boolean): void;
  /**
   * Ends the framing of a connection: what follows the current frame is no packet any more but kept, and left unread in
   * the network, for `join` or for the shell (`handle.detach`). Missing where there are no connections.
   */
  unframe?(socket: SocketId): void;
  /**
   * Joins two connections into one pipe (RFC 6062 §5.4): from here on the bytes of each go to the other as they are, early
   * ones too, after what was sent before. An end is passed on as an end, and when there is no more to come from either and
   * all has been sent, or one broke, `handleClosed` follows for both. Missing where there are no connections.
   *
   * @param meter Counts what passes, and may slow it down. Default: nobody does.
   */
  join?(a: SocketId, b: SocketId, meter?: PipeMeter): void;
  /**
   * Hands a datagram to the layer above: what a relay carried, or what an application's peer sent.
   *
   * @param flow Which of a machine's flows it belongs to, as of an ICE agent with several data streams. Default: 0.
   */
  deliver(from: TransportAddress, bytes: Uint8Array, offset?: number, length?: number, flow?: number): void;
  /** Reports something to whoever owns the machine. */
  emit(event: Event): void;
}

/** A protocol machine. `Event` is the union of what it may `emit`. */
export interface Machine<Event = never> {
  /** When `handleTimeout` is due next, on the clock of `io.now`; `Infinity` when nothing is. Cheap to read. */
  readonly deadline: number;
  /** Called at `deadline` or some time after it. */
  handleTimeout(io: MachineIo<Event>): void;
  /** Called for each datagram. */
  handlePacket(packet: Packet, io: MachineIo<Event>): void;
  /** The answer to `io.open`: the socket is bound to `localAddress`. */
  handleOpened?(socket: SocketId, localAddress: TransportAddress, io: MachineIo<Event>): void;
  /** The answer to `io.open`: there is no such socket. `detail` says the same for people, with what was wanted. */
  handleOpenFailed?(socket: SocketId, failure: OpenFailure, io: MachineIo<Event>, detail: string): void;
  /** An ICMP message came about something that was sent on a socket that was opened with `icmp`. */
  handleIcmp?(socket: SocketId, message: IcmpMessage, io: MachineIo<Event>): void;
  /** A connection came in, and its first frame has: `handlePacket` with it follows. By a `ListenWish`: just came in. */
  handleAccepted?(socket: SocketId, connection: AcceptedConnection, io: MachineIo<Event>): void;
  /** A connection is gone, and not by `io.close`. Its number is not used again. */
  handleClosed?(socket: SocketId, reason: CloseReason, io: MachineIo<Event>): void;
}

/** A machine that carries the datagrams of a machine above it, as a TURN client does for an ICE agent. */
export interface Tunnel<Event = never> extends Machine<Event> {
  /** The machine above sends a datagram. What arrives for it goes up by `io.deliver`. */
  handleSend(to: TransportAddress, bytes: Uint8Array, offset: number, length: number, io: MachineIo<Event>): void;
}

/** A point in time that a `DeadlineHeap` knows of. The owner finds its way back by `owner`. */
export class Timer<Owner> {
  /** What the timer is for. */
  readonly owner: Owner;
  /** When it is due; `Infinity` when it is not set. */
  at: number = Infinity;
  /** Its place in the heap; -1 when it is not set. */
  index: number = -1;

  /** A timer that is not set. */
  constructor(owner: Owner) {
    this.owner = owner;
  }
}

/** The timers of one machine, earliest first. Setting and clearing cost O(log n), reading the earliest O(1). */
export class DeadlineHeap<Owner> {
  #heap: Timer<Owner>[] = [];

  /** When the earliest timer is due, `Infinity` when none is set. */
  get deadline(): number {
    return this.#heap.length === 0 ? Infinity : this.#heap[0]!.at;
  }

  /** How many timers are set. */
  get size(): number {
    return this.#heap.length;
  }

  /** Sets or moves a timer; `Infinity` clears it. */
  set(timer: Timer<Owner>, at: number): void {
    if (at === Infinity) return this.clear(timer);
    timer.at = at;
    if (timer.index === -1) {
      timer.index = this.#heap.length;
      this.#heap.push(timer);
    }
    this.#down(this.#up(timer.index));
  }

  /** Takes a timer out. A timer that is not set stays so. */
  clear(timer: Timer<Owner>): void {
    const index = timer.index;
    if (index === -1) return;
    timer.index = -1;
    timer.at = Infinity;
    const last = this.#heap.pop()!;
    if (last === timer) return;
    this.#heap[index] = last;
    last.index = index;
    this.#down(this.#up(index));
  }

  /** Takes out and gives the earliest timer that is due at `now`, if there is one. Call it until there is none. */
  expire(now: number): Timer<Owner> | undefined {
    const first = this.#heap[0];
    if (first === undefined || first.at > now) return undefined;
    this.clear(first);
    return first;
  }

  #up(index: number): number {
    const timer = this.#heap[index]!;
    while (index > 0) {
      const parentIndex = (index - 1) >> 1;
      const parent = this.#heap[parentIndex]!;
      if (parent.at <= timer.at) break;
      this.#place(parent, index);
      index = parentIndex;
    }
    this.#place(timer, index);
    return index;
  }

  #down(index: number): void {
    const timer = this.#heap[index]!;
    const length = this.#heap.length;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= length) break;
      if (child + 1 < length && this.#heap[child + 1]!.at < this.#heap[child]!.at) child++;
      if (this.#heap[child]!.at >= timer.at) break;
      this.#place(this.#heap[child]!, index);
      index = child;
    }
    this.#place(timer, index);
  }

  #place(timer: Timer<Owner>, index: number): void {
    this.#heap[index] = timer;
    timer.index = index;
  }
}
