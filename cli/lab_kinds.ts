import {
  addHostBehind,
  type ClassicType,
  NAT_TYPES,
  type NatBehavior,
  type NatOptions,
  type VirtualHost,
  type VirtualWorld,
} from "../stun/net/virtual/mod.ts";
import { UsageError } from "./terminal.ts";

/** How a NAT maps and filters, in the words of RFC 4787. */
export interface NatRules {
  /** What a mapping depends on besides the endpoint inside. */
  readonly mapping: NatBehavior;
  /** Whose datagrams come in through a mapping. */
  readonly filtering: NatBehavior;
}

/** What may lie between a host and the internet in the lab. */
export interface LabKind {
  /** The name. */
  readonly name: string;
  /** The same for the head of a table: 11 characters at most. */
  readonly short: string;
  /** What it is, for people. */
  readonly what: string;
  /** What is next to the host. */
  readonly type: ClassicType;
  /** Other rules than those of `type`, and what else to change of that NAT. */
  readonly nat?: NatRules & Partial<NatOptions>;
  /** Which TCP it lets through. Default: all. */
  readonly tcp?: "tls only" | "blocked";
  /** A second NAT, between the first one and the internet. */
  readonly carrier?: NatRules;
}

const OF_EACH: Readonly<Record<string, NatBehavior>> = {
  EI: "endpoint-independent",
  AD: "address-dependent",
  APD: "address-and-port-dependent",
};

/**
 * The kinds that libwebrtc's own tests cross (of its three ways to block UDP, the one that lets all TCP out and the one that
 * lets out what browsers need), and a firewall and a carrier's NAT.
 */
export const CLASSIC_KINDS: readonly LabKind[] = [
  { name: "open", short: "open", what: "a public address", type: "open" },
  classic("full cone", "full cone"),
  classic("restricted cone", "restricted"),
  classic("port restricted cone", "port restr."),
  classic("symmetric", "symmetric"),
  {
    ...classic("full cone", "two cones"),
    name: "double cone",
    what: "a full cone behind a full cone",
    carrier: NAT_TYPES["full cone"],
  },
  {
    ...classic("full cone", "symm.+cone"),
    name: "symmetric then cone",
    what: "a full cone behind a symmetric NAT",
    carrier: NAT_TYPES.symmetric,
  },
  {
    ...classic("port restricted cone", "carrier"),
    name: "carrier",
    what: "a home's port restricted cone behind a carrier's (RFC 6888)",
    carrier: NAT_TYPES["port restricted cone"],
  },
  {
    name: "symmetric firewall",
    short: "firewall",
    what: "a public address behind a stateful firewall",
    type: "symmetric firewall",
  },
  { name: "UDP blocked", short: "UDP blocked", what: "a NAT that lets no UDP through, but TCP", type: "blocked" },
  {
    name: "TLS only",
    short: "TLS only",
    what: "a NAT that lets nothing through but TCP to port 443",
    type: "blocked",
    tcp: "tls only",
  },
];

/** Nobody has a path out of it. */
const CLOSED: LabKind = {
  name: "closed",
  short: "closed",
  what: "a NAT that lets nothing through",
  type: "blocked",
  tcp: "blocked",
};

/**
 * The nine ways to combine mapping (M) and filtering (F), each endpoint-independent (EI), address-dependent (AD), or address and
 * port dependent (APD). Four of them are classic kinds under another name.
 */
export const RFC4787_KINDS: readonly LabKind[] = Object.entries(OF_EACH).flatMap(([m, mapping]) =>
  Object.entries(OF_EACH).map(([f, filtering]): LabKind => ({
    name: `${m}M+${f}F`,
    short: `${m}M+${f}F`,
    what: `${mapping} mapping, ${filtering} filtering`,
    type: "symmetric",
    nat: { mapping, filtering },
  }))
);

/** All kinds. */
export const LAB_KINDS: readonly LabKind[] = [...CLASSIC_KINDS, ...RFC4787_KINDS, CLOSED];

/**
 * The kind that a user means: a name, or a part of one, with spaces, hyphens or underscores, in any case.
 *
 * @throws {UsageError} If there is no such kind, or several fit.
 */
export function findKind(option: string, text: string): LabKind {
  const wanted = text.toLowerCase().replaceAll(/[\s_-]+/g, " ").trim();
  const fitting = (test: (name: string) => boolean) => LAB_KINDS.filter(({ name }) => test(name.toLowerCase()));
  const [exact] = fitting((name) => name === wanted);
  if (exact !== undefined) return exact;
  let found = fitting((name) => name.startsWith(wanted));
  if (found.length === 0) found = fitting((name) => name.includes(wanted));
  if (found.length === 1) return found[0]!;
  const names = (found.length > 1 ? found : LAB_KINDS).map(({ name }) => name).join(", ");
  throw new UsageError(`Option --${option} must be one of ${names}: "${text}"`);
}

/**
 * The kind of this name, exactly.
 *
 * @throws {Error} If there is none.
 */
export function kindNamed(name: string): LabKind {
  const found = LAB_KINDS.find((kind) => kind.name === name);
  if (found === undefined) throw new Error(`Cannot find kind of NAT "${name}"`);
  return found;
}

/** The rules of all NATs of a kind together: a datagram has to pass each, so the strictest of each rule counts. */
export function rulesOf({ type, nat, carrier }: LabKind): NatRules {
  const inner = nat ?? RULES_OF_TYPE[type];
  const outer = carrier ?? NOTHING;
  const stricter = (a: NatBehavior, b: NatBehavior) => STRICTNESS.indexOf(a) > STRICTNESS.indexOf(b) ? a : b;
  return {
    mapping: stricter(inner.mapping, outer.mapping),
    filtering: stricter(inner.filtering, outer.filtering),
  };
}

/** Whether the internet sees another address than the host has. */
export function isTranslated({ type }: LabKind): boolean {
  return type !== "open" && type !== "symmetric firewall";
}

/** How many links there are between the host and the internet. */
export function linksOf({ type, carrier }: LabKind): number {
  return (type === "open" ? 1 : 2) + (carrier === undefined ? 0 : 1);
}

/** Puts a host behind a kind. The NATs' names begin with the host's. */
export function addLabHost(
  world: VirtualWorld,
  kind: LabKind,
  { name, external, internal }: { name: string; external: string; internal: string },
): VirtualHost {
  const { type, nat, tcp, carrier } = kind;
  const rules = { nat: { ...nat, ...(tcp === undefined ? {} : { tcp }) } };
  if (carrier === undefined) return addHostBehind(world, { name, type, external, internal, ...rules }).host;
  const outer = world.addNat(`${name}-carrier`, { external: [external], ...carrier });
  // Between the two are addresses of RFC 6598.
  return addHostBehind(outer, { name, type, external: "100.64.0.2", internal, ...rules }).host;
}

const STRICTNESS: readonly NatBehavior[] = Object.values(OF_EACH);
const NOTHING: NatRules = NAT_TYPES["full cone"];
const RULES_OF_TYPE: Readonly<Record<ClassicType, NatRules>> = {
  ...NAT_TYPES,
  "open": NOTHING,
  "symmetric firewall": NAT_TYPES["port restricted cone"],
  "blocked": NAT_TYPES["port restricted cone"],
};

function classic(type: keyof typeof NAT_TYPES, short: string): LabKind {
  const { mapping, filtering } = NAT_TYPES[type];
  return { name: type, short, what: `${mapping} mapping, ${filtering} filtering`, type };
}
