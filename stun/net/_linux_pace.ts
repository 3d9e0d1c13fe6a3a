import { CLOCK_THREAD_CPUTIME_ID, type Libc } from "./_libc.ts";
import { NativeMemory } from "./_native_memory.ts";

// Waking up costs as much as relaying two datagrams. From so many wake-ups in a tick on, for few datagrams each and
// from many sockets, they are worth being gathered; and so it stays until there is little to do, or very much.
const MANY_ROUNDS = 16;
const FEW_DATAGRAMS = 8;
const MANY_SOCKETS = 8;
const MANY_DATAGRAMS = 32;
// A thread that is busy for more than this part of its time gathers datagrams anyway.
const BUSY = 0.7;

/**
 * Decides whether datagrams are to be gathered for a moment before they are received, as network cards do it. It costs
 * each datagram that moment, and spares half of the work at a middling load of many clients.
 */
export class Pace {
  /** Whether to wait before receiving. */
  isGathering = false;
  /** A number for each tick, by which sockets are counted once. */
  tick = 1;
  #rounds = 0;
  #datagrams = 0;
  #sockets = 0;
  #lastTick = 0;
  #lastUsed = 0;
  #time = new NativeMemory(16);
  #timePointer = this.#time.pointer();

  /** Counts what a round brought. */
  count(datagrams: number, sockets: number): void {
    this.#rounds++;
    this.#datagrams += datagrams;
    this.#sockets += sockets;
  }

  /** Judges the time since the last tick. */
  handleTick(libc: Libc, now: number): void {
    libc.symbols.clock_gettime(CLOCK_THREAD_CPUTIME_ID, this.#timePointer);
    const used = this.#time.words[0]! * 1000 + this.#time.words[2]! / 1e6;
    const load = (used - this.#lastUsed) / (now - this.#lastTick);
    const each = this.#datagrams / this.#rounds;
    this.isGathering = this.isGathering
      ? this.#datagrams >= MANY_ROUNDS && each <= MANY_DATAGRAMS && load < BUSY && this.#sockets >= MANY_SOCKETS
      : this.#rounds >= MANY_ROUNDS && each < FEW_DATAGRAMS && load < BUSY && this.#sockets >= MANY_SOCKETS;
    this.#lastUsed = used;
    this.#lastTick = now;
    this.#rounds = this.#datagrams = this.#sockets = 0;
    this.tick++;
  }
}
