import type { Random } from "./machine.ts";
import type { Attribute } from "./attribute.ts";
import { FINGERPRINT, MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256 } from "./attributes.ts";
import { padded, readUint16, readUint32 } from "./_bytes.ts";
import { crc32 } from "./_crc32.ts";
import { type IntegrityKey, verifyMessage } from "./integrity.ts";
import { FINGERPRINT_XOR, HEADER_LENGTH, MAGIC_COOKIE, TRANSACTION_ID_LENGTH } from "./_message_format.ts";
import { randomBytes } from "./random.ts";

export { HEADER_LENGTH, MAGIC_COOKIE, TRANSACTION_ID_LENGTH } from "./_message_format.ts";
export { MessageWriter } from "./message_writer.ts";

const UNKNOWN_LIMIT = 64;
const NONE: readonly number[] = [];

/** Methods, by IANA's registry "STUN Methods". */
export const METHOD = {
  /** Asks for the address that the server sees. RFC 8489 §2. */
  BINDING: 0x001,
  /** Asks a TURN server for a relayed address. RFC 8656 §7. */
  ALLOCATE: 0x003,
  /** Prolongs or ends an allocation. RFC 8656 §8. */
  REFRESH: 0x004,
  /** Indication: data from client to peer. RFC 8656 §11. */
  SEND: 0x006,
  /** Indication: data from peer to client. RFC 8656 §11. */
  DATA: 0x007,
  /** Lets peers send through an allocation. RFC 8656 §10. */
  CREATE_PERMISSION: 0x008,
  /** Binds a channel number to a peer. RFC 8656 §12. */
  CHANNEL_BIND: 0x009,
  /** Asks for a TCP connection to a peer. RFC 6062 §4.3. */
  CONNECT: 0x00a,
  /** Makes the connection that it comes by a peer's data connection. RFC 6062 §4.3. */
  CONNECTION_BIND: 0x00b,
  /** Indication: a peer has connected. RFC 6062 §4.4. */
  CONNECTION_ATTEMPT: 0x00c,
} as const;

/** What a message is. */
export type MessageClass = "request" | "indication" | "success" | "error";

const CLASSES: readonly MessageClass[] = ["request", "indication", "success", "error"];

/** What a first byte tells about a datagram (RFC 7983 §7, RFC 8656 §12.4): 0-3 STUN, 64-79 ChannelData. */
export function isStunByte(first: number): boolean {
  return first <= 3;
}

/**
 * A STUN message as a view over its bytes (RFC 8489 §5). Attributes are decoded when asked for.
 *
 * @example Reading a message
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { MessageWriter, METHOD, StunMessage, TransportAddress, XOR_MAPPED_ADDRESS } from "@natkit/natkit/stun";
 *
 * const bytes = new MessageWriter(new Uint8Array(64))
 *   .begin(METHOD.BINDING, "success", new Uint8Array(12))
 *   .add(XOR_MAPPED_ADDRESS, TransportAddress.parse("192.0.2.1:3478"))
 *   .finish();
 * const message = StunMessage.parse(bytes)!;
 * assertEquals(message.class, "success");
 * assertEquals(String(message.get(XOR_MAPPED_ADDRESS)), "192.0.2.1:3478");
 * ```
 */
export class StunMessage {
  /** The whole message. Belongs to whoever called `parse()`. */
  readonly bytes: Uint8Array;
  /** Whether the magic cookie is there; without it the message is one of RFC 3489. */
  readonly hasCookie: boolean;
  // Where the attributes end that count: what follows a MESSAGE-INTEGRITY is ignored (RFC 8489 §14.5).
  readonly #coveredEnd: number;

  private constructor(bytes: Uint8Array, hasCookie: boolean, coveredEnd: number) {
    this.bytes = bytes;
    this.hasCookie = hasCookie;
    this.#coveredEnd = coveredEnd;
  }

  /**
   * Reads a message that fills `bytes` exactly.
   *
   * @param bytes One datagram, or one frame of a stream. Kept, not copied.
   * @param options `classic` also takes messages without the magic cookie (RFC 3489). Default: no.
   * @returns The message, or `undefined` if the bytes are none.
   */
  static parse(bytes: Uint8Array, options?: { classic?: boolean }): StunMessage | undefined {
    const size = bytes.length;
    if (size < HEADER_LENGTH || bytes[0]! > 3 || (size & 3) !== 0) return undefined;
    if (readUint16(bytes, 2) !== size - HEADER_LENGTH) return undefined;
    const hasCookie = readUint32(bytes, 4) === MAGIC_COOKIE;
    if (!hasCookie && options?.classic !== true) return undefined;
    let coveredEnd = size;
    let offset = HEADER_LENGTH;
    while (offset < size) {
      const type = readUint16(bytes, offset);
      if (coveredEnd === size && (type === MESSAGE_INTEGRITY.type || type === MESSAGE_INTEGRITY_SHA256.type)) {
        coveredEnd = offset;
      }
      // Four bytes of header always fit, since both size and offset are multiples of four.
      offset += 4 + padded(readUint16(bytes, offset + 2));
    }
    return offset === size ? new StunMessage(bytes, hasCookie, coveredEnd) : undefined;
  }

  /** The method, one of `METHOD` or another number up to 0xFF. */
  get method(): number {
    const type = readUint16(this.bytes, 0);
    return (type & 0x000f) | ((type & 0x00e0) >> 1) | ((type & 0x3e00) >> 2);
  }

  /** The class. */
  get class(): MessageClass {
    const type = readUint16(this.bytes, 0);
    return CLASSES[((type & 0x0100) >> 7) | ((type & 0x0010) >> 4)]!;
  }

