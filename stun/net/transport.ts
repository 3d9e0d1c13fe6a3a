import type { TransportAddress } from "../address.ts";
import type { OpenFailure, Random, SocketWish } from "../machine.ts";

/** How many bytes are kept free in front of each received datagram: a ChannelData header fits there (RFC 8656 §12.4). */
export const HEADROOM = 4;
/** The largest UDP payload over IPv4. */
export const MAX_DATAGRAM = 65507;

/**
 * Datagrams on their way in or out, side by side. Received ones lie in memory of the batch's own, `HEADROOM` bytes in;
 * outgoing ones are references to memory that belongs to others.
 */
export class PacketBatch {
  /** How many datagrams there are; entries from here on are leftovers. */
  length = 0;
  /** How many it may hold. */
  readonly capacity: number;
  /** The memory each datagram lies in. */
  readonly buffers: Uint8Array[] = [];
  /** Where in its memory each begins. */
  readonly offsets: number[] = [];
  /** How many bytes each has. */
  readonly lengths: number[] = [];
  /** Who sent it, or who shall get it. */
  readonly addresses: TransportAddress[] = [];

  /**
   * @param capacity How many datagrams it may hold.
   * @param size The payload size of the slots to allocate for receiving; 0 (the default) for an outgoing batch.
   */
  constructor(capacity: number, size = 0) {
    this.capacity = capacity;
    if (size === 0) return;
    for (let i = 0; i < capacity; i++) this.buffers.push(new Uint8Array(HEADROOM + size));
  }

  /** Adds an outgoing datagram. The caller has checked `length < capacity`. */
  push(to: TransportAddress, bytes: Uint8Array, offset: number, length: number): void {
    const i = this.length++;
    this.addresses[i] = to;
    this.buffers[i] = bytes;
    this.offsets[i] = offset;
    this.lengths[i] = length;
  }
}

/** Gets what arrived. The batch and its memory are reused as soon as the call returns. */
export type DatagramReceiver = (batch: PacketBatch) => void;

/** A bound datagram socket. */
export interface DatagramSocket {
  /** The address it is bound to. */
  readonly localAddress: TransportAddress;
  /** How many datagrams could not be handed to the network. They are lost, as datagrams may be. */
  readonly sendErrors: number;
  /** Sends all of the batch. It may be reused as soon as the call returns. Never throws for what the network says. */
  send(batch: PacketBatch): void;
  /** Closes the socket. A second call does nothing. */
  close(): void;
}

/** A socket could not be opened. */
export class OpenError extends Error {
  /** `"OpenError"`. */
  override readonly name: string = "OpenError";
  /** Why. */
  readonly failure: OpenFailure;

  /**
   * @param failure Why.
   * @param message What was wanted, for people.
   * @param options The cause.
   */
  constructor(failure: OpenFailure, message: string, options?: ErrorOptions) {
    super(message, options);
    this.failure = failure;
  }
}

/** One address of one network interface. */
export interface LocalInterface {
  /** The interface's name, as `eth0`. */
  readonly name: string;
  /** The IP address, without zone. */
  readonly address: string;
}

/** An alarm that a driver sets and moves. */
export interface HostTimer {
  /** Rings once at this time on the host's clock; replaces an earlier setting. `Infinity` clears it. */
  set(at: number): void;
}

/**
 * A computer as the driver sees it: clock, randomness, sockets, names. There is the one that Deno runs on
 * (`denoHost()`), and any number of them in a virtual internet.
 */
export interface Host {
  /** Monotonic time in milliseconds. */
  now(): number;
  /** Randomness. */
  readonly random: Random;
  /** A new alarm, not set. */
  createTimer(ring: () => void): HostTimer;
  /**
   * Binds a datagram socket.
   *
   * @throws {OpenError} If it can not.
   */
  openDatagram(wish: SocketWish, receiver: DatagramReceiver): DatagramSocket;
  /** The addresses of all network interfaces. */
  interfaces(): readonly LocalInterface[];
  /**
   * The IP addresses of a name, or the address itself if it is one.
   *
   * @throws {Error} If the name has none.
   */
  resolve(name: string): Promise<readonly string[]>;
}
