import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { AcceptedConnection, Machine, MachineIo, Packet, PipeMeter, SocketId } from "../../../stun/machine.ts";
import { Driver } from "../../../stun/net/driver.ts";
import { OpenError } from "../../../stun/net/transport.ts";
import { TransportAddress } from "../../../stun/address.ts";
import { FakeHost, type FakeStream, settle } from "./fake_streams.ts";
import { channelData } from "./frames.ts";

const SERVER = TransportAddress.parse("192.0.2.1:3478");
const LISTEN = { transport: "tcp", address: "192.0.2.1", port: 3478 } as const;

function stun(type: number, size = 0): Uint8Array {
  const bytes = new Uint8Array(20 + size);
  bytes.set([type >> 8, type & 0xff, size >> 8, size & 0xff, 0x21, 0x12, 0xa4, 0x42]);
  return bytes;
}
const REQUEST = stun(0x0001);
const RESPONSE = stun(0x0101);
const INDICATION = stun(0x0017, 480);

/** Writes down all that it hears, and answers by `onPacket`. */
class Recorder implements Machine<never> {
  readonly deadline = Infinity;
  readonly log: string[] = [];
  accepted: AcceptedConnection | undefined;
  onPacket: (packet: Packet, io: MachineIo) => void = () => {};
  handleTimeout(): void {}
  handlePacket(packet: Packet, io: MachineIo): void {
    this.log.push(`packet ${packet.socket} ${packet.from} ${packet.length} ${packet.bytes.length}`);
    this.onPacket(packet, io);
  }
  onAccepted: (socket: SocketId, connection: AcceptedConnection, io: MachineIo) => void = () => {};
  handleAccepted(socket: SocketId, connection: AcceptedConnection, io: MachineIo): void {
    this.accepted = connection;
    this.onAccepted(socket, connection, io);
    this.log.push(`accepted ${socket} ${connection.remoteAddress}`);
  }
  handleClosed(socket: SocketId, reason: string): void {
    this.log.push(`closed ${socket} ${reason}`);
  }
  handleOpened(socket: SocketId, localAddress: TransportAddress): void {
    this.log.push(`opened ${socket} ${localAddress}`);
  }
  handleOpenFailed(socket: SocketId, failure: string): void {
    this.log.push(`failed ${socket} ${failure}`);
  }
}

function setUp(limits = {}) {
  const host = new FakeHost();
  const driver = new Driver(host);
  const machine = new Recorder();
  const handle = driver.add(machine);
  const listener = handle.listenStream(LISTEN, limits);
  return { host, driver, machine, handle, listener };
}

/** A client whose first frame has come. */
function client(host: FakeHost, remote = "198.51.100.7:5000"): FakeStream {
  const stream = host.arrive(remote);
  stream.arrive(REQUEST);
  return stream;
}

Deno.test("A machine hears of a connection with its first frame, and of each frame as of a datagram", () => {
  const { host, machine } = setUp();
  const stream = host.arrive("198.51.100.7:5000");
  stream.arrive(REQUEST.subarray(0, 5));
  assertEquals(machine.log, []);
  stream.arrive(REQUEST.subarray(5), channelData(5), new Uint8Array(3), stun(0x0001, 8));
  assertEquals(machine.log, [
    "accepted 2 198.51.100.7:5000",
    "packet 2 198.51.100.7:5000 20 20",
    "packet 2 198.51.100.7:5000 9 9",
    "packet 2 198.51.100.7:5000 28 28",
  ]);
  assertEquals(machine.accepted?.listener, 1);
  assertEquals(String(machine.accepted?.localAddress), "192.0.2.1:3478");
});

