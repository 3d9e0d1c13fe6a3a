import { TransportAddress } from "../stun/address.ts";
import type { SocketId } from "../stun/machine.ts";
import { Driver, type MachineHandle } from "../stun/net/driver.ts";
import { type Host, type LocalInterface, OpenError } from "../stun/net/transport.ts";
import { isLinkLocal, isLoopback } from "./candidate.ts";
import { Mdns, MDNS_GROUPS, MDNS_PORT, type MdnsCounters, type MdnsEvent } from "./mdns.ts";
import { newMdnsName } from "./mdns_name.ts";

/** How many sockets there may be: one for each interface and IP version. */
const MAX_SOCKETS = 16;

/** One for each computer, so that what it sends is bounded however many connections there are. */
const services = new Map<unknown, MdnsService>();

/** What a connection has of its computer's multicast DNS: nothing is opened before it is needed. */
export class MdnsClient {
  #host: Host;
  #service: MdnsService | undefined;
  #names = new Map<string, string>();
  #isClosed = false;
  #report: (problem: string) => void;

  /**
   * A client that has no names and asks nothing.
   *
   * @param host The computer.
   * @param report Is told, once for each interface, why mDNS does not work there.
   */
  constructor(host: Host, report: (problem: string) => void) {
    this.#host = host;
    this.#report = report;
  }

