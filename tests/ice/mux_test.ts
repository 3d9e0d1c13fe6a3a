// Many connections on one UDP port.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { openIce } from "../../ice/connect.ts";
import type { IceConnection } from "../../ice/connection.ts";
import { type IceMux, openIceMux } from "../../ice/mux.ts";
import { type VirtualHost, VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { serveTurn } from "../../turn/serve.ts";

const SERVER = "198.51.100.1";
const encoder = new TextEncoder();
const decoder = new TextDecoder();

async function exchange(one: IceConnection, other: IceConnection): Promise<void> {
  const [ofOne, ofOther] = await Promise.all([one.localDescription(), other.localDescription()]);
  one.addRemoteDescription(ofOther);
  other.addRemoteDescription(ofOne);
}

/** A connection of a member with a client elsewhere, and all that each of them gets. */
class Couple {
  readonly server: IceConnection;
  readonly client: IceConnection;
  readonly atServer: string[] = [];
  readonly atClient: string[] = [];

  constructor(mux: IceMux, host: VirtualHost, lite = false) {
    const onDatagram = (got: string[]) => (bytes: Uint8Array) => void got.push(decoder.decode(bytes));
    this.server = openIce({ mux, role: "controlled", lite, onDatagram: onDatagram(this.atServer) });
    this.client = openIce({ host, role: "controlling", onDatagram: onDatagram(this.atClient) });
  }

  async connect(): Promise<void> {
    await exchange(this.server, this.client);
    await Promise.all([this.server.nominated, this.client.nominated]);
  }

  close(): Promise<unknown> {
    return Promise.all([this.server.close(), this.client.close()]);
  }
}

/** A server, and clients at addresses of their own. */
function scene(count: number, seed = 1) {
  const world = new VirtualWorld({ seed, link: { delay: 5 } });
  const server = world.addHost("server", { addresses: ["192.0.2.1"] });
  const address = (i: number) => `203.0.${100 + Math.floor(i / 200)}.${1 + i % 200}`;
  const clients = Array.from({ length: count }, (_, i) => world.addHost(`client ${i}`, { addresses: [address(i)] }));
  return { world, server, clients };
}

Deno.test("Mux: a thousand connections on one port, and each gets what is its own, all of it and nothing else", async () => {
  const { world, server, clients } = scene(1000);
  await world.run(async () => {
    await using mux = openIceMux({ host: server, listen: ["0.0.0.0:5000"] });
    assertEquals(mux.addresses.map(String), ["192.0.2.1:5000"]);
    const couples = clients.map((host) => new Couple(mux, host));
    await Promise.all(couples.map((couple) => couple.connect()));
    assertEquals([mux.size, server.counters.noSocket], [1000, 0]);
    for (const [i, { server, client }] of couples.entries()) {
      for (let n = 0; n < 3; n++) {
        assert(client.send(encoder.encode(`${i} up ${n}`)));
        assert(server.send(encoder.encode(`${i} down ${n}`)));
      }
    }
    await world.sleep(100);
    for (const [i, { atServer, atClient }] of couples.entries()) {
      assertEquals(atServer, [0, 1, 2].map((n) => `${i} up ${n}`));
      assertEquals(atClient, [0, 1, 2].map((n) => `${i} down ${n}`));
    }
    assertEquals([mux.counters.unknown, mux.counters.conflicts], [0, 0]);
    await Promise.all(couples.map((couple) => couple.close()));
    assertEquals(mux.size, 0);
  });
});

Deno.test("Mux: closing one connection leaves the others alone; what still comes for it is nobody's", async () => {
  const { world, server, clients } = scene(2);
  await world.run(async () => {
    await using mux = openIceMux({ host: server, listen: ["192.0.2.1:5000"] });
    const [one, two] = clients.map((host) => new Couple(mux, host));
    await Promise.all([one!.connect(), two!.connect()]);
    await one!.server.close();
    const { unknown } = mux.counters;
    for (const { client } of [one!, two!]) client.send(encoder.encode("hello"));
    await world.sleep(20);
    assertEquals([one!.atServer, two!.atServer, mux.counters.unknown - unknown], [[], ["hello"], 1]);
    // Long enough for consent.
    await world.sleep(60_000);
    assertEquals([one!.client.state, two!.client.state, two!.server.state], ["failed", "completed", "completed"]);
    await Promise.all([one!.close(), two!.close()]);
  });
});

Deno.test("Mux: lite agents, restarts and early data go the right way", async () => {
  const { world, server, clients } = scene(2);
  await world.run(async () => {
    await using mux = openIceMux({ host: server, listen: ["192.0.2.1:5000"] });
    const [lite, full] = [new Couple(mux, clients[0]!, true), new Couple(mux, clients[1]!)];
    await Promise.all([lite.connect(), full.connect()]);
    const restarted = full.server.restart();
    full.client.addRemoteDescription(await restarted);
    full.server.addRemoteDescription(await full.client.localDescription());
    for (let n = 0; n < 20; n++) {
      for (const { server, client } of [lite, full]) {
        client.send(encoder.encode(String(n)));
        server.send(encoder.encode(String(n)));
      }
      await world.sleep(20);
    }
    const all = Array.from({ length: 20 }, (_, n) => String(n));
    for (const { atServer, atClient } of [lite, full]) assertEquals([atServer, atClient], [all, all]);
    assertEquals(mux.counters.conflicts, 0);
    await Promise.all([lite.close(), full.close()]);
  });
});

Deno.test("Mux: server-reflexive candidates by the shared port, relays by ports of their own", async () => {
  const world = new VirtualWorld({ seed: 5, link: { delay: 5 } });
  const host = world.addHost("turn", { addresses: [SERVER] });
  const home = world.addNat("home", { external: ["203.0.113.1"] });
  const [a, far] = [
    home.addHost("a", { addresses: ["192.168.1.2"] }),
    world.addHost("far", { addresses: ["192.0.2.9"] }),
  ];
  await world.run(async () => {
    await using _server = serveTurn({
      host,
      listen: [`${SERVER}:3478`],
      realm: "example.org",
      users: { alice: "secret" },
      allowPeers: ["198.51.100.0/24", "203.0.113.0/24", "192.0.2.0/24"],
    });
    await using mux = openIceMux({ host: a, listen: ["192.168.1.2:5000"] });
    const turnServers = [{ urls: `turn:${SERVER}`, username: "alice", credential: "secret" }];
    const options = { mux, stunServers: [`stun:${SERVER}`], turnServers };
    await using one = openIce(options);
    await using two = openIce(options);
    await Promise.all([one.localDescription(), two.localDescription()]);
    const candidates = [one, two].map((connection) =>
      connection.stats().localCandidates.filter(({ protocol }) => protocol === "udp")
        .map(({ candidateType, address, port }) => [candidateType, address, port])
    );
    const external = home.mappings.find(({ internal }) => internal.port === 5000)!.external;
    for (const list of candidates) {
      assertEquals(list.slice(0, 2), [["host", "192.168.1.2", 5000], ["srflx", "203.0.113.1", external.port]]);
    }
    const relays = candidates.map((list) => list[2]);
    assertEquals(relays.map((relay) => relay?.[0]), ["relay", "relay"]);
    assert(relays[0]![2] !== relays[1]![2]);
    await using client = openIce({ host: far, role: "controlled" });
    await exchange(one, client);
    await Promise.all([one.nominated, client.nominated]);
  });
});

Deno.test("Mux: two programs that both share their ports have one connection, and the next finds no path rather than its data", async () => {
  const { world, server, clients: [host] } = scene(1);
  await world.run(async () => {
    await using here = openIceMux({ host: server, listen: ["192.0.2.1:5000"] });
    await using there = openIceMux({ host: host!, listen: ["203.0.100.1:6000"] });
    const got: string[][] = [[], []];
    const open = (mux: IceMux, i?: number) =>
      openIce({
        mux,
        role: i === undefined ? "controlled" : "controlling",
        ...(i === undefined ? {} : { onDatagram: (bytes: Uint8Array) => void got[i]!.push(decoder.decode(bytes)) }),
      });
    const pairs = got.map((_, i) => [open(here, i), open(there)] as const);
    for (const [one, other] of pairs) await exchange(one, other);
    const settled = await Promise.allSettled(pairs.map(([one]) => one.nominated));
    assertEquals(settled.map(({ status }) => status), ["fulfilled", "rejected"]);
    assert(here.counters.conflicts > 0);
    for (const [i, [, other]] of pairs.entries()) other.send(encoder.encode(String(i)));
    await world.sleep(100);
    assertEquals(got, [["0"], []]);
    await Promise.all(pairs.flat().map((connection) => connection.close()));
  });
});

Deno.test("Mux: what strangers send changes nothing and gets to nobody", async () => {
  const { world, server, clients } = scene(3);
  await world.run(async () => {
    await using mux = openIceMux({ host: server, listen: ["192.0.2.1:5000"] });
    const [one, two] = [new Couple(mux, clients[0]!), new Couple(mux, clients[1]!)];
    await Promise.all([one.connect(), two.connect()]);
    await using stranger = openIce({ host: clients[2]!, role: "controlling" });
    // A check that names a good username fragment, with a password of its own.
    await stranger.localDescription();
    const { ufrag } = one.server.localParameters;
    stranger.setRemoteParameters({ ufrag, pwd: "thepasswordofsomebodyelse" });
    stranger.addRemoteCandidate("candidate:1 1 udp 1 192.0.2.1 5000 typ host");
    await world.sleep(20_000);
    assertEquals([one.server.state, two.server.state], ["completed", "completed"]);
    for (const { client } of [one, two]) client.send(encoder.encode("hello"));
    await world.sleep(20);
    assertEquals([one.atServer, two.atServer], [["hello"], ["hello"]]);
    await Promise.all([one.close(), two.close()]);
  });
});

Deno.test("Mux: names in place of the shared addresses", async () => {
  const { world } = scene(0);
  const home = world.addNat("home", { external: ["203.0.113.1"] });
  const [a, b] = ["a", "b"].map((name, i) => home.addHost(name, { addresses: [`192.168.1.${i + 2}`] }));
  await world.run(async () => {
    await using mux = openIceMux({ host: a!, listen: ["192.168.1.2:5000"] });
    await using one = openIce({ mux, mdns: "hide" });
    await using other = openIce({ host: b!, role: "controlled", mdns: "hide" });
    await exchange(one, other);
    const [pair] = await Promise.all([one.nominated, other.nominated]);
    assertEquals([pair.remote.type, (await one.localDescription()).includes("192.168.")], ["host", false]);
  });
});

Deno.test("Mux: what can not be, with the reason; what has failed takes no room", async () => {
  const { world, server } = scene(0);
  await world.run(async () => {
    assertThrows(() => openIceMux({ host: server, listen: ["5000"] }), SyntaxError);
    assertThrows(
      () => openIceMux({ host: server, listen: ["192.0.2.1:5000", "192.0.2.7:5000"] }),
      Error,
      "no such address",
    );
    const mux = openIceMux({ host: server, listen: ["192.0.2.1:5000"] });
    assertThrows(() => openIce({ mux, ta: 1 }), RangeError);
    await using one = openIce({ mux, ufrag: "abcd" });
    assertThrows(() => openIce({ mux, ufrag: "abcd" }), Error, 'another agent on it has the username fragment "abcd"');
    assertEquals(mux.size, 1);
    await one.close();
    await mux.close();
    assertThrows(() => openIce({ mux }), Error, "was closed");
    await openIceMux({ host: server, listen: ["192.0.2.1:5000"] }).close();
  });
});
