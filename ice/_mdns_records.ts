import type { TransportAddress } from "../stun/address.ts";
import { AUTHORITATIVE, CLASS_IN_UNICAST, type DnsMessage, type DnsRecord } from "./_dns_packet.ts";

/** How long others may remember an address record, in seconds (RFC 6762 §10). */
const TTL = 120;
/** The same for who does not speak mDNS (§6.7). */
const LEGACY_TTL = 10;

/** A name that is answered for. */
export interface Registration {
  /** In lower case. */
  readonly name: string;
  /** With port 0. */
  readonly address: TransportAddress;
  /** The interface that it belongs to. */
  readonly link: string;
}

/** An answer about one name. */
export interface Answer {
  readonly name: string;
  readonly message: DnsMessage;
  /** Whether all questions about it asked for a unicast response. */
  readonly wantsUnicast: boolean;
}

/** What tells everybody of these names; with a TTL of 0, of their end. */
export function announcementOf(names: readonly Registration[], ttl: number = TTL): DnsMessage {
  return {
    type: "response",
    flags: AUTHORITATIVE,
    answers: names.map((own) => addressRecord(own, { ttl, flush: true })),
    // For the other family there is nothing: so nobody waits for it (RFC 6762 §6.1).
    ...(ttl === 0 ? {} : { additionals: names.map((own) => nothingElse(own, { ttl, flush: true })) }),
  };
}

/**
 * The answers to a query, one for each name that is ours.
 *
 * @param isLegacy Whether it came from another port than mDNS's: such an answer is as in unicast DNS (RFC 6762 §6.7).
 */
export function answerTo(
  query: Required<DnsMessage>,
  names: ReadonlyMap<string, Registration>,
  isLegacy: boolean,
): Answer[] {
  const asked = new Map<string, { own: Registration; wantsUnicast: boolean; isForAddress: boolean }>();
  for (const { name, type, class: klass } of query.questions) {
    const own = names.get(name.toLowerCase());
    const wantsUnicast = klass === CLASS_IN_UNICAST;
    if (own === undefined || (klass !== "IN" && klass !== "ANY" && !wantsUnicast)) continue;
    const before = asked.get(own.name) ?? { own, wantsUnicast: true, isForAddress: false };
    before.wantsUnicast &&= wantsUnicast;
    before.isForAddress ||= type === typeOf(own) || type === "ANY";
    asked.set(own.name, before);
  }
  const answers: Answer[] = [];
  for (const { own, wantsUnicast, isForAddress } of asked.values()) {
    if (isKnown(query, own)) continue;
    const options = isLegacy ? { ttl: LEGACY_TTL, flush: false } : { ttl: TTL, flush: true };
    const nothing = nothingElse(own, options);
    answers.push({
      name: own.name,
      wantsUnicast,
      message: {
        type: "response",
        flags: AUTHORITATIVE,
        ...(isLegacy ? { id: query.id, questions: query.questions } : {}),
        answers: isForAddress ? [addressRecord(own, options)] : [nothing],
        ...(isForAddress ? { additionals: [nothing] } : {}),
      },
    });
  }
  return answers;
}

/** RFC 6762 §7.1: who asks has the answer, and will have it for a while. */
function isKnown({ answers }: Required<DnsMessage>, own: Registration): boolean {
  return answers.some(({ name, type, data, ttl }) =>
    name.toLowerCase() === own.name && type === typeOf(own) && data === own.address.address && ttl >= TTL / 2
  );
}

function typeOf({ address }: Registration): "A" | "AAAA" {
  return address.family === 4 ? "A" : "AAAA";
}

function addressRecord(own: Registration, options: { ttl: number; flush: boolean }): DnsRecord {
  return { name: own.name, type: typeOf(own), class: "IN", data: own.address.address, ...options };
}

function nothingElse(own: Registration, options: { ttl: number; flush: boolean }): DnsRecord {
  return {
    name: own.name,
    type: "NSEC",
    class: "IN",
    data: { nextDomain: own.name, rrtypes: [typeOf(own)] },
    ...options,
  };
}
