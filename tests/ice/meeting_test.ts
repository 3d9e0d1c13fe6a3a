import { assert, assertEquals, assertLessOrEqual, assertRejects } from "@std/assert";
import { IceError } from "../../ice/error.ts";
import { connectIce, openIce } from "../../ice/connect.ts";
import type { IceConnection } from "../../ice/connection.ts";
import type { IceRole } from "../../ice/pair.ts";
import { parseDescription } from "../../ice/sdp.ts";
import { VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { serveTurn } from "../../turn/serve.ts";
import { meet, Meeting, nominate, SERVER } from "./meeting.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const bytes = (content: string) => new TextEncoder().encode(content);

Deno.test("Host to host on an ideal link: data after one round trip of checks, nominated in the next slot, seven datagrams", async () => {
  const both = { servers: "none" } as const;
  const { path, connected, nominated, sent } = await nominate({ a: both, b: both, delay: 10 });
  // One way is two links; Ta is 50 ms.
  assertEquals({ path, connected, nominated }, { path: "host/host", connected: 40, nominated: 50 + 40 });
  // Two checks, the nominating check, their answers, and one datagram of data.
  assertEquals(sent, 7);
});

Deno.test("With a round trip longer than Ta the nomination leaves with the first answer", async () => {
  const both = { servers: "none" } as const;
  const { connected, nominated } = await nominate({ a: both, b: both, delay: 50 });
  // B's check arrives at A at 100 and triggers one in the slot then: it is answered as soon as the first.
  assertEquals([connected, nominated], [200, 400]);
});

Deno.test("RFC 8445 §14.2: with Ta of 5 ms agreed between both, the nomination waits for no more than that", async () => {
  const both = { servers: "none", ta: 5 } as const;
  const { connected, nominated } = await nominate({ a: both, b: both, delay: 1 });
  assertEquals([connected, nominated], [4, 9]);
});

Deno.test("I39, relay to relay, as the policy demands: no address of ours is told, not even as a related one, or used", async () => {
  const side = { policy: "relay", type: "full cone" } as const;
  await meet({ a: side, b: side }, async (meeting) => {
    const { a, b } = meeting;
    const description = parseDescription(await a.connection.localDescription());
    assertEquals(description.candidates.map(({ type, relatedAddress }) => `${type} ${relatedAddress}`), [
      "relay 0.0.0.0:9",
    ]);
    await meeting.exchange();
    const [pair] = await Promise.all([a.connection.nominated, b.connection.nominated]);
    assertEquals([pair.local.type, pair.remote.type], ["relay", "relay"]);
    a.connection.send(bytes("by two relays"));
    const { value } = await b.connection[Symbol.asyncIterator]().next();
    assertEquals(text(value!), "by two relays");
  });
});

Deno.test("Role conflict: whoever both think they are, one controls in the end, and they connect as fast", async () => {
  for (const role of ["controlling", "controlled"] as const) {
    for (const seed of [1, 2, 3]) {
      const both = { servers: "none", role } as const;
      await meet({ a: both, b: both, seed }, async (meeting) => {
        const { a, b, world } = meeting;
        await meeting.exchange();
        await Promise.all([a.connection.nominated, b.connection.nominated]);
        assertEquals([a.connection.role, b.connection.role].sort(), ["controlled", "controlling"]);
        assertLessOrEqual(world.now - meeting.startedAt, 200);
        assertEquals([...a.events, ...b.events].filter(({ type }) => type === "role").length, 1);
      });
    }
  }
});

Deno.test("I3: checks that come before the other side's description are answered, and acted on as soon as it is there", async () => {
  const both = { servers: "none" } as const;
  await meet({ a: both, b: both }, async ({ a, b, world }) => {
    b.connection.addRemoteDescription(await a.connection.localDescription());
    await world.sleep(200);
    // B has got its answer: it is connected, though A knows nothing of B.
    assertEquals([a.connection.state, b.connection.state], ["new", "connected"]);
    const start = world.now;
    a.connection.addRemoteDescription(await b.connection.localDescription());
    await a.connection.connected;
    assertEquals(world.now - start, 40);
  });
});

Deno.test("I27: the first datagram, sent with the first answer, is not lost although it overtakes the other side's answer", async () => {
  const both = { servers: "none" } as const;
  await meet({ a: both, b: both }, async (meeting) => {
    const { a, b } = meeting;
    await meeting.exchange();
    await Promise.race([a.connection.connected, b.connection.connected]);
    const [first, second] = a.connection.state === "connected" ? [a, b] : [b, a];
    first.connection.send(bytes("early"));
    const { value } = await second.connection[Symbol.asyncIterator]().next();
    assertEquals(text(value!), "early");
  });
});

Deno.test("Behind the same NAT the hosts talk to each other directly", async () => {
  const world = new VirtualWorld({ link: { delay: 5 } });
  const server = world.addHost("server", { addresses: [SERVER] });
  const home = world.addNat("home", { external: ["203.0.113.1"] });
  const [one, other] = [2, 3].map((i) => home.addHost(`host${i}`, { addresses: [`192.168.1.${i}`] }));
  await world.run(async () => {
    const turn = serveTurn({ host: server, listen: [`${SERVER}:3478`], realm: "r", users: {} });
    const options = { stunServers: [`stun:${SERVER}`] };
    await using a = openIce({ host: one!, role: "controlling", ...options });
    await using b = openIce({ host: other!, role: "controlled", ...options });
    b.addRemoteDescription(await a.localDescription());
    a.addRemoteDescription(await b.localDescription());
    const pair = await a.nominated;
    assertEquals([pair.local.type, pair.remote.type, pair.remote.address.address], ["host", "host", "192.168.1.3"]);
    await turn.shutdown();
  });
});

Deno.test("RFC 8421: with both families, an IPv6 pair is checked first and chosen", async () => {
  const world = new VirtualWorld({ link: { delay: 5 } });
  const hosts = [1, 2].map((i) =>
    world.addHost(`h${i}`, { addresses: [`203.0.113.${i}`, `2001:db8::${i}`, `fe80::${i}`] })
  );
  await world.run(async () => {
    await using a = openIce({ host: hosts[0]!, role: "controlling" });
    await using b = openIce({ host: hosts[1]!, role: "controlled" });
    const description = await a.localDescription();
    assertEquals([description.includes("fe80"), description.includes("127.0.0.1")], [false, false]);
    b.addRemoteDescription(description);
    a.addRemoteDescription(await b.localDescription());
    assertEquals((await a.nominated).remote.address.address, "2001:db8::2");
    // The other family was not even checked, as the first pair worked: it is now, to be able to take over.
    assertEquals(a.stats().pairs.map(({ requestsSent }) => requestsSent), [2, 0]);
  });
});

Deno.test("Loopback addresses are used when there is nothing else", async () => {
  const world = new VirtualWorld();
  const lonely = world.addHost("lonely", { addresses: ["fe80::7"] });
  await world.run(async () => {
    await using a = openIce({ host: lonely, role: "controlling" });
    await using b = openIce({ host: lonely, role: "controlled" });
    b.addRemoteDescription(await a.localDescription());
    a.addRemoteDescription(await b.localDescription());
    assertEquals((await a.connected).local.address.address, "::1");
  });
});

Deno.test("A wrong TURN password is an event with code 401, and the other candidates do their work", async () => {
  const turnServers = [{ urls: `turn:${SERVER}`, username: "alice", credential: "wrong" }];
  await meet({ a: { servers: "stun", turnServers }, b: { servers: "stun" } }, async (meeting) => {
    const { a } = meeting;
    await meeting.exchange();
    await a.connection.nominated;
    const errors = a.events.filter((event) => event.type === "gathering-error");
    assertEquals(errors.map(({ url, code }) => [url, code]), [[`turn:${SERVER}`, 401]]);
    assertEquals(errors[0]!.text.includes("401"), true, errors[0]!.text);
  });
});

Deno.test("A name that is not found, a scheme that does not fit: events, not failures", async () => {
  const stunServers = ["stun:nowhere.example", "https://example.org", "turn:198.51.100.1"];
  await meet({ a: { servers: "none", stunServers }, b: { servers: "none" } }, async (meeting) => {
    await meeting.exchange();
    await meeting.a.connection.connected;
    const errors = meeting.a.events.filter((event) => event.type === "gathering-error");
    assertEquals(errors.map(({ url }) => url).sort(), [...stunServers].sort());
  });
});

Deno.test("Without any local candidate it fails at once, with one clear message", async () => {
  await meet({ a: { servers: "none", bind: ["192.0.2.77"] }, b: { servers: "none" } }, async ({ a, world }) => {
    const error = await assertRejects(() => a.connection.localDescription(), IceError, "there is no local candidate");
    assertEquals([error.failure, error.gatheringErrors.length, world.now], ["no-candidates", 1, 0]);
    await assertRejects(() => a.connection.connected, IceError, "192.0.2.77");
  });
});

Deno.test("With the policy relay and no TURN server there is no candidate, either", async () => {
  await meet({ a: { servers: "none", policy: "relay" } }, async ({ a }) => {
    await assertRejects(() => a.connection.connected, IceError, "there is no local candidate");
  });
});

Deno.test("I23: a cut line: disconnected, then consent lost after 30 s; whoever waits gets the error", async () => {
  const both = { servers: "none" } as const;
  await meet({ a: both, b: both }, async (meeting) => {
    const { a, b, world } = meeting;
    await meeting.exchange();
    await Promise.all([a.connection.nominated, b.connection.nominated]);
    await world.sleep(10_000);
    const reading = a.connection[Symbol.asyncIterator]().next();
    b.host.link.set({ loss: 1 });
    const cutAt = world.now;
    const error = await assertRejects(() => reading, IceError, "The connection is lost");
    assertEquals(error.failure, "consent-lost");
    assert(world.now - cutAt <= 30_000 && world.now - cutAt >= 24_000, `${world.now - cutAt}`);
    await assertRejects(() => a.connection.closed, IceError);
    const states = a.events.filter((event) => event.type === "state").map(({ state }) => state);
    assertEquals(states, ["checking", "connected", "completed", "disconnected", "failed"]);
    assertEquals(a.connection.send(bytes("x")), false);
  });
});

Deno.test("I23: a line that is cut for 20 s comes back", async () => {
  const both = { servers: "none" } as const;
  await meet({ a: both, b: both }, async (meeting) => {
    const { a, b, world } = meeting;
    await meeting.exchange();
    await Promise.all([a.connection.nominated, b.connection.nominated]);
    b.host.link.set({ loss: 1 });
    await world.sleep(20_000);
    assertEquals(a.connection.state, "disconnected");
    b.host.link.set({ loss: 0 });
    await world.sleep(7000);
    assertEquals([a.connection.state, b.connection.state], ["completed", "completed"]);
  });
});

Deno.test("A connection that idles for an hour behind two NATs stays: consent keeps the mappings", async () => {
  const side = { type: "port restricted cone", nat: { mappingLifetime: 30_000 } } as const;
  await meet({ a: side, b: side }, async (meeting) => {
    const { a, b, world } = meeting;
    await meeting.exchange();
    await Promise.all([a.connection.nominated, b.connection.nominated]);
    await world.sleep(3_500_000);
    assertEquals([a.connection.state, b.connection.state], ["completed", "completed"]);
    a.connection.send(bytes("still here"));
    const { value } = await b.connection[Symbol.asyncIterator]().next();
    assertEquals(text(value!), "still here");
  });
});

Deno.test("RFC 8445 §5.1.1.4: descriptions that are swapped by hand, minutes later, still work behind NATs", async () => {
  const side = { type: "port restricted cone", nat: { mappingLifetime: 30_000 }, servers: "stun" } as const;
  await meet({ a: side, b: side }, async (meeting) => {
    const { a, b, world } = meeting;
    await Promise.all([a.connection.localDescription(), b.connection.localDescription()]);
    await world.sleep(300_000);
    await meeting.exchange();
    const pair = await a.connection.nominated;
    assertEquals([pair.local.type, pair.remote.type], ["srflx", "srflx"]);
  });
});

Deno.test("RFC 8445 §8.3.1: relays that nobody needs are given back three seconds after the nomination", async () => {
  // One relay is kept to take over when the direct way is cut, unless nothing shall be.
  for (const [standby, kept] of [[0, 0], [2, 1]] as const) {
    await meet({ a: { standby }, b: { standby } }, async (meeting) => {
      const { a, b, world, server } = meeting;
      await meeting.exchange();
      await Promise.all([a.connection.nominated, b.connection.nominated]);
      assertEquals(server.stats().allocations, 2);
      await world.sleep(2900);
      assertEquals(server.stats().allocations, 2);
      await world.sleep(300);
      assertEquals(server.stats().allocations, kept);
      await world.sleep(60_000);
      assertEquals([a.connection.state, server.stats().allocations], ["completed", kept]);
    });
  }
});

Deno.test("RFC 8656 §12: the relayed pair in use gets a channel, and close() gives the allocation back", async () => {
  const meeting = new Meeting({ a: { policy: "relay" } });
  await meeting.world.run(async () => {
    const { a, b, world, server } = meeting;
    await meeting.exchange();
    await Promise.all([a.connection.nominated, b.connection.nominated]);
    await world.sleep(5000);
    assertEquals(server.stats().allocations, 1);
    world.trace = ({ step, node, bytes }) => {
      if (step === "sent" && node === "a") assertEquals(bytes[0]! >> 4, 4);
    };
    a.connection.send(bytes("by channel"));
    const { value } = await b.connection[Symbol.asyncIterator]().next();
    assertEquals(text(value!), "by channel");
    world.trace = undefined;
    await a.connection.close();
    assertEquals(server.stats().allocations, 0);
    await meeting.close();
  });
});

Deno.test("I34: a dead STUN server and a dead TURN server delay nothing while candidates trickle", async () => {
  const dead = {
    stunServers: ["stun:198.51.100.66"],
    turnServers: [{ urls: "turn:198.51.100.67", username: "u", credential: "p" }],
    servers: "none" as const,
  };
  await meet({ a: dead, b: dead, signaling: "trickle" }, async (meeting) => {
    const { a, world } = meeting;
    await meeting.exchange();
    await a.connection.nominated;
    assertLessOrEqual(world.now, 200);
  });
});

/** Two hosts that connect over streams of texts; both are controlling at first if nothing is said. */
async function connectTwo(world: VirtualWorld, roles: readonly IceRole[] = ["controlling", "controlling"]) {
  const ways = [new TransformStream<string>(), new TransformStream<string>()];
  const writers = ways.map(({ writable }) => writable.getWriter());
  const sides = await Promise.all(roles.map((role, i) => {
    const host = world.addHost(`h${i}`, { addresses: [`203.0.113.${i + 1}`] });
    const send = (message: string) => writers[i]!.write(message);
    return connectIce({ host, role, signaling: { send, receive: ways[1 - i]!.readable } });
  })) as [IceConnection, IceConnection];
  return { sides, writers };
}

Deno.test("connectIce(): two lines for the simple case, over any channel that carries texts", async () => {
  const world = new VirtualWorld({ link: { delay: 5 } });
  await world.run(async () => {
    const { sides } = await connectTwo(world, ["controlling", "controlled"]);
    sides[0].send(bytes("hello"));
    for await (const datagram of sides[1]) {
      assertEquals(text(datagram), "hello");
      break;
    }
    await Promise.all(sides.map((side) => side.close()));
    await Promise.all(sides.map((side) => side.closed));
  });
});

Deno.test("connectIce(): nonsense from the signaling ends it, naming the line", async () => {
  const world = new VirtualWorld();
  const host = world.addHost("h", { addresses: ["203.0.113.1"] });
  await world.run(async () => {
    const signaling = {
      send() {},
      async *receive() {
        yield "a=candidate:nonsense";
      },
    };
    const error = await assertRejects(
      () => connectIce({ host, signaling: { send: signaling.send, receive: signaling.receive() } }),
      IceError,
      "the signaling has broken",
    );
    assert((error.cause as Error).message.includes("line 1"));
  });
});

Deno.test("connectIce(): signaling that breaks once the connection is there does it no harm", async () => {
  const world = new VirtualWorld({ link: { delay: 5 } });
  await world.run(async () => {
    const { sides, writers } = await connectTwo(world);
    await Promise.all(writers.map((writer) => writer.abort(new Error("Cut"))));
    await world.sleep(10_000);
    assertEquals(sides.map(({ state }) => state), ["completed", "completed"]);
    sides[0].send(bytes("hello"));
    assertEquals(text((await sides[1][Symbol.asyncIterator]().next()).value!), "hello");
    await Promise.all(sides.map((side) => side.close()));
  });
});

Deno.test("A relay that is lost in use ends the connection with that reason", async () => {
  await meet({ a: { policy: "relay" }, b: { servers: "none" } }, async (meeting) => {
    const { a, b, world, server } = meeting;
    await meeting.exchange();
    await Promise.all([a.connection.nominated, b.connection.nominated]);
    await server.shutdown();
    // Consent ends before the allocation's refresh does.
    const error = await a.connection.closed.then(() => undefined, (error) => error);
    assertEquals([(error as IceError).failure, world.now < 45_000], ["consent-lost", true]);
  });
});

Deno.test("A signal ends everything that waits, with its reason", async () => {
  const world = new VirtualWorld();
  const host = world.addHost("h", { addresses: ["203.0.113.1"] });
  await world.run(async () => {
    const controller = new AbortController();
    const connection = openIce({ host, signal: controller.signal });
    const reason = new Error("Enough");
    controller.abort(reason);
    for (const promise of [connection.connected, connection.nominated]) {
      assertEquals(await promise.then(() => undefined, (error) => error), reason);
    }
    await connection.closed;
    assertEquals(connection.state, "closed");
    await connection.close();
  });
});

Deno.test("close() before anything came of it: waiters are told, iteration ends, a second call does nothing", async () => {
  await meet({}, async ({ a }) => {
    const { connection } = a;
    const reading = connection[Symbol.asyncIterator]().next();
    await Promise.all([connection.close(), connection.close()]);
    assertEquals(await reading, { done: true, value: undefined });
    await assertRejects(() => connection.connected, IceError, "closed");
    await assertRejects(() => connection.localDescription(), IceError, "closed");
    assertEquals(connection.send(bytes("x")), false);
  });
});

Deno.test("I34: bind filters the sockets to STUN and TURN servers, too", async () => {
  const world = new VirtualWorld({ link: { delay: 5 } });
  const server = world.addHost("server", { addresses: [SERVER] });
  const host = world.addHost("h", { addresses: ["203.0.113.1", "203.0.113.2"] });
  const seen = new Set<string>();
  world.trace = ({ step, node, source }) => void (step === "sent" && node === "h" && seen.add(source.address));
  await world.run(async () => {
    const turn = serveTurn({ host: server, listen: [`${SERVER}:3478`], realm: "r", users: [["u", "p"]] });
    await using connection = openIce({
      host,
      bind: ["203.0.113.2"],
      tcp: "none",
      stunServers: [`stun:${SERVER}`],
      turnServers: [{ urls: [`turn:${SERVER}`], username: "u", credential: "p" }],
    });
    const { candidates } = parseDescription(await connection.localDescription());
    assertEquals(candidates.map(({ type }) => type), ["host", "relay"]);
    assertEquals([...seen], ["203.0.113.2"]);
    await connection.close();
    await turn.shutdown();
  });
});

Deno.test("I35: the relay has the permission before the check is due, so that the peer's check gets through as well", async () => {
  await meet({ a: { policy: "relay" }, b: { servers: "stun" } }, async (meeting) => {
    const { a, b, server } = meeting;
    await meeting.exchange();
    await Promise.all([a.connection.nominated, b.connection.nominated]);
    // 1 ms for the server's own link here: no check was repeated.
    const repeated = a.connection.stats().pairs.map(({ retransmissionsSent }) => retransmissionsSent);
    assertEquals([repeated.every((count) => count === 0), server.stats().drops.noPermission], [true, 0]);
  });
});

Deno.test("Web streams: what is written on one side is read on the other", async () => {
  const both = { servers: "none" } as const;
  await meet({ a: both, b: both }, async (meeting) => {
    const { a, b } = meeting;
    const writer = a.connection.datagrams.writable.getWriter();
    const written = writer.write(bytes("streamed"));
    await meeting.exchange();
    await written;
    const reader = b.connection.datagrams.readable.getReader();
    assertEquals(text((await reader.read()).value!), "streamed");
    reader.releaseLock();
  });
});

Deno.test("Datagrams that nobody reads are dropped at 1024, and counted", async () => {
  const both = { servers: "none" } as const;
  await meet({ a: both, b: both }, async (meeting) => {
    const { a, b, world } = meeting;
    await meeting.exchange();
    await a.connection.nominated;
    for (let i = 0; i < 1030; i++) a.connection.send(bytes("x"));
    await world.sleep(100);
    assertEquals(b.connection.stats().droppedUnread, 6);
  });
});

Deno.test("One seed, one run: the same events at the same times", async () => {
  const run = () =>
    meet({ a: { type: "symmetric" }, b: { type: "full cone" }, seed: 42 }, async (meeting) => {
      await meeting.exchange();
      await Promise.all([meeting.a.connection.nominated, meeting.b.connection.nominated]);
      return [...meeting.a.events, ...meeting.b.events].map(({ at, type }) => `${at} ${type}`);
    });
  assertEquals(await run(), await run());
});

Deno.test("Role auto on both sides: one controls without a conflict, whichever description comes first", async () => {
  const auto = { role: "auto", type: "port restricted cone" } as const;
  for (const head of [0, 200, -200]) {
    await meet({ a: auto, b: auto }, async ({ a, b, world }) => {
      const [ofA, ofB] = await Promise.all([a.connection.localDescription(), b.connection.localDescription()]);
      world.after(Math.max(0, head), () => a.connection.addRemoteDescription(ofB));
      world.after(Math.max(0, -head), () => b.connection.addRemoteDescription(ofA));
      await Promise.all([a.connection.nominated, b.connection.nominated]);
      const isFirst = a.connection.localParameters.ufrag < b.connection.localParameters.ufrag;
      assertEquals(
        [a.connection.role, b.connection.role],
        isFirst ? ["controlling", "controlled"] : ["controlled", "controlling"],
      );
      // Each decided once, and never again.
      for (const { events } of [a, b]) assertEquals(events.filter(({ type }) => type === "role").length, 1);
    });
  }
});
