import { assertEquals } from "@std/assert";
import { GatheringRound } from "../../ice/gathering_round.ts";

Deno.test("I34: with nothing to ask, gathering is over at once", () => {
  assertEquals(new GatheringRound(100).deadline, -Infinity);
});

Deno.test("I34: a server over UDP alone that is silent is given up after three transmissions, 3.5 s", () => {
  const round = new GatheringRound(100);
  const task = round.begin("udp", 200);
  assertEquals([round.deadline, round.patience(3000)], [3700, undefined]);
  round.end(task, false, 3700);
  assertEquals(round.deadline, -Infinity);
});

Deno.test("I34: behind blocked UDP, a relay over TLS shows how long an answer takes: two transmissions and no more", () => {
  const round = new GatheringRound(0);
  round.begin("udp", 0);
  const tls = round.begin("tls", 0);
  assertEquals(round.deadline, 5000);
  round.end(tls, true, 200);
  assertEquals([round.patience(200), round.deadline], [600, 500 + 600]);
});

Deno.test("I34: a connection that hangs gets the time for a second SYN, and 5 s if nobody has answered", () => {
  const round = new GatheringRound(0);
  const tls = round.begin("tls", 0);
  round.begin("tcp", 100);
  assertEquals(round.deadline, 5000);
  round.end(tls, true, 200);
  // It may yet show more about how long things take.
  assertEquals([round.patience(1699), round.deadline, round.patience(1700)], [undefined, 100 + 1000 + 600, 600]);
});

Deno.test("I34: a name is waited for up to 5 s, and what failed shows nothing", () => {
  const round = new GatheringRound(0);
  round.begin("name", 0);
  round.end(round.begin("tcp", 0), false, 10);
  round.begin("udp", 0);
  assertEquals([round.deadline, round.patience(4000)], [5000, undefined]);
});
