// Several paths between two hosts in the virtual internet: which one is used, and what a switch costs.
import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import { NOMINATION } from "../../ice/attributes.ts";
import { openIce } from "../../ice/connect.ts";
import type { IceConnection, OpenIceOptions } from "../../ice/connection.ts";
import type { IceEvent } from "../../ice/events.ts";
import { StunMessage } from "../../stun/message.ts";
import { type VirtualHost, VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { meet } from "./meeting.ts";

/** Two phones: each has Wi-Fi and a cellular interface; the paths are as slow as their slowest link. */
interface Phones {
  readonly world: VirtualWorld;
  readonly a: IceConnection;
  readonly b: IceConnection;
  readonly events: { readonly [side in "a" | "b"]: (IceEvent & { readonly at: number })[] };
  /** The first interface of B, which the first path needs. */
  readonly wifi: VirtualHost["networkInterfaces"][number];
  /** Every NOMINATION that A sent. */
  readonly nominations: number[];
  /** Sends a numbered datagram each way every 10 ms, for so long; gives how many arrived of how many. */
  stream(ms: number): Promise<{ readonly sent: number; readonly atA: number; readonly atB: number }>;
}

interface PhoneOptions {
  readonly a?: OpenIceOptions;
  readonly b?: OpenIceOptions;
  /** One way of each Wi-Fi link in ms. Default: 10. */
  readonly wifi?: number;
  /** One way of each cellular link in ms. Default: 40. */
  readonly cellular?: number;
  readonly jitter?: number;
}

async function phones<T>(options: PhoneOptions, program: (phones: Phones) => Promise<T>): Promise<T> {
  const { wifi = 10, cellular = 40, jitter = 0 } = options;
  const world = new VirtualWorld({ seed: 7, link: { delay: 1 } });
  const hosts = ([["a", 1], ["b", 2]] as const).map(([name, n]) => {
    const host = world.addHost(name, { addresses: [`192.0.2.${n}`], link: { delay: wifi, jitter } });
    world.join(host, { addresses: [`198.51.100.${n}`], link: { delay: cellular, jitter } });
    return host;
  }) as [VirtualHost, VirtualHost];
  const events: Phones["events"] = { a: [], b: [] };
  const nominations: number[] = [];
  world.trace = ({ step, node, bytes }) => {
    const message = step === "sent" && node === "a" && bytes[0] === 0 ? StunMessage.parse(bytes) : undefined;
    const value = message?.get(NOMINATION);
    if (value !== undefined) nominations.push(value);
  };
  return await world.run(async () => {
    const open = (side: "a" | "b", i: 0 | 1) =>
      openIce({
        host: hosts[i],
        role: i === 0 ? "controlling" : "controlled",
        onEvent: (event) => void events[side].push({ ...event, at: world.now }),
        ...options[side],
      });
    const got = { a: 0, b: 0 };
    await using a = open("a", 0);
    await using b = open("b", 1);
    b.addRemoteDescription(await a.localDescription());
    a.addRemoteDescription(await b.localDescription());
    await Promise.all([a.nominated, b.nominated]);
    const count = async (side: "a" | "b", connection: IceConnection) => {
      const reader = connection[Symbol.asyncIterator]();
      // It ends when the connection is closed, and when it fails.
      while ((await reader.next().catch(() => undefined))?.done === false) got[side]++;
    };
    const counting = [count("a", a), count("b", b)];
    const stream = async (ms: number) => {
      const before = { ...got };
      const bytes = new Uint8Array([200, 1, 2, 3]);
      let sent = 0;
      for (const end = world.now + ms; world.now < end; await world.sleep(10)) {
        a.send(bytes);
        b.send(bytes);
        sent++;
      }
      await world.sleep(500);
      return { sent, atA: got.a - before.a, atB: got.b - before.b };
    };
    const wifiOfB = hosts[1].networkInterfaces[0]!;
    const result = await program({ world, a, b, events, wifi: wifiOfB, nominations, stream });
    await Promise.all([a.close(), b.close()]);
    await Promise.all(counting);
    return result;
  });
}

function pathOf(connection: IceConnection): string {
  const { local, remote } = connection.selectedPair!;
  return `${local.address.address} -> ${remote.address.address}`;
}

Deno.test("Quality: from the path of higher priority to the faster one, and not one datagram is lost on the way", async () => {
  await phones(
    { a: { pathPolicy: "quality" }, wifi: 60, cellular: 10 },
    async ({ a, b, stream, nominations, world }) => {
      const { sent, atA, atB } = await stream(60_000);
      assertEquals([atA, atB], [sent, sent]);
      assertEquals([pathOf(a), pathOf(b)], ["198.51.100.1 -> 198.51.100.2", "198.51.100.2 -> 198.51.100.1"]);
      assertEquals([a.state, b.state, nominations], ["completed", "completed", [2]]);
      await world.sleep(600_000);
      assertEquals(nominations, [2], "And there it stays");
    },
  );
});

Deno.test("Quality: paths with jitter that are about the same are not exchanged", async () => {
  const options = { a: { pathPolicy: "quality" }, wifi: 20, cellular: 21, jitter: 8 } as const;
  await phones(options, async ({ nominations, world }) => {
    await world.sleep(1_800_000);
    assertLessOrEqual(nominations.length, 2);
  });
});

Deno.test("Quality: what is measured is in the stats of every pair that is kept warm", async () => {
  await phones({ a: { pathPolicy: "quality" } }, async ({ a, world }) => {
    await world.sleep(60_000);
    const { pairs, selectedPair } = a.stats();
    assertEquals([selectedPair!.currentRoundTripTime, selectedPair!.checkLoss, selectedPair!.standby], [
      0.04,
      0,
      false,
    ]);
    const standby = pairs.filter((pair) => pair.standby);
    assertEquals(standby.map((pair) => pair.currentRoundTripTime), [0.1, 0.16]);
    assert(standby.every((pair) => pair.roundTripTimeJitter! < 0.001 && pair.consentRequestsSent >= 8));
  });
});

for (const [what, isFlowing, limit] of [["data flows", true, 3500], ["nothing flows", false, 7500]] as const) {
  Deno.test(`Standby: a cut path is left after ${limit} ms at most where ${what}, on both sides, by itself`, async () => {
    await phones({}, async ({ a, b, events, wifi, world, stream }) => {
      assertEquals(pathOf(a), "192.0.2.1 -> 192.0.2.2");
      const cutAt = world.now + 20_000;
      world.after(20_000, () => wifi.link.set({ loss: 1 }));
      const { sent, atA, atB } = isFlowing ? await stream(40_000) : await world.sleep(40_000).then(() => stream(1000));
      assert(a.selectedPair!.remote.address.address === "198.51.100.2" && a.selectedPair!.nominated);
      for (const side of ["a", "b"] as const) {
        const { at } = events[side].find((event) => event.type === "selected-pair" && event.at > cutAt)!;
        assertLessOrEqual(at - cutAt, limit, side);
        assert(!events[side].some((event) => event.type === "state" && event.state === "disconnected"), side);
      }
      assertEquals([a.state, b.state], ["completed", "completed"]);
      // What was sent into the cut is gone; everything else arrives.
      assert(sent - atA <= 360 && sent - atB <= 360, `${sent - atA} and ${sent - atB} of ${sent} lost`);
      const after = await stream(10_000);
      assertEquals([after.atA, after.atB], [after.sent, after.sent]);
    });
  });
}

Deno.test("Standby: back on the better path when it works again, and nothing is lost by that", async () => {
  await phones({}, async ({ a, b, wifi, world, stream }) => {
    wifi.link.set({ loss: 1 });
    await world.sleep(15_000);
    assert(pathOf(a).endsWith("198.51.100.2"));
    wifi.link.set({ loss: 0 });
    const { sent, atA, atB } = await stream(60_000);
    assertEquals([atA, atB], [sent, sent]);
    assertEquals([pathOf(a), pathOf(b)], ["192.0.2.1 -> 192.0.2.2", "192.0.2.2 -> 192.0.2.1"]);
  });
});

Deno.test("Standby: from the direct path to a relay when the NATs forget it", async () => {
  const home = { type: "port restricted cone" } as const;
  await meet({ a: home, b: home }, async (meeting) => {
    const { a, b, world, server } = meeting;
    await meeting.exchange();
    await Promise.all([a.connection.nominated, b.connection.nominated]);
    await world.sleep(10_000);
    assertEquals([a.connection.selectedPair!.isRelayed, server.stats().allocations], [false, 1]);
    // From now on the homes reach the server, and each other no more.
    for (const { gateway } of [a, b]) {
      gateway!.link.set({
        drop: ({ source, destination }) => ![source, destination].some((one) => /^198/.test(String(one))),
      });
    }
    await world.sleep(15_000);
    for (const { connection } of [a, b]) {
      assertEquals([connection.state, connection.selectedPair!.isRelayed], ["completed", true]);
    }
    for (const [from, to] of [[a, b], [b, a]] as const) {
      from.connection.send(new Uint8Array([200]));
      assertEquals((await to.connection[Symbol.asyncIterator]().next()).value, new Uint8Array([200]));
    }
  });
});

Deno.test("First: no other path is checked, and a cut one is the end", async () => {
  const options = { a: { pathPolicy: "first" }, b: { pathPolicy: "first" } } as const;
  await phones(options, async ({ a, b, wifi, world }) => {
    assertEquals([a.standbyPairs.length, b.standbyPairs.length], [0, 0]);
    wifi.link.set({ loss: 1 });
    await world.sleep(40_000);
    assertEquals([a.state, b.state], ["failed", "failed"]);
  });
});

Deno.test("An application's own choice: a function of what is measured, or a pair", async () => {
  const cellular = (address: string) => address.startsWith("198");
  const options = {
    a: { pathPolicy: (pairs) => pairs.find(({ remote }) => cellular(remote.address.address)) },
  } satisfies {
    a: OpenIceOptions;
  };
  await phones(options, async ({ a, b, stream, world }) => {
    await world.sleep(20_000);
    assert(pathOf(a).endsWith("198.51.100.2") && pathOf(b).startsWith("198.51.100.2"), pathOf(a));
    const wifi = a.pairs.find(({ local, remote }) =>
      !cellular(local.address.address) && !cellular(remote.address.address)
    )!;
    assertEquals(a.selectPair(wifi), true);
    const { sent, atA, atB } = await stream(30_000);
    assertEquals([atA, atB], [sent, sent]);
    assertEquals([pathOf(a), pathOf(b)], ["192.0.2.1 -> 192.0.2.2", "192.0.2.2 -> 192.0.2.1"]);
    assertEquals(a.selectPair(undefined), true);
    await world.sleep(20_000);
    assert(pathOf(a).endsWith("198.51.100.2"), "The function decides again");
  });
});
