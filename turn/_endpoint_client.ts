// How the verbs make a client for a server that they have found. Shell.
import type { AccessToken } from "../stun/access_token.ts";
import { defaultLocalAddress } from "../stun/net/server_address.ts";
import type { ServerEndpoint } from "../stun/resolve.ts";
import type { AllocateOptions } from "./allocate.ts";
import { TurnClient } from "./client.ts";

/** RFC 7443 §3. */
const ALPN: readonly string[] = ["stun.turn"];

/** A client for this server. `peerTransport` is as in `TurnClientOptions`. */
export function clientFor(
  endpoint: ServerEndpoint,
  options: AllocateOptions,
  peerTransport: "udp" | "tcp",
  accessToken?: AccessToken,
): TurnClient {
  const { transport, address: server, serverName } = endpoint;
  const { username, password, localAddress, family, lifetime, retransmit, rtoCache } = options;
  const { evenPort, reservationToken, dontFragment, mobility } = options;
  const local = localAddress ?? (transport === "udp" ? defaultLocalAddress(server) : undefined);
  return new TurnClient({
    server,
    transport,
    peerTransport,
    tls: { serverName, alpn: ALPN, ...options.tls },
    ...(local === undefined ? {} : { localAddress: local }),
    ...(username === undefined || password === undefined ? {} : { credentials: { username, password } }),
    ...(accessToken === undefined ? {} : { accessToken }),
    ...(family === undefined ? {} : { requestedFamily: family }),
    ...(evenPort === undefined ? {} : { evenPort }),
    ...(reservationToken === undefined ? {} : { reservationToken }),
    ...(dontFragment === undefined ? {} : { dontFragment }),
    ...(mobility === undefined ? {} : { mobility }),
    ...(lifetime === undefined ? {} : { lifetime }),
    ...(retransmit === undefined ? {} : { retransmit }),
    ...(rtoCache === undefined ? {} : { rtoCache }),
  });
}
