import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { bytesAttribute } from "../../stun/attribute.ts";
import { ERROR_CODE_ATTRIBUTE, MESSAGE_INTEGRITY_SHA256, USERNAME, XOR_MAPPED_ADDRESS } from "../../stun/attributes.ts";
import { IntegrityKey } from "../../stun/integrity.ts";
import { ICE_CONTROLLED, ICE_CONTROLLING, PRIORITY, USE_CANDIDATE } from "../../ice/attributes.ts";
import { candidatePriority } from "../../ice/candidate.ts";
import { parseCandidate } from "../../ice/sdp.ts";
import { HOST, PEER, PEER_PWD, PEER_UFRAG, Rig } from "./rig.ts";

const OTHER = TransportAddress.parse("203.0.113.9:7777");

Deno.test("RFC 8445 §7.1, §7.2.2: what a check looks like", () => {
  const rig = Rig.checking({ tieBreaker: 99n });
  const [{ message, to, socket, at }] = rig.sent as [typeof rig.sent[0]];
  assertEquals([String(to), socket, at], [String(PEER), 1, 0]);
  assertEquals(message!.get(USERNAME), `${PEER_UFRAG}:${rig.agent.localParameters.ufrag}`);
  assertEquals(message!.get(ICE_CONTROLLING), 99n);
  assertEquals(message!.has(ICE_CONTROLLED), false);
  assertEquals(message!.has(USE_CANDIDATE), false);
  // I4: our PRIORITY is that of a peer-reflexive candidate with the same local preference.
  assertEquals(message!.get(PRIORITY), candidatePriority("prflx", 65535));
  assertEquals(message!.verifyIntegrity(IntegrityKey.shortTerm(PEER_PWD)), true);
  assertEquals(message!.verifyFingerprint(), true);
});

Deno.test("I28: fragment, password, tie-breaker and transaction ids are random, 48 and 144 bits for the credentials", () => {
  const rig = new Rig();
  const other = new Rig({ random: { fill: (bytes) => void crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>) } });
  assertEquals([other.agent.localParameters.ufrag.length, other.agent.localParameters.pwd.length], [8, 24]);
  assertNotEquals(rig.agent.localParameters, other.agent.localParameters);
  const checking = Rig.checking();
  checking.advance(40_000);
  const ids = new Set(checking.requests.map(({ message }) => message!.transactionKey));
  assertEquals([checking.requests.length, ids.size], [7, 1]);
});

Deno.test("I1: a response with a wrong or no integrity changes nothing; the right one still counts afterwards", () => {
  const rig = Rig.checking();
  const check = rig.lastRequest();
  rig.receive(rig.successBytes(check, { pwd: "wrongwrongwrongwrongwrong" }));
  rig.receive(rig.successBytes(check, { integrity: false }));
  rig.receive(rig.errorBytes(check, 487, "wrongwrongwrongwrongwrong"));
  rig.receive(rig.errorBytes(check, 487, ""));
  rig.receive(rig.errorBytes(check, 400, ""));
  assertEquals(rig.agent.counters.responsesRefused, 5);
  assertEquals([rig.agent.role, rig.agent.state, rig.agent.pairs[0]!.state], [
    "controlling",
    "checking",
    "in-progress",
  ]);
  rig.succeed(check);
  assertEquals([rig.agent.state, rig.agent.pairs[0]!.state], ["connected", "succeeded"]);
});

Deno.test("I1: a request with a wrong integrity is answered 401, one without 400, and changes nothing", () => {
  const rig = Rig.gathered();
  rig.request({ pwd: "wrongwrongwrongwrongwrong", useCandidate: true });
  assertEquals(rig.lastAnswer().get(ERROR_CODE_ATTRIBUTE)?.code, 401);
  assertEquals(rig.lastAnswer().hasIntegrity, false);
  rig.request({ integrity: false });
  assertEquals(rig.lastAnswer().get(ERROR_CODE_ATTRIBUTE)?.code, 400);
  rig.request({ username: "" });
  assertEquals(rig.lastAnswer().get(ERROR_CODE_ATTRIBUTE)?.code, 400);
  assertEquals(rig.agent.remoteCandidates, []);
  assertEquals([rig.agent.counters.requestsUnauthenticated, rig.agent.counters.requestsRefused], [1, 2]);
  for (const { message } of rig.answers) assertEquals(message!.verifyFingerprint(), true);
});

