import { TransportAddress } from "./address.ts";
import { type BindingAnswer, BindingClient } from "./client.ts";
import { denoHost } from "./net/deno_host.ts";
import { Driver } from "./net/driver.ts";
import {
  abortable,
  defaultLocalAddress,
  familyOf,
  isWildcard,
  ownAddresses,
  resolveServer,
} from "./net/server_address.ts";
import type { Host } from "./net/transport.ts";
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
 * @example What address a server sees
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { requestBinding, serveStun } from "@natkit/natkit/stun";
 *
 * using service = serveStun({ listen: ["127.0.0.1:0"] });
 * const { mapped, local } = await requestBinding({ server: `stun:${service.addresses[0]}` });
 * assertEquals(mapped, local); // No NAT in between.
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
  const { localAddress, localPort = 0, signal, host = denoHost(), rto, rc, rm } = options;
  const family = localAddress === undefined ? undefined : familyOf(localAddress);
  const server = await resolveServer(options.server, { schemes: ["stun"], host, family, signal });
  const retransmit = { ...rto && { rto }, ...rc && { rc }, ...rm && { rm } };
  const local = { localAddress: localAddress ?? defaultLocalAddress(server), localPort };
  const client = new BindingClient({ server, ...local, retransmit });
  const driver = new Driver(host);
  try {
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
    return { ...answer, local: isWildcard(bound!) ? findLocal(bound!, answer.mapped, host, options) : bound! };
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
