// ICE restarts (RFC 8445 §9).
import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { ERROR_CODE_ATTRIBUTE, USERNAME } from "../../stun/attributes.ts";
import { USE_CANDIDATE } from "../../ice/attributes.ts";
import { connectIce } from "../../ice/connect.ts";
import { IceError } from "../../ice/error.ts";
import { parseCandidate } from "../../ice/sdp.ts";
import { meet, type Meeting } from "./meeting.ts";
import { PEER, Rig } from "./rig.ts";

const NEW_UFRAG = "NEWPEER";
const NEW_PWD = "newnewnewnewnewnewnewnew";

/** Restarted after its nomination, by itself; the peer's answer is still to come. */
function restarted(): { rig: Rig; before: { ufrag: string; pwd: string } } {
  const rig = Rig.completed();
  const before = rig.agent.localParameters;
  rig.agent.restart(rig.io);
  rig.agent.endOfLocalCandidates(rig.io);
  return { rig, before };
}

Deno.test("RFC 8445 §9: a restart makes new credentials, tells them first and then the candidates, and keeps the role", () => {
  const rig = Rig.completed({ ufrag: "OLDONE", pwd: "oldoldoldoldoldoldoldoldold" });
  rig.events.length = 0;
  rig.agent.restart(rig.io);
  rig.agent.endOfLocalCandidates(rig.io);
  const { ufrag, pwd } = rig.agent.localParameters;
  assertNotEquals(ufrag, "OLDONE");
  assertEquals([ufrag.length, pwd.length], [8, 24]);
  assertEquals(rig.eventTypes(), ["restart", "local-candidate", "state connected", "gathering-done"]);
  assertEquals(rig.agent.role, "controlling");
  assertEquals(rig.agent.localDescription.parameters, rig.agent.localParameters);
  assertEquals(rig.agent.localDescription.candidates.length, 1);
});

Deno.test("I24: after a restart the old pair carries data both ways, and the peer's old credentials are answered", () => {
  const { rig, before } = restarted();
  const pair = rig.agent.selectedPair!;
  assertEquals(rig.agent.send(new Uint8Array([200, 1]), rig.io), true);
  rig.receive(new Uint8Array([200, 2]));
  assertEquals([rig.sent.length, rig.delivered.length], [1, 1]);
  rig.request({ username: `${before.ufrag}:PEER`, pwd: before.pwd });
  assertEquals(rig.lastAnswer().class, "success");
  // Consent goes on with the credentials that it is for.
  rig.advance(6000);
  const consent = rig.lastRequest();
  assertEquals(consent.message!.get(USERNAME), `PEER:${before.ufrag}`);
  rig.succeed(consent);
  assertEquals([rig.agent.selectedPair, rig.agent.state], [pair, "connected"]);
});

Deno.test("I24: a valid pair is not taken before it is nominated; then it takes over, and the old checks are answered for 3 s", () => {
  const { rig, before } = restarted();
  const old = rig.agent.selectedPair!;
  rig.candidate(PEER);
  rig.remote(NEW_UFRAG, NEW_PWD);
  rig.agent.endOfCandidates(rig.io);
  const answer = () => rig.receive(rig.successBytes(rig.lastRequest(), { pwd: NEW_PWD }));
  rig.advance(60);
  assertEquals(rig.lastRequest().message!.get(USERNAME), `${NEW_UFRAG}:${rig.agent.localParameters.ufrag}`);
  answer();
  assertEquals(rig.agent.selectedPair, old);
  rig.advance(60);
  assertEquals(rig.lastRequest().message!.has(USE_CANDIDATE), true);
  rig.events.length = 0;
  answer();
  assertEquals(rig.eventTypes(), ["nominated", "selected-pair", "state completed"]);
  assertNotEquals(rig.agent.selectedPair, old);
  assert(rig.agent.selectedPair!.id > old.id);
  const ask = () => {
    rig.request({ username: `${before.ufrag}:PEER`, pwd: before.pwd });
    return rig.lastAnswer().get(ERROR_CODE_ATTRIBUTE)?.code ?? "success";
  };
  rig.advance(2999);
  assertEquals(ask(), "success");
  rig.advance(1);
  assertEquals(ask(), 401);
});

