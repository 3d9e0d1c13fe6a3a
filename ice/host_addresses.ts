import { isIpAddress, TransportAddress } from "../stun/address.ts";
import type { Host, LocalInterface } from "../stun/net/transport.ts";
import { isLinkLocal, isLoopback, orderFamilies } from "./candidate.ts";
import type { GatherOptions } from "./gather_options.ts";

/** What chooses among a host's addresses. */
export type AddressChoice = Pick<GatherOptions, "bind" | "interfaceFilter" | "ipVersion">;

/**
 * The addresses of a host that make candidates (RFC 8445 §5.1.1.1): without loopback, unless there is nothing else,
 * without IPv6 link-local, site-local, IPv4-mapped and deprecated ones, temporary ones first. In the order of preference
 * of RFC 8421. Their port is 0: any.
 */
export function hostAddresses(host: Pick<Host, "interfaces">): TransportAddress[] {
  return chooseAddresses(host.interfaces(), {});
}

/**
 * The addresses to use.
 *
 * @param interfaces All that there are.
 * @param choice What the user wants of them.
 * @throws {SyntaxError} If an address in `bind` is none.
 * @throws {RangeError} If an address in `bind` stands for all.
 */
export function chooseAddresses(interfaces: readonly LocalInterface[], choice: AddressChoice): TransportAddress[] {
  const { bind, interfaceFilter = () => true, ipVersion } = choice;
  const isWanted = ({ family }: TransportAddress) => ipVersion === undefined || family === ipVersion;
  if (bind !== undefined) {
    const refused = interfaces.filter((one) => !interfaceFilter(one));
    return bind.map(parseBind).filter((address) => isWanted(address) && interfaceOf(address, refused) === undefined);
  }
  const allowed = interfaces.filter((one) => isIpAddress(one.address) && one.isDeprecated !== true)
    // Of equally good addresses the temporary one, which does not tell which computer this is (RFC 8981, RFC 6724 rule 7).
    .sort((a, b) => Number(b.isTemporary === true) - Number(a.isTemporary === true));
  const texts = [...new Set(allowed.filter(interfaceFilter).map(({ address }) => address))];
  const all = texts.map((text) => TransportAddress.of(text, 0)).filter((address) =>
    isWanted(address) && !isLinkLocal(address) && !isUnfit(address)
  );
  const beyond = all.filter((address) => !isLoopback(address));
  return orderFamilies(beyond.length > 0 ? beyond : all);
}

/** The name of the interface that has this address; `undefined` if none has. */
export function interfaceOf(address: TransportAddress, interfaces: readonly LocalInterface[]): string | undefined {
  return interfaces.find((one) =>
    isIpAddress(one.address) && TransportAddress.of(one.address, 0).ipKey === address.ipKey
  )
    ?.name;
}

/**
 * The ports to try for a host candidate, in their order.
 *
 * @param random 0 to below 1: where to begin.
 * @throws {RangeError} If the range is none.
 */
export function portsToTry([min, max]: readonly [number, number], random: number): number[] {
  if (!(Number.isInteger(min) && Number.isInteger(max) && min >= 1 && min <= max && max <= 65535)) {
    throw new RangeError(
      `Cannot use portRange as it must be two ports from 1 to 65535, the lower one first: current value is ${min} to ${max}`,
    );
  }
  const count = max - min + 1;
  const start = Math.floor(random * count);
  return Array.from({ length: count }, (_, i) => min + (start + i) % count);
}

function parseBind(text: string): TransportAddress {
  const address = TransportAddress.parse(text, 0);
  if (!address.bytes.every((byte) => byte === 0)) return address;
  throw new RangeError(`Cannot bind "${text}" as it must be one address of an interface; leave it out for all of them`);
}

/** IPv6 site-local fec0::/10, IPv4-mapped ::ffff:0:0/96 and IPv4-compatible ::/96. */
function isUnfit({ family, bytes }: TransportAddress): boolean {
  if (family === 4) return false;
  if (bytes[0] === 0xfe && (bytes[1]! & 0xc0) === 0xc0) return true;
  const isLoopback6 = bytes.every((byte, i) => byte === (i === 15 ? 1 : 0));
  return !isLoopback6 && bytes.subarray(0, 10).every((byte) => byte === 0);
}
