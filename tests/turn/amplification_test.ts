// How much longer than a stranger's request its answer is. On the wire, so with 28 bytes of IPv4 and UDP header each way.
import { assert, assertEquals } from "@std/assert";
import { ACCESS_TOKEN, NONCE, REALM, USERHASH, USERNAME } from "../../stun/attributes.ts";
import { bytesAttribute } from "../../stun/attribute.ts";
import { IntegrityKey } from "../../stun/integrity.ts";
import { MessageWriter, METHOD } from "../../stun/message.ts";
import { TokenUsers } from "../../stun/access_token.ts";
import type { TurnServerOptions } from "../../turn/server.ts";
import { CONNECTION_ID, MOBILITY_TICKET, XOR_PEER_ADDRESS } from "../../turn/attributes.ts";
import { addTransport, PEER, REALM_NAME, ServerRig } from "./_server_rig.ts";

const IP_UDP = 28;
const METHODS = [
  ...[METHOD.BINDING, METHOD.ALLOCATE, METHOD.REFRESH, METHOD.CREATE_PERMISSION, METHOD.CHANNEL_BIND],
  ...[METHOD.CONNECT, METHOD.CONNECTION_BIND],
];
const KEY = IntegrityKey.longTerm("nobody", REALM_NAME, "guess");

/** The ratio of answer to request. A rig of its own each time: a stranger has no past. */
function amplification(request: Uint8Array, options: Partial<TurnServerOptions> = {}): number {
  const rig = new ServerRig(options);
  const sends = rig.client().send(request);
  assert(sends.length <= 1);
  assertEquals(rig.leftovers, {});
  return sends.length === 0 ? 0 : (sends[0]!.bytes.length + IP_UDP) / (request.length + IP_UDP);
}

function build(method: number, ...steps: ((writer: MessageWriter) => unknown)[]): Uint8Array {
  const writer = new MessageWriter(new Uint8Array(1024)).begin(method, "request", new Uint8Array(12));
  for (const step of steps) step(writer);
  return writer.finish();
}

Deno.test("Amplification: at most 2.2 for the smallest Allocate of a browser, 28 bytes", () => {
  assertEquals(REALM_NAME.length, 11);
  const request = build(METHOD.ALLOCATE, addTransport);
  assertEquals(request.length, 28);
  const measured = amplification(request);
  assertEquals(measured, (92 + IP_UDP) / (28 + IP_UDP));
  assert(measured <= 2.2, `${measured}`);
  assertEquals(amplification(request, { software: "natkit" }), measured, "SOFTWARE is no part of a challenge");
});

Deno.test("Amplification: at most 1.4 for every other method without credentials", () => {
  const unknown = (writer: MessageWriter) => writer.add(bytesAttribute(0x7001, "UNKNOWN"), new Uint8Array(0));
  const fingerprint = (writer: MessageWriter) => writer.addFingerprint();
  for (const method of METHODS) {
    // RFC 6062 is off by default: what it has is not known then.
    const isKnown = method !== METHOD.CONNECT && method !== METHOD.CONNECTION_BIND;
    for (const steps of [[], [unknown], [fingerprint], [unknown, fingerprint]]) {
      const measured = amplification(build(method, ...steps));
      assert(measured > 0 === isKnown && measured <= 1.4, `method ${method}: ${measured}`);
    }
  }
});

Deno.test("Amplification: at most 1.4 for any request with credentials that nobody checked, as short as they may be", () => {
  const text = (type: number, length: number) => (writer: MessageWriter) =>
    writer.add(bytesAttribute(type, "TEXT"), new Uint8Array(length).fill(0x61));
  // Integrity attributes of every length, right or not.
  const integrity = [
    ...[0, 4, 20].map((length) => (writer: MessageWriter) =>
      writer.add(bytesAttribute(8, "MI"), new Uint8Array(length))
    ),
    ...[0, 4, 12, 16, 32].map((length) => (writer: MessageWriter) =>
      writer.add(bytesAttribute(28, "MI"), new Uint8Array(length))
    ),
    (writer: MessageWriter) => writer.addIntegrity(KEY),
  ];
  let worst = 0;
  for (const method of METHODS.slice(1)) {
    for (const end of integrity) {
      for (const user of [[], [text(USERNAME.type, 0)], [text(USERNAME.type, 1)], [text(USERHASH.type, 32)]]) {
        for (const realm of [[], [text(REALM.type, 0)], [text(REALM.type, 1)]]) {
          for (const nonce of [[], [text(NONCE.type, 0)], [text(NONCE.type, 1)]]) {
            worst = Math.max(worst, amplification(build(method, addTransport, ...user, ...realm, ...nonce, end)));
            worst = Math.max(worst, amplification(build(method, ...user, ...realm, ...nonce, end)));
          }
        }
      }
    }
  }
  assert(worst > 1 && worst <= 1.4, `${worst}`);
});

