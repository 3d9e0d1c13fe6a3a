// A hard ICMP error fails a request over UDP at once (RFC 8489 §6.2.1), where the host hears of ICMP.
import { assert, assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { BindingClient, type BindingClientEvent } from "../../stun/client.ts";
import { StunUnreachableError } from "../../stun/error.ts";
import type { IcmpMessage } from "../../stun/machine.ts";
import { linuxHost, pickHost } from "../../stun/net/linux_host.ts";
import { VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { requestBinding } from "../../stun/request.ts";
import { allocate, serveTurn } from "../../turn/mod.ts";
import { RecordingIo } from "../_recorder.ts";

const SERVER = TransportAddress.parse("198.51.100.1:3478");
const CLOSED: IcmpMessage = { to: SERVER, type: 3, code: 3, mtu: 0 };

Deno.test("RFC 8489 §6.2.1: a hard ICMP error about the server's address and port fails the request, nothing else does", () => {
  const io = new RecordingIo<BindingClientEvent>();
  const client = new BindingClient({ server: SERVER });
  client.request(io);
  const { socket, wish } = io.takeOpens()[0]!;
  assert(wish.transport === "udp" && wish.icmp === true);
  client.handleOpened(socket, TransportAddress.parse("203.0.113.1:50000"), io);
  io.events.length = 0;
  for (
    const other of [
      // Soft (RFC 1122 §3.2.2.1): network and host unreachable, too big; time exceeded.
      ...[0, 1, 4, 5, 13].map((code) => ({ code })),
      { type: 11, code: 0 },
      { to: SERVER.withPort(3479) },
      { to: TransportAddress.parse("198.51.100.2:3478") },
    ]
  ) client.handleIcmp(socket, { ...CLOSED, ...other }, io);
  client.handleIcmp(socket + 1, CLOSED, io);
  assertEquals(io.events, []);
  client.handleIcmp(socket, CLOSED, io);
  const [event] = io.events.splice(0);
  assert(event?.type === "failed");
  assertInstanceOf(event.error, StunUnreachableError);
  assertEquals(
    event.error.message,
    `Cannot ask ${SERVER} for the mapped address: nobody is at ${SERVER} (ICMP type 3, code 3)`,
  );
  client.handleIcmp(socket, CLOSED, io);
  assertEquals([io.events, client.deadline], [[], Infinity]);
});

Deno.test("RFC 8489 §6.2.1: requestBinding() hears within a round trip that nobody is there, over IPv4 and IPv6", async () => {
  const world = new VirtualWorld({ link: { delay: 10 } });
  world.addHost("server", { addresses: ["198.51.100.1", "2001:db8::1"] });
  const home = world.addNat("home", { external: ["203.0.113.1"] });
  const inside = home.addHost("client", { addresses: ["192.168.1.2"] });
  const open = world.addHost("open", { addresses: ["2001:db8::2"] });
  await world.run(async () => {
    for (const [host, server] of [[inside, "198.51.100.1:3478"], [open, "[2001:db8::1]:3478"]] as const) {
      const start = world.now;
      const ask = () => requestBinding({ host, server: TransportAddress.parse(server) });
      await assertRejects(ask, StunUnreachableError);
      assert(world.now - start <= 60);
    }
  });
});

Deno.test("An allocation that is there outlives an ICMP message, since anybody can forge one", async () => {
  const world = new VirtualWorld({ link: { delay: 10 } });
  const host = world.addHost("server", { addresses: ["198.51.100.1"] });
  const client = world.addHost("client", { addresses: ["203.0.113.1"] });
  await world.run(async () => {
    const options = { host, listen: [`${SERVER}`], realm: "example.org", users: { alice: "secret" } };
    const server = serveTurn(options);
    await using relay = await allocate({ host: client, server: SERVER, username: "alice", password: "secret" });
    await server.shutdown();
    const waiting = relay.permit(TransportAddress.parse("8.8.8.8:1"));
    const refused = assertRejects(() => waiting, Error, "did not answer");
    await world.sleep(1000);
    assertEquals(relay.relayedAddress.address, "198.51.100.1");
    await refused;
  });
});

Deno.test({
  name: "RFC 8489 §6.2.1: on loopback requestBinding() and allocate() fail at once where nobody is",
  ignore: pickHost("auto").io !== "linux",
  async fn() {
    for (const address of ["127.0.0.1", "::1"]) {
      const gone = linuxHost().openDatagram({ transport: "udp", address, port: 0 }, () => {});
      gone.close();
      await gone.closed;
      const options = { host: linuxHost(), server: gone.localAddress };
      await assertRejects(() => requestBinding(options), StunUnreachableError);
      await assertRejects(() => allocate({ ...options, username: "a", password: "b" }), StunUnreachableError);
    }
  },
});