Deno.test("RFC 8656 §12.5: ChannelData is padded on the way out, and one turn's frames leave in one write", async () => {
  const { host, machine } = setUp();
  machine.onPacket = (packet, io) => {
    const scratch = io.scratch(64);
    scratch.set(channelData(5));
    io.send(packet.socket, packet.from, scratch, 0, 9);
    scratch.fill(9);
    io.send(packet.socket, packet.from, RESPONSE);
    io.send(packet.socket, packet.from, channelData(8));
  };
  const stream = client(host);
  assertEquals(stream.writes.length, 1);
  assertEquals(stream.writes[0]!.length, 12 + 20 + 12);
  assertEquals(stream.writes[0]!.subarray(9, 12), new Uint8Array(3));
  await settle();
  assertEquals(stream.frames.map((frame) => frame.length), [9, 20, 12]);
});

Deno.test("What is sent while a write is under way leaves in the next write", async () => {
  const { host, machine } = setUp();
  machine.onPacket = (packet, io) => io.send(packet.socket, packet.from, RESPONSE);
  const stream = host.arrive("198.51.100.7:5000");
  stream.isSlow = true;
  for (let i = 0; i < 5; i++) stream.arrive(REQUEST);
  assertEquals(stream.writes.map((write) => write.length), [20]);
  stream.accept();
  assertEquals(stream.writes.map((write) => write.length), [20, 80]);
  await settle();
});

Deno.test("A slow client loses whole datagrams, counted, but no answers; others lose nothing", () => {
  const { host, driver, machine } = setUp({ queueLimit: 10_000 });
  machine.onPacket = (packet, io) => {
    for (let i = 0; i < 20; i++) io.send(packet.socket, packet.from, channelData(995, i));
    io.send(packet.socket, packet.from, INDICATION);
    io.send(packet.socket, packet.from, RESPONSE);
  };
  const slow = host.arrive("198.51.100.7:5000");
  slow.isSlow = true;
  slow.arrive(REQUEST);
  slow.arrive(REQUEST);
  assertEquals(driver.streamStats.dropped, 10 + 1 + 20 + 1);
  const other = host.arrive("198.51.100.8:5000");
  other.isSlow = true;
  machine.onPacket = (packet, io) => io.send(packet.socket, packet.from, RESPONSE);
  other.arrive(REQUEST);
  assertEquals(other.frames.length, 1);
  slow.accept();
  slow.accept();
  // 10 x 1000 + 20 in the first turn, the second turn's answer only; then all is let in again.
  assertEquals(slow.frames.map((frame) => frame.length), [...Array(10).fill(999), 20, 20]);
  slow.arrive(REQUEST);
  assertEquals(slow.frames.length, 13);
  assertEquals(driver.streamStats.dropped, 32);
});

Deno.test("Half-open clients are closed when their first frame does not come in time", () => {
  const { host, driver, machine } = setUp({ firstFrameTimeout: 10_000 });
  const silent = host.arrive("198.51.100.7:5000");
  const slow = host.arrive("198.51.100.7:5001");
  const good = client(host, "198.51.100.7:5002");
  for (let i = 0; i < 9; i++) {
    slow.arrive(REQUEST.subarray(i, i + 1));
    host.advance(1000);
  }
  host.advance(999);
  assertEquals([silent.isClosed, slow.isClosed], [false, false]);
  host.advance(1);
  assertEquals([silent.isClosed, slow.isClosed, good.isClosed], [true, true, false]);
  assertEquals(driver.streamStats.timedOut, 2);
  assertEquals(driver.streamStats.open, 1);
  assertEquals(machine.log.filter((line) => !line.startsWith("packet")), ["accepted 2 198.51.100.7:5002"]);
});

Deno.test("A frame must be finished in time, however its bytes trickle in", () => {
  const { host, machine } = setUp({ frameTimeout: 30_000 });
  const stream = client(host);
  const frame = channelData(396);
  for (let i = 0; i < 30; i++) {
    stream.arrive(frame.subarray(i, i + 1));
    host.advance(1000);
    assertEquals(stream.isClosed, i === 29);
  }
  assertEquals(machine.log.at(-1), "closed 2 timeout");
});

