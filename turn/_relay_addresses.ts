import type { AddressFamily, TransportAddress } from "../stun/address.ts";
import type { Listener, RelayTransport } from "./allocation.ts";
import type { RelayPorts } from "./relay_ports.ts";

/** The IP addresses that a server's relayed transport addresses are on, inside and outside of a 1:1 mapping. */
export class RelayAddresses {
  /** The ports of each. */
  readonly ports: readonly RelayPorts[];
  /** Those of addresses that clients know by another. */
  #mapped: readonly RelayPorts[];

  constructor(ports: readonly RelayPorts[]) {
    this.ports = ports;
    this.#mapped = ports.filter(({ local, external }) => !local.equals(external));
  }

  /** How many ports are in use. */
  get used(): number {
    return this.ports.reduce((sum, ports) => sum + ports.used, 0);
  }

  /** Whether there are addresses of a family. */
  hasFamily(family: AddressFamily): boolean {
    return this.ports.some((ports) => ports.family === family);
  }

  /** The address that clients of a listener get: the listener's own, if relays may be there. */
  portsFor(listener: Listener, family: AddressFamily): RelayPorts {
    const { ipKey } = listener.localAddress;
    const candidates = this.ports.filter((ports) => ports.family === family);
    return candidates.find((ports) => ports.local.ipKey === ipKey) ?? candidates[0]!;
  }

  /**
   * Where to send what is for this address, if it is a relayed transport address of this server now. Whoever has the port
   * after that is no peer (class PeerPolicy).
   */
  inner(relayed: TransportAddress, transport: RelayTransport = "udp"): TransportAddress | undefined {
    for (const ports of this.ports) {
      if (ports.external.ipKey === relayed.ipKey && ports.isRelayed(relayed.port, transport)) {
        return ports.innerAddress(relayed.port);
      }
    }
    return undefined;
  }

  /** The address that clients know a peer by: a relay of this server is seen by its inner address. */
  outer(peer: TransportAddress): TransportAddress {
    for (const ports of this.#mapped) {
      if (ports.local.ipKey === peer.ipKey && ports.isRelayed(peer.port)) return ports.outerAddress(peer.port);
    }
    return peer;
  }

  /** The same for a peer that has connected, by any port: there are hosts that can not connect from a relay's own. */
  outerOfConnected(peer: TransportAddress): TransportAddress {
    const ports = this.#mapped.find(({ local }) => local.ipKey === peer.ipKey);
    return ports === undefined ? peer : ports.external.withPort(peer.port);
  }
}
