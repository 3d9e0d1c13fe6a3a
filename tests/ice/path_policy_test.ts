import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { RemoteCandidate } from "../../ice/candidate.ts";
import { LocalCandidates } from "../../ice/local_candidates.ts";
import { Base, CandidatePair } from "../../ice/pair.ts";
import { BETTER_FOR, isBetter, pathCost, PathJudge, type PathPolicy } from "../../ice/path_policy.ts";
import { PathQuality } from "../../ice/path_quality.ts";

let ids = 0;

/** A pair of this priority, on which these round trips were measured. */
function pairOf(priority: number, ...rtts: number[]): CandidatePair {
  const address = new TransportAddress(new Uint8Array([10, 0, 0, ++ids]), 1);
  const base = new Base(new LocalCandidates().add({ type: "host", socket: ids, address, rank: 0 })!);
  const remote = new RemoteCandidate({
    ...{ foundation: "1", component: 1, protocol: "udp", priority, address, type: "host" },
  });
  const pair = new CandidatePair(ids, base, remote, "controlling");
  for (const rtt of rtts) pair.quality.answered(rtt);
  return pair;
}

/** Asks the judge once a second, each pair being measured before; gives when it said to go over. */
function switchAt(policy: PathPolicy, selected: CandidatePair, rival: CandidatePair, rtts: [number, number]) {
  const judge = new PathJudge(policy);
  const pairs = [selected, rival].sort((a, b) => a.compare(b));
  for (let now = 0; now <= 60_000; now += 1000) {
    selected.quality.answered(rtts[0]);
    rival.quality.answered(rtts[1]);
    if (judge.evaluate(pairs, selected, now) === rival) return now;
  }
  return undefined;
}

Deno.test("RFC 6298 §2: the round trip is smoothed by 1/8, its deviation by 1/4, from 0", () => {
  const quality = new PathQuality();
  assertEquals([quality.rtt, quality.jitter, quality.loss], [undefined, 0, 0]);
  for (let i = 0; i < 5; i++) quality.answered(80);
  assertEquals([quality.rtt, quality.jitter, quality.samples, quality.total], [80, 0, 5, 400]);
  quality.answered(160);
  assertEquals([quality.rtt, quality.jitter], [90, 20]);
  quality.answered(90);
  assertEquals([quality.rtt, quality.jitter], [90, 15]);
});

Deno.test("Loss is that of the latest 32 checks, and begins anew when a pair becomes valid", () => {
  const quality = new PathQuality();
  quality.unanswered();
  quality.forgetLosses();
  assertEquals(quality.loss, 0);
  for (let i = 0; i < 3; i++) quality.answered(10);
  quality.unanswered();
  assertEquals(quality.loss, 1 / 4);
  for (let i = 0; i < 32; i++) quality.unanswered();
  assertEquals(quality.loss, 1);
  for (let i = 0; i < 31; i++) quality.answered(10);
  assertEquals(quality.loss, 1 / 32);
  quality.answered(10);
  assertEquals(quality.loss, 0);
});

Deno.test("Quality: a path costs its round trip, twice its jitter, and 10 ms for each percent lost", () => {
  assertEquals(pathCost({ recent: undefined, loss: 0 }), Infinity);
  assertAlmostEquals(pathCost({ recent: { rtt: 50, jitter: 5 }, loss: 0.02 }), 80);
});

Deno.test("What is recent is the mean of the latest 8 round trips without the largest, and the deviation from it", () => {
  const quality = new PathQuality();
  assertEquals(quality.recent, undefined);
  quality.answered(40);
  assertEquals(quality.recent, { rtt: 40, jitter: 0 });
  quality.answered(60);
  assertEquals(quality.recent, { rtt: 50, jitter: 10 });
  quality.answered(900);
  assertEquals(quality.recent, { rtt: 50, jitter: 10 });
  for (let i = 0; i < 8; i++) quality.answered(20);
  assertEquals(quality.recent, { rtt: 20, jitter: 0 });
});

