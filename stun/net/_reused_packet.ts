import type { TransportAddress } from "../address.ts";
import type { Packet, SocketId } from "../machine.ts";

/** The one object in which datagrams are shown to a machine, one after the other. */
export class ReusedPacket implements Packet {
  socket: SocketId;
  from!: TransportAddress;
  buffer!: Uint8Array;
  offset = 0;
  length = 0;

  constructor(socket: SocketId) {
    this.socket = socket;
  }

  get bytes(): Uint8Array {
    return this.buffer.subarray(this.offset, this.offset + this.length);
  }
}
