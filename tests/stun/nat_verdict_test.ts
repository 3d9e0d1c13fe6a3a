import { assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import type { ClassicNatType, NatBehavior } from "../../stun/nat_report.ts";
import { PacketBatch } from "../../stun/net/transport.ts";
import { type GatewayOptions, type NatOptions, type VirtualHost, VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { reportIn } from "./nat_world.ts";

type Kind = (Partial<NatOptions> & GatewayOptions) | undefined;

const BEHAVIORS: readonly Exclude<NatBehavior, "unknown">[] = [
  "endpoint-independent",
  "address-dependent",
  "address-and-port-dependent",
];
const [EI, AD, APD] = BEHAVIORS as [typeof BEHAVIORS[0], typeof BEHAVIORS[0], typeof BEHAVIORS[0]];
/** The peers that a verdict speaks of. */
const PEERS: Readonly<Partial<Record<ClassicNatType, Kind>>> = {
  "open": undefined,
  "full cone": { mapping: EI, filtering: EI },
  "restricted cone": { mapping: EI, filtering: AD },
  "port restricted cone": { mapping: EI, filtering: APD },
  "symmetric firewall": { external: [], filtering: APD },
  "symmetric": { mapping: APD, filtering: APD },
  "blocked": { udp: "blocked" },
};

/** One side: a socket that sends checks to what it knows of the other, and answers those that come. */
class Side {
  readonly targets: TransportAddress[] = [];
  mapped: TransportAddress | undefined;
  isConnected = false;
  #checked = new Set<string>();
  #socket: ReturnType<VirtualHost["openDatagram"]>;

  constructor(host: VirtualHost, address: string) {
    this.#socket = host.openDatagram({ transport: "udp", address, port: 0 }, (batch) => {
      for (let i = 0; i < batch.length; i++) this.#receive(batch.addresses[i]!, batch.buffers[i]![batch.offsets[i]!]!);
    });
  }

  send(to: TransportAddress, kind: "?" | "!"): void {
    const batch = new PacketBatch(1);
    batch.push(to, new TextEncoder().encode(kind), 0, 1);
    this.#socket.send(batch);
  }

  check(): void {
    for (const target of this.targets) {
      this.#checked.add(String(target));
      this.send(target, "?");
    }
  }

  #receive(from: TransportAddress, kind: number): void {
    if (kind === "!".charCodeAt(0)) {
      // RFC 8445 §7.2.5.2.1: an answer counts only from where the check was sent to.
      if (this.#checked.has(String(from))) this.isConnected = true;
      return;
    }
    this.send(from, "!");
    // A triggered check; and a bound, as a symmetric pair would find new addresses for ever.
    if (this.targets.length < 8 && !this.targets.some((one) => one.equals(from))) this.targets.push(from);
  }
}

/** Whether checks from both sides get through, with what a server has seen of each. */
function canConnect(a: Kind, b: Kind): boolean {
  const world = new VirtualWorld({ seed: 1 });
  const server = world.addHost("server", { addresses: ["198.51.100.1"] });
  const sides = [a, b].map((kind, i) => {
    const external = [`203.0.113.${i + 1}`];
    const isInside = kind !== undefined && kind.external === undefined;
    const address = isInside ? "192.168.1.2" : external[0]!;
    const network = kind === undefined
      ? world
      : world.addNat(`nat${i}`, { external, portAllocation: "random", ...kind });
    return new Side(network.addHost(`host${i}`, { addresses: [address] }), address);
  }) as [Side, Side];
  let asking = 0;
  server.openDatagram({ transport: "udp", address: "198.51.100.1", port: 3478 }, (batch) => {
    for (let i = 0; i < batch.length; i++) sides[asking]!.mapped = batch.addresses[i];
  });
  for (; asking < 2; asking++) {
    sides[asking]!.send(TransportAddress.parse("198.51.100.1:3478"), "?");
    world.advance(100);
  }
  const [one, two] = sides;
  if (two.mapped !== undefined) one.targets.push(two.mapped);
  if (one.mapped !== undefined) two.targets.push(one.mapped);
  for (let i = 0; i < 20; i++) {
    for (const side of sides) side.check();
    world.advance(50);
  }
  return one.isConnected && two.isConnected;
}

const MINE: Readonly<Record<string, Kind>> = {
  "open": undefined,
  "firewall by address": { external: [], filtering: AD },
  "firewall by port": { external: [], filtering: APD },
  "blocked": { udp: "blocked" },
  ...Object.fromEntries(
    BEHAVIORS.flatMap((mapping) =>
      BEHAVIORS.map((filtering) => [`${mapping} mapping, ${filtering} filtering`, { mapping, filtering }])
    ),
  ),
};

for (const [name, kind] of Object.entries(MINE)) {
  Deno.test(`Verdict: who reaches us is who gets through by hole punching: ${name}`, async () => {
    const { report } = await reportIn({
      ...(kind === undefined ? {} : { nat: { portAllocation: "random", ...kind } }),
      ...(kind?.external === undefined ? {} : { address: "203.0.113.7" }),
    });
    const peers = Object.entries(PEERS);
    const direct = peers.filter(([, peer]) => canConnect(kind, peer)).map(([peer]) => peer);
    assertEquals(report.reachableBy, direct as ClassicNatType[]);
    assertEquals(report.relayFor, peers.map(([peer]) => peer as ClassicNatType).filter((one) => !direct.includes(one)));
  });
}
