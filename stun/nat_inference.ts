import type { TransportAddress } from "./address.ts";
import type { ClassicNatType, NatBehavior, PortAllocation } from "./nat_report.ts";

/** A conclusion, and why there is none. */
export interface Finding<T> {
  /** The conclusion. */
  readonly value: T;
  /** Why it is unknown. */
  readonly why?: string;
}

/** One socket's mapping towards one destination. */
export interface MappingSample {
  /** The destination. */
  readonly to: TransportAddress;
  /** The public address that it saw. */
  readonly mapped: TransportAddress;
}

/**
 * The mapping behaviour (RFC 4787 §4.1), from what several destinations saw of one socket (RFC 5780 §4.3).
 *
 * @param local The socket's own address.
 * @param samples At most one for each destination.
 */
export function findMapping(
  local: TransportAddress | undefined,
  samples: readonly MappingSample[],
): Finding<NatBehavior> & { readonly differs: boolean } {
  let sameIp = 0;
  let otherIp = 0;
  let differsByPort = false;
  let differsByIp = false;
  for (const [i, a] of samples.entries()) {
    for (const b of samples.slice(i + 1)) {
      const differs = !a.mapped.equals(b.mapped);
      if (a.to.ipKey === b.to.ipKey) {
        sameIp++;
        differsByPort ||= differs;
      } else {
        otherIp++;
        differsByIp ||= differs;
      }
    }
  }
  const differs = differsByIp || differsByPort;
  if (differsByPort) return { value: "address-and-port-dependent", differs };
  if (!differs && samples.length > 0 && samples.every(({ mapped }) => local !== undefined && mapped.equals(local))) {
    return { value: "endpoint-independent", differs };
  }
  if (!differs && otherIp > 0) return { value: "endpoint-independent", differs };
  if (differs && sameIp > 0) return { value: "address-dependent", differs };
  const why = differs
    ? "destinations see different public addresses, but none could be asked on two ports of one address"
    : sameIp > 0
    ? "two ports of one address see the same public address, but no second address could be asked"
    : "only one destination answered: it takes a server with two addresses, or several servers";
  return { value: "unknown", differs, why };
}

/** What came of a request to be answered from elsewhere, as `findFiltering()` reads it. */
export type ChangeOutcome =
  /** Answered from there. */
  | "passed"
  /** No answer, while the socket's other request was answered and the other address is known to be alive. */
  | "filtered"
  /** The server can not, or does not do so. */
  | "refused"
  /** Nothing can be concluded. */
  | "unknown";

/**
 * The filtering behaviour (RFC 4787 §5), from answers asked for from other addresses (RFC 5780 §4.4).
 *
 * @param fromOtherIp From the server's other address and other port.
 * @param fromOtherPort From its other port only.
 */
export function findFiltering(fromOtherIp: ChangeOutcome, fromOtherPort: ChangeOutcome): Finding<NatBehavior> {
  if (fromOtherIp === "passed") return { value: "endpoint-independent" };
  if (fromOtherPort === "filtered") return { value: "address-and-port-dependent" };
  if (fromOtherIp === "filtered" && fromOtherPort === "passed") return { value: "address-dependent" };
  const why = fromOtherPort === "passed"
    ? "the server could not answer from another address, only from another port"
    : fromOtherIp === "refused" || fromOtherPort === "refused"
    ? "the server does not answer from elsewhere when asked to (CHANGE-REQUEST)"
    : "the answers that would tell did not come, but the server's other address is silent anyhow";
  return { value: "unknown", why };
}

/** A new mapping, in the order in which they were made. */
export interface PortSample {
  /** The socket's own address. */
  readonly local: TransportAddress;
  /** The public address it was given. */
  readonly mapped: TransportAddress;
}

// How far a sequential NAT may have moved on between two of our mappings, on behalf of others.
const MAX_SKIP = 32;

/**
 * How public ports are picked (RFC 4787 §4.2.1).
 *
 * @param samples New mappings of different sockets, in the order in which they were made. Three at least.
 */
export function findPortAllocation(
  samples: readonly PortSample[],
): Finding<PortAllocation> & { readonly step: number | null } {
  if (samples.length < 3) return { value: "unknown", step: null, why: "too few new mappings were answered" };
  const kept = samples.filter(({ local, mapped }) => local.port === mapped.port).length;
  // One port may be somebody else's already.
  if (kept >= samples.length - 1) return { value: "preserving", step: null };
  const last = new Map<number | string, number>();
  const diffs: number[] = [];
  for (const { mapped } of samples) {
    const before = last.get(mapped.ipKey);
    if (before !== undefined) diffs.push(mapped.port - before);
    last.set(mapped.ipKey, mapped.port);
  }
  const step = sequentialStep(diffs);
  return step === undefined ? { value: "random", step: null } : { value: "sequential", step };
}

function sequentialStep(diffs: readonly number[]): number | undefined {
  const step = commonStep(diffs);
  if (step !== undefined || diffs.length < 4) return step;
  // One jump may be the end of the range, where it starts again.
  for (const jump of diffs.keys()) {
    const rest = commonStep(diffs.toSpliced(jump, 1));
    if (rest !== undefined) return rest;
  }
  return undefined;
}

/** The largest step of which all are multiples, in one direction and not too many; `undefined` if there is none. */
function commonStep(diffs: readonly number[]): number | undefined {
  if (diffs.length < 2 || !(diffs.every((diff) => diff > 0) || diffs.every((diff) => diff < 0))) return undefined;
  const step = diffs.map(Math.abs).reduce(greatestCommonDivisor);
  if (step > MAX_SKIP || diffs.some((diff) => Math.abs(diff) > MAX_SKIP * step)) return undefined;
  return diffs[0]! > 0 ? step : -step;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

/** The label of RFC 3489, from the words of RFC 4787. */
export function classicNatType(
  nat: boolean,
  mapping: NatBehavior,
  filtering: NatBehavior,
  mappingDiffers: boolean,
): ClassicNatType {
  if (nat && (mappingDiffers || mapping === "address-dependent" || mapping === "address-and-port-dependent")) {
    return "symmetric";
  }
  if (mapping === "unknown" || filtering === "unknown") return "unknown";
  if (filtering === "endpoint-independent") return nat ? "full cone" : "open";
  if (!nat) return "symmetric firewall";
  return filtering === "address-dependent" ? "restricted cone" : "port restricted cone";
}
