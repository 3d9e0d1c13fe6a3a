import type { TransportAddress } from "./address.ts";
import { CHANGE_REQUEST, PADDING } from "./discovery_attributes.ts";
import type { MachineIo } from "./machine.ts";
import {
  type ChangeOutcome,
  findFiltering,
  type Finding,
  findPortAllocation,
  type MappingSample,
  type PortSample,
} from "./nat_inference.ts";
import type { FragmentHandling, NatBehavior } from "./nat_report.ts";
import type { Probe, ProbeRig, ProbeSocket } from "./nat_rig.ts";
import type { RetransmitOptions } from "./transaction.ts";

/** How many new mappings are looked at for the allocation of ports. */
const FRESH_SOCKETS = 6;
/** With STUN's header, UDP's and IP's more than an Ethernet frame carries (RFC 5780 §7.6). */
const PADDING_LENGTH = 1500;

/** What a measurement works with. */
export interface MeasurementSetting<Event> {
  /** Sockets and requests. */
  readonly rig: ProbeRig<Event>;
  /** The first request to the server, answered. Its socket has sent to this server only, or to other servers as well. */
  readonly first: Probe<Event>;
  /** How requests are repeated. */
  readonly retransmit: RetransmitOptions;
  /** Called once as soon as all mappings are known; filtering may not be yet. */
  readonly onMapped: (io: MachineIo<Event>) => void;
  /** Called once at the end. */
  readonly done: (io: MachineIo<Event>) => void;
}

/** A socket's plain request, which shows that it works, and its request to be answered from elsewhere. */
interface FilterTest<Event> {
  readonly plain: Probe<Event>;
  readonly changed: Probe<Event>;
}

/**
 * Mapping, filtering, allocation of ports and fragments, against one server (RFC 5780 §4.3, §4.4, §3.5), all in one go.
 *
 * Filtering is tested from sockets that have sent to one address of the server's only. Mapping is tested from the first
 * socket towards all of them.
 */
export class NatMeasurement<Event> {
  /** Sockets with a new mapping towards the server, as long as nobody closes them. */
  fresh: readonly ProbeSocket[] = [];
  /** Their requests, in the order of sending. */
  readonly freshProbes: Probe<Event>[] = [];
  readonly #setting: MeasurementSetting<Event>;
  readonly #server: TransportAddress;
  /** The server's other address and port. */
  readonly #other: TransportAddress | undefined;
  readonly #mappingProbes: Probe<Event>[] = [];
  #filterIp: FilterTest<Event> | undefined;
  #filterPort: FilterTest<Event> | undefined;
  #padded: Probe<Event> | undefined;
  #unmapped = 0;
  #unfinished = 0;

  /** @param setting What it works with. */
  constructor(setting: MeasurementSetting<Event>) {
    this.#setting = setting;
    this.#server = setting.first.wish.to;
    this.#other = otherAddressOf(setting.first);
  }

  /** Begins. `onMapped` and `done` follow. */
  start(io: MachineIo<Event>): void {
    const { rig, first } = this.#setting;
    rig.openAll(first.local!.address, FRESH_SOCKETS, io, (opened, io) => {
      this.fresh = opened;
      this.#askAll(io);
    });
  }

