// Users that take a while to be found: requests wait, in bounded number and time, and are answered when it is known.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { ERROR_CODE_ATTRIBUTE, NONCE, REALM, USERHASH } from "../../stun/attributes.ts";
import { userHash } from "../../stun/integrity.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import type { UserDirectory } from "../../stun/users.ts";
import { longTermUser } from "../../stun/users.ts";
import { addTransport, CLIENT, codeOf, PEER, REALM_NAME, type RigClient, SERVER, ServerRig } from "./_server_rig.ts";

const LATER: UserDirectory = { find: () => "later" };

function rigThatAsks(options = {}): ServerRig {
  return new ServerRig({ users: LATER, ...options });
}

/** A client on a connection. */
function connected(rig: ServerRig): RigClient {
  const accepted = {
    listener: 5,
    transport: "tcp",
    remoteAddress: CLIENT,
    localAddress: SERVER,
    alpn: undefined,
  } as const;
  rig.server.handleAccepted(77, accepted, rig.io);
  return Object.assign(rig.client(), { socket: 77 });
}

/** The names that were asked for so far. */
function asked(rig: ServerRig): string[] {
  return rig.io.events.flatMap((event) => event.type === "userWanted" ? [event.username] : []);
}

/** The user is found. Gives the codes of all answers. */
function found(rig: ServerRig, username: string, credential: string | undefined): number[] {
  rig.server.handleCredential(username, credential, rig.io);
  rig.openAll();
  return rig.io.takeSends().map(({ bytes }) => codeOf(StunMessage.parse(bytes)!));
}

Deno.test("A request whose user is looked for waits, and is answered once when the user is known", () => {
  const rig = rigThatAsks();
  const client = rig.client();
  client.challenge();
  const request = client.build(METHOD.ALLOCATE, addTransport);
  assertEquals([client.send(request).length, client.send(request).length], [0, 0]);
  assertEquals(asked(rig), ["alice"]);
  assertEquals(rig.drops, { alreadyWaiting: 1 });
  assertEquals(rig.server.sizes.waiting, 1);
  assertEquals(found(rig, "alice", "secret"), [0]);
  assertEquals([rig.server.sizes.waiting, rig.server.counters.allocations, rig.server.counters.requests], [0, 1, 3]);
});

Deno.test("What belongs to an allocation is answered at once: its user is known", () => {
  const rig = rigThatAsks();
  const client = rig.client();
  client.challenge();
  const request = client.build(METHOD.ALLOCATE, addTransport);
  client.send(request);
  found(rig, "alice", "secret");
  assertEquals([client.permit(PEER), client.bind(0x4000, PEER), client.code(METHOD.REFRESH)], [0, 0, 0]);
  assertEquals(codeOf(client.ask(request)), 0, "the same Allocate again");
  assertEquals(asked(rig), ["alice"]);
  const other = rig.client(CLIENT, "bob");
  other.nonce = client.nonce;
  assertEquals(other.send(other.build(METHOD.REFRESH)).length, 0, "another name is looked for");
  assertEquals(found(rig, "bob", "hidden"), [441]);
});

Deno.test("Requests of one user wait together and are asked for once", () => {
  const rig = rigThatAsks();
  for (let i = 0; i < 3; i++) {
    const client = rig.client(CLIENT.withPort(50000 + i));
    client.challenge();
    client.send(client.build(METHOD.ALLOCATE, addTransport));
  }
  assertEquals(asked(rig), ["alice"]);
  assertEquals(found(rig, "alice", "secret"), [0, 0, 0]);
});

Deno.test("RFC 8489 §9.2.4: nobody of that name, and a wrong password, are 401 as ever", () => {
  const rig = rigThatAsks();
  const client = rig.client();
  client.challenge();
  client.send(client.build(METHOD.ALLOCATE, addTransport));
  assertEquals(found(rig, "alice", undefined), [401]);
  client.send(client.build(METHOD.ALLOCATE, addTransport));
  assertEquals(found(rig, "alice", "other"), [401]);
  assertEquals(rig.leftovers, {});
});

Deno.test("Keys do as well as passwords", () => {
  const rig = rigThatAsks();
  const client = rig.client();
  client.challenge();
  client.send(client.build(METHOD.ALLOCATE, addTransport));
  const md5 = longTermUser("alice", REALM_NAME, "secret").key("MD5")!.bytes;
  rig.server.handleCredential("alice", { md5 }, rig.io);
  rig.openAll();
  assertEquals(rig.server.counters.allocations, 1);
});

