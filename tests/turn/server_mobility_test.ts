// RFC 8016, the server's side: an allocation follows its client to another 5-tuple.
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { XOR_MAPPED_ADDRESS } from "../../stun/attributes.ts";
import type { AcceptedConnection, SocketId } from "../../stun/machine.ts";
import { METHOD, StunMessage } from "../../stun/message.ts";
import type { UserDirectory } from "../../stun/users.ts";
import { LIFETIME, MOBILITY_TICKET } from "../../turn/attributes.ts";
import type { TurnServerOptions } from "../../turn/server.ts";
import { addTransport, bytes, channelData, CLIENT, codeOf, PEER, RigClient, SERVER, ServerRig } from "./_server_rig.ts";

const NEW = TransportAddress.parse("203.0.113.9:41000");
const NEWER = TransportAddress.parse("203.0.113.9:41001");
const EMPTY = new Uint8Array();
const DATA = bytes(1, 2, 3);

interface Mobile {
  readonly rig: ServerRig;
  readonly client: RigClient;
  readonly relay: SocketId;
  readonly ticket: Uint8Array;
}

/** An allocation with a ticket, and a channel to the peer. */
function mobile(options: Partial<TurnServerOptions> = {}): Mobile {
  const rig = new ServerRig(options);
  const client = rig.client();
  const answer = client.allocate((writer) => writer.add(MOBILITY_TICKET, EMPTY));
  assertEquals(codeOf(answer), 0);
  const [[, relay]] = [...rig.sockets] as [[number, SocketId]];
  assertEquals(client.bind(0x4000, PEER), 0);
  return { rig, client, relay, ticket: answer.get(MOBILITY_TICKET)!.slice() };
}

function move(client: RigClient, ticket: Uint8Array, lifetime?: number): StunMessage {
  if (client.nonce === "") client.challenge();
  return client.refresh(lifetime, (writer) => writer.add(MOBILITY_TICKET, ticket));
}

function ticketOf(answer: StunMessage): Uint8Array {
  assertEquals(codeOf(answer), 0);
  return answer.get(MOBILITY_TICKET)!.slice();
}

/** Where a peer's datagram goes: the socket and the client's address. */
function toClient({ rig, relay }: Mobile): (string | number)[][] {
  return rig.receive(relay, PEER, DATA).map(({ socket, to }) => [socket, String(to)]);
}

/** Connects; `socket` is the connection's number. */
function connect(rig: ServerRig, socket: SocketId, address: TransportAddress, transport: "tcp" | "tls" = "tcp") {
  const connection: AcceptedConnection = {
    listener: 90,
    transport,
    remoteAddress: address,
    localAddress: SERVER,
    alpn: undefined,
  };
  rig.server.handleAccepted(socket, connection, rig.io);
  const client = new RigClient(rig, address, "alice");
  Object.assign(client, { socket });
  return client;
}

Deno.test("RFC 8016 §3.1.2: an empty MOBILITY-TICKET asks for a ticket; without it there is none", () => {
  const rig = new ServerRig();
  const [one, two, three] = [1, 2, 3].map((i) => rig.client(CLIENT.withPort(50000 + i)));
  const tickets = [one!, two!].map((client) => ticketOf(client.allocate((w) => w.add(MOBILITY_TICKET, EMPTY))));
  assertEquals(tickets.map(({ length }) => length), [32, 32]);
  assertNotEquals(tickets[0], tickets[1]);
  // turnutils_uclient takes a ticket for text, and gives back less of it if there is a byte 0.
  for (const ticket of tickets) assertEquals(/^[A-Za-z0-9+/]+$/.test(new TextDecoder().decode(ticket)), true);
  const plain = three!.allocate();
  assertEquals([codeOf(plain), plain.has(MOBILITY_TICKET)], [0, false]);
  assertEquals(rig.server.sizes.tickets, 2);
});

Deno.test("RFC 8016 §3.1.2: the same Allocate again has the same ticket", () => {
  const rig = new ServerRig();
  const client = rig.client();
  client.challenge();
  const request = client.build(METHOD.ALLOCATE, (writer) => addTransport(writer).add(MOBILITY_TICKET, EMPTY));
  assertEquals(ticketOf(client.ask(request)), ticketOf(client.ask(request)));
  assertEquals(rig.server.sizes.tickets, 1);
});

