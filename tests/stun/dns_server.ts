// A DNS server on loopback UDP that knows what a test tells it (RFC 1035).
import { TransportAddress } from "../../stun/address.ts";
import type { NaptrRecord, SrvRecord } from "../../stun/locate.ts";

/** What a name has. */
export interface ZoneEntry {
  readonly A?: readonly string[];
  readonly AAAA?: readonly string[];
  readonly SRV?: readonly SrvRecord[];
  readonly NAPTR?: readonly NaptrRecord[];
}
const TYPES = { 1: "A", 28: "AAAA", 33: "SRV", 35: "NAPTR" } as const;

/** Answers for the names of its zone, and says of all others that there are none. */
export class DnsServer implements Disposable {
  /** What was asked, as `SRV _stun._udp.example.org`. */
  readonly queries: string[] = [];
  /** While set, it is silent. */
  isSilent = false;
  #zone: Readonly<Record<string, ZoneEntry>>;
  #socket = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });

  constructor(zone: Readonly<Record<string, ZoneEntry>>) {
    this.#zone = zone;
    this.#serve();
  }

  /** Where it is. */
  get address(): TransportAddress {
    return TransportAddress.of("127.0.0.1", (this.#socket.addr as Deno.NetAddr).port);
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }

  async #serve(): Promise<void> {
    for await (const [query, from] of this.#socket) {
      if (!this.isSilent) await this.#socket.send(this.#answer(query), from);
    }
  }

  #answer(query: Uint8Array): Uint8Array {
    let at = 12;
    const labels: string[] = [];
    for (; query[at] !== 0; at += 1 + query[at]!) {
      labels.push(new TextDecoder().decode(query.subarray(at + 1, at + 1 + query[at]!)));
    }
    const name = labels.join(".");
    const type = TYPES[query[at + 2] as keyof typeof TYPES];
    this.queries.push(`${type} ${name}`);
    const entry = this.#zone[name];
    const records = (entry?.[type] ?? []).map((record) => [
      ...[0xc0, 12, 0, query[at + 2]!, 0, 1, 0, 0, 0, 60],
      ...sized(encode(record as never)),
    ]);
    return Uint8Array.of(
      ...query.subarray(0, 2),
      ...[0x81, entry === undefined ? 0x83 : 0x80, 0, 1, 0, records.length, 0, 0, 0, 0],
      ...query.subarray(12, at + 5),
      ...records.flat(),
    );
  }
}

function encode(record: string | SrvRecord | NaptrRecord): number[] {
  if (typeof record === "string") return [...TransportAddress.of(record, 0).bytes];
  if ("target" in record) {
    return [...uint16(record.priority), ...uint16(record.weight), ...uint16(record.port), ...domain(record.target)];
  }
  const { order, preference, flags, services, regexp, replacement } = record;
  const texts = [flags, services, regexp].flatMap((text) => [text.length, ...new TextEncoder().encode(text)]);
  return [...uint16(order), ...uint16(preference), ...texts, ...domain(replacement)];
}

function domain(name: string): number[] {
  const labels = name.split(".").filter((label) => label !== "");
  return [...labels.flatMap((label) => [label.length, ...new TextEncoder().encode(label)]), 0];
}

function sized(bytes: number[]): number[] {
  return [...uint16(bytes.length), ...bytes];
}

function uint16(value: number): number[] {
  return [value >> 8, value & 0xff];
}