  /**
   * Looks a name up on the links of these local addresses.
   *
   * @param name As `isMdnsName()` has them.
   * @param addresses Local IP addresses.
   * @param done Called once, within 5 s, maybe at once; not after `close()`.
   */
  resolve(
    name: string,
    addresses: readonly TransportAddress[],
    done: (address: TransportAddress | undefined) => void,
  ): void {
    if (this.#isClosed) return;
    const service = this.#open(addresses);
    service.resolve(name.toLowerCase(), this, (address) => {
      if (!this.#isClosed) done(address);
    });
  }

  /** The name that stands for a local IP address: the same for each call. The network may be asked for it from now on. */
  nameOf(address: TransportAddress): string {
    const known = this.#names.get(address.address);
    if (known !== undefined) return known;
    const name = newMdnsName(this.#host.random);
    this.#names.set(address.address, name);
    // §3.1.1 of the draft: the name is used even if it can not be announced.
    if (!this.#isClosed) this.#open([address]).register(name, address);
    return name;
  }

  /** What the computer has sent, for all connections; `undefined` if there was no need. */
  get counters(): MdnsCounters | undefined {
    return this.#service?.counters;
  }

  /** Gives the names up. Resolves when nothing is open any more that nobody else needs. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const name of this.#names.values()) this.#service?.unregister(name);
    await this.#service?.release(this);
  }

  #open(addresses: readonly TransportAddress[]): MdnsService {
    const service = this.#service ??= MdnsService.of(this.#host, this);
    service.use(addresses, this.#report);
    return service;
  }
}

type Waiter = { readonly client: MdnsClient; readonly done: (address: TransportAddress | undefined) => void };

/** The multicast DNS of a computer, as long as a connection needs it. */
class MdnsService {
  #key: unknown;
  #driver: Driver;
  #machine = new Mdns();
  #handle: MachineHandle<MdnsEvent>;
  #clients = new Set<MdnsClient>();
  /** By interface and IP version: those that were tried. */
  #links = new Map<string, { readonly address: TransportAddress; readonly socket?: SocketId }>();
  #waiting = new Map<string, Waiter[]>();

  static of(host: Host, client: MdnsClient): MdnsService {
    const key = host.openGroup ?? host;
    let service = services.get(key);
    if (service === undefined) services.set(key, service = new MdnsService(host, key));
    service.#clients.add(client);
    return service;
  }

  constructor(host: Host, key: unknown) {
    this.#key = key;
    this.#driver = new Driver(host);
    this.#handle = this.#driver.add(this.#machine, { onEvent: (event) => this.#handleResolved(event) });
  }

  get counters(): MdnsCounters {
    return { ...this.#machine.counters };
  }

  /** Joins the groups on the interfaces of these addresses. */
  use(addresses: readonly TransportAddress[], report: (problem: string) => void): void {
    for (const address of addresses) {
      const link = this.#linkOf(address);
      for (const one of this.#addressesOf(link, address)) {
        // The other IP version of an interface is for peers that have nothing else.
        this.#join(one, link, one.family === address.family ? report : () => {});
      }
    }
  }

  resolve(name: string, client: MdnsClient, done: Waiter["done"]): void {
    const waiting = this.#waiting.get(name) ?? [];
    this.#waiting.set(name, [...waiting, { client, done }]);
    this.#handle.call((io) => this.#machine.resolve(name, io));
  }

  register(name: string, address: TransportAddress): void {
    this.#handle.call((io) => this.#machine.register(name, address, this.#linkOf(address), io));
  }

  unregister(name: string): void {
    this.#handle.call((io) => this.#machine.unregister(name, io));
  }

  async release(client: MdnsClient): Promise<void> {
    this.#clients.delete(client);
    for (const [name, waiting] of this.#waiting) {
      const others = waiting.filter((waiter) => waiter.client !== client);
      this.#waiting.set(name, others);
      if (others.length > 0) continue;
      this.#waiting.delete(name);
      this.#machine.cancel(name);
    }
    if (this.#clients.size > 0) return;
    services.delete(this.#key);
    await this.#driver.close();
  }

  #handleResolved({ name, address }: MdnsEvent): void {
    const waiting = this.#waiting.get(name) ?? [];
    this.#waiting.delete(name);
    for (const { done } of waiting) done(address);
  }

  #linkOf(address: TransportAddress): string {
    const found = this.#interfaces().find((each) => each.address === address.address);
    return found?.name ?? address.address;
  }

  /** One address of each IP version on a link: what is asked by the one can be answered by the other. */
  #addressesOf(link: string, address: TransportAddress): TransportAddress[] {
    const texts = this.#interfaces().filter(({ name }) => name === link).map((each) => each.address);
    const all = [address, ...texts.map((text) => TransportAddress.of(text, 0))];
    // IPv6 has no multicast of its own on loopback; and to bind a link-local address takes its zone.
    const isFit = (one: TransportAddress) => one.family === 4 || !(isLoopback(one) || isLinkLocal(one));
    return ([4, 6] as const).map((family) => all.find((one) => one.family === family && isFit(one))).filter((one) =>
      one !== undefined
    );
  }

  #join(address: TransportAddress, link: string, report: (problem: string) => void): void {
    const key = `${address.family} ${link}`;
    const before = this.#links.get(key);
    if (before !== undefined && this.#isThere(before.address)) return;
    if (before === undefined && this.#links.size >= MAX_SOCKETS) return;
    this.#leave(before?.socket);
    this.#links.set(key, { address });
    try {
      const group = MDNS_GROUPS[address.family].address;
      const { socket } = this.#handle.bind({ transport: "udp", address: address.address, port: MDNS_PORT, group });
      this.#links.set(key, { address, socket });
      this.#handle.call(() => this.#machine.addSocket(socket, address, link));
    } catch (error) {
      if (!(error instanceof OpenError)) throw error;
      report(error.message);
    }
  }
  /** None if they may not be looked at, as a program that names its addresses needs no permission for that. */
  #interfaces(): readonly LocalInterface[] {
    try {
      return this.#driver.host.interfaces();
    } catch {
      return [];
    }
  }

  #isThere({ address }: TransportAddress): boolean {
    const all = this.#interfaces();
    return all.length === 0 || all.some((each) => each.address === address);
  }

  /** A socket whose address is gone hears and says nothing any more. */
  #leave(socket: SocketId | undefined): void {
    if (socket === undefined) return;
    this.#handle.call((io) => {
      this.#machine.removeSocket(socket);
      io.close(socket);
    });
  }
}
