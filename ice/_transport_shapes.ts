// What `IceTransport` tells and takes, in W3C's shapes.
import type { Candidate, CandidateType } from "./candidate.ts";
import type { OpenIceOptions } from "./connection_options.ts";
import type { IceTurnServer } from "./gather_options.ts";
import type { CandidatePair } from "./pair.ts";
import { formatCandidate } from "./sdp.ts";
import type { IceTransportCandidate, IceTransportCandidatePair } from "./transport_events.ts";

/** A candidate, of these credentials. */
export function describe(candidate: Candidate, usernameFragment?: string): IceTransportCandidate {
  const { foundation, priority, protocol, type, address, name, relatedAddress, tcpType } = candidate;
  return {
    candidate: formatCandidate(candidate),
    component: "rtp",
    foundation,
    priority,
    address: name?.host ?? address?.address ?? null,
    port: name?.port ?? address?.port ?? null,
    protocol: protocol as "udp" | "tcp",
    type: type satisfies CandidateType,
    tcpType: tcpType ?? null,
    relatedAddress: relatedAddress?.address ?? null,
    relatedPort: relatedAddress?.port ?? null,
    usernameFragment: usernameFragment ?? null,
  };
}

/** A pair, whose local candidate is of these credentials. */
export function describePair({ local, remote }: CandidatePair, usernameFragment: string): IceTransportCandidatePair {
  return { local: describe(local, usernameFragment), remote: describe(remote) };
}

/** STUN servers and TURN servers apart: browsers name them in one list. */
export function serversOf(servers: readonly IceTurnServer[]): Pick<OpenIceOptions, "stunServers" | "turnServers"> {
  const all = servers.flatMap(({ urls, ...rest }) => [urls].flat().map((url) => ({ urls: url as string, ...rest })));
  const isStun = ({ urls }: { readonly urls: string }) => /^stuns?:/i.test(urls);
  return {
    stunServers: all.filter(isStun).map(({ urls }) => urls),
    turnServers: all.filter((server) => !isStun(server)),
  };
}
