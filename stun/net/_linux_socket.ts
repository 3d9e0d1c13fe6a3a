import { TransportAddress } from "../address.ts";
import type { IcmpMessage, OpenFailure, SocketWish } from "../machine.ts";
import * as c from "./_libc.ts";
import type { SendingSocket } from "./_linux_send.ts";
import { readSockaddr, SOCKADDR_IN6_SIZE, writeSockaddr } from "./sockaddr.ts";
import {
  type DatagramReceiver,
  type DatagramSocket,
  OpenError,
  openFailureText,
  type PacketBatch,
} from "./transport.ts";

const DEFAULT_BUFFER = 1024 * 1024;
// SO_MEMINFO's array of 32-bit words: the count of datagrams dropped is the last (SK_MEMINFO_DROPS).
const MEMINFO_WORDS = 9;
const MEMINFO_DROPS = 8;

/** How a host sets up its sockets. */
export interface SocketSetup {
  /** Bytes that a socket may hold that were not received yet (SO_RCVBUF). Default: 1 MiB. */
  readonly receiveBuffer?: number;
  /** Bytes that a socket may hold that were not sent yet (SO_SNDBUF). Default: 1 MiB. */
  readonly sendBuffer?: number;
  /**
   * How long datagrams are gathered before they are received, in ms, at a load of some 8,000 a second and more: half the
   * work at such a load for half a millisecond, as network cards do it too. At full load they gather by themselves.
   * Default: 0.
   */
  readonly gather?: number;
}

/** A datagram socket with what only this back end can. */
export interface LinuxSocket extends DatagramSocket {
  /** How many of `sendErrors` found the send buffer full: more was sent than the network takes. */
  readonly sendBufferFull: number;
  /** How many datagrams the kernel dropped as nobody took them in time. 0 when the socket is closed. */
  readonly receiveBufferFull: number;
  /**
   * Sets DSCP and ECN of what is sent from now on: IPv4's type of service, IPv6's traffic class.
   *
   * @param value 0 to 255.
   * @returns Whether the system allows it.
   */
  setTypeOfService(value: number): boolean;
  /**
   * Says whether what is sent from now on may be fragmented on its way. If not, a datagram that is too long for the path
   * is lost, and one that is too long for the interface a send error. Default: as the system sees fit.
   *
   * @returns Whether the system allows it.
   */
  setDontFragment(on: boolean): boolean;
  /**
   * Has ICMP messages about what was sent reported from now on (RFC 8656 §11.5): unreachable, time exceeded, too big.
   * Without it they are ignored.
   *
   * @returns Whether the system allows it.
   */
  reportIcmp(receiver: (message: IcmpMessage) => void): boolean;
}

/** What a socket asks of those who run it. */
interface Owner {
  readonly libc: c.Libc;
  send(socket: LinuxDatagramSocket, batch: PacketBatch): void;
  flush(): void;
  close(socket: LinuxDatagramSocket): Promise<void> | undefined;
}

/** A socket of the fast path. */
export class LinuxDatagramSocket implements LinuxSocket, SendingSocket {
  // What each datagram needs comes first, to lie together.
  readonly fd: number;
  readonly receiver: DatagramReceiver;
  /** How often it is to be asked for one datagram only. */
  singles = 0;
  isClosed = false;
  icmpReceiver: ((message: IcmpMessage) => void) | undefined = undefined;
  head = -1;
  tail = -1;
  segmentLimit = 65535;
  readonly zone: number;
  #owner: Owner;
  readonly localAddress: TransportAddress;
  /** Its place among the owner's sockets. */
  readonly index: number;
  sendErrors = 0;
  onSendError: (() => void) | undefined;
  sendBufferFull = 0;
  #ended: PromiseWithResolvers<void> | undefined;

  constructor(owner: Owner, index: number, wish: SocketWish, setup: SocketSetup, receiver: DatagramReceiver) {
    this.#owner = owner;
    this.index = index;
    this.receiver = receiver;
    const { libc } = owner;
    const address = parseWish(wish);
    this.zone = zoneOf(wish.address);
    this.fd = libc.symbols.socket(address.family === 6 ? c.AF_INET6 : c.AF_INET, c.SOCK_DGRAM_NONBLOCK_CLOEXEC, 0);
    if (this.fd < 0) throw openError(wish, libc.errno());
    try {
      this.#setUp(setup, wish, address);
      this.localAddress = this.#bind(wish, address);
    } catch (error) {
      libc.symbols.close(this.fd);
      throw error;
    }
  }

  /** How many datagrams the kernel has dropped as the receive buffer was full. */
  get receiveBufferFull(): number {
    if (this.isClosed) return 0;
    const info = new Uint32Array(32);
    const length = new Uint32Array(32).fill(MEMINFO_WORDS * 4);
    const { symbols } = this.#owner.libc;
    const result = symbols.getsockopt(this.fd, c.SOL_SOCKET, c.SO_MEMINFO, bytesOf(info), bytesOf(length));
    return result === 0 ? info[MEMINFO_DROPS]! : 0;
  }

