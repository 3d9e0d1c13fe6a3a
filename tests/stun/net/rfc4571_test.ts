import { assertEquals } from "@std/assert";
import { TransportAddress } from "../../../stun/address.ts";
import type { Machine, MachineIo, Packet, SocketId } from "../../../stun/machine.ts";
import { Driver } from "../../../stun/net/driver.ts";
import { FakeHost, settle } from "./fake_streams.ts";

const REQUEST = Uint8Array.of(0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, ...new Uint8Array(12));
const FRAMED = Uint8Array.of(0, 20, ...REQUEST);

class Echo implements Machine<never> {
  readonly deadline = Infinity;
  readonly log: string[] = [];
  handleTimeout(): void {}
  handlePacket({ socket, from, buffer, offset, length }: Packet, io: MachineIo): void {
    this.log.push(`packet ${length}`);
    io.send(socket, from, buffer, offset, length);
  }
  handleAccepted(): void {
    this.log.push("accepted");
  }
  handleClosed(_socket: SocketId, reason: string): void {
    this.log.push(`closed ${reason}`);
  }
}

function setUp(limits = {}) {
  const host = new FakeHost();
  const driver = new Driver(host);
  const machine = new Echo();
  const handle = driver.add(machine);
  handle.listenStream({ transport: "tcp", address: "192.0.2.1", port: 3478, framing: "rfc4571" }, limits);
  return { host, driver, machine, handle };
}

Deno.test("RFC 4571 §2: packets come and go with their length in front and without padding", async () => {
  const { host, machine } = setUp();
  const stream = host.arrive("198.51.100.7:5000");
  stream.arrive(FRAMED, Uint8Array.of(0, 3, 7, 8, 9, 0, 0), Uint8Array.of(0, 1, 5));
  await settle();
  assertEquals(machine.log, ["accepted", "packet 20", "packet 3", "packet 1"]);
  assertEquals(stream.written, Uint8Array.of(...FRAMED, 0, 3, 7, 8, 9, 0, 1, 5));
});

Deno.test("RFC 4571 §2: the same on a connection that we make", async () => {
  const { host, machine, handle } = setUp();
  const remote = TransportAddress.parse("198.51.100.7:5000");
  const socket = handle.call((io) => io.open({ transport: "tcp", remote, framing: "rfc4571" }));
  const stream = host.answer();
  handle.call((io) => io.send(socket, remote, REQUEST));
  stream.arrive(FRAMED.subarray(0, 1));
  stream.arrive(FRAMED.subarray(1));
  await settle();
  assertEquals(machine.log, ["packet 20"]);
  assertEquals(stream.written, Uint8Array.of(...FRAMED, ...FRAMED));
});

Deno.test("I36: who connects and speaks no STUN is closed without the machine's hearing of it", async () => {
  const { host, machine, driver } = setUp({ firstFrameTimeout: 5000 });
  const web = host.arrive("198.51.100.7:5000");
  web.arrive(new TextEncoder().encode("GET / HTTP/1.1\r\n"));
  const silent = host.arrive("198.51.100.7:5001");
  host.advance(5000);
  await settle();
  assertEquals([web.hasEnded, silent.isClosed, machine.log], [true, true, []]);
  assertEquals([driver.streamStats.malformed, driver.streamStats.timedOut], [1, 1]);
});

Deno.test("RFC 4571: a slow peer loses whole packets", async () => {
  const { host, machine, driver } = setUp({ queueLimit: 2000 });
  const stream = host.arrive("198.51.100.7:5000");
  stream.isSlow = true;
  const data = Uint8Array.of(0x03, 0xe8, ...new Uint8Array(1000).fill(0x80));
  stream.arrive(FRAMED);
  for (let i = 0; i < 4; i++) stream.arrive(data);
  assertEquals(machine.log.length, 6);
  stream.accept();
  stream.accept();
  await settle();
  assertEquals(stream.writes.map(({ length }) => length), [22, 1002]);
  assertEquals(driver.streamStats.dropped, 3);
});
