import { bold, cyan, dim, green, red, yellow } from "@std/fmt/colors";
import { type AddressFamily, discoverNat, isIpAddress, type NatReport, parseStunUri } from "../stun/mod.ts";
import type { NatProbeEvent, NatQuestion, ProbeResult } from "../stun/mod.ts";
import { choiceOption, numberOption, type Options, parseOptions, serverUri, usage } from "./config.ts";
import { type Command, type Terminal, UsageError } from "./terminal.ts";

const HELP = `natkit nat: what kind of NAT or firewall is in front of this computer

Usage: natkit nat stun:HOST[:PORT]... [OPTIONS]

Asks one STUN server with two addresses (RFC 5780, or classic RFC 3489), or several ordinary ones, and says how public
addresses are given out, who may send to them, and which kinds of peers will reach this computer directly. Takes some 5
seconds, 20 at the most. No server is asked but those that are named.

Options:
  --lifetime              also search for the lifetime of a mapping: two to three times as long as it lives
  --lifetime-max SECONDS  the same, up to this long (default: 600)
  --resolution SECONDS    how close to come to the lifetime (default: 1)
  --family 4|6|both       the IP version (default: 4 if the first server has an IPv4 address)
  --local ADDRESS         ask from this local IP address
  --tests                 show every request and what came of it
  --json                  one JSON object a line for each IP version: see docs/nat-report.md

Example, with a server of our own:
  natkit serve --listen 127.0.0.1:3478 --listen 127.0.0.2:3478 &
  natkit nat stun:127.0.0.1`;

/** `natkit nat`. */
export const natCommand: Command = {
  name: "nat",
  summary: "What kind of NAT this is, and who will get through it",
  help: HELP,
  async run(args, terminal) {
    const options = parseOptions(args, {
      command: "nat",
      value: ["lifetime-max", "resolution", "family", "local"],
      flag: ["lifetime", "tests", "json"],
      positional: { name: "server URI, as stun:HOST[:PORT]", min: 1, max: 8 },
    });
    const servers = options.positional.map((text) => serverUri(text, "stun"));
    for (const server of servers) {
      const { scheme } = usage(() => parseStunUri(server));
      if (scheme !== "stun" && scheme !== "turn") throw new UsageError(`Only UDP tells about NATs, not "${scheme}:"`);
    }
    const family = choiceOption("family", options.value("family") ?? "first", ["first", "4", "6", "both"]);
    const families: readonly (AddressFamily | undefined)[] = family === "both"
      ? [4, 6]
      : [family === "first" ? undefined : family === "4" ? 4 : 6];
    for (const [i, one] of families.entries()) {
      if (i > 0 && !options.flag("json")) terminal.say("");
      await reportOn(one, { servers, options, terminal });
    }
    return 0;
  },
};

async function reportOn(
  family: AddressFamily | undefined,
  { servers, options, terminal }: { servers: readonly string[]; options: Options; terminal: Terminal },
): Promise<void> {
  const resolution = numberOption("resolution", options.value("resolution") ?? "1", { min: 1, max: 3600 });
  const longest = options.value("lifetime-max");
  const max = numberOption("lifetime-max", longest ?? "600", { min: 2 * resolution, max: 86_400 });
  const local = options.value("local");
  if (local !== undefined && !isIpAddress(local)) {
    throw new UsageError(`Option --local must be an IP address: "${local}"`);
  }
  const isJson = options.flag("json");
  const showsTests = options.flag("tests");
  using status = new Status(terminal, servers.join(", "));
  let shown: NatReport | undefined;
  const report = await discoverNat({
    servers,
    ...(family === undefined ? {} : { family }),
    ...(local === undefined ? {} : { localAddress: local }),
    lifetime: (options.flag("lifetime") || longest !== undefined) && { max, resolution },
    signal: terminal.interrupted,
    onProgress(event) {
      if (event.type === "preliminary" && !isJson) {
        // The search takes minutes: nobody shall have to wait for the rest until then.
        shown = event.report;
        for (const line of describeReport(shown, showsTests)) terminal.say(line);
      }
      status.handle(event);
    },
  });
  status.clear();
  if (isJson) return terminal.out(JSON.stringify(report));
  if (shown === undefined) { for (const line of describeReport(report, showsTests)) terminal.say(line); }
  else {
    terminal.say(describeLifetime(report));
    for (const note of report.notes) if (!shown.notes.includes(note)) terminal.say(`${yellow("!")} ${note}`);
  }
}

/** The line at the bottom that says how far it has come. */
class Status {
  #terminal: Terminal;
  #servers: string;
  #tests = 0;
  #describe: () => string;
  #ticker: ReturnType<typeof setInterval>;

  constructor(terminal: Terminal, servers: string) {
    this.#terminal = terminal;
    this.#servers = servers;
    this.#describe = () => `Asking ${this.#servers} ... ${this.#tests} requests done`;
    this.#ticker = setInterval(() => this.#show(), 1000);
    this.#show();
  }

