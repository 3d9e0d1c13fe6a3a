import type { TransportAddress } from "../../address.ts";
import type { ByteStreamWish, OpenFailure } from "../../machine.ts";
import {
  type ByteStream,
  type ByteStreamReceiver,
  OpenError,
  openFailureText,
  type StreamListenWish,
  type TlsServerOptions,
} from "../transport.ts";
import type { TcpConnection, TcpUser } from "./_tcp_connection.ts";
import { HANDSHAKE, TlsHandshake } from "./_tls_handshake.ts";

/** A connection as a program of a virtual host has it, with TLS's handshake in front if there is one. */
export class VirtualStream implements ByteStream, TcpUser {
  transport: "tcp" | "tls";
  alpn: string | undefined;
  connection: TcpConnection | undefined;
  #receiver: ByteStreamReceiver | undefined;
  #handshake: TlsHandshake | undefined;
  /** Looks at the first byte, and gives whether the connection may go on. */
  #sniff: ((first: number) => boolean) | undefined;
  #begin: () => void = () => {};
  /** Connecting has come to an end. */
  #settle: ((failure?: OpenFailure, detail?: string) => void) | undefined;
  #isWanted = false;
  #isEnded = false;
  #isClosed = false;
  /** Flights of the handshake that are not with the network yet. */
  #flights = 0;

  constructor(transport: "tcp" | "tls") {
    this.transport = transport;
  }

  get localAddress(): TransportAddress {
    return this.connection!.local;
  }

  get remoteAddress(): TransportAddress {
    return this.connection!.remote;
  }

  /** Makes it a client's. */
  connect(
    { transport, remote, tls = {} }: ByteStreamWish,
    open: (user: TcpUser) => TcpConnection,
    done: (result: ByteStream | OpenError) => ByteStreamReceiver | undefined,
  ): void {
    this.transport = transport;
    this.#settle = (failure, detail) => {
      this.#settle = undefined;
      if (failure !== undefined) {
        this.close();
        const why = detail ?? openFailureText(failure);
        return void done(new OpenError(failure, `Cannot connect to ${transport.toUpperCase()} ${remote}: ${why}`));
      }
      this.#receiver = done(this);
      if (this.#receiver === undefined) this.close();
    };
    this.#begin = () => {
      if (transport === "tcp") return this.#settle?.();
      this.#handshake = TlsHandshake.client(tls, remote.address);
      this.#write(TlsHandshake.hello(tls, remote.address));
      this.connection!.resume();
    };
    this.connection = open(this);
  }

  /** Makes it a server's. */
  serve(
    transport: StreamListenWish["transport"],
    tls: () => TlsServerOptions,
    accept: () => ByteStreamReceiver | undefined,
  ): void {
    this.#begin = () => {
      this.#receiver = accept();
      if (this.#receiver === undefined) this.close();
    };
    if (transport === "tcp") return;
    this.#sniff = (first) => {
      if (first !== HANDSHAKE) return transport === "tcp+tls";
      this.transport = "tls";
      this.#handshake = TlsHandshake.server(tls());
      return true;
    };
  }

  resume(): void {
    this.#isWanted = true;
    if (!this.#isClosed) this.connection!.resume();
  }

  pause(): void {
    this.#isWanted = false;
    // A handshake is not held back.
    if (!this.#isClosed && this.#handshake === undefined) this.connection!.pause();
  }

  send(bytes: Uint8Array): void {
    if (!this.#isClosed) this.connection!.send(bytes);
  }

  end(): void {
    if (!this.#isClosed) this.connection!.end();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.connection?.close();
  }

  onOpen(): void {
    this.#begin();
  }

  onFailed(failure: OpenFailure): void {
    this.#settle?.(failure);
  }

  onData(bytes: Uint8Array): void {
    if (this.#sniff !== undefined) {
      const isGood = this.#sniff(bytes[0]!);
      this.#sniff = undefined;
      if (!isGood) return this.onEnd("reset");
    }
    if (this.#handshake !== undefined) this.#shakeHands(this.#handshake, bytes);
    else this.#receiver?.onData(bytes, 0, bytes.length);
  }

  onSent(): void {
    // A flight of the handshake concerns nobody.
    if (this.#flights > 0) this.#flights--;
    else this.#receiver?.onSent();
  }

  onEnd(reason: "end" | "reset"): void {
    if (this.#isClosed || this.#isEnded) return;
    this.#isEnded = true;
    if (this.#settle !== undefined) return this.#settle("other", "the connection ended in the handshake");
    // Without TLS's close_notify an end is no end.
    this.#receiver?.onEnd(this.#handshake === undefined ? reason : "reset");
  }

  #write(bytes: Uint8Array): void {
    this.#flights++;
    this.connection!.send(bytes);
  }

  #shakeHands(handshake: TlsHandshake, bytes: Uint8Array): void {
    for (const { answer, failure, isDone } of handshake.feed(bytes)) {
      if (answer !== undefined) this.#write(answer);
      if (failure !== undefined) {
        if (this.#settle === undefined) return this.onEnd("reset");
        return this.#settle(
          failure,
          failure === "other" ? "the other end does not speak TLS or ALPN as we do" : undefined,
        );
      }
      if (isDone !== true) continue;
      this.#handshake = undefined;
      this.alpn = handshake.alpn;
      const { connection } = this;
      if (!this.#isWanted) connection!.pause();
      connection!.unread(handshake.rest);
      this.#settle?.();
    }
  }
}
