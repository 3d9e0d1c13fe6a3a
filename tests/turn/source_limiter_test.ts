import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { TransportAddress } from "../../stun/address.ts";
import { HalfSipHash, SourceLimiter } from "../../turn/source_limiter.ts";

Deno.test("HalfSipHash-2-4: the vectors of its authors", () => {
  const hash = new HalfSipHash(Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7));
  const input = Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7);
  const bytes = (word: number) => [word & 0xff, (word >> 8) & 0xff, (word >> 16) & 0xff, word >>> 24];
  assertEquals(bytes(hash.of(input, 0)), [0xa9, 0x35, 0x9f, 0x5b]);
  assertEquals(bytes(hash.of(input, 1)), [0x2a, 0x6e, 0x46, 0x89]);
  assertEquals(bytes(hash.of(input, 2)), [0xd0, 0xb8, 0x84, 0x8f]);
});

Deno.test("SourceLimiter: never more than burst + rate x time, and not less, however it is asked", () => {
  const source = TransportAddress.parse("192.0.2.7:1");
  const gaps = fc.array(fc.nat(500), { minLength: 1, maxLength: 200 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 20 }), gaps, (rate, burst, waits) => {
      const limiter = new SourceLimiter({ rate, burst }, new Uint8Array(8));
      let now = 1000;
      let taken = 0;
      let saved = burst;
      for (const wait of waits) {
        now += wait;
        saved = Math.min(burst, saved + wait * rate / 1000);
        const isAllowed = limiter.take(source, now);
        // An exact tie may fall either way by rounding.
        if (Math.abs(saved - 1) > 1e-6) assertEquals(isAllowed, saved >= 1);
        if (isAllowed) {
          saved -= 1;
          taken++;
        }
      }
      assert(taken <= burst + (now - 1000) * rate / 1000 + 1e-6);
    }),
    { numRuns: 200 },
  );
});

Deno.test("SourceLimiter: 20,000 other sources leave nearly everybody's budget alone", () => {
  const limiter = new SourceLimiter({ rate: 1, burst: 1 }, Uint8Array.of(9, 8, 7, 6, 5, 4, 3, 2));
  let refused = 0;
  for (let i = 0; i < 20_000; i++) {
    const source = new TransportAddress(Uint8Array.of(100, 64 + (i >> 16), i >> 8, i), 1);
    if (!limiter.take(source, 1000)) refused++;
  }
  // Of 20,000 in 65,536 places, 2770 find theirs taken on average.
  assert(refused > 2400 && refused < 3100, `${refused}`);
});
