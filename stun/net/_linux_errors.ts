import type { IcmpMessage } from "../machine.ts";
import { EMSGSIZE, type Libc, MSG_DONTWAIT, MSG_ERRQUEUE } from "./_libc.ts";
import {
  CONTROL_LENGTH,
  HEADER_WORDS,
  IOVEC_LENGTH,
  MESSAGE_LENGTH,
  MessageHeaders,
  NAME_LENGTH,
  NativeMemory,
} from "./_native_memory.ts";
import { readSockaddr, SOCKADDR_IN6_SIZE } from "./sockaddr.ts";

const CONTROL_SIZE = 256;
const PAYLOAD_SIZE = 2048;
// More come with the next event.
const DRAIN_LIMIT = 64;
// struct sock_extended_err behind a cmsghdr of 16 bytes: origin, type and code follow the errno.
const ERROR = 16;
const ORIGIN_LOCAL = 1;
const ORIGIN_ICMP = 2;
const ORIGIN_ICMP6 = 3;

/** What the queue needs to know of a socket. */
interface ReportingSocket {
  readonly fd: number;
  readonly isClosed: boolean;
  readonly icmpReceiver: ((message: IcmpMessage) => void) | undefined;
}

/** Reads what a socket with IP_RECVERR holds. */
export class ErrorQueue {
  #headers = new MessageHeaders(1, CONTROL_SIZE);
  #payload = new NativeMemory(PAYLOAD_SIZE);
  #control = new DataView(this.#headers.controls.bytes.buffer);

  constructor() {
    this.#headers.iovecs.setAddress(0, this.#payload.address);
    this.#headers.iovecs.words[IOVEC_LENGTH] = PAYLOAD_SIZE;
  }

  /** Takes out what is there. What came by ICMP goes to its receiver, the same in a row once; other errors are of no use. */
  drain(libc: Libc, socket: ReportingSocket): void {
    const { words } = this.#headers.memory;
    let last: IcmpMessage | undefined;
    for (let i = 0; i < DRAIN_LIMIT && !socket.isClosed; i++) {
      words[NAME_LENGTH] = SOCKADDR_IN6_SIZE;
      words[CONTROL_LENGTH] = CONTROL_SIZE;
      words.fill(0, MESSAGE_LENGTH, HEADER_WORDS);
      if (libc.symbols.recvmsg(socket.fd, this.#headers.pointers[0]!, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return;
      const message = words[CONTROL_LENGTH]! < ERROR + 16 ? undefined : this.#read();
      if (message === undefined || (last !== undefined && isSame(message, last))) continue;
      socket.icmpReceiver?.(last = message);
    }
  }

  #read(): IcmpMessage | undefined {
    const control = this.#control;
    const origin = control.getUint8(ERROR + 4);
    const to = readSockaddr(this.#headers.names.words, 0);
    const mtu = control.getUint32(ERROR + 8, true);
    if (origin === ORIGIN_ICMP || origin === ORIGIN_ICMP6) {
      return { to, type: control.getUint8(ERROR + 5), code: control.getUint8(ERROR + 6), mtu };
    }
    if (origin !== ORIGIN_LOCAL || control.getUint32(ERROR, true) !== EMSGSIZE) return undefined;
    // Too long for the first link already: what a router would have said (RFC 1191 §4, RFC 4443 §3.2).
    return to.family === 4 ? { to, type: 3, code: 4, mtu } : { to, type: 2, code: 0, mtu };
  }
}

function isSame(a: IcmpMessage, b: IcmpMessage): boolean {
  return a.type === b.type && a.code === b.code && a.mtu === b.mtu && a.to.equals(b.to);
}
