// serveStun() over TCP and TLS.
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { TransportAddress } from "../../stun/address.ts";
import { discoverNat } from "../../stun/discover.ts";
import { ERROR_CODE_ATTRIBUTE } from "../../stun/attributes.ts";
import { CHANGE_REQUEST, RESPONSE_ORIGIN } from "../../stun/discovery_attributes.ts";
import { StunConnectionError, StunError } from "../../stun/error.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import { denoHost } from "../../stun/net/deno_host.ts";
import { type Host, OpenError } from "../../stun/net/transport.ts";
import { requestBinding } from "../../stun/request.ts";
import { serveStun, type ServeStunOptions, type StunServerHandle } from "../../stun/serve.ts";
import { UserTable } from "../../stun/users.ts";
import { shiftedHost } from "./net/shifted_host.ts";

const read = (name: string) => Deno.readTextFileSync(new URL(`../vectors/tls/${name}.pem`, import.meta.url));
const CA = [read("ca")];
const ONE = { certificate: read("one"), key: read("one_key") };
const TWO = { certificate: read("two"), key: read("two_key") };

function serve(options: Partial<ServeStunOptions> = {}): StunServerHandle {
  return serveStun({ listen: ["127.0.0.1:0"], dtls: false, ...options });
}

/** A Binding request over each transport: those that are named are answered, for as long as it takes, and no others. */
async function reaches(server: StunServerHandle, names: string, index = 0): Promise<void> {
  for (const transport of ["udp", "tcp", "tls"] as const) {
    const options = { server: server.addresses[index]!, transport, tls: { ca: CA } };
    if (names.split(" ").includes(transport)) {
      const { mapped, local } = await requestBinding(options);
      assertEquals(String(mapped), String(local));
    } else await assertRejects(() => requestBinding({ ...options, rto: 10, rc: 1, rm: 2, ti: 500 }));
  }
}

/** Resolves when the server has closed the connection, with the bytes that came before. */
async function untilClosed(conn: Deno.TcpConn): Promise<number> {
  const memory = new Uint8Array(512);
  let count = 0;
  for (;;) {
    const read = await conn.read(memory).catch(() => null);
    if (read === null) return count;
    count += read;
  }
}

Deno.test("RFC 8489 §6.2.2, §6.2.3: serveStun() answers over UDP, TCP and TLS on one port", async () => {
  await using server = serve({ tls: ONE });
  await reaches(server, "udp tcp tls");
  assertEquals(server.addresses.length, 1);
  assertEquals(server.stats(), { requests: 3, successes: 3, errors: 0, dropped: 0 });
  assertEquals(server.streamStats().accepted, 2);
});

Deno.test("serveStun(): which transports are served where", async () => {
  await using plain = serve();
  await using udp = serve({ transports: ["udp"], tls: ONE });
  await using tcp = serve({ transports: ["tcp"], tls: ONE });
  await using split = serve({ transports: ["udp"], tls: ONE, listenTls: ["127.0.0.1:0"] });
  await reaches(plain, "udp tcp");
  await reaches(udp, "udp");
  await reaches(tcp, "tcp tls");
  await reaches(split, "udp");
  await reaches(split, "tls", 1);
  assertEquals(plain.transports, [["udp", "tcp"]]);
  assertEquals(tcp.transports, [["tcp", "tls"]]);
  assertEquals(split.transports, [["udp"], ["tls"]]);
  assertThrows(() => serve({ listenTls: ["127.0.0.1:0"] }), OpenError);
});

Deno.test("RFC 7443: serveStun() agrees on stun.nat-discovery, and on what it was told", async () => {
  await using server = serve({ tls: ONE });
  await using told = serve({ tls: { ...ONE, alpn: ["stun.turn"] } });
  const ask = (asked: StunServerHandle, alpn?: string[]) =>
    requestBinding({
      server: asked.addresses[0]!,
      transport: "tls",
      tls: { ca: CA, ...(alpn === undefined ? {} : { alpn }) },
    });
  await ask(server);
  await ask(server, []);
  await ask(server, ["stun.turn", "stun.nat-discovery"]);
  await assertRejects(() => ask(server, ["stun.turn"]), OpenError);
  await ask(told, ["stun.turn"]);
  await assertRejects(() => ask(told), OpenError);
  server.setTls(TWO);
  await assertRejects(() => ask(server, ["stun.turn"]), OpenError);
  await ask(server);
});

