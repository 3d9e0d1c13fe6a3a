// What the client verbs have in common before there is a machine: which server, and from which local address.
import { type AddressFamily, isIpv4, TransportAddress } from "../address.ts";
import { defaultPort, parseStunUri, type StunUri } from "../uri.ts";
import type { Host } from "./transport.ts";

/** How to look for a server. */
export interface ServerLookup {
  /** The schemes that the URI may have. */
  readonly schemes: readonly StunUri["scheme"][];
  /** The computer to look from. */
  readonly host: Host;
  /** The IP version to use. Default: that of the first address found. */
  readonly family?: AddressFamily | undefined;
  /** Ends the wait. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * The transport address of a server that runs over UDP.
 *
 * @param server A URI, as `stun:stun.example.org:3478`, or the address itself.
 * @throws {SyntaxError} If the URI is none, or its scheme or transport does not fit.
 * @throws {Error} If the name is not found, or has no address of the IP version asked for.
 */
export async function resolveServer(
  server: string | TransportAddress,
  lookup: ServerLookup,
): Promise<TransportAddress> {
  const { schemes, host, family, signal } = lookup;
  signal?.throwIfAborted();
  if (server instanceof TransportAddress) return server;
  const uri = parseStunUri(server);
  if (!schemes.includes(uri.scheme)) {
    throw new SyntaxError(`Cannot use "${server}" as it must begin with ${schemes.join(": or ")}:`);
  }
  if (uri.transport === "tcp") throw new SyntaxError(`Cannot use "${server}" as only UDP is supported here`);
  const addresses = await abortable(host.resolve(uri.host), signal);
  const fitting = addresses.find((address) => family === undefined || familyOf(address) === family);
  if (fitting === undefined) throw new Error(`Cannot use "${server}" as "${uri.host}" has no IPv${family} address`);
  return TransportAddress.of(fitting, uri.port ?? defaultPort(uri.scheme));
}

/** The local IP address to bind when none was asked for: loopback for a server there, else all (`0.0.0.0` or `::`). */
export function defaultLocalAddress(server: TransportAddress): string {
  if (isLoopback(server)) return server.family === 4 ? "127.0.0.1" : "::1";
  return server.family === 4 ? "0.0.0.0" : "::";
}

/** The host's addresses of an IP version, without loopback and IPv6 link-local ones. */
export function ownAddresses(family: AddressFamily, host: Host): string[] {
  return host.interfaces().map(({ address }) => address).filter((address) =>
    familyOf(address) === family && !/^(127\.|::1$|fe[89ab])/i.test(address)
  );
}

/** Whether the address stands for all addresses of its host: `0.0.0.0` or `::`. */
export function isWildcard({ bytes }: TransportAddress): boolean {
  return bytes.every((byte) => byte === 0);
}

/**
 * Waits for a promise, but no longer than the signal allows.
 *
 * @throws {unknown} The signal's reason, if it aborts first.
 */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise<T>((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

/** The IP version of an address. */
export function familyOf(address: string): AddressFamily {
  return isIpv4(address) ? 4 : 6;
}

/** Whether the address is a loopback one. */
export function isLoopback({ family, bytes }: TransportAddress): boolean {
  return family === 4 ? bytes[0] === 127 : bytes.every((byte, i) => byte === (i === 15 ? 1 : 0));
}
