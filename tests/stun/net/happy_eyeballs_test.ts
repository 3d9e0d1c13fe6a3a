import { assert, assertEquals, assertRejects } from "@std/assert";
import { StunTimeoutError } from "../../../stun/error.ts";
import { OpenError } from "../../../stun/net/transport.ts";
import { raceAttempts } from "../../../stun/net/happy_eyeballs.ts";
import { FakeHost, settle } from "./fake_streams.ts";

/** Attempts that the test ends, and when each began and whether it was given up. */
function setUp(count: number, options: { delay?: number; signal?: AbortSignal } = {}) {
  const host = new FakeHost();
  const begun: number[] = [];
  const givenUp: number[] = [];
  const discarded: string[] = [];
  const attempts = Array.from({ length: count }, () => Promise.withResolvers<string>());
  const starts = attempts.map(({ promise }, i) => (signal: AbortSignal) => {
    begun[i] = host.now();
    signal.addEventListener("abort", () => givenUp.push(i));
    return promise;
  });
  const start = host.now();
  const race = raceAttempts(starts, { host, ...options, discard: (result) => void discarded.push(result) });
  race.catch(() => {});
  const times = () => begun.map((at) => at - start);
  return { host, attempts, race, times, givenUp, discarded };
}

Deno.test("RFC 8305 §5: one attempt every 250 ms, until one succeeds", async () => {
  const { host, attempts, race, times, givenUp, discarded } = setUp(4);
  host.advance(249);
  assertEquals(times(), [0]);
  host.advance(1);
  host.advance(300);
  assertEquals(times(), [0, 250, 500]);
  attempts[1]!.resolve("b");
  assertEquals(await race, "b");
  assertEquals(givenUp, [0, 1, 2]);
  host.advance(1000);
  assertEquals(times().length, 3);
  attempts[0]!.resolve("a");
  await settle();
  assertEquals(discarded, ["a"]);
});

Deno.test("RFC 8305 §5: a failure starts the next attempt at once", async () => {
  const { host, attempts, race, times } = setUp(3);
  host.advance(10);
  attempts[0]!.reject(new Error("no"));
  await settle();
  assertEquals(times(), [0, 10]);
  host.advance(250);
  assertEquals(times(), [0, 10, 260]);
  attempts[2]!.resolve("c");
  assertEquals(await race, "c");
});

Deno.test("All attempts fail: the first one's error, with all of them as the cause", async () => {
  const { attempts, race } = setUp(2);
  attempts[1]!.reject(new Error("second"));
  attempts[0]!.reject(new Error("first"));
  const error = await assertRejects(() => race, Error, "first");
  assert(error.cause instanceof AggregateError);
  assertEquals(error.cause.errors.map(String), ["Error: first", "Error: second"]);
});

Deno.test("All attempts fail: what a server answered says more than that another was not reached", async () => {
  const refused = new OpenError("refused", "refused");
  for (const answer of [new Error("401"), new OpenError("certificate", "bad")]) {
    const { attempts, race } = setUp(3);
    attempts[0]!.reject(refused);
    attempts[1]!.reject(answer);
    attempts[2]!.reject(new StunTimeoutError("silent"));
    assertEquals(await race.catch((error) => error), answer);
  }
  const { attempts, race } = setUp(2);
  attempts[0]!.reject(refused);
  attempts[1]!.reject(new StunTimeoutError("silent"));
  assertEquals(await race.catch((error) => error), refused);
});

Deno.test("The signal ends a race, and one that has not begun", async () => {
  const aborter = new AbortController();
  const { host, race, givenUp, times } = setUp(3, { signal: aborter.signal, delay: 10 });
  host.advance(10);
  aborter.abort(new Error("enough"));
  await assertRejects(() => race, Error, "enough");
  host.advance(100);
  assertEquals([givenUp, times()], [[0, 1], [0, 10]]);
  await assertRejects(() => setUp(1, { signal: aborter.signal }).race, Error, "enough");
  await assertRejects(() => setUp(0).race, Error, "no address");
});
