import { denoHost } from "./deno_host.ts";
import { isLibcPermitted, openLibc } from "./_libc.ts";
import type { LinuxSocket, SocketSetup } from "./_linux_socket.ts";
import { LinuxUdp } from "./_linux_udp.ts";
import { connectLinuxStream } from "./_linux_connect.ts";
import { connectDenoStream } from "./tcp.ts";
import type { ByteStreamWish, OpenFailure, SocketWish } from "../machine.ts";
import { type ByteStream, type ByteStreamReceiver, type DatagramReceiver, type Host, OpenError } from "./transport.ts";

export type { IcmpMessage } from "../machine.ts";
export type { LinuxSocket, SocketSetup } from "./_linux_socket.ts";

/** A host whose sockets can do more. */
export interface LinuxHost extends Host {
  /**
   * Binds a datagram socket.
   *
   * @throws {OpenError} If it can not.
   */
  openDatagram(wish: SocketWish, receiver: DatagramReceiver): LinuxSocket;
}

/**
 * The computer that Deno runs on, with UDP by the system calls of Linux for many datagrams at a time: epoll, recvmmsg,
 * sendmmsg and UDP_SEGMENT. TCP connections can leave from a given address and port. All else is as with `denoHost()`.
 *
 * Needs Linux on x86-64 or arm64 and all of `--allow-ffi`: Deno gives no pointers to who may load certain libraries only.
 * Such calls do not ask Deno's permissions: `--allow-net` lists bind the rest of the program only.
 *
 * @param setup How to set up its sockets.
 */
export function linuxHost(setup: SocketSetup = {}): LinuxHost {
  const host = denoHost();
  const seed = new Uint32Array(1);
  crypto.getRandomValues(seed);
  const udp = new LinuxUdp(setup, seed[0]!);
  return {
    ...host,
    canSetDontFragment: true,
    canShareStreamPort: true,
    now: () => udp.now,
    openDatagram: (wish, receiver) => udp.open(wish, receiver),
    connectStream: connectStream,
  };
}

/** From a given address and port by a socket of the system's, if that can be had; all else by Deno's. */
function connectStream(
  wish: ByteStreamWish,
  done: (result: ByteStream | OpenError) => ByteStreamReceiver | undefined,
): () => void {
  const isGiven = wish.address !== undefined || wish.port !== undefined;
  if (!isGiven || wish.transport !== "tcp") return connectDenoStream(wish, done);
  let giveUp = connectLinuxStream(wish, (result) => {
    const isLocal = result instanceof OpenError && LOCAL_FAILURES.has(result.failure);
    if (!isLocal || wish.isLocalOptional !== true) return done(result);
    // As when there was a connection between the same two ends a moment ago.
    giveUp = connectDenoStream(wish, done);
    return undefined;
  });
  return () => giveUp();
}

const LOCAL_FAILURES: ReadonlySet<OpenFailure> = new Set([
  "address-in-use",
  "address-not-available",
  "permission-denied",
  "other",
]);

/** Which back end carries UDP: `"linux"` and `"deno"` by name, `"auto"` the fast one where it works. */
export type IoChoice = "auto" | "linux" | "deno";

/** A host and why it is that one. */
export interface PickedHost {
  /** The host. */
  readonly host: Host;
  /** Which back end it uses. */
  readonly io: "linux" | "deno";
  /** What was picked and why, for people, as `linux (batches by FFI)`. */
  readonly reason: string;
}

/**
 * Picks the back end for UDP. Never asks the user for a permission.
 *
 * @param choice What is wanted. Default: `"auto"`.
 * @param setup How the Linux back end shall set up its sockets; the other one has no such choice.
 * @throws {Error} If `"linux"` is wanted and does not work here.
 */
export function pickHost(choice: IoChoice = "auto", setup: SocketSetup = {}): PickedHost {
  if (choice === "deno") return { host: denoHost(), io: "deno", reason: "deno, as asked for" };
  const obstacle = linuxObstacle();
  if (obstacle === undefined) {
    const reason = choice === "linux" ? "linux, as asked for" : "linux: many datagrams per system call";
    return { host: linuxHost(setup), io: "linux", reason };
  }
  if (choice === "linux") throw new Error(`Cannot use the Linux back end as ${obstacle}`);
  return { host: denoHost(), io: "deno", reason: `deno, as ${obstacle}` };
}

function linuxObstacle(): string | undefined {
  if (Deno.build.os !== "linux") return `the fast one needs Linux: this is ${Deno.build.os}`;
  if (!isLibcPermitted()) return "the fast one needs --allow-ffi";
  try {
    openLibc().close();
    return undefined;
  } catch (error) {
    return `the C library does not load: ${error instanceof Error ? error.message : error}`;
  }
}
