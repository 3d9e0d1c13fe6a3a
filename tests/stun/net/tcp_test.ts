import { setImmediate } from "node:timers";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { TransportAddress } from "../../../stun/address.ts";
import { StreamFramer } from "../../../stun/framing.ts";
import type {
  AcceptedConnection,
  CloseReason,
  Machine,
  MachineIo,
  Packet,
  SocketId,
  TlsClientOptions,
} from "../../../stun/machine.ts";
import { denoHost } from "../../../stun/net/deno_host.ts";
import { Driver, type MachineHandle } from "../../../stun/net/driver.ts";
import type { StreamLimits, StreamListener } from "../../../stun/net/streams.ts";
import { OpenError, type StreamListenWish, type TlsServerOptions } from "../../../stun/net/transport.ts";
import { Arrival } from "./_arrival.ts";
import { channelData, stun } from "./frames.ts";

const read = (name: string) => Deno.readTextFileSync(new URL(`../../vectors/tls/${name}.pem`, import.meta.url));
const CA = read("ca");
const ONE = { certificate: read("one"), key: read("one_key") };
const TWO = { certificate: read("two"), key: read("two_key") };
const REQUEST = stun();

/** Sends every frame back. */
class Echo implements Machine {
  readonly deadline = Infinity;
  readonly accepted = new Arrival<AcceptedConnection>();
  readonly closed = new Arrival<CloseReason>();
  onPacket = (packet: Packet, io: MachineIo) => {
    io.send(packet.socket, packet.from, packet.buffer, packet.offset, packet.length);
  };
  handleTimeout(): void {}
  handleAccepted(_socket: SocketId, connection: AcceptedConnection): void {
    this.accepted.put(connection);
  }
  handlePacket(packet: Packet, io: MachineIo): void {
    this.onPacket(packet, io);
  }
  handleClosed(_socket: SocketId, reason: CloseReason): void {
    this.closed.put(reason);
  }
}

class Client implements Machine {
  readonly deadline = Infinity;
  readonly frames = new Arrival<Uint8Array>();
  readonly closed = new Arrival<CloseReason>();
  handleTimeout(): void {}
  handlePacket(packet: Packet): void {
    this.frames.put(packet.bytes.slice());
  }
  handleClosed(_socket: SocketId, reason: CloseReason): void {
    this.closed.put(reason);
  }
}

class Rig implements Disposable {
  readonly driver = new Driver(denoHost());
  readonly echo = new Echo();
  readonly client = new Client();
  readonly handle: MachineHandle<never>;
  readonly server: MachineHandle<never>;
  readonly listener: StreamListener;

  constructor(wish: Partial<StreamListenWish> = {}, limits?: StreamLimits) {
    this.server = this.driver.add(this.echo);
    this.handle = this.driver.add(this.client);
    this.listener = this.server.listenStream({ transport: "tcp", address: "127.0.0.1", port: 0, ...wish }, limits);
  }

  async connect(transport: "tcp" | "tls" = "tcp", tls: TlsClientOptions = { ca: [CA] }): Promise<SocketId> {
    return (await this.handle.connect({ transport, remote: this.listener.localAddress, tls })).socket;
  }

  send(socket: SocketId, ...frames: Uint8Array[]): void {
    this.handle.call((io) => frames.forEach((frame) => io.send(socket, this.listener.localAddress, frame)));
  }

  /** A plain connection whose other end is the test. */
  async raw(): Promise<Deno.TcpConn> {
    const { address, port } = this.listener.localAddress;
    return await Deno.connect({ hostname: address, port });
  }

  [Symbol.dispose](): void {
    this.driver.close();
  }
}

async function readAll(conn: Deno.Conn): Promise<Uint8Array> {
  const found: number[] = [];
  const memory = new Uint8Array(65536);
  for (let count = await conn.read(memory); count !== null; count = await conn.read(memory)) {
    found.push(...memory.subarray(0, count));
  }
  return Uint8Array.from(found);
}

const BOTH = { transport: "tcp+tls", tls: ONE } as const;

