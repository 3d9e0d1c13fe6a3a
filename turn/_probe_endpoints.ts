// Shell of probeTurn(): which ways there are to a server.
import type { ServerTransport } from "../stun/locate.ts";
import { familyOf } from "../stun/net/server_address.ts";
import type { Host } from "../stun/net/transport.ts";
import { resolveServers, type ServerEndpoint } from "../stun/resolve.ts";
import { parseStunUri, type StunUri } from "../stun/uri.ts";

/** What to look for. */
export interface EndpointSearch {
  readonly server: string;
  readonly transports: readonly ServerTransport[] | undefined;
  readonly localAddress: string | undefined;
  readonly host: Host;
  readonly signal: AbortSignal | undefined;
}

/** What was found. */
export interface FoundEndpoints {
  /** One of each IP version for each transport. */
  readonly endpoints: readonly ServerEndpoint[];
  /** Why a transport has none. */
  readonly missing: Readonly<Partial<Record<ServerTransport, string>>>;
}

/** DTLS is tried where it is asked for only: few servers have it. */
const USUAL: readonly ServerTransport[] = ["udp", "tcp", "tls"];
const ORDER: readonly ServerTransport[] = [...USUAL, "dtls"];

/**
 * Finds the ways to a server.
 *
 * @throws {SyntaxError} If the URI is none, or does not go with the transports.
 * @throws {Error} If there is no way.
 */
export async function findEndpoints(search: EndpointSearch): Promise<FoundEndpoints> {
  const { server, localAddress } = search;
  const uri = parseStunUri(server);
  const wanted = wantedTransports(uri, search);
  const missing: Partial<Record<ServerTransport, string>> = {};
  const found: ServerEndpoint[] = [];
  let failure: unknown;
  for (const transport of wanted) {
    const why = obstacleTo(transport, search);
    if (why !== undefined) {
      missing[transport] = why;
      continue;
    }
    try {
      found.push(...await resolve(uri, transport, search));
    } catch (error) {
      search.signal?.throwIfAborted();
      failure ??= error;
      missing[transport] = error instanceof Error ? error.message : String(error);
    }
  }
  if (found.length === 0 && failure !== undefined) throw failure;
  const family = localAddress === undefined ? undefined : familyOf(localAddress);
  const endpoints = found.filter(({ address }) => family === undefined || address.family === family)
    .toSorted((a, b) => ORDER.indexOf(a.transport) - ORDER.indexOf(b.transport) || a.address.family - b.address.family)
    .filter((one, i, all) => all.findIndex((other) => isSameKind(one, other)) === i);
  const [obstacle] = Object.entries(missing);
  if (endpoints.length === 0 && obstacle !== undefined) {
    throw new Error(`Cannot use "${server}" over ${obstacle[0].toUpperCase()}: ${obstacle[1]}`);
  }
  if (endpoints.length === 0) {
    throw new Error(`Cannot use "${server}" as it has no address that can be asked from here`);
  }
  return { endpoints, missing };
}

function isSameKind(a: ServerEndpoint, b: ServerEndpoint): boolean {
  return a.transport === b.transport && a.address.family === b.address.family;
}

function wantedTransports({ scheme, transport }: StunUri, { server, transports }: EndpointSearch) {
  if (!scheme.startsWith("turn")) throw new SyntaxError(`Cannot use "${server}" as it must begin with turn: or turns:`);
  if (scheme === "turns" && transports?.some((one) => !isSecure(one))) {
    throw new SyntaxError(`Cannot use "turns:" over ${transports} as it stands for TLS and DTLS`);
  }
  if (scheme === "turns") return transports ?? [transport === "udp" ? "dtls" : "tls"] as const;
  return transports ?? (transport === undefined ? USUAL : [transport]);
}

function isSecure(transport: ServerTransport): boolean {
  return transport === "tls" || transport === "dtls";
}

/** Why a transport cannot be tried from here, if it cannot. */
function obstacleTo(transport: ServerTransport, { host, localAddress }: EndpointSearch): string | undefined {
  if (transport === "udp") return undefined;
  if (transport === "dtls") return host.dtls === undefined ? "this computer has no DTLS" : host.dtls.obstacle;
  if (host.connectStream === undefined) return "this computer has no connections";
  return localAddress === undefined ? undefined : "the local address of a connection cannot be chosen";
}

async function resolve(uri: StunUri, transport: ServerTransport, search: EndpointSearch): Promise<ServerEndpoint[]> {
  const { host, signal } = search;
  // The usual port of TLS and DTLS is another one; a port of one's own may serve both.
  const isOther = isSecure(transport) && uri.scheme === "turn" && uri.port === 3478;
  const target: StunUri = {
    scheme: isSecure(transport) ? "turns" : "turn",
    host: uri.host,
    ...uri.port !== undefined && !isOther && { port: uri.port },
  };
  return await resolveServers(target, {
    transports: [transport],
    host,
    allowSecureAddress: true,
    ...signal !== undefined && { signal },
  });
}
