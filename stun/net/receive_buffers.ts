import { HEADROOM, RECEIVE_SIZE } from "./transport.ts";

// Large enough that the system gives it page by page, as it is written to: a socket then takes the pages that its longest
// datagram so far has reached, not 64 KiB.
const SLOTS_PER_SLAB = 16;
// A whole number of pages, so that no two slots share one.
const SLOT_SIZE = 65536;

interface Slab {
  readonly buffer: ArrayBuffer;
  /** The places that are free. */
  readonly free: number[];
}

/** Room for the largest datagram, and headroom, for each of any number of sockets. */
export class ReceiveBuffers {
  // Those with a free place.
  #slabs: Slab[] = [];
  #owners = new WeakMap<ArrayBufferLike, Slab>();

  /** How many slabs there are with a free place: none or one when nothing is taken. */
  get spares(): number {
    return this.#slabs.length;
  }

  /** Takes a buffer, with unspecified contents. */
  take(): Uint8Array<ArrayBuffer> {
    let slab = this.#slabs.at(-1);
    if (slab === undefined) {
      slab = { buffer: new ArrayBuffer(SLOTS_PER_SLAB * SLOT_SIZE), free: [...Array(SLOTS_PER_SLAB).keys()] };
      this.#owners.set(slab.buffer, slab);
      this.#slabs.push(slab);
    }
    const place = slab.free.pop()!;
    if (slab.free.length === 0) this.#slabs.pop();
    return new Uint8Array(slab.buffer, place * SLOT_SIZE, HEADROOM + RECEIVE_SIZE);
  }

  /** Gives one back that nobody uses any more. */
  give(buffer: Uint8Array): void {
    const slab = this.#owners.get(buffer.buffer)!;
    slab.free.push(buffer.byteOffset / SLOT_SIZE);
    if (slab.free.length === 1) this.#slabs.push(slab);
    // One may stay for the next socket.
    if (slab.free.length === SLOTS_PER_SLAB && this.#slabs.length > 1) {
      this.#slabs.splice(this.#slabs.indexOf(slab), 1);
    }
  }
}
