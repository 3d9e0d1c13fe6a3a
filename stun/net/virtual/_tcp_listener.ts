import type { TransportAddress } from "../../address.ts";
import {
  type ByteStream,
  type ByteStreamListener,
  type ByteStreamReceiver,
  OpenError,
  type StreamListenWish,
  type TlsServerOptions,
} from "../transport.ts";
import { VirtualStream } from "./_tcp_stream.ts";

/** A listening socket of a virtual host. */
export class VirtualListener implements ByteStreamListener {
  readonly localAddress: TransportAddress;
  readonly acceptErrors = 0;
  #transport: StreamListenWish["transport"];
  #tls: TlsServerOptions | undefined;
  #accept: (stream: ByteStream) => ByteStreamReceiver | undefined;
  #forget: () => void;
  #isClosed = false;

  /** @throws {OpenError} If TLS is wanted and there is no certificate. */
  constructor(localAddress: TransportAddress, { transport, tls }: StreamListenWish, to: {
    accept: (stream: ByteStream) => ByteStreamReceiver | undefined;
    forget: () => void;
  }) {
    if (transport !== "tcp" && tls === undefined) {
      throw new OpenError("other", "Cannot serve TLS without a certificate and its key");
    }
    this.localAddress = localAddress;
    this.#transport = transport;
    this.#tls = tls;
    this.#accept = to.accept;
    this.#forget = to.forget;
  }

  setTls(options: TlsServerOptions): void {
    this.#tls = options;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#forget();
  }

  /** For a connection that has begun: it is accepted when it is open. */
  newUser(): VirtualStream {
    const stream = new VirtualStream(this.#transport === "tls" ? "tls" : "tcp");
    stream.serve(this.#transport, () => this.#tls!, () => this.#isClosed ? undefined : this.#accept(stream));
    return stream;
  }
}
