// DTLS by the system's OpenSSL: sessions without a network, then in a driver on loopback.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { TransportAddress } from "../../../stun/address.ts";
import type { AcceptedConnection, CloseReason, Machine, MachineIo, Packet, SocketId } from "../../../stun/machine.ts";
import { denoHost } from "../../../stun/net/deno_host.ts";
import { Driver } from "../../../stun/net/driver.ts";
import type { DtlsDoor, DtlsSession } from "../../../stun/net/dtls.ts";
import type { StreamLimits } from "../../../stun/net/streams.ts";
import { shiftedHost } from "./shifted_host.ts";
import { type DatagramSocket, type Host, OpenError, PacketBatch } from "../../../stun/net/transport.ts";
import { Arrival } from "./_arrival.ts";

const read = (name: string) => Deno.readTextFileSync(new URL(`../../vectors/tls/${name}.pem`, import.meta.url));
const CA = read("ca");
const ONE = { certificate: read("one"), key: read("one_key") };
const TWO = { certificate: read("two"), key: read("two_key") };
const TRUST = { serverName: "localhost", ca: [CA] };
const DTLS = denoHost().dtls!;
const CLIENT = TransportAddress.of("192.0.2.1", 5000);
/** IPv4 and UDP headers. */
const HEADERS = 28;

function dtlsTest(name: string, work: () => void | Promise<void>): void {
  Deno.test({ name, ignore: DTLS.obstacle !== undefined, fn: work });
}

/** Datagrams that are on their way. */
class Wire {
  readonly toServer: Uint8Array[] = [];
  readonly toClient: Uint8Array[] = [];
  readonly heard: string[] = [];
  readonly door: DtlsDoor;
  readonly client: DtlsSession;
  server: DtlsSession | undefined;
  sessions = 0;

  constructor(serverName = "localhost") {
    const copy = (bytes: Uint8Array, offset: number, length: number) => bytes.slice(offset, offset + length);
    this.door = DTLS.open({
      tls: ONE,
      answer: (_to, bytes, offset, length) => void this.toClient.push(copy(bytes, offset, length)),
      carrier: () => {
        this.sessions++;
        return this.#carrier("server", this.toClient);
      },
    });
    this.client = DTLS.connect({ ca: [CA], serverName }, "127.0.0.1", this.#carrier("client", this.toServer));
    this.client.start();
  }

  #carrier(name: string, out: Uint8Array[]) {
    return {
      onDatagram: (bytes: Uint8Array, offset: number, length: number) =>
        void out.push(bytes.slice(offset, offset + length)),
      onPlain: (bytes: Uint8Array, offset: number, length: number) => {
        assert(offset >= 4);
        this.heard.push(`${name} ${new TextDecoder().decode(bytes.subarray(offset, offset + length))}`);
      },
    };
  }

  /** Hands a datagram to the server, from this address. */
  arrive(bytes: Uint8Array, from = CLIENT): void {
    if (this.server === undefined) this.server = this.door.receive(from, bytes, 0, bytes.length);
    else this.server.receive(bytes, 0, bytes.length);
  }

  /** Carries all there is to the other end, `order` deciding in which order, until nothing is left. */
  run(order: (flight: Uint8Array[]) => Uint8Array[] = (flight) => flight): void {
    for (let rounds = 0; this.toServer.length + this.toClient.length > 0 && rounds < 20; rounds++) {
      for (const bytes of order(this.toServer.splice(0))) this.arrive(bytes);
      for (const bytes of order(this.toClient.splice(0))) this.client.receive(bytes, 0, bytes.length);
    }
  }

  [Symbol.dispose](): void {
    this.client.close();
    this.server?.close();
    this.door.close();
  }
}

const text = (words: string) => new TextEncoder().encode(words);

dtlsTest(
  "RFC 8489 §6.2.3: a handshake, messages both ways each in its record, and an end that the other side hears of",
  () => {
    using wire = new Wire();
    wire.run();
    assertEquals([wire.client.state, wire.server!.state, wire.sessions], ["open", "open", 1]);
    wire.client.send(text("a request"), 2, 7);
    wire.server!.send(text("one"), 0, 3);
    wire.server!.send(text("two"), 0, 3);
    assertEquals([wire.toServer.length, wire.toClient.length], [1, 2]);
    wire.run();
    assertEquals(wire.heard, ["server request", "client one", "client two"]);
    wire.client.close();
    wire.run();
    assertEquals([wire.server!.state, wire.server!.failureText], ["closed", ""]);
  },
);

