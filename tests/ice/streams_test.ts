// Several data streams and components, on a table.
import { assertEquals, assertThrows } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { USERNAME } from "../../stun/attributes.ts";
import { USE_CANDIDATE } from "../../ice/attributes.ts";
import { formatDescription, parseCandidate, parseDescription } from "../../ice/sdp.ts";
import { PEER_PWD, PEER_UFRAG, Rig, type Sent } from "./rig.ts";

type Options = ConstructorParameters<typeof Rig>[0];

/** Two streams of two components: the sockets 1 to 4 at the ports 5000 to 5003. */
const STREAMS = [{ components: 2, mid: "audio" }, { components: 2, mid: "video" }];

function ours(flow: number): TransportAddress {
  return TransportAddress.of("192.0.2.1", 5000 + flow);
}

function theirs(flow: number, more = 0): TransportAddress {
  return TransportAddress.of("198.51.100.2", 6000 + 10 * more + flow);
}

function gathered(options: Options = {}): Rig {
  const rig = new Rig({ streams: STREAMS, ...options });
  rig.agent.components.forEach(({ stream, component }, flow) => {
    rig.agent.addHost(flow + 1, ours(flow), rig.io, { stream, component });
  });
  rig.agent.endOfLocalCandidates(rig.io);
  return rig;
}

/** A candidate of the peer's for a flow; `more` is another address of the same host. */
function candidate(rig: Rig, flow: number, { foundation = "1", priority = 2130706431, more = 0 } = {}): boolean {
  const { stream, component } = rig.agent.components[flow]!;
  const { address, port } = theirs(flow, more);
  const line = `${foundation} ${component} udp ${priority + 1 - component} ${address} ${port} typ host`;
  return rig.agent.addRemoteCandidate(parseCandidate(line), rig.io, stream);
}

/** With one candidate for each flow, and the peer's credentials: the first check has left. */
function checking(options: Options = {}): Rig {
  const rig = gathered(options);
  rig.agent.components.forEach((_, flow) => candidate(rig, flow));
  rig.remote();
  rig.agent.endOfCandidates(rig.io);
  return rig;
}

/** Answers a check as seen from its own socket. */
function succeed(rig: Rig, request: Sent): void {
  rig.succeed(request, { mapped: ours(request.socket - 1) });
}

/** Lets time pass, and the peer answer everything at once. */
function run(rig: Rig, ms: number, answers: (request: Sent) => boolean = () => true): void {
  let done = 0;
  for (const end = rig.now + ms; rig.now <= end; rig.advance(10)) {
    for (; done < rig.sent.length; done++) {
      const sent = rig.sent[done]!;
      if (sent.message?.class === "request" && answers(sent)) succeed(rig, sent);
    }
  }
}

function states(rig: Rig): string[] {
  return rig.agent.pairs.map(({ base, state }) => `${base.flow} ${state}`);
}

Deno.test("RFC 8445 §2.4: each component has candidates of its own, with its own number and priority", () => {
  const rig = gathered();
  assertEquals(
    rig.agent.localCandidates.map((one) => [one.stream, one.component, one.priority % 256, one.foundation]),
    [
      [0, 1, 255, "1"],
      [0, 2, 254, "1"],
      [1, 1, 255, "1"],
      [1, 2, 254, "1"],
    ],
  );
  const { streams, candidates } = rig.agent.localDescription;
  assertEquals(candidates.map(({ component }) => component), [1, 2]);
  assertEquals(streams!.map(({ mid, candidates }) => [mid, candidates.map(({ component }) => component)]), [
    ["audio", [1, 2]],
    ["video", [1, 2]],
  ]);
});

Deno.test("RFC 8445 §6.1.2.2: pairs are formed within a component of a stream only", () => {
  const rig = checking();
  assertEquals(
    rig.agent.pairs.map(({ base, remote, stream, component }) => [base.socket, remote.address.port, stream, component]),
    [
      [1, 6000, 0, 1],
      [2, 6001, 0, 2],
      [3, 6002, 1, 1],
      [4, 6003, 1, 2],
    ],
  );
  const stranger = parseCandidate("1 3 udp 1 198.51.100.2 7000 typ host");
  assertEquals(rig.agent.addRemoteCandidate(stranger, rig.io, 0), false);
  assertEquals(rig.agent.addRemoteCandidate({ ...stranger, component: 1 }, rig.io, 2), false);
});

Deno.test("RFC 8445 §6.1.2.6, I19: of the pairs of a foundation, across checklists, the first component is checked first", () => {
  const rig = checking();
  assertEquals(states(rig), ["0 in-progress", "1 frozen", "2 frozen", "3 frozen"]);
  // Nothing is waiting in the others, but a pair of this foundation is under way (§6.1.4.2).
  rig.advance(200);
  assertEquals(rig.requests.map(({ socket }) => socket), [1]);
});

