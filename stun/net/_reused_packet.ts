import type { TransportAddress } from "../address.ts";
import type { Packet, SocketId } from "../machine.ts";

/** The one object in which a socket's datagrams are shown to its machine. */
export class ReusedPacket implements Packet {
  readonly socket: SocketId;
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
