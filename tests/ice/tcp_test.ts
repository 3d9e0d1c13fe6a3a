// ICE over TCP (RFC 6544), rule I36: the agent on a table, its connections numbers.
import { assert, assertEquals, assertLess } from "@std/assert";
import fc from "fast-check";
import { candidatePriority } from "../../ice/candidate.ts";
import type { CandidatePair } from "../../ice/pair.ts";
import { formatCandidate, parseCandidate } from "../../ice/sdp.ts";
import { tcpLocalPreference, type TcpType } from "../../ice/tcp.ts";
import { TransportAddress } from "../../stun/address.ts";
import { PRIORITY } from "../../ice/attributes.ts";
import { HOST, PEER, Rig } from "./rig.ts";

const LISTENING = TransportAddress.parse("192.0.2.1:7000");
/** Where the peer's connections come from. */
const FROM = TransportAddress.parse("198.51.100.2:40000");
const DATA = Uint8Array.of(0x80, 1, 2, 3);
const PRIORITY_OF_PEER = 1524629503;

/** An agent with a TCP candidate and nothing else. */
function rigWith(tcpType: TcpType, options: ConstructorParameters<typeof Rig>[0] = {}): Rig {
  const rig = new Rig(options);
  add(rig, tcpType);
  rig.agent.endOfLocalCandidates(rig.io);
  return rig;
}

function add(rig: Rig, tcpType: TcpType, isBound = false): void {
  const address = tcpType === "active" ? HOST : LISTENING;
  rig.agent.addTcp({ tcpType, address, isBound, ...(tcpType === "active" ? {} : { socket: 7 }) }, rig.io);
}

function signal(rig: Rig, tcpType: TcpType, address = PEER, priority = PRIORITY_OF_PEER): boolean {
  const line =
    `${tcpType}${address.port} 1 TCP ${priority} ${address.address} ${address.port} typ host tcptype ${tcpType}`;
  return rig.agent.addRemoteCandidate(parseCandidate(line), rig.io);
}

/** A connection of the peer's comes in, as socket `socket`. */
function accept(rig: Rig, socket: number, from = FROM): void {
  const connection = { listener: 7, transport: "tcp", remoteAddress: from, localAddress: LISTENING } as const;
  rig.agent.handleAccepted(socket, { ...connection, alpn: undefined }, rig.io);
}

/** An active agent whose connection is being made. */
function connecting(): Rig {
  const rig = rigWith("active");
  signal(rig, "passive");
  rig.remote();
  rig.agent.endOfCandidates(rig.io);
  return rig;
}

/** The same with the connection there, as socket 100: the check has left. */
function connected(): Rig {
  const rig = connecting();
  rig.advance(20);
  rig.agent.handleOpened(100, HOST.withPort(33333), rig.io);
  return rig;
}

/** An active, controlling agent with a nominated pair. */
function completed(): Rig {
  const rig = connected();
  rig.advance(20);
  rig.succeed(rig.lastRequest(), { mapped: HOST.withPort(33333) });
  rig.advance(100);
  rig.succeed(rig.lastRequest(), { mapped: HOST.withPort(33333) });
  assertEquals(rig.agent.state, "completed");
  rig.sent.length = 0;
  return rig;
}

const shown = (pairs: readonly CandidatePair[]) => pairs.map((pair) => `${pair} ${pair.state}`);

Deno.test("RFC 6544 §4.1, §4.5, I36: an active candidate has port 9, a passive one the port that is listened on", () => {
  const rig = rigWith("active");
  const lines = rig.agent.localDescription.candidates.map(formatCandidate);
  assertEquals(lines, ["candidate:1 1 tcp 1524629503 192.0.2.1 9 typ host tcptype active"]);
  const passive = rigWith("passive").agent.localDescription.candidates.map(formatCandidate);
  assertEquals(passive, ["candidate:1 1 tcp 1520435199 192.0.2.1 7000 typ host tcptype passive"]);
});

