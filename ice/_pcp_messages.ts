import { TransportAddress } from "../stun/address.ts";

/** RFC 6335's number of UDP. */
const UDP = 17;
const MAP = 1;
const RESPONSE = 0x80;
const PCP_SIZE = 60;

/** The port of PCP and NAT-PMP servers (RFC 6887 §19.1). */
export const PCP_PORT = 5351;

/** What is wanted: a port outside that leads to an endpoint inside. */
export interface MapRequest {
  /** The endpoint inside. IPv4. */
  readonly internal: TransportAddress;
  /** For how many seconds; 0 ends a mapping. */
  readonly lifetime: number;
  /** The endpoint outside that was assigned before. */
  readonly external?: TransportAddress | undefined;
}

/** What a server says. */
export interface MapResponse {
  /** The protocol that it speaks. */
  readonly protocol: "pcp" | "nat-pmp";
  /** What it is about: with NAT-PMP the address outside is asked for by itself. */
  readonly about: "mapping" | "address" | "version";
  /** 0 is success. */
  readonly result: number;
  /** The port inside. */
  readonly internalPort: number;
  /** The port outside. */
  readonly externalPort: number;
  /** The IPv4 address outside. */
  readonly externalAddress: string | undefined;
  /** In seconds. */
  readonly lifetime: number;
}

/** Writes a MAP request of PCP (RFC 6887 §7.1, §11.1). */
export function pcpRequest({ internal, lifetime, external }: MapRequest, nonce: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(PCP_SIZE);
  const view = new DataView(bytes.buffer);
  bytes[0] = 2;
  bytes[1] = MAP;
  view.setUint32(4, lifetime);
  writeMapped(bytes, 8, internal.bytes);
  bytes.set(nonce, 24);
  bytes[36] = UDP;
  view.setUint16(40, internal.port);
  // RFC 6887 §11.1: nothing is suggested when a mapping ends. The family that is wanted is told all the same.
  const suggested = lifetime === 0 ? undefined : external;
  view.setUint16(42, suggested?.port ?? 0);
  writeMapped(bytes, 44, suggested?.bytes ?? new Uint8Array(4));
  return bytes;
}

/** Writes a request of NAT-PMP for a mapping (RFC 6886 §3.3). */
export function natPmpRequest({ internal, lifetime, external }: MapRequest): Uint8Array {
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  bytes[1] = 1;
  view.setUint16(4, internal.port);
  view.setUint16(6, lifetime === 0 ? 0 : external?.port ?? internal.port);
  view.setUint32(8, lifetime);
  return bytes;
}

/** Asks a server that speaks NAT-PMP for the address outside (RFC 6886 §3.2). */
export function natPmpAddressRequest(): Uint8Array {
  return new Uint8Array(2);
}

/** Reads a response; `undefined` if it is none. `nonce` tells whether a mapping of PCP is ours. */
export function readMapResponse(bytes: Uint8Array, nonce: Uint8Array): MapResponse | undefined {
  if (bytes.length < 4 || (bytes[1]! & RESPONSE) === 0) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const opcode = bytes[1]! & 0x7f;
  const base = { internalPort: 0, externalPort: 0, externalAddress: undefined, lifetime: 0 };
  if (bytes[0] === 2) return opcode === MAP ? readPcp(bytes, view, nonce) : undefined;
  const result = view.getUint16(2);
  // RFC 6886 §3.5, RFC 6887 §9: of another version, so that only this much can be understood.
  if (bytes[0] !== 0 || bytes.length === 8) {
    return { ...base, protocol: bytes[0] === 0 ? "nat-pmp" : "pcp", about: "version", result: result || 1 };
  }
  if (opcode === 0 && bytes.length >= 12) {
    const externalAddress = bytes.subarray(8, 12).join(".");
    return { ...base, protocol: "nat-pmp", about: "address", result, externalAddress };
  }
  if (opcode !== MAP) return undefined;
  if (bytes.length < 16) return undefined;
  return {
    ...base,
    protocol: "nat-pmp",
    about: "mapping",
    result,
    internalPort: view.getUint16(8),
    externalPort: view.getUint16(10),
    lifetime: view.getUint32(12),
  };
}

function readPcp(bytes: Uint8Array, view: DataView, nonce: Uint8Array): MapResponse | undefined {
  if (bytes.length < PCP_SIZE || bytes[36] !== UDP || !nonce.every((byte, i) => byte === bytes[24 + i])) {
    return undefined;
  }
  const isIpv4 = bytes.subarray(44, 54).every((byte) => byte === 0) && bytes[54] === 0xff && bytes[55] === 0xff;
  return {
    protocol: "pcp",
    about: "mapping",
    result: bytes[3]!,
    internalPort: view.getUint16(40),
    externalPort: view.getUint16(42),
    externalAddress: isIpv4 ? new TransportAddress(bytes.slice(56, 60), 0).address : undefined,
    lifetime: view.getUint32(4),
  };
}

/** IPv4 addresses travel as ::ffff:0:0/96 (RFC 6887 §5). */
function writeMapped(bytes: Uint8Array, offset: number, ipv4: Uint8Array): void {
  bytes[offset + 10] = bytes[offset + 11] = 0xff;
  bytes.set(ipv4, offset + 12);
}

const RESULTS: Readonly<Record<"pcp" | "nat-pmp", readonly string[]>> = {
  // RFC 6887 §7.4.
  pcp: [
    "success",
    "it speaks another version",
    "it is not allowed",
    "it took the request for malformed",
    "it knows no mappings",
    "it knows no such option",
    "it took an option for malformed",
    "its network is down",
    "it has no resources",
    "it does not map UDP",
    "this computer has too many mappings",
    "it can not give that port",
    "another NAT is on the way to it",
    "it has too many peers",
  ],
  // RFC 6886 §3.5.
  "nat-pmp": [
    "success",
    "it speaks another version",
    "it is not allowed",
    "its network is down",
    "it has no resources",
    "it knows no mappings",
  ],
};

/** A result code for people. */
export function mapResultText(protocol: "pcp" | "nat-pmp", result: number): string {
  return `${RESULTS[protocol][result] ?? "it gives no reason"} (${protocol === "pcp" ? "PCP" : "NAT-PMP"} ${result})`;
}
