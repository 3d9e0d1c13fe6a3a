import { Alarm } from "./_alarm.ts";
import { runToEnd, type Turns } from "./_run.ts";
import { Internet } from "./_segment.ts";
import { Wire } from "./_wire.ts";
import type { LinkOptions } from "./link.ts";
import { VirtualNetwork } from "./network.ts";
import type { TraceStep, VirtualCounters } from "./trace.ts";

/** How a world is made. */
export interface VirtualWorldOptions {
  /** What all chance is drawn from: the same seed and the same program give the same run. Default: 1. */
  readonly seed?: number | string;
  /** What new links start with. Default: 1 ms one way, nothing lost. */
  readonly link?: LinkOptions;
  /** Called for each step of each datagram. */
  readonly trace?: (step: TraceStep) => void;
}

/** How long virtual time may go on. */
export interface RunOptions {
  /** So many virtual milliseconds from now at most. Default: an hour. */
  readonly limit?: number;
}

const HOUR = 3_600_000;

/**
 * A virtual internet: hosts, links and NATs, one clock that jumps from event to event, and one seed.
 *
 * The world is itself the public network. Everything happens synchronously, in the order of time and, at the same time, in
 * the order in which it was set off.
 *
 * @example Machines and sockets, step by step
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { VirtualWorld } from "@natkit/natkit/virtual";
 * import { PacketBatch, TransportAddress } from "@natkit/natkit/stun";
 *
 * const world = new VirtualWorld({ seed: 1, link: { delay: 10 } });
 * const server = world.addHost("server", { addresses: ["198.51.100.1"] });
 * const home = world.addNat("home", { external: ["203.0.113.1"] });
 * const alice = home.addHost("alice", { addresses: ["192.168.1.2"] });
 *
 * let seen = "";
 * server.openDatagram({ transport: "udp", address: "198.51.100.1", port: 3478 }, (batch) => {
 *   seen = `${batch.addresses[0]} at ${world.now} ms`;
 * });
 * const socket = alice.openDatagram({ transport: "udp", address: "192.168.1.2", port: 5000 }, () => {});
 * const batch = new PacketBatch(1);
 * batch.push(TransportAddress.parse("198.51.100.1:3478"), new Uint8Array(20), 0, 20);
 * socket.send(batch);
 * world.runUntilIdle();
 * assertEquals(seen, "203.0.113.1:5000 at 30 ms");
 * assertEquals(home.counters.translated, 1);
 * ```
 */
export class VirtualWorld extends VirtualNetwork {
  #wire: Wire;
  #isRunning = false;
  #held = new Set<Promise<unknown>>();

  /** A world with nobody in it, at time 0. */
  constructor({ seed = 1, link = {}, trace }: VirtualWorldOptions = {}) {
    const wire = new Wire(seed);
    super(wire, new Internet(wire), link);
    this.#wire = wire;
    wire.trace = trace;
  }

  /** The time in milliseconds. */
  get now(): number {
    return this.#wire.queue.now;
  }

  /** What names resolve to: `world.names.set("turn.example.org", ["198.51.100.1"])`, in lower case. */
  get names(): Map<string, readonly string[]> {
    return this.#wire.names;
  }

  /** What became of all datagrams. */
  get counters(): Readonly<VirtualCounters> {
    return this.#wire.counters;
  }

  /** How many datagrams are under way. */
  get inFlight(): number {
    return this.#wire.inFlight;
  }

  /** Called for each step of each datagram. */
  get trace(): ((step: TraceStep) => void) | undefined {
    return this.#wire.trace;
  }

  set trace(trace: ((step: TraceStep) => void) | undefined) {
    this.#wire.trace = trace;
  }

