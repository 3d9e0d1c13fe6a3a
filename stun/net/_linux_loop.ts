import { setImmediate } from "node:timers";
import { findReactor } from "./_deno_reactor.ts";
import * as c from "./_libc.ts";
import { ReceiveSlots } from "./_linux_receive.ts";
import { SendQueue } from "./_linux_send.ts";
import { NativeMemory } from "./_native_memory.ts";

const MAX_EVENTS = 256;
// While there is work the thread itself waits in the kernel: much cheaper than a helper thread. This often a periodic
// timer ends that, so that the event loop has its turn: a timeout for each wait would cost more than all the rest of it.
const TICK_MS = 2;
// With every so many ticks the event loop looks at Deno's own sockets, even if those do not seem to need it.
const FULL_TURN = 5;
// How long closing waits for the helper thread to come back, before it leaves the rest to the event loop. A thread that
// gets the processor is back in one; a thread that has to be made first, on a computer that is busy, takes longer.
const PATIENCE_MS = 50;
// Datagrams are gathered while there are at least so many in a tick, and fewer than so many at a time.
const FEW_DATAGRAMS = 16;
const MANY_DATAGRAMS = 32;
// What the kernel adds to a short sleep.
const TIMER_SLACK_US = 50;
// The user data of events. Small numbers: others would have the hot loop compiled over and over.
const WAKE = 0;
const TICK = 1;
const REACTOR = 2;
/** The user data of the first socket. */
export const FIRST_SOCKET = 3;

/** What the kernel reads and writes. It outlives the library and is handed on from one host to the next. */
class Buffers {
  readonly slots: ReceiveSlots = new ReceiveSlots();
  readonly queue: SendQueue = new SendQueue(this.slots);
  readonly events: NativeMemory = new NativeMemory(MAX_EVENTS * 16);
  readonly eventsPointer: Deno.PointerObject = this.events.pointer();
  readonly time: NativeMemory = new NativeMemory(16);
  readonly timePointer: Deno.PointerObject = this.time.pointer();
}

const spareBuffers: Buffers[] = [];
const scrap = new Uint8Array(64);
const one = new Uint8Array(128).fill(1, 0, 1);

/** Waiting in the kernel without keeping the event loop from its work. There is one while a host has sockets. */
export class LinuxLoop {
  readonly libc: c.Libc = c.openLibc();
  readonly slots: ReceiveSlots;
  readonly queue: SendQueue;
  /** Resolves when all is over, the helper thread too. */
  readonly ended: Promise<void>;
  /** Whether `start()` was called, so that `end()` will be too. */
  isStarted = false;
  #buffers = spareBuffers.pop() ?? new Buffers();
  #epoll: number;
  #wake: number;
  #tick: number;
  #reactor: number | undefined;
  #gather: number;
  #gathers: boolean;
  // In this tick and in the one before.
  #received = 0;
  #receivedBefore = 0;
  #isReactorReady = false;
  #needsFullTurn = false;
  #hasTicked = false;
  #ticks = 0;
  // While a helper thread is at work: tells by the memory that it writes to whether it is done.
  #isBack: (() => boolean) | undefined;
  #hasEvents = () => Atomics.load(this.#buffers.events.words, 0) !== 0;
  #hasTime = () => Atomics.load(this.#buffers.time.words, 0) !== 0;
  #hasNoTime = () => Atomics.load(this.#buffers.time.words, 2) === 0;
  #isReleased = false;
  #isStopped = false;
  #resolveEnded: () => void;