Deno.test("Nobody is looked for on behalf of a made-up nonce: 438 and a fresh one, also for a stale one's sake", () => {
  const rig = rigThatAsks();
  const client = rig.client();
  client.nonce = "made up";
  const answer = client.request(METHOD.ALLOCATE, addTransport);
  assertEquals([codeOf(answer), answer.hasIntegrity], [438, false]);
  assertEquals(asked(rig), []);
  client.nonce = answer.get(NONCE)!;
  rig.advance(3_600_001);
  assertEquals(client.send(client.build(METHOD.ALLOCATE, addTransport)).length, 0, "stale, but its own");
  rig.server.handleCredential("alice", "secret", rig.io);
  const late = StunMessage.parse(rig.io.takeSends()[0]!.bytes)!;
  assertEquals([late.get(ERROR_CODE_ATTRIBUTE)?.code, late.verifyIntegrity(client.key())], [438, true]);
});

Deno.test("A request that is malformed is refused without looking for anybody; so is a name that nobody can have", () => {
  const rig = rigThatAsks();
  const client = rig.client();
  const bare = new MessageWriter(new Uint8Array(256)).begin(METHOD.ALLOCATE, "request", rig.newTransactionId())
    .addIntegrity(client.key()).finish();
  assertEquals(codeOf(client.ask(bare)), 400);
  const strange = rig.client(CLIENT, "a\u0007");
  strange.key = () => client.key();
  strange.challenge();
  assertEquals(strange.code(METHOD.ALLOCATE, addTransport), 401);
  assertEquals(asked(rig), []);
});

Deno.test("Who waits too long, or can not be found out about, is dropped and may ask again", () => {
  const rig = rigThatAsks();
  const client = rig.client();
  client.challenge();
  const request = client.build(METHOD.ALLOCATE, addTransport);
  client.send(request);
  assertEquals(rig.server.deadline, rig.io.now + 8000);
  rig.advance(8000);
  assertEquals([rig.drops, rig.leftovers], [{ userSearchFailed: 1 }, {}]);
  assertEquals(found(rig, "alice", "secret"), [], "too late");
  client.send(request);
  rig.server.handleCredentialFailed("alice", rig.io);
  assertEquals(rig.drops, { userSearchFailed: 2 });
  client.send(request);
  assertEquals(found(rig, "alice", "secret"), [0]);
  assertEquals(asked(rig), ["alice", "alice", "alice"]);
});

Deno.test("Searches are bounded: for a source, for a user, and in all", () => {
  const rig = rigThatAsks({ challengeRate: { rate: 1, burst: 5 } });
  const client = rig.client();
  client.challenge();
  for (let i = 0; i < 10; i++) {
    const other = rig.client(CLIENT, `user${i}`);
    other.nonce = client.nonce;
    other.send(other.build(METHOD.ALLOCATE, addTransport));
  }
  assertEquals([asked(rig).length, rig.drops], [4, { challengeRate: 6 }]);
  const busy = rigThatAsks({ challengeRate: false });
  for (let i = 0; i < 40 * 33; i++) {
    const other = busy.client(TransportAddress.of("192.0.2.7", 1024 + i), `user${i % 40}`);
    other.challenge();
    other.send(other.build(METHOD.ALLOCATE, addTransport));
  }
  assertEquals([asked(busy).length, busy.server.sizes.waiting], [40, 1024]);
  assertEquals(busy.drops, { tooManyWaiting: 40 * 33 - 1024 });
  assertEquals(found(busy, "user0", undefined).length, 26);
  assertEquals(busy.server.sizes.waiting, 998);
  const crowd = rigThatAsks({ challengeRate: false });
  for (let i = 0; i < 50; i++) {
    const other = crowd.client(TransportAddress.of("192.0.2.7", 1024 + i));
    other.challenge();
    other.send(other.build(METHOD.ALLOCATE, addTransport));
  }
  assertEquals([crowd.server.sizes.waiting, crowd.drops], [32, { tooManyWaiting: 18 }]);
});