Deno.test("An answer to a stranger is hardly longer than the shortest request with a fingerprint", () => {
  const rig = Rig.gathered();
  const bytes = rig.requestBytes({ username: "", role: "none", integrity: false, priority: -1 });
  rig.receive(bytes);
  assertEquals([bytes.length, rig.sent[0]!.bytes.length], [28, 36]);
});

Deno.test("I2: both halves of the user name: a foreign local fragment is refused, a foreign remote one changes nothing", () => {
  const rig = Rig.checking();
  rig.sent.length = 0;
  rig.request({ username: `nobody:${PEER_UFRAG}` });
  assertEquals(rig.lastAnswer().get(ERROR_CODE_ATTRIBUTE)?.code, 401);
  rig.request({ username: `${rig.agent.localParameters.ufrag}x:${PEER_UFRAG}` });
  assertEquals(rig.lastAnswer().get(ERROR_CODE_ATTRIBUTE)?.code, 401);
  rig.request({ username: `${rig.agent.localParameters.ufrag}:other`, from: OTHER });
  assertEquals(rig.lastAnswer().class, "success");
  assertEquals(rig.agent.counters.requestsOfOthers, 1);
  assertEquals(rig.agent.remoteCandidates.length, 1);
  assertEquals(rig.agent.pairs.length, 1);
});

Deno.test("RFC 8445 §7.3.1.2: the success response tells the source, signed with our password", () => {
  const rig = Rig.gathered();
  rig.request({ from: OTHER });
  const answer = rig.lastAnswer();
  assertEquals(String(rig.sent[0]!.to), String(OTHER));
  assertEquals(String(answer.get(XOR_MAPPED_ADDRESS)), String(OTHER));
  assertEquals(answer.verifyIntegrity(IntegrityKey.shortTerm(rig.agent.localParameters.pwd)), true);
  assertEquals(answer.verifyFingerprint(), true);
});

Deno.test("RFC 8489 §9.1.3: a request with MESSAGE-INTEGRITY-SHA256 is answered with the same", () => {
  const rig = Rig.gathered();
  rig.request({ integrity: "sha256" });
  const answer = rig.lastAnswer();
  assertEquals([answer.class, answer.has(MESSAGE_INTEGRITY_SHA256)], ["success", true]);
  assertEquals(answer.verifyIntegrity(IntegrityKey.shortTerm(rig.agent.localParameters.pwd)), true);
});

Deno.test("RFC 8489 §6.3.1: unknown comprehension-required attributes are answered 420, optional ones passed over", () => {
  const rig = Rig.checking();
  rig.sent.length = 0;
  rig.request({ extra: [bytesAttribute(0x7fff, "FUTURE"), new Uint8Array(4)] });
  const answer = rig.lastAnswer();
  assertEquals(answer.get(ERROR_CODE_ATTRIBUTE)?.code, 420);
  assertEquals(answer.verifyIntegrity(IntegrityKey.shortTerm(rig.agent.localParameters.pwd)), true);
  rig.request({ extra: [bytesAttribute(0xc057, "NETWORK-COST"), new Uint8Array(4)] });
  assertEquals(rig.lastAnswer().class, "success");
});

Deno.test("I3: checks that come before the peer's credentials are answered at once and acted on later, in order", () => {
  const rig = Rig.gathered();
  const nat = TransportAddress.parse("203.0.113.7:4242");
  rig.request({ from: nat, priority: 1845494271 });
  rig.request({ from: PEER });
  assertEquals(rig.answers.length, 2);
  assertEquals([rig.agent.pairs.length, rig.agent.state], [0, "new"]);
  rig.sent.length = 0;
  rig.remote();
  rig.advance(100);
  assertEquals(rig.requests.map(({ to }) => String(to)), [String(nat), String(PEER)]);
  const [first] = rig.agent.remoteCandidates;
  assertEquals([first!.type, first!.priority], ["prflx", 1845494271]);
});