Deno.test("RFC 6544 §4.2, I36: the direction is in the local preference; what is reflexive turns its order", () => {
  const order = (type: "host" | "srflx" | "prflx" | "relay") =>
    (["active", "passive", "so"] as const).map((tcpType) => tcpLocalPreference(type, tcpType, 8191) >> 13);
  assertEquals(order("host"), [6, 4, 2]);
  assertEquals(order("relay"), [6, 4, 2]);
  assertEquals(order("srflx"), [4, 2, 6]);
  assertEquals(order("prflx"), [4, 2, 6]);
  assertEquals(tcpLocalPreference("host", "active", 8191), 57343);
});

Deno.test("RFC 6544 §4.2: addresses of one type and direction have different preferences, and the same in each direction", () => {
  const rig = new Rig();
  for (const text of ["192.0.2.1:0", "192.0.2.2:0"]) {
    const address = TransportAddress.parse(text);
    rig.agent.addTcp({ tcpType: "active", address }, rig.io);
    rig.agent.addTcp({ tcpType: "passive", address: address.withPort(7000), socket: 7 }, rig.io);
  }
  const others = rig.agent.localCandidates.map(({ localPreference }) => localPreference & 8191);
  assertEquals(others, [8191, 8191, 8175, 8175]);
  const priorities = new Set(rig.agent.localCandidates.map(({ priority }) => priority));
  assertEquals(priorities.size, 4);
  const foundations = new Set(rig.agent.localCandidates.map(({ foundation }) => foundation));
  assertEquals(foundations.size, 4);
});

Deno.test("I36: each direct path over UDP ranks above each over TCP, and that above each relay", () => {
  const udp = (["host", "prflx", "srflx"] as const).map((type) => candidatePriority(type, 1));
  const tcp = (["host", "prflx", "srflx"] as const).flatMap((type) =>
    (["active", "passive", "so"] as const).map((tcpType) =>
      candidatePriority(type, tcpLocalPreference(type, tcpType, 8191), 1, "tcp")
    )
  );
  const relay = candidatePriority("relay", 65535);
  assertLess(Math.max(...tcp), Math.min(...udp));
  assertLess(relay, Math.min(...tcp));
});

Deno.test("RFC 6544 §6.2, I36: active makes pairs with passive, simultaneous open with its like, UDP with UDP", () => {
  const rig = new Rig();
  rig.agent.addHost(1, HOST, rig.io);
  for (const tcpType of ["active", "passive", "so"] as const) {
    rig.agent.addTcp({ tcpType, address: LISTENING, socket: tcpType === "so" ? 8 : 7 }, rig.io);
  }
  rig.candidate(PEER);
  for (const tcpType of ["active", "passive", "so"] as const) signal(rig, tcpType, PEER.withPort(7000));
  assertEquals(shown(rig.agent.pairs), [
    "192.0.2.1:5000 host -> 198.51.100.2:6000 host waiting",
    "192.0.2.1:9 tcp host -> 198.51.100.2:7000 tcp host waiting",
    "192.0.2.1:7000 tcp host -> 198.51.100.2:7000 tcp host waiting",
  ]);
  assertEquals(rig.agent.pairs.map(({ base }) => base.kind), ["udp", "active", "so"]);
});

Deno.test("I36: candidates for UDP and TCP with one address and port are two; those of the same kind are one", () => {
  const rig = rigWith("active");
  assertEquals([rig.candidate(PEER), signal(rig, "passive"), signal(rig, "passive"), signal(rig, "so")], [
    ...[true, true, false, true],
  ]);
});

