import { bold, cyan, dim, green, red, yellow } from "@std/fmt/colors";
import { endOfJourney, type Journey, STEP_WORDS, type Story, storyOf } from "./lab_journeys.ts";
import type { LabCell } from "./lab_run.ts";
import type { DatagramStep, LabEnd, LabStep } from "./lab_steps.ts";

const TIME = 9;
const MARGIN = " ".repeat(TIME + 2);

/**
 * A cell's steps as lines for people: each datagram with its way below it.
 *
 * @param steps All steps.
 * @param options `all` also shows what goes on between clients and servers, and what follows the nomination.
 */
export function tellSteps(steps: readonly LabStep[], { all = false }: { all?: boolean } = {}): string[] {
  const story = storyOf(steps);
  const shown: Story["parts"][number][] = [];
  let hidden = 0;
  for (const part of story.parts) {
    if (all || ("t" in part ? isMain(part) : part.isMain)) shown.push(part);
    else if (!("t" in part)) hidden++;
  }
  const lines = [bold("Gathering")];
  for (const part of shown) lines.push(...("t" in part ? tellEvent(part) : tellJourney(part, story)));
  if (hidden > 0) {
    lines.push(dim(`${MARGIN}${hidden} datagrams to and from the server, and of later keepalives: --all shows them`));
  }
  return lines;
}

/** What came of it, in a few lines. */
export function tellOutcome(cell: LabCell): string[] {
  const { a, b, server } = cell.sent;
  const traffic = dim(`${a + b + server} datagrams: ${a} from A, ${b} from B, ${server} from the server`);
  if (cell.errors !== undefined) {
    const { A, B } = cell.errors;
    return [
      red("No path.") + "  " + traffic,
      `  A after ${ms(A.at)}: ${A.text}`,
      `  B after ${ms(B.at)}: ${B.text}`,
    ];
  }
  const path = `${cell.path}${cell.transport === undefined ? "" : " over TCP"}, ${cell.local} to ${cell.remote}`;
  return [
    `${green(bold(path))}: data after ${ms(cell.connectedMs!)}, nominated after ${ms(cell.nominatedMs!)}` +
    (cell.rttMs === undefined ? "" : `, round trip ${ms(cell.rttMs)}`),
    traffic + dim(`, then ${cell.sentAfter} in 10 s`),
  ];
}

/** Pairs that begin to be checked, and states that say no more than the pairs do, are for `all`. */
function isMain(step: Exclude<LabStep, DatagramStep>): boolean {
  if (step.t === "pair") return step.state === "succeeded" || step.state === "failed";
  return step.t !== "state" || step.state === "failed" || step.state === "disconnected";
}

function tellEvent(step: Exclude<LabStep, DatagramStep>): string[] {
  const time = at(step.at);
  switch (step.t) {
    case "candidate": {
      const { host, type, address, tcpType } = step;
      const tcp = tcpType === undefined ? "" : dim(` TCP ${tcpType}`);
      return [`${time}${bold(host)} has ${cyan(type.padEnd(5))} ${address}${tcp}`];
    }
    case "gathering-error":
      return [`${time}${bold(step.host)} ${yellow(step.text)}`];
    case "swap":
      return ["", bold("Checks") + dim(`, now that both know each other's candidates`)];
    case "done":
      return ["", bold("After")];
    case "role":
      return [`${time}${bold(step.host)} is now ${step.role}`];
    case "state": {
      const paint = step.state === "failed" ? red : step.state === "disconnected" ? yellow : dim;
      return [`${time}${bold(step.host)} ${paint(step.state + (step.reason === undefined ? "" : `: ${step.reason}`))}`];
    }
    case "pair": {
      const paint = step.state === "succeeded" ? green : step.state === "failed" ? red : dim;
      const word = step.state === "succeeded" ? "valid" : step.state;
      return [`${time}${bold(step.host)} ${paint(`pair ${word}`)} ${tellPair(step)}`];
    }
    case "selected":
      return [`${time}${bold(step.host)} ${dim("sends data by")} ${tellPair(step)}`];
    case "nominated":
      return [`${time}${bold(step.host)} ${green(bold("nominated"))} ${tellPair(step)}`];
  }
}

function tellPair({ local, remote }: { readonly local: LabEnd; readonly remote: LabEnd }): string {
  const tcp = local.tcpType === undefined ? "" : "TCP ";
  return `${tcp}${local.type} ${dim(local.address)} - ${tcp}${remote.type} ${dim(remote.address)}`;
}

function tellJourney(journey: Journey, { owners }: Story): string[] {
  const { sent } = journey;
  const whom = owners.get(sent.destination);
  const to = whom === undefined ? sent.destination : `${whom} ${dim(sent.destination)}`;
  // A relay sends for one side.
  const owner = owners.get(sent.source);
  const from = sent.node === "server" && owner !== undefined && owner !== "server" ? owner : sent.node;
  const again = sent.repeats === 0 ? "" : yellow(` (sent again, ${sent.repeats + 1})`);
  const peer = sent.peer === undefined ? undefined : owners.get(sent.peer);
  const message = paintMessage(sent) + (peer === undefined ? "" : dim(` (${peer})`));
  return [`${at(sent.at)}${bold(from)} -> ${to}: ${message}${again}`, tellHops(journey)];
}

function paintMessage({ kind, text }: DatagramStep): string {
  return kind === "nomination" ? bold(text) : kind === "stun" || kind === "turn" || kind === "tcp" ? dim(text) : text;
}

function tellHops(journey: Journey): string {
  const parts: string[] = [];
  let { source, destination } = journey.sent;
  for (const hop of journey.hops) {
    if (hop.step === "translated" || hop.step === "hairpinned") {
      const changes = [
        ...(hop.source === source ? [] : [`from ${hop.source}`]),
        ...(hop.destination === destination ? [] : [`to ${hop.destination}`]),
      ];
      parts.push(dim(`${hop.node}: ${changes.join(", ")}`));
      ({ source, destination } = hop);
    } else if (hop.step === "delivered") parts.push(green(`${hop.node} has it at ${ms(hop.at)}`));
    else {
      const isEnd = hop === endOfJourney(journey);
      const paint = isEnd ? red : yellow;
      parts.push(paint(`${STEP_WORDS[hop.step]} at ${hop.node}${isEnd ? ` at ${ms(hop.at)}` : ""}`));
    }
  }
  return `${MARGIN}${parts.join(dim("; "))}`;
}

function at(time: number): string {
  return `${`${Math.round(time * 10) / 10}`.padStart(TIME - 3)} ms  `;
}

function ms(time: number): string {
  return `${Math.round(time * 10) / 10} ms`;
}
