// Four tables, so that four bytes go into one step: TABLES[k][b] is the CRC of byte b followed by k zero bytes.
const TABLES = [0, 1, 2, 3].map(() => new Uint32Array(256));
const [T0, T1, T2, T3] = TABLES as [Uint32Array, Uint32Array, Uint32Array, Uint32Array];
for (let byte = 0; byte < 256; byte++) {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  T0[byte] = crc;
}
for (let byte = 0; byte < 256; byte++) {
  for (let k = 1; k < 4; k++) {
    const before = TABLES[k - 1]![byte]!;
    TABLES[k]![byte] = T0[before & 0xff]! ^ (before >>> 8);
  }
}

/** The CRC-32 of ITU-T V.42 of `bytes[start, end)`, as RFC 8489 §14.7 uses it. */
export function crc32(bytes: Uint8Array, start: number, end: number): number {
  let crc = -1;
  let i = start;
  for (; i + 4 <= end; i += 4) {
    crc = T3[(crc ^ bytes[i]!) & 0xff]! ^ T2[((crc >>> 8) ^ bytes[i + 1]!) & 0xff]! ^
      T1[((crc >>> 16) ^ bytes[i + 2]!) & 0xff]! ^ T0[(crc >>> 24) ^ bytes[i + 3]!]!;
  }
  for (; i < end; i++) crc = T0[(crc ^ bytes[i]!) & 0xff]! ^ (crc >>> 8);
  return (crc ^ -1) >>> 0;
}
