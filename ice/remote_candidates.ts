import type { TransportAddress } from "../stun/address.ts";
import type { SocketId } from "../stun/machine.ts";
import { type Candidate, isCheckable, RemoteCandidate } from "./candidate.ts";
import { type CandidateKind, kindOf } from "./tcp.ts";

/** How many candidates the peer may signal. */
const MAX_SIGNALLED = 100;
/** How many of the peer's addresses may be learned from checks. */
const MAX_REFLEXIVE = 32;
/**
 * How many of them on one socket from one IP address. Two NATs that map by address and port and filter nothing would
 * show each other a new address with each check, for ever, and leave no room for those that work.
 */
const MAX_REFLEXIVE_PORTS = 4;

/** The peer's candidates for a component, by kind and address: signalled ones and those that checks have shown. */
export class RemoteCandidates {
  readonly #component: number;
  #all = new Map<string, RemoteCandidate>();
  #reflexive = 0;
  #ports = new Map<string, number>();

  /** @param component The component. */
  constructor(component = 1) {
    this.#component = component;
  }

  /** All of them, in the order of their coming. */
  all(): IterableIterator<RemoteCandidate> {
    return this.#all.values();
  }

  /** The candidate of this kind with this address. */
  get(address: TransportAddress, kind: CandidateKind): RemoteCandidate | undefined {
    return this.#all.get(keyOf(address, kind));
  }

  /** Takes in what is signalled of a candidate that a check has shown, and nothing else. */
  explain(candidate: Candidate & { readonly address: TransportAddress }, remoteUfrag: string | undefined): void {
    const kind = kindOf(candidate);
    if (kind !== undefined && this.get(candidate.address, kind) !== undefined) this.signal(candidate, remoteUfrag);
  }

  /**
   * Takes in a candidate that was signalled. One that a check has shown before gets its proper type and foundation
   * (RFC 8445 §7.3.1.3); any other duplicate is left out.
   *
   * @returns The candidate, or `undefined` if it is of no use to this agent.
   */
  signal(candidate: Candidate, remoteUfrag: string | undefined): RemoteCandidate | undefined {
    const { address, component } = candidate;
    const kind = kindOf(candidate);
    if (address === undefined || kind === undefined || !isCheckable(address)) return undefined;
    if (component !== this.#component) return undefined;
    if (!isOfSession(candidate, remoteUfrag)) return undefined;
    const known = this.get(address, kind);
    if (known !== undefined) {
      if (known.type !== "prflx") return undefined;
      known.describe(candidate);
      this.#reflexive--;
      return known;
    }
    if (this.#all.size - this.#reflexive >= MAX_SIGNALLED) return undefined;
    const remote = new RemoteCandidate({ ...candidate, address });
    this.#all.set(keyOf(address, kind), remote);
    return remote;
  }

  /** Whether there is room to learn of an address by a check that came to this socket. */
  hasRoom(address: TransportAddress, socket: SocketId): boolean {
    if (this.#reflexive >= MAX_REFLEXIVE) return false;
    return (this.#ports.get(`${socket} ${address.address}`) ?? 0) < MAX_REFLEXIVE_PORTS;
  }

  /** Learns of an address by a check that came from it (RFC 8445 §7.3.1.3); `undefined` if there is no room. */
  learn(
    address: TransportAddress,
    { kind, priority, socket }: { readonly kind: CandidateKind; readonly priority: number; readonly socket: SocketId },
  ): RemoteCandidate | undefined {
    if (!this.hasRoom(address, socket)) return undefined;
    const remote = new RemoteCandidate({
      // RFC 8445: an arbitrary foundation that no other candidate has. A signalled one cannot have a colon.
      foundation: `prflx:${address}`,
      component: this.#component,
      ...(kind === "udp" ? { protocol: "udp" } : { protocol: "tcp", tcpType: kind }),
      priority,
      address,
      type: "prflx",
    });
    this.#all.set(keyOf(address, kind), remote);
    this.#reflexive++;
    const key = `${socket} ${address.address}`;
    this.#ports.set(key, (this.#ports.get(key) ?? 0) + 1);
    return remote;
  }

  /** Forgets the candidates of another session, now that the peer's username fragment is known (RFC 8838 §9). */
  keepSession(remoteUfrag: string): RemoteCandidate[] {
    const others = [...this.#all].filter(([, candidate]) => !isOfSession(candidate, remoteUfrag));
    for (const [key] of others) this.#all.delete(key);
    return others.map(([, candidate]) => candidate);
  }
}

function keyOf(address: TransportAddress, kind: CandidateKind): string {
  return `${kind} ${address.key}`;
}

/** The username fragment of the session that a candidate names as its own; `undefined` if it names none. */
export function ufragOf({ extensions }: Candidate): string | undefined {
  return extensions?.find(([name]) => name === "ufrag")?.[1];
}

/** A candidate may name the session it belongs to by the extension `ufrag`. */
function isOfSession(candidate: Candidate, remoteUfrag: string | undefined): boolean {
  const ufrag = ufragOf(candidate);
  return ufrag === undefined || remoteUfrag === undefined || ufrag === remoteUfrag;
}
