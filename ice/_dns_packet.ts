import { Buffer } from "node:buffer";
import packet from "dns-packet";

/** A question: who has this name, and of what kind. */
export interface DnsQuestion {
  readonly name: string;
  readonly type: string;
  readonly class?: string;
}

/** A record, as far as it is used here: `data` is an IP address with the types A and AAAA. */
export interface DnsRecord extends DnsQuestion {
  readonly ttl: number;
  /** Whether it takes the place of all that was known of the name and type (RFC 6762 §10.2). */
  readonly flush?: boolean;
  readonly data: unknown;
}

/** A DNS message. */
export interface DnsMessage {
  readonly id?: number;
  readonly type: "query" | "response";
  readonly flags?: number;
  readonly questions?: readonly DnsQuestion[];
  readonly answers?: readonly DnsRecord[];
  readonly additionals?: readonly DnsRecord[];
}

interface Codec {
  encode(message: DnsMessage): Uint8Array;
  decode(bytes: Uint8Array): Required<DnsMessage>;
}

// The package comes without types.
const codec = packet as unknown as Codec;

/** Of a response: the one who sends it is who knows. */
export const AUTHORITATIVE = 0x0400;
/** How the package names class IN with the bit that asks for a unicast response (RFC 6762 §5.4). */
export const CLASS_IN_UNICAST = "UNKNOWN_32769";

/** Writes a message. */
export function encodeDns(message: DnsMessage): Uint8Array {
  return codec.encode(message);
}

/** Reads a message; `undefined` if it is none. */
export function decodeDns(bytes: Uint8Array): Required<DnsMessage> | undefined {
  try {
    return codec.decode(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  } catch {
    return undefined;
  }
}
