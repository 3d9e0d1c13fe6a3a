import type { TransportAddress } from "./address.ts";
import type { Machine, MachineIo, OpenFailure, Packet, SocketId } from "./machine.ts";
import { HairpinTest } from "./nat_hairpin.ts";
import { type Finding, findMapping } from "./nat_inference.ts";
import { checkLifetimeOptions, type LifetimeOptions, type LifetimeProgress, LifetimeSearch } from "./nat_lifetime.ts";
import { NatMeasurement, otherAddressOf } from "./nat_measure.ts";
import type { LifetimeResult, NatReport, ProbeResult, ServerResult } from "./nat_report.ts";
import { type Probe, ProbeRig, type ProbeSocket } from "./nat_rig.ts";
import { TcpCheck } from "./nat_tcp.ts";
import { composeNatReport } from "./nat_verdict.ts";
import type { RetransmitOptions } from "./transaction.ts";

/** The first request to each server leaves at 0, 500, 1500 and 3500 ms and is given up at 5000 ms. */
const FIRST_RTO = 500;
const FIRST_RETRANSMIT: RetransmitOptions = { rto: FIRST_RTO, rc: 4, rm: 3 };
// RFC 8489 §6.2.1 lets a client begin with the round-trip time that it knows. With 200 ms: given up at 2000 ms.
const MIN_RTO = 200;
const MAX_RTO = 500;
/** How much longer is listened when no server has answered: what then comes is too late, not silence. */
const LATE = 2500;
/** A report is made after this long, whatever is still waited for. */
const LIMIT = 20_000;
/** How much slower a local address may be than those behind it and still be taken. */
const GRACE = 300;

/** A server to ask. */
export interface NatServer {
  /** What to call it in the report. */
  readonly name: string;
  /** Where it is. */
  readonly address: TransportAddress;
}

/** What a `NatProbe` is made from. */
export interface NatProbeOptions {
  /** The servers, at least one, all of one address family. The first with two addresses is used for most tests. */
  readonly servers: readonly NatServer[];
  /** The local IP addresses to try, best first. */
  readonly localAddresses: readonly string[];
  /** How to search for the lifetime of mappings; without it there is no search. */
  readonly lifetime?: LifetimeOptions;
  /** How many ms are between the first sendings of two requests. Default: 100 (RFC 5780 §5). */
  readonly pacing?: number;
}

/** What a `NatProbe` reports. */
export type NatProbeEvent =
  /** A request has ended. */
  | { readonly type: "test"; readonly result: ProbeResult }
  /** All but the lifetime is known; the search for it begins. */
  | { readonly type: "preliminary"; readonly report: NatReport }
  /** The search for the lifetime has come this far. */
  | { readonly type: "lifetime"; readonly progress: LifetimeProgress }
  /** The end. */
  | { readonly type: "report"; readonly report: NatReport };

type Io = MachineIo<NatProbeEvent>;
type NatTest = Probe<NatProbeEvent>;

/** A local address on trial. */
interface Candidate {
  opened: ProbeSocket | undefined;
  readonly firsts: NatTest[];
  isOut: boolean;
}

/**
 * Finds out how NATs and firewalls on the path treat UDP (RFC 5780, RFC 3489 §10). It never hangs: the report comes after
 * 20 s at the latest and mostly within 5 s, the search for a lifetime aside.
 *
 * First the servers are asked from one socket. Then most of the tests run side by side against the first server that has
 * two addresses, or else against the first that answers.
 */
export class NatProbe implements Machine<NatProbeEvent> {
  readonly #options: NatProbeOptions;
  readonly #rig: ProbeRig<NatProbeEvent>;
  readonly #candidates: Candidate[] = [];
  #startedAt = 0;
  #stopLimit: () => void = () => {};
  #isReported = false;
  #isGraceRunning = false;
  #tcp: TcpCheck<NatProbeEvent> | undefined;
  #chosen: Candidate | undefined;
  /** The first request to the server that most tests use. */
  #first: NatTest | undefined;
  #retransmit: RetransmitOptions = FIRST_RETRANSMIT;
  #measurement: NatMeasurement<NatProbeEvent> | undefined;
  #hairpin: HairpinTest<NatProbeEvent> | undefined;
  #unfinished = 0;
  /** The requests, without those of the search for a lifetime. */
  #tests: readonly NatTest[] | undefined;
  #lifetime: LifetimeResult | string = "it was not asked for";