Deno.test("A stream of frames that are always cut somewhere does not time out", () => {
  const { host } = setUp({ frameTimeout: 30_000 });
  const stream = client(host);
  const [head, tail] = [REQUEST.subarray(0, 10), REQUEST.subarray(10)];
  stream.arrive(head);
  for (let i = 0; i < 100; i++) {
    host.advance(29_000);
    stream.arrive(tail, head);
  }
  assertEquals(stream.isClosed, false);
});

Deno.test("A client that takes nothing any more, and one that is not heard of, are closed", () => {
  const { host, machine } = setUp({ writeTimeout: 60_000, idleTimeout: 600_000 });
  const idle = client(host, "198.51.100.7:5000");
  machine.onPacket = (packet, io) => io.send(packet.socket, packet.from, RESPONSE);
  const deaf = host.arrive("198.51.100.7:5001");
  deaf.isSlow = true;
  deaf.arrive(REQUEST);
  for (let i = 0; i < 59; i++) {
    host.advance(1000);
    deaf.arrive(REQUEST);
  }
  host.advance(999);
  assertEquals(deaf.isClosed, false);
  host.advance(1);
  assertEquals([deaf.isClosed, idle.isClosed], [true, false]);
  host.advance(539_999);
  assertEquals(idle.isClosed, false);
  host.advance(1);
  assertEquals(idle.isClosed, true);
  assertEquals(machine.log.slice(-2), ["closed 3 timeout", "closed 2 timeout"]);
});

Deno.test("T36: garbage closes the connection; what was answered before still leaves", () => {
  const { host, driver, machine } = setUp();
  machine.onPacket = (packet, io) => io.send(packet.socket, packet.from, RESPONSE);
  const stream = host.arrive("198.51.100.7:5000");
  stream.isSlow = true;
  stream.arrive(REQUEST, Uint8Array.of(0x80, 0, 0, 0), REQUEST);
  const log = ["accepted 2 198.51.100.7:5000", "packet 2 198.51.100.7:5000 20 20", "closed 2 malformed"];
  assertEquals(machine.log, log);
  assertEquals([stream.frames.length, stream.hasEnded, stream.isClosed], [1, false, false]);
  stream.accept();
  assertEquals([stream.hasEnded, stream.isClosed], [true, false]);
  stream.arrive(REQUEST);
  host.advance(2000);
  assertEquals(stream.isClosed, true);
  assertEquals(machine.log, log);
  assertEquals(driver.streamStats, {
    ...{ accepted: 1, connected: 0, open: 0, refused: 0, refusedPerAddress: 0 },
    ...{ malformed: 1, timedOut: 0, dropped: 0 },
    challenged: 0,
  });
});

Deno.test("Connections are capped in all and for each source: an IPv4 address, a /64 of IPv6", () => {
  const { host, driver, listener } = setUp({ maxConnections: 5, maxPerAddress: 2 });
  const streams = [
    ...["198.51.100.7:1", "198.51.100.7:2", "198.51.100.7:3"],
    ...["[2001:db8::1]:1", "[2001:db8::2:1]:1", "[2001:db8::3:0:0:1]:1", "[2001:db8:0:1::1]:1", "198.51.100.8:1"],
  ].map((remote) => host.arrive(remote));
  assertEquals(streams.map((stream) => stream.isClosed), [false, false, true, false, false, true, false, true]);
  assertEquals([driver.streamStats.refusedPerAddress, driver.streamStats.refused], [2, 1]);
  assertEquals(listener.connections, 5);
  streams[0]!.receiver!.onEnd("reset");
  assertEquals([listener.connections, streams[0]!.isClosed], [4, true]);
  assertEquals(host.arrive("198.51.100.7:4").isClosed, false);
  assertEquals(host.arrive("198.51.100.7:5").isClosed, true);
});

