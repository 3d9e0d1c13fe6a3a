import type { SocketWish } from "../machine.ts";
import type { Libc } from "./_libc.ts";
import { ErrorQueue } from "./_linux_errors.ts";
import { FIRST_SOCKET, LinuxLoop } from "./_linux_loop.ts";
import { SLOTS } from "./_linux_receive.ts";
import { LinuxDatagramSocket, type SocketSetup } from "./_linux_socket.ts";
import { AddressTable } from "./sockaddr.ts";
import type { DatagramReceiver, PacketBatch } from "./transport.ts";

// How many datagrams a round may take in, all sockets together, so that the event loop has its turn in time.
const ROUND_LIMIT = 1024;
// A socket that had one datagram is asked for one only, this many times: much cheaper than a batch of one.
const SINGLES = 8;

/** All UDP sockets of one host, on one epoll. The first socket starts it, the last one's close ends it. */
export class LinuxUdp {
  #setup: SocketSetup;
  #table: AddressTable;
  #loop: LinuxLoop | undefined;
  // By the data of their events.
  #sockets: (LinuxDatagramSocket | undefined)[] = new Array(FIRST_SOCKET).fill(undefined);
  #freeIndexes: number[] = [];
  #open = 0;
  #errors: ErrorQueue | undefined;
  #inRound = false;
  #now = 0;

  /** @param seed A random 32-bit number. */
  constructor(setup: SocketSetup, seed: number) {
    this.#setup = setup;
    this.#table = new AddressTable(seed);
  }

  /** @internal The library, while a socket is open or being opened. */
  get libc(): Libc {
    return this.#loop!.libc;
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
    const loop = this.#loop ??= new LinuxLoop(this.#setup.gather ?? 0);
    const index = this.#freeIndexes.pop() ?? this.#sockets.length;
    try {
      const socket = new LinuxDatagramSocket(this, index, wish, this.#setup, receiver);
      this.#sockets[index] = socket;
      loop.watch(socket.fd, index);
      this.#open++;
      if (!loop.isStarted) this.#run(loop);
      return socket;
    } catch (error) {
      this.#freeIndexes.push(index);
      // In a round, where the last socket was closed just before, its end sees to that.
      if (this.#open === 0 && !this.#inRound) this.#stop();
      throw error;
    }
  }

  /** @internal Sends now, or at the end of the round. */
  send(socket: LinuxDatagramSocket, batch: PacketBatch): void {
    const { queue } = this.#loop!;
    for (let i = 0; i < batch.length; i++) {
      queue.push(socket, batch.addresses[i]!, batch.buffers[i]!, batch.offsets[i]!, batch.lengths[i]!);
    }
    if (!this.#inRound) queue.flush();
  }

  /** @internal Sends what waits, in the middle of a round. */
  flush(): void {
    this.#loop?.queue.flush();
  }

  /** @internal Gives what resolves at the end of all, when the last socket's end is that. */
  close(socket: LinuxDatagramSocket): Promise<void> | undefined {
    const { libc, queue, ended } = this.#loop!;
    queue.flush();
    libc.symbols.close(socket.fd);
    this.#sockets[socket.index] = undefined;
    this.#freeIndexes.push(socket.index);
    if (--this.#open > 0) return undefined;
    if (!this.#inRound) this.#stop();
    return ended;
  }

  #stop(): void {
    this.#loop!.stop();
    this.#loop = undefined;
  }

  async #run(loop: LinuxLoop): Promise<void> {
    await loop.start();
    let count = loop.isStopped ? 0 : await loop.waitAway();
    let isQuiet = true;
    while (!loop.isStopped) {
      const received = this.#round(loop, count);
      if (received > 0) isQuiet = false;
      if (this.#open === 0) {
        this.#stop();
        break;
      }
      // Promises first, and at times all else: TCP, timers.
      await null;
      const ticked = loop.takeTick();
      if (ticked && isQuiet) {
        count = loop.isStopped ? 0 : await loop.waitAway();
        continue;
      }
      if (ticked) isQuiet = true;
      if (!loop.isStopped && loop.needsTurn(ticked)) await loop.giveTurn();
      if (!loop.isStopped) count = loop.wait(received);
    }
    loop.end();
  }

  /** One round: receive from all sockets that have something, then send all that came of it. Gives how many datagrams. */
  #round(loop: LinuxLoop, events: number): number {
    const limit = Math.max(1, Math.trunc(ROUND_LIMIT / Math.max(1, events)));
    let count = 0;
    this.#now = performance.now();
    this.#inRound = true;
    try {
      for (let i = 0; i < events; i++) {
        const data = loop.data(i);
        const socket = data < FIRST_SOCKET ? undefined : this.#sockets[data];
        if (socket !== undefined) count += this.#receive(loop, socket, limit);
      }
    } finally {
      loop.queue.flush();
      loop.slots.reset();
      this.#inRound = false;
    }
    return count;
  }

  /** Receives what there is, within limits. What is left makes for an event in the next round. */
  #receive({ libc, slots, queue }: LinuxLoop, socket: LinuxDatagramSocket, limit: number): number {
    const isSingle = socket.singles > 0;
    if (slots.free < (isSingle ? 1 : SLOTS / 2)) {
      queue.flush();
      slots.reset();
      this.#now = performance.now();
    }
    if (isSingle) {
      socket.singles--;
      if (!slots.receiveOne(libc, socket.fd, this.#table)) return this.#receiveErrors(libc, socket);
    } else {
      const count = slots.receive(libc, socket.fd, Math.min(slots.free, limit), this.#table);
      if (count === 1 && limit > 1) socket.singles = SINGLES;
      if (count <= 0) return this.#receiveErrors(libc, socket);
    }
    const { length } = slots.batch;
    socket.receiver(slots.batch);
    return length;
  }

  /** An error that waited on a socket is not the end of it. */
  #receiveErrors(libc: Libc, socket: LinuxDatagramSocket): number {
    if (socket.icmpReceiver !== undefined) (this.#errors ??= new ErrorQueue()).drain(libc, socket);
    return 0;
  }
}
