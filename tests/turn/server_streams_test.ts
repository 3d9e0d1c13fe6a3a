import { assert, assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import type { SocketId } from "../../stun/machine.ts";
import { METHOD } from "../../stun/message.ts";
import type { TurnServerEvent } from "../../turn/server_events.ts";
import { recordedPacket } from "../_recorder.ts";
import { addTransport, bytes, channelData, CLIENT, codeOf, PEER, type RigClient, ServerRig } from "./_server_rig.ts";

/** A client that came by a connection, with the number `socket`. */
function connect(rig: ServerRig, socket: SocketId, address = CLIENT): RigClient {
  return rig.connect(socket, address);
}

function endings(rig: ServerRig): string[] {
  return rig.io.events.splice(0).flatMap((event: TurnServerEvent) => event.type === "ended" ? [event.why] : []);
}

Deno.test("RFC 8656 §3.1: a connection is a 5-tuple of its own: requests, channels and data as over UDP", () => {
  const rig = new ServerRig();
  const client = connect(rig, 100);
  const overUdp = rig.client();
  overUdp.mustAllocate();
  const [relay] = client.mustAllocate();
  assertEquals(client.bind(0x4000, PEER), 0);
  const toPeer = client.send(channelData(0x4000, bytes(1, 2, 3)));
  assertEquals(toPeer.map(({ socket, to, bytes }) => [socket, to, [...bytes]]), [[relay!.socket, PEER, [1, 2, 3]]]);
  const toClient = rig.receive(relay!.socket, PEER, bytes(4, 5));
  assertEquals(toClient.map(({ socket, to }) => [socket, to]), [[100, CLIENT]]);
  assertEquals([...toClient[0]!.bytes], [0x40, 0, 0, 2, 4, 5]);
});

Deno.test("T35: the end of a client's connection frees all that it had, and nothing of anybody else", () => {
  const rig = new ServerRig();
  const stays = rig.client();
  stays.mustAllocate();
  const before = rig.server.sizes;
  const goes = connect(rig, 100);
  const [relay] = goes.mustAllocate();
  goes.permit(PEER);
  goes.bind(0x4000, PEER);
  endings(rig);
  rig.server.handleClosed(100, "reset", rig.io);
  assertEquals(rig.io.closed.splice(0), [relay!.socket]);
  assertEquals(rig.server.sizes, before);
  assertEquals(endings(rig), ["disconnected"]);
  assertEquals(rig.server.counters.allocations, 1);
  // Neither the connection nor the relay is known any more; a second end changes nothing.
  rig.server.handleClosed(100, "end", rig.io);
  rig.server.handlePacket(recordedPacket(100, CLIENT, channelData(0x4000, bytes(1))), rig.io);
  rig.server.handlePacket(recordedPacket(relay!.socket, PEER, bytes(1)), rig.io);
  assertEquals([rig.drops.unknownSocket, rig.io.takeSends()], [2, []]);
});

Deno.test("A connection that ends while its allocation's socket is being bound: no answer, nothing left", () => {
  const rig = new ServerRig();
  const client = connect(rig, 100);
  client.challenge();
  rig.opensAtOnce = false;
  client.send(client.build(METHOD.ALLOCATE, addTransport));
  rig.server.handleClosed(100, "end", rig.io);
  rig.openAll();
  assertEquals([rig.leftovers, rig.io.takeSends()], [{}, []]);
});

Deno.test("T28: over a connection there is room for the largest datagram, over UDP there is not", () => {
  const rig = new ServerRig();
  const largest = new Uint8Array(65507);
  for (const [client, fits] of [[rig.client(), false], [connect(rig, 100), true]] as const) {
    const [relay] = client.mustAllocate();
    client.permit(PEER);
    assertEquals(rig.receive(relay!.socket, PEER, largest).map(({ bytes }) => bytes.length), fits ? [65544] : []);
    client.bind(0x4000, PEER);
    assertEquals(rig.receive(relay!.socket, PEER, largest).map(({ bytes }) => bytes.length), fits ? [65511] : []);
  }
  assertEquals(rig.drops, { tooLong: 2 });
});

Deno.test("T2: a nonce is good for its own address only, for connections as for UDP", () => {
  const rig = new ServerRig();
  const one = connect(rig, 100, TransportAddress.of("192.0.2.7", 1));
  const other = connect(rig, 101, TransportAddress.of("192.0.2.7", 2));
  one.challenge();
  other.nonce = one.nonce;
  const answer = other.ask(other.build(METHOD.ALLOCATE, addTransport));
  assertEquals(codeOf(answer), 438);
  assert(one.allocate().class === "success");
});
