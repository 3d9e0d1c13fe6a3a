// RFC 6062 end to end: allocateTcp() and serveTurn(), in the virtual internet and on loopback.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import type { Machine, SocketId } from "../../stun/machine.ts";
import { Driver, type MachineHandle } from "../../stun/net/driver.ts";
import type { DetachedStream } from "../../stun/net/transport.ts";
import { type VirtualHost, VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { pickHost } from "../../stun/net/linux_host.ts";
import { allocateTcp, type RelayConnection, type TcpRelay } from "../../turn/allocate.ts";
import { TurnError } from "../../turn/error.ts";
import { serveTurn, type ServeTurnOptions } from "../../turn/serve.ts";

const SERVER = "198.51.100.1:3478";
const PEER = TransportAddress.parse("203.0.113.50:7");
/** What the documentation ranges of the virtual internet need. */
const PEERS = ["203.0.113.0/24", "198.51.100.0/24", "2001:db8::/32"];
const GIGA = { delay: 5 };

/** A peer: takes connections and gives them out as streams, and makes some. */
class Peer implements Machine<never> {
  readonly deadline = Infinity;
  readonly handle: MachineHandle<never>;
  readonly #driver: Driver;
  #taken: PromiseWithResolvers<DetachedStream> = Promise.withResolvers();

  constructor(readonly host: VirtualHost) {
    this.#driver = new Driver(host);
    this.handle = this.#driver.add<never>(this);
  }

  handleTimeout(): void {}
  handlePacket(): void {}

  listen({ address, port }: TransportAddress): void {
    this.handle.call((io) => io.open({ transport: "tcp-listen", address, port, maxConnections: 100 }));
  }

  handleAccepted(socket: SocketId): void {
    queueMicrotask(() => this.#taken.resolve(this.handle.detach(socket)));
  }

  /** The next connection that comes. */
  async accept(): Promise<DetachedStream> {
    const stream = await this.#taken.promise;
    this.#taken = Promise.withResolvers();
    return stream;
  }

  async connect(remote: TransportAddress): Promise<DetachedStream> {
    const { socket } = await this.handle.connect({ transport: "tcp", remote, framing: "raw" });
    return this.handle.detach(socket);
  }

  close(): Promise<void> {
    return this.#driver.close();
  }
}

interface Place extends AsyncDisposable {
  readonly world: VirtualWorld;
  readonly peer: Peer;
  readonly server: ReturnType<typeof serveTurn>;
  open(username?: string): Promise<TcpRelay>;
}

/** A server, a peer that listens, and clients. */
function place(options: Partial<ServeTurnOptions> = {}): Omit<Place, "server" | typeof Symbol.asyncDispose> & {
  serve(): ReturnType<typeof serveTurn>;
} {
  const world = new VirtualWorld({ seed: 3, link: GIGA });
  const serverHost = world.addHost("server", { addresses: ["198.51.100.1", "2001:db8::1"] });
  const clientHost = world.addHost("client", { addresses: ["203.0.113.1"] });
  const peer = new Peer(world.addHost("peer", { addresses: [PEER.address, "2001:db8::50"] }));
  peer.listen(PEER);
  return {
    world,
    peer,
    open: (username = "alice") =>
      allocateTcp({ server: `turn:${SERVER}`, username, password: "secret", host: clientHost }),
    serve: () =>
      serveTurn({
        host: serverHost,
        listen: [SERVER],
        realm: "example.org",
        users: { alice: "secret" },
        allowPeers: PEERS,
        tcpRelay: true,
        ...options,
      }),
  };
}

const text = new TextEncoder();

async function write(to: { writable: WritableStream<Uint8Array> }, what: string | Uint8Array): Promise<void> {
  const writer = to.writable.getWriter();
  await writer.write(typeof what === "string" ? text.encode(what) : what);
  writer.releaseLock();
}

async function read(from: { readable: ReadableStream<Uint8Array> }): Promise<string | undefined> {
  const reader = from.readable.getReader();
  const { value } = await reader.read();
  reader.releaseLock();
  return value === undefined ? undefined : new TextDecoder().decode(value);
}

async function readAll(from: { readable: ReadableStream<Uint8Array> }): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of from.readable) chunks.push(chunk);
  return new Uint8Array(await new Blob(chunks as Uint8Array<ArrayBuffer>[]).arrayBuffer());
}

