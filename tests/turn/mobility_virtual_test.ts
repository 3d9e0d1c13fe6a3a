// RFC 8016 with both sides of natkit: clients that go from network to network, in virtual time.
import { assert, assertEquals, assertRejects } from "@std/assert";
import type { VirtualHost, VirtualInterface } from "../../stun/net/virtual/mod.ts";
import { VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { allocate, type AllocateOptions, type Relay, serveTurn, type ServeTurnOptions } from "../../turn/mod.ts";

const SERVER = "198.51.100.1:3478";
const LOGIN = { username: "alice", password: "secret" };

interface Place {
  readonly world: VirtualWorld;
  readonly server: VirtualHost;
  readonly phone: VirtualHost;
  readonly wifi: VirtualInterface;
  readonly mobile: VirtualInterface;
  readonly peer: VirtualHost;
}

/** A phone with Wi-Fi behind a NAT and a mobile network as far from all, a server, and a peer elsewhere. */
function place(): Place {
  const world = new VirtualWorld({ seed: 1, link: { delay: 10 } });
  const server = world.addHost("server", { addresses: ["198.51.100.1"] });
  const peer = world.addHost("peer", { addresses: ["203.0.113.200"] });
  const home = world.addNat("home", { external: ["203.0.113.1"] });
  const phone = home.addHost("phone", { addresses: ["192.168.1.2"], interfaceName: "wifi", link: { delay: 0 } });
  const [wifi] = phone.networkInterfaces as [VirtualInterface];
  const mobile = world.join(phone, { addresses: ["203.0.113.77"], interfaceName: "wwan" });
  return { world, server, phone, wifi, mobile, peer };
}

function serve({ server: host }: Place, options: Partial<ServeTurnOptions> = {}) {
  return serveTurn({ host, listen: [SERVER], realm: "example.org", users: { alice: "secret" }, ...options });
}

function open(host: VirtualHost, options: Partial<AllocateOptions> = {}): Promise<Relay> {
  return allocate({ host, server: `turn:${SERVER}`, ...LOGIN, mobility: true, ...options });
}

/** Sends a number each 5 ms in both directions until `isOver`. Gives, for each direction, what was sent and what came. */
async function talk(world: VirtualWorld, one: Relay, other: Relay, isOver: () => boolean) {
  const came = [read(one), read(other)];
  let count = 0;
  for (; !isOver(); count++) {
    one.send(other.relayedAddress, Uint8Array.of(count >> 8, count & 255));
    other.send(one.relayedAddress, Uint8Array.of(count >> 8, count & 255));
    await world.sleep(5);
  }
  await world.sleep(200);
  return { count, came: came.map((numbers) => [...numbers]) };
}

/** The numbers that come, as they come. */
function read(relay: Relay): number[] {
  const numbers: number[] = [];
  (async () => {
    for await (const { data } of relay) numbers.push((data[0]! << 8) | data[1]!);
  })().catch(() => {});
  return numbers;
}

function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

Deno.test("RFC 8016 §3: data goes on in both directions while a relay goes from network to network: all arrives, once, in order", async () => {
  for (const channel of [false, true]) {
    const it = place();
    await it.world.run(async () => {
      await using server = serve(it);
      await using phone = await open(it.phone, { localAddress: "192.168.1.2" });
      await using peer = await open(it.peer);
      await Promise.all([phone.permit(peer.relayedAddress), peer.permit(phone.relayedAddress)]);
      if (channel) await Promise.all([phone.bindChannel(peer.relayedAddress), peer.bindChannel(phone.relayedAddress)]);
      let isOver = false;
      const talking = talk(it.world, phone, peer, () => isOver);
      for (const localAddress of ["203.0.113.77", "192.168.1.2", "203.0.113.77"]) {
        await it.world.sleep(100);
        await phone.migrate({ localAddress });
        assertEquals(phone.localAddress.address, localAddress);
      }
      await it.world.sleep(100);
      isOver = true;
      const { count, came } = await talking;
      assertEquals(came, [upTo(count), upTo(count)]);
      const { moves, allocations, drops } = server.stats();
      assertEquals([moves, allocations, drops.noClient, drops.noAllocation], [3, 2, 0, 0]);
    });
  }
});

Deno.test("RFC 8016: when its address is gone the relay moves by itself, and what is sent meanwhile waits", async () => {
  const it = place();
  await it.world.run(async () => {
    await using server = serve(it);
    await using phone = await open(it.phone, { localAddress: "192.168.1.2" });
    await using peer = await open(it.peer);
    await Promise.all([phone.bindChannel(peer.relayedAddress), peer.permit(phone.relayedAddress)]);
    const got = read(peer);
    it.mobile.setAddresses([]);
    it.wifi.setAddresses([]);
    // It is noticed within a second; there is no other network until 10 s later.
    await it.world.sleep(1500);
    for (let i = 0; i < 100; i++) phone.send(peer.relayedAddress, Uint8Array.of(0, i));
    assertEquals([phone.stats().held, phone.stats().droppedQueueFull], [64, 36]);
    await it.world.sleep(8500);
    assertEquals([got, server.stats().moves], [[], 0]);
    it.mobile.setAddresses(["203.0.113.78"]);
    await it.world.sleep(1500);
    assertEquals([got, server.stats().moves], [upTo(64), 1]);
    assertEquals(phone.mappedAddress.address, "203.0.113.78");
  });
});

Deno.test("RFC 8016: a socket of all addresses moves as well when they change, and when another one comes it begins anew", async () => {
  const it = place();
  await it.world.run(async () => {
    await using server = serve(it);
    await using phone = await open(it.phone);
    assertEquals([phone.localAddress.address, phone.mappedAddress.address], ["0.0.0.0", "203.0.113.1"]);
    it.mobile.setAddresses([]);
    it.wifi.setAddresses([]);
    await it.world.sleep(20_000);
    it.mobile.setAddresses(["203.0.113.78"]);
    await it.world.sleep(1500);
    assertEquals([phone.mappedAddress.address, server.stats().moves], ["203.0.113.78", 1]);
    // One more address harms nobody.
    it.wifi.setAddresses(["192.168.1.3"]);
    await it.world.sleep(1500);
    assert(server.stats().moves === 2);
    assertEquals(server.stats().allocations, 1);
  });
});

Deno.test("RFC 8016: a connection that breaks is made anew on the other network, over TCP and TLS", async () => {
  for (const transport of ["tcp", "tls"] as const) {
    const it = place();
    await it.world.run(async () => {
      await using server = serve(it, { tls: { certificate: "198.51.100.1", key: "" } });
      await using phone = await open(it.phone, {
        transport,
        server: `${transport === "tls" ? "turns" : "turn"}:${SERVER}`,
      });
      await using peer = await open(it.peer, { mobility: false });
      await Promise.all([phone.permit(peer.relayedAddress), peer.permit(phone.relayedAddress)]);
      const { relayedAddress } = phone;
      it.wifi.setAddresses([]);
      await it.world.sleep(1500);
      assertEquals([phone.localAddress.address, phone.relayedAddress], ["203.0.113.77", relayedAddress]);
      const [one, other] = [read(phone), read(peer)];
      phone.send(peer.relayedAddress, Uint8Array.of(0, 1));
      peer.send(phone.relayedAddress, Uint8Array.of(0, 2));
      await it.world.sleep(100);
      assertEquals([one, other, server.stats().moves], [[2], [1], 1]);
    });
  }
});

Deno.test("RFC 8016: a NAT's new address is a new 5-tuple too: 437 to the next Refresh, and the relay is back", async () => {
  const world = new VirtualWorld({ seed: 1, link: { delay: 10 } });
  const server = world.addHost("server", { addresses: ["198.51.100.1"] });
  const home = world.addNat("home", { external: ["203.0.113.1"] });
  const phone = home.addHost("phone", { addresses: ["192.168.1.2"] });
  await world.run(async () => {
    await using turn = serveTurn({ host: server, listen: [SERVER], realm: "example.org", users: { alice: "secret" } });
    await using relay = await open(phone);
    const { relayedAddress } = relay;
    for (let i = 1; i <= 6; i++) {
      home.setExternal([`203.0.113.${1 + i}`]);
      await world.sleep(1_200_000);
      assertEquals([turn.stats().allocationsTotal, turn.stats().allocations, turn.stats().moves], [1, 1, i]);
      assertEquals([relay.relayedAddress, relay.mappedAddress.address], [relayedAddress, `203.0.113.${1 + i}`]);
    }
  }, { limit: Infinity });
});

Deno.test("RFC 8016 §3.1.3: where the server forbids it, a relay is an ordinary one, and a change of network its end", async () => {
  const it = place();
  await it.world.run(async () => {
    await using server = serve(it, { mobility: false });
    const phone = await open(it.phone, { localAddress: "192.168.1.2" });
    assertEquals([phone.canMigrate, server.stats().errors["405"]], [false, 1]);
    await assertRejects(() => phone.migrate(), Error, "gave no ticket");
    it.wifi.setAddresses([]);
    await it.world.sleep(1_200_000);
    await assertRejects(() => phone.permit(phone.relayedAddress), Error, "the allocation is lost");
    assertEquals(server.stats().allocations, 0);
  });
});