  handle(event: NatProbeEvent): void {
    if (event.type === "test") this.#tests++;
    if (event.type === "lifetime") {
      const { aliveSeconds, goneSeconds, maxSeconds, round, remaining } = event.progress;
      const end = performance.now() + remaining;
      const gap = goneSeconds === null
        ? `more than ${aliveSeconds} s, trying up to ${maxSeconds} s`
        : `between ${aliveSeconds} and ${goneSeconds} s`;
      this.#describe = () => {
        const left = Math.max(0, Math.ceil((end - performance.now()) / 1000));
        return `Binding lifetime: ${gap}; round ${round} takes ${left} s more at most`;
      };
    }
    this.#show();
  }

  clear(): void {
    clearInterval(this.#ticker);
    this.#terminal.progress("");
  }

  [Symbol.dispose](): void {
    this.clear();
  }

  #show(): void {
    this.#terminal.progress(dim(this.#describe()));
  }
}

/** The report for people, line by line. */
export function describeReport(report: NatReport, showsTests = false): string[] {
  const [headline, ...reach] = report.verdict;
  const colour = report.reachableBy.length >= 6 ? green : report.reachableBy.length >= 4 ? yellow : red;
  const lines = [bold(colour(headline!)), ...reach.map((line) => `  ${line}`), ""];
  if (report.mapped !== null) lines.push(...describeFacts(report), "");
  else if (report.local !== null) lines.push(row("Local address", String(report.local)), "");
  lines.push(...report.notes.map((note) => `${yellow("!")} ${note}`));
  for (const { name, address, outcome, rtt, software } of report.servers) {
    const time = rtt === null ? "" : ` in ${rtt.toFixed(1)} ms`;
    lines.push(dim(`${name} (${address}): ${outcome}${time}${software === null ? "" : `, ${software}`}`));
  }
  if (showsTests) lines.push("", ...report.tests.map(describeTest));
  return lines;
}

function describeFacts(report: NatReport): string[] {
  const { local, mapped, mapping, filtering, classic, hairpin, portAllocation, portStep, publicAddresses } = report;
  const yesOrNo = (value: boolean) => value ? "yes" : "no";
  const source = report.hairpinSource === "internal" ? ", with the internal source address" : "";
  const step = portStep === null ? "" : ` by ${portStep}`;
  const pool = publicAddresses.length > 1 ? `, one of ${publicAddresses.length}: ${publicAddresses.join(" ")}` : "";
  return [
    row("Local address", String(local)),
    row("Public address", `${bold(cyan(String(mapped)))}${pool}`),
    row("NAT", yesOrNo(report.nat)),
    fact("Mapping", mapping, "mapping", report),
    fact("Filtering", filtering, "filtering", report),
    row("Classic label", classic),
    fact("Port allocation", `${portAllocation}${step}`, "portAllocation", report),
    ...(report.nat
      ? [fact("Hairpinning", hairpin === null ? "unknown" : `${yesOrNo(hairpin)}${source}`, "hairpin", report)]
      : []),
    describeLifetime(report),
    fact("Fragments", FRAGMENTS[report.fragments], "fragments", report),
    fact("ALG", report.alg === null ? "unknown" : report.alg ? "yes, it rewrites addresses" : "none", "alg", report),
  ];
}

function describeLifetime(report: NatReport): string {
  const { lifetimeSeconds: seconds, lifetime } = report;
  if (lifetime === null) {
    const why = report.unknown.lifetime ?? "";
    return row("Binding lifetime", dim(LIFETIME_WORDS.get(why) ?? `unknown: ${why}`));
  }
  const { aliveSeconds, goneSeconds } = lifetime;
  const gap = goneSeconds === null
    ? "even then still alive"
    : `alive after ${aliveSeconds} s, gone after ${goneSeconds} s`;
  return row("Binding lifetime", `${goneSeconds === null ? "at least " : ""}${seconds} s ${dim(`(${gap})`)}`);
}

const LIFETIME_WORDS: ReadonlyMap<string, string> = new Map([
  ["it was not asked for", "not searched for: --lifetime"],
  ["the search for it goes on", "being searched for ..."],
]);

const FRAGMENTS: Readonly<Record<NatReport["fragments"], string>> = {
  pass: "pass",
  outbound: "pass on the way out",
  blocked: "lost",
  unknown: "unknown",
};

/** A fact, and if it is none, why. */
function fact(label: string, value: string, question: NatQuestion, { unknown }: NatReport): string {
  const why = unknown[question];
  return row(label, why === undefined ? value : `${value === "unknown" ? dim("unknown") : value}${dim(`: ${why}`)}`);
}

function row(label: string, value: string): string {
  return `  ${label.padEnd(17)} ${value}`;
}

function describeTest({ test, local, to, outcome, from, mapped, code, rtt, sends }: ProbeResult): string {
  const time = rtt === null ? "" : ` in ${rtt.toFixed(1)} ms`;
  const saw = mapped === null ? "" : `, saw ${mapped}`;
  const source = from === null || from.equals(to) ? "" : ` from ${from}`;
  const what = `${outcome}${code === null ? "" : ` ${code}`}${source}${time}${saw}`;
  return dim(`  ${test.padEnd(45)} ${local} -> ${to}, ${sends}x: ${what}`);
}
