import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { TransportAddress } from "../../stun/address.ts";
import { RtoCache } from "../../stun/rto_cache.ts";
import { ClientTransaction } from "../../stun/transaction.ts";

const SERVER = TransportAddress.parse("192.0.2.1:3478");
const MINUTE = 60_000;

/** A transaction with what the cache says, which is answered after `rtt` ms: sent again meanwhile, if that is due. */
function ask(cache: RtoCache, rtt: number, now = 0, server = SERVER): { sends: number; rto: number } {
  const rto = cache.rtoFor(server, now);
  const transaction = new ClientTransaction(new Uint8Array(20), now, { rto });
  while (transaction.deadline <= now + rtt) transaction.handleTimeout(transaction.deadline);
  cache.handleAnswer(server, transaction, now + rtt);
  return { sends: transaction.sends, rto };
}

Deno.test("RFC 8489 §6.2.1: the RTO begins with 500 ms and follows RFC 6298 from there, in ms and never below 500", () => {
  const cache = new RtoCache();
  assertEquals(cache.rtoFor(SERVER, 0), 500);
  ask(cache, 300);
  // RFC 6298 §2.2: SRTT 300, RTTVAR 150, RTO 300 + 4 * 150.
  assertEquals(cache.rtoFor(SERVER, 0), 900);
  ask(cache, 400);
  // §2.3: RTTVAR 3/4 * 150 + 1/4 * 100 = 137.5, SRTT 7/8 * 300 + 1/8 * 400 = 312.5; 862.5 is rounded up to a ms.
  assertEquals(cache.rtoFor(SERVER, 0), 863);
  for (let i = 0; i < 50; i++) ask(cache, 10);
  assertEquals(cache.rtoFor(SERVER, 0), 500);
});

Deno.test("RFC 8489 §6.2.1: the RTO is the server's by IP address, whatever the port", () => {
  const cache = new RtoCache();
  ask(cache, 300);
  assertEquals(cache.rtoFor(SERVER.withPort(5349), 0), 900);
  assertEquals(cache.rtoFor(TransportAddress.parse("192.0.2.2:3478"), 0), 500);
  assertEquals(cache.rtoFor(TransportAddress.parse("[2001:db8::1]:3478"), 0), 500);
});

Deno.test("RFC 8489 §6.2.1: the RTO is discarded when the server was not asked for 10 minutes", () => {
  const cache = new RtoCache();
  ask(cache, 300);
  assertEquals(cache.rtoFor(SERVER, 300 + 10 * MINUTE), 900);
  assertEquals(cache.rtoFor(SERVER, 301 + 10 * MINUTE), 500);
  assertEquals(cache.size, 0);
  ask(cache, 300, 20 * MINUTE);
  ask(cache, 300, 29 * MINUTE);
  assertEquals(cache.rtoFor(SERVER, 38 * MINUTE), 750);
});

Deno.test("RFC 8489 §6.2.1: Karn: no round trip is taken from a request that was repeated; the next RTO is what it grew to", () => {
  const cache = new RtoCache();
  assertEquals(ask(cache, 800), { sends: 2, rto: 500 });
  assertEquals(cache.rtoFor(SERVER, 0), 1000);
  // So the next one is answered in time, and gives the first sample: 800 + 4 * 400.
  assertEquals(ask(cache, 800), { sends: 1, rto: 1000 });
  assertEquals(cache.rtoFor(SERVER, 0), 2400);
});

Deno.test("RFC 8489 §6.2.2: an answer over TCP says nothing about the RTO", () => {
  const cache = new RtoCache();
  cache.handleAnswer(SERVER, new ClientTransaction(new Uint8Array(20), 0, { reliable: true }), 5000);
  assertEquals([cache.size, cache.rtoFor(SERVER, 5000)], [0, 500]);
});

Deno.test("RtoCache: as many servers as it may remember, the one not asked for longest goes", () => {
  const cache = new RtoCache({ capacity: 2 });
  const [a, b, c] = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"].map((text) => TransportAddress.parse(text));
  ask(cache, 300, 0, a);
  ask(cache, 300, 0, b);
  ask(cache, 300, 0, a);
  ask(cache, 300, 0, c);
  assertEquals(cache.size, 2);
  assertEquals([a, b, c].map((server) => cache.rtoFor(server!, 0)), [750, 500, 900]);
});

Deno.test("RFC 6298 §2.5: whatever the round trips were, the RTO is a whole number of 500 to 60,000 ms", () => {
  fc.assert(fc.property(fc.array(fc.double({ min: 0, max: 39_000, noNaN: true })), (rtts) => {
    const cache = new RtoCache();
    for (const rtt of rtts) ask(cache, rtt);
    const rto = cache.rtoFor(SERVER, 0);
    assert(Number.isInteger(rto) && rto >= 500 && rto <= 60_000, `${rto}`);
  }));
});
