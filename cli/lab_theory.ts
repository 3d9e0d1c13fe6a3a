import type { CandidateType } from "../ice/mod.ts";
import { isTranslated, kindNamed, type LabKind, type NatRules, rulesOf } from "./lab_kinds.ts";
import type { LabCell } from "./lab_run.ts";

/** A path: by whom, as seen from A. */
export interface LabPath {
  /** Directly, through one relay, or not at all. */
  readonly path: "direct" | "relay" | "none";
  /** Whether a direct path is over TCP. Default: UDP. */
  readonly transport?: "tcp";
  /** A's candidate type on a direct path. */
  readonly local?: CandidateType;
  /** B's candidate type on it. */
  readonly remote?: CandidateType;
}

/**
 * The best path that theory allows between two hosts that know each other's public addresses from one server, check from
 * both sides, and check every address that a check comes from. Nobody guesses ports. Without UDP whoever gets out by TCP
 * connects to a host in the open, or by simultaneous open; else there is a relay over TCP, or over TLS on port 443.
 */
export function expectedPath(a: LabKind, b: LabKind): LabPath {
  if (a.tcp === "blocked" || b.tcp === "blocked") return { path: "none" };
  if (a.type === "blocked" || b.type === "blocked") return pathWithoutUdp(a, b);
  if (!isDirect(new Side("A", rulesOf(a)), new Side("B", rulesOf(b)))) return { path: "relay" };
  return { path: "direct", local: typeOf(a), remote: typeOf(b) };
}

/**
 * A host in the open has a port to connect to; whoever connects from behind a NAT is seen with an address of that. Between
 * two others simultaneous open gets through: the NATs here map TCP alike for all destinations (RFC 5382 REQ-1).
 */
function pathWithoutUdp(a: LabKind, b: LabKind): LabPath {
  if (a.tcp !== undefined || b.tcp !== undefined) return { path: "relay" };
  const isOpen = a.type === "open" || b.type === "open";
  const typeOf = (kind: LabKind) => !isTranslated(kind) ? "host" : isOpen ? "prflx" : "srflx";
  return { path: "direct", transport: "tcp", local: typeOf(a), remote: typeOf(b) };
}

/** Whether a path is what theory allows. Which of two relays is in it, theory does not say. */
export function isExpected(cell: Pick<LabCell, "a" | "b" | "path" | "transport" | "local" | "remote">): boolean {
  const { path, transport, local, remote } = expectedPath(kindNamed(cell.a), kindNamed(cell.b));
  if (cell.path !== path || cell.transport !== transport) return false;
  return path !== "direct" || (cell.local === local && cell.remote === remote);
}

/** What a public address is to the other side: the server has seen it, or only the other side has. */
function typeOf(kind: LabKind): CandidateType {
  if (rulesOf(kind).mapping !== "endpoint-independent") return "prflx";
  return isTranslated(kind) ? "srflx" : "host";
}

/** A mapping, named by whose it is and what it depends on: `A`, `A<S>` towards host S, `A<B<S>>` towards one endpoint. */
type Mapping = string;

/** After so many rounds of checks nothing new is learned, or something new for ever. */
const ROUNDS = 6;

/**
 * Whether two endpoints exist that are each other's mapping and come to be known to the other side, by playing the checks
 * of both: each round, each side sends to all that it knows.
 */
function isDirect(a: Side, b: Side): boolean {
  a.known.add(b.mappingTo("S"));
  b.known.add(a.mappingTo("S"));
  for (const side of [a, b]) side.send("S");
  for (let round = 0; round < ROUNDS; round++) {
    for (const side of [a, b]) for (const remote of side.known) side.send(remote);
    for (const [x, y] of [[a, b], [b, a]] as const) {
      for (const remote of [...x.known]) {
        const source = x.mappingTo(remote);
        if (y.letsIn(source, remote)) y.known.add(source);
      }
    }
  }
  // An answer counts only if it comes from where the check went (RFC 8445 §7.2.5.2.1).
  return [...a.known].some((remote) => b.known.has(a.mappingTo(remote)) && b.mappingTo(a.mappingTo(remote)) === remote);
}

/** A host with its NAT, in the abstract. */
class Side {
  readonly known: Set<Mapping> = new Set();
  #name: string;
  #rules: NatRules;
  #sent = new Set<string>();

  constructor(name: string, rules: NatRules) {
    this.#name = name;
    this.#rules = rules;
  }

  mappingTo(remote: Mapping): Mapping {
    const { mapping } = this.#rules;
    if (mapping === "endpoint-independent") return this.#name;
    return `${this.#name}<${mapping === "address-dependent" ? hostOf(remote) : remote}>`;
  }

  send(remote: Mapping): void {
    const mapping = this.mappingTo(remote);
    this.#sent.add(`${mapping} ${remote}`).add(`${mapping} ${hostOf(remote)}.*`);
  }

  letsIn(source: Mapping, mapping: Mapping): boolean {
    const { filtering } = this.#rules;
    if (filtering === "endpoint-independent") return true;
    return this.#sent.has(`${mapping} ${filtering === "address-dependent" ? `${hostOf(source)}.*` : source}`);
  }
}

/** The host that a mapping is in front of: all mappings of one NAT here share one IP address. */
function hostOf(mapping: Mapping): string {
  return mapping.charAt(0);
}