for (const transport of ["tcp", "tls"] as const) {
  Deno.test(`${transport}: frames of all sizes there and back`, async () => {
    using rig = new Rig(BOTH);
    const socket = await rig.connect(transport, { ca: [CA], serverName: "one.example", alpn: ["stun.turn"] });
    const frames = [REQUEST, channelData(0), channelData(1), channelData(1200), stun(65532, 3), channelData(65535, 4)];
    for (const frame of frames) {
      rig.send(socket, frame);
      assertEquals(await rig.client.frames.take(), frame);
    }
    rig.send(socket, ...frames.toReversed());
    for (const frame of frames.toReversed()) assertEquals(await rig.client.frames.take(), frame);
    const { transport: told, alpn, localAddress } = await rig.echo.accepted.take();
    assertEquals([told, alpn], [transport, transport === "tls" ? "stun.turn" : undefined]);
    assertEquals(String(localAddress), String(rig.listener.localAddress));
    rig.handle.call((io) => io.close(socket));
    assertEquals(await rig.echo.closed.take(), "end");
    assertEquals(rig.driver.streamStats.dropped, 0);
  });

  Deno.test(`${transport}: 20 clients, 2000 frames each, none lost, none out of order`, async () => {
    using rig = new Rig(BOTH, { queueLimit: 1 << 20 });
    const counts = new Map<SocketId, number>();
    const done = new Arrival<void>();
    let open = 20;
    rig.client.handlePacket = (packet) => {
      if (packet.buffer[packet.offset]! <= 3) return;
      const count = counts.get(packet.socket)!;
      assertEquals(packet.length, 4 + count % 1000);
      counts.set(packet.socket, count + 1);
      if (count === 1999 && --open === 0) done.put();
    };
    await Promise.all(Array.from({ length: 20 }, async () => {
      const socket = await rig.connect(transport);
      counts.set(socket, 0);
      rig.send(socket, REQUEST);
      for (let i = 0; i < 2000; i += 50) {
        rig.send(socket, ...Array.from({ length: 50 }, (_, j) => channelData((i + j) % 1000)));
        while (counts.get(socket)! < i - 200) await new Promise((resolve) => setTimeout(resolve));
      }
    }));
    await done.take();
    assertEquals(rig.driver.streamStats.dropped, 0);
  });
}

Deno.test("RFC 8489 §8.1: one port serves TCP and TLS, the first byte tells", async () => {
  using rig = new Rig(BOTH);
  for (const transport of ["tls", "tcp", "tls"] as const) {
    rig.send(await rig.connect(transport), REQUEST);
    assertEquals(await rig.client.frames.take(), REQUEST);
    assertEquals((await rig.echo.accepted.take()).transport, transport);
  }
});

Deno.test("A port for one of them refuses the other", async () => {
  {
    using rig = new Rig({ transport: "tcp" });
    const error = await assertRejects(() => rig.connect("tls"), OpenError);
    assert(error.failure !== "certificate", error.failure);
    assertEquals(rig.driver.streamStats.malformed, 1);
  }
  using rig = new Rig({ transport: "tls", tls: ONE });
  using conn = await rig.raw();
  await conn.write(REQUEST);
  assertEquals(await readAll(conn).catch(() => new Uint8Array()), new Uint8Array());
  assertEquals(rig.driver.streamStats.open, 0);
});

Deno.test("RFC 7443: the server agrees on stun.turn or stun.nat-discovery, on nothing if nothing is offered, else refuses", async () => {
  using rig = new Rig(BOTH);
  for (const offer of [["stun.nat-discovery"], ["stun.turn"], ["h2", "stun.nat-discovery"], []]) {
    rig.send(await rig.connect("tls", { ca: [CA], alpn: offer }), REQUEST);
    assertEquals((await rig.echo.accepted.take()).alpn, offer.at(-1));
  }
  await assertRejects(() => rig.connect("tls", { ca: [CA], alpn: ["h2"] }), OpenError);
});

