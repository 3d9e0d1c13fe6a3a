// RFC 8016: an allocation moves along with its client.
import { assertEquals, assertThrows } from "@std/assert";
import { MESSAGE_INTEGRITY } from "../../stun/attributes.ts";
import { StunConnectionError, StunTimeoutError } from "../../stun/error.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import { DATA, LIFETIME, MOBILITY_TICKET, XOR_PEER_ADDRESS } from "../../turn/attributes.ts";
import type { TurnClientOptions } from "../../turn/client.ts";
import type { TurnError } from "../../turn/error.ts";
import { type Answer, channelData, ClientRig, error, PEER, SERVER, silence } from "./_client_rig.ts";

/** The ticket of a number. */
function ticket(number: number): Uint8Array {
  return new Uint8Array(16).fill(number);
}

/** Challenges what is not signed, as always, and gives a ticket with what is. */
function withTicket(number: number): Answer {
  return (request, server) => {
    if (!request.hasIntegrity) return server.challenge(request, 401);
    return server.success(request, (writer) => writer.add(MOBILITY_TICKET, ticket(number)));
  };
}

/** A client whose allocation can move. */
function mobileRig(options: Partial<TurnClientOptions> = {}, lifetime = 600): ClientRig {
  const rig = new ClientRig({ mobility: true, ...options });
  rig.server.lifetime = lifetime;
  rig.server.script(METHOD.ALLOCATE, withTicket(1), withTicket(1));
  rig.call((client, io) => client.allocate(io));
  rig.advance(100);
  assertEquals([rig.client.state, rig.client.canMigrate], ["allocated", true]);
  const asked = requests(rig, METHOD.ALLOCATE).map((message) => message.get(MOBILITY_TICKET)?.length);
  assertEquals(asked, [0, 0]);
  rig.reset();
  return rig;
}

function requests(rig: ClientRig, method: number): StunMessage[] {
  return rig.sent.map(({ bytes }) => StunMessage.parse(bytes)!).filter((message) => message?.method === method);
}

/** The tickets that Refresh requests had; `undefined` for those without. */
function tickets(rig: ClientRig): (number | undefined)[] {
  return requests(rig, METHOD.REFRESH).map((message) => message.get(MOBILITY_TICKET)?.[0]);
}

Deno.test("RFC 8016 §3.1: a ticket is asked for only if mobility is, and a server without it changes nothing", () => {
  const rig = ClientRig.allocated({ mobility: true });
  assertEquals(rig.client.canMigrate, false);
  assertThrows(() => rig.client.migrate(rig.io), Error, "gave no ticket");
  const plain = new ClientRig();
  plain.server.script(METHOD.ALLOCATE, withTicket(1), withTicket(1));
  plain.call((client, io) => client.allocate(io));
  plain.advance(100);
  assertEquals(requests(plain, METHOD.ALLOCATE).map((message) => message.has(MOBILITY_TICKET)), [false, false]);
  assertEquals(plain.client.canMigrate, false);
});

Deno.test("RFC 8016 §3.1.3: a server that forbids it (405) is asked without", () => {
  const rig = new ClientRig({ mobility: true });
  rig.server.script(METHOD.ALLOCATE, (request, server) => server.challenge(request, 401), error(405));
  rig.call((client, io) => client.allocate(io));
  rig.advance(200);
  assertEquals([rig.client.state, rig.client.canMigrate], ["allocated", false]);
  assertEquals(requests(rig, METHOD.ALLOCATE).map((message) => message.has(MOBILITY_TICKET)), [true, true, false]);
});

Deno.test("RFC 8016 §3.2.1: a move is a Refresh with the ticket from a new socket; then all goes on there", () => {
  const rig = mobileRig();
  rig.client.bindChannel(PEER, rig.io);
  rig.advance(100);
  rig.reset();
  const before = rig.socket;
  rig.server.script(METHOD.REFRESH, withTicket(2));
  rig.call((client, io) => client.migrate(io));
  rig.advance(100);
  const after = rig.socket;
  const local = rig.client.localAddress!;
  assertEquals(rig.events, [{ type: "migrated", local }]);
  assertEquals([after > before, local.port], [true, 50_000 + after]);
  // The second one has no ticket, as it comes from where the allocation is now; its answer says that the server has followed.
  assertEquals([tickets(rig), rig.closed], [[1, undefined], [before]]);
  assertEquals(rig.sent.map(({ socket }) => socket), [after, after, after]);
  // Channel and permission have come along.
  rig.reset();
  rig.send(PEER, "hello");
  rig.receive(channelData(0x4000, "back"));
  assertEquals([rig.sent[0]!.socket, rig.delivered.map(({ text }) => text)], [after, ["back"]]);
  // The next move has the next ticket.
  rig.server.script(METHOD.REFRESH, withTicket(3));
  rig.call((client, io) => client.migrate(io));
  rig.advance(100);
  assertEquals(tickets(rig), [2, undefined]);
});