Deno.test("RFC 8016 §3.1.2: a server that forbids mobility answers 405 to who asks for it, and nobody else", () => {
  const rig = new ServerRig({ mobility: false });
  const client = rig.client();
  assertEquals(codeOf(client.allocate((writer) => writer.add(MOBILITY_TICKET, EMPTY))), 405);
  assertEquals(codeOf(client.allocate()), 0);
  assertEquals(codeOf(move(rig.client(NEW), new Uint8Array(32))), 405);
});

Deno.test("RFC 8016 §3.2.2: the old path is used until there is data from the new one, then only the new one", () => {
  const it = mobile();
  const { rig, client, ticket } = it;
  const moved = rig.client(NEW);
  const answer = move(moved, ticket);
  assertNotEquals(ticketOf(answer), ticket);
  assertEquals(answer.get(XOR_MAPPED_ADDRESS), NEW);
  // Requests are taken on both; a peer's data goes the old way, and the client's comes on it.
  assertEquals([client.code(METHOD.REFRESH), moved.code(METHOD.REFRESH)], [0, 0]);
  assertEquals(toClient(it), [[1, String(CLIENT)]]);
  assertEquals(client.sendOn(0x4000, DATA).length, 1);
  assertEquals([toClient(it), rig.server.counters.moves], [[[1, String(CLIENT)]], 0]);
  // ChannelData from the new one is that data, and is relayed.
  assertEquals(moved.sendOn(0x4000, DATA).map(({ to }) => to), [PEER]);
  assertEquals([toClient(it), rig.server.counters.moves], [[[1, String(NEW)]], 1]);
  assertEquals(client.sendOn(0x4000, DATA), []);
  assertEquals([client.code(METHOD.REFRESH), rig.drops], [437, { noAllocation: 1 }]);
  const [event] = rig.io.events.filter((event) => event.type === "moved");
  assertEquals([event!.from, event!.allocation.client], [CLIENT, NEW]);
});

Deno.test("RFC 8016 §3.2.2: a Send indication will do as well, also one that is relayed to nobody", () => {
  for (const peer of [PEER, TransportAddress.of("0.0.0.0", 9)]) {
    const it = mobile();
    const moved = it.rig.client(NEW);
    move(moved, it.ticket);
    moved.sendTo(peer, EMPTY);
    assertEquals(toClient(it), [[1, String(NEW)]]);
  }
});

Deno.test("RFC 8016 §3.2.2: data from anywhere else does not move anything", () => {
  const it = mobile();
  move(it.rig.client(NEW), it.ticket);
  it.rig.client(NEWER).sendOn(0x4000, DATA);
  it.rig.client(NEW.withPort(1)).sendTo(PEER, DATA);
  assertEquals(toClient(it), [[1, String(CLIENT)]]);
});

Deno.test("RFC 8016 §3.2.2: relayed address, permissions, channels, quota and the reserved port are what they were", () => {
  const it = mobile({ limits: { allocationsPerUser: 1 } });
  const { rig, ticket } = it;
  const before = rig.server.sizes;
  const moved = rig.client(NEW);
  const answer = move(moved, ticket, 1800);
  assertEquals(answer.get(LIFETIME), 1800);
  moved.sendOn(0x4000, DATA);
  assertEquals(rig.server.sizes, before);
  assertEquals(codeOf(rig.client(CLIENT).allocate()), 486);
  assertEquals(rig.server.counters.allocations, 1);
  moved.refresh(0);
  assertEquals(rig.leftovers, {});
});

Deno.test("RFC 8016 §3.2.2: a ticket that was not made here gets 400; one of something gone or moved on 437", () => {
  const { rig, ticket } = mobile();
  const moved = rig.client(NEW);
  const forged = ticket.slice();
  forged[20]! ^= 1;
  assertEquals([forged, EMPTY, bytes(1), new Uint8Array(300)].map((bytes) => codeOf(move(moved, bytes))), [
    ...[400, 400, 400, 400],
  ]);
  const second = ticketOf(move(moved, ticket));
  moved.sendOn(0x4000, DATA);
  assertEquals(codeOf(move(rig.client(NEWER), ticket)), 437);
  assertEquals(codeOf(move(rig.client(NEWER), second, 0)), 0);
  assertEquals(codeOf(move(rig.client(NEWER), second)), 437);
  assertEquals(rig.leftovers, {});
});

