import type { AddressFamily, TransportAddress } from "../stun/address.ts";
import type { AnswerProtection } from "../stun/authenticator.ts";
import { type SocketId, Timer } from "../stun/machine.ts";
import type { LongTermUser } from "../stun/users.ts";
import type { Throttle } from "./_bandwidth.ts";
import type { PeerConnection } from "./_peer_connections.ts";
import type { AddressError } from "./attributes.ts";
import type { AllocationReport } from "./server_events.ts";
import type { RelayPorts } from "./relay_ports.ts";

/** "The Permission Lifetime MUST be 300 seconds" (RFC 8656 §9), in ms. */
export const PERMISSION_LIFETIME = 300_000;
/** "A channel binding lasts for 10 minutes unless refreshed" (RFC 8656 §12), in ms. */
export const CHANNEL_LIFETIME = 600_000;
/** How many peer addresses of Send indications a relay keeps at hand. */
const MAX_DESTINATIONS = 64;

/** A map key of `TransportAddress.key` or `.ipKey`. */
export type AddressKey = number | string;

/** A socket on which clients are served, and their allocations by `client.key`: together they are the 5-tuples. */
export interface Listener {
  /** The socket. */
  readonly socket: SocketId;
  /** The address it is bound to. */
  readonly localAddress: TransportAddress;
  /** Its clients. */
  readonly allocations: Map<AddressKey, Allocation>;
  /** The longest message in bytes that can be sent to a client of an IP version. */
  readonly maxLength: Readonly<Record<AddressFamily, number>>;
  /** Whether it is a connection, over TCP or TLS. */
  readonly isStream: boolean;
  /** Whether it is a connection over TLS. */
  readonly isSecure: boolean;
  /** Whether it is a connection that has ended, or is one to a peer now. */
  isClosed: boolean;
}

/** Where a client is: a 5-tuple. */
export interface ClientPath {
  /** The socket its client talks to. */
  readonly listener: Listener;
  /** Its client. */
  readonly client: TransportAddress;
}

/** What lets a client take its allocation along to another 5-tuple (RFC 8016). */
export interface Ticket {
  /** What the client gets. */
  readonly bytes: Uint8Array;
  /** Where the client was to be when it got it. */
  readonly path: ClientPath;
}

/** The answer to a request that took an allocation along, so that it is the same when the request comes again. */
export interface Move {
  /** Its transaction. */
  readonly transactionKey: string;
  /** Where the client was then. */
  readonly path: ClientPath;
  /** The ticket for the next time. */
  readonly ticket: Ticket;
}

/** Leave for peers of one IP address to send to the client (RFC 8656 §9). */
export interface Permission {
  /** When it ends, in ms. */
  expiresAt: number;
  /** How many channels to this IP address refer to it. It is forgotten only when there is none. */
  channels: number;
}

/** A channel binding (RFC 8656 §12). */
export interface Channel {
  /** The channel number. */
  readonly number: number;
  /** The peer. */
  readonly peer: TransportAddress;
  /** Whether the peer is to be looked up among the server's own relayed transport addresses each time. */
  readonly isRelay: boolean;
  /** Where it leaves from. */
  readonly relay: Relay;
  /** The permission for the peer's IP address. */
  readonly permission: Permission;
  /** When it ends, in ms. */
  expiresAt: number;
}

/** A peer that a Send indication named. Kept so that its address is not made for each datagram. */
export interface Destination {
  /** The peer. */
  readonly peer: TransportAddress;
  /** As in `Channel`. */
  readonly isRelay: boolean;
  /** The permission for the peer's IP address. */
  readonly permission: Permission;
}

/** A relayed transport address with its socket, permissions and channels. A dual allocation has two. */
export class Relay {
  /** The socket. */
  readonly socket: SocketId;
  /** The address it is bound to. */
  readonly localAddress: TransportAddress;
  /** The relayed transport address that clients and peers know. */
  readonly relayedAddress: TransportAddress;
  /** Where its port came from. */
  readonly ports: RelayPorts;
  /** Whose it is. */
  readonly allocation: Allocation;
  /** When it ends, in ms. */
  expiresAt: number;
  /** Whether what is sent next leaves with DF, as things stand. */
  dontFragment = false;
  /** By the peer's `ipKey`. Expired ones may be among them. */
  readonly permissions: Map<AddressKey, Permission> = new Map();
  /** By the peer's `key`. Expired ones may be among them. */
  readonly channels: Map<AddressKey, Channel> = new Map();
  /** Of a TCP allocation: connections with peers. */
  readonly connections: Set<PeerConnection> = new Set();
  #destinations: Map<number, Destination> | undefined;

  /** Made when its socket is bound. */
  constructor(allocation: Allocation, ports: RelayPorts, socket: BoundRelay, expiresAt: number) {
    this.allocation = allocation;
    this.ports = ports;
    this.socket = socket.socket;
    this.localAddress = socket.localAddress;
    this.relayedAddress = ports.external.withPort(socket.localAddress.port);
    this.expiresAt = expiresAt;
  }

