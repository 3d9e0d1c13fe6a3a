// What a relay of allocate() can do besides relaying, against Debian's turnserver (coturn).
import { assertEquals, assertRejects } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { type AccessToken, sealAccessToken } from "../../stun/access_token.ts";
import { TransportAddress } from "../../stun/address.ts";
import { allocate, type AllocateOptions, allocateTcp, type Relay, type RelayConnection } from "../../turn/allocate.ts";
import { TurnError } from "../../turn/error.ts";
import { COTURN, type Coturn, startCoturn } from "./_coturn.ts";
import { peerTest } from "./_peers.ts";
import { freePort } from "../free_port.ts";

function open({ address }: Coturn, options: Partial<AllocateOptions> = {}): Promise<Relay> {
  return allocate({ server: `turn:${address}`, username: "test", password: "secret", ...options });
}

async function next(relay: Relay): Promise<string> {
  const { value } = await relay[Symbol.asyncIterator]().next();
  return new TextDecoder().decode(value!.data);
}

peerTest("coturn, RFC 8016: a relay moves from port to port, with its channel and permissions", COTURN, async () => {
  await using coturn = await startCoturn(["--mobility"]);
  await using mobile = await open(coturn, { mobility: true });
  await using peer = await open(coturn);
  assertEquals([mobile.canMigrate, peer.canMigrate], [true, false]);
  await Promise.all([mobile.bindChannel(peer.relayedAddress), peer.permit(mobile.relayedAddress)]);
  const ports = new Set([mobile.localAddress.port]);
  for (const round of ["one", "two", "three"]) {
    await mobile.migrate();
    ports.add(mobile.localAddress.port);
    mobile.send(peer.relayedAddress, new TextEncoder().encode(round));
    assertEquals(await next(peer), round);
    peer.send(mobile.relayedAddress, new TextEncoder().encode(`${round} back`));
    assertEquals(await next(mobile), `${round} back`);
  }
  assertEquals(ports.size, 4);
});

peerTest("coturn, RFC 8016: without mobility there, a relay is an ordinary one", COTURN, async () => {
  await using coturn = await startCoturn();
  await using relay = await open(coturn, { mobility: true });
  assertEquals(relay.canMigrate, false);
});

peerTest("coturn, RFC 7635: a relay with an access token, which moves as well", COTURN, async () => {
  const folder = await Deno.makeTempDir();
  const [kid, key] = ["north", new TextEncoder().encode("01234567890123456789012345678901")];
  try {
    const keys = new DatabaseSync(`${folder}/keys`);
    keys.exec(await Deno.readTextFile("/usr/share/coturn/schema.sql"));
    // It wants a realm, which may be empty.
    const insert = "INSERT INTO oauth_key (kid, ikm_key, as_rs_alg, realm) VALUES (?, ?, 'A256GCM', '')";
    keys.prepare(insert).run(kid, key.toBase64());
    keys.close();
    const name = "turn.example.org";
    await using coturn = await startCoturn([
      ...["--oauth", `--server-name=${name}`, `--db=${folder}/keys`, "--mobility"],
    ]);
    const random = (length: number) => crypto.getRandomValues(new Uint8Array(length));
    const times = { timestamp: Date.now() / 1000, lifetime: 900 };
    const issue = (serverName: string): AccessToken => {
      const macKey = random(20);
      return { kid, macKey, token: sealAccessToken(key, { serverName, nonce: random(12), macKey, ...times }) };
    };
    const server = `turn:${coturn.address}`;
    await using mobile = await allocate({ server, accessToken: issue(name), mobility: true });
    await using peer = await allocate({ server, accessToken: issue(name), lifetime: 3600 });
    // No longer than the token.
    assertEquals(peer.lifetime <= 905, true);
    await Promise.all([mobile.bindChannel(peer.relayedAddress), peer.permit(mobile.relayedAddress)]);
    await mobile.migrate();
    mobile.send(peer.relayedAddress, new TextEncoder().encode("hello"));
    assertEquals(await next(peer), "hello");
    const error = await assertRejects(() => allocate({ server, accessToken: issue("other.example.org") }), TurnError);
    assertEquals(error.code, 401);
    const nobody = await assertRejects(() => allocate({ server }), TurnError);
    assertEquals(nobody.message.includes(`or an access token for "${name}"`), true);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

peerTest("coturn, RFC 8656 §7: a pair of ports, and a dual allocation", COTURN, async () => {
  await using coturn = await startCoturn(["--relay-ip=::1"]);
  await using rtp = await open(coturn, { evenPort: "pair" });
  await using rtcp = await open(coturn, { reservationToken: rtp.reservationToken! });
  assertEquals([rtp.relayedAddress.port % 2, rtcp.relayedAddress.port - rtp.relayedAddress.port], [0, 1]);
  await using dual = await open(coturn, { family: "dual" });
  assertEquals(dual.relayedAddresses.map(({ address }) => address), ["127.0.0.1", "::1"]);
  await using single = await open(coturn, { family: 6 });
  await single.permit(dual.relayedAddresses[1]!);
  dual.send(single.relayedAddress, new TextEncoder().encode("over IPv6"));
  assertEquals(await next(single), "over IPv6");
});

/** Says something, and hears what comes next. */
async function exchange({ readable, writable }: Pick<RelayConnection, "readable" | "writable">, text: string) {
  const [reader, writer] = [readable.getReader(), writable.getWriter()];
  await writer.write(new TextEncoder().encode(text));
  const { value } = await reader.read();
  reader.releaseLock();
  writer.releaseLock();
  return new TextDecoder().decode(value);
}

peerTest("coturn, RFC 6062: connections to peers and from them", COTURN, async () => {
  await using coturn = await startCoturn([], freePort(), {});
  const credentials = { username: "test", password: "secret" };
  await using relay = await allocateTcp({ server: `turn:${coturn.address}`, ...credentials });
  using echo = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const accepting = echo.accept();
  const { port } = echo.addr as Deno.NetAddr;
  {
    using connection = await relay.connect(TransportAddress.of("127.0.0.1", port));
    const accepted = await accepting;
    assertEquals((accepted.remoteAddr as Deno.NetAddr).port, relay.relayedAddress.port);
    const echoing = accepted.readable.pipeTo(accepted.writable).catch(() => {});
    assertEquals(await exchange(connection, "hello"), "hello");
    connection.close();
    await echoing;
  }
  const nobody = TransportAddress.of("127.0.0.1", 1);
  assertEquals((await assertRejects(() => relay.connect(nobody), TurnError)).code, 447);

  await relay.permit(nobody);
  const peer = await Deno.connect({ hostname: "127.0.0.1", port: relay.relayedAddress.port });
  await peer.write(new TextEncoder().encode("from outside"));
  const { value } = await relay[Symbol.asyncIterator]().next();
  assertEquals(value!.peer.port, (peer.localAddr as Deno.NetAddr).port);
  assertEquals(await exchange(value!, "from inside"), "from outside");
  const bytes = new Uint8Array(100);
  assertEquals(new TextDecoder().decode(bytes.subarray(0, (await peer.read(bytes))!)), "from inside");
  value!.close();
  peer.close();
});

peerTest("coturn, RFC 6062: 442 where no TCP is relayed", COTURN, async () => {
  await using coturn = await startCoturn(["--no-tcp-relay"], freePort(), {});
  const options = { server: `turn:${coturn.address}`, username: "test", password: "secret" };
  assertEquals((await assertRejects(() => allocateTcp(options), TurnError)).code, 442);
});