Deno.test("io.close lets what was sent leave, says the end, and waits 2 s at most for the other end's", () => {
  const { host, driver, machine } = setUp();
  machine.onPacket = (packet, io) => {
    io.send(packet.socket, packet.from, RESPONSE);
    io.close(packet.socket);
    io.send(packet.socket, packet.from, RESPONSE);
  };
  const [polite, rude] = ["198.51.100.7:1", "198.51.100.7:2"].map((remote) => {
    const stream = host.arrive(remote);
    stream.isSlow = true;
    stream.arrive(REQUEST, REQUEST);
    assertEquals([stream.frames.length, stream.hasEnded], [1, false]);
    stream.accept();
    assertEquals([stream.hasEnded, stream.isClosed], [true, false]);
    return stream;
  });
  polite!.receiver!.onEnd("end");
  assertEquals([polite!.isClosed, rude!.isClosed], [true, false]);
  host.advance(2000);
  assertEquals(rude!.isClosed, true);
  assertEquals(driver.streamStats.open, 0);
  assertEquals(machine.log.filter((line) => line.startsWith("closed")), []);
});

Deno.test("The other end's end is told once, and what is answered before it still leaves", () => {
  const { host, machine } = setUp();
  machine.onPacket = (packet, io) => io.send(packet.socket, packet.from, RESPONSE);
  const stream = host.arrive("198.51.100.7:5000");
  stream.isSlow = true;
  stream.arrive(REQUEST);
  stream.receiver!.onEnd("end");
  assertEquals(machine.log.at(-1), "closed 2 end");
  assertEquals(stream.isClosed, false);
  stream.accept();
  assertEquals([stream.frames.length, stream.isClosed], [1, true]);
});

Deno.test("io.open connects: opened, refused, too late, or given up", async () => {
  const { host, driver, machine, handle } = setUp();
  const wish = { transport: "tcp", remote: SERVER } as const;
  const ids = handle.call((io) => [1, 2, 3, 4].map(() => io.open({ ...wish, timeout: 500 })));
  assertEquals(ids, [2, 3, 4, 5]);
  assertEquals(host.attempts.length, 4);
  const stream = host.answer();
  assertEquals([stream.isReading, machine.log.pop()], [true, "opened 2 192.0.2.1:3478"]);
  host.answer("refused");
  assertEquals(machine.log.pop(), "failed 3 refused");
  handle.call((io) => io.close(4));
  assertEquals([host.givenUp, machine.log.length], [1, 0]);
  host.advance(500);
  assertEquals([host.givenUp, machine.log], [2, ["failed 5 timeout"]]);
  handle.call((io) => io.send(2, SERVER, REQUEST));
  assertEquals(stream.frames.length, 1);
  stream.arrive(RESPONSE);
  assertEquals(machine.log.at(-1), "packet 2 192.0.2.1:3478 20 20");
  await settle();
  host.advance(3_000_000);
  assertEquals(stream.isClosed, false);
  stream.receiver!.onEnd("reset");
  assertEquals(machine.log.at(-1), "closed 2 reset");
  assertEquals(driver.streamStats.connected, 1);
});

Deno.test("handle.connect: the shell's form, with an AbortSignal", async () => {
  const { host, handle, machine } = setUp();
  const wish = { transport: "tls", remote: SERVER } as const;
  const made = handle.connect(wish);
  const stream = host.answer();
  assertEquals((await made).socket, 2);
  assertEquals(machine.log, []);
  const refused = handle.connect(wish);
  host.answer("refused");
  assertEquals((await assertRejects(() => refused, OpenError)).failure, "refused");
  const aborter = new AbortController();
  const aborted = handle.connect(wish, { signal: aborter.signal });
  aborter.abort(new Error("enough"));
  await assertRejects(() => aborted, Error, "enough");
  await assertRejects(() => handle.connect(wish, { signal: aborter.signal }), Error, "enough");
  assertEquals([host.givenUp, host.attempts.length], [1, 0]);
  handle.remove();
  assertEquals(stream.hasEnded, true);
});

