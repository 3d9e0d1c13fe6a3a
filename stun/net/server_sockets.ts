import type { TransportAddress } from "../address.ts";
import type { ServerTransport } from "../locate.ts";
import type { SocketId, SocketWish } from "../machine.ts";
import { alternateGroups, bindAlternates } from "./discovery_sockets.ts";
import type { BoundSocket, MachineHandle } from "./machine_handle.ts";
import type { DtlsListener, StreamLimits, StreamListener } from "./streams.ts";
import { type Host, OpenError, type StreamListenWish, type TlsServerOptions } from "./transport.ts";

/** How often a port is looked for that is free for UDP and TCP both. */
const PORT_TRIES = 16;

/** What a server listens for. */
export interface ServerSocketsOptions {
  /** UDP, TCP, or both on the same port. Default: both, where the host has TCP. */
  readonly transports?: readonly ("udp" | "tcp")[];
  /** A certificate and its key: each TCP port then serves TLS as well, each UDP port DTLS. Default: neither. */
  readonly tls?: TlsServerOptions;
  /** Whether DTLS is served where there is a certificate. `true`: it must be. Default: if the host can. */
  readonly dtls?: boolean;
  /** What clients' connections may take of time and memory, DTLS associations among them. */
  readonly streamLimits?: StreamLimits;
  /** The second port for NAT behaviour discovery. Default: the one above the first, or else any that is free on all. */
  readonly alternatePort?: number;
  /** As in `SocketWish`, of the UDP sockets. */
  readonly dontFragment?: boolean;
  /** Whether others that say so may bind the same ports, as other workers. Default: no. */
  readonly isShared?: boolean;
  /** Is told of each UDP socket. */
  readonly onUdp: (socket: SocketId, localAddress: TransportAddress) => void;
}

/** What NAT behaviour discovery knows of the sockets: a `DiscoveryServer`. */
interface Discovery {
  hasSocketAt(address: TransportAddress): boolean;
  hasAlternateFor(address: TransportAddress): boolean;
}

/** The sockets of a server, as its shell opens them: UDP and DTLS, and TCP and TLS on one port. */
export class ServerSockets<Event> {
  #handle: MachineHandle<Event>;
  #options: ServerSocketsOptions;
  #transports: readonly ("udp" | "tcp")[];
  #udp: Omit<SocketWish, "address" | "port">;
  #isShared: boolean;
  #hasDtls: boolean;
  #secure: (StreamListener | DtlsListener)[] = [];
  #addresses: TransportAddress[] = [];
  #noted: ServerTransport[][] = [];

  /**
   * Opens nothing yet.
   *
   * @param handle The machine that hears of what comes.
   * @param host The computer that the machine runs on.
   * @param options What to listen for.
   * @throws {OpenError} If DTLS must be served and can not be.
   */
  constructor(handle: MachineHandle<Event>, host: Host, options: ServerSocketsOptions) {
    this.#handle = handle;
    this.#options = options;
    const { dontFragment, isShared = false } = options;
    this.#udp = { transport: "udp", isShared, ...(dontFragment !== undefined && { dontFragment }) };
    this.#isShared = isShared;
    this.#transports = options.transports ?? (host.listenStream === undefined ? ["udp"] : ["udp", "tcp"]);
    this.#hasDtls = this.#transports.includes("udp") && servesDtls(options, host);
  }

  /** The addresses that are served, in the order in which they were opened. */
  get addresses(): readonly TransportAddress[] {
    return this.#addresses;
  }

  /** What is served on each of `addresses`. */
  get transports(): readonly (readonly ServerTransport[])[] {
    return this.#noted;
  }

  /**
   * Serves UDP and TCP on one address, as the options say.
   *
   * @returns The address, with the port that was chosen if it was 0.
   * @throws {OpenError} If it can not be bound; nothing stays bound.
   */
  open(wish: TransportAddress): TransportAddress {
    return this.#note(this.#open(wish), this.#served());
  }

  #open(wish: TransportAddress): TransportAddress {
    for (let tries = 1;; tries++) {
      const listener = this.#transports.includes("tcp") ? this.#listen(wish) : undefined;
      if (!this.#transports.includes("udp")) return listener!.localAddress;
      try {
        const { port } = listener?.localAddress ?? wish;
        const { socket, localAddress } = this.#bind(wish.withPort(port));
        this.#options.onUdp(socket, localAddress);
        return localAddress;
      } catch (error) {
        this.#drop(listener, wish, tries, error);
      }
    }
  }