Deno.test("I3, I29: early checks are bounded, and those of another session forgotten", () => {
  const rig = Rig.gathered();
  for (let i = 0; i < 50; i++) rig.request({ from: TransportAddress.of("203.0.113.7", 1000 + i) });
  for (let i = 0; i < 50; i++) rig.request({ from: TransportAddress.of("203.0.113.7", 1000) });
  assertEquals(rig.agent.counters.requestsOverLimit, 18);
  rig.remote("FORKED");
  assertEquals(rig.agent.pairs.length, 0);
});

Deno.test("I9: USE-CANDIDATE of an early check is remembered, too, also when a later check of the same way lacks it", () => {
  const rig = Rig.gathered({ role: "controlled" });
  rig.request({ useCandidate: true });
  rig.request();
  rig.remote();
  rig.succeed(rig.lastRequest());
  assertEquals(rig.agent.state, "completed");
});

Deno.test("I4: an unknown source becomes a peer-reflexive candidate with the request's PRIORITY and a foundation of its own", () => {
  const rig = Rig.checking();
  rig.request({ from: OTHER, priority: 1234567 });
  const learned = rig.agent.remoteCandidates.find(({ address }) => address.equals(OTHER))!;
  assertEquals([learned.type, learned.priority, learned.component], ["prflx", 1234567, 1]);
  assertNotEquals(learned.foundation, rig.agent.remoteCandidates[0]!.foundation);
  // RFC 8445 §7.3.1.3: it is paired with the one local candidate only that the check came to.
  assertEquals(rig.agent.pairs.filter(({ remote }) => remote === learned).length, 1);
});

Deno.test("I4: a request without PRIORITY, or with 0, is answered, but nothing is learned from it", () => {
  const rig = Rig.checking();
  rig.request({ from: OTHER, priority: -1 });
  assertEquals(rig.lastAnswer().class, "success");
  rig.request({ from: OTHER, priority: 0 });
  assertEquals(rig.agent.remoteCandidates.length, 1);
});

Deno.test("I29: the peer's addresses that checks show are bounded, in all and for each IP address and socket", () => {
  const rig = Rig.checking();
  for (let i = 0; i < 200; i++) rig.request({ from: TransportAddress.of("203.0.113.7", 1000 + i) });
  assertEquals(rig.agent.remoteCandidates.length, 1 + 4);
  assertEquals(rig.agent.counters.requestsOverLimit, 196);
  for (let i = 0; i < 200; i++) rig.request({ from: TransportAddress.of(`203.0.113.${10 + i}`, 1000) });
  assertEquals(rig.agent.remoteCandidates.length, 1 + 32);
});

Deno.test("RFC 8445 §7.3.1.5: a nomination that cannot be accepted, for want of room, is refused and not answered with success", () => {
  const rig = Rig.checking({ role: "controlled" });
  for (let i = 0; i < 20; i++) rig.request({ from: TransportAddress.of("203.0.113.7", 1000 + i) });
  rig.request({ from: TransportAddress.of("203.0.113.7", 5000), useCandidate: true });
  assertEquals(rig.lastAnswer().get(ERROR_CODE_ATTRIBUTE)?.code, 400);
  assertEquals(rig.lastAnswer().verifyIntegrity(IntegrityKey.shortTerm(rig.agent.localParameters.pwd)), true);
  rig.request({ from: TransportAddress.of("203.0.113.7", 1000), useCandidate: true });
  assertEquals(rig.lastAnswer().class, "success");
});

Deno.test("I29: the peer's signalled candidates and the pairs are bounded", () => {
  const rig = Rig.gathered({ maxPairs: 20 });
  let taken = 0;
  for (let i = 0; i < 200; i++) if (rig.candidate(TransportAddress.of("203.0.113.7", 1000 + i))) taken++;
  assertEquals([taken, rig.agent.pairs.length], [100, 20]);
});

