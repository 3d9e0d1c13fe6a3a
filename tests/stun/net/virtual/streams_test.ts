// The driver's connections over virtual hosts: what tests/stun/net/tcp_test.ts asks of Deno's, as far as it fits.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { TransportAddress } from "../../../../stun/address.ts";
import type {
  AcceptedConnection,
  CloseReason,
  Machine,
  MachineIo,
  Packet,
  SocketId,
  TlsClientOptions,
} from "../../../../stun/machine.ts";
import { Driver, type MachineHandle } from "../../../../stun/net/driver.ts";
import type { StreamLimits, StreamListener } from "../../../../stun/net/streams.ts";
import { OpenError, type StreamListenWish } from "../../../../stun/net/transport.ts";
import { type VirtualHost, VirtualWorld } from "../../../../stun/net/virtual/mod.ts";
import { answer, dial } from "./stream_rig.ts";
import { channelData, stun } from "../frames.ts";

const SERVER = "198.51.100.1";
const NAME = "one.example";
const BOTH = { transport: "tcp+tls", tls: { certificate: NAME, key: "" } } as const;
const REQUEST = stun();

/** Sends every frame back. */
class Echo implements Machine {
  readonly deadline = Infinity;
  readonly accepted: AcceptedConnection[] = [];
  readonly closed: CloseReason[] = [];
  onPacket = (packet: Packet, io: MachineIo) => {
    io.send(packet.socket, packet.from, packet.buffer, packet.offset, packet.length);
  };
  handleTimeout(): void {}
  handleAccepted(_socket: SocketId, connection: AcceptedConnection): void {
    this.accepted.push(connection);
  }
  handlePacket(packet: Packet, io: MachineIo): void {
    this.onPacket(packet, io);
  }
  handleClosed(_socket: SocketId, reason: CloseReason): void {
    this.closed.push(reason);
  }
}

/** Keeps every frame. */
class Client extends Echo {
  readonly frames: Uint8Array[] = [];
  override onPacket = (packet: Packet) => void this.frames.push(packet.bytes.slice());
}

class Rig {
  readonly world: VirtualWorld;
  readonly alice: VirtualHost;
  readonly echo = new Echo();
  readonly client = new Client();
  readonly near: Driver;
  readonly far: Driver;
  readonly handle: MachineHandle<never>;
  readonly server: MachineHandle<never>;
  readonly listener: StreamListener;

  constructor(wish: Partial<StreamListenWish> = {}, limits?: StreamLimits, loss = 0) {
    this.world = new VirtualWorld({ link: { delay: 5, loss } });
    const far = this.world.addHost("server", { addresses: [SERVER] });
    const home = this.world.addNat("home", { external: ["203.0.113.1"] });
    this.alice = home.addHost("alice", { addresses: ["192.168.1.2"] });
    this.far = new Driver(far);
    this.near = new Driver(this.alice);
    this.server = this.far.add(this.echo);
    this.handle = this.near.add(this.client);
    this.listener = this.server.listenStream({ transport: "tcp", address: SERVER, port: 3478, ...wish }, limits);
  }

  async connect(transport: "tcp" | "tls" = "tcp", tls: TlsClientOptions = { serverName: NAME }): Promise<SocketId> {
    return (await this.handle.connect({ transport, remote: this.listener.localAddress, tls })).socket;
  }

  send(socket: SocketId, ...frames: Uint8Array[]): void {
    this.handle.call((io) => frames.forEach((frame) => io.send(socket, this.listener.localAddress, frame)));
  }

  /** Runs a program, then lets both drivers go. */
  async run(program: () => Promise<void>): Promise<void> {
    await this.world.run(async () => {
      await program();
      await Promise.all([this.near.close(), this.far.close()]);
    });
    this.world.runUntilIdle();
  }
}

