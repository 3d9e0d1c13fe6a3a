import { TransportAddress } from "../stun/address.ts";
import {
  DeadlineHeap,
  type Machine,
  type MachineIo,
  type Packet,
  type Random,
  type SocketId,
  Timer,
} from "../stun/machine.ts";
import { randomBytes, randomFraction } from "../stun/random.ts";
import {
  type MapResponse,
  mapResultText,
  natPmpAddressRequest,
  natPmpRequest,
  PCP_PORT,
  pcpRequest,
  readMapResponse,
} from "./_pcp_messages.ts";

/** When a request of PCP is sent again, in ms: three times in all (RFC 6887 §8.1.1). */
const PCP_WAITS: readonly number[] = [3000, 6000, 12_000];
/** The same for NAT-PMP (RFC 6886 §3.1). */
const NAT_PMP_WAITS: readonly number[] = [250, 500, 1000, 2000, 4000];
/** How long a mapping is asked for, in seconds: so long a router keeps it when this computer is gone all at once. */
const LIFETIME = 1200;
/** RFC 6887 §11.2.1: not more often than every 4 s, whatever lifetime a router gives. */
const RENEW_AT_LEAST = 4000;

/** What came of a request. */
export type PortMapEvent =
  /** A port outside leads to an endpoint inside, for now. */
  | {
    readonly type: "mapped";
    readonly internal: TransportAddress;
    readonly external: TransportAddress;
    readonly protocol: "pcp" | "nat-pmp";
  }
  /** None does, or none any more; `text` says why, for people. */
  | { readonly type: "unmapped"; readonly internal: TransportAddress; readonly text: string };

/** What to map. */
export interface PortMapWish {
  /** The endpoint inside. */
  readonly internal: TransportAddress;
  /** A socket with the same IP address, for the requests: the router looks at where they come from. */
  readonly socket: SocketId;
  /** The router's IP address. */
  readonly gateway: TransportAddress;
}

interface Mapping extends PortMapWish {
  readonly nonce: Uint8Array;
  protocol: "pcp" | "nat-pmp";
  /** How often the request was sent since the last answer. */
  sent: number;
  external: TransportAddress | undefined;
  /** With NAT-PMP, the two halves of it. */
  address: string | undefined;
  port: number | undefined;
  lifetime: number;
  expiresAt: number;
}

/**
 * Asks a router to let in what comes to a port of its own: by PCP (RFC 6887) and, where that is not known, NAT-PMP
 * (RFC 6886). What it gives is renewed until it is given back. IPv4.
 */
export class PortMapper implements Machine<PortMapEvent> {
  #mappings: Timer<Mapping>[] = [];
  #timers = new DeadlineHeap<Mapping>();

  /** See `Machine`. */
  get deadline(): number {
    return this.#timers.deadline;
  }

  /** Asks for a mapping. Events tell what comes of it: within 21 s the first one. */
  map(wish: PortMapWish, io: MachineIo<PortMapEvent>): void {
    const timer = new Timer<Mapping>({
      ...wish,
      gateway: wish.gateway.withPort(PCP_PORT),
      nonce: randomBytes(io.random, 12),
      protocol: "pcp",
      sent: 0,
      external: undefined,
      address: undefined,
      port: undefined,
      lifetime: 0,
      expiresAt: Infinity,
    });
    this.#mappings.push(timer);
    this.#ask(timer, io);
  }

  /** Gives one mapping back, without an event. */
  unmap(internal: TransportAddress, io: MachineIo<PortMapEvent>): void {
    const timer = this.#mappings.find(({ owner }) => owner.internal.equals(internal));
    if (timer === undefined) return;
    this.#timers.clear(timer);
    this.#mappings = this.#mappings.filter((other) => other !== timer);
    this.#send(timer.owner, 0, io);
  }

  /** Gives all mappings back, and takes those that are about to come for given back. */
  close(io: MachineIo<PortMapEvent>): void {
    for (const timer of this.#mappings) {
      this.#timers.clear(timer);
      // A request may have been heard, though there is no answer yet.
      if (timer.owner.sent > 0 || timer.owner.external !== undefined) this.#send(timer.owner, 0, io);
    }
    this.#mappings = [];
  }

  /** See `Machine`. */
  handleTimeout(io: MachineIo<PortMapEvent>): void {
    for (let timer = this.#timers.expire(io.now); timer !== undefined; timer = this.#timers.expire(io.now)) {
      const { owner } = timer;
      if (io.now >= owner.expiresAt) this.#end(timer, "The router does not renew it", io);
      else this.#ask(timer, io);
    }
  }