Deno.test("I5: a mapped address that is not ours makes a local peer-reflexive candidate, with the PRIORITY that was sent", () => {
  const rig = Rig.checking();
  const mapped = TransportAddress.parse("203.0.113.1:40000");
  rig.succeed(rig.lastRequest(), { mapped });
  const { local } = rig.agent.selectedPair!;
  assertEquals([local.type, String(local.address), String(local.base)], ["prflx", String(mapped), String(HOST)]);
  assertEquals(local.priority, candidatePriority("prflx", 65535));
  assertEquals(rig.agent.localCandidates.length, 2);
  // It is not signalled (RFC 8445 §7.2.5.3.1).
  assertEquals(rig.eventTypes().filter((type) => type === "local-candidate").length, 1);
  assertEquals(rig.agent.localDescription.candidates.length, 1);
});

Deno.test("I6: a server-reflexive candidate forms no pairs; a pair that the peer sees through it takes its place", () => {
  const rig = new Rig();
  const server = TransportAddress.parse("198.51.100.1:3478");
  const mapped = TransportAddress.parse("203.0.113.1:40000");
  rig.agent.addHost(1, HOST, rig.io);
  rig.agent.addStunServer(server, rig.io);
  rig.succeed(rig.lastRequest(), { mapped });
  assertEquals(rig.agent.localCandidates.map(({ type }) => type), ["host", "srflx"]);
  rig.candidate(PEER);
  rig.remote();
  assertEquals(rig.agent.pairs.length, 1);
  rig.advance(50);
  rig.succeed(rig.lastRequest(), { mapped });
  assertEquals(rig.agent.selectedPair!.local.type, "srflx");
  // RFC 8445 §7.2.5.3.2: the valid pair's priority is that of the candidate as it was signalled.
  assertEquals(rig.agent.selectedPair!.priority, 2n ** 32n * 1694498815n + 2n * 2130706431n);
});

Deno.test("I7, RFC 8445 §7.3.1.3: a candidate that is signalled later takes over a peer-reflexive one with its pair's state", () => {
  const rig = Rig.gathered({ role: "controlled" });
  rig.remote();
  rig.request({ from: PEER, useCandidate: true });
  rig.succeed(rig.lastRequest());
  const [pair] = rig.agent.pairs;
  assertEquals([pair!.remote.type, pair!.nominated], ["prflx", true]);
  const late = Rig.gathered();
  late.remote();
  late.request({ from: PEER });
  late.advance(50);
  const [learned] = late.agent.pairs;
  assertEquals([learned!.remote.type, learned!.state], ["prflx", "in-progress"]);
  assertEquals(late.candidate(PEER, "relay", 16777215), true);
  assertEquals(late.agent.pairs.length, 1);
  assertEquals(late.agent.pairs[0], learned);
  assertEquals([learned!.remote.type, learned!.remote.priority, learned!.state], ["relay", 16777215, "in-progress"]);
  late.succeed(late.lastRequest());
  assertEquals(late.agent.state, "connected");
});

Deno.test("I8: triggered checks are first in, first out, and ahead of ordinary ones; the pacing is kept", () => {
  const rig = Rig.gathered();
  const ways = [1, 2, 3, 4].map((i) => TransportAddress.of("198.51.100.2", 6000 + i));
  ways.forEach((way, i) => rig.candidate(way, "host", 2130706431 - i));
  rig.remote();
  // The first left at once; the worst two are heard from.
  rig.request({ from: ways[3]! });
  rig.request({ from: ways[2]! });
  rig.advance(200);
  assertEquals(rig.requests.map(({ to, at }) => `${to.port} at ${at}`), [
    "6001 at 0",
    "6004 at 50",
    "6003 at 100",
    "6002 at 150",
  ]);
});

