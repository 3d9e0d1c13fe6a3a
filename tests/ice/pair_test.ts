import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { TransportAddress } from "../../stun/address.ts";
import { RemoteCandidate } from "../../ice/candidate.ts";
import { LocalCandidates } from "../../ice/local_candidates.ts";
import { Base, CandidatePair, type IceRole, PAIR_TRANSITIONS, type PairState } from "../../ice/pair.ts";

const states = Object.keys(PAIR_TRANSITIONS) as PairState[];

function pairOf(
  ours: number,
  theirs: number,
  role: IceRole = "controlling",
  type: "host" | "relay" = "host",
): CandidatePair {
  const address = TransportAddress.parse("192.0.2.1:1");
  const local = new LocalCandidates().add({ type, socket: 1, address, rank: 0, priority: ours })!;
  const remote = new RemoteCandidate({
    foundation: "1",
    component: 1,
    protocol: "udp",
    priority: theirs,
    address: TransportAddress.parse("192.0.2.2:2"),
    type: "host",
  });
  return new CandidatePair(1, new Base(local), remote, role);
}

Deno.test("I17: pair priority has 64 bits, more than a double holds exactly", () => {
  assertEquals(pairOf(2130706431, 2130706431).priority, 9151314442783293438n);
  assertEquals(pairOf(2130706431, 1694498815).priority, 2n ** 32n * 1694498815n + 2n * 2130706431n + 1n);
  assertEquals(pairOf(2130706431, 1694498815, "controlled").priority, 2n ** 32n * 1694498815n + 2n * 2130706431n);
});

Deno.test("I17: both agents see the same priority, and compare by it exactly", () => {
  const anyPriority = fc.integer({ min: 1, max: 0xffffffff });
  fc.assert(fc.property(anyPriority, anyPriority, anyPriority, anyPriority, (a, b, c, d) => {
    assertEquals(pairOf(a, b, "controlling").priority, pairOf(b, a, "controlled").priority);
    const min = BigInt(Math.min(a, b));
    const max = BigInt(Math.max(a, b));
    const one = pairOf(a, b);
    const other = pairOf(c, d);
    assertEquals(one.priority, (min << 32n) + 2n * max + (a > b ? 1n : 0n));
    const expected = one.priority === other.priority ? 0 : one.priority > other.priority ? -1 : 1;
    assertEquals(Math.sign(one.compare(other)), expected);
  }));
});

Deno.test("RFC 8445 figure 6: a pair moves as the table says, and no other way", () => {
  for (const from of states) {
    for (const to of states) {
      const pair = pairOf(1, 1);
      pair.state = from;
      if (from === to || PAIR_TRANSITIONS[from].includes(to)) {
        pair.moveTo(to);
        assertEquals(pair.state, to);
      } else assertThrows(() => pair.moveTo(to), Error, "Cannot move candidate pair");
    }
  }
});

Deno.test("Every state can be reached from the first, and only a succeeded pair is valid", () => {
  const reached = new Set<PairState>(["frozen"]);
  for (const state of reached) for (const next of PAIR_TRANSITIONS[state]) reached.add(next);
  assertEquals([...reached].sort(), [...states].sort());
  for (const state of states) {
    const pair = pairOf(1, 1);
    pair.state = state;
    assertEquals(pair.isValid, state === "succeeded");
  }
});

Deno.test("Round trips are smoothed by an eighth (RFC 6298 §2)", () => {
  const pair = pairOf(1, 1);
  assertEquals(pair.rtt, undefined);
  pair.quality.answered(80);
  assertEquals(pair.rtt, 80);
  pair.quality.answered(160);
  assertEquals([pair.rtt, pair.totalRtt, pair.rttCount], [90, 240, 2]);
});
