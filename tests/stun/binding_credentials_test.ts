// Binding with credentials and redirections, our client and our server together in the virtual internet, and the server
// alone where a client of ours would not ask like that.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import * as attributes from "../../stun/attributes.ts";
import { LongTermAuthenticator } from "../../stun/authenticator.ts";
import { BindingClient, type BindingClientEvent, type BindingCredentials } from "../../stun/client.ts";
import { DiscoveryServer, type DiscoveryServerOptions } from "../../stun/discovery_server.ts";
import { StunError, StunIntegrityError, StunTimeoutError } from "../../stun/error.ts";
import { IntegrityKey } from "../../stun/integrity.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import { VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { requestBinding, type RequestBindingOptions } from "../../stun/request.ts";
import { serveStun, type ServeStunOptions } from "../../stun/serve.ts";
import { ShortTermAuthenticator } from "../../stun/short_term.ts";
import { UserTable } from "../../stun/mod.ts";
import { recordedPacket, RecordingIo } from "../_recorder.ts";

const {
  ALTERNATE_DOMAIN,
  ALTERNATE_SERVER,
  ERROR_CODE_ATTRIBUTE,
  MESSAGE_INTEGRITY,
  MESSAGE_INTEGRITY_SHA256,
  NONCE,
  PASSWORD_ALGORITHM,
  PASSWORD_ALGORITHMS,
  REALM,
  UNKNOWN_ATTRIBUTES,
  USERNAME,
  XOR_MAPPED_ADDRESS,
} = attributes;

const SERVER = TransportAddress.parse("198.51.100.1:3478");
const CLIENT = TransportAddress.parse("203.0.113.9:40000");
const REALM_NAME = "example.org";
const users = new UserTable(REALM_NAME, [["alice", "secret"], ["bob", "hidden"]]);
const LONG: BindingCredentials = { type: "long-term", username: "alice", password: "secret" };
const SHORT: BindingCredentials = { type: "short-term", username: "alice", password: "secret" };
const longTerm = { type: "long-term", realm: REALM_NAME, users } as const;
const shortTerm = { type: "short-term", users: [["alice", "secret"]] } as const;

/** A world with server hosts and a client's; what the client sent, by server. */
function world() {
  const world = new VirtualWorld({ seed: 1, link: { delay: 10 } });
  const hosts = ["198.51.100.1", "198.51.100.2", "198.51.100.3"].map((address, i) =>
    world.addHost(`server${i}`, { addresses: [address] })
  );
  const client = world.addHost("client", { addresses: ["203.0.113.9"] });
  const serve = (i: number, options: Partial<ServeStunOptions> = {}) =>
    serveStun({ listen: [`198.51.100.${i + 1}`], host: hosts[i]!, ...options });
  const ask = (options: Partial<RequestBindingOptions> = {}) =>
    world.run(() => requestBinding({ server: SERVER, host: client, ...options }));
  return { world, hosts, client, serve, ask };
}

function alternate(...addresses: string[]): ServeStunOptions["alternate"] & object {
  return { addresses: addresses.map((address) => TransportAddress.parse(address, 3478)) };
}

Deno.test("RFC 8489 §9.2: Binding with long-term credentials: challenge, then SHA-256 on both sides", async () => {
  for (const anonymity of [false, true]) {
    const { serve, ask, client } = world();
    await using server = serve(0, { credentials: { ...longTerm, anonymity } });
    const { mapped, local } = await ask({ credentials: LONG });
    assertEquals(String(mapped), String(local));
    const { requests, successes, errors } = server.stats();
    assertEquals([requests, successes, errors, client.counters.sent], [2, 1, 1, 2]);
  }
});

Deno.test("RFC 8489 §9.2.5: wrong long-term credentials, or none, end in 401 after one retry at most", async () => {
  const { serve, ask, client } = world();
  await using _server = serve(0, { credentials: longTerm });
  for (
    const [credentials, sent] of [
      [{ ...LONG, password: "guess" }, 2],
      [{ ...LONG, username: "mallory" }, 2],
      [undefined, 1],
    ] as const
  ) {
    const before = client.counters.sent;
    const error = await assertRejects(() => ask(credentials === undefined ? {} : { credentials }), StunError);
    assertEquals([error.code, client.counters.sent - before], [401, sent]);
  }
});

