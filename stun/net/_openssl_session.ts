import type { OpenFailure } from "../machine.ts";
import { closeLibssl, libsslError, type LibsslSymbols, openLibssl } from "./_libssl.ts";
import type { DtlsCarrier, DtlsSession } from "./dtls.ts";

/** How long a datagram of the handshake is at most: fits any path. Data is sent as it comes. */
const HANDSHAKE_MTU = 1200;
/** The longest plaintext of a record (RFC 6347 §4.1). */
const MAX_PLAIN = 16384;
const RECORD_HEADER = 13;
const RECORD_LENGTH_AT = 11;
const HEADROOM = 4;

/** Numbers of `SSL_ctrl` and `SSL_get_error`. */
const CTRL_SET_MTU = 17;
const CTRL_GET_TIMEOUT = 73;
const CTRL_HANDLE_TIMEOUT = 74;
const ERROR_WANT_READ = 2;
const ERROR_WANT_WRITE = 3;
const ERROR_ZERO_RETURN = 6;
/** Results of verifying a certificate, in words; what else there may be is said by OpenSSL. */
const VERIFY_OK = 0;
const NOBODY = "nobody who is trusted here vouches for its certificate";
const ANOTHER = "its certificate is for another name";
const VERIFY_TEXT: ReadonlyMap<number, string> = new Map([
  ...[2, 18, 19, 20, 21].map((code) => [code, NOBODY] as const),
  ...[62, 64].map((code) => [code, ANOTHER] as const),
  [9, "its certificate is not valid yet"],
  [10, "its certificate has expired"],
]);

// Everything runs to its end in one call, so one of each does for all sessions.
const plain = new Uint8Array(HEADROOM + MAX_PLAIN);
const plainSlot = plain.subarray(HEADROOM);
const cipher = new Uint8Array(0x20000);
const timeval = new BigInt64Array(2);

/** An `SSL` of OpenSSL's between two memories: what arrived, and what is to be sent. */
export interface OpensslPipe {
  readonly ssl: Deno.PointerValue;
  readonly arrived: Deno.PointerValue;
  readonly toSend: Deno.PointerValue;
}

/** A pipe in this context. The library must stay loaded while it is there. */
export function openPipe(lib: LibsslSymbols, context: Deno.PointerValue): OpensslPipe {
  const ssl = lib.SSL_new(context);
  const [arrived, toSend] = [lib.BIO_new(lib.BIO_s_mem()), lib.BIO_new(lib.BIO_s_mem())];
  lib.SSL_set_bio(ssl, arrived, toSend);
  lib.SSL_ctrl(ssl, CTRL_SET_MTU, BigInt(HANDSHAKE_MTU), null);
  return { ssl, arrived, toSend };
}

/**
 * Hands on what waits to be sent. The memory holds records one behind the other: as many as fit go into one datagram, as
 * OpenSSL itself would have it on a socket.
 */
export function flushPipe(
  lib: LibsslSymbols,
  { toSend }: OpensslPipe,
  send: (bytes: Uint8Array, offset: number, length: number) => void,
): void {
  const length = lib.BIO_read(toSend, cipher, cipher.length);
  for (let start = 0; start < length;) {
    let end = start;
    while (end < length) {
      const next = end + RECORD_HEADER + (cipher[end + RECORD_LENGTH_AT]! << 8 | cipher[end + RECORD_LENGTH_AT + 1]!);
      if (end > start && next - start > HANDSHAKE_MTU) break;
      end = next;
    }
    send(cipher, start, end - start);
    start = end;
  }
}

/** A DTLS association that OpenSSL runs. */
export class OpensslSession implements DtlsSession {
  state: "handshake" | "open" | "closed" = "handshake";
  failure: OpenFailure = "other";
  failureText = "";
  #lib: LibsslSymbols;
  #pipe: OpensslPipe;
  #carrier: DtlsCarrier;
  #isFreed = false;

