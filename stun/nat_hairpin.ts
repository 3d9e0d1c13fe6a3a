import type { TransportAddress } from "./address.ts";
import type { MachineIo } from "./machine.ts";
import type { Finding } from "./nat_inference.ts";
import type { NatBehavior, PortAllocation } from "./nat_report.ts";
import type { Probe, ProbeRig, ProbeSocket } from "./nat_rig.ts";
import type { RetransmitOptions } from "./transaction.ts";

/** What a hairpin test works with. */
export interface HairpinSetting<Event> {
  /** Sockets and requests. */
  readonly rig: ProbeRig<Event>;
  /** The server. */
  readonly server: TransportAddress;
  /** Two sockets with their public addresses as the server saw them, answered. */
  readonly pair: readonly [Probe<Event>, Probe<Event>];
  /** The mapping behaviour. */
  readonly mapping: NatBehavior;
  /** How ports are allocated. */
  readonly portAllocation: PortAllocation;
  /** By which step, if they are in sequence. */
  readonly portStep: number | null;
  /** Whether all sockets share one public IP address. */
  readonly isPaired: boolean;
  /** How requests are repeated. */
  readonly retransmit: RetransmitOptions;
  /** Called once at the end. */
  readonly done: (io: MachineIo<Event>) => void;
}

/**
 * Whether two sockets behind the NAT reach each other by their public addresses (RFC 5780 §3.4).
 *
 * Each sends to the other, so that a filter has seen both. Where every destination sees another public address, those
 * towards each other are not known and have to be foretold, from how ports are allocated.
 */
export class HairpinTest<Event> {
  readonly #setting: HairpinSetting<Event>;
  #looped: Probe<Event> | undefined;
  #unfinished = 0;
  /** Whether the public addresses were what the test took them for; `undefined` if they could not be known. */
  #isForetold: boolean | undefined;

  /** @param setting What it works with. */
  constructor(setting: HairpinSetting<Event>) {
    this.#setting = setting;
  }

  /** Begins. `done` follows. */
  start(io: MachineIo<Event>): void {
    const { pair: [one, two], mapping, portAllocation, isPaired } = this.#setting;
    this.#unfinished++;
    this.#cross(asSocket(one), asSocket(two), one.answer!.mapped, two.answer!.mapped, io);
    if (mapping === "endpoint-independent") this.#isForetold = true;
    else if (portAllocation === "preserving" && isPaired) this.#foretellPreserved(io);
    else if (portAllocation === "sequential" && isPaired) this.#foretellNext(io);
    this.#end(io);
  }

  /** The result, which depends on the filtering when nothing came back. */
  result(filtering: NatBehavior): Finding<boolean | null> {
    if (this.#looped !== undefined) return { value: true };
    if (this.#unfinished > 0) return { value: null, why: "there was no time left" };
    if (filtering === "endpoint-independent" || this.#isForetold === true) return { value: false };
    const why = "nothing came back, but this NAT's mapping and filter would hide it: " +
      "which public addresses two sockets use towards each other could not be known";
    return { value: null, why };
  }

  /** Which source looped requests had. */
  get source(): "external" | "internal" | null {
    const looped = this.#looped;
    if (looped === undefined) return null;
    return looped.local !== undefined && looped.looped!.from.ipKey === looped.local.ipKey ? "internal" : "external";
  }

  /** Each sends to the other's public address. */
  #cross(
    one: ProbeSocket,
    two: ProbeSocket,
    oneMapped: TransportAddress,
    twoMapped: TransportAddress,
    io: MachineIo<Event>,
  ): void {
    this.#knock(one, twoMapped, io);
    this.#knock(two, oneMapped, io);
  }

  #knock(from: ProbeSocket, to: TransportAddress, io: MachineIo<Event>): void {
    this.#unfinished++;
    const { rig, retransmit } = this.#setting;
    rig.ask({
      test: "hairpinning",
      socket: from.socket,
      to,
      retransmit,
      // In one go: the public ports of both were foretold.
      isUrgent: true,
      done: (probe, io) => {
        if (probe.looped !== undefined && probe.looped.socket !== probe.wish.socket) this.#looped ??= probe;
        this.#end(io);
      },
    }, io);
  }

  /** Sockets that have sent nothing yet: their first mapping keeps their port. */
  #foretellPreserved(io: MachineIo<Event>): void {
    this.#unfinished++;
    this.#openPair(io, (one, two, io) => {
      const { mapped } = this.#setting.pair[0].answer!;
      this.#cross(one, two, mapped.withPort(one.local.port), mapped.withPort(two.local.port), io);
      this.#isForetold = true;
      this.#end(io);
    });
  }

  /** A mapping shows where the sequence is; another one afterwards, whether nobody came in between. */
  #foretellNext(io: MachineIo<Event>): void {
    this.#unfinished++;
    const step = this.#setting.portStep!;
    this.#openPair(io, (one, two, io) => {
      this.#measure(io, (before, io) => {
        const last = before?.port ?? 0;
        if (before === undefined || last + 3 * step > 65535 || last + 3 * step < 1) return this.#end(io);
        this.#cross(one, two, before.withPort(last + step), before.withPort(last + 2 * step), io);
        this.#measure(io, (after, io) => {
          // A NAT that turns nothing back may not even make mappings for it.
          this.#isForetold = after?.port === last + 3 * step || after?.port === last + step;
          this.#end(io);
        });
      });
    });
  }

  #openPair(io: MachineIo<Event>, then: (one: ProbeSocket, two: ProbeSocket, io: MachineIo<Event>) => void): void {
    const { rig, pair } = this.#setting;
    rig.openAll(pair[0].local!.address, 2, io, ([one, two], io) => {
      if (one === undefined || two === undefined) this.#end(io);
      else then(one, two, io);
    });
  }

  /** Makes a mapping and shows it. */
  #measure(io: MachineIo<Event>, then: (mapped: TransportAddress | undefined, io: MachineIo<Event>) => void): void {
    const { rig, pair, server, retransmit } = this.#setting;
    rig.open(pair[0].local!.address, io, (opened, _failure, io) => {
      if (opened === undefined) return then(undefined, io);
      rig.ask({
        test: "hairpinning: next port",
        socket: opened.socket,
        to: server,
        retransmit,
        isUrgent: true,
        done: (probe, io) => then(probe.answer?.mapped, io),
      }, io);
    });
  }

  #end(io: MachineIo<Event>): void {
    if (--this.#unfinished === 0) this.#setting.done(io);
  }
}

function asSocket<Event>({ wish, local }: Probe<Event>): ProbeSocket {
  return { socket: wish.socket, local: local! };
}
