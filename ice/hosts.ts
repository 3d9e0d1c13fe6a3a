import type { TransportAddress } from "../stun/address.ts";
import type { SocketId } from "../stun/machine.ts";
import { type Host, type LocalInterface, OpenError } from "../stun/net/transport.ts";
import { isLoopback } from "./candidate.ts";
import { chooseAddresses } from "./host_addresses.ts";
import type { IceComponent } from "./streams.ts";
import { addTcpHosts, bindInRange, type TcpHostsOwner } from "./tcp_hosts.ts";

/** Where host candidates come from, and go to. */
export interface HostsOwner extends TcpHostsOwner {
  /** What hides an address of ours; `undefined` if nothing does. */
  nameOf(address: TransportAddress): string | undefined;
}

/** What has changed on a host since sockets were bound, as IP addresses. */
export interface AddressChange {
  /** Those that are new. */
  readonly gained: readonly string[];
  /** Those that are gone, and were in use. */
  readonly lost: readonly string[];
}

/** An agent's host candidates: the addresses that there are, and the sockets on them. */
export class Hosts {
  readonly #owner: HostsOwner;
  #addresses: readonly TransportAddress[] = [];
  /** The IP addresses that have sockets, or with relays only those that are known. */
  readonly #known = new Set<string>();

  /**
   * Nothing is bound yet.
   *
   * @throws {SyntaxError} If an address in `bind` is none.
   * @throws {RangeError} If an address in `bind` stands for all.
   * @throws {OpenError} If the interfaces may not be looked at.
   */
  constructor(owner: HostsOwner) {
    this.#owner = owner;
    this.#addresses = this.#choose();
  }

  /** The addresses to use. */
  get addresses(): readonly TransportAddress[] {
    return this.#addresses;
  }

  /** What has changed. Changes nothing by itself. */
  survey(): AddressChange & { readonly isOffline: boolean } {
    const texts = this.#choose().map(({ address }) => address);
    return {
      gained: texts.filter((text) => !this.#known.has(text)),
      lost: [...this.#known].filter((text) => !texts.includes(text)),
      isOffline: texts.length === 0,
    };
  }

  /** Takes in the addresses that there are now; those that are gone are forgotten, and their sockets given back. */
  refresh(lost: readonly string[]): SocketId[] {
    this.#addresses = this.#choose();
    for (const text of lost) this.#known.delete(text);
    return this.socketsOf(lost);
  }

  /** The sockets that are bound to these addresses. */
  socketsOf(texts: readonly string[]): SocketId[] {
    const candidates = this.#owner.agent.localCandidates.filter(({ type, base }) =>
      type === "host" && texts.includes(base.address)
    );
    return [...new Set(candidates.map(({ socket }) => socket))];
  }

  /** Binds the addresses that are not bound yet, for UDP first. */
  bindNew(): void {
    const { options } = this.#owner;
    const fresh = this.#addresses.filter(({ address }) => !this.#known.has(address));
    for (const { address } of fresh) this.#known.add(address);
    if (options.policy === "relay") return;
    for (const [flow, component] of this.#owner.agent.components.entries()) {
      if (component.state === "closed") continue;
      // A port of the user's choice is the first component's, the next ones are those of the others.
      const own = flow === 0 ? fresh : fresh.map((one) => one.port === 0 ? one : one.withPort(one.port + flow));
      const bound = own.filter((address) => this.#bind(address, component));
      for (const address of bound) addTcpHosts(this.#owner, address, { name: this.#owner.nameOf(address), component });
    }
  }

  /** Gives whether the address is good for TCP as well: for who did not ask for TCP, not without UDP. */
  #bind(address: TransportAddress, { stream, component }: IceComponent): boolean {
    const { host: { random }, agent, handle, options, report } = this.#owner;
    try {
      const { socket, localAddress } = bindInRange(
        address,
        { transport: "UDP", random, ...options },
        (port) => handle.bind({ transport: "udp", address: address.address, port }),
      );
      handle.call((io) =>
        agent.addHost(socket, localAddress, io, { name: this.#owner.nameOf(localAddress), stream, component })
      );
      return true;
    } catch (error) {
      if (!(error instanceof OpenError)) throw error;
      report({ type: "gathering-error", url: address.address, text: error.message });
      return options.tcp !== undefined && error.failure !== "address-not-available";
    }
  }

  #choose(): TransportAddress[] {
    const { host, options } = this.#owner;
    // To look at interfaces needs a permission of Deno's, which named addresses can do without.
    const isNamed = options.bind !== undefined && options.interfaceFilter === undefined;
    const addresses = chooseAddresses(isNamed ? [] : interfacesOf(host), options);
    // Loopback is for computers that have nothing else, not for those that have lost their network.
    const hadOther = options.bind === undefined && this.#addresses.some((address) => !isLoopback(address));
    return hadOther ? addresses.filter((address) => !isLoopback(address)) : addresses;
  }
}

function interfacesOf(host: Pick<Host, "interfaces">): readonly LocalInterface[] {
  try {
    return host.interfaces();
  } catch (cause) {
    const advice = "name them by bind, without interfaceFilter, or give Deno --allow-sys=networkInterfaces";
    throw new OpenError("permission-denied", `Cannot find out the addresses of this computer: ${advice}`, { cause });
  }
}
