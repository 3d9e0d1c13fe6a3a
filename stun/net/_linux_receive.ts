import type { TransportAddress } from "../address.ts";
import { type Libc, MSG_DONTWAIT, NAME_SIZE } from "./_libc.ts";
import {
  FLAGS,
  HEADER_WORDS,
  IOVEC_LENGTH,
  IOVEC_WORDS,
  MESSAGE_LENGTH,
  MessageHeaders,
  NAME_LENGTH,
  NAME_WORDS,
  NativeMemory,
} from "./_native_memory.ts";
import { type AddressTable, SOCKADDR_IN6_SIZE } from "./sockaddr.ts";
import { HEADROOM, PacketBatch, RECEIVE_SIZE } from "./transport.ts";

/** How many datagrams are in hand at a time, over all sockets. */
export const SLOTS = 64;
/**
 * Room for the largest datagram. Slots begin five cache lines apart, modulo the cache, so that they don't push each
 * other out; of each, only the pages that a datagram has reached are really there.
 */
export const SLOT_SIZE = 65856;

/** The memory that all sockets of a host receive into, slot by slot. */
export class ReceiveSlots {
  /** All slots. A received datagram's memory is this, so that sending it on needs no copy. */
  readonly memory: NativeMemory = new NativeMemory(SLOTS * SLOT_SIZE);
  /** What the last `receive()` took in. */
  readonly batch: PacketBatch = new PacketBatch(SLOTS);
  #headers = new MessageHeaders(SLOTS, 0);
  #used = 0;
  // For one datagram at a time.
  #payloads: readonly Deno.PointerObject[];
  #names: readonly Deno.PointerObject[];
  #nameLength = new NativeMemory(4);
  #nameLengthPointer = this.#nameLength.pointer();

  constructor() {
    for (let i = 0; i < SLOTS; i++) {
      this.#headers.iovecs.setAddress(i * IOVEC_WORDS, this.memory.address + i * SLOT_SIZE + HEADROOM);
      this.#headers.iovecs.words[i * IOVEC_WORDS + IOVEC_LENGTH] = RECEIVE_SIZE;
      this.#rearm(i);
      this.batch.buffers[i] = this.memory.bytes;
    }
    const slots = Array.from({ length: SLOTS }, (_, i) => i);
    this.#payloads = slots.map((i) => this.memory.pointer(i * SLOT_SIZE + HEADROOM));
    this.#names = slots.map((i) => this.#headers.names.pointer(i * NAME_SIZE));
  }

  /** How many slots are free. */
  get free(): number {
    return SLOTS - this.#used;
  }

  /** Makes all slots free, when nothing refers to them any more. */
  reset(): void {
    this.#used = 0;
  }

  /**
   * Receives up to `limit` datagrams, at most `free`, into `batch`.
   *
   * @returns How many there were, or what the C library said: -1 and `errno`.
   */
  receive(libc: Libc, fd: number, limit: number, table: AddressTable): number {
    const first = this.#used;
    const count = libc.symbols.recvmmsg(fd, this.#headers.pointers[first]!, limit, MSG_DONTWAIT, null);
    if (count <= 0) return count;
    const { batch } = this;
    const headers = this.#headers.memory.words;
    const names = this.#headers.names.words;
    for (let i = 0; i < count; i++) {
      const slot = first + i;
      batch.offsets[i] = slot * SLOT_SIZE + HEADROOM;
      batch.lengths[i] = headers[slot * HEADER_WORDS + MESSAGE_LENGTH]!;
      batch.addresses[i] = this.#addressOf(names, slot * NAME_WORDS, table);
      this.#rearm(slot);
    }
    batch.length = count;
    this.#used += count;
    return count;
  }

  /** Receives one datagram into `batch`. Gives whether there was one. */
  receiveOne(libc: Libc, fd: number, table: AddressTable): boolean {
    const slot = this.#used;
    this.#nameLength.words[0] = SOCKADDR_IN6_SIZE;
    const length = libc.symbols.recvfrom(
      fd,
      this.#payloads[slot]!,
      RECEIVE_SIZE,
      MSG_DONTWAIT,
      this.#names[slot]!,
      this.#nameLengthPointer,
    );
    if (length < 0) return false;
    const { batch } = this;
    batch.offsets[0] = slot * SLOT_SIZE + HEADROOM;
    batch.lengths[0] = length;
    batch.addresses[0] = this.#addressOf(this.#headers.names.words, slot * NAME_WORDS, table);
    batch.length = 1;
    this.#used++;
    return true;
  }

  #last: TransportAddress | undefined;
  #lastFirst = 0;
  #lastSecond = 0;

  // One sender's datagrams often come one after the other.
  #addressOf(names: Uint32Array, index: number, table: AddressTable): TransportAddress {
    const first = names[index]!;
    if (first !== this.#lastFirst || names[index + 1] !== this.#lastSecond || this.#last === undefined) {
      const address = table.get(names, index);
      // An IPv6 address is not known by its first two words.
      this.#last = address.bytes.length === 4 ? address : undefined;
      this.#lastFirst = first;
      this.#lastSecond = names[index + 1]!;
      return address;
    }
    return this.#last;
  }

  #rearm(slot: number): void {
    const header = slot * HEADER_WORDS;
    this.#headers.memory.words[header + NAME_LENGTH] = SOCKADDR_IN6_SIZE;
    this.#headers.memory.words[header + FLAGS] = 0;
  }
}
