// Threads on the same ports: what `tests/turn/shared_state_test.ts` shows in virtual time, with real sockets and workers.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { sealAccessToken, TokenUsers } from "../../stun/access_token.ts";
import { pickHost } from "../../stun/net/linux_host.ts";
import { OpenError } from "../../stun/net/transport.ts";
import { restCredential } from "../../stun/rest_users.ts";
import { TransportAddress } from "../../stun/address.ts";
import { allocate, allocateTcp, type Relay } from "../../turn/allocate.ts";
import { TurnError } from "../../turn/error.ts";
import { serveTurnWorkers, type ServeTurnWorkersOptions } from "../../turn/serve_workers.ts";
import type { AllocationEvent } from "../../turn/server_events.ts";

const ignore = pickHost("auto").io !== "linux";
const WORKERS = 2;
const basics: ServeTurnWorkersOptions = {
  workers: WORKERS,
  listen: ["127.0.0.1:0"],
  realm: "example.org",
  users: { alice: "secret" },
  allowPeers: ["127.0.0.0/8"],
};
const credentials = { username: "alice", password: "secret" };

function test(name: string, body: () => Promise<void>): void {
  Deno.test({ name: `serveTurnWorkers(): ${name}`, ignore, fn: body });
}

async function codeOf(attempt: Promise<Relay>): Promise<number> {
  try {
    await using _relay = await attempt;
    return 0;
  } catch (error) {
    assert(error instanceof TurnError, String(error));
    return error.code ?? -1;
  }
}

test("clients are spread over all workers, reach each other's relays, and are counted as by one server", async () => {
  const events: AllocationEvent[] = [];
  const server = await serveTurnWorkers({ ...basics, onEvent: (event) => events.push(event) });
  const relays: Relay[] = [];
  const got = new Set<string>();
  try {
    // The kernel's choice goes by a hash of the ports: that 40 clients meet one worker only is one chance in 10¹².
    for (let i = 0; i < 40; i++) relays.push(await allocate({ server: server.addresses[0]!, ...credentials }));
    const sink = relays[0]!;
    // All relays have one IP address.
    await Promise.all(relays.map((relay) => relay.permit(sink.relayedAddress)));
    for (const relay of relays.slice(1)) relay.send(sink.relayedAddress, new Uint8Array(100));
    for await (const { from } of sink) {
      got.add(String(from));
      if (got.size === relays.length - 1) break;
    }
  } finally {
    for (const relay of relays) await relay.close();
  }
  await server.shutdown();
  await server.finished;
  assertEquals(got, new Set(relays.slice(1).map(({ relayedAddress }) => String(relayedAddress))));
  const { allocations, allocationsTotal, packetsToPeers, packetsToClients, bytesToPeers } = server.stats();
  assertEquals({ allocations, allocationsTotal, packetsToPeers, packetsToClients, bytesToPeers }, {
    allocations: 0,
    allocationsTotal: 40,
    packetsToPeers: 39,
    packetsToClients: 39,
    bytesToPeers: 3900,
  });
  assertEquals(server.workerStats.length, WORKERS);
  for (const { allocationsTotal } of server.workerStats) assert(allocationsTotal > 0, "one had nothing to do");
  assertEquals(events.filter(({ type }) => type === "allocated").length, 40);
  assertEquals(events.filter(({ type }) => type === "ended").length, 40);
  assertEquals(String(events[0]!.allocation.server), String(server.addresses[0]));
});

test("a user's quota is one for all workers", async () => {
  await using server = await serveTurnWorkers({ ...basics, limits: { allocationsPerUser: 5 } });
  const relays: Relay[] = [];
  const refusals: number[] = [];
  for (let i = 0; i < 20; i++) {
    try {
      relays.push(await allocate({ server: server.addresses[0]!, ...credentials }));
    } catch (error) {
      assert(error instanceof TurnError);
      refusals.push(error.code!);
    }
  }
  assertEquals([relays.length, refusals.length, new Set(refusals)], [5, 15, new Set([486])]);
  for (const relay of relays) await relay.close();
});

test("TCP and TLS clients, another certificate, users and secrets that are replaced, and users that are looked up", async () => {
  const pem = (name: string) => Deno.readTextFile(new URL(`../vectors/tls/${name}`, import.meta.url));
  const tls = { certificate: await pem("one.pem"), key: await pem("one_key.pem") };
  const asked = new Set<string>();
  await using server = await serveTurnWorkers({
    ...basics,
    tls,
    restSecrets: ["old"],
    lookUpUser(username) {
      asked.add(username);
      if (username === "trouble") return Promise.reject(new Error("the database is down"));
      return Promise.resolve(username === "carol" ? "found" : undefined);
    },
  });
  const [address] = server.addresses;
  // DTLS where OpenSSL is.
  const [transports] = server.transports;
  assertEquals(transports!.slice(0, 3), ["udp", "tcp", "tls"]);
  const dtls = transports!.includes("dtls") ? [`turns:${address}?transport=udp`] : [];
  for (const urls of [`turn:${address}`, `turn:${address}?transport=tcp`, `turns:${address}`, ...dtls]) {
    const attempts = Array.from(
      { length: 6 },
      () => codeOf(allocate({ server: urls, ...credentials, tls: { insecureAcceptAnyCertificate: true } })),
    );
    assertEquals(await Promise.all(attempts), [0, 0, 0, 0, 0, 0], urls);
  }
  const code = (username: string, password: string) => codeOf(allocate({ server: address!, username, password }));
  assertEquals([await code("carol", "found"), await code("dave", "any")], [0, 401]);
  assertEquals(asked, new Set(["carol", "dave"]));
  const rest = (secret: string) => restCredential(secret, { expires: Date.now() / 1000 + 600, user: "erin" });
  assertEquals(await code(rest("old").username, rest("old").password), 0);
  await server.setUsers({ bob: "new" });
  await server.setRestSecrets(["new"]);
  await server.setTls(tls);
  for (let i = 0; i < 8; i++) {
    assertEquals([await code("alice", "secret"), await code("bob", "new")], [401, 0]);
    assertEquals(await code(rest("new").username, rest("new").password), 0);
  }
  await assertRejects(() => server.setUsers({ "": "x" }), SyntaxError);
});

