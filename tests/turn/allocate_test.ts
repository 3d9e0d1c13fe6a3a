import { assert, assertEquals, assertInstanceOf, assertRejects, assertThrows } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import {
  ERROR_CODE_ATTRIBUTE,
  NONCE,
  PASSWORD_ALGORITHM,
  REALM,
  USERHASH,
  USERNAME,
  XOR_MAPPED_ADDRESS,
} from "../../stun/attributes.ts";
import { StunIntegrityError, StunTimeoutError, StunUnreachableError } from "../../stun/error.ts";
import { IntegrityKey } from "../../stun/integrity.ts";
import type { Machine } from "../../stun/machine.ts";
import { MessageWriter, StunMessage } from "../../stun/message.ts";
import { Driver } from "../../stun/net/driver.ts";
import { OpenError } from "../../stun/net/transport.ts";
import { type VirtualHost, VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { allocate, type AllocateOptions, type Relay, type RelayDatagram } from "../../turn/allocate.ts";
import { XOR_RELAYED_ADDRESS } from "../../turn/attributes.ts";
import { TurnError } from "../../turn/error.ts";
import { serveTurn, type ServeTurnOptions, type TurnServerHandle } from "../../turn/serve.ts";

const SERVER = TransportAddress.parse("198.51.100.1:3478");
const HOUR = 3_600_000;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A TURN server, two clients behind NATs of their own, a peer in the open; 5 ms a link. */
class Place {
  readonly world: VirtualWorld;
  readonly serverHost: VirtualHost;
  readonly alice: VirtualHost;
  readonly bob: VirtualHost;
  readonly peerHost: VirtualHost;
  readonly server: TurnServerHandle;

  constructor(options: Partial<ServeTurnOptions> = {}, seed = 1) {
    this.world = new VirtualWorld({ seed, link: { delay: 5 } });
    this.serverHost = this.world.addHost("server", { addresses: ["198.51.100.1", "2001:db8::1"] });
    this.alice = this.world.addNat("home", { external: ["203.0.113.1"] })
      .addHost("alice", { addresses: ["192.168.1.2"] });
    this.bob = this.world.addNat("office", { external: ["203.0.113.2"] }).addHost("bob", { addresses: ["10.0.0.2"] });
    this.peerHost = this.world.addHost("peer", { addresses: ["203.0.113.50"] });
    this.world.names.set("turn.example.org", ["198.51.100.1"]);
    this.server = serveTurn({
      listen: [String(SERVER)],
      realm: "example.org",
      users: { alice: "secret", bob: "hidden" },
      host: this.serverHost,
      // The world's public addresses are documentation addresses.
      allowPeers: ["203.0.113.0/24", "198.51.100.0/24", "2001:db8::/32"],
      ...options,
    });
  }

  asAlice(options: Partial<AllocateOptions> = {}): Promise<Relay> {
    const credential = { username: "alice", password: "secret" };
    return allocate({ server: "turn:turn.example.org", host: this.alice, ...credential, ...options });
  }

  asBob(options: Partial<AllocateOptions> = {}): Promise<Relay> {
    return this.asAlice({ host: this.bob, username: "bob", password: "hidden", ...options });
  }

  run<T>(program: () => Promise<T>, limit = HOUR): Promise<T> {
    return this.world.run(program, { limit });
  }
}

/** A peer that sends everything back. */
function echo(host: VirtualHost, address = "203.0.113.50:7000"): TransportAddress {
  const machine: Machine = {
    deadline: Infinity,
    handleTimeout() {},
    handlePacket: (packet, io) => io.send(packet.socket, packet.from, packet.bytes),
  };
  const { address: ip, port } = TransportAddress.parse(address);
  return new Driver(host).add(machine).bind({ transport: "udp", address: ip, port }).localAddress;
}

async function next(relay: Relay): Promise<string> {
  const { value } = await relay[Symbol.asyncIterator]().next();
  return text(value!);
}

function text({ from, data }: RelayDatagram): string {
  return `${from} ${decoder.decode(data)}`;
}

Deno.test("RFC 8656 §3.2: a relay's addresses, in two round trips", async () => {
  const place = new Place();
  await place.run(async () => {
    await using relay = await place.asAlice();
    assertEquals(place.world.now, 2 * 30);
    assertEquals(relay.relayedAddress.address, "198.51.100.1");
    assertEquals(relay.mappedAddress.address, "203.0.113.1");
    assertEquals(String(relay.server), String(SERVER));
    assertEquals(place.server.stats().allocations, 1);
  });
  // close() has given it back, and nothing goes on by itself.
  assertEquals(place.server.stats().allocations, 0);
  assertEquals(place.alice.counters.sent, 3);
});

Deno.test("A relay knows what the server granted and what it is; a refusal names the realm", async () => {
  const place = new Place({ software: "natkit test" });
  await place.run(async () => {
    await using relay = await place.asAlice({ lifetime: 1200 });
    assertEquals([relay.lifetime, relay.realm, relay.software], [1200, "example.org", "natkit test"]);
    for (const options of [{ password: "guess" }, { username: "nobody", password: "secret" }]) {
      const { code, realm } = await assertRejects(() => place.asAlice(options), TurnError);
      assertEquals([code, realm], [401, "example.org"]);
    }
    const anonymous = { server: SERVER, host: place.alice };
    assertEquals((await assertRejects(() => allocate(anonymous), TurnError)).realm, "example.org");
  });
});

Deno.test("RFC 8656 §11: the first datagram to a peer takes the permission along; the answer comes back", async () => {
  const place = new Place();
  const peer = echo(place.peerHost);
  await place.run(async () => {
    await using relay = await place.asAlice();
    const before = place.world.now;
    relay.send(peer, encoder.encode("hello"));
    assertEquals(await next(relay), `${peer} hello`);
    // The permission's round trip, and the datagram's: 30 ms to the server and back, 20 ms from there to the peer.
    assertEquals(place.world.now - before, 30 + 30 + 20);
    const { held, sentIndications, receivedIndications } = relay.stats();
    assertEquals({ held, sentIndications, receivedIndications }, {
      held: 1,
      sentIndications: 1,
      receivedIndications: 1,
    });
  });
});

Deno.test("RFC 8656 §12: by channel, datagrams of any size arrive whole and in order", async () => {
  const place = new Place();
  const peer = echo(place.peerHost);
  await place.run(async () => {
    await using relay = await place.asAlice();
    assertEquals(await relay.bindChannel(peer), 0x4000);
    assertEquals(await relay.bindChannel(peer), 0x4000);
    const sizes = [0, 1, 3, 4, 1200, 60_000];
    for (const size of sizes) relay.send(peer, new Uint8Array(size).fill(size));
    const got: number[] = [];
    for await (const { from, data } of relay) {
      assert(from.equals(peer) && data.every((byte) => byte === data.length % 256));
      if (got.push(data.length) === sizes.length) break;
    }
    assertEquals(got, sizes);
    const { sentChannelData, receivedChannelData, sentIndications } = relay.stats();
    assertEquals([sentChannelData, receivedChannelData, sentIndications], [6, 6, 0]);
  });
});

Deno.test("RFC 8656 §9: two clients of one server reach each other by their relays, once both permit it", async () => {
  const place = new Place();
  await place.run(async () => {
    await using a = await place.asAlice();
    await using b = await place.asBob();
    a.send(b.relayedAddress, encoder.encode("too early"));
    await place.world.sleep(200);
    await b.permit(a.relayedAddress);
    a.send(b.relayedAddress, encoder.encode("hello"));
    assertEquals(await next(b), `${a.relayedAddress} hello`);
    b.send(a.relayedAddress, encoder.encode("hello yourself"));
    assertEquals(await next(a), `${b.relayedAddress} hello yourself`);
  });
});

Deno.test("RFC 8656 §8: a relay that is used now and then is there a day later, nonces of an hour notwithstanding", async () => {
  const place = new Place({ nonceLifetime: 600 });
  const peer = echo(place.peerHost);
  await place.run(async () => {
    await using relay = await place.asAlice();
    await relay.bindChannel(peer);
    for (let hour = 0; hour < 24; hour++) {
      await place.world.sleep(HOUR);
      relay.send(peer, encoder.encode(`hour ${hour}`));
      assertEquals(await next(relay), `${peer} hour ${hour}`);
    }
    assertEquals(relay.stats().sentChannelData, 24);
  }, 25 * HOUR);
  assertEquals(place.server.stats().allocationsTotal, 1);
});

Deno.test("RFC 8489 §6.2.1: with every fifth datagram lost, allocate(), permit() and bindChannel() still come through", async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const place = new Place({ nonceLifetime: 600 }, seed);
    const peer = echo(place.peerHost);
    place.alice.link.set({ loss: 0.2, duplicate: 0.1, reorder: 0.1, jitter: 20 });
    await place.run(async () => {
      const relay = await place.asAlice();
      await relay.permit(TransportAddress.parse("203.0.113.99:1"));
      await relay.bindChannel(peer);
      await place.world.sleep(3 * HOUR);
      place.alice.link.set({ loss: 0, duplicate: 0 });
      relay.send(peer, encoder.encode("still there"));
      assertEquals(await next(relay), `${peer} still there`);
      await relay.close();
    }, 4 * HOUR);
    assertEquals([place.server.stats().allocationsTotal, place.server.stats().allocations], [1, 0]);
  }
});