Deno.test("RFC 8489 §14.8: over a connection, whoever can not be found out about gets 500; over UDP silence, and asks again", () => {
  const rig = rigThatAsks();
  const client = connected(rig);
  client.challenge();
  const request = client.build(METHOD.ALLOCATE, addTransport);
  const codes = () => rig.io.takeSends().map(({ socket, bytes }) => [socket, codeOf(StunMessage.parse(bytes)!)]);
  client.send(request);
  rig.server.handleCredentialFailed("alice", rig.io);
  assertEquals(codes(), [[77, 500]]);
  client.send(request);
  rig.advance(8000);
  assertEquals(codes(), [[77, 500]], "also when it takes too long");
  assertEquals([rig.drops, rig.leftovers], [{ userSearchFailed: 2 }, {}]);
  const other = rig.client();
  other.challenge();
  other.send(other.build(METHOD.ALLOCATE, addTransport));
  client.send(request);
  rig.server.handleClosed(77, "end", rig.io);
  rig.server.handleCredentialFailed("alice", rig.io);
  assertEquals(codes(), []);
});

Deno.test("A connection that ends while its user is looked for: no answer, nothing left", () => {
  const rig = rigThatAsks();
  const client = connected(rig);
  client.challenge();
  client.send(client.build(METHOD.ALLOCATE, addTransport));
  rig.server.handleClosed(77, "end", rig.io);
  assertEquals(found(rig, "alice", "secret"), []);
  assertEquals(rig.leftovers, {});
  assertEquals(rig.server.counters.allocations, 0);
});

/** A request with USERHASH in place of USERNAME. */
function hidden(client: RigClient, method: number, name = "alice"): Uint8Array {
  const writer = new MessageWriter(new Uint8Array(512)).begin(method, "request", client.rig.newTransactionId());
  if (method === METHOD.ALLOCATE) addTransport(writer);
  writer.add(USERHASH, userHash(name, REALM_NAME)).add(REALM, REALM_NAME).add(NONCE, client.nonce);
  return writer.addIntegrity(client.key()).finish();
}

Deno.test("RFC 8489 §14.4: a user who hides behind USERHASH is looked for by it, and known from then on", () => {
  const rig = rigThatAsks({ users: { find: () => "later", findByHash: () => "later" } });
  const client = rig.client();
  client.challenge();
  const request = hidden(client, METHOD.ALLOCATE);
  assertEquals([client.send(request).length, client.send(request).length], [0, 0]);
  assertEquals(rig.drops, { alreadyWaiting: 1 });
  const hash = userHash("alice", REALM_NAME);
  const wanted = rig.io.events.splice(0).filter(({ type }) => type === "userHashWanted");
  assertEquals(wanted, [{ type: "userHashWanted", userHash: hash, client: CLIENT }]);
  rig.server.handleHashedCredential(hash, ["alice", "secret"], rig.io);
  rig.openAll();
  assertEquals(rig.io.takeSends().map(({ bytes }) => codeOf(StunMessage.parse(bytes)!)), [0]);
  // By name or by hash, it is the allocation's user.
  assertEquals([codeOf(client.ask(hidden(client, METHOD.REFRESH))), codeOf(client.refresh(600))], [0, 0]);
  assertEquals(rig.io.events.filter(({ type }) => type.endsWith("Wanted")), []);
});

Deno.test("RFC 8489 §9.2.4: 401 for a USERHASH that is nobody's, or for which another user is given", () => {
  const rig = rigThatAsks({ users: { find: () => "later", findByHash: () => "later" } });
  const client = rig.client();
  client.challenge();
  for (const found of [undefined, ["bob", "secret"]] as const) {
    client.send(hidden(client, METHOD.ALLOCATE));
    rig.server.handleHashedCredential(userHash("alice", REALM_NAME), found, rig.io);
    assertEquals(rig.io.takeSends().map(({ bytes }) => codeOf(StunMessage.parse(bytes)!)), [401]);
  }
  client.send(hidden(client, METHOD.ALLOCATE));
  rig.server.handleCredentialFailed(userHash("alice", REALM_NAME), rig.io);
  assertEquals([rig.io.takeSends(), rig.server.sizes.waiting], [[], 0]);
  // A directory that can not look for hashes knows nobody by them.
  const plain = rigThatAsks().client();
  plain.challenge();
  assertEquals(codeOf(plain.ask(hidden(plain, METHOD.ALLOCATE))), 401);
});

Deno.test("A credential that is none is an error of whoever gives it", () => {
  const rig = rigThatAsks();
  assertThrows(() => rig.server.handleCredential("alice", "", rig.io), SyntaxError);
  assertThrows(() => rig.server.handleCredential("alice", { md5: new Uint8Array(3) }, rig.io), RangeError);
  rig.server.handleCredential("nobody waits for", "secret", rig.io);
  assert(rig.io.sends.length === 0);
});
