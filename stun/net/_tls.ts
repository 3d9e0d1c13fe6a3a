// TLS over bytes that somebody else reads and writes. Deno's own TLS can not be a server on a connection that was already
// read from, nor change its certificate, and a client's handshake that is given up leaves its connection open until the
// server ends it. Node's has none of that, and comes with Deno. It is loaded on first use only: that takes about 50 ms.
import type * as NodeCrypto from "node:crypto";
import type * as NodeStream from "node:stream";
import type * as NodeTls from "node:tls";
import { isIpAddress } from "../address.ts";
import type { TlsClientOptions } from "../machine.ts";
import { OpenError, type TlsIdentity, type TlsServerOptions } from "./transport.ts";

/** RFC 7443 §3. */
const STUN_ALPN: readonly string[] = ["stun.turn", "stun.nat-discovery"];

interface NodeProcess {
  getBuiltinModule(name: string): unknown;
  nextTick(work: () => void): void;
}
const { process } = globalThis as unknown as { process: NodeProcess };

function builtin<T>(name: string): T {
  return process.getBuiltinModule(name) as T;
}

/** What a listening socket serves TLS with. */
export interface TlsServerContext {
  readonly own: NodeTls.SecureContext;
  readonly names: ReadonlyMap<string, NodeTls.SecureContext>;
  readonly alpn: readonly string[];
}

/**
 * Reads certificates and keys.
 *
 * @throws {OpenError} If one can not be read, or a key is not its certificate's.
 */
export function tlsServerContext(options: TlsServerOptions | undefined): TlsServerContext {
  if (options === undefined) throw new OpenError("other", "Cannot serve TLS without a certificate and its key");
  const names = [...options.names ?? []].map(([name, identity]) => [name.toLowerCase(), context(identity)] as const);
  return { own: context(options), names: new Map(names), alpn: options.alpn ?? STUN_ALPN };
}

function context(identity: TlsIdentity): NodeTls.SecureContext {
  const { certificate, key } = identity;
  const crypto = builtin<typeof NodeCrypto>("node:crypto");
  let fits: boolean;
  try {
    fits = new crypto.X509Certificate(certificate).checkPrivateKey(crypto.createPrivateKey(key));
  } catch (cause) {
    throw new OpenError("other", "Cannot serve TLS as certificate or key can not be read: both must be PEM", { cause });
  }
  if (!fits) throw new OpenError("other", "Cannot serve TLS as the key is not the certificate's");
  return builtin<typeof NodeTls>("node:tls").createSecureContext({ cert: certificate, key, minVersion: "TLSv1.2" });
}

/** What TLS needs of the connection below, and tells the one above. */
export interface TlsCarrier {
  /** Writes encrypted bytes; `done` when they are with the network. */
  write(bytes: Uint8Array): Promise<void>;
  /** Nothing more will be written. */
  end(): void;
  /** The handshake is done. */
  onSecure(alpn: string | undefined): void;
  /** Decrypted bytes, good for as long as one likes. */
  onPlain(bytes: Uint8Array): void;
  /** What `send()` was given is written. */
  onSent(): void;
  /** The other end said that nothing more comes. */
  onEnd(): void;
  /** It does not work any more. */
  onError(error: Error): void;
}

type SniDone = (error: Error | null, context?: NodeTls.SecureContext) => void;

/** One end of TLS. */
export class TlsEngine {
  #duplex: NodeStream.Duplex;
  #socket: NodeTls.TLSSocket;
  #carrier: TlsCarrier;
  #isStarted = false;
  // Records that wait to be written, all in one go when the write before them is done.
  #out: Uint8Array[] = [];
  #isDraining = false;
  #isSending = false;
  #isSent = false;
  #isEnding = false;

