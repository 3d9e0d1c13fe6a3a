/** OpenSSL 3 by FFI: the functions that DTLS over memory needs. libcrypto's are found through libssl. */

const NAME = "libssl.so.3";
const MIN_VERSION = 0x30000000n;

const SYMBOLS = {
  OpenSSL_version_num: { parameters: [], result: "u64" },
  DTLS_server_method: { parameters: [], result: "pointer" },
  DTLS_client_method: { parameters: [], result: "pointer" },
  SSL_CTX_new: { parameters: ["pointer"], result: "pointer" },
  SSL_CTX_free: { parameters: ["pointer"], result: "void" },
  SSL_CTX_ctrl: { parameters: ["pointer", "i32", "i64", "pointer"], result: "i64" },
  SSL_CTX_set_options: { parameters: ["pointer", "u64"], result: "u64" },
  SSL_CTX_use_certificate: { parameters: ["pointer", "pointer"], result: "i32" },
  SSL_CTX_use_PrivateKey: { parameters: ["pointer", "pointer"], result: "i32" },
  SSL_CTX_check_private_key: { parameters: ["pointer"], result: "i32" },
  SSL_CTX_set_cookie_generate_cb: { parameters: ["pointer", "function"], result: "void" },
  SSL_CTX_set_cookie_verify_cb: { parameters: ["pointer", "function"], result: "void" },
  SSL_CTX_callback_ctrl: { parameters: ["pointer", "i32", "function"], result: "i64" },
  SSL_CTX_set_default_verify_paths: { parameters: ["pointer"], result: "i32" },
  SSL_CTX_get_cert_store: { parameters: ["pointer"], result: "pointer" },
  SSL_CTX_set_verify: { parameters: ["pointer", "i32", "pointer"], result: "void" },
  SSL_new: { parameters: ["pointer"], result: "pointer" },
  SSL_free: { parameters: ["pointer"], result: "void" },
  SSL_set_bio: { parameters: ["pointer", "pointer", "pointer"], result: "void" },
  SSL_ctrl: { parameters: ["pointer", "i32", "i64", "buffer"], result: "i64" },
  SSL_set_accept_state: { parameters: ["pointer"], result: "void" },
  SSL_set_connect_state: { parameters: ["pointer"], result: "void" },
  SSL_set1_host: { parameters: ["pointer", "buffer"], result: "i32" },
  SSL_get0_param: { parameters: ["pointer"], result: "pointer" },
  SSL_set_alpn_protos: { parameters: ["pointer", "buffer", "u32"], result: "i32" },
  SSL_get_servername: { parameters: ["pointer", "i32"], result: "pointer" },
  SSL_set_SSL_CTX: { parameters: ["pointer", "pointer"], result: "pointer" },
  SSL_do_handshake: { parameters: ["pointer"], result: "i32" },
  SSL_is_init_finished: { parameters: ["pointer"], result: "i32" },
  SSL_read: { parameters: ["pointer", "buffer", "i32"], result: "i32" },
  SSL_write: { parameters: ["pointer", "buffer", "i32"], result: "i32" },
  SSL_shutdown: { parameters: ["pointer"], result: "i32" },
  SSL_get_error: { parameters: ["pointer", "i32"], result: "i32" },
  SSL_get_verify_result: { parameters: ["pointer"], result: "i64" },
  DTLSv1_listen: { parameters: ["pointer", "pointer"], result: "i32" },
  X509_VERIFY_PARAM_set1_ip_asc: { parameters: ["pointer", "buffer"], result: "i32" },
  X509_verify_cert_error_string: { parameters: ["i64"], result: "pointer" },
  X509_STORE_add_cert: { parameters: ["pointer", "pointer"], result: "i32" },
  X509_free: { parameters: ["pointer"], result: "void" },
  EVP_PKEY_free: { parameters: ["pointer"], result: "void" },
  PEM_read_bio_X509: { parameters: ["pointer", "pointer", "pointer", "pointer"], result: "pointer" },
  PEM_read_bio_PrivateKey: { parameters: ["pointer", "pointer", "function", "pointer"], result: "pointer" },
  BIO_ADDR_new: { parameters: [], result: "pointer" },
  BIO_ADDR_free: { parameters: ["pointer"], result: "void" },
  BIO_s_mem: { parameters: [], result: "pointer" },
  BIO_new: { parameters: ["pointer"], result: "pointer" },
  BIO_free: { parameters: ["pointer"], result: "i32" },
  BIO_ctrl: { parameters: ["pointer", "i32", "i64", "pointer"], result: "i64" },
  BIO_read: { parameters: ["pointer", "buffer", "i32"], result: "i32" },
  BIO_write: { parameters: ["pointer", "buffer", "i32"], result: "i32" },
  ERR_get_error: { parameters: [], result: "u64" },
  ERR_clear_error: { parameters: [], result: "void" },
  ERR_error_string_n: { parameters: ["u64", "buffer", "usize"], result: "void" },
} as const;

/** The functions of the library. */
export type LibsslSymbols = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

/** What OpenSSL calls. All that are used have such a shape; the last argument is an address, or a number of 32 bits. */
export type LibsslCallback = Deno.UnsafeCallback<{
  readonly parameters: readonly ["pointer", "pointer", "u64"];
  readonly result: "i32";
}>;

let library: Deno.DynamicLibrary<typeof SYMBOLS> | undefined;
let users = 0;

/**
 * Loads the library, or takes the one that is loaded. `closeLibssl()` follows for each.
 *
 * @throws {Error} If there is none, it is too old, or Deno may not load it.
 */
export function openLibssl(): LibsslSymbols {
  if (library === undefined) {
    const loaded = Deno.dlopen(NAME, SYMBOLS);
    if (loaded.symbols.OpenSSL_version_num() < MIN_VERSION) {
      loaded.close();
      throw new Error(`${NAME} is older than OpenSSL 3.0`);
    }
    library = loaded;
  }
  users++;
  return library.symbols;
}

/** Lets go of the library. */
export function closeLibssl(): void {
  if (--users > 0) return;
  library?.close();
  library = undefined;
}

/** Why the library can not be used, for people. Never asks the user for a permission. */
export function libsslObstacle(): string | undefined {
  if (Deno.build.os !== "linux") return `it needs Linux: this is ${Deno.build.os}`;
  // For one library only is not enough: Deno wants all of it for pointers.
  if (Deno.permissions.querySync({ name: "ffi" }).state !== "granted") return "it needs --allow-ffi";
  try {
    openLibssl();
    closeLibssl();
    return undefined;
  } catch (error) {
    return `it needs OpenSSL 3 (${NAME}): ${error instanceof Error ? error.message : error}`;
  }
}

/** A callback of this shape. */
export function libsslCallback(
  work: (ssl: Deno.PointerValue, bytes: Deno.PointerValue, third: bigint) => number,
): LibsslCallback {
  return new Deno.UnsafeCallback({ parameters: ["pointer", "pointer", "u64"], result: "i32" }, work);
}

/** What the library says about the last failure of this thread, which it then forgets. */
export function libsslError(symbols: LibsslSymbols): string {
  const code = symbols.ERR_get_error();
  symbols.ERR_clear_error();
  if (code === 0n) return "";
  const text = new Uint8Array(256);
  symbols.ERR_error_string_n(code, text, 256n);
  return new TextDecoder().decode(text.subarray(0, text.indexOf(0))).split(":").at(-1) ?? "";
}

/** Text as C has it. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}
