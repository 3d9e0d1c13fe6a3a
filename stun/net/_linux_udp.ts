import type { SocketWish } from "../machine.ts";
import * as c from "./_libc.ts";
import { Pace } from "./_linux_pace.ts";
import { ReceiveSlots, SLOTS } from "./_linux_receive.ts";
import { SendQueue } from "./_linux_send.ts";
import { LinuxDatagramSocket, type SocketSetup } from "./_linux_socket.ts";
import { NativeMemory } from "./_native_memory.ts";
import { AddressTable } from "./sockaddr.ts";
import type { DatagramReceiver, PacketBatch } from "./transport.ts";

const MAX_EVENTS = 256;
// While there is work the thread itself waits in the kernel: much cheaper than a helper thread. This often a periodic
// timer ends that, so that the event loop has its turn: a timeout for each wait would cost more than all the rest of it.
const TICK_MS = 2;
// How long datagrams are gathered when that pays; the kernel adds 50 us of its own.
const GATHER_US = 50;
// How many datagrams a round may take in, all sockets together, so that the event loop has its turn in time.
const ROUND_LIMIT = 1024;
// The user data of the eventfd that ends a wait, and of the timer; sockets count from 2.
const WAKE = 0;
const TICK = 1;
const FIRST_SOCKET = 2;
// How long closing waits for the helper thread to come back, before it leaves the rest to the event loop.
const PATIENCE_MS = 2;
// A socket that had one datagram is asked for one only, this many times: much cheaper than a batch of one.
const SINGLES = 8;

/** What the kernel reads and writes. It outlives the library and is handed on from one host to the next. */
class Buffers {
  readonly slots: ReceiveSlots = new ReceiveSlots();
  readonly queue: SendQueue = new SendQueue(this.slots);
  readonly events: NativeMemory = new NativeMemory(MAX_EVENTS * 16);
  readonly eventsPointer: Deno.PointerObject = this.events.pointer();
  readonly time: NativeMemory = new NativeMemory(16);
  readonly timePointer: Deno.PointerObject = this.time.pointer();
  readonly pace: Pace = new Pace();
}

const ticks = new Uint8Array(64);
const spareBuffers: Buffers[] = [];

/** What is there while at least one socket is open. */
interface Running {
  /** Whether its loop runs. */
  isStarted: boolean;
  /** While a helper thread is at work: memory of which the first word is 0 until it is done. */
  away: NativeMemory | undefined;
  /** Resolves when all is over, the helper thread too. */
  readonly ended: PromiseWithResolvers<void>;
  /** Whether its descriptors are closed. */
  isReleased: boolean;
  readonly libc: c.Libc;
  readonly epoll: number;
  readonly wake: number;
  readonly tick: number;
  readonly buffers: Buffers;
}

/** All UDP sockets of one host, on one epoll. The first socket starts it, the last one's close ends it. */
export class LinuxUdp {
  #setup: SocketSetup;
  #table: AddressTable;
  #running: Running | undefined;
  #sockets: (LinuxDatagramSocket | undefined)[] = [undefined, undefined];
  #freeIndexes: number[] = [];
  #open = 0;
  #inRound = false;
  // In this round: datagrams, and sockets that had none yet in this tick.
  #received = 0;
  #receivers = 0;
  #now = 0;

  /** @param seed A random 32-bit number. */
  constructor(setup: SocketSetup, seed: number) {
    this.#setup = setup;
    this.#table = new AddressTable(seed);
  }

  /** @internal The library, while a socket is open or being opened. */
  get libc(): c.Libc {
    return this.#running!.libc;
  }

  /** Monotonic time in milliseconds; it stands still while a batch is handled. */
  get now(): number {
    return this.#inRound ? this.#now : performance.now();
  }