Deno.test("RFC 6544 §7.1, I36: a check begins with a connection, and is sent once over it", () => {
  const rig = connecting();
  assertEquals(rig.opened.map(({ wish }) => wish), [
    { transport: "tcp", remote: PEER, framing: "rfc4571", timeout: 20_000 },
  ]);
  assertEquals([rig.sent.length, rig.agent.pairs[0]!.state], [0, "in-progress"]);
  rig.advance(20);
  rig.agent.handleOpened(100, HOST.withPort(33333), rig.io);
  assertEquals(rig.requests.map(({ socket, to }) => [socket, String(to)]), [[100, String(PEER)]]);
  // The priority of a peer-reflexive candidate: its type and its direction.
  const expected = candidatePriority("prflx", 4 * 8192 + 8191, 1, "tcp");
  assertEquals(rig.lastRequest().message!.get(PRIORITY), expected);
  rig.advance(19_499);
  assertEquals([rig.sent.length, rig.agent.state], [1, "checking"]);
  rig.advance(1);
  assertEquals([rig.agent.pairs[0]!.state, rig.closed], ["failed", [100]]);
});

Deno.test("I36: whoever can bind its connections leaves from the candidate's address, and for simultaneous open from its port", () => {
  const rig = new Rig();
  add(rig, "active", true);
  rig.agent.addTcp({ tcpType: "so", address: LISTENING, socket: 8 }, rig.io);
  signal(rig, "passive");
  signal(rig, "so");
  rig.remote();
  rig.advance(100);
  assertEquals(rig.opened.map(({ wish: { address, port } }) => [address, port]), [["192.0.2.1", undefined], [
    "192.0.2.1",
    7000,
  ]]);
});

Deno.test("I36: a connection that the host makes from another address is not this candidate's", () => {
  const rig = connecting();
  rig.agent.handleOpened(100, TransportAddress.parse("192.0.2.77:33333"), rig.io);
  assertEquals([rig.agent.pairs[0]!.state, rig.closed, rig.sent.length], ["failed", [100], 0]);
});

Deno.test("I36: without a connection the pair has failed; nothing is sent", () => {
  const rig = connecting();
  rig.agent.handleOpenFailed(100, "refused", rig.io);
  assertEquals([rig.agent.pairs[0]!.state, rig.sent.length, rig.agent.state], ["failed", 0, "checking"]);
  rig.advance(40_000);
  assertEquals(rig.agent.state, "failed");
});

Deno.test("I36: a connection that ends before its check is answered is made again, three in all", () => {
  const rig = connected();
  for (const socket of [100, 101]) {
    rig.agent.handleClosed(socket, "end", rig.io);
    rig.advance(50);
    assertEquals([rig.opened.at(-1)!.socket, rig.agent.pairs[0]!.state], [socket + 1, "in-progress"]);
    rig.agent.handleOpened(socket + 1, HOST.withPort(33_000 + socket), rig.io);
    assertEquals(rig.lastRequest().socket, socket + 1);
  }
  rig.succeed(rig.requests[0]!);
  assertEquals(rig.agent.selectedPair, undefined);
  rig.agent.handleClosed(102, "end", rig.io);
  assertEquals([rig.agent.pairs[0]!.state, rig.opened.length], ["failed", 3]);
});

Deno.test("I36: without a NAT in between the active candidate is itself, whatever its port; with one it is peer-reflexive", () => {
  const rig = connected();
  rig.succeed(rig.lastRequest(), { mapped: HOST.withPort(33333) });
  assertEquals(String(rig.agent.selectedPair), "192.0.2.1:9 tcp host -> 198.51.100.2:6000 tcp host");
  const translated = connected();
  translated.succeed(translated.lastRequest(), { mapped: TransportAddress.parse("203.0.113.9:1234") });
  assertEquals(String(translated.agent.selectedPair), "203.0.113.9:1234 tcp prflx -> 198.51.100.2:6000 tcp host");
  assertEquals(translated.agent.selectedPair!.local.tcpType, "active");
});

Deno.test("I36: data goes along the connection of the pair, and is taken from nowhere else", () => {
  const rig = completed();
  assert(rig.agent.send(DATA, rig.io));
  assertEquals(rig.sent.map(({ socket, to, bytes }) => [socket, to, bytes]), [[100, PEER, DATA]]);
  rig.receive(DATA, PEER, 100);
  assertEquals(rig.delivered.map(({ from }) => from), [PEER]);
  rig.receive(DATA, PEER, 101);
  assertEquals([rig.delivered.length, rig.agent.counters.dataDropped], [1, 1]);
});

