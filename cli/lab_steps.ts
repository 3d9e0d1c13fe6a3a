import type { CandidatePair, CandidateType, IceEvent, IceRole, IceState, PairState, TcpType } from "../ice/mod.ts";
import type { TraceStep, VirtualStep, VirtualWorld } from "../stun/net/virtual/mod.ts";
import { describeDatagram, describeSegment, type LabMessage } from "./lab_datagram.ts";
import type { LabSide } from "./lab_run.ts";

/** One end of a pair. */
export interface LabEnd {
  /** How the candidate was found. */
  readonly type: CandidateType;
  /** As `192.0.2.1:5000`. */
  readonly address: string;
  /** How a TCP candidate comes by its connections. */
  readonly tcpType?: TcpType;
}

/** What happened to a datagram or a TCP segment. */
export interface DatagramStep {
  /** Says so. */
  readonly t: "datagram";
  /** Virtual ms from the beginning of the world. */
  readonly at: number;
  /** What happened: it was sent, translated, dropped for some reason, delivered, ... */
  readonly step: VirtualStep;
  /** The host or gateway where it happened. */
  readonly node: string;
  /** The datagram's number. */
  readonly id: number;
  /** The source address it carries at this point. */
  readonly source: string;
  /** The destination address it carries at this point. */
  readonly destination: string;
  /** What it is about. */
  readonly kind: LabMessage["kind"];
  /** The same for people. */
  readonly text: string;
  /** How many times the same request was sent before. */
  readonly repeats: number;
  /** Whom the message that it carries to or from a relay goes to, or comes from. */
  readonly peer?: string;
  /** A TCP segment's flags, as `"SYN ACK"`. */
  readonly tcp?: string;
}

/** What happened to an agent, or to a datagram. `at` is in virtual ms from the beginning of the world. */
export type LabStep =
  | DatagramStep
  /** An agent has found a candidate. */
  | { readonly t: "candidate"; readonly at: number; readonly host: LabSide } & LabEnd
  /** A server gave an agent nothing. */
  | { readonly t: "gathering-error"; readonly at: number; readonly host: LabSide; readonly text: string }
  /** A pair of an agent's is new, or its state has changed; `"succeeded"` means that it is valid. */
  | {
    readonly t: "pair";
    readonly at: number;
    readonly host: LabSide;
    readonly state: PairState;
    readonly local: LabEnd;
    readonly remote: LabEnd;
  }
  /** Data of an agent's goes along another pair from now on, or a pair is nominated. */
  | {
    readonly t: "selected" | "nominated";
    readonly at: number;
    readonly host: LabSide;
    readonly local: LabEnd;
    readonly remote: LabEnd;
  }
  /** An agent's state has changed. */
  | {
    readonly t: "state";
    readonly at: number;
    readonly host: LabSide;
    readonly state: IceState;
    readonly reason?: string;
  }
  /** An agent has changed its role. */
  | { readonly t: "role"; readonly at: number; readonly host: LabSide; readonly role: IceRole }
  /** Both sides learn of each other. */
  | { readonly t: "swap"; readonly at: number }
  /** Both sides have the pair nominated, or have given up. */
  | { readonly t: "done"; readonly at: number };

/** A step of an agent. */
export type AgentStep = Exclude<LabStep, DatagramStep | { readonly t: "swap" } | { readonly t: "done" }>;

/** Makes steps of a world's trace and of agents' events. */
export class Recorder {
  #world: VirtualWorld;
  #onStep: (step: LabStep) => void;
  #messages = new Map<number, LabMessage & { readonly repeats: number }>();
  #requests = new Map<string, number>();

  /** Starts to listen. */
  constructor(world: VirtualWorld, onStep: (step: LabStep) => void) {
    this.#world = world;
    this.#onStep = onStep;
    world.trace = (step) => this.#handleTrace(step);
  }

  /** Listens no more. */
  stop(): void {
    this.#world.trace = undefined;
    this.#onStep = () => {};
  }

  /** Something that concerns both sides. */
  note(t: "swap" | "done"): void {
    this.#onStep({ t, at: this.#world.now });
  }

  /** An agent's event. */
  handleEvent(host: LabSide, event: IceEvent): void {
    const at = this.#world.now;
    switch (event.type) {
      case "local-candidate":
        return this.#onStep({ t: "candidate", at, host, ...endOf(event.candidate) });
      case "gathering-error":
        return this.#onStep({ t: "gathering-error", at, host, text: event.text });
      case "pair":
        return this.#onStep({ t: "pair", at, host, state: event.state, ...endsOf(event.pair) });
      case "selected-pair":
        if (event.pair !== undefined) this.#onStep({ t: "selected", at, host, ...endsOf(event.pair) });
        return;
      case "nominated":
        return this.#onStep({ t: "nominated", at, host, ...endsOf(event.pair) });
      case "state": {
        const { state, reason } = event;
        return this.#onStep({ t: "state", at, host, state, ...(reason === undefined ? {} : { reason }) });
      }
      case "role":
        return this.#onStep({ t: "role", at, host, role: event.role });
    }
  }

  #handleTrace({ at, step, node, id, source, destination, bytes, tcp }: TraceStep): void {
    let message = this.#messages.get(id);
    if (message === undefined) this.#messages.set(id, message = this.#read(node, bytes, tcp));
    const { kind, text, repeats, peer } = message;
    this.#onStep({
      t: "datagram",
      at,
      step,
      node,
      id,
      source: String(source),
      destination: String(destination),
      kind,
      text,
      repeats,
      ...(peer === undefined ? {} : { peer: String(peer) }),
      ...(tcp === undefined ? {} : { tcp }),
    });
    // Its journey is over.
    if (!UNDERWAY.has(step)) this.#messages.delete(id);
  }

  #read(node: string, bytes: Uint8Array, tcp: string | undefined): LabMessage & { repeats: number } {
    // What TCP repeats is its own affair.
    if (tcp !== undefined) return { ...describeSegment(bytes, tcp), repeats: 0 };
    // The same bytes again are the same request again.
    const key = `${node} ${bytes}`;
    const repeats = this.#requests.get(key) ?? 0;
    this.#requests.set(key, repeats + 1);
    return { ...describeDatagram(bytes), repeats };
  }
}

const UNDERWAY: ReadonlySet<VirtualStep> = new Set(["sent", "duplicated", "reordered", "translated", "hairpinned"]);

function endsOf({ local, remote }: CandidatePair): { local: LabEnd; remote: LabEnd } {
  return { local: endOf(local), remote: endOf(remote) };
}

function endOf(
  { type, address, tcpType }: { readonly type: CandidateType; readonly address: unknown; readonly tcpType?: TcpType },
): LabEnd {
  return { type, address: String(address), ...(tcpType === undefined ? {} : { tcpType }) };
}
