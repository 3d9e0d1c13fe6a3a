import type { TransportAddress } from "../stun/address.ts";
import { USERNAME } from "../stun/attributes.ts";
import { METHOD, StunMessage } from "../stun/message.ts";
import type { Host } from "../stun/net/transport.ts";
import { isStunLike } from "./demux.ts";

/** How long a remote address stays a member's after the last answer from there, in ms: three times a request for consent. */
const OWNED_FOR = 15_000;
/** How many of a member's requests are remembered; the oldest is forgotten first. */
const MAX_REQUESTS = 256;
/** How many remote addresses a member may have. */
const MAX_REMOTES = 100;
/** How many addresses are remembered from which a check came that has not led to anything yet. */
const MAX_HEARD = 4096;
/** A restart leaves the username fragment of before in use for a while (RFC 8445 §9). */
const MAX_UFRAGS = 2;

/** Datagrams that were nobody's. */
export interface MuxCounters {
  /** Handed on. */
  delivered: number;
  /** To none of the username fragments, and from nobody who is known. */
  unknown: number;
  /** From an address that is another member's: on one port both can not have it. */
  conflicts: number;
}

/** UDP ports that connections share. */
export interface SharedPorts {
  /** Lets one more connection in. */
  join(options: { readonly isLite: boolean }): Membership;
}

/** What a connection has of shared ports. */
export interface Membership {
  /** The computer, on which the shared addresses can be bound by everybody. */
  readonly host: Host;
  /** The shared addresses, as `bind` takes them. */
  readonly bind: readonly string[];
  /** Whether the same ports take TCP connections. */
  readonly hasTcp: boolean;
  /**
   * Takes in a username fragment of the connection's; the latest two count.
   *
   * @throws {Error} If another connection has it.
   */
  addUfrag(ufrag: string): void;
  /** Ends it. A second call does nothing. */
  leave(): void;
}

/** A datagram on its way. */
interface Bytes {
  readonly buffer: Uint8Array;
  readonly offset: number;
  readonly length: number;
}

/** Somebody who shares the port. */
export class MuxMember {
  /** Whether it sends no checks of its own (RFC 8445 §2.5): then the peer's are all the proof there is. */
  readonly isLite: boolean;
  /** @internal */
  readonly ufrags: string[] = [];
  /** @internal Its requests by transaction id. */
  readonly requests: Map<string, { readonly to: TransportAddress; readonly isCheck: boolean }> = new Map();
  /** @internal Its remote addresses. */
  readonly remotes: Set<number | string> = new Set();

  /** @param options Whether it is lite. */
  constructor({ isLite = false }: { readonly isLite?: boolean } = {}) {
    this.isLite = isLite;
  }
}

interface Remote {
  readonly member: MuxMember;
  until: number;
}

/**
 * Whose a datagram is, of several ICE agents on one port: a response is whose the request was; a request whose username
 * fragment it names; all else is whose peer is at that address. An address becomes a member's by answering one of its
 * checks, and stays so as long as it answers, so that nobody takes over what is another's. Pure.
 */
export class MuxTable {
  /** What became of all datagrams. */
  readonly counters: MuxCounters = { delivered: 0, unknown: 0, conflicts: 0 };
  #byUfrag = new Map<string, MuxMember>();
  #byRequest = new Map<string, MuxMember>();
  #owners = new Map<number | string, Remote>();
  #heard = new Map<number | string, MuxMember>();

  /**
   * Takes in a username fragment; of a member the latest two count.
   *
   * @throws {Error} If another member has it.
   */
  addUfrag(member: MuxMember, ufrag: string): void {
    const other = this.#byUfrag.get(ufrag);
    if (other !== undefined && other !== member) {
      throw new Error(`Cannot share the port as another agent on it has the username fragment "${ufrag}"`);
    }
    if (other === member) return;
    this.#byUfrag.set(ufrag, member);
    member.ufrags.push(ufrag);
    if (member.ufrags.length > MAX_UFRAGS) this.#byUfrag.delete(member.ufrags.shift()!);
  }

  /** Whose a username fragment is. */
  memberOf(ufrag: string): MuxMember | undefined {
    return this.#byUfrag.get(ufrag);
  }

