// The agent over real sockets, with our own server in between.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { connectIce, openIce } from "../../ice/connect.ts";
import type { OpenIceOptions } from "../../ice/connection.ts";
import { IceError } from "../../ice/error.ts";
import type { IceEvent } from "../../ice/events.ts";
import { parseDescription } from "../../ice/sdp.ts";
import { pickHost } from "../../stun/net/linux_host.ts";
import { serveTurn } from "../../turn/serve.ts";

const COUNT = 200;

/** Connects two agents by their one-line descriptions, sends datagrams both ways, and gives the types of the pair. */
async function cross(options: OpenIceOptions): Promise<string> {
  await using a = openIce({ role: "controlling", ...options });
  await using b = openIce({ role: "controlled", ...options });
  b.addRemoteDescription(await a.localDescription());
  a.addRemoteDescription(await b.localDescription());
  const [pair] = await Promise.all([a.nominated, b.nominated]);
  for (const [from, to] of [[a, b], [b, a]] as const) {
    const reader = to[Symbol.asyncIterator]();
    for (let i = 0; i < COUNT; i++) {
      // One at a time, so that no socket buffer overflows.
      from.send(new Uint8Array([200, i]));
      assertEquals((await reader.next()).value, new Uint8Array([200, i]));
    }
  }
  assertEquals(b.stats().selectedPair!.packetsReceived, COUNT);
  return `${pair.local.type}/${pair.remote.type}`;
}

for (const address of ["127.0.0.1", "[::1]"]) {
  Deno.test(`Loopback ${address}: host to host`, async () => {
    assertEquals(await cross({ bind: [address] }), "host/host");
  });

  Deno.test(`Loopback ${address}: relay to relay through our own server`, async () => {
    await using server = serveTurn({
      listen: [`${address}:0`],
      realm: "example.org",
      users: [["alice", "secret"]],
      allowPeers: ["127.0.0.0/8", "::1/128"],
    });
    const turnServers = [{ urls: `turn:${server.addresses[0]}`, username: "alice", credential: "secret" }];
    assertEquals(await cross({ bind: [address], turnServers, policy: "relay" }), "relay/relay");
    assertEquals(server.stats().allocations, 0);
  });
}

Deno.test("Loopback: relay to relay over TCP", async () => {
  await using server = serveTurn({
    listen: ["127.0.0.1:0"],
    realm: "example.org",
    users: [["alice", "secret"]],
    allowPeers: ["127.0.0.0/8"],
  });
  const urls = `turn:${server.addresses[0]}?transport=tcp`;
  const turnServers = [{ urls, username: "alice", credential: "secret" }];
  assertEquals(await cross({ bind: ["127.0.0.1"], turnServers, policy: "relay" }), "relay/relay");
});

Deno.test("I34: a relay over TCP that would be reached from an address that bind excludes is not used", async () => {
  await using server = serveTurn({
    listen: ["127.0.0.1:0"],
    realm: "example.org",
    users: [["alice", "secret"]],
  });
  const urls = `turn:${server.addresses[0]}?transport=tcp`;
  const events: IceEvent[] = [];
  await using connection = openIce({
    bind: ["127.0.0.2"],
    tcp: "none",
    turnServers: [{ urls, username: "alice", credential: "secret" }],
    onEvent: (event) => void events.push(event),
  });
  const { candidates } = parseDescription(await connection.localDescription());
  assertEquals(candidates.map(({ type }) => type), ["host"]);
  const error = events.find((event) => event.type === "gathering-error");
  assertEquals(error?.text, `Cannot use ${urls} as the way to it leaves from 127.0.0.1, which is not to be used`);
});

Deno.test("Loopback: candidates trickle, and a dead STUN server delays nothing", async () => {
  // Nobody listens there: Linux says so by ICMP, which must not harm the socket.
  const stunServers = ["stun:127.0.0.1:9"];
  const ways = [new TransformStream<string>(), new TransformStream<string>()];
  const writers = ways.map(({ writable }) => writable.getWriter());
  const sides = await Promise.all([0, 1].map((i) =>
    connectIce({
      bind: ["127.0.0.1"],
      role: i === 0 ? "controlling" : "controlled",
      stunServers,
      signaling: { send: (text) => writers[i]!.write(text), receive: ways[1 - i]!.readable },
    })
  ));
  await Promise.all(sides.map(({ nominated }) => nominated));
  await Promise.all(sides.map((side) => side.close()));
});

/** A description without its candidates for UDP. */
const tcpOnly = (sdp: string) => sdp.replaceAll(/^a=candidate:\S+ \d udp .*\r\n/gm, "");

for (const address of ["127.0.0.1", "[::1]"]) {
  Deno.test(`Loopback, I36: over TCP alone, ${address}: datagrams of any size, whole and in order; then both ends are closed`, async () => {
    await using one = openIce({ role: "controlling", bind: [address], tcp: "active" });
    await using other = openIce({ role: "controlled", bind: [address], tcp: "passive" });
    other.addRemoteDescription(tcpOnly(await one.localDescription("sdp")));
    one.addRemoteDescription(tcpOnly(await other.localDescription("sdp")));
    const [pair] = await Promise.all([one.nominated, other.nominated]);
    assertEquals([pair.isTcp, pair.local.type, pair.remote.type], [true, "host", "host"]);
    const sizes = [1, 20, 1200, 65_507, 2, 65_535];
    for (const [from, to] of [[one, other], [other, one]] as const) {
      for (const size of sizes) assert(from.send(new Uint8Array(size).fill(size)));
      const received: number[] = [];
      for await (const bytes of to) {
        assert(bytes.every((byte) => byte === (bytes.length & 0xff)));
        received.push(bytes.length);
        if (received.length === sizes.length) break;
      }
      assertEquals(received, sizes);
    }
    await other.close();
    await assertRejects(() => one.closed, IceError, "was closed");
  });
}

Deno.test({
  name: "Loopback, I36, Linux: a connection leaves from its candidate's address, which Deno itself can not choose",
  ignore: pickHost("auto").io !== "linux",
  async fn() {
    for (const isLinux of [true, false]) {
      const failed = Promise.withResolvers<void>();
      await using one = openIce({
        onEvent: (event) => event.type === "pair" && event.state === "failed" && failed.resolve(),
        ...(isLinux ? { host: pickHost("linux").host } : {}),
        role: "controlling",
        bind: ["127.0.0.2"],
        tcp: "active",
      });
      await using other = openIce({ role: "controlled", bind: ["127.0.0.1"], tcp: "passive" });
      other.addRemoteDescription(tcpOnly(await one.localDescription("sdp")));
      one.addRemoteDescription(tcpOnly(await other.localDescription("sdp")));
      if (!isLinux) {
        await failed.promise;
        continue;
      }
      const [pair, theirs] = await Promise.all([one.nominated, other.nominated]);
      assertEquals([String(pair.local.address), theirs.remote.address.address], ["127.0.0.2:9", "127.0.0.2"]);
      one.send(new Uint8Array(30_000).fill(7));
      assertEquals((await other[Symbol.asyncIterator]().next()).value?.length, 30_000);
    }
  },
});
