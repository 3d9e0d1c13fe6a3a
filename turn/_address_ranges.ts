import ipaddr from "ipaddr.js";
import type { PortRange } from "./relay_ports.ts";

/** A range of addresses, all of them with these ports. */
export interface AddressRange {
  readonly bytes: Uint8Array;
  readonly prefix: number;
  /** `undefined`: all. */
  readonly ports: PortRange | undefined;
}

/**
 * Reads ranges: `10.0.0.0/8`, `10.1.2.3`, `10.0.0.0/8:5000-6000`, `2001:db8::/32`, `[2001:db8::/32]:53`.
 *
 * @throws {SyntaxError} If one is none.
 */
export function addressRanges(texts: Iterable<string>): AddressRange[] {
  return [...texts].map((text) => {
    try {
      return readRange(text);
    } catch {
      throw new SyntaxError(
        `Cannot parse address range as it must be like "10.0.0.0/8", "2001:db8::/32", "10.0.0.0/8:5000-6000" ` +
          `or "[2001:db8::/32]:53": "${text}"`,
      );
    }
  });
}

/** Whether an address is in one of the ranges. Without a port, a range with ports counts if `partly` says so. */
export function contains(
  ranges: readonly AddressRange[],
  address: Uint8Array,
  port: number | undefined,
  partly = false,
): boolean {
  for (const { bytes, prefix, ports } of ranges) {
    if (bytes.length !== address.length || !hasPrefix(bytes, address, prefix)) continue;
    if (ports === undefined || (port === undefined ? partly : port >= ports.min && port <= ports.max)) return true;
  }
  return false;
}

/** Whether the first `prefix` bits are equal. */
export function hasPrefix(a: Uint8Array, b: Uint8Array, prefix: number): boolean {
  const whole = prefix >> 3;
  for (let i = 0; i < whole; i++) if (a[i] !== b[i]) return false;
  return (prefix & 7) === 0 || ((a[whole]! ^ b[whole]!) >> (8 - (prefix & 7))) === 0;
}

function readRange(text: string): AddressRange {
  const [, inBrackets, behind] = /^\[([^\]]*)\](?::(.*))?$/.exec(text) ?? [];
  const [, dotted, ports] = /^(\d+\.[\d./]+)(?::(.*))?$/.exec(text) ?? [];
  const range = inBrackets ?? dotted ?? text;
  const [address, prefix] = range.includes("/")
    ? ipaddr.parseCIDR(range)
    : [ipaddr.parse(range), ipaddr.parse(range).kind() === "ipv4" ? 32 : 128];
  if (address.kind() === "ipv4" && !ipaddr.IPv4.isValidFourPartDecimal(range.split("/")[0]!)) throw new Error();
  if (inBrackets !== undefined && address.kind() === "ipv4") throw new Error();
  return { bytes: Uint8Array.from(address.toByteArray()), prefix, ports: readPorts(behind ?? ports) };
}

function readPorts(text: string | undefined): PortRange | undefined {
  if (text === undefined) return undefined;
  const [, low, high = low] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text) ?? [];
  const [min, max] = [Number(low), Number(high)];
  if (!(min >= 1 && min <= max && max <= 65535)) throw new Error();
  return { min, max };
}
