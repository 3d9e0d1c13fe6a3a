import { isIpAddress, TransportAddress } from "../address.ts";
import { isWildcard } from "./server_address.ts";
import { type Host, OpenError } from "./transport.ts";

/**
 * The transport addresses to listen on, `0.0.0.0` and `[::]` standing for each address of the host.
 *
 * @param listen Addresses, or texts that name them.
 * @param defaultPort The port of texts without one.
 * @param host The computer to listen on.
 * @throws {RangeError} If there is none.
 * @throws {SyntaxError} If one is malformed.
 * @throws {OpenError} If the host has no address for a wildcard, or does not tell.
 */
export function listenWishes(
  listen: readonly (string | TransportAddress)[],
  defaultPort: number,
  host: Host,
): TransportAddress[] {
  if (listen.length === 0) throw new RangeError("Cannot serve as there is no address to listen on");
  const wishes = listen.map((one) => typeof one === "string" ? TransportAddress.parse(one, defaultPort) : one)
    .flatMap((address) => isWildcard(address) ? everyAddress(address, host) : [address]);
  // An address may be named and be one of the host's as well.
  return wishes.filter((one, i) => one.port === 0 || wishes.findIndex((other) => other.equals(one)) === i);
}

/** The addresses that a wildcard stands for. A socket for each, since Deno can not say from which one an answer leaves. */
function everyAddress(wildcard: TransportAddress, host: Host): TransportAddress[] {
  const advice =
    `listen on the host's IP addresses by name, as ${wildcard.family === 4 ? "192.0.2.1" : "[2001:db8::1]"}` +
    `:${wildcard.port}, or give Deno --allow-sys=networkInterfaces`;
  let found: string[];
  try {
    found = host.interfaces().map(({ address }) => address);
  } catch (cause) {
    throw new OpenError("permission-denied", `Cannot find out the host's addresses for ${wildcard}: ${advice}`, {
      cause,
    });
  }
  // A link-local address is none without its zone, which a transport address has no room for.
  const usable = [...new Set(found)].filter(isIpAddress).map((text) => TransportAddress.of(text, wildcard.port))
    .filter((one) => one.family === wildcard.family && !(one.bytes[0] === 0xfe && one.bytes[1]! >> 6 === 2));
  if (usable.length === 0) {
    throw new OpenError(
      "address-not-available",
      `Cannot serve on ${wildcard} as the host has no such address: ${advice}`,
    );
  }
  return usable;
}
