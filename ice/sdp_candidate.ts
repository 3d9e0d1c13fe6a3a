import { isIpAddress, TransportAddress } from "../stun/address.ts";
import type { Candidate, CandidateType } from "./candidate.ts";
import { tcpTypeNamed } from "./tcp.ts";

/** The types of RFC 8445. */
export const TYPES: ReadonlySet<string> = new Set(["host", "srflx", "prflx", "relay"]);
/** What credentials and foundations consist of. */
// RFC 8839 allows letters, digits, "+" and "/". Some agents write "-" and "_", too: they are carried, not judged.
export const VISIBLE = /^[\x21-\x7e]+$/;

/**
 * Reads a candidate: `candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host`, with or without `a=` and `candidate:`.
 *
 * @throws {SyntaxError} If it is none, or of a type that is not in RFC 8445.
 */
export function parseCandidate(line: string): Candidate {
  try {
    return readCandidate(line.trim().replace(/^(a=)?(candidate:)?/i, ""));
  } catch (error) {
    throw new SyntaxError(`Cannot parse candidate "${line.trim()}": ${(error as Error).message}`);
  }
}

/** Reads what follows `candidate:`. */
export function readCandidate(value: string): Candidate {
  const parts = value.split(/\s+/);
  const [foundation = "", component = "", protocol = "", priority = "", host = "", port = "", ...rest] = parts;
  if (parts.length < 8) throw new SyntaxError(`it has ${parts.length} of at least 8 words`);
  if (foundation.length > 32 || !VISIBLE.test(foundation)) {
    throw new SyntaxError("its foundation must have 1 to 32 characters");
  }
  if (!isNumber(component, 1, 256)) throw new SyntaxError("its component must be in 1 to 256");
  if (!isNumber(priority, 1, 0xffffffff)) throw new SyntaxError("its priority must be in 1 to 4294967295");
  if (!isNumber(port, 0, 65535)) throw new SyntaxError("its port must be in 0 to 65535");
  const { known, extensions } = readPairs(rest);
  const tcpType = protocol.toLowerCase() === "tcp" ? tcpTypeNamed(known.get("tcptype") ?? "") : undefined;
  // A type of the future, or one of a transport of the future, is carried along.
  if (tcpType === undefined && known.has("tcptype")) extensions.unshift(["tcptype", known.get("tcptype")!]);
  const type = known.get("typ")?.toLowerCase() ?? "";
  if (!TYPES.has(type)) throw new SyntaxError("its type must be host, srflx, prflx or relay");
  const bare = host.replace(/^\[(.*)\]$/, "$1");
  const related = relatedAddress(known.get("raddr"), known.get("rport"));
  const isIp = isIpAddress(bare.split("%")[0]!);
  return {
    foundation,
    component: Number(component),
    protocol: protocol.toLowerCase(),
    ...(tcpType === undefined ? {} : { tcpType }),
    priority: Number(priority),
    address: isIp ? TransportAddress.of(bare, Number(port)) : undefined,
    type: type as CandidateType,
    ...(isIp ? {} : { name: { host: bare, port: Number(port) } }),
    ...(related === undefined ? {} : { relatedAddress: related }),
    ...(extensions.length === 0 ? {} : { extensions }),
  };
}

/** The name-value pairs at the end of a candidate line, in whatever order they come. */
function readPairs(words: readonly string[]): { known: Map<string, string>; extensions: [string, string][] } {
  const known = new Map<string, string>();
  const extensions: [string, string][] = [];
  for (let i = 0; i < words.length; i += 2) {
    const name = words[i]!;
    const value = words[i + 1] ?? "";
    if (["typ", "raddr", "rport", "tcptype"].includes(name.toLowerCase())) known.set(name.toLowerCase(), value);
    else extensions.push([name, value]);
  }
  return { known, extensions };
}

/** Writes a candidate as RFC 8839 §5.1 and RFC 6544 §4.5 have it, beginning with `candidate:` and without `a=`. */
export function formatCandidate(candidate: Candidate): string {
  const { foundation, component, protocol, priority, address, name, type, relatedAddress, extensions } = candidate;
  const { tcpType } = candidate;
  const host = name?.host ?? address?.address ?? "0.0.0.0";
  const port = name?.port ?? address?.port ?? 9;
  let line = `candidate:${foundation} ${component} ${protocol} ${priority} ${host} ${port} typ ${type}`;
  if (relatedAddress !== undefined) line += ` raddr ${relatedAddress.address} rport ${relatedAddress.port}`;
  if (tcpType !== undefined) line += ` tcptype ${tcpType}`;
  for (const [key, value] of extensions ?? []) line += ` ${key} ${value}`;
  return line;
}

function relatedAddress(host: string | undefined, port: string | undefined): TransportAddress | undefined {
  if (host === undefined || !isIpAddress(host) || !isNumber(port ?? "0", 0, 65535)) return undefined;
  return TransportAddress.of(host, Number(port ?? "0"));
}

/** Whether a text is a whole number in this range. */
export function isNumber(text: string, least: number, most: number): boolean {
  return /^\d{1,10}$/.test(text) && Number(text) >= least && Number(text) <= most;
}