Deno.test("RFC 8656 §7.4: a wrong password, an unknown user, none at all: one clear line each", async () => {
  const place = new Place();
  const expected = [
    [{ password: "guess" }, "401 Unauthenticated (check user name and password)"],
    [{ username: "mallory" }, "401 Unauthenticated (check user name and password)"],
  ] as const;
  for (const [options, message] of expected) {
    const error = await assertRejects(() => place.run(() => place.asAlice(options)), TurnError, message);
    assertEquals([error.code, error.message.split("\n").length], [401, 1]);
  }
  await assertRejects(
    () => place.run(() => allocate({ server: SERVER, host: place.alice })),
    TurnError,
    "401 Unauthenticated (it wants user name and password)",
  );
  assertEquals(place.server.stats().allocationsTotal, 0);
});

Deno.test("RFC 8489 §9.2: SHA-256 keys and integrity, and the user name hidden, as the server offers them", async () => {
  for (const anonymity of [false, true]) {
    const place = new Place({ anonymity });
    const requests: StunMessage[] = [];
    place.world.trace = ({ step, node, bytes }) => {
      const message = step === "sent" && node === "alice" ? StunMessage.parse(bytes.slice()) : undefined;
      if (message?.class === "request" && message.hasIntegrity) requests.push(message);
    };
    await place.run(async () => {
      await using relay = await place.asAlice();
      await relay.permit(TransportAddress.parse("203.0.113.50:1"));
      await relay.bindChannel(TransportAddress.parse("203.0.113.50:1"));
    });
    assertEquals(requests.map(({ method }) => method), [3, 8, 9, 4]);
    for (const message of requests) {
      assertEquals([message.has(USERHASH), message.has(USERNAME)], [anonymity, !anonymity]);
      assertEquals(message.get(PASSWORD_ALGORITHM)?.algorithm, 2);
      assert(message.verifyIntegrity(IntegrityKey.longTerm("alice", "example.org", "secret", "SHA-256")));
    }
  }
});

