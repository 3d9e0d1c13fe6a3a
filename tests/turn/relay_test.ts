// What a relay can do besides relaying, in the virtual internet.
import { assertEquals, assertRejects } from "@std/assert";
import { StunTimeoutError } from "../../stun/error.ts";
import { OpenError } from "../../stun/net/transport.ts";
import { VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { allocate, type Relay } from "../../turn/allocate.ts";
import { TurnError } from "../../turn/error.ts";
import { codes, serveSloppily, type Sloppiness } from "./_sloppy_server.ts";

const SERVER = "198.51.100.1:3478";

/** A computer with two networks, and a server that lets allocations move. */
function place(sloppiness: Sloppiness = {}) {
  const world = new VirtualWorld({ seed: 1, link: { delay: 5 } });
  const serverHost = world.addHost("server", { addresses: ["198.51.100.1"] });
  const host = world.addHost("client", { addresses: ["203.0.113.1", "203.0.113.2"] });
  const server = serveSloppily(serverHost, SERVER, sloppiness);
  return { world, host, open: (options = {}) => allocate({ server, host, localAddress: "203.0.113.1", ...options }) };
}

async function next(relay: Relay): Promise<string> {
  const { value } = await relay[Symbol.asyncIterator]().next();
  return new TextDecoder().decode(value!.data);
}

Deno.test("Relay.migrate(): to another local address, with permissions and channels", async () => {
  const { world, open } = place();
  await world.run(async () => {
    await using mobile = await open({ mobility: true });
    await using peer = await open();
    await mobile.bindChannel(peer.relayedAddress);
    await peer.permit(mobile.relayedAddress);
    const { relayedAddress } = mobile;
    const before = world.now;
    await mobile.migrate({ localAddress: "203.0.113.2" });
    assertEquals(world.now - before, 20);
    const { localAddress, mappedAddress } = mobile;
    assertEquals([localAddress.address, String(mappedAddress)], ["203.0.113.2", String(localAddress)]);
    assertEquals(String(mobile.relayedAddress), String(relayedAddress));
    mobile.send(peer.relayedAddress, new TextEncoder().encode("there"));
    peer.send(mobile.relayedAddress, new TextEncoder().encode("and back"));
    assertEquals([await next(peer), await next(mobile)], ["there", "and back"]);
    assertEquals(mobile.stats().sentChannelData, 1);
  });
});

Deno.test("Relay.migrate(): two calls at once are one move, and both are told", async () => {
  const { world, open } = place();
  await world.run(async () => {
    await using relay = await open({ mobility: true });
    const [one, other] = [relay.migrate(), relay.migrate()];
    await Promise.all([one, other]);
    assertEquals(world.now, 20 + 20);
  });
});

Deno.test("Relay.migrate(): each way to fail leaves the relay where it was", async () => {
  const refusing = place({ codes: codes({ REFRESH: 437 }) });
  await refusing.world.run(async () => {
    const relay = await refusing.open({ mobility: true });
    const local = relay.localAddress;
    const error = await assertRejects(() => relay.migrate(), TurnError);
    assertEquals([error.code, relay.localAddress], [437, local]);
    await relay.permit(relay.relayedAddress);
    await relay.close();
  });
  const silent = place({ codes: codes({ REFRESH: -1 }) });
  await silent.world.run(async () => {
    const relay = await silent.open({ mobility: true });
    await assertRejects(() => relay.migrate(), StunTimeoutError);
    await assertRejects(() => relay.migrate({ localAddress: "203.0.113.99" }), OpenError);
    const enough = AbortSignal.abort(new Error("enough"));
    await assertRejects(() => relay.migrate({ signal: enough }), Error, "enough");
    await relay.permit(relay.relayedAddress);
    const moving = assertRejects(() => relay.migrate(), Error, "The relay was closed");
    await relay.close();
    await moving;
    await assertRejects(() => relay.migrate(), Error, "Cannot migrate as the relay is closed");
  });
  const plain = place();
  await plain.world.run(async () => {
    await using relay = await plain.open();
    assertEquals(relay.canMigrate, false);
    await assertRejects(() => relay.migrate(), Error, "gave no ticket");
  });
});
