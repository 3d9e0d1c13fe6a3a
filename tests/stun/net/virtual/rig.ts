import { TransportAddress } from "../../../../stun/address.ts";
import { type DatagramSocket, type Host, PacketBatch } from "../../../../stun/net/transport.ts";
import type { VirtualCounters } from "../../../../stun/net/virtual/mod.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A bound socket that keeps what it got. */
export interface Endpoint {
  readonly socket: DatagramSocket;
  readonly address: TransportAddress;
  /** What arrived, as `"192.0.2.1:5000 hello"`. */
  readonly got: string[];
  /** When it arrived. */
  readonly times: number[];
  send(to: string | TransportAddress, text?: string): void;
}

/** Binds `address`, text as `192.0.2.1:5000`. */
export function endpoint(host: Host, address: string): Endpoint {
  const got: string[] = [];
  const times: number[] = [];
  const { address: ip, port } = TransportAddress.parse(address);
  const socket = host.openDatagram({ transport: "udp", address: ip, port }, (batch) => {
    for (let i = 0; i < batch.length; i++) {
      const offset = batch.offsets[i]!;
      const bytes = batch.buffers[i]!.subarray(offset, offset + batch.lengths[i]!);
      got.push(`${batch.addresses[i]} ${decoder.decode(bytes)}`);
      times.push(host.now());
    }
  });
  return {
    socket,
    address: socket.localAddress,
    got,
    times,
    send(to, text = "hello") {
      const bytes = encoder.encode(text);
      const batch = new PacketBatch(1);
      batch.push(typeof to === "string" ? TransportAddress.parse(to) : to, bytes, 0, bytes.length);
      socket.send(batch);
    },
  };
}

/** The counters that are not zero. */
export function counted(counters: VirtualCounters): Partial<VirtualCounters> {
  return Object.fromEntries(Object.entries(counters).filter(([, count]) => count !== 0));
}