Deno.test("RFC 6544 §7.2, I36: who listens learns where the peer comes from, and checks back over the same connection", () => {
  const rig = rigWith("passive", { role: "controlled" });
  signal(rig, "active", PEER.withPort(9));
  rig.remote();
  assertEquals([rig.agent.pairs.length, rig.opened.length], [0, 0]);
  accept(rig, 50);
  rig.request({ from: FROM, socket: 50, priority: 1388314879 });
  assertEquals(rig.answers.map(({ socket, to }) => [socket, to]), [[50, FROM]]);
  assertEquals(rig.requests.map(({ socket, to }) => [socket, to]), [[50, FROM]]);
  const [pair] = rig.agent.pairs;
  assertEquals([pair!.remote.type, pair!.remote.tcpType, pair!.remote.priority], ["prflx", "active", 1388314879]);
  rig.succeed(rig.lastRequest(), { mapped: LISTENING });
  rig.request({ from: FROM, socket: 50, useCandidate: true });
  assertEquals([rig.agent.state, String(rig.agent.selectedPair)], [
    "completed",
    "192.0.2.1:7000 tcp host -> 198.51.100.2:40000 tcp prflx",
  ]);
  assertEquals(rig.closed, []);
});

Deno.test("I36: a check that came before the peer's credentials is acted on over its connection, if that is still there", () => {
  for (const isThere of [true, false]) {
    const rig = rigWith("passive", { role: "controlled" });
    accept(rig, 50);
    rig.request({ from: FROM, socket: 50 });
    if (!isThere) rig.agent.handleClosed(50, "end", rig.io);
    rig.remote();
    assertEquals(rig.requests.map(({ socket }) => socket), isThere ? [50] : []);
  }
});

Deno.test("I36: a connection whose first packet is no check with our credentials is closed", () => {
  const strangers: ((rig: Rig) => void)[] = [
    (rig) => rig.receive(DATA, FROM, 50),
    (rig) => rig.request({ from: FROM, socket: 50, pwd: "wrongwrongwrongwrongwrong" }),
    (rig) => rig.request({ from: FROM, socket: 50, username: "other:PEER" }),
    (rig) => rig.request({ from: FROM, socket: 50, integrity: false }),
    (rig) => rig.request({ from: FROM, socket: 50, fingerprint: false }),
  ];
  for (const [index, show] of strangers.entries()) {
    const rig = rigWith("passive");
    rig.remote();
    accept(rig, 50);
    show(rig);
    assertEquals([rig.closed, rig.agent.counters.connectionsRefused], [[50], 1], `stranger ${index}`);
    assertEquals([rig.agent.pairs.length, rig.requests.length], [0, 0]);
    // What comes afterwards is nobody's.
    rig.request({ from: FROM, socket: 50 });
    assertEquals([rig.agent.pairs.length, rig.answers.filter(({ message }) => message?.class === "success").length], [
      0,
      0,
    ]);
  }
});

Deno.test("I36: one that has shown who it is may send what it likes; it is dropped as over UDP", () => {
  const rig = rigWith("passive");
  rig.remote();
  accept(rig, 50);
  rig.request({ from: FROM, socket: 50 });
  rig.request({ from: FROM, socket: 50, pwd: "wrongwrongwrongwrongwrong" });
  assertEquals([rig.closed, rig.agent.counters.connectionsRefused, rig.agent.counters.requestsUnauthenticated], [
    ...[[], 0, 1],
  ]);
});

Deno.test("I36: connections that bring more addresses than an agent learns are closed", () => {
  const rig = rigWith("passive");
  rig.remote();
  for (let i = 0; i < 6; i++) {
    const from = FROM.withPort(40_000 + i);
    accept(rig, 50 + i, from);
    rig.request({ from, socket: 50 + i });
  }
  assertEquals([rig.agent.pairs.length, rig.closed], [4, [54, 55]]);
});