  /** The transaction id, 12 bytes, as a view. */
  get transactionId(): Uint8Array {
    return this.bytes.subarray(8, HEADER_LENGTH);
  }

  /** The transaction id as a map key. */
  get transactionKey(): string {
    return transactionKey(this.bytes, 8);
  }

  /**
   * The value of an attribute.
   *
   * Only the first of its type counts (RFC 8489 §14), and none after MESSAGE-INTEGRITY but MESSAGE-INTEGRITY-SHA256
   * and FINGERPRINT (§14.5).
   *
   * @returns The value, or `undefined` if the attribute is missing or malformed: `has()` tells which.
   */
  get<T>(attribute: Attribute<T>): T | undefined {
    const offset = this.#find(attribute.type);
    if (offset === -1) return undefined;
    return attribute.read(this.bytes, offset + 4, readUint16(this.bytes, offset + 2));
  }

  /** Whether the attribute is there, well-formed or not. */
  has(attribute: Attribute<unknown>): boolean {
    return this.#find(attribute.type) !== -1;
  }

  /** All values of an attribute that may come more than once, as XOR-PEER-ADDRESS (RFC 8656 §10). Malformed ones are `undefined`. */
  getAll<T>(attribute: Attribute<T>): (T | undefined)[] {
    const values: (T | undefined)[] = [];
    for (let offset = HEADER_LENGTH; offset < this.#coveredEnd; offset = this.#after(offset)) {
      if (readUint16(this.bytes, offset) !== attribute.type) continue;
      values.push(attribute.read(this.bytes, offset + 4, readUint16(this.bytes, offset + 2)));
    }
    return values;
  }

  /** The types of the attributes that count, in order. */
  attributeTypes(): number[] {
    const types: number[] = [];
    for (let offset = HEADER_LENGTH; offset < this.#coveredEnd; offset = this.#after(offset)) {
      types.push(readUint16(this.bytes, offset));
    }
    return types;
  }

  /**
   * The comprehension-required attributes (type below 0x8000) that `known` does not name (RFC 8489 §6.3), each once.
   *
   * @returns Their types in order, no more than 64, so that a stranger's request cannot make the answer long.
   */
  unknownRequired(known: ReadonlySet<number>): readonly number[] {
    let unknown: number[] | undefined;
    for (let offset = HEADER_LENGTH; offset < this.#coveredEnd; offset = this.#after(offset)) {
      const type = readUint16(this.bytes, offset);
      if (type >= 0x8000 || known.has(type) || unknown?.includes(type)) continue;
      (unknown ??= []).push(type);
      if (unknown.length === UNKNOWN_LIMIT) break;
    }
    return unknown ?? NONE;
  }

  /** Whether MESSAGE-INTEGRITY or MESSAGE-INTEGRITY-SHA256 is there. */
  get hasIntegrity(): boolean {
    return this.#coveredEnd !== this.bytes.length;
  }

  /**
   * Verifies the message's MESSAGE-INTEGRITY-SHA256 if it has one, else its MESSAGE-INTEGRITY (RFC 8489 §9.1.3, §9.2.4).
   *
   * @returns Whether there is one and it is right. Compared in constant time.
   */
  verifyIntegrity(key: IntegrityKey): boolean {
    const strong = this.#find(MESSAGE_INTEGRITY_SHA256.type);
    if (strong !== -1) return verifyMessage(this.bytes, strong, "sha256", key);
    const weak = this.#find(MESSAGE_INTEGRITY.type);
    return weak !== -1 && verifyMessage(this.bytes, weak, "sha1", key);
  }

  /** Whether there is a FINGERPRINT, it is the last attribute and it is right (RFC 8489 §14.7). */
  verifyFingerprint(): boolean {
    const offset = this.bytes.length - 8;
    if (offset < HEADER_LENGTH || this.#find(FINGERPRINT.type) !== offset) return false;
    if (readUint16(this.bytes, offset + 2) !== 4) return false;
    return readUint32(this.bytes, offset + 4) === ((crc32(this.bytes, 0, offset) ^ FINGERPRINT_XOR) >>> 0);
  }

  #find(wanted: number): number {
    // The integrity attributes and FINGERPRINT are looked for in all of the message, the others only in front of them.
    const isTrailer = wanted === FINGERPRINT.type || wanted === MESSAGE_INTEGRITY.type ||
      wanted === MESSAGE_INTEGRITY_SHA256.type;
    const end = isTrailer ? this.bytes.length : this.#coveredEnd;
    for (let offset = HEADER_LENGTH; offset < end; offset = this.#after(offset)) {
      if (readUint16(this.bytes, offset) === wanted) return offset;
    }
    return -1;
  }

  /** Where the attribute behind the one at `offset` begins. */
  #after(offset: number): number {
    return offset + 4 + padded(readUint16(this.bytes, offset + 2));
  }
}

/** A fresh transaction id: 96 random bits (RFC 8489 §5). */
export function newTransactionId(random: Random): Uint8Array {
  return randomBytes(random, TRANSACTION_ID_LENGTH);
}

/** The transaction id at `bytes[offset...]` as a map key. */
export function transactionKey(bytes: Uint8Array, offset = 0): string {
  return String.fromCharCode(
    readUint16(bytes, offset),
    readUint16(bytes, offset + 2),
    readUint16(bytes, offset + 4),
    readUint16(bytes, offset + 6),
    readUint16(bytes, offset + 8),
    readUint16(bytes, offset + 10),
  );
}