Deno.test("RFC 8016 §3.2.2: data that nobody gets tells the server to leave the old path; until then both are read", () => {
  const rig = mobileRig();
  rig.client.createPermission(PEER, rig.io);
  rig.client.bindChannel(PEER, rig.io);
  rig.advance(100);
  rig.reset();
  const before = rig.socket;
  rig.server.script(METHOD.REFRESH, withTicket(2), silence);
  rig.call((client, io) => client.migrate(io));
  rig.advance(20);
  const [nobody] = requests(rig, METHOD.SEND);
  assertEquals([String(nobody!.get(XOR_PEER_ADDRESS)), nobody!.get(DATA)!.length], ["0.0.0.0:9", 0]);
  assertEquals(rig.eventsOf("migrated").length, 1);
  rig.receive(channelData(0x4000, "on the old path"), { socket: before });
  rig.receive(channelData(0x4000, "on the new one"));
  assertEquals(rig.delivered.map(({ text }) => text), ["on the old path", "on the new one"]);
  assertEquals(rig.closed, []);
  rig.advance(600);
  assertEquals(rig.closed, [before]);
  rig.receive(channelData(0x4000, "too late"), { socket: before });
  assertEquals([rig.delivered.length, rig.client.stats.rejectedSource], [2, 1]);
});

Deno.test("RFC 8016: what was asked before a move is asked again on the new path, also over TCP, and errors of the old one are no answer", () => {
  for (const transport of ["udp", "tcp"] as const) {
    const rig = mobileRig({ transport });
    const before = rig.socket;
    rig.server.script(METHOD.CREATE_PERMISSION, silence);
    rig.server.script(METHOD.REFRESH, withTicket(2), silence);
    rig.client.createPermission(PEER, rig.io);
    rig.advance(20);
    rig.call((client, io) => client.migrate(io));
    rig.advance(25);
    const asked = requests(rig, METHOD.CREATE_PERMISSION);
    assertEquals([asked.length, asked[0]!.transactionKey === asked[1]!.transactionKey], [2, true]);
    assertEquals(
      rig.sent.filter(({ bytes }) => StunMessage.parse(bytes)?.method === METHOD.CREATE_PERMISSION).map((
        { socket },
      ) => socket),
      [before, rig.socket],
    );
    rig.receive(error(437)(asked[0]!, rig.server)!, { socket: before });
    rig.advance(20);
    assertEquals([rig.eventsOf("permission").length, rig.eventsOf("migrated").length, rig.client.state], [
      1,
      1,
      "allocated",
    ]);
    assertEquals(rig.client.stats.rejectedResponse, 1);
  }
});

Deno.test("RFC 8016 §3.2: a move that the server refuses changes nothing", () => {
  for (const code of [405, 437, 441]) {
    const rig = mobileRig();
    const before = rig.socket;
    rig.server.script(METHOD.REFRESH, error(code));
    rig.call((client, io) => client.migrate(io));
    const during = rig.socket;
    rig.advance(100);
    const [failed] = rig.eventsOf("migration-failed");
    assertEquals([(failed!.error as TurnError).code, rig.client.state], [code, "allocated"]);
    assertEquals(rig.closed, [during]);
    rig.client.createPermission(PEER, rig.io);
    assertEquals(rig.sent.at(-1)!.socket, before);
    rig.advance(100);
    assertEquals(rig.eventsOf("permission").length, 1);
  }
});

Deno.test("RFC 8016: a move to where nobody answers, or no socket is, fails; the old path is used all the time", () => {
  const rig = mobileRig();
  const before = rig.socket;
  rig.server.script(METHOD.REFRESH, ...Array.from({ length: 7 }, () => silence));
  rig.call((client, io) => client.migrate(io));
  rig.advance(20_000);
  rig.client.createPermission(PEER, rig.io);
  rig.advance(100);
  assertEquals(rig.eventsOf("permission").length, 1);
  assertEquals(rig.sent.at(-1)!.socket, before);
  rig.advance(20_000);
  assertEquals(rig.eventsOf("migration-failed").map((event) => event.error instanceof StunTimeoutError), [true]);

  const blocked = mobileRig();
  blocked.openFailures.push("address-not-available");
  blocked.call((client, io) => client.migrate(io, { localAddress: "192.0.2.99" }));
  assertEquals(blocked.eventsOf("migration-failed").length, 1);
  assertEquals(blocked.opened.map(({ address }) => address), ["192.0.2.7", "192.0.2.99"]);
  assertEquals(blocked.client.state, "allocated");
});

Deno.test("RFC 8016: of two moves at once one is made", () => {
  const rig = mobileRig();
  rig.server.script(METHOD.REFRESH, withTicket(2));
  rig.call((client, io) => {
    client.migrate(io);
    client.migrate(io);
  });
  rig.advance(100);
  assertEquals([rig.opened.length, rig.eventsOf("migrated").length], [2, 1]);
});

