import type { TransportAddress } from "../address.ts";
import type { NaptrRecord, SrvRecord } from "../locate.ts";
import type { ByteStreamWish, IcmpMessage, OpenFailure, Random, SocketWish, StreamFraming } from "../machine.ts";
import type { DtlsLibrary } from "./dtls.ts";

/** How many bytes are kept free in front of each received datagram: a ChannelData header fits there (RFC 8656 §12.4). */
export const HEADROOM = 4;
/** The largest UDP payload over IPv4. */
export const MAX_DATAGRAM = 65507;
/** The largest UDP payload over IPv6, which any datagram fits in. */
export const RECEIVE_SIZE = 65527;

/**
 * Datagrams on their way in or out, side by side. Received ones lie in memory of the batch's own, `HEADROOM` bytes in;
 * outgoing ones are references to memory that belongs to others.
 */
export class PacketBatch {
  /** How many datagrams there are; entries from here on are leftovers. */
  length = 0;
  /** How many it may hold. */
  readonly capacity: number;
  /** The memory each datagram lies in. */
  readonly buffers: Uint8Array[] = [];
  /** Where in its memory each begins. */
  readonly offsets: number[] = [];
  /** How many bytes each has. */
  readonly lengths: number[] = [];
  /** Who sent it, or who shall get it. */
  readonly addresses: TransportAddress[] = [];

  /**
   * An empty batch.
   *
   * @param capacity How many datagrams it may hold.
   * @param size The payload size of the slots to allocate for receiving; 0 (the default) for an outgoing batch.
   */
  constructor(capacity: number, size = 0) {
    this.capacity = capacity;
    if (size === 0) return;
    for (let i = 0; i < capacity; i++) this.buffers.push(new Uint8Array(HEADROOM + size));
  }

  /** Adds an outgoing datagram. The caller has checked `length < capacity`. */
  push(to: TransportAddress, bytes: Uint8Array, offset: number, length: number): void {
    const i = this.length++;
    this.addresses[i] = to;
    this.buffers[i] = bytes;
    this.offsets[i] = offset;
    this.lengths[i] = length;
  }
}

/** Gets what arrived. The batch and its memory are reused as soon as the call returns. */
export type DatagramReceiver = (batch: PacketBatch) => void;

/** A bound datagram socket. */
export interface DatagramSocket {
  /** The address it is bound to. */
  readonly localAddress: TransportAddress;
  /** How many datagrams could not be handed to the network. They are lost, as datagrams may be. */
  readonly sendErrors: number;
  /** Called when there is one more, unless only the buffers are full: the network may have changed. Set by the driver. */
  onSendError?: (() => void) | undefined;
  /** Sends all of the batch. It may be reused as soon as the call returns. Never throws for what the network says. */
  send(batch: PacketBatch): void;
  /** As `MachineIo.setDontFragment`. Gives whether the system allows it. Missing where it can not be said. */
  setDontFragment?(on: boolean): boolean;
  /**
   * Has ICMP messages about what was sent reported from now on: unreachable, time exceeded, too big. Without it they are
   * ignored. Never called from inside a call to the socket. Missing where the host hears of none.
   *
   * @returns Whether the system allows it.
   */
  reportIcmp?(receiver: (message: IcmpMessage) => void): boolean;
  /** Closes the socket. A second call does nothing. */
  close(): void;
  /** Resolves when it has been closed and its port is free. Missing where `close()` sees to that at once. */
  readonly closed?: Promise<void>;
}

/** What a host tells about a connection. Never called from inside a call to the host. */
export interface ByteStreamReceiver {
  /** Bytes arrived. Their memory is reused as soon as the call returns. A few may still come after `pause()`. */
  onData(bytes: Uint8Array, offset: number, length: number): void;
  /** What `send()` was given last is with the network, and its memory free again. */
  onSent(): void;
  /** Nothing more will arrive: the other end said so, or (`"reset"`) the connection broke. Called at most once. */
  onEnd(reason: "end" | "reset"): void;
}

