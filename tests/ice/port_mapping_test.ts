// Ports on the router: PCP (RFC 6887) and NAT-PMP (RFC 6886).
import { assert, assertEquals, assertMatch } from "@std/assert";
import fc from "fast-check";
import { openIce } from "../../ice/connect.ts";
import type { IceConnection, OpenIceOptions } from "../../ice/connection.ts";
import type { GatheringError, IceEvent } from "../../ice/events.ts";
import { type PortMapEvent, PortMapper } from "../../ice/port_mapper.ts";
import { TransportAddress } from "../../stun/address.ts";
import { Driver } from "../../stun/net/driver.ts";
import { type NatOptions, type VirtualGateway, type VirtualHost, VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { serveStun } from "../../stun/serve.ts";
import { PcpServer, type PcpServerOptions } from "./_pcp_server.ts";

const SERVER = "198.51.100.1";
const SYMMETRIC = { mapping: "address-and-port-dependent", portAllocation: "random" } as const;

interface Home {
  readonly nat: VirtualGateway;
  readonly host: VirtualHost;
  readonly router: PcpServer;
}

interface Scene {
  readonly world: VirtualWorld;
  readonly a: Home;
  readonly b: Home;
}

interface HomeOptions extends PcpServerOptions {
  readonly nat?: Omit<NatOptions, "external">;
}

/** Two homes whose routers are at .1, 1 ms away from the computers, and a STUN server outside. */
async function scene(
  options: { readonly a?: HomeOptions; readonly b?: HomeOptions },
  program: (scene: Scene) => Promise<void>,
): Promise<void> {
  const world = new VirtualWorld({ seed: 11, link: { delay: 1 } });
  const server = world.addHost("server", { addresses: [SERVER], link: { delay: 20 } });
  const [a, b] = (["a", "b"] as const).map((name, i): Home => {
    const { nat: rules = {}, ...router } = options[name] ?? {};
    const nat = world.addNat(`nat ${name}`, { external: [`203.0.113.${i + 1}`], ...rules });
    const box = nat.addHost(`router ${name}`, { addresses: [`192.168.${i}.1`] });
    return {
      nat,
      host: nat.addHost(name, { addresses: [`192.168.${i}.2`] }),
      router: new PcpServer(box, nat, router),
    };
  });
  await world.run(async () => {
    await using _server = serveStun({ host: server, listen: [`${SERVER}:3478`] });
    await program({ world, a: a!, b: b! });
  });
}

/** An agent of a home that asks its router, and what it says. */
function open({ host }: Home, options: Partial<OpenIceOptions> = {}) {
  const events: IceEvent[] = [];
  const gateway = host.networkInterfaces[0]!.addresses[0]!.replace(/2$/, "1");
  const connection = openIce({
    host,
    tcp: "none",
    portMapping: { gateway },
    onEvent: (event) => events.push(event),
    ...options,
  });
  return {
    connection,
    problems: () => events.filter((event): event is GatheringError => event.type === "gathering-error"),
  };
}

const lines = async (connection: IceConnection) =>
  [...(await connection.localDescription("sdp")).matchAll(/udp \d+ (\S+ \d+ typ .*)\r/g)].map(([, line]) => line!);

async function exchange(one: IceConnection, other: IceConnection): Promise<void> {
  const [ofOne, ofOther] = await Promise.all([one.localDescription(), other.localDescription()]);
  one.addRemoteDescription(ofOther);
  other.addRemoteDescription(ofOne);
}

Deno.test("RFC 6887 §11: one request, one answer, one more server-reflexive candidate, and the port is given back", async () => {
  await scene({}, async ({ world, a }) => {
    const { connection } = open(a, { bind: ["192.168.0.2:5000"] });
    assertEquals(await lines(connection), [
      "192.168.0.2 5000 typ host",
      "203.0.113.1 5000 typ srflx raddr 192.168.0.2 rport 5000",
    ]);
    assertEquals([world.now, a.router.requests], [4, ["pcp map 5000 for 1200"]]);
    assertEquals(a.nat.mappings.map(({ internal, external }) => `${internal} ${external}`), [
      "192.168.0.2:5000 203.0.113.1:5000",
    ]);
    await connection.close();
    await world.sleep(10);
    assertEquals([a.router.requests.at(-1), a.nat.mappings], ["pcp map 5000 for 0", []]);
    await world.sleep(3_000_000);
    assertEquals(a.router.requests.length, 2);
  });
});

Deno.test("RFC 6886 §3, RFC 6887 Appendix A: a router that knows NAT-PMP only is asked by that", async () => {
  await scene({ a: { speaks: "nat-pmp" } }, async ({ world, a }) => {
    const { connection } = open(a, { bind: ["192.168.0.2:5000"] });
    assertEquals((await lines(connection))[1], "203.0.113.1 5000 typ srflx raddr 192.168.0.2 rport 5000");
    assertEquals(world.now, 8);
    await connection.close();
    await world.sleep(10);
    assertEquals(a.router.requests, [
      "pcp map 5000 for 1200",
      "nat-pmp address",
      "nat-pmp map 5000 for 1200",
      "nat-pmp map 5000 for 0",
    ]);
    assertEquals(a.nat.mappings, []);
  });
});

Deno.test("RFC 6887 §11.2.1: mappings are renewed from half of their lifetime on; one that is not is known as lost", async () => {
  for (const speaks of ["pcp", "nat-pmp"] as const) {
    await scene({ a: { speaks, lifetime: 100 } }, async ({ world, a }) => {
      const { connection, problems } = open(a);
      await lines(connection);
      await world.sleep(600_000);
      const { times, requests } = a.router;
      const maps = times.filter((_, i) => / map /.test(requests[i]!)).slice(speaks === "pcp" ? 0 : 1);
      // 50 to 62.5 s apart.
      maps.slice(1).forEach((at, i) =>
        assert(at - maps[i]! >= 50_000 && at - maps[i]! <= 62_600, String(at - maps[i]!))
      );
      assert(maps.length >= 10 && maps.length <= 13);
      assertEquals(a.nat.mappings.length, 1);
      a.router.options = { speaks: "nothing" };
      const before = requests.length;
      await world.sleep(600_000);
      assertMatch(problems()[0]!.text, /The router does not renew it/);
      // Half of what is left, each time, and never more often than every 4 s.
      assert(requests.length - before < 16, String(requests.length - before));
      await connection.close();
    });
  }
});

Deno.test("Port mapping: a silent or refusing router costs 1.5 s of gathering at most, and is told of", async () => {
  await scene({ a: { speaks: "nothing" }, b: { result: 8 } }, async ({ world, a, b }) => {
    const [silent, refused] = [open(a), open(b)];
    await refused.connection.localDescription();
    assertEquals([world.now, b.router.requests.length], [4, 1]);
    assertMatch(refused.problems()[0]!.text, /refuses: it has no resources \(PCP 8\)/);
    await silent.connection.localDescription();
    assertEquals(world.now, 1500);
    await world.sleep(30_000);
    assertMatch(silent.problems()[0]!.text, /No answer from the router/);
    // After 3 s, 6 s and 12 s, a tenth more or less.
    const { times } = a.router;
    assertEquals(times.length, 3);
    assert(times[1]! >= 2700 && times[1]! <= 3302 && times[2]! - times[1]! >= 5400 && times[2]! - times[1]! <= 6602);
    await Promise.all([silent.connection.close(), refused.connection.close()]);
  });
});

Deno.test("Port mapping: nothing else waits for it: host candidates and checks come first", async () => {
  await scene({ a: { speaks: "nothing" } }, async ({ world, a }) => {
    const { connection: one } = open(a);
    const other = openIce({ host: a.host, tcp: "none", role: "controlled" });
    const told: string[] = [];
    for await (const text of one.localFragments()) {
      told.push(text);
      other.addRemoteDescription(text);
      if (text.startsWith("candidate")) break;
    }
    one.addRemoteDescription(await other.localDescription());
    await one.connected;
    assert(world.now < 10, `took ${world.now} ms`);
    await Promise.all([one.close(), other.close()]);
  });
});

Deno.test("Port mapping: off by default, with relays only and for lite agents nobody is asked", async () => {
  await scene({}, async ({ a }) => {
    const without = openIce({ host: a.host, tcp: "none" });
    const lite = open(a, { lite: true });
    const relays = open(a, { policy: "relay" });
    await Promise.allSettled([without, lite.connection, relays.connection].map((one) => one.localDescription()));
    assertEquals(a.router.requests, []);
    await Promise.all([without, lite.connection, relays.connection].map((one) => one.close()));
  });
});

Deno.test("Port mapping: two symmetric NATs connect directly with one port; without they do not", async () => {
  for (const portMapping of [true, false]) {
    await scene({ a: { nat: SYMMETRIC }, b: { nat: SYMMETRIC } }, async ({ a, b }) => {
      const stunServers = [`stun:${SERVER}`];
      const one = open(a, { role: "controlling", stunServers, ...(portMapping ? {} : { portMapping: false }) });
      const other = open(b, { role: "controlled", stunServers, portMapping: false });
      await exchange(one.connection, other.connection);
      const [result] = await Promise.allSettled([one.connection.nominated, other.connection.nominated]);
      assertEquals(result.status, portMapping ? "fulfilled" : "rejected");
      if (result.status === "fulfilled") assertEquals(result.value.remote.type, "prflx");
      await Promise.all([one.connection.close(), other.connection.close()]);
    });
  }
});

Deno.test("Port mapping: a restart tells the same port again without asking for it", async () => {
  await scene({}, async ({ a }) => {
    const { connection } = open(a);
    const before = await lines(connection);
    const restarted = await connection.restart("sdp");
    assertEquals([...restarted.matchAll(/udp \d+ (\S+ \d+ typ .*)\r/g)].map(([, line]) => line), before);
    assertEquals([before.length, a.router.requests.length], [2, 1]);
    await connection.close();
  });
});

Deno.test("Port mapping: with another address another port is asked for, and the old one given back", async () => {
  await scene({}, async ({ world, a }) => {
    const { connection } = open(a, { portRange: [5000, 5000] });
    await lines(connection);
    const [eth0] = a.host.networkInterfaces;
    eth0!.setAddresses(["192.168.0.2", "192.168.0.9"]);
    const restarted = await connection.restart("sdp");
    assertMatch(restarted, /203\.0\.113\.1 \d+ typ srflx raddr 192\.168\.0\.9 rport 5000/);
    eth0!.setAddresses(["192.168.0.9"]);
    await connection.restart("sdp");
    await world.sleep(1_500_000);
    assertEquals(a.nat.mappings.map(({ internal }) => String(internal)), ["192.168.0.9:5000"]);
    await connection.close();
    await world.sleep(100);
    assertEquals(a.nat.mappings, []);
  });
});

Deno.test("Port mapping: each component of each stream has a port of its own", async () => {
  await scene({}, async ({ a }) => {
    const { connection } = open(a, { streams: [{ components: 2 }, {}] });
    const mapped = (await lines(connection)).filter((line) => line.includes("srflx"));
    assertEquals([mapped.length, a.nat.mappings.length], [3, 3]);
    await connection.close();
  });
});

Deno.test("Port mapping: a router behind another NAT has no port of use; a public address needs none", async () => {
  await scene({ a: { external: "100.64.0.7" } }, async ({ a, world }) => {
    const { connection, problems } = open(a);
    assertEquals((await lines(connection)).length, 1);
    assertMatch(problems()[0]!.text, /of no use as the router has a private address outside, 100\.64\.0\.7/);
    const open4 = world.addHost("public", { addresses: ["203.0.113.77"] });
    await using there = openIce({ host: open4, tcp: "none", portMapping: true });
    await there.localDescription();
    assertEquals(there.stats().localCandidates.length, 1);
    await connection.close();
  });
});

Deno.test("Port mapping: with names in place of addresses the candidate tells no address of the home", async () => {
  await scene({}, async ({ a }) => {
    const { connection } = open(a, { mdns: "hide" });
    assertEquals(
      (await lines(connection))[1]!.replace(/ \d+ typ/, " PORT typ"),
      "203.0.113.1 PORT typ srflx raddr 0.0.0.0 rport 9",
    );
    await connection.close();
  });
});

/** A UPnP client that notes what it is asked, and answers after a while. */
function upnp(world: VirtualWorld, external: string | undefined, delay = 100) {
  const calls: string[] = [];
  const gateway = {
    map: async (port: number, host: string) => {
      calls.push(`map ${host}:${port}`);
      await world.sleep(delay);
      if (external === undefined) throw new Error("it says no");
      return { externalHost: external, externalPort: port + 1 };
    },
    stop: () => {
      calls.push("stop");
      return Promise.resolve();
    },
  };
  const client = {
    async *findGateways() {
      calls.push(`search at ${world.now}`);
      await world.sleep(delay);
      if (external !== "nobody") yield gateway;
    },
  };
  return { client, calls };
}

Deno.test("Port mapping by UPnP: at once when the router refuses, after half a second when it is silent, else not", async () => {
  const cases = [
    [{ result: 4 }, "search at 4"],
    [{ speaks: "nothing" }, "search at 500"],
    [{}, undefined],
  ] as const;
  for (const [a, searched] of cases) {
    await scene({ a }, async ({ world, a }) => {
      const { client, calls } = upnp(world, "203.0.113.1");
      const gateway = "192.168.0.1";
      const { connection } = open(a, { bind: ["192.168.0.2:5000"], portMapping: { gateway, upnp: client } });
      const [, mapped] = await lines(connection);
      const port = searched === undefined ? 5000 : 5001;
      assertEquals(mapped, `203.0.113.1 ${port} typ srflx raddr 192.168.0.2 rport 5000`);
      await connection.close();
      assertEquals(calls, searched === undefined ? [] : [searched, "map 192.168.0.2:5000", "stop"]);
    });
  }
});

Deno.test("Port mapping by UPnP: what does not work is told of, and takes 10 s and 1.5 s of closing at most", async () => {
  const cases = [
    [undefined, 100, /it says no/],
    ["nobody", 100, /there is no UPnP router/],
    ["192.168.77.1", 100, /has a private address outside/],
    ["not an address", 100, /has no address outside: not an address/],
    ["203.0.113.1", 30_000, /no UPnP router has answered within 10000 ms/],
  ] as const;
  for (const [external, delay, problem] of cases) {
    await scene({ a: { speaks: "nothing" } }, async ({ world, a }) => {
      const { client } = upnp(world, external, delay);
      const { connection, problems } = open(a, { portMapping: { gateway: "192.168.0.1", upnp: client } });
      await connection.localDescription();
      assert(world.now <= 1500);
      await world.sleep(11_000);
      assert(problems().some(({ text }) => problem.test(text)), JSON.stringify(problems()));
      const closing = world.now;
      await connection.close();
      assert(world.now - closing <= 1500, `took ${world.now - closing} ms`);
      await world.sleep(40_000);
    });
  }
});

Deno.test("Port mapping: answers from elsewhere, about others or that are none change nothing", () => {
  const world = new VirtualWorld();
  const host = world.addHost("a", { addresses: ["192.0.2.1"] });
  const driver = new Driver(host);
  const mapper = new PortMapper();
  const events: PortMapEvent[] = [];
  const handle = driver.add(mapper, { onEvent: (event) => events.push(event) });
  const { socket } = handle.bind({ transport: "udp", address: "192.0.2.1", port: 9 });
  const gateway = TransportAddress.parse("192.0.2.254:5351");
  const internal = TransportAddress.parse("192.0.2.1:5000");
  handle.call((io) => mapper.map({ internal, socket, gateway }, io));
  const good = new Uint8Array(60);
  good.set([2, 0x81, 0, 0, 0, 0, 0, 100]);
  const feed = (bytes: Uint8Array, from = gateway) => {
    const packet = { socket, from, buffer: bytes, offset: 0, length: bytes.length, bytes };
    handle.call((io) => mapper.handlePacket(packet, io));
  };
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 80 }),
    // Without our nonce, or cut short, or of PCP's request form.
    fc.tuple(fc.nat(60), fc.constantFrom(0, 1, 2, 3), fc.constantFrom(0x00, 0x01, 0x80, 0x81, 0x82)).map(
      ([length, version, opcode]) => {
        const changed = good.slice(0, length);
        if (length > 1) changed.set([version, opcode]);
        // NAT-PMP's own answers are another matter: it was not asked.
        return version === 0 ? changed.slice(0, 3) : changed;
      },
    ),
  );
  fc.assert(
    fc.property(bytes, (changed) => {
      if (changed[0] === 0) changed[0] = 7;
      feed(changed);
      feed(changed, TransportAddress.parse("192.0.2.254:5352"));
      return events.length === 0;
    }),
    { numRuns: 2000 },
  );
  driver.close();
});
