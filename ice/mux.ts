import { TransportAddress } from "../stun/address.ts";
import { denoHost } from "../stun/net/deno_host.ts";
import { isWildcard } from "../stun/net/server_address.ts";
import {
  type DatagramReceiver,
  type DatagramSocket,
  type Host,
  OpenError,
  PacketBatch,
} from "../stun/net/transport.ts";
import { chooseAddresses } from "./host_addresses.ts";
import { SharedStreamPort, type StreamMuxCounters } from "./mux_streams.ts";
import { type Membership, type MuxCounters, MuxMember, MuxTable, type SharedPorts } from "./mux_table.ts";

/** How often a port is looked for that is free for UDP and TCP both. */
const PORT_TRIES = 16;

/** How to share a port. */
export interface IceMuxOptions {
  /**
   * What to bind: IP addresses with ports, as `["192.0.2.1:5000"]`. `0.0.0.0:5000` and `[::]:5000` stand for that port at
   * each address that would make a host candidate.
   */
  readonly listen: readonly string[];
  /**
   * Whether to listen for TCP on the same ports (RFC 6544), for peers whose network blocks UDP, as browsers behind a
   * firewall. The connections then have `tcp: "passive"` by default. Default: no.
   */
  readonly tcp?: boolean;
  /** The computer to work from. Default: `denoHost()`. */
  readonly host?: Host;
}

/**
 * UDP ports that many ICE connections share, and TCP ports with `tcp`, as a server behind a firewall with one open port needs
 * them.
 *
 * What comes in is told apart by transaction ids, username fragments and remote addresses. Two connections can therefore
 * not have the same remote address on one port, as two programs would that both share theirs: the second one finds another
 * path, or none. Relays have ports of their own. A TCP connection is whose username fragment its first packet names.
 */
export class IceMux implements SharedPorts, AsyncDisposable {
  readonly #host: Host;
  readonly #table = new MuxTable();
  readonly #sockets = new Map<number | string, SharedSocket>();
  readonly #streams = new Map<number | string, SharedStreamPort>();
  readonly #members = new Set<Membership>();
  #isClosed = false;

