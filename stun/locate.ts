import type { Random } from "./machine.ts";
import { randomBelow } from "./random.ts";
import type { StunUri } from "./uri.ts";

/** What a client and a server talk over. */
export type ServerTransport = "udp" | "tcp" | "tls" | "dtls";

/** An SRV record (RFC 2782). */
export interface SrvRecord {
  /** Lower ones first, 0 to 65535. */
  readonly priority: number;
  /** The share among those of the same priority, 0 to 65535. */
  readonly weight: number;
  /** The port. */
  readonly port: number;
  /** The host's name. `.` says that there is no such service. */
  readonly target: string;
}

/** A NAPTR record (RFC 3403 §4.1). */
export interface NaptrRecord {
  /** Lower ones first, 0 to 65535. */
  readonly order: number;
  /** Lower ones first among those of the same order, 0 to 65535. */
  readonly preference: number;
  /** `s`: the replacement has SRV records; `a`: it has addresses; empty: it has NAPTR records. */
  readonly flags: string;
  /** Service and protocols, as `RELAY:turn.udp`. */
  readonly services: string;
  /** Not used for servers (RFC 3958 §2.2.3). */
  readonly regexp: string;
  /** The next name to look up. */
  readonly replacement: string;
}

/** Protocol tags of RFC 5928 §5 and RFC 7350 §4.3, and the transports they stand for. */
const RELAY_TAGS: ReadonlyMap<string, ServerTransport> = new Map([
  ["turn.udp", "udp"],
  ["turn.tcp", "tcp"],
  ["turn.tls", "tls"],
  ["turn.dtls", "dtls"],
]);

/** The name under which a service's SRV records are, as `_turns._tcp.example.org` (RFC 5928 §3, RFC 8489 §8.1). */
export function srvName({ scheme, host }: StunUri, transport: ServerTransport): string {
  return `_${scheme}._${transport === "udp" || transport === "dtls" ? "udp" : "tcp"}.${host}`;
}

/**
 * The transports by which a URI's server may be asked, best first (RFC 5928 §3 steps 1-2).
 *
 * @param uri `stuns` and `turns` leave only TLS and DTLS; a transport in the URI leaves only what runs over that.
 * @param supported What the caller can do, best first.
 * @throws {SyntaxError} If nothing is left.
 */
export function transportsOf(uri: StunUri, supported: readonly ServerTransport[]): ServerTransport[] {
  const isSecure = uri.scheme.endsWith("s");
  const left = supported.filter((one) => {
    const below = one === "tls" ? "tcp" : one === "dtls" ? "udp" : one;
    return isSecure === (below !== one) && below === (uri.transport ?? below);
  });
  if (left.length === 0) {
    const wish = uri.transport === undefined ? `${uri.scheme}:` : `${uri.scheme}:...?transport=${uri.transport}`;
    throw new SyntaxError(`Cannot use the URI as "${wish}" does not go with ${supported.join(" or ")}`);
  }
  return left;
}

/**
 * SRV records in the order to try them: by priority, and by chance according to weight among equals (RFC 2782).
 *
 * @param records As DNS gave them. Not changed.
 * @param random Randomness.
 * @returns All of them, without those that say that there is no such service (target `.`).
 */
export function orderSrv(records: readonly SrvRecord[], random: Random): SrvRecord[] {
  // Those of weight 0 stand first, so that they have a small chance to be chosen (RFC 2782).
  const left = records.filter(({ target }) => target !== "." && target !== "")
    .sort((a, b) => a.priority - b.priority || Number(a.weight !== 0) - Number(b.weight !== 0));
  const ordered: SrvRecord[] = [];
  while (left.length > 0) {
    const equals = left.findIndex(({ priority }) => priority !== left[0]!.priority);
    const group = equals === -1 ? left.length : equals;
    let sum = 0;
    for (let i = 0; i < group; i++) sum += left[i]!.weight;
    let chosen = randomBelow(random, sum + 1);
    let index = 0;
    for (; index < group - 1 && chosen > left[index]!.weight; index++) chosen -= left[index]!.weight;
    ordered.push(...left.splice(index, 1));
  }
  return ordered;
}

/** A NAPTR record that leads to a TURN server. */
export interface RelayPointer {
  /** What the server would be asked over; the first one that the caller supports. */
  readonly transport: ServerTransport;
  /** What `name` has: SRV records, addresses, or NAPTR records again. */
  readonly kind: "srv" | "address" | "naptr";
  /** The next name to look up. */
  readonly name: string;
}

/**
 * What NAPTR records say about TURN servers (RFC 5928 §3 step 4, RFC 3958): in order, without what is not about TURN or
 * needs a transport that is not there.
 *
 * @param records As DNS gave them. Not changed.
 * @param transports The transports that may be used.
 */
export function relayPointers(
  records: readonly NaptrRecord[],
  transports: readonly ServerTransport[],
): RelayPointer[] {
  const pointers: RelayPointer[] = [];
  for (const record of [...records].sort((a, b) => a.order - b.order || a.preference - b.preference)) {
    const [service, ...tags] = record.services.toLowerCase().split(":");
    const flags = record.flags.toLowerCase();
    const kind = flags === "s" ? "srv" : flags === "a" ? "address" : flags === "" ? "naptr" : undefined;
    if (service !== "relay" || kind === undefined || record.regexp !== "") continue;
    for (const tag of tags) {
      const transport = RELAY_TAGS.get(tag);
      if (transport === undefined || !transports.includes(transport)) continue;
      pointers.push({ transport, kind, name: record.replacement.replace(/\.$/, "") });
    }
  }
  return pointers;
}

/**
 * Addresses in the order to try them: alternating between IP versions, otherwise as they are (RFC 8305 §4).
 *
 * @param addresses IP addresses as text.
 * @param first The IP version to begin with.
 */
export function interleaveFamilies(addresses: readonly string[], first: 4 | 6): string[] {
  const six = addresses.filter((address) => address.includes(":"));
  const four = addresses.filter((address) => !address.includes(":"));
  const [one, other] = first === 6 ? [six, four] : [four, six];
  const mixed: string[] = [];
  for (let i = 0; i < Math.max(one.length, other.length); i++) {
    if (i < one.length) mixed.push(one[i]!);
    if (i < other.length) mixed.push(other[i]!);
  }
  return mixed;
}
