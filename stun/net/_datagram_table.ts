import type { TransportAddress } from "../address.ts";
import type { SocketId, SocketWish } from "../machine.ts";
import type { Driver } from "./driver.ts";
import { type DatagramReceiver, type DatagramSocket, type Host, OpenError, PacketBatch } from "./transport.ts";

const OUT_CAPACITY = 64;

/** The driver's UDP sockets, and what was recorded for one of them and has not been sent yet. */
export class DatagramTable {
  // What each datagram needs: the socket that sent last, and what leaves by which.
  #lastId: SocketId = 0;
  #last: DatagramSocket | undefined;
  #outSocket: DatagramSocket | undefined;
  #out = new PacketBatch(OUT_CAPACITY);
  #sockets = new Map<SocketId, DatagramSocket>();
  #driver: Driver;
  #isClosed = false;

  /** @param driver The driver it is part of. */
  constructor(driver: Driver) {
    this.#driver = driver;
  }

  /** Records a datagram. Gives `false` if the socket is none of these. */
  send(socket: SocketId, to: TransportAddress, bytes: Uint8Array, offset: number, length: number): boolean {
    if (socket !== this.#lastId) {
      this.#lastId = socket;
      this.#last = this.#sockets.get(socket);
    }
    const last = this.#last;
    if (last === undefined) return false;
    if (this.#outSocket !== last || this.#out.length === OUT_CAPACITY) {
      this.flush();
      this.#outSocket = last;
    }
    this.#out.push(to, bytes, offset, length);
    return true;
  }

  /** Sends what was recorded. */
  flush(): void {
    if (this.#out.length !== 0) this.#outSocket?.send(this.#out);
    this.#out.length = 0;
    this.#outSocket = undefined;
  }

  /**
   * Binds a socket.
   *
   * @throws {OpenError} If it can not.
   */
  bind(socket: SocketId, wish: SocketWish, receiver: DatagramReceiver): DatagramSocket {
    const { host } = this.#driver;
    const datagrams = wish.group === undefined
      ? host.openDatagram(wish, receiver)
      : openGroup(host, { ...wish, group: wish.group }, receiver);
    datagrams.onSendError = this.#reportSendError;
    this.#sockets.set(socket, datagrams);
    this.#lastId = 0;
    if (wish.dontFragment !== undefined) datagrams.setDontFragment?.(wish.dontFragment);
    return datagrams;
  }

  setDontFragment(socket: SocketId, on: boolean): void {
    const datagrams = this.#sockets.get(socket);
    if (datagrams === undefined) return;
    // What was recorded before goes as it was then.
    if (datagrams === this.#outSocket) this.flush();
    datagrams.setDontFragment?.(on);
  }

  closeSocket(socket: SocketId): void {
    const datagrams = this.#sockets.get(socket);
    if (datagrams === undefined) return;
    if (datagrams === this.#outSocket) this.flush();
    this.#sockets.delete(socket);
    this.#forgetLast();
    datagrams.close();
  }

  /** Resolves when the ports of those that are open now are free. */
  async freed(): Promise<void> {
    await Promise.all(Array.from(this.#sockets.values(), ({ closed }) => closed));
  }

  /** Sends what was recorded, and closes all. */
  close(): void {
    this.#isClosed = true;
    this.flush();
    for (const datagrams of this.#sockets.values()) datagrams.close();
    this.#sockets.clear();
    this.#forgetLast();
  }

  #forgetLast(): void {
    this.#lastId = 0;
    this.#last = undefined;
  }

  #reportSendError = () => {
    const hook = this.#driver.onSendError;
    if (hook !== undefined && !this.#isClosed) this.#driver.later(hook);
  };
}

function openGroup(host: Host, wish: SocketWish & { group: string }, receiver: DatagramReceiver): DatagramSocket {
  if (host.openGroup !== undefined) return host.openGroup(wish, receiver);
  throw new OpenError("other", `Cannot join ${wish.group} as this host has no multicast`);
}
