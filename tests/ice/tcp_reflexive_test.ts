// Server-reflexive TCP candidates (RFC 6544 §5.2): what STUN servers see of the ports of simultaneous open.
import { assertEquals } from "@std/assert";
import { formatCandidate, parseCandidate as parse } from "../../ice/sdp.ts";
import { TransportAddress } from "../../stun/address.ts";
import { XOR_MAPPED_ADDRESS } from "../../stun/attributes.ts";
import { MessageWriter } from "../../stun/message.ts";
import { Rig, type Sent } from "./rig.ts";

const HOME = TransportAddress.parse("192.168.1.2:7000");
const SEEN = TransportAddress.parse("203.0.113.1:40000");
const SERVER = TransportAddress.parse("198.51.100.1:3478");

/** An agent with a port for simultaneous open behind a NAT, and a server: the connection to it is being made. */
function asking(): Rig {
  const rig = new Rig();
  rig.agent.addTcp({ tcpType: "so", address: HOME, socket: 8, isUntold: true }, rig.io);
  rig.agent.addTcpStunServer(SERVER, rig.io);
  rig.agent.addTcpStunServer(SERVER, rig.io);
  rig.agent.endOfLocalCandidates(rig.io);
  return rig;
}

function answer(rig: Rig, { message }: Sent, mapped?: TransportAddress): void {
  const writer = new MessageWriter(new Uint8Array(100)).beginResponse(
    message!,
    mapped === undefined ? "error" : "success",
  );
  if (mapped !== undefined) writer.add(XOR_MAPPED_ADDRESS, mapped);
  rig.receive(writer.finish().slice(), SERVER, 100);
}

const lines = (rig: Rig) => rig.agent.localDescription.candidates.map(formatCandidate);

Deno.test("RFC 6544 §5.2, I36: a server is asked from the port of simultaneous open, and tells what the NAT makes of it", () => {
  const rig = asking();
  assertEquals(rig.opened.map(({ wish }) => wish), [
    { transport: "tcp", remote: SERVER, address: "192.168.1.2", port: 7000, timeout: 3500 },
  ]);
  assertEquals([rig.sent.length, rig.agent.isGatheringDone, lines(rig)], [0, false, []]);
  rig.agent.handleOpened(100, HOME, rig.io);
  assertEquals(rig.sent.map(({ socket, to }) => [socket, to]), [[100, SERVER]]);
  answer(rig, rig.lastRequest(), SEEN);
  assertEquals(lines(rig), [
    "candidate:2 1 tcp 1189085183 203.0.113.1 40000 typ srflx raddr 0.0.0.0 rport 9 tcptype so",
  ]);
  assertEquals([rig.agent.isGatheringDone, rig.closed], [true, []]);
});

Deno.test("RFC 6544 §6.2, I36: the port that nobody is told of checks, and leaves from where the server has seen it", () => {
  const rig = asking();
  rig.agent.handleOpened(100, HOME, rig.io);
  answer(rig, rig.lastRequest(), SEEN);
  const remote = TransportAddress.parse("203.0.113.2:50000");
  const line = `1 1 tcp 1189085183 ${remote.address} ${remote.port} typ srflx raddr 0.0.0.0 rport 9 tcptype so`;
  rig.remote();
  rig.agent.addRemoteCandidate(parse(line), rig.io);
  rig.agent.endOfCandidates(rig.io);
  rig.advance(50);
  assertEquals(rig.opened[1]!.wish, {
    ...{ transport: "tcp", remote, address: "192.168.1.2", port: 7000, framing: "rfc4571", timeout: 20_000 },
  });
  rig.agent.handleOpened(101, HOME, rig.io);
  rig.receive(rig.successBytes(rig.lastRequest(), { mapped: SEEN }), remote, 101);
  assertEquals(String(rig.agent.selectedPair), "203.0.113.1:40000 tcp srflx -> 203.0.113.2:50000 tcp srflx");
  // What kept the NAT's mapping is not needed any more when a pair is nominated.
  rig.advance(100);
  rig.receive(rig.successBytes(rig.lastRequest(), { mapped: SEEN }), remote, 101);
  assertEquals([rig.agent.state, rig.closed], ["completed", [100]]);
});

Deno.test("I36: a server that refuses, ends, is not there or is silent gives nothing, and holds gathering up for 3.5 s at most", () => {
  const refused = asking();
  refused.agent.handleOpenFailed(100, "refused", refused.io);
  assertEquals([refused.agent.isGatheringDone, lines(refused)], [true, []]);

  const wrong = asking();
  wrong.agent.handleOpened(100, HOME, wrong.io);
  answer(wrong, wrong.lastRequest());
  assertEquals([wrong.agent.isGatheringDone, lines(wrong), wrong.closed], [true, [], [100]]);

  const ended = asking();
  ended.agent.handleOpened(100, HOME, ended.io);
  ended.agent.handleClosed(100, "end", ended.io);
  assertEquals([ended.agent.isGatheringDone, lines(ended)], [true, []]);

  const silent = asking();
  silent.advance(3499);
  assertEquals(silent.agent.isGatheringDone, false);
  silent.advance(1);
  assertEquals([silent.agent.isGatheringDone, silent.closed], [true, [100]]);

  const slow = asking();
  slow.agent.expectAnswersWithin(100, slow.io);
  slow.advance(1100);
  assertEquals([slow.agent.isGatheringDone, slow.closed], [true, [100]]);
});

Deno.test("I36: closing, a restart and the loss of its socket close the connection to a server", () => {
  for (const end of ["close", "restart", "remove"] as const) {
    const rig = asking();
    rig.agent.handleOpened(100, HOME, rig.io);
    if (end === "close") rig.agent.close(rig.io);
    else if (end === "restart") rig.agent.restart(rig.io);
    else rig.agent.removeSocket(8, rig.io);
    assertEquals(rig.closed, [100], end);
  }
});
