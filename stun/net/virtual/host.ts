import { isIpAddress, TransportAddress } from "../../address.ts";
import type { ByteStreamWish, Random, SocketWish } from "../../machine.ts";
import {
  type ByteStream,
  type ByteStreamListener,
  type ByteStreamReceiver,
  type DatagramReceiver,
  type DatagramSocket,
  type Host,
  type HostTimer,
  type LocalInterface,
  MAX_DATAGRAM,
  OpenError,
  PacketBatch,
  RECEIVE_SIZE,
  type StreamListenWish,
} from "../transport.ts";
import type { DtlsLibrary } from "../dtls.ts";
import { Alarm } from "./_alarm.ts";
import { Attachment } from "./_attachment.ts";
import { virtualDtls } from "./_dtls.ts";
import { GroupTable } from "./_groups.ts";
import { isForwarded, isLoopback, isMulticast } from "./_reach.ts";
import { VirtualSocket } from "./_socket.ts";
import { type Bound, isWildcard, SocketTable } from "./_socket_table.ts";
import { TcpStack } from "./_tcp_stack.ts";
import type { Datagram, Hop, Port, Segment, Wire } from "./_wire.ts";
import { type LinkOptions, VirtualLink } from "./link.ts";
import { newCounters, type VirtualCounters } from "./trace.ts";

const YEAR_2000 = 946_684_800;
const LOOPBACK: readonly string[] = ["127.0.0.1", "::1"];

/** A network interface of a virtual host. */
export interface InterfaceOptions {
  /** The IP addresses, IPv4 and IPv6, at least one. */
  readonly addresses: readonly string[];
  /** The link to the network. Default: the world's. */
  readonly link?: LinkOptions;
  /** The interface's name. Default: `eth0`, `eth1`, ... */
  readonly interfaceName?: string;
}

/** A network interface of a virtual host: some addresses in one network, behind one link. */
export class VirtualInterface {
  /** The name, as `eth0`. */
  readonly name: string;
  /** The link between the host and the network. */
  readonly link: VirtualLink;
  /** @internal */
  readonly attachment: Attachment;

  /** @internal */
  constructor(name: string, link: VirtualLink, attachment: Attachment) {
    this.name = name;
    this.link = link;
    this.attachment = attachment;
  }

  /** The addresses. */
  get addresses(): readonly string[] {
    return this.attachment.addresses.map(({ address }) => address);
  }

  /**
   * Replaces the addresses; with none the interface is down. Sockets bound to one that is gone stay open, can not send and
   * get nothing.
   *
   * @throws {SyntaxError} If one is no IP address.
   * @throws {Error} If one belongs to another in the same network.
   */
  setAddresses(addresses: readonly string[]): void {
    this.attachment.set(addresses);
  }
}

/**
 * A computer in the virtual internet: what natkit's driver and verbs take as their `host`. Made by `addHost()`.
 *
 * Besides the addresses it was given it has 127.0.0.1 and ::1. A socket bound to 0.0.0.0 or :: gets what comes for any
 * address of that family, and sends from the first one, as there is no telling which the peer knows it by.
 */
export class VirtualHost implements Host {
  /** The name, unique in its world. */
  readonly name: string;
  /** A connection can leave from any of its addresses, and from a port that is listened on. */
  readonly canShareStreamPort: boolean = true;
  /** Its sockets can be told so, for the ICMP messages that follow: links drop what is too long in any case. */
  readonly canSetDontFragment = true;
  /** Randomness, reproducible from the world's seed and the name. */
  readonly random: Random;
  /** The semblance of DTLS: names are compared, and nothing is encrypted. */
  readonly dtls: DtlsLibrary;
  /** What became of datagrams here. */
  readonly counters: VirtualCounters = newCounters();
  #wire: Wire;
  #interfaces: VirtualInterface[] = [];
  #sockets = new SocketTable<VirtualSocket>();
  #groups = new GroupTable<VirtualSocket>();
  #tcp: TcpStack;
  #inbox = new PacketBatch(1);
  #loopback: Hop = { arrive: (datagram) => this.#deliver(datagram) };

