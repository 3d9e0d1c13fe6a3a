import type { TransportAddress } from "./address.ts";
import { RESPONSE_ADDRESS, RESPONSE_PORT } from "./discovery_attributes.ts";
import type { MachineIo, SocketId } from "./machine.ts";
import type { MessageWriter } from "./message.ts";
import type { LifetimeResult } from "./nat_report.ts";
import type { Probe, ProbeRig, ProbeSocket } from "./nat_rig.ts";
import type { RetransmitOptions } from "./transaction.ts";

// A first round of 4.5, 5.5, 6.5, ... 12.5, 15.5, 18.5 ... times the resolution leaves a gap that one more round can mostly fill.
const FIRST_POINT = 4;
const RATIO = 2 ** (1 / 3);
const MAX_ROUNDS = 64;

/** How far and how closely to search. */
export interface LifetimeOptions {
  /** The longest idle time to try, in seconds. Default: 600. */
  readonly max?: number;
  /** How close to come, in seconds. Default: 1. */
  readonly resolution?: number;
  /** How many mappings to hold at a time, 1 to 1000. More are quicker. Default: 40. */
  readonly parallel?: number;
}

/** How far a search has come. */
export interface LifetimeProgress {
  /** Mappings live at least this long, in seconds. */
  readonly aliveSeconds: number;
  /** Mappings were gone after this long; `null` as long as none was. */
  readonly goneSeconds: number | null;
  /** The longest time that will be tried. */
  readonly maxSeconds: number;
  /** The round, from 1. */
  readonly round: number;
  /** When the round ends at the latest, in ms from now. */
  readonly remaining: number;
}

/** What a search works with. */
export interface LifetimeSetting<Event> {
  /** Sockets and requests. */
  readonly rig: ProbeRig<Event>;
  /** The local IP address. */
  readonly address: string;
  /** The server. */
  readonly server: TransportAddress;
  /** How requests are repeated. */
  readonly retransmit: RetransmitOptions;
  /** Whether a socket that is given a new mapping can tell: by another port, or another address. */
  readonly showsRemapping: boolean;
  /** Whether all sockets share one public address; else a server can not be made to answer to another's mapping. */
  readonly isPaired: boolean;
  /** Called after every step. */
  readonly onProgress: (progress: LifetimeProgress, io: MachineIo<Event>) => void;
  /** Called once, with the result or with why there is none. */
  readonly done: (result: LifetimeResult | string, io: MachineIo<Event>) => void;
}

/** One idle mapping on trial. */
interface Trial<Event> {
  readonly idle: number;
  socket: SocketId;
  state: "running" | "alive" | "gone" | "void";
  /** The request that tells. */
  check?: Probe<Event>;
}

/**
 * Searches for the lifetime of a NAT's mappings (RFC 5780 §4.6): many mappings idle side by side, each for another time.
 * The first round doubles the time with every third one, each round after it divides the gap between the last alive and the
 * first gone, until that is no wider than the resolution.
 *
 * Idle times are half a resolution off its multiples, so that a lifetime that is a multiple lies in the middle of a gap.
 */
export class LifetimeSearch<Event> {
  readonly #setting: LifetimeSetting<Event>;
  readonly #max: number;
  readonly #resolution: number;
  readonly #parallel: number;
  #method: LifetimeResult["method"] = "response-port";
  /** Why the server can not help. */
  #why: string | undefined;
  #asker: ProbeSocket | undefined;
  /** In half resolutions, always odd: exact in comparisons. */
  #alive = 0;
  #gone = Infinity;
  #consistent = true;
  #round = 0;
  /** A round trip to the server in ms: the shortest that was seen. */
  #rtt = Infinity;
  #roundEnd = 0;
  #trials: Trial<Event>[] = [];
  #isDone = false;

  /** @param setting What to work with. */
  constructor(setting: LifetimeSetting<Event>, options: LifetimeOptions = {}) {
    this.#setting = setting;
    const { max, resolution, parallel } = checkLifetimeOptions(options);
    this.#max = max;
    this.#resolution = resolution;
    this.#parallel = parallel;
  }

  /** Begins. `done` follows. */
  start(io: MachineIo<Event>): void {
    const { rig, address, isPaired } = this.#setting;
    if (!isPaired) return this.#useRemapping("sockets get different public addresses", io);
    rig.open(address, io, (asker, _failure, io) => {
      this.#asker = asker;
      this.#tryMethod(io);
    });
  }

