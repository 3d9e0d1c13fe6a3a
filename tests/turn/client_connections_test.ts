// RFC 6062: connections to peers and from them.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { StunConnectionError, StunProtocolError, StunTimeoutError } from "../../stun/error.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import { OpenError } from "../../stun/net/transport.ts";
import { CONNECTION_ID, REQUESTED_TRANSPORT, TRANSPORT_PROTOCOL, XOR_PEER_ADDRESS } from "../../turn/attributes.ts";
import { TurnClient, type TurnClientOptions } from "../../turn/client.ts";
import type { TurnError } from "../../turn/error.ts";
import { type Answer, channelData, ClientRig, error, LOCAL, PEER, SERVER, silence } from "./_client_rig.ts";

/** A client with a TCP allocation. */
function tcpRig(options: Partial<TurnClientOptions> = {}): ClientRig {
  return ClientRig.allocated({ transport: "tcp", peerTransport: "tcp", ...options });
}

/** The success of a Connect request. */
function connectionId(id: number): Answer {
  return (request, server) => server.success(request, (writer) => writer.add(CONNECTION_ID, id));
}

/** What a server says when a peer has connected. */
function attempt(id: number, peer = PEER): Uint8Array {
  return new MessageWriter(new Uint8Array(64)).begin(METHOD.CONNECTION_ATTEMPT, "indication", new Uint8Array(12))
    .add(CONNECTION_ID, id).add(XOR_PEER_ADDRESS, peer).finish();
}

function requests(rig: ClientRig, method: number): { message: StunMessage; socket: number }[] {
  return rig.sent.map(({ bytes, socket }) => ({ message: StunMessage.parse(bytes)!, socket }))
    .filter(({ message }) => message?.method === method);
}

Deno.test("RFC 6062 §4.1: a TCP allocation is asked for over a connection, by REQUESTED-TRANSPORT", () => {
  const rig = new ClientRig({ transport: "tcp", peerTransport: "tcp" });
  rig.call((client, io) => client.allocate(io));
  rig.advance(100);
  const asked = requests(rig, METHOD.ALLOCATE).map(({ message }) => message.get(REQUESTED_TRANSPORT));
  assertEquals(asked, [TRANSPORT_PROTOCOL.TCP, TRANSPORT_PROTOCOL.TCP]);
  assertEquals(rig.client.state, "allocated");
});

Deno.test("RFC 6062 §4.1, §5.1: what does not go with a TCP allocation is refused at once", () => {
  const make = (options: Partial<TurnClientOptions>) => () =>
    void new TurnClient({ server: SERVER, transport: "tls", peerTransport: "tcp", ...options });
  make({})();
  assertThrows(make({ transport: "udp" }), TypeError, "over TCP or TLS");
  for (
    const options of [{ evenPort: "even" }, { dontFragment: true }, { reservationToken: new Uint8Array(8) }] as const
  ) {
    assertThrows(make(options), TypeError, "with peerTransport tcp");
  }
});

Deno.test("RFC 6062 §4.3: Connect, then ConnectionBind with the id over a connection of its own, which is the peer's from then on", () => {
  const rig = tcpRig();
  const control = rig.socket;
  rig.server.script(METHOD.CONNECT, connectionId(0xdeadbeef));
  rig.call((client, io) => client.connect(PEER, io));
  rig.advance(20);
  assertEquals(String(requests(rig, METHOD.CONNECT)[0]!.message.get(XOR_PEER_ADDRESS)), String(PEER));
  const data = rig.socket;
  assertEquals([data > control, rig.unframed], [true, []]);
  rig.advance(20);
  const [bind] = requests(rig, METHOD.CONNECTION_BIND);
  assertEquals([bind!.socket, bind!.message.get(CONNECTION_ID), bind!.message.hasIntegrity], [data, 0xdeadbeef, true]);
  assertEquals(rig.events, [{ type: "connected", peer: PEER, socket: data, call: 1 }]);
  assertEquals([rig.unframed, rig.closed], [[data], []]);
  // It is nobody's business here any more.
  rig.receive(channelData(0x4000, "the peer's bytes"), { socket: data });
  rig.call((client, io) => client.handleClosed(data, "end", io));
  assertEquals([rig.client.stats.rejectedSource, rig.client.state, rig.events.length], [1, "allocated", 1]);
});

Deno.test("RFC 6062 §4.4: a peer's connection is taken by ConnectionBind", () => {
  const rig = tcpRig();
  rig.receive(attempt(7));
  const data = rig.socket;
  rig.advance(20);
  assertEquals(requests(rig, METHOD.CONNECTION_BIND).map(({ message }) => message.get(CONNECTION_ID)), [7]);
  assertEquals(rig.events, [{ type: "connected", peer: PEER, socket: data, call: undefined }]);
});

Deno.test("RFC 8489 §9.2.5: a ConnectionBind that is challenged anew goes on with the new nonce", () => {
  const rig = tcpRig();
  rig.server.script(METHOD.CONNECTION_BIND, (request, server) => {
    server.nonce = "nonce-2";
    return server.challenge(request, 438);
  });
  rig.receive(attempt(7));
  rig.advance(100);
  assertEquals([rig.eventsOf("connected").length, rig.server.count(METHOD.CONNECTION_BIND)], [1, 2]);
});

