import { HEADER_LENGTH, MAGIC_COOKIE } from "./message.ts";

/** The largest frame in bytes: a STUN message whose length field is at its largest (ChannelData's largest is 65,540). */
export const MAX_FRAME = 65552;
/** How many bytes RFC 4571's length has. */
export const LENGTH_PREFIX = 2;
// A check is much smaller.
const MAX_FIRST = 2048;
// Most messages are smaller; more is taken only as more arrives.
const FIRST_BUFFER = 512;
const EMPTY = new Uint8Array(0);

/**
 * Whether a first byte can begin a frame, by its first two bits: 00 STUN, whose types begin with 0 to 3, and 01
 * ChannelData (RFC 8656 §12.5). Channels beyond 0x4FFF are frames too, as RFC 5766 had them: the machine drops them.
 */
function isFrameByte(first: number): boolean {
  return first <= 3 || (first & 0xc0) === 0x40;
}

/**
 * How many bytes follow a frame on a stream so that the next begins at a multiple of four: ChannelData is padded, and its
 * length does not say so (RFC 8656 §12.5); a STUN message never needs it.
 *
 * @param length The frame's length without padding.
 */
export function framePadding(length: number): number {
  return -length & 3;
}

/** How one kind of stream is cut: where a frame ends, and where in it the packet lies. */
interface Cut {
  /**
   * The size of the frame at `offset` with prefix and padding, of which `have` bytes are there; 0 if that can not be told
   * yet, -1 if it is no frame.
   *
   * @param isFirst Whether no frame came before.
   */
  frameSize(bytes: Uint8Array, offset: number, have: number, isFirst: boolean): number;
  /** How many bytes of a frame must be there to know its size. */
  sizeKnownAt(bytes: Uint8Array, kept: number, isFirst: boolean): number;
  /** How many bytes come before the packet. */
  readonly prefix: number;
  /** The packet's length. */
  packetLength(bytes: Uint8Array, offset: number): number;
}

/**
 * Cuts the bytes of a TCP or TLS connection into STUN and ChannelData messages (RFC 8489 §6.2.2, RFC 8656 §12.5), or
 * into packets that each have their length in front (RFC 4571), as ICE has them over TCP.
 *
 * Pure and incremental: any cutting of the same bytes gives the same frames. A frame that arrived in one piece is a view
 * of that piece, without copy and without headroom; what is cut through is put together in memory of the framer's own, at
 * most one frame and never more than twice what really arrived.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { MessageWriter, METHOD, StreamFramer } from "@natkit/natkit/stun";
 *
 * const request = new MessageWriter(new Uint8Array(20)).begin(METHOD.BINDING, "request", new Uint8Array(12)).finish();
 * const framer = new StreamFramer();
 * framer.push(request.subarray(0, 7));
 * assertEquals(framer.next(), false);
 * framer.push(request.subarray(7));
 * assertEquals(framer.next(), true);
 * assertEquals(framer.buffer.subarray(framer.offset, framer.offset + framer.length), request);
 * ```
 */
export class StreamFramer {
  /** The memory that the current frame lies in, good until the next `push()`. */
  buffer: Uint8Array = EMPTY;
  /** Where in `buffer` it begins. */
  offset = 0;
  /** How many bytes it has, without padding. */
  length = 0;
  /** How many frames were given so far. */
  frames = 0;
  /** Whether something arrived that is no frame. There is no way back: the connection is to be closed. */
  isMalformed = false;
  #chunk: Uint8Array = EMPTY;
  #at = 0;
  #end = 0;
  // The frame that is being put together. Two memories in turn: the one that a finished frame lies in is left alone.
  #partial: Uint8Array = EMPTY;
  #other: Uint8Array = EMPTY;
  #kept = 0;
  #cut: Cut;

  /**
   * A framer that has got nothing yet.
   *
   * @param framing What the frames are. Default: `"stun"`.
   */
  constructor(framing: "stun" | "rfc4571" = "stun") {
    this.#cut = framing === "stun" ? STUN_CUT : LENGTH_CUT;
  }

  /** How many bytes of an unfinished frame are kept. */
  get buffered(): number {
    return this.#kept;
  }

  /**
   * Takes in what arrived. Call `next()` until it is false before the next `push()`.
   *
   * @param bytes Must stay as it is until then.
   * @param offset Where it begins. Default: 0.
   * @param length How long it is. Default: up to the end of `bytes`.
   */
  push(bytes: Uint8Array, offset = 0, length: number = bytes.length - offset): void {
    this.#chunk = bytes;
    this.#at = offset;
    this.#end = offset + length;
  }

