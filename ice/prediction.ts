import type { TransportAddress } from "../stun/address.ts";

/** How many ports may be guessed for one socket. */
export const MAX_PREDICTED = 16;
/** A NAT that goes up or down by more for each mapping does not count, it rolls dice. */
const MAX_STEP = 16;

/** What a STUN server saw of one socket. */
export interface MappingSeen {
  /** When it was asked, which is when the NAT made the mapping. */
  readonly askedAt: number;
  /** What it saw. */
  readonly mapped: TransportAddress;
}

/**
 * The public addresses that the next mappings of a socket will likely have, best guess first: where each server saw another
 * port of the same address (RFC 4787 §4.1: a mapping for each destination), and one followed the other by a small step.
 *
 * Others behind the same NAT, our own sockets to relays among them, make mappings in between. So of two servers alone a
 * small step is taken for steps of 1; of three or more, for the largest step that all of them are multiples of.
 *
 * @param seen What servers saw of one socket, at least two.
 * @param count How many guesses to make.
 * @returns None where there is nothing to go by.
 */
export function predictMappings(seen: readonly MappingSeen[], count: number): TransportAddress[] {
  const inOrder = seen.toSorted((a, b) => a.askedAt - b.askedAt).map(({ mapped }) => mapped);
  const last = inOrder.at(-1);
  if (last === undefined || inOrder.some(({ ipKey }) => ipKey !== last.ipKey)) return [];
  const steps = inOrder.slice(1).map(({ port }, i) => port - inOrder[i]!.port);
  const [first] = steps;
  if (first === undefined) return [];
  if (!steps.every((step) => step * first > 0 && Math.abs(step) <= MAX_STEP)) return [];
  const common = Math.abs(steps.reduce(greatestCommonDivisor));
  const step = Math.sign(first) * (steps.length === 1 && common <= count / 2 ? 1 : common);
  const guesses: TransportAddress[] = [];
  for (let i = 1; i <= count; i++) {
    const port = last.port + i * step;
    if (port < 1 || port > 65535) break;
    guesses.push(last.withPort(port));
  }
  return guesses;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