Deno.test("RFC 8445 §7.2.5.3.3, I19: its success unfreezes all pairs of the foundation in all checklists", () => {
  const rig = checking();
  rig.advance(20);
  succeed(rig, rig.lastRequest());
  assertEquals(states(rig), ["0 succeeded", "1 waiting", "2 waiting", "3 waiting"]);
});

Deno.test("RFC 8445 §6.1.2.6, I19: pairs of another foundation are checked at once, in whichever checklist they are", () => {
  const rig = gathered();
  candidate(rig, 0);
  candidate(rig, 2, { foundation: "2" });
  candidate(rig, 3, { foundation: "2" });
  rig.remote();
  assertEquals(states(rig), ["0 in-progress", "2 waiting", "3 frozen"]);
  rig.advance(50);
  assertEquals(states(rig), ["0 in-progress", "2 in-progress", "3 frozen"]);
});

Deno.test("RFC 8445 §6.1.4.2, I20: one check per Ta over all checklists, which take turns", () => {
  const rig = gathered();
  // Foundations of their own, so that nothing is frozen: two pairs for each component.
  for (const flow of [0, 1, 2, 3]) {
    for (const more of [0, 1]) {
      candidate(rig, flow, { foundation: `${flow}${more}`, priority: 2130706431 - 256 * more, more });
    }
  }
  rig.remote();
  rig.advance(400);
  assertEquals(rig.requests.slice(0, 8).map(({ at, socket }) => [at, socket]), [
    // A stream's turn goes to its best pair, whatever the component.
    ...[[0, 1], [50, 3], [100, 2], [150, 4], [200, 1], [250, 3], [300, 2], [350, 4]],
  ]);
});

Deno.test("RFC 8445 §14.2, I20: gathering shares Ta with the checks of all components", () => {
  const rig = new Rig({ streams: [{ components: 2 }] });
  for (const component of [1, 2]) rig.agent.addHost(component, ours(component - 1), rig.io, { component });
  rig.agent.addStunServer(TransportAddress.parse("203.0.113.9:3478"), rig.io);
  candidate(rig, 0);
  candidate(rig, 1, { foundation: "2" });
  rig.remote();
  rig.advance(150);
  const kinds = rig.requests.map(({ at, to, socket }) => [at, to.port === 3478 ? "gather" : "check", socket]);
  assertEquals(kinds, [[0, "gather", 1], [50, "check", 1], [100, "gather", 2], [150, "check", 2]]);
});

Deno.test("RFC 8445 §8.1.2, I21: a stream is Completed when each component has a nominated pair, the agent when each stream is", () => {
  const rig = checking();
  run(rig, 300, ({ socket }) => socket !== 4);
  assertEquals(rig.agent.streamStates, ["completed", "running"]);
  assertEquals([rig.agent.state, rig.agent.components.map(({ state }) => state)], [
    "checking",
    ["completed", "completed", "completed", "checking"],
  ]);
  run(rig, 1500);
  assertEquals([rig.agent.state, rig.agent.streamStates], ["completed", ["completed", "completed"]]);
  assertEquals(rig.events.filter(({ type }) => type === "nominated").length, 4);
  assertEquals(
    rig.events.filter((event) => event.type === "stream-state").map(({ stream, state }) => `${stream} ${state}`),
    ["0 completed", "1 completed"],
  );
  const nominations = rig.requests.filter(({ message }) => message!.has(USE_CANDIDATE)).map(({ socket }) => socket);
  assertEquals([...new Set(nominations)].sort(), [1, 2, 3, 4]);
});

Deno.test("RFC 8445 §8.1.2: the nomination for a component removes its other pairs, not those of the others", () => {
  const rig = gathered({ pathPolicy: "first" });
  for (const flow of [0, 1]) {
    candidate(rig, flow, { foundation: `${flow}` });
    candidate(rig, flow, { foundation: `${flow}x`, priority: 1000, more: 1 });
  }
  rig.remote();
  rig.agent.endOfCandidates(rig.io);
  run(rig, 100, ({ socket }) => socket === 1);
  assertEquals(rig.agent.components[0]!.selectedPair!.nominated, true);
  assertEquals(rig.agent.pairs.map(({ base, remote }) => [base.flow, remote.address.port]), [
    [0, 6000],
    [1, 6001],
    [1, 6011],
  ]);
});