  /** The IP version it relays. */
  get family(): AddressFamily {
    return this.ports.family;
  }

  /** The permission for a peer's IP address, if there is one at `now`. */
  permissionFor(ipKey: AddressKey, now: number): Permission | undefined {
    const permission = this.permissions.get(ipKey);
    return permission !== undefined && permission.expiresAt > now ? permission : undefined;
  }

  /** The channel bound to a peer, if there is one at `now`. */
  channelTo(key: AddressKey, now: number): Channel | undefined {
    const channel = this.channels.get(key);
    return channel !== undefined && channel.expiresAt > now ? channel : undefined;
  }

  /** The peer known under a hash of its address; two of one hash share a place, so the caller compares. */
  destination(hash: number): Destination | undefined {
    return this.#destinations?.get(hash);
  }

  /** Keeps a peer for the next time. */
  keepDestination(hash: number, destination: Destination): void {
    const known = this.#destinations ??= new Map();
    if (known.size >= MAX_DESTINATIONS) known.clear();
    known.set(hash, destination);
  }

  /** @internal Forgets permissions that have ended. Gives when the next one ends. */
  sweepPermissions(now: number): number {
    let next = Infinity;
    for (const [ipKey, permission] of this.permissions) {
      if (permission.expiresAt > now) next = Math.min(next, permission.expiresAt);
      else if (permission.channels === 0) {
        this.permissions.delete(ipKey);
        this.#destinations = undefined;
      }
    }
    return next;
  }
}

/** Whose limits a user's allocations count against. */
export function accountOf(user: LongTermUser): string {
  return user.account ?? user.username;
}

/** A socket for a relay, bound. */
export interface BoundRelay {
  /** The socket. */
  readonly socket: SocketId;
  /** The address it is bound to. */
  readonly localAddress: TransportAddress;
}

/** The request that made an allocation: what its answer needs, which may be given late and more than once. */
export interface AllocateRequest {
  /** Its transaction id, 12 bytes. */
  readonly transactionId: Uint8Array;
  /** The same as a map key. */
  readonly transactionKey: string;
  /** Whether it had a FINGERPRINT. */
  readonly hasFingerprint: boolean;
  /** How the answer is protected. */
  readonly protection: AnswerProtection;
}

/** What an allocation relays: datagrams, or (RFC 6062) connections. */
export type RelayTransport = "udp" | "tcp";

/** `"opening"` until its sockets are bound, `"ended"` for ever after. */
export type AllocationState = "opening" | "active" | "ended";

/** An allocation (RFC 8656 §6). Data and bookkeeping; what it has of the host is the table's business. */
export class Allocation {
  /** Where its client is. */
  path: ClientPath;
  /** Where its client says that it is now, until data has come from there (RFC 8016 §3.2.2). */
  next: ClientPath | undefined;
  /** Those that are good, the newest one last. There are none if the client wants none. */
  readonly tickets: Ticket[] = [];
  /** The last one. */
  lastMove: Move | undefined;
  /** Whose it is. */
  user: LongTermUser;
  /** Whose limits it counts against. */
  readonly account: string;
  /** The request that made it. */
  readonly request: AllocateRequest;
  /** What it relays. */
  readonly transport: RelayTransport;
  /** Where it is in its life. */
  state: AllocationState = "opening";
  /** One, or two of different families. */
  readonly relays: Relay[] = [];
  /** The relayed transport addresses that it was made with. */
  relayedAddresses: readonly TransportAddress[] = [];
  /** By channel number. Expired ones may be among them. */
  readonly channels: Map<number, Channel> = new Map();
  /** The token of the port that was reserved with it. */
  reservationToken: Uint8Array | undefined;
  /** Why a dual allocation got one address only. */
  addressError: AddressError | undefined;
  /** How much may be relayed for it; `undefined`: no limit. */
  throttle: Throttle | undefined;
  /** The transaction of the last Refresh that took something away, so that it has the same answer when it comes again. */
  lastDeletion = "";
  /** Datagrams relayed to peers. */
  packetsToPeers = 0;
  /** Bytes of data relayed to peers. */
  bytesToPeers = 0;
  /** Datagrams relayed to the client. */
  packetsToClient = 0;
  /** Bytes of data relayed to the client. */
  bytesToClient = 0;
  /** When it would be told of ICMP messages as often as it likes again, in ms. */
  icmpEmptyAt = 0;
  /** Rings when something of it has ended. */
  readonly timer: Timer<Allocation>;
  #sweepAt = Infinity;

