import type { Packet } from "../stun/machine.ts";
import { HEADER_LENGTH, MAGIC_COOKIE } from "../stun/message.ts";

/** Whether a datagram may be STUN, by its first byte (RFC 7983 §7) and the cookie (RFC 8489 §5). */
export function isStunLike({ buffer, offset, length }: Pick<Packet, "buffer" | "offset" | "length">): boolean {
  return length >= HEADER_LENGTH && buffer[offset]! <= 3 && buffer[offset + 4] === MAGIC_COOKIE >>> 24 &&
    buffer[offset + 5] === ((MAGIC_COOKIE >>> 16) & 0xff) && buffer[offset + 6] === ((MAGIC_COOKIE >>> 8) & 0xff) &&
    buffer[offset + 7] === (MAGIC_COOKIE & 0xff);
}