Deno.test("RFC 8016: a server that no longer knows the address (437) is shown the ticket, from a new socket", () => {
  const rig = mobileRig();
  rig.server.script(METHOD.CREATE_PERMISSION, error(437));
  rig.server.script(METHOD.REFRESH, withTicket(2));
  rig.client.createPermission(PEER, rig.io);
  rig.advance(100);
  assertEquals(rig.events.map(({ type }) => type), ["migrated"]);
  assertEquals(rig.client.state, "allocated");
  // What had to do with the old address may be asked for again.
  rig.client.createPermission(PEER, rig.io);
  rig.advance(100);
  assertEquals(rig.eventsOf("permission").length, 1);
});

Deno.test("RFC 8016: when the server does not know the ticket either, the allocation is lost, by the first reason", () => {
  const rig = mobileRig();
  rig.server.script(METHOD.CREATE_PERMISSION, error(437));
  rig.server.script(METHOD.REFRESH, error(437));
  rig.client.createPermission(PEER, rig.io);
  rig.advance(100);
  const [failed] = rig.eventsOf("failed");
  assertEquals([rig.client.state, (failed!.error as TurnError).code], ["failed", 437]);
  assertEquals(failed!.error.message.startsWith("Lost the allocation"), true);
  assertEquals(rig.closed.toSorted(), [1, 2]);
});

Deno.test("RFC 8016: a Refresh that nobody answers is tried from a new socket", () => {
  const rig = mobileRig();
  rig.server.script(METHOD.REFRESH, ...Array.from({ length: 7 }, () => silence), withTicket(2));
  rig.advance(600_000);
  assertEquals(tickets(rig), [...Array.from({ length: 7 }, () => undefined), 1, undefined]);
  assertEquals([rig.events.map(({ type }) => type), rig.client.state], [["migrated"], "allocated"]);
});

Deno.test("RFC 8016: a connection that ends is made anew, again and again with longer pauses, as long as the allocation lasts", () => {
  const rig = mobileRig({ transport: "tcp" });
  const lost = rig.socket;
  rig.openFailures.push("refused", "unreachable");
  rig.server.script(METHOD.REFRESH, withTicket(2));
  rig.call((client, io) => client.handleClosed(lost, "reset", io));
  assertEquals([rig.opened.length, rig.client.state], [2, "allocated"]);
  rig.advance(499);
  assertEquals(rig.opened.length, 2);
  rig.advance(1);
  assertEquals(rig.opened.length, 3);
  rig.advance(1100);
  assertEquals([rig.opened.length, rig.eventsOf("migrated").length], [4, 1]);

  const gone = mobileRig({ transport: "tcp" });
  gone.serverAddress = SERVER.withPort(1);
  gone.openFailures.push(...Array.from({ length: 100 }, () => "refused" as const));
  gone.call((client, io) => client.handleClosed(gone.socket, "end", io));
  gone.advance(600_000);
  const [failed] = gone.eventsOf("failed");
  assertEquals([gone.client.state, failed!.error instanceof StunConnectionError], ["failed", true]);
  // Half a second, one, two, ... 16, then each 30 s.
  assertEquals(gone.opened.length, 2 + 6 + 18);
});

Deno.test("RFC 8016: close() in the middle of a move gives the allocation back where it is", () => {
  const rig = mobileRig();
  const before = rig.socket;
  rig.server.script(METHOD.REFRESH, silence);
  rig.call((client, io) => client.migrate(io));
  const during = rig.socket;
  rig.advance(5);
  rig.call((client, io) => client.close(io));
  rig.advance(100);
  const released = rig.sent.filter(({ bytes }) => StunMessage.parse(bytes)?.get(LIFETIME) === 0);
  assertEquals(released.map(({ socket }) => socket), [before]);
  assertEquals([rig.client.state, rig.closed.toSorted()], ["closed", [before, during]]);
  assertEquals(rig.client.deadline, Infinity);
});

Deno.test("RFC 8016: answers and data from elsewhere do not move anything", () => {
  const rig = mobileRig();
  rig.server.script(METHOD.REFRESH, silence);
  rig.call((client, io) => client.migrate(io));
  const request = requests(rig, METHOD.REFRESH)[0]!;
  assertEquals(request.has(MESSAGE_INTEGRITY), true);
  const unsigned = new MessageWriter(new Uint8Array(128)).beginResponse(request, "success").add(LIFETIME, 600);
  rig.receive(unsigned.add(MOBILITY_TICKET, ticket(9)).finish());
  rig.receive(withTicket(9)(request, rig.server)!, { from: SERVER.withPort(1) });
  assertEquals([rig.events, rig.client.stats.rejectedSource], [[], 1]);
});