Deno.test("RFC 8489 §6.2.3: the client verifies the certificate and the name", async () => {
  using rig = new Rig(BOTH);
  const wrong = [
    [{}, "nobody who is trusted here vouches for its certificate"],
    [{ ca: [CA], serverName: "other.example" }, "its certificate is for another name"],
    [{ ca: [TWO.certificate] }, "nobody who is trusted here vouches for its certificate"],
  ] as const;
  for (const [tls, message] of wrong) {
    const error = await assertRejects(() => rig.connect("tls", tls), OpenError, message);
    assertEquals(error.failure, "certificate", message);
  }
  for (
    const tls of [
      { ca: [CA], serverName: "one.example" },
      { ca: [CA] },
      { insecureAcceptAnyCertificate: true },
    ]
  ) {
    rig.send(await rig.connect("tls", tls), REQUEST);
    assertEquals(await rig.client.frames.take(), REQUEST);
  }
});

Deno.test("A server's own certificate can be trusted, by itself", async () => {
  const alone = { certificate: read("alone"), key: read("alone_key") };
  using rig = new Rig({ ...BOTH, tls: alone });
  const error = await assertRejects(() => rig.connect("tls"), OpenError, "nobody who is trusted here");
  assertEquals(error.failure, "certificate");
  rig.send(await rig.connect("tls", { ca: [CA, alone.certificate], serverName: "alone.example" }), REQUEST);
  assertEquals(await rig.client.frames.take(), REQUEST);
});

Deno.test("SNI picks the certificate; a certificate is replaced for new connections, old ones go on", async () => {
  using rig = new Rig({ ...BOTH, tls: { ...ONE, names: new Map([["Two.example", TWO]]) } });
  const asOne = () => rig.connect("tls", { ca: [CA], serverName: "one.example" });
  const asTwo = () => rig.connect("tls", { ca: [CA], serverName: "two.example" });
  const old = await asOne();
  await asTwo();
  rig.listener.setTls(TWO);
  await asTwo();
  assertEquals((await assertRejects(asOne, OpenError)).failure, "certificate");
  rig.send(old, REQUEST);
  assertEquals(await rig.client.frames.take(), REQUEST);
  assertThrows(() => rig.listener.setTls({ certificate: ONE.certificate, key: TWO.key }), OpenError, "not the");
  assertThrows(() => rig.listener.setTls({ certificate: "nonsense", key: TWO.key }), OpenError, "PEM");
  await asTwo();
});

Deno.test("TLS without a certificate that can be used: no listener, one clear error", () => {
  const listen = (tls?: TlsServerOptions) => new Rig({ transport: "tls", ...(tls === undefined ? {} : { tls }) });
  assertThrows(() => listen(), OpenError, "Cannot serve TLS without a certificate");
  assertThrows(() => listen({ ...ONE, key: TWO.key }), OpenError, "Cannot serve TLS as the key is not");
  assertThrows(() => listen({ ...ONE, key: "" }), OpenError, "must be PEM");
});

Deno.test("Over TLS each frame is a record of its own, for clients that take one read for one message", async () => {
  using rig = new Rig(BOTH);
  // In between, the bytes of the server's side are written down.
  using proxy = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const written: number[] = [];
  const proxying = (async () => {
    using client = await proxy.accept();
    using server = await rig.raw();
    await Promise.all([
      client.readable.pipeTo(server.writable).catch(() => {}),
      server.readable.pipeThrough(
        new TransformStream<Uint8Array, Uint8Array>({
          transform(chunk, controller) {
            written.push(...chunk);
            controller.enqueue(chunk);
          },
        }),
      ).pipeTo(client.writable).catch(() => {}),
    ]);
  })();
  const remote = TransportAddress.of("127.0.0.1", proxy.addr.port);
  const { socket } = await rig.handle.connect({ transport: "tls", remote, tls: { ca: [CA] } });
  const frames = [stun(100), channelData(96), channelData(1000), stun(8), channelData(0)];
  rig.send(socket, ...frames);
  for (const frame of frames) assertEquals(await rig.client.frames.take(), frame);
  rig.handle.call((io) => io.close(socket));
  await proxying;
  const lengths: number[] = [];
  for (let at = 0; at < written.length; at += 5 + lengths.at(-1)!) {
    lengths.push((written[at + 3]! << 8) | written[at + 4]!);
  }
  // Content, a byte for its type, and a tag of 16 (RFC 8446 §5.2); before them the handshake, after them the end.
  const expected = frames.map(({ length }) => length + 17).join();
  assert(lengths.join().includes(expected), `${lengths} is without ${expected}`);
});

