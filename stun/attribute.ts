import { TransportAddress } from "./address.ts";
import { readUint16, readUint32 } from "./_bytes.ts";
import type { MessageWriter } from "./message.ts";

/**
 * An attribute: its number, its name and how its value is read and written. TURN and ICE define theirs in the same way.
 *
 * `read` is given the whole message and where in it the value lies, without padding; it returns `undefined` for a value
 * that is malformed. `write` appends the value to the writer and throws a `RangeError` for a value that has no wire form.
 */
export interface Attribute<T> {
  /** The number in IANA's registry "STUN Attributes". Below 0x8000 comprehension is required. */
  readonly type: number;
  /** The name in that registry. */
  readonly name: string;
  /** Decodes a value. */
  read(bytes: Uint8Array, offset: number, length: number): T | undefined;
  /** Encodes a value. */
  write(writer: MessageWriter, value: T): void;
}

const encoder = new TextEncoder();
// Up to here, text is tried as ASCII first. Below any attribute's limit.
const LONGEST_FAST_TEXT = 127;
// A byte order mark is a character of the text like any other: a user name with one is another user name.
const strictDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lenientDecoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** How long the text of an attribute may be. The defaults are those of REALM, NONCE and SOFTWARE (RFC 8489 §14.9). */
export interface TextLimits {
  /** Bytes to write at most. Default: 509. */
  readonly maxBytes?: number;
  /** Characters (code points) to write at most. Default: 127. */
  readonly maxCharacters?: number;
  /** Bytes to read at most. Default: 763, since RFC 5389 counted six bytes a character. */
  readonly maxBytesRead?: number;
}

/** An attribute that holds UTF-8 text. Text that is not UTF-8 or too long is malformed. */
export function textAttribute(type: number, name: string, limits: TextLimits = {}): Attribute<string> {
  const { maxBytes = 509, maxCharacters = 127, maxBytesRead = 763 } = limits;
  return {
    type,
    name,
    read(bytes, offset, length) {
      if (length > maxBytesRead) return undefined;
      try {
        return readText(bytes, offset, length, strictDecoder);
      } catch {
        return undefined;
      }
    },
    write(writer, value) {
      writeText(writer, name, value, maxBytes, maxCharacters);
    },
  };
}

/** An attribute that holds bytes, `minBytes` to `maxBytes` of them. Read as a view of the message. */
export function bytesAttribute(type: number, name: string, minBytes = 0, maxBytes = 65535): Attribute<Uint8Array> {
  return {
    type,
    name,
    read(bytes, offset, length) {
      return length < minBytes || length > maxBytes ? undefined : bytes.subarray(offset, offset + length);
    },
    write(writer, value) {
      if (value.length < minBytes || value.length > maxBytes) {
        throw new RangeError(
          `Cannot write ${name} as it must have ${minBytes} to ${maxBytes} bytes: current length is ${value.length}`,
        );
      }
      writer.writeBytes(value);
    },
  };
}

/** An attribute that holds a 32-bit number. */
export function uint32Attribute(type: number, name: string): Attribute<number> {
  return {
    type,
    name,
    read(bytes, offset, length) {
      return length === 4 ? readUint32(bytes, offset) : undefined;
    },
    write(writer, value) {
      checkInteger(name, value, 0, 0xffffffff);
      writer.writeUint32(value);
    },
  };
}

/** An attribute that holds a 64-bit number. */
export function uint64Attribute(type: number, name: string): Attribute<bigint> {
  return {
    type,
    name,
    read(bytes, offset, length) {
      if (length !== 8) return undefined;
      return (BigInt(readUint32(bytes, offset)) << 32n) | BigInt(readUint32(bytes, offset + 4));
    },
    write(writer, value) {
      if (BigInt.asUintN(64, value) !== value) {
        throw new RangeError(`Cannot write ${name} as it must be in 0 to 2^64-1: current value is ${value}`);
      }
      writer.writeUint32(Number(value >> 32n));
      writer.writeUint32(Number(value & 0xffffffffn));
    },
  };
}

/** An attribute that is there or not, with no value. Read as `true`. */
export function flagAttribute(type: number, name: string): Attribute<true> {
  return { type, name, read: (_bytes, _offset, length) => length === 0 ? true : undefined, write() {} };
}

/** An attribute that holds a transport address as it is (RFC 8489 §14.1). */
export function addressAttribute(type: number, name: string): Attribute<TransportAddress> {
  return {
    type,
    name,
    read(bytes, offset, length) {
      return readAddress(bytes, offset, length, undefined);
    },
    write(writer, value) {
      writer.writeUint16(value.family === 4 ? 1 : 2);
      writer.writeUint16(value.port);
      writer.writeBytes(value.bytes);
    },
  };
}