Deno.test("RFC 8016 §3.2.1: a ticket from where the allocation is gets 400", () => {
  const { rig, client, ticket } = mobile();
  assertEquals(codeOf(move(client, ticket)), 400);
  const moved = rig.client(NEW);
  const second = ticketOf(move(moved, ticket));
  assertEquals(codeOf(move(moved, second)), 400);
});

Deno.test("RFC 8016 §3.2.2: somebody else's ticket gets 441, and moves nothing", () => {
  const it = mobile();
  const thief = it.rig.client(NEW, "bob");
  assertEquals(codeOf(move(thief, it.ticket)), 441);
  thief.sendOn(0x4000, DATA);
  assertEquals(toClient(it), [[1, String(CLIENT)]]);
});

Deno.test("RFC 8016 §3.2.2: a 5-tuple with an allocation of its own is no place to go: 437", () => {
  const it = mobile();
  const other = it.rig.client(NEW);
  other.mustAllocate();
  assertEquals(codeOf(move(other, it.ticket)), 437);
});

Deno.test("RFC 8489 §6.3.1, T9: the same move again has the same answer, before and after the data", () => {
  const { rig, ticket } = mobile();
  const moved = rig.client(NEW);
  moved.challenge();
  const request = moved.build(METHOD.REFRESH, (writer) => writer.add(MOBILITY_TICKET, ticket));
  const second = ticketOf(moved.ask(request));
  assertEquals(ticketOf(moved.ask(request)), second);
  moved.sendOn(0x4000, DATA);
  assertEquals(ticketOf(moved.ask(request)), second);
  assertEquals([rig.server.counters.moves, rig.server.sizes.tickets], [1, 1]);
});

Deno.test("RFC 8016: who moves on before there was data has the choice of tickets, of four at most", () => {
  const it = mobile();
  const { rig } = it;
  let ticket = it.ticket;
  for (let i = 0; i < 6; i++) ticket = ticketOf(move(rig.client(NEW.withPort(42000 + i)), ticket));
  assertEquals([rig.server.sizes.tickets, rig.server.sizes.clients], [4, 2]);
  // An answer that was lost: the one before is good as well.
  const last = rig.client(NEWER);
  const before = ticket;
  move(rig.client(NEW), ticket);
  ticketOf(move(last, before));
  assertEquals(toClient(it), [[1, String(CLIENT)]]);
  last.sendOn(0x4000, DATA);
  assertEquals([toClient(it), rig.server.sizes.tickets], [[[1, String(NEWER)]], 1]);
});

Deno.test("RFC 8016: a client can go back to where it came from, before and after the data", () => {
  const it = mobile();
  const { rig, client } = it;
  const moved = rig.client(NEW);
  const second = ticketOf(move(moved, it.ticket));
  const third = ticketOf(move(client, second));
  moved.sendOn(0x4000, DATA);
  assertEquals([toClient(it), rig.drops], [[[1, String(CLIENT)]], { noAllocation: 1 }]);
  const fourth = ticketOf(move(moved, third));
  moved.sendOn(0x4000, DATA);
  ticketOf(move(client, fourth));
  client.sendOn(0x4000, DATA);
  assertEquals([toClient(it), rig.server.sizes.clients], [[[1, String(CLIENT)]], 1]);
});

Deno.test("RFC 8016: an allocation with a ticket outlives its client's connection, and one without does not", () => {
  const rig = new ServerRig();
  const client = connect(rig, 100, CLIENT);
  const ticket = ticketOf(client.allocate((writer) => writer.add(MOBILITY_TICKET, EMPTY)));
  client.bind(0x4000, PEER);
  const relay = [...rig.sockets.values()][0]!;
  rig.server.handleClosed(100, "reset", rig.io);
  assertEquals(rig.server.counters.allocations, 1);
  const it = { rig, client, relay, ticket };
  assertEquals([toClient(it), rig.drops], [[], { noClient: 1 }]);
  // The old connection is gone, so that the new path is used at once.
  const moved = rig.client(NEW);
  const second = ticketOf(move(moved, ticket));
  assertEquals([toClient(it), rig.server.counters.moves], [[[1, String(NEW)]], 1]);
  // And back to a connection, over TLS.
  const secure = connect(rig, 101, NEWER, "tls");
  move(secure, second);
  secure.sendOn(0x4000, DATA);
  assertEquals(toClient(it), [[101, String(NEWER)]]);
  // What nobody comes back for ends with its lifetime.
  rig.server.handleClosed(101, "end", rig.io);
  rig.advance(599_000);
  assertEquals(rig.server.counters.allocations, 1);
  rig.advance(1_000);
  assertEquals(rig.leftovers, {});
  const [ended] = rig.io.events.filter((event) => event.type === "ended");
  assertEquals(ended!.why, "expired");
});

