import type { AddressFamily, TransportAddress } from "../stun/address.ts";
import { ERROR_CODE } from "../stun/error.ts";
import { DeadlineHeap, type MachineIo, type OpenFailure, type SocketId } from "../stun/machine.ts";
import { randomBytes } from "../stun/random.ts";
import { Accounts } from "./_accounts.ts";
import type { Mobility } from "./_mobility.ts";
import { PeerConnections } from "./_peer_connections.ts";
import { RelayAddresses } from "./_relay_addresses.ts";
import { Reservation, RESERVATION_LIFETIME, tokenKey } from "./_reservation.ts";
import { type Allocation, type BoundRelay, type Listener, Relay } from "./allocation.ts";
import type { TurnServerCounters } from "./server_counters.ts";
import type { AllocationEnd, TurnServerEvent } from "./server_events.ts";
import type { PortNeed, RelayPorts } from "./relay_ports.ts";
import type { TurnServerLimits } from "./server_options.ts";
import type { ReservedPort, SharedState } from "./shared_state.ts";

/** How often a port is tried that the host turns out to need itself. */
const OPEN_TRIES = 16;

/** RFC 8656 §11.5; and §14: "always assume the incoming DF bit is 0". */
const RELAY_WISH = { transport: "udp", icmp: true, dontFragment: false } as const;

/** What sockets an allocation needs. */
export interface RelayWish {
  /** The families, first the one whose address is told first. */
  readonly families: readonly AddressFamily[];
  /** What the ports must be like. A `"pair"` reserves the second port. */
  readonly need: PortNeed;
  /** How long it lasts, in ms. */
  readonly lifetime: number;
}

/** One family of an allocation on its way to a bound socket, or to two. */
interface Opening {
  readonly allocation: Allocation;
  readonly ports: RelayPorts;
  readonly wish: RelayWish;
  tries: number;
  /** The port that is being bound. */
  port: number;
  /** With `"pair"`: the first socket, once it is bound. */
  first: BoundRelay | undefined;
  /** Ports the host would not give. They are not tried again, and go back at the end. */
  readonly failed: number[];
}

/** Everything on a server that has a socket behind it: allocations, reservations, and what is about to become one. */
export class AllocationTable {
  /** Where relays may be. */
  readonly addresses: RelayAddresses;
  /** By socket. */
  readonly relays: Map<SocketId, Relay> = new Map();
  /** Tickets, if allocations may move. */
  readonly mobility: Mobility | undefined;
  /** Connections with peers. */
  readonly connections: PeerConnections;
  #shared: SharedState | undefined;
  #counters: TurnServerCounters;
  #openings = new Map<SocketId, Opening>();
  #pending = new Map<Allocation, number>();
  #reservations = new Map<string, Reservation>();
  #accounts: Accounts;
  #limits: TurnServerLimits;
  #timers = new DeadlineHeap<Allocation | Reservation>();

  constructor(
    ports: readonly RelayPorts[],
    limits: TurnServerLimits,
    options: {
      readonly counters: TurnServerCounters;
      readonly shared: SharedState | undefined;
      readonly mobility: Mobility | undefined;
    },
  ) {
    const { counters, shared, mobility } = options;
    this.addresses = new RelayAddresses(ports);
    this.#shared = shared;
    this.#limits = limits;
    this.#counters = counters;
    this.mobility = mobility;
    this.connections = new PeerConnections(limits, counters);
    this.#accounts = new Accounts(limits, shared);
  }

