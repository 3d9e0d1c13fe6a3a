import type { TransportAddress } from "../address.ts";
import { type Libc, MSG_DONTWAIT, MSG_ERRQUEUE } from "./_libc.ts";
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
// struct sock_extended_err behind a cmsghdr of 16 bytes: origin, type and code follow the errno.
const ERROR = 16;
const ORIGIN_ICMP = 2;
const ORIGIN_ICMP6 = 3;

/** An ICMP message about a datagram that the socket sent. */
export interface IcmpMessage {
  /** Who should have had the datagram. */
  readonly to: TransportAddress;
  /** The ICMP or ICMPv6 type. */
  readonly type: number;
  /** Its code. */
  readonly code: number;
  /** The MTU that was too small for it, where the message is about that; else 0. */
  readonly mtu: number;
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

  /** Takes out all errors. Those that came by ICMP go to `receiver`, others are of no use. */
  drain(libc: Libc, fd: number, receiver: (message: IcmpMessage) => void): void {
    const { words } = this.#headers.memory;
    for (;;) {
      words[NAME_LENGTH] = SOCKADDR_IN6_SIZE;
      words[CONTROL_LENGTH] = CONTROL_SIZE;
      words.fill(0, MESSAGE_LENGTH, HEADER_WORDS);
      if (libc.symbols.recvmsg(fd, this.#headers.pointers[0]!, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return;
      const origin = this.#control.getUint8(ERROR + 4);
      if (words[CONTROL_LENGTH]! < ERROR + 16 || (origin !== ORIGIN_ICMP && origin !== ORIGIN_ICMP6)) continue;
      receiver({
        to: readSockaddr(this.#headers.names.words, 0),
        type: this.#control.getUint8(ERROR + 5),
        code: this.#control.getUint8(ERROR + 6),
        mtu: this.#control.getUint32(ERROR + 8, true),
      });
    }
  }
}
