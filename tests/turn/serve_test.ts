import { assert, assertEquals, assertInstanceOf, assertRejects, assertThrows } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { UserTable } from "../../stun/users.ts";
import { denoHost } from "../../stun/net/deno_host.ts";
import { type DatagramSocket, type Host, type LocalInterface, OpenError } from "../../stun/net/transport.ts";
import { IntegrityKey, userHash } from "../../stun/integrity.ts";
import { requestBinding } from "../../stun/request.ts";
import { restCredential } from "../../stun/rest_users.ts";
import { allocate } from "../../turn/allocate.ts";
import { TurnError } from "../../turn/error.ts";
import { serveTurn, type ServeTurnOptions } from "../../turn/serve.ts";
import type { TurnServerEvent } from "../../turn/server_events.ts";

const LOOPBACK = "127.0.0.1:0";
const basics: ServeTurnOptions = {
  listen: [LOOPBACK],
  realm: "example.org",
  users: { alice: "secret" },
  allowPeers: ["127.0.0.0/8", "::1"],
};
const credentials = { username: "alice", password: "secret" };

/** A host whose sockets are real and whose interfaces are not. */
function hostWith(interfaces: () => LocalInterface[]): Host {
  return { ...denoHost(), interfaces };
}

Deno.test("serveTurn(): two of our own clients reach each other through it", async () => {
  const events: TurnServerEvent[] = [];
  const server = serveTurn({ ...basics, onEvent: (event) => events.push(event) });
  {
    await using a = await allocate({ server: server.addresses[0]!, ...credentials });
    await using b = await allocate({ server: server.addresses[0]!, ...credentials });
    await Promise.all([a.permit(b.relayedAddress), b.permit(a.relayedAddress)]);
    const received: number[][] = [];
    const reading = (async () => {
      for await (const { from, data } of b) {
        assertEquals(String(from), String(a.relayedAddress));
        if (received.push([data.length, data[0]!]) === 3) break;
      }
    })();
    for (const [i, length] of [1, 1200, 8000].entries()) a.send(b.relayedAddress, new Uint8Array(length).fill(i));
    await reading;
    assertEquals(received, [[1, 0], [1200, 1], [8000, 2]]);
  }
  await server.shutdown();
  const { allocations, allocationsTotal, packetsToPeers, packetsToClients, bytesToPeers } = server.stats();
  assertEquals({ allocations, allocationsTotal, packetsToPeers, packetsToClients, bytesToPeers }, {
    allocations: 0,
    allocationsTotal: 2,
    packetsToPeers: 3,
    packetsToClients: 3,
    bytesToPeers: 9201,
  });
  assertEquals(events.map((event) => event.type === "ended" ? event.why : event.type), [
    "allocated",
    "allocated",
    "deleted",
    "deleted",
  ]);
});

Deno.test("serveTurn(): a wrong password and an unknown user are refused", async () => {
  await using server = serveTurn(basics);
  for (const wrong of [{ username: "alice", password: "guess" }, { username: "mallory", password: "secret" }]) {
    const error = await assertRejects(() => allocate({ server: server.addresses[0]!, ...wrong }), TurnError);
    assertEquals(error.code, 401);
  }
  assertEquals(server.stats().allocationsTotal, 0);
});

Deno.test("serveTurn(): users as an object, as pairs, as a Map and as a directory", async () => {
  const forms: ServeTurnOptions["users"][] = [
    { alice: "secret" },
    [["alice", "secret"]],
    new Map([["alice", "secret"]]),
    new UserTable("example.org", [["alice", "secret"]]),
  ];
  for (const users of forms) {
    await using server = serveTurn({ ...basics, users });
    await using relay = await allocate({ server: server.addresses[0]!, ...credentials });
    assertEquals(relay.relayedAddress.address, "127.0.0.1");
  }
});

Deno.test("serveTurn(): several addresses, each with relays of its own", async () => {
  await using server = serveTurn({ ...basics, listen: [LOOPBACK, "[::1]:0", "127.0.0.2:0"] });
  assertEquals(server.addresses.map(({ address }) => address), ["127.0.0.1", "::1", "127.0.0.2"]);
  for (const address of server.addresses) {
    const seen = await requestBinding({ server: address });
    assertEquals(seen.mapped.family, address.family);
    const family = address.family;
    await using relay = await allocate({ server: address, ...credentials, family });
    assertEquals(relay.relayedAddress.address, address.address);
  }
});

Deno.test("serveTurn(): shutdown() closes everything, at once and once only; so do the signal and await using", async () => {
  const controller = new AbortController();
  const aborted = serveTurn({ ...basics, signal: controller.signal });
  const left = serveTurn(basics);
  {
    await using _left = left;
  }
  await left.finished;
  controller.abort();
  await aborted.finished;
  await aborted.shutdown();
  // The port is free again.
  const again = serveTurn({ ...basics, listen: [String(aborted.addresses[0])] });
  await again.shutdown();
  assertThrows(() => serveTurn({ ...basics, signal: AbortSignal.abort(new Error("not now")) }), Error, "not now");
});

