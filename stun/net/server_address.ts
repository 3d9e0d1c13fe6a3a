// What the client verbs have in common before there is a machine: which local address.
import { type AddressFamily, isIpv4, type TransportAddress } from "../address.ts";
import type { Host } from "./transport.ts";

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
