import { assertEquals } from "@std/assert";
import fc from "fast-check";
import type { ClassicType, LinkOptions } from "../../stun/net/virtual/mod.ts";
import { meet, type Meeting, SERVER } from "./meeting.ts";

const anyType: fc.Arbitrary<ClassicType> = fc.constantFrom(
  "open",
  "full cone",
  "restricted cone",
  "port restricted cone",
  "symmetric",
  "symmetric firewall",
);
const anyLink: fc.Arbitrary<LinkOptions> = fc.record({
  delay: fc.constantFrom(0, 1, 20, 100),
  jitter: fc.constantFrom(0, 5, 80),
  loss: fc.constantFrom(0, 0.02, 0.05),
  duplicate: fc.constantFrom(0, 0.2),
  reorder: fc.constantFrom(0, 0.2),
});
const anyRole = fc.constantFrom("controlling" as const, "controlled" as const);
const anySide = fc.record({
  type: anyType,
  link: anyLink,
  role: anyRole,
  ta: fc.constantFrom(5, 20, 50),
  nat: fc.record({ portAllocation: fc.constantFrom("preserving" as const, "sequential" as const, "random" as const) }),
});

/** From now on nothing is lost, repeated or reordered. */
function mendLinks({ a, b }: Meeting): void {
  for (const { host, gateway } of [a, b]) {
    for (const link of [host.link, gateway?.link]) link?.set({ loss: 0, duplicate: 0, reorder: 0 });
  }
}

async function assertDataBothWays({ a, b }: Meeting): Promise<void> {
  for (const [from, to] of [[a, b], [b, a]] as const) {
    const reading = to.connection[Symbol.asyncIterator]().next();
    from.connection.send(new Uint8Array([200, 42]));
    assertEquals((await reading).value, new Uint8Array([200, 42]));
  }
}

Deno.test("Whatever the NATs, links, roles and timing: both connect, agree on the pair, and data goes both ways", async () => {
  const meeting = fc.record({
    a: anySide,
    b: anySide,
    seed: fc.nat(1000),
    signaling: fc.constantFrom("one-shot" as const, "trickle" as const),
    signalingDelay: fc.constantFrom(0, 20, 1500),
  });
  await fc.assert(
    fc.asyncProperty(meeting, (options) =>
      meet(options, async (meeting) => {
        const { a, b, world } = meeting;
        await meeting.exchange();
        await Promise.all([a.connection.nominated, b.connection.nominated]);
        assertEquals([a.connection.role, b.connection.role].sort(), ["controlled", "controlling"]);
        mendLinks(meeting);
        // Long enough for a nomination that the other side has yet to hear of, and for the relays to settle.
        await world.sleep(20_000);
        assertEquals([a.connection.state, b.connection.state], ["completed", "completed"]);
        const [ofA, ofB] = [a.connection.selectedPair!, b.connection.selectedPair!];
        // Each sees the other where the other says it is.
        assertEquals([String(ofA.local.address), String(ofA.remote.address)], [
          String(ofB.remote.address),
          String(ofB.local.address),
        ]);
        await assertDataBothWays(meeting);
      })),
    // Always the same ones: with loss, even a good agent fails once in some ten thousand times.
    { numRuns: 60, seed: 1 },
  );
});

Deno.test("I36: whatever the links, roles and timing: with UDP blocked on one side both connect by TCP, and data goes both ways", async () => {
  const blocked = fc.record({
    type: fc.constant("blocked" as const),
    link: anyLink,
    role: anyRole,
    ta: fc.constantFrom(5, 20, 50),
    tcp: fc.constantFrom("active" as const, "both" as const),
    servers: fc.constant("none" as const),
  });
  const open = fc.record({
    link: anyLink,
    role: anyRole,
    ta: fc.constantFrom(5, 20, 50),
    tcp: fc.constantFrom("passive" as const, "both" as const),
    servers: fc.constant("none" as const),
  });
  const meeting = fc.record({
    sides: fc.oneof(fc.tuple(blocked, open), fc.tuple(open, blocked)),
    seed: fc.nat(1000),
    signaling: fc.constantFrom("one-shot" as const, "trickle" as const),
    signalingDelay: fc.constantFrom(0, 20, 1500),
  });
  await fc.assert(
    fc.asyncProperty(meeting, ({ sides: [a, b], ...options }) =>
      meet({ a, b, ...options }, async (meeting) => {
        const { a, b, world } = meeting;
        await meeting.exchange();
        await Promise.all([a.connection.nominated, b.connection.nominated]);
        assertEquals([a.connection.role, b.connection.role].sort(), ["controlled", "controlling"]);
        mendLinks(meeting);
        await world.sleep(20_000);
        for (const { connection: { state, selectedPair } } of [a, b]) {
          assertEquals([state, selectedPair?.isTcp], ["completed", true]);
        }
        await assertDataBothWays(meeting);
      })),
    { numRuns: 40, seed: 1 },
  );
});

Deno.test("RFC 6544 §7.1, I36: whatever the links, roles and timing: by simultaneous open or a relay, both connect by one path", async () => {
  const side = fc.record({
    type: fc.constantFrom("blocked" as const, "symmetric" as const, "symmetric firewall" as const),
    link: anyLink,
    role: anyRole,
    ta: fc.constantFrom(5, 20, 50),
    tcp: fc.constant("both" as const),
    turnServers: fc.constant([{ urls: `turn:${SERVER}?transport=tcp`, username: "alice", credential: "secret" }]),
  });
  const meeting = fc.record({
    a: fc.record({ side, type: fc.constant("blocked" as const) }).map(({ side, type }) => ({ ...side, type })),
    b: side,
    seed: fc.nat(1000),
    signaling: fc.constantFrom("one-shot" as const, "trickle" as const),
    signalingDelay: fc.constantFrom(0, 20, 1500),
  });
  const paths = new Set<string>();
  await fc.assert(
    fc.asyncProperty(meeting, (options) =>
      meet(options, async (meeting) => {
        const { a, b, world } = meeting;
        await meeting.exchange();
        await Promise.all([a.connection.nominated, b.connection.nominated]);
        mendLinks(meeting);
        await world.sleep(20_000);
        const [ofA, ofB] = [a.connection.selectedPair!, b.connection.selectedPair!];
        assertEquals([a.connection.state, b.connection.state, ofA.base.kind], [
          "completed",
          "completed",
          ofB.base.kind,
        ]);
        paths.add(ofA.isTcp ? ofA.base.kind : "relay");
        await assertDataBothWays(meeting);
      })),
    { numRuns: 60, seed: 1 },
  );
  assertEquals([...paths].sort(), ["relay", "so"]);
});
