import type { TransportAddress } from "../address.ts";
import {
  EAGAIN,
  EINTR,
  EINVAL,
  EIO,
  EMSGSIZE,
  type Libc,
  MSG_DONTWAIT,
  NAME_SIZE,
  SOL_UDP,
  UDP_SEGMENT,
} from "./_libc.ts";
import { type ReceiveSlots, SLOT_SIZE, SLOTS } from "./_linux_receive.ts";
import {
  CONTROL_LENGTH,
  HEADER_WORDS,
  IOV,
  IOV_LENGTH,
  IOVEC_LENGTH,
  IOVEC_WORDS,
  MessageHeaders,
  NAME,
  NAME_LENGTH,
  NAME_WORDS,
  NativeMemory,
} from "./_native_memory.ts";
import { writeSockaddr } from "./sockaddr.ts";
import { HEADROOM } from "./transport.ts";

const CAPACITY = 2 * SLOTS;
const AREA_SIZE = 128 * 1024;
// Where what follows a received ChannelData header begins in its slot: most single datagrams do.
const DATA_OFFSET = HEADROOM + 4;
// CMSG_SPACE(2): a header of 16 bytes and a 16-bit size, padded.
const SEGMENT_CONTROL_SIZE = 24;
const SEGMENT_CONTROL_LENGTH = 18;
// The kernel takes 64 segments and 65,535 bytes with headers (UDP_MAX_SEGMENTS, IP's length field).
const MAX_SEGMENTS = 64;
const MAX_RUN_BYTES = 65000;

/** What the queue needs to know of a socket, and keeps in it. */
export interface SendingSocket {
  /** The file descriptor. */
  readonly fd: number;
  /** The interface for link-local IPv6 destinations that name none; 0 for none. */
  readonly zone: number;
  /** Datagrams that could not be handed to the network. */
  sendErrors: number;
  /** Called when there are more, unless the send buffer is full. */
  onSendError: (() => void) | undefined;
  /** Of these, how many found the socket's send buffer full. */
  sendBufferFull: number;
  /** Datagrams longer than this are not segmented by the kernel (UDP_SEGMENT), as it has refused to. */
  segmentLimit: number;
  /** Whether a call may fail for what an earlier datagram met on its way: once, so that it is to be tried again. */
  readonly hasLateErrors: boolean;
  /** First and last of its entries in the queue; -1 when it has none. */
  head: number;
  tail: number;
}

/**
 * Datagrams that wait for the end of the round. They may go to any sockets; each socket's leave in one system call,
 * and those to the same destination as one large one that the kernel or the network card cuts (UDP_SEGMENT).
 */
export class SendQueue {
  /** The library that is loaded just now. */
  libc: Libc | undefined;
  #slots: NativeMemory;
  #area = new NativeMemory(AREA_SIZE);
  #areaUsed = 0;
  #count = 0;
  #sockets: SendingSocket[] = [];
  // Entries, in the order they came. Those of one socket are a list.
  #addresses = new Float64Array(CAPACITY);
  #lengths = new Uint32Array(CAPACITY);
  #nameLengths = new Uint8Array(CAPACITY);
  #next = new Int32Array(CAPACITY);
  #headers = new MessageHeaders(CAPACITY, SEGMENT_CONTROL_SIZE);
  // The slot of which an entry is the data, or -1; and pointers to that of each slot.
  #dataSlots = new Int32Array(CAPACITY);
  #dataPointers: readonly Deno.PointerObject[];
  #namePointers: readonly Deno.PointerObject[];

  /** @param slots Memory that entries may refer to until they are sent. */
  constructor(slots: ReceiveSlots) {
    this.#slots = slots.memory;
    const pointers = (memory: NativeMemory, count: number, step: number, offset: number) =>
      Array.from({ length: count }, (_, i) => memory.pointer(i * step + offset));
    this.#dataPointers = pointers(this.#slots, SLOTS, SLOT_SIZE, DATA_OFFSET);
    this.#namePointers = pointers(this.#headers.names, CAPACITY, NAME_SIZE, 0);
    const { controls } = this.#headers;
    for (let i = 0; i < CAPACITY; i++) {
      const control = (i * SEGMENT_CONTROL_SIZE) / 4;
      controls.words.set([SEGMENT_CONTROL_LENGTH, 0, SOL_UDP, UDP_SEGMENT], control);
    }
  }

