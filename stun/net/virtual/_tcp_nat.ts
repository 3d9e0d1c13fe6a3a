import type { TransportAddress } from "../../address.ts";
import { beginsConnection, FIN, RST, SYN } from "./_tcp_header.ts";
import { NatTable, type Refusal } from "./nat.ts";
import type { NatOptions } from "./nat.ts";
import type { Random } from "../../machine.ts";

/** A connection as a gateway sees it. */
interface Session {
  readonly internal: TransportAddress;
  readonly external: TransportAddress;
  /** Flags that were seen in segments to the outside, and to the inside. */
  out: number;
  in: number;
  until: number;
}

/**
 * TCP through one gateway (RFC 5382): a table of mappings as for UDP, and in it the state of each connection. What is part
 * of no connection and does not begin one is dropped.
 */
export class TcpNatTable {
  /** The mappings. */
  readonly table: NatTable;
  #established: number;
  #transitory: number;
  /** By the endpoint inside and the one outside. */
  #sessions = new Map<string, Session>();

  /**
   * @param options The gateway's, with `tcpRules`.
   * @param random Where ports and addresses are drawn from.
   */
  constructor(options: Omit<NatOptions, "external" | "hairpinning">, random: Random) {
    const { tcpRules = {}, ...rest } = options;
    const { establishedLifetime = 7_440_000, transitoryLifetime = 240_000, mapping, filtering } = tcpRules;
    this.#established = establishedLifetime;
    this.#transitory = transitoryLifetime;
    this.table = new NatTable({
      ...rest,
      mapping: mapping ?? "endpoint-independent",
      filtering: filtering ?? "address-and-port-dependent",
      mappingLifetime: transitoryLifetime,
      inboundRefresh: false,
    }, random);
  }

  /** Forgets everything and goes on with these external addresses. */
  reset(external: readonly TransportAddress[]): void {
    this.table.reset(external);
    this.#sessions.clear();
  }

  /** Takes note of a segment out. Gives its source as the outside sees it, or why it does not get there. */
  outbound(
    source: TransportAddress,
    destination: TransportAddress,
    { flags, now }: { flags: number; now: number },
  ): TransportAddress | Refusal | "noPort" {
    const key = keyOf(source, destination);
    let session = this.#find(key, now);
    if (session === undefined) {
      if (!beginsConnection(flags)) return "unmapped";
      const external = this.table.outbound(source, destination, now);
      if (external === undefined) return "noPort";
      this.#sessions.set(key, session = { internal: source, external, out: 0, in: 0, until: 0 });
    }
    session.out |= flags;
    this.#refresh(session, destination, now);
    return session.external;
  }

  /** Where inside a segment from outside goes, or why it does not. */
  inbound(
    source: TransportAddress,
    destination: TransportAddress,
    { flags, now }: { flags: number; now: number },
  ): TransportAddress | Refusal {
    const internal = this.table.inbound(source, destination, now);
    if (typeof internal === "string") return internal;
    const key = keyOf(internal, source);
    let session = this.#find(key, now);
    if (session === undefined) {
      if (!beginsConnection(flags)) return "filtered";
      this.#sessions.set(key, session = { internal, external: destination, out: 0, in: 0, until: 0 });
    }
    session.in |= flags;
    this.#refresh(session, source, now);
    return internal;
  }

  #find(key: string, now: number): Session | undefined {
    const session = this.#sessions.get(key);
    if (session === undefined || session.until > now) return session;
    this.#sessions.delete(key);
    return undefined;
  }

  #refresh(session: Session, remote: TransportAddress, now: number): void {
    const { out, in: in_ } = session;
    const isOpen = (out & in_ & SYN) !== 0;
    const isClosing = (out & in_ & FIN) !== 0 || ((out | in_) & RST) !== 0;
    session.until = now + (isOpen && !isClosing ? this.#established : this.#transitory);
    this.table.extend(session, remote, session.until);
  }
}

function keyOf(internal: TransportAddress, remote: TransportAddress): string {
  return `${internal.key}>${remote.key}`;
}