  /** When something ends next. */
  get deadline(): number {
    return Math.min(this.#timers.deadline, this.connections.deadline);
  }

  /** How many things there are of each kind: all zero when nothing is left. */
  get sizes(): Readonly<
    Record<"relays" | "connections" | "openings" | "reservations" | "users" | "timers" | "ports" | "tickets", number>
  > {
    return {
      relays: this.relays.size,
      connections: this.connections.size,
      openings: this.#openings.size + this.#pending.size,
      reservations: this.#reservations.size,
      users: this.#accounts.size,
      timers: this.#timers.size,
      tickets: this.mobility?.size ?? 0,
      ports: this.addresses.used,
    };
  }

  /** How many allocations there are, those being opened too, and reserved ports. */
  get count(): number {
    return this.#accounts.total;
  }

  /** How many allocations and reserved ports a user has. */
  countOf(account: string): number {
    return this.#accounts.countOf(account);
  }

  /** Takes in an allocation and asks for its sockets. It may have ended when this returns, if no port is free. */
  open(allocation: Allocation, wish: RelayWish, io: MachineIo<TurnServerEvent>): void {
    this.#admit(allocation, io.now);
    this.#pending.set(allocation, wish.families.length);
    for (const family of wish.families) {
      const ports = this.addresses.portsFor(allocation.listener, family);
      const opening: Opening = { allocation, ports, wish, tries: 0, port: -1, first: undefined, failed: [] };
      this.#tryPort(opening, io);
    }
  }

  /** Takes in an allocation that uses a reserved port. It is open already, unless servers share their ports. */
  openReserved(allocation: Allocation, token: Uint8Array, lifetime: number, io: MachineIo<TurnServerEvent>): void {
    if (this.#shared !== undefined) return this.#openShared(allocation, this.#shared.take(token), lifetime, io);
    const reservation = this.#reservations.get(tokenKey(token))!;
    this.#forget(reservation);
    this.#admit(allocation, io.now);
    const { ports, bound } = reservation;
    this.#addRelay(new Relay(allocation, ports, { ...bound, socket: bound.socket! }, io.now + lifetime));
    this.#activate(allocation, io);
  }

  /** Against whose limits the port counts that a token stands for at `now`; `undefined` if it stands for none. */
  reservedFor(token: Uint8Array, now: number): string | undefined {
    const reservation = this.#reservations.get(tokenKey(token));
    // That of another worker counts for 30 s as well.
    if (this.#shared !== undefined) return this.#shared.isOffered(token) ? "" : undefined;
    return reservation !== undefined && reservation.timer.at > now ? reservation.account : undefined;
  }

  /** A socket is bound. Gives its allocation if that is complete with it, `"active"` or `"ended"`. */
  handleOpened(
    socket: SocketId,
    localAddress: TransportAddress,
    io: MachineIo<TurnServerEvent>,
  ): Allocation | undefined {
    const opening = this.#openings.get(socket);
    if (opening === undefined) {
      io.close(socket);
      return undefined;
    }
    this.#openings.delete(socket);
    const { allocation, wish } = opening;
    const bound: BoundRelay = { socket, localAddress };
    if (allocation.state === "ended") {
      this.#discard(opening, bound, io);
      return undefined;
    }
    if (wish.need === "pair" && opening.first === undefined) {
      opening.first = bound;
      opening.port++;
      this.#bind(opening, io);
    } else {
      const main = opening.first ?? bound;
      this.#addRelay(new Relay(allocation, opening.ports, main, io.now + wish.lifetime));
      if (main !== bound) this.#reserve(opening, bound, io);
      this.#finish(opening, io);
    }
    return allocation.state === "opening" ? undefined : allocation;
  }

  /** A socket can not be bound. Gives its allocation if that is complete with it, `"active"` or `"ended"`. */
  handleOpenFailed(socket: SocketId, failure: OpenFailure, io: MachineIo<TurnServerEvent>): Allocation | undefined {
    const opening = this.#openings.get(socket);
    if (opening === undefined) return undefined;
    this.#openings.delete(socket);
    this.#counters.openFailures++;
    const { allocation } = opening;
    opening.failed.push(...portsOf(opening));
    if (opening.first !== undefined) io.close(opening.first.socket);
    opening.first = undefined;
    const isAwaited = allocation.state === "opening";
    // A port may belong to somebody else; any other failure would be the same with the next port.
    if (isAwaited && failure === "address-in-use") this.#tryPort(opening, io);
    else this.#finish(opening, io);
    return isAwaited && allocation.state !== "opening" ? allocation : undefined;
  }

  /** Sets an allocation's timer again, after something of it was made or refreshed. */
  reschedule(allocation: Allocation): void {
    if (allocation.state === "active") this.#timers.set(allocation.timer, allocation.nextDue);
  }

  /** Ends what is due. */
  handleTimeout(io: MachineIo<TurnServerEvent>): void {
    this.connections.handleTimeout(io);
    for (let timer = this.#timers.expire(io.now); timer !== undefined; timer = this.#timers.expire(io.now)) {
      const { owner } = timer;
      if (owner instanceof Reservation) this.#drop(owner, io);
      else this.expire(owner, io);
    }
  }

  /** Ends what of an allocation has expired, up to all of it. */
  expire(allocation: Allocation, io: MachineIo<TurnServerEvent>): void {
    for (const relay of [...allocation.relays]) if (relay.expiresAt <= io.now) this.endRelay(relay, "expired", io);
    if (allocation.state !== "active") return;
    allocation.sweep(io.now);
    this.reschedule(allocation);
  }

  /** Ends one family of an allocation, and the allocation with its last one. */
  endRelay(relay: Relay, why: AllocationEnd, io: MachineIo<TurnServerEvent>): void {
    const { allocation } = relay;
    this.connections.endAll(relay, io);
    allocation.dropRelay(relay);
    this.relays.delete(relay.socket);
    relay.ports.release(relay.localAddress.port);
    io.close(relay.socket);
    if (allocation.relays.length === 0) this.#end(allocation, why, io);
  }

  /** Ends an allocation, also one that is being opened. */
  end(allocation: Allocation, why: AllocationEnd, io: MachineIo<TurnServerEvent>): void {
    for (const relay of [...allocation.relays]) this.endRelay(relay, why, io);
    if (allocation.state !== "ended") this.#end(allocation, why, io);
  }

  /** A client's connection is gone, and with it those of its allocations that can not be taken along to another 5-tuple. */
  leave(listener: Listener, io: MachineIo<TurnServerEvent>): void {
    for (const allocation of [...listener.allocations.values()]) {
      if (allocation.listener !== listener) this.mobility?.leaveNext(allocation);
      // RFC 8016 §3.2.2: the end of the old connection as well says that the client has left it.
      else if (!this.arrive(allocation, io) && !allocation.canMove) this.end(allocation, "disconnected", io);
    }
  }

  /** There is data from where the client said that it is now. Gives whether it is a new place. */
  arrive(allocation: Allocation, io: MachineIo<TurnServerEvent>): boolean {
    const { client } = allocation;
    if (this.mobility?.arrive(allocation) !== true) return false;
    this.#counters.moves++;
    io.emit({ type: "moved", allocation: allocation.report(), from: client });
    return true;
  }

  #end(allocation: Allocation, why: AllocationEnd, io: MachineIo<TurnServerEvent>): void {
    const wasActive = allocation.state === "active";
    allocation.state = "ended";
    allocation.listener.allocations.delete(allocation.client.key);
    this.mobility?.end(allocation);
    this.#timers.clear(allocation.timer);
    this.#pending.delete(allocation);
    this.#accounts.count(allocation.account, -1);
    this.#counters.allocations--;
    if (wasActive) io.emit({ type: "ended", allocation: allocation.report(), why });
  }

  #admit(allocation: Allocation, now: number): void {
    allocation.listener.allocations.set(allocation.client.key, allocation);
    this.#accounts.count(allocation.account, 1, now);
    allocation.throttle = this.#accounts.throttle(allocation.account, now);
    this.#counters.allocations++;
  }

  #activate(allocation: Allocation, io: MachineIo<TurnServerEvent>): void {
    allocation.state = "active";
    allocation.relayedAddresses = allocation.relays.map((relay) => relay.relayedAddress);
    this.#counters.allocationsTotal++;
    this.reschedule(allocation);
    io.emit({ type: "allocated", allocation: allocation.report() });
  }