  /** Forgets a member. */
  remove(member: MuxMember): void {
    for (const ufrag of member.ufrags) this.#byUfrag.delete(ufrag);
    for (const key of member.requests.keys()) this.#byRequest.delete(key);
    for (const key of member.remotes) this.#owners.delete(key);
    for (const [key, other] of this.#heard) if (other === member) this.#heard.delete(key);
    member.ufrags.length = 0;
    member.requests.clear();
    member.remotes.clear();
  }

  /** Looks at a datagram that a member sends. */
  noteSent(member: MuxMember, to: TransportAddress, bytes: Bytes, now: number): void {
    if (!isStunLike(bytes)) return;
    const { buffer, offset, length } = bytes;
    const message = StunMessage.parse(buffer.subarray(offset, offset + length));
    if (message === undefined || message.method !== METHOD.BINDING) return;
    if (message.class === "request") {
      const key = message.transactionKey;
      member.requests.delete(key);
      if (member.requests.size >= MAX_REQUESTS) {
        const oldest = member.requests.keys().next().value!;
        member.requests.delete(oldest);
        this.#byRequest.delete(oldest);
      }
      member.requests.set(key, { to, isCheck: message.has(USERNAME) });
      this.#byRequest.set(key, member);
    } else if (message.class === "success" && member.isLite) this.#own(member, to, now);
  }

  /** Whose a datagram is that came from there; `undefined` if it is nobody's. */
  route(from: TransportAddress, bytes: Bytes, now: number): MuxMember | undefined {
    const owner = this.#owners.get(from.key);
    const isStun = isStunLike(bytes);
    const member = isStun ? this.#routeStun(from, owner, bytes, now) : owner?.member ?? this.#heard.get(from.key);
    if (member === undefined) this.counters.unknown++;
    else if (member === CONFLICT) this.counters.conflicts++;
    else {
      this.counters.delivered++;
      return member;
    }
    return undefined;
  }

  #routeStun(
    from: TransportAddress,
    owner: Remote | undefined,
    { buffer, offset, length }: Bytes,
    now: number,
  ): MuxMember | undefined {
    // What is no good STUN, or to nobody known, may be data that looks like it.
    const otherwise = owner?.member ?? this.#heard.get(from.key);
    const message = StunMessage.parse(buffer.subarray(offset, offset + length));
    if (message === undefined || message.method !== METHOD.BINDING || message.class === "indication") return otherwise;
    if (message.class === "request") {
      const username = message.get(USERNAME);
      const member = username === undefined ? undefined : this.#byUfrag.get(username.slice(0, username.indexOf(":")));
      if (member === undefined) return otherwise;
      if (isTaken(owner, member, now)) return CONFLICT;
      if (owner?.member !== member) this.#hear(from, member);
      return member;
    }
    const member = this.#byRequest.get(message.transactionKey);
    const request = member?.requests.get(message.transactionKey);
    if (member === undefined || request === undefined) return otherwise;
    if (message.class === "success" && request.isCheck && request.to.equals(from)) {
      if (isTaken(owner, member, now)) return CONFLICT;
      this.#own(member, from, now);
    }
    return member;
  }

  #own(member: MuxMember, { key }: TransportAddress, now: number): void {
    const owner = this.#owners.get(key);
    if (isTaken(owner, member, now)) return;
    if (owner?.member === member) {
      owner.until = now + OWNED_FOR;
      return;
    }
    owner?.member.remotes.delete(key);
    if (member.remotes.size >= MAX_REMOTES) {
      const oldest = member.remotes.values().next().value!;
      member.remotes.delete(oldest);
      this.#owners.delete(oldest);
    }
    member.remotes.add(key);
    this.#owners.set(key, { member, until: now + OWNED_FOR });
    this.#heard.delete(key);
  }

  #hear({ key }: TransportAddress, member: MuxMember): void {
    this.#heard.delete(key);
    if (this.#heard.size >= MAX_HEARD) this.#heard.delete(this.#heard.keys().next().value!);
    this.#heard.set(key, member);
  }
}

/** Stands for a datagram that is refused. */
const CONFLICT = new MuxMember();

/** Whether an address is somebody else's. */
function isTaken(owner: Remote | undefined, member: MuxMember, now: number): boolean {
  return owner !== undefined && owner.member !== member && now < owner.until;
}
