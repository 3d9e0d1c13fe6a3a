import { assert, assertEquals } from "@std/assert";
import { ReceiveBuffers } from "../../../stun/net/receive_buffers.ts";
import { HEADROOM, RECEIVE_SIZE } from "../../../stun/net/transport.ts";

Deno.test("Receive buffers: each has room for the largest datagram, and none is another's", () => {
  const buffers = new ReceiveBuffers();
  const taken = Array.from({ length: 50 }, () => buffers.take());
  for (const [i, buffer] of taken.entries()) {
    assertEquals(buffer.length, HEADROOM + RECEIVE_SIZE);
    buffer.fill(i);
  }
  for (const [i, buffer] of taken.entries()) assertEquals([buffer[0], buffer.at(-1)], [i, i]);
});

Deno.test("Receive buffers: what was given back is used again, and memory that nobody needs is let go", () => {
  const buffers = new ReceiveBuffers();
  const first = buffers.take();
  buffers.give(first);
  const second = buffers.take();
  assertEquals([second.buffer === first.buffer, second.byteOffset], [true, first.byteOffset]);
  const many = Array.from({ length: 100 }, () => buffers.take());
  assert(many.at(-1)!.buffer !== second.buffer);
  for (const buffer of [second, ...many]) buffers.give(buffer);
  assertEquals(buffers.spares, 1);
  // In any order, over and over.
  for (let round = 0; round < 20; round++) {
    const some = Array.from({ length: 37 }, () => buffers.take());
    while (some.length > 0) buffers.give(some.splice((some.length * 7 + round) % some.length, 1)[0]!);
    assertEquals(buffers.spares, 1);
  }
});
