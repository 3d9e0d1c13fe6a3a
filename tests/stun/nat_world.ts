import { discoverNat, type DiscoverNatOptions } from "../../stun/discover.ts";
import type { NatReport } from "../../stun/nat_report.ts";
import {
  type GatewayOptions,
  type LinkOptions,
  type NatOptions,
  type VirtualGateway,
  type VirtualHost,
  VirtualWorld,
} from "../../stun/net/virtual/mod.ts";
import { serveStun, type ServeStunOptions } from "../../stun/serve.ts";

/** The two addresses of the virtual server. */
export const SERVER: readonly string[] = ["198.51.100.1", "198.51.100.2"];

/** What a virtual report is made in. */
export interface NatWorldOptions {
  /** Default: 1. */
  readonly seed?: number;
  /** The links of all. */
  readonly link?: LinkOptions;
  /** The NAT in front of the client; none without it. */
  readonly nat?: Partial<NatOptions> & GatewayOptions;
  /** The client's address. Default: one that fits `nat`. */
  readonly address?: string;
  /** The server's addresses. Default: `SERVER`. */
  readonly listen?: readonly string[];
  /** How the server serves; `undefined` for none. Default: with two addresses. */
  readonly serve?: Partial<ServeStunOptions> | undefined;
  /** Changes the world before anything starts. */
  readonly prepare?: (world: VirtualWorld, server: VirtualHost) => void;
  /** How the client asks. Default: the first of `listen`. */
  readonly discover?: Partial<DiscoverNatOptions>;
}

/** A report, and the NAT that it is about. */
export interface NatWorldReport {
  readonly report: NatReport;
  readonly nat: VirtualGateway | undefined;
  readonly world: VirtualWorld;
}

/** Makes a virtual internet, and a report in it. */
export async function reportIn(options: NatWorldOptions): Promise<NatWorldReport> {
  const { seed = 1, link = {}, nat, listen = SERVER, prepare, discover } = options;
  const serve = "serve" in options ? options.serve : {};
  const world = new VirtualWorld({ seed, link });
  const server = world.addHost("server", { addresses: listen });
  const gateway = nat === undefined ? undefined : world.addNat("nat", { external: ["203.0.113.1"], ...nat });
  const address = options.address ?? (gateway === undefined ? "203.0.113.7" : "192.168.1.2");
  const host = (gateway ?? world).addHost("client", { addresses: [address] });
  prepare?.(world, server);
  const report = await world.run(async () => {
    await using _service = serve === undefined ? undefined : serveStun({ listen, host: server, ...serve });
    const first = listen[0]!.includes(":") ? `[${listen[0]}]` : listen[0];
    return await discoverNat({ servers: [`stun:${first}`], host, ...discover });
  });
  return { report, nat: gateway, world };
}