async function next(relay: TcpRelay): Promise<RelayConnection> {
  return (await relay[Symbol.asyncIterator]().next()).value!;
}

Deno.test("RFC 6062 §4.3, §5.2: a client connects to a peer, which sees the relayed address; bytes go both ways", async () => {
  const { world, peer, open, serve } = place();
  await world.run(async () => {
    await using server = serve();
    await using relay = await open();
    const [connection, atPeer] = await Promise.all([relay.connect(PEER), peer.accept()]);
    assertEquals(String(atPeer.remoteAddress), String(relay.relayedAddress));
    await write(connection, "hello");
    assertEquals(await read(atPeer), "hello");
    await write(atPeer, "there");
    assertEquals(await read(connection), "there");
    assertEquals([server.stats().bytesToPeers, server.stats().bytesToClients], [5, 5]);
    assertEquals((await assertRejects(() => relay.connect(PEER), TurnError)).code, 446);
    connection.close();
    assertEquals(await read(atPeer), undefined);
    atPeer.close();
    await world.sleep(100);
    assertEquals(server.stats().connections, 0);
    // And once more to the same peer.
    const [again, there] = await Promise.all([relay.connect(PEER), peer.accept()]);
    again.close();
    there.close();
    await relay.close();
    await world.sleep(100);
    assertEquals([server.stats().allocations, server.streamStats().open], [0, 0]);
    await peer.close();
  });
});

Deno.test("RFC 6062 §5.2, §5.4: what the peer says first is kept until the client's connection is there", async () => {
  const { world, peer, open, serve } = place();
  await world.run(async () => {
    await using _server = serve();
    await using relay = await open();
    const connecting = relay.connect(PEER);
    const atPeer = await peer.accept();
    // More than a frame or a read holds, and long before ConnectionBind.
    const banner = Uint8Array.from({ length: 100_000 }, (_, i) => i * 7);
    const writing = write(atPeer, banner).then(() => atPeer.writable.close());
    const connection = await connecting;
    assertEquals(await readAll(connection), banner);
    await writing;
    // One direction has ended, the other goes on.
    await write(connection, "received");
    assertEquals(await read(atPeer), "received");
    await connection.writable.close();
    assertEquals(await read(atPeer), undefined);
    await peer.close();
  });
});

Deno.test("RFC 6062 §4.4, §5.3: peers connect: with a permission they come through, without they are let go", async () => {
  const { world, peer, open, serve } = place();
  await world.run(async () => {
    await using server = serve();
    await using relay = await open();
    const refused = await peer.connect(relay.relayedAddress);
    assertEquals(await read(refused).catch(() => undefined), undefined);
    refused.close();
    await relay.permit(PEER.withPort(0));
    const atPeer = await peer.connect(relay.relayedAddress);
    await write(atPeer, "knock");
    const connection = await next(relay);
    assertEquals([String(connection.peer), await read(connection)], [String(atPeer.localAddress), "knock"]);
    await write(connection, "come in");
    assertEquals(await read(atPeer), "come in");
    const { connectionFailures, connectionsTotal } = server.stats();
    assertEquals([connectionFailures.noPermission, connectionsTotal], [1, 1]);
    await relay.close();
    assertEquals(await read(atPeer).catch(() => undefined), undefined);
    atPeer.close();
    await peer.close();
  });
});

Deno.test("RFC 6062 §5.2: a peer that refuses is 447 at once, one that is silent after 30 s; a private one is 403", async () => {
  const { world, peer, open, serve } = place();
  world.addHost("silent", { addresses: ["203.0.113.51"], link: { delay: 5, loss: 1 } });
  await world.run(async () => {
    await using server = serve();
    await using relay = await open();
    const fails = async (peer: string) => {
      const start = world.now;
      const { code } = await assertRejects(() => relay.connect(TransportAddress.parse(peer)), TurnError);
      return [code, Math.round((world.now - start) / 1000)];
    };
    assertEquals(await fails("203.0.113.50:9"), [447, 0]);
    assertEquals(await fails("203.0.113.51:7"), [447, 30]);
    for (const one of ["10.0.0.1:80", "127.0.0.1:80", SERVER]) assertEquals(await fails(one), [403, 0]);
    assertEquals(
      (await assertRejects(() => relay.connect(TransportAddress.parse("[2001:db8::50]:7")), TurnError)).code,
      443,
    );
    assertEquals([server.stats().connections, server.stats().connectionFailures.notConnected], [0, 2]);
    await peer.close();
  });
});