  /** @internal */
  constructor(wire: Wire, name: string) {
    this.#wire = wire;
    this.name = name;
    this.random = wire.random(`host/${name}`);
    this.dtls = virtualDtls({ now: () => this.now(), random: wire.random(`dtls/${name}`) });
    this.#tcp = new TcpStack(wire, {
      node: this,
      random: this.random,
      bind: (wish, table) => this.#localAddressFor(wish, "TCP", table),
      sourceTowards: (destination) => this.#sourceTowards(destination),
      mtuOf: (source) => this.#interfaceOf(source)?.link.up.options.mtu ?? Infinity,
      route: (segment) => this.#route(segment),
    });
  }

  /** The network interfaces, in the order they were added. */
  get networkInterfaces(): readonly VirtualInterface[] {
    return this.#interfaces;
  }

  /** The link of the first interface. */
  get link(): VirtualLink {
    return this.#interfaces[0]!.link;
  }

  /** The world's time in milliseconds. */
  now(): number {
    return this.#wire.queue.now;
  }

  /** The world's time in seconds since 1970: each world begins with the year 2000. */
  unixTime(): number {
    return YEAR_2000 + this.now() / 1000;
  }

  /** A new alarm in virtual time, not set. */
  createTimer(ring: () => void): HostTimer {
    return new Alarm(this.#wire, ring);
  }

  /**
   * Binds a datagram socket. Port 0 takes a random free one from 49152 up.
   *
   * @throws {OpenError} If the host does not have the address, or the port is taken.
   */
  openDatagram(wish: SocketWish, receiver: DatagramReceiver): DatagramSocket {
    const localAddress = this.#localAddressFor(wish, "UDP", this.#sockets);
    const socket = new VirtualSocket(this, localAddress, receiver);
    this.#sockets.add(socket);
    return socket;
  }

  /**
   * Binds a datagram socket that has joined a multicast group. Groups reach all in the network of the interface, and not
   * beyond; in the public internet there are none.
   *
   * @throws {OpenError} If the host does not have the address.
   */
  readonly openGroup = (wish: SocketWish & { readonly group: string }, receiver: DatagramReceiver): DatagramSocket => {
    const { address, port, group } = wish;
    const localAddress = TransportAddress.of(address, port);
    if (!this.#isOwn(localAddress)) {
      const text = `Cannot join ${group} on ${address} of "${this.name}" as it has no such address`;
      throw new OpenError("address-not-available", text);
    }
    const socket = new VirtualSocket(this, localAddress, receiver, TransportAddress.of(group, port));
    this.#groups.add(socket);
    return socket;
  };

  /**
   * Connects by TCP. `tls` is TCP with two more round trips, in which the certificate's names are compared: the connection
   * is not encrypted, and authorities play no part.
   */
  connectStream(
    wish: ByteStreamWish,
    done: (result: ByteStream | OpenError) => ByteStreamReceiver | undefined,
  ): () => void {
    return this.#tcp.connect(wish, done);
  }

  /**
   * Listens for TCP. In place of a certificate TLS takes the names it is for, with spaces between: `"turn.example.org"`.
   * A certificate in PEM is for all names; keys play no part.
   *
   * @throws {OpenError} If the host does not have the address, or the port is taken, or TLS has no certificate.
   */
  listenStream(
    wish: StreamListenWish,
    accept: (stream: ByteStream) => ByteStreamReceiver | undefined,
  ): ByteStreamListener {
    return this.#tcp.listen(wish, accept);
  }

  /** All addresses, 127.0.0.1 and ::1 first. */
  interfaces(): readonly LocalInterface[] {
    const found: LocalInterface[] = LOOPBACK.map((address) => ({ name: "lo", address }));
    for (const { name, addresses } of this.#interfaces) {
      for (const address of addresses) found.push({ name, address });
    }
    return found;
  }

  /**
   * The addresses that `world.names` has for a name, or the address itself if it is one.
   *
   * @throws {Error} If the name has none.
   */
  resolve(name: string): Promise<readonly string[]> {
    const bare = name.replace(/^\[(.*)\]$/, "$1").toLowerCase();
    if (isIpAddress(bare)) return Promise.resolve([bare]);
    const addresses = bare === "localhost" ? LOOPBACK : this.#wire.names.get(bare);
    if (addresses === undefined || addresses.length === 0) {
      return Promise.reject(new Error(`Cannot find name "${bare}"`));
    }
    return Promise.resolve([...addresses]);
  }

  /** @internal Gives the host one more interface. */
  join(segment: Segment, { addresses, link, interfaceName }: InterfaceOptions): VirtualInterface {
    const name = interfaceName ?? `eth${this.#interfaces.length}`;
    if (addresses.length === 0) throw new RangeError(`Cannot add ${name} to "${this.name}" as it has no address`);
    const up = new VirtualLink(this.#wire, this, { name: `${this.name}/${name}`, link: link ?? {} });
    const port: Port = {
      node: this,
      down: up.down,
      arrive: (datagram) => this.#arrive(attachment, datagram),
      hasJoined: (group) => this.#membersOn(group, attachment).length > 0,
    };
    const attachment = new Attachment(segment, port);
    attachment.set(addresses);
    const added = new VirtualInterface(name, up, attachment);
    this.#interfaces.push(added);
    return added;
  }

  /** @internal Sends a socket's datagram. Gives whether it got on its way. */
  send(socket: VirtualSocket, batch: PacketBatch, index: number): boolean {
    const destination = batch.addresses[index]!;
    const source = this.#sourceFor(socket, destination);
    const length = batch.lengths[index]!;
    const isTooBig = length > (destination.family === 4 ? MAX_DATAGRAM : RECEIVE_SIZE);
    const datagram = this.#wire.datagram(source, destination, {
      bytes: batch.buffers[index]!,
      offset: batch.offsets[index]!,
      length: isTooBig ? 0 : length,
    });
    datagram.reporter = socket.reporterFor(destination, this.now());
    this.#wire.record("sent", this, datagram);
    if (isTooBig) {
      this.#wire.drop("tooBig", this, datagram);
      return false;
    }
    return this.#route(datagram);
  }

  /** @internal */
  forget(socket: VirtualSocket): void {
    if (!this.#groups.remove(socket)) this.#sockets.remove(socket);
  }

  #localAddressFor<T extends Bound>(
    { address, port }: { readonly address: string; readonly port: number },
    protocol: "UDP" | "TCP",
    sockets: SocketTable<T>,
  ): TransportAddress {
    const wanted = `Cannot bind ${protocol} ${address} port ${port} on "${this.name}"`;
    let local: TransportAddress;
    try {
      local = TransportAddress.of(address, port);
    } catch (cause) {
      throw new OpenError("other", wanted, { cause });
    }
    if (!isWildcard(local) && !this.#isOwn(local)) {
      throw new OpenError("address-not-available", `${wanted} as it has no such address`);
    }
    if (port !== 0) {
      if (sockets.isTaken(local)) throw new OpenError("address-in-use", `${wanted} as another socket has it`);
      return local;
    }
    const free = sockets.pickPort(local, this.random);
    if (free === undefined) throw new OpenError("address-in-use", `${wanted} as no port is free`);
    return free;
  }

  #isOwn(address: TransportAddress): boolean {
    return LOOPBACK.includes(address.address) || this.#interfaceOf(address) !== undefined;
  }

  #sourceFor(socket: VirtualSocket, destination: TransportAddress): TransportAddress {
    const { localAddress } = socket;
    if (!isWildcard(localAddress) || localAddress.family !== destination.family) return localAddress;
    const source = this.#sourceTowards(destination);
    return source === undefined ? localAddress : socket.sourceAt(source);
  }

  #sourceTowards(destination: TransportAddress): TransportAddress | undefined {
    if (this.#isOwn(destination)) return destination;
    // RFC 6724 §5 rule 2: link-local to link-local only.
    const scope = isForwarded(destination.bytes);
    for (const { attachment } of this.#interfaces) {
      for (const address of attachment.addresses) {
        if (address.family === destination.family && isForwarded(address.bytes) === scope) return address;
      }
    }
    return undefined;
  }

  #interfaceOf(address: TransportAddress): VirtualInterface | undefined {
    for (const each of this.#interfaces) if (each.attachment.has(address.ipKey)) return each;
    return undefined;
  }

  #route(datagram: Datagram): boolean {
    const { source, destination } = datagram;
    if (source.family === destination.family && destination.port !== 0) {
      if (isMulticast(destination.bytes)) return this.#multicast(datagram);
      if (isLoopback(destination.bytes) || this.#interfaceOf(destination) !== undefined) {
        datagram.next = this.#loopback;
        this.#wire.queue.set(datagram, this.#wire.queue.now);
        return true;
      }
      const from = this.#interfaceOf(source);
      if (from !== undefined) {
        from.link.up.carry(datagram, from.attachment.segment);
        return true;
      }
    }
    // That is an error of sending, not one that comes back.
    datagram.reporter = undefined;
    this.#wire.drop("noRoute", this, datagram);
    return false;
  }

  /** To the members on this host, and by the interface that the source address belongs to. */
  #multicast(datagram: Datagram): boolean {
    const from = this.#interfaceOf(datagram.source)?.attachment;
    if (from === undefined && !isLoopback(datagram.source.bytes)) {
      this.#wire.drop("noRoute", this, datagram);
      return false;
    }
    const local = this.#wire.copy(datagram);
    local.next = { arrive: () => this.#deliverToGroup(from, local) };
    this.#wire.queue.set(local, this.#wire.queue.now);
    if (from === undefined) this.#wire.release(datagram);
    else this.#interfaceOf(datagram.source)!.link.up.carry(datagram, from.segment);
    return true;
  }

  #membersOn(group: TransportAddress, attachment: Attachment | undefined): VirtualSocket[] {
    const isHere = (address: TransportAddress) =>
      attachment === undefined ? isLoopback(address.bytes) : attachment.has(address.ipKey);
    return this.#groups.members(group, isHere);
  }

  #deliverToGroup(attachment: Attachment | undefined, datagram: Datagram): void {
    this.#wire.touched = true;
    try {
      for (const socket of this.#membersOn(datagram.destination, attachment)) {
        this.#wire.record("delivered", this, datagram);
        socket.receive(datagram, this.#inbox);
      }
    } finally {
      this.#wire.release(datagram);
    }
  }

  #arrive(attachment: Attachment, datagram: Datagram): void {
    if (isMulticast(datagram.destination.bytes)) return this.#deliverToGroup(attachment, datagram);
    if (attachment.has(datagram.destination.ipKey)) this.#deliver(datagram);
    else this.#wire.drop("noRoute", this, datagram);
  }

  #deliver(datagram: Datagram): void {
    if (datagram.header !== undefined) return this.#deliverSegment(datagram);
    const { destination } = datagram;
    const socket = this.#sockets.find(destination) ?? this.#groups.find(destination);
    if (socket === undefined) return this.#wire.drop("noSocket", this, datagram);
    this.#wire.record("delivered", this, datagram);
    this.#wire.touched = true;
    try {
      socket.receive(datagram, this.#inbox);
    } finally {
      this.#wire.release(datagram);
    }
  }
  #deliverSegment(segment: Datagram): void {
    const isExpected = this.#tcp.expects(segment);
    this.#wire.record(isExpected ? "delivered" : "noSocket", this, segment);
    this.#wire.touched = true;
    try {
      if (isExpected) this.#tcp.deliver(segment);
      else this.#tcp.refuse(segment);
    } finally {
      this.#wire.release(segment);
    }
  }
}
