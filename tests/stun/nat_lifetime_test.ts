import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { NatProbe, type NatProbeEvent } from "../../stun/nat.ts";
import type { LifetimeProgress } from "../../stun/nat_lifetime.ts";
import { TransportAddress } from "../../stun/address.ts";
import type { NatReport } from "../../stun/nat_report.ts";
import { reportIn } from "./nat_world.ts";

/** The report on a NAT with this lifetime in seconds. */
async function search(
  seconds: number,
  lifetime: { max?: number; resolution?: number; parallel?: number } = {},
  more: Partial<Parameters<typeof reportIn>[0]> = {},
): Promise<NatReport> {
  const { report } = await reportIn({
    link: { delay: 20 },
    ...more,
    nat: { mappingLifetime: seconds * 1000, ...more.nat },
    discover: { lifetime, ...more.discover },
  });
  return report;
}

Deno.test("RFC 5780 §4.6: the lifetime is found to the second, in at most three and a half times itself", async () => {
  for (const seconds of [5, 7, 10, 15, 20, 30, 37, 60, 65, 90, 119, 120, 121, 180, 300, 429, 599]) {
    const { lifetimeSeconds, lifetime, duration } = await search(seconds);
    assertEquals(lifetimeSeconds, seconds);
    assertEquals(lifetime, {
      method: "response-port",
      aliveSeconds: seconds - 0.5,
      goneSeconds: seconds + 0.5,
      resolutionSeconds: 1,
      maxSeconds: 600,
      consistent: true,
    });
    assert(duration <= 1000 * (3.5 * seconds + 15), `${seconds} s took ${duration} ms`);
  }
});

Deno.test("RFC 5780 §4.6: the same for every kind of NAT, with traffic in that refreshes, and for a firewall", async () => {
  const behaviors = ["endpoint-independent", "address-dependent", "address-and-port-dependent"] as const;
  for (const mapping of behaviors) {
    for (const filtering of behaviors) {
      for (const inboundRefresh of [false, true]) {
        const nat = { mapping, filtering, inboundRefresh, portAllocation: "random" as const };
        assertEquals((await search(30, {}, { nat })).lifetimeSeconds, 30);
      }
    }
  }
  const firewall = await search(30, {}, { nat: { external: [] }, address: "203.0.113.7" });
  assertEquals([firewall.classic, firewall.lifetimeSeconds], ["symmetric firewall", 30]);
});

Deno.test("A lifetime that is no multiple of the resolution lies within half of it, give or take a round trip", async () => {
  for (const seconds of [11.3, 29.9, 43.21, 77.77]) {
    const { lifetime } = await search(seconds);
    assert(lifetime!.aliveSeconds <= seconds && seconds <= lifetime!.goneSeconds! + 0.2);
    assertEquals(lifetime!.goneSeconds! - lifetime!.aliveSeconds, 1);
  }
  const coarse = await search(100, { resolution: 10 });
  assertEquals([coarse.lifetimeSeconds, coarse.lifetime!.aliveSeconds, coarse.lifetime!.goneSeconds], [100, 95, 105]);
  const fine = await search(6, { resolution: 0.25, max: 20 });
  assertEquals(fine.lifetimeSeconds, 6);
});

Deno.test("A search stops at its maximum and says that even that did not end the mapping", async () => {
  const { lifetimeSeconds, lifetime, duration } = await search(100_000, { max: 60 });
  assertEquals([lifetimeSeconds, lifetime!.goneSeconds, lifetime!.maxSeconds], [60, null, 60]);
  assert(duration < 75_000);
});

Deno.test("A search with one mapping at a time comes to the same", async () => {
  assertEquals((await search(30, { parallel: 1 })).lifetimeSeconds, 30);
  assertEquals((await search(100_000, { parallel: 1, max: 60 })).lifetimeSeconds, 60);
});

Deno.test("A mapping that is gone in no time is told so", async () => {
  const { lifetime } = await search(0.3);
  assertEquals([lifetime!.aliveSeconds, lifetime!.goneSeconds], [0, 0.5]);
});

Deno.test("With arbitrary pooling a new mapping is told by its address", async () => {
  const external = ["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"];
  const nat = { external, pooling: "arbitrary" as const, portAllocation: "random" as const };
  const { lifetimeSeconds, lifetime } = await search(30, {}, { nat });
  assertEquals([lifetimeSeconds, lifetime!.method], [30, "remapping"]);
});

Deno.test("Loss does not make a lifetime shorter than what was seen alive", async () => {
  for (let seed = 1; seed <= 5; seed++) {
    const { lifetime } = await search(30, {}, { seed, link: { delay: 20, loss: 0.02 } });
    assertEquals(lifetime!.aliveSeconds, 29.5);
  }
});

Deno.test("Without NAT and firewall there is nothing to search for", async () => {
  const { report } = await reportIn({ discover: { lifetime: true } });
  assertEquals([report.lifetimeSeconds, report.unknown.lifetime], [
    null,
    "there is nothing that could end: no NAT, and no firewall",
  ]);
});

Deno.test("A server that falls silent during the search ends it", async () => {
  const { report } = await reportIn({
    nat: { mappingLifetime: 30_000 },
    discover: { lifetime: true },
    prepare: (world, server) => void world.after(6000, () => server.link.set({ loss: 1 })),
  });
  assertEquals([report.lifetimeSeconds, report.classic], [null, "port restricted cone"]);
  assertEquals(report.unknown.lifetime, "the server no longer answers");
});

Deno.test("Progress: first the rest of the report, then a gap that only narrows, then the report", async () => {
  const events: NatProbeEvent[] = [];
  const report = await search(30, {}, { discover: { onProgress: (event) => void events.push(event) } });
  const kinds = events.map(({ type }) => type).filter((type, i, all) => type !== all[i - 1]);
  assertEquals(kinds, ["test", "preliminary", "lifetime", "report"]);
  const steps = events.flatMap((event): LifetimeProgress[] => event.type === "lifetime" ? [event.progress] : []);
  for (const [i, { aliveSeconds, goneSeconds }] of steps.entries()) {
    const next = steps[i + 1];
    assert(aliveSeconds <= 30 && (goneSeconds ?? 31) >= 30);
    if (next !== undefined) {
      assert(next.aliveSeconds >= aliveSeconds && (next.goneSeconds ?? 1e9) <= (goneSeconds ?? 1e9));
    }
  }
  assertEquals(steps[0], { aliveSeconds: 0, goneSeconds: null, maxSeconds: 600, round: 1, remaining: 599_500 });
  assertEquals(report.tests.some(({ test }) => test.startsWith("lifetime")), false);
});

Deno.test("An aborted search rejects with the signal's reason, and all sockets are closed", async () => {
  const controller = new AbortController();
  const reason = new Error("enough");
  await assertRejects(
    () =>
      search(30, {}, {
        discover: { signal: controller.signal },
        prepare: (world) => void world.after(20_000, () => controller.abort(reason)),
      }),
    Error,
    "enough",
  );
});

Deno.test("A resolution of zero, and a maximum below two steps, are refused", () => {
  const make = (lifetime: { max?: number; resolution?: number }) => () => {
    const address = TransportAddress.parse("192.0.2.1:3478");
    return new NatProbe({ servers: [{ name: "server", address }], localAddresses: ["192.0.2.9"], lifetime });
  };
  assertThrows(make({ resolution: 0 }), RangeError, "resolution 0 s");
  assertThrows(make({ max: 1 }), RangeError, "max is 1 s");
});
