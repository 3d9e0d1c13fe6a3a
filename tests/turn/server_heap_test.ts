// The data path leaves nothing for the garbage collector (house rule 4): bytes that V8 has handed out, counted by V8.
import v8 from "node:v8";
import { assert, assertEquals } from "@std/assert";
import type { TransportAddress } from "../../stun/address.ts";
import type { MachineIo, Packet, SocketId } from "../../stun/machine.ts";
import { MessageWriter, METHOD } from "../../stun/message.ts";
import { DATA, XOR_PEER_ADDRESS } from "../../turn/attributes.ts";
import type { TurnServerEvent } from "../../turn/server_events.ts";
import { seededRandom } from "../_recorder.ts";
import { channelData, CLIENT, PEER, ServerRig, SOCKET } from "./_server_rig.ts";

const ROUNDS = 200_000;
/** The smallest object has 12 bytes; the engine itself needs some as it compiles. */
const NONE = 8;

/** An `io` that counts and keeps nothing, as the driver's does not. */
class CountingIo implements MachineIo<TurnServerEvent> {
  now = 1_000_000;
  readonly unixTime = 946_684_800;
  readonly random = seededRandom(1);
  sends = 0;
  bytes = 0;
  #memory = new Uint8Array(65536);

  scratch(size: number): Uint8Array {
    // The driver gives out views of one memory as well: one small object for what is no ChannelData.
    return this.#memory.subarray(0, size);
  }
  send(_socket: SocketId, _to: TransportAddress, bytes: Uint8Array, offset = 0, length = bytes.length - offset): void {
    this.sends++;
    this.bytes += length;
  }
  open(): SocketId {
    throw new Error("no socket is wanted");
  }
  close(): void {}
  deliver(): void {}
  emit(): void {}
}

/** A packet that is used again and again, as the driver's is. */
class SamePacket implements Packet {
  readonly buffer: Uint8Array;
  readonly offset = 16;
  readonly length: number;
  constructor(readonly socket: SocketId, readonly from: TransportAddress, bytes: Uint8Array) {
    this.buffer = new Uint8Array(bytes.length + 16);
    this.buffer.set(bytes, 16);
    this.length = bytes.length;
  }
  get bytes(): Uint8Array {
    return this.buffer.subarray(this.offset, this.offset + this.length);
  }
}

function allocatedBytes(): number {
  return (v8.getHeapStatistics() as unknown as { total_allocated_bytes: number }).total_allocated_bytes;
}

/** Bytes of the heap for each datagram, when all is compiled. */
function heapPerDatagram(rig: ServerRig, packet: Packet): number {
  const io = new CountingIo();
  const run = (count: number) => {
    for (let i = 0; i < count; i++) rig.server.handlePacket(packet, io as unknown as typeof rig.io);
  };
  run(ROUNDS);
  run(ROUNDS);
  const before = allocatedBytes();
  run(ROUNDS);
  const used = allocatedBytes() - before;
  assertEquals(io.sends, 3 * ROUNDS);
  return used / ROUNDS;
}

function sendIndication(peer: TransportAddress, data: Uint8Array): Uint8Array {
  return new MessageWriter(new Uint8Array(2048)).begin(METHOD.SEND, "indication", new Uint8Array(12))
    .add(XOR_PEER_ADDRESS, peer).add(DATA, data).finish();
}

const isCounted = typeof allocatedBytes() === "number";

Deno.test({ name: "Data path: relaying leaves nothing to be collected", ignore: !isCounted }, async (t) => {
  const data = new Uint8Array(200);
  const rig = new ServerRig();
  const client = rig.client();
  const [relay] = client.mustAllocate();
  assertEquals(client.bind(0x4000, PEER), 0);
  const other = rig.client(CLIENT.withPort(50_001));
  const [unbound] = other.mustAllocate();
  assertEquals(other.permit(PEER), 0);
  const datagrams: [string, Packet][] = [
    ["ChannelData from a client", new SamePacket(SOCKET, client.address, channelData(0x4000, data))],
    ["a peer's datagram to a channel", new SamePacket(relay!.socket, PEER, data)],
    ["a Send indication", new SamePacket(SOCKET, other.address, sendIndication(PEER, data))],
  ];
  for (const [name, packet] of datagrams) {
    await t.step(name, () => {
      const bytes = heapPerDatagram(rig, packet);
      assert(bytes < NONE, `${bytes} bytes of heap a datagram`);
    });
  }
  await t.step("a peer's datagram to a client without channel: two views of memory and no more", () => {
    const bytes = heapPerDatagram(rig, new SamePacket(unbound!.socket, PEER, data));
    assert(bytes < 400, `${bytes} bytes of heap a datagram`);
  });
  assertEquals(rig.drops, {});
});
