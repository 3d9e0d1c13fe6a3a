/** The smallest channel number (RFC 8656 §12). */
export const MIN_CHANNEL = 0x4000;
/** The largest channel number (RFC 8656 §12). */
export const MAX_CHANNEL = 0x4fff;
/** Bytes in front of a channel's data (RFC 8656 §12.4). */
export const CHANNEL_HEADER_LENGTH = 4;

/** Whether a datagram with this first byte is ChannelData: exactly 64 to 79 (RFC 8656 §12, RFC 7983 §7). */
export function isChannelByte(first: number): boolean {
  return first >= 0x40 && first <= 0x4f;
}

/** The channel number of the ChannelData message at `offset`. */
export function channelNumber(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 8) | bytes[offset + 1]!;
}

/**
 * How much data the ChannelData message at `offset` carries.
 *
 * @param length How long the datagram is. What is beyond the data is padding, which UDP may have (RFC 8656 §12.5).
 * @returns The number of bytes after the header, or -1 if the datagram is shorter than it says.
 */
export function channelDataLength(bytes: Uint8Array, offset: number, length: number): number {
  if (length < CHANNEL_HEADER_LENGTH) return -1;
  const dataLength = (bytes[offset + 2]! << 8) | bytes[offset + 3]!;
  return dataLength + CHANNEL_HEADER_LENGTH > length ? -1 : dataLength;
}

/** Writes a ChannelData header in front of `dataLength` bytes of data that begin at `offset + 4`. */
export function writeChannelHeader(bytes: Uint8Array, offset: number, channel: number, dataLength: number): void {
  bytes[offset] = channel >> 8;
  bytes[offset + 1] = channel & 0xff;
  bytes[offset + 2] = dataLength >> 8;
  bytes[offset + 3] = dataLength & 0xff;
}