for (const transport of ["tcp", "tls"] as const) {
  for (const loss of [0, 0.02]) {
    Deno.test(`${transport}, ${100 * loss}% lost: frames of all sizes there and back`, async () => {
      const rig = new Rig(BOTH, { queueLimit: 1 << 20 }, loss);
      await rig.run(async () => {
        const socket = await rig.connect(transport, { serverName: NAME, alpn: ["stun.turn"] });
        const frames = [
          REQUEST,
          channelData(0),
          channelData(1),
          channelData(1200),
          stun(65532, 3),
          channelData(65535, 4),
        ];
        for (const frame of frames) {
          rig.send(socket, frame);
          await rig.world.sleep(20_000);
        }
        assertEquals(rig.client.frames, frames);
        rig.send(socket, ...frames.toReversed());
        await rig.world.sleep(60_000);
        assertEquals(rig.client.frames.slice(frames.length), frames.toReversed());
        const [{ transport: told, alpn, localAddress, remoteAddress }] = rig.echo.accepted as [AcceptedConnection];
        assertEquals([told, alpn], [transport, transport === "tls" ? "stun.turn" : undefined]);
        assertEquals([String(localAddress), remoteAddress.address], [`${SERVER}:3478`, "203.0.113.1"]);
        rig.handle.call((io) => io.close(socket));
        await rig.world.sleep(20_000);
        assertEquals(rig.echo.closed, ["end"]);
        assertEquals([rig.far.streamStats.dropped, rig.far.streamStats.open, rig.near.streamStats.open], [0, 0, 0]);
      });
    });
  }

  Deno.test(`${transport}: 20 clients, 500 frames each, none lost, none out of order`, async () => {
    const rig = new Rig(BOTH, { queueLimit: 1 << 20 }, 0.01);
    const counts = new Map<SocketId, number>();
    rig.client.onPacket = (packet) => {
      if (packet.buffer[packet.offset]! <= 3) return;
      const count = counts.get(packet.socket)!;
      assertEquals(packet.length, 4 + count % 1000);
      counts.set(packet.socket, count + 1);
    };
    await rig.run(async () => {
      await Promise.all(Array.from({ length: 20 }, async () => {
        const socket = await rig.connect(transport);
        counts.set(socket, 0);
        rig.send(socket, REQUEST);
        for (let i = 0; i < 500; i += 50) {
          rig.send(socket, ...Array.from({ length: 50 }, (_, j) => channelData((i + j) % 1000)));
          await rig.world.sleep(100);
        }
      }));
      await rig.world.sleep(60_000);
      assertEquals([...counts.values()], Array(20).fill(500));
      assertEquals([rig.near.streamStats.dropped, rig.far.streamStats.dropped], [0, 0]);
    });
  });
}

Deno.test("A port for TCP refuses TLS, which its client is told", async () => {
  const rig = new Rig();
  await rig.run(async () => {
    const error = await assertRejects(() => rig.connect("tls"), OpenError, "the connection ended in the handshake");
    assertEquals([error.failure, rig.far.streamStats.malformed], ["other", 1]);
  });
});

Deno.test("A client that speaks badly is cut off, one that ends its side is answered first", async () => {
  const rig = new Rig();
  const [bad, polite] = [
    dial(rig.alice, `${SERVER}:3478`, { isQuiet: true }),
    dial(rig.alice, `${SERVER}:3478`, { isQuiet: true }),
  ];
  await rig.run(async () => {
    await rig.world.sleep(1000);
    bad.stream!.send(Uint8Array.of(...REQUEST, 0xff, 0xff));
    polite.stream!.send(REQUEST);
    await rig.world.sleep(0);
    polite.stream!.end();
    await rig.world.sleep(10_000);
    for (const end of [bad, polite]) {
      assertEquals(end.bytes, [...REQUEST]);
      assert(end.log.at(-1)!.endsWith(" end"), `${end.log}`);
    }
    assertEquals(rig.echo.closed.toSorted(), ["end", "malformed"]);
  });
});