Deno.test("RFC 8445 §7.2.5.4, I21: a stream that can not have a pair for a component any more has Failed, and so has the agent", () => {
  const rig = checking();
  run(rig, 120_000, ({ socket }) => socket !== 4);
  assertEquals([rig.agent.state, rig.agent.streamStates], ["failed", ["completed", "failed"]]);
  assertEquals(rig.agent.components.map(({ state }) => state), ["completed", "completed", "completed", "failed"]);
  assertEquals(rig.agent.send(new Uint8Array([200]), rig.io, 2), true, "What works goes on");
});

Deno.test("RFC 8445 §8.1.2: an agent can go on without a stream that has failed", () => {
  const rig = checking();
  run(rig, 120_000, ({ socket }) => socket < 3);
  assertEquals(rig.agent.state, "failed");
  rig.agent.removeStream(1, rig.io);
  assertEquals([rig.agent.state, rig.agent.components.map(({ state }) => state)], [
    "completed",
    ["completed", "completed", "closed", "closed"],
  ]);
  assertEquals([rig.agent.hasSocket(2), rig.agent.hasSocket(3)], [true, false]);
  assertEquals(rig.agent.send(new Uint8Array([200]), rig.io, 2), false);
});

Deno.test("RFC 8445 §12.1: data goes along the pair of its component, and comes with its number", () => {
  const rig = checking();
  run(rig, 1000);
  for (const flow of [0, 1, 2, 3]) {
    rig.sent.length = 0;
    assertEquals(rig.agent.send(new Uint8Array([200 + flow]), rig.io, flow), true);
    assertEquals(rig.sent.map(({ socket, to }) => [socket, to.port]), [[flow + 1, 6000 + flow]]);
    rig.receive(new Uint8Array([200 + flow]), theirs(flow), flow + 1);
  }
  assertEquals(rig.delivered.map(({ bytes, flow }) => [bytes[0], flow]), [[200, 0], [201, 1], [202, 2], [203, 3]]);
  // What comes from one component's address to another's socket has no pair.
  rig.receive(new Uint8Array([99]), theirs(0), 2);
  assertEquals([rig.delivered.length, rig.agent.counters.dataDropped], [4, 1]);
});

Deno.test("RFC 8445 §7.3: a check is for the component whose socket it comes to; what it shows is for that one", () => {
  const rig = gathered({ role: "controlled" });
  rig.remote();
  rig.request({ from: theirs(3), socket: 4, useCandidate: true });
  assertEquals(rig.agent.remoteCandidates.map(({ type, component }) => [type, component]), [["prflx", 2]]);
  succeed(rig, rig.lastRequest());
  assertEquals(rig.agent.components.map(({ selectedPair }) => selectedPair?.nominated), [
    ...[undefined, undefined, undefined, true],
  ]);
});

Deno.test("RFC 8839 §5.4: streams may have credentials of their own, each is checked with the right ones", () => {
  const rig = gathered();
  for (const flow of [0, 1, 2, 3]) candidate(rig, flow, { foundation: String(flow) });
  rig.agent.setRemoteParameters({ ufrag: "AAAA", pwd: PEER_PWD }, rig.io, 0);
  rig.advance(200);
  assertEquals(rig.requests.map(({ socket }) => socket), [1, 2], "Nothing is known of the other stream");
  rig.agent.setRemoteParameters({ ufrag: "VVVV", pwd: "videovideovideovideovideo" }, rig.io, 1);
  rig.advance(200);
  const users = new Map(rig.requests.map(({ socket, message }) => [socket, message!.get(USERNAME)!.split(":")[0]]));
  assertEquals([...users], [[1, "AAAA"], [2, "AAAA"], [3, "VVVV"], [4, "VVVV"]]);
  assertEquals(rig.agent.state, "checking");
});

Deno.test("RFC 8445 §7.3.1.1: a conflict of roles is one of the agent: all streams change over", () => {
  const rig = checking({ tieBreaker: 1n });
  rig.request({ from: theirs(2), socket: 3, role: "controlling", tieBreaker: 2n });
  assertEquals([rig.agent.role, rig.events.filter(({ type }) => type === "role").length], ["controlled", 1]);
});

Deno.test("RFC 8445 §9: a restart is one of all streams; the data of each goes the old way until it has a new one", () => {
  const rig = checking();
  run(rig, 1000);
  rig.agent.restart(rig.io);
  assertEquals(rig.agent.components.map(({ selectedPair }) => selectedPair?.nominated), [true, true, true, true]);
  assertEquals(rig.agent.pairs, []);
  assertEquals(rig.agent.localCandidates.length, 4);
  for (const flow of [0, 1, 2, 3]) assertEquals(rig.agent.send(new Uint8Array([200]), rig.io, flow), true);
  rig.agent.setRemoteParameters({ ufrag: "NEWNEW", pwd: PEER_PWD }, rig.io);
  for (const flow of [0, 1, 2, 3]) candidate(rig, flow);
  run(rig, 2000);
  assertEquals([rig.agent.state, rig.agent.streamStates], ["completed", ["completed", "completed"]]);
});

