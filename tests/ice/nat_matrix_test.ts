import { assertEquals, assertLessOrEqual, assertRejects } from "@std/assert";
import type { ClassicType } from "../../stun/net/virtual/mod.ts";
import { IceError } from "../../ice/error.ts";
import { meet, type MeetingOptions, nominate } from "./meeting.ts";

/**
 * The way that the theory allows, seen from the row's side: with a symmetric NAT on one side, the other must let in what
 * comes from a port that it never heard of. Direct is local/remote type, "relay" any path through one relay.
 */
const PATHS: Record<Exclude<ClassicType, "blocked">, Record<Exclude<ClassicType, "blocked">, string>> = {
  "open": {
    "open": "host/host",
    "full cone": "host/srflx",
    "restricted cone": "host/srflx",
    "port restricted cone": "host/srflx",
    "symmetric": "host/prflx",
    "symmetric firewall": "host/host",
  },
  "full cone": {
    "open": "srflx/host",
    "full cone": "srflx/srflx",
    "restricted cone": "srflx/srflx",
    "port restricted cone": "srflx/srflx",
    "symmetric": "srflx/prflx",
    "symmetric firewall": "srflx/host",
  },
  "restricted cone": {
    "open": "srflx/host",
    "full cone": "srflx/srflx",
    "restricted cone": "srflx/srflx",
    "port restricted cone": "srflx/srflx",
    "symmetric": "srflx/prflx",
    "symmetric firewall": "srflx/host",
  },
  "port restricted cone": {
    "open": "srflx/host",
    "full cone": "srflx/srflx",
    "restricted cone": "srflx/srflx",
    "port restricted cone": "srflx/srflx",
    "symmetric": "relay",
    "symmetric firewall": "srflx/host",
  },
  "symmetric": {
    "open": "prflx/host",
    "full cone": "prflx/srflx",
    "restricted cone": "prflx/srflx",
    "port restricted cone": "relay",
    "symmetric": "relay",
    // As with a port restricted cone: the firewall lets in only the ports that were sent to.
    "symmetric firewall": "relay",
  },
  "symmetric firewall": {
    "open": "host/host",
    "full cone": "host/srflx",
    "restricted cone": "host/srflx",
    "port restricted cone": "host/srflx",
    "symmetric": "relay",
    "symmetric firewall": "host/host",
  },
};
const TYPES = Object.keys(PATHS) as (keyof typeof PATHS)[];

/** Direct ones by their types; of a relayed one only that one relay is in it, since which one is a matter of luck. */
function pathOf(path: string): string {
  const relays = path.split("/").filter((type) => type === "relay").length;
  return relays === 0 ? path : relays === 1 ? "relay" : "two relays";
}

async function checkAll(options: (a: ClassicType, b: ClassicType) => MeetingOptions, limits: {
  connected: number;
  direct: number;
  relayed: number;
}): Promise<void> {
  for (const a of TYPES) {
    for (const b of TYPES) {
      const { path, connected, nominated } = await nominate(options(a, b));
      const cell = `${a} x ${b}`;
      assertEquals(`${cell}: ${pathOf(path)}`, `${cell}: ${PATHS[a][b]}`);
      assertLessOrEqual(connected, limits.connected, `${cell}: connected after ${connected} ms`);
      const limit = PATHS[a][b] === "relay" ? limits.relayed : limits.direct;
      assertLessOrEqual(nominated, limit, `${cell}: nominated after ${nominated} ms`);
    }
  }
}

Deno.test("NAT x NAT, A controlling: the best path there is, direct wherever the theory allows", async () => {
  await checkAll((a, b) => ({ a: { type: a }, b: { type: b } }), { connected: 280, direct: 400, relayed: 1050 });
});

Deno.test("NAT x NAT, B controlling", async () => {
  await checkAll(
    (a, b) => ({ a: { type: a, role: "controlled" }, b: { type: b, role: "controlling" } }),
    { connected: 280, direct: 400, relayed: 1050 },
  );
});

Deno.test("NAT x NAT, candidates trickling from the first moment", async () => {
  await checkAll(
    (a, b) => ({ a: { type: a }, b: { type: b }, signaling: "trickle" }),
    { connected: 500, direct: 900, relayed: 1500 },
  );
});

Deno.test("NAT x NAT with one in twenty datagrams lost on each of up to six links: the same paths, a little later", async () => {
  for (const seed of [1, 2, 3, 4]) {
    for (const a of TYPES) {
      const link = { loss: 0.05 };
      const options = { seed, a: { type: a, link }, b: { type: "port restricted cone", link } } as const;
      const { path, nominated } = await nominate(options, { withData: false });
      const cell = `${a}, seed ${seed}`;
      assertEquals(`${cell}: ${pathOf(path)}`, `${cell}: ${PATHS[a]["port restricted cone"]}`);
      // Half of the round trips are lost: a check may need its repetitions at 0.5, 1.5 and 3.5 s.
      assertLessOrEqual(nominated, 7500, `${cell}: nominated after ${nominated} ms`);
    }
  }
});

Deno.test("UDP blocked on one side: it fails after 39.5 s, and says so", async () => {
  await meet({ a: { type: "open" }, b: { type: "blocked" } }, async ({ a, b, world, ...meeting }) => {
    const [ofA, ofB] = await Promise.all([a.connection.localDescription(), b.connection.localDescription()]);
    const start = world.now;
    // Both servers are silent for B: it does not wait for longer than 5 s.
    assertEquals(start, 5000);
    a.connection.addRemoteDescription(ofB);
    b.connection.addRemoteDescription(ofA);
    const error = await assertRejects(() => a.connection.connected, IceError, "Cannot connect: all checks have failed");
    assertEquals(error.failure, "no-path");
    assertLessOrEqual(world.now - start, 40_000);
    const other = await assertRejects(() => b.connection.connected, IceError, "No answer from STUN server");
    assertEquals(other.gatheringErrors.length > 0, true);
    assertEquals(Object.keys(meeting).length > 0, true);
  });
});
