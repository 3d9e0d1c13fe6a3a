import { type CandidateType, type IceConnection, openIce } from "../ice/mod.ts";
import { addHostBehind, VirtualWorld } from "../stun/net/virtual/mod.ts";
import { serveTurn } from "../turn/mod.ts";

/** The kinds of NAT that the demo crosses, in the words of RFC 3489. */
export const DEMO_NATS = ["open", "full cone", "restricted cone", "port restricted cone", "symmetric"] as const;
/** One of `DEMO_NATS`. */
export type DemoNat = typeof DEMO_NATS[number];

/** How two agents behind NATs got together. */
export interface NatCell {
  /** What the controlling agent is behind. */
  readonly a: DemoNat;
  /** What the controlled agent is behind. */
  readonly b: DemoNat;
  /** Whether the nominated path goes through the relay. */
  readonly path: "direct" | "relay";
  /** Our side's candidate type on it. */
  readonly local: CandidateType;
  /** The other side's candidate type on it. */
  readonly remote: CandidateType;
  /** Virtual ms from both sides having both descriptions until data could flow. */
  readonly connectedMs: number;
  /** The same until the path was nominated. */
  readonly nominatedMs: number;
  /** The same path's round trip, in virtual ms. */
  readonly rttMs: number;
}

/** One way along each link, in ms. Hosts and NATs have one each: two homes are 80 ms apart there and back. */
export const LINK_DELAY: number = 10;
const SERVER = "198.51.100.1";
const CREDENTIALS = { username: "alice", credential: "secret" };

/** Whether theory has a direct path: two mappings must be known beforehand or learnt from a check that gets through. */
export function isDirectExpected(a: DemoNat, b: DemoNat): boolean {
  const isHard = (nat: DemoNat) => nat === "symmetric" || nat === "port restricted cone";
  return !(isHard(a) && isHard(b) && (a === "symmetric" || b === "symmetric"));
}

/** Connects two agents, one behind each NAT, in a virtual internet with a STUN and TURN server. */
export function connectBehind(a: DemoNat, b: DemoNat): Promise<NatCell> {
  const world = new VirtualWorld({ seed: `${a} and ${b}`, link: { delay: LINK_DELAY } });
  const server = world.addHost("server", { addresses: [SERVER] });
  const alice = addHostBehind(world, { name: "alice", type: a, external: "203.0.113.1", internal: "192.168.1.2" });
  const bob = addHostBehind(world, { name: "bob", type: b, external: "203.0.113.2", internal: "10.0.0.2" });
  return world.run(async () => {
    // The virtual internet is made of addresses for documentation, which a server does not relay to by itself.
    await using _turn = serveTurn({
      host: server,
      listen: [`${SERVER}:3478`],
      realm: "example.org",
      users: { alice: "secret" },
      allowPeers: ["198.51.100.0/24", "203.0.113.0/24"],
    });
    const servers = { turnServers: [{ urls: `turn:${SERVER}`, ...CREDENTIALS }] };
    await using one = openIce({ host: alice.host, role: "controlling", ...servers });
    await using other = openIce({ host: bob.host, role: "controlled", ...servers });
    return await meet(world, one, other, { a, b });
  });
}

async function meet(
  world: VirtualWorld,
  one: IceConnection,
  other: IceConnection,
  nats: { a: DemoNat; b: DemoNat },
): Promise<NatCell> {
  const [offer, answer] = await Promise.all([one.localDescription(), other.localDescription()]);
  const start = world.now;
  other.addRemoteDescription(offer);
  one.addRemoteDescription(answer);
  await Promise.all([one.connected, other.connected]);
  const connectedMs = world.now - start;
  const [pair] = await Promise.all([one.nominated, other.nominated]);
  const { local, remote, rtt = 0 } = pair;
  return {
    ...nats,
    path: local.type === "relay" || remote.type === "relay" ? "relay" : "direct",
    local: local.type,
    remote: remote.type,
    connectedMs,
    nominatedMs: world.now - start,
    rttMs: rtt,
  };
}
