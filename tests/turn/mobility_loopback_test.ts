// RFC 8016 over real sockets, with both sides of natkit.
import { assertEquals } from "@std/assert";
import { denoHost } from "../../stun/net/deno_host.ts";
import { allocate, type Relay, serveTurn } from "../../turn/mod.ts";

function pem(name: string): string {
  return Deno.readTextFileSync(new URL(`../vectors/tls/${name}.pem`, import.meta.url));
}

async function next(relay: Relay): Promise<number> {
  const { value } = await relay[Symbol.asyncIterator]().next();
  return value!.data[0]!;
}

Deno.test("RFC 8016: a relay moves again and again over UDP, TCP and TLS, and data goes both ways each time", async () => {
  await using server = serveTurn({
    listen: ["127.0.0.1:0"],
    realm: "example.org",
    users: { alice: "secret" },
    allowPeers: ["127.0.0.0/8"],
    tls: { certificate: pem("one"), key: pem("one_key") },
  });
  const [address] = server.addresses;
  const options = { username: "alice", password: "secret", tls: { insecureAcceptAnyCertificate: true } };
  for (const uri of [`turn:${address}?transport=udp`, `turn:${address}?transport=tcp`, `turns:${address}`]) {
    await using mobile = await allocate({ server: uri, mobility: true, ...options });
    await using peer = await allocate({ server: uri, ...options });
    await Promise.all([mobile.bindChannel(peer.relayedAddress), peer.permit(mobile.relayedAddress)]);
    const before = server.stats().moves;
    for (let round = 1; round <= 4; round++) {
      await mobile.migrate();
      mobile.send(peer.relayedAddress, Uint8Array.of(round));
      assertEquals(await next(peer), round);
      peer.send(mobile.relayedAddress, Uint8Array.of(10 * round));
      assertEquals(await next(mobile), 10 * round);
    }
    assertEquals(server.stats().moves - before, 4);
  }
});

Deno.test({
  name: "RFC 8016: without leave to list the computer's addresses nobody is asked for it, and a relay works",
  permissions: { net: true, sys: false, read: true },
  async fn() {
    const options = { realm: "example.org", users: { alice: "secret" }, allowPeers: ["127.0.0.0/8"] };
    await using server = serveTurn({ listen: ["127.0.0.1:0"], ...options });
    const [address] = server.addresses;
    const login = { username: "alice", password: "secret", mobility: true };
    await using relay = await allocate({ server: address!, ...login, host: denoHost() });
    await relay.migrate();
    // Behind what tells the server that it has moved.
    await relay.permit(relay.relayedAddress);
    assertEquals([relay.canMigrate, server.stats().moves], [true, 1]);
  },
});