Deno.test("Broken handshakes end that connection and nothing else", async () => {
  using rig = new Rig(BOTH);
  const hello = await clientHello();
  const variants = [
    Uint8Array.of(0x16, 0x03, 0x01, 0xff, 0xff, 0x01),
    Uint8Array.of(0x16, 0x16, 0x16, 0x16, 0x16, 0x16, 0x16, 0x16),
    hello.subarray(0, 50),
    hello.map((byte, i) => i > 4 ? byte ^ 0xff : byte),
    hello.map((byte, i) => i > 60 ? byte ^ 1 : byte),
    Uint8Array.from([...hello, ...hello]),
    Uint8Array.from([...hello, 0x15, 3, 3, 0, 2, 2, 40]),
    Uint8Array.from([...hello, 0x17, 3, 3, 0, 5, 1, 2, 3, 4, 5]),
  ];
  for (const bytes of variants) {
    for (const howEnded of ["close", "shutdown"]) {
      using conn = await rig.raw();
      await conn.write(bytes);
      if (howEnded === "close") continue;
      await conn.closeWrite().catch(() => {});
      await readAll(conn).catch(() => {});
    }
  }
  rig.send(await rig.connect("tls"), REQUEST);
  assertEquals(await rig.client.frames.take(), REQUEST);
  assertEquals(rig.driver.streamStats.accepted, 2 * variants.length + 1);
});

Deno.test("A client that speaks the server's plain protocol badly is cut off; what it asked before is answered", async () => {
  using rig = new Rig();
  using conn = await rig.raw();
  await conn.write(Uint8Array.of(...REQUEST, 0xff, 0xff));
  assertEquals(await readAll(conn), REQUEST);
  assertEquals(await rig.echo.closed.take(), "malformed");
});

Deno.test("A client that ends its side gets its answer first", async () => {
  using rig = new Rig();
  using conn = await rig.raw();
  await conn.write(REQUEST);
  await conn.closeWrite();
  assertEquals(await readAll(conn), REQUEST);
  assertEquals(await rig.echo.closed.take(), "end");
});

Deno.test("A client that does not read loses whole frames, and stalls nobody", async () => {
  using rig = new Rig({}, { queueLimit: 65536 });
  using deaf = await rig.raw();
  const big = channelData(60_000);
  await deaf.write(REQUEST);
  while (rig.driver.streamStats.dropped < 20) {
    await deaf.write(big);
    rig.send(await rig.connect(), REQUEST);
    assertEquals(await rig.client.frames.take(), REQUEST);
  }
  const { dropped } = rig.driver.streamStats;
  // Its end makes the server finish too: what waits leaves, then the end.
  await deaf.closeWrite();
  const framer = new StreamFramer();
  framer.push(await readAll(deaf));
  assert(framer.next());
  while (framer.next()) assertEquals(framer.length, big.length);
  assertEquals([framer.isMalformed, framer.buffered], [false, 0]);
  assert(dropped >= 20);
});

Deno.test("Connections over the cap are closed at once, and room is made when one ends", async () => {
  using rig = new Rig({}, { maxPerAddress: 2 });
  const [one, two] = [await rig.connect(), await rig.connect()];
  rig.send(one, REQUEST);
  rig.send(two, REQUEST);
  await rig.client.frames.take();
  await rig.client.frames.take();
  using refused = await rig.raw();
  assertEquals(await readAll(refused).catch(() => new Uint8Array()), new Uint8Array());
  assertEquals(rig.driver.streamStats.refusedPerAddress, 1);
  rig.handle.call((io) => io.close(one));
  assertEquals(await rig.echo.closed.take(), "end");
  while (rig.listener.connections === 2) await new Promise((resolve) => setTimeout(resolve));
  rig.send(await rig.connect(), REQUEST);
  assertEquals(await rig.client.frames.take(), REQUEST);
});

