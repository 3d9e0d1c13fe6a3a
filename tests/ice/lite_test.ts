// Lite agents (RFC 8445 §2.5, RFC 8839 §5.3), on our side, on the peer's, on both.
import { assert, assertEquals } from "@std/assert";
import { ERROR_CODE_ATTRIBUTE } from "../../stun/attributes.ts";
import { TransportAddress } from "../../stun/address.ts";
import { ICE_CONTROLLING } from "../../ice/attributes.ts";
import { formatDescription, parseDescription } from "../../ice/sdp.ts";
import { meet } from "./meeting.ts";
import { PEER, PEER_PWD, PEER_UFRAG, Rig } from "./rig.ts";

const OTHER = TransportAddress.parse("203.0.113.9:7777");
const LITE = { lite: true, role: "controlled" } as const;

Deno.test("I13: a lite agent never sends a check, and takes the peer's nomination on a pair that it has not known", () => {
  const rig = Rig.checking(LITE);
  rig.advance(1000);
  rig.request({ from: OTHER });
  rig.advance(1000);
  assertEquals([rig.requests.length, rig.agent.state], [0, "checking"]);
  rig.request({ from: OTHER, useCandidate: true });
  const { selectedPair, state } = rig.agent;
  assertEquals([state, String(selectedPair!.remote.address), selectedPair!.nominated], [
    "completed",
    String(OTHER),
    true,
  ]);
  assertEquals(rig.agent.send(new Uint8Array([200]), rig.io), true);
  assertEquals(rig.answers.map(({ message }) => message!.class), ["success", "success"]);
  rig.advance(10_000);
  assertEquals(rig.requests.length, 0);
});

Deno.test("RFC 8445 §5.2: a lite agent has host candidates only, and says that it is lite", () => {
  const rig = Rig.gathered(LITE);
  rig.agent.addStunServer(OTHER, rig.io);
  rig.agent.addRelay(2, { address: OTHER }, rig.io);
  assertEquals([rig.agent.localCandidates.map(({ type }) => type), rig.sent.length], [["host"], 0]);
  const text = formatDescription(rig.agent.localDescription);
  assert(text.startsWith("a=ice-lite\r\n"));
  assertEquals(parseDescription(text).parameters!.lite, true);
});

Deno.test("RFC 8445 §6.1.1: with a full peer a lite agent is controlled; a peer that has not understood gets 487", () => {
  for (const role of ["controlling", "controlled", "auto"] as const) {
    const rig = Rig.gathered({ lite: true, role, tieBreaker: 9n });
    rig.request({ role: "controlled", tieBreaker: 0n });
    assertEquals(rig.lastAnswer().get(ERROR_CODE_ATTRIBUTE)?.code, 487);
    rig.remote();
    assertEquals(rig.agent.role, "controlled");
    rig.request({ role: "controlled", tieBreaker: 0n });
    assertEquals(rig.lastAnswer().get(ERROR_CODE_ATTRIBUTE)?.code, 487);
    rig.request({ role: "controlling", useCandidate: true });
    assertEquals(rig.agent.state, "completed");
  }
});

Deno.test("I3, I13: a nomination that comes before the peer's credentials counts when they come", () => {
  const rig = Rig.gathered(LITE);
  rig.request({ useCandidate: true, role: "controlling" });
  assertEquals(rig.agent.state, "new");
  rig.remote();
  assertEquals([rig.agent.state, rig.requests.length], ["completed", 0]);
});

Deno.test("I1, I27: a lite agent takes neither nominations nor data of strangers", () => {
  const rig = Rig.checking(LITE);
  rig.request({ useCandidate: true, pwd: "wrongwrongwrongwrongwrong" });
  rig.receive(new Uint8Array([200, 1]));
  assertEquals([rig.agent.state, rig.delivered.length], ["checking", 0]);
  rig.request();
  rig.receive(new Uint8Array([200, 2]));
  assertEquals(rig.delivered.length, 1);
  assertEquals(rig.agent.send(new Uint8Array(1), rig.io), false);
});

