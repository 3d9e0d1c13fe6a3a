// DTLS by the system's OpenSSL: contexts, and the door where strangers show a cookie first.
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { isIpAddress, type TransportAddress } from "../address.ts";
import type { TlsClientOptions } from "../machine.ts";
import {
  closeLibssl,
  cString,
  type LibsslCallback,
  libsslCallback,
  libsslError,
  libsslObstacle,
  type LibsslSymbols,
  openLibssl,
} from "./_libssl.ts";
import { flushPipe, openPipe, type OpensslPipe, OpensslSession } from "./_openssl_session.ts";
import type { DtlsCarrier, DtlsDoor, DtlsDoorOptions, DtlsLibrary, DtlsSession } from "./dtls.ts";
import { OpenError, type TlsIdentity, type TlsServerOptions } from "./transport.ts";

/** No look-up of the path's MTU, no compression, no tickets, no renegotiation. */
const OPTIONS = 0x1000n | 0x20000n | 0x4000n | 0x40000000n;
/** RFC 8489 §6.2.3: DTLS 1.2 or later. */
const DTLS_1_2 = 0xfefdn;
const CTRL_MODE = 33;
const MODE_RELEASE_BUFFERS = 0x10n;
const CTRL_SESSION_CACHE = 44;
const CTRL_SERVERNAME_CALLBACK = 53;
const CTRL_SET_SERVER_NAME = 55;
const CTRL_CHAIN_CERTIFICATE = 89;
const CTRL_MIN_VERSION = 123;
const VERIFY_PEER = 1;
const BIO_RESET = 1;

/** HelloVerifyRequest stays shorter than any ClientHello: 28 bytes and this. */
const COOKIE_LENGTH = 16;
/** For ms a cookie is good, and once more as long at most. */
const COOKIE_TIME = 30_000;

/** The system's OpenSSL 3. */
export const OPENSSL_DTLS: DtlsLibrary = {
  get obstacle() {
    return libsslObstacle();
  },
  open: (options) => new OpensslDoor(load(), options),
  connect(tls, address, carrier) {
    const lib = load();
    try {
      return connect(lib, tls, address, carrier);
    } finally {
      // The session holds it for itself.
      closeLibssl();
    }
  },
};

function load(): LibsslSymbols {
  const obstacle = libsslObstacle();
  if (obstacle !== undefined) throw new OpenError("other", `Cannot use DTLS: ${obstacle}`);
  return openLibssl();
}

function newContext(lib: LibsslSymbols, method: Deno.PointerValue): Deno.PointerValue {
  const context = lib.SSL_CTX_new(method);
  lib.SSL_CTX_set_options(context, OPTIONS);
  lib.SSL_CTX_ctrl(context, CTRL_MIN_VERSION, DTLS_1_2, null);
  lib.SSL_CTX_ctrl(context, CTRL_SESSION_CACHE, 0n, null);
  lib.SSL_CTX_ctrl(context, CTRL_MODE, MODE_RELEASE_BUFFERS, null);
  return context;
}

function connect(lib: LibsslSymbols, tls: TlsClientOptions, address: string, carrier: DtlsCarrier): DtlsSession {
  const { serverName = address, ca, alpn, insecureAcceptAnyCertificate = false } = tls;
  const context = newContext(lib, lib.DTLS_client_method());
  try {
    if (!insecureAcceptAnyCertificate) {
      lib.SSL_CTX_set_verify(context, VERIFY_PEER, null);
      if (ca === undefined) lib.SSL_CTX_set_default_verify_paths(context);
      else for (const pem of ca) trust(lib, context, pem);
    }
    const pipe = openPipe(lib, context);
    // An IP address is no server name (RFC 6066 §3).
    if (isIpAddress(serverName)) lib.X509_VERIFY_PARAM_set1_ip_asc(lib.SSL_get0_param(pipe.ssl), cString(serverName));
    else {
      lib.SSL_set1_host(pipe.ssl, cString(serverName));
      lib.SSL_ctrl(pipe.ssl, CTRL_SET_SERVER_NAME, 0n, cString(serverName));
    }
    const names = (alpn ?? []).map((name) => new TextEncoder().encode(name)).flatMap((name) => [name.length, ...name]);
    if (names.length > 0) lib.SSL_set_alpn_protos(pipe.ssl, Uint8Array.from(names), names.length);
    lib.SSL_set_connect_state(pipe.ssl);
    return new OpensslSession(pipe, carrier);
  } finally {
    lib.SSL_CTX_free(context);
  }
}

