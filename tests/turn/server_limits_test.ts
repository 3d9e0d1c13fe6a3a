// What a server lets anybody have: answers without credentials, bandwidth, allocations, and where it sends those it does
// not take. All in virtual time, with exact counts.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { ALTERNATE_DOMAIN, ALTERNATE_SERVER } from "../../stun/attributes.ts";
import { IntegrityKey } from "../../stun/integrity.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import { restCredential, RestUsers } from "../../stun/rest_users.ts";
import { UserTable } from "../../stun/users.ts";
import {
  ADDITIONAL_ADDRESS_FAMILY,
  EVEN_PORT,
  LIFETIME,
  REQUESTED_ADDRESS_FAMILY,
  RESERVATION_TOKEN,
  XOR_RELAYED_ADDRESS,
} from "../../turn/attributes.ts";
import type { TurnServerOptions } from "../../turn/server.ts";
import {
  addTransport,
  CLIENT,
  codeOf,
  PEER,
  REALM_NAME,
  type RigClient,
  SERVER,
  SERVER6,
  ServerRig,
  SOCKET,
} from "./_server_rig.ts";

const CLIENT6 = TransportAddress.parse("[2001:db8::7]:50000");

function at(i: number): TransportAddress {
  return CLIENT.withPort(50000 + i);
}

/** Limits that requests were refused for. */
function limitsOf(rig: ServerRig): Record<string, number> {
  return Object.fromEntries(Object.entries(rig.server.counters.limits).filter(([, count]) => count > 0));
}

/** How many of `count` requests without credentials are answered, one every `gap` ms. */
function challenges(rig: ServerRig, from: TransportAddress, count: number, gap = 0): number {
  let answered = 0;
  for (let i = 0; i < count; i++) {
    const client = rig.client(from);
    answered += client.send(client.build(METHOD.ALLOCATE, addTransport, { auth: "none" })).length;
    rig.advance(gap);
  }
  return answered;
}

Deno.test("Challenges: 10 a second for each source IP address and 100 at once, whatever the port, unless told otherwise", () => {
  const rig = new ServerRig();
  assertEquals(challenges(rig, CLIENT, 150), 100);
  assertEquals(rig.drops, { challengeRate: 50 });
  assertEquals(challenges(rig, at(1), 1), 0, "another port is the same source");
  assertEquals(challenges(rig, TransportAddress.parse("192.0.2.8:50000"), 1), 1, "another address is another source");
  rig.advance(999);
  assertEquals(challenges(rig, CLIENT, 20), 9);
  rig.advance(10_000);
  assertEquals(challenges(rig, CLIENT, 200, 10), 100 + 19, "one every 100 ms, and what was saved up");
});

Deno.test("Challenges: an IPv6 source is a /64, and an IPv4-mapped one is its IPv4 address", () => {
  const rig = new ServerRig({ challengeRate: { rate: 1, burst: 2 } });
  const from = (text: string) => challenges(rig, TransportAddress.parse(text), 3);
  assertEquals([from("[2001:db8:0:1::1]:1"), from("[2001:db8:0:1:ffff::]:1"), from("[2001:db8:0:2::1]:1")], [2, 0, 2]);
  assertEquals([from("[::ffff:192.0.2.7]:1"), challenges(rig, CLIENT, 1)], [2, 0]);
});

Deno.test("Challenges: who has good credentials is not limited, whatever comes from the same address", () => {
  const rig = new ServerRig({ challengeRate: { rate: 1, burst: 3 } });
  const client = rig.client();
  client.mustAllocate();
  challenges(rig, CLIENT, 10);
  assertEquals(client.send(client.build(METHOD.ALLOCATE, addTransport, { auth: "none" })).length, 0);
  for (let i = 0; i < 10; i++) assertEquals(client.permit(PEER), 0);
  client.nonce = "stale";
  assertEquals(client.code(METHOD.REFRESH), 438, "a wrong nonce with a right password");
});

Deno.test("Challenges: wrong passwords and malformed requests count as well; Binding does not", () => {
  const rig = new ServerRig({ challengeRate: { rate: 1, burst: 2 } });
  const client = rig.client();
  client.challenge();
  const guess = (password: string) => {
    const writer = new MessageWriter(new Uint8Array(512)).begin(METHOD.ALLOCATE, "request", rig.newTransactionId());
    return client.send(writer.addIntegrity(IntegrityKey.longTerm("alice", REALM_NAME, password)).finish()).length;
  };
  assertEquals([guess("a"), guess("b"), guess("c")], [1, 0, 0]);
  for (let i = 0; i < 5; i++) {
    assertEquals(client.ask(client.build(METHOD.BINDING, () => {}, { auth: "none" })).class, "success");
  }
  assertEquals(rig.drops, { challengeRate: 2 });
});

