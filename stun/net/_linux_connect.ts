import { Socket } from "node:net";
import { TransportAddress } from "../address.ts";
import type { ByteStreamWish, OpenFailure } from "../machine.ts";
import * as c from "./_libc.ts";
import { writeSockaddr } from "./sockaddr.ts";
import { type ByteStream, type ByteStreamReceiver, OpenError, openFailureText } from "./transport.ts";

/** How often the system is asked whether a connection is there, in ms: soon at first, then seldom. */
const FIRST_LOOK = 1;
const LAST_LOOK = 50;
/** `struct pollfd`: descriptor, what is waited for, what there is. */
const POLLFD_SIZE = 8;
const POLLFD_EVENTS = 4;
const POLLFD_FOUND = 6;
const one = Uint8Array.of(1, 0, 0, 0);

/** Loading the C library takes 3 ms: it stays as long as there are attempts, or connections that were made with it. */
let library: c.Libc | undefined;
let users = 0;

function takeLibrary(): c.Libc {
  library ??= c.openLibc();
  users++;
  return library;
}

function leaveLibrary(): void {
  if (--users > 0) return;
  library?.close();
  library = undefined;
}

/**
 * Connects from a local address and port that the wish names, which Deno itself can not. The port may be that of a
 * listening socket of ours, if that was bound as shared (SO_REUSEPORT). Node's socket carries the connection.
 *
 * @param wish What to connect to, from where. TCP only.
 * @param done As for `Host.connectStream`.
 * @returns Gives up.
 */
export function connectLinuxStream(
  wish: ByteStreamWish,
  done: (result: ByteStream | OpenError) => ByteStreamReceiver | undefined,
): () => void {
  const attempt = new Attempt(wish);
  let timer: ReturnType<typeof setTimeout>;
  let wait = FIRST_LOOK;
  const look = () => {
    const failure = attempt.look();
    if (failure === "under way") {
      timer = setTimeout(look, wait);
      wait = Math.min(2 * wait, LAST_LOOK);
      return;
    }
    if (failure !== undefined) {
      attempt.close();
      return void done(new OpenError(failure, `Cannot connect to TCP ${wish.remote}: ${openFailureText(failure)}`));
    }
    const stream = attempt.finish();
    const receiver = done(stream);
    if (receiver === undefined) stream.close();
    else stream.receiver = receiver;
  };
  timer = setTimeout(look, 0);
  return () => {
    clearTimeout(timer);
    attempt.close();
  };
}

/** A socket of the system's on its way to a connection. */
class Attempt {
  #libc: c.Libc | undefined;
  #remote: TransportAddress;
  #local: TransportAddress;
  #fd = -1;
  #failure: OpenFailure | undefined;