Deno.test("allocate(): what cannot be used is refused before anything is sent", async () => {
  const place = new Place();
  const refused: [Partial<AllocateOptions>, ErrorConstructor | typeof OpenError, string][] = [
    [{ server: "stun:turn.example.org" }, SyntaxError, "must begin with turn:"],
    [{ server: "turn:nowhere.example.org" }, Error, `Cannot find name "nowhere.example.org"`],
    [{ username: "" }, SyntaxError, "Cannot use user name as it is empty"],
    [{ password: "a\nb" }, SyntaxError, "Cannot use password"],
    [{ lifetime: 1.5 }, RangeError, "Cannot use lifetime"],
    [{ localAddress: "192.168.1.77" }, OpenError, "Cannot bind UDP 192.168.1.77"],
  ];
  for (const [options, type, message] of refused) {
    await assertRejects(() => place.run(() => place.asAlice(options)), type as ErrorConstructor, message);
  }
  await assertRejects(() => allocate({ server: SERVER, username: "alice" }), TypeError, "user name and no password");
  assertEquals(place.alice.counters.sent, 0);
});

Deno.test("allocate(): a server that is silent, or whose answers are forged", async () => {
  const place = new Place();
  const nobody = { server: "turn:203.0.113.50", retransmit: { rto: 100, rc: 3 } };
  await assertRejects(
    () => place.run(() => place.asAlice(nobody)),
    StunUnreachableError,
    "Cannot allocate on 203.0.113.50:3478: nobody is at 203.0.113.50:3478",
  );
  const silent = place.peerHost.openDatagram({ transport: "udp", address: "203.0.113.50", port: 3478 }, () => {});
  await assertRejects(
    () => place.run(() => place.asAlice(nobody)),
    StunTimeoutError,
    "Cannot allocate on 203.0.113.50:3478: 203.0.113.50:3478 did not answer 3 requests",
  );
  silent.close();
  // It takes the request for an answer, which it is not.
  echo(place.peerHost, "203.0.113.50:3478");
  await assertRejects(() => place.run(() => place.asAlice(nobody)), StunTimeoutError);
  // It challenges as a server does, and then lets anybody in without having the password.
  const forger: Machine = {
    deadline: Infinity,
    handleTimeout() {},
    handlePacket(packet, io) {
      const request = StunMessage.parse(packet.bytes)!;
      const writer = new MessageWriter(io.scratch(512)).beginResponse(
        request,
        request.hasIntegrity ? "success" : "error",
      );
      if (request.hasIntegrity) writer.add(XOR_RELAYED_ADDRESS, SERVER).add(XOR_MAPPED_ADDRESS, SERVER);
      else writer.add(ERROR_CODE_ATTRIBUTE, { code: 401, reason: "" }).add(REALM, "example.org").add(NONCE, "1");
      io.send(packet.socket, packet.from, writer.finish());
    },
  };
  new Driver(place.peerHost).add(forger).bind({ transport: "udp", address: "203.0.113.50", port: 3479 });
  await assertRejects(
    () => place.run(() => place.asAlice({ ...nobody, server: "turn:203.0.113.50:3479" })),
    StunIntegrityError,
    `no answer of 203.0.113.50:3479 was authenticated; the last one said "success"`,
  );
});