Deno.test("A client that does not read loses whole frames and stalls nobody; a write that nobody takes ends after a minute", async () => {
  const rig = new Rig({}, { queueLimit: 65536 });
  const deaf = dial(rig.alice, `${SERVER}:3478`, { isReading: false, isQuiet: true });
  await rig.run(async () => {
    await rig.world.sleep(1000);
    deaf.stream!.send(REQUEST);
    const big = channelData(60_000);
    await rig.world.sleep(1000);
    for (let i = 0; i < 10; i++) {
      deaf.stream!.send(big);
      await rig.world.sleep(1000);
      rig.send(await rig.connect(), REQUEST);
      await rig.world.sleep(100);
      assertEquals(rig.client.frames.length, i + 1);
    }
    assert(rig.far.streamStats.dropped > 0);
    await rig.world.sleep(90_000);
    assertEquals(rig.far.streamStats.timedOut, 1);
    assertEquals(rig.echo.closed, ["timeout"]);
  });
});

Deno.test("Connections over the cap are closed at once, silent ones at the time limit", async () => {
  const rig = new Rig(BOTH, { maxPerAddress: 2, firstFrameTimeout: 5000 });
  await rig.run(async () => {
    const [one] = [await rig.connect(), await rig.connect()];
    rig.send(one!, REQUEST);
    const refused = dial(rig.alice, `${SERVER}:3478`);
    await rig.world.sleep(1000);
    assertEquals(rig.far.streamStats.refusedPerAddress, 1);
    assert(refused.log.at(-1)!.endsWith(" end"));
    await rig.world.sleep(10_000);
    assertEquals([rig.far.streamStats.timedOut, rig.listener.connections, rig.client.closed], [1, 1, ["end"]]);
    await rig.connect();
  });
});

Deno.test("Not to be connected to: refused, timed out, given up", async () => {
  const rig = new Rig();
  const to = async (remote: string, more: object = {}, options: object = {}): Promise<Error> => {
    const wish = { transport: "tcp", remote: TransportAddress.parse(remote), ...more } as const;
    return await assertRejects(() => rig.handle.connect(wish, options), Error);
  };
  // Accepts, and is silent: the handshake of TLS never ends.
  answer(rig.far.host, `${SERVER}:443`);
  await rig.run(async () => {
    const refused = await to(`${SERVER}:9`);
    assertEquals(refused.message, `Cannot connect to TCP ${SERVER}:9: nobody listens there`);
    const late = await to(`${SERVER}:443`, { transport: "tls", timeout: 5000 });
    assertEquals([(late as OpenError).failure, rig.world.now], ["timeout", 5030]);
    const controller = new AbortController();
    rig.world.after(10, () => controller.abort(new Error("enough")));
    assertEquals((await to(`${SERVER}:443`, {}, { signal: controller.signal })).message, "enough");
  });
});

Deno.test("RFC 6062: a connection that is joined to another carries a megabyte both ways", async () => {
  const rig = new Rig({}, {}, 0.005);
  const { ends } = answer(rig.alice, "192.168.1.2:7000", { isQuiet: true });
  const size = 1 << 20;
  const bytes = Uint8Array.from({ length: size }, (_, i) => i * 31 >> 5);
  const inside = rig.world.addHost("peer", { addresses: ["198.51.100.2"] });
  const peer = answer(inside, "198.51.100.2:7000", { isQuiet: true });
  await rig.run(async () => {
    const remote = TransportAddress.parse("198.51.100.2:7000");
    const { socket } = await rig.server.connect({ transport: "tcp", remote, framing: "raw" });
    rig.echo.onPacket = (packet, io) => io.join!(packet.socket, socket);
    const near = dial(rig.alice, `${SERVER}:3478`, { isQuiet: true });
    await rig.world.sleep(5000);
    near.stream!.send(REQUEST);
    await rig.world.sleep(5000);
    const far = peer.ends[0]!;
    near.stream!.send(bytes);
    far.stream!.send(bytes);
    await rig.world.sleep(600_000);
    for (const end of [near, far]) {
      assertEquals(end.bytes.length, size);
      assert(end.bytes.every((byte, i) => byte === bytes[i]));
      end.stream!.end();
    }
    await rig.world.sleep(60_000);
    assertEquals(rig.echo.closed, ["end", "end"]);
    for (const { log } of [near, far]) assert(log.at(-1)!.endsWith(" end"));
  });
  assertEquals(ends, []);
});