Deno.test("RFC 8445 §9: other credentials of the peer's are its restart, answered by ours; the same ones again are none", () => {
  const rig = Rig.completed({ role: "controlled" });
  const { ufrag } = rig.agent.localParameters;
  const description = { candidates: [], endOfCandidates: false, ignored: [] };
  rig.agent.addRemoteDescription({ ...description, parameters: rig.agent.remoteParameters! }, rig.io);
  assertEquals(rig.agent.localParameters.ufrag, ufrag);
  const pair = rig.agent.selectedPair;
  const candidates = [parseCandidate("1 1 udp 2130706431 198.51.100.2 6000 typ host")];
  rig.agent.addRemoteDescription(
    { ...description, candidates, parameters: { ufrag: NEW_UFRAG, pwd: NEW_PWD } },
    rig.io,
  );
  const now = rig.agent.localParameters.ufrag;
  assertNotEquals(now, ufrag);
  assertEquals([rig.agent.role, rig.agent.selectedPair], ["controlled", pair]);
  rig.advance(50);
  assertEquals(rig.lastRequest().message!.get(USERNAME), `${NEW_UFRAG}:${now}`);
  // What was signalled before the restart may come again.
  rig.agent.addRemoteDescription({ ...description, parameters: { ufrag: "PEER", pwd: "x".repeat(24) } }, rig.io);
  assertEquals(rig.agent.localParameters.ufrag, now);
});

Deno.test("RFC 8445 §9: when both restart at once, that is one restart", () => {
  const { rig } = restarted();
  const { ufrag } = rig.agent.localParameters;
  rig.remote(NEW_UFRAG, NEW_PWD);
  assertEquals(rig.agent.localParameters.ufrag, ufrag);
  assertEquals(rig.events.filter(({ type }) => type === "restart").length, 1);
});

Deno.test("I25: a candidate of the peer's next generation is kept for it, one of the generation before is dropped", () => {
  const rig = Rig.completed();
  assertEquals(rig.candidate(PEER, "host", 2130706431, ` ufrag ${NEW_UFRAG}`), false);
  rig.remote(NEW_UFRAG, NEW_PWD);
  assertEquals(rig.agent.remoteCandidates.map(({ address }) => String(address)), [String(PEER)]);
  assertEquals(rig.candidate(PEER, "srflx", 1000, " ufrag PEER"), false);
  assertEquals(rig.agent.remoteCandidates.length, 1);
  for (let port = 1; port < 1000; port++) {
    rig.agent.addRemoteCandidate(parseCandidate(`1 1 udp 9 192.0.2.9 ${port} typ host ufrag THIRD`), rig.io);
  }
  rig.remote("THIRD", NEW_PWD);
  assertEquals(rig.agent.remoteCandidates.length, 100);
});

Deno.test("I25: the end of candidates that was under way when we restarted does not end those of the next generation", () => {
  const { rig } = restarted();
  rig.agent.endOfCandidates(rig.io);
  rig.remote(NEW_UFRAG, NEW_PWD);
  assertEquals(rig.candidate(PEER), true);
  rig.agent.endOfCandidates(rig.io);
  assertEquals(rig.candidate(PEER), false);
});

Deno.test("I24: a second restart before anything came of the first keeps the pair that works", () => {
  const { rig } = restarted();
  const pair = rig.agent.selectedPair;
  rig.agent.restart(rig.io);
  assertEquals([rig.agent.selectedPair, rig.agent.send(new Uint8Array(1), rig.io)], [pair, true]);
});

Deno.test("I24: when the old pair falls silent and the new checks fail too, it has failed; a restart can help", () => {
  const { rig } = restarted();
  rig.remote(NEW_UFRAG, NEW_PWD);
  rig.candidate(PEER);
  rig.agent.endOfCandidates(rig.io);
  rig.advance(80_000);
  assertEquals(rig.agent.state, "failed");
  rig.agent.restart(rig.io);
  rig.candidate(PEER);
  rig.remote("THIRD", NEW_PWD);
  rig.receive(rig.successBytes(rig.lastRequest(), { pwd: NEW_PWD }));
  assertEquals(rig.agent.state, "connected");
});

