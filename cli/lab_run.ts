import { type CandidatePair, type CandidateType, type IceConnection, type IceRole, openIce } from "../ice/mod.ts";
import { type LinkOptions, type VirtualCounters, type VirtualHost, VirtualWorld } from "../stun/net/virtual/mod.ts";
import { serveTurn } from "../turn/mod.ts";
import { addLabHost, type LabKind } from "./lab_kinds.ts";
import { type LabStep, Recorder } from "./lab_steps.ts";

/** The two sides. */
export type LabSide = "A" | "B";

/** How two hosts meet. */
export interface LabOptions {
  /** What host A is behind. */
  readonly a: LabKind;
  /** What host B is behind. */
  readonly b: LabKind;
  /** Whose agent controls. Default: A's. */
  readonly controlling?: LabSide;
  /** What all chance is drawn from. Default: 1. */
  readonly seed?: number | string;
  /** What each link does. Default: `{ delay: LAB_DELAY }`. */
  readonly link?: LinkOptions;
  /**
   * How many ms a candidate takes to the other side when each is told as soon as it is found (RFC 8838). Default: both
   * sides gather first, and then learn all of each other in the same moment.
   */
  readonly trickle?: number;
  /** Is told of each step. */
  readonly onStep?: (step: LabStep) => void;
}

/** How two hosts met. All times are virtual ms, from when both sides could begin to check. */
export interface LabCell {
  /** What A is behind. */
  readonly a: string;
  /** What B is behind. */
  readonly b: string;
  /** Whether the nominated path goes through a relay; `"none"` if there is no path. */
  readonly path: "direct" | "relay" | "none";
  /** Whether the path is over TCP. Default: UDP between the two, or between a relay and who uses none. */
  readonly transport?: "tcp";
  /** A's candidate type on it. */
  readonly local?: CandidateType;
  /** B's candidate type on it. */
  readonly remote?: CandidateType;
  /** How long both sides gathered before they could begin: 0 when they trickle. */
  readonly gatheredMs: number;
  /** Until data could flow both ways. */
  readonly connectedMs?: number;
  /** Until both sides had the pair nominated. */
  readonly nominatedMs?: number;
  /** The path's round trip. */
  readonly rttMs?: number;
  /** Datagrams and TCP segments that A, B and the server sent until then, gathering included. */
  readonly sent: LabTraffic;
  /** Datagrams in the 10 s that followed, with two of data: what it takes to keep the path. */
  readonly sentAfter: number;
  /** Datagrams that got lost in all, by reason. */
  readonly drops: Readonly<Partial<VirtualCounters>>;
  /** Whether a datagram of data came through in each direction. */
  readonly isCarrying: boolean;
  /** Without a path: what both sides were told, and after how many ms. */
  readonly errors?: Readonly<Record<LabSide, { readonly at: number; readonly text: string }>>;
}

/** Datagrams and TCP segments by who sent them. */
export interface LabTraffic {
  /** By host A. */
  readonly a: number;
  /** By host B. */
  readonly b: number;
  /** By the server. */
  readonly server: number;
}

/** One way along each link, in ms. Each host and each NAT has one: two homes are 80 ms apart there and back. */
export const LAB_DELAY: number = 10;
/** The STUN and TURN server's address. */
export const LAB_SERVER: string = "198.51.100.1";
const CREDENTIALS = { username: "alice", credential: "secret" };
const DROPS = [
  "lost",
  "tooBig",
  "noRoute",
  "noSocket",
  "blocked",
  "filtered",
  "unmapped",
  "expired",
  "noPort",
] as const;
const AFTER = 10_000;
/** Every agent has come to an end by then. */
const PATIENCE = 120_000;

/** Lets two agents meet in a virtual internet with one STUN and TURN server, and shows what came of it. */
export async function runCell(options: LabOptions): Promise<LabCell> {
  const { seed = 1, link = { delay: LAB_DELAY }, onStep } = options;
  const world = new VirtualWorld({ seed, link });
  const server = world.addHost("server", { addresses: [LAB_SERVER] });
  const hosts = {
    A: addLabHost(world, options.a, { name: "A", external: "203.0.113.1", internal: "192.168.1.2" }),
    B: addLabHost(world, options.b, { name: "B", external: "203.0.113.2", internal: "10.0.0.2" }),
  };
  const recorder = onStep === undefined ? undefined : new Recorder(world, onStep);
  return await world.run(async () => {
    // The virtual internet is made of addresses for documentation, which a server does not relay to by itself.
    await using _turn = serveTurn({
      host: server,
      listen: [`${LAB_SERVER}:3478`],
      listenTls: [`${LAB_SERVER}:443`],
      tls: { certificate: LAB_SERVER, key: "" },
      realm: "example.org",
      users: { [CREDENTIALS.username]: CREDENTIALS.credential },
      allowPeers: ["198.51.100.0/24", "203.0.113.0/24"],
    });
    const open = (side: LabSide) =>
      openIce({
        host: hosts[side],
        role: roleOf(side, options),
        tcp: isTcpNeeded(options) ? "both" : "none",
        turnServers: [{ urls: urlsFor(options), ...CREDENTIALS }],
        ...(recorder === undefined ? {} : { onEvent: (event) => recorder.handleEvent(side, event) }),
      });
    await using a = open("A");
    await using b = open("B");
    const cell = await new Meeting({ world, server, hosts, recorder, options }).run(a, b);
    recorder?.stop();
    return cell;
  });
}

/**
 * Lets each kind meet each, one after the other.
 *
 * @param kinds What A and B are behind.
 * @param options What is the same in all cells; `before` is called before each, and may throw to stop.
 */
