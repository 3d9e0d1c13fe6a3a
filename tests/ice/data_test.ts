import { assertEquals, assertLess } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { MessageWriter, METHOD } from "../../stun/message.ts";
import { PEER, Rig } from "./rig.ts";

const OTHER = TransportAddress.parse("203.0.113.9:7777");
const DATA = new Uint8Array([200, 1, 2, 3]);

Deno.test("RFC 8445 §12.1.1: data flows on the first valid pair, before any nomination, both ways", () => {
  const rig = Rig.checking({ role: "controlled" });
  assertEquals(rig.agent.send(DATA, rig.io), false);
  rig.succeed(rig.lastRequest());
  assertEquals(rig.agent.state, "connected");
  assertEquals(rig.agent.send(DATA, rig.io), true);
  const last = rig.sent.at(-1)!;
  assertEquals([last.socket, String(last.to), last.bytes], [1, String(PEER), DATA]);
  rig.receive(DATA);
  assertEquals(rig.delivered, [{ from: PEER, bytes: DATA, flow: 0 }]);
  const { packetsSent, packetsReceived, bytesSent, bytesReceived } = rig.agent.selectedPair!.counters;
  assertEquals([packetsSent, packetsReceived, bytesSent, bytesReceived], [1, 1, 4, 4]);
});

Deno.test("I27: data is taken from the addresses of valid pairs only", () => {
  const rig = Rig.checking();
  rig.receive(DATA);
  rig.receive(DATA, OTHER);
  assertEquals([rig.delivered.length, rig.agent.counters.dataDropped], [0, 2]);
  rig.succeed(rig.lastRequest());
  rig.receive(DATA, OTHER);
  rig.receive(DATA, PEER.withPort(6001));
  rig.receive(DATA, PEER, 9);
  assertEquals(rig.delivered.length, 0);
  rig.receive(DATA, PEER);
  // Another object for the same address is the same address.
  rig.receive(DATA, TransportAddress.parse(String(PEER)));
  assertEquals(rig.delivered.length, 2);
  assertEquals(rig.agent.counters.dataDropped, 5);
});

Deno.test("I27: data that overtakes the answer to our check is held for it, once the peer has authenticated itself", () => {
  const rig = Rig.checking();
  rig.request();
  rig.receive(DATA);
  rig.receive(new Uint8Array([201]));
  assertEquals(rig.delivered.length, 0);
  rig.succeed(rig.requests[0]!);
  assertEquals(rig.delivered.map(({ bytes }) => bytes[0]), [200, 201]);
  assertEquals(rig.agent.selectedPair!.counters.packetsReceived, 2);
});

Deno.test("I27, I29: what is held is bounded in number, size and time", () => {
  const many = Rig.checking();
  many.request();
  for (let i = 0; i < 40; i++) many.receive(DATA);
  many.succeed(many.requests[0]!);
  assertEquals([many.delivered.length, many.agent.counters.dataDropped], [16, 24]);
  const large = Rig.checking();
  large.request();
  for (let i = 0; i < 3; i++) large.receive(new Uint8Array(30_000).fill(200));
  large.succeed(large.requests[0]!);
  assertEquals([large.delivered.length, large.agent.counters.dataDropped], [2, 1]);
  const old = Rig.checking();
  old.request();
  old.receive(DATA);
  old.advance(1500);
  old.succeed(old.lastRequest());
  assertEquals(old.delivered.length, 0);
});

Deno.test("I26: RFC 7983's other first bytes are data, and so is what only begins like STUN", () => {
  const rig = Rig.connected();
  const binding = (fingerprint: boolean) => {
    const writer = new MessageWriter(new Uint8Array(60)).begin(METHOD.BINDING, "request", rig.transactionId());
    return (fingerprint ? writer.addFingerprint() : writer).finish().slice();
  };
  const broken = binding(true);
  broken[24]! ^= 1;
  const foreign = binding(false);
  foreign[0] = 0x00;
  foreign[1] = 0x03;
  const data = [
    new Uint8Array(0),
    new Uint8Array([0]),
    new Uint8Array([16, 1, 2]),
    new Uint8Array(30).fill(22),
    new Uint8Array(30).fill(64),
    new Uint8Array(30).fill(128),
    // A STUN header without the cookie, with a wrong length, without a fingerprint, with a wrong one, of another method.
    new Uint8Array(20),
    Uint8Array.of(0, 1, 0, 4, 0x21, 0x12, 0xa4, 0x42, ...new Uint8Array(12)),
    binding(false),
    broken,
    foreign,
  ];
  for (const bytes of data) rig.receive(bytes);
  assertEquals(rig.delivered.map(({ bytes }) => bytes), data);
  assertEquals(rig.sent.length, 0);
  // And this is a check, from somebody without credentials.
  rig.receive(binding(true));
  assertEquals([rig.delivered.length, rig.answers.length], [data.length, 1]);
});

Deno.test("RFC 8445 §11: a Binding indication is a keepalive: no answer, no data, no effect", () => {
  const rig = Rig.connected();
  const indication = new MessageWriter(new Uint8Array(40)).begin(METHOD.BINDING, "indication", rig.transactionId())
    .addFingerprint().finish();
  rig.receive(indication);
  assertEquals([rig.sent.length, rig.delivered.length, rig.agent.counters.dataDropped], [0, 0, 0]);
});

Deno.test("RFC 8445 §12.1: with a nominated pair data goes along it only, and is still taken from other valid pairs", () => {
  const second = TransportAddress.parse("198.51.100.2:6001");
  const rig = Rig.gathered({ role: "controlled" });
  rig.candidate(PEER);
  rig.candidate(second, "srflx", 1694498815);
  rig.remote();
  rig.succeed(rig.lastRequest());
  rig.advance(50);
  rig.succeed(rig.lastRequest());
  rig.agent.send(DATA, rig.io);
  assertEquals(String(rig.sent.at(-1)!.to), String(PEER));
  rig.request({ useCandidate: true, from: second });
  rig.agent.send(DATA, rig.io);
  assertEquals(String(rig.sent.at(-1)!.to), String(second));
  rig.receive(DATA, PEER);
  assertEquals(rig.delivered.length, 1);
});

Deno.test("The data path makes no object, array or string of its own", () => {
  const rig = Rig.completed();
  const { agent } = rig;
  let sent = 0;
  let delivered = 0;
  const io = { ...rig.io, now: rig.now, send: () => void sent++, deliver: () => void delivered++ };
  const buffer = new Uint8Array(100).fill(200);
  let views = 0;
  const packet = {
    socket: 1,
    from: TransportAddress.parse(String(PEER)),
    buffer,
    offset: 4,
    length: 96,
    get bytes() {
      views++;
      return buffer;
    },
  };
  const run = (count: number) => {
    for (let i = 0; i < count; i++) {
      agent.handlePacket(packet, io);
      agent.send(buffer, io);
    }
  };
  run(50_000);
  const before = Deno.memoryUsage().heapUsed;
  run(100_000);
  const grown = Deno.memoryUsage().heapUsed - before;
  assertEquals([sent, delivered, views], [150_000, 150_000, 0]);
  // The smallest object has 16 bytes.
  assertLess(grown, 2 * 100_000 * 4, `${grown} bytes for 200,000 datagrams`);
});
