// allocate(), requestBinding() and probeTurn() over DTLS, on loopback.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { StunConnectionError } from "../../stun/error.ts";
import { denoHost } from "../../stun/net/deno_host.ts";
import { pickHost } from "../../stun/net/linux_host.ts";
import { type Host, OpenError } from "../../stun/net/transport.ts";
import { requestBinding } from "../../stun/request.ts";
import { serveStun } from "../../stun/serve.ts";
import { allocate, type AllocateOptions, type Relay } from "../../turn/allocate.ts";
import { probeTurn, type ProbeTurnOptions } from "../../turn/probe.ts";
import { serveTurn, type ServeTurnOptions, type TurnServerHandle } from "../../turn/serve.ts";

const read = (name: string) => Deno.readTextFileSync(new URL(`../vectors/tls/${name}.pem`, import.meta.url));
const CA = [read("ca")];
const ONE = { certificate: read("one"), key: read("one_key") };
const TWO = { certificate: read("two"), key: read("two_key") };
const LIBRARY = denoHost().dtls!;

function dtlsTest(name: string, work: () => Promise<void>): void {
  Deno.test({ name, ignore: LIBRARY.obstacle !== undefined, fn: work });
}

/** A host whose DTLS does not work. */
function without(obstacle: string): Host {
  return { ...denoHost(), dtls: { open: LIBRARY.open, connect: LIBRARY.connect, obstacle } };
}

function serve(options: Partial<ServeTurnOptions> = {}): TurnServerHandle {
  return serveTurn({
    listen: ["127.0.0.1:0"],
    realm: "example.org",
    users: { alice: "secret" },
    allowPeers: ["127.0.0.0/8"],
    tls: ONE,
    ...options,
  });
}

function open(server: TurnServerHandle, options: Partial<AllocateOptions> = {}): Promise<Relay> {
  const uri = `turns:localhost:${server.addresses[0]!.port}?transport=udp`;
  return allocate({ server: uri, username: "alice", password: "secret", tls: { ca: CA }, ...options });
}

async function next(relay: Relay): Promise<Uint8Array> {
  const { value } = await relay[Symbol.asyncIterator]().next();
  return value!.data;
}

dtlsTest("RFC 8656 §3.1: relays over UDP and DTLS on one port, and data between them of all sizes", async () => {
  const { host } = pickHost();
  for (const options of [{}, { host }]) {
    await using server = serve(options);
    assertEquals(server.transports, [["udp", "tcp", "tls", "dtls"]]);
    await using udp = await open(server, { server: `turn:${server.addresses[0]}`, ...options });
    await using dtls = await open(server, options);
    await udp.permit(dtls.relayedAddress);
    await dtls.permit(udp.relayedAddress);
    for (const round of ["indications", "channels"]) {
      for (const [from, to] of [[udp, dtls], [dtls, udp]] as const) {
        if (round === "channels") await from.bindChannel(to.relayedAddress);
        for (const size of [0, 1, 2, 3, 1200, 16_000]) {
          const data = Uint8Array.from({ length: size }, (_, j) => j);
          from.send(to.relayedAddress, data);
          assertEquals(await next(to), data);
        }
      }
    }
    assertEquals([server.streamStats().open, server.streamStats().challenged, server.stats().allocations], [1, 1, 2]);
  }
});

dtlsTest(
  "RFC 8656 §3.1: an allocation ends with its association, and a client hears of a server that shuts down",
  async () => {
    const ended: string[] = [];
    const server = serve({ onEvent: (event) => void (event.type === "ended" && ended.push(event.why)) });
    const relay = await open(server);
    await (await open(server)).close();
    assertEquals([ended, server.stats().allocations], [["deleted"], 1]);
    await server.shutdown();
    await assertRejects(() => next(relay), StunConnectionError);
    await relay.close();
  },
);

