import { assertEquals, assertLess } from "@std/assert";
import { METHOD, StunMessage } from "../../stun/message.ts";
import { MessageWriter } from "../../stun/message_writer.ts";
import { IntegrityKey } from "../../stun/integrity.ts";
import { USERNAME } from "../../stun/attributes.ts";
import { ICE_CONTROLLING, PRIORITY, USE_CANDIDATE } from "../../ice/attributes.ts";

const ROUNDS = 100_000;
const key = IntegrityKey.shortTerm("VOkJxbRl1RmTxUk/WvJxBt");
const memory = new Uint8Array(256);
const transactionId = new Uint8Array(12);

/** A connectivity check. */
function writeCheck(): Uint8Array {
  return new MessageWriter(memory).begin(METHOD.BINDING, "request", transactionId).add(USERNAME, "evtj:h6vY")
    .add(PRIORITY, 0x6e0001ff).add(USE_CANDIDATE, true).addIntegrity(key).addFingerprint().finish();
}

/** Bytes of heap that `work` takes each time, after it has warmed up. */
function bytesEach(work: () => void): number {
  for (let i = 0; i < ROUNDS; i++) work();
  const samples = Array.from({ length: 5 }, () => {
    const before = Deno.memoryUsage().heapUsed;
    for (let i = 0; i < ROUNDS; i++) work();
    return (Deno.memoryUsage().heapUsed - before) / ROUNDS;
  });
  // A collection in between makes a sample too small, never too large: the largest counts.
  return Math.max(...samples);
}

Deno.test("RFC 8489 §5: asking a message for its numbers and flags, and for its fingerprint, takes no memory", () => {
  const message = StunMessage.parse(writeCheck().slice())!;
  let sum = 0;
  const each = bytesEach(() => {
    sum += message.get(PRIORITY)! & 1;
    sum += message.method + (message.class === "request" ? 1 : 0);
    if (message.get(USE_CANDIDATE) === true && !message.has(ICE_CONTROLLING)) sum++;
    if (message.verifyFingerprint()) sum++;
  });
  assertEquals(sum, 6 * ROUNDS * (1 + 1 + 1 + 1 + 1));
  // The smallest object has 16 bytes.
  assertLess(each, 4, `${each} bytes each time`);
});

Deno.test("RFC 8489 §14.5: verifying keeps nothing, and its key is processed once", () => {
  const message = StunMessage.parse(writeCheck().slice())!;
  const hmac = key.hmac("sha1");
  let right = 0;
  const each = bytesEach(() => {
    if (message.verifyIntegrity(key)) right++;
  });
  assertEquals(right, 6 * ROUNDS);
  assertEquals(key.hmac("sha1") === hmac, true);
  // Views of the message for the comparison, which are gone at once.
  assertLess(each, 128, `${each} bytes each time`);
});
