import { placeName } from "./probe_failure.ts";
import { rangeWord, riskOf } from "./_probe_peers.ts";
import {
  type TrafficReport,
  TURN_FAILURE_WORDS,
  type TurnPathReport,
  type TurnProblem,
  type TurnReport,
} from "./probe_report.ts";

/** What WebRTC, QUIC and DTLS send without asking (RFC 8831 §5, RFC 9000 §14.1). */
const USUAL_DATAGRAM = 1200;
/** Loss from which on people notice. */
const NOTICED_LOSS = 0.02;

/** What a verdict is drawn from. */
export type TurnFacts = Omit<TurnReport, "works" | "verdict" | "problems"> & {
  /** Why a relay could not be used as a peer of another one, if the server refused that. */
  readonly ownRelayRefused: string | undefined;
  /** Whether a user may have two allocations at a time. */
  readonly isAlone: boolean;
  /** The realm that the caller expects. */
  readonly expectedRealm: string | undefined;
};

/** The verdict, and the problems, worst first. */
export function judgeTurn(facts: TurnFacts): Pick<TurnReport, "works" | "verdict" | "problems"> {
  const { paths } = facts;
  const works = paths.some(relays) || facts.reachableFromOutside === true;
  const problems = [...relayingProblems(facts), ...pathProblems(facts), ...risks(facts), ...notes(facts)];
  const order = ["error", "risk", "note"];
  const isNew = ({ text }: TurnProblem, i: number) => problems.findIndex((other) => other.text === text) === i;
  return {
    works,
    verdict: works ? praise(facts) : blame(facts),
    problems: problems.filter(isNew).toSorted((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity)),
  };
}

/** Whether datagrams went through. */
function relays({ channel, indications }: TurnPathReport): boolean {
  return arrivals(channel) > 0 || arrivals(indications) > 0;
}

/** How many came, be it with other contents. */
function arrivals(traffic: TrafficReport | null): number {
  return traffic === null ? 0 : traffic.received + traffic.corrupted;
}

function praise({ paths, reachableFromOutside }: TurnFacts): string {
  const good = paths.filter((path) => relays(path) || (reachableFromOutside === true && path.failure === null));
  const bad = paths.filter((path) => path.failure !== null && !good.some((other) => isSameWay(path, other)));
  return `TURN works over ${ways(good)}${bad.length === 0 ? "" : `, not over ${ways(bad)}`}`;
}

function isSameWay(a: TurnPathReport, b: TurnPathReport): boolean {
  return a.transport === b.transport && a.server.family === b.server.family;
}

function blame({ paths }: TurnFacts): string {
  const held = paths.filter(({ failure }) => failure === null);
  if (held.length > 0) return "TURN does not work: the server lends relayed addresses, but nothing comes through";
  const [first] = paths;
  // What all ways have in common is the reason; what a server says counts more than silence elsewhere.
  const telling = paths.find(({ failure }) => !UNTOLD.has(failure!.kind)) ?? first;
  return `TURN does not work: ${TURN_FAILURE_WORDS[telling?.failure?.kind ?? "local"]}`;
}

/** Failures before a server has said anything. */
const UNTOLD: ReadonlySet<string> = new Set(["silent", "closed", "local", "not-stun"]);

/** As `UDP, TCP and TLS on IPv4 and IPv6`; IPv4 alone goes without saying. */
function ways(paths: readonly TurnPathReport[]): string {
  const byTransport = Map.groupBy(paths, ({ transport }) => transport.toUpperCase());
  const byFamilies = Map.groupBy(byTransport, ([, paths]) => {
    const families = [...new Set(paths.map(({ server }) => server.family))].toSorted();
    return families.join() === "4" ? "" : ` on ${list(families.map((family) => `IPv${family}`))}`;
  });
  return list([...byFamilies].map(([families, some]) => `${list(some.map(([name]) => name))}${families}`));
}