/** A connection of bytes: TCP, or TLS over it. Nothing is read before `resume()`. */
export interface ByteStream {
  /** What it speaks. On an accepted connection it is known when bytes arrive. */
  readonly transport: "tcp" | "tls";
  /** The address of this end. */
  readonly localAddress: TransportAddress;
  /** The address of the other end. */
  readonly remoteAddress: TransportAddress;
  /** The protocol that TLS agreed on (ALPN). */
  readonly alpn: string | undefined;
  /** Reads on. */
  resume(): void;
  /** Stops reading, so that the network holds the sender back. */
  pause(): void;
  /**
   * Sends `bytes`, which must stay as they are until `onSent()`. One call at a time.
   *
   * @param ends Where each frame in them ends; the last end is theirs. TLS makes a record of each: there are clients that
   * take what one read gives for one message. Default: one frame.
   */
  send(bytes: Uint8Array, ends?: readonly number[]): void;
  /** Says that nothing more will be sent. Reading goes on. Not while a `send()` is under way. */
  end(): void;
  /** Closes at once; what the network has taken still leaves. The receiver hears no more. A second call does nothing. */
  close(): void;
}

/** A certificate chain and its key. */
export interface TlsIdentity {
  /** The certificate and those between it and the authority, PEM. */
  readonly certificate: string;
  /** The private key, PEM. */
  readonly key: string;
}

/** How a server uses TLS. */
export interface TlsServerOptions extends TlsIdentity {
  /** Protocol names to agree on, best first. A client that offers others is refused. Default: RFC 7443's two. */
  readonly alpn?: readonly string[];
  /**
   * Certificates for clients that ask for these names (SNI); the others get the one above. With any, Deno 2.9 keeps some
   * 12 KiB of each connection that breaks off its handshake: where strangers may connect, rather use one certificate with
   * all names. Default: none.
   */
  readonly names?: ReadonlyMap<string, TlsIdentity>;
}

/** What a shell asks of a listening socket. */
export interface StreamListenWish {
  /** What to serve; `"tcp+tls"` is both on one port, told by the first byte. */
  readonly transport: "tcp" | "tls" | "tcp+tls";
  /** The local IP address to bind. */
  readonly address: string;
  /** The local port to bind. `0` lets the host choose. */
  readonly port: number;
  /** Needed for TLS. */
  readonly tls?: TlsServerOptions;
  /** How bytes become packets. With `"raw"` a connection is told of before anything has come by it. Default: `"stun"`. */
  readonly framing?: StreamFraming;
  /** As in `SocketWish`; here any Linux host can. Default: no. */
  readonly isShared?: boolean;
}

/** A listening socket. */
export interface ByteStreamListener {
  /** The address it is bound to. */
  readonly localAddress: TransportAddress;
  /** How many times the host could not accept a connection, for want of file descriptors as it were. */
  readonly acceptErrors: number;
  /**
   * Takes another certificate for the connections to come.
   *
   * @throws {Error} If it can not be used; the old one stays.
   */
  setTls(options: TlsServerOptions): void;
  /** Stops listening. Connections stay. A second call does nothing. */
  close(): void;
  /** Resolves when it has been closed and its port is free. Missing where `close()` sees to that at once. */
  readonly closed?: Promise<void>;
}

/** A connection as its bytes, taken away from a machine. */
export interface DetachedStream {
  /** What arrives. */
  readonly readable: ReadableStream<Uint8Array>;
  /** What to send. Closing it tells the other end that nothing more follows. */
  readonly writable: WritableStream<Uint8Array>;
  /** The address of this end. */
  readonly localAddress: TransportAddress;
  /** The address of the other end. */
  readonly remoteAddress: TransportAddress;
  /** Closes both ways at once. A second call does nothing. */
  close(): void;
}

const FAILURE_TEXT: Readonly<Record<OpenFailure, string>> = {
  "address-in-use": "the port is in use, choose another or end what has it",
  "address-not-available": "this machine has no such address",
  "permission-denied": "permission is denied: Deno needs --allow-net for it, and ports below 1024 need privileges",
  "refused": "nobody listens there",
  "unreachable": "there is no route to it",
  "timeout": "there is no answer",
  "certificate": "its certificate can not be trusted",
  "other": "the system refuses",
};

/** A failure in words, to put behind `Cannot bind ...: `. */
export function openFailureText(failure: OpenFailure): string {
  return FAILURE_TEXT[failure];
}

