import { assertEquals, assertThrows } from "@std/assert";
import { chooseAddresses, hostAddresses, interfaceOf, portsToTry } from "../../ice/host_addresses.ts";
import { Hosts, type HostsOwner } from "../../ice/hosts.ts";
import { type LocalInterface, OpenError } from "../../stun/net/transport.ts";
import { TransportAddress } from "../../stun/address.ts";

const LO: LocalInterface[] = [{ name: "lo", address: "127.0.0.1" }, { name: "lo", address: "::1" }];
const on = (name: string, ...addresses: string[]): LocalInterface[] => addresses.map((address) => ({ name, address }));
const texts = (addresses: readonly TransportAddress[]) => addresses.map(({ address }) => address);

Deno.test("I33: link-local, site-local, IPv4-mapped and deprecated addresses make no candidates, loopback only alone", () => {
  const interfaces = [
    ...LO,
    ...on("eth0", "192.0.2.1", "fe80::1", "fec0::1", "::ffff:192.0.2.9", "::192.0.2.9", "2001:db8::1"),
    { name: "eth0", address: "2001:db8::2", isDeprecated: true },
  ];
  assertEquals(texts(hostAddresses({ interfaces: () => interfaces })), ["2001:db8::1", "192.0.2.1"]);
  assertEquals(texts(hostAddresses({ interfaces: () => LO })), ["::1", "127.0.0.1"]);
});

Deno.test("I33: a temporary IPv6 address comes before a lasting one (RFC 6724 rule 7)", () => {
  const interfaces = [
    ...on("eth0", "2001:db8::1", "2001:db8::2"),
    { name: "eth0", address: "2001:db8::3", isTemporary: true },
  ];
  assertEquals(texts(chooseAddresses(interfaces, {})), ["2001:db8::3", "2001:db8::1", "2001:db8::2"]);
});

Deno.test("Interfaces are chosen by a callback, which stands above bind as well, and by IP version", () => {
  const interfaces = [...LO, ...on("eth0", "192.0.2.1", "2001:db8::1"), ...on("tun0", "10.8.0.2")];
  const interfaceFilter = ({ name }: LocalInterface) => name !== "tun0";
  assertEquals(texts(chooseAddresses(interfaces, { interfaceFilter })), ["2001:db8::1", "192.0.2.1"]);
  assertEquals(texts(chooseAddresses(interfaces, { ipVersion: 4 })), ["192.0.2.1", "10.8.0.2"]);
  const bind = ["10.8.0.2:5000", "192.0.2.1", "2001:db8::1"];
  assertEquals(chooseAddresses(interfaces, { bind, interfaceFilter, ipVersion: 4 }).map(String), ["192.0.2.1:0"]);
  assertEquals(interfaceOf(TransportAddress.of("2001:db8::1", 5), interfaces), "eth0");
  assertEquals(interfaceOf(TransportAddress.of("192.0.2.9", 5), interfaces), undefined);
});

Deno.test("A port range is tried from a random port on, each port once", () => {
  assertEquals(portsToTry([5000, 5003], 0), [5000, 5001, 5002, 5003]);
  assertEquals(portsToTry([5000, 5003], 0.99), [5003, 5000, 5001, 5002]);
  assertEquals(portsToTry([5000, 5000], 0.5), [5000]);
  for (const range of [[0, 5], [6, 5], [5, 65536], [1.5, 5]] as const) {
    assertThrows(() => portsToTry(range, 0), RangeError, `current value is ${range[0]} to ${range[1]}`);
  }
});

Deno.test("Where interfaces may not be looked at, the error says what to do; with bind nobody looks", () => {
  const host = {
    interfaces() {
      throw new Error("Requires sys access");
    },
  };
  const owner = (options: object) => ({ host, options }) as unknown as HostsOwner;
  assertThrows(() => new Hosts(owner({})), OpenError, "name them by bind");
  assertEquals(texts(new Hosts(owner({ bind: ["192.0.2.1"] })).addresses), ["192.0.2.1"]);
});