  /** Whether nothing waits. */
  get isEmpty(): boolean {
    return this.#count === 0;
  }

  /** Adds a datagram. Memory outside of the slots is copied, as its owner may reuse it before the round ends. */
  push(socket: SendingSocket, to: TransportAddress, bytes: Uint8Array, offset: number, length: number): void {
    if (this.#count === CAPACITY || this.#areaUsed + length > AREA_SIZE) this.flush();
    const entry = this.#count++;
    let dataSlot = -1;
    if (bytes.buffer === this.#slots.bytes.buffer) {
      const start = bytes.byteOffset + offset;
      this.#addresses[entry] = this.#slots.address + start;
      if (start % SLOT_SIZE === DATA_OFFSET) dataSlot = (start - DATA_OFFSET) / SLOT_SIZE;
    } else this.#addresses[entry] = this.#copy(bytes, offset, length);
    this.#dataSlots[entry] = dataSlot;
    this.#lengths[entry] = length;
    this.#nameLengths[entry] = writeSockaddr(to, this.#headers.names.words, entry * NAME_WORDS, socket.zone);
    this.#next[entry] = -1;
    if (socket.head === -1) {
      socket.head = entry;
      this.#sockets.push(socket);
    } else this.#next[socket.tail] = entry;
    socket.tail = entry;
  }

  /** Sends all that waits. */
  flush(): void {
    for (let i = 0; i < this.#sockets.length; i++) this.#send(this.#sockets[i]!);
    this.#sockets.length = 0;
    this.#count = 0;
    this.#areaUsed = 0;
  }

  #copy(bytes: Uint8Array, offset: number, length: number): number {
    const start = this.#areaUsed;
    this.#areaUsed += length;
    this.#area.bytes.set(
      offset === 0 && length === bytes.length ? bytes : bytes.subarray(offset, offset + length),
      start,
    );
    return this.#area.address + start;
  }

  #send(socket: SendingSocket): void {
    const entry = socket.head;
    if (entry === socket.tail && this.#dataSlots[entry] !== -1) this.#sendData(socket, entry);
    else this.#sendEntries(socket);
  }