Deno.test("Binding: limited for each source over UDP if it is said so, and not by challenges", () => {
  const rig = new ServerRig({ bindingRate: { rate: 2, burst: 5 } });
  const ask = (from: TransportAddress, count: number, socket = SOCKET) => {
    let answered = 0;
    for (let i = 0; i < count; i++) {
      answered += rig.receive(socket, from, rig.client(from).build(METHOD.BINDING, () => {}, { auth: "none" })).length;
    }
    return answered;
  };
  assertEquals([ask(CLIENT, 20), ask(at(1), 1), ask(TransportAddress.parse("192.0.2.8:1"), 1)], [5, 0, 1]);
  assertEquals(rig.drops, { bindingRate: 16 });
  rig.advance(1000);
  assertEquals(ask(CLIENT, 20), 2);
  const connection = {
    listener: 5,
    transport: "tcp",
    remoteAddress: CLIENT,
    localAddress: SERVER,
    alpn: undefined,
  } as const;
  rig.server.handleAccepted(77, connection, rig.io);
  assertEquals(ask(CLIENT, 20, 77), 20, "a connection's address is no forgery");
  assertEquals(challenges(rig, CLIENT, 10), 10, "each has its own limit");
  const free = new ServerRig();
  for (let i = 0; i < 1000; i++) {
    free.receive(SOCKET, CLIENT, free.client().build(METHOD.BINDING, () => {}, { auth: "none" }));
  }
  assertEquals([free.server.counters.bindings, free.drops], [1000, {}]);
  assertThrows(() => new ServerRig({ bindingRate: { rate: 0, burst: 1 } }), RangeError);
});

Deno.test("Challenges: no limit on demand, and no limit that means nothing", () => {
  assertEquals(challenges(new ServerRig({ challengeRate: false }), CLIENT, 1000), 1000);
  for (
    const rate of [{ rate: 0, burst: 1 }, { rate: NaN, burst: 1 }, { rate: 1, burst: 0 }, { rate: Infinity, burst: 1 }]
  ) {
    assertThrows(() => new ServerRig({ challengeRate: rate }), RangeError);
  }
});

/** How many of `count` datagrams of 1000 bytes pass on a channel, one every `gap` ms. */
function sendMany(client: RigClient, count: number, gap: number): number {
  let passed = 0;
  for (let i = 0; i < count; i++) {
    passed += client.sendOn(0x4000, new Uint8Array(1000)).length;
    client.rig.advance(gap);
  }
  return passed;
}

function withChannel(rig: ServerRig, address = CLIENT, username = "alice"): { client: RigClient; relay: number } {
  const client = rig.client(address, username);
  const [relay] = client.mustAllocate();
  assertEquals(client.bind(0x4000, PEER), 0);
  return { client, relay: relay!.socket };
}

Deno.test("Bandwidth of an allocation: exactly the rate, each direction by itself; a second can be saved up", () => {
  const rig = new ServerRig({ limits: { allocationBandwidth: 800_000 } }); // 100 datagrams of 1000 bytes a second.
  const { client, relay } = withChannel(rig);
  assertEquals(sendMany(client, 1, 0), 0, "nothing is saved up at the beginning");
  rig.advance(10);
  assertEquals(sendMany(client, 200, 5), 100);
  rig.advance(5000);
  assertEquals(sendMany(client, 150, 0), 100, "one second's worth, however long the rest was");
  assertEquals(sendMany(client, 10, 0), 0);
  let received = 0;
  for (let i = 0; i < 150; i++) received += rig.receive(relay, PEER, new Uint8Array(1000)).length;
  assertEquals(received, 100, "the other direction has its own");
  assertEquals(rig.drops, { allocationBandwidth: 1 + 100 + 50 + 10 + 50 });
  assertEquals(rig.server.counters.packetsToPeers, 200, "what is dropped does not count as relayed");
});

Deno.test("Bandwidth of an allocation: the largest datagram passes at any rate, in its time", () => {
  const rig = new ServerRig({ limits: { allocationBandwidth: 8000 } }); // 1000 bytes a second.
  const { client } = withChannel(rig);
  const large = new Uint8Array(65_000);
  rig.advance(64_999);
  assertEquals(client.sendOn(0x4000, large).length, 0);
  rig.advance(1);
  assertEquals(client.sendOn(0x4000, large).length, 1);
});

