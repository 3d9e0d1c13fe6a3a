// Two agents meet in the virtual internet: each behind a NAT of some kind, with a STUN and TURN server in between.
import { openIce } from "../../ice/connect.ts";
import type { IceConnection, OpenIceOptions } from "../../ice/connection.ts";
import type { IceEvent } from "../../ice/events.ts";
import {
  addHostBehind,
  type ClassicType,
  type HostBehindOptions,
  type LinkOptions,
  type VirtualGateway,
  type VirtualHost,
  VirtualWorld,
} from "../../stun/net/virtual/mod.ts";
import { serveTurn, type TurnServerHandle } from "../../turn/serve.ts";

export const SERVER = "198.51.100.1";
const PASSWORD = "secret";

/** One side: where it is and what it does. */
export interface Side extends OpenIceOptions {
  readonly type?: ClassicType;
  readonly nat?: HostBehindOptions["nat"];
  readonly external?: string;
  readonly internal?: string;
  readonly link?: LinkOptions;
  /** Whether it knows the servers. Default: both. */
  readonly servers?: "both" | "stun" | "none";
}

export interface MeetingOptions {
  readonly a?: Side;
  readonly b?: Side;
  readonly seed?: number;
  /** Of each of the three or five links of a way. Default: 10 ms. */
  readonly delay?: number;
  /** How signaling goes. Default: one-shot, both at once when both have gathered. */
  readonly signaling?: "one-shot" | "trickle";
  /** One way of a trickled message, in ms. Default: 20. */
  readonly signalingDelay?: number;
}

/** What one side saw. */
export interface Record {
  readonly connection: IceConnection;
  readonly host: VirtualHost;
  readonly gateway: VirtualGateway | undefined;
  readonly events: (IceEvent & { readonly at: number })[];
}

/** The two sides in their world, gathering. */
export class Meeting {
  readonly world: VirtualWorld;
  readonly server: TurnServerHandle;
  readonly a: Record;
  readonly b: Record;
  readonly #options: MeetingOptions;
  /** When both have what they need to begin. */
  startedAt = 0;

  constructor(options: MeetingOptions) {
    const { seed = 1, delay = 10 } = options;
    this.#options = options;
    this.world = new VirtualWorld({ seed, link: { delay } });
    const host = this.world.addHost("server", { addresses: [SERVER] });
    this.server = serveTurn({
      host,
      listen: [`${SERVER}:3478`],
      realm: "example.org",
      users: { alice: PASSWORD },
      allowPeers: ["198.51.100.0/24", "203.0.113.0/24"],
    });
    this.a = this.#side("a", { external: "203.0.113.1", internal: "192.168.1.2", role: "controlling", ...options.a });
    this.b = this.#side("b", { external: "203.0.113.2", internal: "10.0.0.2", role: "controlled", ...options.b });
  }

  /** Swaps what both have to say. */
  async exchange(): Promise<void> {
    const { a, b } = this;
    if (this.#options.signaling === "trickle") {
      this.startedAt = this.world.now;
      this.#trickle(a.connection, b.connection);
      this.#trickle(b.connection, a.connection);
      return;
    }
    const [ofA, ofB] = await Promise.all([a.connection.localDescription(), b.connection.localDescription()]);
    this.startedAt = this.world.now;
    a.connection.addRemoteDescription(ofB);
    b.connection.addRemoteDescription(ofA);
  }

  async close(): Promise<void> {
    await Promise.all([this.a.connection.close(), this.b.connection.close()]);
    await this.server.shutdown();
  }

  #side(name: string, { type = "open", nat, external, internal, link, servers = "both", ...options }: Side): Record {
    const { host, gateway } = addHostBehind(this.world, {
      name,
      type,
      external: external!,
      internal: internal!,
      ...(nat === undefined ? {} : { nat }),
      ...(link === undefined ? {} : { link }),
    });
    const events: Record["events"] = [];
    const connection = openIce({
      host,
      ...(servers === "none" ? {} : { stunServers: [`stun:${SERVER}`] }),
      ...(servers === "both"
        ? { turnServers: [{ urls: `turn:${SERVER}`, username: "alice", credential: PASSWORD }] }
        : {}),
      onEvent: (event) => void events.push({ ...event, at: this.world.now }),
      ...options,
    });
    return { connection, host, gateway, events };
  }

  async #trickle(from: IceConnection, to: IceConnection): Promise<void> {
    const { signalingDelay = 20 } = this.#options;
    for await (const text of from.localFragments()) {
      this.world.after(signalingDelay, () => to.addRemoteDescription(text));
    }
  }
}

/** Runs a meeting to its end. */
export async function meet<T>(options: MeetingOptions, program: (meeting: Meeting) => Promise<T>): Promise<T> {
  const meeting = new Meeting(options);
  return await meeting.world.run(async () => {
    try {
      return await program(meeting);
    } finally {
      await meeting.close();
    }
  });
}

/** Both sides to their nomination; how long that took from when both could begin, and by which path. */
export async function nominate(options: MeetingOptions, { withData = true } = {}): Promise<{
  path: string;
  connected: number;
  nominated: number;
  data: number;
  sent: number;
}> {
  return await meet(options, async (meeting) => {
    const { a, b, world } = meeting;
    const before = a.connection.localParameters;
    await meeting.exchange();
    const [pair] = await Promise.all([a.connection.nominated, b.connection.nominated]);
    const nominated = world.now - meeting.startedAt;
    const connected = Math.max(
      ...[a, b].map(({ events }) => events.find((event) => event.type === "selected-pair")!.at - meeting.startedAt),
    );
    const sent = () => a.host.counters.sent + b.host.counters.sent;
    const path = `${pair.local.type}/${pair.remote.type}`;
    if (!withData) return { path, connected, nominated, data: NaN, sent: sent() };
    const sentAt = world.now;
    a.connection.send(new TextEncoder().encode(before.ufrag));
    const { value } = await b.connection[Symbol.asyncIterator]().next();
    if (new TextDecoder().decode(value) !== before.ufrag) throw new Error("Other data than was sent");
    return { path, connected, nominated, data: world.now - sentAt, sent: sent() };
  });
}