Deno.test("A slow reader holds the sender back through the server, in both directions, and nothing is lost", async () => {
  const { world, peer, open, serve } = place({ streamLimits: { queueLimit: 20_000 } });
  await world.run(async () => {
    await using server = serve();
    await using relay = await open();
    const [connection, atPeer] = await Promise.all([relay.connect(PEER), peer.accept()]);
    const data = Uint8Array.from({ length: 2_000_000 }, (_, i) => (i * 31) >> 3);
    for (const [from, to] of [[connection, atPeer], [atPeer, connection]] as const) {
      let isWritten = false;
      const writing = (async () => {
        const writer = from.writable.getWriter();
        for (let at = 0; at < data.length; at += 50_000) await writer.write(data.subarray(at, at + 50_000));
        await writer.close();
        isWritten = true;
      })();
      await world.sleep(20_000);
      assert(!isWritten, "2 MB do not fit into queues and windows");
      assertEquals(await readAll(to), data);
      await writing;
    }
    await world.sleep(100);
    assertEquals(server.stats().connections, 0);
    await peer.close();
  });
});

Deno.test("Bandwidth: a TCP connection goes as fast as the allocation may, and no byte is dropped", async () => {
  const { world, peer, open, serve } = place({ limits: { allocationBandwidth: 800_000 } });
  await world.run(async () => {
    await using server = serve();
    await using relay = await open();
    const [connection, atPeer] = await Promise.all([relay.connect(PEER), peer.accept()]);
    const data = new Uint8Array(1_000_000).fill(5);
    const start = world.now;
    const writing = write(connection, data).then(() => connection.writable.close());
    assertEquals((await readAll(atPeer)).length, data.length);
    await writing;
    // 8,000,000 bits at 800,000 a second are 10 s; the last piece is not waited for.
    const seconds = (world.now - start) / 1000;
    assert(seconds > 9 && seconds < 10.5, `${seconds}`);
    assertEquals(server.stats().drops.allocationBandwidth, 0);
    await peer.close();
  });
});

Deno.test("Two clients of one server connect to each other by their relayed addresses", async () => {
  const { world, peer, open, serve } = place();
  await world.run(async () => {
    await using server = serve();
    await using one = await open();
    await using other = await open();
    await other.permit(one.relayedAddress);
    const [from, to] = await Promise.all([one.connect(other.relayedAddress), next(other)]);
    assertEquals(String(to.peer), String(one.relayedAddress));
    await write(from, "hello");
    assertEquals(await read(to), "hello");
    assertEquals(server.stats().connections, 2);
    await peer.close();
  });
});

Deno.test("RFC 6062 §5.5: a connection lives as long as its allocation: silent for half an hour, then ended with it", async () => {
  const { world, peer, open, serve } = place();
  await world.run(async () => {
    const server = serve();
    const relay = await open();
    const [, atPeer] = await Promise.all([relay.connect(PEER), peer.accept()]);
    // Refreshed for hours, the connection stays, though nothing is said.
    await world.sleep(1_800_000);
    assertEquals(server.stats().connections, 1);
    await relay.close();
    assertEquals(await read(atPeer).catch(() => undefined), undefined);
    assertEquals(server.stats().connections, 0);
    await server.shutdown();
    await peer.close();
  });
});

const pem = (name: string) => Deno.readTextFileSync(new URL(`../vectors/tls/${name}.pem`, import.meta.url));

