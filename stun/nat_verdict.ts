import type { AddressFamily, TransportAddress } from "./address.ts";
import { classicNatType, type Finding, type findMapping, type findPortAllocation } from "./nat_inference.ts";
import { lifetimeSeconds } from "./nat_lifetime.ts";
import type {
  ClassicNatType,
  FragmentHandling,
  LifetimeResult,
  NatBehavior,
  NatQuestion,
  NatReport,
  ProbeResult,
  ServerResult,
} from "./nat_report.ts";

/** What a probe has found, one by one. */
export interface NatFindings {
  /** The address family. */
  readonly family: AddressFamily;
  /** Where it was asked from. */
  readonly local: TransportAddress | null;
  /** What the server saw. */
  readonly mapped: TransportAddress | null;
  /** Whether any socket has another address outside. */
  readonly isTranslated: boolean;
  /** Whether no datagram at all came back. */
  readonly isBlocked: boolean;
  /** Whether the server answers over TCP. */
  readonly answersTcp: boolean | null;
  /** By `findMapping()`. */
  readonly mapping: ReturnType<typeof findMapping>;
  /** By `findFiltering()`. */
  readonly filtering: Finding<NatBehavior>;
  /** By `findPortAllocation()`. */
  readonly ports: ReturnType<typeof findPortAllocation>;
  /** Whether a request came back in. */
  readonly hairpin: Finding<boolean | null>;
  /** With which source. */
  readonly hairpinSource: "external" | "internal" | null;
  /** The result of the search, or why there is none. */
  readonly lifetime: LifetimeResult | string;
  /** Whether MAPPED-ADDRESS and XOR-MAPPED-ADDRESS disagree. */
  readonly alg: Finding<boolean | null>;
  /** What became of a request with PADDING. */
  readonly fragments: Finding<FragmentHandling>;
  /** All public IP addresses. */
  readonly publicAddresses: readonly string[];
  /** How many mappings were seen. */
  readonly mappings: number;
  /** Oddities. */
  readonly notes: readonly string[];
  /** The servers. */
  readonly servers: readonly ServerResult[];
  /** The requests. */
  readonly tests: readonly ProbeResult[];
  /** In ms. */
  readonly duration: number;
}

/** The kinds of peers that a verdict is about. */
const PEERS: readonly ClassicNatType[] = [
  "open",
  "full cone",
  "restricted cone",
  "port restricted cone",
  "symmetric firewall",
  "symmetric",
  "blocked",
];

/** Makes a report of what was found. */
export function composeNatReport(found: NatFindings): NatReport {
  const { mapping, filtering, mapped, local, lifetime, isTranslated: nat } = found;
  const classic = found.isBlocked
    ? "blocked"
    : mapped === null
    ? "unknown"
    : classicNatType(nat, mapping.value, filtering.value, mapping.differs);
  const { reachableBy, relayFor } = mapped === null && !found.isBlocked
    ? { reachableBy: [], relayFor: [] }
    : reach(classic, mapping, filtering.value);
  const result = typeof lifetime === "string" ? null : lifetime;
  const report = {
    family: found.family,
    local,
    mapped,
    nat,
    mapping: mapping.value,
    filtering: filtering.value,
    classic,
    answersTcp: found.answersTcp,
    hairpin: found.hairpin.value,
    hairpinSource: found.hairpinSource,
    lifetimeSeconds: result === null ? null : lifetimeSeconds(result),
    lifetime: result,
    portAllocation: found.ports.value,
    portStep: found.ports.step,
    publicAddresses: found.publicAddresses,
    ipPooling: found.publicAddresses.length > 1
      ? "arbitrary" as const
      : nat && found.mappings > 2
      ? "paired" as const
      : "unknown" as const,
    alg: found.alg.value,
    fragments: found.fragments.value,
    reachableBy,
    relayFor,
    unknown: unknowns(found, nat),
    servers: found.servers,
    tests: found.tests,
    duration: Math.round(found.duration),
  };
  return { ...report, verdict: verdict(report), notes: [...found.notes, ...remarks(report)] };
}

/**
 * Who reaches us directly, both sides using ICE: each sends to the address that the other's server saw, and answers to
 * where checks come from.
 *
 * - A peer whose mapping is endpoint-independent lets our checks in if its filter knows the address they come from: always,
 *   unless the filter looks at ports and our mapping towards the peer has another port than our server saw.
 * - A symmetric peer's checks come from a port nobody knows before: our filter must not look at ports, and our own mapping
 *   must be the same for all, since the symmetric peer's filter does look.
 */
function reach(
  classic: ClassicNatType,
  { value: mapping, differs }: { readonly value: NatBehavior; readonly differs: boolean },
  filtering: NatBehavior,
): { reachableBy: ClassicNatType[]; relayFor: ClassicNatType[] } {
  const isSteady = mapping === "endpoint-independent" ? true : differs || mapping !== "unknown" ? false : undefined;
  const looksAtPorts = filtering === "unknown" ? undefined : filtering === "address-and-port-dependent";
  const symmetric = isSteady === false || looksAtPorts === true
    ? false
    : isSteady === true && looksAtPorts === false
    ? true
    : undefined;
  const direct = (peer: ClassicNatType): boolean | undefined => {
    if (classic === "blocked" || peer === "blocked") return false;
    if (peer === "port restricted cone" || peer === "symmetric firewall") return isSteady;
    return peer === "symmetric" ? symmetric : true;
  };
  return {
    reachableBy: PEERS.filter((peer) => direct(peer) === true),
    relayFor: PEERS.filter((peer) => direct(peer) === false),
  };
}

