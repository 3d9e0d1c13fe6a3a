// Where an agent's sockets are, and what its servers are asked for.
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { IceError } from "../../ice/error.ts";
import { openIce } from "../../ice/mod.ts";
import type { IceConnection, OpenIceOptions } from "../../ice/connection.ts";
import { VirtualWorld } from "../../stun/net/virtual/mod.ts";
import type { VirtualHost } from "../../stun/net/virtual/mod.ts";
import { serveTurn } from "../../turn/serve.ts";
import { meet, SERVER } from "./meeting.ts";

const TURN = { urls: [`turn:${SERVER}`], username: "alice", credential: "secret" };

/** A host on two networks with a TURN server. */
async function onTwoNetworks(
  options: OpenIceOptions,
  program: (connection: IceConnection, host: VirtualHost, world: VirtualWorld) => Promise<void>,
): Promise<void> {
  const world = new VirtualWorld({ link: { delay: 10 } });
  const server = world.addHost("server", { addresses: [SERVER] });
  const host = world.addHost("host", { addresses: ["203.0.113.1"] });
  world.join(host, { addresses: ["203.0.113.9"], interfaceName: "tun0" });
  await world.run(async () => {
    await using _server = serveTurn({
      ...{ host: server, listen: [`${SERVER}:3478`], realm: "example.org", users: { alice: "secret" } },
      allowPeers: ["203.0.113.0/24", "198.51.100.0/24"],
    });
    await using connection = openIce({ host, turnServers: [TURN], tcp: "none", ...options });
    await program(connection, host, world);
  });
}

const addressesOf = (connection: IceConnection) =>
  connection.stats().localCandidates.map(({ candidateType, address }) => `${candidateType} ${address}`);

Deno.test("I34: an interface that the filter refuses has no socket, neither for candidates nor towards STUN and TURN servers", async () => {
  const sources = new Set<string>();
  await onTwoNetworks({ interfaceFilter: ({ name }) => name !== "eth0" }, async (connection, _host, world) => {
    world.trace = ({ node, step, source }) => {
      if (node === "host" && step === "sent") sources.add(source.address);
    };
    await connection.localDescription();
    assertEquals(addressesOf(connection), ["host 203.0.113.9", `relay ${SERVER}`]);
  });
  assertEquals([...sources], ["203.0.113.9"]);
});

Deno.test("With a filter that refuses everything there is no candidate, and the error says so", async () => {
  await onTwoNetworks({ interfaceFilter: () => false }, async (connection) => {
    const error = await connection.localDescription().catch((error) => error);
    assertEquals([error instanceof IceError, error.failure], [true, "no-candidates"]);
    assertStringIncludes(error.message, "none of the addresses in use is IPv4");
  });
});

Deno.test("portRange: host candidates have ports of the range; when all are taken, the error says how many were tried", async () => {
  await onTwoNetworks({ portRange: [5000, 5001], turnServers: [] }, async (one, host) => {
    await using two = openIce({ host, tcp: "none", portRange: [5000, 5001] });
    await using three = openIce({ host, portRange: [5000, 5001] });
    const ports = [...one.stats().localCandidates, ...two.stats().localCandidates].map(({ address, port }) =>
      `${address} ${port}`
    );
    assertEquals(ports.sort(), ["203.0.113.1 5000", "203.0.113.1 5001", "203.0.113.9 5000", "203.0.113.9 5001"]);
    const error = await three.localDescription().catch((error) => error);
    assertStringIncludes(
      error.message,
      "Cannot bind UDP 203.0.113.1 as all 2 ports of portRange are in use (5000 to 5001, each tried once)",
    );
  });
  assertThrows(() => openIce({ portRange: [5001, 5000] }), RangeError, "portRange");
});

Deno.test("RFC 8445 §5.1.1.3: relays by UDP, TCP and TLS of one server have a foundation each, so that none waits for another", async () => {
  const world = new VirtualWorld({ link: { delay: 10 } });
  const server = world.addHost("server", { addresses: [SERVER] });
  const host = world.addHost("host", { addresses: ["203.0.113.1"] });
  await world.run(async () => {
    await using _server = serveTurn({
      ...{ host: server, listen: [`${SERVER}:3478`], realm: "example.org", users: { alice: "secret" } },
      ...{ listenTls: [`${SERVER}:443`], tls: { certificate: SERVER, key: "" } },
    });
    const urls = [`turn:${SERVER}`, `turn:${SERVER}?transport=tcp`, `turns:${SERVER}:443`];
    await using connection = openIce({ host, turnServers: [{ ...TURN, urls }], policy: "relay" });
    await connection.localDescription();
    const { localCandidates } = connection.stats();
    assertEquals(new Set(localCandidates.map(({ foundation }) => foundation)).size, 3);
  });
});

Deno.test("A peer's address that the TURN server refuses (403) is asked for once, and its pair fails at once", async () => {
  const side = { policy: "relay" } as const;
  // B tells its private address; the server relays to public ones only.
  await meet({ a: side, b: { type: "full cone" } }, async (meeting) => {
    const { a, b, server, world } = meeting;
    await meeting.exchange();
    await a.connection.nominated;
    const failed = () =>
      a.events.flatMap((event) => event.type === "pair" && event.state === "failed" ? [event.pair] : []);
    // Its check was the first, and waited for the permission.
    const summary = failed().map(({ remote, counters }) => [
      ...[remote.address.address, counters.requestsSent, counters.retransmissionsSent],
    ]);
    assertEquals(summary, [["10.0.0.2", 1, 0]]);
    b.connection.addRemoteDescription(await a.connection.restart());
    a.connection.addRemoteDescription(await b.connection.localDescription());
    await world.sleep(1000);
    assertEquals(failed().length, 2);
    assertEquals(server.stats().errors["403"], 1);
  });
});
