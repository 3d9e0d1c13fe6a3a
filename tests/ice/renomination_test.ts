// Nominations after the first, on a table: who may send them, and which of several counts.
import { assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { NOMINATION, USE_CANDIDATE } from "../../ice/attributes.ts";
import { PEER, PEER_PWD, PEER_UFRAG, Rig } from "./rig.ts";

const SECOND = TransportAddress.parse("198.51.100.3:6001");
const THIRD = TransportAddress.parse("198.51.100.4:6002");

interface TwoPaths {
  readonly role?: "controlling" | "controlled";
  /** The peer's ICE options. */
  readonly options?: readonly string[];
  readonly agent?: ConstructorParameters<typeof Rig>[0];
}

/** An agent with two ways to the peer that both work, the better one nominated; what was sent is forgotten. */
function twoPaths({ role = "controlling", options = ["ice2", "renomination"], agent = {} }: TwoPaths = {}): Rig {
  const rig = Rig.gathered({ role, ...agent });
  rig.candidate(PEER, "host", 2130706431);
  rig.candidate(SECOND, "srflx", 1694498815);
  rig.agent.setRemoteParameters({ ufrag: PEER_UFRAG, pwd: PEER_PWD, options }, rig.io);
  rig.agent.endOfCandidates(rig.io);
  rig.advance(50);
  for (const request of rig.requests) rig.succeed(request);
  for (const from of [PEER, SECOND]) rig.request({ from, role: role === "controlling" ? "controlled" : "controlling" });
  if (role === "controlled") rig.request({ useCandidate: true });
  else {
    rig.advance(50);
    rig.succeed(rig.lastRequest());
  }
  assertEquals([rig.agent.state, selected(rig)], ["completed", String(PEER)]);
  rig.sent.length = 0;
  return rig;
}

function selected(rig: Rig): string {
  return String(rig.agent.selectedPair!.remote.address);
}

function pairTo(rig: Rig, address: TransportAddress) {
  return rig.agent.pairs.find(({ remote }) => remote.address.equals(address))!;
}

/** A NOMINATION of the peer's. */
function nominate(rig: Rig, from: TransportAddress, value: number): void {
  rig.request({ from, nomination: value });
}

Deno.test("draft-thatcher-ice-renomination §4: of several nominations the one with the largest value counts", () => {
  const rig = twoPaths({ role: "controlled" });
  nominate(rig, SECOND, 2);
  assertEquals([selected(rig), rig.agent.state], [String(SECOND), "completed"]);
  nominate(rig, PEER, 1);
  assertEquals(selected(rig), String(SECOND), "An older one that was overtaken");
  nominate(rig, PEER, 3);
  assertEquals(selected(rig), String(PEER));
  nominate(rig, SECOND, 3);
  assertEquals(selected(rig), String(PEER), "Equal values go by priority");
});

Deno.test("draft-thatcher-ice-renomination §4: any value goes before none; 0 is no nomination; 24 bits count", () => {
  const rig = twoPaths({ role: "controlled" });
  nominate(rig, SECOND, 0);
  assertEquals([selected(rig), pairTo(rig, SECOND).nominated], [String(PEER), false]);
  nominate(rig, SECOND, 0xff000001);
  assertEquals([selected(rig), pairTo(rig, SECOND).nomination], [String(SECOND), 1]);
  rig.request({ useCandidate: true });
  assertEquals(selected(rig), String(SECOND));
});

Deno.test("draft-thatcher-ice-renomination §3: NOMINATION alone nominates, as browsers send it", () => {
  const rig = Rig.connected({ role: "controlled" });
  nominate(rig, PEER, 1);
  assertEquals([rig.agent.state, rig.agent.selectedPair!.nominated], ["completed", true]);
});

Deno.test("draft-thatcher-ice-renomination §4: NOMINATION on a pair that is not valid yet counts when it is", () => {
  const rig = twoPaths({ role: "controlled" });
  nominate(rig, THIRD, 7);
  assertEquals(selected(rig), String(PEER));
  rig.advance(50);
  assertEquals(String(rig.lastRequest().to), String(THIRD));
  rig.succeed(rig.lastRequest());
  assertEquals([selected(rig), rig.agent.selectedPair!.nomination], [String(THIRD), 7]);
});

Deno.test("draft-thatcher-ice-renomination §3: without values the last nomination of a peer that renominates wins", () => {
  const rig = twoPaths({ role: "controlled" });
  rig.request({ from: SECOND, useCandidate: true });
  assertEquals(selected(rig), String(SECOND));
  rig.request({ from: PEER, useCandidate: true });
  assertEquals(selected(rig), String(PEER));
  // The same again, as to a lite agent with each request for consent, is no news.
  const count = rig.eventTypes().length;
  rig.request({ from: PEER, useCandidate: true });
  assertEquals(rig.eventTypes().length, count);
});

Deno.test("I10: without renomination the nominated pair with the highest priority stays, whatever comes later", () => {
  const rig = twoPaths({ role: "controlled", options: ["ice2"] });
  rig.request({ from: SECOND, useCandidate: true });
  assertEquals([selected(rig), pairTo(rig, SECOND).nominated], [String(PEER), true]);
});

Deno.test("I10: a controlling agent takes no NOMINATION", () => {
  const rig = twoPaths();
  rig.request({ from: SECOND, nomination: 9 });
  assertEquals([selected(rig), pairTo(rig, SECOND).nominated], [String(PEER), false]);
});

Deno.test("selectPair: data goes along it at once, and the peer is told by USE-CANDIDATE and NOMINATION 2", () => {
  const rig = twoPaths();
  assertEquals(rig.agent.selectPair(pairTo(rig, SECOND), rig.io), true);
  assertEquals([selected(rig), rig.agent.state], [String(SECOND), "completed"]);
  rig.advance(50);
  const { to, message } = rig.lastRequest();
  assertEquals([String(to), message!.has(USE_CANDIDATE), message!.get(NOMINATION)], [String(SECOND), true, 2]);
  rig.agent.send(new Uint8Array([200]), rig.io);
  assertEquals(String(rig.sent.at(-1)!.to), String(SECOND));
  rig.succeed(rig.lastRequest());
  assertEquals(pairTo(rig, SECOND).nominated, true);
  // Both ways stay open for what the peer sends.
  for (const from of [PEER, SECOND]) rig.receive(new Uint8Array([200]), from);
  assertEquals(rig.delivered.length, 2);
  assertEquals(rig.agent.selectPair(undefined, rig.io), true);
  assertEquals(selected(rig), String(SECOND), "It is the latest that was nominated");
});

Deno.test("selectPair: a peer without the option is told by USE-CANDIDATE alone", () => {
  const rig = twoPaths({ options: ["ice2"] });
  assertEquals(rig.agent.selectPair(pairTo(rig, SECOND), rig.io), true);
  rig.advance(50);
  const { message } = rig.lastRequest();
  assertEquals([message!.has(USE_CANDIDATE), message!.has(NOMINATION)], [true, false]);
});

Deno.test("selectPair: the controlled side sends along its choice, without a nomination", () => {
  const rig = twoPaths({ role: "controlled" });
  assertEquals(rig.agent.selectPair(pairTo(rig, SECOND), rig.io), true);
  rig.advance(100);
  assertEquals([selected(rig), rig.requests.length], [String(SECOND), 0]);
  assertEquals(rig.agent.selectPair(undefined, rig.io), true);
  assertEquals(selected(rig), String(PEER));
});

Deno.test("selectPair: not a pair that does not work, nor one that has not answered for 30 s", () => {
  const rig = twoPaths({ agent: { standby: 0 } });
  const old = pairTo(rig, SECOND);
  rig.request({ from: THIRD, role: "controlled" });
  for (let i = 0; i < 8; i++) {
    rig.advance(4000);
    for (const request of rig.requests) if (request.to.equals(PEER)) rig.succeed(request);
    rig.sent.length = 0;
  }
  assertEquals(rig.agent.selectPair(old, rig.io), false);
  rig.agent.close(rig.io);
  assertEquals(rig.agent.selectPair(undefined, rig.io), false);
});

Deno.test("A renomination that gets no answer fails that pair; data stays where it works", () => {
  const rig = twoPaths({ agent: { pathPolicy: (pairs) => pairs.at(-1) } });
  answerFor(rig, 6000, () => true);
  // The function's choice was asked for with the first measurement, and is nominated.
  assertEquals(selected(rig), String(SECOND));
  const other = twoPaths({ agent: { pathPolicy: (pairs) => pairs.at(-1) } });
  answerFor(other, 60_000, ({ to }) => to.equals(PEER));
  assertEquals([selected(other), pairTo(other, SECOND).state, other.agent.state], [
    String(PEER),
    "failed",
    "completed",
  ]);
});

/** Lets time pass, and the peer answer what `answers` says, 10 ms later. */
function answerFor(rig: Rig, ms: number, answers: (request: Rig["requests"][number]) => boolean): void {
  const end = rig.now + ms;
  let done = rig.sent.length;
  while (rig.now < end) {
    rig.advance(10);
    const news = rig.sent.slice(done);
    done = rig.sent.length;
    for (const sent of news) if (sent.message?.class === "request" && answers(sent)) rig.succeed(sent);
  }
}

Deno.test("Standby: two pairs at most are checked every 9.6 to 14.4 s, each once; the nominated one every 4 to 6 s", () => {
  const rig = twoPaths();
  const from = rig.now;
  answerFor(rig, 600_000, () => true);
  const to = (address: TransportAddress) => rig.requests.filter((request) => request.to.equals(address));
  const gaps = to(SECOND).map(({ at }, i, all) => at - (all[i - 1]?.at ?? from));
  assertEquals(gaps.slice(1).every((gap) => gap >= 9600 && gap <= 14_420), true, String(gaps));
  assertEquals([to(SECOND).length >= 46 && to(SECOND).length <= 55, to(PEER).length >= 110], [true, true]);
  assertEquals(to(SECOND).some(({ message }) => message!.has(USE_CANDIDATE)), false);
  assertEquals(rig.agent.standbyPairs, [pairTo(rig, SECOND)]);
  assertEquals(rig.requests.length, to(PEER).length + to(SECOND).length);
});

Deno.test("Standby: first keeps nothing warm, nor does standby 0", () => {
  for (const agent of [{ pathPolicy: "first" }, { standby: 0 }] as const) {
    const rig = twoPaths({ agent });
    answerFor(rig, 60_000, () => true);
    assertEquals(rig.requests.filter(({ to }) => to.equals(SECOND)).length, 0);
    assertEquals(rig.agent.standbyPairs, []);
  }
});

Deno.test("Standby: three requests without an answer, 1.5 s, and the other pair takes over, both sides alike", () => {
  for (const role of ["controlling", "controlled"] as const) {
    const rig = twoPaths({ role });
    const start = rig.now;
    answerFor(rig, 10_000, ({ to }) => to.equals(SECOND));
    const [first, second, third] = rig.requests.filter(({ to }) => to.equals(PEER));
    assertEquals([second!.at - first!.at, third!.at - first!.at], [500, 1000]);
    assertEquals(first!.at - start <= 6000, true);
    assertEquals([selected(rig), rig.events.filter(({ type }) => type === "selected-pair").length], [
      String(SECOND),
      2,
    ]);
    assertEquals(rig.eventTypes().includes("state disconnected"), false);
    const nominations = rig.requests.filter(({ message }) => message!.has(USE_CANDIDATE));
    assertEquals(nominations.map(({ to, message }) => [String(to), message!.get(NOMINATION)]), [
      ...(role === "controlling" ? [[String(SECOND), 2]] : []),
    ]);
    assertEquals(rig.agent.state, role === "controlling" ? "completed" : "connected");
    if (role === "controlled") nominate(rig, SECOND, 2);
    assertEquals(rig.agent.state, "completed");
  }
});

Deno.test("Standby, RFC 7675 §5.1: a pair that has not answered for 30 s is not asked again", () => {
  const rig = twoPaths();
  answerFor(rig, 60_000, ({ to }) => to.equals(SECOND));
  const requests = rig.requests.filter(({ to }) => to.equals(PEER));
  const { answeredAt, state } = rig.agent.pairs.find(({ remote }) => remote.address.equals(PEER))!;
  assertEquals([state, requests.at(-1)!.at <= answeredAt + 30_000], ["failed", true]);
  assertEquals([selected(rig), rig.agent.state], [String(SECOND), "completed"]);
});

Deno.test("Standby: a pair that answers again within 30 s is gone back to when it has answered for 5 s", () => {
  const rig = twoPaths();
  answerFor(rig, 15_000, ({ to }) => to.equals(SECOND));
  assertEquals(selected(rig), String(SECOND));
  answerFor(rig, 60_000, () => true);
  assertEquals([selected(rig), rig.agent.state], [String(PEER), "completed"]);
  const values = rig.requests.map(({ message }) => message!.get(NOMINATION)).filter((value) => value !== undefined);
  assertEquals(values, [2, 3]);
});

Deno.test("Standby: to a peer without the option, the pair that took over is nominated, and there it stays", () => {
  const rig = twoPaths({ options: ["ice2"] });
  answerFor(rig, 15_000, ({ to }) => to.equals(SECOND));
  assertEquals([selected(rig), pairTo(rig, SECOND).nominated], [String(SECOND), true]);
  answerFor(rig, 60_000, () => true);
  assertEquals(selected(rig), String(SECOND));
});

Deno.test("Standby: when everything is silent the agent is disconnected, and fails when the last consent is over", () => {
  const rig = twoPaths();
  answerFor(rig, 25_000, () => false);
  assertEquals(rig.agent.state, "disconnected");
  answerFor(rig, 40_000, () => false);
  assertEquals(rig.agent.state, "failed");
});

Deno.test("Standby, RFC 7675 §5.2: consent that the peer revokes on the pair in use is that pair's; the other goes on", () => {
  const rig = twoPaths();
  rig.advance(6000);
  rig.refuse(rig.requests.find(({ to }) => to.equals(PEER))!, 403);
  assertEquals([selected(rig), pairTo(rig, PEER).state], [String(SECOND), "failed"]);
});

Deno.test("Standby: a flow of the peer's data that stops is asked for at once; a peer that only pauses answers, and that is all", () => {
  for (const isCut of [false, true]) {
    const rig = twoPaths();
    answerFor(rig, 6000, () => true);
    const data = new Uint8Array([200]);
    for (let i = 0; i < 700; i++) {
      rig.receive(data, PEER);
      answerFor(rig, 10, () => true);
    }
    const stoppedAt = rig.now;
    rig.sent.length = 0;
    answerFor(rig, 3600, ({ to }) => !isCut || to.equals(SECOND));
    const asked = rig.requests.filter(({ to, at }) => to.equals(PEER) && at - stoppedAt <= 2000);
    assertEquals(asked.length >= 1, true);
    assertEquals(selected(rig), String(isCut ? SECOND : PEER));
    // Once it is known that the peer pauses, there is consent only.
    answerFor(rig, 60_000, () => true);
    if (!isCut) assertEquals(rig.requests.filter(({ to }) => to.equals(PEER)).length <= 17, true);
  }
});

Deno.test("Standby: single datagrams of the peer's are no flow: nothing is asked when there are no more", () => {
  const rig = twoPaths();
  answerFor(rig, 6000, () => true);
  for (let i = 0; i < 7; i++) {
    rig.receive(new Uint8Array([200]), PEER);
    answerFor(rig, 1000, () => true);
  }
  rig.sent.length = 0;
  answerFor(rig, 60_000, () => true);
  assertEquals(rig.requests.filter(({ to }) => to.equals(PEER)).length <= 16, true);
});
