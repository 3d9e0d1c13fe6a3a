import type { TransportAddress } from "../address.ts";
import type { OpenFailure, TlsClientOptions } from "../machine.ts";
import type { TlsServerOptions } from "./transport.ts";

/** Where the bytes of a session go. Called inside the session's calls; the memory is reused as soon as these return. */
export interface DtlsCarrier {
  /** A datagram for the other end. */
  onDatagram(bytes: Uint8Array, offset: number, length: number): void;
  /** What the other end said, decrypted. At least 4 bytes before `offset` are free to write to. */
  onPlain(bytes: Uint8Array, offset: number, length: number): void;
}

/** One end of a DTLS association: takes datagrams, gives datagrams. It never waits, and whoever has it keeps its time. */
export interface DtlsSession {
  /** `closed`: the handshake failed, or the other end is gone. It does nothing any more, and wants `close()` still. */
  readonly state: "handshake" | "open" | "closed";
  /** Why it is closed: `"other"` after an end that the other side announced. */
  readonly failure: OpenFailure;
  /** The same for people, as the library says it; empty when there is nothing to say. */
  readonly failureText: string;
  /** In how many ms `handleTimeout()` is due; `Infinity` when nothing waits for an answer. */
  readonly timeLeft: number;
  /** The client's first flight. Not for the server's end. */
  start(): void;
  /** Takes in a datagram. */
  receive(bytes: Uint8Array, offset: number, length: number): void;
  /** Sends in one record. What comes before the handshake is done, or is too long for a record, is lost. */
  send(bytes: Uint8Array, offset: number, length: number): void;
  /** Repeats the last flight of the handshake, if it is time (RFC 6347 §4.2.4). */
  handleTimeout(): void;
  /**
   * Tells the other end (close_notify) and lets go of everything. A second call does nothing.
   *
   * @param isSilent Whether the other end is not told. Default: it is.
   */
  close(isSilent?: boolean): void;
}

/** What a server has for those who are not known yet. It keeps nothing of them (RFC 6347 §4.2.1). */
export interface DtlsDoor {
  /**
   * Takes in a datagram. A ClientHello is answered with a cookie; one that shows the cookie of its sender makes a session,
   * and is its first datagram.
   */
  receive(from: TransportAddress, bytes: Uint8Array, offset: number, length: number): DtlsSession | undefined;
  /**
   * Takes another certificate for the sessions to come.
   *
   * @throws {Error} If it can not be used; the old one stays.
   */
  setTls(options: TlsServerOptions): void;
  /** Lets go of everything but its sessions. */
  close(): void;
}

/** What makes a door's sessions carry. */
export interface DtlsDoorOptions {
  /** Certificate and key. ALPN is not agreed on. */
  readonly tls: TlsServerOptions;
  /** Sends to somebody who is not known yet. The memory is reused as soon as the call returns. */
  readonly answer: (to: TransportAddress, bytes: Uint8Array, offset: number, length: number) => void;
  /** The carrier of a new session. */
  readonly carrier: (from: TransportAddress) => DtlsCarrier;
}

/** A host's DTLS. */
export interface DtlsLibrary {
  /** Why it can not be used, for people; `undefined` when it can. Never asks the user for a permission. */
  readonly obstacle: string | undefined;
  /**
   * The server's end.
   *
   * @throws {OpenError} If the library can not be used, or the certificate.
   */
  open(options: DtlsDoorOptions): DtlsDoor;
  /**
   * The client's end. Without a name in `tls`, the certificate must be for the IP address `address`.
   *
   * @throws {OpenError} If the library can not be used, or the certificates to trust.
   */
  connect(tls: TlsClientOptions, address: string, carrier: DtlsCarrier): DtlsSession;
}
