// Networks that come and go while a connection is there: laptops on the move, and asleep.
import { assert, assertEquals, assertLessOrEqual, assertMatch } from "@std/assert";
import { connectIce, type IceConnection, type IceEvent, type OpenIceOptions } from "../../ice/mod.ts";
import {
  NAT_TYPES,
  type VirtualGateway,
  type VirtualHost,
  type VirtualInterface,
  VirtualWorld,
} from "../../stun/net/virtual/mod.ts";
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
  readonly home: VirtualGateway;
  readonly deskInterface: VirtualInterface;
  readonly move: (wifi: readonly string[], mobile: readonly string[]) => void;
  readonly a: IceConnection;
  readonly b: IceConnection;
  readonly events: (IceEvent & { readonly at: number })[];
  /** When datagrams arrived. */
  readonly arrivals: { readonly a: number[]; readonly b: number[] };
}

interface SceneOptions {
  readonly laptop?: OpenIceOptions;
  readonly desk?: OpenIceOptions;
  /** Of the world. Default: 1. */
  readonly seed?: number;
  /** One way of a message of the signaling, in ms. Default: 40. */
  readonly signalingDelay?: number;
}

async function onTheMove(options: SceneOptions, program: (scene: Scene) => Promise<void>): Promise<void> {
  const { signalingDelay = 40, seed = 1 } = options;
  const world = new VirtualWorld({ seed, link: { delay: 10 } });
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
  const arrivals: Scene["arrivals"] = { a: [], b: [] };
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
        ...{
          host: laptop,
          tcp: "none",
          role: "controlling",
          turnServers: [TURN],
          signaling: signalingOf(toDesk, toLaptop),
        },
        onEvent: (event) => void events.push({ ...event, at: world.now }),
        onDatagram: () => void arrivals.a.push(world.now),
        ...options.laptop,
      }),
      connectIce({
        ...{
          host: desk,
          tcp: "none",
          role: "controlled",
          turnServers: [TURN],
          signaling: signalingOf(toLaptop, toDesk),
        },
        onDatagram: () => void arrivals.b.push(world.now),
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
    await program({
      world,
      server,
      laptop,
      home,
      deskInterface: desk.networkInterfaces[0]!,
      move,
      a,
      b,
      events,
      arrivals,
    });
  });
}

/** Datagrams one way every 10 ms, and what became of them. */
class Flow {
  #sent = 0;
  #unsent = 0;
  #isOver = false;
  readonly #arrivals: readonly number[];
  readonly #before: number;

