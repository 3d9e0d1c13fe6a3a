import { assert, assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { bytesAttribute } from "../../stun/attribute.ts";
import { XOR_MAPPED_ADDRESS } from "../../stun/attributes.ts";
import { MessageWriter, METHOD } from "../../stun/message.ts";
import {
  ADDITIONAL_ADDRESS_FAMILY,
  CHANNEL_NUMBER,
  LIFETIME,
  REQUESTED_ADDRESS_FAMILY,
  XOR_PEER_ADDRESS,
} from "../../turn/attributes.ts";
import { PeerPolicy } from "../../turn/peer_policy.ts";
import { bytes, CLIENT, codeOf, PEER, PEER6, type RigClient, SERVER, SERVER6, ServerRig } from "./_server_rig.ts";

const FIRST = 0x4000;
const malformedPeer = bytesAttribute(XOR_PEER_ADDRESS.type, "XOR-PEER-ADDRESS");

function allocated(rig = new ServerRig(), dual = false): RigClient {
  const client = rig.client();
  client.mustAllocate((writer) => dual && writer.add(ADDITIONAL_ADDRESS_FAMILY, 6));
  return client;
}

/** Whether data passes to the peer by a Send indication, and from it. */
function passes(client: RigClient, peer: TransportAddress, relay: number): [number, number] {
  return [client.sendTo(peer, bytes(1)).length, client.rig.receive(relay, peer, bytes(2)).length];
}

Deno.test("RFC 8656 §8.2, T19: Refresh sets the lifetime, by the rules of Allocate", () => {
  const rig = new ServerRig();
  const client = allocated(rig);
  const asked = [undefined, 1, 600, 1800, 3600, 99999];
  assertEquals(asked.map((lifetime) => client.refresh(lifetime).get(LIFETIME)), [600, 600, 600, 1800, 3600, 3600]);
  client.refresh(1000);
  rig.advance(999_999);
  assertEquals(rig.server.counters.allocations, 1);
  rig.advance(1);
  assertEquals(rig.leftovers, {});
  assertEquals(rig.io.events.map((event) => event.type === "ended" ? event.why : event.type), ["allocated", "expired"]);
});

Deno.test("RFC 8656 §8.2, T19: a Refresh may make the time shorter than it was", () => {
  const rig = new ServerRig();
  const client = allocated(rig);
  client.refresh(3600);
  rig.advance(600_000);
  client.refresh(600);
  rig.advance(600_000);
  assertEquals(rig.leftovers, {});
});

Deno.test("RFC 8656 §8.2, T19: LIFETIME 0 deletes the allocation and is answered with success", () => {
  const rig = new ServerRig();
  const client = rig.client();
  const [relay] = client.mustAllocate();
  const answer = client.refresh(0);
  assertEquals([codeOf(answer), answer.get(LIFETIME)], [0, 0]);
  assert(answer.verifyIntegrity(client.key()));
  assertEquals(rig.io.closed, [relay!.socket]);
  assertEquals(rig.leftovers, {});
  assertEquals(rig.io.events.map((event) => event.type === "ended" ? event.why : event.type), ["allocated", "deleted"]);
});

Deno.test("RFC 8656 §8.2, T19: a family that the allocation has not gets 443, one that does not exist as well", () => {
  const client = allocated();
  const family = bytesAttribute(REQUESTED_ADDRESS_FAMILY.type, "REQUESTED-ADDRESS-FAMILY");
  assertEquals(codeOf(client.refresh(600, (writer) => writer.add(REQUESTED_ADDRESS_FAMILY, 6))), 443);
  assertEquals(codeOf(client.refresh(0, (writer) => writer.add(REQUESTED_ADDRESS_FAMILY, 6))), 443);
  assertEquals(codeOf(client.refresh(600, (writer) => writer.add(family, bytes(7, 0, 0, 0)))), 443);
  assertEquals(codeOf(client.refresh(600, (writer) => writer.add(family, bytes(1)))), 400);
  assertEquals(codeOf(client.refresh(600, (writer) => writer.add(REQUESTED_ADDRESS_FAMILY, 4))), 0);
});

Deno.test("RFC 8656 §8.1, T19: of a dual allocation one family alone can go, and the other keeps what it has", () => {
  const rig = new ServerRig();
  const client = rig.client();
  const [four, six] = client.mustAllocate((writer) => writer.add(ADDITIONAL_ADDRESS_FAMILY, 6));
  assertEquals([client.permit(PEER, PEER6), client.bind(FIRST, PEER), client.bind(FIRST + 1, PEER6)], [0, 0, 0]);
  assertEquals(codeOf(client.refresh(0, (writer) => writer.add(REQUESTED_ADDRESS_FAMILY, 4))), 0);
  assertEquals(rig.io.closed, [four!.socket]);
  assertEquals(client.sendOn(FIRST, bytes(1)), []);
  assertEquals(client.sendOn(FIRST + 1, bytes(1)).length, 1);
  assertEquals(passes(client, PEER6, six!.socket), [1, 1]);
  assertEquals(client.permit(PEER), 443);
  assertEquals(client.bind(FIRST, PEER6.withPort(1)), 0, "The freed channel number is free");
  assertEquals(codeOf(client.refresh(0)), 0);
  assertEquals(rig.leftovers, {});
});

Deno.test("RFC 8656 §8.1, T19: the families of a dual allocation have times of their own", () => {
  const rig = new ServerRig();
  const client = allocated(rig, true);
  assertEquals(codeOf(client.refresh(3000, (writer) => writer.add(REQUESTED_ADDRESS_FAMILY, 6))), 0);
  rig.advance(600_000);
  assertEquals([client.permit(PEER), client.permit(PEER6)], [443, 0]);
  rig.advance(2_400_000);
  assertEquals(rig.leftovers, {});
});

Deno.test("RFC 8489 §6.3.1, T9: what comes again is answered as before, also when other requests came in between", () => {
  const client = allocated();
  const requests = [
    client.build(METHOD.CREATE_PERMISSION, (writer) => writer.add(XOR_PEER_ADDRESS, PEER)),
    client.build(METHOD.CHANNEL_BIND, (writer) => writer.add(CHANNEL_NUMBER, FIRST).add(XOR_PEER_ADDRESS, PEER)),
    client.build(METHOD.CHANNEL_BIND, (writer) => writer.add(CHANNEL_NUMBER, FIRST).add(XOR_PEER_ADDRESS, PEER6)),
    client.build(METHOD.REFRESH, (writer) => writer.add(LIFETIME, 1800)),
  ];
  const first = requests.map((request) => client.ask(request).bytes);
  for (let round = 0; round < 3; round++) {
    assertEquals(requests.map((request) => client.ask(request).bytes), first);
  }
});

Deno.test("RFC 8656 §9, T20: a permission lasts 300 s, is by IP address, and data in either direction does not refresh it", () => {
  const rig = new ServerRig();
  const client = rig.client();
  const [relay] = client.mustAllocate();
  client.refresh(3600);
  assertEquals(passes(client, PEER, relay!.socket), [0, 0]);
  assertEquals(client.permit(PEER.withPort(0)), 0);
  for (const port of [1, 7000, 65535]) assertEquals(passes(client, PEER.withPort(port), relay!.socket), [1, 1]);
  rig.io.now += 299_999;
  assertEquals(passes(client, PEER, relay!.socket), [1, 1]);
  rig.io.now += 1;
  // The timer has not rung: time is looked at when data comes.
  assertEquals(passes(client, PEER, relay!.socket), [0, 0]);
  assertEquals(client.permit(PEER), 0);
  assertEquals(passes(client, PEER, relay!.socket), [1, 1]);
  rig.advance(300_000);
  assertEquals(passes(client, PEER, relay!.socket), [0, 0]);
  assertEquals(rig.drops, { noPermission: 6 });
});

Deno.test("RFC 8656 §9, T20: CreatePermission and ChannelBind refresh a permission", () => {
  const rig = new ServerRig();
  const client = rig.client();
  const [relay] = client.mustAllocate();
  client.refresh(3600);
  client.permit(PEER);
  rig.advance(200_000);
  client.permit(PEER);
  rig.advance(200_000);
  assertEquals(passes(client, PEER, relay!.socket), [1, 1]);
  client.bind(FIRST, PEER);
  rig.advance(299_999);
  assertEquals(passes(client, PEER, relay!.socket), [1, 1]);
  rig.advance(1);
  assertEquals(passes(client, PEER, relay!.socket), [0, 0]);
});

Deno.test("RFC 8656 §10.2, T21: CreatePermission without peers or with a malformed one gets 400", () => {
  const client = allocated();
  assertEquals(client.permit(), 400);
  const mixed = (writer: MessageWriter) => writer.add(XOR_PEER_ADDRESS, PEER).add(malformedPeer, bytes(0, 9, 0, 0));
  assertEquals(client.code(METHOD.CREATE_PERMISSION, mixed), 400);
});

Deno.test("RFC 8656 §10.2, T21: of CreatePermission all is done or nothing: 443, 403, 508", () => {
  const rig = new ServerRig({ limits: { permissions: 2 } });
  const client = rig.client();
  const [relay] = client.mustAllocate();
  const other = TransportAddress.parse("8.8.4.4:1");
  const third = TransportAddress.parse("9.9.9.9:1");
  assertEquals(client.permit(PEER, PEER6), 443);
  assertEquals(client.permit(PEER, TransportAddress.parse("10.0.0.1:1")), 403);
  assertEquals(client.permit(PEER, other, third), 508);
  for (const peer of [PEER, other, third]) assertEquals(passes(client, peer, relay!.socket), [0, 0]);
  // The same address twice is one permission; a refresh takes no room.
  assertEquals(client.permit(PEER, PEER.withPort(1), other), 0);
  assertEquals([client.permit(PEER, other), client.permit(third)], [0, 508]);
  rig.advance(300_000);
  assertEquals(client.permit(third, other), 0);
});

Deno.test("RFC 8656 §12.2, T22: a channel number is 0x4000 to 0x4FFF, else 400", () => {
  const client = allocated();
  const numbers = [0, 0x3fff, 0x4000, 0x4fff, 0x5000, 0x7fff, 0x8000, 0xffff];
  const codes = numbers.map((number, i) => client.bind(number, PEER.withPort(100 + i), { auth: "sha256" }));
  assertEquals(codes, [400, 400, 0, 0, 400, 400, 400, 400]);
});

Deno.test("RFC 5766 §11, T22: a client from before RFC 8489 may bind up to 0x7FFF, unless the server is told otherwise", () => {
  const numbers = [0x3fff, 0x4000, 0x4fff, 0x5000, 0x7fff, 0x8000];
  for (
    const [legacyChannels, expected] of [[true, [400, 0, 0, 0, 0, 400]], [false, [400, 0, 0, 400, 400, 400]]] as const
  ) {
    const client = allocated(new ServerRig({ legacyChannels }));
    assertEquals(numbers.map((number, i) => client.bind(number, PEER.withPort(100 + i))), [...expected]);
    assertEquals(client.sendOn(0x7fff, bytes(1)).length, legacyChannels ? 1 : 0);
  }
});

Deno.test("RFC 8656 §12.2, T22: ChannelBind needs number and peer, the peer needs a port, the port a family of ours", () => {
  const client = allocated();
  const bind = (build: (writer: MessageWriter) => unknown) => client.code(METHOD.CHANNEL_BIND, build);
  assertEquals(bind((writer) => writer.add(XOR_PEER_ADDRESS, PEER)), 400);
  assertEquals(bind((writer) => writer.add(CHANNEL_NUMBER, FIRST)), 400);
  assertEquals(bind((writer) => writer.add(CHANNEL_NUMBER, FIRST).add(malformedPeer, bytes(1))), 400);
  assertEquals(client.bind(FIRST, PEER.withPort(0)), 400);
  assertEquals(client.bind(FIRST, PEER6), 443);
  assertEquals(client.bind(FIRST, TransportAddress.parse("127.0.0.1:5000")), 403);
});

Deno.test("RFC 8656 §12.2, T22: a channel has one peer and a peer one channel, else 400", () => {
  const client = allocated();
  const other = PEER.withPort(7001);
  assertEquals(client.bind(FIRST, PEER), 0);
  assertEquals(client.bind(FIRST, other), 400);
  assertEquals(client.bind(FIRST + 1, PEER), 400);
  assertEquals(client.bind(FIRST + 1, other), 0);
  assertEquals(client.bind(FIRST, PEER), 0);
});

Deno.test("RFC 8656 §12, T22: a channel lasts 600 s; binding it again refreshes it and the permission", () => {
  const rig = new ServerRig();
  const client = rig.client();
  const [relay] = client.mustAllocate();
  client.refresh(3600);
  client.bind(FIRST, PEER);
  rig.advance(300_000);
  assertEquals(rig.receive(relay!.socket, PEER, bytes(1)), [], "The permission is over");
  assertEquals(client.sendOn(FIRST, bytes(1)).length, 1, "The channel is not");
  client.bind(FIRST, PEER);
  assertEquals(rig.receive(relay!.socket, PEER, bytes(1)).length, 1);
  rig.io.now += 599_999;
  assertEquals(client.sendOn(FIRST, bytes(1)).length, 1);
  rig.io.now += 1;
  assertEquals(client.sendOn(FIRST, bytes(1)), []);
  assertEquals(rig.drops, { noPermission: 1, unboundChannel: 1 });
});

Deno.test("RFC 8656 §12, T23: after its time a channel number and a peer are free at once, for the client's wait is its own", () => {
  const rig = new ServerRig();
  const client = allocated(rig);
  client.refresh(3600);
  const other = PEER.withPort(7001);
  client.bind(FIRST, PEER);
  rig.io.now += 600_000;
  assertEquals(client.bind(FIRST, other), 0);
  assertEquals(client.bind(FIRST + 1, PEER), 0);
  assertEquals(client.sendOn(FIRST, bytes(1)).map(({ to }) => String(to)), [String(other)]);
  assertEquals(client.sendOn(FIRST + 1, bytes(1)).map(({ to }) => String(to)), [String(PEER)]);
});

Deno.test("RFC 8656 §12.2: channels over the limit get 508; those that have ended do not count", () => {
  const rig = new ServerRig({ limits: { channels: 2, permissions: 2 } });
  const client = allocated(rig);
  client.refresh(3600);
  assertEquals([0, 1, 2, 0].map((i) => client.bind(FIRST + i, PEER.withPort(1 + i))), [0, 0, 508, 0]);
  rig.io.now += 600_000;
  assertEquals(client.bind(FIRST + 2, PEER.withPort(3)), 0);
  client.permit(TransportAddress.parse("9.9.9.9:1"));
  assertEquals(client.bind(FIRST + 3, TransportAddress.parse("1.1.1.1:1")), 508, "It would need a third permission");
});

Deno.test("RFC 8656 §9: a permission that only a channel kept is gone with the channel", () => {
  const rig = new ServerRig({ limits: { permissions: 1 } });
  const client = allocated(rig);
  client.refresh(3600);
  const other = TransportAddress.parse("9.9.9.9:1");
  assertEquals([client.bind(FIRST, PEER), client.permit(other)], [0, 508]);
  rig.advance(600_000);
  assertEquals(client.permit(other), 0);
});

Deno.test("RFC 8656 §9, T33: peers refused by policy get 403, in every disguise", () => {
  const client = allocated(new ServerRig(), true);
  const refused = ["0.0.0.0", "127.0.0.1", "10.0.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255", "::", "::1"];
  const disguised = ["::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "fe80::1", "fd00::1", "ff02::1"];
  for (const address of [...refused, ...disguised]) {
    assertEquals(client.permit(TransportAddress.of(address, 5000)), 403, address);
    assertEquals(client.bind(FIRST, TransportAddress.of(address, 5000)), 403, address);
  }
});

Deno.test("RFC 8656 §9, T33: the server's own listeners are refused even where their address is allowed", () => {
  const peerPolicy = new PeerPolicy({ allow: ["198.18.0.0/16", "2001:db8::/32"] });
  const rig = new ServerRig({ peerPolicy });
  const client = allocated(rig, true);
  assertEquals([client.bind(FIRST, SERVER), client.bind(FIRST, SERVER6)], [403, 403]);
  assertEquals(client.bind(FIRST, SERVER.withPort(53)), 0);
  // A permission has no port, so it is the Send indication that is dropped.
  assertEquals(client.permit(SERVER), 0);
  assertEquals([client.sendTo(SERVER, bytes(1)).length, client.sendTo(SERVER.withPort(80), bytes(1)).length], [0, 1]);
  assertEquals(rig.drops, { refusedPeer: 1 });
});

Deno.test("RFC 8656 §5: an allocation whose time is over is gone, also before the timer rings", () => {
  const rig = new ServerRig();
  const client = rig.client();
  const [relay] = client.mustAllocate();
  rig.advance(400_000);
  client.bind(FIRST, PEER);
  rig.io.now += 200_000;
  assertEquals(client.sendOn(FIRST, bytes(1)), []);
  assertEquals(client.sendTo(PEER, bytes(1)), []);
  assertEquals(rig.receive(relay!.socket, PEER, bytes(1)), []);
  assertEquals(client.permit(PEER), 437);
  assertEquals(rig.leftovers, {});
  assertEquals(codeOf(client.allocate()), 0);
});

Deno.test("RFC 8489 §6.3.1: Binding is answered without credentials, allocation or not, as short as can be", () => {
  const rig = new ServerRig({ software: "natkit" });
  const client = rig.client();
  for (const make of [() => {}, () => client.mustAllocate()]) {
    make();
    const answer = client.ask(client.build(METHOD.BINDING, () => {}, { auth: "none" }));
    assertEquals([codeOf(answer), answer.bytes.length], [0, 32]);
    assertEquals(String(answer.get(XOR_MAPPED_ADDRESS)), String(CLIENT));
  }
  const marked = client.ask(client.build(METHOD.BINDING, () => {}, { auth: "none", fingerprint: true }));
  assert(marked.verifyFingerprint());
  const unknown = bytesAttribute(0x7777, "UNKNOWN");
  const refused = client.ask(client.build(METHOD.BINDING, (w) => w.add(unknown, bytes()), { auth: "none" }));
  assertEquals(codeOf(refused), 420);
  assertEquals(rig.server.counters.bindings, 4);
});

Deno.test("RFC 8489 §14.2: an IPv4 client on an IPv6 socket is told its IPv4 address", () => {
  const client = new ServerRig().client(TransportAddress.parse("[::ffff:192.0.2.7]:5000"));
  const answer = client.ask(client.build(METHOD.BINDING, () => {}, { auth: "none" }));
  assertEquals(String(answer.get(XOR_MAPPED_ADDRESS)), "192.0.2.7:5000");
  assertEquals(String(client.allocate().get(XOR_MAPPED_ADDRESS)), "192.0.2.7:5000");
});

Deno.test("RFC 8489 §6.3: methods that the server has not, answers and strange indications are dropped", () => {
  const rig = new ServerRig();
  const client = rig.client();
  const message = (method: number, kind: "request" | "indication" | "success" | "error") =>
    client.send(new MessageWriter(new Uint8Array(64)).begin(method, kind, new Uint8Array(12)).finish());
  for (const method of [METHOD.CONNECT, METHOD.SEND, 0x0f]) assertEquals(message(method, "request"), []);
  for (const kind of ["success", "error"] as const) assertEquals(message(METHOD.BINDING, kind), []);
  assertEquals(message(METHOD.DATA, "indication"), []);
  assertEquals(message(METHOD.BINDING, "indication"), []);
  assertEquals(rig.drops, { unknownMethod: 3, unexpectedClass: 3 });
});
