import ipaddr from "ipaddr.js";

/** The IP version of an address: `4` or `6`. */
export type AddressFamily = 4 | 6;

/**
 * A transport address: IP address and port (RFC 8445 §4).
 *
 * Immutable. Bytes come first, since that is how addresses travel; text and map keys are made on first use and kept.
 *
 * @example Text and back
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { TransportAddress } from "@natkit/natkit/stun";
 *
 * const address = TransportAddress.parse("[2001:DB8::0:1]:3478");
 * assertEquals(address.toString(), "[2001:db8::1]:3478");
 * assertEquals(address.family, 6);
 * ```
 */
export class TransportAddress {
  /** `4` or `6`. */
  readonly family: AddressFamily;
  /** The IP address in network order: 4 or 16 bytes. Not to be written to. */
  readonly bytes: Uint8Array;
  /** The port, 0 to 65535. */
  readonly port: number;
  /** The form a socket back end gives this address, kept here so that it is made once. Not for other use. */
  native: unknown = undefined;
  #address: string | undefined;
  #ipKey: number | string | undefined;
  #key: number | string | undefined;

  /**
   * An address from its bytes.
   *
   * @param bytes The IP address in network order: 4 or 16 bytes. Kept, not copied.
   * @param port 0 to 65535.
   * @throws {RangeError} If there are not 4 or 16 bytes.
   */
  constructor(bytes: Uint8Array, port: number) {
    if (bytes.length !== 4 && bytes.length !== 16) {
      throw new RangeError(`Cannot take IP address as it must have 4 or 16 bytes: current length is ${bytes.length}`);
    }
    this.family = bytes.length === 4 ? 4 : 6;
    this.bytes = bytes;
    this.port = port;
  }

  /**
   * An address from its two halves.
   *
   * @param address An IPv4 or IPv6 address as text, without brackets; a zone (`%eth0`) is dropped.
   * @param port 0 to 65535.
   * @throws {SyntaxError} If the address is no IP address.
   * @throws {RangeError} If the port is out of range.
   */
  static of(address: string, port: number): TransportAddress {
    if (!Number.isInteger(port) || port < 0 || port > 65535) {
      throw new RangeError(`Cannot use port as it must be in 0 to 65535: current value is ${port}`);
    }
    return new TransportAddress(parseIp(address), port);
  }

  /**
   * An address from text, as `toString()` writes it: `192.0.2.1:3478` or `[2001:db8::1]:3478`.
   *
   * @param text The text.
   * @param defaultPort The port when the text has none. Without it, a port is required.
   * @throws {SyntaxError} If the text is no transport address.
   */
  static parse(text: string, defaultPort?: number): TransportAddress {
    const match = /^(?:\[([^\]]*:[^\]]*)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text);
    const host = match?.[1] ?? match?.[2] ?? (ipaddr.IPv6.isValid(text) ? text : undefined);
    const port = match?.[3] === undefined ? defaultPort : Number(match[3]);
    if (host === undefined || port === undefined || port > 65535) {
      throw new SyntaxError(`Cannot parse transport address as it must be "IP:port" or "[IPv6]:port": "${text}"`);
    }
    return TransportAddress.of(host, port);
  }

  /** The IP address as text (RFC 5952 for IPv6). */
  get address(): string {
    return this.#address ??= this.family === 4
      ? this.bytes.join(".")
      : new ipaddr.IPv6(Array.from(this.bytes)).toString();
  }

  /** A map key for the IP address alone. */
  get ipKey(): number | string {
    return this.#ipKey ??= ipKey(this.bytes);
  }

  /** A map key for IP address and port. */
  get key(): number | string {
    return this.#key ??= typeof this.ipKey === "number"
      ? this.ipKey * 65536 + this.port
      : this.ipKey + String.fromCharCode(this.port);
  }

  /** Whether both stand for the same IP address and port. */
  equals(other: TransportAddress): boolean {
    return this === other || this.key === other.key;
  }

  /** The same IP address with another port. */
  withPort(port: number): TransportAddress {
    return port === this.port ? this : new TransportAddress(this.bytes, port);
  }

  /** `192.0.2.1:3478` or `[2001:db8::1]:3478`. */
  toString(): string {
    return this.family === 4 ? `${this.address}:${this.port}` : `[${this.address}]:${this.port}`;
  }

  /** As `toString()`, so that addresses read well in JSON. */
  toJSON(): string {
    return this.toString();
  }
}

/** Whether the text is an IP address, without port, brackets or zone. */
export function isIpAddress(text: string): boolean {
  return ipaddr.IPv4.isValidFourPartDecimal(text) || ipaddr.IPv6.isValid(text);
}

/** Whether the text is an IPv4 address in the usual four decimal parts. */
export function isIpv4(text: string): boolean {
  return ipaddr.IPv4.isValidFourPartDecimal(text);
}

function parseIp(text: string): Uint8Array {
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return Uint8Array.from(ipaddr.IPv4.parse(text).octets);
  const zone = text.indexOf("%");
  const bare = zone === -1 ? text : text.slice(0, zone);
  if (ipaddr.IPv6.isValid(bare)) return Uint8Array.from(ipaddr.IPv6.parse(bare).toByteArray());
  throw new SyntaxError(`Cannot parse IP address: "${text}"`);
}

function ipKey(bytes: Uint8Array): number | string {
  if (bytes.length === 4) return ((bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!) >>> 0;
  let key = "";
  for (let i = 0; i < 16; i += 2) key += String.fromCharCode((bytes[i]! << 8) | bytes[i + 1]!);
  return key;
}