Deno.test("I8: a check of the peer's on a pair in progress cancels the repetition and triggers a new check", () => {
  const rig = Rig.checking();
  const first = rig.lastRequest();
  rig.advance(10);
  rig.request();
  assertEquals(rig.agent.pairs[0]!.state, "waiting");
  rig.advance(40);
  const second = rig.lastRequest();
  assertEquals(second.at, 50);
  assertNotEquals(second.message!.transactionKey, first.message!.transactionKey);
  rig.advance(1000);
  const repeated = rig.requests.filter(({ message }) => message!.transactionKey === first.message!.transactionKey);
  assertEquals(repeated.length, 1);
  // The answer to the cancelled check is still good.
  rig.succeed(first);
  assertEquals(rig.agent.state, "connected");
});

Deno.test("I8, I29: with a round trip of many slots, checks that trigger each other come to an end, and each answer counts", () => {
  const rig = Rig.checking();
  for (let i = 0; i < 40; i++) {
    rig.advance(50);
    rig.request();
  }
  // Four await their answers; the last is repeated like any other.
  assertEquals(rig.requests.map(({ at }) => at), [0, 50, 100, 150, 650, 1650]);
  rig.succeed(rig.requests[0]!);
  assertEquals(rig.agent.state, "connected");
});

Deno.test("I8: when the cancelled check is answered first, the triggered one is not sent", () => {
  const rig = Rig.checking();
  rig.advance(10);
  rig.request();
  rig.succeed(rig.requests[0]!);
  rig.advance(30);
  assertEquals(rig.requests.length, 1);
});

Deno.test("I8: no triggered check on a pair that has succeeded", () => {
  const rig = Rig.connected({ role: "controlled" });
  for (let i = 0; i < 10; i++) rig.request();
  rig.advance(3000);
  assertEquals([rig.requests.length, rig.answers.length], [0, 10]);
});

Deno.test("I8: a failed pair is checked again when the peer shows that there is a way", () => {
  const rig = Rig.checking();
  rig.refuse(rig.lastRequest(), 400);
  assertEquals(rig.agent.pairs[0]!.state, "failed");
  rig.advance(100);
  rig.request();
  rig.succeed(rig.lastRequest());
  assertEquals(rig.agent.state, "connected");
});

Deno.test("I22: an answer from another address, or on another socket, fails the pair", () => {
  const fromElsewhere = Rig.checking();
  fromElsewhere.succeed(fromElsewhere.lastRequest(), { from: OTHER });
  assertEquals(fromElsewhere.agent.pairs[0]!.state, "failed");
  const rig = new Rig();
  rig.agent.addHost(1, HOST, rig.io);
  rig.agent.addHost(2, TransportAddress.parse("192.0.2.99:5000"), rig.io);
  rig.candidate(PEER);
  rig.remote();
  rig.succeed(rig.requests[0]!, { socket: 2 });
  assertEquals(rig.agent.pairs.find(({ base }) => base.socket === 1)!.state, "failed");
});

Deno.test("I22: an older check that goes wrong does not fail a pair that has succeeded since", () => {
  for (const wrong of ["elsewhere", "refused"]) {
    const rig = Rig.checking();
    const first = rig.lastRequest();
    rig.request();
    rig.advance(50);
    rig.succeed(rig.lastRequest());
    if (wrong === "elsewhere") rig.succeed(first, { from: OTHER });
    else rig.refuse(first, 400);
    assertEquals(rig.agent.state, "connected");
  }
});

Deno.test("I22: a forged answer from another address fails nothing", () => {
  const rig = Rig.checking();
  rig.receive(rig.successBytes(rig.lastRequest(), { pwd: "wrongwrongwrongwrongwrong" }), OTHER);
  assertEquals(rig.agent.pairs[0]!.state, "in-progress");
});

Deno.test("A response without the mapped address is no answer", () => {
  const rig = Rig.checking();
  const bytes = rig.errorBytes(rig.lastRequest(), 400);
  // A success with the error's attributes.
  bytes[0] = 0x01;
  bytes[1] = 0x01;
  rig.receive(bytes);
  assertEquals([rig.agent.pairs[0]!.state, rig.agent.counters.responsesRefused], ["in-progress", 1]);
});