test("access tokens (RFC 7635) are taken by all, and their keys replaced for all", async () => {
  const serverName = "turn.example.org";
  const keys: [string, Uint8Array][] = [["old", new Uint8Array(16).fill(1)], ["new", new Uint8Array(32).fill(2)]];
  const tokens = new TokenUsers({ serverName, keys: keys.slice(0, 1) });
  await using server = await serveTurnWorkers({ ...basics, tokens });
  const random = (length: number) => crypto.getRandomValues(new Uint8Array(length));
  const code = ([kid, key]: [string, Uint8Array]) => {
    const times = { timestamp: Date.now() / 1000, lifetime: 60 };
    const macKey = random(20);
    const token = sealAccessToken(key, { serverName, nonce: random(12), macKey, ...times });
    return codeOf(allocate({ server: server.addresses[0]!, accessToken: { kid, macKey, token } }));
  };
  for (let i = 0; i < 8; i++) assertEquals([await code(keys[0]!), await code(keys[1]!)], [0, 401]);
  await server.setTokenKeys(keys.slice(1));
  for (let i = 0; i < 8; i++) assertEquals([await code(keys[0]!), await code(keys[1]!)], [401, 0]);
  await assertRejects(() => server.setTokenKeys([["short", new Uint8Array(1)]]), RangeError);
});

test("drain() resolves with the end of the last allocation of any worker; new clients get 508 from all", async () => {
  const server = await serveTurnWorkers(basics);
  const relays = await Promise.all(
    Array.from({ length: 8 }, () => allocate({ server: server.addresses[0]!, ...credentials })),
  );
  let isDrained = false;
  const draining = server.drain().then(() => isDrained = true);
  // Orders are carried out one after the other.
  await server.setUsers(basics.users);
  const refused = await Promise.all(
    Array.from({ length: 8 }, () => codeOf(allocate({ server: server.addresses[0]!, ...credentials }))),
  );
  assertEquals(refused, new Array(8).fill(508));
  assertEquals(isDrained, false);
  for (const relay of relays) await relay.close();
  await draining;
  await server.shutdown();
  assertEquals(server.stats().allocations, 0);
});

test("what can not be served is told as by serveTurn(), and nothing stays behind", async () => {
  await using server = await serveTurnWorkers(basics);
  for (const transports of [["udp"], ["tcp"], ["udp", "tcp"]] as const) {
    const same = { ...basics, listen: [String(server.addresses[0])], transports };
    const error = await assertRejects(() => serveTurnWorkers(same), OpenError, "in use");
    assertEquals(error.failure, "address-in-use");
  }
  await assertRejects(() => serveTurnWorkers({ ...basics, listen: ["192.0.2.1:5000"] }), OpenError);
  await assertRejects(() => serveTurnWorkers({ ...basics, realm: "\n" }), SyntaxError);
  await assertRejects(() => serveTurnWorkers({ ...basics, maxLifetime: 1 }), RangeError);
  await assertRejects(() => serveTurnWorkers({ ...basics, workers: 0 }), RangeError, "1 to 256");
  await assertRejects(() => serveTurnWorkers({ ...basics, io: "deno" }), TypeError, "Linux back end");
});

test("RFC 6062: with TCP allocations the first worker has all connections, and UDP clients are spread", async () => {
  using peer = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const echoing = (async () => {
    for await (const conn of peer) void conn.readable.pipeTo(conn.writable).catch(() => {});
  })();
  const server = await serveTurnWorkers({ ...basics, tcpRelay: true });
  const url = `turn:${server.addresses[0]}`;
  for (let i = 0; i < 6; i++) {
    await using relay = await allocateTcp({ server: `${url}?transport=tcp`, ...credentials });
    const connection = await relay.connect(TransportAddress.of("127.0.0.1", peer.addr.port));
    const [answer] = await Promise.all([
      new Response(connection.readable as ReadableStream<Uint8Array<ArrayBuffer>>).text(),
      new Blob([`hello ${i}`]).stream().pipeTo(connection.writable),
    ]);
    assertEquals(answer, `hello ${i}`);
  }
  for (let i = 0; i < 20; i++) assertEquals(await codeOf(allocate({ server: url, ...credentials })), 0);
  await server.shutdown();
  peer.close();
  await echoing;
  const [one, other] = server.workerStats.map(({ allocationsTotal }) => allocationsTotal);
  assertEquals(one! + other!, 26);
  assert(one! >= 6 && other! > 0, `${one} and ${other}`);
});

test("a signal ends it", async () => {
  const controller = new AbortController();
  const server = await serveTurnWorkers({ ...basics, signal: controller.signal });
  controller.abort();
  await server.finished;
});

test("a worker that can not start fails the call with what to do, and the program goes on", async () => {
  const program = new URL("workers_without_read.ts", import.meta.url).pathname;
  const leave = ["--unstable-net", "--allow-net", "--allow-ffi", "--allow-sys=networkInterfaces"];
  const { code, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-prompt", "--no-check", ...leave, program],
    stdin: "null",
    stderr: "null",
  }).output();
  const [message, end] = new TextDecoder().decode(stdout).split("\n");
  assertEquals([code, end], [0, "going on"]);
  assert(message!.includes("give it --allow-read"), message);
});
