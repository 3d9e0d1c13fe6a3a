import type { AddressFamily, TransportAddress } from "../stun/address.ts";
import {
  type Attribute,
  bytesAttribute,
  flagAttribute,
  readErrorCode,
  uint32Attribute,
  writeErrorCode,
  xorAddressAttribute,
} from "../stun/attribute.ts";

/** Protocol numbers for REQUESTED-TRANSPORT (IANA's "Protocol Numbers"). */
export const TRANSPORT_PROTOCOL = { TCP: 6, UDP: 17 } as const;

/** RFC 8656 §18.1. */
export const CHANNEL_NUMBER: Attribute<number> = {
  type: 0x000c,
  name: "CHANNEL-NUMBER",
  read: (bytes, offset, length) => length === 4 ? (bytes[offset]! << 8) | bytes[offset + 1]! : undefined,
  write(writer, value) {
    writer.writeUint16(value);
    writer.writeUint16(0);
  },
};
/** Seconds. RFC 8656 §18.2. */
export const LIFETIME: Attribute<number> = uint32Attribute(0x000d, "LIFETIME");
/** RFC 8656 §18.3. */
export const XOR_PEER_ADDRESS: Attribute<TransportAddress> = xorAddressAttribute(0x0012, "XOR-PEER-ADDRESS");
/** What is relayed; may be empty. RFC 8656 §18.4. */
export const DATA: Attribute<Uint8Array> = bytesAttribute(0x0013, "DATA");
/** RFC 8656 §18.5. */
export const XOR_RELAYED_ADDRESS: Attribute<TransportAddress> = xorAddressAttribute(0x0016, "XOR-RELAYED-ADDRESS");
/** RFC 8656 §18.6. */
export const REQUESTED_ADDRESS_FAMILY: Attribute<AddressFamily> = familyAttribute(0x0017, "REQUESTED-ADDRESS-FAMILY");
/** `true` asks to reserve the next port as well. RFC 8656 §18.7. */
export const EVEN_PORT: Attribute<boolean> = {
  type: 0x0018,
  name: "EVEN-PORT",
  read: (bytes, offset, length) => length === 1 ? (bytes[offset]! & 0x80) !== 0 : undefined,
  write: (writer, value) => writer.writeUint8(value ? 0x80 : 0),
};
/** One of `TRANSPORT_PROTOCOL`. RFC 8656 §18.8. */
export const REQUESTED_TRANSPORT: Attribute<number> = {
  type: 0x0019,
  name: "REQUESTED-TRANSPORT",
  read: (bytes, offset, length) => length === 4 ? bytes[offset] : undefined,
  write(writer, value) {
    writer.writeUint8(value);
    writer.writeUint8(0);
    writer.writeUint16(0);
  },
};
/** RFC 8656 §18.9. */
export const DONT_FRAGMENT: Attribute<true> = flagAttribute(0x001a, "DONT-FRAGMENT");
/** 8 bytes. RFC 8656 §18.10. */
export const RESERVATION_TOKEN: Attribute<Uint8Array> = bytesAttribute(0x0022, "RESERVATION-TOKEN", 8, 8);
/** What tells one peer's connection from another. RFC 6062 §6.2.1. */
export const CONNECTION_ID: Attribute<number> = uint32Attribute(0x002a, "CONNECTION-ID");
/** Empty in a request for a ticket, else the ticket: bytes that only the server understands. RFC 8016 §3.4. */
export const MOBILITY_TICKET: Attribute<Uint8Array> = bytesAttribute(0x8030, "MOBILITY-TICKET");
/** RFC 8656 §18.11. */
export const ADDITIONAL_ADDRESS_FAMILY: Attribute<AddressFamily> = familyAttribute(
  0x8000,
  "ADDITIONAL-ADDRESS-FAMILY",
);

/** Why one family of a dual allocation failed. */
export interface AddressError {
  /** The family that failed. */
  readonly family: AddressFamily;
  /** The error code, 300 to 699. */
  readonly code: number;
  /** The reason for people; may be empty. */
  readonly reason: string;
}

/** RFC 8656 §18.12. */
export const ADDRESS_ERROR_CODE: Attribute<AddressError> = {
  type: 0x8001,
  name: "ADDRESS-ERROR-CODE",
  read(bytes, offset, length) {
    const error = readErrorCode(bytes, offset, length);
    const family = familyOf(bytes[offset]!);
    return error === undefined || family === undefined ? undefined : { family, ...error };
  },
  write(writer, { family, code, reason }) {
    writer.writeUint8(family === 4 ? 1 : 2);
    writer.writeUint8(0);
    writeErrorCode(writer, code, reason);
  },
};

/** An ICMP message that a relayed datagram caused. */
export interface IcmpError {
  /** The ICMP type. */
  readonly type: number;
  /** The ICMP code. */
  readonly code: number;
  /** The error data: the next-hop MTU or the pointer; 0 otherwise. */
  readonly data: number;
}

/** RFC 8656 §18.13. */
export const ICMP: Attribute<IcmpError> = {
  type: 0x8004,
  name: "ICMP",
  read(bytes, offset, length) {
    if (length !== 8) return undefined;
    const data = ((bytes[offset + 4]! << 24) | (bytes[offset + 5]! << 16) | (bytes[offset + 6]! << 8) |
      bytes[offset + 7]!) >>> 0;
    return { type: bytes[offset + 2]!, code: bytes[offset + 3]!, data };
  },
  write(writer, { type, code, data }) {
    writer.writeUint16(0);
    writer.writeUint8(type);
    writer.writeUint8(code);
    writer.writeUint32(data);
  },
};

function familyAttribute(type: number, name: string): Attribute<AddressFamily> {
  return {
    type,
    name,
    read: (bytes, offset, length) => length === 4 ? familyOf(bytes[offset]!) : undefined,
    write(writer, value) {
      writer.writeUint8(value === 4 ? 1 : 2);
      writer.writeUint8(0);
      writer.writeUint16(0);
    },
  };
}

function familyOf(number: number): AddressFamily | undefined {
  return number === 1 ? 4 : number === 2 ? 6 : undefined;
}