Deno.test("Half-open connections end at the time limit: silent ones, and handshakes that stop", async () => {
  using rig = new Rig(BOTH, { firstFrameTimeout: 20 });
  using silent = await rig.raw();
  using stuck = await rig.raw();
  await stuck.write((await clientHello()).subarray(0, 100));
  for (const conn of [silent, stuck]) assertEquals(await readAll(conn).catch(() => undefined), new Uint8Array());
  assertEquals(rig.driver.streamStats.timedOut, 2);
});

Deno.test("Not to be connected to: refused, timed out, given up, and by a wish that Deno can not fulfil", async () => {
  using rig = new Rig();
  const remote = TransportAddress.of("127.0.0.1", 9);
  const failure = async (wish: object, signal?: AbortSignal) => {
    const options = signal === undefined ? {} : { signal };
    return (await assertRejects(() => rig.handle.connect({ transport: "tcp", remote, ...wish }, options), Error));
  };
  const refused = await failure({});
  assert(refused instanceof OpenError);
  assertEquals([refused.failure, refused.message], [
    "refused",
    "Cannot connect to TCP 127.0.0.1:9: nobody listens there",
  ]);
  // A listener that accepts and is silent: the handshake of TLS never ends.
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const wish = { transport: "tls", remote: TransportAddress.of("127.0.0.1", silent.addr.port) };
  const late = await failure({ ...wish, timeout: 20 });
  assertEquals((late as OpenError).failure, "timeout");
  assertEquals(late.message, `Cannot connect to TLS ${wish.remote}: there is no answer`);
  const lateToo = await failure({ ...wish, timeout: 20, tls: { insecureAcceptAnyCertificate: true } });
  assertEquals((lateToo as OpenError).failure, "timeout");
  assertEquals((await failure(wish, AbortSignal.timeout(20))).name, "TimeoutError");
  assertEquals((await failure({ address: "127.0.0.1" }) as OpenError).failure, "other");
});

Deno.test("Giving up at any moment leaves no connection behind", async () => {
  using rig = new Rig();
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const remote = TransportAddress.of("127.0.0.1", silent.addr.port);
  const accepted: Promise<unknown>[] = [];
  const serving = (async () => {
    for await (const conn of silent) accepted.push(readAll(conn).catch(() => {}).finally(() => conn.close()));
  })();
  for (let i = 0; i < 60; i++) {
    const aborter = new AbortController();
    const tls = { insecureAcceptAnyCertificate: i % 2 === 1 };
    const connecting = rig.handle.connect({ transport: "tls", remote, tls }, { signal: aborter.signal });
    for (let ticks = 0; ticks < i / 4; ticks++) await new Promise((resolve) => setImmediate(resolve));
    aborter.abort(new Error("enough"));
    await assertRejects(() => connecting, Error, "enough");
  }
  // One that is not given up: all before it have been accepted when it is.
  const { socket } = await rig.handle.connect({ transport: "tcp", remote });
  rig.handle.call((io) => io.close(socket));
  while (accepted.length === 0) await new Promise((resolve) => setTimeout(resolve));
  silent.close();
  await serving.catch(() => {});
  await Promise.all(accepted);
});

Deno.test("A port in use is told so, and is free again when close() resolves", async () => {
  const rig = new Rig();
  const { port } = rig.listener.localAddress;
  const error = assertThrows(
    () => rig.server.listenStream({ transport: "tcp", address: "127.0.0.1", port }),
    OpenError,
  );
  assertEquals(error.failure, "address-in-use");
  rig.listener.close();
  rig.listener.close();
  await rig.driver.close();
  using _other = new Rig({ port });
});

