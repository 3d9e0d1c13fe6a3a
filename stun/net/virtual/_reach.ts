/** Whether routers forward datagrams to or from this IP address: not loopback, link-local, multicast or unspecified. */
export function isForwarded(ip: Uint8Array): boolean {
  const a = ip[0]!;
  const b = ip[1]!;
  if (ip.length === 4) return a !== 0 && a !== 127 && a < 224 && !(a === 169 && b === 254);
  return a !== 0xff && !(a === 0xfe && (b & 0xc0) === 0x80) && !startsWithZeros(ip);
}

/**
 * Whether the public internet has routes to this IP address: not the private ranges of RFC 1918, RFC 6598 (100.64/10) and
 * RFC 4193 (fc00::/7). The ranges for documentation are public here, so that examples can use them.
 */
export function isPublic(ip: Uint8Array): boolean {
  if (!isForwarded(ip)) return false;
  const a = ip[0]!;
  const b = ip[1]!;
  if (ip.length === 16) return (a & 0xfe) !== 0xfc && !(a === 0xfe && (b & 0xc0) === 0xc0);
  return a !== 10 && !(a === 172 && (b & 0xf0) === 16) && !(a === 192 && b === 168) &&
    !(a === 100 && (b & 0xc0) === 64);
}

/** Whether it is a group's address. */
export function isMulticast(ip: Uint8Array): boolean {
  return ip.length === 4 ? ip[0]! >> 4 === 14 : ip[0] === 0xff;
}

/** Whether it is one of a host's addresses of its own, which never leave it. */
export function isLoopback(ip: Uint8Array): boolean {
  if (ip.length === 4) return ip[0] === 127;
  for (let i = 0; i < 15; i++) if (ip[i] !== 0) return false;
  return ip[15] === 1;
}

// ::, ::1 and addresses with an IPv4 address inside (::/96, ::ffff:0:0/96).
function startsWithZeros(ip: Uint8Array): boolean {
  for (let i = 0; i < 10; i++) if (ip[i] !== 0) return false;
  return true;
}
