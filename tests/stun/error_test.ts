import { assertEquals } from "@std/assert";
import { StunError } from "../../stun/mod.ts";

Deno.test("StunError: the message says what was being done, the code and the reason", () => {
  assertEquals(
    new StunError(437, "Allocation Mismatch", "Cannot refresh").message,
    "Cannot refresh: 437 Allocation Mismatch",
  );
  assertEquals(new StunError(508, "").message, "STUN request failed: 508 Insufficient Capacity");
  assertEquals(new StunError(599, "").message, "STUN request failed: 599");
});

Deno.test("StunError: a server's reason cannot command the terminal that shows the message", () => {
  const error = new StunError(400, "\u001b[2J\u202egone\r\n\u0007");
  assertEquals(error.message, "STUN request failed: 400 [2Jgone");
  assertEquals(error.reason, "\u001b[2J\u202egone\r\n\u0007");
});