Deno.test("serveTurn(): a port in use is an OpenError, and what was bound before it is closed", async () => {
  await using server = serveTurn(basics);
  const taken = server.addresses[0]!;
  const free = TransportAddress.of("127.0.0.2", taken.port);
  const host = denoHost();
  const opened: DatagramSocket[] = [];
  const counting: Host = {
    ...host,
    openDatagram(wish, receiver) {
      const socket = host.openDatagram(wish, receiver);
      opened.push(socket);
      return socket;
    },
  };
  const options = { ...basics, listen: [String(free), String(taken)], host: counting };
  const error = assertThrows(() => serveTurn(options), OpenError, String(taken.port));
  assertEquals(error.failure, "address-in-use");
  assertEquals(opened.map(({ localAddress }) => String(localAddress)), [String(free)]);
  await opened[0]!.closed;
  await serveTurn({ ...basics, listen: [String(free)] }).shutdown();
});

Deno.test("serveTurn(): an address that is not the host's is an OpenError", () => {
  const error = assertThrows(() => serveTurn({ ...basics, listen: ["192.0.2.1:0"] }), OpenError);
  assertEquals(error.failure, "address-not-available");
});

Deno.test("serveTurn(): what is malformed is refused before anything is bound", () => {
  const wrong: [Partial<ServeTurnOptions>, string][] = [
    [{ listen: ["localhost:3478"] }, "localhost"],
    [{ listen: [] }, "no address to listen on"],
    [{ allowPeers: ["10.0.0.0/40"] }, "10.0.0.0/40"],
    [{ denyPeers: ["nothing"] }, "nothing"],
    [{ realm: "" }, "empty"],
    [{ users: { "": "secret" } }, "empty"],
    [{ relayAddresses: ["here"] }, "here"],
    [{ relayPorts: { min: 2, max: 1 } }, "2-1"],
    [{ maxLifetime: 10 }, "maxLifetime"],
    [{ nonceLifetime: 10000 }, "nonceLifetime"],
  ];
  for (const [options, what] of wrong) {
    const error = assertThrows(() => serveTurn({ ...basics, ...options }), Error, what);
    assert(!(error instanceof OpenError), what);
  }
});

Deno.test("serveTurn(): 0.0.0.0 is a socket for each IPv4 address of the host", async () => {
  const addresses = ["127.0.0.1", "127.0.0.3", "::1", "fe80::1", "127.0.0.1"];
  const host = hostWith(() => addresses.map((address) => ({ name: "lo", address })));
  await using server = serveTurn({ ...basics, listen: ["0.0.0.0:0", "127.0.0.3:0"], host });
  assertEquals(server.addresses.map(({ address }) => address), ["127.0.0.1", "127.0.0.3", "127.0.0.3"]);
  const relay = await allocate({ server: server.addresses[1]!, ...credentials });
  assertEquals(relay.relayedAddress.address, "127.0.0.3");
  await relay.close();
});

Deno.test("serveTurn(): what is named and found as well is bound once", async () => {
  const host = hostWith(() => [{ name: "lo", address: "127.0.0.1" }]);
  const server = serveTurn({ ...basics, listen: [LOOPBACK] });
  const { port } = server.addresses[0]!;
  await server.shutdown();
  await using both = serveTurn({ ...basics, listen: [`127.0.0.1:${port}`, `0.0.0.0:${port}`], host });
  assertEquals(both.addresses.map(String), [`127.0.0.1:${port}`]);
});

Deno.test("serveTurn(): when the host's addresses can not be known, the error says what to do", () => {
  const silent = hostWith(() => {
    throw new Deno.errors.NotCapable("Requires sys access");
  });
  const error = assertThrows(
    () => serveTurn({ ...basics, listen: ["0.0.0.0:0"], host: silent }),
    OpenError,
    "--allow-sys",
  );
  assertEquals(error.failure, "permission-denied");
  assertInstanceOf(error.cause, Deno.errors.NotCapable);
  const bare = hostWith(() => [{ name: "lo", address: "127.0.0.1" }]);
  const none = assertThrows(
    () => serveTurn({ ...basics, listen: ["[::]:0"], host: bare }),
    OpenError,
    "no such address",
  );
  assertEquals(none.failure, "address-not-available");
});

Deno.test("serveTurn(): the host's own addresses are no peers, as far as they are known", async () => {
  const host = hostWith(() => [{ name: "lo", address: "127.0.0.1" }, { name: "eth0", address: "8.8.8.8" }]);
  await using server = serveTurn({ ...basics, host });
  await using relay = await allocate({ server: server.addresses[0]!, ...credentials });
  const error = await assertRejects(() => relay.permit(TransportAddress.parse("8.8.8.8:53")), TurnError);
  assertEquals(error.code, 403);
  await relay.permit(TransportAddress.parse("8.8.4.4:53"));
});

