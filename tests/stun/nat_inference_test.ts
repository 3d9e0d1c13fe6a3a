import { assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import {
  type ChangeOutcome,
  classicNatType,
  findFiltering,
  findMapping,
  findPortAllocation,
} from "../../stun/nat_inference.ts";

const local = TransportAddress.parse("192.168.1.2:50000");

function mapping(...samples: [to: string, mapped: string][]): string {
  const { value, differs } = findMapping(
    local,
    samples.map(([to, mapped]) => ({ to: TransportAddress.parse(to), mapped: TransportAddress.parse(mapped) })),
  );
  return differs ? `${value}, differs` : value;
}

Deno.test("RFC 5780 §4.3: mapping, from whatever pairs of destinations there are", () => {
  const [a, b] = ["203.0.113.1:50000", "203.0.113.1:50001"];
  assertEquals(mapping(["1.0.0.1:1", a]), "unknown");
  assertEquals(mapping(["1.0.0.1:1", a], ["1.0.0.2:1", a]), "endpoint-independent");
  assertEquals(mapping(["1.0.0.1:1", a], ["1.0.0.2:2", a]), "endpoint-independent");
  assertEquals(mapping(["1.0.0.1:1", a], ["1.0.0.2:1", b]), "unknown, differs");
  assertEquals(mapping(["1.0.0.1:1", a], ["1.0.0.1:2", a]), "unknown");
  assertEquals(mapping(["1.0.0.1:1", a], ["1.0.0.1:2", b]), "address-and-port-dependent, differs");
  assertEquals(mapping(["1.0.0.1:1", a], ["1.0.0.2:1", b], ["1.0.0.2:2", b]), "address-dependent, differs");
  assertEquals(mapping(["1.0.0.1:1", a], ["1.0.0.2:1", a], ["1.0.0.2:2", b]), "address-and-port-dependent, differs");
  assertEquals(mapping(["1.0.0.1:1", a], ["1.0.0.2:1", "203.0.113.2:50000"]), "unknown, differs");
});

Deno.test("RFC 5780 §4.3: without a NAT the mapping is endpoint-independent, even with one destination", () => {
  assertEquals(mapping(["1.0.0.1:1", String(local)]), "endpoint-independent");
  assertEquals(mapping(), "unknown");
});

Deno.test("RFC 5780 §4.4: filtering, for every pair of outcomes", () => {
  const table: [ChangeOutcome, ChangeOutcome, string][] = [
    ["passed", "passed", "endpoint-independent"],
    ["passed", "filtered", "endpoint-independent"],
    ["filtered", "passed", "address-dependent"],
    ["filtered", "filtered", "address-and-port-dependent"],
    ["refused", "filtered", "address-and-port-dependent"],
    ["refused", "passed", "unknown"],
    ["unknown", "passed", "unknown"],
    ["filtered", "unknown", "unknown"],
    ["filtered", "refused", "unknown"],
    ["refused", "refused", "unknown"],
    ["unknown", "unknown", "unknown"],
  ];
  for (const [ip, port, value] of table) assertEquals(findFiltering(ip, port).value, value, `${ip}, ${port}`);
});

function ports(localPorts: readonly number[], mappedPorts: readonly number[], ips: readonly string[] = []): string {
  const { value, step } = findPortAllocation(mappedPorts.map((port, i) => ({
    local: local.withPort(localPorts[i]!),
    mapped: TransportAddress.of(ips[i] ?? "203.0.113.1", port),
  })));
  return step === null ? value : `${value} ${step}`;
}

Deno.test("RFC 4787 §4.2: how ports are picked", () => {
  const own = [50123, 61001, 52000, 55555, 49999, 60606];
  const cases: [readonly number[], string][] = [
    [own, "preserving"],
    [[50123, 61001, 52000, 55555, 49999, 1024], "preserving"],
    [[50123, 61001, 52000, 55555, 1025, 1024], "random"],
    [[2000, 2001, 2002, 2003, 2004, 2005], "sequential 1"],
    [[2000, 2002, 2004, 2006, 2008, 2010], "sequential 2"],
    [[2000, 1999, 1998, 1997, 1996, 1995], "sequential -1"],
    [[2000, 2001, 2005, 2006, 2010, 2012], "sequential 1"],
    [[65533, 65534, 65535, 1024, 1025, 1026], "sequential 1"],
    [[2000, 2004, 2000, 2004, 2000, 2004], "random"],
    [[1111, 60000, 2222, 33333, 44444, 5555], "random"],
    [[2000, 2100, 2200, 2300, 2400, 2500], "random"],
    [[2000, 2001], "unknown"],
    [[2000, 2001, 2002], "sequential 1"],
  ];
  for (const [mapped, expected] of cases) assertEquals(ports(own, mapped), expected, String(mapped));
});

Deno.test("RFC 4787 §4.1: a sequence runs for each public address on its own", () => {
  const [a, b] = ["203.0.113.1", "203.0.113.2"];
  assertEquals(ports([1, 2, 3, 4, 5, 6], [2000, 9000, 2001, 2002, 9001, 9002], [a, b, a, a, b, b]), "sequential 1");
});

Deno.test("RFC 3489 §5, §10.1: the classic labels", () => {
  const [ei, ad, apd] = ["endpoint-independent", "address-dependent", "address-and-port-dependent"] as const;
  assertEquals(classicNatType(false, ei, ei, false), "open");
  assertEquals(classicNatType(false, ei, ad, false), "symmetric firewall");
  assertEquals(classicNatType(false, ei, apd, false), "symmetric firewall");
  assertEquals(classicNatType(false, ei, "unknown", false), "unknown");
  assertEquals(classicNatType(true, ei, ei, false), "full cone");
  assertEquals(classicNatType(true, ei, ad, false), "restricted cone");
  assertEquals(classicNatType(true, ei, apd, false), "port restricted cone");
  assertEquals(classicNatType(true, ei, "unknown", false), "unknown");
  assertEquals(classicNatType(true, ad, ei, true), "symmetric");
  assertEquals(classicNatType(true, "unknown", "unknown", true), "symmetric");
  assertEquals(classicNatType(true, "unknown", ei, false), "unknown");
});