function unknowns(found: NatFindings, nat: boolean): Partial<Record<NatQuestion, string>> {
  const silent = found.mapped === null ? "no server gave an address" : undefined;
  const all: Record<NatQuestion, string | undefined> = {
    nat: silent,
    mapping: silent ?? found.mapping.why,
    filtering: silent ?? found.filtering.why,
    portAllocation: silent ?? found.ports.why,
    hairpin: silent ?? found.hairpin.why,
    lifetime: typeof found.lifetime === "string" ? silent ?? found.lifetime : undefined,
    alg: silent ?? found.alg.why,
    fragments: silent ?? found.fragments.why,
    ipPooling: silent ??
      (nat ? (found.mappings > 2 ? undefined : "too few new mappings were answered") : "there is no NAT"),
  };
  return Object.fromEntries(Object.entries(all).filter(([, why]) => why !== undefined));
}

type Verdictless = Omit<NatReport, "verdict" | "notes">;

function verdict(report: Verdictless): string[] {
  const { classic, mapped, reachableBy, relayFor } = report;
  const lines = [headline(report)];
  if (classic === "blocked" || mapped === null) return lines;
  const undecided = PEERS.filter((peer) => !reachableBy.includes(peer) && !relayFor.includes(peer));
  if (reachableBy.length > 0) {
    lines.push(`Direct: peers ${words(reachableBy)}.`);
    lines.push(`By a relay only: peers ${words(relayFor)}.`);
  }
  if (undecided.length > 0 && reachableBy.length > 0) {
    lines.push(`Not known, as it depends on what was not found out: peers ${words(undecided)}.`);
  }
  return lines;
}

function headline({ classic, mapped, nat, mapping, answersTcp }: Verdictless): string {
  if (classic === "blocked" && answersTcp === true) {
    return "UDP is blocked: the server answers over TCP only. A relay over TCP or TLS can help.";
  }
  if (classic !== "unknown") return HEADLINES[classic];
  if (mapped === null) return "Nothing was found out, as no server gave an answer that can be used.";
  if (!nat) return "No NAT; whether a firewall keeps others out was not found out.";
  return mapping === "endpoint-independent"
    ? "A cone NAT: the public address is the same for all. Who may send to it was not found out."
    : HEADLINES.unknown;
}

const HEADLINES: Readonly<Record<ClassicNatType, string>> = {
  "open": "Open: no NAT, and nothing filters UDP. Anybody can send to this address.",
  "full cone": "Full cone NAT: once a socket has sent anything, anybody can send to its public address.",
  "restricted cone":
    "Restricted cone NAT: the public address is the same for all, and lets in the hosts that were sent to.",
  "port restricted cone":
    "Port restricted cone NAT: the public address is the same for all, and lets in the very ports that were sent to.",
  "symmetric": "Symmetric NAT: each destination sees another public address, so nobody can be told where to send to.",
  "symmetric firewall": "No NAT, but a firewall: it lets in only those who were sent to first.",
  "blocked": "UDP is blocked, or no server answers: only a relay over TCP or TLS can help.",
  "unknown": "A NAT, but not enough was found out to name it.",
};

/** As "in the open, behind a full cone or symmetric NAT, or cut off from UDP". */
function words(peers: readonly ClassicNatType[]): string {
  const nats = peers.filter((peer) => peer.endsWith("cone") || peer === "symmetric");
  return list([
    ...(peers.includes("open") ? ["in the open"] : []),
    ...(nats.length > 0 ? [`behind a ${list(nats)} NAT`] : []),
    ...(peers.includes("symmetric firewall") ? ["behind a firewall"] : []),
    ...(peers.includes("blocked") ? ["cut off from UDP"] : []),
  ]);
}

function list(parts: readonly string[]): string {
  if (parts.length < 2) return parts.join("");
  // A comma in a part would make it one of the whole otherwise.
  const isNested = parts.some((part) => /,| or /.test(part));
  return `${parts.slice(0, -1).join(", ")}${isNested ? "," : ""} or ${parts.at(-1)}`;
}

function remarks(report: Verdictless): string[] {
  const { nat, hairpin, lifetimeSeconds: seconds, lifetime } = report;
  const notes: string[] = [];
  if (nat && hairpin === false) {
    notes.push("Two computers behind this NAT do not reach each other by their public addresses, only by local ones.");
  }
  if (report.hairpinSource === "internal") {
    notes.push("What is turned back inside shows its internal source address; RFC 4787 REQ-9 wants the external one.");
  }
  if (report.ipPooling === "arbitrary") {
    notes.push(
      `Sockets get different public IP addresses: ${report.publicAddresses.join(", ")}. ` +
        "Peers that filter by address may not let in what another socket announced.",
    );
  }
  if (report.alg === true) {
    notes.push("Something on the way rewrites addresses inside of datagrams: a generic ALG. Switch it off if you can.");
  }
  if (report.fragments === "blocked") notes.push("Fragments are lost: keep datagrams below 1200 bytes.");
  if (seconds !== null && lifetime?.goneSeconds !== null && seconds < 120) {
    notes.push(
      `A mapping is gone after ${seconds} s, RFC 4787 REQ-5 wants 120 s at least: ` +
        `send a keepalive every ${Math.max(1, Math.floor(seconds / 2))} s.`,
    );
  }
  if (lifetime?.consistent === false) {
    notes.push("The lifetime is not the same each time, or datagrams are being lost.");
  }
  return notes;
}
