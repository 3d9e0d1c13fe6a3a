import { assert, assertEquals, assertGreaterOrEqual, assertLessOrEqual } from "@std/assert";
import { Consent } from "../../ice/consent.ts";
import { seeded } from "./rig.ts";

const random = seeded(3);

Deno.test("I23, RFC 7675 §5.1: requests are 4 to 6 s apart, and not all the same", () => {
  const consent = new Consent(0, 0, random);
  const gaps: number[] = [];
  let last = 0;
  while (gaps.length < 200) {
    const now = consent.deadline;
    if (consent.handleTimeout(now, random) !== "ask") continue;
    gaps.push(now - last);
    last = now;
    consent.handleAnswer(now + 10);
  }
  for (const gap of gaps) {
    assertGreaterOrEqual(gap, 4000);
    assertLessOrEqual(gap, 6000);
  }
  assert(new Set(gaps).size > 100);
  assert(Math.min(...gaps) < 4100 && Math.max(...gaps) > 5900);
});

Deno.test("I23: consent is over 30 s after the latest answer, not before; one lost answer does not matter", () => {
  const consent = new Consent(0, 0, random);
  const steps: string[] = [];
  for (let now = 0; now < 40_000;) {
    now = consent.deadline;
    if (now === Infinity) break;
    const step = consent.handleTimeout(now, random);
    steps.push(step);
    if (steps.length === 2) consent.handleAnswer(now);
    else if (step === "expired") {
      const [first] = steps;
      assertEquals(first, "ask");
      assertEquals(steps.filter((one) => one === "silent").length, 1);
    }
  }
  assertEquals(steps.at(-1), "expired");
  assertEquals(consent.deadline, Infinity);
});

Deno.test("I23: expiry is exact, and is checked at use as well", () => {
  const consent = new Consent(1000, 1000, random);
  assertEquals(consent.maySend(30_999), true);
  assertEquals(consent.maySend(31_000), false);
  consent.handleAnswer(20_000);
  assertEquals(consent.maySend(49_999), true);
  assertEquals(consent.maySend(50_000), false);
});

Deno.test("I23: silence is noted 1 s after the second unanswered request", () => {
  const consent = new Consent(0, 0, random);
  const first = consent.deadline;
  assertEquals(consent.handleTimeout(first, random), "ask");
  const second = consent.deadline;
  assertEquals(consent.handleTimeout(second, random), "ask");
  assertEquals(consent.deadline, second + 1000);
  assertEquals(consent.handleTimeout(second + 999, random), "wait");
  assertEquals(consent.handleTimeout(second + 1000, random), "silent");
});

Deno.test("RFC 7675 §5.1: consent to a pair that was not in use is asked for at once, and data waits if it is 30 s old", () => {
  const fresh = new Consent(3999, 0, random);
  assertEquals(fresh.deadline > 7999, true);
  const stale = new Consent(20_000, 0, random);
  assertEquals([stale.deadline, stale.maySend(20_000), stale.maySend(30_000)], [20_000, true, false]);
  const over = new Consent(60_000, 0, random);
  assertEquals([over.maySend(60_000), over.handleTimeout(60_000, random)], [false, "ask"]);
  over.handleAnswer(60_100);
  assertEquals(over.maySend(60_100), true);
});

Deno.test("RFC 7675 §5.1: a pair that comes into use is given up 30 s later if there is no answer, not at once", () => {
  const consent = new Consent(29_900, 0, random);
  for (let now = 0; consent.deadline !== Infinity;) {
    now = consent.deadline;
    if (consent.handleTimeout(now, random) === "expired") assertEquals(now, 59_900);
  }
});

Deno.test("I40: after a sleep of the computer the peer is asked again, and nothing is sent before it answers", () => {
  const consent = new Consent(0, 0, random);
  const wake = 3_600_000;
  assertEquals(consent.maySend(wake), false);
  assertEquals(consent.handleTimeout(wake, random), "ask");
  assertEquals(consent.maySend(wake), false);
  consent.handleAnswer(wake + 50);
  assertEquals(consent.maySend(wake + 50), true);
});

Deno.test("I40: a peer that does not answer after a sleep is lost 5 s later", () => {
  const consent = new Consent(0, 0, random);
  const wake = 3_600_000;
  assertEquals(consent.handleTimeout(wake, random), "ask");
  for (let now = wake; consent.deadline !== Infinity;) {
    now = consent.deadline;
    if (consent.handleTimeout(now, random) === "expired") assertEquals(now, wake + 5000);
  }
});
