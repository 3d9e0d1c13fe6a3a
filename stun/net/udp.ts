import { TransportAddress } from "../address.ts";
import type { OpenFailure, SocketWish } from "../machine.ts";
import { ReceiveBuffers } from "./receive_buffers.ts";
import {
  type DatagramReceiver,
  type DatagramSocket,
  HEADROOM,
  OpenError,
  openFailureText,
  PacketBatch,
} from "./transport.ts";

// Who sends to us is remembered, so that no address is parsed twice; the bound keeps strangers from filling memory.
const KNOWN_LIMIT = 8192;
const SEND_SIZE = 2048;
const SPARE_LIMIT = 1024;
// Receive errors in a row after which the socket is taken for dead, rather than asked for ever.
const ERROR_LIMIT = 100;
// Of all sockets: each has its own only as long as it needs it.
const spares: Uint8Array[] = [];
const receiveBuffers = new ReceiveBuffers();

/**
 * Binds a UDP socket by `Deno.listenDatagram`: a batch of one datagram.
 *
 * @throws {OpenError} If it can not.
 */
export function openDenoDatagram(wish: SocketWish, receiver: DatagramReceiver): DatagramSocket {
  return new DenoDatagramSocket(openDenoConn(wish), receiver);
}

/**
 * Binds one of Deno's own sockets.
 *
 * @param wish What to bind.
 * @param options How: see `Deno.UdpListenOptions`.
 * @throws {OpenError} If it can not.
 */
export function openDenoConn(wish: SocketWish, options: UdpOptions = {}): Deno.DatagramConn {
  if (typeof Deno.listenDatagram !== "function") {
    throw new OpenError("permission-denied", "UDP needs Deno's flag --unstable-net: deno run --unstable-net ...");
  }
  try {
    return Deno.listenDatagram({ transport: "udp", hostname: wish.address, port: wish.port, ...options });
  } catch (cause) {
    const failure = failureOf(cause);
    const text = `Cannot bind UDP ${wish.address} port ${wish.port}: ${openFailureText(failure)}`;
    throw new OpenError(failure, text, { cause });
  }
}

/** How Deno binds a socket. */
export type UdpOptions = Pick<Deno.UdpListenOptions, "reuseAddress" | "loopback">;

/** A socket over one of Deno's. */
export class DenoDatagramSocket implements DatagramSocket {
  /** See `DatagramSocket`. */
  readonly localAddress: TransportAddress;
  /** See `DatagramSocket`. */
  readonly closed: Promise<void>;
  /** See `DatagramSocket`. */
  sendErrors = 0;
  /** See `DatagramSocket`. */
  onSendError: (() => void) | undefined;
  #conn: Deno.DatagramConn;
  #receiver: DatagramReceiver;
  #known = new Map<string, Map<number, TransportAddress>>();
  #knownCount = 0;
  // Until the runtime knows a new socket to be writable it holds sends back, and then lets the last one go first. So all
  // wait for the very first one.
  #isFresh = true;
  #early: (() => void)[] | undefined;
  #closed = false;

  /**
   * Begins to receive.
   *
   * @param conn A bound socket.
   * @param receiver Gets what arrives.
   */
  constructor(conn: Deno.DatagramConn, receiver: DatagramReceiver) {
    this.#conn = conn;
    this.#receiver = receiver;
    const { hostname, port } = conn.addr as Deno.NetAddr;
    this.localAddress = TransportAddress.of(hostname, port);
    // The port is free when the last receive has been given up, not when the connection is told to close.
    this.closed = this.#receive();
  }

