import { assert, assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import fc from "fast-check";
import { TransportAddress } from "../../stun/address.ts";
import {
  ERROR_CODE_ATTRIBUTE,
  MAPPED_ADDRESS,
  SOFTWARE,
  UNKNOWN_ATTRIBUTES,
  XOR_MAPPED_ADDRESS,
} from "../../stun/attributes.ts";
import { BindingClient, type BindingClientEvent } from "../../stun/client.ts";
import { CHANGED_ADDRESS, OTHER_ADDRESS, SOURCE_ADDRESS } from "../../stun/discovery_attributes.ts";
import { StunError, StunProtocolError, StunTimeoutError } from "../../stun/error.ts";
import type { Machine, Packet } from "../../stun/machine.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import { Driver } from "../../stun/net/driver.ts";
import { type Host, OpenError } from "../../stun/net/transport.ts";
import { type VirtualHost, VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { requestBinding } from "../../stun/request.ts";
import { RtoCache } from "../../stun/rto_cache.ts";
import { serveStun } from "../../stun/serve.ts";
import { recordedPacket, RecordingIo } from "../_recorder.ts";

const SERVER = TransportAddress.parse("198.51.100.1:3478");
const LOCAL = TransportAddress.parse("192.168.1.2:50000");
const MAPPED = TransportAddress.parse("203.0.113.1:40000");

type Answer = (request: StunMessage, packet: Packet) => Uint8Array | undefined;

/** A server that answers as told. */
function serve(host: Host, answer: Answer, address: TransportAddress = SERVER): void {
  const machine: Machine = {
    deadline: Infinity,
    handleTimeout() {},
    handlePacket(packet, io) {
      const bytes = answer(StunMessage.parse(packet.bytes)!, packet);
      if (bytes !== undefined) io.send(packet.socket, packet.from, bytes);
    },
  };
  new Driver(host).add(machine).bind({ transport: "udp", address: address.address, port: address.port });
}

function success(request: StunMessage, add: (writer: MessageWriter) => unknown): Uint8Array {
  const writer = new MessageWriter(new Uint8Array(512)).beginResponse(request, "success");
  add(writer);
  return writer.finish();
}

/** A server and a client behind a NAT, 10 ms a link: a round trip takes 60 ms. */
function home(): { world: VirtualWorld; server: VirtualHost; alice: VirtualHost } {
  const world = new VirtualWorld({ seed: 1, link: { delay: 10 } });
  const server = world.addHost("server", { addresses: ["198.51.100.1", "2001:db8::1"] });
  const nat = world.addNat("home", { external: ["203.0.113.1"] });
  const alice = nat.addHost("alice", { addresses: ["192.168.1.2"] });
  return { world, server, alice };
}

Deno.test("RFC 8489 §2: behind a NAT the mapped address is the NAT's, and the local one our own", async () => {
  const { world, server, alice } = home();
  serve(server, (request, { from }) => success(request, (writer) => writer.add(XOR_MAPPED_ADDRESS, from)));
  world.names.set("stun.example.org", ["198.51.100.1"]);
  const result = await world.run(() => requestBinding({ server: "stun:stun.example.org", host: alice }));
  assertEquals(result.mapped.address, "203.0.113.1");
  assertEquals(result.local.address, "192.168.1.2");
  assertEquals([String(result.server), result.rtt, result.sends], [String(SERVER), 60, 1]);
  assertEquals(Object.keys(result).sort(), ["local", "mapped", "rtt", "sends", "server"]);
  assertEquals(world.inFlight, 0);
});

Deno.test("RFC 8489 §6.2.1: lost requests are repeated at 500 and 1500 ms", async () => {
  const { world, server, alice } = home();
  let asked = 0;
  serve(
    server,
    (request) => ++asked < 3 ? undefined : success(request, (writer) => writer.add(XOR_MAPPED_ADDRESS, MAPPED)),
  );
  const { rtt, sends } = await world.run(() => requestBinding({ server: SERVER, host: alice }));
  assertEquals([rtt, sends], [1560, 3]);
});

Deno.test("RFC 8489 §6.2.1: a silent server is given up after 39500 ms, or as rto, rc and rm say", async () => {
  const { world, server, alice } = home();
  const times: number[] = [];
  serve(server, () => void times.push(world.now));
  const error = await assertRejects(
    () => world.run(() => requestBinding({ server: SERVER, host: alice })),
    StunTimeoutError,
  );
  assertEquals(
    error.message,
    `Cannot ask ${SERVER} for the mapped address: ${SERVER} did not answer 7 requests`,
  );
  assertEquals(world.now, 39_500);
  assertEquals(times.map((time) => time - 30), [0, 500, 1500, 3500, 7500, 15500, 31500]);
  const options = { server: SERVER, host: alice, rto: 100, rc: 2, rm: 3 };
  await assertRejects(() => world.run(() => requestBinding(options)), StunTimeoutError, "did not answer 2 requests");
  assertEquals(world.now, 39_500 + 400);
});

Deno.test("RFC 8489 §6.3.4: an error response is an error with its code and reason, on one line", async () => {
  const { world, server, alice } = home();
  serve(server, (request) =>
    new MessageWriter(new Uint8Array(128)).beginResponse(request, "error")
      .add(ERROR_CODE_ATTRIBUTE, { code: 420, reason: "Un\u001b[31mknown\r\nAttribute " })
      .add(UNKNOWN_ATTRIBUTES, [0x7abc]).finish());
  const error = await assertRejects(
    () => world.run(() => requestBinding({ server: SERVER, host: alice })),
    StunError,
    "420 Un [31mknown Attribute",
  );
  assertEquals(error.code, 420);
});

Deno.test("RFC 8489 §11: a server of RFC 3489 has MAPPED-ADDRESS only, and attributes that are required there", async () => {
  const { world, server, alice } = home();
  serve(
    server,
    (request) =>
      success(
        request,
        (writer) =>
          writer.add(MAPPED_ADDRESS, MAPPED).add(SOURCE_ADDRESS, SERVER).add(CHANGED_ADDRESS, SERVER.withPort(3479)),
      ),
  );
  const { mapped, otherAddress } = await world.run(() => requestBinding({ server: SERVER, host: alice }));
  assertEquals([String(mapped), String(otherAddress)], [String(MAPPED), String(SERVER.withPort(3479))]);
});

Deno.test("RFC 8489 §6.3.3: XOR-MAPPED-ADDRESS goes before MAPPED-ADDRESS, which a NAT may have rewritten", async () => {
  const { world, server, alice } = home();
  serve(
    server,
    (request) =>
      success(
        request,
        (writer) =>
          writer.add(MAPPED_ADDRESS, LOCAL).add(XOR_MAPPED_ADDRESS, MAPPED).add(SOFTWARE, "a\nb").add(
            OTHER_ADDRESS,
            SERVER,
          ),
      ),
  );
  const { mapped, software, otherAddress } = await world.run(() => requestBinding({ server: SERVER, host: alice }));
  assertEquals([String(mapped), software, String(otherAddress)], [String(MAPPED), "a b", String(SERVER)]);
});

Deno.test("RFC 8489 §6.3.3: an answer without a mapped address, or with what is not known, is of no use", async () => {
  const { world, server, alice } = home();
  const strange = { type: 0x7abc, name: "?", read: () => undefined, write() {} };
  const answers: Answer[] = [
    (request) => success(request, () => {}),
    (request) => success(request, (writer) => writer.add(XOR_MAPPED_ADDRESS, MAPPED).add(strange, undefined)),
    (request) => new MessageWriter(new Uint8Array(64)).beginResponse(request, "error").finish(),
  ];
  serve(server, (request) => answers.shift()!(request, undefined!));
  for (const why of ["has no mapped address", "not known here: 0x7abc", "without a valid ERROR-CODE"]) {
    await assertRejects(() => world.run(() => requestBinding({ server: SERVER, host: alice })), StunProtocolError, why);
  }
});

Deno.test("requestBinding(): names, IP versions, and what cannot be used", async () => {
  const world = new VirtualWorld();
  const server = world.addHost("server", { addresses: ["198.51.100.1", "2001:db8::1"] });
  const alice = world.addHost("alice", { addresses: ["198.51.100.2", "2001:db8::2"] });
  await using _service = serveStun({ listen: [String(SERVER), "[2001:db8::1]:3478"], host: server });
  world.names.set("stun.example.org", ["198.51.100.1", "2001:db8::1"]);
  const ask = (server: string, localAddress?: string) =>
    world.run(() => requestBinding({ server, host: alice, rc: 1, ...(localAddress && { localAddress }) }));
  assertEquals((await ask("stun:stun.example.org")).mapped.address, "198.51.100.2");
  const six = await ask("stun:stun.example.org", "2001:db8::2");
  assertEquals([six.mapped.address, six.local.address], ["2001:db8::2", "2001:db8::2"]);
  assertEquals((await ask("stun:[2001:db8::1]")).local.address, "2001:db8::2");
  await assertRejects(() => ask("stun:198.51.100.1", "2001:db8::2"), Error, `"198.51.100.1" has no IPv6 address`);
  await assertRejects(() => ask("stun:nowhere.example.org"), Error, `Cannot find name "nowhere.example.org"`);
  await assertRejects(() => ask("stun.example.org"), SyntaxError, "must begin with stun:");
  await assertRejects(() => ask("turn:stun.example.org"), SyntaxError, "must begin with stun:");
  await assertRejects(() => ask("stuns:stun.example.org"), OpenError, "nobody listens there");
  await assertRejects(() => ask("stun:198.51.100.1", "203.0.113.9"), OpenError, "Cannot bind UDP 203.0.113.9");
});

Deno.test("requestBinding(): a signal ends the wait with its reason, and leaves nothing behind", async () => {
  const { world, server, alice } = home();
  serve(server, () => undefined);
  const controller = new AbortController();
  const reason = new Error("enough");
  world.after(700, () => controller.abort(reason));
  const pending = () => world.run(() => requestBinding({ server: SERVER, host: alice, signal: controller.signal }));
  assertEquals(await assertRejects(pending), reason);
  assertEquals(world.now, 700);
  assertEquals(await assertRejects(pending), reason);
  world.runUntilIdle();
  assertEquals(alice.counters.sent, 2);
});

Deno.test("requestBinding(): over real loopback, against our own server and against nobody", async () => {
  await using service = serveStun({ listen: ["127.0.0.1:0", "[::1]:0"] });
  for (const address of service.addresses.slice(0, 2)) {
    const { mapped, local, sends } = await requestBinding({ server: address });
    assertEquals([String(mapped), sends], [String(local), 1]);
    assertEquals(local.address, address.address);
  }
  const nobody = { server: "stun:127.0.0.1:9", rto: 1, rc: 2, rm: 2 };
  await assertRejects(() => requestBinding(nobody), StunTimeoutError, "127.0.0.1:9 did not answer 2 requests");
});

/** A machine that has asked, and how to hand it packets. */
function asking() {
  const io = new RecordingIo<BindingClientEvent>();
  const client = new BindingClient({ server: SERVER, localAddress: "0.0.0.0" });
  client.request(io);
  const { socket } = io.takeOpens()[0]!;
  client.handleOpened(socket, LOCAL, io);
  const request = StunMessage.parse(io.sends[0]!.bytes)!;
  const receive = (bytes: Uint8Array, from = SERVER, on = socket) =>
    client.handlePacket(recordedPacket(on, from, bytes), io);
  return { io, client, request, receive, socket };
}

Deno.test("RFC 8489 §6: a Binding request is a header and nothing else", () => {
  const { io, request, socket } = asking();
  assertEquals(request.bytes.length, 20);
  assertEquals([request.method, request.class, request.hasCookie], [METHOD.BINDING, "request", true]);
  assertEquals([io.sends.length, io.sends[0]!.socket, String(io.sends[0]!.to)], [1, socket, String(SERVER)]);
});

Deno.test("RFC 8489 §6.3: only the server's answer to this very request counts", () => {
  const { io, client, request, receive, socket } = asking();
  io.events.length = 0;
  const answer = success(request, (writer) => writer.add(XOR_MAPPED_ADDRESS, MAPPED));
  const otherMethod = answer.slice();
  otherMethod[1] = 0x03;
  const otherTransaction = answer.slice();
  otherTransaction[19] = otherTransaction[19]! ^ 1;
  const otherCookie = answer.slice();
  otherCookie[4] = 0x20;
  receive(otherCookie);
  receive(answer, SERVER.withPort(3479));
  receive(answer, TransportAddress.parse("198.51.100.2:3478"));
  receive(answer, SERVER, socket + 1);
  receive(otherMethod);
  receive(otherTransaction);
  receive(request.bytes);
  receive(new Uint8Array());
  receive(answer.subarray(0, 24));
  assertEquals(io.events, []);
  assertEquals(client.deadline, io.now + 500);
  receive(answer);
  receive(answer);
  assertEquals(io.events.map(({ type }) => type), ["answered"]);
  assertEquals(client.deadline, Infinity);
});

Deno.test("RFC 8489 §6.3: no datagram whatever makes the client throw, and none but an answer ends its wait", () => {
  fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 80 }), { maxLength: 20 }), (packets) => {
    const { io, client, receive } = asking();
    io.events.length = 0;
    for (const bytes of packets) receive(bytes);
    assertEquals([io.events, client.deadline], [[], io.now + 500]);
  }));
  // The right header with any attributes: an answer, an error, or of no use, but never an exception.
  fc.assert(fc.property(fc.constantFrom(0x0101, 0x0111), fc.uint8Array({ maxLength: 80 }), (type, rest) => {
    const { io, request, receive } = asking();
    const bytes = new Uint8Array(20 + (rest.length & ~3));
    bytes.set(request.bytes);
    bytes.set(rest.subarray(0, rest.length & ~3), 20);
    bytes[0] = type >> 8;
    bytes[1] = type & 255;
    bytes[3] = bytes.length - 20;
    receive(bytes);
    assert(io.events.length <= 2);
    for (const event of io.events) if (event.type === "failed") assertInstanceOf(event.error, Error);
  }));
});

Deno.test("RFC 8489 §6.2.1: a slow server's answers teach requestBinding() to wait longer before it asks again", async () => {
  const world = new VirtualWorld({ seed: 1, link: { delay: 150 } });
  const server = world.addHost("server", { addresses: ["198.51.100.1"] });
  const alice = world.addHost("alice", { addresses: ["198.51.100.2"] });
  await using _service = serveStun({ listen: [SERVER], host: server });
  const rtoCache = new RtoCache();
  const ask = () => world.run(() => requestBinding({ server: SERVER, host: alice, rtoCache }));
  assertEquals([(await ask()).sends, (await ask()).sends], [2, 1]);
  // 600 ms, and half of that as variation.
  assertEquals(rtoCache.rtoFor(SERVER, world.now), 600 + 4 * 300);
});
