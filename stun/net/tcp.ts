import { TransportAddress } from "../address.ts";
import type { ByteStreamWish, OpenFailure, TlsClientOptions } from "../machine.ts";
import { type TlsCarrier, TlsEngine, type TlsServerContext, tlsServerContext } from "./_tls.ts";
import {
  type ByteStream,
  type ByteStreamListener,
  type ByteStreamReceiver,
  OpenError,
  openFailureText,
  type StreamListenWish,
  type TlsServerOptions,
} from "./transport.ts";

// Most reads bring one frame; a read that fills its memory gets a large one for the next. One is parked at every
// connection, so its size is what an idle connection costs.
const SMALL_READ = 2048;
const LARGE_READ = 65536;
const SPARES = 32;
const spares: Uint8Array<ArrayBuffer>[] = [];
/** The first byte of a TLS ClientHello: content type handshake (RFC 8446 §5.1). STUN begins with 0 to 3. */
const TLS_HANDSHAKE = 0x16;
/** How long a host out of file descriptors is left alone before it is asked for the next connection. */
const ACCEPT_PAUSE = 100;

/**
 * Connects by `Deno.connect`. `done` is called once, later.
 *
 * @param wish What to connect to. A local address or port can not be chosen, and is left out if it is optional.
 * @param done Gets the connection or an `OpenError`, and gives the receiver; without one the connection is closed.
 * @returns Gives up.
 */
export function connectDenoStream(
  wish: ByteStreamWish,
  done: (result: ByteStream | OpenError) => ByteStreamReceiver | undefined,
): () => void {
  const aborter = new AbortController();
  connect(wish, aborter.signal).then((stream) => {
    if (aborter.signal.aborted) return stream.close();
    const receiver = done(stream);
    if (receiver === undefined) stream.close();
    else stream.receiver = receiver;
  }, (error) => {
    if (!aborter.signal.aborted) done(error as OpenError);
  });
  return () => aborter.abort();
}

async function connect(wish: ByteStreamWish, signal: AbortSignal): Promise<DenoStream> {
  const { remote, transport, tls = {} } = wish;
  const where = `${transport.toUpperCase()} ${remote}`;
  if ((wish.address !== undefined || wish.port !== undefined) && wish.isLocalOptional !== true) {
    throw new OpenError("other", `Cannot connect to ${where} from a given local address: Deno can not choose one`);
  }
  let conn: Deno.TcpConn;
  try {
    conn = await Deno.connect({ hostname: remote.address, port: remote.port, signal });
    try {
      conn.setNoDelay(true);
      conn.setKeepAlive(true);
    } catch { /* the server has reset it already, as reading will tell */ }
  } catch (cause) {
    throw failed(`connect to ${where}`, cause);
  }
  const stream = new DenoStream(conn, transport);
  if (transport === "tcp") return stream;
  try {
    await handshake(stream, tls, signal);
    return stream;
  } catch (cause) {
    stream.close();
    throw failed(`connect to ${where}`, cause);
  }
}

/** The client's half of TLS's handshake. Nothing is read after it. */
function handshake(stream: DenoStream, options: TlsClientOptions, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  stream.receiver = {
    onData() {},
    onSent() {},
    onEnd: () => reject(stream.error ?? new Error("the connection ended in the handshake")),
  };
  stream.secure((carrier) => TlsEngine.client(options, stream.remoteAddress.address, carrier), () => {
    stream.pause();
    resolve();
  });
  stream.resume();
  return promise;
}

/**
 * Listens by `Deno.listen`.
 *
 * @throws {OpenError} If it can not.
 */
export function listenDenoStream(
  wish: StreamListenWish,
  accept: (stream: ByteStream) => ByteStreamReceiver | undefined,
): ByteStreamListener {
  const context = wish.transport === "tcp" ? undefined : tlsServerContext(wish.tls);
  try {
    const listener = Deno.listen({
      transport: "tcp",
      hostname: wish.address,
      port: wish.port,
      reusePort: wish.isShared === true,
    });
    return new DenoStreamListener(listener, { wish, context, accept });
  } catch (cause) {
    throw failed(`listen on TCP ${wish.address} port ${wish.port}`, cause);
  }
}