  send(batch: PacketBatch): void {
    for (let i = 0; i < batch.length && !this.#closed; i++) {
      const length = batch.lengths[i]!;
      const offset = batch.offsets[i]!;
      // Deno may send after this call returns, when the memory in the batch is somebody else's again: hence the copy.
      const spare = length <= SEND_SIZE ? spares.pop() ?? new Uint8Array(SEND_SIZE) : new Uint8Array(length);
      const bytes = spare.subarray(0, length);
      bytes.set(batch.buffers[i]!.subarray(offset, offset + length));
      const to = nativeAddress(batch.addresses[i]!);
      if (this.#isFresh) this.#sendFirst(bytes, spare, to);
      else if (this.#early !== undefined) this.#early.push(() => this.#send(bytes, spare, to));
      else this.#send(bytes, spare, to);
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#early === undefined) this.#conn.close();
  }

  async #sendFirst(bytes: Uint8Array, spare: Uint8Array, to: Deno.NetAddr): Promise<void> {
    this.#isFresh = false;
    const early: (() => void)[] = this.#early = [];
    await this.#send(bytes, spare, to);
    this.#early = undefined;
    for (const send of early) send();
    if (this.#closed) this.#conn.close();
  }

  #send(bytes: Uint8Array, spare: Uint8Array, to: Deno.NetAddr): Promise<void> {
    return this.#conn.send(bytes, to).then(
      () => keep(spare),
      () => {
        this.sendErrors++;
        if (!this.#closed) this.onSendError?.();
        keep(spare);
      },
    );
  }

  async #receive(): Promise<void> {
    const buffer = receiveBuffers.take();
    await this.#receiveInto(buffer);
    receiveBuffers.give(buffer);
  }

  async #receiveInto(buffer: Uint8Array<ArrayBuffer>): Promise<void> {
    const batch = new PacketBatch(1);
    batch.buffers[0] = buffer;
    const slot = buffer.subarray(HEADROOM);
    for (let errors = 0; !this.#closed && errors < ERROR_LIMIT;) {
      let bytes: Uint8Array;
      let from: Deno.NetAddr;
      try {
        [bytes, from] = await this.#conn.receive(slot) as [Uint8Array, Deno.NetAddr];
      } catch {
        // An ICMP error of an earlier send can surface here (ECONNREFUSED): not the end of the socket.
        errors++;
        continue;
      }
      if (this.#closed) return;
      errors = 0;
      batch.offsets[0] = HEADROOM;
      batch.lengths[0] = bytes.length;
      batch.addresses[0] = this.#addressOf(from.hostname, from.port);
      batch.length = 1;
      this.#receiver(batch);
    }
  }

  #addressOf(hostname: string, port: number): TransportAddress {
    let ports = this.#known.get(hostname);
    let address = ports?.get(port);
    if (address !== undefined) return address;
    if (this.#knownCount >= KNOWN_LIMIT) {
      this.#known.clear();
      this.#knownCount = 0;
      ports = undefined;
    }
    if (ports === undefined) this.#known.set(hostname, ports = new Map());
    address = TransportAddress.of(hostname, port);
    ports.set(port, address);
    this.#knownCount++;
    return address;
  }
}

function keep(spare: Uint8Array): void {
  if (spare.length === SEND_SIZE && spares.length < SPARE_LIMIT) spares.push(spare);
}

/** What Deno takes for an address. A class, so that it is told from what another back end keeps there. */
export class DenoAddress implements Deno.NetAddr {
  /** UDP. */
  readonly transport = "udp";
  /** The IP address, which may have a zone. */
  readonly hostname: string;
  /** The port. */
  readonly port: number;

  /** The form that Deno gives this address. */
  constructor({ address, port }: Pick<TransportAddress, "address" | "port">) {
    this.hostname = address;
    this.port = port;
  }
}

function nativeAddress(address: TransportAddress): Deno.NetAddr {
  const known = address.native;
  if (known instanceof DenoAddress) return known;
  const made = new DenoAddress(address);
  address.native = made;
  return made;
}

function failureOf(error: unknown): OpenFailure {
  if (error instanceof Deno.errors.AddrInUse) return "address-in-use";
  if (error instanceof Deno.errors.AddrNotAvailable) return "address-not-available";
  if (error instanceof Deno.errors.PermissionDenied || error instanceof Deno.errors.NotCapable) {
    return "permission-denied";
  }
  return "other";
}