  /** See `Machine`. */
  handlePacket(packet: Packet, io: MachineIo<PortMapEvent>): void {
    for (const timer of [...this.#mappings]) {
      const { owner } = timer;
      if (owner.socket !== packet.socket || !owner.gateway.equals(packet.from)) continue;
      const response = readMapResponse(packet.bytes, owner.nonce);
      if (response === undefined) continue;
      if (response.about === "mapping" && response.internalPort !== owner.internal.port) continue;
      this.#take(timer, response, io);
    }
  }

  #ask(timer: Timer<Mapping>, io: MachineIo<PortMapEvent>): void {
    const { owner } = timer;
    const waits = owner.protocol === "pcp" ? PCP_WAITS : NAT_PMP_WAITS;
    const isAgain = owner.external !== undefined;
    if (owner.sent >= waits.length && !isAgain) return this.#end(timer, "No answer from the router", io);
    this.#send(owner, LIFETIME, io);
    // RFC 6887 §11.2.1: a renewal that is not answered is tried again at half of the time that is left.
    const wait = isAgain ? Math.max(RENEW_AT_LEAST, (owner.expiresAt - io.now) / 2) : waits[owner.sent]!;
    owner.sent++;
    // RFC 6887 §8.1.1: by chance up to a tenth more or less, so that not all computers ask at once after a power cut.
    this.#timers.set(timer, Math.min(owner.expiresAt, io.now + wait * (0.9 + 0.2 * randomFraction(io.random))));
  }

  #send(
    { protocol, socket, gateway, internal, external, nonce, address }: Mapping,
    lifetime: number,
    io: MachineIo<PortMapEvent>,
  ) {
    const request = { internal, lifetime, external };
    if (protocol === "pcp") return io.send(socket, gateway, pcpRequest(request, nonce));
    if (address === undefined && lifetime > 0) io.send(socket, gateway, natPmpAddressRequest());
    io.send(socket, gateway, natPmpRequest(request));
  }

  #take(timer: Timer<Mapping>, response: MapResponse, io: MachineIo<PortMapEvent>): void {
    const { owner } = timer;
    if (response.about === "version") {
      // RFC 6887 Appendix A: a server of the older protocol says so by its version.
      if (owner.protocol !== "pcp" || response.protocol === "pcp") return;
      owner.protocol = "nat-pmp";
      owner.sent = 0;
      return this.#ask(timer, io);
    }
    if (response.protocol !== owner.protocol || owner.sent === 0) return;
    if (response.result !== 0) {
      return this.#end(timer, `The router refuses: ${mapResultText(response.protocol, response.result)}`, io);
    }
    owner.address = response.externalAddress ?? owner.address;
    if (response.about === "mapping") {
      owner.port = response.externalPort;
      owner.lifetime = Math.min(response.lifetime, LIFETIME);
    }
    if (owner.address !== undefined && owner.port !== undefined) this.#settle(timer, owner.address, owner.port, io);
  }

  #settle(timer: Timer<Mapping>, address: string, port: number, io: MachineIo<PortMapEvent>): void {
    const { owner } = timer;
    if (owner.lifetime === 0 || port === 0) return this.#end(timer, "The router gives it for no time", io);
    const external = TransportAddress.of(address, port);
    const isNew = owner.external?.equals(external) !== true;
    owner.external = external;
    owner.address = owner.port = undefined;
    owner.sent = 0;
    owner.expiresAt = io.now + Math.max(owner.lifetime * 1000, 2 * RENEW_AT_LEAST);
    this.#timers.set(timer, renewAt(owner, io.now, io.random));
    const { internal, protocol } = owner;
    if (isNew) io.emit({ type: "mapped", internal, external, protocol });
  }

  #end(timer: Timer<Mapping>, text: string, io: MachineIo<PortMapEvent>): void {
    this.#timers.clear(timer);
    this.#mappings = this.#mappings.filter((other) => other !== timer);
    io.emit({ type: "unmapped", internal: timer.owner.internal, text });
  }
}

/** RFC 6887 §11.2.1: at a time by chance from 1/2 to 5/8 of the lifetime. */
function renewAt({ expiresAt }: Mapping, now: number, random: Random): number {
  return now + Math.max(RENEW_AT_LEAST, (expiresAt - now) * (0.5 + 0.125 * randomFraction(random)));
}
