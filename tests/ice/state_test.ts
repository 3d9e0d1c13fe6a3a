import { assert, assertEquals, assertThrows } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import type { IceEvent } from "../../ice/events.ts";
import { HOST, PEER, Rig } from "./rig.ts";

const DATA = new Uint8Array([200]);

function states(rig: Rig): string[] {
  return rig.eventTypes().filter((type) => type.startsWith("state")).map((type) => type.slice(6));
}

function reason(rig: Rig): string | undefined {
  const last = rig.events.findLast((event): event is IceEvent & { type: "state" } => event.type === "state");
  return last?.reason;
}

Deno.test("I37: new, checking, connected, completed, closed", () => {
  const rig = Rig.completed();
  assertEquals(states(rig), ["checking", "connected", "completed"]);
  rig.agent.close(rig.io);
  rig.agent.close(rig.io);
  assertEquals(states(rig).slice(3), ["closed"]);
  assertEquals([rig.agent.state, rig.agent.selectedPair, rig.agent.deadline], ["closed", undefined, Infinity]);
});

Deno.test("I37: a closed agent sends, answers and takes nothing", () => {
  const rig = Rig.completed();
  rig.agent.close(rig.io);
  rig.sent.length = 0;
  const count = rig.events.length;
  rig.request({ useCandidate: true });
  rig.receive(DATA);
  rig.candidate(PEER.withPort(1));
  rig.remote();
  rig.agent.addHost(5, HOST.withPort(6), rig.io);
  rig.agent.addStunServer(PEER, rig.io);
  rig.agent.endOfCandidates(rig.io);
  rig.agent.endOfLocalCandidates(rig.io);
  rig.agent.handleTimeout(rig.io);
  rig.advance(100_000);
  assertEquals([rig.agent.send(DATA, rig.io), rig.sent.length, rig.delivered.length, rig.events.length], [
    false,
    0,
    0,
    count,
  ]);
});

Deno.test("I21, RFC 8863 §4: nothing has failed before 39.5 s, even if every pair has", () => {
  const rig = Rig.checking();
  rig.refuse(rig.lastRequest(), 400);
  assertEquals(rig.agent.pairs[0]!.state, "failed");
  rig.advance(39_499);
  assertEquals(rig.agent.state, "checking");
  rig.advance(1);
  assertEquals(rig.agent.state, "failed");
  assert(reason(rig)!.startsWith("All checks have failed"));
});

Deno.test("RFC 8863 §3.1: a peer without candidates is waited for; its check in the meantime connects", () => {
  const rig = Rig.gathered();
  rig.remote();
  rig.agent.endOfCandidates(rig.io);
  rig.advance(30_000);
  assertEquals(rig.agent.state, "checking");
  rig.request();
  rig.succeed(rig.lastRequest());
  assertEquals(rig.agent.state, "connected");
  const alone = Rig.gathered();
  alone.remote();
  alone.agent.endOfCandidates(alone.io);
  alone.advance(39_500);
  assertEquals(alone.agent.state, "failed");
  assert(reason(alone)!.startsWith("There is nothing to check"));
});

Deno.test("I21, RFC 8838 §8: nothing has failed while local candidates may still come", () => {
  const rig = new Rig();
  rig.agent.addHost(1, HOST, rig.io);
  rig.candidate(PEER);
  rig.remote();
  rig.agent.endOfCandidates(rig.io);
  rig.advance(60_000);
  assertEquals(rig.agent.state, "checking");
  rig.agent.endOfLocalCandidates(rig.io);
  assertEquals(rig.agent.state, "failed");
});

Deno.test("I21: nothing has failed while a check that began late may still be answered", () => {
  const rig = Rig.gathered();
  rig.remote();
  rig.advance(20_000);
  rig.candidate(PEER);
  rig.agent.endOfCandidates(rig.io);
  rig.advance(20_000);
  assertEquals(rig.agent.state, "checking");
  rig.advance(19_500);
  assertEquals(rig.agent.state, "failed");
});

Deno.test("I37: a failed agent recovers by a new candidate or a check of the peer's", () => {
  const rig = Rig.gathered();
  rig.remote();
  rig.advance(40_000);
  assertEquals(rig.agent.state, "failed");
  rig.candidate(PEER);
  assertEquals(rig.agent.state, "checking");
  rig.succeed(rig.lastRequest());
  assertEquals(rig.agent.state, "connected");
});

Deno.test("I23: consent: requests every 4 to 6 s whatever data flows; each is sent once, with an id of its own", () => {
  const rig = Rig.completed();
  const start = rig.now;
  for (let i = 0; i < 100; i++) {
    rig.agent.send(DATA, rig.io);
    rig.receive(DATA);
    const before = rig.requests.length;
    rig.advance(500);
    if (rig.requests.length > before) rig.succeed(rig.lastRequest());
  }
  const times = rig.requests.map(({ at }) => at);
  const gaps = times.map((at, i) => at - (times[i - 1] ?? start));
  assert(gaps.every((gap) => gap >= 4000 && gap <= 6000), gaps.join());
  assertEquals(new Set(rig.requests.map(({ message }) => message!.transactionKey)).size, times.length);
  assertEquals(rig.agent.selectedPair!.counters.consentRequestsSent, times.length);
  assertEquals(rig.agent.state, "completed");
});

Deno.test("I23: one lost answer changes nothing", () => {
  const rig = Rig.completed();
  rig.advance(6000);
  assertEquals(rig.requests.length, 1);
  while (rig.requests.length < 2) rig.advance(100);
  rig.advance(800);
  rig.succeed(rig.lastRequest());
  rig.advance(3000);
  assertEquals(states(rig), ["checking", "connected", "completed"]);
});

