import type { DatagramStep, LabStep } from "./lab_steps.ts";

/** A datagram from its sending to its end. Of one that a link repeated, both copies' steps are here. */
export interface Journey {
  /** Its sending. */
  readonly sent: DatagramStep;
  /** What happened then, in order. */
  readonly hops: DatagramStep[];
  /** Whether it is a part of the story, rather than of what goes on between a client and its servers. */
  readonly isMain: boolean;
}

/** Steps as people tell them: events, and whole journeys at the time of their beginning. */
export interface Story {
  /** Events and journeys in the order of time. */
  readonly parts: readonly (Exclude<LabStep, DatagramStep> | Journey)[];
  /** Whose address it is: `"A srflx"`, `"server"`. */
  readonly owners: ReadonlyMap<string, string>;
}

/** Puts steps together. */
export function storyOf(steps: readonly LabStep[]): Story {
  const journeys = new Map<number, Journey>();
  const parts: Story["parts"][number][] = [];
  const owners = new Map<string, string>();
  let isDone = false;
  for (const step of steps) {
    if (step.t !== "datagram") {
      if (step.t === "candidate") owners.set(step.address, `${step.host} ${step.type}`);
      if (step.t === "done") isDone = true;
      parts.push(step);
    } else if (step.step === "sent") {
      const isAside = step.kind === "stun" || step.kind === "turn" || step.kind === "tcp";
      const isMain = !isAside && (!isDone || step.kind === "data");
      const journey = { sent: step, hops: [], isMain };
      journeys.set(step.id, journey);
      parts.push(journey);
    } else journeys.get(step.id)?.hops.push(step);
  }
  for (const journey of journeys.values()) nameEnds(journey, owners);
  return { parts, owners };
}

/** Finds names for addresses that no candidate has. */
function nameEnds({ sent, hops }: Journey, owners: Map<string, string>): void {
  if (sent.node === "server") return;
  const arrival = hops.find(({ step }) => step === "delivered");
  if (arrival === undefined) return;
  const isForServer = arrival.node === "server" && !owners.get(arrival.destination)?.endsWith("relay");
  if (isForServer) owners.set(sent.destination, "server");
  // What the other side sees and no server has told; to the server it is just the host.
  if (!owners.has(arrival.source)) owners.set(arrival.source, isForServer ? sent.node : `${sent.node} prflx`);
}

/** The last that happened to a datagram: delivered, or dropped for some reason. `undefined` while it is under way. */
export function endOfJourney({ hops }: Journey): DatagramStep | undefined {
  return hops.findLast(({ step }) => !["translated", "hairpinned", "reordered", "duplicated"].includes(step));
}

/** What happened, in words. */
export const STEP_WORDS: Readonly<Record<DatagramStep["step"], string>> = {
  sent: "sent",
  delivered: "delivered",
  duplicated: "doubled",
  reordered: "held back",
  translated: "translated",
  hairpinned: "turned back",
  lost: "lost",
  tooBig: "too big",
  noRoute: "no route",
  noSocket: "nobody there",
  blocked: "blocked",
  filtered: "filtered",
  unmapped: "no mapping",
  expired: "mapping expired",
  noPort: "no free port",
  noHairpin: "no hairpin",
};