Deno.test("A response that comes too late, or twice, is counted and changes nothing", () => {
  const rig = Rig.checking();
  const check = rig.lastRequest();
  rig.succeed(check);
  rig.succeed(check);
  assertEquals(rig.agent.counters.responsesUnmatched, 1);
  assertEquals(rig.agent.pairs[0]!.counters.responsesReceived, 1);
});

Deno.test("RFC 8445 §7.2.5.2.3, §14.3: a check is sent seven times and given up 39.5 s after the first", () => {
  const rig = Rig.checking();
  rig.advance(39_499);
  assertEquals(rig.requests.map(({ at }) => at), [0, 500, 1500, 3500, 7500, 15_500, 31_500]);
  assertEquals(rig.agent.pairs[0]!.state, "in-progress");
  rig.advance(1);
  assertEquals(rig.agent.pairs[0]!.state, "failed");
});

Deno.test("I20: one check for each Ta, the first at once; RTO grows with the number of checks under way", () => {
  const rig = Rig.gathered();
  for (let i = 0; i < 30; i++) rig.candidate(TransportAddress.of("198.51.100.2", 6000 + i), "host", 2130706431 - i);
  rig.remote();
  rig.advance(2000);
  const firsts = rig.requests.slice(0, 30);
  assertEquals(firsts.map(({ at }) => at), Array.from({ length: 30 }, (_, i) => 50 * i));
  assertEquals(rig.agent.pairs[0]!.rto, 1500);
  // So every first transmission comes before any repetition (RFC 8445 §14.1).
  assertEquals(rig.requests[30]!.at, 1500);
});

Deno.test("I20: the larger of both proposals for Ta is used, 50 ms standing for no proposal", () => {
  const times = (ta: number | undefined, pacing: number | undefined) => {
    const rig = Rig.gathered(ta === undefined ? {} : { ta });
    for (let i = 0; i < 3; i++) rig.candidate(TransportAddress.of("198.51.100.2", 6000 + i));
    rig.remote(PEER_UFRAG, PEER_PWD, pacing === undefined ? {} : { pacing });
    rig.advance(400);
    return rig.requests.slice(0, 3).map(({ at }) => at);
  };
  assertEquals(times(undefined, undefined), [0, 50, 100]);
  assertEquals(times(5, undefined), [0, 50, 100]);
  assertEquals(times(5, 5), [0, 5, 10]);
  assertEquals(times(5, 20), [0, 20, 40]);
  assertEquals(times(undefined, 100), [0, 100, 200]);
  assertEquals(new Rig({ ta: 5 }).agent.localParameters.pacing, 5);
  assertEquals(new Rig().agent.localParameters.pacing, undefined);
});

Deno.test("I25: a trickled candidate that names another session is dropped, early ones as soon as it is known", () => {
  const rig = Rig.gathered();
  rig.candidate(TransportAddress.of("198.51.100.2", 1), "host", 1, " ufrag OLD");
  rig.candidate(TransportAddress.of("198.51.100.2", 2), "host", 1, ` ufrag ${PEER_UFRAG}`);
  assertEquals(rig.agent.remoteCandidates.length, 2);
  rig.remote();
  assertEquals(rig.agent.remoteCandidates.map(({ address }) => address.port), [2]);
  assertEquals(rig.agent.pairs.length, 1);
  assertEquals(rig.candidate(TransportAddress.of("198.51.100.2", 3), "host", 1, " ufrag OLD"), false);
});