  constructor(world: VirtualWorld, from: IceConnection, arrivals: readonly number[]) {
    this.#arrivals = arrivals;
    this.#before = arrivals.length;
    const tick = () => {
      if (this.#isOver) return;
      if (from.send(new Uint8Array([200]))) this.#sent++;
      else this.#unsent++;
      world.after(10, tick);
    };
    tick();
  }

  stop(): void {
    this.#isOver = true;
  }

  /** Lost under way, not even sent, and the longest time in which nothing arrived. */
  get counts(): { readonly lost: number; readonly unsent: number; readonly gap: number } {
    const arrived = this.#arrivals.slice(this.#before);
    const gaps = arrived.map((at, i) => at - (arrived[i - 1] ?? at));
    return { lost: this.#sent - arrived.length, unsent: this.#unsent, gap: Math.max(0, ...gaps) };
  }
}

/** Lets time pass with data both ways; gives what became of it. */
async function flowing(
  { world, a, b, arrivals }: Scene,
  work: () => Promise<void>,
): Promise<{ readonly up: Flow["counts"]; readonly down: Flow["counts"] }> {
  const [up, down] = [new Flow(world, a, arrivals.b), new Flow(world, b, arrivals.a)];
  await world.sleep(500);
  await work();
  up.stop();
  down.stop();
  await world.sleep(500);
  return { up: up.counts, down: down.counts };
}

Deno.test("A laptop moves from Wi-Fi to mobile in mid-transfer: the first datagram that cannot be sent tells, then a restart", async () => {
  await onTheMove({}, async (scene) => {
    const { world, move, a, b, events } = scene;
    let movedAt = 0;
    const { up, down } = await flowing(scene, async () => {
      movedAt = world.now;
      move([], [MOBILE]);
      await world.sleep(5000);
    });
    const after = (type: string) => events.find((event) => event.type === type && event.at >= movedAt)!.at - movedAt;
    const seen = after("network-change");
    // One datagram shows it; then nothing is sent before the first pair works: one way of the signaling each, and the checks.
    // The peer's data follows when ours arrives.
    assertEquals({ seen, up, down }, {
      seen: 0,
      up: { lost: 1, unsent: 24, gap: 330 },
      down: { lost: 40, unsent: 0, gap: 420 },
    });
    assertEquals(after("restart"), seen);
    assertEquals([a.state, b.state], ["completed", "completed"]);
    assertEquals(a.stats().localCandidates.map(({ candidateType, address }) => `${candidateType} ${address}`), [
      `host ${MOBILE}`,
      "srflx 203.0.113.50",
      // Kept to take over if the direct way is cut.
      "relay 198.51.100.1",
    ]);
  });
});

Deno.test("Mobile comes while Wi-Fi is still there: a restart without a loss; then Wi-Fi goes, and the other pair is taken at once", async () => {
  await onTheMove({}, async (scene) => {
    const { world, move, a, b, events } = scene;
    const first = await flowing(scene, async () => {
      move([WIFI], [MOBILE]);
      await world.sleep(3000);
    });
    assertEquals([first.up.lost, first.up.unsent, first.down.lost, first.down.unsent], [0, 0, 0, 0]);
    assertEquals(a.stats().localCandidates.filter(({ candidateType }) => candidateType === "host").length, 2);
    assertEquals(a.selectedPair!.base.candidate.address.address, WIFI);
    const restarts = () => events.filter(({ type }) => type === "restart").length;
    assertEquals(restarts(), 1);
    const second = await flowing(scene, async () => {
      move([], [MOBILE]);
      await world.sleep(3000);
    });
    // Here nothing waits. The desk learns of it by the restart.
    assertEquals(second, { up: { lost: 1, unsent: 0, gap: 20 }, down: { lost: 26, unsent: 0, gap: 270 } });
    assertEquals([restarts(), a.state, b.state], [2, "completed", "completed"]);
  });
});

Deno.test("A computer that sends nothing sees within a second that its network has changed", async () => {
  await onTheMove({}, async ({ world, move, a, b, events }) => {
    await world.sleep(1000);
    const movedAt = world.now;
    move([], [MOBILE]);
    await world.sleep(3000);
    const seen = events.find(({ type }) => type === "network-change")!.at - movedAt;
    assert(seen > 0 && seen <= 1000, `${seen} ms`);
    assertEquals([a.state, b.state], ["completed", "completed"]);
  });
});

Deno.test("I40: offline for a while, and back with the same address: the sockets are kept, and all goes on", async () => {
  await onTheMove({}, async (scene) => {
    const { world, move, a, b, events } = scene;
    const { up, down } = await flowing(scene, async () => {
      move([], []);
      await world.sleep(5000);
      move([WIFI], []);
      await world.sleep(1000);
    });
    assertEquals([up.lost, up.unsent, down.lost, down.unsent], [500, 0, 501, 0]);
    assertEquals(events.filter(({ type }) => type === "restart").length, 0);
    assertEquals(events.filter((event) => event.type === "network-change").map((event) => event.lost), [[WIFI]]);
    assertEquals([a.state, b.state], ["completed", "completed"]);
  });
});

Deno.test("I37: offline for longer than a minute: the connection has failed; with the next network it is revived", async () => {
  await onTheMove({}, async ({ world, move, a, b, arrivals }) => {
    const failed = a.closed.catch((error: Error) => error.message);
    move([], []);
    await world.sleep(120_000);
    assertMatch(String(await failed), /^The connection is lost: its path is gone, and no other way was found in 60 s/);
    assertEquals(a.send(new Uint8Array([200])), false);
    move([], [MOBILE]);
    await world.sleep(3000);
    assertEquals([a.state, b.state], ["completed", "completed"]);
    await a.nominated;
    a.send(new Uint8Array([200]));
    await world.sleep(100);
    assertEquals(arrivals.b.length, 1);
  });
});

Deno.test("The router gets another address: no interface tells, but the peer falls silent, and a restart helps", async () => {
  await onTheMove({}, async (scene) => {
    const { world, a, b, events, home } = scene;
    let changedAt = 0;
    const { up, down } = await flowing(scene, async () => {
      changedAt = world.now;
      home.setExternal(["203.0.113.99"]);
      await world.sleep(20_000);
    });
    const restart = events.find(({ type }) => type === "restart")!.at - changedAt;
    // Two requests for consent without an answer (RFC 7675 §5.1: 4 to 6 s apart), and a second.
    assertLessOrEqual(restart, 13_000);
    assertEquals([a.state, b.state], ["completed", "completed"]);
    assertLessOrEqual(Math.max(up.gap, down.gap), restart + 500);
  });
});

Deno.test("Relays only: the relay is lost with the way to it, and another one found from the new network", async () => {
  await onTheMove({ laptop: { policy: "relay" }, desk: { policy: "relay" } }, async (scene) => {
    const { world, move, a, b, events, server } = scene;
    const before = a.selectedPair!.local.address;
    await flowing(scene, async () => {
      move([], [MOBILE]);
      await world.sleep(3000);
    });
    assertEquals([a.state, b.state, events.filter(({ type }) => type === "restart").length], [
      "completed",
      "completed",
      1,
    ]);
    assertEquals([a.selectedPair!.local.type, a.selectedPair!.local.address.equals(before)], ["relay", false]);
    assertEquals(server.stats().allocationsTotal, 3);
  });
});

Deno.test("RFC 8016: relays only, with mobility: the relay comes along, its pair stays, and ICE is not needed for it", async () => {
  const laptop = { policy: "relay", turnServers: [{ ...TURN, mobility: true }] } as const;
  await onTheMove({ laptop, desk: { policy: "relay" } }, async (scene) => {
    const { world, move, a, b, events, server } = scene;
    const before = a.selectedPair!;
    const { up, down } = await flowing(scene, async () => {
      move([], [MOBILE]);
      await world.sleep(3000);
    });
    assertEquals([a.state, b.state, server.stats().allocationsTotal], ["completed", "completed", 2]);
    assert(a.selectedPair!.local.address.equals(before.local.address));
    // Lost is what was sent until the change was seen, and to us what came to the old network until the server knew.
    assertEquals({ up, down }, { up: { lost: 16, unsent: 0, gap: 170 }, down: { lost: 22, unsent: 0, gap: 230 } });
    assertEquals(events.filter(({ type }) => type === "restart").length, 0);
  });
});

Deno.test("I40: a computer that slept for an hour, on a clock that did not: a restart at once, nothing fails", async () => {
  await onTheMove({}, async ({ world, laptop, a, b, events }) => {
    const unixTime = laptop.unixTime.bind(laptop);
    laptop.unixTime = () => unixTime() + 3600;
    await world.sleep(2000);
    assertEquals(events.filter(({ type }) => type === "restart").length, 1);
    assertEquals([a.state, b.state], ["completed", "completed"]);
    assert(events.every((event) => event.type !== "state" || event.state !== "failed"));
  });
});

Deno.test("I40: a computer that slept for ten seconds asks its peer at once, and goes on", async () => {
  await onTheMove({}, async ({ world, laptop, a, events }) => {
    const asked = () => a.stats().selectedPair!.consentRequestsSent;
    assertEquals(asked(), 0);
    const unixTime = laptop.unixTime.bind(laptop);
    laptop.unixTime = () => unixTime() + 10;
    await world.sleep(1000);
    assertEquals([asked(), a.state], [1, "completed"]);
    assertEquals(events.filter(({ type }) => type === "restart" || type === "network-change").length, 0);
  });
});

Deno.test("Without autoRestart and without watching, nothing happens by itself: networkChanged() tells, restart() helps", async () => {
  await onTheMove({ laptop: { autoRestart: false, watchNetwork: false } }, async ({ world, move, a, b, events }) => {
    move([WIFI], [MOBILE]);
    await world.sleep(2000);
    assertEquals(events.filter(({ type }) => type === "network-change").length, 0);
    a.networkChanged();
    const change = events.find((event) => event.type === "network-change");
    assertEquals(change?.type === "network-change" && [change.gained, change.lost], [[MOBILE], []]);
    assertEquals(events.filter(({ type }) => type === "restart").length, 0);
    await a.restart();
    await world.sleep(2000);
    assertEquals([a.state, b.state], ["completed", "completed"]);
    assertEquals(a.stats().localCandidates.filter(({ candidateType }) => candidateType === "host").length, 2);
  });
});

Deno.test("An address that comes while candidates are gathered makes one of them, without a restart", async () => {
  const silent = "stun:198.51.100.99";
  await onTheMove({ laptop: { stunServers: [silent] } }, async ({ world, move, a, events }) => {
    // The silent server keeps gathering open for a while.
    await a.restart();
    events.length = 0;
    const restarted = a.restart();
    move([WIFI], [MOBILE]);
    a.networkChanged();
    await restarted;
    assertEquals(events.filter(({ type }) => type === "restart").length, 1);
    const hosts = events.flatMap((event) => event.type === "local-candidate" ? [event.candidate.address.address] : []);
    assert(hosts.includes(MOBILE), hosts.join());
    await world.sleep(100);
  });
});

Deno.test("Whatever networks come and go on both sides, in the end there is a path, and no socket too many", async () => {
  for (const seed of [1, 2, 3, 4, 5, 6, 11, 87]) {
    let state = seed;
    const random = (limit: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor(state / 2 ** 32 * limit);
    };
    await onTheMove({ seed, desk: { interfaceFilter: ({ name }) => name !== "lo" } }, async (scene) => {
      const { world, move, a, b, events, deskInterface } = scene;
      await flowing(scene, async () => {
        for (let i = 0; i < 12; i++) {
          const wifi = random(3) === 0 ? [] : [`192.168.1.${2 + random(2)}`];
          move(wifi, random(2) === 0 ? [] : [MOBILE]);
          if (random(3) === 0) deskInterface.setAddresses([`10.0.0.${2 + random(3)}`]);
          await world.sleep(random(2) === 0 ? random(300) : random(8000));
        }
        move([WIFI], [MOBILE]);
        deskInterface.setAddresses(["10.0.0.2"]);
        await world.sleep(45_000);
      });
      assertEquals([a.state, b.state], ["completed", "completed"], `Seed ${seed}`);
      const hosts = a.stats().localCandidates.filter(({ candidateType }) => candidateType === "host");
      assertEquals(hosts.map(({ address }) => address).sort(), [MOBILE, WIFI], `Seed ${seed}`);
      assert(events.every((event) => event.type !== "state" || event.state !== "failed"), `Seed ${seed}`);
      const last = await flowing(scene, () => world.sleep(1000));
      assertEquals([last.up.lost, last.up.unsent, last.down.lost, last.down.unsent], [0, 0, 0, 0], `Seed ${seed}`);
    });
  }
});

Deno.test("Two changes before the peer has answered the first are two restarts, one after the other, and not an endless number", async () => {
  await onTheMove({ signalingDelay: 300 }, async ({ world, move, a, b, events }) => {
    move([], [MOBILE]);
    a.networkChanged();
    await world.sleep(250);
    move([WIFI], []);
    a.networkChanged();
    await world.sleep(5000);
    assertEquals(events.filter(({ type }) => type === "restart").length, 2);
    assertEquals([a.state, b.state, a.selectedPair!.base.candidate.base.address], ["completed", "completed", WIFI]);
  });
});
