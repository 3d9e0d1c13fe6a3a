import type { Attribute } from "./attribute.ts";
import { FINGERPRINT, MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256 } from "./attributes.ts";
import { crc32 } from "./_crc32.ts";
import { type IntegrityKey, signMessage } from "./integrity.ts";
import type { MessageClass, StunMessage } from "./message.ts";
import { FINGERPRINT_XOR, HEADER_LENGTH, MAGIC_COOKIE, TRANSACTION_ID_LENGTH } from "./_message_format.ts";

const CLASS_BITS: Readonly<Record<MessageClass, number>> = {
  request: 0,
  indication: 0x010,
  success: 0x100,
  error: 0x110,
};

/**
 * Writes a message into memory of the caller's: no garbage beyond that.
 *
 * The order is the wire's: `begin`, `add`..., `addIntegrity`, `addFingerprint`, `finish`. Throws a `RangeError` when the
 * memory is too small.
 */
export class MessageWriter {
  #bytes: Uint8Array;
  #end = 0;

  /** A writer into this memory, from its beginning. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /**
   * Starts a message.
   *
   * @param method One of `METHOD` or another number up to 0xFF: greater ones would look like DTLS (RFC 7983 §4).
   * @param transactionId 12 bytes, or 16 for the reply to a message without the magic cookie (RFC 3489).
   */
  begin(method: number, messageClass: MessageClass, transactionId: Uint8Array): this {
    const idLength = transactionId.length;
    if (method < 0 || method > 0xff || (idLength !== TRANSACTION_ID_LENGTH && idLength !== 16)) {
      throw new RangeError(
        `Cannot begin STUN message as method must be in 0 to 0xFF and transaction id must have 12 bytes: ` +
          `current values are ${method} and ${idLength} bytes`,
      );
    }
    const type = (method & 0x000f) | ((method & 0x0070) << 1) | ((method & 0x0f80) << 2) | CLASS_BITS[messageClass];
    this.#end = 0;
    this.writeUint16(type);
    this.writeUint16(0);
    if (idLength === TRANSACTION_ID_LENGTH) this.writeUint32(MAGIC_COOKIE);
    this.writeBytes(transactionId);
    return this;
  }

  /** The method of the message. */
  get method(): number {
    const type = (this.#bytes[0]! << 8) | this.#bytes[1]!;
    return (type & 0x000f) | ((type & 0x00e0) >> 1) | ((type & 0x3e00) >> 2);
  }

  /** Starts the answer to a request: same method and transaction id. */
  beginResponse(request: StunMessage, messageClass: "success" | "error"): this {
    return this.begin(request.method, messageClass, request.bytes.subarray(request.hasCookie ? 8 : 4, HEADER_LENGTH));
  }

  /** Adds an attribute, padded with zeros. */
  add<T>(attribute: Attribute<T>, value: T): this {
    this.writeUint16(attribute.type);
    this.writeUint16(0);
    const start = this.#end;
    attribute.write(this, value);
    const length = this.#end - start;
    if (length > 0xffff) throw tooLong(attribute.name, length);
    this.#bytes[start - 2] = length >> 8;
    this.#bytes[start - 1] = length & 0xff;
    while ((this.#end & 3) !== 0) this.writeUint8(0);
    this.#setLength(this.#end - HEADER_LENGTH);
    return this;
  }

  /** Adds MESSAGE-INTEGRITY, or MESSAGE-INTEGRITY-SHA256 with all its 32 bytes for `"sha256"`. */
  addIntegrity(key: IntegrityKey, hash: "sha1" | "sha256" = "sha1"): this {
    const start = this.#end;
    this.writeUint16(hash === "sha1" ? MESSAGE_INTEGRITY.type : MESSAGE_INTEGRITY_SHA256.type);
    const length = hash === "sha1" ? 20 : 32;
    this.writeUint16(length);
    this.#reserve(length);
    this.#end += length;
    this.#setLength(this.#end - HEADER_LENGTH);
    signMessage(this.#bytes, start, hash, key);
    return this;
  }

  /** Adds FINGERPRINT (RFC 8489 §14.7). Nothing may follow it. */
  addFingerprint(): this {
    const end = this.#end;
    this.#setLength(end + 8 - HEADER_LENGTH);
    const value = (crc32(this.#bytes, 0, end) ^ FINGERPRINT_XOR) >>> 0;
    this.writeUint16(FINGERPRINT.type);
    this.writeUint16(4);
    this.writeUint32(value);
    return this;
  }

  /** The finished message: a view of the writer's memory. */
  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#end);
  }

  /** For attribute codecs: the message so far, to read its transaction id from. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /** For attribute codecs: appends a byte. */
  writeUint8(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#end++] = value;
  }

  /** For attribute codecs: appends 2 bytes in network order. */
  writeUint16(value: number): void {
    this.#reserve(2);
    this.#bytes[this.#end++] = value >> 8;
    this.#bytes[this.#end++] = value & 0xff;
  }

  /** For attribute codecs: appends 4 bytes in network order. */
  writeUint32(value: number): void {
    this.writeUint16(value >>> 16);
    this.writeUint16(value & 0xffff);
  }

  /** For attribute codecs: appends bytes. */
  writeBytes(bytes: Uint8Array, offset = 0, length: number = bytes.length - offset): void {
    this.#reserve(length);
    if (offset === 0 && length === bytes.length) this.#bytes.set(bytes, this.#end);
    else for (let i = 0; i < length; i++) this.#bytes[this.#end + i] = bytes[offset + i]!;
    this.#end += length;
  }

  /** For attribute codecs: appends text if all of it is ASCII. Else it appends nothing and gives `false`. */
  writeAscii(text: string): boolean {
    this.#reserve(text.length);
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code > 0x7f) return false;
      this.#bytes[this.#end + i] = code;
    }
    this.#end += text.length;
    return true;
  }

  #reserve(count: number): void {
    if (this.#end + count > this.#bytes.length) {
      throw new RangeError(
        `Cannot write STUN message as its memory is too small: current size is ${this.#bytes.length}`,
      );
    }
  }

  #setLength(length: number): void {
    if (length > 0xffff) throw tooLong("message", length);
    this.#bytes[2] = length >> 8;
    this.#bytes[3] = length & 0xff;
  }
}

function tooLong(what: string, length: number): RangeError {
  return new RangeError(`Cannot write STUN ${what} as its length must fit 16 bits: current value is ${length}`);
}