dtlsTest("RFC 8016 §3: an allocation moves from one association to another", async () => {
  await using server = serve();
  await using relay = await open(server, { mobility: true });
  await using peer = await open(server);
  await peer.permit(relay.relayedAddress);
  await relay.bindChannel(peer.relayedAddress);
  assertEquals(relay.canMigrate, true);
  await relay.migrate();
  relay.send(peer.relayedAddress, Uint8Array.of(1));
  assertEquals(await next(peer), Uint8Array.of(1));
  assertEquals([server.streamStats().accepted, server.stats().allocations], [3, 2]);
});

dtlsTest("RFC 8489 §6.2.3: a Binding request over DTLS; the certificate must be for the name in the URI", async () => {
  await using server = serveStun({ listen: ["127.0.0.1:0"], listenTls: ["127.0.0.1:0"], tls: ONE, dtls: true });
  assertEquals(server.transports, [["udp", "tcp", "tls", "dtls"], ["tls", "dtls"]]);
  for (const { port } of server.addresses) {
    const ask = (name: string, tls = { ca: CA }) =>
      requestBinding({ server: `stuns:${name}:${port}`, transport: "dtls", tls, localAddress: "127.0.0.1" });
    const { mapped, local } = await ask("localhost");
    assertEquals(mapped, local);
    const stranger = await assertRejects(() => ask("localhost", { ca: [TWO.certificate] }), OpenError);
    assertEquals(stranger.failure, "certificate");
  }
  const wrong = { ca: CA, serverName: "other.example" };
  const [server1] = server.addresses;
  const refused = () => requestBinding({ server: server1!, transport: "dtls", tls: wrong });
  assertEquals((await assertRejects(refused, OpenError)).failure, "certificate");
  const insecure = { serverName: "other.example", insecureAcceptAnyCertificate: true };
  await requestBinding({ server: server1!, transport: "dtls", tls: insecure });
  // What is not DTLS is not answered on a port that is for it only.
  const plain = requestBinding({ server: server.addresses[1]!, rto: 20, rc: 2, rm: 2 });
  await assertRejects(() => plain);
  server.setTls(TWO);
  const tls = { ca: CA, serverName: "two.example" };
  await requestBinding({ server: server1!, transport: "dtls", tls });
});

dtlsTest("probeTurn(): DTLS is tried where it is asked for", async () => {
  await using server = serve();
  const { port } = server.addresses[0]!;
  const options = { username: "alice", password: "secret", tls: { ca: CA }, count: 5, rate: 1000 };
  const working = async (server: string, more: Partial<ProbeTurnOptions> = {}) => {
    const { paths, unknown } = await probeTurn({ server, ...options, ...more });
    const good = paths.filter(({ failure }) => failure === null).map(({ transport }) => transport);
    return [[...new Set(good)].join(" "), unknown.dtls];
  };
  assertEquals(await working(`turns:127.0.0.1:${port}?transport=udp`), ["dtls", undefined]);
  const both = { transports: ["udp", "dtls"] } as const;
  assertEquals(await working(`turn:127.0.0.1:${port}`, both), ["udp dtls", undefined]);
  const refused = await probeTurn({ server: `turns:127.0.0.1:${port}?transport=udp`, ...options, tls: {} });
  assertEquals(refused.paths.map(({ failure }) => failure?.kind), ["certificate"]);
  const host = without("it needs --allow-ffi");
  assertEquals(await working(`turn:127.0.0.1:${port}`, { ...both, host }), ["udp", "it needs --allow-ffi"]);
});

Deno.test("where there is no library: servers go without DTLS unless they must have it, and clients say why", async () => {
  const host = without("it needs --allow-ffi");
  await using server = serve({ host });
  assertEquals(server.transports, [["udp", "tcp", "tls"]]);
  assertThrows(() => serve({ host, dtls: true }), OpenError, "Cannot serve DTLS: it needs --allow-ffi");
  assertThrows(
    () => serveTurn({ realm: "r", users: {}, listen: ["127.0.0.1:0"], dtls: true }),
    OpenError,
    "certificate",
  );
  const { dtls: _, ...bare } = denoHost();
  const error = await assertRejects(() => open(server, { host: bare }), OpenError);
  assert(error.message.includes("this host has none"), error.message);
  await using off = serve({ dtls: false });
  assertEquals(off.transports, [["udp", "tcp", "tls"]]);
});
