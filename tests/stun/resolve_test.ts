import { assert, assertEquals, assertRejects } from "@std/assert";
import { discoverNat } from "../../stun/discover.ts";
import type { SrvRecord } from "../../stun/locate.ts";
import { denoHost } from "../../stun/net/deno_host.ts";
import { type ResolveOptions, resolveServers } from "../../stun/resolve.ts";
import { serveStun } from "../../stun/serve.ts";
import { DnsServer, type ZoneEntry } from "./dns_server.ts";

function srv(priority: number, port: number, target: string): SrvRecord {
  return { priority, weight: 0, port, target };
}

const ZONE: Readonly<Record<string, ZoneEntry>> = {
  "plain.test": { A: ["192.0.2.1", "192.0.2.2"], AAAA: ["2001:db8::1"] },
  "srv.test": { A: ["192.0.2.9"] },
  "_stun._udp.srv.test": { SRV: [srv(20, 3479, "b.test"), srv(10, 3478, "a.test"), srv(5, 1, "gone.test")] },
  "_stun._tcp.srv.test": { SRV: [srv(1, 443, "b.test")] },
  "_stuns._tcp.srv.test": { SRV: [srv(1, 5350, "a.test")] },
  "_stun-behavior._udp.both.test": { SRV: [srv(1, 3490, "b.test")] },
  "_stun-behaviors._tcp.both.test": { SRV: [srv(1, 5390, "b.test")] },
  "_stun._udp.both.test": { SRV: [srv(1, 3478, "a.test")] },
  "a.test": { A: ["192.0.2.10"] },
  "b.test": { A: ["192.0.2.11"], AAAA: ["2001:db8::b"] },
  "none.test": { A: ["192.0.2.1"] },
  "_turn._udp.none.test": { SRV: [srv(0, 0, ".")] },
  "naptr.test": {
    NAPTR: [
      { order: 100, preference: 20, flags: "s", services: "RELAY:turn.udp", regexp: "", replacement: "u.naptr.test" },
      { order: 100, preference: 10, flags: "s", services: "RELAY:turn.tls", regexp: "", replacement: "t.naptr.test" },
      { order: 200, preference: 10, flags: "", services: "RELAY:turn.tcp", regexp: "", replacement: "next.naptr.test" },
      { order: 300, preference: 1, flags: "", services: "RELAY:turn.udp", regexp: "", replacement: "naptr.test" },
    ],
  },
  "next.naptr.test": {
    NAPTR: [{ order: 1, preference: 1, flags: "a", services: "RELAY:turn.tcp", regexp: "", replacement: "a.test" }],
  },
  "u.naptr.test": { SRV: [srv(1, 3480, "b.test")] },
  "t.naptr.test": { SRV: [srv(1, 5351, "b.test")] },
};

/** What the URI leads to, as text, and what was asked. */
async function resolve(uri: string, options: ResolveOptions = {}) {
  using dns = new DnsServer(ZONE);
  const host = denoHost({ nameServer: dns.address });
  const found = await resolveServers(uri, { host, ...options });
  assert(found.every(({ serverName }) => serverName === found[0]!.serverName));
  return {
    found: found.map(({ transport, address }) => `${transport} ${address}`),
    name: found[0]!.serverName,
    queries: dns.queries.toSorted(),
  };
}

Deno.test("RFC 5928 §3: an IP address is taken as it is, without DNS", async () => {
  const { found, queries } = await resolve("turn:192.0.2.1");
  assertEquals([found, queries], [["udp 192.0.2.1:3478", "tcp 192.0.2.1:3478"], []]);
  assertEquals((await resolve("turns:[2001:db8::1]:443")).found, ["tls [2001:db8::1]:443", "dtls [2001:db8::1]:443"]);
});

Deno.test("RFC 8489 §8.1: stuns with an IP address is refused, unless the caller knows better", async () => {
  await assertRejects(() => resolve("stuns:192.0.2.1"), SyntaxError, "RFC 8489 §8.1");
  const { found } = await resolve("stuns:192.0.2.1", { allowSecureAddress: true });
  assertEquals(found, ["tls 192.0.2.1:5349", "dtls 192.0.2.1:5349"]);
});

Deno.test("RFC 5928 §3, RFC 8489 §8.1: a name with a port has addresses only, IPv4 and IPv6", async () => {
  const { found, queries, name } = await resolve("turn:plain.test:4000");
  assertEquals(found, [
    ...["udp 192.0.2.1:4000", "udp [2001:db8::1]:4000", "udp 192.0.2.2:4000"],
    ...["tcp [2001:db8::1]:4000", "tcp 192.0.2.1:4000", "tcp 192.0.2.2:4000"],
  ]);
  assertEquals([name, queries], ["plain.test", ["A plain.test", "AAAA plain.test"]]);
});

