import { assertEquals, assertStrictEquals } from "@std/assert";
import fc from "fast-check";
import { DeadlineHeap, Timer } from "../../stun/mod.ts";

Deno.test("DeadlineHeap: set, moved, cleared and expired, it always agrees with a sorted list", () => {
  const TIMERS = 12;
  const anyStep = fc.oneof(
    fc.record({ verb: fc.constant("set" as const), timer: fc.nat(TIMERS - 1), at: fc.nat(40) }),
    fc.record({ verb: fc.constant("set" as const), timer: fc.nat(TIMERS - 1), at: fc.constant(Infinity) }),
    fc.record({ verb: fc.constant("clear" as const), timer: fc.nat(TIMERS - 1) }),
    fc.record({ verb: fc.constant("expire" as const), now: fc.nat(40) }),
  );
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 120 }), (steps) => {
      const heap = new DeadlineHeap<number>();
      const timers = Array.from({ length: TIMERS }, (_, i) => new Timer(i));
      const model = new Map<number, number>();
      for (const step of steps) {
        if (step.verb === "set") {
          heap.set(timers[step.timer]!, step.at);
          model.delete(step.timer);
          if (step.at !== Infinity) model.set(step.timer, step.at);
        } else if (step.verb === "clear") {
          heap.clear(timers[step.timer]!);
          model.delete(step.timer);
        } else {
          const earliest = Math.min(...model.values());
          const expired = heap.expire(step.now);
          assertEquals(expired !== undefined, earliest <= step.now);
          if (expired !== undefined) {
            assertEquals(model.get(expired.owner), earliest);
            assertEquals([expired.at, expired.index], [Infinity, -1]);
            model.delete(expired.owner);
          }
        }
        assertEquals(heap.deadline, Math.min(...model.values()));
        assertEquals(heap.size, model.size);
        for (const timer of timers) assertEquals(timer.at, model.get(timer.owner) ?? Infinity);
      }
    }),
    { numRuns: 500 },
  );
});

Deno.test("DeadlineHeap: timers expire in the order of their times, each once", () => {
  fc.assert(fc.property(fc.array(fc.nat(1000), { maxLength: 200 }), (times) => {
    const heap = new DeadlineHeap<number>();
    for (const at of times) heap.set(new Timer(at), at);
    const order: number[] = [];
    for (let timer = heap.expire(1000); timer !== undefined; timer = heap.expire(1000)) order.push(timer.owner);
    assertEquals(order, times.toSorted((a, b) => a - b));
    assertEquals([heap.size, heap.deadline], [0, Infinity]);
  }));
});

Deno.test("DeadlineHeap: a timer that is due now expires, one that is due later stays", () => {
  const heap = new DeadlineHeap<string>();
  const timer = new Timer("owner");
  heap.set(timer, 10);
  assertStrictEquals(heap.expire(9.999), undefined);
  assertStrictEquals(heap.expire(10), timer);
  heap.clear(timer);
  assertStrictEquals(heap.expire(10), undefined);
});