  #sendEntries(socket: SendingSocket): void {
    const { symbols, errno } = this.libc!;
    const count = this.#build(socket);
    socket.head = -1;
    let tried = -1;
    for (let sent = 0; sent < count;) {
      const pointer = this.#headers.pointers[sent]!;
      const done = count === 1
        ? symbols.sendmsg(socket.fd, pointer, MSG_DONTWAIT) < 0 ? -1 : 1
        : symbols.sendmmsg(socket.fd, pointer, count - sent, MSG_DONTWAIT);
      if (done > 0) {
        sent += done;
        continue;
      }
      const error = errno();
      if (error === EINTR || (socket.hasLateErrors && tried !== sent)) {
        tried = sent;
        continue;
      }
      if (error === EAGAIN) {
        for (; sent < count; sent++) this.#fail(socket, this.#segments(sent), error);
      } else this.#sendRefused(socket, sent++, error);
    }
  }

  /** One datagram alone, which is the data of a received one: first by the call with the least to tell the kernel. */
  #sendData(socket: SendingSocket, entry: number): void {
    const sent = this.libc!.symbols.sendto(
      socket.fd,
      this.#dataPointers[this.#dataSlots[entry]!]!,
      this.#lengths[entry]!,
      MSG_DONTWAIT,
      this.#namePointers[entry]!,
      this.#nameLengths[entry]!,
    );
    if (sent >= 0) socket.head = -1;
    else this.#sendEntries(socket);
  }

  /** Lays out a socket's entries as headers, one per run. Gives how many. */
  #build(socket: SendingSocket): number {
    const { words } = this.#headers.memory;
    const iovecs = this.#headers.iovecs;
    let headers = 0;
    let iovec = 0;
    let runEntry = 0;
    let runBytes = 0;
    let runCount = 0;
    for (let entry = socket.head; entry !== -1; entry = this.#next[entry]!) {
      const length = this.#lengths[entry]!;
      iovecs.setAddress(iovec * IOVEC_WORDS, this.#addresses[entry]!);
      iovecs.words[iovec * IOVEC_WORDS + IOVEC_LENGTH] = length;
      const size = this.#lengths[runEntry]!;
      // All of a run have the same size, only the last may be shorter: then `runBytes` is no multiple.
      if (
        headers !== 0 && length <= size && length !== 0 && size <= socket.segmentLimit && runCount < MAX_SEGMENTS &&
        runBytes === size * runCount && runBytes + length <= MAX_RUN_BYTES && this.#isSameName(entry, runEntry)
      ) {
        runCount++;
        runBytes += length;
        const header = (headers - 1) * HEADER_WORDS;
        words[header + IOV_LENGTH] = runCount;
        if (runCount === 2) this.#setSegment(headers - 1, size);
      } else {
        const header = headers * HEADER_WORDS;
        this.#headers.memory.setAddress(header + NAME, this.#headers.names.address + entry * NAME_WORDS * 4);
        words[header + NAME_LENGTH] = this.#nameLengths[entry]!;
        this.#headers.memory.setAddress(header + IOV, iovecs.address + iovec * IOVEC_WORDS * 4);
        words[header + IOV_LENGTH] = 1;
        words[header + CONTROL_LENGTH] = 0;
        headers++;
        runEntry = entry;
        runBytes = length;
        runCount = 1;
      }
      iovec++;
    }
    return headers;
  }

  #setSegment(header: number, size: number): void {
    this.#headers.memory.words[header * HEADER_WORDS + CONTROL_LENGTH] = SEGMENT_CONTROL_SIZE;
    this.#headers.controls.words[(header * SEGMENT_CONTROL_SIZE) / 4 + 4] = size;
  }

  #isSameName(a: number, b: number): boolean {
    const { words } = this.#headers.names;
    if (this.#nameLengths[a] !== this.#nameLengths[b]) return false;
    for (let i = 0; i < this.#nameLengths[a]! / 4; i++) {
      if (words[a * NAME_WORDS + i] !== words[b * NAME_WORDS + i]) return false;
      // The rest of a sockaddr_in is padding.
      if (i === 1 && this.#nameLengths[a] === 16) break;
    }
    return true;
  }

  #segments(header: number): number {
    return this.#headers.memory.words[header * HEADER_WORDS + IOV_LENGTH]!;
  }

  #fail(socket: SendingSocket, count: number, errno: number): void {
    socket.sendErrors += count;
    if (errno === EAGAIN) socket.sendBufferFull += count;
    else socket.onSendError?.();
  }

  /** A run that the kernel refuses goes out datagram by datagram, and its like from then on. */
  #sendRefused(socket: SendingSocket, header: number, errno: number): void {
    const count = this.#segments(header);
    if (count === 1) return this.#fail(socket, 1, errno);
    const { words } = this.#headers.memory;
    const size = this.#headers.controls.words[(header * SEGMENT_CONTROL_SIZE) / 4 + 4]!;
    if (errno === EINVAL || errno === EMSGSIZE) socket.segmentLimit = Math.min(socket.segmentLimit, size - 1);
    if (errno === EIO) socket.segmentLimit = 0;
    const at = header * HEADER_WORDS;
    const low = words[at + IOV]!;
    const high = words[at + IOV + 1]!;
    words[at + CONTROL_LENGTH] = 0;
    words[at + IOV_LENGTH] = 1;
    for (let i = 0; i < count; i++) {
      this.#headers.memory.setAddress(at + IOV, high * 0x1_0000_0000 + low + i * IOVEC_WORDS * 4);
      const sent = this.libc!.symbols.sendmsg(socket.fd, this.#headers.pointers[header]!, MSG_DONTWAIT);
      if (sent < 0) this.#fail(socket, 1, this.libc!.errno());
    }
  }
}
