import { TransportAddress } from "../address.ts";
import type { SocketWish } from "../machine.ts";
import { type DatagramReceiver, type DatagramSocket, OpenError, PacketBatch } from "./transport.ts";
import { DenoAddress, DenoDatagramSocket, openDenoConn } from "./udp.ts";

/**
 * Binds a socket that has joined a multicast group, by `Deno.listenDatagram`. On Linux what is sent leaves by the interface
 * of its address; elsewhere, and for IPv6 groups beyond the link, by the one that the system prefers.
 *
 * @throws {OpenError} If it can not.
 */
export function openDenoGroup(
  wish: SocketWish & { readonly group: string },
  receiver: DatagramReceiver,
): DatagramSocket {
  return new DenoGroupSocket(wish, receiver);
}

/**
 * Two sockets in one: from the first, which has the address, all is sent; the second, which has the group's, gets what is
 * sent to it. A single one would either hear nothing of the group or leave by any interface.
 */
class DenoGroupSocket implements DatagramSocket {
  readonly localAddress: TransportAddress;
  readonly closed: Promise<void>;
  readonly #own: DatagramSocket;
  readonly #shared: DatagramSocket;
  readonly #group: TransportAddress;
  readonly #out = new PacketBatch(64);

  constructor({ address, port, group }: SocketWish & { readonly group: string }, receiver: DatagramReceiver) {
    this.#group = TransportAddress.of(group, port);
    const { family } = this.#group;
    const index = family === 6 ? indexOf(address) : undefined;
    if (family === 6 && index === undefined) {
      throw new OpenError("address-not-available", `Cannot join ${group} as no interface with IPv6 has ${address}`);
    }
    // Of a group's address only that group comes in. Where a socket can not be bound to one, all that is sent to the port.
    const heard = family === 6 ? "::" : Deno.build.os === "windows" ? "0.0.0.0" : group;
    const own = openDenoConn({ transport: "udp", address, port }, { reuseAddress: true, loopback: true });
    let shared: Deno.DatagramConn;
    try {
      shared = openDenoConn({ transport: "udp", address: heard, port }, { reuseAddress: true });
    } catch (error) {
      own.close();
      throw error;
    }
    // The zone tells by which interface an IPv6 group is meant.
    if (index !== undefined) this.#group.native = new DenoAddress({ address: `${group}%${index}`, port });
    join(shared, { group, address, index, family });
    this.#own = new DenoDatagramSocket(own, receiver);
    this.#shared = new DenoDatagramSocket(shared, receiver);
    this.localAddress = this.#own.localAddress;
    this.closed = Promise.all([this.#own.closed, this.#shared.closed]).then(() => {});
  }

  get sendErrors(): number {
    return this.#own.sendErrors;
  }

  send(batch: PacketBatch): void {
    const out = this.#out;
    for (let i = 0; i < batch.length; i++) {
      const to = batch.addresses[i]!;
      out.length = 0;
      out.push(to.equals(this.#group) ? this.#group : to, batch.buffers[i]!, batch.offsets[i]!, batch.lengths[i]!);
      this.#own.send(out);
    }
  }

  close(): void {
    this.#own.close();
    this.#shared.close();
  }
}

interface Membership {
  readonly group: string;
  readonly address: string;
  readonly index: number | undefined;
  readonly family: 4 | 6;
}

function join(conn: Deno.DatagramConn, { group, address, index, family }: Membership): void {
  const joined = family === 4 ? conn.joinMulticastV4(group, address) : conn.joinMulticastV6(group, index ?? 0);
  // An interface that has no multicast hears nothing: as if nobody was there.
  joined.catch(() => {});
}

/** The index of the interface that has an IPv6 address: Deno tells it with link-local ones, if it may. */
function indexOf(address: string): number | undefined {
  let all: Deno.NetworkInterfaceInfo[];
  try {
    all = Deno.networkInterfaces();
  } catch {
    return undefined;
  }
  const name = all.find((each) => each.address.split("%")[0] === address)?.name;
  return all.find((each) => each.name === name && each.family === "IPv6" && each.scopeid !== 0)?.scopeid ?? undefined;
}
