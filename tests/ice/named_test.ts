// The peer's candidates with names in place of addresses, and ours (draft-ietf-rtcweb-mdns-ice-candidates).
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { openIce } from "../../ice/connect.ts";
import type { IceConnection, OpenIceOptions } from "../../ice/connection.ts";
import { IceError } from "../../ice/error.ts";
import type { IceEvent } from "../../ice/events.ts";
import { newMdnsName } from "../../ice/mdns_name.ts";
import { IceTransport } from "../../ice/transport.ts";
import { type VirtualHost, VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { serveTurn } from "../../turn/serve.ts";

const SERVER = "198.51.100.1";
const TURN = [{ urls: `turn:${SERVER}`, username: "alice", credential: "secret" }];
const UUID = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\\.local";

interface Scene {
  readonly world: VirtualWorld;
  readonly a: VirtualHost;
  readonly b: VirtualHost;
  readonly far: VirtualHost;
}

/** Two computers in one home, one in another, and a server outside. */
async function scene(program: (scene: Scene) => Promise<void>, isPublic = false): Promise<void> {
  const world = new VirtualWorld({ seed: 3, link: { delay: 5 } });
  const server = world.addHost("server", { addresses: [SERVER] });
  const home = isPublic ? world.addFirewall("home") : world.addNat("home", { external: ["203.0.113.1"] });
  const range = isPublic ? "203.0.113" : "192.168.1";
  const [a, b] = ["a", "b"].map((name, i) => home.addHost(name, { addresses: [`${range}.${i + 2}`] }));
  const far = world.addNat("other", { external: ["203.0.114.1"] }).addHost("far", { addresses: ["10.0.0.2"] });
  await world.run(async () => {
    await using _server = serveTurn({
      host: server,
      listen: [`${SERVER}:3478`],
      realm: "example.org",
      users: { alice: "secret" },
      allowPeers: ["198.51.100.0/24", "203.0.113.0/24", "203.0.114.0/24"],
    });
    await program({ world, a: a!, b: b!, far });
  });
}

function open(host: VirtualHost, role: "controlling" | "controlled", options: Partial<OpenIceOptions> = {}) {
  const events: IceEvent[] = [];
  return { connection: openIce({ host, role, onEvent: (event) => events.push(event), ...options }), events };
}

async function exchange(one: IceConnection, other: IceConnection): Promise<void> {
  const [ofOne, ofOther] = await Promise.all([one.localDescription(), other.localDescription()]);
  one.addRemoteDescription(ofOther);
  other.addRemoteDescription(ofOne);
}

Deno.test("mDNS draft §5.1: two hosts in a home that tell no address connect directly, with a question and an answer each", async () => {
  await scene(async ({ world, a, b }) => {
    const [one, other] = [open(a, "controlling", { mdns: "hide" }), open(b, "controlled", { mdns: "hide" })];
    await using alice = one.connection;
    await using bob = other.connection;
    assertMatch(
      await alice.localDescription("sdp"),
      new RegExp(`^a=candidate:1 1 udp \\d+ ${UUID} \\d+ typ host\r$`, "m"),
    );
    const startedAt = world.now;
    await exchange(alice, bob);
    const [pair] = await Promise.all([alice.nominated, bob.nominated]);
    assertEquals([pair.local.type, pair.remote.type], ["host", "host"]);
    // Question and answer take 20 ms, check and answer 20, then a turn of Ta later the nomination.
    assertEquals(world.now - startedAt, 90);
    assertEquals(one.events.filter(({ type }) => type === "lookup").length, 1);
    // Names in statistics as in the description.
    const { localCandidates, remoteCandidates, selectedPair } = alice.stats();
    for (const { address } of [...localCandidates, ...remoteCandidates, selectedPair!.local, selectedPair!.remote]) {
      assertMatch(address, new RegExp(`^${UUID}$`));
    }
  });
});

Deno.test("I39, mDNS draft §3.1.2.2: with srflx and relay too no description tells a host address, raddr included", async () => {
  await scene(async ({ a }) => {
    const { connection, events } = open(a, "controlling", {
      mdns: "hide",
      tcp: "both",
      stunServers: [`stun:${SERVER}`],
      turnServers: TURN,
    });
    await using alice = connection;
    const sdp = await alice.localDescription("sdp");
    const types = [...sdp.matchAll(/typ (\w+)(.*)/g)].map(([, type, rest]) => `${type}${rest}`.trim());
    const tcp = ["active", "passive"].map((tcpType) => `host tcptype ${tcpType}`);
    assertEquals(types, ["host", ...tcp, "srflx raddr 0.0.0.0 rport 9", "relay raddr 0.0.0.0 rport 9"]);
    const trickled: string[] = [];
    for await (const text of alice.localFragments()) trickled.push(text);
    assertEquals([sdp, ...trickled].filter((text) => text.includes("192.168.")), []);
    assertEquals(events.filter(({ type }) => type === "gathering-error"), []);
  });
});

Deno.test("mDNS draft §3.1.2.2: a public address is told as a server has seen it, beside its name; a private one is not", async () => {
  await scene(async ({ a }) => {
    await using alice = open(a, "controlling", { mdns: "hide", stunServers: [`stun:${SERVER}`] }).connection;
    const sdp = await alice.localDescription("sdp");
    assertMatch(sdp, /203\.0\.113\.2 \d+ typ srflx raddr 0\.0\.0\.0 rport 9/);
  }, true);
  // A STUN server at home sees what is to be hidden.
  await scene(async ({ a, b }) => {
    await using _server = serveTurn({ host: b, listen: ["192.168.1.3:3478"], realm: "home", users: {} });
    await using alice =
      open(a, "controlling", { mdns: "hide", tcp: "none", stunServers: ["stun:192.168.1.3"] }).connection;
    const sdp = await alice.localDescription("sdp");
    assertEquals([...sdp.matchAll(/typ (\w+)/g)].map(([, type]) => type), ["host"]);
    assert(!sdp.includes("192.168."));
  });
});

Deno.test("mDNS draft §5.3: who tells addresses reaches who tells names, though nobody looks the name up", async () => {
  for (const mdns of ["off", "resolve"] as const) {
    await scene(async ({ world, a, b }) => {
      await using alice = open(a, "controlling", { mdns: "hide" }).connection;
      const other = open(b, "controlled", { mdns });
      await using bob = other.connection;
      await exchange(alice, bob);
      const [, pair] = await Promise.all([alice.nominated, bob.nominated]);
      assertEquals(other.events.filter(({ type }) => type === "lookup").length, mdns === "off" ? 0 : 1);
      await world.sleep(100);
      assertEquals(pair.remote.type, mdns === "off" ? "prflx" : "host");
    });
  }
});

Deno.test("RFC 8445 §7.3.1.3: a name that is found after the nomination tells what the peer-reflexive candidate was", async () => {
  await scene(async ({ world, a, b }) => {
    // The question gets lost, and is asked again a second later.
    b.link.up.set({ drop: ({ destination }) => destination.port === 5353 && world.now < 500 });
    await using alice = open(a, "controlling", { mdns: "hide" }).connection;
    await using bob = open(b, "controlled").connection;
    await exchange(alice, bob);
    const [, pair] = await Promise.all([alice.nominated, bob.nominated]);
    assertEquals([pair.remote.type, bob.stats().selectedPair!.remote.address], ["prflx", "192.168.1.2"]);
    await world.sleep(2000);
    assertEquals([bob.state, pair.remote.type], ["completed", "host"]);
    assertMatch(bob.stats().selectedPair!.remote.address, new RegExp(`^${UUID}$`));
  });
});

Deno.test("I21, I32: while a name is looked up nothing has failed, and nothing waits for it", async () => {
  await scene(async ({ world, a }) => {
    const { connection: alice, events } = open(a, "controlling");
    await alice.localDescription();
    alice.setRemoteParameters({ ufrag: "peer", pwd: "passwordpasswordpassword" });
    // Long after the patience of RFC 8863 is over.
    await world.sleep(39_000);
    const name = newMdnsName(a.random);
    assertEquals(alice.addRemoteCandidate(`candidate:1 1 udp 2130706431 ${name} 5000 typ host`), true);
    assertEquals(alice.addRemoteCandidate("candidate:1 1 udp 2130706430 printer.local 5000 typ host"), false);
    alice.endOfCandidates();
    await world.sleep(4900);
    assertEquals(alice.state, "checking");
    const error = await assertRejects(() => alice.connected, IceError, "no candidate that fits");
    assertEquals([error.failure, world.now], ["no-path", 44_000]);
    assertEquals(events.filter(({ type }) => type === "lookup").length, 1);
    await alice.close();
  });
});

Deno.test("I32: a name that is found after end-of-candidates still counts; one of before a restart does not", async () => {
  await scene(async ({ world, a, b }) => {
    const other = open(b, "controlled", { mdns: "hide" });
    await using bob = other.connection;
    const { connection, events } = open(a, "controlling");
    await using alice = connection;
    const [ofBob, ofAlice] = [await bob.localDescription(), await alice.localDescription()];
    alice.addRemoteDescription(ofBob);
    const looked = events.filter(({ type }) => type === "lookup").length;
    alice.restart().catch(() => {});
    await world.sleep(1000);
    assertEquals([looked, alice.stats().remoteCandidates.length], [1, 0]);
    // The answer to a description of before the restart leads nowhere.
    bob.addRemoteDescription(ofAlice);
    await world.sleep(1000);
    assertEquals(alice.stats().remoteCandidates.length, 0);
  });
});

Deno.test("mDNS draft §3.3.2: no pair of our relay and an address that a name stood for", async () => {
  await scene(async ({ world, a, b }) => {
    await using bob = open(b, "controlled", { mdns: "hide" }).connection;
    await using alice = open(a, "controlling", { turnServers: TURN }).connection;
    await exchange(alice, bob);
    await alice.nominated;
    const pairs = alice.stats().pairs.map(({ local, remote }) => `${local.candidateType} ${remote.candidateType}`);
    assertEquals(pairs, ["host host"]);
    // With relays alone nobody is asked for a name.
    const { connection: careful, events } = open(a, "controlling", { policy: "relay", turnServers: TURN });
    await using _ = careful;
    await careful.localDescription();
    careful.addRemoteDescription(await bob.localDescription());
    await world.sleep(100);
    assertEquals(events.filter(({ type }) => type === "lookup"), []);
  });
});

Deno.test("mDNS: across homes names are of no use, and the path is found as ever", async () => {
  await scene(async ({ a, far }) => {
    const options = { mdns: "hide", stunServers: [`stun:${SERVER}`], turnServers: TURN } as const;
    await using alice = open(a, "controlling", options).connection;
    await using bob = open(far, "controlled", options).connection;
    await exchange(alice, bob);
    const [pair] = await Promise.all([alice.nominated, bob.nominated]);
    assertEquals([pair.base.candidate.type, pair.remote.type === "relay"], ["host", false]);
  });
});

Deno.test("mDNS: a restart keeps the names; closing gives them up", async () => {
  await scene(async ({ world, a }) => {
    const { connection: alice } = open(a, "controlling", { mdns: "hide", tcp: "none" });
    const names = (sdp: string) => [...sdp.matchAll(new RegExp(UUID, "g"))].map(([name]) => name);
    const before = names(await alice.localDescription("sdp"));
    const after = names(await alice.restart("sdp"));
    assertEquals([before.length, after], [1, before]);
    await world.sleep(3000);
    const { sent } = a.counters;
    await alice.close();
    await world.sleep(60_000);
    assertEquals([a.counters.sent - sent, world.inFlight], [1, 0]);
  });
});

Deno.test("mDNS: IceTransport shows names and no addresses", async () => {
  await scene(async ({ a, b }) => {
    await using one = new IceTransport({ host: a, mdns: "hide" });
    await using other = new IceTransport({ host: b, mdns: "hide" });
    for (const [from, to] of [[one, other], [other, one]] as const) {
      from.onicecandidate = ({ candidate }) => to.state !== "closed" && to.addRemoteCandidate(candidate ?? {});
    }
    const connected = Promise.all(
      [one, other].map((end) =>
        new Promise<void>((resolve) => end.onstatechange = () => end.state === "completed" && resolve())
      ),
    );
    one.gather();
    other.gather();
    one.start(other.getLocalParameters(), "controlling");
    other.start(one.getLocalParameters(), "controlled");
    await connected;
    const pair = one.getSelectedCandidatePair()!;
    for (const candidate of [pair.local, pair.remote]) {
      assertMatch(candidate.address!, new RegExp(`^${UUID}$`));
      assert(!JSON.stringify(candidate).includes("192.168."));
    }
  });
});

Deno.test("mDNS on loopback: two connections of one program by their names", async () => {
  await using alice = openIce({ bind: ["127.0.0.1"], mdns: "hide" });
  await using bob = openIce({ bind: ["127.0.0.1"], mdns: "hide", role: "controlled" });
  await exchange(alice, bob);
  const [pair] = await Promise.all([alice.nominated, bob.nominated]);
  assertEquals(pair.remote.type, "host");
});
