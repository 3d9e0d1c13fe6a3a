import { assert, assertEquals, assertInstanceOf, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { IceError } from "../../ice/error.ts";
import { IceTransport, type IceTransportGatherOptions, type IceTransportOptions } from "../../ice/transport.ts";
import type { IceTransportCandidate } from "../../ice/transport_events.ts";
import { addHostBehind, type ClassicType, VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { serveTurn } from "../../turn/serve.ts";

const SERVER = "198.51.100.1";
const ICE_SERVERS = [{ urls: ["stun:198.51.100.1", "turn:198.51.100.1"], username: "alice", credential: "secret" }];
const LOOPBACK = { bind: ["127.0.0.1"] };
const bytes = (content: string) => new TextEncoder().encode(content);

/** Candidates from one to the other and back, as a page does. */
function trickle(one: IceTransport, other: IceTransport): void {
  for (const [from, to] of [[one, other], [other, one]] as const) {
    from.onicecandidate = ({ candidate }) => to.state !== "closed" && to.addRemoteCandidate(candidate ?? {});
  }
}

function start(one: IceTransport, other: IceTransport): void {
  one.start(other.getLocalParameters(), "controlling");
  other.start(one.getLocalParameters(), "controlled");
}

function until(transport: IceTransport, type: string, isSo: () => boolean): Promise<void> {
  return new Promise((resolve) => transport.addEventListener(type, () => isSo() && resolve()));
}

/** Every change that a listener can see, in order. */
function record(transport: IceTransport): string[] {
  const seen: string[] = [];
  transport.addEventListener("statechange", () => seen.push(transport.state));
  transport.addEventListener("gatheringstatechange", () => seen.push(`gathering ${transport.gatheringState}`));
  transport.addEventListener("icecandidate", ({ candidate }) => seen.push(`candidate ${candidate?.type ?? "end"}`));
  transport.addEventListener("selectedcandidatepairchange", () => {
    const pair = transport.getSelectedCandidatePair();
    seen.push(pair === null ? "no pair" : `pair ${pair.local.type} ${pair.remote.type}`);
  });
  transport.addEventListener("error", ({ message }) => seen.push(`error ${message}`));
  return seen;
}

interface Home extends IceTransportOptions {
  readonly type: ClassicType;
}

/** Two transports, each behind its NAT, with a STUN and TURN server in the virtual internet. */
async function inVirtualInternet(
  homes: readonly [Home, Home],
  program: (one: IceTransport, other: IceTransport, world: VirtualWorld) => Promise<void>,
): Promise<void> {
  const world = new VirtualWorld({ seed: 1, link: { delay: 10 } });
  const server = world.addHost("server", { addresses: [SERVER] });
  const hosts = homes.map(({ type }, i) =>
    addHostBehind(world, { name: `home ${i}`, type, external: `203.0.113.${i + 1}`, internal: `10.${i}.0.2` }).host
  );
  await world.run(async () => {
    await using _server = serveTurn({
      host: server,
      listen: [`${SERVER}:3478`],
      realm: "example.org",
      users: { alice: "secret" },
      allowPeers: ["198.51.100.0/24", "203.0.113.0/24"],
    });
    await using one = new IceTransport({ host: hosts[0]! });
    await using other = new IceTransport({ host: hosts[1]! });
    await program(one, other, world);
  });
}

Deno.test("IceTransport on loopback: states and events in W3C's order, data both ways", async () => {
  await using one = new IceTransport(LOOPBACK);
  await using other = new IceTransport(LOOPBACK);
  assertEquals([one.state, one.gatheringState, one.role, one.component], ["new", "new", "unknown", "rtp"]);
  assertEquals([one.getSelectedCandidatePair(), one.getRemoteParameters()], [null, null]);
  const seen = record(one);
  const completed = Promise.all([one, other].map((end) => until(end, "statechange", () => end.state === "completed")));
  const received = [one, other].map((end) =>
    new Promise<string>((resolve) => end.ondatagram = ({ data }) => resolve(new TextDecoder().decode(data)))
  );
  trickle(one, other);
  start(one, other);
  one.gather();
  other.gather();
  await completed;
  assertEquals(seen, [
    "gathering gathering",
    // UDP, and TCP by connections of ours.
    ...["candidate host", "candidate host", "checking", "gathering complete", "candidate end"],
    ...["pair host host", "connected", "completed"],
  ]);
  assert(one.send(bytes("from one")) && other.send(bytes("from other")));
  assertEquals(await Promise.all(received), ["from other", "from one"]);
  assertEquals([one.role, other.role], ["controlling", "controlled"]);
  assertEquals(one.getRemoteParameters(), other.getLocalParameters());
  const lines = (candidates: IceTransportCandidate[]) => candidates.map(({ candidate }) => candidate);
  assertEquals(lines(one.getRemoteCandidates()), lines(other.getLocalCandidates()));
  assertEquals(other.getLocalCandidates().map(({ tcpType }) => tcpType), [null, "active"]);
  const { local, remote } = one.getSelectedCandidatePair()!;
  assertEquals([local.port, remote.port], [one, other].map((end) => end.getLocalCandidates()[0]!.port));
  assertEquals(local.usernameFragment, one.getLocalParameters().usernameFragment);
});

Deno.test("IceTransport: stop() ends in closed, with one statechange; what follows is refused", async () => {
  const transport = new IceTransport(LOOPBACK);
  const seen = record(transport);
  transport.start({ usernameFragment: "abcd", password: "a".repeat(22) });
  assertEquals(transport.role, "controlled");
  transport.gather();
  assertThrows(() => transport.gather(), DOMException, "begun before");
  const again = { usernameFragment: "efgh", password: "a".repeat(22) };
  assertThrows(() => transport.start(again, "controlling"), DOMException, "change the role");
  await Promise.all([transport.stop(), transport.stop()]);
  assertEquals([transport.state, seen.filter((text) => text === "closed").length], ["closed", 1]);
  assertEquals(transport.send(bytes("late")), false);
  for (const late of [() => transport.gather(), () => transport.addRemoteCandidate()]) {
    assertThrows(late, DOMException, "is stopped");
  }
});

Deno.test("IceTransport: a candidate that is none is a SyntaxError, an empty one the end of candidates", async () => {
  await using transport = new IceTransport(LOOPBACK);
  assertThrows(() => transport.addRemoteCandidate({ candidate: "candidate:what" }), SyntaxError, "candidate:what");
  transport.addRemoteCandidate({ candidate: "" });
  assertEquals(transport.getRemoteCandidates(), []);
});

Deno.test("IceTransport in the virtual internet: each way to gather gives the path that NATs and policy allow", async (t) => {
  const cases: [ClassicType, ClassicType, IceTransportGatherOptions, string][] = [
    ["open", "open", {}, "host host"],
    ["full cone", "port restricted cone", { iceServers: ICE_SERVERS }, "srflx srflx"],
    ["symmetric", "restricted cone", { iceServers: ICE_SERVERS }, "prflx srflx"],
    ["full cone", "open", { iceServers: ICE_SERVERS, gatherPolicy: "relay" }, "relay relay"],
  ];
  for (const [a, b, options, path] of cases) {
    await t.step(`${a} and ${b}: ${path}`, async () => {
      await inVirtualInternet([{ type: a }, { type: b }], async (one, other) => {
        trickle(one, other);
        const completed = [one, other].map((end) => until(end, "statechange", () => end.state === "completed"));
        one.gather(options);
        other.gather(options);
        start(one, other);
        await Promise.all(completed);
        const { local, remote } = one.getSelectedCandidatePair()!;
        assertEquals(`${local.type} ${remote.type}`, path);
        const { local: theirs, remote: ours } = other.getSelectedCandidatePair()!;
        assertEquals([theirs.address, ours.address], [remote.address, local.address]);
        assertEquals([one.role, other.role].sort(), ["controlled", "controlling"]);
      });
    });
  }
});

Deno.test("IceTransport: start() before gather() settles the role, and what came early is not lost", async () => {
  for (const [first, second] of [["controlling", "controlled"], ["controlled", "controlling"]] as const) {
    await inVirtualInternet([{ type: "open" }, { type: "open" }], async (one, other) => {
      trickle(one, other);
      one.start(other.getLocalParameters(), first);
      other.start(one.getLocalParameters(), second);
      const completed = [one, other].map((end) => until(end, "statechange", () => end.state === "completed"));
      one.gather();
      other.gather();
      await Promise.all(completed);
      assertEquals([one.role, other.role], [first, second]);
    });
  }
});

Deno.test("IceTransport: with its role among the options it may gather first", async () => {
  for (const [first, second] of [["controlling", "controlled"], ["controlled", "controlling"]] as const) {
    await using one = new IceTransport({ ...LOOPBACK, role: first });
    await using other = new IceTransport({ ...LOOPBACK, role: second });
    trickle(one, other);
    const completed = [one, other].map((end) => until(end, "statechange", () => end.state === "completed"));
    one.gather();
    other.gather();
    one.start(other.getLocalParameters());
    other.start(one.getLocalParameters());
    await Promise.all(completed);
    assertEquals([one.role, other.role], [first, second]);
  }
});

Deno.test("IceTransport: a lite one says so, and the other controls", async () => {
  await using one = new IceTransport({ ...LOOPBACK, lite: true });
  await using other = new IceTransport(LOOPBACK);
  assertEquals(one.getLocalParameters().iceLite, true);
  trickle(one, other);
  start(other, one);
  const completed = [one, other].map((end) => until(end, "statechange", () => end.state === "completed"));
  one.gather();
  other.gather();
  await Promise.all(completed);
  assertEquals([one.role, other.role], ["controlled", "controlling"]);
});

Deno.test("IceTransport: a server that is silent is an error event, and the others go on", async () => {
  await inVirtualInternet([{ type: "open" }, { type: "open" }], async (one) => {
    const seen = record(one);
    const complete = until(one, "gatheringstatechange", () => one.gatheringState === "complete");
    one.gather({ iceServers: [{ urls: "stun:198.51.100.99" }, ...ICE_SERVERS] });
    await complete;
    const errors = seen.filter((text) => text.startsWith("error"));
    assertEquals(errors.length, 1);
    assertStringIncludes(errors[0]!, "198.51.100.99");
    assert(one.getLocalCandidates().some(({ type }) => type === "relay"));
  });
});

Deno.test("IceTransport: no path ends in failed, with the IceError that says why", async () => {
  await inVirtualInternet([{ type: "blocked" }, { type: "open" }], async (one, other) => {
    trickle(one, other);
    let error: unknown;
    one.onerror = (event) => error = event.error;
    const failed = until(one, "statechange", () => one.state === "failed");
    one.gather();
    other.gather();
    start(one, other);
    await failed;
    await Promise.resolve();
    assertInstanceOf(error, IceError);
    assertEquals(error.failure, "no-path");
  });
});

Deno.test("IceTransport: without any local candidate it fails as well", async () => {
  await inVirtualInternet([{ type: "open" }, { type: "open" }], async (one) => {
    let error: unknown;
    one.onerror = (event) => error = event.error;
    const failed = until(one, "statechange", () => one.state === "failed");
    // Relays only, and no server that has one.
    one.gather({ gatherPolicy: "relay" });
    await failed;
    await Promise.resolve();
    assertInstanceOf(error, IceError);
    assertEquals([error.failure, one.gatheringState], ["no-candidates", "complete"]);
  });
});

Deno.test("IceTransport: start() gives the role to a transport that gathers already", async () => {
  for (const [first, second] of [["controlling", "controlled"], ["controlled", "controlling"]] as const) {
    await inVirtualInternet([{ type: "open" }, { type: "open" }], async (one, other) => {
      const roles: string[] = [];
      trickle(one, other);
      const completed = [one, other].map((end) => until(end, "statechange", () => end.state === "completed"));
      one.gather();
      other.gather();
      one.start(other.getLocalParameters(), first);
      other.start(one.getLocalParameters(), second);
      roles.push(one.role, other.role);
      await Promise.all(completed);
      assertEquals([...roles, one.role, other.role], [first, second, first, second]);
    });
  }
});

Deno.test("IceTransport: restart() and the other's second start(): new parameters, new candidates, data all the while", async () => {
  await inVirtualInternet([{ type: "full cone" }, { type: "open" }], async (one, other, world) => {
    trickle(one, other);
    const completed = () => [one, other].map((end) => until(end, "statechange", () => end.state === "completed"));
    const first = completed();
    one.gather({ iceServers: ICE_SERVERS });
    other.gather({ iceServers: ICE_SERVERS });
    start(one, other);
    await Promise.all(first);
    const before = [one, other].map((end) => end.getLocalParameters());
    const seen = record(one);
    let received = 0;
    other.ondatagram = () => received++;
    const second = completed();
    const ours = one.restart();
    assertEquals([one.send(bytes("on")), ours.usernameFragment === before[0]!.usernameFragment], [true, false]);
    other.start(ours);
    // The same again is no restart.
    other.start(ours);
    one.start(other.getLocalParameters());
    await Promise.all(second);
    assert(other.getLocalParameters().usernameFragment !== before[1]!.usernameFragment);
    assertEquals(one.getRemoteParameters(), other.getLocalParameters());
    assertEquals(seen.filter((text) => text.startsWith("gathering")), ["gathering gathering", "gathering complete"]);
    assertEquals([one, other].map((end) => end.role), ["controlling", "controlled"]);
    const local = one.getLocalCandidates();
    assert(local.length > 0 && local.every(({ usernameFragment }) => usernameFragment === ours.usernameFragment));
    assertEquals(
      one.getRemoteCandidates().map(({ candidate }) => candidate),
      other.getLocalCandidates().map((c) => c.candidate),
    );
    assertEquals(one.send(bytes("after")), true);
    await world.sleep(200);
    assertEquals(received, 2);
  });
});

Deno.test("IceTransport: a failed transport is revived by a restart, with an event for each failure", async () => {
  await inVirtualInternet([{ type: "open" }, { type: "open" }], async (one, other, world) => {
    trickle(one, other);
    const first = until(one, "statechange", () => one.state === "completed");
    one.gather();
    other.gather();
    start(one, other);
    await first;
    const seen = record(one);
    await other.stop();
    await world.sleep(40_000);
    assertEquals(one.state, "failed");
    one.restart();
    await world.sleep(100);
    assertEquals(one.state, "checking");
    one.start({ usernameFragment: "gone", password: "a".repeat(22) });
    one.addRemoteCandidate({ candidate: "candidate:1 1 udp 2130706431 203.0.113.2 9999 typ host" });
    one.addRemoteCandidate();
    await world.sleep(90_000);
    assertEquals(one.state, "failed");
    assertEquals(seen.filter((text) => text.startsWith("error")).length, 2);
  });
});

Deno.test("IceTransport: getStats() as W3C's report: a transport, its pairs and candidates, by ids that lead on", async () => {
  await inVirtualInternet([{ type: "full cone" }, { type: "open" }], async (one, other) => {
    assertEquals((await one.getStats()).size, 0);
    trickle(one, other);
    const completed = [one, other].map((end) => until(end, "statechange", () => end.state === "completed"));
    one.gather({ iceServers: ICE_SERVERS });
    other.gather({ iceServers: ICE_SERVERS });
    start(one, other);
    await Promise.all(completed);
    one.send(bytes("12345"));
    const report = await one.getStats();
    const transport = report.get("T1")!;
    assert(transport.type === "transport");
    assertEquals([transport.iceRole, transport.iceState, transport.packetsSent, transport.bytesSent], [
      ...["controlling", "completed"],
      ...[1, 5],
    ]);
    const pair = report.get(transport.selectedCandidatePairId!)!;
    assert(pair.type === "candidate-pair");
    const [local, remote] = [report.get(pair.localCandidateId)!, report.get(pair.remoteCandidateId)!];
    assert(local.type === "local-candidate" && remote.type === "remote-candidate");
    const selected = one.getSelectedCandidatePair()!;
    assertEquals([local.address, local.port, remote.address, remote.port], [
      ...[selected.local.address, selected.local.port],
      ...[selected.remote.address, selected.remote.port],
    ]);
    assertEquals(transport.timestamp, local.timestamp);
    assert([...report.values()].every((entry) => entry.type === "transport" || entry.transportId === "T1"));
  });
});

Deno.test("IceTransport: selectCandidatePair() goes over to another pair that works, and getStats() tells of all of them", async () => {
  const world = new VirtualWorld({ link: { delay: 10 } });
  const hosts = [1, 2].map((i) => world.addHost(`h${i}`, { addresses: [`203.0.113.${i}`, `2001:db8::${i}`] }));
  await world.run(async () => {
    const [one, other] = hosts.map((host) => new IceTransport({ host, tcp: "none" })) as [IceTransport, IceTransport];
    trickle(one, other);
    one.gather();
    other.gather();
    start(one, other);
    await until(one, "statechange", () => one.state === "completed");
    await world.sleep(1000);
    const pairs = one.getCandidatePairs();
    assertEquals(pairs.map(({ local }) => local.address), ["2001:db8::1", "203.0.113.1"]);
    assertEquals(one.getSelectedCandidatePair()!.local.address, "2001:db8::1");
    await one.selectCandidatePair(pairs[1]!);
    await world.sleep(1000);
    assertEquals(one.getSelectedCandidatePair()!.local.address, "203.0.113.1");
    assertEquals(other.getSelectedCandidatePair()!.local.address, "203.0.113.2");
    const stats = [...(await one.getStats()).values()].filter(({ type }) => type === "candidate-pair");
    assertEquals(stats.length, 2);
    for (
      const { currentRoundTripTime, roundTripTimeJitter, checkLoss, standby, state } of stats as unknown[] as Record<
        string,
        unknown
      >[]
    ) {
      assertEquals([currentRoundTripTime, roundTripTimeJitter, checkLoss, state], [0.04, 0, 0, "succeeded"]);
      assertEquals(typeof standby, "boolean");
    }
    const wrong = { ...pairs[0]!, local: pairs[1]!.local };
    await assertRejects(() => one.selectCandidatePair(wrong), DOMException, "does not work");
    await Promise.all([one.stop(), other.stop()]);
    await assertRejects(() => one.selectCandidatePair(pairs[0]!), DOMException, "stopped");
  });
});