Deno.test("I36: a connection that is closed fails its pair; the selected one's is the end, and the error says so", () => {
  const rig = completed();
  rig.agent.handleClosed(100, "end", rig.io);
  assertEquals(rig.agent.state, "failed");
  const last = rig.events.findLast((event) => event.type === "state");
  assertEquals(last, { type: "state", state: "failed", reason: "The TCP connection to 198.51.100.2:6000 was closed" });
  assertEquals(rig.agent.send(DATA, rig.io), false);
});

Deno.test("I36: with another pair that works, data goes on along that", () => {
  const rig = rigWith("active");
  signal(rig, "passive");
  signal(rig, "passive", PEER.withPort(6001), PRIORITY_OF_PEER - 1);
  rig.remote();
  rig.advance(60);
  for (const { socket } of [...rig.opened].reverse()) {
    rig.agent.handleOpened(socket, HOST.withPort(33_000 + socket), rig.io);
    rig.advance(10);
    rig.succeed(rig.lastRequest());
  }
  rig.advance(1000);
  rig.succeed(rig.lastRequest());
  assertEquals([rig.agent.state, rig.agent.selectedPair?.socket], ["completed", 100]);
  rig.agent.handleClosed(100, "reset", rig.io);
  assertEquals([rig.agent.state, rig.agent.selectedPair?.socket], ["connected", 101]);
  rig.agent.send(DATA, rig.io);
  assertEquals(rig.sent.at(-1)!.socket, 101);
});

Deno.test("RFC 7675 §5.1, I36: consent is asked for over TCP as well, and ends after 30 s without an answer", () => {
  const rig = completed();
  rig.advance(29_000);
  const asked = rig.requests.length;
  assert(asked >= 4, `${asked}`);
  assertEquals(new Set(rig.requests.map(({ socket }) => socket)), new Set([100]));
  rig.advance(2000);
  assertEquals([rig.agent.state, rig.closed], ["failed", [100]]);
});

Deno.test("I36: when a pair is nominated, connections that are still being made are given up", () => {
  const rig = new Rig({ role: "controlled" });
  rig.agent.addHost(1, HOST, rig.io);
  rig.agent.addTcp({ tcpType: "active", address: HOST }, rig.io);
  rig.agent.endOfLocalCandidates(rig.io);
  rig.candidate(PEER);
  signal(rig, "passive");
  rig.remote();
  rig.advance(60);
  assertEquals(rig.opened.length, 1);
  rig.succeed(rig.requests[0]!);
  rig.request({ useCandidate: true });
  assertEquals([rig.agent.state, rig.closed], ["completed", [100]]);
});

Deno.test("I36: a UDP path that may still come is given as long as with a relay, before TCP is nominated", () => {
  const rig = new Rig();
  rig.agent.addHost(1, HOST, rig.io);
  rig.agent.addTcp({ tcpType: "active", address: HOST }, rig.io);
  rig.agent.endOfLocalCandidates(rig.io);
  rig.candidate(PEER);
  signal(rig, "passive");
  rig.remote();
  rig.agent.endOfCandidates(rig.io);
  rig.advance(50);
  rig.agent.handleOpened(100, HOST.withPort(33333), rig.io);
  rig.advance(20);
  rig.succeed(rig.requests.find(({ socket }) => socket === 100)!);
  assertEquals([rig.agent.state, rig.agent.selectedPair?.isTcp], ["connected", true]);
  const nominations = () => rig.agent.pairs.filter(({ nominating }) => nominating).length;
  rig.advance(489);
  assertEquals(nominations(), 0);
  // The first retransmission over UDP at 500 ms, and three round trips.
  rig.advance(1);
  assertEquals([rig.now, nominations()], [560, 1]);
});