Deno.test("RFC 8489 §9.1: Binding with short-term credentials takes one request", async () => {
  const { serve, ask, client } = world();
  await using server = serve(0, { credentials: shortTerm });
  const { mapped, local } = await ask({ credentials: SHORT });
  assertEquals([String(mapped), client.counters.sent, server.stats().successes], [String(local), 1, 1]);
});

Deno.test("RFC 8489 §9.1.4: with other short-term credentials no answer counts; without any the server's 400 does", async () => {
  const { serve, ask } = world();
  await using _server = serve(0, { credentials: shortTerm });
  const wrong = { ...SHORT, password: "guess" };
  await assertRejects(() => ask({ credentials: wrong, rc: 1 }), StunIntegrityError, `the last one said "401"`);
  const error = await assertRejects(() => ask(), StunError);
  assertEquals(error.code, 400);
});

Deno.test("RFC 8489 §9.2: OpaqueString: a password is the same however its accents and spaces are written", async () => {
  const { serve, ask } = world();
  const own = new UserTable(REALM_NAME, [["Zo\u00eb", "caf\u00e9 au\u00a0lait"]]);
  await using _server = serve(0, { credentials: { ...longTerm, users: own } });
  await ask({ credentials: { type: "long-term", username: "Zoe\u0308", password: "cafe\u0301 au lait" } });
  await using _short = serve(1, { credentials: { type: "short-term", users: [["Zo\u00eb", "caf\u00e9"]] } });
  const credentials = { type: "short-term", username: "Zoe\u0308", password: "cafe\u0301" } as const;
  await ask({ server: "stun:198.51.100.2", credentials });
});

Deno.test("RFC 8489 §9: credentials that a server does not ask for do no harm", async () => {
  const { serve, ask } = world();
  await using _server = serve(0);
  await ask({ credentials: LONG });
  // A short-term answer, though, must be authenticated.
  await assertRejects(() => ask({ credentials: SHORT, rc: 1 }), StunIntegrityError);
});

Deno.test("RFC 8489 §10: a redirected client asks the alternate server, with the same credentials", async () => {
  for (const credentials of [undefined, LONG, SHORT]) {
    const how = credentials === undefined
      ? {}
      : { credentials: credentials === LONG ? { ...longTerm, users } : shortTerm };
    const { serve, ask } = world();
    await using first = serve(0, { ...how, alternate: alternate("198.51.100.2") });
    await using second = serve(1, how);
    const { server } = await ask(credentials === undefined ? {} : { credentials });
    assertEquals(String(server), "198.51.100.2:3478");
    assertEquals([first.stats().successes, second.stats().successes], [0, 1]);
  }
});

Deno.test("RFC 8489 §10: servers that send a client round in circles are left after each was asked once", async () => {
  const { serve, ask, client } = world();
  await using _first = serve(0, { alternate: alternate("198.51.100.2") });
  await using _second = serve(1, { alternate: alternate("198.51.100.3") });
  await using _third = serve(2, { alternate: alternate("198.51.100.1") });
  const error = await assertRejects(() => ask(), StunError, "it names 198.51.100.1:3478, and there is no end to it");
  assertEquals([error.code, client.counters.sent], [300, 3]);
});

Deno.test("RFC 8489 §10: an alternate of the other IP version only: the server answers itself", async () => {
  const { serve, ask } = world();
  await using _server = serve(0, { alternate: alternate("[2001:db8::1]:3478") });
  assertEquals(String((await ask()).server), String(SERVER));
});

Deno.test("RFC 8489 §10: an alternate server that is silent is a time-out of the alternate", async () => {
  const { serve, ask, hosts } = world();
  await using _server = serve(0, { alternate: alternate("198.51.100.3:9") });
  hosts[2]!.openDatagram({ transport: "udp", address: "198.51.100.3", port: 9 }, () => {});
  await assertRejects(() => ask({ rc: 2, rm: 1 }), StunTimeoutError, "198.51.100.3:9 did not answer 2 requests");
});

