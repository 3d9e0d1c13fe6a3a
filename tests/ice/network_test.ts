// Networks that come and go while a connection is there: laptops on the move, and asleep.
import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import { connectIce, type IceConnection, type IceEvent, type OpenIceOptions } from "../../ice/mod.ts";
import { NAT_TYPES, type VirtualHost, VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { serveTurn, type TurnServerHandle } from "../../turn/serve.ts";
import { SERVER } from "./meeting.ts";

const TURN = { urls: `turn:${SERVER}`, username: "alice", credential: "secret" };
const WIFI = "192.168.1.2";
const MOBILE = "100.64.0.7";

/** A laptop that can be at home or on a mobile network, a desktop computer elsewhere, and what both saw. */
interface Scene {
  readonly world: VirtualWorld;
  readonly server: TurnServerHandle;
  readonly laptop: VirtualHost;
  readonly move: (wifi: readonly string[], mobile: readonly string[]) => void;
  readonly a: IceConnection;
  readonly b: IceConnection;
  readonly events: (IceEvent & { readonly at: number })[];
}

interface SceneOptions {
  readonly laptop?: OpenIceOptions;
  readonly desk?: OpenIceOptions;
  /** One way of a message of the signaling, in ms. Default: 40. */
  readonly signalingDelay?: number;
}

async function onTheMove(options: SceneOptions, program: (scene: Scene) => Promise<void>): Promise<void> {
  const { signalingDelay = 40 } = options;
  const world = new VirtualWorld({ link: { delay: 10 } });
  const serverHost = world.addHost("server", { addresses: [SERVER] });
  const cone = NAT_TYPES["port restricted cone"];
  const home = world.addNat("home", { external: ["203.0.113.1"], ...cone });
  const carrier = world.addNat("carrier", { external: ["203.0.113.50"], ...cone });
  const office = world.addNat("office", { external: ["203.0.113.2"], ...cone });
  const laptop = home.addHost("laptop", { addresses: [WIFI], interfaceName: "wlan0" });
  const mobile = carrier.join(laptop, { addresses: [MOBILE], interfaceName: "wwan0" });
  mobile.setAddresses([]);
  const desk = office.addHost("desk", { addresses: ["10.0.0.2"] });
  const events: Scene["events"] = [];
  const [toDesk, toLaptop] = [new TransformStream<string>(), new TransformStream<string>()];
  const signalingOf = (out: TransformStream<string>, receive: TransformStream<string>) => {
    const writer = out.writable.getWriter();
    return {
      send: (text: string) => void world.after(signalingDelay, () => void writer.write(text).catch(() => {})),
      receive: receive.readable,
    };
  };
  await world.run(async () => {
    await using server = serveTurn({
      ...{ host: serverHost, listen: [`${SERVER}:3478`], realm: "example.org", users: { alice: "secret" } },
      allowPeers: ["203.0.113.0/24", "198.51.100.0/24"],
    });
    const [a, b] = await Promise.all([
      connectIce({
        ...{ host: laptop, role: "controlling", turnServers: [TURN], signaling: signalingOf(toDesk, toLaptop) },
        onEvent: (event) => void events.push({ ...event, at: world.now }),
        ...options.laptop,
      }),
      connectIce({
        ...{ host: desk, role: "controlled", turnServers: [TURN], signaling: signalingOf(toLaptop, toDesk) },
        ...options.desk,
      }),
    ]);
    await using _a = a;
    await using _b = b;
    await Promise.all([a.nominated, b.nominated]);
    const move = (wifiAddresses: readonly string[], mobileAddresses: readonly string[]) => {
      laptop.networkInterfaces[0]!.setAddresses(wifiAddresses);
      mobile.setAddresses(mobileAddresses);
    };
    await program({ world, server, laptop, move, a, b, events });
  });
}

/** Datagrams one way every 10 ms, and what became of them. */
class Flow {
  #sent = 0;
  #unsent = 0;
  #refused = 0;
  #isOver = false;
  readonly #arrivals: number[] = [];
  readonly #done: Promise<void>;

  constructor(world: VirtualWorld, from: IceConnection, to: IceConnection) {
    const tick = () => {
      if (this.#isOver) return;
      if (from.send(new Uint8Array([200]))) this.#sent++;
      else this.#unsent++;
      world.after(10, tick);
    };
    tick();
    this.#done = (async () => {
      try {
        for await (const _ of to) this.#arrivals.push(world.now);
      } catch { /* It has failed. */ }
    })();
  }

  stop(): void {
    this.#isOver = true;
  }

  /** Lost under way, not even sent, and the longest time in which nothing arrived. */
  get counts(): { readonly lost: number; readonly unsent: number; readonly gap: number } {
    const gaps = this.#arrivals.map((at, i) => at - (this.#arrivals[i - 1] ?? at));
    return { lost: this.#sent - this.#arrivals.length, unsent: this.#unsent, gap: Math.max(0, ...gaps) };
  }
}

Deno.test("I40: a laptop moves from Wi-Fi to mobile in mid-transfer: found within a second, a restart over the signaling, and on", async () => {
  await onTheMove({}, async ({ world, move, a, b, events }) => {
    const [up, down] = [new Flow(world, a, b), new Flow(world, b, a)];
    await world.sleep(1000);
    const movedAt = world.now;
    move([], [MOBILE]);
    await world.sleep(5000);
    up.stop();
    down.stop();
    await world.sleep(1000);
    const since = (type: string) => events.find((event) => event.type === type && event.at >= movedAt)!.at - movedAt;
    console.log(up.counts, down.counts, since("network-change"), since("nominated"));
    console.log(
      events.filter(({ at }) => at >= movedAt).map((e) =>
        `${e.at - movedAt} ${e.type} ${e.type === "state" ? e.state : ""}${e.type === "pair" ? e.pair + e.state : ""}`
      ).join("\n"),
    );
    assertEquals([a.state, b.state], ["completed", "completed"]);
  });
});