  /** Finds the next frame. Gives whether there is one; without one, what is left has been copied and waits for more. */
  next(): boolean {
    // RFC 4571 §2: a packet without a byte is ignored.
    while (this.#cutNext()) if (this.length !== 0) return true;
    return false;
  }

  /** What arrived and is in no frame yet, as a copy; the framer forgets it. For when the rest of a stream is not frames. */
  takeRest(): Uint8Array {
    const rest = new Uint8Array(this.#kept + this.#end - this.#at);
    rest.set(this.#partial.subarray(0, this.#kept));
    rest.set(this.#chunk.subarray(this.#at, this.#end), this.#kept);
    this.#kept = 0;
    this.#at = this.#end;
    return rest;
  }

  #cutNext(): boolean {
    if (this.isMalformed) return false;
    if (this.#kept !== 0) return this.#finishPartial();
    const have = this.#end - this.#at;
    const size = this.#cut.frameSize(this.#chunk, this.#at, have, this.frames === 0);
    if (size > have || size === 0) return this.#keep(have);
    if (size === -1) return this.#fail();
    const start = this.#at;
    this.#at += size;
    return this.#give(this.#chunk, start);
  }

  /** Continues the frame that is kept, taking no more than its own bytes. */
  #finishPartial(): boolean {
    for (;;) {
      const isFirst = this.frames === 0;
      const size = this.#cut.frameSize(this.#partial, 0, this.#kept, isFirst);
      if (size === -1) return this.#fail();
      if (size !== 0 && size <= this.#kept) break;
      // As long as the size is not known, more is taken up to what tells it, and no further.
      const wanted = (size === 0 ? this.#cut.sizeKnownAt(this.#partial, this.#kept, isFirst) : size) - this.#kept;
      const taken = Math.min(wanted, this.#end - this.#at);
      if (taken === 0) return false;
      this.#append(taken);
    }
    const whole = this.#partial;
    this.#partial = this.#other;
    this.#other = whole.length <= FIRST_BUFFER ? whole : EMPTY;
    this.#kept = 0;
    return this.#give(whole, 0);
  }

  #keep(count: number): boolean {
    if (count !== 0) this.#append(count);
    return false;
  }

  #append(count: number): void {
    const need = this.#kept + count;
    if (need > this.#partial.length) {
      const larger = new Uint8Array(Math.max(FIRST_BUFFER, Math.min(MAX_FRAME, 2 * need)));
      larger.set(this.#partial.subarray(0, this.#kept));
      this.#partial = larger;
    }
    this.#partial.set(this.#chunk.subarray(this.#at, this.#at + count), this.#kept);
    this.#kept = need;
    this.#at += count;
  }

  #give(buffer: Uint8Array, offset: number): true {
    this.buffer = buffer;
    this.offset = offset + this.#cut.prefix;
    this.length = this.#cut.packetLength(buffer, offset);
    if (this.length !== 0) this.frames++;
    return true;
  }

  #fail(): false {
    this.isMalformed = true;
    this.#partial = this.#other = this.#chunk = EMPTY;
    this.#at = this.#end = this.#kept = 0;
    return false;
  }
}

/** STUN and ChannelData, which tell their length themselves. */
const STUN_CUT: Cut = {
  prefix: 0,
  packetLength(bytes, offset) {
    const field = (bytes[offset + 2]! << 8) | bytes[offset + 3]!;
    return field + (bytes[offset]! <= 3 ? HEADER_LENGTH : 4);
  },
  // To check a STUN message, its cookie is looked at too.
  sizeKnownAt: (bytes, kept) => kept !== 0 && bytes[0]! <= 3 ? 8 : 4,
  // ChannelData can not be first: a channel is bound by a STUN message that came over the same connection (RFC 8656 §12).
  // So an HTTP request, whose `G` is in ChannelData's range, is told at once.
  frameSize(bytes, offset, have, isFirst) {
    if (have === 0) return 0;
    const first = bytes[offset]!;
    if (!isFrameByte(first) || (isFirst && first > 3)) return -1;
    if (have < 4) return 0;
    const field = (bytes[offset + 2]! << 8) | bytes[offset + 3]!;
    if (first > 3) return (field + 4 + 3) & ~3;
    if ((field & 3) !== 0) return -1;
    if (have < 8) return 0;
    // Streams came with RFC 5389, so there is no message without the magic cookie.
    return hasCookie(bytes, offset) ? HEADER_LENGTH + field : -1;
  },
};

/** Two bytes of length before each packet (RFC 4571 §2). */
const LENGTH_CUT: Cut = {
  prefix: LENGTH_PREFIX,
  packetLength: (bytes, offset) => (bytes[offset]! << 8) | bytes[offset + 1]!,
  sizeKnownAt: (_bytes, kept, isFirst) => isFirst && kept >= LENGTH_PREFIX ? LENGTH_PREFIX + 8 : LENGTH_PREFIX,
  // Whoever connects shows first that it speaks STUN (RFC 6544 §7): anybody may connect, and nobody else shall make us wait
  // for 64 KiB.
  frameSize(bytes, offset, have, isFirst) {
    if (have < LENGTH_PREFIX) return 0;
    const length = (bytes[offset]! << 8) | bytes[offset + 1]!;
    if (!isFirst || length === 0) return LENGTH_PREFIX + length;
    if (length < HEADER_LENGTH || length > MAX_FIRST) return -1;
    if (have > LENGTH_PREFIX && bytes[offset + LENGTH_PREFIX]! > 3) return -1;
    if (have < LENGTH_PREFIX + 8) return 0;
    return hasCookie(bytes, offset + LENGTH_PREFIX) ? LENGTH_PREFIX + length : -1;
  },
};

function hasCookie(bytes: Uint8Array, offset: number): boolean {
  return ((bytes[offset + 4]! << 24) | (bytes[offset + 5]! << 16) | (bytes[offset + 6]! << 8) | bytes[offset + 7]!) >>>
      0 === MAGIC_COOKIE;
}