Deno.test("RFC 8839 §5.4: another username fragment in one stream is a restart, also where others are as before", () => {
  const rig = checking();
  const before = rig.agent.localParameters.ufrag;
  rig.agent.addRemoteDescription({
    ...{ candidates: [], endOfCandidates: false, ignored: [] },
    streams: [
      { parameters: { ufrag: PEER_UFRAG, pwd: PEER_PWD }, candidates: [], endOfCandidates: false },
      { parameters: { ufrag: "OTHER", pwd: PEER_PWD }, candidates: [], endOfCandidates: false },
    ],
  }, rig.io);
  assertEquals(rig.agent.localParameters.ufrag === before, false);
  rig.sent.length = 0;
  rig.agent.components.forEach((_, flow) => candidate(rig, flow, { foundation: String(flow) }));
  rig.advance(500);
  const users = new Map(rig.requests.map(({ socket, message }) => [socket, message!.get(USERNAME)!.split(":")[0]]));
  assertEquals([...users].sort(), [[1, PEER_UFRAG], [2, PEER_UFRAG], [3, "OTHER"], [4, "OTHER"]]);
});

Deno.test("One silent component of several: the agent is disconnected, and only that one", () => {
  const rig = checking({ standby: 0 });
  run(rig, 1000);
  run(rig, 20_000, ({ socket }) => socket !== 2);
  assertEquals([rig.agent.state, rig.agent.components.map(({ state }) => state)], [
    "disconnected",
    ["completed", "disconnected", "completed", "completed"],
  ]);
});

Deno.test("Local misuse of streams is told at once", () => {
  assertThrows(() => new Rig({ streams: [] }), RangeError, "there must be 1 to 64: current number is 0");
  assertThrows(() => new Rig({ streams: [{ components: 257 }] }), RangeError, "1 to 256 components");
  assertThrows(() => new Rig({ streams: [{ mid: "a" }, { mid: "a" }] }), RangeError, "same mid");
});

Deno.test("RFC 8839 §4.4.1.2.2: the controlling side's updated offer names the candidates in use on both sides", () => {
  const rig = checking();
  assertEquals(rig.agent.updatedDescription, undefined);
  run(rig, 1000);
  const description = rig.agent.updatedDescription!;
  assertEquals(
    description.streams!.map(({ mid, candidates, remoteCandidates }) => [
      mid,
      candidates.map(({ address }) => address!.port),
      remoteCandidates,
    ]),
    [
      ["audio", [5000, 5001], [[1, { host: "198.51.100.2", port: 6000 }], [2, { host: "198.51.100.2", port: 6001 }]]],
      ["video", [5002, 5003], [[1, { host: "198.51.100.2", port: 6002 }], [2, { host: "198.51.100.2", port: 6003 }]]],
    ],
  );
  const text = formatDescription(description);
  assertEquals(text.split("a=remote-candidates:").length, 3);
  assertEquals(parseDescription(text).streams!.map(({ remoteCandidates }) => remoteCandidates!.length), [2, 2]);
  assertEquals(checking({ role: "controlled" }).agent.updatedDescription, undefined);
});

Deno.test("RFC 8445 §8.2: of two lite agents with several pairs the controlled one takes the choice of the updated offer", () => {
  const rig = new Rig({ lite: true, role: "controlled" });
  rig.agent.addHost(1, ours(0), rig.io);
  rig.agent.endOfLocalCandidates(rig.io);
  const parameters = { ufrag: PEER_UFRAG, pwd: PEER_PWD, lite: true, options: ["ice2"] };
  const [first, second] = [0, 1].map((more) => {
    const { address, port } = theirs(0, more);
    return parseCandidate(`1 1 udp ${2130706431 - 256 * more} ${address} ${port} typ host`);
  });
  const all = { parameters, candidates: [first!, second!], endOfCandidates: true, ignored: [] };
  rig.agent.addRemoteDescription(all, rig.io);
  assertEquals([rig.agent.state, rig.agent.selectedPair!.remote.address.port], ["completed", 6000]);
  rig.agent.addRemoteDescription({
    ...all,
    candidates: [second!],
    streams: [{
      candidates: [second!],
      endOfCandidates: true,
      remoteCandidates: [[1, { host: "192.0.2.1", port: 5000 }]],
    }],
  }, rig.io);
  assertEquals([rig.agent.state, rig.agent.selectedPair!.remote.address.port], ["completed", 6010]);
  assertEquals(rig.sent, []);
});
