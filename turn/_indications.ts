// Send and Data indications are data, not control: read in place and written by hand, without objects for message and
// attributes.
import { TransportAddress } from "../stun/address.ts";
import { FINGERPRINT, MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256 } from "../stun/attributes.ts";
import type { Random } from "../stun/machine.ts";
import { HEADER_LENGTH, MAGIC_COOKIE, StunMessage } from "../stun/message.ts";
import { DATA, DONT_FRAGMENT, XOR_PEER_ADDRESS } from "./attributes.ts";

/** Type of a Send indication's first 16 bits. */
export const SEND_INDICATION = 0x0016;
const DATA_INDICATION = 0x0017;
const COOKIE_HIGH = MAGIC_COOKIE >>> 16;

/** A Send indication (RFC 8656 §11.2), read into the same object each time. */
export class SendIndication {
  /** The peer's IP version. */
  family: 4 | 6 = 4;
  /** The peer's IP address in the first 4 or all 16 bytes. */
  readonly ip: Uint8Array = new Uint8Array(16);
  /** The peer's port. */
  port = 0;
  /** IP address and port in 30 bits: a number that costs no memory. */
  hash = 0;
  /** Whether it has DONT-FRAGMENT. */
  dontFragment = false;
  /** Where the data begins. */
  dataOffset = 0;
  /** How long it is. */
  dataLength = 0;

  /**
   * Reads the indication at `buffer[offset, offset + length)`, whose type is known.
   *
   * @param known The comprehension-required attributes that may be ignored.
   * @returns Whether it is well-formed.
   */
  read(buffer: Uint8Array, offset: number, length: number, known: ReadonlySet<number>): boolean {
    if (!hasHeader(buffer, offset, length)) return false;
    const end = offset + length;
    let peerAt = -1;
    this.dataOffset = -1;
    this.dontFragment = false;
    let isCovered = true;
    for (let at = offset + HEADER_LENGTH; at < end;) {
      const type = readUint16(buffer, at);
      const size = readUint16(buffer, at + 2);
      const next = at + 4 + ((size + 3) & ~3);
      if (next > end) return false;
      if (type === FINGERPRINT.type) {
        return this.#isRight(buffer, offset, length) && this.#complete(buffer, offset, peerAt);
      }
      if (isCovered && type === XOR_PEER_ADDRESS.type && peerAt === -1) peerAt = at;
      else if (isCovered && type === DATA.type && this.dataOffset === -1) {
        this.dataOffset = at + 4;
        this.dataLength = size;
      } else if (type === MESSAGE_INTEGRITY.type || type === MESSAGE_INTEGRITY_SHA256.type) isCovered = false;
      else if (isCovered && type < 0x8000) {
        if (!known.has(type)) return false;
        if (type === DONT_FRAGMENT.type) this.dontFragment = true;
      }
      at = next;
    }
    return this.#complete(buffer, offset, peerAt);
  }

  /** The peer as an address object. */
  toPeer(): TransportAddress {
    return new TransportAddress(this.ip.slice(0, this.family === 4 ? 4 : 16), this.port);
  }

  /** Whether the address is the peer. */
  isPeer(address: TransportAddress): boolean {
    if (address.family !== this.family || address.port !== this.port) return false;
    const { bytes } = address;
    for (let i = 0; i < bytes.length; i++) if (bytes[i] !== this.ip[i]) return false;
    return true;
  }

  #isRight(buffer: Uint8Array, offset: number, length: number): boolean {
    return StunMessage.parse(buffer.subarray(offset, offset + length))?.verifyFingerprint() ?? false;
  }

  #complete(buffer: Uint8Array, offset: number, peerAt: number): boolean {
    if (peerAt === -1 || this.dataOffset === -1) return false;
    const size = readUint16(buffer, peerAt + 2);
    this.family = size === 20 ? 6 : 4;
    if (buffer[peerAt + 5] !== (size === 20 ? 2 : 1) || (size !== 20 && size !== 8)) return false;
    this.port = readUint16(buffer, peerAt + 6) ^ COOKIE_HIGH;
    let hash = this.port;
    for (let i = 0; i < size - 4; i++) {
      const byte = buffer[peerAt + 8 + i]! ^ buffer[offset + 4 + i]!;
      this.ip[i] = byte;
      hash = Math.imul(hash ^ byte, 0x01000193);
    }
    this.hash = hash >>> 2;
    // There is no sending to port 0.
    return this.port !== 0;
  }
}

/** How many bytes a Data indication has (RFC 8656 §11.3), its padding too. */
export function dataIndicationLength(peer: TransportAddress, dataLength: number): number {
  return HEADER_LENGTH + 8 + peer.bytes.length + 4 + ((dataLength + 3) & ~3);
}

/** Random transaction ids, drawn from the host many at a time. */
export class TransactionIds {
  #pool = new Uint8Array(12 * 64);
  #at = this.#pool.length;

  /** Writes one to `bytes[offset...]`. */
  write(bytes: Uint8Array, offset: number, random: Random): void {
    if (this.#at === this.#pool.length) {
      random.fill(this.#pool);
      this.#at = 0;
    }
    for (let i = 0; i < 12; i++) bytes[offset + i] = this.#pool[this.#at + i]!;
    this.#at += 12;
  }
}

/** Writes a Data indication to all of `out`, whose transaction id is already there. */
export function writeDataIndication(out: Uint8Array, peer: TransportAddress, data: Uint8Array): void {
  const ip = peer.bytes;
  writeUint16(out, 0, DATA_INDICATION);
  writeUint16(out, 2, out.length - HEADER_LENGTH);
  writeUint16(out, 4, COOKIE_HIGH);
  writeUint16(out, 6, MAGIC_COOKIE & 0xffff);
  writeUint16(out, 20, XOR_PEER_ADDRESS.type);
  writeUint16(out, 22, 4 + ip.length);
  writeUint16(out, 24, ip.length === 4 ? 1 : 2);
  writeUint16(out, 26, peer.port ^ COOKIE_HIGH);
  for (let i = 0; i < ip.length; i++) out[28 + i] = ip[i]! ^ out[4 + i]!;
  const at = 28 + ip.length;
  writeUint16(out, at, DATA.type);
  writeUint16(out, at + 2, data.length);
  out.set(data, at + 4);
  // Memory is reused: what is left of somebody else's data must not go out as padding.
  for (let i = at + 4 + data.length; i < out.length; i++) out[i] = 0;
}

function hasHeader(buffer: Uint8Array, offset: number, length: number): boolean {
  return length >= HEADER_LENGTH && (length & 3) === 0 && readUint16(buffer, offset + 2) === length - HEADER_LENGTH &&
    readUint16(buffer, offset + 4) === COOKIE_HIGH && readUint16(buffer, offset + 6) === (MAGIC_COOKIE & 0xffff);
}

function readUint16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 8) | bytes[offset + 1]!;
}

function writeUint16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >> 8;
  bytes[offset + 1] = value;
}