export async function runMatrix(
  kinds: readonly LabKind[],
  { before, ...settings }: Omit<LabOptions, "a" | "b"> & { readonly before?: (text: string) => void } = {},
): Promise<LabCell[]> {
  const cells: LabCell[] = [];
  for (const a of kinds) {
    for (const b of kinds) {
      before?.(`${cells.length + 1} of ${kinds.length ** 2}: ${a.name} and ${b.name} ...`);
      cells.push(await runCell({ ...settings, a, b }));
    }
  }
  return cells;
}

/** Where UDP works on both sides, nobody needs TCP: so it is left out, and the traffic is that of UDP alone. */
function urlsFor(options: LabOptions): string[] {
  const urls = [`turn:${LAB_SERVER}`];
  return isTcpNeeded(options) ? [...urls, `turn:${LAB_SERVER}?transport=tcp`, `turns:${LAB_SERVER}:443`] : urls;
}

function isTcpNeeded({ a, b }: LabOptions): boolean {
  return a.type === "blocked" || b.type === "blocked";
}

function roleOf(side: LabSide, { controlling = "A" }: LabOptions): IceRole {
  return side === controlling ? "controlling" : "controlled";
}

interface Scene {
  readonly world: VirtualWorld;
  readonly server: VirtualHost;
  readonly hosts: Readonly<Record<LabSide, VirtualHost>>;
  readonly recorder: Recorder | undefined;
  readonly options: LabOptions;
}

/** One run. */
class Meeting {
  #scene: Scene;

  constructor(scene: Scene) {
    this.#scene = scene;
  }

  async run(a: IceConnection, b: IceConnection): Promise<LabCell> {
    const { world, recorder, options } = this.#scene;
    await this.#signal(a, b);
    const start = world.now;
    const names = { a: options.a.name, b: options.b.name };
    const errors = { A: this.#errorOf(a, start), B: this.#errorOf(b, start) };
    try {
      await Promise.all([a.connected, b.connected]);
      const connectedMs = world.now - start;
      const [pair] = await Promise.all([a.nominated, b.nominated]);
      const nominatedMs = world.now - start;
      const met = { ...names, ...describePath(pair), gatheredMs: start, connectedMs, nominatedMs };
      recorder?.note("done");
      const sent = this.#traffic();
      const isCarrying = await this.#carry(a, b);
      await world.sleep(start + nominatedMs + AFTER - world.now);
      return { ...met, sent, isCarrying, ...this.#rest(sent) };
    } catch {
      const [A, B] = await Promise.all([errors.A, errors.B]);
      recorder?.note("done");
      const sent = this.#traffic();
      const failed = { ...names, path: "none", gatheredMs: start, errors: { A, B } } as const;
      return { ...failed, sent, isCarrying: false, ...this.#rest(sent) };
    }
  }

  /** Tells each side about the other. */
  async #signal(a: IceConnection, b: IceConnection): Promise<void> {
    const { recorder, options: { trickle } } = this.#scene;
    if (trickle !== undefined) {
      this.#trickle(a, b, trickle);
      this.#trickle(b, a, trickle);
      return;
    }
    const [offer, answer] = await Promise.all([a.localDescription(), b.localDescription()]);
    recorder?.note("swap");
    b.addRemoteDescription(offer);
    a.addRemoteDescription(answer);
  }

  async #trickle(from: IceConnection, to: IceConnection, delay: number): Promise<void> {
    for await (const text of from.localFragments()) {
      this.#scene.world.after(delay, () => to.addRemoteDescription(text));
    }
  }

  /** What the user of a connection is told when it fails. */
  #errorOf(connection: IceConnection, start: number): Promise<{ at: number; text: string }> {
    const { world } = this.#scene;
    return new Promise((resolve) => {
      connection.closed.catch((error: Error) => resolve({ at: world.now - start, text: error.message }));
      world.after(
        PATIENCE,
        () => resolve({ at: world.now - start, text: `Nothing: its state is ${connection.state}` }),
      );
    });
  }

  /** Sends a word each way. */
  async #carry(a: IceConnection, b: IceConnection): Promise<boolean> {
    const { world } = this.#scene;
    const encoder = new TextEncoder();
    const words = [[a, b, "hello"], [b, a, "welcome"]] as const;
    const got = words.map(async ([from, to, word]) => {
      from.send(encoder.encode(word));
      const { value } = await to[Symbol.asyncIterator]().next();
      return value !== undefined && new TextDecoder().decode(value) === word;
    });
    return await Promise.race([
      Promise.all(got).then((all) => all.every(Boolean)),
      world.sleep(2000).then(() => false),
    ]);
  }

  #traffic(): LabTraffic {
    const { hosts, server } = this.#scene;
    return { a: hosts.A.counters.sent, b: hosts.B.counters.sent, server: server.counters.sent };
  }

  #rest(before: LabTraffic): Pick<LabCell, "sentAfter" | "drops"> {
    const { counters } = this.#scene.world;
    const drops = DROPS.map((name) => [name, counters[name]] as const).filter(([, count]) => count > 0);
    const { a, b, server } = this.#traffic();
    return { sentAfter: a + b + server - before.a - before.b - before.server, drops: Object.fromEntries(drops) };
  }
}

function describePath(
  { local, remote, rtt, isTcp }: CandidatePair,
): Pick<LabCell, "path" | "transport" | "local" | "remote" | "rttMs"> {
  return {
    path: local.type === "relay" || remote.type === "relay" ? "relay" : "direct",
    ...(isTcp ? { transport: "tcp" } : {}),
    local: local.type,
    remote: remote.type,
    ...(rtt === undefined ? {} : { rttMs: rtt }),
  };
}
