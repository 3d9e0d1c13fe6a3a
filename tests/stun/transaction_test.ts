import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { ClientTransaction, type TransactionOptions } from "../../stun/mod.ts";

const REQUEST = new Uint8Array(20);

interface Course {
  /** When the request was sent. */
  readonly sends: number[];
  /** When the transaction had failed. */
  readonly end: number;
}

/** Follows a transaction through virtual time to its end. `cancelAt` cancels its retransmissions then. */
function run(options?: TransactionOptions, start = 0, cancelAt = Infinity): Course {
  const transaction = new ClientTransaction(REQUEST, start, options);
  const sends = [start];
  for (;;) {
    if (transaction.deadline > cancelAt) {
      transaction.cancelRetransmissions();
      cancelAt = Infinity;
    }
    const now = transaction.deadline;
    const outcome = transaction.handleTimeout(now);
    if (outcome === "timeout") return { sends, end: now };
    assertEquals(outcome, "retransmit");
    sends.push(now);
    assertEquals(transaction.sends, sends.length);
  }
}

Deno.test("RFC 8489 §6.2.1: requests leave at 0, 500, 1500, 3500, 7500, 15500, 31500 ms and fail at 39500 ms", () => {
  const sends = [0, 500, 1500, 3500, 7500, 15500, 31500];
  assertEquals(run(), { sends, end: 39500 });
  assertEquals(run({}, 1000), { sends: sends.map((at) => at + 1000), end: 40500 });
});

Deno.test("RFC 8489 §6.2.1: RTO, Rc and Rm can be chosen", () => {
  assertEquals(run({ rto: 100 }), { sends: [0, 100, 300, 700, 1500, 3100, 6300], end: 7900 });
  assertEquals(run({ rc: 3 }), { sends: [0, 500, 1500], end: 9500 });
  assertEquals(run({ rc: 1 }), { sends: [0], end: 8000 });
  assertEquals(run({ rc: 2, rm: 1 }), { sends: [0, 500], end: 1000 });
});

Deno.test("RFC 8489 §6.2.2: over TCP a request is sent once and fails after Ti, 39500 ms", () => {
  assertEquals(run({ rc: 1, rm: 79 }), { sends: [0], end: 39500 });
});

Deno.test("RFC 8445 §7.3.1.4: cancelled retransmissions leave the end where it was, whenever they are cancelled", () => {
  const whole = run();
  for (const cancelAt of [0, 1, 499, 500, 501, 7499, 7500, 31499, 31500, 39499]) {
    const cancelled = run({}, 0, cancelAt);
    assertEquals(cancelled.end, whole.end, `cancelled at ${cancelAt}`);
    assertEquals(cancelled.sends, whole.sends.filter((at) => at <= cancelAt));
  }
});

Deno.test("RFC 8445 §7.3.1.4: cancelled retransmissions leave the end where it was, for any RTO, Rc and Rm", () => {
  const anyOptions = fc.record({
    rto: fc.integer({ min: 1, max: 3000 }),
    rc: fc.integer({ min: 1, max: 9 }),
    rm: fc.integer({ min: 1, max: 40 }),
  });
  fc.assert(fc.property(anyOptions, fc.nat(100_000), (options, cancelAt) => {
    assertEquals(run(options, 0, cancelAt).end, run(options).end);
  }));
});

Deno.test("ClientTransaction: before its deadline and after its end there is nothing to do", () => {
  const transaction = new ClientTransaction(REQUEST, 0);
  assertEquals(transaction.handleTimeout(499), "wait");
  assertEquals([transaction.sends, transaction.deadline], [1, 500]);
  transaction.cancelRetransmissions();
  assertEquals(transaction.handleTimeout(39499), "wait");
  assertEquals(transaction.handleTimeout(39500), "timeout");
  assertEquals(transaction.deadline, Infinity);
  assertEquals(transaction.handleTimeout(50000), "wait");
  transaction.cancelRetransmissions();
  assertEquals(transaction.deadline, Infinity);
});

Deno.test("ClientTransaction: an alarm that comes late is one retransmission, and later ones keep their distance", () => {
  const transaction = new ClientTransaction(REQUEST, 0);
  assertEquals(transaction.handleTimeout(700), "retransmit");
  assertEquals([transaction.sends, transaction.deadline], [2, 1700]);
});

Deno.test("RFC 8489 §6.2.2: over TCP and TLS a request is sent once and waited for 39.5 s, or as long as `ti` says", () => {
  assertEquals(run({ reliable: true }), { sends: [0], end: 39_500 });
  assertEquals(run({ reliable: true, rto: 100, rc: 3, rm: 2 }, 7), { sends: [7], end: 39_507 });
  assertEquals(run({ reliable: true, ti: 2000 }), { sends: [0], end: 2000 });
  // There is nothing to cancel.
  assertEquals(run({ reliable: true, ti: 2000 }, 0, 0), { sends: [0], end: 2000 });
});
