// What the Linux back end does beyond the host contract (tests/contract): batches, segments, errors, load.
import process from "node:process";
import { assert, assertEquals, assertNotEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { TransportAddress } from "../../../stun/address.ts";
import {
  type IcmpMessage,
  type LinuxHost,
  linuxHost,
  type LinuxSocket,
  pickHost,
} from "../../../stun/net/linux_host.ts";
import { OpenError, PacketBatch } from "../../../stun/net/transport.ts";

const ignore = pickHost("auto").io !== "linux";
const LOOPBACK = { transport: "udp", address: "127.0.0.1", port: 0 } as const;

function test(name: string, body: () => void | Promise<void>): void {
  Deno.test({ name: `Linux UDP: ${name}`, ignore, fn: body });
}

function open(host: LinuxHost, receiver: (batch: PacketBatch) => void): LinuxSocket {
  return host.openDatagram(LOOPBACK, receiver);
}

/** Counts what arrives and resolves when that is enough. */
class Sink {
  readonly got: Uint8Array[] = [];
  #wanted = 0;
  #done = Promise.withResolvers<void>();

  readonly receive = (batch: PacketBatch): void => {
    for (let i = 0; i < batch.length; i++) {
      const start = batch.offsets[i]!;
      this.got.push(batch.buffers[i]!.slice(start, start + batch.lengths[i]!));
    }
    if (this.got.length >= this.#wanted) this.#done.resolve();
  };

  until(count: number): Promise<void> {
    this.#wanted = count;
    this.#done = Promise.withResolvers<void>();
    if (this.got.length >= count) this.#done.resolve();
    return this.#done.promise;
  }
}

test("datagrams of mixed sizes arrive whole and in order, whether they leave as segments or one by one", async () => {
  const host = linuxHost();
  const sink = new Sink();
  const to = open(host, sink.receive);
  const from = open(host, () => {});
  // Runs of one size, runs with a shorter end, single ones, empty ones, and runs too large for one system call.
  const sizes = [200, 200, 200, 0, 0, 1200, 1200, 1200, 40, 9000, 9000, 30000, 30000, 30000, 1, 1, 2, 1];
  const out = new PacketBatch(64);
  const sent: Uint8Array[] = [];
  for (let round = 0; round < 20; round++) {
    for (let i = 0; i < 64; i++) {
      const size = sizes[(round * 7 + i) % sizes.length]!;
      const bytes = new Uint8Array(size).fill(sent.length % 251);
      sent.push(bytes);
      out.push(to.localAddress, bytes, 0, size);
    }
    from.send(out);
    out.length = 0;
    await sink.until(sent.length);
  }
  assertEquals(sink.got.length, sent.length);
  sent.forEach((bytes, i) => assertEquals(sink.got[i], bytes, `datagram ${i}`));
  assertEquals([from.sendErrors, from.sendBufferFull, to.receiveBufferFull], [0, 0, 0]);
  from.close();
  to.close();
});

test("all of a burst arrives at a socket that had one datagram at a time before", async () => {
  const host = linuxHost();
  const sink = new Sink();
  const to = open(host, sink.receive);
  const from = open(host, () => {});
  const out = new PacketBatch(64);
  let count = 0;
  for (const burst of [1, 1, 1, 5, 1, 64, 1, 1, 64, 64]) {
    for (let i = 0; i < burst; i++) out.push(to.localAddress, Uint8Array.of(count++), 0, 1);
    from.send(out);
    out.length = 0;
    await sink.until(count);
  }
  assertEquals(sink.got.map(([byte]) => byte), Array.from({ length: count }, (_, i) => i & 255));
  from.close();
  to.close();
});

test("the receiver's memory is sent on as it is, to one socket or to many", async () => {
  const host = linuxHost();
  const sinks = Array.from({ length: 10 }, () => new Sink());
  const ends = sinks.map((sink) => open(host, sink.receive));
  const out = new PacketBatch(64);
  const relay = open(host, (batch) => {
    // Each is seen by all: ChannelData style, the header written in front or taken away.
    for (let i = 0; i < batch.length; i++) {
      const [buffer, offset, length] = [batch.buffers[i]!, batch.offsets[i]!, batch.lengths[i]!];
      buffer.set([0x40, 0x00, 0, length], offset - 4);
      ends.forEach(({ localAddress }, k) => {
        if (out.length === out.capacity) flush();
        if (k % 2 === 0) out.push(localAddress, buffer, offset - 4, length + 4);
        else out.push(localAddress, buffer.subarray(offset), 4, length - 4);
      });
    }
    flush();
  });
  const flush = () => {
    relay.send(out);
    out.length = 0;
  };
  const from = open(host, () => {});
  const feed = new PacketBatch(64);
  for (let i = 0; i < 64; i++) feed.push(relay.localAddress, Uint8Array.of(9, 9, 9, 9, i), 0, 5);
  from.send(feed);
  await Promise.all(sinks.map((sink) => sink.until(64)));
  sinks.forEach(({ got }, k) => {
    const expected = Array.from({ length: 64 }, (_, i) => k % 2 === 0 ? [0x40, 0, 0, 5, 9, 9, 9, 9, i] : [i]);
    assertEquals(got.map((bytes) => [...bytes]), expected);
  });
  for (const socket of [...ends, relay, from]) socket.close();
});

test("a thousand sockets on one host, each with its own traffic", async () => {
  const host = linuxHost();
  const count = 1000;
  const answers = new Set<number>();
  const { promise, resolve } = Promise.withResolvers<void>();
  const hub = open(host, (batch) => {
    for (let i = 0; i < batch.length; i++) answers.add(batch.addresses[i]!.port);
    if (answers.size === count) resolve();
  });
  const sockets = Array.from({ length: count }, () => {
    const socket = open(host, (batch) => socket.send(batch));
    return socket;
  });
  const out = new PacketBatch(100);
  for (const { localAddress } of sockets) {
    out.push(localAddress, Uint8Array.of(1), 0, 1);
    if (out.length < out.capacity) continue;
    hub.send(out);
    out.length = 0;
  }
  // The echo goes to where it came from: batches are sent back with their addresses.
  await promise;
  assertEquals(answers, new Set(sockets.map(({ localAddress }) => localAddress.port)));
  for (const socket of [...sockets, hub]) socket.close();
});

test("under load that never ends, timers ring, TCP moves and promises go on", async () => {
  const host = linuxHost();
  const pair = [0, 1].map((i) => {
    const socket: LinuxSocket = open(host, (batch) => {
      for (let k = 0; k < batch.length; k++) batch.addresses[k] = pair[1 - i]!.localAddress;
      socket.send(batch);
    });
    return socket;
  });
  const out = new PacketBatch(64);
  for (let i = 0; i < 64; i++) out.push(pair[1]!.localAddress, new Uint8Array(200), 0, 200);
  pair[0]!.send(out);
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const client = Deno.connect({ hostname: "127.0.0.1", port: (listener.addr as Deno.NetAddr).port });
  const server = await listener.accept();
  const conn = await client;
  const byte = new Uint8Array(1);
  for (let i = 0; i < 20; i++) {
    await conn.write(byte);
    assertEquals(await server.read(byte), 1);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  for (const one of [listener, server, conn, ...pair]) one.close();
  await pair[0]!.closed;
  await pair[1]!.closed;
});

test("without traffic it waits in the kernel and takes no time of the processor", async () => {
  const host = linuxHost();
  const sockets = Array.from({ length: 10 }, () => open(host, () => {}));
  const out = new PacketBatch(1);
  out.push(sockets[1]!.localAddress, Uint8Array.of(1), 0, 1);
  sockets[0]!.send(out);
  // What the start takes is over after a while; whoever polls takes all of it.
  await new Promise((resolve) => setTimeout(resolve, 200));
  const before = process.cpuUsage();
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const { user, system } = process.cpuUsage(before);
  assert(user + system < 200_000, `${user + system} us of a second`);
  for (const socket of sockets) socket.close();
});

test("closing under load ends everything, from outside a receiver or inside", async () => {
  for (const inside of [true, false]) {
    const host = linuxHost();
    const { promise, resolve } = Promise.withResolvers<void>();
    let left = 100;
    const sockets = [0, 1, 2].map((i) => {
      const socket: LinuxSocket = open(host, (batch) => {
        for (let k = 0; k < batch.length; k++) batch.addresses[k] = sockets[(i + 1) % 3]!.localAddress;
        socket.send(batch);
        if (--left > 0) return;
        if (inside) { for (const one of sockets) one.close(); }
        resolve();
      });
      return socket;
    });
    const out = new PacketBatch(64);
    for (let i = 0; i < 64; i++) out.push(sockets[1]!.localAddress, new Uint8Array(100), 0, 100);
    sockets[0]!.send(out);
    await promise;
    for (const one of sockets) one.close();
    // What was closed may be opened again at once, on the same host.
    const sink = new Sink();
    const again = open(host, sink.receive);
    out.length = 0;
    out.push(again.localAddress, Uint8Array.of(7), 0, 1);
    again.send(out);
    await sink.until(1);
    again.close();
    for (const one of [...sockets, again]) await one.closed;
  }
});

test("a receiver may close the last socket and open another", async () => {
  const host = linuxHost();
  const sink = new Sink();
  const { promise, resolve } = Promise.withResolvers<LinuxSocket>();
  const first = open(host, () => {
    first.close();
    resolve(open(host, sink.receive));
  });
  const out = new PacketBatch(1);
  out.push(first.localAddress, Uint8Array.of(1), 0, 1);
  first.send(out);
  const second = await promise;
  out.length = 0;
  out.push(second.localAddress, Uint8Array.of(2), 0, 1);
  second.send(out);
  await sink.until(1);
  assertEquals(sink.got, [Uint8Array.of(2)]);
  second.close();
});

test("a receiver may close the last socket and find that it can open no other", async () => {
  const host = linuxHost();
  const { promise, resolve } = Promise.withResolvers<unknown>();
  const only = open(host, () => {
    only.close();
    const wish = { ...LOOPBACK, address: "198.51.100.77" };
    resolve(assertThrows(() => host.openDatagram(wish, () => {}), OpenError));
  });
  const out = new PacketBatch(1);
  out.push(only.localAddress, Uint8Array.of(1), 0, 1);
  only.send(out);
  await promise;
  await only.closed;
  open(host, () => {}).close();
});

test("hosts that come and go side by side leave nothing behind once their sockets say that they are closed", async () => {
  const lives = Array.from({ length: 30 }, async (_, i) => {
    const host = linuxHost();
    const sink = new Sink();
    const sockets = [open(host, sink.receive), open(host, () => {})];
    if (i % 3 > 0) {
      const out = new PacketBatch(1);
      out.push(sockets[0]!.localAddress, Uint8Array.of(1), 0, 1);
      sockets[1]!.send(out);
      await sink.until(1);
    }
    for (const socket of sockets) socket.close();
    await Promise.all(sockets.map((socket) => socket.closed));
  });
  await Promise.all(lives);
});

test("what a full receive buffer drops is counted", async () => {
  const host = linuxHost({ receiveBuffer: 4096 });
  const sink = new Sink();
  const to = open(host, sink.receive);
  const from = open(host, () => {});
  const out = new PacketBatch(64);
  for (let i = 0; i < 64; i++) out.push(to.localAddress, new Uint8Array(1000), 0, 1000);
  from.send(out);
  await sink.until(1);
  const dropped = to.receiveBufferFull;
  assert(dropped > 0 && dropped < 64, `${dropped} of 64 dropped`);
  assertEquals(from.sendErrors, 0);
  for (const socket of [to, from]) socket.close();
  assertEquals(to.receiveBufferFull, 0);
});

test("ports can be shared where that is wanted, and only there", () => {
  const probe = open(linuxHost(), () => {});
  const { port } = probe.localAddress;
  probe.close();
  const wish = { ...LOOPBACK, port, isShared: true };
  const sockets = [1, 2].map(() => linuxHost().openDatagram(wish, () => {}));
  const stranger = assertThrows(() => linuxHost().openDatagram({ ...LOOPBACK, port }, () => {}), OpenError);
  assertEquals(stranger.failure, "address-in-use");
  for (const socket of sockets) socket.close();
});

test("an IPv6 wildcard leaves IPv4 alone, so both can have the same port", () => {
  const host = linuxHost();
  const six = host.openDatagram({ transport: "udp", address: "::", port: 0 }, () => {});
  const four = host.openDatagram({ transport: "udp", address: "0.0.0.0", port: six.localAddress.port }, () => {});
  assertEquals(six.localAddress.port, four.localAddress.port);
  for (const socket of [six, four]) socket.close();
});

test("link-local IPv6 addresses work without naming their interface", async () => {
  const found = Deno.networkInterfaces().find(({ address, name }) => /^fe[89ab]/.test(address) && name !== "lo");
  if (found === undefined) return;
  const host = linuxHost();
  const sink = new Sink();
  const wish = { transport: "udp", address: found.address, port: 0 } as const;
  const to = host.openDatagram(wish, sink.receive);
  const from = host.openDatagram(wish, () => {});
  const out = new PacketBatch(1);
  out.push(TransportAddress.of(found.address, to.localAddress.port), Uint8Array.of(1), 0, 1);
  from.send(out);
  await sink.until(1);
  for (const socket of [to, from]) socket.close();
});

test("DF and type of service can be set", async () => {
  for (const address of ["127.0.0.1", "::1"]) {
    const host = linuxHost();
    const sink = new Sink();
    const wish = { transport: "udp", address, port: 0 } as const;
    const to = host.openDatagram(wish, sink.receive);
    const from = host.openDatagram(wish, () => {});
    assertEquals([from.setTypeOfService(0xb8), from.setDontFragment(true), from.setDontFragment(false)], [
      true,
      true,
      true,
    ]);
    assertEquals(from.setTypeOfService(0), true);
    const out = new PacketBatch(1);
    out.push(to.localAddress, Uint8Array.of(1), 0, 1);
    from.send(out);
    await sink.until(1);
    for (const socket of [to, from]) socket.close();
    assertEquals(from.setTypeOfService(0), false);
  }
});

test("ICMP messages are reported where that is wanted, and cost no datagram", async () => {
  for (const [address, type, code] of [["127.0.0.1", 3, 3], ["::1", 1, 4]] as const) {
    const host = linuxHost();
    const wish = { transport: "udp", address, port: 0 } as const;
    const gone = host.openDatagram(wish, () => {});
    gone.close();
    const sink = new Sink();
    const to = host.openDatagram(wish, sink.receive);
    const from = host.openDatagram(wish, () => {});
    const { promise, resolve } = Promise.withResolvers<IcmpMessage>();
    assertEquals(from.reportIcmp(resolve), true);
    const out = new PacketBatch(64);
    const send = (address: TransportAddress) => {
      out.length = 0;
      out.push(address, Uint8Array.of(1), 0, 1);
      from.send(out);
    };
    // Loopback answers at once, so each of these finds the error of the one before.
    for (let i = 0; i < 10; i++) send(gone.localAddress);
    for (let i = 0; i < 10; i++) send(to.localAddress);
    await sink.until(10);
    const message = await promise;
    assertEquals([String(message.to), message.type, message.code], [String(gone.localAddress), type, code]);
    assertEquals(from.sendErrors, 0);
    for (const socket of [to, from]) socket.close();
  }
});

test("the back end is picked by name, and says why", () => {
  const { io, reason } = pickHost("auto");
  assertEquals(io, "linux");
  assertNotEquals(reason, "");
  assertEquals(pickHost("deno").io, "deno");
  assertStringIncludes(pickHost("linux").reason, "linux");
});

Deno.test({
  name: "pickHost(): without --allow-ffi it is Deno's own UDP, and nobody is asked",
  permissions: { ffi: false, net: true, sys: true },
  fn() {
    const { io, reason } = pickHost("auto");
    assertEquals(io, "deno");
    assert(reason.includes("needs"), reason);
    assertThrows(() => pickHost("linux"), Error, "Cannot use the Linux back end");
  },
});
