// DTLS as the virtual internet has it: who talks when, the cookie, what is repeated, and about which names. Nothing is
// encrypted. Records have DTLS's header with 0xfe 0xfe for a version that nobody has, then a message type and text.
import type { TransportAddress } from "../../address.ts";
import type { OpenFailure, Random, TlsClientOptions } from "../../machine.ts";
import type { DtlsCarrier, DtlsDoor, DtlsDoorOptions, DtlsLibrary, DtlsSession } from "../dtls.ts";
import type { TlsServerOptions } from "../transport.ts";
import { identityFor, isFor, namesOf } from "./_tls_handshake.ts";

const HEADER = 13;
const HANDSHAKE = 22;
const DATA = 23;
const ALERT = 21;
const MAX_PLAIN = 16384;
const HEADROOM = 4;
/** RFC 6347 §4.2.4.1. */
const FIRST_TIMEOUT = 1000;
const LONGEST_TIMEOUT = 60_000;
/** RFC 6347 §4.2.2: types of handshake messages, and what stands for the last flights. */
const MESSAGE = { CLIENT_HELLO: 1, CERTIFICATE: 2, VERIFY: 3, FINISHED: 20 } as const;

/** What a session needs of its host. */
export interface VirtualDtlsHost {
  now(): number;
  readonly random: Random;
}

/** The semblance of DTLS on a host. */
export function virtualDtls(host: VirtualDtlsHost): DtlsLibrary {
  return {
    obstacle: undefined,
    open: (options) => new Door(host, options),
    connect: (tls, address, carrier) => new Session(host, carrier, clientRole(tls, address, randomText(host.random))),
  };
}

/** What one end says when. */
interface Role {
  start(session: Session): void;
  /** A message of the handshake. */
  handle(session: Session, type: number, words: string): void;
}

class Session implements DtlsSession {
  state: "handshake" | "open" | "closed" = "handshake";
  failure: OpenFailure = "other";
  failureText = "";
  readonly #host: VirtualDtlsHost;
  readonly #carrier: DtlsCarrier;
  readonly #role: Role;
  #flight: Uint8Array | undefined;
  #timeout = FIRST_TIMEOUT;
  #dueAt = Infinity;

  constructor(host: VirtualDtlsHost, carrier: DtlsCarrier, role: Role) {
    this.#host = host;
    this.#carrier = carrier;
    this.#role = role;
  }

  get timeLeft(): number {
    return this.state === "handshake" ? Math.max(0, this.#dueAt - this.#host.now()) : Infinity;
  }

  start(): void {
    this.#role.start(this);
  }

  receive(bytes: Uint8Array, offset: number, length: number): void {
    if (this.state === "closed" || length <= HEADER) return;
    const type = bytes[offset];
    const body = bytes.subarray(offset + HEADER, offset + length);
    if (type === HANDSHAKE) this.#role.handle(this, body[0]!, new TextDecoder().decode(body.subarray(1)));
    else if (type === ALERT) this.#hear(new TextDecoder().decode(body));
    else if (type === DATA && this.state === "open") {
      const plain = new Uint8Array(HEADROOM + body.length);
      plain.set(body, HEADROOM);
      this.#carrier.onPlain(plain, HEADROOM, body.length);
    }
  }

  send(bytes: Uint8Array, offset: number, length: number): void {
    if (this.state !== "open" || length > MAX_PLAIN) return;
    this.#write(record(DATA, bytes.subarray(offset, offset + length)));
  }

  handleTimeout(): void {
    if (this.state !== "handshake" || this.#flight === undefined || this.#host.now() < this.#dueAt) return;
    this.#timeout = Math.min(2 * this.#timeout, LONGEST_TIMEOUT);
    this.#dueAt = this.#host.now() + this.#timeout;
    this.#write(this.#flight);
  }

  close(isSilent = false): void {
    if (!isSilent && this.state === "open") this.#write(record(ALERT, text("close")));
    this.state = "closed";
  }

  /** Sends a flight, which is repeated until the next. */
  fly(type: number, words: string): void {
    this.#flight = message(type, words);
    this.#timeout = FIRST_TIMEOUT;
    this.#dueAt = this.#host.now() + FIRST_TIMEOUT;
    this.#write(this.#flight);
  }

  /** Ends for good, and says why. */
  fail(failure: OpenFailure, words: string): void {
    this.#write(record(ALERT, text(words)));
    this.#end(failure, words);
  }

  #hear(words: string): void {
    this.#end("other", words === "close" ? "" : `the other end says: ${words}`);
  }

  #end(failure: OpenFailure, words: string): void {
    this.state = "closed";
    this.failure = failure;
    this.failureText = words;
  }