  /**
   * Serves TLS only on one address, and DTLS.
   *
   * @throws {OpenError} If it can not be bound, or there is no certificate.
   */
  openTls(wish: TransportAddress): TransportAddress {
    for (let tries = 1;; tries++) {
      const listener = this.#listen(wish, "tls");
      try {
        if (this.#hasDtls) this.#bind(listener.localAddress, true);
        return this.#note(listener.localAddress, this.#hasDtls ? ["tls", "dtls"] : ["tls"]);
      } catch (error) {
        this.#drop(listener, wish, tries, error);
      }
    }
  }

  /**
   * Serves the same on a second port of addresses that have their first in common (RFC 5780 §6).
   *
   * @param named The addresses that were asked for by name. All addresses of the host do not count: not each may be
   * reached from where the other is.
   * @param discovery Which of them have alternates already.
   * @throws {OpenError} If there is no such port.
   */
  openAlternates(
    named: readonly TransportAddress[],
    discovery: Discovery,
  ): void {
    const { alternatePort } = this.#options;
    const listen = this.#transports.includes("tcp") ? (address: TransportAddress) => this.#listen(address) : undefined;
    const isNamed = (address: TransportAddress) => named.some(({ ipKey }) => ipKey === address.ipKey);
    const groups = alternateGroups(this.#addresses.filter(isNamed)).filter(([first]) =>
      discovery.hasSocketAt(first!) && !discovery.hasAlternateFor(first!)
    );
    const added = groups.flatMap((group) =>
      bindAlternates(this.#handle, group, { alternatePort, listen, udp: this.#udp })
    );
    for (const { socket, localAddress } of added) {
      this.#options.onUdp(socket, localAddress);
      this.#note(localAddress, this.#served(false));
    }
  }

  /**
   * Takes another certificate, for the connections to come.
   *
   * @throws {OpenError} If it can not be used; the old one stays.
   * @throws {TypeError} If TLS is not served.
   */
  setTls(tls: TlsServerOptions): void {
    if (this.#secure.length === 0) {
      throw new TypeError("Cannot take a certificate as the server was started without TLS");
    }
    for (const listener of this.#secure) listener.setTls(tls);
  }

  /** A port that the host chose for TCP may be somebody else's for UDP: then another is tried. */
  #drop(listener: StreamListener | undefined, wish: TransportAddress, tries: number, error: unknown): void {
    listener?.close();
    this.#secure = this.#secure.filter((one) => one !== listener);
    const isTaken = error instanceof OpenError && error.failure === "address-in-use";
    if (listener === undefined || wish.port !== 0 || !isTaken || tries === PORT_TRIES) throw error;
  }

  #bind({ address, port }: TransportAddress, only = false): BoundSocket {
    const wish = { ...this.#udp, address, port };
    const { tls, streamLimits } = this.#options;
    if (!this.#hasDtls) return this.#handle.bind(wish);
    const limits = streamLimits === undefined ? {} : { limits: streamLimits };
    const listener = this.#handle.bindDtls(wish, { tls: tls!, only, ...limits });
    this.#secure.push(listener);
    return listener;
  }

  #served(hasDtls = this.#hasDtls): ServerTransport[] {
    const hasTls = this.#transports.includes("tcp") && this.#options.tls !== undefined;
    return [...this.#transports, ...(hasTls ? ["tls"] as const : []), ...(hasDtls ? ["dtls"] as const : [])];
  }

  #note(address: TransportAddress, transports: ServerTransport[]): TransportAddress {
    this.#addresses.push(address);
    this.#noted.push(transports);
    return address;
  }

  #listen({ address, port }: TransportAddress, only?: "tls"): StreamListener {
    const { tls, streamLimits } = this.#options;
    const transport = only ?? (tls === undefined ? "tcp" : "tcp+tls");
    const isShared = this.#isShared;
    const wish: StreamListenWish = { transport, address, port, isShared, ...(tls === undefined ? {} : { tls }) };
    const listener = this.#handle.listenStream(wish, streamLimits);
    if (transport !== "tcp") this.#secure.push(listener);
    return listener;
  }
}

function servesDtls({ tls, dtls }: ServerSocketsOptions, host: Host): boolean {
  if (dtls === true && tls === undefined) throw new OpenError("other", "Cannot serve DTLS without a certificate");
  if (tls === undefined || dtls === false) return false;
  const obstacle = host.dtls === undefined ? "this host has none" : host.dtls.obstacle;
  if (dtls === true && obstacle !== undefined) throw new OpenError("other", `Cannot serve DTLS: ${obstacle}`);
  return obstacle === undefined;
}
