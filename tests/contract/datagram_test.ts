// What every host must do alike, since the same driver and the same machines run on all of them.
import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { denoHost } from "../../stun/net/deno_host.ts";
import { linuxHost, pickHost } from "../../stun/net/linux_host.ts";
import {
  type DatagramSocket,
  HEADROOM,
  type Host,
  MAX_DATAGRAM,
  OpenError,
  PacketBatch,
  RECEIVE_SIZE,
} from "../../stun/net/transport.ts";
import { VirtualWorld } from "../../stun/net/virtual/mod.ts";

/** A host, and how a program on it is run. */
interface Rig {
  readonly host: Host;
  run(program: () => Promise<void>): Promise<void>;
}

const RIGS: Record<string, () => Rig> = {
  "virtual host"() {
    const world = new VirtualWorld({ seed: 1 });
    const host = world.addHost("host", { addresses: ["192.0.2.1"] });
    return { host, run: (program) => world.run(program) };
  },
  "denoHost()": () => ({ host: denoHost(), run: (program) => program() }),
};
if (pickHost("auto").io === "linux") {
  RIGS["linuxHost()"] = () => ({ host: linuxHost(), run: (program) => program() });
}

const CASES: Record<string, (host: Host) => Promise<void>> = {
  async "datagrams of any size arrive whole, with their sender's address"(host) {
    using a = new Endpoint(host);
    using b = new Endpoint(host);
    for (const size of [0, 1, 1200, 9000, MAX_DATAGRAM]) {
      const bytes = Uint8Array.from({ length: size }, (_, i) => i * 7);
      a.send(b.address, bytes);
      await b.got(1);
      const { from, payload } = b.take();
      assertEquals([from.toString(), payload.length], [a.address.toString(), size]);
      assert(payload.every((byte, i) => byte === bytes[i]));
    }
  },

  async "over IPv6 a datagram may be 20 bytes longer"(host) {
    using a = new Endpoint(host, "::1");
    using b = new Endpoint(host, "::1");
    a.send(b.address, new Uint8Array(RECEIVE_SIZE + 1));
    a.send(b.address, new Uint8Array(RECEIVE_SIZE).fill(7));
    await b.got(1);
    const { payload } = b.take();
    assertEquals([payload.length, payload.at(-1), a.socket.sendErrors], [65527, 7, 1]);
  },

  async "all of a batch is sent, in order, each to its own address"(host) {
    using a = new Endpoint(host);
    using b = new Endpoint(host);
    using c = new Endpoint(host);
    const batch = new PacketBatch(64);
    for (let i = 0; i < 64; i++) batch.push(i % 3 === 0 ? c.address : b.address, Uint8Array.of(0, i, 0), 1, 1);
    a.socket.send(batch);
    await b.got(42);
    await c.got(22);
    const first = (endpoint: Endpoint) => endpoint.received.map(({ payload }) => payload[0]!);
    const all = Array.from({ length: 64 }, (_, i) => i);
    assertEquals(first(b), all.filter((i) => i % 3 !== 0));
    assertEquals(first(c), all.filter((i) => i % 3 === 0));
    assertEquals(a.socket.sendErrors, 0);
  },

  async "batch and memory are the sender's again as soon as send() returns"(host) {
    using a = new Endpoint(host);
    using b = new Endpoint(host);
    const batch = new PacketBatch(2);
    const bytes = new Uint8Array(100);
    for (let i = 1; i <= 20; i++) {
      bytes.fill(i);
      batch.push(b.address, bytes, 10, 50);
      a.socket.send(batch);
      batch.length = 0;
    }
    bytes.fill(0xff);
    await b.got(20);
    b.received.forEach(({ payload }, i) => assertEquals(payload, new Uint8Array(50).fill(i + 1)));
  },

  async "received datagrams have headroom that may be written to"(host) {
    using a = new Endpoint(host);
    using b = new Endpoint(host);
    const seen: number[] = [];
    b.onBatch = (batch) => {
      for (let i = 0; i < batch.length; i++) {
        const offset = batch.offsets[i]!;
        assert(offset >= HEADROOM, `${offset} bytes of headroom`);
        batch.buffers[i]!.fill(0xee, offset - HEADROOM, offset);
        seen.push(batch.buffers[i]![offset]!);
      }
    };
    for (let i = 0; i < 5; i++) a.send(b.address, Uint8Array.of(i));
    await b.got(5);
    assertEquals(seen, [0, 1, 2, 3, 4]);
  },

  async "an answer can be sent from inside the receiver, and out of its memory"(host) {
    using a = new Endpoint(host);
    using b = new Endpoint(host);
    const out = new PacketBatch(1);
    b.onBatch = (batch) => {
      out.length = 0;
      const offset = batch.offsets[0]! - 2;
      batch.buffers[0]!.set([0x40, 0x00], offset);
      out.push(batch.addresses[0]!, batch.buffers[0]!, offset, batch.lengths[0]! + 2);
      b.socket.send(out);
    };
    a.send(b.address, Uint8Array.of(1, 2, 3));
    await a.got(1);
    const { from, payload } = a.take();
    assertEquals([from.key, payload], [b.address.key, Uint8Array.of(0x40, 0x00, 1, 2, 3)]);
  },

  async "IPv6 works as IPv4 does"(host) {
    using a = new Endpoint(host, "::1");
    using b = new Endpoint(host, "::1");
    assertEquals(a.address.family, 6);
    a.send(b.address, Uint8Array.of(6));
    await b.got(1);
    assert(b.take().from.equals(a.address));
  },

  async "0.0.0.0 and :: stand for all addresses, loopback among them"(host) {
    for (const [wildcard, loopback] of [["0.0.0.0", "127.0.0.1"], ["::", "::1"]] as const) {
      using all = new Endpoint(host, wildcard);
      using one = new Endpoint(host, loopback);
      assertEquals(all.address.address, wildcard);
      one.send(TransportAddress.of(loopback, all.address.port), Uint8Array.of(1));
      await all.got(1);
      all.send(all.take().from, Uint8Array.of(2));
      await one.got(1);
      assertEquals(String(one.take().from), String(TransportAddress.of(loopback, all.address.port)));
    }
  },

  "port 0 takes a free port, and localAddress tells which"(host) {
    using a = new Endpoint(host);
    using b = new Endpoint(host);
    assertEquals([a.address.address, b.address.address], ["127.0.0.1", "127.0.0.1"]);
    assert(a.address.port > 1023 && b.address.port > 1023 && a.address.port !== b.address.port);
    return Promise.resolve();
  },

  "a taken port and a foreign address are refused by name"(host) {
    using a = new Endpoint(host);
    const failure = (address: string, port: number) =>
      assertThrows(() => host.openDatagram({ transport: "udp", address, port }, () => {}), OpenError).failure;
    assertEquals(failure("127.0.0.1", a.address.port), "address-in-use");
    assertEquals(failure("198.51.100.77", 0), "address-not-available");
    return Promise.resolve();
  },

  async "a closed socket sends nothing, can be closed again, and its port is soon free"(host) {
    using a = new Endpoint(host);
    using marker = new Endpoint(host);
    const b = new Endpoint(host);
    b.socket.close();
    b.socket.close();
    b.send(a.address, Uint8Array.of(1));
    // Not at once: Deno lets go of a socket when its pending receive has been cancelled.
    a.send(marker.address, Uint8Array.of(0));
    await marker.got(1);
    using again = new Endpoint(host, "127.0.0.1", b.address.port);
    again.send(a.address, Uint8Array.of(2));
    await a.got(1);
    assertEquals(a.received.map(({ payload }) => payload[0]), [2]);
  },

  async "what was sent before close() still leaves"(host) {
    using b = new Endpoint(host);
    const a = new Endpoint(host);
    for (let i = 0; i < 5; i++) a.send(b.address, Uint8Array.of(i));
    a.socket.close();
    await b.got(5);
    assertEquals(b.received.map(({ payload }) => payload[0]), [0, 1, 2, 3, 4]);
  },

  async "a receiver that closes its socket hears nothing more"(host) {
    using a = new Endpoint(host);
    using b = new Endpoint(host);
    using marker = new Endpoint(host);
    let batches = 0;
    b.onBatch = () => {
      batches++;
      b.socket.close();
    };
    // More than any host hands over as one batch.
    for (let i = 0; i < 200; i++) a.send(b.address, Uint8Array.of(i));
    await b.got(1);
    a.send(marker.address, Uint8Array.of(9));
    await marker.got(1);
    assertEquals(batches, 1);
  },

  async "nobody at the other end is no error, and harms no socket"(host) {
    const gone = new Endpoint(host);
    gone.socket.close();
    using a = new Endpoint(host);
    using b = new Endpoint(host);
    for (let i = 0; i < 3; i++) {
      a.send(gone.address, Uint8Array.of(i));
      b.send(a.address, Uint8Array.of(i));
      await a.got(i + 1);
    }
    a.send(b.address, Uint8Array.of(7));
    await b.got(1);
    assertEquals(b.take().payload, Uint8Array.of(7));
  },

  async "a datagram that is too big is a send error, and nothing else suffers"(host) {
    using a = new Endpoint(host);
    using b = new Endpoint(host);
    a.send(b.address, new Uint8Array(MAX_DATAGRAM + 1));
    a.send(b.address, Uint8Array.of(1));
    await b.got(1);
    assertEquals(b.received.map(({ payload }) => payload.length), [1]);
    assertEquals(a.socket.sendErrors, 1);
  },

  async "an alarm rings once, not before its time; setting it anew moves it"(host) {
    const rung: string[] = [];
    const start = host.now();
    const ring = (name: string, done?: () => void) => {
      const timer = host.createTimer(() => {
        assert(host.now() >= start + Number(name.split(" ")[1]), `${name} rang at ${host.now() - start}`);
        rung.push(name);
        done?.();
      });
      return timer;
    };
    const { promise, resolve } = Promise.withResolvers<void>();
    const moved = ring("moved 12");
    const sooner = ring("sooner 3");
    const never = ring("never 0");
    const last = ring("last 20", resolve);
    // In the order of their times: a pause between these lines does not change it.
    sooner.set(start + 60_000);
    sooner.set(start + 3);
    moved.set(start + 1);
    moved.set(start + 12);
    never.set(start + 2);
    never.set(Infinity);
    last.set(start + 20);
    await promise;
    assertEquals(rung, ["sooner 3", "moved 12", "last 20"]);
  },

  async "an alarm for a time that has passed rings at once, but not inside set()"(host) {
    const { promise, resolve } = Promise.withResolvers<void>();
    let isInside = true;
    const timer = host.createTimer(() => {
      assert(!isInside);
      resolve();
    });
    timer.set(host.now() - 5);
    isInside = false;
    await promise;
  },

  async "an address resolves to itself, and localhost to loopback"(host) {
    assertEquals(await host.resolve("192.0.2.7"), ["192.0.2.7"]);
    assertEquals(await host.resolve("[2001:db8::7]"), ["2001:db8::7"]);
    assertEquals(await host.resolve("localhost"), ["127.0.0.1", "::1"]);
  },

  "interfaces() names each address, without zones"(host) {
    const found = host.interfaces();
    assert(found.some(({ address }) => address === "127.0.0.1"));
    for (const { name, address } of found) {
      assertNotEquals(name, "");
      assert(!address.includes("%"));
      TransportAddress.of(address, 0);
    }
    return Promise.resolve();
  },

  "random bytes differ"(host) {
    const [one, other] = [new Uint8Array(32), new Uint8Array(32)];
    host.random.fill(one);
    host.random.fill(other);
    assertNotEquals(one, other);
    return Promise.resolve();
  },
};

