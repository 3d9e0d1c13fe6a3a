// ICE over TCP (RFC 6544), rule I36, in the virtual internet: through NATs and firewalls, with exact counts.
import { assert, assertEquals, assertRejects } from "@std/assert";
import type { IceConnection } from "../../ice/connection.ts";
import { IceError } from "../../ice/error.ts";
import { type VirtualHost, VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { openIce } from "../../ice/connect.ts";
import { TransportAddress } from "../../stun/address.ts";
import { meet, type Meeting, type MeetingOptions, SERVER } from "./meeting.ts";

const encoder = new TextEncoder();
/** Neither knows a server, so that all traffic is between the two. */
const ALONE = { servers: "none" } as const;

async function received(connection: IceConnection): Promise<string> {
  const { value } = await connection[Symbol.asyncIterator]().next();
  return new TextDecoder().decode(value);
}

/** Both to their nomination, and a word each way; how it went. */
async function connect(options: MeetingOptions, then: (meeting: Meeting) => Promise<void> = async () => {}) {
  return await meet(options, async (meeting) => {
    const { a, b, world } = meeting;
    await meeting.exchange();
    const pair = await a.connection.connected;
    const data = world.now - meeting.startedAt;
    await Promise.all([a.connection.nominated, b.connection.nominated]);
    const nominated = world.now - meeting.startedAt;
    const { selectedPair } = a.connection;
    a.connection.send(encoder.encode("hello"));
    assertEquals(await received(b.connection), "hello");
    b.connection.send(encoder.encode("welcome"));
    assertEquals(await received(a.connection), "welcome");
    const sent = [a.host.counters.sent, b.host.counters.sent];
    await then(meeting);
    const { local, remote, isTcp } = selectedPair!;
    const path = `${isTcp ? "tcp" : "udp"} ${local.type} ${remote.type}`;
    return { path, data, nominated, sent, isFirst: pair === selectedPair };
  });
}

Deno.test("I36: behind a NAT that blocks UDP, directly to a host in the open that listens", async () => {
  // 60 ms there and back: the first check over UDP, one Ta later the connection and then the check over it. UDP has until the
  // answer to its second transmission, before TCP is nominated.
  const options = { a: { type: "blocked", ...ALONE }, b: { type: "open", tcp: "passive", ...ALONE } } as const;
  const { path, data, nominated, sent } = await connect(options);
  assertEquals({ path, data, nominated }, { path: "tcp prflx host", data: 170, nominated: 740 });
  assertEquals(sent, [9, 8]);
});

Deno.test("I36: the same when the host in the open controls, and by trickling", async () => {
  const a = { type: "blocked", role: "controlled", ...ALONE } as const;
  const b = { type: "open", tcp: "passive", role: "controlling", ...ALONE } as const;
  for (const signaling of ["one-shot", "trickle"] as const) {
    assertEquals((await connect({ a, b, signaling })).path, "tcp prflx host", signaling);
  }
});

Deno.test("I36: where UDP works it is used; connections that were begun meanwhile are given up, and no more are begun", async () => {
  await connect({ a: { tcp: "both", ...ALONE }, b: { tcp: "both", ...ALONE } }, async ({ a, b, world }) => {
    await world.sleep(1000);
    for (const { connection } of [a, b]) {
      assertEquals(connection.selectedPair!.isTcp, false);
      const tcp = connection.stats().pairs.filter(({ local }) => local.protocol === "tcp");
      assertEquals(tcp.filter(({ state }) => state !== "failed"), []);
    }
  });
});

Deno.test("I36: with a relay at hand TCP is used directly, which costs nobody anything", async () => {
  const options = { a: { type: "blocked" }, b: { type: "open", tcp: "passive" } } as const;
  const { path } = await connect({ ...options, a: { ...options.a, turnServers: [tcpRelay] } });
  assertEquals(path, "tcp prflx host");
});
const tcpRelay = { urls: `turn:${SERVER}?transport=tcp`, username: "alice", credential: "secret" };

Deno.test("I36: two firewalls that block UDP, and let nobody in: by simultaneous open", async () => {
  const world = new VirtualWorld({ link: { delay: 10 } });
  const hosts = ["203.0.113.1", "203.0.113.2"].map((address, i) =>
    world.addFirewall(`firewall ${i}`, { udp: "blocked" }).addHost(`host ${i}`, { addresses: [address] })
  );
  await world.run(async () => {
    await using a = openIce({ host: hosts[0]!, role: "controlling", tcp: "both" });
    await using b = openIce({ host: hosts[1]!, role: "controlled", tcp: "both" });
    b.addRemoteDescription(await a.localDescription());
    a.addRemoteDescription(await b.localDescription());
    const [pair] = await Promise.all([a.nominated, b.nominated]);
    assertEquals([pair.base.kind, pair.local.type, pair.remote.type], ["so", "host", "host"]);
    a.send(encoder.encode("hello"));
    assertEquals(await received(b), "hello");
  });
});

Deno.test("I36: a peer that closes its connection is gone at once, and the error says so", async () => {
  const options = { a: { type: "blocked", ...ALONE }, b: { type: "open", tcp: "passive", ...ALONE } } as const;
  await connect(options, async ({ a, b, world }) => {
    const at = world.now;
    await b.connection.close();
    const error = await assertRejects(() => a.connection.closed, IceError, "was closed");
    assertEquals([error.failure, world.now - at], ["consent-lost", 30]);
  });
});

Deno.test("RFC 7675, I36: TCP that is cut is no consent: it is over after 30 s, whatever TCP believes", async () => {
  const options = { a: { type: "blocked", ...ALONE }, b: { type: "open", tcp: "passive", ...ALONE } } as const;
  await connect(options, async ({ a, world }) => {
    const at = world.now;
    a.host.link.set({ loss: 1 });
    await assertRejects(() => a.connection.closed, IceError, "consent has expired");
    const waited = world.now - at;
    assert(waited > 24_000 && waited <= 30_000, `${waited}`);
  });
});

Deno.test("RFC 8445 §9, I36: a restart makes a new connection, without a gap in the data", async () => {
  const options = { a: { type: "blocked", ...ALONE }, b: { type: "open", tcp: "passive", ...ALONE } } as const;
  await connect(options, async ({ a, b, world }) => {
    const before = a.connection.selectedPair;
    const got: string[] = [];
    (async () => {
      for await (const bytes of b.connection) got.push(new TextDecoder().decode(bytes));
    })();
    const description = a.connection.restart();
    b.connection.addRemoteDescription(await description);
    a.connection.addRemoteDescription(await b.connection.localDescription());
    for (let i = 0; i < 200; i++) {
      a.connection.send(encoder.encode(`${i}`));
      await world.sleep(20);
    }
    await world.sleep(100);
    assertEquals(got.sort((x, y) => Number(x) - Number(y)), Array.from({ length: 200 }, (_, i) => `${i}`));
    assert(a.connection.selectedPair !== before && a.connection.selectedPair?.isTcp === true);
  });
});

Deno.test("I36: who connects and says nothing, or something else, holds nobody up and is closed", async () => {
  const world = new VirtualWorld({ link: { delay: 10 } });
  const host = world.addHost("host", { addresses: ["203.0.113.1"] });
  const stranger = world.addHost("stranger", { addresses: ["203.0.113.66"] });
  const peer = world.addNat("nat", { external: ["203.0.113.2"], udp: "blocked" }).addHost("peer", {
    addresses: ["10.0.0.2"],
  });
  await world.run(async () => {
    await using a = openIce({ host, role: "controlling", tcp: "passive" });
    const { localCandidates } = a.stats();
    const { port } = localCandidates.find(({ tcpType }) => tcpType === "passive")!;
    const strangers = Array.from(
      { length: 40 },
      (_, i) => connectAs(stranger, port, i % 2 === 0 ? "GET / HTTP/1.1" : ""),
    );
    await world.sleep(100);
    // The seventeenth and those after it are closed as they come, the others when they have said the wrong thing, or nothing
    // for 15 s.
    assertEquals(strangers.filter(({ isOpen }) => isOpen).length, 8);
    await world.sleep(15_000);
    assertEquals(strangers.filter(({ isOpen }) => isOpen).length, 0);
    await using b = openIce({ host: peer, role: "controlled" });
    b.addRemoteDescription(await a.localDescription());
    a.addRemoteDescription(await b.localDescription());
    assertEquals((await a.connected).isTcp, true);
    assertEquals(a.stats().remoteCandidates.filter(({ candidateType }) => candidateType === "prflx").length, 1);
  });
});

/** Connects by TCP as a stranger does. */
function connectAs(host: VirtualHost, port: number, says: string): { isOpen: boolean } {
  const state = { isOpen: false };
  const remote = TransportAddress.of("203.0.113.1", port);
  host.connectStream({ transport: "tcp", remote }, (stream) => {
    if (stream instanceof Error) return undefined;
    state.isOpen = true;
    if (says !== "") stream.send(encoder.encode(says));
    stream.resume();
    return { onData() {}, onSent() {}, onEnd: () => void (state.isOpen = false) };
  });
  return state;
}