dtlsTest(
  "RFC 6347 §4.2.1: nothing is kept of a client before it shows its cookie, and the answer is shorter than what it sent",
  () => {
    using wire = new Wire();
    const [hello] = wire.toServer.splice(0);
    for (let i = 0; i < 1000; i++) wire.arrive(hello!, CLIENT.withPort(1000 + i));
    assertEquals([wire.sessions, wire.toClient.length], [0, 1000]);
    for (const verify of wire.toClient) assert(verify.length + HEADERS < hello!.length + HEADERS);
    const verify = wire.toClient.at(-1)!;
    wire.client.receive(verify, 0, verify.length);
    const [second] = wire.toServer.splice(0);
    wire.toClient.length = 0;
    // The cookie is good for the address it was sent to, and for no other.
    for (const from of [CLIENT.withPort(1), TransportAddress.of("192.0.2.2", 1999)]) wire.arrive(second!, from);
    assertEquals([wire.sessions, wire.toClient.length], [0, 2]);
    const forged = second!.slice();
    forged[forged.indexOf(verify.at(-1)!, 60)]! ^= 1;
    wire.arrive(forged, CLIENT.withPort(1999));
    assertEquals(wire.sessions, 0);
    wire.arrive(second!, CLIENT.withPort(1999));
    assertEquals([wire.sessions, wire.server!.state], [1, "handshake"]);
  },
);

dtlsTest(
  "RFC 6347 §4.2.1: the answer to the shortest ClientHello there is is 0.76 times as long, headers counted",
  () => {
    using wire = new Wire();
    const body = [0xfe, 0xfd, ...new Array(32).fill(7), 0, 0, 0, 2, 0xc0, 0x2b, 1, 0];
    const size = [0, 0, body.length];
    const handshake = [1, ...size, 0, 0, 0, 0, 0, ...size, ...body];
    const hello = Uint8Array.of(22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, handshake.length, ...handshake);
    wire.arrive(hello);
    const [answer] = wire.toClient;
    assertEquals([hello.length + HEADERS, answer!.length + HEADERS], [95, 72]);
    for (let length = 0; length < hello.length; length++) wire.arrive(hello.subarray(0, length));
    assertEquals([wire.toClient.length, wire.sessions], [1, 0]);
  },
);

dtlsTest("RFC 6347 §4.2: a handshake whose datagrams come twice, and in the reverse order, succeeds", () => {
  using wire = new Wire();
  wire.run((flight) => [...flight, ...flight].reverse());
  assertEquals([wire.client.state, wire.server!.state, wire.sessions], ["open", "open", 1]);
});

dtlsTest("a client takes only a certificate for the name, by somebody it trusts", () => {
  const cases = [[CA, "other.example", "is for another name"], [ONE.certificate, "localhost", "nobody who is trusted"]];
  for (const [ca, serverName, words] of cases) {
    using wire = new Wire();
    using _ = { [Symbol.dispose]: () => client.close() };
    const client = DTLS.connect({ ca: [ca!], serverName: serverName! }, "127.0.0.1", {
      onDatagram: (bytes, offset, length) => void wire.toServer.push(bytes.slice(offset, offset + length)),
      onPlain() {},
    });
    wire.toServer.length = 0;
    client.start();
    for (let rounds = 0; rounds < 4; rounds++) {
      for (const bytes of wire.toServer.splice(0)) wire.arrive(bytes);
      for (const bytes of wire.toClient.splice(0)) client.receive(bytes, 0, bytes.length);
    }
    assertEquals([client.state, client.failure], ["closed", "certificate"]);
    assert(client.failureText.includes(words!), client.failureText);
  }
});

dtlsTest("rubbish in place of DTLS: no exception, no state, and a handshake under way goes on", () => {
  using wire = new Wire();
  let seed = 7;
  const random = (below: number) => (seed = seed * 48271 % 0x7fffffff) % below;
  const [hello] = wire.toServer;
  for (let i = 0; i < 3000; i++) {
    const bytes = i % 3 === 0 ? Uint8Array.from({ length: random(300) }, () => random(256)) : hello!.slice();
    if (i % 3 === 1) bytes[random(bytes.length)] = random(256);
    wire.arrive(i % 3 === 2 ? bytes.subarray(0, random(bytes.length)) : bytes);
  }
  assertEquals(wire.sessions, 0);
  wire.toClient.length = 0;
  wire.run((flight) => flight.flatMap((bytes) => [Uint8Array.of(22, 254, 253, 0, 0, 1, 2), bytes]));
  assertEquals([wire.client.state, wire.server!.state], ["open", "open"]);
});

dtlsTest("a certificate that can not be used is refused, with why", () => {
  const open = (certificate: string, key: string) => () =>
    DTLS.open({ tls: { certificate, key }, answer() {}, carrier: () => ({ onDatagram() {}, onPlain() {} }) });
  assertThrows(open("none", ONE.key), OpenError, "Cannot serve DTLS");
  assertThrows(open(ONE.certificate, "none"), OpenError, "Cannot serve DTLS");
  assertThrows(open(ONE.certificate, TWO.key), OpenError, "Cannot serve DTLS");
  assertThrows(() => DTLS.connect({ ca: ["none"] }, "192.0.2.1", { onDatagram() {}, onPlain() {} }), OpenError, "PEM");
});