  setTypeOfService(value: number): boolean {
    return this.localAddress.family === 6
      ? this.#set(c.SOL_IPV6, c.IPV6_TCLASS, value)
      : this.#set(c.SOL_IP, c.IP_TOS, value);
  }

  setDontFragment(on: boolean): boolean {
    if (this.isClosed) return false;
    // What waits goes as it was meant.
    this.#owner.flush();
    if (this.localAddress.family === 4) {
      return this.#set(c.SOL_IP, c.IP_MTU_DISCOVER, on ? c.PMTUDISC_PROBE : c.PMTUDISC_OMIT);
    }
    return this.#set(c.SOL_IPV6, c.IPV6_MTU_DISCOVER, on ? c.PMTUDISC_PROBE : c.PMTUDISC_WANT);
  }

  reportIcmp(receiver: (message: IcmpMessage) => void): boolean {
    this.icmpReceiver = receiver;
    return this.localAddress.family === 6
      ? this.#set(c.SOL_IPV6, c.IPV6_RECVERR, 1)
      : this.#set(c.SOL_IP, c.IP_RECVERR, 1);
  }

  /** Whether a call may fail for what an earlier datagram met on its way: once, so that it is to be tried again. */
  get hasLateErrors(): boolean {
    return this.icmpReceiver !== undefined;
  }

  send(batch: PacketBatch): void {
    if (!this.isClosed) this.#owner.send(this, batch);
  }

  /** The port is free at once. This waits for the host's helper thread when it was the last socket. */
  get closed(): Promise<void> {
    return (this.#ended ??= Promise.withResolvers()).promise;
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    const { resolve } = this.#ended ??= Promise.withResolvers();
    const rest = this.#owner.close(this);
    if (rest === undefined) resolve();
    else rest.then(resolve);
  }

  #setUp(setup: SocketSetup, { isShared = false }: SocketWish, address: TransportAddress): void {
    const receiveBuffer = setup.receiveBuffer ?? DEFAULT_BUFFER;
    const sendBuffer = setup.sendBuffer ?? DEFAULT_BUFFER;
    // Root may go beyond the system's limit; others get as much as there is.
    if (!this.#set(c.SOL_SOCKET, c.SO_RCVBUFFORCE, receiveBuffer)) this.#set(c.SOL_SOCKET, c.SO_RCVBUF, receiveBuffer);
    if (!this.#set(c.SOL_SOCKET, c.SO_SNDBUFFORCE, sendBuffer)) this.#set(c.SOL_SOCKET, c.SO_SNDBUF, sendBuffer);
    if (isShared) this.#set(c.SOL_SOCKET, c.SO_REUSEPORT, 1);
    // The families stay apart: no IPv4 address in IPv6 clothes ever gets in.
    if (address.family === 6) this.#set(c.SOL_IPV6, c.IPV6_V6ONLY, 1);
  }

  #bind(wish: SocketWish, address: TransportAddress): TransportAddress {
    const { symbols, errno } = this.#owner.libc;
    const name = new Uint32Array(32);
    const size = writeSockaddr(address, name, 0, this.zone);
    if (symbols.bind(this.fd, bytesOf(name), size) !== 0) throw openError(wish, errno());
    const length = new Uint32Array(32).fill(SOCKADDR_IN6_SIZE);
    if (symbols.getsockname(this.fd, bytesOf(name), bytesOf(length)) !== 0) throw openError(wish, errno());
    return readSockaddr(name, 0);
  }

  #set(level: number, option: number, value: number): boolean {
    if (this.isClosed) return false;
    const bytes = bytesOf(new Uint32Array(32).fill(value));
    return this.#owner.libc.symbols.setsockopt(this.fd, level, option, bytes, 4) === 0;
  }
}

function bytesOf(words: Uint32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(words.buffer);
}

function parseWish({ address, port }: SocketWish): TransportAddress {
  try {
    return TransportAddress.of(address, port);
  } catch (cause) {
    throw new OpenError("other", `Cannot bind UDP ${address} port ${port}`, { cause });
  }
}

/** The interface index of a link-local IPv6 address, without which the kernel does not know where it is. */
function zoneOf(address: string): number {
  if (!/^fe[89ab]/i.test(address)) return 0;
  const [bare, zone] = address.split("%");
  if (zone !== undefined && /^\d+$/.test(zone)) return Number(zone);
  const interfaces = Deno.networkInterfaces();
  return interfaces.find((one) => zone === undefined ? one.address === bare : one.name === zone)?.scopeid ?? 0;
}

function openError(wish: SocketWish, errno: number): OpenError {
  const failure = failureOf(errno);
  const why = failure === "other" ? `errno ${errno}` : openFailureText(failure);
  return new OpenError(failure, `Cannot bind UDP ${wish.address} port ${wish.port}: ${why}`);
}

function failureOf(errno: number): OpenFailure {
  if (errno === c.EADDRINUSE) return "address-in-use";
  if (errno === c.EADDRNOTAVAIL) return "address-not-available";
  if (errno === c.EACCES || errno === c.EPERM) return "permission-denied";
  return "other";
}