Deno.test("Removing a machine closes what it has: connections, listeners, attempts", () => {
  const { host, driver, handle } = setUp();
  const streams = [client(host), host.arrive("198.51.100.8:1")];
  handle.call((io) => io.open({ transport: "tcp", remote: SERVER }));
  handle.remove();
  assertEquals(streams.map((stream) => stream.hasEnded), [true, true]);
  assertEquals(host.givenUp, 1);
  assertThrows(() => host.arrive("198.51.100.9:1"));
  host.advance(2000);
  assertEquals([driver.streamStats.open, ...streams.map((stream) => stream.isClosed)], [0, true, true]);
});

Deno.test("Driver.close: everything at once, what waits still goes if the network takes it", () => {
  const { host, driver, handle } = setUp();
  const stream = client(host);
  stream.isSlow = true;
  handle.call((io) => {
    io.send(2, SERVER, RESPONSE);
    driver.close();
  });
  assertEquals([stream.frames.length, stream.isClosed], [1, true]);
  assertThrows(() => handle.listenStream(LISTEN), OpenError);
});

Deno.test("RFC 6062 §5.4: io.join after an answer: early bytes go over, in order, after the answer", () => {
  const { host, machine, handle } = setUp();
  handle.call((io) => io.open({ transport: "tcp", remote: SERVER, framing: "raw" }));
  const peer = host.answer();
  assertEquals(peer.isReading, false);
  // What a read brought that was under way when framing ended.
  peer.arrive(Uint8Array.of(1, 2, 3));
  machine.onPacket = (packet, io) => {
    io.send(packet.socket, packet.from, RESPONSE);
    io.join!(packet.socket, 2);
    io.send(packet.socket, packet.from, RESPONSE);
  };
  const data = host.arrive("198.51.100.7:5000");
  data.isSlow = peer.isSlow = true;
  data.arrive(REQUEST, Uint8Array.of(9, 8, 7));
  assertEquals(data.written, Uint8Array.of(...RESPONSE, 1, 2, 3));
  assertEquals(peer.written, Uint8Array.of(9, 8, 7));
  assertEquals([data.isReading, peer.isReading], [true, true]);
  data.accept();
  peer.arrive(new TextEncoder().encode("GET"));
  assertEquals(data.written.length, 20 + 6);
  assertEquals(machine.log.length, 3);
});

Deno.test("RFC 6062 §5.4: a pipe holds the faster end back, and loses nothing", () => {
  const { near, far } = joined({ queueLimit: 1000 });
  far.isSlow = true;
  let sent = 0;
  while (near.isReading) near.arrive(new Uint8Array(300).fill(sent++));
  assertEquals(sent, 4);
  assertEquals(far.written.length, 300);
  far.accept();
  assertEquals([near.isReading, far.written.length], [true, 1200]);
  far.accept();
  assertEquals(far.written, Uint8Array.from({ length: 1200 }, (_, i) => Math.floor(i / 300)));
});

Deno.test("RFC 6062 §5.4: an end is passed on after what came before it, the other direction goes on", () => {
  const { near, far, machine, driver } = joined();
  far.isSlow = true;
  near.arrive(Uint8Array.of(1));
  near.receiver!.onEnd("end");
  assertEquals([far.hasEnded, near.isClosed], [false, false]);
  far.accept();
  assertEquals([far.hasEnded, near.isClosed], [true, false]);
  far.arrive(Uint8Array.of(2));
  assertEquals(near.written.at(-1), 2);
  near.accept();
  far.receiver!.onEnd("end");
  assertEquals(machine.log.slice(-2), ["closed 3 end", "closed 2 end"]);
  assertEquals([near.isClosed, far.isClosed, driver.streamStats.open], [true, true, 0]);
});

Deno.test("RFC 6062 §5.4: a break of one end is the break of both", () => {
  const { near, far, machine } = joined();
  far.receiver!.onEnd("reset");
  assertEquals([near.isClosed, far.isClosed], [true, true]);
  assertEquals(machine.log.slice(-2), ["closed 3 reset", "closed 2 reset"]);
});