// In a driver.

/** Sends every message back, or closes. */
class Echo implements Machine {
  readonly deadline = Infinity;
  readonly accepted = new Arrival<AcceptedConnection>();
  readonly closed = new Arrival<CloseReason>();
  plain = 0;
  handleTimeout(): void {}
  handleAccepted(_socket: SocketId, connection: AcceptedConnection): void {
    this.accepted.put(connection);
  }
  handlePacket(packet: Packet, io: MachineIo): void {
    if (packet.bytes[0] === 0xff) return io.close(packet.socket);
    if (packet.bytes[0] === 0) this.plain++;
    io.send(packet.socket, packet.from, packet.buffer, packet.offset, packet.length);
  }
  handleClosed(_socket: SocketId, reason: CloseReason): void {
    this.closed.put(reason);
  }
}

class Client implements Machine {
  readonly deadline = Infinity;
  readonly messages = new Arrival<string>();
  readonly closed = new Arrival<CloseReason>();
  handleTimeout(): void {}
  handlePacket(packet: Packet): void {
    // What looks like ChannelData is padded.
    this.messages.put(new TextDecoder().decode(packet.bytes).replace(/\0+$/, ""));
  }
  handleClosed(_socket: SocketId, reason: CloseReason): void {
    this.closed.put(reason);
  }
}

/** A server and clients, on a host whose network does as `passes` says. */
class Rig {
  readonly echo = new Echo();
  readonly server: Driver;
  clients: Driver;
  readonly address: TransportAddress;
  readonly listener;

  constructor(limits: StreamLimits = {}, host: Host = denoHost(), only = false, serverHost: Host = denoHost()) {
    this.server = new Driver(serverHost);
    this.clients = new Driver(host);
    const handle = this.server.add(this.echo);
    const wish = { transport: "udp", address: "127.0.0.1", port: 0 } as const;
    this.listener = handle.bindDtls(wish, { tls: ONE, limits, only });
    this.address = this.listener.localAddress;
  }

