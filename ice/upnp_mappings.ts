import { isIpv4, TransportAddress } from "../stun/address.ts";
import type { Host } from "../stun/net/transport.ts";
import type { UpnpClient, UpnpGateway } from "./port_mapping_options.ts";

/** How long the search for a router and its answer may take together, in ms. */
const LIMIT = 10_000;
/** How long giving back may take, in ms. */
const CLOSE_LIMIT = 1500;

/** The ports that a UPnP router has given to one connection. */
export class UpnpMappings {
  readonly #client: UpnpClient;
  readonly #host: Host;
  readonly #ending = new AbortController();
  #gateway: Promise<UpnpGateway | undefined> | undefined;

  /** Asks nobody yet. */
  constructor(client: UpnpClient, host: Host) {
    this.#client = client;
    this.#host = host;
  }

  /**
   * Asks for a port.
   *
   * @returns The address outside.
   * @throws {Error} If there is none, with the reason.
   */
  async map({ address, port }: TransportAddress): Promise<TransportAddress> {
    const limit = new AbortController();
    const timer = this.#host.createTimer(() =>
      limit.abort(new Error(`no UPnP router has answered within ${LIMIT} ms`))
    );
    timer.set(this.#host.now() + LIMIT);
    const signal = AbortSignal.any([limit.signal, this.#ending.signal]);
    try {
      const gateway = await ended(this.#gateway ??= first(this.#client.findGateways({ signal })), signal);
      if (gateway === undefined) throw new Error("there is no UPnP router");
      const mapped = await ended(gateway.map(port, address, { protocol: "udp", signal }), signal);
      if (!isIpv4(mapped.externalHost)) {
        throw new Error(`the UPnP router has no address outside: ${mapped.externalHost}`);
      }
      return TransportAddress.of(mapped.externalHost, mapped.externalPort);
    } finally {
      timer.set(Infinity);
    }
  }

  /** Gives all ports back; takes 1.5 s at most. */
  async close(): Promise<void> {
    this.#ending.abort(new Error("the connection was closed"));
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = this.#host.createTimer(resolve);
    timer.set(this.#host.now() + CLOSE_LIMIT);
    const stopped = this.#gateway?.then((gateway) => gateway?.stop()).catch(() => {});
    await Promise.race([stopped, promise]);
    timer.set(Infinity);
  }
}

async function first(gateways: AsyncIterable<UpnpGateway>): Promise<UpnpGateway | undefined> {
  for await (const gateway of gateways) return gateway;
  return undefined;
}

/** The promise, or the signal's reason. A package may not look at the signal everywhere. */
function ended<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
