// DTLS in the driver, in virtual time, by the semblance of it that virtual hosts have.
import { assert, assertEquals } from "@std/assert";
import { TransportAddress } from "../../../stun/address.ts";
import type { Machine, MachineIo, OpenFailure, Packet, SocketId } from "../../../stun/machine.ts";
import { Driver } from "../../../stun/net/driver.ts";
import type { StreamLimits } from "../../../stun/net/streams.ts";
import { type DatagramView, type LinkOptions, VirtualWorld } from "../../../stun/net/virtual/mod.ts";

const SERVER = TransportAddress.parse("198.51.100.1:3478");
const TLS = { certificate: "one.example", key: "" };
const REQUEST = Uint8Array.of(0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, ...new Array(12).fill(7));

/** Writes down what it hears, and answers. */
class Recorder implements Machine {
  readonly deadline = Infinity;
  readonly log: string[] = [];
  #answers: boolean;

  constructor(answers: boolean) {
    this.#answers = answers;
  }
  handleTimeout(): void {}
  handlePacket(packet: Packet, io: MachineIo): void {
    this.log.push(`${Math.round(io.now)} packet of ${packet.length}`);
    if (this.#answers) io.send(packet.socket, packet.from, packet.buffer, packet.offset, packet.length);
  }
  handleAccepted(_socket: SocketId, { transport, remoteAddress }: { transport: string; remoteAddress: unknown }): void {
    this.log.push(`accepted ${transport} from ${remoteAddress}`);
  }
  handleClosed(_socket: SocketId, reason: string, io: MachineIo): void {
    this.log.push(`${Math.round(io.now)} closed: ${reason}`);
  }
  handleOpened(socket: SocketId, _local: TransportAddress, io: MachineIo): void {
    this.log.push(`${Math.round(io.now)} open`);
    io.send(socket, SERVER, REQUEST);
  }
  handleOpenFailed(_socket: SocketId, failure: OpenFailure, io: MachineIo): void {
    this.log.push(`${Math.round(io.now)} ${failure}`);
  }
}

/** A server and a client, 10 ms from each other. */
function setUp(limits: StreamLimits = {}, link: LinkOptions = {}) {
  const seen: DatagramView[] = [];
  const world = new VirtualWorld({ link: { delay: 5, ...link } });
  const host = world.addHost("server", { addresses: ["198.51.100.1"] });
  const alice = world.addHost("alice", { addresses: ["203.0.113.1", "203.0.113.2"] });
  const [machine, client] = [new Recorder(true), new Recorder(false)];
  const [driver, clients] = [new Driver(host), new Driver(alice)];
  const listener = driver.add(machine).bindDtls({ transport: "udp", address: "198.51.100.1", port: 3478 }, {
    tls: TLS,
    limits,
  });
  const handle = clients.add(client);
  const connect = (port = 0, address = "203.0.113.1", serverName = "one.example"): SocketId =>
    handle.call((io) => io.open({ transport: "dtls", remote: SERVER, address, port, tls: { serverName } }));
  return { world, alice, machine, client, driver, clients, listener, handle, connect, seen };
}

Deno.test("RFC 6347 §4.2.1, RFC 6347 §4.2.4: a handshake takes three round trips; a machine hears of it with the first message", () => {
  const { world, machine, client, driver, connect, handle } = setUp();
  const socket = connect(5000);
  world.advance(50);
  assertEquals([machine.log, driver.streamStats.accepted, driver.streamStats.challenged], [[], 1, 1]);
  world.advance(50);
  assertEquals(machine.log, ["accepted dtls from 203.0.113.1:5000", "70 packet of 20"]);
  assertEquals(client.log, ["60 open", "80 packet of 20"]);
  handle.call((io) => io.close(socket));
  world.runUntilIdle();
  assertEquals(machine.log.at(-1), "110 closed: end");
  assertEquals(driver.streamStats.open, 0);
});

Deno.test("RFC 6347 §4.2.4: whichever datagram of a handshake is lost, it is repeated, after 1 s, then 2 s", () => {
  // Each passes two links.
  for (let lost = 0; lost < 12; lost++) {
    let sent = 0;
    const { world, client, driver, connect } = setUp({}, {
      drop: () => sent++ === lost,
    });
    connect();
    world.advance(3500);
    assert(client.log.some((line) => line.endsWith("open")), `${lost}: ${client.log}`);
    assert(/^1\d\d\d open$/.test(client.log[0]!), `${lost}: ${client.log}`);
    assertEquals([driver.streamStats.accepted, driver.streamStats.open], [1, 1], `${lost}`);
  }
});

Deno.test("a bad network: handshakes and messages come through loss, doubles and the wrong order, one association each", () => {
  const { world, client, driver, connect } = setUp({ firstFrameTimeout: 60_000 }, {
    ...{ loss: 0.05, duplicate: 0.2, reorder: 0.3, reorderDelay: 30, jitter: 10 },
  });
  for (let i = 0; i < 100; i++) connect();
  world.advance(39_000);
  assertEquals(client.log.filter((line) => line.endsWith("open")).length, 100);
  assertEquals([driver.streamStats.accepted, driver.streamStats.malformed], [100, 0]);
});

Deno.test("RFC 6347 §4.2.1: strangers without a cookie leave nothing, however many there are", () => {
  const { world, alice, driver, listener } = setUp();
  const hello = new Uint8Array(60).fill(65);
  hello.set([22, 0xfe, 0xfe, 0, 0]);
  hello[13] = 1;
  let answers = 0;
  for (let i = 0; i < 5000; i++) {
    const socket = alice.openDatagram(
      { transport: "udp", address: "203.0.113.2", port: 1024 + i },
      () => void answers++,
    );
    socket.send(
      { length: 1, capacity: 1, buffers: [hello], offsets: [0], lengths: [60], addresses: [SERVER] } as never,
    );
  }
  world.advance(100);
  const { accepted, challenged, open } = driver.streamStats;
  assertEquals([accepted, challenged, open, listener.connections, answers], [0, 5000, 0, 0, 5000]);
});

Deno.test("limits: 2 from an address, others still; the handshake's 10 s, a first message's, and 60 s of silence", () => {
  const { world, machine, client, driver, listener, connect } = setUp({ maxPerAddress: 2, idleTimeout: 60_000 });
  for (let i = 0; i < 3; i++) connect();
  connect(0, "203.0.113.2");
  world.advance(500);
  assertEquals(client.log.filter((line) => line.endsWith("open")).length, 3);
  assertEquals([driver.streamStats.refusedPerAddress, listener.connections], [1, 3]);
  world.advance(38_000);
  assertEquals([driver.streamStats.open, driver.streamStats.timedOut], [3, 0]);
  world.advance(30_000);
  assertEquals([driver.streamStats.open, driver.streamStats.timedOut], [0, 3]);
  assertEquals(machine.log.filter((line) => line.endsWith("60070 closed: timeout")).length, 3);
});

Deno.test("limits: who does not get on with the handshake is forgotten after 10 s", () => {
  let sent = 0;
  // The client's last flight is lost each time.
  const { world, driver, connect } = setUp({}, { drop: ({ source }) => source.port === 6000 && sent++ >= 4 });
  connect(6000);
  world.advance(9_900);
  assertEquals([driver.streamStats.open, driver.streamStats.accepted], [1, 1]);
  world.advance(200);
  assertEquals([driver.streamStats.open, driver.streamStats.timedOut], [0, 1]);
});

Deno.test("RFC 6347 §4.2.8: a late copy of the first hello changes nothing; a new beginning replaces the association", () => {
  let isMute = false;
  const { world, machine, driver, clients, connect, handle } = setUp({}, { duplicate: 1, drop: () => isMute });
  connect(5000);
  world.advance(500);
  assertEquals([driver.streamStats.accepted, driver.streamStats.open], [1, 1]);
  // Gone without a word.
  isMute = true;
  handle.remove();
  world.advance(500);
  isMute = false;
  const next = new Recorder(false);
  clients.add(next).call((io) =>
    io.open({
      transport: "dtls",
      remote: SERVER,
      address: "203.0.113.1",
      port: 5000,
      tls: { serverName: "one.example" },
    })
  );
  world.advance(500);
  assertEquals([driver.streamStats.accepted, driver.streamStats.open], [2, 1]);
  assertEquals(next.log.filter((line) => line.endsWith("open")).length, 1);
  assert(machine.log.some((line) => line.endsWith("closed: end")), machine.log.join());
});

Deno.test("a client: silence, the wrong name, and giving up while it is under way", () => {
  const { world, client, clients, connect, handle } = setUp();
  connect(0, "203.0.113.1", "two.example");
  world.advance(100);
  assertEquals(client.log, ["40 certificate"]);
  const nobody = TransportAddress.parse("198.51.100.1:9");
  handle.call((io) => io.open({ transport: "dtls", remote: nobody, address: "203.0.113.1", tls: {} }));
  world.advance(40_000);
  assertEquals(client.log.at(-1), "39600 timeout");
  const given = connect();
  handle.call((io) => io.close(given));
  connect();
  handle.remove();
  world.runUntilIdle();
  assertEquals([clients.streamStats.open, client.log.length], [0, 2]);
});