  /** Whether the server can be made to answer to another socket's mapping, tried on one that is fresh. */
  #tryMethod(io: MachineIo<Event>): void {
    this.#map((fresh, mapped, io) => {
      if (fresh === undefined || this.#asker === undefined) return this.#finish("no socket could be opened", io);
      this.#askFor(mapped, (probe, io) => {
        const isThere = probe.answer?.socket === fresh.socket;
        this.#setting.rig.close(fresh.socket, io);
        if (isThere) return this.#nextRound(io);
        this.#why ??= probe.code !== undefined
          ? `the server does not answer to another port (RESPONSE-PORT: error ${probe.code})`
          : probe.answer !== undefined
          ? "the server ignores the wish to answer to another port (RESPONSE-PORT)"
          : "an answer that was asked for to another port (RESPONSE-PORT) never came";
        if (this.#method === "response-port") {
          this.#method = "response-address";
          return this.#tryMethod(io);
        }
        this.#useRemapping(this.#why, io);
      }, io);
    }, io);
  }

  #useRemapping(why: string, io: MachineIo<Event>): void {
    this.#method = "remapping";
    if (this.#setting.showsRemapping) return this.#nextRound(io);
    this.#finish(`${why}, and a new mapping of this NAT looks like the old one`, io);
  }

  /** Opens a socket and makes a mapping for it. */
  #map(
    then: (socket: ProbeSocket | undefined, mapped: TransportAddress, io: MachineIo<Event>) => void,
    io: MachineIo<Event>,
  ): void {
    const { rig, address, server, retransmit } = this.#setting;
    rig.open(address, io, (opened, _failure, io) => {
      if (opened === undefined) return then(undefined, server, io);
      rig.ask({
        test: "lifetime: new mapping",
        socket: opened.socket,
        to: server,
        retransmit,
        done: (probe, io) => {
          if (probe.answer !== undefined) {
            // An answer to a later sending looks late.
            this.#rtt = Math.min(this.#rtt, probe.rtt!);
            return then(opened, probe.answer.mapped, io);
          }
          rig.close(opened.socket, io);
          then(undefined, server, io);
        },
      }, io);
    });
  }

  /** Asks for an answer to a mapping of another socket's. */
  #askFor(
    mapped: TransportAddress,
    done: (probe: Probe<Event>, io: MachineIo<Event>) => void,
    io: MachineIo<Event>,
  ): Probe<Event> {
    const { rig, server, retransmit } = this.#setting;
    const write = (writer: MessageWriter) =>
      this.#method === "response-port" ? writer.add(RESPONSE_PORT, mapped.port) : writer.add(RESPONSE_ADDRESS, mapped);
    return rig.ask({
      test: "lifetime: answer to another mapping",
      socket: this.#asker!.socket,
      to: server,
      retransmit,
      write,
      isRightWay: (from) => from.equals(server),
      done,
    }, io);
  }

  #nextRound(io: MachineIo<Event>): void {
    const points = this.#points();
    if (points.length === 0 || ++this.#round > MAX_ROUNDS) return this.#finish(undefined, io);
    this.#roundEnd = io.now + this.#seconds(points.at(-1)!) * 1000;
    this.#trials = points.map((idle) => ({ idle, socket: -1, state: "running" }));
    for (const trial of this.#trials) this.#try(trial, io);
    this.#progress(io);
  }

  /** The idle times of the next round, in half resolutions. */
  #points(): number[] {
    // The last one is half a resolution below the maximum.
    const last = 2 * Math.floor(this.#max / this.#resolution) - 1;
    const points: number[] = [];
    if (this.#gone === Infinity) {
      const alive = (this.#alive - 1) / 2;
      const first = Math.max(FIRST_POINT, Math.ceil(alive) + 1, Math.floor(alive * RATIO));
      for (let steps = first; 2 * steps + 1 < last; steps = Math.max(steps + 1, Math.floor(steps * RATIO))) {
        points.push(2 * steps + 1);
      }
      if (this.#alive < last) points.push(last);
      return points.slice(0, this.#parallel);
    }
    const lowest = this.#alive === 0 ? -1 : this.#alive;
    const inside = (this.#gone - lowest) / 2 - 1;
    const count = Math.min(inside, this.#parallel);
    for (let i = 1; i <= count; i++) points.push(lowest + 2 * Math.round(i * (inside + 1) / (count + 1)));
    return points;
  }

  #try(trial: Trial<Event>, io: MachineIo<Event>): void {
    this.#map((opened, mapped, io) => {
      if (opened === undefined || trial.state !== "running") return this.#settle(trial, "void", io);
      trial.socket = opened.socket;
      // The mapping was last used when the request left or when its answer came in: the wait is counted to the middle.
      const due = io.now + this.#seconds(trial.idle) * 1000 - this.#rtt;
      this.#roundEnd = Math.max(this.#roundEnd, due);
      this.#setting.rig.at(Math.max(io.now, due), (io) => this.#check(trial, opened, mapped, io));
    }, io);
  }

  #check(trial: Trial<Event>, opened: ProbeSocket, mapped: TransportAddress, io: MachineIo<Event>): void {
    if (trial.state !== "running") return;
    if (this.#method !== "remapping") {
      trial.check = this.#askFor(mapped, (probe, io) => {
        const isAlive = probe.answer?.socket === opened.socket;
        this.#settle(trial, isAlive ? "alive" : probe.code === undefined ? "gone" : "void", io);
      }, io);
      return;
    }
    const { rig, server, retransmit } = this.#setting;
    rig.ask({
      test: "lifetime: mapping after a pause",
      socket: opened.socket,
      to: server,
      retransmit,
      done: (probe, io) => {
        const now = probe.answer?.mapped;
        this.#settle(trial, now === undefined ? "void" : now.equals(mapped) ? "alive" : "gone", io);
      },
    }, io);
  }

  #settle(trial: Trial<Event>, state: "alive" | "gone" | "void", io: MachineIo<Event>): void {
    if (trial.state !== "running" || this.#isDone) return;
    trial.state = state;
    this.#close(trial, io);
    if (state === "alive") this.#alive = Math.max(this.#alive, trial.idle);
    if (state === "gone") this.#gone = Math.min(this.#gone, trial.idle);
    if (this.#gone < this.#alive) {
      // An answer is proof, silence may be loss.
      this.#consistent = false;
      this.#gone = Infinity;
    }
    // What is longer than the first that was gone tells nothing more.
    const open = this.#trials.filter(({ state, idle }) => state === "running" && idle < this.#gone);
    if (open.length > 0) return this.#progress(io);
    for (const rest of this.#trials) {
      if (rest.state !== "running") continue;
      rest.state = "void";
      this.#close(rest, io);
    }
    if (this.#trials.every(({ state }) => state === "void")) {
      return this.#finish("the server no longer answers", io);
    }
    this.#nextRound(io);
  }

  #close(trial: Trial<Event>, io: MachineIo<Event>): void {
    if (trial.check !== undefined) this.#setting.rig.abandon(trial.check);
    if (trial.socket !== -1) this.#setting.rig.close(trial.socket, io);
    trial.socket = -1;
  }

  #progress(io: MachineIo<Event>): void {
    this.#setting.onProgress({
      aliveSeconds: this.#seconds(this.#alive),
      goneSeconds: this.#gone === Infinity ? null : this.#seconds(this.#gone),
      maxSeconds: this.#max,
      round: this.#round,
      remaining: Math.max(0, this.#roundEnd - io.now),
    }, io);
  }

  #finish(why: string | undefined, io: MachineIo<Event>): void {
    if (this.#isDone) return;
    this.#isDone = true;
    if (this.#asker !== undefined) this.#setting.rig.close(this.#asker.socket, io);
    this.#setting.done(
      why ?? {
        method: this.#method,
        aliveSeconds: this.#seconds(this.#alive),
        goneSeconds: this.#gone === Infinity ? null : this.#seconds(this.#gone),
        resolutionSeconds: this.#resolution,
        maxSeconds: this.#max,
        consistent: this.#consistent,
      },
      io,
    );
  }

  #seconds(halfSteps: number): number {
    return halfSteps * this.#resolution / 2;
  }
}

/**
 * The options with their defaults.
 *
 * @throws {RangeError} If they leave nothing to try.
 */
export function checkLifetimeOptions(options: LifetimeOptions): Required<LifetimeOptions> {
  const { max = 600, resolution = 1, parallel = 40 } = options;
  if (!(resolution > 0 && max >= 2 * resolution && max < Infinity)) {
    throw new RangeError(
      `Cannot search for a lifetime as max must be twice the resolution or more: ` +
        `max is ${max} s, resolution ${resolution} s`,
    );
  }
  if (!(parallel >= 1 && parallel <= 1000)) {
    throw new RangeError(`Cannot hold mappings as parallel must be in 1 to 1000: current value is ${parallel}`);
  }
  return { max, resolution, parallel: Math.floor(parallel) };
}

/** The lifetime as one number: the middle of the gap that is left, or the longest that was tried if none was gone. */
export function lifetimeSeconds({ aliveSeconds, goneSeconds, resolutionSeconds }: LifetimeResult): number {
  return goneSeconds === null ? aliveSeconds + resolutionSeconds / 2 : (aliveSeconds + goneSeconds) / 2;
}