Deno.test("RFC 6062 §5.4: a pipe whose one end is gone is not kept for ever", () => {
  const { host, near, far } = joined({ writeTimeout: 60_000, idleTimeout: 600_000 });
  near.receiver!.onEnd("end");
  // It may take its time to answer what was sent before the end.
  host.advance(599_999);
  assertEquals([near.isClosed, far.isClosed], [false, false]);
  host.advance(1);
  assertEquals([near.isClosed, far.isClosed], [true, true]);
});

Deno.test("RFC 6062 §5.4: both ends of a pipe have ended: what waits for a slow one is not cut", () => {
  const { host, near, far, machine } = joined();
  far.isSlow = true;
  far.receiver!.onEnd("end");
  near.arrive(Uint8Array.of(1));
  near.arrive(Uint8Array.of(2));
  near.receiver!.onEnd("end");
  host.advance(60_000);
  assertEquals([far.isClosed, [...far.written], machine.log.length], [false, [1], 4]);
  far.accept();
  assertEquals([far.isClosed, [...far.written], far.hasEnded], [false, [1, 2], false]);
  far.accept();
  assertEquals([far.hasEnded, near.isClosed, far.isClosed], [true, true, true]);
  assertEquals(machine.log.slice(-2).sort(), ["closed 2 end", "closed 3 end"]);
});

Deno.test("RFC 6062 §5.4: one end of a pipe breaks: what came from it before goes on to the other, in bounded time", () => {
  for (const isTaken of [true, false]) {
    const { host, near, far, machine } = joined({ writeTimeout: 60_000 });
    far.isSlow = true;
    near.arrive(Uint8Array.of(1));
    near.arrive(Uint8Array.of(2));
    near.receiver!.onEnd("reset");
    assertEquals([near.isClosed, far.isClosed], [true, false]);
    assertEquals(machine.log.slice(-2), ["closed 2 reset", "closed 3 reset"]);
    if (isTaken) {
      far.accept();
      far.accept();
      assertEquals([[...far.written], far.hasEnded], [[1, 2], true]);
    }
    host.advance(60_000);
    assertEquals(far.isClosed, true);
  }
});

Deno.test("RFC 6062 §5.4: who reads slowly in a pipe is not given up for it; a dead pipe is", () => {
  const { host, near, far } = joined({ writeTimeout: 60_000, idleTimeout: 600_000 });
  far.isSlow = true;
  near.arrive(Uint8Array.of(1));
  host.advance(599_999);
  far.accept();
  host.advance(599_999);
  assertEquals([near.isClosed, far.isClosed], [false, false]);
  host.advance(1);
  assertEquals([near.isClosed, far.isClosed], [true, true]);
});

Deno.test("io.join: a meter hears of all bytes, early ones too, and makes an end wait", () => {
  const passed: unknown[] = [];
  let wait = 0;
  const meter = { pass: (from: number, count: number, now: number) => (passed.push([from, count, now]), wait) };
  const { host, near, far } = joined({}, { meter, early: Uint8Array.of(7, 7, 7) });
  assertEquals(passed.splice(0).length, 1);
  wait = 250;
  near.arrive(Uint8Array.of(1, 2));
  assertEquals([passed.splice(0), near.isReading, far.isReading], [[[2, 2, 1000]], false, true]);
  wait = 0;
  // Nor does the other end's leave to send on make it read.
  far.accept();
  host.advance(249);
  assertEquals(near.isReading, false);
  host.advance(1);
  assertEquals(near.isReading, true);
  far.arrive(Uint8Array.of(1));
  assertEquals([passed, far.isReading], [[[3, 1, 1250]], true]);
});

