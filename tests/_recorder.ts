// A MachineIo that only records: for tests of one machine, in virtual time, without driver and sockets.
import type { TransportAddress } from "../stun/address.ts";
import type {
  ListenWish,
  Machine,
  MachineIo,
  Packet,
  PipeMeter,
  Random,
  SocketId,
  SocketWish,
  StreamWish,
} from "../stun/machine.ts";
import { HEADROOM } from "../stun/net/transport.ts";

/** A datagram that a machine sent. Its bytes are a copy. */
export interface RecordedSend {
  readonly socket: SocketId;
  readonly to: TransportAddress;
  readonly bytes: Uint8Array;
}

/** A socket that a machine asked for. */
export interface RecordedOpen {
  readonly socket: SocketId;
  readonly wish: SocketWish | StreamWish | ListenWish;
}

/** Random bytes from a seed: the same ones in each run. Not for secrets. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let word = Math.imul(state ^ (state >>> 15), state | 1);
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61);
    return (word ^ (word >>> 14)) >>> 0;
  };
  return {
    fill(bytes) {
      for (let i = 0; i < bytes.length; i++) bytes[i] = next() & 0xff;
    },
  };
}

/** Records what a machine wants done. Time stands still unless a test moves it. */
export class RecordingIo<Event = never> implements MachineIo<Event> {
  /** Virtual time in ms. */
  now: number;
  readonly random: Random;
  readonly sends: RecordedSend[] = [];
  readonly opens: RecordedOpen[] = [];
  readonly closed: SocketId[] = [];
  /** Each call of `setDontFragment()`. */
  readonly fragmentation: [SocketId, boolean][] = [];
  /** Pipes, and how many datagrams had been sent before. */
  readonly joins: {
    readonly a: SocketId;
    readonly b: SocketId;
    readonly meter: PipeMeter | undefined;
    readonly sends: number;
  }[] = [];
  readonly delivered: { readonly from: TransportAddress; readonly bytes: Uint8Array }[] = [];
  readonly events: Event[] = [];
  #nextSocket = 1000;

  constructor(options: { now?: number; seed?: number } = {}) {
    this.now = options.now ?? 1_000_000;
    this.random = seededRandom(options.seed ?? 1);
  }

  /** Memory full of rubbish, as a driver's is. */
  scratch(size: number): Uint8Array {
    return new Uint8Array(size).fill(0xa5);
  }

  /** Begins with the year 2000, and goes with `now`. */
  get unixTime(): number {
    return 946_684_800 + (this.now - 1_000_000) / 1000;
  }

  send(socket: SocketId, to: TransportAddress, bytes: Uint8Array, offset = 0, length = bytes.length - offset): void {
    if (offset < 0 || offset + length > bytes.length) throw new RangeError("Sent beyond its memory");
    this.sends.push({ socket, to, bytes: bytes.slice(offset, offset + length) });
  }

  open(wish: SocketWish | StreamWish | ListenWish): SocketId {
    const socket = this.#nextSocket++;
    this.opens.push({ socket, wish });
    return socket;
  }

  close(socket: SocketId): void {
    this.closed.push(socket);
  }

  setDontFragment(socket: SocketId, on: boolean): void {
    this.fragmentation.push([socket, on]);
  }

  join(a: SocketId, b: SocketId, meter?: PipeMeter): void {
    this.joins.push({ a, b, meter, sends: this.sends.length });
  }

  deliver(from: TransportAddress, bytes: Uint8Array, offset = 0, length = bytes.length - offset): void {
    this.delivered.push({ from, bytes: bytes.slice(offset, offset + length) });
  }

  emit(event: Event): void {
    this.events.push(event);
  }

  /** Takes out what was sent so far. */
  takeSends(): RecordedSend[] {
    return this.sends.splice(0);
  }

  /** Takes out what was asked to be opened so far. */
  takeOpens(): RecordedOpen[] {
    return this.opens.splice(0);
  }

  /** Moves time on by `ms`, ringing the machine whenever it is due. */
  advance(machine: Machine<Event>, ms: number): void {
    const end = this.now + ms;
    while (machine.deadline <= end) {
      this.now = Math.max(this.now, machine.deadline);
      machine.handleTimeout(this);
    }
    this.now = end;
  }
}

/** A datagram as a driver hands it over: in larger memory, with headroom, followed by somebody else's bytes. */
export function recordedPacket(socket: SocketId, from: TransportAddress, bytes: Uint8Array): Packet {
  const buffer = new Uint8Array(HEADROOM + bytes.length + 8).fill(0xee);
  buffer.set(bytes, HEADROOM);
  return {
    socket,
    from,
    buffer,
    offset: HEADROOM,
    length: bytes.length,
    bytes: buffer.subarray(HEADROOM, HEADROOM + bytes.length),
  };
}
