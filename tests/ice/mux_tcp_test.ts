// Many connections on one TCP port (RFC 6544).
import { assert, assertEquals, assertThrows } from "@std/assert";
import { openIce } from "../../ice/connect.ts";
import type { IceConnection } from "../../ice/connection.ts";
import { openIceMux } from "../../ice/mux.ts";
import { TransportAddress } from "../../stun/address.ts";
import { type Host, OpenError, type StreamListenWish } from "../../stun/net/transport.ts";
import { type VirtualHost, VirtualWorld } from "../../stun/net/virtual/mod.ts";

const encoder = new TextEncoder();

async function exchange(one: IceConnection, other: IceConnection): Promise<void> {
  const [ofOne, ofOther] = await Promise.all([one.localDescription(), other.localDescription()]);
  one.addRemoteDescription(ofOther);
  other.addRemoteDescription(ofOne);
}

/** A server in the open, and clients behind one NAT that blocks UDP. */
function scene(count: number) {
  const world = new VirtualWorld({ link: { delay: 5 } });
  const server = world.addHost("server", { addresses: ["192.0.2.1"] });
  const nat = world.addNat("nat", { external: ["203.0.113.1"], udp: "blocked" });
  const clients = Array.from(
    { length: count },
    (_, i) => nat.addHost(`client ${i}`, { addresses: [`10.0.0.${i + 2}`] }),
  );
  const stranger = world.addHost("stranger", { addresses: ["203.0.113.66"] });
  return { world, server, clients, stranger };
}

Deno.test("Mux, I36: connections share a TCP port, told apart by the username fragment of the first check", async () => {
  const { world, server, clients } = scene(12);
  await world.run(async () => {
    await using mux = openIceMux({ host: server, listen: ["192.0.2.1:443"], tcp: true });
    const couples = clients.map((host) => ({
      near: openIce({ mux, role: "controlled" }),
      far: openIce({ host, role: "controlling" }),
    }));
    await Promise.all(couples.map(({ near, far }) => exchange(near, far)));
    await Promise.all(couples.flatMap(({ near, far }) => [near.nominated, far.nominated]));
    for (const [i, { near, far }] of couples.entries()) {
      assertEquals([String(near.selectedPair!.local.address), near.selectedPair!.isTcp], ["192.0.2.1:443", true]);
      far.send(encoder.encode(`up ${i}`));
      near.send(encoder.encode(`down ${i}`));
    }
    const next = async (connection: IceConnection) =>
      new TextDecoder().decode((await connection[Symbol.asyncIterator]().next()).value);
    for (const [i, { near, far }] of couples.entries()) {
      assertEquals([await next(near), await next(far)], [`up ${i}`, `down ${i}`]);
    }
    assertEquals(mux.streamCounters, { accepted: 12, unknown: 0, silent: 0, refused: 0 });
    // One leaves, and nobody else hears of it.
    await couples[0]!.near.close();
    await world.sleep(100);
    assertEquals(couples.map(({ far }) => far.state).filter((state) => state !== "completed"), ["failed"]);
    await Promise.all(couples.flatMap(({ near, far }) => [near.close(), far.close()]));
  });
});

Deno.test("Mux, I36: a restart is found by its new username fragment", async () => {
  const { world, server, clients } = scene(1);
  await world.run(async () => {
    await using mux = openIceMux({ host: server, listen: ["192.0.2.1:443"], tcp: true });
    await using near = openIce({ mux, role: "controlled" });
    await using far = openIce({ host: clients[0]!, role: "controlling" });
    await exchange(near, far);
    await Promise.all([near.nominated, far.nominated]);
    const before = far.selectedPair;
    near.addRemoteDescription(await far.restart());
    far.addRemoteDescription(await near.localDescription());
    await world.sleep(2000);
    assert(far.selectedPair !== before && far.selectedPair?.isTcp === true);
    assertEquals([far.state, mux.streamCounters.accepted], ["completed", 2]);
  });
});