Deno.test("RFC 8016 §3.2.2: the end of the old connection is as good as data; that of the new one leaves the old", () => {
  const rig = new ServerRig();
  const client = connect(rig, 100, CLIENT);
  const ticket = ticketOf(client.allocate((writer) => writer.add(MOBILITY_TICKET, EMPTY)));
  client.bind(0x4000, PEER);
  const it = { rig, client, relay: [...rig.sockets.values()][0]!, ticket };
  const moved = connect(rig, 101, NEW);
  const second = ticketOf(move(moved, ticket));
  rig.server.handleClosed(101, "reset", rig.io);
  assertEquals([toClient(it), rig.server.sizes.tickets], [[[100, String(CLIENT)]], 2]);
  move(connect(rig, 102, NEWER), second);
  rig.server.handleClosed(100, "end", rig.io);
  assertEquals([toClient(it), rig.server.sizes.tickets], [[[102, String(NEWER)]], 1]);
});

Deno.test("RFC 8016: the end of a connection while the socket is being bound ends an allocation that asked for a ticket", () => {
  const rig = new ServerRig();
  const client = connect(rig, 100, CLIENT);
  client.challenge();
  rig.opensAtOnce = false;
  client.send(client.build(METHOD.ALLOCATE, (writer) => addTransport(writer).add(MOBILITY_TICKET, EMPTY)));
  rig.server.handleClosed(100, "end", rig.io);
  rig.openAll();
  assertEquals([rig.leftovers, rig.io.takeSends()], [{}, []]);
});

Deno.test("RFC 8016: what has expired can not be taken along, also before the timer rings", () => {
  const { rig, ticket } = mobile();
  const moved = rig.client(NEW);
  moved.challenge();
  rig.io.now += 600_000;
  assertEquals([codeOf(move(moved, ticket)), rig.leftovers], [437, {}]);
});

Deno.test("RFC 8016: a client without credentials for its new address is challenged if its ticket is good, else refused", () => {
  const { rig, ticket } = mobile();
  const moved = rig.client(NEW);
  const ask = (ticket: Uint8Array) =>
    codeOf(moved.ask(moved.build(METHOD.REFRESH, (writer) => writer.add(MOBILITY_TICKET, ticket), { auth: "none" })));
  assertEquals([ask(ticket), ask(new Uint8Array(32)), ask(EMPTY)], [401, 437, 437]);
  // As a client that has moved and knows nothing of it: the nonce is of its old address.
  moved.nonce = mobile().client.nonce;
  assertEquals(codeOf(move(moved, ticket)), 438);
});

Deno.test("RFC 8016: whose user is looked up elsewhere moves without that", () => {
  const later: UserDirectory = { find: () => "later" };
  const rig = new ServerRig({ users: later });
  const client = rig.client();
  client.challenge();
  const request = client.build(METHOD.ALLOCATE, (writer) => addTransport(writer).add(MOBILITY_TICKET, EMPTY));
  assertEquals(client.send(request), []);
  rig.server.handleCredential("alice", "secret", rig.io);
  rig.openAll();
  const answer = StunMessage.parse(rig.io.takeSends()[0]!.bytes);
  assert(answer !== undefined);
  const moved = rig.client(NEW);
  assertEquals(codeOf(move(moved, ticketOf(answer))), 0);
  assertEquals(rig.io.events.filter(({ type }) => type === "userWanted").length, 1);
});

Deno.test("RFC 8016, T35: after many moves and ends nothing is left", () => {
  const rig = new ServerRig({ challengeRate: false });
  for (let life = 0; life < 200; life++) {
    const client = rig.client(CLIENT.withPort(10_000 + life));
    let ticket = ticketOf(client.allocate((writer) => writer.add(MOBILITY_TICKET, EMPTY)));
    let last = client;
    for (let i = 0; i < life % 7; i++) {
      last = rig.client(NEW.withPort(10_000 + 10 * life + i));
      ticket = ticketOf(move(last, ticket));
      if (life % 3 === 0) rig.receive(last.socket, last.address, channelData(0x4000, DATA));
    }
    if (life % 2 === 0) last.refresh(0);
  }
  rig.advance(600_000);
  assertEquals(rig.leftovers, {});
});
