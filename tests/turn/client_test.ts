import { assert, assertEquals, assertInstanceOf, assertNotEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { TransportAddress } from "../../stun/address.ts";
import {
  ALTERNATE_SERVER,
  ERROR_CODE_ATTRIBUTE,
  NONCE,
  REALM,
  SOFTWARE,
  UNKNOWN_ATTRIBUTES,
  USERNAME,
  XOR_MAPPED_ADDRESS,
} from "../../stun/attributes.ts";
import { StunChallengeError } from "../../stun/credentials.ts";
import { StunIntegrityError, StunProtocolError, StunTimeoutError } from "../../stun/error.ts";
import { IntegrityKey } from "../../stun/integrity.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import { OpenError } from "../../stun/net/transport.ts";
import {
  CHANNEL_NUMBER,
  DATA,
  ICMP,
  LIFETIME,
  REQUESTED_ADDRESS_FAMILY,
  REQUESTED_TRANSPORT,
  XOR_PEER_ADDRESS,
  XOR_RELAYED_ADDRESS,
} from "../../turn/attributes.ts";
import { TURN_CLIENT_TRANSITIONS, type TurnClientState } from "../../turn/client_events.ts";
import { newTurnClientStats, type TurnClientStats } from "../../turn/client_stats.ts";
import { TurnError } from "../../turn/error.ts";
import {
  channelData,
  ClientRig,
  error,
  LOCAL,
  MAPPED,
  PEER,
  RELAYED,
  SERVER,
  silence,
  stale,
  usual,
} from "./_client_rig.ts";

const { ALLOCATE, REFRESH, CREATE_PERMISSION, CHANNEL_BIND } = METHOD;
const HOUR = 3_600_000;
const OTHER_PEER = TransportAddress.parse("203.0.113.51:7001");

function allocating(rig: ClientRig = new ClientRig()): ClientRig {
  rig.call((client, io) => client.allocate(io));
  return rig;
}

/** The error of the one event there is: `"failed"`. */
function failure(rig: ClientRig): Error {
  assertEquals(rig.events.map(({ type }) => type), ["failed"]);
  assertEquals(rig.client.state, "failed");
  return rig.eventsOf("failed")[0]!.error;
}

function assertStats(rig: ClientRig, expected: Partial<TurnClientStats>): void {
  assertEquals(rig.client.stats, { ...newTurnClientStats(), ...expected });
}

function dataIndication(from: TransportAddress, text: string): Uint8Array {
  return new MessageWriter(new Uint8Array(256)).begin(METHOD.DATA, "indication", new Uint8Array(12))
    .add(XOR_PEER_ADDRESS, from).add(DATA, new TextEncoder().encode(text)).finish();
}

Deno.test("RFC 8656 §7.1, RFC 8489 §9.2: the first Allocate has no credentials, the second what the 401 asks for", () => {
  const rig = allocating();
  rig.advance(100);
  const [first, second] = rig.sent.map(({ bytes }) => StunMessage.parse(bytes)!);
  assertEquals(first!.method, ALLOCATE);
  assertEquals(first!.attributeTypes(), [REQUESTED_TRANSPORT.type, SOFTWARE.type]);
  assertEquals(first!.get(REQUESTED_TRANSPORT), 17);
  assertEquals(first!.hasIntegrity, false);
  assertEquals(
    second!.attributeTypes(),
    [REQUESTED_TRANSPORT, SOFTWARE, USERNAME, REALM, NONCE].map(({ type }) => type),
  );
  assert(second!.verifyIntegrity(rig.server.key));
  assertNotEquals(first!.transactionKey, second!.transactionKey);
  assertEquals(rig.sent.map(({ at, to, socket }) => [at, String(to), socket]), [
    [1000, String(SERVER), 1],
    [1020, String(SERVER), 1],
  ]);
  const relayedAddresses = [RELAYED];
  assertEquals(rig.events, [{ type: "allocated", relayed: RELAYED, relayedAddresses, mapped: MAPPED, lifetime: 600 }]);
  assertEquals(rig.client.localAddress, LOCAL.withPort(50001));
  assertEquals(rig.opened, [{ transport: "udp", address: LOCAL.address, port: 0, icmp: true }]);
});

Deno.test("RFC 8656 §7.1: family, lifetime and software are asked for when they are given", () => {
  const rig = allocating(new ClientRig({ requestedFamily: 6, lifetime: 1800, software: "test" }));
  rig.advance(100);
  const message = StunMessage.parse(rig.sent[1]!.bytes)!;
  assertEquals(message.get(REQUESTED_ADDRESS_FAMILY), 6);
  assertEquals(message.get(LIFETIME), 1800);
  assertEquals(message.get(SOFTWARE), "test");
  assertEquals(rig.eventsOf("allocated").map(({ relayed }) => String(relayed)), ["[2001:db8::1]:55000"]);
});

Deno.test("RFC 8489 §6.2.1: an Allocate leaves at 0, 500, 1500, 3500, 7500, 15500, 31500 ms and fails at 39500 ms", () => {
  const rig = new ClientRig();
  rig.server.script(ALLOCATE, ...Array(7).fill(silence));
  allocating(rig);
  rig.advance(39_499);
  assertEquals(rig.server.times(ALLOCATE).map((at) => at - 1000), [0, 500, 1500, 3500, 7500, 15500, 31500]);
  assertEquals(rig.events, []);
  rig.advance(1);
  assertInstanceOf(failure(rig), StunTimeoutError);
  assertEquals(rig.events.map((event) => event.type === "failed" && event.error.message), [
    "Cannot allocate on 198.51.100.1:3478: 198.51.100.1:3478 did not answer 7 requests",
  ]);
  assertEquals(rig.client.deadline, Infinity);
  assertEquals(rig.closed, [1]);
});

Deno.test("RFC 8489 §6.2.1: an answer to a retransmission is as good; another one after it changes nothing", () => {
  const rig = new ClientRig({ retransmit: { rto: 10 } });
  allocating(rig);
  rig.advance(200);
  // Each request was repeated before its answer came, and each repetition was answered: 2 of 4 answers came too late.
  assertEquals(rig.server.count(ALLOCATE), 4);
  assertEquals(rig.events.length, 1);
  assertStats(rig, { rejectedResponse: 2 });
});

Deno.test("T-Client a, RFC 8656 §7.4: a 401 in spite of credentials fails at once, and says what to check", () => {
  const rig = allocating(new ClientRig({ credentials: { username: "alice", password: "wrong" } }));
  rig.advance(40);
  assertEquals(rig.server.count(ALLOCATE), 2);
  const failed = failure(rig);
  assertInstanceOf(failed, TurnError);
  assertEquals([failed.code, failed.retryAfter], [401, Infinity]);
  assertEquals(
    failed.message,
    "Cannot allocate on 198.51.100.1:3478: 401 Reason 401 (check user name and password)",
  );
});

Deno.test("T-Client b, RFC 8656 §7.4: codes that end it, how long to leave the server alone, and that nothing is sent again", () => {
  for (
    const [code, retryAfter] of [
      [400, 0],
      [403, Infinity],
      [440, Infinity],
      [441, Infinity],
      [442, Infinity],
      [
        486,
        60_000,
      ],
      [508, 60_000],
      [500, 0],
      [699, 0],
    ] as const
  ) {
    const rig = new ClientRig();
    rig.server.script(ALLOCATE, usual, error(code));
    allocating(rig);
    rig.advance(60_000);
    const failed = failure(rig);
    assertInstanceOf(failed, TurnError);
    assertEquals([failed.code, failed.reason, failed.retryAfter], [code, `Reason ${code}`, retryAfter]);
    assertEquals(failed.message.split("\n").length, 1);
    assertEquals(rig.server.count(ALLOCATE), 2);
  }
});

Deno.test("RFC 8489 §9.2: without a user name, a 401 says that one is wanted; a server that wants none is fine", () => {
  const refused = allocating(new ClientRig({}, false));
  refused.advance(100);
  assertEquals(failure(refused).message.endsWith("401 Reason 401 (it wants user name and password)"), true);
  const open = new ClientRig();
  open.server.password = undefined;
  allocating(open);
  open.advance(100);
  assertEquals(open.client.state, "allocated");
  assertEquals(open.server.count(ALLOCATE), 1);
});

Deno.test("T-Client b, RFC 8656 §7.4: after a 437 another local port is tried, three in all", () => {
  const once = new ClientRig({ localPort: 50000 });
  once.server.script(ALLOCATE, usual, error(437));
  allocating(once);
  once.advance(200);
  assertEquals(once.client.state, "allocated");
  assertEquals(once.opened.map(({ port }) => port), [50000, 0]);
  assertEquals(once.closed, [1]);
  assertEquals(once.client.localAddress, LOCAL.withPort(50002));

  const always = new ClientRig();
  always.server.script(ALLOCATE, usual, error(437), error(437), error(437), error(437));
  allocating(always);
  always.advance(HOUR);
  const failed = failure(always);
  assertInstanceOf(failed, TurnError);
  assertEquals([failed.code, failed.retryAfter], [437, 120_000]);
  assertEquals(always.opened.length, 3);
  assertEquals(always.closed, [1, 2, 3]);
});

Deno.test("T-Client b, RFC 8489 §10: a 300 leads to the server that it names, with the same credentials from the beginning", () => {
  const next = TransportAddress.parse("198.51.100.2:3478");
  const rig = new ClientRig();
  const six = TransportAddress.parse("[2001:db8::2]:3478");
  rig.server.script(
    ALLOCATE,
    usual,
    error(300, (writer) => {
      writer.add(ALTERNATE_SERVER, six).add(ALTERNATE_SERVER, next);
    }),
  );
  allocating(rig);
  rig.advance(25);
  rig.serverAddress = SERVER;
  rig.advance(20);
  assertEquals(String(rig.client.server), String(next));
  const last = StunMessage.parse(rig.sent.at(-1)!.bytes)!;
  assertEquals([String(rig.sent.at(-1)!.to), last.method, last.hasIntegrity], [String(next), ALLOCATE, false]);
  rig.serverAddress = next;
  rig.advance(600);
  assertEquals(rig.client.state, "allocated");
});

Deno.test("T-Client b, RFC 8489 §10: servers that name each other, or a dozen more, do not send a client round for ever", () => {
  const rig = new ClientRig();
  rig.server.script(ALLOCATE, error(300, (writer) => writer.add(ALTERNATE_SERVER, SERVER)));
  allocating(rig);
  rig.advance(100);
  const loop = failure(rig);
  assertInstanceOf(loop, TurnError);
  assertEquals(loop.alternates.map(String), [String(SERVER)]);

  const chain = new ClientRig();
  allocating(chain);
  chain.server.next.clear();
  for (let i = 2; i < 20 && chain.client.state === "allocating"; i++) {
    const request = StunMessage.parse(chain.sent.at(-1)!.bytes)!;
    const next = TransportAddress.of(`198.51.100.${i}`, 3478);
    const from = chain.client.server;
    chain.receive(error(300, (writer) => writer.add(ALTERNATE_SERVER, next))(request, chain.server)!, { from });
  }
  assertInstanceOf(failure(chain), TurnError);
  assertEquals(String(chain.client.server), "198.51.100.4:3478");
});

Deno.test("T-Client c, RFC 6156 §4.1.1: a server that knows no REQUESTED-ADDRESS-FAMILY is asked for IPv4 without it", () => {
  const rig = new ClientRig({ requestedFamily: 4 });
  const unknown = error(420, (writer) => writer.add(UNKNOWN_ATTRIBUTES, [REQUESTED_ADDRESS_FAMILY.type]));
  rig.server.script(ALLOCATE, usual, unknown);
  allocating(rig);
  rig.advance(100);
  assertEquals(rig.client.state, "allocated");
  assert(!StunMessage.parse(rig.sent.at(-1)!.bytes)!.has(REQUESTED_ADDRESS_FAMILY));

  const six = new ClientRig({ requestedFamily: 6 });
  six.server.script(ALLOCATE, usual, unknown);
  allocating(six);
  six.advance(100);
  assertInstanceOf(failure(six), TurnError);
});

Deno.test("RFC 8656 §7.3: an allocation of the wrong family, or without what it must have, is given back", () => {
  const strip = (add: (writer: MessageWriter) => unknown) => (request: StunMessage) => {
    const writer = new MessageWriter(new Uint8Array(512)).beginResponse(request, "success");
    add(writer);
    return writer.addIntegrity(IntegrityKey.longTerm("alice", "example.org", "secret")).finish();
  };
  const six = TransportAddress.parse("[2001:db8::1]:55000");
  const answers: [(writer: MessageWriter) => unknown, string][] = [
    [(writer) => writer.add(XOR_RELAYED_ADDRESS, six).add(XOR_MAPPED_ADDRESS, MAPPED), "is IPv6"],
    [(writer) => writer.add(XOR_RELAYED_ADDRESS, RELAYED), "does not name"],
    [(writer) => writer.add(XOR_MAPPED_ADDRESS, MAPPED), "does not name"],
    [
      (writer) => writer.add(XOR_RELAYED_ADDRESS, RELAYED).add(XOR_MAPPED_ADDRESS, MAPPED).add(LIFETIME, 0),
      "lifetime is 0",
    ],
  ];
  for (const [add, why] of answers) {
    const rig = new ClientRig({ requestedFamily: 4 });
    rig.server.script(ALLOCATE, usual, strip(add));
    allocating(rig);
    rig.advance(5000);
    const failed = failure(rig);
    assertInstanceOf(failed, StunProtocolError);
    assert(failed.message.includes(why), failed.message);
    assertEquals(rig.server.count(REFRESH), 1);
    assertEquals(StunMessage.parse(rig.sent.at(-1)!.bytes)!.get(LIFETIME), 0);
    assertEquals(rig.closed, [1]);
  }
});

Deno.test("RFC 8489 §6.3.3: a success with a comprehension-required attribute that is not known has failed", () => {
  const rig = new ClientRig();
  const strange = { type: 0x7abc, name: "?", read: () => undefined, write() {} };
  rig.server.script(
    ALLOCATE,
    usual,
    (request, server) => server.success(request, (writer) => writer.add(strange, undefined)),
  );
  allocating(rig);
  rig.advance(100);
  assertInstanceOf(failure(rig), StunProtocolError);
});

Deno.test("RFC 8489 §9.2.5: answers without integrity are as silence, but reported as what they are", () => {
  const rig = new ClientRig();
  const unsigned = (request: StunMessage) =>
    new MessageWriter(new Uint8Array(128)).beginResponse(request, "success").add(XOR_RELAYED_ADDRESS, RELAYED)
      .add(XOR_MAPPED_ADDRESS, MAPPED).finish();
  rig.server.script(ALLOCATE, usual, ...Array(7).fill(unsigned));
  allocating(rig);
  rig.advance(60_000);
  const failed = failure(rig);
  assertInstanceOf(failed, StunIntegrityError);
  assert(failed.message.includes(`no answer of 198.51.100.1:3478 was authenticated; the last one said "success"`));
  assertEquals([failed.isSigned, rig.server.count(ALLOCATE)], [true, 8]);
  assertStats(rig, { rejectedIntegrity: 7 });

  // A server that does not even challenge, as one for STUN only.
  const other = new ClientRig();
  const badRequest = (request: StunMessage) =>
    new MessageWriter(new Uint8Array(128)).beginResponse(request, "error")
      .add(ERROR_CODE_ATTRIBUTE, { code: 400, reason: "" }).finish();
  other.server.script(ALLOCATE, ...Array(7).fill(badRequest));
  allocating(other);
  other.advance(60_000);
  const refused = failure(other);
  assertInstanceOf(refused, StunIntegrityError);
  assertEquals(refused.isSigned, false);
});

Deno.test("RFC 8489 §9.2.5: a challenge that cannot be met ends it with a clear line", () => {
  const rig = new ClientRig();
  rig.server.script(ALLOCATE, error(401));
  allocating(rig);
  rig.advance(100);
  const failed = failure(rig);
  assertInstanceOf(failed, StunChallengeError);
  assertEquals(
    failed.message,
    "Cannot allocate on 198.51.100.1:3478: the server's challenge has no valid REALM or no valid NONCE",
  );
});

Deno.test("TurnClient: a socket that cannot be bound", () => {
  const rig = new ClientRig();
  rig.openFailures.push("address-not-available");
  allocating(rig);
  const failed = failure(rig);
  assertInstanceOf(failed, OpenError);
  assertEquals(failed.failure, "address-not-available");
});

Deno.test("T-Client a, RFC 8489 §9.2.5: 438 is met with the new nonce in every method, as often as it comes with another", () => {
  const rig = ClientRig.allocated();
  const requests: [number, () => void][] = [
    [CREATE_PERMISSION, () => rig.call((client, io) => client.createPermission(PEER, io))],
    [CHANNEL_BIND, () => rig.call((client, io) => client.bindChannel(PEER, io))],
    [REFRESH, () => rig.advance(540_000)],
    [REFRESH, () => rig.call((client, io) => client.close(io))],
  ];
  let nonce = 10;
  for (const [method, start] of requests) {
    rig.reset();
    rig.server.script(method, ...[0, 1, 2].map(() => stale(`nonce-${nonce++}`)));
    start();
    rig.advance(100);
    assertEquals(
      rig.server.log.filter((entry) => entry.method === method).map(({ code }) => code),
      [438, 438, 438, 0],
      String(method),
    );
  }
  assertEquals(rig.client.state, "closed");
  assertEquals(rig.events.map(({ type }) => type), ["closed"]);
});

Deno.test("T-Client a, RFC 8489 §9.2.5: 438 with the nonce that was just used is final; new nonces without end are too", () => {
  const same = ClientRig.allocated();
  same.server.script(CREATE_PERMISSION, (request, server) => server.challenge(request, 438));
  same.call((client, io) => client.createPermission(PEER, io));
  same.advance(1000);
  assertEquals(same.eventsOf("permission-failed").map(({ code }) => code), [438]);
  assertEquals(same.server.count(CREATE_PERMISSION), 1);

  const endless = ClientRig.allocated();
  endless.server.script(CREATE_PERMISSION, ...Array.from({ length: 20 }, (_, i) => stale(`endless-${i}`)));
  endless.call((client, io) => client.createPermission(PEER, io));
  endless.advance(1000);
  assertEquals(endless.eventsOf("permission-failed").map(({ code }) => code), [438]);
  assertEquals(endless.server.count(CREATE_PERMISSION), 6);
});

Deno.test("RFC 8489 §9.2.5: requests that were under way together when the nonce went stale all get through", () => {
  const rig = ClientRig.allocated();
  rig.server.nonce = "later";
  for (let i = 1; i <= 5; i++) {
    const peer = TransportAddress.of(`203.0.113.${i}`, 7000);
    rig.call((client, io) => client.createPermission(peer, io));
  }
  rig.advance(100);
  assertEquals(rig.eventsOf("permission").length, 5);
  assertEquals(rig.server.log.map(({ code }) => code), [...Array(5).fill(438), ...Array(5).fill(0)]);
});

Deno.test("RFC 8656 §8: a day of upkeep: the allocation a minute before its end, permissions and channels in time", () => {
  const rig = ClientRig.allocated();
  const start = rig.now;
  rig.call((client, io) => client.createPermission(OTHER_PEER, io));
  rig.call((client, io) => client.bindChannel(PEER, io));
  for (let hour = 0; hour < 24; hour++) {
    rig.advance(HOUR);
    // RFC 8656 §5: nonces live for an hour at most.
    rig.server.nonce = `hour-${hour}`;
  }
  assertEquals(rig.client.state, "allocated");
  assertEquals(rig.events.map(({ type }) => type), ["permission", "channel-bound", "permission"]);
  const gaps = (method: number, from: number) => {
    const times = rig.server.log.filter((entry) => entry.method === method && entry.code === 0).map(({ at }) => at);
    return new Set([from, ...times].slice(0, -1).map((at, i) => Math.round((times[i]! - at) / 1000)));
  };
  assertEquals(gaps(REFRESH, start - 80), new Set([540]));
  // The ChannelBind refreshes the permission as well, so it keeps to the permission's 300 s.
  assertEquals(gaps(CREATE_PERMISSION, rig.server.times(CREATE_PERMISSION)[0]! - 240_000), new Set([240]));
  assertEquals(gaps(CHANNEL_BIND, rig.server.times(CHANNEL_BIND)[0]! - 240_000), new Set([240]));
  // The 361st would be due at the very end, but for the round trips that stale nonces have cost.
  const count = (method: number) =>
    rig.server.log.filter((entry) => entry.method === method && entry.code === 0).length;
  assertEquals([REFRESH, CREATE_PERMISSION, CHANNEL_BIND].map(count), [160, 360, 360]);
});

Deno.test("RFC 8656 §8.1: a short lifetime is refreshed at half, and the server's word counts, not what was asked for", () => {
  const rig = ClientRig.allocated({ lifetime: 3600 }, 90);
  const asked = rig.now - 80;
  rig.advance(100_000);
  assertEquals(rig.server.times(REFRESH).map((at) => at - asked), [45_000, 90_000]);
  assertEquals(StunMessage.parse(rig.sent[0]!.bytes)!.get(LIFETIME), 3600);
});

Deno.test("RFC 8656 §8.3: a 437 to Refresh means that the allocation is gone", () => {
  const rig = ClientRig.allocated();
  rig.server.script(REFRESH, error(437));
  rig.advance(HOUR);
  const failed = failure(rig);
  assertInstanceOf(failed, TurnError);
  assertEquals(failed.code, 437);
  assertEquals(rig.server.count(REFRESH), 1);
  assertEquals(rig.client.deadline, Infinity);
});

Deno.test("RFC 8656 §8: a silent server is asked to refresh until the very end; then the allocation is lost", () => {
  const rig = ClientRig.allocated();
  const asked = rig.now - 80;
  rig.server.script(REFRESH, ...Array(100).fill(silence));
  rig.advance(HOUR);
  const failed = failure(rig);
  assertInstanceOf(failed, StunTimeoutError);
  assertInstanceOf(failed.cause, StunTimeoutError);
  const times = rig.server.times(REFRESH).map((at) => (at - asked) / 1000);
  assertEquals(times, [540, 540.5, 541.5, 543.5, 547.5, 555.5, 571.5, 584.5, 585, 586, 588, 592]);
});

Deno.test("RFC 8489 §6.3.4: a 500 to Refresh is tried again while there is time; one that comes back in time is enough", () => {
  const rig = ClientRig.allocated();
  rig.server.script(REFRESH, error(500), ...Array(7).fill(silence));
  rig.advance(10 * 60_000);
  assertEquals(rig.client.state, "allocated");
  rig.advance(HOUR);
  assertEquals(rig.client.state, "allocated");
  assertEquals(rig.events, []);
});

Deno.test("RFC 8656 §7.4: Refresh refused for good (403) loses the allocation at once", () => {
  const rig = ClientRig.allocated();
  rig.server.script(REFRESH, error(403));
  rig.advance(HOUR);
  assertEquals((failure(rig) as TurnError).code, 403);
});

Deno.test("RFC 8656 §11.1: data waits for the permission that it needs, and leaves when it is there", () => {
  const rig = ClientRig.allocated();
  rig.send(PEER, "one");
  rig.send(PEER, "two");
  rig.send(PEER.withPort(7001), "three");
  assertEquals(rig.data(), []);
  assertEquals(rig.server.count(CREATE_PERMISSION), 1);
  rig.advance(19);
  assertEquals(rig.data(), []);
  rig.advance(1);
  const sent = rig.data().map((bytes) => StunMessage.parse(bytes)!);
  assertEquals(sent.map((message) => [message.method, message.class, String(message.get(XOR_PEER_ADDRESS))]), [
    [METHOD.SEND, "indication", String(PEER)],
    [METHOD.SEND, "indication", String(PEER)],
    [METHOD.SEND, "indication", String(PEER.withPort(7001))],
  ]);
  assertEquals(sent.map((message) => new TextDecoder().decode(message.get(DATA))), ["one", "two", "three"]);
  assertEquals(rig.events, [{ type: "permission", peer: PEER }]);
  rig.send(PEER, "four");
  assertEquals(rig.data().length, 4);
  assertNotEquals(sent[0]!.transactionKey, sent[1]!.transactionKey);
  assertStats(rig, { held: 3, sentIndications: 4 });
});

Deno.test("RFC 8656 §11.1: what waits for a permission is bounded by number and by size for each peer", () => {
  const rig = ClientRig.allocated();
  for (let i = 0; i < 20; i++) rig.send(PEER, `${i}`);
  rig.client.handleSend(OTHER_PEER, new Uint8Array(16_384), 0, 16_384, rig.io);
  rig.send(OTHER_PEER, "one more");
  rig.client.handleSend(TransportAddress.parse("203.0.113.52:1"), new Uint8Array(16_385), 0, 16_385, rig.io);
  rig.advance(20);
  assertEquals(rig.data().length, 17);
  assertStats(rig, { held: 17, sentIndications: 17, droppedQueueFull: 6 });
});

Deno.test("RFC 8656 §10.2: a refused peer is reported once; mere data does not ask again for a minute, createPermission() does", () => {
  const rig = ClientRig.allocated();
  rig.server.script(CREATE_PERMISSION, error(403), error(403));
  rig.send(PEER, "one");
  rig.advance(20);
  assertEquals(rig.eventsOf("permission-failed").map(({ peer, code }) => [String(peer), code]), [[String(PEER), 403]]);
  rig.send(PEER, "two");
  rig.advance(30_000);
  assertEquals(rig.server.count(CREATE_PERMISSION), 1);
  rig.call((client, io) => client.createPermission(PEER, io));
  rig.advance(100);
  assertEquals(rig.server.count(CREATE_PERMISSION), 2);
  rig.advance(60_001);
  rig.send(PEER, "three");
  rig.advance(100);
  assertEquals(rig.server.count(CREATE_PERMISSION), 3);
  assertEquals(rig.data().length, 1);
  assertStats(rig, { held: 2, droppedRefused: 2, sentIndications: 1 });
  assertEquals(rig.client.state, "allocated");
});

Deno.test("RFC 8656 §9: the permission of a peer without traffic ends; one that was asked for by name, or is used, is kept", () => {
  const rig = ClientRig.allocated();
  rig.send(PEER, "once");
  rig.advance(200_000);
  // Whatever comes from the peer counts as traffic too.
  rig.receive(dataIndication(PEER, "answer"));
  rig.advance(50_000);
  assertEquals(rig.server.count(CREATE_PERMISSION), 2);
  // At 480 s the traffic at 200 s is not yet 5 minutes old; at 720 s it is.
  rig.advance(HOUR);
  assertEquals(rig.server.count(CREATE_PERMISSION), 3);
  rig.receive(dataIndication(PEER, "too late"));
  assertEquals(rig.delivered.length, 1);
  assertEquals(rig.client.stats.rejectedPeer, 1);
  rig.send(PEER, "again");
  rig.advance(20);
  assertEquals(rig.data().length, 2);
});

Deno.test("RFC 8656 §9: a permission that cannot be refreshed is tried until it has expired, then reported", () => {
  const rig = ClientRig.allocated();
  rig.call((client, io) => client.createPermission(PEER, io));
  rig.advance(20);
  const asked = rig.server.times(CREATE_PERMISSION)[0]!;
  rig.server.script(CREATE_PERMISSION, ...Array(100).fill(silence));
  rig.advance(HOUR / 6);
  const [failed] = rig.eventsOf("permission-failed");
  assertEquals(failed!.code, undefined);
  assertInstanceOf(failed!.error, StunTimeoutError);
  // Two transactions: at 240 s and, 5 s after its end, at 284.5 s, which ends after the permission has.
  const times = rig.server.times(CREATE_PERMISSION).map((at) => (at - asked) / 1000);
  assertEquals([times.length, times[1], times[8]], [15, 240, 284.5]);
  assertEquals(rig.client.state, "allocated");
});

Deno.test("RFC 8656 §5: 437 to CreatePermission or ChannelBind means that the allocation is gone", () => {
  for (const method of [CREATE_PERMISSION, CHANNEL_BIND]) {
    const rig = ClientRig.allocated();
    rig.server.script(method, error(437));
    if (method === CREATE_PERMISSION) rig.call((client, io) => client.createPermission(PEER, io));
    else rig.call((client, io) => client.bindChannel(PEER, io));
    rig.send(PEER, "held");
    rig.advance(5000);
    assertEquals((failure(rig) as TurnError).code, 437);
    assertEquals(rig.server.count(REFRESH), 0);
    assertStats(rig, { held: 1, droppedRefused: 1 });
  }
});

Deno.test("RFC 8656 §12.3: a 400 to the refresh of what was there deletes the allocation; to a new one it does not", () => {
  for (const method of [CREATE_PERMISSION, CHANNEL_BIND]) {
    const rig = ClientRig.allocated();
    if (method === CREATE_PERMISSION) rig.call((client, io) => client.createPermission(PEER, io));
    else rig.call((client, io) => client.bindChannel(PEER, io));
    rig.advance(100);
    rig.reset();
    rig.server.script(method, error(400));
    rig.advance(300_000);
    assertEquals((failure(rig) as TurnError).code, 400);
    assertEquals(rig.server.count(REFRESH), 1);
    assertEquals(StunMessage.parse(rig.sent.at(-1)!.bytes)!.get(LIFETIME), 0);
    assertEquals(rig.closed, [1]);
  }
  const fresh = ClientRig.allocated();
  fresh.server.script(CHANNEL_BIND, error(400));
  fresh.server.script(CREATE_PERMISSION, error(400));
  fresh.call((client, io) => client.createPermission(OTHER_PEER, io));
  fresh.call((client, io) => client.bindChannel(PEER, io));
  fresh.advance(100);
  assertEquals(fresh.events.map(({ type }) => type), ["permission-failed", "channel-failed", "permission-failed"]);
  // The server still has the allocation: a Refresh has made sure of it.
  assertEquals([fresh.client.state, fresh.server.count(REFRESH)], ["allocated", 1]);
});

Deno.test("RFC 8656 §8.3: a server that was restarted and says 400 to CreatePermission is found out by a Refresh", () => {
  const rig = ClientRig.allocated();
  rig.server.script(CREATE_PERMISSION, error(400));
  rig.server.script(REFRESH, error(437));
  rig.call((client, io) => client.createPermission(PEER, io));
  rig.advance(40);
  assertEquals(rig.events.map(({ type }) => type), ["permission-failed", "failed"]);
  assertEquals((rig.eventsOf("failed")[0]!.error as TurnError).code, 437);
});

Deno.test("RFC 8656 §12: a channel is bound once, its number is 0x4000 and up, data then has 4 bytes in front", () => {
  const rig = ClientRig.allocated();
  rig.call((client, io) => client.bindChannel(PEER, io));
  rig.call((client, io) => client.bindChannel(PEER, io));
  rig.call((client, io) => client.bindChannel(PEER.withPort(7001), io));
  rig.send(PEER, "early");
  rig.advance(20);
  const [first, second] = rig.sent.map(({ bytes }) => StunMessage.parse(bytes)).filter((message) =>
    message?.method === CHANNEL_BIND
  );
  assertEquals([first!.get(CHANNEL_NUMBER), second!.get(CHANNEL_NUMBER)], [0x4000, 0x4001]);
  assertEquals(rig.eventsOf("channel-bound").map(({ number }) => number), [0x4000, 0x4001]);
  assertEquals(rig.eventsOf("permission").length, 1);
  assertEquals(rig.data(), [channelData(0x4000, "early")]);
  rig.send(PEER.withPort(7001), "x");
  assertEquals(rig.data()[1], channelData(0x4001, "x"));
  rig.call((client, io) => client.bindChannel(PEER, io));
  assertEquals(rig.eventsOf("channel-bound").length, 3);
  assertEquals(rig.server.count(CHANNEL_BIND), 2);
  assertEquals(rig.server.count(CREATE_PERMISSION), 0);
  assertStats(rig, { held: 1, sentChannelData: 2 });
});

Deno.test("RFC 8656 §12: until the channel is confirmed, data goes by the permission that is there already", () => {
  const rig = ClientRig.allocated();
  rig.call((client, io) => client.createPermission(PEER, io));
  rig.advance(100);
  rig.call((client, io) => client.bindChannel(PEER, io));
  rig.send(PEER, "before");
  assertEquals(StunMessage.parse(rig.data()[0]!)!.method, METHOD.SEND);
  rig.advance(20);
  rig.send(PEER, "");
  assertEquals(rig.data()[1], channelData(0x4000, ""));
});

Deno.test("RFC 8656 §12: two channels to one IP address share a permission, and each is bound again within 600 s", () => {
  const rig = ClientRig.allocated();
  rig.call((client, io) => client.bindChannel(PEER, io));
  rig.call((client, io) => client.bindChannel(PEER.withPort(7001), io));
  rig.advance(HOUR);
  const times = new Map<number, number[]>([[0x4000, []], [0x4001, []]]);
  for (const { bytes, at } of rig.sent) {
    const message = StunMessage.parse(bytes)!;
    if (message.method === CHANNEL_BIND) times.get(message.get(CHANNEL_NUMBER)!)!.push(at);
  }
  for (const [channel, at] of times) {
    const longest = Math.max(...at.slice(1).map((time, i) => time - at[i]!), rig.now - at.at(-1)!);
    assert(longest <= 540_000, `${channel.toString(16)}: ${longest}`);
  }
  assertEquals(rig.server.count(CREATE_PERMISSION), 0);
  assertEquals(rig.events.length, 3);
});

Deno.test("RFC 8656 §12: a refused channel leaves Send indications; its number and peer stay together while they rest", () => {
  const rig = ClientRig.allocated();
  rig.call((client, io) => client.createPermission(PEER, io));
  rig.server.script(CHANNEL_BIND, error(508));
  rig.call((client, io) => client.bindChannel(PEER, io));
  rig.advance(20);
  assertEquals(rig.eventsOf("channel-failed").map(({ code }) => code), [508]);
  rig.send(PEER, "x");
  assertEquals(StunMessage.parse(rig.data()[0]!)!.method, METHOD.SEND);
  rig.call((client, io) => client.bindChannel(OTHER_PEER, io));
  rig.call((client, io) => client.bindChannel(PEER, io));
  rig.advance(20);
  assertEquals(rig.eventsOf("channel-bound").map(({ peer, number }) => [String(peer), number]), [
    [String(OTHER_PEER), 0x4001],
    [String(PEER), 0x4000],
  ]);
});

Deno.test("RFC 8656 §12: a channel that cannot be refreshed is tried until its end, then data goes by indication", () => {
  const rig = ClientRig.allocated();
  rig.call((client, io) => client.bindChannel(PEER, io));
  rig.advance(20);
  rig.server.script(CHANNEL_BIND, ...Array(1000).fill(error(500)));
  rig.advance(601_000);
  // The permission does not go with it.
  assertEquals(rig.events.map(({ type }) => type), ["channel-bound", "permission", "channel-failed"]);
  const start = rig.server.times(CHANNEL_BIND)[0]!;
  assertEquals(rig.server.times(CHANNEL_BIND).map((at) => Math.floor((at - start) / 1000)), [
    0,
    240,
    540,
    555,
    570,
    585,
  ]);
  assertEquals(rig.server.times(CREATE_PERMISSION).map((at) => Math.floor((at - start) / 1000)), [255, 495]);
  rig.send(PEER, "x");
  assertEquals(StunMessage.parse(rig.data()[0]!)!.method, METHOD.SEND);
  // The number rests for 5 minutes after the 10 that the server may still count.
  rig.advance(899_000);
  rig.server.next.clear();
  rig.call((client, io) => client.bindChannel(OTHER_PEER, io));
  rig.advance(20);
  assertEquals(rig.eventsOf("channel-bound").at(-1)!.number, 0x4001);
});

Deno.test("RFC 8656 §12: there are 4096 channels, and no more", () => {
  const rig = ClientRig.allocated();
  for (let i = 0; i <= 4096; i++) {
    rig.call((client, io) => client.bindChannel(TransportAddress.of("203.0.113.60", 1000 + i), io));
  }
  // Ten at a time (RFC 8489 §6.2).
  rig.advance(10_000);
  assertEquals(rig.eventsOf("channel-bound").length, 4096);
  assertEquals(rig.eventsOf("channel-bound").at(-1)!.number, 0x4fff);
  assertEquals(rig.eventsOf("channel-failed").length, 1);
});

Deno.test("RFC 8656 §11.4, §12.6: data comes from permitted peers only, and lies in the packet's own memory", () => {
  const rig = ClientRig.allocated();
  rig.receive(dataIndication(PEER, "stranger"));
  rig.receive(channelData(0x4000, "stranger"));
  rig.call((client, io) => client.bindChannel(PEER, io));
  // RFC 8656 §12: data may come before the success response does.
  rig.receive(channelData(0x4000, "early"));
  rig.advance(20);
  rig.receive(channelData(0x4000, "channel"));
  rig.receive(channelData(0x4000, ""));
  rig.receive(channelData(0x4000, "padded...", 6));
  rig.receive(dataIndication(PEER.withPort(9), "indication"));
  rig.receive(channelData(0x4000, "short", 6));
  rig.receive(channelData(0x4001, "other channel"));
  rig.receive(dataIndication(OTHER_PEER, "stranger"));
  assertEquals(rig.delivered, [
    { from: String(PEER), text: "early", headroom: 8 },
    { from: String(PEER), text: "channel", headroom: 8 },
    { from: String(PEER), text: "", headroom: 8 },
    { from: String(PEER), text: "padded", headroom: 8 },
    { from: String(PEER.withPort(9)), text: "indication", headroom: 4 + 20 + 12 + 4 },
  ]);
  assertStats(rig, {
    receivedChannelData: 4,
    receivedIndications: 1,
    rejectedPeer: 2,
    rejectedChannel: 2,
    rejectedMalformed: 1,
  });
});

Deno.test("RFC 8656 §12.6, RFC 8489 §6.3: what is right in all but its source changes nothing", () => {
  const rig = ClientRig.allocated();
  rig.call((client, io) => client.bindChannel(PEER, io));
  rig.advance(20);
  rig.reset();
  rig.server.script(CREATE_PERMISSION, silence);
  rig.call((client, io) => client.createPermission(OTHER_PEER, io));
  const answer = rig.server.success(StunMessage.parse(rig.sent[0]!.bytes)!);
  const packets = [answer, channelData(0x4000, "data"), dataIndication(PEER, "data")];
  for (const packet of packets) {
    rig.receive(packet, { from: SERVER.withPort(3479) });
    rig.receive(packet, { from: TransportAddress.parse("198.51.100.2:3478") });
    rig.receive(packet, { socket: rig.socket + 1 });
  }
  assertEquals([rig.events, rig.delivered], [[], []]);
  assertEquals(rig.client.stats.rejectedSource, 9);
  for (const packet of packets) rig.receive(packet);
  assertEquals([rig.events.length, rig.delivered.length], [1, 2]);
});

Deno.test("RFC 8656 §12.6: on a channel that has expired, or whose permission has, nothing is taken and nothing sent", () => {
  const rig = ClientRig.allocated();
  rig.call((client, io) => client.bindChannel(PEER, io));
  rig.advance(20);
  rig.server.script(CHANNEL_BIND, ...Array(1000).fill(error(500)));
  rig.server.script(CREATE_PERMISSION, ...Array(1000).fill(error(500)));
  rig.advance(301_000);
  // A request for the permission is under way every now and then, and then data may come before its answer.
  rig.receive(channelData(0x4000, "no permission"));
  assertEquals(rig.client.stats.rejectedPeer, 1);
  rig.send(PEER, "no permission");
  assertEquals(rig.data(), []);
  rig.advance(300_000);
  rig.receive(channelData(0x4000, "no channel"));
  assertEquals(rig.client.stats.rejectedChannel, 1);
  assertEquals(rig.delivered, []);
});

Deno.test("RFC 8656 §12: a failed channel's number and peer rest for the 10 minutes it may be bound, and 5 more", () => {
  for (const [wait, number] of [[899_000, 0x4000], [901_000, 0x4001]] as const) {
    const rig = ClientRig.allocated();
    rig.server.script(CHANNEL_BIND, error(508));
    rig.call((client, io) => client.bindChannel(PEER, io));
    rig.advance(wait);
    rig.call((client, io) => client.bindChannel(PEER, io));
    rig.advance(20);
    assertEquals(rig.eventsOf("channel-bound").map((event) => event.number), [number]);
  }
});

Deno.test("RFC 8489 §6.3.2: a Data indication with a comprehension-required attribute that is not known is dropped", () => {
  const rig = ClientRig.allocated();
  rig.call((client, io) => client.createPermission(PEER, io));
  rig.advance(20);
  rig.receive(
    new MessageWriter(new Uint8Array(256)).begin(METHOD.DATA, "indication", new Uint8Array(12))
      .add(XOR_PEER_ADDRESS, PEER).add(DATA, new Uint8Array(4))
      .add({ type: 0x7abc, name: "?", read: () => undefined, write() {} }, undefined).finish(),
  );
  assertEquals(rig.delivered, []);
  assertStats(rig, { rejectedMalformed: 1 });
});

Deno.test("RFC 8656 §9: a channel keeps its permission without traffic; when it has failed, only traffic does", () => {
  const rig = ClientRig.allocated();
  rig.call((client, io) => client.bindChannel(PEER, io));
  rig.advance(HOUR);
  assertEquals([rig.server.count(CHANNEL_BIND), rig.server.count(CREATE_PERMISSION)], [16, 0]);
  rig.server.script(CHANNEL_BIND, error(403));
  rig.advance(HOUR);
  assertEquals([rig.server.count(CHANNEL_BIND), rig.server.count(CREATE_PERMISSION)], [17, 0]);
  assertEquals(rig.client.state, "allocated");
});

Deno.test("RFC 8656 §11.6: an ICMP message for a permitted peer is reported, for others not", () => {
  const rig = ClientRig.allocated();
  rig.call((client, io) => client.createPermission(PEER, io));
  rig.advance(20);
  rig.reset();
  for (const peer of [PEER, OTHER_PEER]) {
    rig.receive(
      new MessageWriter(new Uint8Array(64)).begin(METHOD.DATA, "indication", new Uint8Array(12))
        .add(XOR_PEER_ADDRESS, peer).add(ICMP, { type: 3, code: 3, data: 0 }).finish(),
    );
  }
  assertEquals(rig.events, [{ type: "icmp", peer: PEER, icmp: { type: 3, code: 3, data: 0 } }]);
  assertEquals(rig.client.stats.rejectedPeer, 1);
});

Deno.test("TurnClient: what has no way out is dropped and counted", () => {
  const rig = new ClientRig();
  rig.send(PEER, "early");
  allocating(rig);
  rig.advance(100);
  rig.send(TransportAddress.parse("[2001:db8::7]:1"), "other family");
  rig.call((client, io) => client.createPermission(PEER, io));
  rig.advance(100);
  rig.client.handleSend(PEER, new Uint8Array(65_457), 0, 65_457, rig.io);
  rig.client.handleSend(PEER, new Uint8Array(65_456), 0, 65_456, rig.io);
  rig.call((client, io) => client.bindChannel(PEER, io));
  rig.advance(100);
  rig.client.handleSend(PEER, new Uint8Array(65_504), 0, 65_504, rig.io);
  rig.client.handleSend(PEER, new Uint8Array(65_503), 0, 65_503, rig.io);
  assertEquals(rig.data().map((bytes) => bytes.length), [65_492, 65_507]);
  assertStats(rig, {
    droppedNotAllocated: 1,
    droppedFamily: 1,
    droppedTooLong: 2,
    sentIndications: 1,
    sentChannelData: 1,
  });
});

Deno.test("RFC 8656 §10.1: a peer of the other family gets no request, but an answer", () => {
  const rig = ClientRig.allocated();
  const six = TransportAddress.parse("[2001:db8::7]:1");
  rig.call((client, io) => client.createPermission(six, io));
  rig.call((client, io) => client.bindChannel(six, io));
  assertEquals(rig.eventsOf("permission-failed").map(({ code }) => code), [443]);
  assertEquals(rig.eventsOf("channel-failed").map(({ code }) => code), [443]);
  assertEquals(rig.sent, []);
});

Deno.test("RFC 8656 §8: close() gives the allocation back, and does not wait long for a silent server", () => {
  const rig = ClientRig.allocated();
  rig.call((client, io) => client.close(io));
  rig.call((client, io) => client.close(io));
  assertEquals(rig.client.state, "closing");
  rig.send(PEER, "late");
  rig.advance(20);
  assertEquals(rig.events, [{ type: "closed" }]);
  assertEquals(rig.closed, [1]);
  assertEquals(StunMessage.parse(rig.sent[0]!.bytes)!.get(LIFETIME), 0);
  assertEquals(rig.client.deadline, Infinity);
  assertStats(rig, { droppedNotAllocated: 1 });

  const deaf = ClientRig.allocated();
  deaf.server.script(REFRESH, silence, silence, silence);
  deaf.call((client, io) => client.close(io));
  deaf.advance(1499);
  assertEquals(deaf.events, []);
  deaf.advance(1);
  assertEquals(deaf.events, [{ type: "closed" }]);
  assertEquals(deaf.server.count(REFRESH), 2);

  const gone = ClientRig.allocated();
  gone.server.script(REFRESH, error(437));
  gone.call((client, io) => client.close(io));
  gone.advance(20);
  assertEquals(gone.events, [{ type: "closed" }]);
});

Deno.test("TurnClient.close(): in every other state", () => {
  const fresh = new ClientRig();
  fresh.call((client, io) => client.close(io));
  assertEquals([fresh.events, fresh.closed], [[{ type: "closed" }], []]);
  assertThrows(() => fresh.client.allocate(fresh.io), Error, "Cannot allocate as this client is closed already");

  const opening = new ClientRig();
  opening.client.allocate(opening.io);
  opening.call((client, io) => client.close(io));
  // The socket that came too late is closed as well.
  assertEquals([opening.events, opening.closed, opening.sent], [[{ type: "closed" }], [1, 1], []]);

  const allocatingRig = allocating();
  allocatingRig.advance(5);
  allocatingRig.call((client, io) => client.close(io));
  allocatingRig.advance(5000);
  assertEquals(allocatingRig.events, [{ type: "closed" }]);
  assertEquals(allocatingRig.server.log.map(({ method }) => method), [ALLOCATE, REFRESH, REFRESH]);

  const failed = new ClientRig();
  failed.server.script(ALLOCATE, error(508));
  allocating(failed);
  failed.advance(100);
  failed.call((client, io) => client.close(io));
  assertEquals(failed.events.map(({ type }) => type), ["failed", "closed"]);
});

Deno.test("TurnClient: the transition table is whole: every state is in it, and is reached from new", () => {
  const states = Object.keys(TURN_CLIENT_TRANSITIONS) as TurnClientState[];
  const reached = new Set<TurnClientState>(["new"]);
  for (const state of reached) for (const next of TURN_CLIENT_TRANSITIONS[state]) reached.add(next);
  assertEquals(reached, new Set(states));
  assertEquals(states.filter((state) => TURN_CLIENT_TRANSITIONS[state].length === 0), ["closed"]);
});

Deno.test("TurnClient: options that cannot be used are refused at once", () => {
  assertThrows(() => new ClientRig({ lifetime: -1 }), RangeError, "Cannot use lifetime");
  assertThrows(() => new ClientRig({ software: "x".repeat(128) }), RangeError, "Cannot use software");
  assertThrows(() => new ClientRig({ credentials: { username: "", password: "x" } }), SyntaxError);
});

Deno.test("TurnClient: no garbage and no forgery, from wherever, changes what it holds or makes it speak", () => {
  const stranger = TransportAddress.parse("198.51.100.66:3478");
  const method = fc.constantFrom(...Object.values(METHOD));
  const messageClass = fc.constantFrom("request", "indication", "success", "error" as const);
  const wrongKey = IntegrityKey.longTerm("alice", "example.org", "guess");
  /** STUN of any kind: with a right, a wrong or no integrity, and with the transaction id of a request under way or not. */
  const forged = fc.record({
    method,
    messageClass,
    code: fc.constantFrom(undefined, 300, 400, 401, 403, 420, 437, 438, 486, 500),
    isSigned: fc.boolean(),
    isTransactionKnown: fc.boolean(),
    isFromServer: fc.boolean(),
    isOwnSocket: fc.boolean(),
    hasPeer: fc.boolean(),
    hasLifetime: fc.boolean(),
  });
  const garbage = fc.uint8Array({ maxLength: 60 });
  fc.assert(fc.property(fc.array(fc.oneof(forged, garbage), { maxLength: 30 }), (packets) => {
    const rig = ClientRig.allocated();
    rig.call((client, io) => client.bindChannel(PEER, io));
    rig.advance(100);
    rig.reset();
    // One request is under way, and stays so: its answer is not among these packets.
    rig.server.script(CREATE_PERMISSION, silence);
    rig.call((client, io) => client.createPermission(OTHER_PEER, io));
    const pending = StunMessage.parse(rig.sent[0]!.bytes)!;
    rig.reset();
    const before = { state: rig.client.state, deadline: rig.client.deadline };
    for (const packet of packets) {
      if (packet instanceof Uint8Array) {
        rig.receive(packet, { from: stranger });
        // From the server itself garbage is malformed, or data on a channel.
        if (packet[0] !== 0x40) rig.receive(packet);
        continue;
      }
      // From the server, with the right transaction, 401 and 438 do count: nobody but it could have sent them.
      const { code } = packet;
      const isChallenge = packet.messageClass === "error" && (code === 401 || code === 438);
      if (packet.isTransactionKnown && isChallenge && packet.isFromServer && packet.isOwnSocket) continue;
      if (packet.method === METHOD.DATA && packet.isFromServer && packet.isOwnSocket) continue;
      const id = packet.isTransactionKnown ? pending.transactionId : new Uint8Array(12).fill(7);
      const writer = new MessageWriter(new Uint8Array(512)).begin(packet.method, packet.messageClass, id);
      if (code !== undefined) writer.add(ERROR_CODE_ATTRIBUTE, { code, reason: "forged" });
      if (packet.hasPeer) writer.add(XOR_PEER_ADDRESS, OTHER_PEER);
      if (packet.hasLifetime) writer.add(LIFETIME, 0);
      if (packet.isSigned) writer.addIntegrity(wrongKey);
      const from = packet.isFromServer ? SERVER : stranger;
      rig.receive(writer.finish(), { from, socket: packet.isOwnSocket ? rig.socket : 99 });
    }
    assertEquals({ state: rig.client.state, deadline: rig.client.deadline }, before);
    assertEquals([rig.events, rig.sent, rig.delivered], [[], [], []]);
    // And the request still gets its answer, the channel its data.
    rig.advance(1000);
    assertEquals(rig.events, [{ type: "permission", peer: OTHER_PEER }]);
    rig.receive(channelData(0x4000, "still there"));
    assertEquals(rig.delivered.length, 1);
  }));
});
