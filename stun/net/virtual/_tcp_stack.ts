import type { TransportAddress } from "../../address.ts";
import type { ByteStreamWish, Random } from "../../machine.ts";
import {
  type ByteStream,
  type ByteStreamListener,
  type ByteStreamReceiver,
  OpenError,
  openFailureText,
  type StreamListenWish,
} from "../transport.ts";
import { Alarm } from "./_alarm.ts";
import { isWildcard, SocketTable } from "./_socket_table.ts";
import { TcpConnection, type TcpOutput, type TcpUser } from "./_tcp_connection.ts";
import { ACK, beginsConnection, FIN, RST, SYN, type TcpHeader } from "./_tcp_header.ts";
import { VirtualListener } from "./_tcp_listener.ts";
import { VirtualStream } from "./_tcp_stream.ts";
import type { Datagram, Node, Wire } from "./_wire.ts";

/** What TCP needs of its host. */
export interface TcpHost {
  readonly node: Node;
  readonly random: Random;
  /** Checks a local address and finds a port. */
  bind(wish: { address: string; port: number }, table: SocketTable<VirtualListener>): TransportAddress;
  /** The host's address towards a destination, with port 0; `undefined` if there is none of its family. */
  sourceTowards(destination: TransportAddress): TransportAddress | undefined;
  /** The largest IP packet that its link takes. */
  mtuOf(source: TransportAddress): number;
  route(segment: Datagram): boolean;
}

/** A host's connections and listening sockets. */
export class TcpStack implements TcpOutput {
  #wire: Wire;
  #host: TcpHost;
  #listeners = new SocketTable<VirtualListener>();
  /** By both addresses. */
  #connections = new Map<string, TcpConnection>();

  constructor(wire: Wire, host: TcpHost) {
    this.#wire = wire;
    this.#host = host;
  }

  get now(): number {
    return this.#wire.queue.now;
  }

  /** What `Host.connectStream` does. */
  connect(
    wish: ByteStreamWish,
    done: (result: ByteStream | OpenError) => ByteStreamReceiver | undefined,
  ): () => void {
    const stream = new VirtualStream("tcp");
    const begin = this.alarm(() => {
      const local = this.#localFor(wish);
      if (local instanceof OpenError) return void done(local);
      stream.connect(wish, (user) => this.#open(user, { local, remote: wish.remote }), done);
    });
    begin.set(this.now);
    return () => {
      begin.set(Infinity);
      stream.close();
    };
  }

  /** What `Host.listenStream` does. */
  listen(wish: StreamListenWish, accept: (stream: ByteStream) => ByteStreamReceiver | undefined): ByteStreamListener {
    const localAddress = this.#host.bind(wish, this.#listeners);
    const listener = new VirtualListener(localAddress, wish, {
      accept,
      forget: () => this.#listeners.remove(listener),
    });
    this.#listeners.add(listener);
    return listener;
  }

  /** Whether somebody is there for it. */
  expects({ source, destination, header }: Datagram): boolean {
    if (this.#connections.has(keyOf(destination, source))) return true;
    return beginsConnection(header!.flags) && this.#listeners.find(destination) !== undefined;
  }

  /** Takes in a segment that somebody is there for. */
  deliver({ source, destination, header, bytes }: Datagram): void {
    const connection = this.#connections.get(keyOf(destination, source));
    if (connection !== undefined) return connection.handle(header!, bytes);
    const user = this.#listeners.find(destination)!.newUser();
    user.connection = this.#open(user, { local: destination, remote: source, syn: header! });
  }

  /** Answers a segment that nobody is there for (RFC 9293 §3.10.7.1). */
  refuse({ source, destination, header, length }: Datagram): void {
    const { flags, seq, ack } = header!;
    if ((flags & RST) !== 0) return;
    const size = length + ((flags & (SYN | FIN)) === 0 ? 0 : 1);
    const answer = (flags & ACK) !== 0
      ? { flags: RST, seq: ack, ack: 0 }
      : { flags: RST | ACK, seq: 0, ack: seq + size };
    this.#transmit(destination, source, { ...answer, window: 0, onRefused: undefined }, new Uint8Array(0));
  }

  transmit({ local, remote }: TcpConnection, header: TcpHeader, bytes: Uint8Array): void {
    this.#transmit(local, remote, header, bytes);
  }

  alarm(ring: () => void): Alarm {
    return new Alarm(this.#wire, ring);
  }

  forget({ local, remote }: TcpConnection): void {
    this.#connections.delete(keyOf(local, remote));
  }

  #open(
    user: TcpUser,
    ends: { local: TransportAddress; remote: TransportAddress; syn?: TcpHeader },
  ): TcpConnection {
    const { local, remote } = ends;
    const mtu = Math.min(1500, this.#host.mtuOf(local));
    const mss = Math.max(64, mtu - (local.family === 4 ? 40 : 60));
    const connection = new TcpConnection(this, user, { ...ends, iss: this.#wire.nextSequence(), mss });
    this.#connections.set(keyOf(local, remote), connection);
    return connection;
  }

  #localFor({ remote, address, port = 0, transport }: ByteStreamWish): TransportAddress | OpenError {
    const wanted = `Cannot connect to ${transport.toUpperCase()} ${remote}`;
    let local = this.#host.sourceTowards(remote);
    if (address !== undefined) {
      try {
        const bound = this.#host.bind({ address, port: port === 0 ? 1 : port }, new SocketTable());
        if (!isWildcard(bound)) local = bound;
      } catch (error) {
        return error as OpenError;
      }
    }
    if (local === undefined || local.family !== remote.family || remote.port === 0) {
      return new OpenError("unreachable", `${wanted}: ${openFailureText("unreachable")}`);
    }
    const isTaken = (local: TransportAddress) => this.#connections.has(keyOf(local, remote));
    // A port may have a listening socket, and connections to different ends (RFC 6544 §5).
    if (port === 0) local = this.#listeners.pickPort(local, this.#host.random, isTaken);
    else if (isTaken(local = local.withPort(port))) local = undefined;
    return local ??
      new OpenError("address-in-use", `${wanted} from port ${port}: ${openFailureText("address-in-use")}`);
  }

  #transmit(source: TransportAddress, destination: TransportAddress, header: TcpHeader, bytes: Uint8Array): void {
    const payload = { bytes, offset: 0, length: bytes.length };
    const segment = this.#wire.datagram(source, destination, payload, header);
    this.#wire.record("sent", this.#host.node, segment);
    this.#host.route(segment);
  }
}

function keyOf(local: TransportAddress, remote: TransportAddress): string {
  return `${local.key}>${remote.key}`;
}
