import { TransportAddress } from "./address.ts";
import { type BindingAnswer, BindingClient } from "./client.ts";
import { denoHost } from "./net/deno_host.ts";
import { Driver } from "./net/driver.ts";
import {
  abortable,
  defaultLocalAddresses,
  familyOf,
  isWildcard,
  ownAddresses,
  resolveServer,
} from "./net/server_address.ts";
import { type Host, OpenError } from "./net/transport.ts";
import type { RetransmitOptions } from "./transaction.ts";

/** How `requestBinding()` asks. */
export interface RequestBindingOptions extends RetransmitOptions {
  /** The server: `stun:HOST[:PORT]` with port 3478 as the default, or its address. */
  readonly server: string | TransportAddress;
  /** The local IP address to bind. Default: loopback for a server there, else all addresses. */
  readonly localAddress?: string;
  /** The local port to bind. Default: 0, the host chooses. */
  readonly localPort?: number;
  /** The computer to ask from. Default: `denoHost()`. */
  readonly host?: Host;
  /** Ends the wait: the promise is rejected with its reason. */
  readonly signal?: AbortSignal;
}

/** What `requestBinding()` found out. */
export interface BindingResult extends BindingAnswer {
  /**
   * The address that the request was sent from. When all addresses are bound, the one that fits is looked for (if Deno
   * may list them); `0.0.0.0` or `::` with the right port when none or several do.
   */
  readonly local: TransportAddress;
}

/**
 * Asks a STUN server what address it sees: the mapped address, which a NAT in between has made (RFC 8489 §2). Servers of
 * RFC 3489 are understood too.
 *
 * A silent server is asked seven times in 39.5 s, unless `rto`, `rc`, `rm` or `signal` say otherwise.
 *
 * @example What address the world sees
 * ```ts ignore
 * import { requestBinding } from "@natkit/natkit/stun";
 *
 * const { mapped, rtt } = await requestBinding({ server: "stun:stun.example.org" });
 * console.log(`${mapped} (${rtt.toFixed(1)} ms)`);
 * ```
 *
 * @throws {SyntaxError} If the server's URI is none.
 * @throws {Error} If its name is not found.
 * @throws {OpenError} If the local address cannot be bound.
 * @throws {StunTimeoutError} If the server does not answer.
 * @throws {StunError} If it answers with an error.
 * @throws {StunProtocolError} If its answer is of no use.
 */
export async function requestBinding(options: RequestBindingOptions): Promise<BindingResult> {
  const { localAddress, signal, host = denoHost() } = options;
  const family = localAddress === undefined ? undefined : familyOf(localAddress);
  const server = await resolveServer(options.server, { schemes: ["stun"], host, family, signal });
  const candidates = localAddress === undefined ? defaultLocalAddresses(server, host) : [localAddress];
  let unbound: unknown;
  for (const candidate of candidates) {
    try {
      const { answer, bound } = await askFrom(candidate, server, host, options);
      return { ...answer, local: isWildcard(bound) ? findLocal(bound, answer.mapped, host, options) : bound };
    } catch (error) {
      if (!(error instanceof OpenError)) throw error;
      unbound ??= error;
    }
  }
  throw unbound;
}

/** One try: a driver and a machine of its own, both gone when it ends. */
async function askFrom(
  localAddress: string,
  server: TransportAddress,
  host: Host,
  { localPort = 0, signal, ...retransmit }: RequestBindingOptions,
): Promise<{ readonly answer: BindingAnswer; readonly bound: TransportAddress }> {
  const driver = new Driver(host);
  try {
    const client = new BindingClient({ server, localAddress, localPort, retransmit });
    const { promise, resolve, reject } = Promise.withResolvers<BindingAnswer>();
    let bound: TransportAddress | undefined;
    const handle = driver.add(client, {
      onEvent(event) {
        if (event.type === "bound") bound = event.local;
        else if (event.type === "answered") resolve(event.answer);
        else reject(event.error);
      },
    });
    handle.call((io) => client.request(io));
    const answer = await abortable(promise, signal);
    return { answer, bound: bound! };
  } finally {
    driver.close();
  }
}

/** The address of ours that the request was sent from, as far as it can be known when all of them were bound. */
function findLocal(
  bound: TransportAddress,
  mapped: TransportAddress,
  host: Host,
  options: RequestBindingOptions,
): TransportAddress {
  // Deno would stop and ask a person for the permission, which this is not worth.
  const isAllowed = options.host !== undefined ||
    Deno.permissions.querySync({ name: "sys", kind: "networkInterfaces" }).state === "granted";
  const own = isAllowed ? ownAddresses(bound.family, host) : [];
  const local = own.find((address) => address === mapped.address) ?? (own.length === 1 ? own[0] : undefined);
  return local === undefined ? bound : TransportAddress.of(local, bound.port);
}
