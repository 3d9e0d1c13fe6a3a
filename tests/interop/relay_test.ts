// What a relay of allocate() can do besides relaying, against Debian's turnserver (coturn).
import { assertEquals } from "@std/assert";
import { allocate, type AllocateOptions, type Relay } from "../../turn/allocate.ts";
import { COTURN, type Coturn, startCoturn } from "./_coturn.ts";
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
