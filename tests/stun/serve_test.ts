import { assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { discoverNat } from "../../stun/discover.ts";
import { OpenError } from "../../stun/net/transport.ts";
import { VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { requestBinding } from "../../stun/request.ts";
import { serveStun } from "../../stun/serve.ts";

function hosts(addresses: readonly string[] = ["198.51.100.1", "198.51.100.2"]) {
  const world = new VirtualWorld({ seed: 1 });
  const host = world.addHost("server", { addresses });
  const client = world.addHost("client", { addresses: ["203.0.113.7", "2001:db8:1::7"] });
  return { world, host, client };
}

Deno.test("RFC 5780 §6: two addresses with one port get a second port, the next one", async () => {
  const { host } = hosts();
  await using service = serveStun({ listen: ["198.51.100.1", "198.51.100.2"], host });
  assertEquals(service.addresses.map(String), [
    "198.51.100.1:3478",
    "198.51.100.2:3478",
    "198.51.100.1:3479",
    "198.51.100.2:3479",
  ]);
  assertEquals(service.hasDiscovery, true);
});

Deno.test("The second port can be chosen; one in use is an error, unless natkit chose it", async () => {
  const { host } = hosts();
  await using _taken = serveStun({ listen: ["198.51.100.2:3479"], host });
  await using chosen = serveStun({ listen: ["198.51.100.1", "198.51.100.2"], host });
  const [, , third, fourth] = chosen.addresses;
  assertNotEquals(third!.port, 3479);
  assertEquals([third!.port, chosen.hasDiscovery], [fourth!.port, true]);
  await chosen.shutdown();
  assertThrows(
    () => serveStun({ listen: ["198.51.100.1", "198.51.100.2"], alternatePort: 3479, host }),
    OpenError,
    "198.51.100.2 port 3479",
  );
  // Nothing of the failed one is left behind.
  await using other = serveStun({ listen: ["198.51.100.1", "198.51.100.2"], alternatePort: 5000, host });
  assertEquals(other.addresses.map(({ port }) => port), [3478, 3478, 5000, 5000]);
});

Deno.test("All four addresses may be given; then no more are bound", async () => {
  const { host } = hosts();
  const listen = ["198.51.100.1:1", "198.51.100.2:1", "198.51.100.1:2", "198.51.100.2:2"];
  await using service = serveStun({ listen, host });
  assertEquals([service.addresses.length, service.hasDiscovery], [4, true]);
});

Deno.test("Port 0 on two addresses is one free port on both", async () => {
  const { host } = hosts();
  await using service = serveStun({ listen: ["198.51.100.1:0", "198.51.100.2:0"], host });
  assertEquals(service.addresses[0]!.port, service.addresses[1]!.port);
  assertEquals(service.hasDiscovery, true);
});

Deno.test("One address, or two with different ports, is an ordinary server", async () => {
  const { host } = hosts();
  for (
    const listen of [["198.51.100.1"], ["198.51.100.1:3478", "198.51.100.2:3480"], ["198.51.100.1:1", "198.51.100.1:2"]]
  ) {
    await using service = serveStun({ listen, host });
    assertEquals([service.addresses.length, service.hasDiscovery], [listen.length, false]);
  }
});

Deno.test("A loopback address is no alternate of one that others can reach, nor a private one of a public one", async () => {
  const { host } = hosts(["198.51.100.1", "192.168.1.1", "10.0.0.1"]);
  await using mixed = serveStun({ listen: ["127.0.0.1", "198.51.100.1", "192.168.1.1"], host });
  assertEquals([mixed.addresses.length, mixed.hasDiscovery], [3, false]);
  await mixed.shutdown();
  await using both = serveStun({ listen: ["10.0.0.1", "198.51.100.1", "192.168.1.1"], host });
  assertEquals(both.addresses.slice(3).map(String), ["10.0.0.1:3479", "192.168.1.1:3479"]);
});

Deno.test("IPv4 and IPv6 side by side, each with its own alternates", async () => {
  const addresses = ["198.51.100.1", "198.51.100.2", "2001:db8::1", "2001:db8::2"];
  const { world, host, client } = hosts(addresses);
  const listen = addresses.map((address) => address.includes(":") ? `[${address}]` : address);
  await world.run(async () => {
    await using service = serveStun({ listen, host });
    assertEquals(service.addresses.length, 8);
    const four = await requestBinding({ server: "stun:198.51.100.1", localAddress: "203.0.113.7", host: client });
    assertEquals(String(four.otherAddress), "198.51.100.2:3479");
    const six = await requestBinding({ server: "stun:[2001:db8::2]", localAddress: "2001:db8:1::7", host: client });
    assertEquals(String(six.otherAddress), "[2001:db8::1]:3479");
    assertEquals(service.stats(), { requests: 2, successes: 2, errors: 0, dropped: 0 });
  });
});

Deno.test("0.0.0.0 stands for each address of the host, and answers leave from the one that was asked", async () => {
  const { world, host, client } = hosts();
  await world.run(async () => {
    await using service = serveStun({ listen: ["0.0.0.0"], host });
    assertEquals(service.hasDiscovery, false);
    assertEquals(service.addresses.map(String), [
      "127.0.0.1:3478",
      "198.51.100.1:3478",
      "198.51.100.2:3478",
    ]);
    for (const address of ["198.51.100.1", "198.51.100.2"]) {
      const { server } = await requestBinding({ server: `stun:${address}`, localAddress: "203.0.113.7", host: client });
      assertEquals(server.address, address);
    }
  });
});

Deno.test("What can not be bound is an error, with nothing left open", async () => {
  const { host } = hosts();
  assertThrows(() => serveStun({ listen: ["198.51.100.9"], host }), OpenError);
  assertThrows(() => serveStun({ listen: ["198.51.100.1", "198.51.100.9"], host }), OpenError);
  assertThrows(() => serveStun({ listen: ["nonsense"], host }), SyntaxError);
  assertThrows(() => serveStun({ listen: [], host }), RangeError, "no address to listen on");
  await serveStun({ listen: ["198.51.100.1"], host }).shutdown();
});

Deno.test("On a real host: two loopback addresses, a report, and everything closed after it", async () => {
  await using service = serveStun({
    listen: ["127.0.0.1:0", TransportAddress.parse("127.0.0.2:0")],
    software: "natkit",
  });
  const report = await discoverNat({ servers: [service.addresses[0]!] });
  assertEquals([report.classic, report.servers[0]!.software], ["open", "natkit"]);
  assertEquals(report.servers[0]!.name, String(service.addresses[0]));
  assertEquals(service.stats().errors, 0);
});

Deno.test("discoverNat: what is asked for wrongly is an error, and not a report", async () => {
  const { world, client } = hosts();
  world.names.set("six.example.org", ["2001:db8::1"]);
  const wrong: [Parameters<typeof discoverNat>[0], new (message: string) => Error, string][] = [
    [{ servers: ["nonsense"] }, SyntaxError, "nonsense"],
    [{ servers: ["stuns:198.51.100.1"] }, SyntaxError, "stun: or turn:"],
    [{ servers: ["stun:nobody.example.org"] }, Error, "nobody.example.org"],
    [{ servers: ["stun:six.example.org"], family: 4 }, Error, "no IPv4 address"],
    [{ servers: ["stun:198.51.100.1", "stun:six.example.org"] }, Error, "no IPv4 address"],
    [{ servers: [TransportAddress.parse("192.0.2.1:1")], family: 6 }, Error, "one IP version at a time"],
    [{ servers: [] }, RangeError, "no server"],
  ];
  for (const [options, type, message] of wrong) {
    await assertRejects(() => discoverNat({ ...options, host: client }), type, message);
  }
});

Deno.test("discoverNat: an aborted signal ends it with its reason", async () => {
  const { client } = hosts();
  const signal = AbortSignal.abort(new Error("not today"));
  await assertRejects(() => discoverNat({ servers: ["stun:198.51.100.1"], host: client, signal }), Error, "not today");
});