Deno.test("Candidates that this agent cannot use are left out: TCP of an unknown type, names, RTCP, multicast, port 0, duplicates", () => {
  const rig = Rig.gathered();
  const lines = [
    "1 1 tcp 1518280447 198.51.100.2 9 typ host tcptype sideways",
    "1 1 udp 2113937151 8a1e1f0c-1f3d-4d9a-9d86-b8f2f6a1b1c2.local 60000 typ host",
    "1 2 udp 2130706430 198.51.100.2 6001 typ host",
    "1 1 udp 2130706431 224.0.0.1 6000 typ host",
    "1 1 udp 2130706431 198.51.100.2 0 typ host",
  ];
  for (const line of lines) assertEquals(rig.agent.addRemoteCandidate(parseCandidate(line), rig.io), false, line);
  assertEquals(rig.candidate(PEER), true);
  assertEquals(rig.candidate(PEER, "srflx", 1), false);
  assertEquals(rig.agent.remoteCandidates.length, 1);
});

Deno.test("I33, RFC 8445 §6.1.2.2: pairs have one address family, link-local only with link-local", () => {
  const rig = new Rig();
  ["192.0.2.1:1", "[2001:db8::1]:1", "[fe80::1]:1"].forEach((text, i) =>
    rig.agent.addHost(i + 1, TransportAddress.parse(text), rig.io)
  );
  for (const text of ["192.0.2.2:2", "[2001:db8::2]:2", "[fe80::2]:2"]) rig.candidate(TransportAddress.parse(text));
  const pairs = rig.agent.pairs.map(({ base, remote }) =>
    `${base.candidate.address.address} ${remote.address.address}`
  );
  assertEquals(pairs.sort(), ["192.0.2.1 192.0.2.2", "2001:db8::1 2001:db8::2", "fe80::1 fe80::2"]);
});

Deno.test("A removed socket takes its pairs with it; the others go on", () => {
  const rig = new Rig();
  rig.agent.addHost(1, HOST, rig.io);
  rig.agent.addHost(2, TransportAddress.parse("192.0.2.99:5000"), rig.io);
  rig.candidate(PEER);
  rig.remote();
  rig.succeed(rig.requests[0]!);
  assertEquals(rig.agent.selectedPair?.base.socket, 1);
  rig.agent.removeSocket(1, rig.io);
  assertEquals([rig.agent.selectedPair, rig.agent.state], [undefined, "checking"]);
  rig.advance(50);
  rig.succeed(rig.lastRequest(), { mapped: TransportAddress.parse("192.0.2.99:5000") });
  assertEquals([rig.agent.selectedPair?.base.socket, rig.agent.state], [2, "connected"]);
  assert(rig.agent.localCandidates.every(({ socket }) => socket === 2));
});

Deno.test("I8: a repetition of a check of the peer's is answered, and triggers nothing anew", () => {
  const rig = Rig.checking();
  const check = rig.requestBytes();
  rig.advance(100);
  rig.receive(check);
  const [, triggered] = rig.requests;
  assertEquals([rig.requests.length, triggered!.at], [2, 100]);
  rig.advance(300);
  rig.receive(check);
  // By another way the same bytes are another check.
  rig.receive(check, OTHER);
  rig.advance(100);
  assertEquals(rig.requests.slice(2).map(({ to, at }) => [String(to), at]), [[String(OTHER), 400]]);
  assertEquals(rig.answers.map(({ message }) => message!.class), ["success", "success", "success"]);
  // What the nomination waits for is counted from the first.
  const pair = rig.agent.pairs.find(({ remote }) => remote.address.equals(PEER))!;
  assertEquals([pair.checkedAt, pair.counters.requestsReceived], [100, 2]);
});

Deno.test("I8: the repetition of a check that came before the peer's credentials triggers nothing anew, either", () => {
  const rig = Rig.gathered();
  const check = rig.requestBytes();
  rig.receive(check);
  rig.remote();
  rig.advance(100);
  rig.receive(check);
  rig.advance(100);
  assertEquals(rig.requests.map(({ at }) => at), [0]);
  assertEquals(rig.answers.length, 2);
});

Deno.test("RFC 8489 §6.2.1: the answer to a cancelled check that was sent once gives the round trip", () => {
  const rig = Rig.checking();
  rig.request();
  rig.advance(30);
  rig.succeed(rig.lastRequest());
  assertEquals([rig.requests.length, rig.agent.pairs[0]!.rtt], [1, 30]);
});
