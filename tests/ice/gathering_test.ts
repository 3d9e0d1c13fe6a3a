import { assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { ERROR_CODE_ATTRIBUTE, MAPPED_ADDRESS, XOR_MAPPED_ADDRESS } from "../../stun/attributes.ts";
import { MessageWriter } from "../../stun/message.ts";
import { HOST, PEER, Rig, type Sent } from "./rig.ts";

const STUN = TransportAddress.parse("198.51.100.1:3478");
const STUN2 = TransportAddress.parse("198.51.100.3:3478");
const MAPPED = TransportAddress.parse("203.0.113.1:40000");

function answer(rig: Rig, request: Sent, mapped = MAPPED, attribute = XOR_MAPPED_ADDRESS): void {
  const bytes = new MessageWriter(new Uint8Array(100)).beginResponse(request.message!, "success").add(attribute, mapped)
    .finish();
  rig.receive(bytes, request.to, request.socket);
}

function gathering(...servers: TransportAddress[]): Rig {
  const rig = new Rig();
  rig.agent.addHost(1, HOST, rig.io);
  for (const server of servers) rig.agent.addStunServer(server, rig.io, `stun:${server}`);
  rig.agent.endOfLocalCandidates(rig.io);
  return rig;
}

function isDone(rig: Rig): boolean {
  return rig.eventTypes().includes("gathering-done");
}

Deno.test("RFC 8445 §5.1.1.2: a Binding request from the host socket gives a server-reflexive candidate", () => {
  const rig = gathering(STUN);
  const [request] = rig.sent;
  assertEquals([String(request!.to), request!.socket, request!.bytes.length, request!.at], [String(STUN), 1, 20, 0]);
  rig.advance(30);
  answer(rig, request!);
  const [, candidate] = rig.agent.localCandidates;
  assertEquals([candidate!.type, String(candidate!.address), String(candidate!.base)], [
    "srflx",
    String(MAPPED),
    String(HOST),
  ]);
  assertEquals([String(candidate!.relatedAddress), candidate!.priority], [String(HOST), 1694498815]);
  assertEquals(rig.eventTypes(), ["local-candidate", "local-candidate", "gathering-done"]);
});

Deno.test("RFC 8445 §5.1.1.2: a server of RFC 3489 answers MAPPED-ADDRESS only", () => {
  const rig = gathering(STUN);
  answer(rig, rig.sent[0]!, MAPPED, MAPPED_ADDRESS);
  assertEquals(rig.agent.localCandidates.length, 2);
});

Deno.test("RFC 8445 §5.1.3: without a NAT the server-reflexive candidate is redundant", () => {
  const rig = gathering(STUN);
  answer(rig, rig.sent[0]!, HOST);
  assertEquals([rig.agent.localCandidates.length, isDone(rig)], [1, true]);
});

Deno.test("I20: gathering and checks share one pacing, in turn", () => {
  const rig = new Rig();
  rig.agent.addHost(1, HOST, rig.io);
  for (let i = 0; i < 3; i++) rig.agent.addStunServer(TransportAddress.of("198.51.100.1", 3478 + i), rig.io);
  for (let i = 0; i < 3; i++) rig.candidate(TransportAddress.of("198.51.100.2", 6000 + i), "host", 2130706431 - i);
  rig.remote();
  rig.advance(250);
  assertEquals(rig.sent.map(({ to, at }) => `${to.port} at ${at}`), [
    "3478 at 0",
    "6000 at 50",
    "3479 at 100",
    "6001 at 150",
    "3480 at 200",
    "6002 at 250",
  ]);
});

Deno.test("I20: where there is something to check, the check takes the first turn, and the server the next", () => {
  const rig = new Rig();
  rig.candidate(PEER);
  rig.remote();
  rig.agent.addStunServer(STUN, rig.io);
  rig.agent.addHost(1, HOST, rig.io);
  rig.advance(50);
  assertEquals(rig.sent.map(({ to, at }) => `${to} at ${at}`), [`${PEER} at 0`, `${STUN} at 50`]);
});

Deno.test("I34: other servers have shown how long an answer takes: a silent one gets the time for two transmissions", () => {
  const rig = gathering(STUN);
  rig.advance(200);
  rig.agent.expectAnswersWithin(300, rig.io);
  rig.advance(599);
  assertEquals([rig.sent.map(({ at }) => at), isDone(rig)], [[0, 500], false]);
  rig.advance(1);
  assertEquals(isDone(rig), true);
});

Deno.test("I34: a dead server is given up after three transmissions and 3.5 s, with one error", () => {
  const rig = gathering(STUN);
  rig.advance(3499);
  assertEquals(rig.sent.map(({ at }) => at), [0, 500, 1500]);
  assertEquals(isDone(rig), false);
  rig.advance(1);
  assertEquals(isDone(rig), true);
  const errors = rig.events.filter((event) => event.type === "gathering-error");
  assertEquals(errors, [{
    type: "gathering-error",
    url: `stun:${STUN}`,
    server: STUN,
    text: `No answer from STUN server stun:${STUN} (${STUN})`,
  }]);
});

Deno.test("I34: once one server has answered, the others get the time for two transmissions", () => {
  const rig = gathering(STUN, STUN2);
  rig.advance(20);
  answer(rig, rig.sent[0]!);
  rig.advance(10_000);
  // The second was asked at 50: its repetition at 550, and three round trips of 20 ms for the answer.
  assertEquals(rig.sent.filter(({ to }) => to.equals(STUN2)).map(({ at }) => at), [50, 550]);
  assertEquals(rig.eventTypes().slice(2), ["gathering-error", "gathering-done"]);
});

Deno.test("I34: a slow server delays neither candidates of others nor checks", () => {
  const rig = gathering(STUN, STUN2);
  rig.candidate(PEER);
  rig.remote();
  rig.advance(100);
  answer(rig, rig.sent.find(({ to }) => to.equals(STUN2))!);
  assertEquals(rig.agent.localCandidates.length, 2);
  rig.succeed(rig.sent.find(({ to }) => to.equals(PEER))!);
  assertEquals(rig.agent.state, "connected");
});

Deno.test("A server that refuses is reported with its code", () => {
  const rig = gathering(STUN);
  const bytes = new MessageWriter(new Uint8Array(100)).beginResponse(rig.sent[0]!.message!, "error")
    .add(ERROR_CODE_ATTRIBUTE, { code: 500, reason: "Busy" }).finish();
  rig.receive(bytes, STUN);
  const error = rig.events.find((event) => event.type === "gathering-error")!;
  assertEquals([error.code, error.text], [500, `STUN server stun:${STUN} (${STUN}) answered 500 Busy`]);
  assertEquals(isDone(rig), true);
});

Deno.test("RFC 8445 §5.1.1.4: the binding behind a server-reflexive candidate is kept alive until ICE is over", () => {
  const rig = gathering(STUN);
  answer(rig, rig.sent[0]!);
  rig.advance(60_000);
  for (const request of rig.sent) answer(rig, request);
  assertEquals(rig.sent.filter(({ to }) => to.equals(STUN)).length > 3, true);
  assertEquals(rig.agent.localCandidates.length, 2);
  rig.candidate(PEER);
  rig.remote();
  rig.advance(100);
  const check = () => rig.requests.findLast(({ to }) => to.equals(PEER))!;
  rig.succeed(check());
  rig.advance(60);
  rig.succeed(check());
  assertEquals(rig.agent.state, "completed");
  rig.sent.length = 0;
  rig.advance(29_000);
  assertEquals(rig.sent.filter(({ to }) => to.equals(STUN)).length, 0);
});

Deno.test("The other family's server, and one beyond a loopback or link-local address, is not asked", () => {
  const rig = new Rig();
  ["127.0.0.1:1", "[::1]:1", "[fe80::1]:1"].forEach((text, i) =>
    rig.agent.addHost(i + 1, TransportAddress.parse(text), rig.io)
  );
  rig.agent.addStunServer(STUN, rig.io);
  rig.agent.addStunServer(TransportAddress.parse("[2001:db8::53]:3478"), rig.io);
  rig.agent.endOfLocalCandidates(rig.io);
  assertEquals([rig.sent.length, isDone(rig)], [0, true]);
  const local = new Rig();
  local.agent.addHost(1, TransportAddress.parse("127.0.0.1:1"), local.io);
  local.agent.addStunServer(TransportAddress.parse("127.0.0.1:3478"), local.io);
  assertEquals(local.sent.length, 1);
});

Deno.test("I38: no server is asked that was not named", () => {
  const rig = Rig.gathered();
  rig.advance(60_000);
  assertEquals(rig.sent, []);
});

Deno.test("A relay's candidate tells relayed, mapped and server address, and gathering ends without waiting for it", () => {
  const rig = new Rig();
  const relayed = TransportAddress.parse("198.51.100.9:50000");
  rig.agent.addRelay(3, { address: relayed, mapped: MAPPED, server: STUN }, rig.io);
  rig.agent.endOfLocalCandidates(rig.io);
  const [candidate] = rig.agent.localCandidates;
  assertEquals([candidate!.type, String(candidate!.address), String(candidate!.relatedAddress)], [
    "relay",
    String(relayed),
    String(MAPPED),
  ]);
  assertEquals(isDone(rig), true);
});
