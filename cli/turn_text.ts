import { bold, cyan, dim, green, red, yellow } from "@std/fmt/colors";
import {
  type TrafficReport,
  TURN_FAILURE_WORDS,
  type TurnFeatures,
  type TurnPathReport,
  type TurnQuestion,
  type TurnReport,
} from "../turn/mod.ts";

/** A report on a TURN server for people, line by line. The verdict is last. */
export function describeTurn(report: TurnReport): string[] {
  const { works, verdict, problems } = report;
  const hasErrors = problems.some(({ severity }) => severity !== "note");
  const colour = !works ? red : hasErrors ? yellow : green;
  return [
    ...describeServer(report),
    "",
    ...describePaths(report.paths),
    ...describeAnswers(report),
    ...(problems.length === 0 ? [] : ["", ...problems.map(({ severity, text }) => `${MARKS[severity]} ${text}`)]),
    "",
    bold(colour(`${verdict}.`)),
  ];
}

const MARKS = {
  get error() {
    return red("x");
  },
  get risk() {
    return yellow("!");
  },
  get note() {
    return dim("-");
  },
};

function describeServer({ server, software, realm, paths }: TurnReport): string[] {
  const held = paths.find(({ mapped }) => mapped !== null);
  return [
    row("Server", software === null ? server : `${server}  ${dim(software)}`),
    row("Realm", realm ?? dim("unknown")),
    ...(held === undefined ? [] : [
      row("Your address", `${bold(cyan(String(held.mapped)))}  ${dim("as the server sees it")}`),
      row("Lifetime", `${held.lifetime} s at a time`),
    ]),
  ];
}

/** A table: one line for each way to the server. */
function describePaths(paths: readonly TurnPathReport[]): string[] {
  if (paths.length === 0) return [];
  const head = ["Way", "Relayed address", "Setup", "Direct", "Relayed", "Lost", "Largest"];
  const lines = paths.map((path) => {
    const { transport, server, relayed, relayFamily, failure, setup, direct, channel, largest } = path;
    const way = `${transport.toUpperCase()} ${server}`;
    if (failure !== null) {
      return [way, `no ${relayFamily === 6 ? "IPv6 " : ""}relay: ${TURN_FAILURE_WORDS[failure.kind]}`];
    }
    return [
      way,
      String(relayed),
      ms(setup),
      ms(direct),
      ms(channel?.roundTrips?.median ?? null),
      channel === null ? "-" : `${channel.sent - channel.received} of ${channel.sent}`,
      largest === null ? "-" : `${largest} bytes`,
    ];
  });
  const widths = head.map((_, i) =>
    Math.max(...[head, ...lines].map((cells) => cells.length === head.length || i === 0 ? cells[i]!.length : 0))
  );
  const draw = (cells: readonly string[], paint: (cell: string, i: number) => string) =>
    `  ${cells.map((cell, i) => paint(i === cells.length - 1 ? cell : cell.padEnd(widths[i]!), i)).join("  ")}`;
  return [
    draw(head, (cell) => dim(cell)),
    ...lines.map((cells) => draw(cells, (cell, i) => i !== 1 ? cell : cells.length === 2 ? yellow(cell) : bold(cell))),
  ];
}

function describeAnswers(report: TurnReport): string[] {
  const { paths, peers, permissionsEnforced, reachableFromOutside, unknown } = report;
  if (paths.every(({ relayed }) => relayed === null)) return describeNotTried(unknown);
  const indications = paths.find((path) => path.indications !== null)?.indications ?? null;
  const channel = paths.find((path) => path.indications !== null)?.channel ?? null;
  const named = (
    outcome: string,
  ) => [...new Set(peers.filter((peer) => peer.outcome === outcome).map(({ name }) => name))];
  const granted = named("granted");
  return [
    "",
    row("By indication", traffic(indications)),
    row("By channel", traffic(channel)),
    row("Permissions", answer(permissionsEnforced, ["enforced", red("not enforced")], unknown.permissions)),
    row("From outside", answer(reachableFromOutside, ["reached", red("not reached")], unknown.outside)),
    row("Refused peers", named("refused").join(", ")),
    ...(granted.length === 0 ? [] : [row("Granted peers", yellow(granted.join(", ")))]),
    ...describeFeatures(report.features),
    ...describeNotTried(unknown),
  ];
}

function describeFeatures(features: TurnFeatures): string[] {
  const names = Object.keys(FEATURES) as (keyof TurnFeatures)[];
  const list = (value: boolean) => names.filter((name) => features[name] === value).map((name) => FEATURES[name]);
  const [there, missing] = [list(true), list(false)];
  return [
    row("Can also do", there.length === 0 ? "nothing else" : there.join(", ")),
    ...(missing.length === 0 ? [] : [row("Cannot do", dim(missing.join(", ")))]),
  ];
}

const FEATURES: Readonly<Record<keyof TurnFeatures, string>> = {
  dual: "IPv4 and IPv6 at once",
  dontFragment: "DONT-FRAGMENT",
  mobility: "mobility",
  reservedPorts: "pairs of ports",
  tcpPeers: "TCP to peers",
};

function describeNotTried(unknown: TurnReport["unknown"]): string[] {
  return (["udp", "tcp", "tls", "dtls", "ipv6", "relaying", "largest"] as TurnQuestion[]).flatMap((question) => {
    const why = unknown[question];
    return why === undefined ? [] : [row(`No ${QUESTIONS[question]}`, dim(`not tried: ${why}`))];
  });
}

const QUESTIONS: Readonly<Partial<Record<TurnQuestion, string>>> = {
  udp: "UDP",
  tcp: "TCP",
  tls: "TLS",
  dtls: "DTLS",
  ipv6: "IPv6",
  relaying: "relaying",
  largest: "largest size",
};

function traffic(report: TrafficReport | null): string {
  if (report === null) return dim("not tried");
  const { sent, received, reordered, roundTrips } = report;
  const order = reordered === 0 ? "" : `, ${reordered} out of order`;
  const times = roundTrips === null
    ? ""
    : `, ${ms(roundTrips.min)} to ${ms(roundTrips.max)}, median ${ms(roundTrips.median)}, 95 % within ${
      ms(roundTrips.p95)
    }`;
  return `${sent - received} of ${sent} lost${order}${times}`;
}

function answer(value: boolean | null, [yes, no]: readonly [string, string], why: string | undefined): string {
  return value === null ? `${dim("unknown")}${why === undefined ? "" : dim(`: ${why}`)}` : value ? yes : no;
}

function ms(time: number | null): string {
  return time === null ? "-" : `${time < 10 ? time.toFixed(2) : time.toFixed(1)} ms`;
}

function row(label: string, value: string): string {
  return `  ${label.padEnd(17)} ${value}`;
}