Deno.test("RFC 8489 §10: over TLS the client connects anew, and wants a certificate for ALTERNATE-DOMAIN, or the same as before", () => {
  const next = TransportAddress.parse("198.51.100.2:5349");
  for (const [domain, serverName] of [["other.example.org", "other.example.org"], [undefined, "stun.example.org"]]) {
    const io = new RecordingIo<BindingClientEvent>();
    const tls = { serverName: "stun.example.org", alpn: ["stun.nat-discovery"] };
    const client = new BindingClient({ server: SERVER, transport: "tls", tls });
    client.request(io);
    const [first] = io.takeOpens();
    client.handleOpened(first!.socket, CLIENT, io);
    const writer = new MessageWriter(new Uint8Array(256))
      .beginResponse(StunMessage.parse(io.sends[0]!.bytes)!, "error")
      .add(ERROR_CODE_ATTRIBUTE, { code: 300, reason: "" }).add(ALTERNATE_SERVER, next);
    if (domain !== undefined) writer.add(ALTERNATE_DOMAIN, domain);
    client.handlePacket(recordedPacket(first!.socket, SERVER, writer.finish()), io);
    const [second] = io.takeOpens();
    assertEquals(second!.wish, { transport: "tls", remote: next, tls: { ...tls, serverName: serverName! } });
    assertEquals(io.closed, [first!.socket]);
    client.handleOpened(second!.socket, CLIENT, io);
    assertEquals([io.sends.length, String(io.sends[1]!.to)], [2, String(next)]);
    // The first connection is nothing to it any more.
    client.handleClosed(first!.socket, "end", io);
    assertEquals(io.events.map(({ type }) => type), ["bound", "bound"]);
  }
});

// The server alone.

type Build = (writer: MessageWriter) => unknown;

/** A server, and how to ask it. */
class Rig {
  readonly io = new RecordingIo<never>();
  readonly server: DiscoveryServer;

  constructor(options: DiscoveryServerOptions) {
    this.server = new DiscoveryServer(options);
    this.server.addSocket(1, SERVER);
  }

  ask(build: Build, from = CLIENT): StunMessage {
    const writer = new MessageWriter(new Uint8Array(2048)).begin(METHOD.BINDING, "request", new Uint8Array(12));
    build(writer);
    this.io.sends.length = 0;
    this.server.handlePacket(recordedPacket(1, from, writer.finish()), this.io);
    return StunMessage.parse(this.io.sends[0]!.bytes)!;
  }
}

function longRig(options: { nonceLifetime?: number } = {}): Rig {
  const secret = new Uint8Array(32).fill(3);
  return new Rig({ authenticator: new LongTermAuthenticator({ realm: REALM_NAME, users, secret, ...options }) });
}

function codeOf(answer: StunMessage): number | undefined {
  return answer.class === "success" ? 0 : answer.get(ERROR_CODE_ATTRIBUTE)?.code;
}

const MD5_KEY = IntegrityKey.longTerm("alice", REALM_NAME, "secret");
const SHA_KEY = IntegrityKey.longTerm("alice", REALM_NAME, "secret", "SHA-256");
const SHORT_KEY = IntegrityKey.shortTerm("secret");
const STRANGE = { type: 0x7abc, name: "?", read: () => undefined, write() {} };
const NONE = new Uint8Array(0);
const OFFER = [{ algorithm: 2, parameters: NONE }, { algorithm: 1, parameters: NONE }];

/** What a client of RFC 5389 sends, and what one of RFC 8489 does. */
function signedOld(nonce: string, key = MD5_KEY, add: Build = () => {}): Build {
  return (writer) => {
    writer.add(USERNAME, "alice").add(REALM, REALM_NAME).add(NONCE, nonce);
    add(writer);
    writer.addIntegrity(key);
  };
}

function signedNew(nonce: string, { offer = OFFER, choice = OFFER[0]!, key = SHA_KEY } = {}): Build {
  return (writer) => {
    writer.add(USERNAME, "alice").add(REALM, REALM_NAME).add(NONCE, nonce)
      .add(PASSWORD_ALGORITHMS, offer).add(PASSWORD_ALGORITHM, choice).addIntegrity(key, "sha256");
  };
}

