import { setImmediate } from "node:timers";
import type { Libc } from "./_libc.ts";
import type { NativeMemory } from "./_native_memory.ts";

const MOST_DESCRIPTORS = 256;
const POLLIN = 1;
// How long the helper thread takes, and how much later it is given up.
const ERRAND_US = 1000;
const PATIENCE_MS = 3;
const TRIES = 5;
const encoder = new TextEncoder();
const decoder = new TextDecoder();
// A thread keeps its event loop for life.
let known: number | undefined;

/**
 * Finds the epoll descriptor by which Deno's event loop on this thread waits for its own sockets. When it is ready, the
 * event loop has something to do; so a thread that waits in the kernel for sockets of ours can wait for Deno's as well.
 *
 * Nothing documents it, so it is recognised by what it does: it becomes ready when a helper thread is done, twice, as
 * another thread's may be ready by chance. Where that fails, the event loop has its turns by the clock alone. Takes a few
 * milliseconds, once in a thread.
 *
 * @param time A `struct timeval`: its word 2 is 0 when no helper thread is at work.
 * @param isOver Whether the library is closed by now.
 */
export async function findReactor(
  libc: Libc,
  time: NativeMemory,
  isOver: () => boolean,
): Promise<number | undefined> {
  let seen: number | undefined;
  for (let i = 0; i < TRIES && known === undefined && !isOver(); i++) {
    time.words.set([0, 0, ERRAND_US, 0]);
    const errand = libc.symbols.select_async(0, null, null, null, time.pointer());
    const end = performance.now() + PATIENCE_MS;
    // The event loop has to know of the errand before it ends.
    await new Promise((resolve) => void setImmediate(resolve));
    if (!isOver()) {
      const candidates = epollDescriptors(libc);
      const before = new Set(readable(libc, candidates));
      let found: number | undefined;
      while (found === undefined && performance.now() < end) {
        found = readable(libc, candidates).find((fd) => !before.has(fd));
      }
      if (found !== undefined && found === seen) known = found;
      seen = found;
    }
    await errand;
    time.words[2] = 0;
  }
  return known;
}

function epollDescriptors(libc: Libc): number[] {
  const found: number[] = [];
  const target = new Uint8Array(128);
  for (let fd = 0; fd < MOST_DESCRIPTORS; fd++) {
    const length = libc.symbols.readlink(encoder.encode(`/proc/self/fd/${fd}\0`), target, BigInt(target.length));
    if (length > 0 && decoder.decode(target.subarray(0, Number(length))) === "anon_inode:[eventpoll]") found.push(fd);
  }
  return found;
}

function readable(libc: Libc, fds: readonly number[]): number[] {
  // struct pollfd: descriptor, then 16 bits each of what is asked and what is so.
  const words = new Int32Array(Math.max(32, 2 * fds.length));
  fds.forEach((fd, i) => words.set([fd, POLLIN], 2 * i));
  libc.symbols.poll(new Uint8Array(words.buffer), BigInt(fds.length), 0);
  return fds.filter((_, i) => (words[2 * i + 1]! >> 16 & POLLIN) !== 0);
}