Deno.test("allocate(): a signal ends the wait with its reason; after that it has no effect", async () => {
  const place = new Place();
  const reason = new Error("enough");
  const early = new AbortController();
  place.world.after(35, () => early.abort(reason));
  assertEquals(await assertRejects(() => place.run(() => place.asAlice({ signal: early.signal }))), reason);
  assertEquals(place.world.now, 35);
  place.world.advance(1000);
  // The Allocate that was under way got its allocation, and the Refresh behind it gave that back.
  assertEquals([place.server.stats().allocationsTotal, place.server.stats().allocations], [1, 0]);

  const late = new AbortController();
  await place.run(async () => {
    await using relay = await place.asAlice({ signal: late.signal });
    late.abort(reason);
    await relay.permit(TransportAddress.parse("203.0.113.50:1"));
  });
  const aborted = AbortSignal.abort(reason);
  const sent = place.alice.counters.sent;
  assertEquals(await assertRejects(() => place.run(() => place.asAlice({ signal: aborted }))), reason);
  assertEquals(place.alice.counters.sent, sent);
});

Deno.test("Relay.permit(), bindChannel(): refused peers, signals, the other IP version", async () => {
  const place = new Place();
  await place.run(async () => {
    await using relay = await place.asAlice();
    const forbidden = TransportAddress.parse("192.168.7.7:1");
    for (const ask of [() => relay.permit(forbidden), () => relay.bindChannel(forbidden)]) {
      assertEquals((await assertRejects(ask, TurnError)).code, 403);
    }
    const six = TransportAddress.parse("[2001:db8::7]:1");
    for (const ask of [() => relay.permit(six), () => relay.bindChannel(six)]) {
      assertEquals((await assertRejects(ask, TurnError)).code, 443);
    }
    const peer = TransportAddress.parse("203.0.113.50:1");
    const controller = new AbortController();
    const reason = new Error("enough");
    const waits = [relay.permit(peer, controller), relay.bindChannel(peer, controller), relay.permit(peer)];
    controller.abort(reason);
    const settled = await Promise.allSettled(waits);
    assertEquals(settled.map((one) => one.status === "rejected" ? one.reason : "ok"), [reason, reason, "ok"]);
    await assertRejects(() => relay.permit(peer, controller), Error, "enough");
  });
});