Deno.test("Bandwidth of a user: shared by all allocations of the same user, and nobody else's", () => {
  const rig = new ServerRig({ limits: { userBandwidth: 800_000 } });
  const { client: one } = withChannel(rig, at(1));
  const { client: two } = withChannel(rig, at(2));
  const { client: bobs } = withChannel(rig, at(3), "bob");
  rig.advance(1000);
  assertEquals([sendMany(one, 70, 0), sendMany(two, 70, 0), sendMany(bobs, 70, 0)], [70, 30, 70]);
  assertEquals(rig.drops, { userBandwidth: 40 });
});

Deno.test("Bandwidth of a user: ending and making allocations gives no more", () => {
  const rig = new ServerRig({ limits: { userBandwidth: 800_000, allocationBandwidth: 800_000 }, challengeRate: false });
  let passed = 0;
  for (let i = 0; i < 100; i++) {
    const { client } = withChannel(rig, at(i));
    passed += sendMany(client, 5, 1);
    client.refresh(0);
  }
  assertEquals(rig.io.now - 1_000_000, 500);
  assert(passed <= 50, `${passed} datagrams in half a second`);
  assertEquals(rig.leftovers, {});
});

Deno.test("Bandwidth of the server: shared by everybody; what it drops counts against nobody", () => {
  const rig = new ServerRig({ limits: { serverBandwidth: 800_000, userBandwidth: 8_000_000 } });
  const { client: alices } = withChannel(rig, at(1));
  const { client: bobs } = withChannel(rig, at(2), "bob");
  rig.advance(1000);
  assertEquals([sendMany(alices, 90, 0), sendMany(bobs, 90, 0)], [90, 10]);
  assertEquals(rig.drops, { serverBandwidth: 80 });
});

Deno.test("Limits that mean nothing are refused", () => {
  const bad: TurnServerOptions["limits"][] = [{ allocations: NaN }, { permissions: -1 }, { userBandwidth: 0 }];
  for (const limits of bad) assertThrows(() => new ServerRig({ limits: limits! }), RangeError);
});

Deno.test("RFC 8656 §7.2, T16: refusals are counted by the limit that was in the way", () => {
  const rig = new ServerRig({
    limits: { allocationsPerUser: 1, allocations: 2, permissions: 1, channels: 1 },
    relayPorts: { min: 50000, max: 50001 },
  });
  const client = rig.client(at(1));
  client.mustAllocate();
  assertEquals(codeOf(rig.client(at(2)).allocate()), 486);
  rig.client(at(3), "bob").mustAllocate();
  assertEquals(codeOf(rig.client(at(4), "bob").allocate()), 486);
  assertEquals(client.bind(0x4000, PEER), 0);
  assertEquals(client.permit(TransportAddress.parse("9.9.9.9:1")), 508);
  assertEquals(client.bind(0x4001, PEER.withPort(1)), 508);
  assertEquals(limitsOf(rig), { allocationsPerUser: 2, permissions: 1, channels: 1 });
  const full = new ServerRig({ limits: { allocations: 1 } });
  full.client(at(1)).mustAllocate();
  assertEquals(codeOf(full.client(at(2)).allocate()), 508);
  assertEquals(limitsOf(full), { allocations: 1 });
  const narrow = new ServerRig({ relayPorts: { min: 50000, max: 50000 } });
  narrow.client(at(1)).mustAllocate();
  assertEquals(codeOf(narrow.client(at(2)).allocate()), 508);
  assertEquals(limitsOf(narrow), { ports: 1 });
});

Deno.test("RFC 8656 §7.2, T16: a reserved port counts in all as well", () => {
  const rig = new ServerRig({ limits: { allocationsPerUser: 2, allocations: 3 } });
  assertEquals(codeOf(rig.client(at(1)).allocate((writer) => writer.add(EVEN_PORT, true))), 0);
  rig.client(at(2), "bob").mustAllocate();
  assertEquals(codeOf(rig.client(at(3), "bob").allocate()), 508, "two allocations and a reserved port");
  rig.advance(30_000);
  rig.client(at(3), "bob").mustAllocate();
  rig.client(at(1)).refresh(0);
  const again = rig.client(at(4)).allocate((writer) => writer.add(EVEN_PORT, true));
  assertEquals(codeOf(again), 508, "two and two are more than three");
});