Deno.test("Amplification: nothing but a request is answered at all", () => {
  for (const kind of ["indication", "success", "error"] as const) {
    for (let method = 0; method <= 0xff; method++) {
      const message = new MessageWriter(new Uint8Array(64)).begin(method, kind, new Uint8Array(12)).finish();
      assertEquals(amplification(message), 0);
    }
  }
});

Deno.test("Amplification: a challenge has one size, so an Allocate with more in it gets less: from 58 bytes on at most 1.4", () => {
  // RFC 8656 §7.2 wants a 401 with REALM and NONCE, RFC 8489 §9.2.4 PASSWORD-ALGORITHMS as well. With a realm of 11
  // characters that is 92 bytes, and there is nothing left to leave out.
  const filler = (length: number) => (writer: MessageWriter) =>
    writer.add(bytesAttribute(0x8fff, "FILLER"), new Uint8Array(length));
  for (let length = 0; length <= 64; length += 4) {
    const request = build(METHOD.ALLOCATE, addTransport, filler(length));
    assertEquals(amplification(request), (92 + IP_UDP) / (request.length + IP_UDP));
    if (request.length >= 58) assert(amplification(request) <= 1.4);
    const marked = build(METHOD.ALLOCATE, addTransport, filler(length), (writer) => writer.addFingerprint());
    assertEquals(amplification(marked), (100 + IP_UDP) / (marked.length + IP_UDP));
  }
});

Deno.test("Amplification: of a flood in somebody's name at most 1.4 comes back in sum, whatever its shape, and soon next to nothing", () => {
  const shapes = [
    build(METHOD.ALLOCATE, addTransport),
    build(METHOD.ALLOCATE, addTransport, (writer) => writer.addFingerprint()),
    build(METHOD.REFRESH),
    build(METHOD.ALLOCATE, addTransport, (writer) => writer.addIntegrity(KEY)),
  ];
  for (const request of shapes) {
    const rig = new ServerRig();
    const victim = rig.client();
    let sent = 0;
    let received = 0;
    for (let i = 0; i < 10_000; i++) {
      sent += request.length + IP_UDP;
      for (const { bytes } of victim.send(request)) received += bytes.length + IP_UDP;
      // A thousand a second.
      rig.advance(1);
      if (i === 200) assert(received / sent <= 1.4, `${received / sent} after 200`);
    }
    // 100 at once and 10 a second.
    assertEquals(rig.drops, { challengeRate: 10_000 - 199 });
    assert(received / sent < 0.05, `${received / sent}`);
  }
});

/** A server with all that is not on by default. The name is as long as "turn.example.org". */
const EVERYTHING: Partial<TurnServerOptions> = {
  tcpRelay: true,
  mobility: true,
  tokens: new TokenUsers({ serverName: "turn.example.org", keys: [["north", new Uint8Array(32)]] }),
};

Deno.test("Amplification: with TCP allocations, mobility and access tokens at most 1.4 for all but Allocate, 2.5 for that", () => {
  const attribute = (type: number, length: number) => (writer: MessageWriter) =>
    writer.add(bytesAttribute(type, "ANY"), new Uint8Array(length));
  const extras = [
    [],
    ...[0, 1, 16, 64].map((length) => [attribute(MOBILITY_TICKET.type, length)]),
    ...[0, 1, 64].map((length) => [attribute(ACCESS_TOKEN.type, length)]),
    ...[0, 4].map((length) => [attribute(CONNECTION_ID.type, length)]),
    [(writer: MessageWriter) => writer.add(XOR_PEER_ADDRESS, PEER)],
    [attribute(MOBILITY_TICKET.type, 0), attribute(ACCESS_TOKEN.type, 0)],
  ];
  for (const method of METHODS) {
    for (const steps of extras) {
      for (const end of [[], [(writer: MessageWriter) => writer.addIntegrity(KEY)]]) {
        const measured = amplification(build(method, ...steps, ...end), EVERYTHING);
        assert(measured > 0 && measured <= 1.4, `method ${method}: ${measured}`);
      }
    }
  }
  // RFC 7635 §6.1: the 401 tells the server's name, which has 16 characters here: 20 bytes more.
  assertEquals(amplification(build(METHOD.ALLOCATE, addTransport), EVERYTHING), (112 + IP_UDP) / (28 + IP_UDP));
});

Deno.test("Amplification: a ticket that somebody has overheard (RFC 8016) gets a challenge of at most 1.9", () => {
  const rig = new ServerRig({ mobility: true });
  const client = rig.client();
  client.challenge();
  const answer = client.ask(client.build(METHOD.ALLOCATE, (writer) => {
    addTransport(writer);
    writer.add(MOBILITY_TICKET, new Uint8Array(0));
  }));
  const ticket = answer.get(MOBILITY_TICKET)!.slice();
  const request = build(METHOD.REFRESH, (writer) => writer.add(MOBILITY_TICKET, ticket));
  const [challenge] = rig.client(PEER).send(request);
  const measured = (challenge!.bytes.length + IP_UDP) / (request.length + IP_UDP);
  assert(measured > 1 && measured <= 1.9, `${measured}`);
});