  /**
   * Binds a socket.
   *
   * @throws {OpenError} If it can not.
   */
  open(wish: SocketWish, receiver: DatagramReceiver): LinuxDatagramSocket {
    const running = this.#running ??= start();
    const index = this.#freeIndexes.pop() ?? this.#sockets.length;
    try {
      const socket = new LinuxDatagramSocket(this, index, wish, this.#setup, receiver);
      this.#sockets[index] = socket;
      watch(running.libc, running.epoll, socket.fd, index);
      this.#open++;
      if (!running.isStarted) this.#run(running);
      return socket;
    } catch (error) {
      this.#freeIndexes.push(index);
      if (this.#open === 0) this.#stop();
      throw error;
    }
  }

  /** @internal Sends now, or at the end of the round. */
  send(socket: LinuxDatagramSocket, batch: PacketBatch): void {
    const { queue } = this.#running!.buffers;
    for (let i = 0; i < batch.length; i++) {
      queue.push(socket, batch.addresses[i]!, batch.buffers[i]!, batch.offsets[i]!, batch.lengths[i]!);
    }
    if (!this.#inRound) queue.flush();
  }

  /** @internal Resolves when the last socket's end is the end of all. */
  close(socket: LinuxDatagramSocket): Promise<void> | undefined {
    const { libc, buffers, ended } = this.#running!;
    buffers.queue.flush();
    libc.symbols.close(socket.fd);
    this.#sockets[socket.index] = undefined;
    this.#freeIndexes.push(socket.index);
    if (--this.#open > 0) return undefined;
    if (!this.#inRound) this.#stop();
    return ended.promise;
  }

  #stop(): void {
    const running = this.#running!;
    this.#running = undefined;
    // Not before the helper thread has left: it would wait on whatever gets the descriptor next.
    if (running.away === undefined || callBack(running, running.away)) release(running);
    if (!running.isStarted) end(running);
  }

  async #run(running: Running): Promise<void> {
    const { libc, buffers } = running;
    running.isStarted = true;
    let count = await waitAway(running);
    let isQuiet = true;
    while (this.#running === running) {
      const ticked = this.#round(running, count);
      if (this.#open === 0) {
        this.#stop();
        break;
      }
      isQuiet &&= count === (ticked ? 1 : 0);
      // Promises first, and at each tick all else: TCP, timers.
      await null;
      if (this.#running !== running) break;
      if (ticked && isQuiet) {
        count = await waitAway(running);
        continue;
      }
      if (ticked) {
        isQuiet = true;
        buffers.pace.handleTick(libc, performance.now());
        await giveTurn(running);
        if (this.#running !== running) break;
      }
      count = wait(running);
    }
    end(running);
  }

  /** One round: receive from all sockets that have something, then send all that came of it. Gives whether it ticked. */
  #round(running: Running, events: number): boolean {
    const { libc, buffers } = running;
    const { words } = buffers.events;
    const limit = Math.max(1, Math.trunc(ROUND_LIMIT / Math.max(1, events)));
    let ticked = false;
    this.#received = 0;
    this.#receivers = 0;
    this.#now = performance.now();
    this.#inRound = true;
    try {
      for (let i = 0; i < events; i++) {
        const data = words[(i * c.EPOLL_EVENT_SIZE + c.EPOLL_DATA_OFFSET) / 4]!;
        if (data >= FIRST_SOCKET) {
          const socket = this.#sockets[data];
          if (socket !== undefined) this.#receive(libc, buffers, socket, limit);
        } else if (data === TICK) {
          ticked = true;
          // Without this it does not tick again.
          libc.symbols.read(running.tick, ticks, 8n);
        }
      }
    } finally {
      buffers.queue.flush();
      buffers.slots.reset();
      this.#inRound = false;
    }
    buffers.pace.count(this.#received, this.#receivers);
    return ticked;
  }

  /** Receives what there is, within limits. What is left makes for an event in the next round. */
  #receive(libc: c.Libc, { slots, queue, pace }: Buffers, socket: LinuxDatagramSocket, limit: number): void {
    const isSingle = socket.singles > 0;
    if (slots.free < (isSingle ? 1 : SLOTS / 2)) {
      queue.flush();
      slots.reset();
      this.#now = performance.now();
    }
    if (isSingle) {
      socket.singles--;
      if (!slots.receiveOne(libc, socket.fd, this.#table)) return;
    } else {
      const count = slots.receive(libc, socket.fd, Math.min(slots.free, limit), this.#table);
      if (count === 1 && limit > 1) socket.singles = SINGLES;
      // An error that waited on the socket is not the end of it.
      if (count <= 0) return;
    }
    this.#received += slots.batch.length;
    if (socket.tick !== pace.tick) {
      socket.tick = pace.tick;
      this.#receivers++;
    }
    socket.receiver(slots.batch);
  }
}

function start(): Running {
  const libc = c.openLibc();
  const epoll = libc.symbols.epoll_create1(c.EPOLL_CLOEXEC);
  const wake = libc.symbols.eventfd(0, c.EFD_NONBLOCK_CLOEXEC);
  const tick = libc.symbols.timerfd_create(c.CLOCK_MONOTONIC, c.TFD_NONBLOCK_CLOEXEC);
  watch(libc, epoll, wake, WAKE);
  watch(libc, epoll, tick, TICK);
  const buffers = spareBuffers.pop() ?? new Buffers();
  buffers.queue.libc = libc;
  return {
    isStarted: false,
    away: undefined,
    ended: Promise.withResolvers(),
    isReleased: false,
    libc,
    epoll,
    wake,
    tick,
    buffers,
  };
}

/** Waits until there is something. A function of its own, as calls to the library are only fast from compiled code. */
function wait({ libc, epoll, buffers }: Running): number {
  if (buffers.pace.isGathering) libc.symbols.usleep(GATHER_US);
  return libc.symbols.epoll_wait(epoll, buffers.eventsPointer, MAX_EVENTS, -1);
}

/** Waits in a helper thread for as long as it takes: the event loop goes on, and nothing is burnt. */
async function waitAway(running: Running): Promise<number> {
  const { libc, epoll, buffers } = running;
  buffers.events.words[0] = 0;
  running.away = buffers.events;
  setTick(running, 0);
  const count = await libc.symbols.epoll_wait_async(epoll, buffers.eventsPointer, MAX_EVENTS, -1);
  running.away = undefined;
  setTick(running, TICK_MS);
  return count;
}

/**
 * Lets the event loop go round. Waiting for a helper thread, whatever it does, is the cheapest way in which Deno looks
 * at its own sockets too: after setImmediate() or a message it looks only every 61st time.
 */
async function giveTurn(running: Running): Promise<void> {
  const { libc, buffers } = running;
  buffers.time.words[0] = 0;
  running.away = buffers.time;
  await libc.symbols.clock_gettime_async(c.CLOCK_MONOTONIC, buffers.timePointer);
  running.away = undefined;
}

/** Ends the helper thread's wait and sees it leave, if it does so soon. */
function callBack({ libc, wake }: Running, away: NativeMemory): boolean {
  libc.symbols.write(wake, new Uint8Array(new BigUint64Array([1n]).buffer), 8n);
  const end = performance.now() + PATIENCE_MS;
  while (Atomics.load(away.words, 0) === 0) {
    if (performance.now() > end) return false;
    libc.symbols.sched_yield();
  }
  return true;
}

function setTick({ libc, tick, isReleased }: Running, milliseconds: number): void {
  if (isReleased) return;
  // struct itimerspec: interval and first expiry, seconds and nanoseconds, 64 bits each.
  const time = new BigInt64Array(16);
  time[1] = time[3] = BigInt(milliseconds) * 1_000_000n;
  libc.symbols.timerfd_settime(tick, 0, new Uint8Array(time.buffer), null);
}

function end(running: Running): void {
  release(running);
  spareBuffers.push(running.buffers);
  running.ended.resolve();
}

function release(running: Running): void {
  if (running.isReleased) return;
  running.isReleased = true;
  const { libc, epoll, wake, tick } = running;
  libc.symbols.close(epoll);
  libc.symbols.close(tick);
  libc.symbols.close(wake);
  libc.close();
}

function watch({ symbols }: c.Libc, epoll: number, fd: number, data: number): void {
  const event = new Uint8Array(64);
  const view = new DataView(event.buffer);
  view.setUint32(0, c.EPOLLIN, true);
  view.setUint32(c.EPOLL_DATA_OFFSET, data, true);
  symbols.epoll_ctl(epoll, c.EPOLL_CTL_ADD, fd, event);
}