Deno.test("serveTurn(): users that are looked up: password, stored keys, nobody, and a search that fails", async () => {
  const asked: string[] = [];
  await using server = serveTurn({
    ...basics,
    users: { static: "secret" },
    lookUpUser(username, client) {
      asked.push(`${username} ${client.address}`);
      if (username === "alice") return Promise.resolve("secret");
      if (username === "keys") return Promise.resolve(keys);
      if (username === "nobody") return Promise.resolve(undefined);
      return asked.length === 4 ? Promise.reject(new Error("no database")) : Promise.resolve("secret");
    },
  });
  const address = server.addresses[0]!;
  const md5 = IntegrityKey.longTerm("keys", "example.org", "secret", "MD5").bytes;
  const keys = { md5, sha256: IntegrityKey.longTerm("keys", "example.org", "secret", "SHA-256").bytes };
  for (const username of ["static", "alice", "keys"]) {
    await using relay = await allocate({ server: address, username, password: "secret" });
    await relay.permit(TransportAddress.parse("127.0.0.1:9"));
  }
  await assertRejects(() => allocate({ server: address, username: "nobody", password: "secret" }), TurnError, "401");
  // The search fails once; the client repeats its request, and the second one finds.
  await using late = await allocate({ server: address, username: "late", password: "secret" });
  assertEquals([late.relayedAddress.address, server.stats().drops.userSearchFailed], ["127.0.0.1", 1]);
  assertEquals(asked, ["alice", "keys", "nobody", "late", "late"].map((name) => `${name} 127.0.0.1`));
});

Deno.test("serveTurn(): a user who hides behind USERHASH is looked up by it; a search that fails is an error over TCP", async () => {
  const realm = "example.org";
  const names = new Map(["alice", "bob"].map((name) => [userHash(name, realm).toHex(), name]));
  await using server = serveTurn({
    listen: ["127.0.0.1:0"],
    realm,
    users: {},
    anonymity: true,
    lookUpUserHash(hash) {
      const name = names.get(hash.toHex());
      if (name === "bob") throw new Error("the database is away");
      return Promise.resolve(name === undefined ? undefined : [name, "secret"]);
    },
  });
  const open = (username: string, transport: "udp" | "tcp" = "udp") =>
    allocate({ server: server.addresses[0]!, username, password: "secret", transport });
  await using relay = await open("alice");
  assertEquals(relay.relayedAddress.address, "127.0.0.1");
  await assertRejects(() => open("nobody"), TurnError, "401");
  const start = performance.now();
  await assertRejects(() => open("bob", "tcp"), Error);
  assert(performance.now() - start < 5000, "at once, not after 39.5 s");
  assertEquals(server.stats().errors["500"], 1);
});

Deno.test("serveTurn(): time-limited credentials, with either of two secrets", async () => {
  await using server = serveTurn({ ...basics, users: {}, restSecrets: ["new", "old"] });
  const expires = Date.now() / 1000 + 60;
  for (const secret of ["new", "old"]) {
    await using relay = await allocate({
      server: server.addresses[0]!,
      ...restCredential(secret, { expires, user: "alice" }),
    });
    assertEquals(relay.relayedAddress.address, "127.0.0.1");
  }
  for (const bad of [restCredential("other", { expires }), restCredential("new", { expires: expires - 61 })]) {
    await assertRejects(() => allocate({ server: server.addresses[0]!, ...bad }), TurnError, "401");
  }
});

Deno.test("serveTurn(): drain() sends new clients away and resolves with the end of the last allocation", async () => {
  await using server = serveTurn(basics);
  const relay = await allocate({ server: server.addresses[0]!, ...credentials });
  let isDrained = false;
  const drained = server.drain().then(() => isDrained = true);
  await assertRejects(() => allocate({ server: server.addresses[0]!, ...credentials }), TurnError, "508");
  assertEquals([isDrained, server.stats().limits.draining], [false, 1]);
  await relay.close();
  await drained;
  await server.drain();
});

Deno.test("serveTurn(): a full server sends its clients to another one, and they go there", async () => {
  await using other = serveTurn(basics);
  await using server = serveTurn({
    ...basics,
    limits: { allocations: 0 },
    alternates: { addresses: [other.addresses[0]!] },
  });
  await using relay = await allocate({ server: server.addresses[0]!, ...credentials });
  assertEquals([server.stats().allocations, other.stats().allocations], [0, 1]);
  assertEquals(relay.relayedAddress.address, "127.0.0.1");
});

Deno.test("RFC 8656 §12.5, T27: over TCP, data of any length arrives as it is, padding left behind, in both directions", async () => {
  await using server = serveTurn(basics);
  const connected = { server: server.addresses[0]!, ...credentials, transport: "tcp" } as const;
  await using a = await allocate(connected);
  await using b = await allocate(connected);
  await Promise.all([a.bindChannel(b.relayedAddress), b.bindChannel(a.relayedAddress)]);
  const sizes = [1, 2, 3, 4, 5, 6, 7, 8, 1201, 1202, 1203];
  for (const [from, to] of [[a, b], [b, a]] as const) {
    const received: number[] = [];
    const reading = (async () => {
      for await (const { data } of to) {
        assert(data.every((byte) => byte === data.length % 251 + 1));
        if (received.push(data.length) === sizes.length) break;
      }
    })();
    for (const size of sizes) from.send(to.relayedAddress, new Uint8Array(size).fill(size % 251 + 1));
    await reading;
    assertEquals(received, sizes);
  }
});