Deno.test("Quality: better is at least 10 ms and 15 % less", () => {
  assertEquals(isBetter("quality", pairOf(1, 20), pairOf(1, 29)), false);
  assertEquals(isBetter("quality", pairOf(1, 20), pairOf(1, 30)), true);
  assertEquals(isBetter("quality", pairOf(1, 180), pairOf(1, 200)), false);
  assertEquals(isBetter("quality", pairOf(1, 170), pairOf(1, 200)), true);
  assertEquals(isBetter("quality", pairOf(1, 500), pairOf(1)), true);
});

Deno.test("Quality: a better path has to be better for 5 s and two answers", () => {
  assertEquals(switchAt("quality", pairOf(2), pairOf(1), [100, 50]), BETTER_FOR);
  assertEquals(switchAt("quality", pairOf(2), pairOf(1), [100, 95]), undefined);
  const judge = new PathJudge("quality");
  const [selected, rival] = [pairOf(2, 100), pairOf(1, 50)];
  assertEquals(judge.evaluate([selected, rival], selected, 0), undefined);
  // Time alone does not do: there was no answer since.
  assertEquals(judge.evaluate([selected, rival], selected, 20_000), undefined);
  rival.quality.answered(50);
  assertEquals(judge.evaluate([selected, rival], selected, 21_000), undefined);
  rival.quality.answered(50);
  assertEquals(judge.evaluate([selected, rival], selected, 22_000), rival);
});

Deno.test("Quality: one bad measurement of the path in use, or one good one of another, changes nothing", () => {
  const judge = new PathJudge("quality");
  const [selected, rival] = [pairOf(2, 50, 50, 50), pairOf(1, 55, 55, 55)];
  selected.quality.answered(300);
  for (let now = 0; now < 60_000; now += 1000) {
    selected.quality.answered(50);
    rival.quality.answered(55);
    assertEquals(judge.evaluate([selected, rival], selected, now), undefined, `At ${now}`);
  }
});

Deno.test("Quality: two paths that are about the same are not exchanged for each other, whatever their jitter", () => {
  let state = 1;
  const noise = () => (state = (state * 16807) % 2147483647) / 2147483647 * 30;
  const judge = new PathJudge("quality");
  const pairs = [pairOf(2, 80), pairOf(1, 80)] as [CandidatePair, CandidatePair];
  let [selected] = pairs;
  let switches = 0;
  for (let now = 0; now < 3_600_000; now += 5000) {
    for (const pair of pairs) pair.quality.answered(80 + noise());
    const better = judge.evaluate(pairs, selected, now);
    if (better === undefined) continue;
    switches++;
    selected = better;
  }
  assert(switches <= 4, `${switches} switches in an hour`);
});

Deno.test("Priority: back to the better pair when it has answered for 5 s, whatever its round trip", () => {
  assertEquals(switchAt("priority", pairOf(1), pairOf(2), [10, 200]), BETTER_FOR);
  assertEquals(switchAt("priority", pairOf(2), pairOf(1), [200, 10]), undefined);
});

Deno.test("First: never", () => {
  assertEquals(switchAt("first", pairOf(1), pairOf(2), [200, 10]), undefined);
});

Deno.test("A function decides at once; what is not among the pairs that work is not taken", () => {
  const stranger = pairOf(3);
  assertEquals(switchAt((pairs) => pairs.at(-1), pairOf(2), pairOf(1), [10, 10]), 0);
  assertEquals(switchAt(() => undefined, pairOf(2), pairOf(1), [200, 10]), undefined);
  assertEquals(switchAt(() => stranger, pairOf(2), pairOf(1), [200, 10]), undefined);
  const seen: unknown[] = [];
  const [selected, rival] = [pairOf(2), pairOf(1)];
  new PathJudge((pairs, current) => void seen.push(pairs, current)).evaluate([selected, rival], selected, 0);
  assertEquals(seen, [[selected, rival], selected]);
});
