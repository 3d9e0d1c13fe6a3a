import type { TransportAddress } from "../stun/address.ts";
import type { SocketId } from "../stun/machine.ts";
import { concealed, concealsBase, type Presentation } from "./presentation.ts";
import { candidatePriority, type CandidateType, isPrivate, type LocalCandidate } from "./candidate.ts";
import { HIGHEST_OTHER, otherPreference, tcpLocalPreference, type TcpType } from "./tcp.ts";

// Room for reflexive candidates of one base below its own preference.
const STEP = 16;
// A check from a relay tells the peer a peer-reflexive priority, too. Hosts shall rank above relays in it.
const HIGHEST: Readonly<Record<CandidateType, number>> = { host: 65535, srflx: 65535, prflx: 65535, relay: 32767 };

/** What a candidate is for. */
export interface ComponentOf {
  /** The data stream, from 0. Default: 0. */
  readonly stream?: number;
  /** The component of the stream, from 1. Default: 1. */
  readonly component?: number;
}

/** What is to become a candidate. */
export interface NewLocalCandidate extends ComponentOf {
  /** How it was found. */
  readonly type: CandidateType;
  /** The socket of its base. */
  readonly socket: SocketId;
  /** Its address. */
  readonly address: TransportAddress;
  /** Whether the peer is not told of it, as it is of use by what comes of it only. Default: no. */
  readonly isUntold?: boolean | undefined;
  /** How a TCP candidate comes by its connections. Default: it is for UDP. */
  readonly tcpType?: TcpType;
  /** The address of its socket. Default: its own. */
  readonly base?: TransportAddress;
  /** The STUN or TURN server that it came from. */
  readonly server?: TransportAddress;
  /** See `LocalCandidate`. */
  readonly relayProtocol?: "udp" | "tcp" | "tls" | "dtls";
  /** See `Candidate`. */
  readonly relatedAddress?: TransportAddress;
  /** How good its base is among those of its type: 0 is best. */
  readonly rank: number;
  /** What to tell the peer in place of the address. */
  readonly name?: string | undefined;
  /** Whether nobody has seen it yet: it says nothing of others like it (RFC 8445 §5.1.1.3). */
  readonly isGuess?: boolean;
  /** The priority of a peer-reflexive candidate: the PRIORITY that was sent (RFC 8445 §7.2.5.3.1). */
  readonly priority?: number;
}

/** What there is to know of a relay. */
export interface NewRelay extends ComponentOf {
  /** The relayed address. */
  readonly address: TransportAddress;
  /** The address that the TURN server saw us at. */
  readonly mapped?: TransportAddress;
  /** The server's address. */
  readonly server?: TransportAddress;
  /** How we talk to it. */
  readonly protocol?: "udp" | "tcp" | "tls" | "dtls";
  /** How good it is among our relays: 0 is best. Default: in the order of coming. */
  readonly rank?: number;
}

/** How many of our addresses may be learned from answers. */
const MAX_REFLEXIVE = 32;

/** Our candidates: their foundations, their priorities, and which of them are redundant (RFC 8445 §5.1). */
export class LocalCandidates {
  #list: LocalCandidate[] = [];
  #foundations = new Map<string, string>();
  /** How many hosts and relays each component has. */
  #counts = new Map<string, number>();
  /** How many addresses have TCP candidates: those of one address rank alike in each direction. */
  #tcpAddresses: string[] = [];
  readonly #presentation: Presentation;
  /** Those that are there because of another one of the same socket. */
  readonly #companions = new WeakSet<LocalCandidate>();

  /** @param presentation How they are shown to the peer. */
  constructor(presentation: Presentation = {}) {
    this.#presentation = presentation;
  }

  /** All of them, in the order of their finding. */
  get all(): readonly LocalCandidate[] {
    return this.#list;
  }

  /** Takes in a socket of the host's; best ones come first. */
  addHost(
    socket: SocketId,
    address: TransportAddress,
    options: ComponentOf & { readonly name?: string | undefined } = {},
  ): LocalCandidate | undefined {
    const { name, stream, component } = options;
    const rank = this.#next("host", options);
    return this.add({ type: "host", socket, address, rank, ...defined({ name, stream, component }) });
  }