Deno.test("Mux, I36: strangers are closed: for what they say, for silence after 15 s, and the seventeenth of a source at once", async () => {
  const { world, server, clients, stranger } = scene(1);
  await world.run(async () => {
    await using mux = openIceMux({ host: server, listen: ["192.0.2.1:443"], tcp: true });
    await using near = openIce({ mux, role: "controlled" });
    const silent = Array.from({ length: 18 }, () => connectAs(stranger, new Uint8Array(0)));
    await world.sleep(50);
    assertEquals(silent.filter(({ isOpen }) => isOpen).length, 16);
    await world.sleep(15_000);
    assertEquals(silent.filter(({ isOpen }) => isOpen).length, 0);
    const request = Uint8Array.of(0, 20, 0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, ...new Uint8Array(12));
    const loud = [encoder.encode("GET /"), request].map((bytes) => connectAs(stranger, bytes));
    await world.sleep(50);
    assertEquals(loud.filter(({ isOpen }) => isOpen).length, 0);
    assertEquals(mux.streamCounters, { accepted: 0, unknown: 2, silent: 16, refused: 2 });
    await using far = openIce({ host: clients[0]!, role: "controlling" });
    await exchange(near, far);
    assertEquals((await far.connected).isTcp, true);
  });
});

Deno.test("Mux without TCP: who wants it all the same is told why there is none", async () => {
  const { world, server } = scene(0);
  await world.run(async () => {
    await using mux = openIceMux({ host: server, listen: ["192.0.2.1:443"] });
    const errors: string[] = [];
    await using near = openIce({
      mux,
      tcp: "passive",
      onEvent: (event) => void (event.type === "gathering-error" && errors.push(event.text)),
    });
    const sdp = await near.localDescription("sdp");
    assertEquals([sdp.includes("passive"), errors.length], [false, 1]);
    assert(errors[0]!.includes("openIceMux() has no tcp"), errors[0]);
  });
});

Deno.test("Mux with TCP, port 0: a UDP port whose TCP port is somebody else's is given back, and another taken", async () => {
  const { world, server } = scene(0);
  let taken = 3;
  const asked: number[] = [];
  const listen = server.listenStream.bind(server);
  const host: Host = Object.assign(server, {
    listenStream: (wish: StreamListenWish, accept: Parameters<typeof listen>[1]) => {
      asked.push(wish.port);
      // Whoever else has the port.
      if (asked.length <= taken) listen(wish, () => undefined);
      return listen(wish, accept);
    },
  });
  await world.run(async () => {
    const mux = openIceMux({ host, listen: ["192.0.2.1:0"], tcp: true });
    assertEquals([asked.length, mux.addresses.map(({ port }) => port)], [4, [asked[3]!]]);
    assertEquals(new Set(asked).size, 4);
    await mux.close();
    // What was given back is free.
    const receiver = () => {};
    for (const port of asked) server.openDatagram({ transport: "udp", address: "192.0.2.1", port }, receiver).close();
    taken = Infinity;
    asked.length = 0;
    const inUse = (listen: string) =>
      assertEquals(
        assertThrows(() => openIceMux({ host, listen: [listen], tcp: true }), OpenError).failure,
        "address-in-use",
      );
    inUse("192.0.2.1:0");
    assertEquals(asked.length, 16);
    // A port that was asked for by number is not another's.
    inUse("192.0.2.1:443");
    assertEquals(asked.slice(16), [443]);
  });
});

Deno.test("Mux, I36, loopback: one port for UDP and TCP, of the system's own", async () => {
  await using mux = openIceMux({ listen: ["127.0.0.1:0"], tcp: true });
  await using near = openIce({ mux, role: "controlled" });
  await using far = openIce({ bind: ["127.0.0.1"], role: "controlling" });
  const withoutUdp = (sdp: string) => sdp.replaceAll(/^a=candidate:\S+ \d udp .*\r\n/gm, "");
  near.addRemoteDescription(withoutUdp(await far.localDescription("sdp")));
  far.addRemoteDescription(withoutUdp(await near.localDescription("sdp")));
  const [pair] = await Promise.all([far.nominated, near.nominated]);
  assertEquals([pair.isTcp, String(pair.remote.address)], [true, String(mux.addresses[0])]);
  for (const size of [1, 65_535, 1200]) {
    far.send(new Uint8Array(size));
    assertEquals((await near[Symbol.asyncIterator]().next()).value?.length, size);
  }
});

/** Connects as somebody does who is nobody's peer. */
function connectAs(host: VirtualHost, says: Uint8Array): { isOpen: boolean } {
  const state = { isOpen: false };
  host.connectStream({ transport: "tcp", remote: TransportAddress.of("192.0.2.1", 443) }, (stream) => {
    if (stream instanceof Error) return undefined;
    state.isOpen = true;
    if (says.length > 0) stream.send(says);
    stream.resume();
    return { onData() {}, onSent() {}, onEnd: () => void (state.isOpen = false) };
  });
  return state;
}