/** Runs `read` on the text until it gives nothing more. */
function readPem(
  lib: LibsslSymbols,
  text: string,
  read: (bio: Deno.PointerValue) => Deno.PointerValue,
): Deno.PointerValue[] {
  const bytes = new TextEncoder().encode(text);
  const bio = lib.BIO_new(lib.BIO_s_mem());
  const found: Deno.PointerValue[] = [];
  lib.BIO_write(bio, bytes, bytes.length);
  for (let one = read(bio); one !== null; one = read(bio)) found.push(one);
  lib.BIO_free(bio);
  lib.ERR_clear_error();
  return found;
}

function readCertificates(lib: LibsslSymbols, text: string): Deno.PointerValue[] {
  return readPem(lib, text, (bio) => lib.PEM_read_bio_X509(bio, null, null, null));
}

function trust(lib: LibsslSymbols, context: Deno.PointerValue, text: string): void {
  const certificates = readCertificates(lib, text);
  if (certificates.length === 0) throw new OpenError("other", "Cannot trust a certificate that is no PEM");
  for (const certificate of certificates) {
    lib.X509_STORE_add_cert(lib.SSL_CTX_get_cert_store(context), certificate);
    lib.X509_free(certificate);
  }
}

/** Gives the context its certificate, those between it and the authority, and its key. */
function identify(lib: LibsslSymbols, context: Deno.PointerValue, { certificate, key }: TlsIdentity): void {
  const [own, ...chain] = readCertificates(lib, certificate);
  // The last argument keeps OpenSSL from asking the terminal for a passphrase.
  const empty = cString("");
  const keys = readPem(
    lib,
    key,
    (bio) => lib.PEM_read_bio_PrivateKey(bio, null, null, Deno.UnsafePointer.of(empty)),
  );
  const isUsable = own !== undefined && keys[0] !== undefined &&
    lib.SSL_CTX_use_certificate(context, own) === 1 && lib.SSL_CTX_use_PrivateKey(context, keys[0]) === 1 &&
    lib.SSL_CTX_check_private_key(context) === 1;
  for (const one of chain) if (isUsable) lib.SSL_CTX_ctrl(context, CTRL_CHAIN_CERTIFICATE, 1n, one);
  for (const one of [own ?? null, ...chain]) lib.X509_free(one);
  for (const one of keys) lib.EVP_PKEY_free(one);
  if (isUsable) return;
  const why = libsslError(lib) || "both must be PEM";
  throw new OpenError("other", `Cannot serve DTLS as certificate or key can not be used: ${why}`);
}

/** Certificates in use, by name. */
interface Contexts {
  readonly own: Deno.PointerValue;
  readonly names: ReadonlyMap<string, Deno.PointerValue>;
}

class OpensslDoor implements DtlsDoor {
  #lib: LibsslSymbols;
  #options: DtlsDoorOptions;
  #callbacks: Readonly<Record<"cookie" | "check" | "name", LibsslCallback>>;
  #contexts: Contexts;
  #secret = crypto.getRandomValues(new Uint8Array(32));
  /** The one `SSL` that all strangers share. The first one with a good cookie takes it along. */
  #pipe: OpensslPipe | undefined;
  #peer: Deno.PointerValue;
  #from: TransportAddress | undefined;