  #tryPort(opening: Opening, io: MachineIo<TurnServerEvent>): void {
    opening.port = opening.tries++ < OPEN_TRIES ? opening.ports.take(opening.wish.need, io.random) : -1;
    if (opening.port === -1) this.#finish(opening, io);
    else this.#bind(opening, io);
  }

  #bind(opening: Opening, io: MachineIo<TurnServerEvent>): void {
    const { allocation, ports, port } = opening;
    const { address } = ports.local;
    const maxConnections = this.#limits.connectionsPerAllocation;
    const socket = allocation.transport === "udp"
      ? io.open({ ...RELAY_WISH, address, port })
      : io.open({ transport: "tcp-listen", address, port, maxConnections });
    this.#openings.set(socket, opening);
  }

  /** One family is done, with or without a relay. */
  #finish(opening: Opening, io: MachineIo<TurnServerEvent>): void {
    const { allocation, ports } = opening;
    for (const port of opening.failed) ports.release(port);
    const left = this.#pending.get(allocation);
    if (left === undefined) return;
    if (left > 1) {
      this.#pending.set(allocation, left - 1);
      return;
    }
    this.#pending.delete(allocation);
    if (allocation.relays.length === 0) return this.#end(allocation, "failed", io);
    const missing = opening.wish.families.find((family) => allocation.relayOf(family) === undefined);
    if (missing !== undefined) {
      allocation.addressError = { family: missing, code: ERROR_CODE.INSUFFICIENT_CAPACITY, reason: "" };
    }
    this.#activate(allocation, io);
  }

  /** Nobody waits for it any more. */
  #discard(opening: Opening, bound: BoundRelay, io: MachineIo<TurnServerEvent>): void {
    if (opening.first !== undefined) io.close(opening.first.socket);
    io.close(bound.socket);
    opening.failed.push(...portsOf(opening));
    this.#finish(opening, io);
  }

  #addRelay(relay: Relay): void {
    relay.allocation.relays.push(relay);
    this.relays.set(relay.socket, relay);
    relay.ports.setRelayed(relay.localAddress.port, relay.allocation.transport);
  }

  #reserve(opening: Opening, bound: BoundRelay, io: MachineIo<TurnServerEvent>): void {
    const { allocation, ports } = opening;
    const token = this.#offer(ports, bound.localAddress.port, io);
    if (token === undefined) {
      ports.release(bound.localAddress.port);
      return io.close(bound.socket);
    }
    const isShared = this.#shared !== undefined;
    if (isShared) io.close(bound.socket);
    const kept = { ...bound, socket: isShared ? undefined : bound.socket };
    const reservation = new Reservation(token, kept, ports, allocation.account);
    this.#reservations.set(reservation.token, reservation);
    this.#timers.set(reservation.timer, io.now + RESERVATION_LIFETIME);
    this.#accounts.count(allocation.account, 1);
    this.#counters.reservations++;
    allocation.reservationToken = token;
  }

  /** The token of a reserved port; `undefined` if workers have too many of them. */
  #offer(ports: RelayPorts, port: number, io: MachineIo<TurnServerEvent>): Uint8Array | undefined {
    const newToken = () => randomBytes(io.random, 8);
    if (this.#shared === undefined) return newToken();
    return this.#shared.offer({ address: this.addresses.ports.indexOf(ports), port }, newToken);
  }

  /** A port that any of the workers has reserved. */
  #openShared(
    allocation: Allocation,
    reserved: ReservedPort | undefined,
    lifetime: number,
    io: MachineIo<TurnServerEvent>,
  ): void {
    this.#admit(allocation, io.now);
    if (reserved === undefined) return this.#end(allocation, "failed", io);
    const ports = this.addresses.ports[reserved.address]!;
    ports.adopt();
    this.#pending.set(allocation, 1);
    const wish: RelayWish = { families: [ports.family], need: "any", lifetime };
    // The host may have given the port away in the meantime: then no other will do.
    const opening: Opening = {
      allocation,
      ports,
      wish,
      tries: OPEN_TRIES,
      port: reserved.port,
      first: undefined,
      failed: [],
    };
    this.#bind(opening, io);
  }

  #drop(reservation: Reservation, io: MachineIo<TurnServerEvent>): void {
    const { ports, bound, bytes } = reservation;
    this.#forget(reservation);
    if (bound.socket !== undefined) io.close(bound.socket);
    // Somebody may have taken it, or not.
    if (this.#shared === undefined || this.#shared.take(bytes) !== undefined) ports.release(bound.localAddress.port);
    else ports.abandon();
  }

  #forget(reservation: Reservation): void {
    this.#reservations.delete(reservation.token);
    this.#timers.clear(reservation.timer);
    this.#accounts.count(reservation.account, -1);
    this.#counters.reservations--;
  }
}

/** The ports that were taken for it and are not known to be bad. */
function portsOf({ wish, port, first }: Opening): number[] {
  if (wish.need !== "pair") return [port];
  return first === undefined ? [port, port + 1] : [port - 1, port];
}
