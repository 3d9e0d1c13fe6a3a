// What a relay of allocate() can do besides relaying, against Debian's turnserver (coturn).
import { assertEquals, assertRejects } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { allocate, type AllocateOptions, allocateTcp, type Relay, type RelayConnection } from "../../turn/allocate.ts";
import { TurnError } from "../../turn/error.ts";
import { COTURN, type Coturn, freePort, startCoturn } from "./_coturn.ts";
import { peerTest } from "./_peers.ts";

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
