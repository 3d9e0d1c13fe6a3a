import { assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { type CandidateType, RemoteCandidate } from "../../ice/candidate.ts";
import { LocalCandidates } from "../../ice/local_candidates.ts";
import { chooseNominee } from "../../ice/nomination.ts";
import { Base, CandidatePair, type PairState } from "../../ice/pair.ts";

const DONE = { remoteMayTrickle: false, isGathering: false };
let ids = 0;

function pairOf(
  local: "host" | "relay",
  remote: CandidateType,
  state: PairState,
  times: { checkedAt?: number; validAt?: number; rtt?: number; rto?: number } = {},
): CandidatePair {
  const address = new TransportAddress(new Uint8Array([10, 0, 0, ++ids]), 1);
  const base = new Base(new LocalCandidates().add({ type: local, socket: ids, address, rank: 0 })!);
  const pair = new CandidatePair(
    ids,
    base,
    new RemoteCandidate({ foundation: "1", component: 1, protocol: "udp", priority: 1, address, type: remote }),
    "controlling",
  );
  pair.state = state;
  pair.checkedAt = times.checkedAt;
  pair.validAt = times.validAt;
  if (times.rtt !== undefined) pair.quality.answered(times.rtt);
  pair.rto = times.rto ?? 500;
  return pair;
}

Deno.test("Nomination: none before a pair is valid", () => {
  assertEquals(chooseNominee([pairOf("host", "host", "in-progress", { checkedAt: 0 })], DONE), undefined);
});

Deno.test("Nomination: the best pair is nominated at once when it is the one that works", () => {
  const best = pairOf("host", "host", "succeeded", { checkedAt: 0, validAt: 10, rtt: 10 });
  const worse = pairOf("host", "srflx", "waiting");
  assertEquals(chooseNominee([best, worse], DONE), { pair: best, at: -Infinity });
});

Deno.test("Nomination: a better pair has three round trips of the best valid one after its check has left", () => {
  const better = pairOf("host", "host", "in-progress", { checkedAt: 100 });
  const best = pairOf("host", "srflx", "succeeded", { checkedAt: 50, validAt: 70, rtt: 20 });
  assertEquals(chooseNominee([better, best], DONE), { pair: best, at: 160 });
});

Deno.test("Nomination: a better pair that is still to be checked is waited for, a frozen or failed one is not", () => {
  const best = pairOf("host", "srflx", "succeeded", { checkedAt: 50, validAt: 70, rtt: 20 });
  assertEquals(chooseNominee([pairOf("host", "host", "waiting"), best], DONE)?.at, Infinity);
  assertEquals(chooseNominee([pairOf("host", "host", "frozen"), best], DONE)?.at, -Infinity);
  assertEquals(chooseNominee([pairOf("host", "host", "failed"), best], DONE)?.at, -Infinity);
});

Deno.test("Nomination: while the best valid pair is relayed, direct pairs have until their repetition can be answered", () => {
  const direct = pairOf("host", "srflx", "in-progress", { checkedAt: 100, rto: 700 });
  const relayed = pairOf("host", "relay", "in-progress", { checkedAt: 150 });
  const best = pairOf("relay", "relay", "succeeded", { checkedAt: 50, validAt: 90, rtt: 40 });
  assertEquals(chooseNominee([direct, relayed, best], DONE), { pair: best, at: 100 + 700 + 120 });
  assertEquals(chooseNominee([relayed, best], DONE), { pair: best, at: 150 + 120 });
});

Deno.test("I11: without end-of-candidates a relayed pair waits half a second and three round trips, a direct one not at all", () => {
  const relayed = pairOf("relay", "host", "succeeded", { checkedAt: 50, validAt: 90, rtt: 40 });
  const direct = pairOf("host", "srflx", "succeeded", { checkedAt: 50, validAt: 90, rtt: 40 });
  for (const open of [{ ...DONE, remoteMayTrickle: true }, { ...DONE, isGathering: true }]) {
    assertEquals(chooseNominee([relayed], open), { pair: relayed, at: 90 + 500 + 120 });
    assertEquals(chooseNominee([direct], open), { pair: direct, at: -Infinity });
  }
});

Deno.test("Nomination: an address that only a check has shown may be a relay until the peer's candidates are complete", () => {
  const pair = pairOf("host", "prflx", "succeeded", { checkedAt: 50, validAt: 90, rtt: 40 });
  assertEquals(chooseNominee([pair], { ...DONE, remoteMayTrickle: true })?.at, 90 + 500 + 120);
  assertEquals(chooseNominee([pair], DONE)?.at, -Infinity);
});

Deno.test("Nomination: a round trip that could not be measured is taken from the times of check and answer", () => {
  const better = pairOf("host", "host", "in-progress", { checkedAt: 600 });
  const best = pairOf("host", "srflx", "succeeded", { checkedAt: 0, validAt: 530 });
  assertEquals(chooseNominee([better, best], DONE), { pair: best, at: 600 + 3 * 530 });
});