  /** Takes over the pipe. */
  constructor(pipe: OpensslPipe, carrier: DtlsCarrier) {
    this.#lib = openLibssl();
    this.#pipe = pipe;
    this.#carrier = carrier;
  }

  get timeLeft(): number {
    if (this.state !== "handshake") return Infinity;
    if (this.#lib.SSL_ctrl(this.#pipe.ssl, CTRL_GET_TIMEOUT, 0n, timeval) !== 1n) return Infinity;
    return Math.max(1, Number(timeval[0]) * 1000 + Number(timeval[1]) / 1000);
  }

  start(): void {
    this.#shakeHands();
  }

  receive(bytes: Uint8Array, offset: number, length: number): void {
    if (this.state === "closed") return;
    this.#lib.BIO_write(this.#pipe.arrived, bytes.subarray(offset, offset + length), length);
    if (this.state === "handshake") this.#shakeHands();
    if (this.state === "open") this.#read();
  }

  send(bytes: Uint8Array, offset: number, length: number): void {
    if (this.state !== "open" || length === 0 || length > MAX_PLAIN) return;
    const written = this.#lib.SSL_write(this.#pipe.ssl, bytes.subarray(offset, offset + length), length);
    if (written <= 0) this.#note(written);
    this.#flush();
  }

  handleTimeout(): void {
    if (this.state !== "handshake") return;
    const result = Number(this.#lib.SSL_ctrl(this.#pipe.ssl, CTRL_HANDLE_TIMEOUT, 0n, null));
    if (result < 0) this.#fail();
    this.#flush();
  }

  close(isSilent = false): void {
    if (this.#isFreed) return;
    this.#isFreed = true;
    // Not after a failure, nor in the middle of a handshake: OpenSSL has nothing to say then.
    if (!isSilent && this.#lib.SSL_is_init_finished(this.#pipe.ssl) === 1 && this.failureText === "") {
      this.#lib.SSL_shutdown(this.#pipe.ssl);
      this.#flush();
    }
    this.state = "closed";
    this.#lib.SSL_free(this.#pipe.ssl);
    this.#lib.ERR_clear_error();
    closeLibssl();
  }

  #shakeHands(): void {
    const result = this.#lib.SSL_do_handshake(this.#pipe.ssl);
    if (result === 1) this.state = "open";
    else this.#note(result);
    this.#flush();
  }

  #read(): void {
    while (this.state === "open") {
      const length = this.#lib.SSL_read(this.#pipe.ssl, plainSlot, MAX_PLAIN);
      if (length <= 0) {
        this.#note(length);
        // A repeated last flight is answered with ours.
        return this.#flush();
      }
      this.#carrier.onPlain(plain, HEADROOM, length);
    }
  }

  #note(result: number): void {
    const error = this.#lib.SSL_get_error(this.#pipe.ssl, result);
    if (error === ERROR_ZERO_RETURN) this.state = "closed";
    else if (error !== ERROR_WANT_READ && error !== ERROR_WANT_WRITE) this.#fail();
    this.#lib.ERR_clear_error();
  }

  #fail(): void {
    const verdict = Number(this.#lib.SSL_get_verify_result(this.#pipe.ssl));
    const text = libsslError(this.#lib);
    this.state = "closed";
    if (verdict === VERIFY_OK) this.failureText = text || "the handshake failed";
    else {
      this.failure = "certificate";
      this.failureText = VERIFY_TEXT.get(verdict) ??
        `its certificate can not be trusted: ${verifyText(this.#lib, verdict)}`;
    }
  }

  #flush(): void {
    flushPipe(this.#lib, this.#pipe, this.#onDatagram);
  }

  #onDatagram = (bytes: Uint8Array, offset: number, length: number): void => {
    this.#carrier.onDatagram(bytes, offset, length);
  };
}

function verifyText(lib: LibsslSymbols, verdict: number): string {
  const text = lib.X509_verify_cert_error_string(BigInt(verdict));
  return text === null ? String(verdict) : Deno.UnsafePointerView.getCString(text);
}