  /** Made when its request has passed all checks. */
  constructor(
    listener: Listener,
    client: TransportAddress,
    user: LongTermUser,
    request: AllocateRequest,
    transport: RelayTransport = "udp",
  ) {
    this.path = { listener, client };
    this.user = user;
    this.account = accountOf(user);
    this.request = request;
    this.transport = transport;
    this.timer = new Timer<Allocation>(this);
  }

  /** The socket its client talks to. */
  get listener(): Listener {
    return this.path.listener;
  }

  /** Its client. */
  get client(): TransportAddress {
    return this.path.client;
  }

  /** Whether its client can come back on another 5-tuple: it lives on when the client's connection is gone. */
  get canMove(): boolean {
    return this.state === "active" && this.tickets.length > 0;
  }

  /** The name that all its requests must have. */
  get username(): string {
    return this.user.username;
  }

  /** Whether a user is the one that it is of. With an access token (RFC 7635) that is who has its key. */
  isOwnedBy({ username, account, until }: LongTermUser): boolean {
    const { user } = this;
    if (user.until === undefined || until === undefined) return user.username === username && user.until === until;
    return [user, ...user.alternatives ?? []].some((one) => one.account === account);
  }

  /** When the last of its relayed addresses ends, in ms. */
  get expiresAt(): number {
    let last = -Infinity;
    for (const relay of this.relays) last = Math.max(last, relay.expiresAt);
    return last;
  }

  /** When its timer is due next. */
  get nextDue(): number {
    let next = this.#sweepAt;
    for (const relay of this.relays) next = Math.min(next, relay.expiresAt);
    return next;
  }

  /** The relay of an IP version. */
  relayOf(family: AddressFamily): Relay | undefined {
    for (const relay of this.relays) if (relay.family === family) return relay;
    return undefined;
  }

  /** How many permissions it has, on all its relays. */
  get permissionCount(): number {
    let count = 0;
    for (const relay of this.relays) count += relay.permissions.size;
    return count;
  }

  /** Installs or refreshes the permission for a peer's IP address. */
  permit(relay: Relay, peer: TransportAddress, now: number): Permission {
    const expiresAt = now + PERMISSION_LIFETIME;
    const known = relay.permissions.get(peer.ipKey);
    const permission = known ?? { expiresAt, channels: 0 };
    permission.expiresAt = expiresAt;
    if (known === undefined) relay.permissions.set(peer.ipKey, permission);
    this.#sweepAt = Math.min(this.#sweepAt, expiresAt);
    return permission;
  }

  /** As `bind()`: whether the channel has another peer, or the peer another channel (RFC 8656 §12.2). */
  hasConflict(number: number, relay: Relay, peer: TransportAddress): boolean {
    const byNumber = this.channels.get(number);
    if (byNumber !== undefined && !byNumber.peer.equals(peer)) return true;
    const byPeer = relay.channels.get(peer.key);
    return byPeer !== undefined && byPeer.number !== number;
  }

  /** Binds a channel or refreshes it, with the permission. There must be no conflict, and nothing that has ended. */
  bind(number: number, relay: Relay, peer: TransportAddress, options: { isRelay: boolean; now: number }): Channel {
    const { isRelay, now } = options;
    const permission = this.permit(relay, peer, now);
    let channel = relay.channels.get(peer.key);
    if (channel === undefined) {
      channel = { number, peer, isRelay, relay, permission, expiresAt: 0 };
      this.channels.set(number, channel);
      relay.channels.set(peer.key, channel);
      permission.channels++;
    }
    channel.expiresAt = now + CHANNEL_LIFETIME;
    return channel;
  }

  /** Forgets permissions and channels that have ended. */
  sweep(now: number): void {
    let next = Infinity;
    for (const channel of this.channels.values()) {
      if (channel.expiresAt <= now) this.#unbind(channel);
      else next = Math.min(next, channel.expiresAt);
    }
    for (const relay of this.relays) next = Math.min(next, relay.sweepPermissions(now));
    this.#sweepAt = next;
  }

  /** Takes a relay out, with its permissions and channels, and leaves those of the other alone (RFC 8656 §8.1). */
  dropRelay(relay: Relay): void {
    for (const channel of relay.channels.values()) this.channels.delete(channel.number);
    relay.channels.clear();
    relay.permissions.clear();
    this.relays.splice(this.relays.indexOf(relay), 1);
  }

  /** What it is and did, for people. */
  report(): AllocationReport {
    return {
      client: this.client,
      server: this.listener.localAddress,
      username: this.username,
      transport: this.transport,
      relayedAddresses: this.relayedAddresses,
      packetsToPeers: this.packetsToPeers,
      bytesToPeers: this.bytesToPeers,
      packetsToClient: this.packetsToClient,
      bytesToClient: this.bytesToClient,
    };
  }

  #unbind(channel: Channel): void {
    this.channels.delete(channel.number);
    channel.relay.channels.delete(channel.peer.key);
    channel.permission.channels--;
  }
}
