import type { TransportAddress } from "./address.ts";
import {
  addressAttribute,
  type Attribute,
  bytesAttribute,
  checkInteger,
  type ErrorCode,
  readErrorCode,
  textAttribute,
  uint32Attribute,
  writeErrorCode,
  xorAddressAttribute,
} from "./attribute.ts";
import { padded, readUint16 } from "./_bytes.ts";
import type { MessageWriter } from "./message.ts";

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
/** The user name, prepared by OpaqueString. RFC 8489 §14.3: up to 508 bytes, read up to 763. */
export const USERNAME: Attribute<string> = textAttribute(0x0006, "USERNAME", {
  maxBytes: 508,
  maxCharacters: 508,
});
/** 20 bytes of HMAC-SHA1 over the message so far: use `verifyIntegrity()`. RFC 8489 §14.5. */
export const MESSAGE_INTEGRITY: Attribute<Uint8Array> = bytesAttribute(0x0008, "MESSAGE-INTEGRITY", 20, 20);
/** Why a request failed. `ERROR_CODE` has the codes in use. RFC 8489 §14.8. */
export const ERROR_CODE_ATTRIBUTE: Attribute<ErrorCode> = {
  type: 0x0009,
  name: "ERROR-CODE",
  read: readErrorCode,
  write(writer, { code, reason }) {
    writer.writeUint16(0);
    writeErrorCode(writer, code, reason);
  },
};
/** The comprehension-required types, 0 to 0x7FFF, that a 420 answer complains of. RFC 8489 §14.13. */
export const UNKNOWN_ATTRIBUTES: Attribute<readonly number[]> = {
  type: 0x000a,
  name: "UNKNOWN-ATTRIBUTES",
  read(bytes, offset, length) {
    if ((length & 1) !== 0) return undefined;
    return Array.from({ length: length / 2 }, (_, i) => readUint16(bytes, offset + 2 * i));
  },
  write(writer, value) {
    for (const type of value) {
      checkInteger("UNKNOWN-ATTRIBUTES", type, 0, 0xffff);
      writer.writeUint16(type);
    }
  },
};
/** The realm of a long-term credential. RFC 8489 §14.9: up to 127 characters, read up to 763 bytes. */
export const REALM: Attribute<string> = textAttribute(0x0014, "REALM");
/** What a client sends back as it came. RFC 8489 §14.10: up to 127 characters, read up to 763 bytes. */
export const NONCE: Attribute<string> = textAttribute(0x0015, "NONCE");
/** 16 to 32 bytes of HMAC-SHA256 over the message so far: use `verifyIntegrity()`. RFC 8489 §14.6. */
export const MESSAGE_INTEGRITY_SHA256: Attribute<Uint8Array> = bytesAttribute(
  0x001c,
  "MESSAGE-INTEGRITY-SHA256",
  16,
  32,
);
/** What an authorization server gave the client: bytes that only the server understands. RFC 7635 §6.2. */
export const ACCESS_TOKEN: Attribute<Uint8Array> = bytesAttribute(0x001b, "ACCESS-TOKEN");
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
/** 32 bytes: SHA-256 of user name and realm, in place of USERNAME; `userHash()` makes it. RFC 8489 §14.4. */
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
/** The name in the certificate of ALTERNATE-SERVER, for TLS. RFC 8489 §14.16: up to 255 bytes. */
export const ALTERNATE_DOMAIN: Attribute<string> = textAttribute(0x8003, "ALTERNATE-DOMAIN", {
  maxBytes: 255,
  maxCharacters: 255,
  maxBytesRead: 255,
});
/** What the sender is, for people. RFC 8489 §14.14: up to 127 characters, read up to 763 bytes. */
export const SOFTWARE: Attribute<string> = textAttribute(0x8022, "SOFTWARE");
/** Where to go instead, in a 300 answer. RFC 8489 §14.15. */
export const ALTERNATE_SERVER: Attribute<TransportAddress> = addressAttribute(0x8023, "ALTERNATE-SERVER");
/** The name by which authorization servers know this server, in a 401 answer. RFC 7635 §6.1: up to 255 bytes. */
export const THIRD_PARTY_AUTHORIZATION: Attribute<string> = textAttribute(0x802e, "THIRD-PARTY-AUTHORIZATION", {
  maxBytes: 255,
  maxCharacters: 255,
});
/** A CRC-32: use `verifyFingerprint()`. RFC 8489 §14.7. */
export const FINGERPRINT: Attribute<number> = uint32Attribute(0x8028, "FINGERPRINT");

// A list is read before anybody is authenticated. There are two algorithms so far.
const ALGORITHM_LIMIT = 32;

function readAlgorithms(bytes: Uint8Array, offset: number, length: number): PasswordAlgorithmEntry[] | undefined {
  const end = offset + length;
  const entries: PasswordAlgorithmEntry[] = [];
  while (offset < end) {
    if (offset + 4 > end || entries.length === ALGORITHM_LIMIT) return undefined;
    const size = readUint16(bytes, offset + 2);
    if (offset + 4 + size > end) return undefined;
    entries.push({
      algorithm: readUint16(bytes, offset),
      parameters: bytes.slice(offset + 4, offset + 4 + size),
    });
    // Parameters are padded to four bytes, the last one's padding may be left out.
    offset += 4 + padded(size);
  }
  return entries;
}

function writeAlgorithm(writer: MessageWriter, { algorithm, parameters }: PasswordAlgorithmEntry): void {
  writer.writeUint16(algorithm);
  writer.writeUint16(parameters.length);
  writer.writeBytes(parameters);
  for (let i = parameters.length; (i & 3) !== 0; i++) writer.writeUint8(0);
}