  /**
   * Made at rest.
   *
   * @param options What it is made from.
   * @throws {RangeError} If there is no server, or nothing to search for a lifetime in.
   */
  constructor(options: NatProbeOptions) {
    if (options.servers.length === 0) throw new RangeError("Cannot probe a NAT as there is no server to ask");
    if (options.lifetime !== undefined) checkLifetimeOptions(options.lifetime);
    this.#options = options;
    this.#rig = new ProbeRig(options.pacing ?? 100, (probe, io) => {
      if (this.#tests === undefined) io.emit({ type: "test", result: probe.result });
    });
  }

  /** When `handleTimeout()` is due. */
  get deadline(): number {
    return this.#rig.deadline;
  }

  /** Begins. The event `"report"` ends it. */
  start(io: MachineIo<NatProbeEvent>): void {
    this.#startedAt = io.now;
    const limit = this.#rig.at(io.now + LIMIT, (io) => this.#report(io));
    this.#stopLimit = () => this.#rig.clear(limit);
    for (const address of this.#options.localAddresses) {
      const candidate: Candidate = { opened: undefined, firsts: [], isOut: false };
      this.#candidates.push(candidate);
      this.#rig.open(address, io, (opened, _failure, io) => this.#askFirst(candidate, opened, io));
    }
    if (this.#candidates.length === 0) this.#report(io);
  }

  /** Does what is due. */
  handleTimeout(io: MachineIo<NatProbeEvent>): void {
    this.#rig.handleTimeout(io);
  }

  /** Takes in a datagram. */
  handlePacket(packet: Packet, io: MachineIo<NatProbeEvent>): void {
    if (packet.socket === this.#tcp?.socket) this.#tcp.handlePacket(packet);
    else this.#rig.handlePacket(packet, io);
  }

  /** A socket that it asked for is there. */
  handleOpened(socket: SocketId, local: TransportAddress, io: MachineIo<NatProbeEvent>): void {
    if (socket === this.#tcp?.socket) this.#tcp.handleOpened(io);
    else this.#rig.handleOpened(socket, local, io);
  }

  /** A socket that it asked for is not there. */
  handleOpenFailed(socket: SocketId, failure: OpenFailure, io: MachineIo<NatProbeEvent>): void {
    this.#rig.handleOpenFailed(socket, failure, io);
  }

  #askFirst(candidate: Candidate, opened: ProbeSocket | undefined, io: Io): void {
    if (opened === undefined) return this.#handleFirst(candidate, io);
    candidate.opened = opened;
    for (const { address } of this.#options.servers) {
      candidate.firsts.push(this.#rig.ask({
        test: "address",
        socket: opened.socket,
        to: address,
        retransmit: FIRST_RETRANSMIT,
        done: (_probe, io) => this.#handleFirst(candidate, io),
      }, io));
    }
  }

  /** One of the first requests has ended, or its socket is not there. */
  #handleFirst(candidate: Candidate, io: Io): void {
    candidate.isOut = candidate.opened === undefined ||
      (candidate.firsts.length === this.#options.servers.length && candidate.firsts.every(({ isDone }) => isDone));
    if (this.#chosen === undefined) this.#choose(io);
    if (this.#chosen === undefined || this.#first !== undefined) return;
    const answered = this.#chosen.firsts.filter(isAnswered);
    const best = answered.find((probe) => otherAddressOf(probe) !== undefined);
    if (best !== undefined || this.#chosen.isOut) this.#measure(best ?? answered[0]!, io);
  }

  /** Picks the local address: the first that gets an answer, with some patience for those in front of it. */
  #choose(io: Io): void {
    const isOk = ({ firsts }: Candidate) => firsts.some(isAnswered);
    const leader = this.#candidates.find((candidate) => !candidate.isOut || isOk(candidate));
    if (leader === undefined) this.#waitForTheLate(io);
    else if (isOk(leader)) this.#take(leader, io);
    else if (!this.#isGraceRunning && this.#candidates.some(isOk)) {
      this.#isGraceRunning = true;
      this.#rig.at(io.now + GRACE, (io) => {
        if (this.#chosen !== undefined) return;
        const chosen = this.#candidates.find(isOk)!;
        this.#take(chosen, io);
        this.#handleFirst(chosen, io);
      });
    }
  }

  /** What comes now is too late, not silence. Meanwhile TCP shows whether a server is there at all. */
  #waitForTheLate(io: Io): void {
    if (this.#isSilent) this.#tcp = new TcpCheck(this.#options.servers[0]!.address, LATE, io);
    this.#rig.at(io.now + LATE, (io) => this.#report(io));
  }

  #take(chosen: Candidate, io: Io): void {
    this.#chosen = chosen;
    for (const other of this.#candidates) {
      if (other !== chosen && other.opened !== undefined) this.#rig.close(other.opened.socket, io);
    }
  }

  #measure(first: NatTest, io: Io): void {
    this.#first = first;
    // An answer to a later sending looks late: it is counted from the last one.
    const lastSending = FIRST_RTO * (2 ** (first.transaction!.sends - 1) - 1);
    const roundTrip = Math.max(0, first.rtt! - lastSending);
    this.#retransmit = { rto: Math.min(MAX_RTO, Math.max(MIN_RTO, 2 * roundTrip)), rc: 4, rm: 3 };
    const measurement = this.#measurement = new NatMeasurement({
      rig: this.#rig,
      first,
      retransmit: this.#retransmit,
      onMapped: (io) => this.#testHairpin(measurement, first, io),
      done: (io) => this.#end(io),
    });
    this.#unfinished++;
    measurement.start(io);
  }

  #testHairpin(measurement: NatMeasurement<NatProbeEvent>, first: NatTest, io: Io): void {
    const [one, two] = measurement.freshProbes.filter(isAnswered).slice(-2);
    if (one === undefined || two === undefined || !this.#isTranslated) return;
    const { value: portAllocation, step: portStep } = measurement.portAllocation;
    this.#hairpin = new HairpinTest({
      rig: this.#rig,
      server: first.wish.to,
      pair: [one, two],
      mapping: this.#mapping.value,
      portAllocation,
      portStep,
      isPaired: this.#publicAddresses.length === 1,
      retransmit: this.#retransmit,
      done: (io) => this.#end(io),
    });
    this.#unfinished++;
    this.#hairpin.start(io);
  }

  #end(io: Io): void {
    if (--this.#unfinished > 0) return;
    const { lifetime } = this.#options;
    this.#tests = [...this.#rig.probes];
    if (lifetime === undefined) return this.#report(io);
    if (!this.#isTranslated && this.#measurement!.filtering.value === "endpoint-independent") {
      this.#lifetime = "there is nothing that could end: no NAT, and no firewall";
      return this.#report(io);
    }
    this.#stopLimit();
    this.#lifetime = "the search for it goes on";
    io.emit({ type: "preliminary", report: this.#compose(io) });
    for (const { socket } of this.#measurement!.fresh) this.#rig.close(socket, io);
    const { value: ports } = this.#measurement!.portAllocation;
    const isPaired = this.#publicAddresses.length === 1;
    new LifetimeSearch({
      rig: this.#rig,
      address: this.#first!.local!.address,
      server: this.#first!.wish.to,
      retransmit: this.#retransmit,
      showsRemapping: this.#isTranslated && (ports === "random" || ports === "sequential" || !isPaired),
      isPaired,
      onProgress: (progress, io) => io.emit({ type: "lifetime", progress }),
      done: (result, io) => {
        this.#lifetime = result;
        this.#report(io);
      },
    }, lifetime).start(io);
  }

  #report(io: Io): void {
    if (this.#isReported) return;
    this.#isReported = true;
    io.emit({ type: "report", report: this.#compose(io) });
  }

  /** All that got an answer, in the order of asking. */
  get #answered(): NatTest[] {
    return (this.#tests ?? this.#rig.probes).filter(isAnswered);
  }

  /** Whether something was sent and nothing at all came back. */
  get #isSilent(): boolean {
    return this.#rig.probes.length > 0 && this.#rig.probes.every(({ outcome }) => outcome === "silent");
  }

  get #isTranslated(): boolean {
    return this.#answered.some(({ local, answer }) => local !== undefined && !answer!.mapped.equals(local));
  }

  get #publicAddresses(): string[] {
    return [...new Set(this.#answered.map(({ answer }) => answer!.mapped.address))];
  }

  get #mapping(): ReturnType<typeof findMapping> {
    const samples =
      this.#chosen?.firsts.flatMap(({ wish, answer }) =>
        answer === undefined ? [] : [{ to: wish.to, mapped: answer.mapped }]
      ) ?? [];
    // Two names may be one server.
    const all = [...samples, ...this.#measurement?.mappingSamples ?? []];
    const distinct = new Map(all.map((sample) => [sample.to.key, sample]));
    return findMapping(this.#first?.local, [...distinct.values()]);
  }

  #compose(io: Io): NatReport {
    const measurement = this.#measurement;
    const filtering = measurement?.filtering ?? { value: "unknown" as const };
    return composeNatReport({
      family: this.#options.servers[0]!.address.family,
      local: this.#first?.local ?? this.#candidates.find(({ opened }) => opened !== undefined)?.opened?.local ?? null,
      mapped: this.#first?.answer?.mapped ?? null,
      isTranslated: this.#isTranslated,
      isBlocked: this.#isSilent,
      answersTcp: this.#tcp?.hasAnswered ?? null,
      mapping: this.#mapping,
      filtering,
      ports: measurement?.portAllocation ?? { value: "unknown", step: null },
      hairpin: this.#isTranslated
        ? this.#hairpin?.result(filtering.value) ?? { value: null, why: "too few new mappings were answered" }
        : { value: null, why: "there is no NAT" },
      hairpinSource: this.#hairpin?.source ?? null,
      lifetime: this.#lifetime,
      alg: this.#alg(),
      fragments: measurement?.fragments ?? { value: "unknown" },
      publicAddresses: this.#publicAddresses,
      mappings: measurement?.freshProbes.filter(isAnswered).length ?? 0,
      notes: this.#notes(),
      servers: this.#servers(),
      tests: (this.#tests ?? this.#rig.probes).map(({ result }) => result),
      duration: io.now - this.#startedAt,
    });
  }

  #alg(): Finding<boolean | null> {
    const agreements = this.#answered.map(({ answer }) => answer!.agrees);
    if (agreements.includes(false)) return { value: true };
    if (agreements.includes(true)) return { value: false };
    return { value: null, why: "the server sends its view of the address in one form only" };
  }

  #servers(): ServerResult[] {
    // From the address that was taken, or else from the one where most has come back.
    const firsts =
      (this.#chosen ?? this.#candidates.find(({ firsts }) => firsts.some(({ outcome }) => outcome !== "silent")) ??
        this.#candidates[0])?.firsts ?? [];
    return this.#options.servers.map(({ name, address }, i) => {
      const first = firsts[i];
      const result = first?.result;
      return {
        name,
        address,
        outcome: result?.outcome ?? "not sent",
        code: result?.code ?? null,
        rtt: result?.rtt ?? null,
        otherAddress: first?.answer?.otherAddress ?? null,
        software: first?.answer?.software ?? null,
      };
    });
  }

  #notes(): string[] {
    const notes: string[] = [];
    for (const { name, address, outcome, code } of this.#servers()) {
      const what = code === null ? OUTCOME_NOTES[outcome] : `answered with error ${code}`;
      if (what !== undefined) notes.push(`${name} (${address}) ${what}.`);
    }
    const moved = this.#answered.find(({ answer }) =>
      answer!.origin !== undefined && !answer!.origin.equals(answer!.from)
    );
    if (moved !== undefined) {
      const { from, origin } = moved.answer!;
      notes.push(
        `The server says that it answered from ${origin}, but ${from} arrived: there is a NAT in front of it.`,
      );
    }
    return notes;
  }
}

/** What is said of a server whose first request did not simply get its answer. */
const OUTCOME_NOTES: Readonly<Partial<Record<ProbeResult["outcome"], string>>> = {
  "answered twice": "answers more often than it is asked",
  "too late": "answered after it was given up",
  "wrong address": "answered from another address than it was asked at",
  "wrong transaction": "answered with the transaction id of another request",
  "garbage": "answered with something that is no answer",
  "no address": "answered without the address that it saw",
  "silent": "did not answer",
  "not sent": "was not asked, as no socket could be opened",
};

function isAnswered({ answer }: NatTest): boolean {
  return answer !== undefined;
}
