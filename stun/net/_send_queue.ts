import { framePadding, LENGTH_PREFIX } from "../framing.ts";
import type { StreamFraming } from "../machine.ts";

// What a queue's memory begins with and what is kept for the next one to use.
const BLOCK = 16384;
const LARGEST_SPARE = 65536;
const SPARES = 64;
/** How much more than the limit answers may take: on a stream an answer is not asked for again (RFC 8489 §6.2.2). */
const ANSWER_RESERVE = 65536;
const spares: Uint8Array[] = [];

/**
 * What waits to be written to one connection: whole frames side by side, in two memories, one that is being written and
 * one that fills meanwhile. Bounded: a frame that does not fit is dropped as a whole, as a datagram may be.
 */
export class SendQueue {
  /** How many frames were dropped. */
  dropped = 0;
  #limit: number;
  #filling: Uint8Array | undefined;
  #filled = 0;
  #writing: Uint8Array | undefined;
  #written = 0;
  #ends: number[] = [];
  #writtenEnds: number[] = [];

  #prefix: number;

  /**
   * @param limit How many bytes may wait.
   * @param framing What the frames are: with RFC 4571 each has its length in front, and no padding.
   */
  constructor(limit: number, framing: StreamFraming = "stun") {
    this.#limit = limit;
    this.#prefix = framing === "rfc4571" ? LENGTH_PREFIX : 0;
  }

  /** How many bytes wait, those that are being written too. */
  get size(): number {
    return this.#filled + this.#written;
  }

  /** Whether something is being written. */
  get isWriting(): boolean {
    return this.#writing !== undefined;
  }

  /** Adds a frame, up to 65,535 bytes. Gives whether it had room. */
  push(bytes: Uint8Array, offset: number, length: number): boolean {
    const isData = bytes[offset]! > 3 || isIndication(bytes, offset);
    const padding = this.#prefix === 0 ? framePadding(length) : 0;
    const size = this.#prefix + length + padding;
    if (this.size + size > (isData ? this.#limit : this.#limit + ANSWER_RESERVE)) {
      this.dropped++;
      return false;
    }
    const memory = this.#reserve(size);
    if (this.#prefix !== 0) {
      memory[this.#filled++] = length >>> 8;
      memory[this.#filled++] = length;
    }
    memory.set(bytes.subarray(offset, offset + length), this.#filled);
    this.#filled += length;
    for (let i = 0; i < padding; i++) memory[this.#filled++] = 0;
    this.#ends.push(this.#filled);
    return true;
  }

  /** Adds bytes as they are, whatever the limit: who pipes them stops when `isFull`. */
  pushRaw(bytes: Uint8Array, offset: number, length: number): void {
    this.#reserve(length).set(bytes.subarray(offset, offset + length), this.#filled);
    this.#filled += length;
    this.#ends.push(this.#filled);
  }

  /** Where in what is being written each frame ends. */
  get ends(): readonly number[] {
    return this.#writtenEnds;
  }

  /** Whether the limit is reached. */
  get isFull(): boolean {
    return this.size >= this.#limit;
  }

  /** All that waits, to be written now, until `finishWrite()`. `undefined` if there is nothing, or a write is under way. */
  startWrite(): Uint8Array | undefined {
    if (this.#filled === 0 || this.#writing !== undefined) return undefined;
    const bytes = this.#filling!.subarray(0, this.#filled);
    this.#writing = this.#filling;
    this.#written = this.#filled;
    this.#filling = undefined;
    this.#filled = 0;
    [this.#ends, this.#writtenEnds] = [this.#writtenEnds, this.#ends];
    this.#ends.length = 0;
    return bytes;
  }

  /** What `startWrite()` gave is written. */
  finishWrite(): void {
    const memory = this.#writing;
    this.#writing = undefined;
    this.#written = 0;
    if (memory !== undefined && memory.length <= LARGEST_SPARE && spares.length < SPARES) spares.push(memory);
  }

  #reserve(count: number): Uint8Array {
    const need = this.#filled + count;
    const memory = this.#filling ??= spares.pop() ?? new Uint8Array(BLOCK);
    if (need <= memory.length) return memory;
    let size = memory.length;
    while (size < need) size *= 2;
    const larger = new Uint8Array(size);
    larger.set(memory.subarray(0, this.#filled));
    return this.#filling = larger;
  }
}

/** Whether a STUN message is an indication, which nobody waits for: class bits 01 (RFC 8489 §5). */
function isIndication(bytes: Uint8Array, offset: number): boolean {
  return (bytes[offset]! & 1) === 0 && (bytes[offset + 1]! & 0x10) !== 0;
}