  private constructor(carrier: TlsCarrier, wrap: (duplex: NodeStream.Duplex) => NodeTls.TLSSocket) {
    const { Duplex } = builtin<typeof NodeStream>("node:stream");
    this.#carrier = carrier;
    this.#duplex = new Duplex({
      read() {},
      write: (bytes: Uint8Array, _encoding, done) => {
        this.#out.push(bytes);
        done();
        this.#drain();
      },
      final: (done) => {
        this.#isEnding = true;
        done();
        this.#drain();
      },
    });
    this.#socket = wrap(this.#duplex);
    // Node's Buffers are no good as Uint8Arrays: their slice() is no copy.
    this.#socket.on("data", ({ buffer, byteOffset, length }: Uint8Array) => {
      carrier.onPlain(new Uint8Array(buffer, byteOffset, length));
    });
    this.#socket.on("end", () => carrier.onEnd());
    this.#socket.on("error", (error: Error) => carrier.onError(error));
    process.nextTick(() => this.#isStarted = true);
  }

  /** The server's end. */
  static server(context: TlsServerContext, carrier: TlsCarrier): TlsEngine {
    const { TLSSocket } = builtin<typeof NodeTls>("node:tls");
    return new TlsEngine(carrier, (duplex) => {
      const socket = new TLSSocket(duplex, {
        isServer: true,
        secureContext: context.own,
        ALPNProtocols: [...context.alpn],
        // Only where it is needed: Deno keeps a socket with it for good if its handshake is not finished (8 KiB each).
        ...(context.names.size === 0 ? {} : {
          SNICallback: (name: string, done: SniDone) => {
            done(null, context.names.get(name.toLowerCase()) ?? context.own);
          },
        }),
      });
      socket.on("secure", () => carrier.onSecure(socket.alpnProtocol || undefined));
      return socket;
    });
  }

  /** The client's end. Without a name in `options`, the certificate must be for the IP address `address`. */
  static client(options: TlsClientOptions, address: string, carrier: TlsCarrier): TlsEngine {
    const tls = builtin<typeof NodeTls>("node:tls");
    const { serverName = address, alpn, ca } = options;
    return new TlsEngine(carrier, (duplex) => {
      const socket = tls.connect({
        socket: duplex,
        minVersion: "TLSv1.2",
        rejectUnauthorized: options.insecureAcceptAnyCertificate !== true,
        // An IP address is no server name (RFC 6066 §3).
        ...(isIpAddress(serverName) ? { host: serverName } : { servername: serverName }),
        ...(alpn === undefined ? {} : { ALPNProtocols: [...alpn] }),
        ...(ca === undefined ? {} : { ca: [...ca] }),
      });
      socket.on("secureConnect", () => carrier.onSecure(socket.alpnProtocol || undefined));
      return socket;
    });
  }

  /** Takes in encrypted bytes, which it keeps. */
  feed(bytes: Uint8Array): void {
    // TLSSocket starts in a tick of its own, and does not outlive an error in there: hence not before.
    if (this.#isStarted) this.#duplex.push(bytes);
    else process.nextTick(() => this.#duplex.push(bytes));
  }

  /** Encrypts and writes, each frame as a record of its own: one after the other, since the socket joins what waits. */
  send(bytes: Uint8Array, ends: readonly number[]): void {
    const next = (index: number, start: number) => {
      const end = ends[index] ?? bytes.length;
      const isLast = end >= bytes.length;
      this.#socket.write(
        bytes.subarray(start, end),
        (error?: Error | null) => {
          if (error) return;
          if (!isLast) return next(index + 1, end);
          this.#isSending = false;
          this.#isSent = true;
          this.#drain();
        },
      );
    };
    this.#isSending = true;
    next(0, 0);
  }

  /** Writes what waits, when all records of a `send()` are there. */
  #drain(): void {
    if (this.#isDraining || this.#isSending) return;
    this.#isDraining = true;
    process.nextTick(async () => {
      try {
        while (this.#out.length > 0) await this.#carrier.write(join(this.#out.splice(0)));
      } catch (error) {
        return this.#carrier.onError(error as Error);
      }
      this.#isDraining = false;
      if (this.#isSent) {
        this.#isSent = false;
        this.#carrier.onSent();
      }
      if (this.#isEnding) {
        this.#isEnding = false;
        this.#carrier.end();
      }
    });
  }

  /** Says that nothing more will be sent. */
  end(): void {
    this.#socket.end();
  }

  /** Lets go of everything. */
  close(): void {
    // Not inside one of its own calls, which go on using what is gone by then.
    process.nextTick(() => {
      this.#socket.destroy();
      this.#duplex.destroy();
    });
  }
}

function join(pieces: readonly Uint8Array[]): Uint8Array {
  if (pieces.length === 1) return pieces[0]!;
  const joined = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    joined.set(piece, at);
    at += piece.length;
  }
  return joined;
}
