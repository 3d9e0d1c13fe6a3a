import type { TransportAddress } from "../address.ts";
import type { SocketId } from "../machine.ts";
import type { BoundSocket } from "./machine_handle.ts";
import type { TlsServerOptions } from "./transport.ts";

/** What connections may take of time and memory. A DTLS association is one. */
export interface StreamLimits {
  /** How many connections a listening socket has at once; more are closed when they come. Default: 10,000. */
  readonly maxConnections?: number;
  /** How many of them from one IPv4 address, or one /64 of IPv6. Default: 256. */
  readonly maxPerAddress?: number;
  /** How many ms a client has for the handshake of TLS and its first frame. Default: 10,000. */
  readonly firstFrameTimeout?: number;
  /** How many ms a frame may take from its first byte to its last. Default: 30,000. */
  readonly frameTimeout?: number;
  /** How many ms a write may take, before the other end is taken for dead; not in a pipe (`io.join`). Default: 60,000. */
  readonly writeTimeout?: number;
  /** How many ms without a byte either way. Default: 3,660,000, longer than any allocation (RFC 8656 §7.2). */
  readonly idleTimeout?: number;
  /** How many bytes may wait to be written; what comes on top is dropped, frame by frame. Default: 262,144. */
  readonly queueLimit?: number;
}

/** What `StreamLimits` has where nothing is said. */
export const DEFAULT_STREAM_LIMITS: Required<StreamLimits> = {
  maxConnections: 10_000,
  maxPerAddress: 256,
  firstFrameTimeout: 10_000,
  frameTimeout: 30_000,
  writeTimeout: 60_000,
  idleTimeout: 3_660_000,
  queueLimit: 262_144,
};

/** Counts of all connections of a driver, DTLS associations among them. */
export interface StreamStats {
  /** Connections that came in and were taken. */
  readonly accepted: number;
  /** Connections that were made. */
  readonly connected: number;
  /** Connections that are open now. */
  readonly open: number;
  /** Connections closed at once as there were `maxConnections`. */
  readonly refused: number;
  /** Connections closed at once as there were `maxPerAddress`. */
  readonly refusedPerAddress: number;
  /** Connections closed for something that was no frame, or no handshake of DTLS. */
  readonly malformed: number;
  /** Connections closed as one of the time limits passed. */
  readonly timedOut: number;
  /** Frames dropped as too much waited already. */
  readonly dropped: number;
  /** Datagrams of DTLS from those who had not shown a cookie yet. Nothing was kept of them. */
  readonly challenged: number;
}

/** A listening socket, as its shell sees it. */
export interface StreamListener {
  /** The number the machine knows it by. */
  readonly socket: SocketId;
  /** The address it is bound to. */
  readonly localAddress: TransportAddress;
  /** How many times a connection could not be accepted, for want of file descriptors as it were. */
  readonly acceptErrors: number;
  /** How many connections it has. */
  readonly connections: number;
  /**
   * Takes another certificate for the connections to come.
   *
   * @throws {Error} If it can not be used; the old one stays.
   */
  setTls(options: TlsServerOptions): void;
  /** Stops listening. Connections stay. A second call does nothing. */
  close(): void;
}

/** What DTLS on a UDP socket is served with. */
export interface DtlsListenOptions {
  /** Certificate and key. ALPN is not agreed on. */
  readonly tls: TlsServerOptions;
  /**
   * What associations may take of time and memory; `firstFrameTimeout` is for the handshake as well.
   * Defaults: `DEFAULT_STREAM_LIMITS`.
   */
  readonly limits?: StreamLimits;
  /** Whether what is not DTLS is dropped. Default: no, the machine gets it. */
  readonly only?: boolean;
}

/** A UDP socket that serves DTLS, as its shell sees it. Closing the socket closes its associations. */
export interface DtlsListener extends BoundSocket {
  /** How many associations it has. */
  readonly connections: number;
  /**
   * Takes another certificate for the associations to come.
   *
   * @throws {Error} If it can not be used; the old one stays.
   */
  setTls(options: TlsServerOptions): void;
}