  /** What destinations saw of the first socket, besides the first. */
  get mappingSamples(): MappingSample[] {
    return this.#mappingProbes.flatMap(({ wish, answer }) =>
      answer === undefined ? [] : [{
        to: wish.to,
        mapped: answer.mapped,
      }]
    );
  }

  /** The filtering behaviour. */
  get filtering(): Finding<NatBehavior> {
    const server = this.#server;
    const other = this.#other;
    if (other === undefined) {
      const why =
        "the server has one address only, and nobody else can be asked to send to a socket that has not sent there";
      return { value: "unknown", why };
    }
    const fromOtherIp = this.#filterIp === undefined
      ? "refused"
      : this.#outcome(this.#filterIp, other, (from) => from.ipKey !== server.ipKey);
    const fromOtherPort = this.#filterPort === undefined ? "refused" : this.#outcome(
      this.#filterPort,
      server.withPort(other.port),
      (from) => from.ipKey === server.ipKey && from.port !== server.port,
    );
    return findFiltering(fromOtherIp, fromOtherPort);
  }

  /** How ports are allocated. */
  get portAllocation(): ReturnType<typeof findPortAllocation> {
    return findPortAllocation(
      this.freshProbes.flatMap(({ local, answer }): PortSample[] =>
        answer === undefined || local === undefined ? [] : [{ local, mapped: answer.mapped }]
      ),
    );
  }

  /** What becomes of fragments. */
  get fragments(): Finding<FragmentHandling> {
    const { outcome, answer, isDone } = this.#padded ?? {};
    if (answer !== undefined && (answer.padding ?? 0) >= PADDING_LENGTH) return { value: "pass" };
    if (outcome === "answered" || outcome === "error") {
      return { value: "outbound", why: "the server does not send long answers (PADDING): only the way out was seen" };
    }
    // Classic servers do not take messages of that length.
    const why = "the server does not understand long requests (PADDING)";
    if (isDone !== true) return { value: "unknown", why: "there was no time left" };
    if (outcome === "silent" && !this.#setting.first.answer!.isClassic) return { value: "blocked" };
    return { value: "unknown", why };
  }

  /**
   * All requests; the rig paces them. New mappings come first and in a row, as the steps of a sequential NAT would not be
   * seen among others; so the wait for what a filter holds back begins early, too.
   */
  #askAll(io: MachineIo<Event>): void {
    const { socket } = this.#setting.first.wish;
    const server = this.#server;
    const other = this.#other;
    // One more, so that nothing that ends at once ends it all.
    this.#unfinished++;
    this.#unmapped++;
    for (const [i, fresh] of this.fresh.entries()) {
      const plain = this.#askMapping("new mapping", fresh.socket, server, io);
      this.freshProbes.push(plain);
      if (other === undefined) continue;
      if (i === 0 && other.ipKey !== server.ipKey) {
        this.#filterIp = { plain, changed: this.#askChanged(fresh, true, other.port !== server.port, io) };
      } else if (i === 1 && other.port !== server.port) {
        this.#filterPort = { plain, changed: this.#askChanged(fresh, false, true, io) };
      }
    }
    for (const to of otherDestinations(server, other)) {
      this.#mappingProbes.push(this.#askMapping("mapping", socket, to, io));
    }
    this.#padded = this.#setting.rig.ask({
      test: "fragments",
      socket,
      to: server,
      retransmit: this.#setting.retransmit,
      write: (writer) => writer.add(PADDING, new Uint8Array(PADDING_LENGTH)),
      done: (_probe, io) => this.#end(0, io),
    }, io);
    this.#unfinished++;
    this.#end(1, io);
  }

  #askMapping(test: string, socket: number, to: TransportAddress, io: MachineIo<Event>): Probe<Event> {
    this.#unfinished++;
    this.#unmapped++;
    const { rig, retransmit } = this.#setting;
    return rig.ask({ test, socket, to, retransmit, done: (_probe, io) => this.#end(1, io) }, io);
  }

  #askChanged(fresh: ProbeSocket, changeIp: boolean, changePort: boolean, io: MachineIo<Event>): Probe<Event> {
    this.#unfinished++;
    const what = changeIp ? changePort ? "other address and port" : "other address" : "other port";
    return this.#setting.rig.ask({
      test: `filtering: answer from ${what}`,
      socket: fresh.socket,
      to: this.#server,
      retransmit: this.#setting.retransmit,
      write: (writer) => writer.add(CHANGE_REQUEST, { changeIp, changePort }),
      // A server may itself be behind a NAT and look otherwise than it thinks: what counts is that it is elsewhere.
      isRightWay: (_from, socket) => socket === fresh.socket,
      done: (_probe, io) => this.#end(0, io),
    }, io);
  }

  #end(mappings: number, io: MachineIo<Event>): void {
    this.#unfinished--;
    this.#unmapped -= mappings;
    if (mappings > 0 && this.#unmapped === 0) this.#setting.onMapped(io);
    if (this.#unfinished === 0) this.#setting.done(io);
  }

  /** @param source Where the answer was asked for from. */
  #outcome(
    { plain, changed }: FilterTest<Event>,
    source: TransportAddress,
    isElsewhere: (from: TransportAddress) => boolean,
  ): ChangeOutcome {
    if (changed.answer !== undefined) return isElsewhere(changed.answer.from) ? "passed" : "refused";
    if (changed.outcome === "error") return "refused";
    const isSourceAlive = this.#mappingProbes.some(({ wish, answer }) =>
      answer !== undefined && wish.to.equals(source)
    );
    return changed.isDone && changed.outcome === "silent" && plain.answer !== undefined && isSourceAlive
      ? "filtered"
      : "unknown";
  }
}

/** The other address and port of an answering server, if they are of use. */
export function otherAddressOf<Event>({ answer, wish }: Probe<Event>): TransportAddress | undefined {
  const other = answer?.otherAddress;
  if (other === undefined || other.family !== wish.to.family || other.port === 0 || other.equals(wish.to)) {
    return undefined;
  }
  const first = other.bytes[0]!;
  const isMulticast = other.family === 4 ? first >= 224 : first === 0xff;
  return isMulticast || other.bytes.every((byte) => byte === 0) ? undefined : other;
}

/** A server's other three address and port pairs, or what there is of them (RFC 5780 §4.3 asks the first two). */
function otherDestinations(server: TransportAddress, other: TransportAddress | undefined): TransportAddress[] {
  if (other === undefined) return [];
  const all = [other.withPort(server.port), other, server.withPort(other.port)];
  return all.filter((one, i) => !one.equals(server) && all.findIndex((two) => two.equals(one)) === i);
}
