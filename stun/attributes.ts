import { TransportAddress } from "./address.ts";
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

const decoder = new TextDecoder("utf-8", { fatal: true });
const encoder = new TextEncoder();

/** An attribute that holds UTF-8 text of at most `maxBytes` bytes. */
export function textAttribute(type: number, name: string, maxBytes: number): Attribute<string> {
  return {
    type,
    name,
    read(bytes, offset, length) {
      if (length > maxBytes) return undefined;
      try {
        return decoder.decode(bytes.subarray(offset, offset + length));
      } catch {
        return undefined;
      }
    },
    write(writer, value) {
      const encoded = encoder.encode(value);
      if (encoded.length > maxBytes) {
        throw new RangeError(
          `Cannot write ${name} as it may have ${maxBytes} bytes: current length is ${encoded.length}`,
        );
      }
      writer.writeBytes(encoded);
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
      writer.writeUint32(Number((value >> 32n) & 0xffffffffn));
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
  const port = (bytes[offset + 2]! << 8) | bytes[offset + 3]!;
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

/** An entry of PASSWORD-ALGORITHMS (RFC 8489 §14.11). */
export interface PasswordAlgorithmEntry {
  /** 1 is MD5, 2 is SHA-256 (IANA's "STUN Password Algorithms"); others may come. */
  readonly algorithm: number;
  /** What the algorithm needs; empty for MD5 and SHA-256. */
  readonly parameters: Uint8Array;
}

/** IANA's numbers for password algorithms. */
export const PASSWORD_ALGORITHM_NUMBER = { "MD5": 1, "SHA-256": 2 } as const;

// RFC 8489, comprehension-required.

/** The address the server saw, for RFC 3489 clients. RFC 8489 §14.1. */
export const MAPPED_ADDRESS: Attribute<TransportAddress> = addressAttribute(0x0001, "MAPPED-ADDRESS");
/** RFC 8489 §14.3. */
export const USERNAME: Attribute<string> = textAttribute(0x0006, "USERNAME", 508);
/** HMAC-SHA1 over the message so far: use `verifyIntegrity()`. RFC 8489 §14.5. */
export const MESSAGE_INTEGRITY: Attribute<Uint8Array> = bytesAttribute(0x0008, "MESSAGE-INTEGRITY", 20, 20);
/** RFC 8489 §14.8. */
export const ERROR_CODE_ATTRIBUTE: Attribute<ErrorCode> = {
  type: 0x0009,
  name: "ERROR-CODE",
  read(bytes, offset, length) {
    if (length < 4) return undefined;
    const hundreds = bytes[offset + 2]! & 7;
    const rest = bytes[offset + 3]!;
    if (hundreds < 3 || hundreds > 6 || rest > 99) return undefined;
    const reason = new TextDecoder().decode(bytes.subarray(offset + 4, offset + length));
    return { code: hundreds * 100 + rest, reason };
  },
  write(writer, { code, reason }) {
    if (!Number.isInteger(code) || code < 300 || code > 699) {
      throw new RangeError(`Cannot write ERROR-CODE as it must be in 300 to 699: current value is ${code}`);
    }
    writer.writeUint16(0);
    writer.writeUint8(Math.floor(code / 100));
    writer.writeUint8(code % 100);
    writer.writeBytes(encoder.encode(reason));
  },
};
/** RFC 8489 §14.13. */
export const UNKNOWN_ATTRIBUTES: Attribute<readonly number[]> = {
  type: 0x000a,
  name: "UNKNOWN-ATTRIBUTES",
  read(bytes, offset, length) {
    if ((length & 1) !== 0) return undefined;
    return Array.from({ length: length / 2 }, (_, i) => (bytes[offset + 2 * i]! << 8) | bytes[offset + 2 * i + 1]!);
  },
  write(writer, value) {
    for (const type of value) writer.writeUint16(type);
  },
};
/** RFC 8489 §14.9. */
export const REALM: Attribute<string> = textAttribute(0x0014, "REALM", 763);
/** RFC 8489 §14.10. Opaque to all but the server. */
export const NONCE: Attribute<string> = textAttribute(0x0015, "NONCE", 763);
/** HMAC-SHA256 over the message so far: use `verifyIntegrity()`. RFC 8489 §14.6. */
export const MESSAGE_INTEGRITY_SHA256: Attribute<Uint8Array> = bytesAttribute(
  0x001c,
  "MESSAGE-INTEGRITY-SHA256",
  16,
  32,
);
/** The algorithm the client chose. RFC 8489 §14.12. */
export const PASSWORD_ALGORITHM: Attribute<PasswordAlgorithmEntry> = {
  type: 0x001d,
  name: "PASSWORD-ALGORITHM",
  read(bytes, offset, length) {
    const entries = readAlgorithms(bytes, offset, length);
    return entries?.length === 1 ? entries[0] : undefined;
  },
  write: writeAlgorithm,
};
/** SHA-256 of user name and realm, in place of USERNAME. RFC 8489 §14.4. */
export const USERHASH: Attribute<Uint8Array> = bytesAttribute(0x001e, "USERHASH", 32, 32);
/** The address the server saw. RFC 8489 §14.2. */
export const XOR_MAPPED_ADDRESS: Attribute<TransportAddress> = xorAddressAttribute(0x0020, "XOR-MAPPED-ADDRESS");

// RFC 8489, comprehension-optional.

/** The algorithms the server takes, best first. RFC 8489 §14.11. */
export const PASSWORD_ALGORITHMS: Attribute<readonly PasswordAlgorithmEntry[]> = {
  type: 0x8002,
  name: "PASSWORD-ALGORITHMS",
  read: readAlgorithms,
  write(writer, value) {
    for (const entry of value) writeAlgorithm(writer, entry);
  },
};
/** RFC 8489 §14.16. */
export const ALTERNATE_DOMAIN: Attribute<string> = textAttribute(0x8003, "ALTERNATE-DOMAIN", 255);
/** RFC 8489 §14.14. */
export const SOFTWARE: Attribute<string> = textAttribute(0x8022, "SOFTWARE", 763);
/** RFC 8489 §14.15. */
export const ALTERNATE_SERVER: Attribute<TransportAddress> = addressAttribute(0x8023, "ALTERNATE-SERVER");
/** A CRC-32: use `verifyFingerprint()`. RFC 8489 §14.7. */
export const FINGERPRINT: Attribute<number> = uint32Attribute(0x8028, "FINGERPRINT");

function readAlgorithms(bytes: Uint8Array, offset: number, length: number): PasswordAlgorithmEntry[] | undefined {
  const end = offset + length;
  const entries: PasswordAlgorithmEntry[] = [];
  while (offset < end) {
    if (offset + 4 > end) return undefined;
    const size = (bytes[offset + 2]! << 8) | bytes[offset + 3]!;
    if (offset + 4 + size > end) return undefined;
    entries.push({
      algorithm: (bytes[offset]! << 8) | bytes[offset + 1]!,
      parameters: bytes.slice(offset + 4, offset + 4 + size),
    });
    // Parameters are padded to four bytes, the last one's padding may be left out.
    offset += 4 + ((size + 3) & ~3);
  }
  return entries;
}

function writeAlgorithm(writer: MessageWriter, { algorithm, parameters }: PasswordAlgorithmEntry): void {
  writer.writeUint16(algorithm);
  writer.writeUint16(parameters.length);
  writer.writeBytes(parameters);
  for (let i = parameters.length; (i & 3) !== 0; i++) writer.writeUint8(0);
}

function readUint32(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset]! << 24) | (bytes[offset + 1]! << 16) | (bytes[offset + 2]! << 8) | bytes[offset + 3]!) >>> 0;
}
