// Frames by hand: what tests of connections send.

/** A Binding request with so many bytes behind its header. */
export function stun(size = 0, fill = 0): Uint8Array {
  const bytes = new Uint8Array(20 + size).fill(fill);
  bytes.set([0x00, 0x01, size >> 8, size & 0xff, 0x21, 0x12, 0xa4, 0x42]);
  return bytes;
}

/** ChannelData on 0x4000 with so many bytes. */
export function channelData(size: number, fill = 1): Uint8Array {
  const bytes = new Uint8Array(4 + size).fill(fill);
  bytes.set([0x40, 0x00, size >> 8, size & 0xff]);
  return bytes;
}