  async connect(port = 0, tls: object = TRUST) {
    const machine = new Client();
    const handle = this.clients.add(machine);
    const local = { address: "127.0.0.1", port };
    const wish = { transport: "dtls", remote: this.address, tls, ...local } as const;
    const { socket, localAddress } = await handle.connect(wish);
    return {
      machine,
      port: localAddress.port,
      say: (words: string | Uint8Array) => {
        handle.call((io) => io.send(socket, this.address, typeof words === "string" ? text(words) : words));
        return machine.messages.take();
      },
      close: () => handle.call((io) => io.close(socket)),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.clients.close();
    await this.server.close();
  }
}

/** A host that loses or keeps back what it sends: `carry` gets each datagram, and sends what it likes. */
function strangeHost(carry: (bytes: Uint8Array, send: (bytes: Uint8Array) => void) => void): Host {
  const host = denoHost();
  return {
    ...host,
    openDatagram(wish, receiver) {
      const socket = host.openDatagram(wish, receiver);
      const strange: DatagramSocket = {
        localAddress: socket.localAddress,
        sendErrors: 0,
        send(batch) {
          for (let i = 0; i < batch.length; i++) {
            const to = batch.addresses[i]!;
            const bytes = batch.buffers[i]!.slice(batch.offsets[i]!, batch.offsets[i]! + batch.lengths[i]!);
            carry(bytes, (one) => {
              const out = new PacketBatch(1);
              out.push(to, one, 0, one.length);
              socket.send(out);
            });
          }
        },
        close: () => socket.close(),
        ...(socket.closed === undefined ? {} : { closed: socket.closed }),
      };
      return strange;
    },
  };
}

dtlsTest(
  "RFC 7983 §7: plain datagrams and DTLS on one port; an association is one more socket to the machine",
  async () => {
    await using rig = new Rig();
    const client = await rig.connect();
    assertEquals([rig.server.streamStats.accepted, rig.listener.connections], [1, 1]);
    assertEquals(await client.say("hello"), "hello");
    const { transport, listener, localAddress } = await rig.echo.accepted.take();
    assertEquals([transport, listener, localAddress], ["dtls", rig.listener.socket, rig.address]);
    const udp = new Client();
    const plain = rig.clients.add(udp);
    const { socket } = plain.bind({ transport: "udp", address: "127.0.0.1", port: 0 });
    plain.call((io) => io.send(socket, rig.address, Uint8Array.of(0, 1, 2)));
    await udp.messages.take();
    assertEquals(rig.echo.plain, 1);
    assertEquals((await client.say(new Uint8Array(16384).fill(65))).length, 16384);
    client.close();
    assertEquals(await rig.echo.closed.take(), "end");
    assertEquals([rig.server.streamStats.open, rig.clients.streamStats.open, rig.listener.connections], [0, 0, 0]);
  },
);

dtlsTest("RFC 6347 §4.2.4: what is lost of a handshake is repeated", async () => {
  const lost = [0, 3];
  let sent = 0;
  await using rig = new Rig({}, strangeHost((bytes, send) => lost.includes(sent++) ? undefined : send(bytes)));
  const client = await rig.connect();
  assertEquals(await client.say("hello"), "hello");
  assertEquals([rig.server.streamStats.accepted, rig.clients.streamStats.connected], [1, 1]);
});

dtlsTest("a server that ends the association, and one that is shut down, tell the client", async () => {
  await using rig = new Rig();
  const [one, two] = [await rig.connect(), await rig.connect()];
  await Promise.all([one.say("a"), two.say("b")]);
  one.say(Uint8Array.of(0xff));
  assertEquals(await one.machine.closed.take(), "end");
  assertEquals(rig.server.streamStats.open, 1);
  await rig.server.close();
  assertEquals(await two.machine.closed.take(), "end");
});

dtlsTest("RFC 6347 §4.2.8: a client that begins anew from the same port takes the place of what it had", async () => {
  let isMute = false;
  await using rig = new Rig({ maxPerAddress: 1 }, strangeHost((bytes, send) => isMute ? undefined : send(bytes)));
  const first = await rig.connect();
  await first.say("a");
  // Gone without a word, as when the program was killed.
  isMute = true;
  await rig.clients.close();
  isMute = false;
  rig.clients = new Driver(denoHost());
  const second = await rig.connect(first.port);
  assertEquals(await second.say("b"), "b");
  assertEquals(await rig.echo.closed.take(), "end");
  const { accepted, open, refusedPerAddress } = rig.server.streamStats;
  assertEquals([accepted, open, refusedPerAddress, rig.listener.connections], [2, 1, 0, 1]);
});

dtlsTest("limits: associations in all and by source, time for the handshake, time without a message", async () => {
  const [clients, server] = [shiftedHost(), shiftedHost()];
  await using rig = new Rig({ maxPerAddress: 2 }, clients.host, false, server.host);
  const [one, two] = [await rig.connect(), await rig.connect()];
  await Promise.all([one.say("a"), two.say("b")]);
  const third = new Client();
  const wish = { transport: "dtls", remote: rig.address, tls: TRUST, timeout: 60_000 } as const;
  const refused = assertRejects(() => rig.clients.add(third).connect(wish), OpenError);
  while (rig.server.streamStats.refusedPerAddress === 0) await new Promise((resolve) => setTimeout(resolve));
  clients.pass(60_000);
  assertEquals([(await refused).failure, rig.listener.connections], ["timeout", 2]);
  server.pass(3_660_000);
  assertEquals([await one.machine.closed.take(), await two.machine.closed.take()], ["end", "end"]);
  assertEquals([rig.server.streamStats.timedOut, rig.listener.connections], [2, 0]);
  // Done with the handshake, and then silent.
  const silent = await rig.connect();
  server.pass(10_000);
  assertEquals(await silent.machine.closed.take(), "end");
  assertEquals(rig.server.streamStats.timedOut, 3);
});

dtlsTest("a client that is refused or hears nothing gets an OpenError, and no socket stays open", async () => {
  await using rig = new Rig();
  const wrong = await assertRejects(() => rig.connect(0, { ...TRUST, serverName: "other.example" }), OpenError);
  assertEquals(wrong.failure, "certificate");
  assertEquals(await (await rig.connect(0, { insecureAcceptAnyCertificate: true })).say("x"), "x");
  const aborter = new AbortController();
  const nobody = TransportAddress.of("127.0.0.1", 9);
  const wish = { transport: "dtls", remote: nobody, tls: TRUST, timeout: 50 } as const;
  const late = await assertRejects(() => rig.clients.add(new Client()).connect(wish), OpenError);
  assertEquals(late.failure, "timeout");
  const given = rig.clients.add(new Client()).connect({ ...wish, timeout: 10_000 }, { signal: aborter.signal });
  aborter.abort();
  await assertRejects(() => given, DOMException);
  assertEquals(rig.clients.streamStats.open, 1);
});

dtlsTest("another certificate, and one for a name (SNI), without a restart", async () => {
  await using rig = new Rig();
  rig.listener.setTls({ ...TWO, names: new Map([["localhost", ONE]]) });
  assertEquals(await (await rig.connect()).say("one"), "one");
  assertEquals(await (await rig.connect(0, { ...TRUST, serverName: "two.example" })).say("two"), "two");
  assertThrows(() => rig.listener.setTls({ certificate: ONE.certificate, key: TWO.key }), OpenError);
  assertEquals(await (await rig.connect()).say("three"), "three");
});