Deno.test("RFC 8656 §7.2, T16: a token that another user brings counts against that user", () => {
  const rig = new ServerRig({ limits: { allocationsPerUser: 2 } });
  const token = rig.client(at(1)).allocate((writer) => writer.add(EVEN_PORT, true)).get(RESERVATION_TOKEN)!;
  rig.client(at(2), "bob").mustAllocate();
  rig.client(at(3), "bob").mustAllocate();
  const use = (writer: MessageWriter) => writer.add(RESERVATION_TOKEN, token);
  assertEquals(codeOf(rig.client(at(4), "bob").allocate(use)), 486);
  assertEquals(codeOf(rig.client(at(5)).allocate(use)), 0, "its own user has it counted already");
});

Deno.test("Credentials of one user that end at several times are one user's: quota and bandwidth", () => {
  const rig = new ServerRig({
    users: new RestUsers({ realm: REALM_NAME, secrets: ["north"] }),
    limits: { allocationsPerUser: 2 },
  });
  const allocate = (i: number, user: string) => {
    const { username, password } = restCredential("north", { expires: rig.io.unixTime + 60 + i, user });
    return codeOf(new RestClient(rig, at(i), username, password).allocate());
  };
  assertEquals([allocate(1, "alice"), allocate(2, "alice"), allocate(3, "alice"), allocate(4, "bob")], [0, 0, 486, 0]);
});

class RestClient {
  readonly client: RigClient;
  constructor(rig: ServerRig, address: TransportAddress, username: string, password: string) {
    this.client = rig.client(address, username);
    this.client.key = () => IntegrityKey.longTerm(username, REALM_NAME, password);
  }
  allocate(): StunMessage {
    return this.client.allocate();
  }
}

Deno.test("draft-uberti-rtcweb-turn-rest-00 §4.2: an ended credential makes no allocation, and keeps the one it made", () => {
  const rig = new ServerRig({ users: new RestUsers({ realm: REALM_NAME, secrets: ["new", "old"] }) });
  const { username, password } = restCredential("old", { expires: rig.io.unixTime + 60, user: "alice" });
  const early = new RestClient(rig, at(1), username, password);
  assertEquals(codeOf(early.allocate()), 0);
  rig.advance(60_000);
  const late = new RestClient(rig, at(2), username, password);
  assertEquals(codeOf(late.allocate()), 401);
  assertEquals(early.client.code(METHOD.REFRESH), 0);
  assertEquals(early.client.permit(PEER), 0);
  const { password: wrong } = restCredential("other", { expires: rig.io.unixTime + 60, user: "alice" });
  const name = `${rig.io.unixTime + 60}:alice`;
  assertEquals(codeOf(new RestClient(rig, at(3), name, wrong).allocate()), 401);
});

Deno.test("Who is no user any more can not refresh, and the allocation ends with its lifetime", () => {
  const users = new UserTable(REALM_NAME, [["alice", "secret"]]);
  const rig = new ServerRig({ users });
  const client = rig.client();
  client.mustAllocate();
  users.replace([]);
  assertEquals([client.code(METHOD.REFRESH), client.permit(PEER)], [401, 401]);
  rig.advance(600_000);
  assertEquals(rig.leftovers, {});
});

const ALTERNATES = {
  addresses: ["[2001:db8::9]:3478", "192.0.2.99:3478", "192.0.2.98:3478"].map((text) => TransportAddress.parse(text)),
  domain: "other.example.org",
};

function alternatesIn(answer: StunMessage): (string | undefined)[] {
  return answer.getAll(ALTERNATE_SERVER).map((address) => address?.toString());
}

Deno.test("RFC 8489 §10, T16: 300 names a server of the client's family first, then one of the other, authenticated", () => {
  const rig = new ServerRig({ limits: { allocations: 0 }, alternates: ALTERNATES });
  const client = rig.client();
  const answer = client.allocate();
  assertEquals(codeOf(answer), 300);
  assertEquals(alternatesIn(answer), ["192.0.2.99:3478", "[2001:db8::9]:3478"]);
  assert(answer.verifyIntegrity(client.key()));
  assertEquals(answer.get(ALTERNATE_DOMAIN), undefined, "it is about TLS");
  const answer6 = rig.client(CLIENT6).allocate();
  assertEquals(alternatesIn(answer6), ["[2001:db8::9]:3478", "192.0.2.99:3478"]);
  assertEquals(limitsOf(rig), { allocations: 2 });
  assertEquals(rig.leftovers, {});
});

Deno.test("RFC 8489 §10, T16: without a server of the client's family there is no 300; and none before authentication", () => {
  const rig = new ServerRig({ alternates: { addresses: [SERVER6] } });
  rig.server.drain(rig.io);
  assertEquals(codeOf(rig.client().challenge()), 401);
  assertEquals(codeOf(rig.client().allocate()), 508);
  assertEquals(codeOf(rig.client(CLIENT6).allocate()), 300);
});

