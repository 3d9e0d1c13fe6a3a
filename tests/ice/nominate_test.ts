import { assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { USE_CANDIDATE } from "../../ice/attributes.ts";
import { HOST, PEER, PEER_PWD, PEER_UFRAG, Rig } from "./rig.ts";

const SECOND = TransportAddress.parse("198.51.100.2:6001");
const RELAYED = TransportAddress.parse("203.0.113.50:7000");

/** An agent with two ways to the peer; the check of the better one has left. */
function twoWays(options: ConstructorParameters<typeof Rig>[0] = {}): Rig {
  const rig = Rig.gathered(options);
  rig.candidate(PEER, "host", 2130706431);
  rig.candidate(SECOND, "srflx", 1694498815);
  rig.remote();
  rig.agent.endOfCandidates(rig.io);
  return rig;
}

Deno.test("RFC 8445 §8.1.1: the nominating check repeats the check with USE-CANDIDATE, in the next slot", () => {
  const rig = Rig.connected();
  assertEquals(rig.requests.length, 0);
  rig.advance(40);
  assertEquals([rig.lastRequest().at, rig.lastRequest().message!.has(USE_CANDIDATE)], [50, true]);
  assertEquals(rig.agent.state, "connected");
  rig.advance(7);
  rig.succeed(rig.lastRequest());
  assertEquals([rig.agent.state, rig.agent.selectedPair!.nominated], ["completed", true]);
  assertEquals(rig.eventTypes().slice(-2), ["nominated", "state completed"]);
});

Deno.test("No fixed waits: with the pacing's slot free, the nomination leaves with the answer that allows it", () => {
  const rig = Rig.checking();
  rig.advance(80);
  rig.succeed(rig.lastRequest());
  assertEquals([rig.lastRequest().at, rig.lastRequest().message!.has(USE_CANDIDATE)], [80, true]);
});

Deno.test("A better pair has three round trips of the valid one, then the valid one is nominated", () => {
  const rig = twoWays();
  rig.advance(50);
  const second = rig.lastRequest();
  assertEquals(String(second.to), String(SECOND));
  rig.advance(20);
  rig.succeed(second);
  // The better pair's check left at 0, three round trips are 60 ms: over.
  rig.advance(30);
  assertEquals([rig.lastRequest().at, String(rig.lastRequest().to)], [100, String(SECOND)]);
  assertEquals(rig.lastRequest().message!.has(USE_CANDIDATE), true);
});

Deno.test("A better pair that answers in its time is nominated instead", () => {
  const rig = twoWays();
  const first = rig.lastRequest();
  rig.advance(50);
  const second = rig.lastRequest();
  rig.advance(40);
  rig.succeed(second);
  // Three round trips of 40 ms: the better pair has until 120.
  rig.advance(20);
  rig.succeed(first);
  assertEquals(String(rig.lastRequest().to), String(PEER));
  assertEquals([rig.lastRequest().at, rig.lastRequest().message!.has(USE_CANDIDATE)], [110, true]);
});

Deno.test("While only a relayed pair is valid, direct pairs have until their second transmission may be answered", () => {
  const rig = new Rig();
  rig.agent.addHost(1, HOST, rig.io);
  rig.agent.addRelay(2, { address: RELAYED }, rig.io);
  rig.agent.endOfLocalCandidates(rig.io);
  rig.candidate(PEER, "srflx", 1694498815);
  rig.remote();
  rig.agent.endOfCandidates(rig.io);
  rig.advance(50);
  const relayed = rig.lastRequest();
  assertEquals(relayed.socket, 2);
  rig.advance(30);
  rig.succeed(relayed, { mapped: RELAYED });
  assertEquals([rig.agent.state, rig.agent.selectedPair!.local.type], ["connected", "relay"]);
  // Checked at 0, repeated at 500, three round trips of 30 ms: 590.
  rig.advance(509);
  assertEquals(rig.requests.filter(({ message }) => message!.has(USE_CANDIDATE)).length, 0);
  rig.advance(1);
  assertEquals([rig.lastRequest().at, rig.lastRequest().socket], [590, 2]);
  assertEquals(rig.lastRequest().message!.has(USE_CANDIDATE), true);
});

Deno.test("I11: a relayed pair is nominated in bounded time even if nobody says that no more candidates come", () => {
  const rig = new Rig();
  rig.agent.addRelay(2, { address: RELAYED }, rig.io);
  rig.candidate(PEER, "srflx", 1694498815);
  rig.remote();
  rig.advance(30);
  rig.succeed(rig.lastRequest(), { mapped: RELAYED });
  rig.advance(2000);
  const nomination = rig.requests.find(({ message }) => message!.has(USE_CANDIDATE))!;
  assertEquals(nomination.at, 30 + 500 + 90);
});

Deno.test("I11: a direct pair is nominated at once even if nobody says that no more candidates come", () => {
  const rig = new Rig();
  rig.agent.addHost(1, HOST, rig.io);
  rig.candidate(PEER);
  rig.remote();
  rig.advance(60);
  rig.succeed(rig.lastRequest());
  assertEquals([rig.lastRequest().at, rig.lastRequest().message!.has(USE_CANDIDATE)], [60, true]);
});

Deno.test("RFC 8445 §8.1.1: one and only one pair is nominated, and while that is under way no other is checked", () => {
  const rig = Rig.gathered();
  for (let i = 0; i < 5; i++) rig.candidate(TransportAddress.of("198.51.100.2", 6000 + i), "host", 2130706431 - i);
  rig.remote();
  rig.advance(10);
  rig.succeed(rig.lastRequest());
  rig.advance(300);
  assertEquals(rig.requests.map(({ to }) => to.port), [6000, 6000]);
  rig.succeed(rig.lastRequest());
  rig.advance(3000);
  assertEquals(rig.requests.length, 2);
  assertEquals(rig.agent.pairs.map(({ remote }) => remote.address.port), [6000]);
});

Deno.test("A better pair that becomes valid before the nominating check has left is nominated instead", () => {
  const rig = twoWays();
  const first = rig.lastRequest();
  rig.advance(50);
  rig.succeed(rig.lastRequest());
  rig.advance(10);
  rig.succeed(first);
  rig.advance(200);
  const nominations = rig.requests.filter(({ message }) => message!.has(USE_CANDIDATE));
  assertEquals(nominations.map(({ to, at }) => `${to} at ${at}`), [`${PEER} at 100`]);
});

Deno.test("A nomination that fails is not the end: the next best valid pair is nominated", () => {
  const rig = twoWays();
  const first = rig.lastRequest();
  rig.advance(50);
  rig.succeed(first);
  rig.succeed(rig.requests[1]!);
  rig.advance(50);
  assertEquals(String(rig.lastRequest().to), String(PEER));
  rig.refuse(rig.lastRequest(), 400);
  assertEquals([rig.agent.state, String(rig.agent.selectedPair!.remote.address)], ["connected", String(SECOND)]);
  rig.advance(50);
  assertEquals([String(rig.lastRequest().to), rig.lastRequest().message!.has(USE_CANDIDATE)], [String(SECOND), true]);
  rig.succeed(rig.lastRequest());
  assertEquals(rig.agent.state, "completed");
});

Deno.test("A nomination whose answers get lost has one more chance with each request for consent", () => {
  const rig = Rig.connected();
  rig.advance(8000);
  const [nomination, ...later] = rig.requests;
  const consent = later.find(({ message }) => message!.transactionKey !== nomination!.message!.transactionKey)!;
  assertEquals(consent.message!.has(USE_CANDIDATE), true);
  rig.succeed(consent);
  assertEquals(rig.agent.state, "completed");
});

Deno.test("I9: USE-CANDIDATE on a pair that has succeeded nominates at once", () => {
  const rig = Rig.connected({ role: "controlled" });
  rig.request({ useCandidate: true });
  assertEquals([rig.agent.state, rig.requests.length], ["completed", 0]);
});

Deno.test("I9: USE-CANDIDATE on a pair in progress is remembered, and nominates when the check succeeds", () => {
  const rig = Rig.checking({ role: "controlled" });
  rig.request({ useCandidate: true });
  assertEquals(rig.agent.state, "checking");
  rig.succeed(rig.requests[0]!);
  assertEquals(rig.agent.state, "completed");
});

Deno.test("I9: USE-CANDIDATE from an unknown address: learned, checked, nominated", () => {
  const rig = Rig.checking({ role: "controlled" });
  rig.request({ useCandidate: true, from: SECOND });
  rig.advance(50);
  rig.succeed(rig.lastRequest());
  assertEquals([rig.agent.state, rig.agent.selectedPair!.remote.type], ["completed", "prflx"]);
});

Deno.test("RFC 8445 §7.1.2: a controlling agent does not let itself be nominated to", () => {
  const rig = Rig.connected();
  rig.request({ useCandidate: true });
  assertEquals(rig.agent.state, "connected");
});

Deno.test("I10, RFC 8445 §8.1.1: of several nominated pairs the one with the highest priority is selected", () => {
  const rig = twoWays({ role: "controlled" });
  const first = rig.lastRequest();
  rig.advance(50);
  const second = rig.lastRequest();
  rig.succeed(second);
  rig.request({ useCandidate: true, from: SECOND });
  assertEquals([rig.agent.state, String(rig.agent.selectedPair!.remote.address)], ["completed", String(SECOND)]);
  // An aggressive peer's check of the better pair, after we thought it was over.
  rig.advance(20);
  rig.request({ useCandidate: true, from: PEER });
  rig.succeed(first);
  assertEquals(String(rig.agent.selectedPair!.remote.address), String(PEER));
  rig.request({ useCandidate: true, from: SECOND });
  assertEquals(String(rig.agent.selectedPair!.remote.address), String(PEER));
});

Deno.test("I10: a nomination of a pair that was never checked is checked even after the end, and then counts", () => {
  const rig = Rig.completed({ role: "controlled" });
  rig.advance(50);
  rig.request({ from: SECOND });
  rig.advance(200);
  assertEquals(rig.requests.length, 0);
  rig.request({ from: SECOND, useCandidate: true, priority: 2 ** 31 - 1 });
  rig.succeed(rig.lastRequest());
  assertEquals(rig.agent.pairs.filter(({ nominated }) => nominated).length, 2);
});

Deno.test("I10: when the selected pair falls silent, another one that the peer has nominated takes over", () => {
  const rig = twoWays({ role: "controlled" });
  rig.succeed(rig.lastRequest());
  rig.advance(50);
  rig.succeed(rig.lastRequest());
  rig.request({ useCandidate: true, from: PEER });
  rig.request({ useCandidate: true, from: SECOND });
  assertEquals(String(rig.agent.selectedPair!.remote.address), String(PEER));
  rig.advance(13_000);
  assertEquals([String(rig.agent.selectedPair!.remote.address), rig.agent.state], [String(SECOND), "completed"]);
});

Deno.test("I12: USE-CANDIDATE is not sent any more after the nomination", () => {
  const rig = Rig.completed();
  rig.advance(20_000);
  assertEquals(rig.requests.length > 2, true);
  assertEquals(rig.requests.filter(({ message }) => message!.has(USE_CANDIDATE)).length, 0);
});

Deno.test("I12: except to a lite peer, which may take the latest for the choice", () => {
  const rig = Rig.gathered();
  rig.candidate(PEER);
  rig.remote(PEER_UFRAG, PEER_PWD, { lite: true });
  rig.agent.endOfCandidates(rig.io);
  rig.advance(60);
  rig.succeed(rig.lastRequest());
  rig.succeed(rig.lastRequest());
  assertEquals(rig.agent.state, "completed");
  rig.sent.length = 0;
  rig.advance(10_000);
  assertEquals(rig.requests.length > 0, true);
  assertEquals(rig.requests.every(({ message }) => message!.has(USE_CANDIDATE)), true);
});

Deno.test("RFC 8445 §8.1.2: after the nomination checks are still answered, and answers to cancelled checks still count", () => {
  const rig = Rig.gathered({ role: "controlled" });
  rig.candidate(PEER);
  rig.candidate(SECOND, "host", 2130706430);
  rig.remote();
  const first = rig.requests[0]!;
  rig.advance(50);
  const second = rig.requests[1]!;
  rig.succeed(first);
  rig.request({ useCandidate: true });
  assertEquals(rig.agent.state, "completed");
  rig.advance(3000);
  const repeated = rig.requests.filter(({ message }) => message!.transactionKey === second.message!.transactionKey);
  assertEquals(repeated.length, 1);
  rig.succeed(second);
  assertEquals(rig.agent.pairs.map(({ state }) => state), ["succeeded", "succeeded"]);
  rig.sent.length = 0;
  rig.request({ from: SECOND });
  assertEquals(rig.answers.length, 1);
});