Deno.test("RFC 8445 §9, I36: after a restart data goes along the old connection until a pair is nominated on a new one", () => {
  const rig = completed();
  rig.agent.restart(rig.io);
  rig.agent.endOfLocalCandidates(rig.io);
  rig.remote("NEXT", "nextnextnextnextnextnext");
  signal(rig, "passive");
  rig.advance(60);
  assertEquals(rig.opened.map(({ socket }) => socket), [100, 101]);
  rig.agent.send(DATA, rig.io);
  assertEquals(rig.sent.at(-1)!.socket, 100);
  rig.receive(DATA, PEER, 100);
  assertEquals(rig.delivered.length, 1);
  rig.agent.handleOpened(101, HOST.withPort(33334), rig.io);
  const pwd = "nextnextnextnextnextnext";
  const succeed = () => rig.receive(rig.successBytes(rig.lastRequest(), { pwd }), PEER, 101);
  succeed();
  rig.advance(600);
  assertEquals(rig.lastRequest().socket, 101);
  succeed();
  assertEquals([rig.agent.state, rig.agent.selectedPair?.socket, rig.closed], ["completed", 101, []]);
  rig.advance(3000);
  assertEquals(rig.closed, [100]);
});

Deno.test("I36: closing the agent closes its connections; those that come in afterwards too", () => {
  const rig = completed();
  add(rig, "passive");
  rig.agent.close(rig.io);
  assertEquals(rig.closed, [100]);
  accept(rig, 50);
  assertEquals(rig.closed, [100, 50]);
});

Deno.test("I36: a lite agent listens, and takes what a full peer nominates over TCP", () => {
  const rig = new Rig({ lite: true });
  add(rig, "active");
  add(rig, "passive");
  rig.agent.endOfLocalCandidates(rig.io);
  assertEquals(rig.agent.localCandidates.map(({ tcpType }) => tcpType), ["passive"]);
  rig.remote();
  accept(rig, 50);
  rig.request({ from: FROM, socket: 50, role: "controlling", useCandidate: true });
  assertEquals([rig.agent.state, rig.requests.length], ["completed", 0]);
  rig.agent.send(DATA, rig.io);
  assertEquals(rig.sent.at(-1)!.socket, 50);
});

Deno.test("I36: a listening socket that is gone takes its connections with it", () => {
  const rig = rigWith("passive", { role: "controlled" });
  rig.remote();
  accept(rig, 50);
  rig.request({ from: FROM, socket: 50 });
  rig.agent.removeSocket(7, rig.io);
  assertEquals([rig.closed, rig.agent.pairs.length], [[50], 0]);
});

Deno.test("I36: nothing that strangers send over connections of theirs changes the agent, and each connection ends with it", () => {
  const anyBytes = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 100 }),
    fc.record({ useCandidate: fc.boolean(), wrong: fc.constantFrom("pwd", "username", "integrity", "fingerprint") }),
  );
  const anyStep = fc.record({
    from: fc.nat(100),
    sends: fc.option(anyBytes, { nil: undefined }),
    leaves: fc.boolean(),
  });
  fc.assert(fc.property(fc.array(anyStep, { maxLength: 40 }), (steps) => {
    const rig = rigWith("passive", { role: "controlled" });
    rig.remote();
    const view =
      () => [rig.agent.state, rig.agent.pairs.length, rig.agent.remoteCandidates.length, rig.requests.length];
    const before = view();
    steps.forEach(({ from, sends, leaves }, i) => {
      const [socket, address] = [50 + i, FROM.withPort(40_000 + from)];
      accept(rig, socket, address);
      if (sends instanceof Uint8Array) rig.receive(sends, address, socket);
      else if (sends !== undefined) {
        const { useCandidate, wrong } = sends;
        const pwd = wrong === "pwd" ? { pwd: "wrongwrongwrongwrongwrong" } : {};
        const rest = {
          username: { username: "x:y" },
          integrity: { integrity: false },
          fingerprint: { fingerprint: false },
        };
        rig.request({
          from: address,
          socket,
          useCandidate,
          ...pwd,
          ...(wrong === "pwd" ? {} : rest[wrong as "username"]),
        });
      }
      if (leaves) rig.agent.handleClosed(socket, "end", rig.io);
      assertEquals(rig.closed.includes(socket), sends !== undefined);
    });
    assertEquals([view(), rig.delivered.length], [before, 0]);
  }));
});
