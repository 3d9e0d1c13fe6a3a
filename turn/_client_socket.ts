import type { TransportAddress } from "../stun/address.ts";
import type { SocketWish, StreamWish } from "../stun/machine.ts";
import type { TurnClientOptions } from "./client_options.ts";

/** What differs from the options. */
export interface SocketPlace {
  /** The server, which may be another than the first. */
  readonly server: TransportAddress;
  /** The name that its certificate must have, if another server gave it. */
  readonly domain?: string | undefined;
  /** The local IP address. Default: as in the options. */
  readonly localAddress?: string | undefined;
  /** The local port; 0 lets the host choose. */
  readonly port: number;
}

/** Whether the client talks to its server over a connection, of DTLS as it may be. */
export function isStream({ transport = "udp" }: TurnClientOptions): boolean {
  return transport !== "udp";
}

/** Whether what the client sends arrives, or the connection ends. */
export function isReliable({ transport = "udp" }: TurnClientOptions): boolean {
  return transport === "tcp" || transport === "tls";
}

/** The socket that a client asks for. */
export function socketWish(options: TurnClientOptions, place: SocketPlace): SocketWish | StreamWish {
  const { transport = "udp", tls = {} } = options;
  const { server: remote, domain, port } = place;
  const address = place.localAddress ?? options.localAddress;
  if (transport === "udp") {
    return { transport, address: address ?? (remote.family === 4 ? "0.0.0.0" : "::"), port, icmp: true };
  }
  return {
    transport,
    remote,
    tls: domain === undefined ? tls : { ...tls, serverName: domain },
    ...(address === undefined || isAny(address) ? {} : { address }),
    ...(port === 0 ? {} : { port }),
  };
}

function isAny(address: string): boolean {
  return address === "0.0.0.0" || address === "::";
}