/** A peer on loopback that sends a banner and then all back in capitals. */
function banner(): Deno.TcpListener {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  (async () => {
    for await (const conn of listener) {
      void (async () => {
        await conn.write(text.encode("220 ready"));
        const memory = new Uint8Array(65536);
        for (let count = await conn.read(memory); count !== null; count = await conn.read(memory)) {
          const upper = text.encode(new TextDecoder().decode(memory.subarray(0, count)).toUpperCase());
          for (let done = 0; done < upper.length;) done += await conn.write(upper.subarray(done));
        }
        conn.close();
      })();
    }
  })();
  return listener;
}

Deno.test("RFC 6062 on loopback, over TCP and TLS: connections both ways, early data, half-close, large transfers", async () => {
  using listener = banner();
  const peer = TransportAddress.of("127.0.0.1", listener.addr.port);
  await using server = serveTurn({
    listen: ["127.0.0.1:0"],
    realm: "example.org",
    users: { alice: "secret" },
    allowPeers: ["127.0.0.0/8"],
    tls: { certificate: pem("one"), key: pem("one_key") },
    tcpRelay: true,
  });
  const { port } = server.addresses[0]!;
  for (const uri of [`turn:127.0.0.1:${port}?transport=tcp`, `turns:localhost:${port}`]) {
    await using relay = await allocateTcp({
      server: uri,
      username: "alice",
      password: "secret",
      tls: { ca: [pem("ca")] },
    });
    const connection = await relay.connect(peer);
    assertEquals(await read(connection), "220 ready");
    const data = "the quick brown fox ".repeat(50_000);
    const [answer] = await Promise.all([
      readAll(connection),
      write(connection, data).then(() => connection.writable.close()),
    ]);
    assertEquals(new TextDecoder().decode(answer), data.toUpperCase());
    await relay.permit(peer);
    using conn = await Deno.connect({ hostname: "127.0.0.1", port: relay.relayedAddress.port });
    await conn.write(text.encode("knock"));
    const taken = await next(relay);
    assertEquals([taken.peer.port, await read(taken)], [(conn.localAddr as Deno.NetAddr).port, "knock"]);
    taken.close();
    assertEquals(await conn.read(new Uint8Array(1)), null);
    const { code } = await assertRejects(() => relay.connect(TransportAddress.of("127.0.0.1", port)), TurnError);
    assertEquals(code, 403, "the server's own port");
  }
  assertEquals([server.stats().allocations, server.stats().connections], [0, 0]);
});

Deno.test({
  name: "RFC 6062 §5.2 on Linux: connections to peers leave from the relayed address and port, several at once",
  ignore: pickHost("auto").io !== "linux",
  async fn() {
    using one = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    using other = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    await using server = serveTurn({
      host: pickHost("linux").host,
      listen: ["127.0.0.1:0"],
      relayAddresses: ["127.0.0.2"],
      realm: "example.org",
      users: { alice: "secret" },
      allowPeers: ["127.0.0.0/8"],
      tcpRelay: true,
    });
    await using relay = await allocateTcp({
      server: `turn:${server.addresses[0]}?transport=tcp`,
      username: "alice",
      password: "secret",
    });
    await relay.permit(TransportAddress.of("127.0.0.1", 0));
    for (const listener of [one, other, one]) {
      const peer = TransportAddress.of("127.0.0.1", listener.addr.port);
      const [connection, conn] = await Promise.all([relay.connect(peer), listener.accept()]);
      const from = conn.remoteAddr as Deno.NetAddr;
      assertEquals(`${from.hostname}:${from.port}`, String(relay.relayedAddress));
      await conn.write(text.encode("hello"));
      assertEquals(await read(connection), "hello");
      // And the same port still takes connections.
      using came = await Deno.connect({ hostname: "127.0.0.2", port: relay.relayedAddress.port });
      await came.write(text.encode("knock"));
      const taken = await next(relay);
      assertEquals(await read(taken), "knock");
      taken.close();
      // The peer ends first, so that the same two ends can meet again.
      conn.close();
      assertEquals(await read(connection), undefined);
      connection.close();
      await came.read(new Uint8Array(1));
    }
    const refused = await assertRejects(() => relay.connect(TransportAddress.of("127.0.0.1", 1)), TurnError);
    assertEquals(refused.code, 447);
  },
});
