import { assert, assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { bytesAttribute } from "../../stun/attribute.ts";
import type { SocketId } from "../../stun/machine.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import { type RecordedSend, seededRandom } from "../_recorder.ts";
import {
  ADDITIONAL_ADDRESS_FAMILY,
  DATA,
  DONT_FRAGMENT,
  LIFETIME,
  REQUESTED_ADDRESS_FAMILY,
  XOR_PEER_ADDRESS,
} from "../../turn/attributes.ts";
import {
  bytes,
  channelData,
  CLIENT,
  codeOf,
  PEER,
  PEER6,
  type RigClient,
  SERVER,
  SERVER6,
  ServerRig,
  SOCKET,
} from "./_server_rig.ts";

const FIRST = 0x4000;
const OTHER_PEER = TransportAddress.parse("8.8.4.4:9000");

/** A client with an IPv4 relay, a channel to `PEER` and a permission for `OTHER_PEER`. */
function relaying(rig = new ServerRig()): { rig: ServerRig; client: RigClient; relay: SocketId } {
  const client = rig.client();
  const [relay] = client.mustAllocate();
  assertEquals([client.bind(FIRST, PEER), client.permit(OTHER_PEER)], [0, 0]);
  return { rig, client, relay: relay!.socket };
}

function summary(sends: RecordedSend[]): [SocketId, string, number[]][] {
  return sends.map(({ socket, to, bytes }) => [socket, String(to), [...bytes]]);
}

/** The Data indication that is the only thing sent. */
function dataIndication(sends: RecordedSend[]): StunMessage {
  assertEquals(sends.length, 1);
  const message = StunMessage.parse(sends[0]!.bytes);
  assert(message !== undefined);
  assertEquals([message.method, message.class], [METHOD.DATA, "indication"]);
  return message;
}

Deno.test("RFC 8656 §11.2, T24: a Send indication's data leaves for its peer, from the relayed address", () => {
  const { client, relay } = relaying();
  assertEquals(summary(client.sendTo(OTHER_PEER, bytes(1, 2, 3))), [[relay, String(OTHER_PEER), [1, 2, 3]]]);
  // It may be used where there is a channel, too, and to any port.
  assertEquals(summary(client.sendTo(PEER, bytes(4))), [[relay, String(PEER), [4]]]);
  assertEquals(summary(client.sendTo(PEER.withPort(9), bytes(5))), [[relay, String(PEER.withPort(9)), [5]]]);
});

Deno.test("RFC 8656 §11.2, T24: no data is data of length zero", () => {
  const { client, relay } = relaying();
  assertEquals(summary(client.sendTo(PEER, bytes())), [[relay, String(PEER), []]]);
});

Deno.test("RFC 8656 §11.2, T24: a Send indication that is not right is dropped, and never answered", () => {
  const { rig, client } = relaying();
  const indication = (build: (writer: MessageWriter) => unknown) => {
    const writer = new MessageWriter(new Uint8Array(256)).begin(METHOD.SEND, "indication", new Uint8Array(12));
    build(writer);
    return client.send(writer.finish());
  };
  const peer = bytesAttribute(XOR_PEER_ADDRESS.type, "XOR-PEER-ADDRESS");
  const unknown = bytesAttribute(0x7abc, "UNKNOWN");
  assertEquals(indication((writer) => writer.add(DATA, bytes(1))), []);
  assertEquals(indication((writer) => writer.add(XOR_PEER_ADDRESS, PEER)), []);
  assertEquals(indication((writer) => writer.add(peer, bytes(0, 1, 2)).add(DATA, bytes(1))), []);
  assertEquals(indication((writer) => writer.add(peer, bytes(0, 2, 0, 0, 1, 1, 1, 1)).add(DATA, bytes(1))), []);
  assertEquals(indication((w) => w.add(XOR_PEER_ADDRESS, PEER.withPort(0)).add(DATA, bytes(1))), []);
  assertEquals(client.sendTo(PEER, bytes(1), (writer) => writer.add(unknown, bytes(1))), []);
  assertEquals(rig.drops, { badSend: 6 });
  const optional = bytesAttribute(0x8abc, "OPTIONAL");
  assertEquals(client.sendTo(PEER, bytes(1), (writer) => writer.add(optional, bytes(1))).length, 1);
});

Deno.test("RFC 8656 §11.2, T11: a Send indication with DONT-FRAGMENT is dropped as long as DF can not be set", () => {
  const { rig, client } = relaying();
  assertEquals(client.sendTo(PEER, bytes(1), (writer) => writer.add(DONT_FRAGMENT, true)), []);
  assertEquals(rig.drops, { badSend: 1 });
});

Deno.test("RFC 8489 §14.5, T4: what follows an integrity attribute in a Send indication does not count", () => {
  const { client, relay } = relaying();
  const writer = new MessageWriter(new Uint8Array(256)).begin(METHOD.SEND, "indication", new Uint8Array(12));
  writer.add(XOR_PEER_ADDRESS, PEER).addIntegrity(client.key()).add(DATA, bytes(1));
  assertEquals(client.send(writer.finish()), []);
  writer.begin(METHOD.SEND, "indication", new Uint8Array(12)).add(XOR_PEER_ADDRESS, PEER).add(DATA, bytes(1));
  writer.addIntegrity(client.key()).add(DATA, bytes(2)).add(DONT_FRAGMENT, true);
  assertEquals(summary(client.send(writer.finish())), [[relay, String(PEER), [1]]]);
  // Only the first of a type counts (§14).
  assertEquals(summary(client.sendTo(PEER, bytes(1), (w) => w.add(DATA, bytes(2)))), [[relay, String(PEER), [1]]]);
});

Deno.test("RFC 8489 §14.7: a Send indication's FINGERPRINT is checked if there is one", () => {
  const { rig, client } = relaying();
  const writer = new MessageWriter(new Uint8Array(256)).begin(METHOD.SEND, "indication", new Uint8Array(12));
  const message = writer.add(XOR_PEER_ADDRESS, PEER).add(DATA, bytes(1)).addFingerprint().finish();
  assertEquals(client.send(message).length, 1);
  message[message.length - 1]! ^= 1;
  assertEquals(client.send(message), []);
  assertEquals(rig.drops, { badSend: 1 });
});

Deno.test("RFC 8656 §5, T6: indications and ChannelData without allocation are met with silence", () => {
  const rig = new ServerRig();
  const client = rig.client();
  assertEquals(client.sendTo(PEER, bytes(1)), []);
  assertEquals(client.sendOn(FIRST, bytes(1)), []);
  assertEquals(rig.drops, { noAllocation: 2 });
  assertEquals(rig.leftovers, {});
});

Deno.test("RFC 8656 §11.3, T25: a peer's datagram needs a permission, with a channel as without", () => {
  const { rig, client, relay } = relaying();
  client.refresh(3600);
  assertEquals(rig.receive(relay, PEER, bytes(1)).length, 1);
  assertEquals(rig.receive(relay, TransportAddress.parse("9.9.9.9:1"), bytes(1)), []);
  rig.advance(300_000);
  assertEquals(rig.receive(relay, PEER, bytes(1)), []);
  assertEquals(rig.drops, { noPermission: 2 });
});

Deno.test("RFC 8656 §12.7, T25: from a peer with a channel comes ChannelData, from any other a Data indication", () => {
  const { rig, client, relay } = relaying();
  assertEquals(summary(rig.receive(relay, PEER, bytes(7, 8))), [[SOCKET, String(CLIENT), [0x40, 0, 0, 2, 7, 8]]]);
  for (const peer of [OTHER_PEER, PEER.withPort(1)]) {
    const message = dataIndication(rig.receive(relay, peer, bytes(7, 8)));
    assertEquals(message.attributeTypes(), [XOR_PEER_ADDRESS.type, DATA.type]);
    assertEquals(String(message.get(XOR_PEER_ADDRESS)), String(peer));
    assertEquals(message.get(DATA), bytes(7, 8));
  }
  assertEquals(client.bind(FIRST + 1, OTHER_PEER), 0);
  assertEquals(summary(rig.receive(relay, OTHER_PEER, bytes(9))), [[SOCKET, String(CLIENT), [0x40, 1, 0, 1, 9]]]);
});

Deno.test("RFC 8489 §14: the padding of a Data indication is zeros, not what the memory held before", () => {
  const { rig, relay } = relaying();
  for (const length of [1, 2, 3, 4, 5]) {
    const sent = rig.receive(relay, OTHER_PEER, new Uint8Array(length).fill(0xff));
    const { bytes: message } = sent[0]!;
    assertEquals(message.length % 4, 0);
    assertEquals(message.slice(36 + length), new Uint8Array(message.length - 36 - length));
  }
});

Deno.test("RFC 8489 §6: each Data indication has a transaction id of its own", () => {
  const { rig, relay } = relaying();
  const keys = Array.from(
    { length: 200 },
    () => dataIndication(rig.receive(relay, OTHER_PEER, bytes(1))).transactionKey,
  );
  assertEquals(new Set(keys).size, 200);
});

Deno.test("RFC 8656 §12.6, T26: ChannelData goes to the channel's peer; padding over UDP is left behind", () => {
  const { client, relay } = relaying();
  assertEquals(summary(client.sendOn(FIRST, bytes(1, 2, 3))), [[relay, String(PEER), [1, 2, 3]]]);
  assertEquals(summary(client.sendOn(FIRST, bytes(1, 2, 3), 1)), [[relay, String(PEER), [1, 2, 3]]]);
  assertEquals(summary(client.sendOn(FIRST, bytes())), [[relay, String(PEER), []]]);
});

Deno.test("RFC 8656 §12.6, T26: ChannelData on unbound and reserved numbers, and shorter than it says, is dropped", () => {
  for (const legacyChannels of [true, false]) {
    const { rig, client } = relaying(new ServerRig({ legacyChannels }));
    for (const number of [0x4001, 0x4fff]) assertEquals(client.sendOn(number, bytes(1)), []);
    for (const number of [0x5000, 0x7fff, 0x8000, 0xffff]) assertEquals(client.sendOn(number, bytes(1)), []);
    assertEquals(client.send(channelData(FIRST, bytes(1, 2, 3)).subarray(0, 6)), []);
    for (const length of [1, 2, 3]) assertEquals(client.send(channelData(FIRST, bytes()).subarray(0, length)), []);
    assertEquals(client.send(bytes()), []);
    assertEquals(
      rig.drops,
      legacyChannels
        ? { unboundChannel: 4, notStun: 3, shortChannelData: 4 }
        : { unboundChannel: 2, notStun: 5, shortChannelData: 4 },
    );
  }
});

Deno.test("RFC 8656 §12.6, T26: ChannelData refreshes neither channel nor permission", () => {
  const { rig, client, relay } = relaying();
  client.refresh(3600);
  for (let i = 0; i < 5; i++) {
    rig.advance(59_999);
    client.sendOn(FIRST, bytes(1));
    rig.receive(relay, PEER, bytes(1));
  }
  rig.advance(5);
  assertEquals(rig.receive(relay, PEER, bytes(1)), []);
  rig.advance(300_000);
  assertEquals(client.sendOn(FIRST, bytes(1)), []);
});

Deno.test("RFC 8656 §12.7, T28: a datagram is relayed whole or not at all", () => {
  const { rig, client, relay } = relaying();
  const largest = 65507;
  const lengthTo = (peer: TransportAddress, length: number) =>
    rig.receive(relay, peer, new Uint8Array(length)).map(({ bytes }) => bytes.length);
  assertEquals(lengthTo(PEER, largest - 4), [largest]);
  assertEquals(lengthTo(PEER, largest - 3), []);
  // A Data indication is a multiple of four long.
  assertEquals(lengthTo(OTHER_PEER, largest - 3 - 36), [largest - 3]);
  assertEquals(lengthTo(OTHER_PEER, largest - 2 - 36), []);
  assertEquals(client.sendOn(FIRST, new Uint8Array(largest - 4)).map(({ bytes }) => bytes.length), [largest - 4]);
  assertEquals(client.sendTo(PEER, new Uint8Array(largest - 39)).map(({ bytes }) => bytes.length), [largest - 39]);
  assertEquals(rig.drops, { tooLong: 2 });
});

Deno.test("T31: a peer's data is opaque, also where it looks like STUN, TLS or ChannelData", () => {
  const { rig, client, relay } = relaying();
  const lookalikes = [
    client.build(METHOD.ALLOCATE, () => {}, { auth: "none" }),
    channelData(FIRST, bytes(1)),
    bytes(0x16, 3, 1, 0, 5, 1),
  ];
  for (const data of lookalikes) {
    assertEquals(rig.receive(relay, PEER, data).map(({ bytes }) => bytes.slice(4)), [data]);
    assertEquals(dataIndication(rig.receive(relay, OTHER_PEER, data)).get(DATA), data);
    assertEquals(client.sendOn(FIRST, data).map(({ bytes }) => bytes), [data]);
    assertEquals(client.sendTo(OTHER_PEER, data).map(({ bytes }) => bytes), [data]);
  }
  assertEquals(rig.server.counters.requests, 4, "Allocate twice, ChannelBind, CreatePermission");
});

Deno.test("RFC 8656 §5: IPv4 and IPv6 in all four combinations, by channel and by indication", () => {
  const client6 = TransportAddress.parse("[2001:db8::7]:5000");
  for (const address of [CLIENT, client6]) {
    for (const peer of [PEER, PEER6]) {
      const rig = new ServerRig();
      const client = rig.client(address);
      const [relay] = client.mustAllocate((writer) => writer.add(REQUESTED_ADDRESS_FAMILY, peer.family));
      const { socket, relayed } = relay!;
      assertEquals(relayed.address, peer.family === 4 ? SERVER.address : SERVER6.address);
      assertEquals(client.bind(FIRST, peer), 0);
      const other = peer.withPort(1);
      for (let i = 0; i < 2; i++) {
        assertEquals(summary(client.sendOn(FIRST, bytes(1))), [[socket, String(peer), [1]]]);
        assertEquals(summary(client.sendTo(other, bytes(2))), [[socket, String(other), [2]]]);
      }
      assertEquals(summary(rig.receive(socket, peer, bytes(3))), [[client.socket, String(address), [
        0x40,
        0,
        0,
        1,
        3,
      ]]]);
      const message = dataIndication(rig.receive(socket, other, bytes(4)));
      assertEquals([String(message.get(XOR_PEER_ADDRESS)), message.get(DATA)], [String(other), bytes(4)]);
      assertEquals(client.sendTo(peer.family === 4 ? PEER6 : PEER, bytes(1)), []);
      assertEquals(rig.drops, { wrongFamily: 1 });
    }
  }
});

Deno.test("A dual allocation relays each family from its own address", () => {
  const rig = new ServerRig();
  const client = rig.client();
  const [four, six] = client.mustAllocate((writer) => writer.add(ADDITIONAL_ADDRESS_FAMILY, 6));
  assertEquals([client.bind(FIRST, PEER), client.bind(FIRST + 1, PEER6)], [0, 0]);
  assertEquals(client.sendOn(FIRST, bytes(1)).map(({ socket }) => socket), [four!.socket]);
  assertEquals(client.sendOn(FIRST + 1, bytes(1)).map(({ socket }) => socket), [six!.socket]);
  assertEquals(rig.receive(six!.socket, PEER6, bytes(1)).map(({ bytes }) => bytes[1]), [1]);
  assertEquals(rig.receive(six!.socket, PEER, bytes(1)), [], "A permission is for one family's address");
});

Deno.test("RFC 8656 §9: the permissions of one allocation are no other's", () => {
  const { rig, client } = relaying();
  const other = rig.client(CLIENT.withPort(2));
  const [relay] = other.mustAllocate();
  assertEquals(rig.receive(relay!.socket, PEER, bytes(1)), []);
  assertEquals(other.sendTo(PEER, bytes(1)), []);
  assertEquals(other.sendOn(FIRST, bytes(1)), []);
  assertEquals(client.sendOn(FIRST, bytes(1)).length, 1);
});

Deno.test("Two clients of one server reach each other by its relay addresses, but no other service there", () => {
  const rig = new ServerRig();
  const [a, b] = [rig.client(), rig.client(CLIENT.withPort(2), "bob")];
  const [relayA] = a.mustAllocate();
  const [relayB] = b.mustAllocate();
  assertEquals([a.permit(relayB!.relayed), b.permit(relayA!.relayed)], [0, 0]);
  assertEquals(summary(a.sendTo(relayB!.relayed, bytes(1))), [[relayA!.socket, String(relayB!.relayed), [1]]]);
  assertEquals(a.bind(FIRST, relayB!.relayed), 0);
  assertEquals(summary(a.sendOn(FIRST, bytes(2))), [[relayA!.socket, String(relayB!.relayed), [2]]]);
  assertEquals(dataIndication(rig.receive(relayB!.socket, relayA!.relayed, bytes(3))).get(DATA), bytes(3));
  // What is no relayed transport address now: another port, the server itself, and b's once b is gone.
  assertEquals(a.sendTo(relayB!.relayed.withPort(22), bytes(1)), []);
  assertEquals([a.bind(FIRST + 1, relayB!.relayed.withPort(22)), a.bind(FIRST + 2, SERVER)], [403, 403]);
  assertEquals(a.sendTo(SERVER, bytes(1)), []);
  b.refresh(0);
  assertEquals([a.sendOn(FIRST, bytes(1)), a.sendTo(relayB!.relayed, bytes(1))], [[], []]);
  assertEquals(rig.drops, { refusedPeer: 4 });
});

Deno.test("Behind a 1:1 mapping two clients of one server reach each other by the outer address, without leaving", () => {
  const rig = new ServerRig({ relayAddresses: [{ address: SERVER.address, external: "203.0.113.77" }] });
  const [a, b] = [rig.client(), rig.client(CLIENT.withPort(2), "bob")];
  const [relayA] = a.mustAllocate();
  const [relayB] = b.mustAllocate();
  assertEquals([a.bind(FIRST, relayB!.relayed), b.bind(FIRST, relayA!.relayed)], [0, 0]);
  const inner = SERVER.withPort(relayB!.relayed.port);
  assertEquals(summary(a.sendOn(FIRST, bytes(1))), [[relayA!.socket, String(inner), [1]]]);
  const fromA = SERVER.withPort(relayA!.relayed.port);
  assertEquals(rig.receive(relayB!.socket, fromA, bytes(1)).map(({ bytes }) => [...bytes]), [[0x40, 0, 0, 1, 1]]);
  assertEquals(a.permit(inner), 403, "The inner address is nobody's business");
});

Deno.test("Addresses of Send indications are remembered in bounded number, and are right whatever came before", () => {
  const rig = new ServerRig();
  const client = rig.client();
  client.mustAllocate((writer) => writer.add(REQUESTED_ADDRESS_FAMILY, 6));
  const peers = Array.from({ length: 256 }, (_, i) => TransportAddress.of(`2606:4700::${i.toString(16)}`, 9));
  for (const peer of peers) assertEquals(client.permit(peer), 0);
  for (let round = 0; round < 3; round++) {
    for (const peer of peers) {
      assertEquals(summary(client.sendTo(peer, bytes(round))), [[rig.sockets.values().next().value!, String(peer), [
        round,
      ]]]);
    }
  }
});

Deno.test("Two IPv6 peers whose addresses have one hash are two peers", () => {
  const [one, other] = collidingPeers();
  const client = new ServerRig().client();
  client.mustAllocate((writer) => writer.add(REQUESTED_ADDRESS_FAMILY, 6));
  assertEquals(client.permit(one, other), 0);
  for (const peer of [one, other, one, other]) {
    assertEquals(client.sendTo(peer, bytes(1)).map(({ to }) => String(to)), [String(peer)]);
  }
});

/** By the hash that the server uses for Send indications. */
function collidingPeers(): [TransportAddress, TransportAddress] {
  const random = seededRandom(1);
  const seen = new Map<number, Uint8Array>();
  for (;;) {
    const ip = Uint8Array.of(0x26, 6, 0x47, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    random.fill(ip.subarray(8));
    const hash = ip.reduce((sum, byte) => Math.imul(sum ^ byte, 0x01000193), 9) >>> 2;
    const twin = seen.get(hash);
    if (twin !== undefined) return [new TransportAddress(twin, 9), new TransportAddress(ip, 9)];
    seen.set(hash, ip);
  }
}

Deno.test("RFC 8656 §9: a Send indication to a peer known from before needs a permission that still holds", () => {
  const { rig, client } = relaying();
  client.refresh(3600);
  assertEquals(client.sendTo(OTHER_PEER, bytes(1)).length, 1);
  rig.advance(300_000);
  assertEquals(client.sendTo(OTHER_PEER, bytes(1)), []);
  client.permit(OTHER_PEER);
  assertEquals(client.sendTo(OTHER_PEER, bytes(1)).length, 1);
  rig.io.now += 300_000;
  assertEquals(client.sendTo(OTHER_PEER, bytes(1)), []);
});

Deno.test("T35: the end of an allocation frees everything, whichever way it ends", () => {
  for (const end of ["expiry", "late expiry", "refresh"]) {
    const { rig, client, relay } = relaying();
    for (let i = 1; i < 50; i++) {
      client.bind(FIRST + i, PEER.withPort(i));
      client.sendTo(PEER.withPort(i), bytes(1));
    }
    if (end === "expiry") rig.advance(600_000);
    else if (end === "refresh") assertEquals(codeOf(client.refresh(0)), 0);
    else {
      rig.io.now += 600_000;
      assertEquals(codeOf(client.request(METHOD.REFRESH, (writer) => writer.add(LIFETIME, 600))), 437);
    }
    assertEquals(rig.leftovers, {}, end);
    assertEquals(rig.io.closed, [relay]);
    assertEquals(rig.server.deadline, Infinity);
    assertEquals(rig.receive(relay, PEER, bytes(1)), []);
    assertEquals(client.sendOn(FIRST, bytes(1)), []);
    assertEquals(rig.drops, { unknownSocket: 1, noAllocation: 1 });
  }
});

Deno.test("Counters: datagrams and bytes each way, in all and of each allocation", () => {
  const { rig, client, relay } = relaying();
  client.sendOn(FIRST, new Uint8Array(100));
  client.sendTo(OTHER_PEER, new Uint8Array(10));
  rig.receive(relay, PEER, new Uint8Array(1000));
  rig.receive(relay, OTHER_PEER, new Uint8Array(1));
  rig.receive(relay, TransportAddress.parse("9.9.9.9:9"), new Uint8Array(5000));
  client.refresh(0);
  const { packetsToPeers, bytesToPeers, packetsToClients, bytesToClients, allocations, allocationsTotal, errors } = rig
    .server.counters.snapshot();
  assertEquals([packetsToPeers, bytesToPeers, packetsToClients, bytesToClients], [2, 110, 2, 1001]);
  assertEquals([allocations, allocationsTotal, errors], [0, 1, { "401": 1 }]);
  const [, ended] = rig.io.events;
  assertEquals(ended?.type, "ended");
  assert(ended?.type === "ended");
  const report = ended.allocation;
  assertEquals([report.packetsToPeers, report.bytesToPeers, report.packetsToClient, report.bytesToClient], [
    2,
    110,
    2,
    1001,
  ]);
});
