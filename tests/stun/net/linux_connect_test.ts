// Connections from a given address and port: of linuxHost().
import { assert, assertEquals } from "@std/assert";
import { TransportAddress } from "../../../stun/address.ts";
import type { ByteStreamWish } from "../../../stun/machine.ts";
import { linuxHost, pickHost } from "../../../stun/net/linux_host.ts";
import { type ByteStream, type ByteStreamReceiver, OpenError } from "../../../stun/net/transport.ts";

const ignore = pickHost("auto").io !== "linux";

function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name: `linuxHost().connectStream: ${name}`, ignore, fn });
}

/** What a receiver heard. */
class Ear implements ByteStreamReceiver {
  bytes: number[] = [];
  sent = 0;
  ended: string | undefined;
  #changed = Promise.withResolvers<void>();

  onData(bytes: Uint8Array, offset: number, length: number): void {
    this.bytes.push(...bytes.subarray(offset, offset + length));
    this.#change();
  }
  onSent(): void {
    this.sent++;
    this.#change();
  }
  onEnd(reason: "end" | "reset"): void {
    assertEquals(this.ended, undefined, "told once");
    this.ended = reason;
    this.#change();
  }
  #change(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
  async until(test: () => boolean): Promise<void> {
    while (!test()) await this.#changed.promise;
  }
}

function connect(wish: Omit<ByteStreamWish, "transport">, ear?: Ear): Promise<ByteStream | OpenError> {
  return new Promise((resolve) =>
    linuxHost().connectStream!({ transport: "tcp", ...wish }, (result) => {
      resolve(result);
      return ear;
    })
  );
}

async function mustConnect(wish: Omit<ByteStreamWish, "transport">, ear: Ear): Promise<ByteStream> {
  const stream = await connect(wish, ear);
  if (stream instanceof OpenError) throw stream;
  return stream;
}

function listen(hostname = "127.0.0.1", reusePort = false): { listener: Deno.TcpListener; address: TransportAddress } {
  const listener = Deno.listen({ hostname, port: 0, reusePort } as Deno.TcpListenOptions);
  return { listener, address: TransportAddress.of(hostname, listener.addr.port) };
}

for (const [one, other] of [["127.0.0.1", "127.0.0.3"], ["::1", "::1"]] as const) {
  test(`from a listening socket's port, over ${one}: bytes both ways, an end each`, async () => {
    const { listener, address } = listen(one);
    const shared = listen(other, true);
    const ear = new Ear();
    const accepting = listener.accept();
    const stream = await mustConnect({ remote: address, address: other, port: shared.address.port }, ear);
    using conn = await accepting;
    assertEquals([String(stream.localAddress), String(stream.remoteAddress)], [shared.address, address].map(String));
    const from = conn.remoteAddr as Deno.NetAddr;
    assertEquals([from.hostname, from.port], [other, shared.address.port]);
    await conn.write(Uint8Array.of(1, 2, 3));
    stream.send(Uint8Array.of(4, 5));
    await ear.until(() => ear.sent === 1);
    const memory = new Uint8Array(10);
    assertEquals([await conn.read(memory), memory[0], memory[1]], [2, 4, 5]);
    assertEquals(ear.bytes, [], "nothing is read before it is wanted");
    stream.resume();
    await ear.until(() => ear.bytes.length === 3);
    stream.end();
    assertEquals(await conn.read(memory), null);
    await conn.write(Uint8Array.of(6));
    await ear.until(() => ear.bytes.length === 4);
    await conn.closeWrite();
    await ear.until(() => ear.ended === "end");
    stream.close();
    stream.close();
    listener.close();
    shared.listener.close();
  });
}

test("a reader that pauses holds the other end back; a break is told", async () => {
  const { listener, address } = listen();
  const ear = new Ear();
  const accepting = listener.accept();
  const stream = await mustConnect({ remote: address, address: "127.0.0.4" }, ear);
  const conn = await accepting;
  assert(stream.localAddress.port !== 0 && stream.localAddress.address === "127.0.0.4");
  let isWritten = false;
  const writing = (async () => {
    const chunk = new Uint8Array(1_000_000).fill(7);
    for (let round = 0; round < 20; round++) {
      for (let done = 0; done < chunk.length;) done += await conn.write(chunk.subarray(done));
    }
    isWritten = true;
  })().catch(() => {});
  for (let round = 1; round <= 20; round++) {
    stream.send(Uint8Array.of(1));
    await conn.read(new Uint8Array(1));
    await ear.until(() => ear.sent === round);
  }
  assertEquals([isWritten, ear.bytes.length], [false, 0]);
  stream.close();
  await writing;
  assertEquals(isWritten, false);
  conn.close();
  listener.close();
});

test("each way to fail, and giving up", async () => {
  const from = { address: "127.0.0.1", port: 0 };
  const failure = async (wish: Omit<ByteStreamWish, "transport">) => {
    const result = await connect(wish);
    assert(result instanceof OpenError);
    return result.failure;
  };
  assertEquals(await failure({ remote: TransportAddress.parse("127.0.0.1:1"), ...from }), "refused");
  const { listener, address } = listen();
  assertEquals(await failure({ remote: address, address: "192.0.2.1" }), "address-not-available");
  const taken = listen();
  const wish = { remote: address, address: "127.0.0.1", port: taken.address.port };
  assertEquals(await failure(wish), "address-in-use");
  // Where it need not be that port, it is another.
  const accepting = listener.accept();
  const stream = await mustConnect({ ...wish, isLocalOptional: true }, new Ear());
  stream.close();
  (await accepting).close();
  const giveUp = linuxHost().connectStream!({ transport: "tcp", ...wish }, () => {
    throw new Error("It was given up");
  });
  giveUp();
  giveUp();
  assertEquals(await failure(wish), "address-in-use");
  taken.listener.close();
  listener.close();
});

test("what arrives is in memory whose slice() is a copy, as everywhere but in Node", async () => {
  const { listener, address } = listen();
  const chunks: Uint8Array[] = [];
  const arrived = Promise.withResolvers<void>();
  const ear = Object.assign(new Ear(), {
    onData(bytes: Uint8Array) {
      chunks.push(bytes);
      arrived.resolve();
    },
  });
  const [stream, conn] = await Promise.all([
    mustConnect({ remote: address, address: "127.0.0.1" }, ear),
    listener.accept(),
  ]);
  stream.resume();
  await conn.write(Uint8Array.of(1, 2, 3));
  await arrived.promise;
  const copy = chunks[0]!.slice();
  chunks[0]!.fill(9);
  assert(!copy.every((byte) => byte === 9));
  stream.close();
  conn.close();
  listener.close();
});