Deno.test("T1 RFC 8489 §9.2.4: no integrity: 401 with REALM, NONCE, PASSWORD-ALGORITHMS and the cookie's bit", () => {
  const answer = longRig().ask(() => {});
  assertEquals([codeOf(answer), answer.get(REALM), answer.hasIntegrity], [401, REALM_NAME, false]);
  assertEquals(answer.get(PASSWORD_ALGORITHMS)?.map(({ algorithm }) => algorithm), [2, 1]);
  assertEquals(answer.get(NONCE)!.slice(0, 13), "obMatJos2AAAB");
});

Deno.test("T1 RFC 8489 §9.2.4: a piece missing: 400 without REALM and NONCE", () => {
  const rig = longRig();
  const nonce = rig.ask(() => {}).get(NONCE)!;
  const broken: Build[] = [
    (writer) => writer.add(REALM, REALM_NAME).add(NONCE, nonce).addIntegrity(MD5_KEY),
    (writer) => writer.add(USERNAME, "alice").add(NONCE, nonce).addIntegrity(MD5_KEY),
    (writer) => writer.add(USERNAME, "alice").add(REALM, REALM_NAME).addIntegrity(MD5_KEY),
    // Bid-down: one of the two, another list, a choice that is not in the list.
    signedOld(nonce, MD5_KEY, (writer) => writer.add(PASSWORD_ALGORITHMS, OFFER)),
    signedOld(nonce, MD5_KEY, (writer) => writer.add(PASSWORD_ALGORITHM, OFFER[1]!)),
    signedNew(nonce, { offer: [OFFER[1]!], choice: OFFER[1]!, key: MD5_KEY }),
    signedNew(nonce, { choice: { algorithm: 3, parameters: NONE } }),
  ];
  for (const build of broken) {
    const answer = rig.ask(build);
    assertEquals([codeOf(answer), answer.attributeTypes()], [400, [ERROR_CODE_ATTRIBUTE.type]]);
  }
});

Deno.test("T1 RFC 8489 §9.2.4: unknown user and wrong password: 401 with a challenge and no integrity", () => {
  const rig = longRig();
  const nonce = rig.ask(() => {}).get(NONCE)!;
  const unknown: Build = (writer) =>
    writer.add(USERNAME, "mallory").add(REALM, REALM_NAME).add(NONCE, nonce).addIntegrity(MD5_KEY);
  for (const build of [unknown, signedOld(nonce, SHORT_KEY), signedNew(nonce, { key: MD5_KEY })]) {
    const answer = rig.ask(build);
    assertEquals([codeOf(answer), answer.has(NONCE), answer.hasIntegrity], [401, true, false]);
  }
});

Deno.test("T1 RFC 8489 §9.2.4: the answer has the kind of integrity that the request had; old SHA-1 clients keep working", () => {
  const rig = longRig();
  const nonce = rig.ask(() => {}).get(NONCE)!;
  const old = rig.ask(signedOld(nonce));
  assertEquals([codeOf(old), old.has(MESSAGE_INTEGRITY), old.has(MESSAGE_INTEGRITY_SHA256)], [0, true, false]);
  assert(old.verifyIntegrity(MD5_KEY));
  for (const [choice, key] of [[OFFER[0]!, SHA_KEY], [OFFER[1]!, MD5_KEY]] as const) {
    const fresh = rig.ask(signedNew(nonce, { choice, key }));
    assertEquals([codeOf(fresh), fresh.has(MESSAGE_INTEGRITY), fresh.has(MESSAGE_INTEGRITY_SHA256)], [0, false, true]);
    assert(fresh.verifyIntegrity(key));
    assertEquals([fresh.has(USERNAME), fresh.has(REALM), fresh.has(NONCE)], [false, false, false]);
  }
});

Deno.test("T1 RFC 8489 §9.2.4: both kinds in one request: MESSAGE-INTEGRITY-SHA256 decides", () => {
  const rig = longRig();
  const nonce = rig.ask(() => {}).get(NONCE)!;
  const both = (first: IntegrityKey, second: IntegrityKey): Build => (writer) => {
    signedOld(nonce, first)(writer);
    writer.addIntegrity(second, "sha256");
  };
  assertEquals(codeOf(rig.ask(both(SHORT_KEY, MD5_KEY))), 0);
  assertEquals(codeOf(rig.ask(both(MD5_KEY, SHORT_KEY))), 401);
});

