import { assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { RemoteCandidate } from "../../ice/candidate.ts";
import { Checklist, ChecklistSet } from "../../ice/checklist.ts";
import { LocalCandidates } from "../../ice/local_candidates.ts";
import { Base, CandidatePair } from "../../ice/pair.ts";

let ids = 0;

/** A pair of this foundation; the higher the priority the better. */
function pairOf(foundation: string, priority: number, component = 1): CandidatePair {
  const id = ++ids;
  const address = new TransportAddress(new Uint8Array([10, 0, id >> 8, id & 255]), 5000);
  const local = new LocalCandidates().add({ type: "host", socket: id, address, rank: 0, priority })!;
  const remote = new RemoteCandidate({
    foundation,
    component,
    protocol: "udp",
    priority,
    address: TransportAddress.parse("192.0.2.2:2"),
    type: "host",
  });
  const pair = new CandidatePair(id, new Base(local), remote, "controlling");
  pair.base.pairs.set(remote.address.key, pair);
  return pair;
}

function statesOf(list: Checklist): string {
  return list.pairs.map(({ state }) => state[0]).join("");
}

Deno.test("RFC 8445 §6.1.2.6, table 1: for each foundation one pair of all checklists waits", () => {
  const lists = [new Checklist(0), new Checklist(1), new Checklist(2)];
  const set = new ChecklistSet(lists);
  const rows = [["f1", "f2", "f3"], ["f1", "f2", "f3", "f4"], ["f1", "f5"]];
  rows.forEach((row, i) =>
    row.forEach((foundation, j) => set.insert(lists[i]!, pairOf(foundation, 1000 - 100 * i - j)))
  );
  assertEquals(lists.map(statesOf), ["www", "fffw", "fw"]);
});

Deno.test("RFC 8445 §7.2.5.3.3, I19: success unfreezes the same pair foundation in all checklists", () => {
  const lists = [new Checklist(0), new Checklist(1)];
  const set = new ChecklistSet(lists);
  const first = pairOf("f1", 100);
  set.insert(lists[0]!, first);
  set.insert(lists[1]!, pairOf("f1", 50));
  set.insert(lists[1]!, pairOf("f10", 40));
  assertEquals(lists.map(statesOf), ["w", "fw"]);
  assertEquals(set.unfreeze(first.foundation).length, 1);
  assertEquals(lists.map(statesOf), ["w", "ww"]);
});

Deno.test("RFC 8838 §12: a new pair waits if it is the topmost of its foundation or one has succeeded, else it is frozen", () => {
  const list = new Checklist();
  const set = new ChecklistSet([list]);
  const insert = (pair: CandidatePair) => {
    set.insert(list, pair);
    return pair;
  };
  const low = insert(pairOf("f", 10));
  assertEquals(low.state, "waiting");
  assertEquals(insert(pairOf("f", 20)).state, "waiting");
  assertEquals(insert(pairOf("f", 15)).state, "frozen");
  assertEquals(insert(pairOf("f", 30, 2)).state, "frozen");
  low.moveTo("in-progress");
  low.moveTo("succeeded");
  assertEquals(insert(pairOf("f", 5)).state, "waiting");
});

Deno.test("RFC 8445 §6.1.4.2: triggered checks first, in the order they came, then waiting pairs by priority", () => {
  const list = new Checklist();
  const set = new ChecklistSet([list]);
  const [a, b, c, d] = [pairOf("a", 4), pairOf("b", 3), pairOf("c", 2), pairOf("d", 1)];
  for (const pair of [c, a, d, b]) set.insert(list, pair);
  assertEquals(list.pairs, [a, b, c, d]);
  list.trigger(d);
  list.trigger(c);
  list.trigger(d);
  const taken = [];
  for (let pair = set.next(); pair !== undefined; pair = set.next()) {
    pair.moveTo("in-progress");
    taken.push(pair);
  }
  assertEquals(taken, [d, c, a, b]);
});

Deno.test("RFC 8445 §6.1.4.2 step 2: with nothing waiting, a frozen pair goes when none of its foundation is under way", () => {
  const list = new Checklist();
  const set = new ChecklistSet([list]);
  const [first, second] = [pairOf("f", 2), pairOf("f", 1)];
  set.insert(list, first);
  set.insert(list, second);
  assertEquals(set.next(), first);
  first.moveTo("in-progress");
  assertEquals(set.next(), undefined);
  first.moveTo("failed");
  assertEquals(set.next(), second);
});

Deno.test("RFC 8445 §6.1.4.2: the checklists take turns", () => {
  const lists = [new Checklist(0), new Checklist(1)];
  const set = new ChecklistSet(lists);
  for (const foundation of ["a", "b"]) set.insert(lists[0]!, pairOf(foundation, 10));
  for (const foundation of ["c", "d"]) set.insert(lists[1]!, pairOf(foundation, 10));
  const taken: string[] = [];
  for (let pair = set.next(); pair !== undefined; pair = set.next()) {
    pair.moveTo("in-progress");
    taken.push(pair.remote.foundation);
  }
  assertEquals(taken, ["a", "c", "b", "d"]);
});

Deno.test("I29, RFC 8445 §6.1.2.5, RFC 8838 §10: at the limit a failed pair goes first, then the worst that is not under way", () => {
  const list = new Checklist();
  const set = new ChecklistSet([list], 3);
  const [a, b, c] = [pairOf("a", 30), pairOf("b", 20), pairOf("c", 10)];
  for (const pair of [a, b, c]) assertEquals(set.insert(list, pair), true);
  assertEquals(set.insert(list, pairOf("d", 5)), false);
  const better = pairOf("e", 25);
  assertEquals(set.insert(list, better), true);
  assertEquals(list.pairs, [a, better, b]);
  assertEquals(c.base.pairs.size, 0);
  a.moveTo("in-progress");
  a.moveTo("failed");
  const worse = pairOf("f", 1);
  assertEquals(set.insert(list, worse), true);
  assertEquals(list.pairs, [better, b, worse]);
  for (const pair of [better, b, worse]) pair.moveTo("in-progress");
  assertEquals(set.insert(list, pairOf("g", 99)), false);
});
