// What Linux tells of IPv6 addresses in /proc/net/if_inet6, and networkInterfaces() does not.
import { TransportAddress } from "../address.ts";

const FILE = "/proc/net/if_inet6";
/** IFA_F_TEMPORARY and IFA_F_DEPRECATED of linux/if_addr.h. */
const TEMPORARY = 0x01;
const DEPRECATED = 0x20;

/** What is to be known of an address. */
export interface Ipv6Flags {
  readonly isTemporary: boolean;
  readonly isDeprecated: boolean;
}

/** The addresses with their flags; none where they can not be read. Nobody is asked for a permission. */
export function ipv6Flags(): Map<string, Ipv6Flags> {
  if (Deno.build.os !== "linux") return new Map();
  try {
    if (Deno.permissions.querySync({ name: "read", path: FILE }).state !== "granted") return new Map();
    return parseFlags(Deno.readTextFileSync(FILE));
  } catch {
    // Of /proc Deno shows nothing without --allow-all.
    return new Map();
  }
}

/** Reads the file: address, index, prefix, scope and flags in hexadecimal, then the name of the interface. */
export function parseFlags(text: string): Map<string, Ipv6Flags> {
  const found = new Map<string, Ipv6Flags>();
  for (const line of text.split("\n")) {
    const [, hex, flags] = /^([0-9a-f]{32})(?: [0-9a-f]{2}){3} ([0-9a-f]{2,8}) /.exec(line) ?? [];
    if (hex === undefined) continue;
    const bytes = Uint8Array.from(hex.match(/../g)!, (byte) => parseInt(byte, 16));
    const bits = parseInt(flags!, 16);
    found.set(new TransportAddress(bytes, 0).address, {
      isTemporary: (bits & TEMPORARY) !== 0,
      isDeprecated: (bits & DEPRECATED) !== 0,
    });
  }
  return found;
}