  /** Lets the next event happen, and time move to it. Gives whether there was one. */
  step(): boolean {
    this.#mustBeFree();
    if (this.#wire.queue.deadline === Infinity) return false;
    this.#wire.queue.step();
    return true;
  }

  /** Lets this many milliseconds pass. */
  advance(ms: number): void {
    this.advanceTo(this.now + ms);
  }

  /**
   * Lets time pass until `at`, in milliseconds; all that happens up to then, and then, has happened.
   *
   * @throws {RangeError} If that lies in the past.
   */
  advanceTo(at: number): void {
    this.#mustBeFree();
    const { queue } = this.#wire;
    if (!(at >= queue.now && at < Infinity)) {
      throw new RangeError(`Cannot advance to ${at} ms as it must be a time from now on: current time is ${queue.now}`);
    }
    while (queue.deadline <= at) queue.step();
    queue.now = at;
  }

  /**
   * Lets time pass until nothing is left to happen: no datagram under way and no alarm set.
   *
   * @param limit So many milliseconds from now at most. Default: an hour.
   * @throws {Error} If there is still something left then: a machine with a keepalive, say, is never idle.
   */
  runUntilIdle(limit: number = HOUR): void {
    this.#mustBeFree();
    const { queue } = this.#wire;
    const end = queue.now + limit;
    while (queue.deadline <= end && queue.deadline !== Infinity) queue.step();
    if (queue.deadline === Infinity) return;
    throw new Error(`Cannot become idle within ${limit} ms: the next event is due at ${queue.deadline} ms`);
  }

  /**
   * Calls `work` when `ms` milliseconds have passed.
   *
   * @returns A function that calls it off.
   */
  after(ms: number, work: () => void): () => void {
    const event = new Alarm(this.#wire, work);
    this.#wire.queue.set(event, this.now + ms);
    return () => this.#wire.queue.clear(event);
  }

  /** Waits for `ms` milliseconds of virtual time. Somebody must let it pass: `run()`, or `advance()`. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => void this.after(ms, resolve));
  }

  /**
   * Runs an asynchronous program, and virtual time while it waits: whenever it has come to rest, the clock jumps to the next
   * event. No real time passes.
   *
   * The program may wait for whatever happens in this world, and for nothing else: not for `setTimeout`, real sockets or
   * files, nor for WebCrypto. `hold()` makes exceptions.
   *
   * @returns What the program's promise gives.
   * @throws {Error} If the program waits and nothing is left to happen, or the limit is reached. An error thrown by a
   * receiver or an alarm ends the run as well.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { VirtualWorld } from "@natkit/natkit/virtual";
   *
   * const world = new VirtualWorld();
   * const slept = await world.run(async () => {
   *   await world.sleep(86_400_000);
   *   return world.now;
   * }, { limit: Infinity });
   * assertEquals(slept, 86_400_000);
   * ```
   */
  async run<T>(program: () => Promise<T> | T, { limit = HOUR }: RunOptions = {}): Promise<T> {
    this.#mustBeFree();
    const end = this.now + limit;
    const turns: Turns = {
      turn: () => this.#turn(end, limit),
      held: () => this.#held.size === 0 ? undefined : Promise.race(this.#held),
    };
    this.#isRunning = true;
    try {
      return await runToEnd((async () => await program())(), turns);
    } finally {
      this.#isRunning = false;
    }
  }

  /**
   * Makes virtual time stand still until a real promise settles: `await world.hold(crypto.subtle.digest("SHA-256", bytes))`.
   *
   * @returns The same as `promise`.
   */
  hold<T>(promise: Promise<T>): Promise<T> {
    const settled: Promise<unknown> = promise.then(() => {}, () => {}).then(() => this.#held.delete(settled));
    this.#held.add(settled);
    return promise;
  }

  #turn(end: number, limit: number): void {
    const wire = this.#wire;
    const { queue } = wire;
    wire.touched = false;
    while (!wire.touched) {
      if (queue.deadline === Infinity) {
        throw new Error(
          `Cannot go on at ${queue.now} ms: the program waits, but nothing is left to happen (for something real: hold())`,
        );
      }
      if (queue.deadline > end) {
        throw new Error(`Cannot go on at ${queue.now} ms: the program still waits after the limit of ${limit} ms`);
      }
      queue.step();
    }
  }

  #mustBeFree(): void {
    if (this.#wire.queue.busy) throw new Error("Cannot let virtual time pass inside an event");
    if (this.#isRunning) {
      throw new Error("Cannot let virtual time pass while run() does: await world.sleep(ms) in the program");
    }
  }
}