  /** @internal Made by `openIceMux()`. */
  constructor({ listen, host = denoHost(), tcp = false }: IceMuxOptions) {
    this.#host = host;
    try {
      for (const address of listen.flatMap((text) => addressesOf(text, host))) {
        this.#open(address, tcp);
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** A port that the host chose for UDP may be somebody else's for TCP: then another is tried. */
  #open(address: TransportAddress, tcp: boolean): void {
    for (let tries = 1;; tries++) {
      const socket = new SharedSocket(this.#host, address, this.#table);
      const { localAddress } = socket;
      try {
        if (tcp) {
          const streams = new SharedStreamPort(this.#host, localAddress, (ufrag) => this.#table.memberOf(ufrag));
          this.#streams.set(localAddress.key, streams);
        }
        this.#sockets.set(localAddress.key, socket);
        return;
      } catch (error) {
        void socket.close();
        const isTaken = error instanceof OpenError && error.failure === "address-in-use";
        if (address.port !== 0 || !isTaken || tries === PORT_TRIES) throw error;
      }
    }
  }

  /** What is bound. */
  get addresses(): readonly TransportAddress[] {
    return [...this.#sockets.values()].map(({ localAddress }) => localAddress);
  }

  /** How many connections share it. */
  get size(): number {
    return this.#members.size;
  }

  /** What became of the datagrams that came in. */
  get counters(): Readonly<MuxCounters> {
    return { ...this.#table.counters };
  }

  /** What became of the TCP connections that came in. */
  get streamCounters(): Readonly<StreamMuxCounters> {
    const total: StreamMuxCounters = { accepted: 0, unknown: 0, silent: 0, refused: 0 };
    for (const { counters } of this.#streams.values()) {
      for (const name of Object.keys(total) as (keyof StreamMuxCounters)[]) total[name] += counters[name];
    }
    return total;
  }

  /** Lets one more connection in: what `openIce()` does. */
  join(options: { readonly isLite: boolean }): Membership {
    if (this.#isClosed) throw new Error("Cannot share the port as it was closed");
    const member = new MuxMember(options);
    const mine: { close(): void }[] = [];
    const membership: Membership = {
      bind: this.addresses.map(String),
      hasTcp: this.#streams.size > 0,
      host: withSockets(this.#host, {
        openDatagram: (wish, receiver) => {
          const shared = this.#sockets.get(TransportAddress.of(wish.address, wish.port).key);
          if (shared === undefined || wish.group !== undefined) return this.#host.openDatagram(wish, receiver);
          const socket = new MuxedSocket(shared, member, receiver);
          mine.push(socket);
          return socket;
        },
        listenStream: (wish, accept) => {
          const address = TransportAddress.of(wish.address, wish.port);
          if (!this.#sockets.has(address.key)) return this.#host.listenStream!(wish, accept);
          const listener = this.#streams.get(address.key)?.listenFor(member, accept);
          if (listener === undefined) {
            throw new OpenError(
              "other",
              `Cannot listen for TCP on the shared port ${address} as openIceMux() has no tcp`,
            );
          }
          mine.push(listener);
          return listener;
        },
      }),
      addUfrag: (ufrag) => {
        this.#table.addUfrag(member, ufrag);
        this.#members.add(membership);
      },
      leave: () => {
        for (const socket of mine) socket.close();
        this.#table.remove(member);
        this.#members.delete(membership);
      },
    };
    return membership;
  }

  /** Frees the ports. Connections that still share them hear nothing more: close them first. A second call does nothing. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([...this.#sockets.values(), ...this.#streams.values()].map((shared) => shared.close()));
  }

  /** As `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * Opens UDP ports for many connections: `openIce({ mux })`.
 *
 * @example A server with one port, and two connections to it
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openIce, openIceMux } from "@natkit/natkit/ice";
 *
 * await using mux = openIceMux({ listen: ["127.0.0.1:0"] });
 * for (const name of ["alice", "bob"]) {
 *   await using server = openIce({ mux, role: "controlled" });
 *   await using client = openIce({ bind: ["127.0.0.1"], role: "controlling" });
 *   server.addRemoteDescription(await client.localDescription());
 *   client.addRemoteDescription(await server.localDescription());
 *   const pair = await client.connected;
 *   assertEquals(String(pair.remote.address), String(mux.addresses[0]));
 * }
 * ```
 *
 * @throws {OpenError} If a port can not be bound.
 * @throws {SyntaxError} If an address is none.
 */
export function openIceMux(options: IceMuxOptions): IceMux {
  return new IceMux(options);
}

/** A socket that belongs to all. */
class SharedSocket {
  readonly localAddress: TransportAddress;
  readonly socket: DatagramSocket;
  readonly table: MuxTable;
  readonly receivers = new Map<MuxMember, DatagramReceiver>();
  readonly #host: Host;
  readonly #out = new PacketBatch(64);
  readonly #window = new Window();

  constructor(host: Host, { address, port }: TransportAddress, table: MuxTable) {
    this.#host = host;
    this.table = table;
    this.socket = host.openDatagram({ transport: "udp", address, port }, (batch) => this.#receive(batch));
    this.localAddress = this.socket.localAddress;
  }

  get now(): number {
    return this.#host.now();
  }

  async close(): Promise<void> {
    this.socket.close();
    await this.socket.closed;
  }

  /** Hands on what is each one's, as few batches as the order allows. */
  #receive(batch: PacketBatch): void {
    const now = this.#host.now();
    let current: MuxMember | undefined;
    const out = this.#out;
    out.length = 0;
    for (let i = 0; i < batch.length; i++) {
      const member = this.table.route(batch.addresses[i]!, this.#window.at(batch, i), now);
      if (member === undefined) continue;
      if (current !== undefined && (member !== current || out.length === out.capacity)) this.#deliver(current);
      current = member;
      out.push(batch.addresses[i]!, batch.buffers[i]!, batch.offsets[i]!, batch.lengths[i]!);
    }
    if (current !== undefined) this.#deliver(current);
  }

  #deliver(member: MuxMember): void {
    this.receivers.get(member)?.(this.#out);
    this.#out.length = 0;
  }
}

/** What one member has of a shared socket. */
class MuxedSocket implements DatagramSocket {
  readonly localAddress: TransportAddress;
  readonly #shared: SharedSocket;
  readonly #member: MuxMember;
  readonly #window = new Window();
  #isClosed = false;

  constructor(shared: SharedSocket, member: MuxMember, receiver: DatagramReceiver) {
    this.localAddress = shared.localAddress;
    this.#shared = shared;
    this.#member = member;
    shared.receivers.set(member, receiver);
  }

  get sendErrors(): number {
    return this.#shared.socket.sendErrors;
  }

  send(batch: PacketBatch): void {
    if (this.#isClosed) return;
    const { table, now, socket } = this.#shared;
    for (let i = 0; i < batch.length; i++) {
      table.noteSent(this.#member, batch.addresses[i]!, this.#window.at(batch, i), now);
    }
    socket.send(batch);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#shared.receivers.delete(this.#member);
  }
}

/** One datagram of a batch after the other, without a new object for each. */
class Window {
  buffer: Uint8Array = new Uint8Array(0);
  offset = 0;
  length = 0;

  at(batch: PacketBatch, index: number): this {
    this.buffer = batch.buffers[index]!;
    this.offset = batch.offsets[index]!;
    this.length = batch.lengths[index]!;
    return this;
  }
}

/** A host like this one, but for how sockets are opened. */
function withSockets(
  host: Host,
  { openDatagram, listenStream }: { openDatagram: Host["openDatagram"]; listenStream: Host["listenStream"] },
): Host {
  const bound = new Map<PropertyKey, unknown>();
  return new Proxy(host, {
    get(target, key) {
      if (key === "openDatagram") return openDatagram;
      if (key === "listenStream") return host.listenStream === undefined ? undefined : listenStream;
      const value: unknown = Reflect.get(target, key, target);
      // What is the object's own needs no `this`, and is to stay the same function.
      if (typeof value !== "function" || Object.hasOwn(target, key)) return value;
      if (!bound.has(key)) bound.set(key, value.bind(target));
      return bound.get(key);
    },
  });
}

function addressesOf(text: string, host: Host): TransportAddress[] {
  const address = TransportAddress.parse(text);
  if (!isWildcard(address)) return [address];
  const found = chooseAddresses(host.interfaces(), { ipVersion: address.family });
  if (found.length > 0) return found.map((one) => one.withPort(address.port));
  throw new OpenError(
    "address-not-available",
    `Cannot listen on ${text} as no interface has an IPv${address.family} address`,
  );
}
