import { assertEquals } from "@std/assert";
import { SizeSearch } from "../../turn/probe_size.ts";
import { ProbeTraffic, roundTrips } from "../../turn/probe_traffic.ts";

/** The rounds of a search until it knows what passes up to `limit`. */
function search(limit: number, max: number): { rounds: (readonly number[])[]; largest: number } {
  const search = new SizeSearch(max);
  const rounds: (readonly number[])[] = [];
  for (let sizes = search.next; sizes.length > 0; sizes = search.next) {
    rounds.push(sizes);
    search.handle(new Set(sizes.filter((size) => size <= limit)));
  }
  return { rounds, largest: search.largest };
}

Deno.test("The largest size is found to the byte in a few rounds, whatever it is", () => {
  for (const limit of [0, 1, 7, 1199, 1200, 1201, 1468, 1499, 1500, 8192, 65_502, 65_503]) {
    const { rounds, largest } = search(limit, 65_503);
    assertEquals(largest, limit);
    const tried = rounds.flat();
    assertEquals(new Set(tried).size, tried.length);
    assertEquals(rounds.length <= 10, true, `${limit}: ${rounds.length}`);
  }
  assertEquals(search(5, 10), { rounds: [[10], [1, 2, 3, 5, 6, 7, 8]], largest: 5 });
});

Deno.test("The largest size: four short rounds where nothing limits it, four where Ethernet does", () => {
  assertEquals(search(65_503, 65_503).rounds, [[1200, 1500, 8000], [16_000], [32_000], [65_503]]);
  assertEquals(search(1468, 65_503).rounds.length, 4);
});

Deno.test("The largest size: one that was lost does not matter where a larger one passes", () => {
  const search = new SizeSearch(65_503);
  search.handle(new Set([1500]));
  assertEquals([search.largest, search.next[0]! > 1500, search.next.at(-1)! < 8000], [1500, true, true]);
});

Deno.test("Traffic: lost, repeated, reordered and corrupted datagrams are told apart", () => {
  const traffic = new ProbeTraffic(0xfedcba98, 40);
  const sent = [0, 10, 20, 30, 40].map((now) => traffic.next(now));
  const [first, second, third, , fifth] = sent as [Uint8Array, Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  assertEquals(sent.map(({ length }) => length), [40, 40, 40, 40, 40]);
  assertEquals(traffic.handle(first, 7), true);
  assertEquals(traffic.handle(third, 31), true);
  assertEquals(traffic.handle(second, 40), true);
  assertEquals(traffic.handle(second, 41), true);
  fifth[39]! ^= 1;
  assertEquals(traffic.handle(fifth, 50), true);
  assertEquals(traffic.handle(fifth.subarray(0, 20), 50), true);
  assertEquals(traffic.report(), {
    sent: 5,
    received: 3,
    duplicated: 1,
    reordered: 1,
    corrupted: 2,
    size: 40,
    roundTrips: { min: 7, median: 11, p95: 30, max: 30 },
  });
});

Deno.test("Traffic: what is of another stream, too short or never sent does not count", () => {
  const traffic = new ProbeTraffic(1, 8);
  const other = new ProbeTraffic(2, 8);
  traffic.next(0);
  assertEquals(traffic.handle(other.next(0), 1), false);
  assertEquals(traffic.handle(new Uint8Array(7), 1), false);
  assertEquals(traffic.handle(new Uint8Array([0, 0, 0, 1, 0, 0, 0, 1]), 1), false);
  assertEquals(traffic.received, 0);
});

Deno.test("Round trips: none, one, and the 95th of 100", () => {
  assertEquals(roundTrips([]), null);
  assertEquals(roundTrips([3]), { min: 3, median: 3, p95: 3, max: 3 });
  const hundred = Array.from({ length: 100 }, (_, i) => 100 - i);
  assertEquals(roundTrips(hundred), { min: 1, median: 50, p95: 95, max: 100 });
});
