import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { bytesAttribute } from "../../stun/attribute.ts";
import {
  ERROR_CODE_ATTRIBUTE,
  FINGERPRINT,
  MESSAGE_INTEGRITY,
  MESSAGE_INTEGRITY_SHA256,
  NONCE,
  PASSWORD_ALGORITHMS,
  REALM,
  SOFTWARE,
  UNKNOWN_ATTRIBUTES,
  XOR_MAPPED_ADDRESS,
} from "../../stun/attributes.ts";
import { type MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import {
  ADDITIONAL_ADDRESS_FAMILY,
  ADDRESS_ERROR_CODE,
  DONT_FRAGMENT,
  EVEN_PORT,
  LIFETIME,
  REQUESTED_ADDRESS_FAMILY,
  REQUESTED_TRANSPORT,
  RESERVATION_TOKEN,
  TRANSPORT_PROTOCOL,
  XOR_RELAYED_ADDRESS,
} from "../../turn/attributes.ts";
import { PeerPolicy } from "../../turn/peer_policy.ts";
import { addTransport, CLIENT, codeOf, SERVER, SERVER6, ServerRig } from "./_server_rig.ts";

const OTHER_CLIENT = TransportAddress.parse("192.0.2.8:50000");
const IPV4_ONLY = { relayAddresses: [{ address: SERVER.address }] };
const IPV6_ONLY = { relayAddresses: [{ address: SERVER6.address }] };

Deno.test("RFC 8656 §7.2, T1: an Allocate without credentials gets 401, and nothing is kept of it", () => {
  const rig = new ServerRig();
  const answer = rig.client().challenge();
  assertEquals(codeOf(answer), 401);
  const types = [ERROR_CODE_ATTRIBUTE, REALM, NONCE, PASSWORD_ALGORITHMS].map(({ type }) => type);
  assertEquals(answer.attributeTypes(), types);
  assertEquals(rig.leftovers, {});
});

Deno.test("RFC 8489 §9.2.4, T1: a request with credentials that does not pass gets the authenticator's code", () => {
  const rig = new ServerRig();
  const client = rig.client();
  client.challenge();
  client.nonce = "of another server";
  const stale = client.allocate();
  assertEquals(codeOf(stale), 438);
  assert(stale.verifyIntegrity(client.key()), "438 answers who has shown the key, so it is protected");
  assertNotEquals(stale.get(NONCE), undefined);
  const stranger = rig.client(CLIENT, "mallory");
  stranger.nonce = stale.get(NONCE)!;
  const refused = stranger.allocate();
  assertEquals([codeOf(refused), refused.hasIntegrity], [401, false]);
  assertEquals(rig.leftovers, {});
  assertEquals(Object.fromEntries(rig.server.counters.errors), { 401: 2, 438: 1 });
});

Deno.test("RFC 8656 §7.2, T18: success tells relayed and mapped address and lifetime, with integrity", () => {
  const rig = new ServerRig();
  const client = rig.client();
  const answer = client.allocate();
  assertEquals(answer.attributeTypes(), [XOR_RELAYED_ADDRESS, LIFETIME, XOR_MAPPED_ADDRESS].map(({ type }) => type));
  const relayed = answer.get(XOR_RELAYED_ADDRESS)!;
  assertEquals(relayed.address, SERVER.address);
  assert(relayed.port >= 49152 && relayed.port <= 65535);
  assertEquals(answer.get(LIFETIME), 600);
  assertEquals(String(answer.get(XOR_MAPPED_ADDRESS)), String(CLIENT));
  assert(answer.has(MESSAGE_INTEGRITY) && answer.verifyIntegrity(client.key()));
  assertEquals(
    rig.io.events.map((event) =>
      "allocation" in event &&
      [event.type, event.allocation.username, event.allocation.relayedAddresses.join()]
    ),
    [
      ["allocated", "alice", String(relayed)],
    ],
  );
});

Deno.test("RFC 8489 §9.2.4, T1: an RFC 8489 client gets MESSAGE-INTEGRITY-SHA256", () => {
  const client = new ServerRig().client();
  const answer = client.allocate(undefined, { auth: "sha256" });
  assertEquals(codeOf(answer), 0);
  assert(answer.has(MESSAGE_INTEGRITY_SHA256) && !answer.has(MESSAGE_INTEGRITY));
  assert(answer.verifyIntegrity(client.key("sha256")));
});

Deno.test("RFC 8489 §14.7: FINGERPRINT is answered with FINGERPRINT, also when the answer is late", () => {
  const rig = new ServerRig();
  const client = rig.client();
  const challenge = client.ask(client.build(METHOD.ALLOCATE, addTransport, { auth: "none", fingerprint: true }));
  assert(challenge.verifyFingerprint());
  assert(!client.challenge().has(FINGERPRINT));
  assert(client.allocate(undefined, { fingerprint: true }).verifyFingerprint());
});

Deno.test("RFC 8489 §6.3, T4: a wrong FINGERPRINT is no request", () => {
  const rig = new ServerRig();
  const client = rig.client();
  const bytes = client.build(METHOD.ALLOCATE, addTransport, { auth: "none", fingerprint: true });
  bytes[bytes.length - 1]! ^= 1;
  assertEquals(client.send(bytes), []);
  assertEquals(rig.drops, { badFingerprint: 1 });
});

Deno.test("RFC 8489 §6.3.1, T5: unknown attributes that must be understood get 420 and their names, after authentication", () => {
  const rig = new ServerRig();
  const client = rig.client();
  const unknown = [0x7001, 0x7002].map((type) => bytesAttribute(type, "UNKNOWN"));
  const add = (writer: MessageWriter) => {
    addTransport(writer);
    for (const attribute of [...unknown, unknown[0]!]) writer.add(attribute, new Uint8Array(4));
  };
  assertEquals(codeOf(client.ask(client.build(METHOD.ALLOCATE, add, { auth: "none" }))), 401);
  const answer = client.request(METHOD.ALLOCATE, add);
  assertEquals([codeOf(answer), answer.get(UNKNOWN_ATTRIBUTES)], [420, [0x7001, 0x7002]]);
  assert(answer.verifyIntegrity(client.key()));
  const optional = bytesAttribute(0xff00, "OPTIONAL");
  assertEquals(codeOf(client.allocate((writer) => writer.add(optional, new Uint8Array(4)))), 0);
});

Deno.test("RFC 8656 §5, T6: any other request without allocation gets 437, with credentials and without", () => {
  const rig = new ServerRig();
  const client = rig.client();
  for (const method of [METHOD.REFRESH, METHOD.CREATE_PERMISSION, METHOD.CHANNEL_BIND]) {
    assertEquals(client.code(method), 437);
    const short = client.ask(client.build(method, () => {}, { auth: "none" }));
    assertEquals([codeOf(short), short.bytes.length], [437, 28]);
  }
});

Deno.test("RFC 8656 §5, T7: another user's request on the 5-tuple gets 441; another user's Allocate finds it taken: 437", () => {
  const rig = new ServerRig();
  const client = rig.client();
  client.mustAllocate();
  const other = rig.client(CLIENT, "bob");
  other.nonce = client.nonce;
  for (const method of [METHOD.REFRESH, METHOD.CREATE_PERMISSION, METHOD.CHANNEL_BIND]) {
    assertEquals(other.code(method), 441);
  }
  assertEquals(codeOf(other.allocate()), 437);
  // Not even the same transaction id makes it the same request.
  const transactionId = new Uint8Array(12).fill(9);
  const another = rig.client(OTHER_CLIENT);
  assertEquals(codeOf(another.allocate(undefined, { transactionId })), 0);
  const thief = rig.client(OTHER_CLIENT, "bob");
  thief.nonce = another.nonce;
  assertEquals(codeOf(thief.allocate(undefined, { transactionId })), 437);
});

Deno.test("RFC 8656 §7.2, T8: the same Allocate again has the same answer; a new one on the 5-tuple gets 437", () => {
  const rig = new ServerRig();
  const client = rig.client();
  client.challenge();
  const request = client.build(METHOD.ALLOCATE, addTransport);
  const first = client.ask(request);
  for (const ms of [0, 500, 1000, 2000]) {
    rig.advance(ms);
    const again = client.ask(request);
    assertEquals(codeOf(again), 0);
    assertEquals(String(again.get(XOR_RELAYED_ADDRESS)), String(first.get(XOR_RELAYED_ADDRESS)));
    assert(again.verifyIntegrity(client.key()));
  }
  assertEquals(codeOf(client.allocate()), 437);
  assertEquals(rig.server.counters.allocationsTotal, 1);
});

Deno.test("RFC 8656 §7.2, T8: an Allocate that comes again while its sockets are being bound makes no second allocation", () => {
  const rig = new ServerRig();
  const client = rig.client();
  client.challenge();
  rig.opensAtOnce = false;
  const request = client.build(METHOD.ALLOCATE, addTransport);
  assertEquals(client.send(request), []);
  assertEquals(client.send(request), []);
  // Another one finds the 5-tuple taken already.
  assertEquals(codeOf(client.ask(client.build(METHOD.ALLOCATE, addTransport))), 437);
  assertEquals(rig.io.opens.length, 1);
  rig.openAll();
  assertEquals(rig.io.takeSends().map(({ bytes }) => codeOf(StunMessage.parse(bytes)!)), [0]);
  assertEquals(rig.drops, { alreadyOpening: 1 });
  assertEquals(rig.server.counters.allocations, 1);
});

Deno.test("RFC 8656 §8.2, T8: a Refresh to zero that comes again gets 437, which clients take for success", () => {
  const client = new ServerRig().client();
  client.mustAllocate();
  const request = client.build(METHOD.REFRESH, (writer) => writer.add(LIFETIME, 0));
  assertEquals(codeOf(client.ask(request)), 0);
  assertEquals(codeOf(client.ask(request)), 437);
});

Deno.test("RFC 8656 §7.2, T10: REQUESTED-TRANSPORT missing or malformed gets 400, anything but UDP 442", () => {
  const client = new ServerRig().client();
  const malformed = bytesAttribute(REQUESTED_TRANSPORT.type, "REQUESTED-TRANSPORT");
  assertEquals(client.code(METHOD.ALLOCATE), 400);
  assertEquals(client.code(METHOD.ALLOCATE, (writer) => writer.add(malformed, new Uint8Array(1))), 400);
  for (const protocol of [TRANSPORT_PROTOCOL.TCP, 0, 255]) {
    assertEquals(client.code(METHOD.ALLOCATE, (writer) => writer.add(REQUESTED_TRANSPORT, protocol)), 442);
  }
});

Deno.test("RFC 8656 §7.2, T10: without REQUESTED-TRANSPORT there is no use for a challenge: 400 at once, and short", () => {
  const client = new ServerRig().client();
  const answer = client.ask(client.build(METHOD.ALLOCATE, () => {}, { auth: "none" }));
  assertEquals([codeOf(answer), answer.bytes.length], [400, 28]);
});

Deno.test("RFC 8656 §7.2, T11: DONT-FRAGMENT is an unknown attribute as long as DF can not be set", () => {
  const client = new ServerRig().client();
  const answer = client.allocate((writer) => writer.add(DONT_FRAGMENT, true));
  assertEquals([codeOf(answer), answer.get(UNKNOWN_ATTRIBUTES)], [420, [DONT_FRAGMENT.type]]);
});

Deno.test("RFC 8656 §7.2, T12: RESERVATION-TOKEN goes with no other wish, and one that is not known gets 508", () => {
  const client = new ServerRig().client();
  const token = new Uint8Array(8).fill(5);
  const malformed = bytesAttribute(RESERVATION_TOKEN.type, "RESERVATION-TOKEN");
  assertEquals(codeOf(client.allocate((w) => w.add(RESERVATION_TOKEN, token))), 508);
  assertEquals(codeOf(client.allocate((w) => w.add(RESERVATION_TOKEN, token).add(EVEN_PORT, false))), 400);
  assertEquals(codeOf(client.allocate((w) => w.add(RESERVATION_TOKEN, token).add(REQUESTED_ADDRESS_FAMILY, 4))), 400);
  assertEquals(codeOf(client.allocate((w) => w.add(RESERVATION_TOKEN, token).add(ADDITIONAL_ADDRESS_FAMILY, 6))), 400);
  assertEquals(codeOf(client.allocate((w) => w.add(malformed, new Uint8Array(7)))), 400);
});

Deno.test("RFC 8656 §7.2, T13: the family that was asked for, IPv4 without a word, 440 if there is none", () => {
  const family = bytesAttribute(REQUESTED_ADDRESS_FAMILY.type, "REQUESTED-ADDRESS-FAMILY");
  const asking = (wish?: 4 | 6) => (writer: MessageWriter) => wish && writer.add(REQUESTED_ADDRESS_FAMILY, wish);
  for (
    const [options, wish, expected] of [
      [{}, undefined, SERVER.address],
      [{}, 4, SERVER.address],
      [{}, 6, SERVER6.address],
      [IPV4_ONLY, 6, 440],
      [IPV6_ONLY, undefined, 440],
      [IPV6_ONLY, 4, 440],
      [IPV6_ONLY, 6, SERVER6.address],
    ] as const
  ) {
    const answer = new ServerRig(options).client().allocate(asking(wish));
    assertEquals(codeOf(answer) || answer.get(XOR_RELAYED_ADDRESS)!.address, expected);
  }
  const client = new ServerRig().client();
  assertEquals(codeOf(client.allocate((w) => w.add(family, Uint8Array.of(3, 0, 0, 0)))), 440);
  assertEquals(codeOf(client.allocate((w) => w.add(family, Uint8Array.of(1, 0)))), 400);
  assertEquals(
    codeOf(client.allocate((w) => w.add(REQUESTED_ADDRESS_FAMILY, 4).add(ADDITIONAL_ADDRESS_FAMILY, 6))),
    400,
  );
});

Deno.test("RFC 8656 §7.2, T14: ADDITIONAL-ADDRESS-FAMILY gives both families in one allocation", () => {
  const rig = new ServerRig();
  const client = rig.client();
  const [first, second] = client.mustAllocate((writer) => writer.add(ADDITIONAL_ADDRESS_FAMILY, 6));
  assertEquals([first!.relayed.address, second!.relayed.address], [SERVER.address, SERVER6.address]);
  assertEquals(rig.server.counters.allocations, 1);
});

Deno.test("RFC 8656 §7.2, T14: ADDITIONAL-ADDRESS-FAMILY is IPv6 only, and takes no second port", () => {
  const client = new ServerRig().client();
  assertEquals(codeOf(client.allocate((w) => w.add(ADDITIONAL_ADDRESS_FAMILY, 4))), 400);
  assertEquals(codeOf(client.allocate((w) => w.add(ADDITIONAL_ADDRESS_FAMILY, 6).add(EVEN_PORT, true))), 400);
  const answer = client.allocate((w) => w.add(ADDITIONAL_ADDRESS_FAMILY, 6).add(EVEN_PORT, false));
  assertEquals(answer.getAll(XOR_RELAYED_ADDRESS).map((relayed) => relayed!.port % 2), [0, 0]);
});

Deno.test("RFC 8656 §7.2, T14: one family of two is a success that says why; none is 508", () => {
  const dual = (writer: MessageWriter) => writer.add(ADDITIONAL_ADDRESS_FAMILY, 6);
  for (const [options, family, error] of [[IPV4_ONLY, 6, 440], [IPV6_ONLY, 4, 440]] as const) {
    const answer = new ServerRig(options).client().allocate(dual);
    assertEquals(codeOf(answer), 0);
    assertEquals(answer.getAll(XOR_RELAYED_ADDRESS).length, 1);
    const { family: missing, code } = answer.get(ADDRESS_ERROR_CODE)!;
    assertEquals([missing, code], [family, error]);
  }
  const rig = new ServerRig({ relayPorts: { min: 50000, max: 50000 } });
  // Each address has one port.
  assertEquals(codeOf(rig.client().allocate((w) => w.add(REQUESTED_ADDRESS_FAMILY, 6))), 0);
  const half = rig.client(OTHER_CLIENT).allocate(dual);
  assertEquals([codeOf(half), half.get(ADDRESS_ERROR_CODE)?.code, half.get(ADDRESS_ERROR_CODE)?.family], [0, 508, 6]);
  assertEquals(codeOf(rig.client(TransportAddress.parse("192.0.2.9:1")).allocate(dual)), 508);
});

Deno.test("An RFC 5389 client may ask for both families by the number in use before IANA's", () => {
  const legacy = { ...ADDITIONAL_ADDRESS_FAMILY, type: 0x8032 };
  const dual = (writer: MessageWriter) => writer.add(legacy, 6);
  assertEquals(new ServerRig().client().allocate(dual).getAll(XOR_RELAYED_ADDRESS).length, 2);
  const modern = new ServerRig().client().allocate(dual, { auth: "sha256" });
  assertEquals(modern.getAll(XOR_RELAYED_ADDRESS).length, 1, "To others it is unknown and so ignored");
});

Deno.test("RFC 8656 §7.2, T15: EVEN-PORT gives an even port, and reserves the next one if asked", () => {
  const rig = new ServerRig();
  const even = rig.client().allocate((writer) => writer.add(EVEN_PORT, false));
  assertEquals(even.get(XOR_RELAYED_ADDRESS)!.port % 2, 0);
  assertEquals([even.has(RESERVATION_TOKEN), rig.server.sizes.ports, rig.server.sizes.reservations], [false, 1, 0]);
  const pair = rig.client(OTHER_CLIENT).allocate((writer) => writer.add(EVEN_PORT, true));
  const first = pair.get(XOR_RELAYED_ADDRESS)!;
  assertEquals([first.port % 2, rig.server.sizes.ports, rig.server.sizes.reservations], [0, 3, 1]);
  // The token is good for any client of the server.
  const third = rig.client(TransportAddress.parse("[2001:db8::7]:5000"), "bob");
  const token = pair.get(RESERVATION_TOKEN)!.slice();
  const second = third.allocate((writer) => writer.add(RESERVATION_TOKEN, token));
  assertEquals(String(second.get(XOR_RELAYED_ADDRESS)), String(first.withPort(first.port + 1)));
  assertEquals(rig.server.sizes.reservations, 0);
  assertEquals(
    codeOf(rig.client(TransportAddress.parse("192.0.2.9:1")).allocate((w) => w.add(RESERVATION_TOKEN, token))),
    508,
  );
});

Deno.test("RFC 8656 §7.2, T8: the token is in the answer to a repeated Allocate as well, and its use is repeatable", () => {
  const rig = new ServerRig();
  const client = rig.client();
  client.challenge();
  const request = client.build(METHOD.ALLOCATE, (writer) => addTransport(writer).add(EVEN_PORT, true));
  const token = client.ask(request).get(RESERVATION_TOKEN)!;
  assertEquals(client.ask(request).get(RESERVATION_TOKEN), token);
  const second = rig.client(OTHER_CLIENT);
  second.challenge();
  const claim = second.build(METHOD.ALLOCATE, (writer) => addTransport(writer).add(RESERVATION_TOKEN, token));
  const relayed = second.ask(claim).get(XOR_RELAYED_ADDRESS);
  assertEquals(String(second.ask(claim).get(XOR_RELAYED_ADDRESS)), String(relayed));
});

Deno.test("RFC 8656 §7.2, T15, T35: a reservation is held for 30 s, whatever becomes of its allocation, then freed", () => {
  const rig = new ServerRig();
  const client = rig.client();
  client.allocate((writer) => writer.add(EVEN_PORT, true));
  client.refresh(0);
  rig.advance(29_999);
  assertEquals(rig.server.sizes.reservations, 1);
  rig.advance(1);
  assertEquals(rig.leftovers, {});
  assertEquals(rig.io.closed.length, 2);
});

Deno.test("RFC 8656 §7.2, T15: a pair whose second port is taken is given back, and another one is tried", () => {
  const rig = new ServerRig({ relayPorts: { min: 50000, max: 50007 } });
  for (const port of [50001, 50003, 50005]) rig.failures.set(port, "address-in-use");
  const answer = rig.client().allocate((writer) => writer.add(EVEN_PORT, true));
  assertEquals(answer.get(XOR_RELAYED_ADDRESS)!.port, 50006);
  assertEquals([rig.server.sizes.ports, rig.server.sizes.openings], [2, 0]);
  const closed = rig.io.closed.length;
  assertEquals(closed, rig.server.counters.openFailures, "One socket was open for each second port that failed");
  const none = rig.client(OTHER_CLIENT).allocate((writer) => writer.add(EVEN_PORT, true));
  assertEquals(codeOf(none), 508);
  assertEquals(rig.server.sizes.ports, 2);
});

Deno.test("RFC 8656 §7.2, T16: a port that the host needs itself is passed over; when there is none left, 508", () => {
  const rig = new ServerRig({ relayPorts: { min: 50000, max: 50009 } });
  for (let port = 50000; port < 50009; port++) rig.failures.set(port, "address-in-use");
  assertEquals(rig.client().allocate().get(XOR_RELAYED_ADDRESS)!.port, 50009);
  assertEquals(codeOf(rig.client(OTHER_CLIENT).allocate()), 508);
  assertEquals(rig.server.sizes, { ...rig.server.sizes, ports: 1, openings: 0, users: 1, clients: 1 });
});

Deno.test("RFC 8656 §7.2, T16: tries are bounded; what is no matter of the port is not tried again", () => {
  const rig = new ServerRig({ relayPorts: { min: 50000, max: 59999 } });
  for (let port = 50000; port <= 59999; port++) rig.failures.set(port, "address-in-use");
  assertEquals(codeOf(rig.client().allocate()), 508);
  assertEquals(rig.server.counters.openFailures, 16);
  for (let port = 50000; port <= 59999; port++) rig.failures.set(port, "address-not-available");
  assertEquals(codeOf(rig.client().allocate()), 508);
  assertEquals(rig.server.counters.openFailures, 17);
  assertEquals(rig.leftovers, {});
});

Deno.test("RFC 8656 §7.2, T16: over a user's quota 486, over the server's 508, and freed ones count no more", () => {
  const rig = new ServerRig({ limits: { allocationsPerUser: 2, allocations: 3 } });
  const clients = Array.from({ length: 5 }, (_, i) => rig.client(CLIENT.withPort(1000 + i), i < 3 ? "alice" : "bob"));
  const codes = clients.map((client) => codeOf(client.allocate()));
  assertEquals(codes, [0, 0, 486, 0, 508]);
  clients[0]!.refresh(0);
  assertEquals(codeOf(clients[2]!.allocate()), 0);
});

Deno.test("RFC 8656 §7.2, T16: a reserved port counts as its user's, so that EVEN-PORT is no way around the quota", () => {
  const rig = new ServerRig({ limits: { allocationsPerUser: 2 } });
  assertEquals(codeOf(rig.client().allocate((writer) => writer.add(EVEN_PORT, true))), 0);
  assertEquals(codeOf(rig.client(OTHER_CLIENT).allocate()), 486);
  rig.advance(30_000);
  assertEquals(codeOf(rig.client(OTHER_CLIENT).allocate((writer) => writer.add(EVEN_PORT, true))), 486);
  assertEquals(codeOf(rig.client(OTHER_CLIENT).allocate()), 0);
});

Deno.test("RFC 8656 §7.2, T17: the lifetime is what was asked for, but no less than 600 s and no more than the maximum", () => {
  const rig = new ServerRig();
  const asked = [undefined, 0, 1, 599, 600, 601, 3599, 3600, 3601, 0xffffffff];
  const lifetimes = asked.map((lifetime, i) =>
    rig.client(CLIENT.withPort(1000 + i)).allocate((writer) => lifetime !== undefined && writer.add(LIFETIME, lifetime))
      .get(LIFETIME)
  );
  assertEquals(lifetimes, [600, 600, 600, 600, 600, 601, 3599, 3600, 3600, 3600]);
  const malformed = bytesAttribute(LIFETIME.type, "LIFETIME");
  assertEquals(codeOf(rig.client(OTHER_CLIENT).allocate((writer) => writer.add(malformed, new Uint8Array(2)))), 400);
  assertThrows(() => new ServerRig({ maxLifetime: 599 }), RangeError, "maxLifetime");
});

Deno.test("RFC 8656 §21.4: no request from a 6to4 or Teredo address is granted, unless allowed by name", () => {
  const tunnelled = ["[2002:c000:207::1]:5000", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]:5000"];
  for (const text of tunnelled) {
    const address = TransportAddress.parse(text);
    assertEquals(codeOf(new ServerRig().client(address).allocate()), 403);
    const peerPolicy = new PeerPolicy({ allow: ["2002::/16", "2001::/32"] });
    assertEquals(codeOf(new ServerRig({ peerPolicy }).client(address).allocate()), 0);
  }
});

Deno.test("RFC 8656 §7.2, T34: what clients are told in place of a relay address is of the same family", () => {
  const external = { address: SERVER.address, external: "203.0.113.77" };
  const answer = new ServerRig({ relayAddresses: [external] }).client().allocate();
  assertEquals(answer.get(XOR_RELAYED_ADDRESS)!.address, "203.0.113.77");
  const crossed = { address: SERVER.address, external: "2001:db8::77" };
  assertThrows(() => new ServerRig({ relayAddresses: [crossed] }), RangeError, "both must be IPv4 or both IPv6");
});

Deno.test("RFC 8489 §14.14: SOFTWARE goes to authenticated clients only, and only if there is one", () => {
  const client = new ServerRig({ software: "natkit" }).client();
  assert(!client.challenge().has(SOFTWARE));
  assertEquals(client.allocate().get(SOFTWARE), "natkit");
  assertEquals(client.refresh().get(SOFTWARE), "natkit");
  assert(!client.request(METHOD.CREATE_PERMISSION).has(SOFTWARE));
  assert(!new ServerRig().client().allocate().has(SOFTWARE));
  assertThrows(() => new ServerRig({ software: "x".repeat(128) }), RangeError);
});