Deno.test("RFC 6062 §4.3: each way that a connection does not come about", () => {
  for (const code of [403, 446, 447]) {
    const rig = tcpRig();
    rig.server.script(METHOD.CONNECT, error(code));
    rig.call((client, io) => client.connect(PEER, io));
    rig.advance(100);
    const [failed] = rig.eventsOf("connect-failed");
    assertEquals([(failed!.error as TurnError).code, String(failed!.peer), rig.client.state], [
      code,
      String(PEER),
      "allocated",
    ]);
  }
  const fail = (prepare: (rig: ClientRig) => void, wait = 100): Error => {
    const rig = tcpRig();
    rig.server.script(METHOD.CONNECT, connectionId(1));
    prepare(rig);
    rig.call((client, io) => client.connect(PEER, io));
    rig.advance(wait);
    assertEquals([rig.client.state, rig.events.length], ["allocated", 1]);
    return rig.eventsOf("connect-failed")[0]!.error;
  };
  const noId = (rig: ClientRig) => {
    rig.server.next.set(METHOD.CONNECT, [(request, server) => server.success(request)]);
  };
  assert(fail(noId) instanceof StunProtocolError);
  assert(fail((rig) => rig.openFailures.push("refused")) instanceof OpenError);
  const refused = fail((rig) => rig.server.script(METHOD.CONNECTION_BIND, error(400)));
  assertEquals((refused as TurnError).code, 400);
  // 30 s for the bind.
  assert(fail((rig) => rig.server.script(METHOD.CONNECTION_BIND, silence), 30_100) instanceof StunTimeoutError);
});

Deno.test("RFC 6062 §4.3: a connection that ends before it is the peer's has failed; its socket is closed", () => {
  const rig = tcpRig();
  rig.server.script(METHOD.CONNECT, connectionId(1));
  rig.server.script(METHOD.CONNECTION_BIND, silence);
  rig.call((client, io) => client.connect(PEER, io));
  rig.advance(30);
  const data = rig.socket;
  rig.call((client, io) => client.handleClosed(data, "reset", io));
  assert(rig.eventsOf("connect-failed")[0]!.error instanceof StunConnectionError);
  assertEquals(rig.closed, [data]);
  assertEquals(rig.client.state, "allocated");
});

Deno.test("RFC 6062 §4.4: a peer's connection that cannot be taken is counted, and nothing else", () => {
  const rig = tcpRig();
  const control = { socket: rig.socket };
  rig.openFailures.push("refused");
  rig.receive(attempt(7));
  rig.server.script(METHOD.CONNECTION_BIND, error(400));
  rig.receive(attempt(8), control);
  rig.advance(100);
  assertEquals([rig.events, rig.client.stats.droppedAttempts], [[], 2]);
});

Deno.test("RFC 6062 §4.4: a server that reports connections without end opens no more than 64 at a time", () => {
  const rig = tcpRig();
  const control = { socket: rig.socket };
  for (let id = 0; id < 100; id++) rig.receive(attempt(id), control);
  assertEquals([rig.opened.length, rig.client.stats.droppedAttempts], [1 + 64, 36]);
  rig.advance(20);
  assertEquals(rig.eventsOf("connected").length, 64);
  rig.receive(attempt(100), control);
  rig.advance(20);
  assertEquals(rig.eventsOf("connected").length, 65);
});

Deno.test("RFC 6062 §4.4: an attempt without id or peer, or not from the server, opens nothing", () => {
  const rig = tcpRig();
  const begin = () =>
    new MessageWriter(new Uint8Array(64)).begin(METHOD.CONNECTION_ATTEMPT, "indication", new Uint8Array(12));
  rig.receive(begin().add(CONNECTION_ID, 1).finish());
  rig.receive(begin().add(XOR_PEER_ADDRESS, PEER).finish());
  rig.receive(attempt(1), { from: LOCAL });
  assertEquals([rig.opened.length, rig.client.stats.rejectedMalformed, rig.client.stats.rejectedSource], [1, 2, 1]);
});

Deno.test("RFC 6062 §4.2: permissions work as ever; there are no datagrams", () => {
  const rig = tcpRig();
  rig.call((client, io) => client.createPermission(PEER, io));
  rig.advance(100);
  assertEquals(rig.eventsOf("permission").length, 1);
  rig.send(PEER, "a datagram");
  assertEquals([rig.data(), rig.client.stats.droppedNotAllocated], [[], 1]);
  rig.call((client, io) => client.bindChannel(PEER, io));
  assertEquals(rig.eventsOf("channel-failed").length, 1);
});

Deno.test("RFC 6062: a 437 to Connect means that the allocation is gone", () => {
  const rig = tcpRig();
  rig.server.script(METHOD.CONNECT, error(437));
  rig.call((client, io) => client.connect(PEER, io));
  rig.advance(100);
  assertEquals([rig.client.state, (rig.eventsOf("failed")[0]!.error as TurnError).code], ["failed", 437]);
});

Deno.test("RFC 6062: close() ends what is being connected, and leaves nothing to do", () => {
  const rig = tcpRig();
  const control = rig.socket;
  rig.server.script(METHOD.CONNECTION_BIND, silence);
  rig.receive(attempt(7));
  const data = rig.socket;
  rig.call((client, io) => client.close(io));
  rig.advance(100);
  assertEquals([rig.events, rig.closed], [[{ type: "closed" }], [data, control]]);
  assertEquals(rig.client.deadline, Infinity);
});