Deno.test("RFC 8489 §8.1: SRV records by priority; a target without addresses is left out", async () => {
  const { found, name } = await resolve("stun:srv.test", { transports: ["udp"] });
  assertEquals(found, ["udp 192.0.2.10:3478", "udp 192.0.2.11:3479", "udp [2001:db8::b]:3479"]);
  assertEquals(name, "srv.test");
  assertEquals((await resolve("stun:srv.test", { transports: ["tcp", "udp"] })).found.slice(0, 3), [
    ...["tcp [2001:db8::b]:443", "tcp 192.0.2.11:443", "udp 192.0.2.10:3478"],
  ]);
  assertEquals((await resolve("stuns:srv.test")).found, ["tls 192.0.2.10:5350"]);
});

Deno.test("RFC 8489 §8.1: without SRV records, the default ports", async () => {
  const { found, queries } = await resolve("stun:plain.test", { transports: ["udp"] });
  assertEquals(found, ["udp 192.0.2.1:3478", "udp [2001:db8::1]:3478", "udp 192.0.2.2:3478"]);
  assertEquals(queries, ["A plain.test", "AAAA plain.test", "SRV _stun._udp.plain.test"]);
  assertEquals((await resolve("stuns:plain.test")).found[0], "tls [2001:db8::1]:5349");
});

Deno.test("RFC 5928 §3: NAPTR, SRV and addresses one after another, and no circles", async () => {
  assertEquals(
    (await resolve("turn:naptr.test")).found,
    [
      ...["udp 192.0.2.11:3480", "udp [2001:db8::b]:3480", "tcp 192.0.2.10:3478"],
    ],
  );
  assertEquals((await resolve("turns:naptr.test")).found, ["tls [2001:db8::b]:5351", "tls 192.0.2.11:5351"]);
  // A transport in the URI: no NAPTR.
  const { queries } = await resolve("turn:plain.test?transport=tcp");
  assertEquals(queries, ["A plain.test", "AAAA plain.test", "SRV _turn._tcp.plain.test"]);
});

Deno.test("RFC 2782: a target of . says that there is no such service", async () => {
  await assertRejects(
    () => resolve("turn:none.test?transport=udp"),
    Error,
    `Cannot find a server as "none.test" says in DNS that it has none`,
  );
});

Deno.test("A name that is not there", async () => {
  await assertRejects(() => resolve("turn:nobody.test"), Error, `Cannot find name "nobody.test"`);
});

Deno.test("A silent DNS server: the signal ends the wait", async () => {
  using dns = new DnsServer(ZONE);
  dns.isSilent = true;
  const host = denoHost({ nameServer: dns.address });
  const signal = AbortSignal.timeout(20);
  const error = await assertRejects(() => resolveServers("stun:srv.test", { host, signal }), DOMException);
  assertEquals(error.name, "TimeoutError");
});

Deno.test("A host without DNS has names and addresses, no records", async () => {
  const { resolveSrv: _, ...host } = denoHost();
  const found = await resolveServers("turn:example.test", {
    host: { ...host, resolve: () => Promise.resolve(["192.0.2.1"]) },
  });
  assertEquals(found.map(({ address }) => String(address)), ["192.0.2.1:3478", "192.0.2.1:3478"]);
});

Deno.test("RFC 5780 §5.1: for NAT behaviour discovery, SRV records of stun-behavior go before those of stun", async () => {
  const found = async (uri: string, transport: "udp" | "tls", behavior: boolean) =>
    (await resolve(uri, { transports: [transport], behavior })).found[0];
  assertEquals(await found("stun:both.test", "udp", true), "udp 192.0.2.11:3490");
  assertEquals(await found("stun:both.test", "udp", false), "udp 192.0.2.10:3478");
  assertEquals(await found("stuns:both.test", "tls", true), "tls [2001:db8::b]:5390");
  assertEquals(await found("stun:srv.test", "udp", true), "udp 192.0.2.10:3478");
  assertEquals(await found("stun:plain.test", "udp", true), "udp 192.0.2.1:3478");
});

Deno.test("RFC 5780 §5.1: discoverNat() finds its server by SRV records", async () => {
  await using server = serveStun({ listen: ["127.0.0.1:0", "127.0.0.2:0"] });
  using dns = new DnsServer({
    "_stun-behavior._udp.nat.test": { SRV: [srv(1, server.addresses[0]!.port, "loop.test")] },
    "loop.test": { A: ["127.0.0.1"] },
  });
  const report = await discoverNat({ servers: ["stun:nat.test"], host: denoHost({ nameServer: dns.address }) });
  assertEquals([report.classic, String(report.servers[0]!.address)], ["open", String(server.addresses[0])]);
});
