/** Something that happens at a point in virtual time. */
export abstract class VirtualEvent {
  /** When; meaningless while it is not in a queue. */
  at = Infinity;
  /** Breaks ties: of two events at the same time the one that was set first comes first. */
  order = 0;
  /** Its place in the heap; -1 when it is in no queue. */
  index = -1;

  /** Lets it happen. */
  abstract run(): void;
}

// So many events without a millisecond passing are taken for a loop that never ends.
const STANDSTILL_LIMIT = 1_000_000;

/** The one queue of a world, and with it the clock: events by time, then in the order they were set. */
export class EventQueue {
  /** The time in milliseconds. */
  now = 0;
  /** Whether an event is being run. */
  busy = false;
  #heap: VirtualEvent[] = [];
  #order = 0;
  #standstill = 0;

  /** When the next event is due; `Infinity` when there is none. */
  get deadline(): number {
    return this.#heap.length === 0 ? Infinity : this.#heap[0]!.at;
  }

  /** Puts an event in, or moves it. A time in the past is now; `Infinity` takes it out. */
  set(event: VirtualEvent, at: number): void {
    if (Number.isNaN(at)) throw new RangeError("Cannot set a virtual event as its time is not a number");
    if (at === Infinity) return this.clear(event);
    if (event.index !== -1 && event.at === at) return;
    event.at = at < this.now ? this.now : at;
    event.order = this.#order++;
    if (event.index === -1) {
      event.index = this.#heap.length;
      this.#heap.push(event);
    }
    this.#down(this.#up(event.index));
  }

  /** Takes an event out. */
  clear(event: VirtualEvent): void {
    const index = event.index;
    if (index === -1) return;
    event.index = -1;
    const last = this.#heap.pop()!;
    if (last === event) return;
    this.#heap[index] = last;
    last.index = index;
    this.#down(this.#up(index));
  }

  /** Moves the clock to the next event and runs it. There must be one. */
  step(): void {
    const event = this.#heap[0]!;
    if (event.at > this.now) this.#standstill = 0;
    else if (++this.#standstill > STANDSTILL_LIMIT) {
      throw new Error(`Cannot go on: ${STANDSTILL_LIMIT} events at ${this.now} ms, and virtual time stands still`);
    }
    this.now = event.at;
    this.clear(event);
    this.busy = true;
    try {
      event.run();
    } finally {
      this.busy = false;
    }
  }

  #up(index: number): number {
    const event = this.#heap[index]!;
    while (index > 0) {
      const parentIndex = (index - 1) >> 1;
      const parent = this.#heap[parentIndex]!;
      if (!isBefore(event, parent)) break;
      this.#place(parent, index);
      index = parentIndex;
    }
    this.#place(event, index);
    return index;
  }

  #down(index: number): void {
    const event = this.#heap[index]!;
    const length = this.#heap.length;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= length) break;
      if (child + 1 < length && isBefore(this.#heap[child + 1]!, this.#heap[child]!)) child++;
      if (!isBefore(this.#heap[child]!, event)) break;
      this.#place(this.#heap[child]!, index);
      index = child;
    }
    this.#place(event, index);
  }

  #place(event: VirtualEvent, index: number): void {
    this.#heap[index] = event;
    event.index = index;
  }
}

function isBefore(a: VirtualEvent, b: VirtualEvent): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