interface ListenerOptions {
  readonly wish: StreamListenWish;
  readonly context: TlsServerContext | undefined;
  readonly accept: (stream: ByteStream) => ByteStreamReceiver | undefined;
}

class DenoStreamListener implements ByteStreamListener {
  readonly localAddress: TransportAddress;
  readonly closed: Promise<void>;
  acceptErrors = 0;
  #listener: Deno.TcpListener;
  #options: ListenerOptions;
  #context: TlsServerContext | undefined;
  #pause: { timer: ReturnType<typeof setTimeout>; over: () => void } | undefined;
  #closed = false;

  constructor(listener: Deno.TcpListener, options: ListenerOptions) {
    this.#listener = listener;
    this.#options = options;
    this.#context = options.context;
    this.localAddress = addressOf(listener.addr);
    // The port is free when the last accept has been given up.
    this.closed = this.#acceptAll();
  }

  setTls(options: TlsServerOptions): void {
    this.#context = tlsServerContext(options);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#listener.close();
    clearTimeout(this.#pause?.timer);
    this.#pause?.over();
  }

  async #acceptAll(): Promise<void> {
    // None is begun for who closes the listener right away.
    await Promise.resolve();
    while (!this.#closed) {
      let conn: Deno.TcpConn;
      try {
        conn = await this.#listener.accept();
      } catch {
        // EMFILE passes when other connections end, ECONNABORTED is one client's affair: neither ends the listener.
        if (this.#closed) return;
        this.acceptErrors++;
        await new Promise<void>((over) => this.#pause = { over, timer: setTimeout(over, ACCEPT_PAUSE) });
        continue;
      }
      if (this.#closed) return closeConn(conn);
      this.#take(conn);
    }
  }

  #take(conn: Deno.TcpConn): void {
    try {
      conn.setNoDelay(true);
      conn.setKeepAlive(true);
    } catch { /* the client is gone already, as reading will tell */ }
    const { transport } = this.#options.wish;
    const stream = new DenoStream(conn, transport === "tls" ? "tls" : "tcp");
    if (transport !== "tcp") {
      stream.sniff = (first) => {
        if (first !== TLS_HANDSHAKE) return transport === "tcp+tls";
        stream.secure((carrier) => TlsEngine.server(this.#context!, carrier), () => {});
        return true;
      };
    }
    const receiver = this.#options.accept(stream);
    if (receiver === undefined) stream.close();
    else stream.receiver = receiver;
  }
}

/** A connection over one of Deno's, with TLS of ours in between if `secure()` was called. */
class DenoStream implements ByteStream {
  transport: "tcp" | "tls";
  readonly localAddress: TransportAddress;
  readonly remoteAddress: TransportAddress;
  alpn: string | undefined;
  receiver!: ByteStreamReceiver;
  /** What went wrong in TLS. */
  error: Error | undefined;
  /** Looks at the first byte, and gives whether the connection may go on. */
  sniff: ((first: number) => boolean) | undefined;
  #conn: Deno.Conn;
  #engine: TlsEngine | undefined;
  #wanted = false;
  #reading = false;
  #ended = false;
  #closed = false;

  constructor(conn: Deno.TcpConn, transport: "tcp" | "tls") {
    this.#conn = conn;
    this.transport = transport;
    this.localAddress = addressOf(conn.localAddr);
    this.remoteAddress = addressOf(conn.remoteAddr);
  }

  /** Puts TLS in between. */
  secure(start: (carrier: TlsCarrier) => TlsEngine, done: () => void): void {
    this.transport = "tls";
    this.#engine = start({
      write: (bytes) => this.#writeAll(bytes),
      end: () => this.#closeWrite(),
      onSecure: (alpn) => {
        this.alpn = alpn;
        done();
      },
      onPlain: (bytes) => {
        if (!this.#closed) this.receiver.onData(bytes, 0, bytes.length);
      },
      onSent: () => {
        if (!this.#closed) this.receiver.onSent();
      },
      onEnd: () => this.#end("end"),
      onError: (error) => {
        this.error ??= error;
        this.#end("reset");
      },
    });
  }

  resume(): void {
    this.#wanted = true;
    if (!this.#reading && !this.#ended) this.#read();
  }

  pause(): void {
    this.#wanted = false;
  }

  send(bytes: Uint8Array, ends: readonly number[] = []): void {
    if (this.#closed) return;
    if (this.#engine !== undefined) return this.#engine.send(bytes, ends);
    this.#writeAll(bytes).then(() => {
      if (!this.#closed) this.receiver.onSent();
    }, () => this.#end("reset"));
  }

  end(): void {
    if (this.#closed) return;
    if (this.#engine !== undefined) this.#engine.end();
    else this.#closeWrite();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#engine?.close();
    closeConn(this.#conn);
  }

  #closeWrite(): void {
    if (!this.#closed) this.#conn.closeWrite().catch(() => this.#end("reset"));
  }

  async #writeAll(bytes: Uint8Array): Promise<void> {
    for (let written = 0; written < bytes.length;) {
      written += await this.#conn.write(written === 0 ? bytes : bytes.subarray(written));
    }
  }

  async #read(): Promise<void> {
    this.#reading = true;
    const small = new Uint8Array(SMALL_READ);
    let memory = small;
    while (this.#wanted && !this.#closed) {
      let count: number | null;
      try {
        count = await this.#conn.read(memory);
      } catch {
        this.#reading = false;
        return this.#end("reset");
      }
      if (this.#closed) break;
      if (count === null) {
        this.#reading = false;
        return this.#end("end");
      }
      this.#take(memory, count);
      if (count === memory.length) memory = memory === small ? spares.pop() ?? new Uint8Array(LARGE_READ) : memory;
      else if (memory !== small && count < SMALL_READ) {
        if (spares.length < SPARES) spares.push(memory);
        memory = small;
      }
    }
    this.#reading = false;
  }

  #take(memory: Uint8Array, count: number): void {
    const { sniff } = this;
    if (sniff !== undefined) {
      this.sniff = undefined;
      if (!sniff(memory[0]!)) return this.#end("reset");
    }
    if (this.#engine !== undefined) this.#engine.feed(memory.slice(0, count));
    else this.receiver.onData(memory, 0, count);
  }

  #end(reason: "end" | "reset"): void {
    if (this.#ended || this.#closed) return;
    this.#ended = true;
    this.receiver.onEnd(reason);
  }
}

/** The other side, or the abort of a handshake, may have closed it already. */
function closeConn(conn: { close(): void }): void {
  try {
    conn.close();
  } catch { /* closed already */ }
}

/** By the codes that Node has from OpenSSL (X509_V_ERR_...), and those of its own. */
function isCertificateError(code = ""): boolean {
  return /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|ISSUER|^CRL_|^INVALID_CA$|^HOSTNAME_MISMATCH$/.test(code);
}

function addressOf(address: Deno.Addr): TransportAddress {
  const { hostname, port } = address as Deno.NetAddr;
  return TransportAddress.of(hostname, port);
}

/** Our own words for what is usual; of what is not, Deno knows more. */
function failed(doing: string, cause: unknown): OpenError {
  const failure = failureOf(cause);
  const { code = "", message = "" } = cause as { code?: string; message?: string };
  const why = failure === "certificate"
    ? certificateText(code, message)
    : failure === "other" && message !== ""
    ? message
    : openFailureText(failure);
  return new OpenError(failure, `Cannot ${doing}: ${why}`, { cause });
}

function certificateText(code: string, message: string): string {
  if (code === "CERT_HAS_EXPIRED") return "its certificate has expired";
  if (code === "CERT_NOT_YET_VALID") return "its certificate is not valid yet";
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") return `its certificate is for another name: ${message}`;
  if (/SELF_SIGNED|VERIFY_LEAF|ISSUER/.test(code)) return "nobody who is trusted here vouches for its certificate";
  return `${openFailureText("certificate")}: ${message}`;
}

function failureOf(error: unknown): OpenFailure {
  const { errors } = Deno;
  if (error instanceof errors.AddrInUse) return "address-in-use";
  if (error instanceof errors.AddrNotAvailable) return "address-not-available";
  if (error instanceof errors.PermissionDenied || error instanceof errors.NotCapable) return "permission-denied";
  if (error instanceof errors.ConnectionRefused) return "refused";
  if (error instanceof errors.NetworkUnreachable || (error as { code?: string }).code === "EHOSTUNREACH") {
    return "unreachable";
  }
  if (error instanceof errors.TimedOut) return "timeout";
  return isCertificateError((error as { code?: string }).code) ? "certificate" : "other";
}