/** A socket could not be opened. */
export class OpenError extends Error {
  /** `"OpenError"`. */
  override readonly name: string = "OpenError";
  /** Why. */
  readonly failure: OpenFailure;

  /**
   * An error with its reason for programs and its message for people.
   *
   * @param failure Why.
   * @param message What was wanted, for people.
   * @param options The cause.
   */
  constructor(failure: OpenFailure, message: string, options?: ErrorOptions) {
    super(message, options);
    this.failure = failure;
  }
}

/** One address of one network interface. */
export interface LocalInterface {
  /** The interface's name, as `eth0`. */
  readonly name: string;
  /** The IP address, without zone. */
  readonly address: string;
  /** Whether it is one that changes with time, for privacy (RFC 8981), where that is known. */
  readonly isTemporary?: boolean;
  /** Whether it is not to be used for anything new (RFC 4862 §5.5.4), where that is known. */
  readonly isDeprecated?: boolean;
}

/** An alarm that a driver sets and moves. */
export interface HostTimer {
  /** Rings once at this time on the host's clock; replaces an earlier setting. `Infinity` clears it. */
  set(at: number): void;
}

/**
 * A computer as the driver sees it: clock, randomness, sockets, names. There is the one that Deno runs on
 * (`denoHost()`), and any number of them in a virtual internet.
 */
export interface Host {
  /** Monotonic time in milliseconds. */
  now(): number;
  /** Wall-clock time in seconds since 1970 (Unix time). */
  unixTime(): number;
  /** Randomness. */
  readonly random: Random;
  /** Whether its datagram sockets can say that what they send must not be fragmented. Default: no. */
  readonly canSetDontFragment?: boolean;
  /**
   * Whether connections can leave from a given local address, and from the port of a listening socket that is shared.
   * Default: no, or without that.
   */
  readonly canShareStreamPort?: boolean;
  /** A new alarm, not set. */
  createTimer(ring: () => void): HostTimer;
  /**
   * Binds a datagram socket.
   *
   * @throws {OpenError} If it can not.
   */
  openDatagram(wish: SocketWish, receiver: DatagramReceiver): DatagramSocket;
  /**
   * Binds a datagram socket that has joined a group. Missing where there is no multicast. Hosts that are the same computer
   * have the same function.
   *
   * @throws {OpenError} If it can not.
   */
  readonly openGroup?: (wish: SocketWish & { readonly group: string }, receiver: DatagramReceiver) => DatagramSocket;
  /**
   * Connects. Missing where there is no TCP.
   *
   * @param done Called once, later, with the connection or with why there is none. Gives the receiver; the connection
   *   is closed if there is none.
   * @returns Gives up. `done` is not called any more.
   */
  connectStream?(
    wish: ByteStreamWish,
    done: (result: ByteStream | OpenError) => ByteStreamReceiver | undefined,
  ): () => void;
  /**
   * Listens for connections. Missing where there is no TCP.
   *
   * @param accept Called for each connection, before any handshake of TLS. Gives the receiver; the connection is closed
   *   if there is none.
   * @throws {OpenError} If it can not.
   */
  listenStream?(
    wish: StreamListenWish,
    accept: (stream: ByteStream) => ByteStreamReceiver | undefined,
  ): ByteStreamListener;
  /** DTLS over its datagrams. Missing where there is none. */
  readonly dtls?: DtlsLibrary;
  /** The addresses of all network interfaces. */
  interfaces(): readonly LocalInterface[];
  /**
   * The IP addresses of a name, or the address itself if it is one. `signal` ends the wait.
   *
   * @throws {Error} If the name has none.
   */
  resolve(name: string, signal?: AbortSignal): Promise<readonly string[]>;
  /** The IPv4 address of the default router, as far as it can be known or guessed. Missing where there is none. */
  gateway?(): Promise<string | undefined>;
  /** The SRV records of a name, none if it has none. Missing where there is no DNS. */
  resolveSrv?(name: string, signal?: AbortSignal): Promise<readonly SrvRecord[]>;
  /** The NAPTR records of a name, none if it has none. Missing where there is no DNS. */
  resolveNaptr?(name: string, signal?: AbortSignal): Promise<readonly NaptrRecord[]>;
}