Deno.test("T1 RFC 8489 §9.2.4: a stale nonce: 438 with a fresh one, and the client goes on with it", async () => {
  const rig = longRig({ nonceLifetime: 60 });
  const nonce = rig.ask(() => {}).get(NONCE)!;
  rig.io.now += 60_001;
  const answer = rig.ask(signedNew(nonce));
  assertEquals([codeOf(answer), answer.get(REALM), answer.has(PASSWORD_ALGORITHMS)], [438, REALM_NAME, true]);
  assertEquals(codeOf(rig.ask(signedNew(answer.get(NONCE)!))), 0);
  // Before the nonce is looked at, the password is.
  assertEquals(codeOf(rig.ask(signedNew(nonce, { key: MD5_KEY }))), 401);
  const { world: time, serve, ask, client } = world();
  await using _server = serve(0, { credentials: { ...longTerm, nonceLifetime: 0.015 } });
  // A round trip takes 40 ms: each nonce is too old when it comes back. The client gives up in the end.
  const error = await assertRejects(() => ask({ credentials: LONG }), StunError);
  assertEquals([error.code, client.counters.sent, time.now], [438, 6, 6 * 40]);
});

Deno.test("T2 RFC 8489 §9.2.4: no nonce for two transport addresses, none twice, and none good for longer than an hour", () => {
  const rig = longRig();
  const other = CLIENT.withPort(40001);
  const nonces = [CLIENT, CLIENT, other].map((from) => rig.ask(() => {}, from).get(NONCE)!);
  assertEquals(new Set(nonces).size, 3);
  assertEquals(codeOf(rig.ask(signedNew(nonces[0]!))), 0);
  assertEquals(codeOf(rig.ask(signedNew(nonces[0]!), other)), 438);
  rig.io.now += 3_600_001;
  assertEquals(codeOf(rig.ask(signedNew(nonces[0]!))), 438);
});

Deno.test("T3 RFC 8489 §9.2, erratum: the cookie is obMatJos2 and 24 bits in base64, bit 0 the lowest", () => {
  const of = (anonymity: boolean) => {
    const authenticator = new LongTermAuthenticator({ realm: "r", users, secret: new Uint8Array(16), anonymity });
    return new Rig({ authenticator }).ask(() => {}).get(NONCE)!.slice(0, 13);
  };
  assertEquals([of(false), of(true)], ["obMatJos2AAAB", "obMatJos2AAAD"]);
});

Deno.test("T4 RFC 8489 §14.5: what follows MESSAGE-INTEGRITY is ignored, but for the other kind and FINGERPRINT", () => {
  const rig = longRig();
  const nonce = rig.ask(() => {}).get(NONCE)!;
  const trailing = rig.ask((writer) => {
    signedOld(nonce)(writer);
    writer.add(STRANGE, undefined).add(USERNAME, "mallory");
  });
  assertEquals(codeOf(trailing), 0);
  const printed = rig.ask((writer) => {
    signedOld(nonce)(writer);
    writer.addFingerprint();
  });
  assertEquals([codeOf(printed), printed.verifyFingerprint(), printed.verifyIntegrity(MD5_KEY)], [0, true, true]);
  // Nothing but FINGERPRINT may be the last.
  assertEquals(printed.bytes.subarray(-8, -4), Uint8Array.of(0x80, 0x28, 0, 4));
});

Deno.test("T5 RFC 8489 §6.3.1: 420 with the list comes after authentication, and is authenticated", () => {
  const rig = longRig();
  const first = rig.ask((writer) => writer.add(STRANGE, undefined));
  assertEquals([codeOf(first), first.has(UNKNOWN_ATTRIBUTES)], [401, false]);
  const answer = rig.ask(signedOld(first.get(NONCE)!, MD5_KEY, (writer) => writer.add(STRANGE, undefined)));
  assertEquals([codeOf(answer), answer.get(UNKNOWN_ATTRIBUTES)], [420, [0x7abc]]);
  assert(answer.verifyIntegrity(MD5_KEY));
});

