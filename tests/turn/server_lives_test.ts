// Rule T35 by counts: one server, 10,000 allocations of every kind, each of which ends in one of the ways there are.
import { assert, assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { METHOD, StunMessage } from "../../stun/message.ts";
import {
  ADDITIONAL_ADDRESS_FAMILY,
  CONNECTION_ID,
  EVEN_PORT,
  LIFETIME,
  MOBILITY_TICKET,
  REQUESTED_ADDRESS_FAMILY,
  REQUESTED_TRANSPORT,
  TRANSPORT_PROTOCOL,
  XOR_PEER_ADDRESS,
  XOR_RELAYED_ADDRESS,
} from "../../turn/attributes.ts";
import { seededRandom } from "../_recorder.ts";
import { type Attributes, bytes, codeOf, type RigClient, ServerRig } from "./_server_rig.ts";

const LIVES = 10_000;
const PEERS = ["8.8.8.8:1", "9.9.9.9:1", "[2606:4700::1]:1"].map((text) => TransportAddress.parse(text));
/** What may be asked for. */
const KINDS: readonly Attributes[] = [
  () => {},
  (writer) => writer.add(REQUESTED_ADDRESS_FAMILY, 6),
  (writer) => writer.add(ADDITIONAL_ADDRESS_FAMILY, 6),
  (writer) => writer.add(EVEN_PORT, false),
  (writer) => writer.add(EVEN_PORT, true),
  (writer) => writer.add(MOBILITY_TICKET, new Uint8Array(0)),
  (writer) => writer.add(LIFETIME, 3600),
];
const ENDS = ["refresh", "connection", "expiry", "silence", "family"] as const;

/** A server, and the sockets that it has. */
class World {
  readonly rig = new ServerRig({ tcpRelay: true, challengeRate: false });
  readonly live = this.rig.watchSockets();
  /** Connections with which clients came. */
  readonly controls = new Set<number>();
  readonly #random = seededRandom(35);
  #nextPort = 1024;
  #nextSocket = 100_000;

  /** One of `count` numbers. */
  dice(count: number): number {
    const word = new Uint32Array(1);
    this.#random.fill(new Uint8Array(word.buffer));
    return word[0]! % count;
  }

  /** A client that nobody has seen before, by a connection or not. */
  client(isConnected: boolean): RigClient {
    const port = this.#nextPort = this.#nextPort === 65_535 ? 1024 : this.#nextPort + 1;
    const address = TransportAddress.of("192.0.2.7", port);
    const user = this.dice(2) === 0 ? "alice" : "bob";
    if (!isConnected) return this.rig.client(address, user);
    this.live.add(++this.#nextSocket);
    this.controls.add(this.#nextSocket);
    return this.rig.connect(this.#nextSocket, address, user);
  }

  /** The driver tells that a connection has ended: of both ends of a pipe. */
  lose(socket: number): void {
    const { io, server } = this.rig;
    const pipe = io.joins.find(({ a, b }) => a === socket || b === socket);
    for (const gone of pipe === undefined ? [socket] : [pipe.a, pipe.b]) {
      if (this.live.delete(gone)) server.handleClosed(gone, "end", io);
    }
  }

  /** Peers connect to the client's relays, or it to them, and it takes some of what comes of that. */
  #tcpActs(client: RigClient, relays: readonly number[]): void {
    const { rig } = this;
    const ids: number[] = [];
    const note = (sends: { readonly bytes: Uint8Array }[]) => {
      for (const { bytes } of sends) ids.push(StunMessage.parse(bytes)!.get(CONNECTION_ID) ?? 0);
    };
    client.permit(PEERS[0]!);
    note(client.send(client.build(METHOD.CONNECT, (writer) => writer.add(XOR_PEER_ADDRESS, PEERS[this.dice(2)]!))));
    for (const { socket } of rig.connects.splice(0)) {
      if (!this.live.has(socket)) continue;
      if (this.dice(3) > 0) rig.server.handleOpened(socket, client.address, rig.io);
      else if (this.live.delete(socket)) rig.server.handleOpenFailed(socket, "refused", rig.io);
      note(rig.io.takeSends());
    }
    this.live.add(++this.#nextSocket);
    note(rig.accept(relays[0]!, this.#nextSocket, PEERS[0]!));
    for (const id of ids.filter((id) => id !== 0 && this.dice(2) === 0)) {
      this.live.add(++this.#nextSocket);
      const data = rig.connect(this.#nextSocket, client.address.withPort(1 + this.dice(1000)), client.username);
      data.nonce = client.nonce;
      const code = data.code(METHOD.CONNECTION_BIND, (writer) => writer.add(CONNECTION_ID, id));
      // What was refused is its client's to close; half of the pipes end before their allocation.
      if (code !== 0 || this.dice(2) === 0) this.lose(data.socket);
    }
  }

  #datagramActs(client: RigClient, relays: readonly number[]): void {
    for (let n = this.dice(4); n > 0; n--) client.permit(PEERS[this.dice(3)]!);
    for (let n = this.dice(4); n > 0; n--) client.bind(0x4000 + this.dice(3), PEERS[this.dice(3)]!);
    for (const peer of PEERS) client.sendTo(peer, bytes(1));
    client.sendOn(0x4000 + this.dice(3), bytes(1));
    for (const socket of relays) this.rig.receive(socket, PEERS[this.dice(3)]!, bytes(1));
  }

  /** A life from beginning to end. Gives how it ended. */
  life(): string {
    const { rig } = this;
    const isConnected = this.dice(2) === 0;
    const isTcp = isConnected && this.dice(3) === 0;
    const client = this.client(isConnected);
    const kind = isTcp ? KINDS[this.dice(3)]! : KINDS[this.dice(KINDS.length)]!;
    const transport = isTcp ? TRANSPORT_PROTOCOL.TCP : TRANSPORT_PROTOCOL.UDP;
    const answer = client.request(METHOD.ALLOCATE, (writer) => kind(writer.add(REQUESTED_TRANSPORT, transport)));
    assertEquals(codeOf(answer), 0);
    const relays = answer.getAll(XOR_RELAYED_ADDRESS).map((relayed) => rig.sockets.get(relayed!.port)!);
    if (isTcp) this.#tcpActs(client, relays);
    else this.#datagramActs(client, relays);
    rig.advance(this.dice(60_000));
    const end = ENDS[this.dice(ENDS.length)]!;
    if (end === "connection") this.lose(client.socket);
    else if (end === "refresh") client.refresh(0);
    else if (end === "family") {
      for (const family of [4, 6] as const) {
        client.refresh(0, (writer) => writer.add(REQUESTED_ADDRESS_FAMILY, family));
      }
    } else if (end === "expiry") rig.advance(600_000);
    // With "silence" the next life begins meanwhile.
    return `${isTcp ? "TCP" : isConnected ? "UDP over TCP" : "UDP"}: ${end}`;
  }
}

Deno.test("T35: an allocation's end frees everything: by counts after 10,000 random lives", () => {
  const world = new World();
  const { rig } = world;
  const ways = new Map<string, number>();
  for (let i = 0; i < LIVES; i++) {
    const way = world.life();
    ways.set(way, (ways.get(way) ?? 0) + 1);
  }
  rig.advance(3_600_000);
  assertEquals([rig.leftovers, rig.server.deadline], [{}, Infinity]);
  const { allocations, allocationsTotal, reservations, connections, connectionsTotal } = rig.server.counters;
  assertEquals([allocations, allocationsTotal, reservations, connections], [0, LIVES, 0, 0]);
  // The connections with which clients came are theirs to close; all else is closed, once.
  assertEquals([...world.live].filter((socket) => !world.controls.has(socket)), []);
  assert(connectionsTotal > 500, `${connectionsTotal}`);
  assertEquals(ways.size, 3 * ENDS.length);
});