  /** @param gather How long datagrams are gathered, in ms. */
  constructor(gather: number) {
    this.#gather = Math.max(0, gather * 1000 - TIMER_SLACK_US);
    this.#gathers = gather > 0;
    const { symbols } = this.libc;
    this.slots = this.#buffers.slots;
    this.queue = this.#buffers.queue;
    this.queue.libc = this.libc;
    this.#epoll = symbols.epoll_create1(c.EPOLL_CLOEXEC);
    this.#wake = symbols.eventfd(0, c.EFD_NONBLOCK_CLOEXEC);
    this.#tick = symbols.timerfd_create(c.CLOCK_MONOTONIC, c.TFD_NONBLOCK_CLOEXEC);
    this.watch(this.#wake, WAKE);
    this.watch(this.#tick, TICK);
    ({ promise: this.ended, resolve: this.#resolveEnded } = Promise.withResolvers());
  }

  /** Has a socket's events come from now on, with `data` to tell it by. */
  watch(fd: number, data: number, events: number = c.EPOLLIN, operation: number = c.EPOLL_CTL_ADD): void {
    const event = new Uint8Array(64);
    const view = new DataView(event.buffer);
    view.setUint32(0, events, true);
    view.setUint32(c.EPOLL_DATA_OFFSET, data, true);
    this.libc.symbols.epoll_ctl(this.#epoll, operation, fd, event);
  }

  /** To be called once, before all waiting. */
  async start(): Promise<void> {
    this.isStarted = true;
    this.#isBack = this.#hasNoTime;
    const reactor = await findReactor(this.libc, this.#buffers.time, () => this.#isStopped);
    this.#isBack = undefined;
    if (reactor === undefined || this.#isStopped) return;
    this.watch(reactor, REACTOR, 0);
    this.#reactor = reactor;
  }

  /**
   * Waits in this thread. Gives how many events there are.
   *
   * @param received How many datagrams the last round took in.
   */
  wait(received: number): number {
    this.#isReactorReady = false;
    if (this.#gathers && received > 0) this.#gatherSome(received);
    return this.libc.symbols.epoll_wait(this.#epoll, this.#buffers.eventsPointer, MAX_EVENTS, -1);
  }

  // At a middling load: with less, nobody is to wait; with more, they gather by themselves.
  #gatherSome(received: number): void {
    this.#received += received;
    if (received < MANY_DATAGRAMS && this.#receivedBefore >= FEW_DATAGRAMS) this.libc.symbols.usleep(this.#gather);
  }

  /** Waits in a helper thread for as long as it takes: the event loop goes on, and nothing is burnt. */
  async waitAway(): Promise<number> {
    const { events, eventsPointer } = this.#buffers;
    events.words[0] = 0;
    this.#isBack = this.#hasEvents;
    this.#setTick(0);
    if (this.#reactor !== undefined) this.watch(this.#reactor, REACTOR, 0, c.EPOLL_CTL_MOD);
    const count = await this.libc.symbols.epoll_wait_async(this.#epoll, eventsPointer, MAX_EVENTS, -1);
    this.#isBack = undefined;
    if (this.#isStopped) return 0;
    this.#setTick(TICK_MS);
    if (this.#reactor !== undefined) this.watch(this.#reactor, REACTOR, c.EPOLLIN | c.EPOLLET, c.EPOLL_CTL_MOD);
    return count;
  }

  /** What the event `i` of the last wait is about: a socket's data, or a lower number when that is seen to already. */
  data(i: number): number {
    const data = this.#buffers.events.words[(i * c.EPOLL_EVENT_SIZE + c.EPOLL_DATA_OFFSET) / 4]!;
    if (data === TICK) {
      this.#hasTicked = true;
      // Without this it does not tick again.
      this.libc.symbols.read(this.#tick, scrap, 8n);
    } else if (data === REACTOR) this.#isReactorReady = true;
    return data;
  }

  /** Whether it has ticked since this was asked last. */
  takeTick(): boolean {
    const ticked = this.#hasTicked;
    this.#hasTicked = false;
    if (ticked) {
      this.#receivedBefore = this.#received;
      this.#received = 0;
    }
    return ticked;
  }

  /** Whether the event loop is to have a turn: after a tick, and when its own sockets have something. */
  needsTurn(ticked: boolean): boolean {
    this.#needsFullTurn = this.#isReactorReady;
    if (ticked) this.#needsFullTurn ||= this.#reactor === undefined || ++this.#ticks % FULL_TURN === 0;
    return ticked || this.#needsFullTurn;
  }

  /** Lets the event loop go round, as far as `needsTurn()` found it necessary. */
  async giveTurn(): Promise<void> {
    if (this.#needsFullTurn) await this.#giveFullTurn();
    // Timers have theirs here, but not in the wait for a helper thread.
    await new Promise((resolve) => void setImmediate(resolve));
  }

  /**
   * Waiting for a helper thread, whatever it does, is the cheapest way in which the event loop looks at its own sockets:
   * after setImmediate() or a message it looks at them only every 61st time.
   */
  async #giveFullTurn(): Promise<void> {
    const { time, timePointer } = this.#buffers;
    time.words[0] = 0;
    this.#isBack = this.#hasTime;
    await this.libc.symbols.clock_gettime_async(c.CLOCK_MONOTONIC, timePointer);
    this.#isBack = undefined;
  }

  /** Whether `stop()` was called. */
  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** No more waiting: ends the one that is under way. */
  stop(): void {
    this.#isStopped = true;
    // Not before the helper thread has left: it would wait on whatever gets the descriptor next.
    if (this.#isBack === undefined || this.#callBack(this.#isBack)) this.#release();
    if (!this.isStarted) this.end();
  }

  /** The last of all. */
  end(): void {
    this.#release();
    spareBuffers.push(this.#buffers);
    this.#resolveEnded();
  }

  /** Ends the helper thread's wait and sees it leave, if it does so soon. */
  #callBack(isBack: () => boolean): boolean {
    const { symbols } = this.libc;
    symbols.write(this.#wake, one, 8n);
    const end = performance.now() + PATIENCE_MS;
    while (!isBack()) {
      if (performance.now() > end) return false;
      symbols.sched_yield();
    }
    return true;
  }

  #setTick(milliseconds: number): void {
    // struct itimerspec: interval and first expiry, seconds and nanoseconds, 64 bits each.
    const time = new BigInt64Array(16);
    time[1] = time[3] = BigInt(milliseconds) * 1_000_000n;
    this.libc.symbols.timerfd_settime(this.#tick, 0, new Uint8Array(time.buffer), null);
  }

  #release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    for (const fd of [this.#epoll, this.#wake, this.#tick]) this.libc.symbols.close(fd);
    this.libc.close();
  }
}
