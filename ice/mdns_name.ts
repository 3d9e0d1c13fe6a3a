import type { Random } from "../stun/machine.ts";
import { randomBytes } from "../stun/random.ts";

const UUID_NAME = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.local$/i;

/**
 * Whether a name is one that an ICE agent has made up: a version 4 UUID and `.local`. Others are not looked up, since a
 * peer could name a printer (draft-ietf-rtcweb-mdns-ice-candidates §6.3).
 */
export function isMdnsName(name: string): boolean {
  return UUID_NAME.test(name);
}

/** A new name: a version 4 UUID (RFC 9562 §5.4) and `.local`. */
export function newMdnsName(random: Random): string {
  const bytes = randomBytes(random, 16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const parts = [[0, 8], [8, 12], [12, 16], [16, 20], [20, 32]] as const;
  return `${parts.map(([from, to]) => hex.slice(from, to)).join("-")}.local`;
}