Deno.test("RFC 8489 §10, T16: ALTERNATE-DOMAIN over TLS, for clients that authenticate by SHA-256", () => {
  const domainOver = (transport: "tcp" | "tls", auth: "sha1" | "sha256") => {
    const rig = new ServerRig({ alternates: ALTERNATES });
    rig.server.drain(rig.io);
    const localAddress = TransportAddress.parse("198.18.0.1:5349");
    const accepted = { listener: 5, transport, remoteAddress: CLIENT, localAddress, alpn: undefined };
    rig.server.handleAccepted(77, accepted, rig.io);
    const client = rig.client();
    const send = (bytes: Uint8Array) => StunMessage.parse(rig.receive(77, CLIENT, bytes)[0]!.bytes)!;
    client.ask = send;
    return client.allocate(() => {}, { auth }).get(ALTERNATE_DOMAIN);
  };
  assertEquals(domainOver("tls", "sha256"), "other.example.org");
  assertEquals([domainOver("tls", "sha1"), domainOver("tcp", "sha256")], [undefined, undefined]);
});

Deno.test("T37: draining, new allocations get 508 or 300, and those that are there live on", () => {
  const rig = new ServerRig();
  const client = rig.client();
  client.challenge();
  const request = client.build(METHOD.ALLOCATE, (writer) => addTransport(writer).add(EVEN_PORT, true));
  const made = client.ask(request);
  rig.server.drain(rig.io);
  assertEquals(rig.server.isDraining, true);
  assertEquals(codeOf(rig.client(at(1)).allocate()), 508);
  assertEquals(codeOf(client.ask(request)), 0, "the same request again has the same answer");
  assertEquals([client.code(METHOD.REFRESH), client.permit(PEER), client.bind(0x4000, PEER)], [0, 0, 0]);
  assertEquals(client.sendOn(0x4000, new Uint8Array(5)).length, 1);
  const token = made.get(RESERVATION_TOKEN)!;
  assertEquals(codeOf(rig.client(at(2)).allocate((writer) => writer.add(RESERVATION_TOKEN, token))), 0);
  assertEquals(limitsOf(rig), { draining: 1 });
  assertEquals([client.code(METHOD.REFRESH, (writer) => writer.add(LIFETIME, 0)), drained(rig)], [0, 0]);
  rig.advance(600_000);
  assertEquals([rig.leftovers, drained(rig)], [{}, 1]);
  assertEquals(
    rig.client(at(3)).send(new MessageWriter(new Uint8Array(32)).begin(1, "request", new Uint8Array(12)).finish())
      .length,
    1,
  );
});

function drained(rig: ServerRig): number {
  return rig.io.events.filter(({ type }) => type === "drained").length;
}

Deno.test("T37: drained is told once, as soon as nothing is left, also when the last one never came to be", () => {
  const idle = new ServerRig();
  idle.server.drain(idle.io);
  idle.server.drain(idle.io);
  assertEquals(drained(idle), 1);
  const rig = new ServerRig({ relayPorts: { min: 50000, max: 50000 } });
  rig.opensAtOnce = false;
  rig.failures.set(50000, "other");
  const client = rig.client();
  client.challenge();
  client.send(client.build(METHOD.ALLOCATE, addTransport));
  rig.server.drain(rig.io);
  assertEquals(drained(rig), 0);
  rig.openAll();
  assertEquals(drained(rig), 1);
});

Deno.test("RFC 8656 §8, T9: the end of one family of two, when it comes again, is answered as before", () => {
  const rig = new ServerRig();
  const client = rig.client();
  const answer = client.allocate((writer) => writer.add(ADDITIONAL_ADDRESS_FAMILY, 6));
  assertEquals(answer.getAll(XOR_RELAYED_ADDRESS).length, 2);
  const end = client.build(METHOD.REFRESH, (writer) => writer.add(LIFETIME, 0).add(REQUESTED_ADDRESS_FAMILY, 6));
  assertEquals([codeOf(client.ask(end)), codeOf(client.ask(end))], [0, 0]);
  const other = client.build(METHOD.REFRESH, (writer) => writer.add(LIFETIME, 0).add(REQUESTED_ADDRESS_FAMILY, 6));
  assertEquals(codeOf(client.ask(other)), 443, "another request finds it gone");
  assertEquals(rig.server.counters.allocations, 1);
  assertEquals(rig.drops, {});
});