Deno.test("T5 RFC 8489 §6.3.2: an indication gets no answer, with or without credentials", () => {
  const rig = longRig();
  for (const build of [() => {}, (writer: MessageWriter) => writer.add(STRANGE, undefined)] as Build[]) {
    const writer = new MessageWriter(new Uint8Array(64)).begin(METHOD.BINDING, "indication", new Uint8Array(12));
    build(writer);
    rig.server.handlePacket(recordedPacket(1, CLIENT, writer.finish()), rig.io);
  }
  assertEquals([rig.io.sends.length, rig.server.counters.dropped], [0, 2]);
});

Deno.test("RFC 8489 §9.1.3: short-term: 400 for what is missing, 401 for what is wrong, without integrity or USERNAME", () => {
  const rig = new Rig({ authenticator: new ShortTermAuthenticator([["alice", "secret"]]) });
  const cases: [number, Build][] = [
    [400, () => {}],
    [400, (writer) => writer.add(USERNAME, "alice")],
    [400, (writer) => writer.addIntegrity(SHORT_KEY)],
    [401, (writer) => writer.add(USERNAME, "mallory").addIntegrity(SHORT_KEY)],
    [401, (writer) => writer.add(USERNAME, "alice").addIntegrity(MD5_KEY)],
    // The stronger one decides, whatever the other says.
    [401, (writer) => writer.add(USERNAME, "alice").addIntegrity(SHORT_KEY).addIntegrity(MD5_KEY, "sha256")],
  ];
  for (const [code, build] of cases) {
    const answer = rig.ask(build);
    assertEquals([codeOf(answer), answer.attributeTypes()], [code, [ERROR_CODE_ATTRIBUTE.type]]);
    assertEquals(answer.hasIntegrity, false);
  }
});

Deno.test("RFC 8489 §9.1.3: short-term: the answer has the stronger kind that the request had, and only one", () => {
  const rig = new Rig({ authenticator: new ShortTermAuthenticator([["alice", "secret"]]) });
  for (const [kinds, isStrong] of [[["sha1"], false], [["sha256"], true], [["sha1", "sha256"], true]] as const) {
    const answer = rig.ask((writer) => {
      writer.add(USERNAME, "alice");
      for (const kind of kinds) writer.addIntegrity(SHORT_KEY, kind);
    });
    assertEquals([codeOf(answer), answer.has(USERNAME), answer.has(XOR_MAPPED_ADDRESS)], [0, false, true]);
    assertEquals([answer.has(MESSAGE_INTEGRITY_SHA256), answer.has(MESSAGE_INTEGRITY)], [isStrong, !isStrong]);
    assert(answer.verifyIntegrity(SHORT_KEY));
  }
});

Deno.test("RFC 8489 §10: 300 names the client's IP version first; ALTERNATE-DOMAIN goes to those who know SHA-256", () => {
  const rig = new Rig({
    authenticator: new ShortTermAuthenticator([["alice", "secret"]]),
    alternate: { ...alternate("[2001:db8::1]:3478", "198.51.100.2:3478"), domain: "other.example.org" },
  });
  for (const [kind, domain] of [["sha1", undefined], ["sha256", "other.example.org"]] as const) {
    const answer = rig.ask((writer) => writer.add(USERNAME, "alice").addIntegrity(SHORT_KEY, kind));
    assertEquals([codeOf(answer), answer.get(ALTERNATE_DOMAIN)], [300, domain]);
    assertEquals(answer.getAll(ALTERNATE_SERVER).map(String), ["198.51.100.2:3478", "[2001:db8::1]:3478"]);
    assert(answer.verifyIntegrity(SHORT_KEY));
  }
  // Who may not ask is not sent on.
  assertEquals(codeOf(rig.ask(() => {})), 400);
});

Deno.test("DiscoveryServer: classic clients have no such credentials", () => {
  const authenticator = new ShortTermAuthenticator([]);
  assertThrows(() => new DiscoveryServer({ classic: true, authenticator }), TypeError, "Cannot authenticate classic");
});