function list(words: readonly string[]): string {
  return words.length < 2 ? words.join() : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** Allocated, but does it relay? */
function relayingProblems(facts: TurnFacts): TurnProblem[] {
  const { paths, ownRelayRefused, reachableFromOutside } = facts;
  const held = paths.filter(({ relayed }) => relayed !== null);
  if (held.length === 0) return [];
  const { relayed, server } = held[0]!;
  const word = rangeWord(relayed!);
  const isHidden = word !== undefined && rangeWord(server) === undefined;
  const problems: TurnProblem[] = [];
  if (isHidden) {
    problems.push(error(
      `The relayed address ${relayed} is ${word}, so no peer outside reaches it: the server is behind a NAT and does not ` +
        `know its public address (an "external address" has to be set there)`,
    ));
  }
  if (ownRelayRefused !== undefined) {
    problems.push(error(
      `The server refuses its own relayed address as a peer (${ownRelayRefused}): two of its users cannot meet when both ` +
        `need a relay`,
    ));
  } else if (!held.some(relays) && !isHidden) {
    const advice =
      `is the address right, does the server reach it itself, and do firewalls let the relay ports through?`;
    problems.push(error(
      reachableFromOutside === true
        ? `Nothing gets from one relay to the other, although the relayed address is reached from outside: the server ` +
          `cannot send to its own public address, so two of its users cannot meet when both need a relay`
        : `Nothing comes through the relay: ${advice}`,
    ));
  }
  if (reachableFromOutside === false && !isHidden) {
    problems.push(error(
      `The relayed address ${relayed} is not reached from outside by UDP: firewalls must let the server's relay ports ` +
        `through, usually 49152 to 65535`,
    ));
  }
  return problems;
}

function pathProblems({ paths, unknown }: TurnFacts): TurnProblem[] {
  const worked = paths.some(({ failure }) => failure === null);
  const refused = unknown.channel === undefined ? [] : [error(`There are no channels: ${unknown.channel}`)];
  return refused.concat(paths.flatMap((path): TurnProblem[] => {
    const { failure, channel, indications, largest } = path;
    if (failure !== null) {
      // What a server may leave out is no error where something else works.
      const isOptional = worked && ["silent", "closed", "family", "local"].includes(failure.kind);
      return [{ severity: isOptional ? "note" : "error", text: failure.text }];
    }
    const way = placeName(path);
    return [
      ...trafficProblems(`${way}, channel`, channel),
      ...trafficProblems(`${way}, indications`, indications),
      ...(largest !== null && largest > 0 && largest < USUAL_DATAGRAM
        ? [
          error(
            `${way}: the largest datagram that passes has ${largest} bytes; WebRTC and QUIC need ${USUAL_DATAGRAM}`,
          ),
        ]
        : []),
    ];
  }));
}

function trafficProblems(what: string, traffic: TrafficReport | null): TurnProblem[] {
  if (traffic === null || arrivals(traffic) === 0) return [];
  const { sent, duplicated, corrupted } = traffic;
  const lost = Math.max(0, sent - arrivals(traffic));
  const problems: TurnProblem[] = [];
  if (lost / sent > NOTICED_LOSS) problems.push(error(`${what}: ${lost} of ${sent} datagrams were lost`));
  if (corrupted > 0) problems.push(error(`${what}: ${corrupted} datagrams came with other contents`));
  if (duplicated > 0) problems.push({ severity: "note", text: `${what}: ${duplicated} datagrams came twice` });
  return problems;
}

function risks({ peers, permissionsEnforced }: TurnFacts): TurnProblem[] {
  const problems: TurnProblem[] = [];
  if (permissionsEnforced === false) {
    problems.push({
      severity: "risk",
      text: "Permissions are not enforced: anybody can send through a relayed address to the client behind it",
    });
  }
  const granted = Map.groupBy(peers.filter(({ outcome }) => outcome === "granted"), ({ name }) => riskOf(name));
  for (const [risk, classes] of granted) {
    const what = classes.map(({ name, address }) => `${name} (${address})`).join(", ");
    problems.push({ severity: "risk", text: `Whoever has an account can ${risk}: granted ${what}` });
  }
  return problems;
}

function notes({ isAlone, expectedRealm, realm, paths }: TurnFacts): TurnProblem[] {
  const problems: TurnProblem[] = [];
  const hasFailed = paths.some(({ failure }) => failure?.kind === "wrong-realm");
  if (expectedRealm !== undefined && realm !== null && realm !== expectedRealm && !hasFailed) {
    problems.push({ severity: "note", text: `The server's realm is "${realm}" and not "${expectedRealm}"` });
  }
  if (isAlone) {
    problems.push({
      severity: "note",
      text:
        "The server grants this user one allocation at a time, so it was measured with one relay that sends to itself",
    });
  }
  return problems;
}

function error(text: string): TurnProblem {
  return { severity: "error", text };
}