Deno.test("I23, I37: a silent peer is disconnected, comes back with its answer, and has failed after 30 s without one", () => {
  const rig = Rig.completed();
  rig.advance(14_000);
  assertEquals(rig.agent.state, "disconnected");
  assertEquals(rig.agent.send(DATA, rig.io), true);
  rig.succeed(rig.requests.at(-1)!);
  assertEquals(rig.agent.state, "completed");
  const back = rig.now;
  rig.advance(29_999);
  assertEquals([rig.agent.state, rig.agent.send(DATA, rig.io)], ["disconnected", true]);
  rig.advance(1);
  assertEquals([rig.agent.state, rig.agent.send(DATA, rig.io), rig.now - back], ["failed", false, 30_000]);
  assert(reason(rig)!.includes("30 s"));
});

Deno.test("I23: once consent is over nothing is sent any more, and a late answer or data does not bring it back", () => {
  const rig = Rig.completed();
  rig.advance(30_000);
  const late = rig.lastRequest();
  rig.sent.length = 0;
  rig.succeed(late);
  rig.receive(DATA);
  rig.advance(60_000);
  assertEquals([rig.agent.state, rig.sent.length, rig.delivered.length], ["failed", 0, 0]);
  assertEquals(rig.agent.deadline, Infinity);
});

Deno.test("I23: data and forged answers do not keep consent", () => {
  const rig = Rig.completed();
  for (let i = 0; i < 60; i++) {
    rig.advance(500);
    rig.receive(DATA);
    const request = rig.lastRequest();
    if (request !== undefined) rig.receive(rig.successBytes(request, { pwd: "wrongwrongwrongwrongwrong" }));
  }
  assertEquals(rig.agent.state, "failed");
});

Deno.test("RFC 7675 §5.2: an authenticated 403 revokes consent at once, a forged one does not", () => {
  const rig = Rig.completed();
  rig.advance(6000);
  rig.refuse(rig.lastRequest(), 403, { pwd: "wrongwrongwrongwrongwrong" });
  assertEquals(rig.agent.state, "completed");
  rig.refuse(rig.lastRequest(), 403);
  assertEquals([rig.agent.state, rig.agent.send(DATA, rig.io)], ["failed", false]);
  assert(reason(rig)!.includes("revoked"));
});

Deno.test("RFC 7675 §5.1: consent is kept before the nomination, too, on the pair that carries the data", () => {
  const rig = Rig.connected({ role: "controlled" });
  for (let i = 0; i < 20; i++) {
    rig.advance(3000);
    if (rig.requests.length > 0) rig.succeed(rig.lastRequest());
  }
  assertEquals([rig.agent.state, rig.requests.length > 9], ["connected", true]);
  rig.advance(31_000);
  assertEquals(rig.agent.state, "failed");
});

Deno.test("I40: a computer that slept asks again, and goes on if the peer answers", () => {
  const rig = Rig.completed();
  rig.now += 3_600_000;
  assertEquals(rig.agent.send(DATA, rig.io), false);
  rig.agent.handleTimeout(rig.io);
  assertEquals([rig.agent.state, rig.requests.length], ["completed", 1]);
  rig.succeed(rig.lastRequest());
  assertEquals([rig.agent.state, rig.agent.send(DATA, rig.io)], ["completed", true]);
});

Deno.test("I40: a computer that slept fails 5 s later if the peer is gone", () => {
  const rig = Rig.completed();
  rig.now += 3_600_000;
  rig.agent.handleTimeout(rig.io);
  rig.advance(4999);
  assertEquals(rig.agent.state === "failed", false);
  rig.advance(1);
  assertEquals(rig.agent.state, "failed");
});

Deno.test("RFC 8838 §13: nothing is trickled after the nomination or after end-of-candidates", () => {
  const rig = Rig.completed();
  const count = rig.agent.localCandidates.length;
  rig.agent.addRelay(2, { address: TransportAddress.parse("203.0.113.50:7000") }, rig.io);
  assertEquals([rig.agent.localCandidates.length, rig.agent.hasSocket(2)], [count, false]);
  const gathered = Rig.gathered();
  gathered.agent.addHost(2, HOST.withPort(5001), gathered.io);
  assertEquals(gathered.agent.localCandidates.length, 1);
});

Deno.test("RFC 8838 §14: after end-of-candidates the peer's new candidates are ignored; its checks are not", () => {
  const rig = Rig.checking();
  assertEquals(rig.candidate(PEER.withPort(6001)), false);
  rig.request({ from: PEER.withPort(6001) });
  assertEquals(rig.agent.remoteCandidates.map(({ type }) => type), ["host", "prflx"]);
});

Deno.test("The socket of the selected pair goes: that is the reason when nothing else is left", () => {
  const rig = Rig.completed();
  rig.agent.removeSocket(1, rig.io);
  assertEquals([rig.agent.state, reason(rig)], ["failed", `The socket at ${HOST} is gone`]);
});

Deno.test("I31: the options that are told are ice2, trickle and renomination", () => {
  assertEquals(new Rig().agent.localParameters.options, ["ice2", "trickle", "renomination"]);
});

Deno.test("Local misuse is told at once", () => {
  assertThrows(() => new Rig({ ta: 4 }), RangeError, "at least 5 ms");
  assertThrows(() => new Rig({ ta: NaN }), RangeError, "at least 5 ms");
  assertThrows(() => new Rig({ ufrag: "abc" }), RangeError, "4 to 32");
  assertThrows(() => new Rig({ pwd: "short" }), RangeError, "22 to 256");
  const rig = new Rig();
  assertThrows(() => rig.agent.addHost(1, TransportAddress.parse("0.0.0.0:1"), rig.io), RangeError, "0.0.0.0:1");
});