Deno.test("Relay: a lost allocation is reported to whoever waits, and to whoever comes later", async () => {
  const place = new Place();
  await place.run(async () => {
    const relay = await place.asAlice();
    const peer = TransportAddress.parse("203.0.113.50:1");
    const reading = assertRejects(() => next(relay), TurnError, "no longer knows the allocation");
    // The server starts anew, and knows nothing.
    await place.server.shutdown();
    serveTurn({ listen: [String(SERVER)], realm: "example.org", users: { alice: "secret" }, host: place.serverHost });
    const error = await assertRejects(() => relay.permit(peer), TurnError);
    assertEquals(error.code, 437);
    await reading;
    await assertRejects(() => next(relay), TurnError);
    const thrown = assertThrows(() => relay.send(peer, new Uint8Array()), Error, "as the allocation is lost");
    assertInstanceOf(thrown.cause, TurnError);
    await assertRejects(() => relay.bindChannel(peer), Error, "as the allocation is lost");
    await relay.close();
  });
  place.world.runUntilIdle();
});

Deno.test("Relay.close(): ends what waits, once, and needs no server for it", async () => {
  const place = new Place();
  await place.run(async () => {
    const relay = await place.asAlice();
    const reading = relay[Symbol.asyncIterator]().next();
    await place.server.shutdown();
    const before = place.world.now;
    await Promise.all([relay.close(), relay.close(), relay[Symbol.asyncDispose]()]);
    assertEquals(place.world.now - before, 1500);
    assertEquals(await reading, { done: true, value: undefined });
    for await (const _ of relay) assert(false);
    assertThrows(() => relay.send(SERVER, new Uint8Array()), Error, "as the relay is closed");
    await assertRejects(() => relay.permit(SERVER), Error, "as the relay is closed");
  });
  place.world.runUntilIdle();
});

Deno.test("Relay: what nobody reads is kept up to 1024 datagrams, and the rest counted", async () => {
  const place = new Place();
  const peer = echo(place.peerHost);
  await place.run(async () => {
    await using relay = await place.asAlice();
    await relay.bindChannel(peer);
    for (let i = 0; i < 1100; i++) relay.send(peer, encoder.encode(`${i}`));
    await place.world.sleep(1000);
    assertEquals(relay.stats().droppedUnread, 76);
    let count = 0;
    for await (const { data } of relay) {
      assertEquals(decoder.decode(data), `${count}`);
      if (++count === 1024) break;
    }
  });
});

Deno.test("RFC 8656 §7.1: an IPv6 relay by an IPv4 client", async () => {
  const place = new Place({ relayAddresses: ["198.51.100.1", "2001:db8::1"] });
  await place.run(async () => {
    await using relay = await place.asAlice({ family: 6 });
    assertEquals(relay.relayedAddress.address, "2001:db8::1");
  });
  const four = new Place();
  const error = await assertRejects(() => four.run(() => four.asAlice({ family: 6 })), TurnError);
  assertEquals(error.code, 440);
});

Deno.test("RFC 8656 §7.4: 486 when the user has as many allocations as allowed", async () => {
  const place = new Place({ limits: { allocationsPerUser: 1 } });
  await place.run(async () => {
    await using _first = await place.asAlice();
    const error = await assertRejects(() => place.asAlice(), TurnError, "wait a minute");
    assertEquals([error.code, error.retryAfter], [486, 60_000]);
  });
});

Deno.test("allocate(): over real loopback", async () => {
  await using server = serveTurn({
    listen: ["127.0.0.1:0"],
    realm: "example.org",
    users: { alice: "secret" },
    allowPeers: ["127.0.0.0/8"],
  });
  const options = { server: server.addresses[0]!, username: "alice", password: "secret" };
  await using a = await allocate(options);
  await using b = await allocate(options);
  await b.bindChannel(a.relayedAddress);
  await a.bindChannel(b.relayedAddress);
  for (let i = 0; i < 100; i++) {
    a.send(b.relayedAddress, encoder.encode(`${i}`));
    assertEquals(await next(b), `${a.relayedAddress} ${i}`);
  }
});