  /** Takes in a way to have TCP connections from or to an address of the host's; best addresses come first. */
  addTcp(
    socket: SocketId,
    address: TransportAddress,
    { tcpType, ...options }: ComponentOf & Pick<NewLocalCandidate, "name" | "isUntold"> & { readonly tcpType: TcpType },
  ): LocalCandidate | undefined {
    if (!this.#tcpAddresses.includes(address.address)) this.#tcpAddresses.push(address.address);
    const rank = this.#tcpAddresses.indexOf(address.address);
    const { name, isUntold, stream, component } = options;
    return this.add({
      type: "host",
      tcpType,
      socket,
      address,
      rank,
      ...defined({ name, isUntold, stream, component }),
    });
  }

  /** Takes in a relay. */
  addRelay(socket: SocketId, relay: NewRelay): LocalCandidate | undefined {
    const count = this.#next("relay", relay);
    const { address, mapped, server, protocol, rank = count, stream, component } = relay;
    // RFC 8445 §5.1.1.2: a relay that lends us our own address is none.
    const isOurs = (one: LocalCandidate) => one.type === "host" && one.tcpType === undefined;
    if (this.#list.some((one) => isOurs(one) && one.address.equals(address))) return undefined;
    return this.add({
      type: "relay",
      socket,
      address,
      rank,
      ...defined({ server, relayProtocol: protocol, stream, component }),
      ...(mapped === undefined ? {} : { relatedAddress: this.#isSecret(mapped) ? concealed(mapped) : mapped }),
    });
  }

  /** The other addresses by which a host candidate is known: candidates that form no pairs of their own. */
  companions(host: LocalCandidate): LocalCandidate[] {
    const mapping = host.type === "host" ? this.#presentation.mapAddress?.(host.base) : undefined;
    if (mapping === undefined) return [];
    const { to, as, mode } = mapping;
    const isReplaced = as === "host" && mode === "replace";
    const made = (isReplaced ? to.slice(1) : to).map((address) =>
      this.add({
        type: as,
        socket: host.socket,
        address: address.withPort(host.address.port),
        base: host.base,
        stream: host.stream,
        component: host.component,
        rank: this.#list.filter(({ type, stream, component }) =>
          type === as && stream === host.stream && component === host.component
        ).length,
        ...(host.tcpType === undefined ? {} : { tcpType: host.tcpType }),
        ...(as === "host" ? {} : { relatedAddress: shown(host) }),
      })
    ).filter((candidate) => candidate !== undefined);
    for (const candidate of made) this.#companions.add(candidate);
    return made;
  }

  /** Whether STUN servers are to be asked what they see of a base. */
  isToBeAskedFor({ type, tcpType, base }: LocalCandidate): boolean {
    if (type !== "host" || tcpType === "active" || tcpType === "passive") return false;
    const mapping = this.#presentation.mapAddress?.(base);
    return mapping === undefined || mapping.as === "host" || mapping.mode === "append";
  }

  /** Takes in what a server sees of a base, with room above it for guesses if there may be some. */
  addReflexive(
    base: LocalCandidate,
    mapped: TransportAddress,
    { server, isBelowGuesses = false }: { readonly server: TransportAddress; readonly isBelowGuesses?: boolean },
  ): LocalCandidate | undefined {
    // A server in our own network sees what is to be hidden.
    const isTold = base.name !== undefined && !isPrivate(mapped);
    if (concealsBase(base) && mapped.ipKey === base.base.ipKey && !isTold) return undefined;
    return this.add({
      type: "srflx",
      socket: base.socket,
      address: mapped,
      base: base.base,
      relatedAddress: shown(base),
      stream: base.stream,
      component: base.component,
      server,
      ...(base.tcpType === undefined
        ? { rank: (HIGHEST.host - base.localPreference + (isBelowGuesses ? STEP - 1 : 0)) / STEP }
        : { tcpType: base.tcpType, rank: (HIGHEST_OTHER - otherPreference(base.localPreference)) / STEP }),
    });
  }

  /**
   * Takes in an address that a base may be given by its NAT. It ranks above those that servers saw, so that the peer's first
   * check from behind a NAT of the same kind goes there: each one makes a mapping, and so moves the next.
   */
  addGuess(base: LocalCandidate, address: TransportAddress): LocalCandidate | undefined {
    return this.add({
      type: "srflx",
      socket: base.socket,
      address,
      base: base.base,
      relatedAddress: shown(base),
      stream: base.stream,
      component: base.component,
      rank: (HIGHEST.host - base.localPreference) / STEP,
      isGuess: true,
    });
  }

  /** The candidate that the peer sees of a base: made up if it is new, and there is room (RFC 8445 §7.2.5.3.1). */
  mapped(base: LocalCandidate, mapped: TransportAddress, priority: number): LocalCandidate | undefined {
    const known = this.find(mapped, base.socket);
    if (known !== undefined) return known;
    // An active candidate names no port of its own: what comes from its address without a NAT in between is itself.
    if (base.tcpType === "active" && mapped.address === base.address.address) return base;
    if (this.#list.filter(({ type }) => type === "prflx").length >= MAX_REFLEXIVE) return undefined;
    return this.add({
      type: "prflx",
      socket: base.socket,
      address: mapped,
      base: base.base,
      relatedAddress: shown(base),
      stream: base.stream,
      component: base.component,
      rank: 0,
      priority,
      ...(base.tcpType === undefined ? {} : { tcpType: base.tcpType }),
    });
  }

  /** Takes in a candidate; gives `undefined` if one with the same address and base is there (RFC 8445 §5.1.3). */
  add(found: NewLocalCandidate): LocalCandidate | undefined {
    const { type, tcpType, socket, server, relayProtocol, relatedAddress, base = found.address } = found;
    const address = this.#shownAt(found);
    const name = address === found.address ? found.name : undefined;
    // Addresses that stand for one of ours may fail where it does not, and the other way round.
    const origin = server ?? (type === "prflx" ? undefined : address);
    const guess = found.isGuess === true ? address.port : "";
    const { stream = 0, component = 1 } = found;
    const same = this.#list.filter((one) => one.socket === socket && one.address.equals(address));
    // A name hides its address, so that one is told which a server has seen (draft-ietf-rtcweb-mdns-ice-candidates
    // §3.1.2.2).
    if (same.some((one) => type !== "srflx" || one.name === undefined)) return undefined;
    const localPreference = this.#preference(found);
    const candidate: LocalCandidate = {
      foundation: this.#foundation(
        `${tcpType ?? "udp"} ${type} ${base.address} ${origin?.address} ${relayProtocol}${guess}`,
      ),
      component,
      protocol: tcpType === undefined ? "udp" : "tcp",
      ...(tcpType === undefined ? {} : { tcpType }),
      priority: found.priority ??
        candidatePriority(type, localPreference, component, tcpType === undefined ? "udp" : "tcp"),
      address,
      type,
      socket,
      base,
      stream,
      localPreference,
      ...(name === undefined ? {} : { name: { host: name, port: address.port } }),
      ...defined({ server, relayProtocol, relatedAddress }),
    };
    const isTold = type === "prflx" ||
      (found.isUntold !== true && (this.#presentation.candidateFilter?.(candidate) ?? true));
    const added = isTold ? candidate : { ...candidate, isHidden: true };
    this.#list.push(added);
    return added;
  }

  /** The candidate with this address and socket. */
  find(address: TransportAddress, socket: SocketId): LocalCandidate | undefined {
    return this.#list.find((one) => one.socket === socket && one.address.equals(address));
  }

  /** Forgets all candidates of a socket. */
  removeSocket(socket: SocketId): void {
    this.#list = this.#list.filter((candidate) => candidate.socket !== socket);
  }

  /** Forgets those that servers and answers have shown: after a restart they are looked for again. */
  restart(): void {
    this.#list = this.#list.filter((one) =>
      (one.type === "host" || one.type === "relay") && !this.#companions.has(one)
    );
  }

  /** Where a new candidate is for the peer. */
  #shownAt({ type, address, base }: NewLocalCandidate): TransportAddress {
    const mapping = type === "host" && base === undefined ? this.#presentation.mapAddress?.(address) : undefined;
    const isReplaced = mapping?.as === "host" && mapping.mode === "replace";
    return isReplaced ? mapping.to[0]!.withPort(address.port) : address;
  }

  /** Whether the peer is not to learn this address by the way: it is concealed elsewhere, or no candidate that is told has it. */
  #isSecret({ ipKey }: TransportAddress): boolean {
    const isConcealed = this.#list.some((one) => one.base.ipKey === ipKey && concealsBase(one));
    if (isConcealed || this.#presentation.candidateFilter === undefined) return isConcealed;
    return !this.#list.some((one) => one.address.ipKey === ipKey && one.type !== "prflx" && one.isHidden !== true);
  }

  /**
   * Unique within a component, type and direction (RFC 8445 §5.1.2.1, RFC 6544 §4.2): no two of a stream's candidates have
   * the same priority.
   */
  #preference({ type, tcpType, rank, stream = 0, component = 1 }: NewLocalCandidate): number {
    const alike = this.#list.filter((one) =>
      one.type === type && one.tcpType === tcpType && one.stream === stream && one.component === component
    );
    const taken = alike.map(({ localPreference }) => localPreference);
    if (tcpType === undefined) return unique(taken, HIGHEST[type] - rank * STEP);
    return tcpLocalPreference(type, tcpType, unique(taken.map(otherPreference), HIGHEST_OTHER - rank * STEP));
  }

  /** Counts those of a component. */
  #next(type: "host" | "relay", { stream = 0, component = 1 }: ComponentOf): number {
    const key = `${type} ${stream} ${component}`;
    const count = this.#counts.get(key) ?? 0;
    this.#counts.set(key, count + 1);
    return count;
  }

  /**
   * The same for candidates of one type, base address, server and transport to it (RFC 8445 §5.1.1.3), and of one
   * direction. What one transport meets on its way to the server says nothing of another: each is checked at once.
   */
  #foundation(key: string): string {
    let foundation = this.#foundations.get(key);
    if (foundation === undefined) this.#foundations.set(key, foundation = String(this.#foundations.size + 1));
    return foundation;
  }
}

/** The wanted number, or the next below that is not taken, if there is one. */
function unique(taken: readonly number[], wanted: number): number {
  let number = Math.max(1, wanted);
  while (taken.includes(number) && number > 1) number--;
  return number;
}

/** The base of a reflexive candidate as the peer may know it (draft-ietf-rtcweb-mdns-ice-candidates §3.1.2.2). */
function shown(candidate: LocalCandidate): TransportAddress {
  return concealsBase(candidate) ? concealed(candidate.base) : candidate.base;
}

/** The properties that have a value. */
function defined<T extends Record<string, unknown>>(properties: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(properties).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
