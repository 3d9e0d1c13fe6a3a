/**
 * A virtual internet in virtual time: hosts, links that delay, lose, repeat and reorder, NATs by RFC 4787 and RFC 5382, UDP,
 * TCP and the semblance of TLS. For testing natkit, and any program that uses it.
 *
 * A virtual host is a `Host`, so everything that takes a `host` runs on it unchanged: natkit's driver, its verbs, and
 * machines of your own. A whole day passes in a moment, and one seed reproduces a run to the last datagram.
 *
 * @example An echo behind a NAT
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { Driver, type Machine, TransportAddress } from "@natkit/natkit/stun";
 * import { VirtualWorld } from "@natkit/natkit/virtual";
 *
 * const echo: Machine = {
 *   deadline: Infinity,
 *   handleTimeout() {},
 *   handlePacket: (packet, io) => io.send(packet.socket, packet.from, packet.bytes),
 * };
 * const caller: Machine = {
 *   deadline: Infinity,
 *   handleTimeout() {},
 *   handlePacket: (packet, io) => io.deliver(packet.from, packet.bytes),
 * };
 *
 * const world = new VirtualWorld({ seed: 1, link: { delay: 20 } });
 * const server = world.addHost("server", { addresses: ["198.51.100.1"] });
 * const home = world.addNat("home", { external: ["203.0.113.1"] });
 * const alice = home.addHost("alice", { addresses: ["192.168.1.2"] });
 *
 * const roundTrip = await world.run(() => {
 *   new Driver(server).add(echo).bind({ transport: "udp", address: "198.51.100.1", port: 7 });
 *   return new Promise<number>((resolve) => {
 *     const handle = new Driver(alice).add(caller, { onDeliver: () => resolve(world.now) });
 *     const { socket } = handle.bind({ transport: "udp", address: "192.168.1.2", port: 0 });
 *     handle.call((io) => io.send(socket, TransportAddress.parse("198.51.100.1:7"), new Uint8Array(4)));
 *   });
 * });
 * assertEquals(roundTrip, 120); // three links of 20 ms, there and back
 * assertEquals(home.counters.translated, 2);
 * ```
 *
 * @example Whole programs: natkit's verbs with another `host`
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { requestBinding, serveStun } from "@natkit/natkit/stun";
 * import { addHostBehind, VirtualWorld } from "@natkit/natkit/virtual";
 *
 * const steps: string[] = [];
 * const world = new VirtualWorld({ seed: "any text", trace: ({ at, node, step }) => steps.push(`${at} ${node} ${step}`) });
 * const server = world.addHost("server", { addresses: ["198.51.100.1"], link: { delay: 40, jitter: 5 } });
 * world.names.set("stun.example.org", ["198.51.100.1"]);
 * const { host, gateway } = addHostBehind(world, { name: "alice", type: "symmetric", external: "203.0.113.1" });
 *
 * await world.run(async () => {
 *   await using _service = serveStun({ host: server, listen: ["198.51.100.1:3478"] });
 *   const { mapped } = await requestBinding({ host, server: "stun:stun.example.org" });
 *   assertEquals(mapped.address, "203.0.113.1");
 *
 *   gateway!.link.set({ loss: 1 }); // the line goes down, and up again a second later
 *   world.after(1000, () => gateway!.link.set({ loss: 0 }));
 *   await requestBinding({ host, server: "stun:stun.example.org" });
 * });
 * assertEquals(steps.filter((step) => step.endsWith("lost")).length, 2); // the first two tries; the third got through
 * assertEquals(world.counters.lost, 2);
 * ```
 *
 * @module
 */
export { type InterfaceOptions, VirtualHost, VirtualInterface } from "./host.ts";
export { LinkDirection, type LinkOptions, VirtualLink } from "./link.ts";
export type {
  FilterOptions,
  Hairpinning,
  NatBehavior,
  NatMapping,
  NatOptions,
  PortAllocation,
  TcpRules,
} from "./nat.ts";
export { type GatewayOptions, VirtualGateway, VirtualNetwork } from "./network.ts";
export { addHostBehind, type ClassicType, type HostBehindOptions, NAT_TYPES, type NatType } from "./presets.ts";
export type { DatagramView, TraceStep, VirtualCounters, VirtualStep } from "./trace.ts";
export { type RunOptions, VirtualWorld, type VirtualWorldOptions } from "./world.ts";