Deno.test("serveStun(): the certificate is replaced without a restart; a bad one is refused and the old one stays", async () => {
  await using server = serve({ tls: ONE, listenTls: ["127.0.0.1:0"] });
  const { resolveSrv: _, resolveNaptr: __, ...real } = denoHost();
  const host: Host = { ...real, resolve: () => Promise.resolve(["127.0.0.1"]) };
  const ask = (name: string, { port }: TransportAddress) =>
    requestBinding({ server: `stuns:${name}.example:${port}`, tls: { ca: CA }, host });
  for (const address of server.addresses) await ask("one", address);
  assertThrows(() => server.setTls({ certificate: ONE.certificate, key: TWO.key }), OpenError);
  for (const address of server.addresses) await ask("one", address);
  server.setTls(TWO);
  for (const address of server.addresses) {
    await ask("two", address);
    const error = await assertRejects(() => ask("one", address), OpenError);
    assertEquals(error.failure, "certificate");
  }
  await using plain = serve();
  assertThrows(() => plain.setTls(ONE), TypeError, "started without TLS");
});

Deno.test("serveStun(): connections are capped, for all and for one address", async () => {
  for (
    const [limits, counter] of [[{ maxConnections: 1 }, "refused"], [
      { maxPerAddress: 1 },
      "refusedPerAddress",
    ]] as const
  ) {
    await using server = serve({ streamLimits: limits });
    const { address: hostname, port } = server.addresses[0]!;
    using first = await Deno.connect({ hostname, port });
    const refused = { server: server.addresses[0]!, transport: "tcp" } as const;
    await assertRejects(() => requestBinding(refused), StunConnectionError);
    assertEquals([server.streamStats()[counter], server.streamStats().open], [1, 1]);
    assertEquals(first.remoteAddr.port, port);
  }
});