/** Datagrams both ways every 5 ms while both sides restart; gives how many were sent and received. */
async function stream({ a, b, world }: Meeting, restart: () => Promise<void>): Promise<[number, number]> {
  let isOver = false;
  let sent = 0;
  let received = 0;
  const tick = () => {
    if (isOver) return;
    for (const { connection } of [a, b]) if (connection.send(new Uint8Array([200, sent]))) sent++;
    world.after(5, tick);
  };
  const readers = [a, b].map(async ({ connection }) => {
    try {
      for await (const _ of connection) received++;
    } catch { /* It was closed. */ }
  });
  tick();
  await restart();
  await new Promise<void>((resolve) => world.after(5000, resolve));
  isOver = true;
  await new Promise<void>((resolve) => world.after(1000, resolve));
  await Promise.all([a.connection.close(), b.connection.close()]);
  await Promise.all(readers);
  return [sent, received];
}

Deno.test("I24: no datagram is lost in a restart: direct, through NATs, and over relays", async () => {
  for (const type of ["open", "port restricted cone", "symmetric"] as const) {
    await meet({ a: { type }, b: { type } }, async (meeting) => {
      const { a, b } = meeting;
      await meeting.exchange();
      await Promise.all([a.connection.nominated, b.connection.nominated]);
      const before = a.connection.selectedPair!;
      const [sent, received] = await stream(meeting, async () => {
        const description = await a.connection.restart();
        b.connection.addRemoteDescription(description);
        a.connection.addRemoteDescription(await b.connection.localDescription());
      });
      assert(sent > 2000);
      assertEquals(received, sent, type);
      const nominated = [a, b].map(({ events }) => events.filter((event) => event.type === "nominated").length);
      assertEquals(nominated, [2, 2], type);
      assert(
        a.events.some((event) => event.type === "selected-pair" && event.pair !== before && event.pair !== undefined),
      );
    });
  }
});

Deno.test("connectIce(): a restart goes over the signaling by itself, whichever side begins", async () => {
  await meet({}, async ({ a, b, world }) => {
    const [one, other] = [new TransformStream<string>(), new TransformStream<string>()];
    const signalingOf = (out: TransformStream<string>, receive: TransformStream<string>) => {
      const writer = out.writable.getWriter();
      return { send: (text: string) => writer.write(text), receive: receive.readable };
    };
    let count = 0;
    const onEvent = ({ type }: { type: string }) => void (count += Number(type === "nominated"));
    const both = { ta: 5, onEvent };
    const [alice, bob] = await Promise.all([
      connectIce({ ...both, host: a.host, role: "controlling", signaling: signalingOf(one, other) }),
      connectIce({ ...both, host: b.host, role: "controlled", signaling: signalingOf(other, one) }),
    ]);
    await Promise.all([alice.nominated, bob.nominated]);
    for (const side of [bob, alice]) {
      const before = alice.localParameters.ufrag;
      await side.restart();
      await new Promise<void>((resolve) => world.after(2000, resolve));
      assertNotEquals(alice.localParameters.ufrag, before);
      assertEquals([alice.state, bob.state], ["completed", "completed"]);
    }
    assertEquals(count, 6);
    await Promise.all([alice.close(), bob.close()]);
  });
});

Deno.test("restart() of a connection that is closed is refused", async () => {
  await meet({ a: { servers: "none" } }, async ({ a }) => {
    await a.connection.close();
    await assertRejects(() => a.connection.restart(), IceError, "closed");
  });
});

Deno.test("I37: a connection that has failed is revived by restart(): new promises, and what comes can be read again", async () => {
  await meet({ a: { servers: "none" }, b: { servers: "none" } }, async ({ a: { connection: a, host }, b, world }) => {
    b.connection.addRemoteDescription(await a.localDescription());
    a.addRemoteDescription(await b.connection.localDescription());
    await Promise.all([a.nominated, b.connection.nominated]);
    const addresses = host.networkInterfaces[0]!.addresses;
    host.networkInterfaces[0]!.setAddresses([]);
    await world.sleep(40_000);
    assertEquals([a.state, b.connection.state], ["failed", "failed"]);
    await assertRejects(() => a.closed, IceError, "consent has expired");
    await assertRejects(() => a[Symbol.asyncIterator]().next(), IceError, "consent has expired");
    assertEquals(a.send(new Uint8Array([200])), false);
    host.networkInterfaces[0]!.setAddresses(addresses);
    b.connection.addRemoteDescription(await a.restart());
    a.addRemoteDescription(await b.connection.localDescription());
    const read = a[Symbol.asyncIterator]().next();
    await Promise.all([a.nominated, b.connection.nominated]);
    assertEquals(b.connection.send(new Uint8Array([200, 1])), true);
    assertEquals((await read).value, new Uint8Array([200, 1]));
    await a.close();
    await a.closed;
  });
});
