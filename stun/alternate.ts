import type { TransportAddress } from "./address.ts";
import { ALTERNATE_DOMAIN, ALTERNATE_SERVER } from "./attributes.ts";
import type { StunMessage } from "./message.ts";

/** How many servers to ask in all, when each names another. */
const MAX_SERVERS = 4;

/** Where a 300 (Try Alternate) response leads. */
export interface AlternateRoute {
  /** The server to ask now. `undefined` if there is none to go to. */
  readonly next: TransportAddress | undefined;
  /** Over TLS, the name that its certificate must have. `undefined`: the same as before. */
  readonly domain: string | undefined;
  /** All servers that the response names, for an error. */
  readonly alternates: readonly TransportAddress[];
  /** Why there is none to go to, in words. */
  readonly fault: string | undefined;
}

/**
 * A request's way from server to server (RFC 8489 §10): at most four, and none of them twice, since they may name each
 * other.
 *
 * @example Two servers that name each other
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ALTERNATE_SERVER, MessageWriter, METHOD, ServerTrail, StunMessage, TransportAddress } from "@natkit/natkit/stun";
 *
 * const [one, other] = ["192.0.2.1:3478", "192.0.2.2:3478"].map((text) => TransportAddress.parse(text));
 * const redirect = (to: TransportAddress) =>
 *   StunMessage.parse(
 *     new MessageWriter(new Uint8Array(64)).begin(METHOD.BINDING, "error", new Uint8Array(12)).add(ALTERNATE_SERVER, to).finish(),
 *   )!;
 * const trail = new ServerTrail(one!);
 * assertEquals(trail.follow(redirect(other!)).next, other);
 * assertEquals(trail.follow(redirect(one!)).next, undefined);
 * ```
 */
export class ServerTrail {
  readonly #servers: TransportAddress[];

  /** A way that begins at this server. */
  constructor(first: TransportAddress) {
    this.#servers = [first];
  }

  /** The server that is asked now. */
  get current(): TransportAddress {
    return this.#servers.at(-1)!;
  }

  /** Takes a 300 response of the current server. If it leads on, the next server is the current one. */
  follow(response: StunMessage): AlternateRoute {
    const alternates = response.getAll(ALTERNATE_SERVER).filter((server) => server !== undefined);
    const domain = response.get(ALTERNATE_DOMAIN);
    // The first one must be of the same IP version; another may follow for those who have both.
    const next = alternates.find(({ family }) => family === this.current.family);
    const fault = this.#faultOf(next);
    if (fault !== undefined) return { next: undefined, domain: undefined, alternates, fault };
    this.#servers.push(next!);
    return { next, domain: domain === undefined || !isHostName(domain) ? undefined : domain, alternates, fault };
  }

  #faultOf(next: TransportAddress | undefined): string | undefined {
    if (next === undefined) return `it names no server of IPv${this.current.family}`;
    const isLoop = this.#servers.some((old) => old.equals(next)) || this.#servers.length === MAX_SERVERS;
    return isLoop ? `it names ${next}, and there is no end to it` : undefined;
  }
}

/** Whether a certificate may be asked for by this name. */
function isHostName(text: string): boolean {
  return /^(?!-)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*\.?$/.test(text);
}
