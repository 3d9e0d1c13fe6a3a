/** The 2 bytes at `offset` in network order. */
export function readUint16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 8) | bytes[offset + 1]!;
}

/** The 4 bytes at `offset` in network order. */
export function readUint32(bytes: Uint8Array, offset: number): number {
  return ((readUint16(bytes, offset) << 16) | readUint16(bytes, offset + 2)) >>> 0;
}

/** `length` rounded up to a multiple of four, as attributes and their entries are padded (RFC 8489 §14). */
export function padded(length: number): number {
  return (length + 3) & ~3;
}