  /** Takes over the library. */
  constructor(lib: LibsslSymbols, options: DtlsDoorOptions) {
    this.#lib = lib;
    this.#options = options;
    this.#peer = lib.BIO_ADDR_new();
    this.#callbacks = {
      cookie: libsslCallback((_ssl, cookie, length) => {
        memory(cookie, COOKIE_LENGTH).set(this.#cookie(0));
        new DataView(memory(Deno.UnsafePointer.create(length), 4).buffer).setUint32(0, COOKIE_LENGTH, true);
        return 1;
      }),
      check: libsslCallback((_ssl, cookie, length) => {
        const hasLength = BigInt.asUintN(32, length) === BigInt(COOKIE_LENGTH);
        return hasLength && this.#isGood(memory(cookie, COOKIE_LENGTH)) ? 1 : 0;
      }),
      name: libsslCallback((ssl) => this.#chooseContext(ssl)),
    };
    try {
      this.#contexts = this.#makeContexts(options.tls);
    } catch (error) {
      this.#release();
      throw error;
    }
  }

  receive(from: TransportAddress, bytes: Uint8Array, offset: number, length: number): DtlsSession | undefined {
    const lib = this.#lib;
    const pipe = this.#pipe ??= this.#newPipe();
    this.#from = from;
    lib.BIO_write(pipe.arrived, bytes.subarray(offset, offset + length), length);
    const verdict = lib.DTLSv1_listen(pipe.ssl, this.#peer);
    lib.ERR_clear_error();
    if (verdict === 1) {
      this.#pipe = undefined;
      const session = new OpensslSession(pipe, this.#options.carrier(from));
      session.start();
      return session;
    }
    flushPipe(lib, pipe, this.#answer);
    lib.BIO_ctrl(pipe.arrived, BIO_RESET, 0n, null);
    return undefined;
  }

  setTls(options: TlsServerOptions): void {
    const contexts = this.#makeContexts(options);
    this.#freeContexts();
    this.#contexts = contexts;
  }

  close(): void {
    this.#freeContexts();
    this.#release();
  }

  #answer = (bytes: Uint8Array, offset: number, length: number): void => {
    this.#options.answer(this.#from!, bytes, offset, length);
  };

  #newPipe(): OpensslPipe {
    const pipe = openPipe(this.#lib, this.#contexts.own);
    this.#lib.SSL_set_accept_state(pipe.ssl);
    return pipe;
  }

  #makeContexts(options: TlsServerOptions): Contexts {
    const made: Deno.PointerValue[] = [];
    try {
      const make = (identity: TlsIdentity): Deno.PointerValue => {
        const context = newContext(this.#lib, this.#lib.DTLS_server_method());
        made.push(context);
        identify(this.#lib, context, identity);
        return context;
      };
      const own = make(options);
      const names = [...options.names ?? []].map(([name, one]) => [name.toLowerCase(), make(one)] as const);
      this.#lib.SSL_CTX_set_cookie_generate_cb(own, this.#callbacks.cookie.pointer);
      this.#lib.SSL_CTX_set_cookie_verify_cb(own, this.#callbacks.check.pointer);
      if (names.length > 0) {
        this.#lib.SSL_CTX_callback_ctrl(own, CTRL_SERVERNAME_CALLBACK, this.#callbacks.name.pointer);
      }
      return { own, names: new Map(names) };
    } catch (error) {
      for (const context of made) this.#lib.SSL_CTX_free(context);
      throw error;
    }
  }

  /** Of sessions under way, each holds its context for itself. */
  #freeContexts(): void {
    if (this.#pipe !== undefined) this.#lib.SSL_free(this.#pipe.ssl);
    this.#pipe = undefined;
    for (const context of [this.#contexts.own, ...this.#contexts.names.values()]) this.#lib.SSL_CTX_free(context);
  }

  #release(): void {
    this.#lib.BIO_ADDR_free(this.#peer);
    for (const callback of Object.values(this.#callbacks)) callback.close();
    closeLibssl();
  }

  /** RFC 6066 §3. Gives SSL_TLSEXT_ERR_OK: a name that is not known gets the usual certificate. */
  #chooseContext(ssl: Deno.PointerValue): number {
    const name = this.#lib.SSL_get_servername(ssl, 0);
    if (name === null) return 0;
    const context = this.#contexts.names.get(Deno.UnsafePointerView.getCString(name).toLowerCase());
    if (context !== undefined) this.#lib.SSL_set_SSL_CTX(ssl, context);
    return 0;
  }

  /** RFC 6347 §4.2.1: "Cookie = HMAC(Secret, Client-IP, Client-Parameters)", with the time, so that it grows old. */
  #cookie(age: number): Uint8Array {
    const { bytes, port } = this.#from!;
    const text = new Uint8Array(bytes.length + 6);
    const view = new DataView(text.buffer);
    text.set(bytes);
    view.setUint16(bytes.length, port);
    view.setUint32(bytes.length + 2, Math.trunc(performance.now() / COOKIE_TIME) - age);
    return hmac(sha256, this.#secret, text).subarray(0, COOKIE_LENGTH);
  }

  #isGood(shown: Uint8Array): boolean {
    return isSame(shown, this.#cookie(0)) || isSame(shown, this.#cookie(1));
  }
}

function memory(pointer: Deno.PointerValue, length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(pointer!, length));
}

/** In a time that does not depend on where they differ. */
function isSame(a: Uint8Array, b: Uint8Array): boolean {
  let difference = 0;
  for (let i = 0; i < COOKIE_LENGTH; i++) difference |= a[i]! ^ b[i]!;
  return difference === 0;
}
