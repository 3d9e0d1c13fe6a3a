import { IOVEC_SIZE, MMSGHDR_SIZE, NAME_SIZE } from "./_libc.ts";

// The collector must never free memory that the kernel may still be told of: a collected buffer is a crash.
const kept: NativeMemory[] = [];

/** Zeroed memory whose address is known. It is never freed: whoever is done with it hands it on. */
export class NativeMemory {
  /** The memory. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same, as 32-bit words. */
  readonly words: Uint32Array<ArrayBuffer>;
  /** Where it begins in the process. User-space addresses have 47 or 48 bits, so a number holds them. */
  readonly address: number;

  /** @param size A multiple of 4, and at least 64: V8 keeps smaller arrays on its heap, where they move. */
  constructor(size: number) {
    const buffer = new ArrayBuffer(Math.max(size, 128));
    this.bytes = new Uint8Array(buffer);
    this.words = new Uint32Array(buffer);
    this.address = Number(Deno.UnsafePointer.value(Deno.UnsafePointer.of(this.bytes)));
    kept.push(this);
  }

  /** A pointer to `offset`, for a foreign function. Make it once: it is an object. */
  pointer(offset = 0): Deno.PointerObject {
    return Deno.UnsafePointer.create(BigInt(this.address + offset))!;
  }

  /** Writes a 64-bit address at the word `index`. */
  setAddress(index: number, address: number): void {
    this.words[index] = address >>> 0;
    this.words[index + 1] = address / 0x1_0000_0000;
  }
}

/**
 * An array of `struct mmsghdr`, each with a name and control data of its own and, to begin with, one `iovec`.
 * The fields are given as indexes of 32-bit words.
 */
export class MessageHeaders {
  readonly memory: NativeMemory;
  readonly names: NativeMemory;
  readonly iovecs: NativeMemory;
  readonly controls: NativeMemory;
  readonly controlSize: number;
  /** A pointer to each header. */
  readonly pointers: readonly Deno.PointerObject[];

  /** @param controlSize Bytes of control data for each header, a multiple of 8. */
  constructor(count: number, controlSize: number) {
    this.memory = new NativeMemory(count * MMSGHDR_SIZE);
    this.names = new NativeMemory(count * NAME_SIZE);
    this.iovecs = new NativeMemory(count * IOVEC_SIZE);
    this.controls = new NativeMemory(count * controlSize);
    this.controlSize = controlSize;
    for (let i = 0; i < count; i++) {
      const header = i * HEADER_WORDS;
      this.memory.setAddress(header + NAME, this.names.address + i * NAME_SIZE);
      this.memory.setAddress(header + IOV, this.iovecs.address + i * IOVEC_SIZE);
      this.memory.words[header + IOV_LENGTH] = 1;
      this.memory.setAddress(header + CONTROL, this.controls.address + i * controlSize);
    }
    this.pointers = Array.from({ length: count }, (_, i) => this.memory.pointer(i * MMSGHDR_SIZE));
  }
}

/** Words per header, and the fields in it. */
export const HEADER_WORDS: number = MMSGHDR_SIZE / 4;
export const NAME = 0;
export const NAME_LENGTH = 2;
export const IOV = 4;
export const IOV_LENGTH = 6;
export const CONTROL = 8;
export const CONTROL_LENGTH = 10;
export const FLAGS = 12;
export const MESSAGE_LENGTH = 14;
/** Words per `iovec`, and the length in it. */
export const IOVEC_WORDS: number = IOVEC_SIZE / 4;
export const IOVEC_LENGTH = 2;
/** Words per name. */
export const NAME_WORDS: number = NAME_SIZE / 4;
