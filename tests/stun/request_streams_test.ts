import { assert, assertEquals, assertRejects } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { StunConnectionError, StunTimeoutError } from "../../stun/error.ts";
import { denoHost } from "../../stun/net/deno_host.ts";
import { type Host, OpenError } from "../../stun/net/transport.ts";
import { requestBinding } from "../../stun/request.ts";
import { serveTurn, type TurnServerHandle } from "../../turn/serve.ts";

const read = (name: string) => Deno.readTextFileSync(new URL(`../vectors/tls/${name}.pem`, import.meta.url));
const CA = [read("ca")];
const TLS = { certificate: read("one"), key: read("one_key") };

function serve(options: { listen?: string[] } = {}): TurnServerHandle {
  return serveTurn({ listen: ["127.0.0.1:0"], realm: "example.org", users: {}, tls: TLS, ...options });
}

/** A host where names mean what a test says. */
function hostWith(names: Readonly<Record<string, readonly string[]>>): Host {
  const { resolveSrv: _, resolveNaptr: __, ...host } = denoHost();
  return { ...host, resolve: (name) => Promise.resolve(names[name] ?? [name]) };
}

Deno.test("RFC 8489 §6.2.2: a Binding request over TCP, and over TLS on the same port", async () => {
  await using server = serve();
  const [address] = server.addresses;
  const over = [
    { server: address!, transport: "tcp" },
    { server: `stun:${address}`, transport: "tcp" },
    { server: address!, transport: "tls", tls: { ca: CA } },
    { server: `stuns:localhost:${address!.port}`, tls: { ca: CA } },
  ] as const;
  for (const options of over) {
    const { mapped, local, sends, server: answered } = await requestBinding(options);
    assertEquals([String(mapped), sends, String(answered)], [String(local), 1, String(address)]);
    assert(local.port !== 0);
  }
  assertEquals([server.stats().bindings, server.streamStats().accepted], [4, 4]);
});

Deno.test("RFC 8489 §8.1, §6.2.3: stuns: needs a name that the certificate vouches for", async () => {
  await using server = serve();
  const [address] = server.addresses;
  await assertRejects(() => requestBinding({ server: `stuns:${address}`, tls: { ca: CA } }), SyntaxError, "§8.1");
  const host = hostWith({ "other.example": ["127.0.0.1"], "one.example": ["127.0.0.1"] });
  const ask = (name: string, tls: object) =>
    requestBinding({ server: `stuns:${name}:${address!.port}`, tls: { ca: CA, ...tls }, host });
  const wrong = await assertRejects(() => ask("other.example", {}), OpenError, "for another name");
  assertEquals(wrong.failure, "certificate");
  await ask("one.example", {});
  await ask("other.example", { serverName: "one.example" });
  await ask("127.0.0.1", { insecureAcceptAnyCertificate: true });
  await assertRejects(() => ask("one.example", { alpn: ["h2"] }), OpenError);
});

Deno.test("RFC 8305: of a name's addresses, the first that answers", async () => {
  await using server = serve();
  const { port } = server.addresses[0]!;
  // Nobody listens on IPv6; a silent server's turn is over after 250 ms.
  const dead = hostWith({ "both.example": ["127.0.0.1", "::1"] });
  const found = await requestBinding({ server: `stun:both.example:${port}`, transport: "tcp", host: dead });
  assertEquals(found.server.address, "127.0.0.1");
  using silent = Deno.listen({ hostname: "127.0.0.2", port });
  const slow = hostWith({ "slow.example": ["127.0.0.2", "127.0.0.1"] });
  const start = performance.now();
  const late = await requestBinding({ server: `stun:slow.example:${port}`, transport: "tcp", host: slow });
  assertEquals(late.server.address, "127.0.0.1");
  assert(performance.now() - start >= 249);
  (await silent.accept()).close();
});

Deno.test("A server that can not be connected to, ends the connection, or is silent", async () => {
  const refused = { server: TransportAddress.parse("127.0.0.1:9"), transport: "tcp" } as const;
  await assertRejects(() => requestBinding(refused), OpenError, "Cannot connect to TCP 127.0.0.1:9");
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const server = TransportAddress.of("127.0.0.1", listener.addr.port);
  const rude = (async () => {
    using conn = await listener.accept();
    await conn.read(new Uint8Array(100));
  })();
  await assertRejects(
    () => requestBinding({ server, transport: "tcp" }),
    StunConnectionError,
    "the connection ended without an answer (end)",
  );
  await rude;
  await assertRejects(() => requestBinding({ server, transport: "tcp", ti: 20 }), StunTimeoutError, "1 request");
  (await listener.accept()).close();
  const aborter = new AbortController();
  const given = requestBinding({ server, transport: "tcp", signal: aborter.signal });
  const accepted = listener.accept().then((conn) => {
    conn.close();
    aborter.abort(new DOMException("enough", "TimeoutError"));
  });
  const error = await assertRejects(() => given, DOMException);
  assertEquals(error.name, "TimeoutError");
  await accepted;
});

Deno.test("A server that does not speak STUN", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const server = TransportAddress.of("127.0.0.1", listener.addr.port);
  const web = (async () => {
    using conn = await listener.accept();
    await conn.write(new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n\r\n"));
    await conn.read(new Uint8Array(100));
  })();
  await assertRejects(() => requestBinding({ server, transport: "tcp" }), StunConnectionError, "(malformed)");
  await web;
});

Deno.test("A local address is only for UDP", async () => {
  await using server = serve();
  const options = { server: server.addresses[0]!, localAddress: "127.0.0.1" };
  await requestBinding(options);
  await assertRejects(() => requestBinding({ ...options, transport: "tcp" }), OpenError, "from a given local address");
  await assertRejects(
    () => requestBinding({ server: TransportAddress.parse("127.0.0.1:9"), rto: 1, rc: 1, rm: 1 }),
    StunTimeoutError,
  );
});
