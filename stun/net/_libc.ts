/**
 * The C library of Linux, by FFI: the calls that a batch of datagrams needs, and the layouts they share between glibc
 * and musl, x86-64 and arm64 (all 64-bit and little-endian; only `struct epoll_event` differs).
 */

// glibc, then musl's name on the two architectures that Deno is built for.
const NAMES = ["libc.so.6", `libc.musl-${Deno.build.arch}.so.1`];

const SYMBOLS = {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  recvfrom: { parameters: ["i32", "pointer", "i32", "i32", "pointer", "pointer"], result: "i32" },
  recvmsg: { parameters: ["i32", "pointer", "i32"], result: "i32" },
  recvmmsg: { parameters: ["i32", "pointer", "u32", "i32", "pointer"], result: "i32" },
  sendto: { parameters: ["i32", "pointer", "i32", "i32", "pointer", "u32"], result: "i32" },
  sendmsg: { parameters: ["i32", "pointer", "i32"], result: "i32" },
  sendmmsg: { parameters: ["i32", "pointer", "u32", "i32"], result: "i32" },
  epoll_create1: { parameters: ["i32"], result: "i32" },
  epoll_ctl: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  epoll_wait: { parameters: ["i32", "pointer", "i32", "i32"], result: "i32" },
  epoll_wait_async: {
    name: "epoll_wait",
    parameters: ["i32", "pointer", "i32", "i32"],
    result: "i32",
    nonblocking: true,
  },
  sched_yield: { parameters: [], result: "i32" },
  usleep: { parameters: ["u32"], result: "i32" },
  readlink: { parameters: ["buffer", "buffer", "usize"], result: "isize" },
  poll: { parameters: ["buffer", "u64", "i32"], result: "i32" },
  select_async: {
    name: "select",
    parameters: ["i32", "pointer", "pointer", "pointer", "pointer"],
    result: "i32",
    nonblocking: true,
  },
  clock_gettime_async: {
    name: "clock_gettime",
    parameters: ["i32", "pointer"],
    result: "i32",
    nonblocking: true,
  },
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  timerfd_create: { parameters: ["i32", "i32"], result: "i32" },
  timerfd_settime: { parameters: ["i32", "i32", "buffer", "pointer"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  __errno_location: { parameters: [], result: "pointer" },
} as const;

/** The loaded library. */
export interface Libc {
  /** Its functions. */
  readonly symbols: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];
  /** Why the last call of this thread failed. Only good right after it. */
  errno(): number;
  /** Unloads it. */
  close(): void;
}

/**
 * Loads the C library.
 *
 * @throws {Error} If there is none under a known name, or Deno may not load it.
 */
export function openLibc(): Libc {
  let failure: unknown;
  for (const name of NAMES) {
    try {
      const library = Deno.dlopen(name, SYMBOLS);
      const errno = new Deno.UnsafePointerView(library.symbols.__errno_location()!);
      return { symbols: library.symbols, errno: () => errno.getInt32(), close: () => library.close() };
    } catch (error) {
      failure ??= error;
    }
  }
  throw failure;
}

/** Whether Deno may use the C library; never asks the user. For this library only is not enough, as there are pointers. */
export function isLibcPermitted(): boolean {
  return Deno.permissions.querySync({ name: "ffi" }).state === "granted";
}

/** The numbers that the calls take. */
export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCK_DGRAM_NONBLOCK_CLOEXEC = 2 | 0o4000 | 0o2000000;
export const SOCK_STREAM_NONBLOCK_CLOEXEC = 1 | 0o4000 | 0o2000000;
export const EFD_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000;
export const TFD_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000;
export const CLOCK_MONOTONIC = 1;
export const EPOLL_CLOEXEC = 0o2000000;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_MOD = 3;
export const EPOLLIN = 1;
export const POLLOUT = 4;
export const EPOLLET = 0x80000000;
export const MSG_DONTWAIT = 0x40;
export const MSG_ERRQUEUE = 0x2000;

export const SOL_IP = 0;
export const IP_TOS = 1;
export const IP_MTU_DISCOVER = 10;
export const IP_RECVERR = 11;
/**
 * Values of IP_MTU_DISCOVER and IPV6_MTU_DISCOVER: the system's usual way; DF on all that is sent, however long; DF on
 * nothing, while ICMP messages about what was sent with it are still reported.
 */
export const PMTUDISC_WANT = 1;
export const PMTUDISC_PROBE = 3;
export const PMTUDISC_OMIT = 5;
export const SOL_SOCKET = 1;
export const SOL_UDP = 17;
export const SOL_IPV6 = 41;
export const SO_SNDBUF = 7;
export const SO_RCVBUF = 8;
export const SO_REUSEADDR = 2;
export const SO_ERROR = 4;
export const SO_REUSEPORT = 15;
export const SO_SNDBUFFORCE = 32;
export const SO_RCVBUFFORCE = 33;
export const SO_MEMINFO = 55;
export const UDP_SEGMENT = 103;
export const IPV6_MTU_DISCOVER = 23;
export const IPV6_RECVERR = 25;
export const IPV6_V6ONLY = 26;
export const IPV6_TCLASS = 67;

export const EPERM = 1;
export const EINTR = 4;
export const EIO = 5;
export const EAGAIN = 11;
export const EACCES = 13;
export const EINVAL = 22;
export const EMSGSIZE = 90;
export const EADDRINUSE = 98;
export const EADDRNOTAVAIL = 99;
export const ENETUNREACH = 101;
export const ETIMEDOUT = 110;
export const ECONNREFUSED = 111;
export const EHOSTUNREACH = 113;
export const EINPROGRESS = 115;

/** `struct epoll_event` is packed on x86-64 only. */
export const EPOLL_EVENT_SIZE = Deno.build.arch === "x86_64" ? 12 : 16;
/** Where its 64 bits of user data begin. */
export const EPOLL_DATA_OFFSET = EPOLL_EVENT_SIZE - 8;
/** `struct mmsghdr`: a `msghdr` of 56 bytes, the length that was sent or received, padding. */
export const MMSGHDR_SIZE = 64;
/** `struct iovec`: base and length, 8 bytes each. */
export const IOVEC_SIZE = 16;
/** Room for a `sockaddr_in` (16 bytes) or `sockaddr_in6` (28 bytes). */
export const NAME_SIZE = 32;
