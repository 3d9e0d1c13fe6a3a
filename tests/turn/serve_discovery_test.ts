import { assertEquals, assertThrows } from "@std/assert";
import { MAPPED_ADDRESS } from "../../stun/attributes.ts";
import { discoverNat } from "../../stun/discover.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import { OpenError } from "../../stun/net/transport.ts";
import { VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { allocate } from "../../turn/allocate.ts";
import { serveTurn, type ServeTurnOptions } from "../../turn/serve.ts";

const basics: ServeTurnOptions = { realm: "example.org", users: { alice: "secret" } };
const TWO = ["127.0.0.1:0", "127.0.0.2:0"];

/** Two loopback addresses with one free port. */
function serveOnTwo(options: Partial<ServeTurnOptions> = {}): ReturnType<typeof serveTurn> {
  for (;;) {
    const one = serveTurn({ ...basics, listen: TWO.slice(0, 1) });
    const { port } = one.addresses[0]!;
    one.shutdown();
    try {
      return serveTurn({ ...basics, listen: [`127.0.0.2:${port + 1}`, `127.0.0.1:${port + 1}`], ...options });
    } catch (error) {
      if (!(error instanceof OpenError)) throw error;
    }
  }
}

Deno.test("RFC 5780 §6: a TURN server on two addresses with one port is one for NAT behaviour discovery", async () => {
  await using server = serveOnTwo();
  const [second, first, ...alternates] = server.addresses;
  assertEquals(alternates.map(({ address }) => address), ["127.0.0.2", "127.0.0.1"]);
  assertEquals(alternates[0]!.port, alternates[1]!.port);
  const report = await discoverNat({ servers: [first!] });
  assertEquals([report.classic, report.filtering, report.fragments], ["open", "endpoint-independent", "pass"]);
  assertEquals(String(report.servers[0]!.otherAddress), `${second!.address}:${alternates[0]!.port}`);
  assertEquals(server.stats().bindings, report.tests.length);
});

Deno.test("RFC 5780 §6: a TURN server on one address answers as ever, with 420 to what discovery asks", async () => {
  await using server = serveTurn({ ...basics, listen: TWO.slice(0, 1) });
  assertEquals(server.addresses.length, 1);
  const report = await discoverNat({ servers: [server.addresses[0]!] });
  assertEquals([report.classic, report.fragments, report.servers[0]!.otherAddress], ["unknown", "outbound", null]);
});

Deno.test("All addresses of a host are no two addresses for NAT behaviour discovery", async () => {
  const world = new VirtualWorld({ seed: 1 });
  const host = world.addHost("server", { addresses: ["198.51.100.1", "198.51.100.2"] });
  await world.run(async () => {
    await using all = serveTurn({ ...basics, listen: ["0.0.0.0:3478"], host });
    assertEquals(all.addresses.length, 3);
    await using named = serveTurn({ ...basics, listen: ["198.51.100.1:5", "198.51.100.2:5"], alternatePort: 9, host });
    assertEquals(named.addresses.map(String), [
      "198.51.100.1:5",
      "198.51.100.2:5",
      "198.51.100.1:9",
      "198.51.100.2:9",
    ]);
    const taken = { ...basics, listen: ["198.51.100.1:6", "198.51.100.2:6"], alternatePort: 9, host };
    assertThrows(() => serveTurn(taken), OpenError, "port 9");
  });
});

Deno.test("The second port serves TURN as well", async () => {
  await using server = serveOnTwo({ allowPeers: ["127.0.0.0/8"] });
  await using relay = await allocate({ server: server.addresses[2]!, username: "alice", password: "secret" });
  assertEquals(relay.relayedAddress.address, "127.0.0.2");
});

Deno.test("RFC 3489: classic clients are answered if that is asked for, and TURN is not theirs", async () => {
  const transactionId = new Uint8Array(16).fill(9);
  const write = (method: number) =>
    new MessageWriter(new Uint8Array(20)).begin(method, "request", transactionId).finish();
  for (const classic of [false, true]) {
    await using server = serveTurn({ ...basics, listen: TWO.slice(0, 1), classic });
    const { address: hostname, port } = server.addresses[0]!;
    const conn = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
    await conn.send(write(METHOD.ALLOCATE), { transport: "udp", hostname, port });
    await conn.send(write(METHOD.BINDING), { transport: "udp", hostname, port });
    // A request that is always answered tells that the others were seen.
    const probe = new MessageWriter(new Uint8Array(20)).begin(METHOD.BINDING, "request", new Uint8Array(12)).finish();
    await conn.send(probe, { transport: "udp", hostname, port });
    const answers: StunMessage[] = [];
    while (answers.at(-1)?.hasCookie !== true) {
      const [bytes] = await conn.receive();
      answers.push(StunMessage.parse(bytes, { classic: true })!);
    }
    conn.close();
    assertEquals(answers.map(({ hasCookie }) => hasCookie), classic ? [false, true] : [true]);
    const { port: own } = conn.addr as Deno.NetAddr;
    if (classic) assertEquals(String(answers[0]!.get(MAPPED_ADDRESS)), `127.0.0.1:${own}`);
    assertEquals(server.stats().drops.malformed, classic ? 1 : 2);
  }
});
