import type { TransportAddress } from "../../address.ts";
import type { IcmpMessage } from "../../machine.ts";
import { type DatagramReceiver, type DatagramSocket, HEADROOM, type PacketBatch } from "../transport.ts";
import type { Datagram, IcmpReporter } from "./_wire.ts";

/** What a socket needs of its host. */
export interface SocketHost {
  /** Gives whether the datagram got on its way. */
  send(socket: VirtualSocket, batch: PacketBatch, index: number): boolean;
  forget(socket: VirtualSocket): void;
}

/** A datagram socket of a virtual host. */
export class VirtualSocket implements DatagramSocket {
  readonly localAddress: TransportAddress;
  /** The group that it has joined, with the port. */
  readonly group: TransportAddress | undefined;
  sendErrors = 0;
  onSendError: (() => void) | undefined;
  #host: SocketHost;
  #receiver: DatagramReceiver;
  #isClosed = false;
  #onIcmp: ((message: IcmpMessage) => void) | undefined;
  #dontFragment = true;
  #sources = new Map<number | string, TransportAddress>();

  constructor(host: SocketHost, localAddress: TransportAddress, receiver: DatagramReceiver, group?: TransportAddress) {
    this.#host = host;
    this.group = group;
    this.localAddress = localAddress;
    this.#receiver = receiver;
  }

  send(batch: PacketBatch): void {
    for (let i = 0; i < batch.length && !this.#isClosed; i++) {
      if (this.#host.send(this, batch, i)) continue;
      this.sendErrors++;
      this.onSendError?.();
    }
  }

  /** As with Linux, a socket of which nothing was said sends with DF. */
  setDontFragment(on: boolean): boolean {
    this.#dontFragment = on;
    return true;
  }

  reportIcmp(receiver: (message: IcmpMessage) => void): boolean {
    this.#onIcmp = receiver;
    return true;
  }

  /** Who is told of a datagram to `to` that does not arrive. */
  reporterFor(to: TransportAddress, sentAt: number): IcmpReporter | undefined {
    if (this.#onIcmp === undefined) return undefined;
    const report = (message: IcmpMessage) => {
      if (!this.#isClosed) this.#onIcmp?.(message);
    };
    return { to, sentAt, dontFragment: this.#dontFragment, report };
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#host.forget(this);
  }

  /** The address that a socket bound to all addresses has at this one: made once. */
  sourceAt(address: TransportAddress): TransportAddress {
    let source = this.#sources.get(address.ipKey);
    if (source === undefined) this.#sources.set(address.ipKey, source = address.withPort(this.localAddress.port));
    return source;
  }

  /** Hands a datagram to the program, in a batch that is reused for the next. */
  receive(datagram: Datagram, batch: PacketBatch): void {
    batch.buffers[0] = datagram.buffer;
    batch.offsets[0] = HEADROOM;
    batch.lengths[0] = datagram.length;
    batch.addresses[0] = datagram.source;
    batch.length = 1;
    this.#receiver(batch);
  }
}