Deno.test("serveStun(): who shows no frame, half a frame, none for long, or something else is closed", async () => {
  const request = new Uint8Array(20);
  request.set([0x00, 0x01, 0x00, 0x00, 0x21, 0x12, 0xa4, 0x42]);
  const cases = [
    [{ firstFrameTimeout: 20 }, []],
    [{ firstFrameTimeout: 20 }, [0x16, 0x03]],
    [{ frameTimeout: 20 }, [...request.subarray(0, 10)]],
  ] as const;
  for (const [streamLimits, bytes] of cases) {
    await using server = serve({ streamLimits, tls: ONE });
    const { address: hostname, port } = server.addresses[0]!;
    using conn = await Deno.connect({ hostname, port });
    await conn.write(new Uint8Array(bytes));
    assertEquals(await untilClosed(conn), 0);
    assertEquals([server.streamStats().timedOut, server.streamStats().malformed], [1, 0]);
  }
  const { host, pass } = shiftedHost();
  await using server = serve({ host, tls: ONE });
  const { address: hostname, port } = server.addresses[0]!;
  using silent = await Deno.connect({ hostname, port });
  await silent.write(request);
  // A header, XOR-MAPPED-ADDRESS, MAPPED-ADDRESS and RESPONSE-ORIGIN; then nothing for an hour and a minute.
  assertEquals(await silent.read(new Uint8Array(512)), 56);
  pass(3_660_000);
  assertEquals([await untilClosed(silent), server.streamStats().timedOut], [0, 1]);
  using web = await Deno.connect({ hostname, port });
  await web.write(new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"));
  assertEquals([await untilClosed(web), server.streamStats().malformed], [0, 1]);
});

Deno.test("RFC 5780 §6: the second port is there for TCP and TLS, and answers name it; CHANGE-REQUEST gets 420 there", async () => {
  await using server = serve({ listen: ["127.0.0.1:0", "127.0.0.2:0"], tls: ONE });
  assertEquals([server.addresses.length, server.hasDiscovery], [4, true]);
  assertEquals(server.transports, new Array(4).fill(["udp", "tcp", "tls"]));
  for (const transport of ["udp", "tcp", "tls"] as const) {
    for (const [index, other] of [[0, 3], [1, 2], [2, 1], [3, 0]] as const) {
      const tls = { ca: CA, serverName: "one.example" };
      const { otherAddress } = await requestBinding({ server: server.addresses[index]!, transport, tls });
      assertEquals(String(otherAddress), String(server.addresses[other]));
    }
  }
  const { address: hostname, port } = server.addresses[0]!;
  using conn = await Deno.connect({ hostname, port });
  const ask = async (changeIp: boolean) => {
    await conn.write(
      new MessageWriter(new Uint8Array(28)).begin(METHOD.BINDING, "request", new Uint8Array(12))
        .add(CHANGE_REQUEST, { changeIp, changePort: false }).finish().slice(),
    );
    const memory = new Uint8Array(512);
    return StunMessage.parse(memory.subarray(0, (await conn.read(memory))!))!;
  };
  assertEquals((await ask(true)).get(ERROR_CODE_ATTRIBUTE)?.code, 420);
  const plain = new Uint8Array(20);
  plain.set([0x00, 0x01, 0x00, 0x00, 0x21, 0x12, 0xa4, 0x42]);
  await conn.write(plain);
  const memory = new Uint8Array(512);
  const answer = StunMessage.parse(memory.subarray(0, (await conn.read(memory))!))!;
  assertEquals(String(answer.get(RESPONSE_ORIGIN)), String(server.addresses[0]));
  const report = await discoverNat({ servers: [server.addresses[0]!] });
  assertEquals(report.classic, "open");
  await using udp = serve({ listen: ["127.0.0.1:0", "127.0.0.2:0"], transports: ["udp"] });
  assertEquals(udp.transports, new Array(4).fill(["udp"]));
  await using streams = serve({ listen: ["127.0.0.1:0", "127.0.0.2:0"], transports: ["tcp"] });
  assertEquals([streams.addresses.length, streams.hasDiscovery], [2, false]);
});

Deno.test("RFC 8489 §9, §10: credentials and 300 over TCP and TLS as over UDP", async () => {
  const users = new UserTable("example.org", [["alice", "secret"]]);
  await using server = serve({ tls: ONE, credentials: { type: "long-term", realm: "example.org", users } });
  await using old = serve({ tls: ONE, alternate: { addresses: [server.addresses[0]!] } });
  const tls = { ca: CA };
  for (const transport of ["udp", "tcp", "tls"] as const) {
    const ask = (password: string) =>
      requestBinding({
        server: old.addresses[0]!,
        transport,
        tls,
        credentials: { type: "long-term", username: "alice", password },
      });
    assertEquals(String((await ask("secret")).server), String(server.addresses[0]));
    assertEquals((await assertRejects(() => ask("guess"), StunError)).code, 401);
  }
});

Deno.test("serveStun(): shutdown() closes connections and frees the port for TCP and UDP", async () => {
  const server = serve({ tls: ONE });
  const [address] = server.addresses;
  using conn = await Deno.connect({ hostname: address!.address, port: address!.port });
  await server.shutdown();
  assertEquals(await untilClosed(conn), 0);
  await using again = serve({ listen: [address!] });
  assertEquals(String(again.addresses[0]), String(address));
});

Deno.test("serveStun(): a TCP port that is taken is an OpenError, unless only UDP is wanted", async () => {
  // A port that is free for both.
  const before = serve();
  await before.shutdown();
  const listen = [String(before.addresses[0])];
  using _taken = Deno.listen({ hostname: "127.0.0.1", port: before.addresses[0]!.port });
  const error = assertThrows(() => serve({ listen }), OpenError);
  assertEquals(error.failure, "address-in-use");
  await using udp = serve({ listen, transports: ["udp"] });
  assertEquals(String(udp.addresses[0]), listen[0]);
});
