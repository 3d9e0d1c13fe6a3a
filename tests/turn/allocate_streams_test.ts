import { assert, assertEquals, assertRejects } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { StunConnectionError } from "../../stun/error.ts";
import { denoHost } from "../../stun/net/deno_host.ts";
import { type Host, OpenError } from "../../stun/net/transport.ts";
import { requestBinding } from "../../stun/request.ts";
import { allocate, type AllocateOptions, type Relay } from "../../turn/allocate.ts";
import { TurnError } from "../../turn/error.ts";
import { serveTurn, type ServeTurnOptions, type TurnServerHandle } from "../../turn/serve.ts";

const read = (name: string) => Deno.readTextFileSync(new URL(`../vectors/tls/${name}.pem`, import.meta.url));
const CA = [read("ca")];
const ONE = { certificate: read("one"), key: read("one_key") };
const TWO = { certificate: read("two"), key: read("two_key") };

function serve(options: Partial<ServeTurnOptions> = {}): TurnServerHandle {
  return serveTurn({
    listen: ["127.0.0.1:0"],
    realm: "example.org",
    users: { alice: "secret" },
    allowPeers: ["127.0.0.0/8"],
    tls: ONE,
    ...options,
  });
}

function open(server: AllocateOptions["server"], options: Partial<AllocateOptions> = {}): Promise<Relay> {
  return allocate({ server, username: "alice", password: "secret", tls: { ca: CA }, ...options });
}

async function next(relay: Relay): Promise<Uint8Array> {
  const { value } = await relay[Symbol.asyncIterator]().next();
  return value!.data;
}

Deno.test("RFC 8656 §3.1: relays over UDP, TCP and TLS on one port, and data between them of all sizes", async () => {
  await using server = serve();
  const [address] = server.addresses;
  await using udp = await open(`turn:${address}`);
  await using tcp = await open(`turn:${address}?transport=tcp`);
  await using tls = await open(`turns:localhost:${address!.port}`);
  const relays = [udp, tcp, tls];
  for (const one of relays) for (const other of relays) await one.permit(other.relayedAddress);
  for (const round of ["indications", "channels"]) {
    for (const [i, from] of relays.entries()) {
      const to = relays[(i + 1) % 3]!;
      if (round === "channels") await from.bindChannel(to.relayedAddress);
      // 65,456 bytes are what a Send indication has room for; the way to a UDP client is narrower.
      for (const size of [0, 1, 2, 3, 1200, to === udp ? 65_000 : 65_456]) {
        const data = Uint8Array.from({ length: size }, (_, j) => j + i);
        from.send(to.relayedAddress, data);
        assertEquals(await next(to), data);
      }
    }
  }
  assertEquals([server.streamStats().open, server.stats().allocations], [2, 3]);
});

Deno.test("T35: a relay given back over TCP is gone from the server, and so is one whose client vanished", async () => {
  const ended: string[] = [];
  const { promise: all, resolve } = Promise.withResolvers<void>();
  await using server = serve({
    onEvent: (event) => {
      if (event.type === "ended" && ended.push(event.why) === 2) resolve();
    },
  });
  const remote = `turn:${server.addresses[0]}?transport=tcp`;
  await (await open(remote)).close();
  assertEquals([ended, server.stats().allocations], [["deleted"], 0]);
  (await open(remote)).abandon();
  await all;
  assertEquals(server.stats().allocations, 0);
});

Deno.test("A server that goes away: whoever reads from the relay is told", async () => {
  const server = serve();
  await using relay = await open(`turn:${server.addresses[0]}?transport=tcp`);
  const reading = relay[Symbol.asyncIterator]().next();
  await server.shutdown();
  await assertRejects(() => reading, StunConnectionError, "Cannot keep the allocation");
});