  constructor({ remote, address, port = 0 }: ByteStreamWish) {
    this.#remote = remote;
    this.#local = TransportAddress.of(address ?? (remote.family === 4 ? "0.0.0.0" : "::"), port);
    const libc = this.#libc = takeLibrary();
    const { symbols } = libc;
    this.#fd = symbols.socket(remote.family === 4 ? c.AF_INET : c.AF_INET6, c.SOCK_STREAM_NONBLOCK_CLOEXEC, 0);
    for (const option of [c.SO_REUSEADDR, c.SO_REUSEPORT]) symbols.setsockopt(this.#fd, c.SOL_SOCKET, option, one, 4);
    for (const [call, to] of [[symbols.bind, this.#local], [symbols.connect, remote]] as const) {
      const name = new Uint32Array(c.NAME_SIZE / 4);
      const size = writeSockaddr(to, name, 0, 0);
      if (call(this.#fd, new Uint8Array(name.buffer), size) === 0) continue;
      const errno = libc.errno();
      if (errno !== c.EINPROGRESS) this.#failure = failureOf(errno);
      if (errno !== c.EINPROGRESS) break;
    }
  }

  /** Why there is no connection, `"under way"` as long as that is not known, `undefined` if there is one. */
  look(): OpenFailure | "under way" | undefined {
    if (this.#failure !== undefined) return this.#failure;
    const { symbols } = this.#libc!;
    const poll = new Uint8Array(POLLFD_SIZE);
    const view = new DataView(poll.buffer);
    view.setInt32(0, this.#fd, true);
    view.setInt16(POLLFD_EVENTS, c.POLLOUT, true);
    if (symbols.poll(poll, 1n, 0) <= 0 || view.getInt16(POLLFD_FOUND, true) === 0) return "under way";
    const error = new Uint8Array(4);
    symbols.getsockopt(this.#fd, c.SOL_SOCKET, c.SO_ERROR, error, Uint8Array.of(4, 0, 0, 0));
    const errno = new DataView(error.buffer).getInt32(0, true);
    return errno === 0 ? undefined : failureOf(errno);
  }

  /** The connection. */
  finish(): LinuxStream {
    // Nothing is read before it is wanted. Node's types leave that option out.
    const options = { fd: this.#fd, readable: true, writable: true, allowHalfOpen: true, pauseOnCreate: true };
    const socket = new Socket(options);
    // The connection has both from now on.
    this.#fd = -1;
    this.#libc = undefined;
    // With port 0 the system has chosen one.
    const local = this.#local.port === 0 ? TransportAddress.of(socket.localAddress!, socket.localPort!) : this.#local;
    return new LinuxStream(socket, local, this.#remote);
  }

  close(): void {
    if (this.#fd !== -1) this.#libc?.symbols.close(this.#fd);
    this.#fd = -1;
    if (this.#libc !== undefined) leaveLibrary();
    this.#libc = undefined;
  }
}

/** A connection that is one of Node's. */
class LinuxStream implements ByteStream {
  readonly transport = "tcp";
  readonly alpn = undefined;
  readonly localAddress: TransportAddress;
  readonly remoteAddress: TransportAddress;
  receiver!: ByteStreamReceiver;
  #socket: Socket;
  #isEnded = false;
  #isClosed = false;

  constructor(socket: Socket, localAddress: TransportAddress, remoteAddress: TransportAddress) {
    this.localAddress = localAddress;
    this.remoteAddress = remoteAddress;
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.setKeepAlive(true);
    socket.pause();
    socket.on("data", ({ buffer, byteOffset, byteLength }: Uint8Array) => {
      // Node's Buffer has a `slice()` that shares its memory, which no other Uint8Array has.
      if (!this.#isClosed) this.receiver.onData(new Uint8Array(buffer), byteOffset, byteLength);
    });
    socket.on("end", () => this.#end("end"));
    socket.on("error", () => this.#end("reset"));
    socket.on("close", () => this.#end("reset"));
  }

  resume(): void {
    if (!this.#isClosed) this.#socket.resume();
  }

  pause(): void {
    this.#socket.pause();
  }

  send(bytes: Uint8Array): void {
    if (this.#isClosed) return;
    this.#socket.write(bytes, (error) => {
      // What can not be written is told as "error" too.
      if (!error && !this.#isClosed) this.receiver.onSent();
    });
  }

  end(): void {
    if (!this.#isClosed) this.#socket.end();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#socket.destroy();
    leaveLibrary();
  }

  #end(reason: "end" | "reset"): void {
    if (this.#isEnded || this.#isClosed) return;
    this.#isEnded = true;
    this.receiver.onEnd(reason);
  }
}

function failureOf(errno: number): OpenFailure {
  switch (errno) {
    case c.EADDRINUSE:
      return "address-in-use";
    case c.EADDRNOTAVAIL:
      return "address-not-available";
    case c.EACCES:
    case c.EPERM:
      return "permission-denied";
    case c.ECONNREFUSED:
      return "refused";
    case c.ENETUNREACH:
    case c.EHOSTUNREACH:
      return "unreachable";
    case c.ETIMEDOUT:
      return "timeout";
    default:
      return "other";
  }
}