for (const [name, rig] of Object.entries(RIGS)) {
  for (const [title, test] of Object.entries(CASES)) {
    Deno.test(`Host contract, ${name}: ${title}`, async () => {
      const { host, run } = rig();
      await run(() => test(host));
    });
  }
}

Deno.test("Host contract, virtual host: a name that nobody has is an error", async () => {
  await assertRejects(() => RIGS["virtual host"]!().host.resolve("nobody.example.org"), Error, "Cannot find name");
});

/** A socket that keeps copies of what it got. */
class Endpoint implements Disposable {
  readonly socket: DatagramSocket;
  readonly received: { readonly from: TransportAddress; readonly payload: Uint8Array }[] = [];
  onBatch: (batch: PacketBatch) => void = () => {};
  #taken = 0;
  #waiting: { readonly count: number; readonly resolve: () => void } | undefined;

  constructor(host: Host, address = "127.0.0.1", port = 0) {
    this.socket = host.openDatagram({ transport: "udp", address, port }, (batch) => this.#receive(batch));
  }

  get address(): TransportAddress {
    return this.socket.localAddress;
  }

  send(to: TransportAddress, bytes: Uint8Array): void {
    const batch = new PacketBatch(1);
    batch.push(to, bytes, 0, bytes.length);
    this.socket.send(batch);
  }

  /** Waits until so many have arrived since the last `take()`. */
  got(count: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting = { count: this.#taken + count, resolve };
    this.#check();
    return promise;
  }

  take(): Endpoint["received"][number] {
    return this.received[this.#taken++]!;
  }

  [Symbol.dispose](): void {
    this.socket.close();
  }

  #receive(batch: PacketBatch): void {
    for (let i = 0; i < batch.length; i++) {
      const offset = batch.offsets[i]!;
      const payload = batch.buffers[i]!.slice(offset, offset + batch.lengths[i]!);
      this.received.push({ from: batch.addresses[i]!, payload });
    }
    this.onBatch(batch);
    this.#check();
  }

  #check(): void {
    if (this.#waiting !== undefined && this.received.length >= this.#waiting.count) this.#waiting.resolve();
  }
}