Deno.test("allocate() over TLS: the certificate must be for the URI's name", async () => {
  await using server = serve();
  const { port } = server.addresses[0]!;
  const { resolveSrv: _, resolveNaptr: __, ...real } = denoHost();
  const host: Host = { ...real, resolve: () => Promise.resolve(["127.0.0.1"]) };
  await (await open(`turns:one.example:${port}`, { host })).close();
  const error = await assertRejects(() => open(`turns:two.example:${port}`, { host }), OpenError);
  assertEquals(error.failure, "certificate");
  server.setTls(TWO);
  await (await open(`turns:two.example:${port}`, { host })).close();
  await assertRejects(() => open(`turns:127.0.0.1:${port}`, { tls: {} }), OpenError, "nobody who is trusted here");
  await (await open(`turns:127.0.0.1:${port}`)).close();
});

Deno.test("allocate() over TCP and TLS: refusals come through, and so does a signal", async () => {
  await using server = serve();
  for (const transport of ["tcp", "tls"] as const) {
    const options = { transport, tls: { ca: CA } };
    const refused = await assertRejects(() => open(server.addresses[0]!, { ...options, password: "guess" }), TurnError);
    assertEquals(refused.code, 401);
  }
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const remote = `turn:127.0.0.1:${silent.addr.port}?transport=tcp`;
  const aborter = new AbortController();
  const given = open(remote, { signal: aborter.signal });
  const accepted = silent.accept().then((conn) => {
    conn.close();
    aborter.abort(new DOMException("enough", "TimeoutError"));
  });
  const error = await assertRejects(() => given, DOMException);
  assertEquals(error.name, "TimeoutError");
  await accepted;
  await assertRejects(() => open("turn:127.0.0.1:9?transport=tcp"), OpenError, "Cannot connect to TCP 127.0.0.1:9");
});

Deno.test("RFC 8656 §3.11: of a name's addresses, the first that answers; nothing is left at the others", async () => {
  await using server = serve({ listen: ["127.0.0.1:0"] });
  const { port } = server.addresses[0]!;
  const { resolveSrv: _, resolveNaptr: __, ...real } = denoHost();
  const host: Host = { ...real, resolve: () => Promise.resolve(["::1", "127.0.0.1"]) };
  for (const transport of ["tcp", "udp"] as const) {
    const relay = await open(`turn:both.example:${port}?transport=${transport}`, { host });
    assertEquals(relay.server.address, "127.0.0.1");
    await relay.close();
  }
  assertEquals(server.stats().allocations, 0);
});

Deno.test("serveTurn(): which transports are served where", async () => {
  // What is named is answered, for as long as it takes; a wait for what is not there may be short.
  const reaches = async (server: TurnServerHandle, names: string, index = 0) => {
    for (const transport of ["udp", "tcp", "tls"] as const) {
      const options = { server: server.addresses[index]!, transport, tls: { ca: CA } };
      if (names.split(" ").includes(transport)) await requestBinding(options);
      else await assertRejects(() => requestBinding({ ...options, rto: 10, rc: 1, rm: 2, ti: 500 }));
    }
  };
  const { tls: _, ...plain } = { tls: undefined };
  await using all = serve();
  await using noTls = serve({ ...plain, tls: undefined as never });
  await using udpOnly = serve({ transports: ["udp"] });
  await using tcpOnly = serve({ transports: ["tcp"] });
  await using split = serve({ transports: ["udp"], listenTls: ["127.0.0.1:0"] });
  await reaches(all, "udp tcp tls");
  await reaches(noTls, "udp tcp");
  await reaches(udpOnly, "udp");
  await reaches(tcpOnly, "tcp tls");
  await reaches(split, "udp");
  await reaches(split, "tls", 1);
  assert(!noTls.addresses[0]!.equals(all.addresses[0]!));
});

Deno.test("serveTurn(): a TCP port that is taken is an OpenError, and nothing is left bound", async () => {
  const taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const listen = [`127.0.0.1:${taken.addr.port}`];
  let error: unknown;
  try {
    serve({ listen });
  } catch (caught) {
    error = caught;
  }
  assert(error instanceof OpenError && error.failure === "address-in-use", String(error));
  // Without TCP there is nothing in the way.
  await using udp = serve({ listen, transports: ["udp"] });
  assertEquals(String(udp.addresses[0]), listen[0]);
  taken.close();
  assertEquals(TransportAddress.parse(listen[0]!).port, udp.addresses[0]!.port);
});
