import type { TransportAddress } from "../address.ts";
import type { ListenWish, SocketId, SocketWish, StreamWish } from "../machine.ts";
import type { DtlsTable } from "./_dtls_table.ts";
import type { StreamTable } from "./_stream_table.ts";
import type { Connection, Driver } from "./driver.ts";
import type { BoundSocket, MachineHandle } from "./machine_handle.ts";
import { OpenError, type StreamListenWish } from "./transport.ts";

/** How the sockets come about that machines and shells ask the driver for. A shell's UDP sockets are there at once. */
export class SocketOpener {
  /** Those that a machine asked for in this turn. */
  #asked = new Set<SocketId>();
  #driver: Driver;
  #streams: StreamTable;
  #dtls: DtlsTable;

  constructor(driver: Driver, streams: StreamTable, dtls: DtlsTable) {
    this.#driver = driver;
    this.#streams = streams;
    this.#dtls = dtls;
  }

  /** A machine's wish, which comes true at the end of the turn. The machine hears of it. */
  open(owner: MachineHandle<unknown>, socket: SocketId, wish: SocketWish | StreamWish | ListenWish): void {
    this.#asked.add(socket);
    this.#driver.later(() => {
      // The machine may have changed its mind within the same turn.
      if (!this.#asked.delete(socket) || owner.removed) return;
      if ("remote" in wish) return this.#openStream(owner, socket, wish);
      try {
        const local = wish.transport === "udp"
          ? this.#driver.bindSocket(owner, socket, wish)
          : this.#listenRaw(owner, socket, wish);
        owner.call((io) => owner.machine.handleOpened?.(socket, local, io));
      } catch (error) {
        if (!(error instanceof OpenError)) throw error;
        owner.call((io) => owner.machine.handleOpenFailed?.(socket, error.failure, io, error.message));
      }
    });
  }

  /** Connects for a shell, which waits. */
  connect(
    owner: MachineHandle<unknown>,
    socket: SocketId,
    wish: StreamWish,
    signal?: AbortSignal,
  ): Promise<BoundSocket> {
    return new Promise((resolve, reject) => {
      const abort = () => {
        this.giveUp(socket);
        reject(signal!.reason);
      };
      signal?.addEventListener("abort", abort, { once: true });
      this.#connect(owner, socket, wish, (result) => {
        signal?.removeEventListener("abort", abort);
        if (result instanceof OpenError) reject(result);
        else resolve({ socket, localAddress: result.localAddress });
      });
    });
  }

  /** Takes back a wish. Gives whether it was one of this turn. */
  withdraw(socket: SocketId): boolean {
    return this.#asked.delete(socket);
  }

  /** Gives up connecting, or listening. */
  giveUp(socket: SocketId): void {
    this.#streams.cancel(socket);
    this.#dtls.cancel(socket);
  }

  #openStream(owner: MachineHandle<unknown>, socket: SocketId, wish: StreamWish): void {
    this.#connect(owner, socket, wish, (result) => {
      if (result instanceof OpenError) {
        return owner.call((io) => owner.machine.handleOpenFailed?.(socket, result.failure, io, result.message));
      }
      owner.call((io) => owner.machine.handleOpened?.(socket, result.localAddress, io));
    });
  }

  #connect(
    owner: MachineHandle<unknown>,
    socket: SocketId,
    wish: StreamWish,
    done: (result: Connection | OpenError) => void,
  ): void {
    if (this.#driver.isClosed) return done(new OpenError("other", "Cannot connect as the driver is closed"));
    const settle = (result: Connection | OpenError): void => {
      if (!(result instanceof OpenError)) this.#driver.enter(socket, owner, result);
      done(result);
    };
    const { transport } = wish;
    if (transport === "dtls") this.#dtls.connect(owner, socket, wish, settle);
    else this.#streams.connect(owner, socket, { ...wish, transport }, settle);
  }

  #listenRaw(owner: MachineHandle<unknown>, socket: SocketId, wish: ListenWish): TransportAddress {
    if (this.#driver.isClosed) throw new OpenError("other", "Cannot listen as the driver is closed");
    const { address, port, maxConnections } = wish;
    const limits = { maxConnections, maxPerAddress: maxConnections };
    // So that connections can leave from there as well.
    const isShared = this.#driver.host.canShareStreamPort ?? false;
    const listen: StreamListenWish = { transport: "tcp", address, port, framing: "raw", isShared };
    return this.#streams.listen(owner, socket, listen, limits).localAddress;
  }
}
