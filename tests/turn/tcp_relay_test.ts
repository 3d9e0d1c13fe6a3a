// RFC 6062 from the application's side, in the virtual internet: a server without credentials that is its clients' peer.
import { assertEquals, assertRejects } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { ERROR_CODE_ATTRIBUTE, XOR_MAPPED_ADDRESS } from "../../stun/attributes.ts";
import type { Machine, MachineIo, Packet, SocketId } from "../../stun/machine.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import { Driver, type MachineHandle } from "../../stun/net/driver.ts";
import { VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { allocateTcp, type RelayConnection } from "../../turn/allocate.ts";
import { CONNECTION_ID, LIFETIME, XOR_PEER_ADDRESS, XOR_RELAYED_ADDRESS } from "../../turn/attributes.ts";
import { TurnError } from "../../turn/error.ts";

const PEER = TransportAddress.parse("203.0.113.50:7");
const SERVER = TransportAddress.parse("198.51.100.1:3478");

/** Lends an address, and echoes what comes on the connections that it is asked for. */
class EchoServer implements Machine {
  readonly deadline = Infinity;
  /** The code for Connect requests; 0: success, -1: none. */
  connectCode = 0;
  /** Clients' control connections, in their order. */
  readonly controls: SocketId[] = [];
  /** Data connections that are open. */
  open = 0;
  handle!: MachineHandle<never>;
  #ids = 0;

  handleTimeout(): void {}

  handlePacket(packet: Packet, io: MachineIo): void {
    const request = StunMessage.parse(packet.bytes.slice());
    if (request?.class !== "request") return;
    const code = request.method === METHOD.CONNECT ? this.connectCode : 0;
    if (code === -1) return;
    const writer = new MessageWriter(new Uint8Array(128)).beginResponse(request, code === 0 ? "success" : "error");
    if (code !== 0) writer.add(ERROR_CODE_ATTRIBUTE, { code, reason: "" });
    else if (request.method === METHOD.ALLOCATE) {
      this.controls.push(packet.socket);
      writer.add(XOR_RELAYED_ADDRESS, SERVER.withPort(50_000)).add(XOR_MAPPED_ADDRESS, packet.from).add(LIFETIME, 600);
    } else if (request.method === METHOD.CONNECT) writer.add(CONNECTION_ID, ++this.#ids);
    io.send(packet.socket, packet.from, writer.finish());
    if (request.method !== METHOD.CONNECTION_BIND) return;
    io.unframe!(packet.socket);
    queueMicrotask(() => this.#echo(packet.socket));
  }

  /** Tells the client that a peer has connected. */
  attempt(port: number): void {
    const writer = new MessageWriter(new Uint8Array(64)).begin(
      METHOD.CONNECTION_ATTEMPT,
      "indication",
      new Uint8Array(12),
    )
      .add(CONNECTION_ID, ++this.#ids).add(XOR_PEER_ADDRESS, PEER.withPort(port));
    this.handle.call((io) => io.send(this.controls[0]!, SERVER, writer.finish()));
  }

  #echo(socket: SocketId): void {
    const { readable, writable } = this.handle.detach(socket);
    this.open++;
    readable.pipeTo(writable).catch(() => {}).finally(() => this.open--);
  }
}

function place() {
  const world = new VirtualWorld({ seed: 1, link: { delay: 5 } });
  const serverHost = world.addHost("server", { addresses: [SERVER.address] });
  const host = world.addHost("client", { addresses: ["203.0.113.1"] });
  const server = new EchoServer();
  const driver = new Driver(serverHost);
  server.handle = driver.add<never>(server);
  server.handle.listenStream({ transport: "tcp", address: SERVER.address, port: SERVER.port });
  return { world, server, open: () => allocateTcp({ server: `turn:${SERVER}`, host }) };
}

async function exchange({ readable, writable }: RelayConnection, text: string): Promise<string> {
  const [reader, writer] = [readable.getReader(), writable.getWriter()];
  await writer.write(new TextEncoder().encode(text));
  const { value } = await reader.read();
  reader.releaseLock();
  writer.releaseLock();
  return new TextDecoder().decode(value);
}

Deno.test("TcpRelay.connect(): streams to a peer and back, several at once", async () => {
  const { world, server, open } = place();
  await world.run(async () => {
    await using relay = await open();
    assertEquals(String(relay.relayedAddress), "198.51.100.1:50000");
    const [one, other] = await Promise.all([relay.connect(PEER), relay.connect(PEER.withPort(8))]);
    assertEquals([one.peer, other.peer].map(String), ["203.0.113.50:7", "203.0.113.50:8"]);
    assertEquals(await Promise.all([exchange(one, "hello"), exchange(other, "there")]), ["hello", "there"]);
    one.close();
    await world.sleep(100);
    assertEquals(server.open, 1);
    assertEquals(await exchange(other, "still"), "still");
    // Closing the relay ends the rest.
    await relay.close();
    await world.sleep(100);
    assertEquals(server.open, 0);
  });
});

Deno.test("TcpRelay: peers' connections come by iteration; what is not read is bounded, and closed with the relay", async () => {
  const { world, server, open } = place();
  await world.run(async () => {
    const relay = await open();
    server.attempt(1);
    for await (const connection of relay) {
      assertEquals([String(connection.peer), await exchange(connection, "hi")], ["203.0.113.50:1", "hi"]);
      connection.close();
      break;
    }
    for (let port = 2; port < 72; port++) {
      server.attempt(port);
      await world.sleep(50);
    }
    await world.sleep(200);
    assertEquals([server.open, relay.stats().droppedUnread], [64, 6]);
    await relay.close();
    assertEquals(await relay[Symbol.asyncIterator]().next(), { done: true, value: undefined });
    await world.sleep(100);
    assertEquals(server.open, 0);
  });
});

Deno.test("TcpRelay.connect(): each way to fail", async () => {
  const { world, server, open } = place();
  await world.run(async () => {
    const relay = await open();
    server.connectCode = 447;
    assertEquals((await assertRejects(() => relay.connect(PEER), TurnError)).code, 447);
    await assertRejects(() => relay.connect(PEER, { signal: AbortSignal.abort(new Error("no")) }), Error, "no");
    // Of two for the same peer each gets its own answer.
    server.connectCode = 0;
    const first = relay.connect(PEER);
    await world.sleep(15);
    server.connectCode = 446;
    const [one, other] = await Promise.allSettled([first, relay.connect(PEER)]);
    assertEquals([one.status, other.status], ["fulfilled", "rejected"]);
    server.connectCode = -1;
    const waiting = assertRejects(() => relay.connect(PEER), Error, "The relay was closed");
    const reading = relay[Symbol.asyncIterator]().next();
    await relay.close();
    await waiting;
    assertEquals((await reading).done, true);
    await assertRejects(() => relay.connect(PEER), Error, "as the relay is closed");
  });
});

Deno.test("TcpRelay.connect(): a connection that nobody waits for any more is closed when it comes", async () => {
  const { world, server, open } = place();
  await world.run(async () => {
    await using relay = await open();
    const aborter = new AbortController();
    const connecting = assertRejects(() => relay.connect(PEER, { signal: aborter.signal }), Error, "enough");
    await world.sleep(5);
    aborter.abort(new Error("enough"));
    await connecting;
    await world.sleep(200);
    assertEquals(server.open, 0);
    using connection = await relay.connect(PEER);
    assertEquals(await exchange(connection, "again"), "again");
  });
});

Deno.test("TcpRelay: when the server ends the control connection, whoever waits or reads is told", async () => {
  const { world, server, open } = place();
  await world.run(async () => {
    const relay = await open();
    server.connectCode = -1;
    const waiting = assertRejects(() => relay.connect(PEER), Error, "Cannot keep the allocation");
    const reading = assertRejects(() => relay[Symbol.asyncIterator]().next(), Error, "Cannot keep the allocation");
    await world.sleep(5);
    server.handle.call((io) => io.close(server.controls[0]!));
    await Promise.all([waiting, reading]);
    await assertRejects(() => relay.connect(PEER), Error, "as the allocation is lost");
    await relay.close();
  });
});

Deno.test("allocateTcp(): over UDP there is none", async () => {
  const { world } = place();
  await world.run(() => assertRejects(() => allocateTcp({ server: "turn:198.51.100.1?transport=udp" }), SyntaxError));
});