Deno.test("ListenWish: connections are told at once, unread; too many are closed; a closed listener keeps its connections", () => {
  const { host, machine, handle, driver } = setUp();
  const accepted: number[] = [];
  machine.onAccepted = (socket, { listener }, io) => {
    accepted.push(listener, socket);
    if (accepted.length === 4) io.close(socket);
  };
  const listener = handle.call((io) =>
    io.open({ transport: "tcp-listen", address: "192.0.2.1", port: 50_000, maxConnections: 2 })
  );
  const [first, second, third, fourth] = [1, 2, 3, 4].map((port) => host.arrive(`198.51.100.9:${port}`));
  assertEquals(accepted, [listener, listener + 1, listener, listener + 2, listener, listener + 3]);
  assertEquals([first!.isClosed, second!.isClosed, third!.isClosed, fourth!.isClosed], [false, true, false, true]);
  assertEquals([first!.isReading, driver.streamStats.refused], [false, 1]);
  handle.call((io) => io.close(listener));
  assertEquals([first!.isClosed, driver.streamStats.open], [false, 2]);
  handle.call((io) => io.close(accepted[1]!));
  assertEquals([first!.isClosed, driver.streamStats.open], [true, 1]);
});

Deno.test("handle.detach: the rest of a connection as web streams", async () => {
  const { host, handle, machine, driver } = setUp();
  machine.onPacket = (packet, io) => io.unframe!(packet.socket);
  const stream = host.arrive("198.51.100.7:5000");
  stream.arrive(REQUEST, Uint8Array.of(1, 2));
  assertEquals(stream.isReading, false);
  const detached = handle.detach(2);
  const reader = detached.readable.getReader();
  assertEquals((await reader.read()).value, Uint8Array.of(1, 2));
  stream.arrive(Uint8Array.of(3));
  assertEquals((await reader.read()).value, Uint8Array.of(3));
  const writer = detached.writable.getWriter();
  await writer.write(Uint8Array.of(4, 5));
  assertEquals(stream.written, Uint8Array.of(4, 5));
  host.advance(10_000_000);
  stream.receiver!.onEnd("end");
  assertEquals((await reader.read()).done, true);
  assertEquals(stream.isClosed, false);
  await writer.close();
  assertEquals([stream.isClosed, driver.streamStats.open], [true, 0]);
  assertThrows(() => handle.detach(2), TypeError);
  detached.close();
});

Deno.test("handle.detach: writers wait for a slow end, readers hold a fast one back, a break reaches both", async () => {
  const { host, handle, machine } = setUp({ queueLimit: 100 });
  machine.onPacket = (packet, io) => io.unframe!(packet.socket);
  const stream = client(host);
  stream.isSlow = true;
  const detached = handle.detach(2);
  await settle();
  assertEquals(stream.isReading, true);
  stream.arrive(new Uint8Array(65536));
  assertEquals(stream.isReading, false);
  const writer = detached.writable.getWriter();
  let isWritten = false;
  const writing = writer.write(new Uint8Array(200)).then(() => isWritten = true);
  await settle();
  assertEquals(isWritten, false);
  stream.accept();
  await writing;
  stream.receiver!.onEnd("reset");
  await assertRejects(() => writer.write(Uint8Array.of(1)));
  assertEquals(stream.isClosed, true);
});

Deno.test("A host without TCP: one clear error each", async () => {
  const host = new FakeHost();
  Object.assign(host, { connectStream: undefined, listenStream: undefined });
  const machine = new Recorder();
  const handle = new Driver(host).add(machine);
  assertThrows(() => handle.listenStream(LISTEN), OpenError, "Cannot listen for tcp as this host has no TCP");
  await assertRejects(
    () => handle.connect({ transport: "tls", remote: SERVER }),
    OpenError,
    "Cannot connect by tls as this host has no TCP",
  );
  handle.call((io) => io.open({ transport: "tcp", remote: SERVER }));
  assertEquals(machine.log.length, 1);
});

/** Two connections that the machine has joined: 2 is `near`, a client's, 3 is `far`. */
function joined(limits = {}, options: { meter?: PipeMeter; early?: Uint8Array } = {}) {
  const rig = setUp(limits);
  const { host, handle } = rig;
  const near = client(host);
  const far = client(host, "198.51.100.9:9");
  near.isSlow = true;
  if (options.early !== undefined) {
    handle.call((io) => io.unframe!(2));
    near.arrive(options.early);
  }
  handle.call((io) => io.join!(2, 3, options.meter));
  return { ...rig, near, far };
}