Deno.test({
  name: "Out of file descriptors: the listener goes on when there are some again",
  ignore: Deno.build.os !== "linux",
  async fn() {
    const program = new URL("echo_server.ts", import.meta.url).pathname;
    const script = 'ulimit -n 64; exec "$0" run --unstable-net --allow-net "$1"';
    const command = new Deno.Command("sh", { args: ["-c", script, Deno.execPath(), program], stdout: "piped" });
    await using child = command.spawn();
    const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const port = Number((await lines.read()).value);
    const conns: Deno.TcpConn[] = [];
    for (let i = 0; i < 80; i++) conns.push(await Deno.connect({ hostname: "127.0.0.1", port }));
    assertEquals((await lines.read()).value, "accept error\n");
    for (const conn of conns) conn.close();
    using conn = await Deno.connect({ hostname: "127.0.0.1", port });
    await conn.write(REQUEST);
    assertEquals(await conn.read(new Uint8Array(100)), 20);
    await lines.cancel();
    child.kill();
  },
});

Deno.test("RFC 6062: a connection that is joined to another carries megabytes both ways, under load from one side", async () => {
  using rig = new Rig();
  using peers = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const remote = TransportAddress.of("127.0.0.1", peers.addr.port);
  const { socket: peer } = await rig.server.connect({ transport: "tcp", remote, framing: "raw" });
  using far = await peers.accept();
  rig.echo.onPacket = (packet, io) => {
    io.send(packet.socket, packet.from, REQUEST);
    io.join!(packet.socket, peer);
  };
  using near = await rig.raw();
  await near.write(REQUEST);
  const size = 8 << 20;
  const sent = Uint8Array.from({ length: size }, (_, i) => i * 31 >> 5);
  const pump = async (conn: Deno.Conn) => {
    for (let at = 0; at < size;) at += await conn.write(sent.subarray(at, at + 100_000));
    await conn.closeWrite();
  };
  const [atNear, atFar] = await Promise.all([readSized(near), readSized(far), pump(near), pump(far)]);
  assertEquals(atFar.length, size);
  assert(atFar.every((byte, i) => byte === sent[i]));
  assertEquals(atNear.length, 20 + size);
  assert(atNear.subarray(20).every((byte, i) => byte === sent[i]));
  assertEquals([await rig.echo.closed.take(), await rig.echo.closed.take()], ["end", "end"]);
});

Deno.test("RFC 6062: a connection is detached with what came after the last frame, over TLS too", async () => {
  using rig = new Rig(BOTH);
  rig.echo.onPacket = (packet, io) => {
    io.send(packet.socket, packet.from, packet.buffer, packet.offset, packet.length);
    io.unframe!(packet.socket);
    socketOf.put(packet.socket);
  };
  const socketOf = new Arrival<SocketId>();
  using near = await Deno.connectTls({ hostname: "localhost", port: rig.listener.localAddress.port, caCerts: [CA] });
  await near.write(Uint8Array.of(...REQUEST, ...new TextEncoder().encode("early ")));
  const detached = rig.server.detach(await socketOf.take());
  await near.write(new TextEncoder().encode("late"));
  const reader = detached.readable.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (text.length < 10) text += (await reader.read()).value;
  assertEquals(text, "early late");
  const writer = detached.writable.getWriter();
  await writer.write(new TextEncoder().encode("answer"));
  await writer.close();
  assertEquals(new TextDecoder().decode((await readAll(near)).subarray(20)), "answer");
  detached.close();
  await reader.cancel().catch(() => {});
});

async function readSized(conn: Deno.Conn): Promise<Uint8Array> {
  const found = new Uint8Array(9 << 20);
  let length = 0;
  const memory = new Uint8Array(65536);
  for (let count = await conn.read(memory); count !== null; count = await conn.read(memory)) {
    found.set(memory.subarray(0, count), length);
    length += count;
  }
  return found.subarray(0, length);
}

/** What a TLS client says first. */
async function clientHello(): Promise<Uint8Array> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const client = Deno.connectTls({ hostname: "127.0.0.1", port: listener.addr.port });
  using conn = await listener.accept();
  const memory = new Uint8Array(4096);
  const client_ = await client;
  const handshake = client_.handshake().catch(() => {});
  const count = await conn.read(memory);
  client_.close();
  await handshake;
  return memory.slice(0, count!);
}