Deno.test("RFC 7675 §1: a lite agent does not ask for consent; it stops 30 s after the peer's latest check", () => {
  const rig = Rig.checking(LITE);
  rig.request({ useCandidate: true });
  for (let i = 0; i < 10; i++) {
    rig.advance(25_000);
    rig.request();
  }
  assertEquals(rig.agent.state, "completed");
  rig.advance(29_999);
  assertEquals(rig.agent.state, "completed");
  rig.advance(1);
  assertEquals([rig.agent.state, rig.requests.length], ["failed", 0]);
});

Deno.test("RFC 8445 §8.2: two lite agents take the pair that ranks first, without a check, when all candidates are known", () => {
  const rig = Rig.gathered(LITE);
  rig.candidate(OTHER, "host", 1000);
  rig.remote(PEER_UFRAG, PEER_PWD, { lite: true });
  // Without the option trickle there are no more candidates to come.
  assertEquals([rig.agent.state, String(rig.agent.selectedPair!.remote.address)], ["completed", String(OTHER)]);
  const trickling = Rig.gathered({ ...LITE, role: "auto" });
  const parameters = { ufrag: PEER_UFRAG, pwd: PEER_PWD, options: ["ice2", "trickle"], lite: true };
  trickling.agent.setRemoteParameters(parameters, trickling.io);
  trickling.candidate(OTHER, "host", 1000);
  assertEquals(trickling.agent.state, "checking");
  trickling.candidate(PEER, "host", 2000);
  trickling.agent.endOfCandidates(trickling.io);
  assertEquals(String(trickling.agent.selectedPair!.remote.address), String(PEER));
  trickling.advance(3_600_000);
  assertEquals([trickling.agent.state, trickling.sent.length], ["completed", 0]);
  assertEquals(trickling.agent.send(new Uint8Array([200]), trickling.io), true);
});

Deno.test("RFC 8445 §6.1.1: a lite peer is controlled: its 487 does not take control from us", () => {
  const rig = Rig.gathered({ role: "controlled" });
  rig.candidate(PEER);
  rig.remote(PEER_UFRAG, PEER_PWD, { lite: true });
  assertEquals(rig.lastRequest().message!.has(ICE_CONTROLLING), true);
  rig.refuse(rig.lastRequest(), 487);
  assertEquals([rig.agent.role, rig.agent.pairs[0]!.state], ["controlling", "failed"]);
});

Deno.test("I13: a lite agent and a full one behind a NAT: nominated by the full one, data both ways, and a restart", async () => {
  for (const role of ["controlling", "controlled", "auto"] as const) {
    const full = { role, type: "symmetric" } as const;
    await meet({ a: { lite: true, role: "controlling" }, b: full }, async (meeting) => {
      const { a, b, world } = meeting;
      await meeting.exchange();
      const [pair] = await Promise.all([a.connection.nominated, b.connection.nominated]);
      assertEquals([a.connection.role, b.connection.role], ["controlled", "controlling"]);
      assertEquals([pair.local.type, pair.remote.type, a.connection.stats().localCandidates.length], [
        "host",
        "prflx",
        1,
      ]);
      for (const [from, to] of [[a, b], [b, a]] as const) {
        assertEquals(from.connection.send(new Uint8Array([200])), true);
        assertEquals((await to.connection[Symbol.asyncIterator]().next()).value, new Uint8Array([200]));
      }
      b.connection.addRemoteDescription(await a.connection.restart());
      a.connection.addRemoteDescription(await b.connection.localDescription());
      await new Promise<void>((resolve) => world.after(60_000, resolve));
      assertEquals([a.connection.state, b.connection.state], ["completed", "completed"]);
      assertEquals(a.connection.selectedPair!.counters.requestsSent, 0);
      assertEquals(a.events.filter(({ type }) => type === "nominated").length, 2);
    });
  }
});

Deno.test("RFC 8445 §8.2: a lite agent and a lite agent: not one check", async () => {
  await meet({ a: { lite: true, servers: "none" }, b: { lite: true, servers: "none" } }, async (meeting) => {
    const { a, b } = meeting;
    await meeting.exchange();
    await Promise.all([a.connection.nominated, b.connection.nominated]);
    a.connection.send(new Uint8Array([200]));
    assertEquals((await b.connection[Symbol.asyncIterator]().next()).value, new Uint8Array([200]));
    assertEquals([a.host.counters.sent, b.host.counters.sent], [1, 0]);
  });
});