/** An attribute that holds a transport address XORed with cookie and transaction id (RFC 8489 §14.2). */
export function xorAddressAttribute(type: number, name: string): Attribute<TransportAddress> {
  return {
    type,
    name,
    read(bytes, offset, length) {
      return readAddress(bytes, offset, length, bytes);
    },
    write(writer, value) {
      writer.writeUint16(value.family === 4 ? 1 : 2);
      writer.writeUint16(value.port ^ 0x2112);
      for (let i = 0; i < value.bytes.length; i++) writer.writeUint8(value.bytes[i]! ^ writer.bytes[4 + i]!);
    },
  };
}

/** @param header The message whose bytes 4 to 19 the address is XORed with; `undefined` for an address as it is. */
function readAddress(
  bytes: Uint8Array,
  offset: number,
  length: number,
  header: Uint8Array | undefined,
): TransportAddress | undefined {
  const size = bytes[offset + 1] === 1 ? 4 : bytes[offset + 1] === 2 ? 16 : 0;
  if (length < 4 || size === 0 || length !== 4 + size) return undefined;
  const port = readUint16(bytes, offset + 2);
  const ip = bytes.slice(offset + 4, offset + 4 + size);
  if (header === undefined) return new TransportAddress(ip, port);
  for (let i = 0; i < size; i++) ip[i] = ip[i]! ^ header[4 + i]!;
  return new TransportAddress(ip, port ^ 0x2112);
}

/** A STUN error: a code of 300 to 699 and a reason for people. */
export interface ErrorCode {
  /** 300 to 699. */
  readonly code: number;
  /** Up to 127 characters; may be empty. */
  readonly reason: string;
}

/**
 * For attribute codecs: reads the value of ERROR-CODE, whose layout ADDRESS-ERROR-CODE shares.
 *
 * @returns `undefined` if there is no code of 300 to 699. The reason is for people, so in it anything goes.
 */
export function readErrorCode(bytes: Uint8Array, offset: number, length: number): ErrorCode | undefined {
  if (length < 4) return undefined;
  const hundreds = bytes[offset + 2]! & 7;
  const rest = bytes[offset + 3]!;
  if (hundreds < 3 || hundreds > 6 || rest > 99) return undefined;
  return { code: hundreds * 100 + rest, reason: readText(bytes, offset + 4, length - 4, lenientDecoder) };
}

/**
 * For attribute codecs: writes what follows the first 16 bits of ERROR-CODE and ADDRESS-ERROR-CODE.
 *
 * @throws {RangeError} If the code is not in 300 to 699, or the reason has more than 127 characters.
 */
export function writeErrorCode(writer: MessageWriter, code: number, reason: string): void {
  checkInteger("ERROR-CODE", code, 300, 699);
  writer.writeUint8(Math.floor(code / 100));
  writer.writeUint8(code % 100);
  writeText(writer, "ERROR-CODE's reason", reason, 509, 127);
}

/** For attribute codecs: throws a `RangeError` unless `value` is an integer from `min` to `max`. */
export function checkInteger(name: string, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new RangeError(`Cannot write ${name} as it must be in ${min} to ${max}: current value is ${value}`);
}

function readText(bytes: Uint8Array, offset: number, length: number, decoder: TextDecoder): string {
  // Names and nonces are short and nearly always ASCII, where this is several times as fast as the decoder.
  const ascii = length > LONGEST_FAST_TEXT ? undefined : readAscii(bytes, offset, offset + length);
  return ascii ?? decoder.decode(bytes.subarray(offset, offset + length));
}

/** The text of `bytes[start, end)`, or `undefined` if not all of it is ASCII. Eight characters at a time: twice as fast. */
function readAscii(bytes: Uint8Array, start: number, end: number): string | undefined {
  let text = "";
  let seen = 0;
  let i = start;
  for (; i + 8 <= end; i += 8) {
    const [a, b, c, d] = [bytes[i]!, bytes[i + 1]!, bytes[i + 2]!, bytes[i + 3]!];
    const [e, f, g, h] = [bytes[i + 4]!, bytes[i + 5]!, bytes[i + 6]!, bytes[i + 7]!];
    seen |= a | b | c | d | e | f | g | h;
    text += String.fromCharCode(a, b, c, d, e, f, g, h);
  }
  for (; i < end; i++) {
    seen |= bytes[i]!;
    text += String.fromCharCode(bytes[i]!);
  }
  return seen > 0x7f ? undefined : text;
}

function writeText(writer: MessageWriter, name: string, text: string, maxBytes: number, maxCharacters: number): void {
  if (text.length <= LONGEST_FAST_TEXT && writer.writeAscii(text)) return;
  const encoded = encoder.encode(text);
  // There are at most as many characters as bytes.
  if (encoded.length > maxBytes || (encoded.length > maxCharacters && [...text].length > maxCharacters)) {
    throw new RangeError(
      `Cannot write ${name} as it may have ${maxBytes} bytes and ${maxCharacters} characters: ` +
        `current length is ${encoded.length} bytes`,
    );
  }
  writer.writeBytes(encoded);
}
