import { assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { candidatePriority, isCheckable, isLinkLocal, isLoopback, orderFamilies } from "../../ice/candidate.ts";
import { LocalCandidates } from "../../ice/local_candidates.ts";
import { Rig } from "./rig.ts";

const at = TransportAddress.parse;

Deno.test("RFC 8445 §5.1.2.1: candidate priorities", () => {
  assertEquals(candidatePriority("host", 65535), 2130706431);
  assertEquals(candidatePriority("prflx", 65535), 1862270975);
  assertEquals(candidatePriority("srflx", 65535), 1694498815);
  assertEquals(candidatePriority("relay", 65535), 16777215);
  assertEquals(candidatePriority("relay", 0, 256), 0);
  assertEquals(candidatePriority("host", 65535, 2), 2130706430);
});

Deno.test("RFC 8421 §4: two IPv4 and six IPv6 addresses, four IPv6 in front", () => {
  const six = Array.from({ length: 6 }, (_, i) => at(`[2001:db8::${i + 1}]:1`));
  const four = [at("192.0.2.1:1"), at("192.0.2.2:1")];
  const order = orderFamilies([...four, ...six]).map(({ family }) => family).join("");
  assertEquals(order, "66664646");
  assertEquals(orderFamilies([four[0]!, six[0]!]).map(({ family }) => family).join(""), "64");
  assertEquals(orderFamilies(four), four);
});

Deno.test("I18: no two of our candidates have the same priority, and the first host has local preference 65535", () => {
  const rig = new Rig();
  ["192.0.2.1", "192.0.2.2", "192.0.2.3"].forEach((ip, i) => rig.agent.addHost(i + 1, at(`${ip}:5000`), rig.io));
  for (const rank of [1, 0, 2, 3]) {
    rig.agent.addRelay(10 + rank, { address: at(`203.0.113.${rank + 1}:7000`), rank }, rig.io);
  }
  const { localCandidates } = rig.agent;
  assertEquals(localCandidates[0]!.priority, 2130706431);
  assertEquals(new Set(localCandidates.map(({ priority }) => priority)).size, 7);
  const relays = localCandidates.filter(({ type }) => type === "relay");
  // In the order of their rank, whichever answered first.
  const order = relays.toSorted((a, b) => b.priority - a.priority).map(({ address }) => String(address));
  assertEquals(order, ["203.0.113.1:7000", "203.0.113.2:7000", "203.0.113.3:7000", "203.0.113.4:7000"]);
});

Deno.test("I18: several reflexive candidates of one base differ, and rank below those of a better base", () => {
  const locals = new LocalCandidates();
  const add = (address: string, rank: number) =>
    locals.add({ type: "srflx", socket: rank + 1, address: at(address), base: at(`10.0.0.${rank}:1`), rank })!.priority;
  const priorities = [add("203.0.113.1:1", 0), add("203.0.113.2:1", 0), add("203.0.113.3:1", 1)];
  assertEquals(priorities, [...new Set(priorities)].sort((a, b) => b - a));
});

Deno.test("I19: the foundation depends on type, base address and server, not on ports", () => {
  const locals = new LocalCandidates();
  const server = at("198.51.100.1:3478");
  const other = at("198.51.100.2:3478");
  const foundation = (type: "host" | "srflx" | "relay", address: string, base: string, from?: TransportAddress) =>
    locals.add({ type, socket: 1, address: at(address), base: at(base), rank: 0, ...(from ? { server: from } : {}) })!
      .foundation;
  const host = foundation("host", "10.0.0.1:1000", "10.0.0.1:1000");
  assertEquals(foundation("host", "10.0.0.1:1001", "10.0.0.1:1001"), host);
  const srflx = foundation("srflx", "203.0.113.1:1", "10.0.0.1:1000", server);
  assertEquals(foundation("srflx", "203.0.113.1:2", "10.0.0.1:1001", server), srflx);
  const all = [
    host,
    srflx,
    foundation("srflx", "203.0.113.1:3", "10.0.0.1:1000", other),
    foundation("srflx", "203.0.113.1:4", "10.0.0.2:1000", server),
    foundation("relay", "203.0.113.1:5", "10.0.0.1:1000", server),
    foundation("host", "10.0.0.2:1000", "10.0.0.2:1000"),
  ];
  assertEquals(new Set(all).size, all.length);
});

Deno.test("RFC 8445 §5.1.3: a candidate with the address and base of another is redundant", () => {
  const locals = new LocalCandidates();
  const host = { type: "host", socket: 1, address: at("192.0.2.1:1"), rank: 0 } as const;
  assertEquals(locals.add(host)?.type, "host");
  assertEquals(locals.add({ ...host, type: "srflx" }), undefined);
  assertEquals(locals.add({ ...host, type: "srflx", socket: 2, base: at("192.0.2.2:1") })?.type, "srflx");
});

Deno.test("Addresses that cannot be checked: no port, unspecified, multicast, broadcast", () => {
  for (
    const text of [
      "192.0.2.1:0",
      "0.0.0.0:9",
      "224.0.0.1:5",
      "255.255.255.255:5",
      "[::]:5",
      "[ff02::1]:5",
      "[::ffff:1.2.3.4]:5",
    ]
  ) {
    assertEquals(isCheckable(at(text)), false, text);
  }
  for (const text of ["192.0.2.1:1", "10.0.0.1:1", "127.0.0.1:1", "[::1]:1", "[2001:db8::1]:1"]) {
    assertEquals(isCheckable(at(text)), true, text);
  }
  assertEquals(isLinkLocal(at("[fe80::1]:1")), true);
  assertEquals(isLinkLocal(at("[fec0::1]:1")), false);
  assertEquals([isLoopback(at("127.1.2.3:1")), isLoopback(at("[::1]:1")), isLoopback(at("[::2]:1"))], [
    true,
    true,
    false,
  ]);
});