  #write(bytes: Uint8Array): void {
    this.#carrier.onDatagram(bytes, 0, bytes.length);
  }
}

function clientRole(tls: TlsClientOptions, address: string, random: string): Role {
  const { serverName = address, insecureAcceptAnyCertificate = false } = tls;
  const hello = (session: Session, cookie: string) =>
    session.fly(MESSAGE.CLIENT_HELLO, `${serverName}\n${random}\n${cookie}`);
  return {
    start: (session) => hello(session, ""),
    handle(session, type, words) {
      if (session.state !== "handshake") return;
      if (type === MESSAGE.VERIFY) hello(session, words);
      else if (type === MESSAGE.FINISHED) session.state = "open";
      else if (type === MESSAGE.CERTIFICATE) {
        if (insecureAcceptAnyCertificate || isFor(words, serverName)) session.fly(MESSAGE.FINISHED, random);
        else session.fail("certificate", "its certificate is for another name");
      }
    },
  };
}

function serverRole(certificate: string): Role {
  const start = (session: Session) => session.fly(MESSAGE.CERTIFICATE, namesOf(certificate).join(" "));
  return {
    start,
    handle(session, type) {
      if (type === MESSAGE.CLIENT_HELLO && session.state === "handshake") start(session);
      // The last flight is repeated when the one before it is (RFC 6347 §4.2.4).
      if (type !== MESSAGE.FINISHED) return;
      session.fly(MESSAGE.FINISHED, "");
      session.state = "open";
    },
  };
}

class Door implements DtlsDoor {
  #host: VirtualDtlsHost;
  #options: DtlsDoorOptions;
  #tls: TlsServerOptions;
  #secret: string;

  constructor(host: VirtualDtlsHost, options: DtlsDoorOptions) {
    this.#host = host;
    this.#options = options;
    this.#tls = options.tls;
    this.#secret = randomText(host.random);
  }

  receive(from: TransportAddress, bytes: Uint8Array, offset: number, length: number): DtlsSession | undefined {
    if (bytes[offset] !== HANDSHAKE || bytes[offset + HEADER] !== MESSAGE.CLIENT_HELLO) return undefined;
    const hello = new TextDecoder().decode(bytes.subarray(offset + HEADER + 1, offset + length));
    const [name = "", , cookie] = hello.split("\n");
    const wanted = `${this.#secret} ${from}`;
    if (cookie !== wanted) {
      const verify = message(MESSAGE.VERIFY, wanted);
      this.#options.answer(from, verify, 0, verify.length);
      return undefined;
    }
    const { certificate } = identityFor(this.#tls, name);
    const session = new Session(this.#host, this.#options.carrier(from), serverRole(certificate));
    session.start();
    return session;
  }

  setTls(options: TlsServerOptions): void {
    this.#tls = options;
  }

  close(): void {}
}

function text(words: string): Uint8Array {
  return new TextEncoder().encode(words);
}

function message(type: number, words: string): Uint8Array {
  return record(HANDSHAKE, Uint8Array.of(type, ...text(words)));
}

function record(type: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER + body.length);
  bytes.set([type, 0xfe, 0xfe, 0, type === DATA ? 1 : 0]);
  bytes.set([body.length >> 8, body.length & 0xff], HEADER - 2);
  bytes.set(body, HEADER);
  return bytes;
}

function randomText(random: Random): string {
  const bytes = new Uint8Array(8);
  random.fill(bytes);
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
