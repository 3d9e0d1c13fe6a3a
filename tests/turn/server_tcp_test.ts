// TCP allocations (RFC 6062) on a TurnServer without sockets: each answer, and what is left.
import { assert, assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import type { SocketId } from "../../stun/machine.ts";
import { type MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import {
  ADDITIONAL_ADDRESS_FAMILY,
  CHANNEL_NUMBER,
  CONNECTION_ID,
  DONT_FRAGMENT,
  EVEN_PORT,
  MOBILITY_TICKET,
  REQUESTED_ADDRESS_FAMILY,
  REQUESTED_TRANSPORT,
  RESERVATION_TOKEN,
  TRANSPORT_PROTOCOL,
  XOR_PEER_ADDRESS,
  XOR_RELAYED_ADDRESS,
} from "../../turn/attributes.ts";
import { PeerPolicy } from "../../turn/peer_policy.ts";
import type { TurnServerOptions } from "../../turn/server.ts";
import { bytes, channelData, CLIENT, codeOf, PEER, PEER6, type RigClient, SERVER, ServerRig } from "./_server_rig.ts";

const OTHER_PEER = TransportAddress.parse("9.9.9.9:443");
const CONTROL = 100;

function setUp(options: Partial<TurnServerOptions> = {}) {
  const rig = new ServerRig({ tcpRelay: true, ...options });
  return { rig, client: rig.connect(CONTROL) };
}

function allocate(client: RigClient, attributes: (writer: MessageWriter) => unknown = () => {}): StunMessage {
  return client.request(
    METHOD.ALLOCATE,
    (writer) => attributes(writer.add(REQUESTED_TRANSPORT, TRANSPORT_PROTOCOL.TCP)),
  );
}

function mustAllocate(client: RigClient): { socket: SocketId; relayed: TransportAddress } {
  const answer = allocate(client);
  assertEquals(codeOf(answer), 0);
  const relayed = answer.get(XOR_RELAYED_ADDRESS)!;
  return { relayed, socket: client.rig.sockets.get(relayed.port)! };
}

/** Sends a Connect request that must not be answered yet. Gives the socket of the connection to the peer. */
function connect(client: RigClient, peer: TransportAddress = PEER): SocketId {
  const sends = client.send(client.build(METHOD.CONNECT, (writer) => writer.add(XOR_PEER_ADDRESS, peer)));
  assertEquals(sends, []);
  return client.rig.connects.at(-1)!.socket;
}

function connectCode(client: RigClient, peer: TransportAddress): number {
  return client.code(METHOD.CONNECT, (writer) => writer.add(XOR_PEER_ADDRESS, peer));
}

/** The peer takes the connection, or not. Gives the answer to the client. */
function settle({ rig, socket: control }: RigClient, socket: SocketId, failure?: "refused" | "timeout"): StunMessage {
  if (failure !== undefined) rig.server.handleOpenFailed(socket, failure, rig.io);
  else rig.server.handleOpened(socket, SERVER, rig.io);
  const sends = rig.io.takeSends();
  assertEquals(sends.map((sent) => sent.socket), [control]);
  return StunMessage.parse(sends[0]!.bytes)!;
}

/** A connection that waits for its ConnectionBind. */
function mustConnect(client: RigClient, peer: TransportAddress = PEER): { socket: SocketId; id: number } {
  const socket = connect(client, peer);
  const answer = settle(client, socket);
  assertEquals([codeOf(answer), answer.method], [0, METHOD.CONNECT]);
  return { socket, id: answer.get(CONNECTION_ID)! };
}

function bind(client: RigClient, id: number | undefined): StunMessage {
  if (client.nonce === "") {
    const challenge = client.ask(client.build(METHOD.CONNECTION_BIND, () => {}, { auth: "none" }));
    assertEquals(codeOf(challenge), 401);
  }
  return client.request(METHOD.CONNECTION_BIND, (writer) => id === undefined || writer.add(CONNECTION_ID, id));
}

let port = 60_000;
/** A connection for data, of some user. */
function dataConnection({ rig }: RigClient, socket: SocketId, username = "alice"): RigClient {
  return rig.connect(socket, CLIENT.withPort(port++), username);
}

Deno.test("RFC 6062 §5.1, T10: a TCP allocation is asked for over TCP or TLS only, and where there are none, 442", () => {
  const { rig, client } = setUp();
  assertEquals(codeOf(allocate(rig.client())), 400);
  const overDtls = rig.connect(109, CLIENT.withPort(9));
  rig.accept(90, 109, CLIENT.withPort(9), "dtls");
  assertEquals(codeOf(allocate(overDtls)), 400);
  const { socket, relayed } = mustAllocate(client);
  assert(relayed.port >= 49152);
  assertEquals(rig.sockets.get(relayed.port), socket);
  const off = new ServerRig();
  assertEquals([codeOf(allocate(off.client())), codeOf(allocate(off.connect(CONTROL)))], [442, 442]);
});

Deno.test("RFC 6062 §5.1: DONT-FRAGMENT, EVEN-PORT and RESERVATION-TOKEN are 400 with TCP", () => {
  const { client } = setUp();
  assertEquals(codeOf(allocate(client, (writer) => writer.add(DONT_FRAGMENT, true))), 400);
  assertEquals(codeOf(allocate(client, (writer) => writer.add(EVEN_PORT, false))), 400);
  assertEquals(codeOf(allocate(client, (writer) => writer.add(RESERVATION_TOKEN, new Uint8Array(8)))), 400);
  const answer = allocate(client);
  assertEquals([codeOf(answer), answer.has(RESERVATION_TOKEN)], [0, false]);
});

Deno.test("RFC 6062 §5.1, RFC 6156: the address family that was asked for, or both", () => {
  const { rig, client } = setUp();
  const six = allocate(client, (writer) => writer.add(REQUESTED_ADDRESS_FAMILY, 6));
  assertEquals([codeOf(six), six.get(XOR_RELAYED_ADDRESS)!.family], [0, 6]);
  assertEquals(connectCode(client, PEER), 443);
  const dual = rig.connect(101, CLIENT.withPort(1));
  const both = allocate(dual, (writer) => writer.add(ADDITIONAL_ADDRESS_FAMILY, 6));
  assertEquals(both.getAll(XOR_RELAYED_ADDRESS).map((address) => address!.family), [4, 6]);
  mustConnect(dual, PEER);
  mustConnect(dual, PEER6);
  assertEquals(rig.connects.map(({ wish }) => String(wish.remote)), [String(PEER), String(PEER6)]);
});

Deno.test("RFC 6062 §5.2: Connect is answered when the connection is there; it leaves from the relayed address, within 30 s", () => {
  const { rig, client } = setUp();
  const { relayed } = mustAllocate(client);
  const { socket, id } = mustConnect(client);
  assert(id >= 0 && id <= 0xffffffff);
  assertEquals(rig.connects, [{
    socket,
    wish: {
      transport: "tcp",
      remote: PEER,
      address: relayed.address,
      port: relayed.port,
      isLocalOptional: true,
      framing: "raw",
      timeout: 30_000,
    },
  }]);
  // No permission was needed, and none was made: the peer can not connect by itself.
  assertEquals(rig.accept(rig.sockets.get(relayed.port)!, 300, PEER.withPort(1)), []);
  assertEquals([rig.io.closed, rig.server.counters.connectionFailures.noPermission], [[300], 1]);
});

Deno.test("RFC 6062 §5.2, T32: 400, 403, 437, 443, 446, 447", () => {
  const { rig, client } = setUp({ relayAddresses: [{ address: SERVER.address }] });
  assertEquals(connectCode(client, PEER), 437);
  const { relayed } = mustAllocate(client);
  assertEquals(client.code(METHOD.CONNECT), 400);
  assertEquals(connectCode(client, PEER.withPort(0)), 400);
  assertEquals(connectCode(client, PEER6), 443);
  for (const peer of ["127.0.0.1:80", "10.0.0.1:80", "169.254.169.254:80", String(SERVER), `${SERVER.address}:22`]) {
    assertEquals(connectCode(client, TransportAddress.parse(peer)), 403, peer);
  }
  // Nor is a relay its own peer.
  assertEquals(connectCode(client, relayed), 403);
  const socket = connect(client);
  assertEquals(connectCode(client, PEER), 446, "while it is being made");
  assertEquals(codeOf(settle(client, socket, "timeout")), 447);
  assertEquals(codeOf(settle(client, connect(client), "refused")), 447);
  const { id } = mustConnect(client);
  assertEquals(connectCode(client, PEER), 446, "while it waits");
  const data = dataConnection(client, 200);
  assertEquals(codeOf(bind(data, id)), 0);
  assertEquals(connectCode(client, PEER), 446, "while it is in use");
  mustConnect(client, PEER.withPort(7001));
  rig.server.handleClosed(200, "end", rig.io);
  mustConnect(client);
  assertEquals(rig.server.counters.connectionFailures.notConnected, 2);
  const overUdp = rig.client();
  overUdp.mustAllocate();
  assertEquals(connectCode(overUdp, PEER), 403);
});

Deno.test("RFC 6062 §5.2: another client's relay is a good peer, as long as it relays TCP", () => {
  const { rig, client } = setUp({ relayAddresses: [{ address: "10.0.0.1", external: SERVER.address }] });
  const other = rig.connect(101, CLIENT.withPort(1));
  const { relayed, socket: listener } = mustAllocate(other);
  const udp = rig.client();
  const [datagrams] = udp.mustAllocate();
  mustAllocate(client);
  assertEquals(connectCode(client, datagrams!.relayed), 403);
  connect(client, relayed);
  assertEquals(String(rig.connects.at(-1)!.wish.remote), `10.0.0.1:${relayed.port}`);
  // The other client knows it by its outer address, from which it has leave.
  other.permit(SERVER);
  const [attempt] = rig.accept(listener, 300, TransportAddress.of("10.0.0.1", 40_000));
  const indication = StunMessage.parse(attempt!.bytes)!;
  assertEquals(String(indication.get(XOR_PEER_ADDRESS)), `${SERVER.address}:40000`);
  // And datagrams never go to a relay of connections.
  udp.permit(relayed);
  assertEquals([udp.sendTo(relayed, bytes(1)), udp.bind(0x4000, relayed)], [[], 403]);
});

Deno.test("RFC 6062 §5.3: a peer with a permission: ConnectionAttempt, then ConnectionBind; the port does not matter", () => {
  const { rig, client } = setUp();
  const { socket: listener } = mustAllocate(client);
  client.permit(PEER);
  const sends = rig.accept(listener, 300, PEER.withPort(1234));
  assertEquals(sends.map(({ socket, to }) => [socket, to]), [[CONTROL, CLIENT]]);
  const indication = StunMessage.parse(sends[0]!.bytes)!;
  assertEquals([indication.method, indication.class], [METHOD.CONNECTION_ATTEMPT, "indication"]);
  assertEquals(String(indication.get(XOR_PEER_ADDRESS)), String(PEER.withPort(1234)));
  const data = dataConnection(client, 200);
  assertEquals(codeOf(bind(data, indication.get(CONNECTION_ID))), 0);
  assertEquals(rig.io.joins.map(({ a, b, sends }) => [a, b, sends]), [[200, 300, 1]], "the answer goes first");
  assertEquals(connectCode(client, PEER.withPort(1234)), 446);
});

Deno.test("RFC 6062 §5.3: a peer without permission, or whose permission has ended, is let go at once", () => {
  const { rig, client } = setUp();
  const { socket: listener } = mustAllocate(client);
  assertEquals(rig.accept(listener, 300, PEER), []);
  client.permit(PEER);
  rig.io.now += 300_000;
  assertEquals(rig.accept(listener, 301, PEER), []);
  assertEquals([rig.io.closed, rig.server.counters.connectionFailures.noPermission], [[300, 301], 2]);
  rig.io.now += 300_000;
  client.permit(PEER);
  assertEquals(rig.accept(listener, 302, PEER), [], "the allocation has ended");
});

Deno.test("RFC 6062 §5.4: ConnectionBind: 400, 401, 437, 441, and once only", () => {
  const { rig, client } = setUp();
  mustAllocate(client);
  const { socket, id } = mustConnect(client);
  const overUdp = rig.client(CLIENT.withPort(9));
  overUdp.challenge();
  assertEquals([codeOf(bind(overUdp, id)), codeOf(bind(client, id))], [400, 437]);
  const stranger = overUdp.ask(overUdp.build(METHOD.CONNECTION_BIND, () => {}, { auth: "none" }));
  assertEquals([codeOf(stranger), stranger.bytes.length <= 32], [400, true]);
  const data = dataConnection(client, 200);
  assertEquals([codeOf(bind(data, undefined)), codeOf(bind(data, (id + 1) >>> 0))], [400, 400]);
  assertEquals(codeOf(bind(dataConnection(client, 201, "bob"), id)), 441);
  assertEquals(codeOf(bind(data, id)), 0);
  assertEquals(rig.io.joins.map(({ a, b }) => [a, b]), [[200, socket]]);
  assertEquals(codeOf(bind(dataConnection(client, 202), id)), 400);
  assertEquals(rig.server.counters.connectionsTotal, 1);
});

Deno.test("A nonce is good on all connections of one IP address, so that a ConnectionBind takes one round trip", () => {
  const { rig, client } = setUp();
  mustAllocate(client);
  const { id } = mustConnect(client);
  const [data, stranger] = [dataConnection(client, 200), rig.connect(201, TransportAddress.parse("192.0.2.8:1"))];
  data.nonce = stranger.nonce = client.nonce;
  assertEquals([codeOf(bind(stranger, id)), codeOf(bind(data, id))], [438, 0]);
  // There are clients that go on with what they got last, wherever that was.
  const other = dataConnection(client, 202);
  other.challenge();
  client.nonce = other.nonce;
  mustConnect(client, OTHER_PEER);
  const overUdp = rig.client(CLIENT.withPort(9));
  overUdp.nonce = client.nonce;
  assertEquals(codeOf(overUdp.allocate()), 438);
});

Deno.test("RFC 6062 §5.2, §5.3: what no ConnectionBind takes within 30 s is closed", () => {
  const { rig, client } = setUp();
  const { socket: listener } = mustAllocate(client);
  client.permit(PEER);
  const made = mustConnect(client);
  rig.accept(listener, 300, PEER.withPort(1));
  rig.advance(29_999);
  assertEquals(rig.io.closed, []);
  // A late alarm lets nothing late through.
  rig.io.now += 1;
  assertEquals(codeOf(bind(dataConnection(client, 200), made.id)), 400);
  rig.advance(0);
  assertEquals(rig.io.closed, [made.socket, 300]);
  assertEquals([rig.server.counters.connectionFailures.notBound, rig.server.counters.connections], [2, 0]);
});

Deno.test("RFC 6062, T32: no Send, no channels, no ChannelData on a TCP allocation", () => {
  const { rig, client } = setUp();
  mustAllocate(client);
  client.permit(PEER);
  assertEquals(client.code(METHOD.CHANNEL_BIND, (w) => w.add(CHANNEL_NUMBER, 0x4000).add(XOR_PEER_ADDRESS, PEER)), 403);
  assertEquals([client.sendTo(PEER, bytes(1)), client.send(channelData(0x4000, bytes(1)))], [[], []]);
  assertEquals(rig.drops, { notUdp: 1, unboundChannel: 1 });
  assertEquals(rig.server.counters.packetsToPeers, 0);
});

Deno.test("RFC 6062 §5.5, T35: an allocation's end closes all that it has, whatever ends it", () => {
  const endings: Record<string, (client: RigClient) => void> = {
    deleted: (client) => assertEquals(codeOf(client.refresh(0)), 0),
    expired: ({ rig }) => rig.advance(600_000),
    disconnected: ({ rig }) => rig.server.handleClosed(CONTROL, "reset", rig.io),
  };
  for (const [why, end] of Object.entries(endings)) {
    const { rig, client } = setUp();
    const { socket: listener } = mustAllocate(client);
    client.permit(PEER);
    const joined = mustConnect(client, OTHER_PEER);
    assertEquals(codeOf(bind(dataConnection(client, 200), joined.id)), 0);
    if (why === "expired") rig.advance(590_000);
    const waiting = mustConnect(client, OTHER_PEER.withPort(2));
    const making = connect(client, OTHER_PEER.withPort(3));
    rig.io.events.length = 0;
    end(client);
    const expected = [joined.socket, 200, waiting.socket, making, listener];
    assertEquals(rig.io.closed.toSorted(), expected.toSorted(), why);
    assertEquals([rig.leftovers, rig.server.counters.connections, rig.server.deadline], [{}, 0, Infinity]);
    assertEquals(
      rig.io.events.map((event) => event.type === "ended" ? event.why : event.type),
      ["disconnected", why],
    );
  }
});

Deno.test("RFC 6062 §5.5: when one end of a connection is gone, both are forgotten, and the allocation stays", () => {
  for (const first of ["client", "peer"]) {
    const { rig, client } = setUp();
    mustAllocate(client);
    const { socket, id } = mustConnect(client);
    bind(dataConnection(client, 200), id);
    // The driver ends both ends of a pipe, and tells of each.
    for (const gone of first === "client" ? [200, socket] : [socket, 200]) rig.server.handleClosed(gone, "end", rig.io);
    assertEquals([rig.io.closed, rig.server.sizes.connections, rig.server.counters.allocations], [[], 0, 1]);
    assertEquals(rig.io.events.at(-1)!.type, "disconnected");
    assertEquals(codeOf(client.refresh()), 0);
  }
});

Deno.test("A peer that is gone before the client comes: 400", () => {
  const { rig, client } = setUp();
  mustAllocate(client);
  const { socket, id } = mustConnect(client);
  rig.server.handleClosed(socket, "reset", rig.io);
  assertEquals(codeOf(bind(dataConnection(client, 200), id)), 400);
  assertEquals(rig.server.sizes.connections, 0);
});

Deno.test("Limits: connections of one allocation and of all, being made, waiting or in use: 508, and peers are let go", () => {
  const { rig, client } = setUp({ limits: { connectionsPerAllocation: 2, connections: 3 } });
  const { socket: listener } = mustAllocate(client);
  client.permit(PEER);
  const one = connect(client, OTHER_PEER);
  rig.accept(listener, 300, PEER);
  assertEquals(connectCode(client, PEER.withPort(9)), 508);
  assertEquals([rig.accept(listener, 301, PEER.withPort(1)), rig.io.closed], [[], [301]]);
  const other = rig.connect(101, CLIENT.withPort(1));
  mustAllocate(other);
  mustConnect(other);
  assertEquals(connectCode(other, OTHER_PEER), 508);
  settle(client, one, "refused");
  connect(other, OTHER_PEER);
  const { limits, connectionFailures, connections } = rig.server.counters;
  assertEquals([limits.connectionsPerAllocation, limits.connections], [1, 1]);
  assertEquals([connectionFailures.tooMany, connections], [1, 3]);
});

Deno.test("Bytes on connections count like those in datagrams, and a bandwidth limit makes them wait", () => {
  const { rig, client } = setUp({ limits: { allocationBandwidth: 80_000 } });
  mustAllocate(client);
  const { socket, id } = mustConnect(client);
  bind(dataConnection(client, 200), id);
  const { meter } = rig.io.joins[0]!;
  const { now } = rig.io;
  assertEquals([meter!.pass(200, 1000, now), meter!.pass(socket, 500, now)], [100, 50]);
  assertEquals([meter!.pass(200, 1000, now + 100), meter!.pass(200, 1000, now + 2000)], [100, 0]);
  rig.server.handleClosed(200, "end", rig.io);
  const event = rig.io.events.at(-1)!;
  assert(event.type === "disconnected");
  assertEquals(event.connection, { peer: PEER, by: "client", bytesToPeer: 3000, bytesToClient: 500 });
  assertEquals([event.allocation.bytesToPeers, event.allocation.transport], [3000, "tcp"]);
  assertEquals([rig.server.counters.bytesToPeers, rig.server.counters.bytesToClients], [3000, 500]);
});

Deno.test("RFC 8016: a TCP allocation gets no ticket, and ends with its control connection", () => {
  const { rig, client } = setUp();
  const answer = allocate(client, (writer) => writer.add(MOBILITY_TICKET, new Uint8Array()));
  assertEquals([codeOf(answer), answer.has(MOBILITY_TICKET)], [0, false]);
  rig.server.handleClosed(CONTROL, "end", rig.io);
  assertEquals(rig.leftovers, {});
});

Deno.test("T33, RFC 6062 §5.2: what the server listens on is no peer, though its range is allowed", () => {
  const peerPolicy = new PeerPolicy({ allow: ["198.18.0.0/15"] });
  const { client } = setUp({ peerPolicy });
  mustAllocate(client);
  assertEquals(connectCode(client, SERVER), 403);
  connect(client, SERVER.withPort(SERVER.port + 1));
});
