import type { TransportAddress } from "../stun/address.ts";
import { USERNAME } from "../stun/attributes.ts";
import { StreamFramer } from "../stun/framing.ts";
import { StunMessage } from "../stun/message.ts";
import type { MuxMember } from "./mux_table.ts";
import type { ByteStream, ByteStreamListener, ByteStreamReceiver, Host, HostTimer } from "../stun/net/transport.ts";

/** How many connections may wait for their first packet; more are closed when they come. */
const MAX_WAITING = 256;
/** How many of them from one IPv4 address, or one /64 of IPv6. */
const MAX_WAITING_PER_SOURCE = 16;
/** How long each may take for it, in ms. */
const FIRST_PACKET = 15_000;

/** Takes a connection over; gives who is told what comes, or nothing if it is not wanted after all. */
type AcceptStream = (stream: ByteStream) => ByteStreamReceiver | undefined;

/** What became of the connections that came in. */
export interface StreamMuxCounters {
  /** Handed on. */
  accepted: number;
  /** Closed as their first packet was no check to one of the username fragments. */
  unknown: number;
  /** Closed as they said nothing in time. */
  silent: number;
  /** Closed as too many waited. */
  refused: number;
}

/**
 * A TCP port that many ICE agents share (RFC 6544): whose a connection is shows the username fragment in its first packet,
 * which is read here and then handed on with all that follows. Whether that packet is signed, the agent looks itself.
 */
export class SharedStreamPort {
  /** What became of the connections that came in. */
  readonly counters: StreamMuxCounters = { accepted: 0, unknown: 0, silent: 0, refused: 0 };
  readonly #listener: ByteStreamListener;
  readonly #host: Host;
  readonly #memberOf: (ufrag: string) => MuxMember | undefined;
  readonly #members = new Map<MuxMember, AcceptStream>();
  /** In the order of their coming, which is that of their time limits. */
  readonly #waiting = new Set<Newcomer>();
  readonly #sources = new Map<number | string, number>();
  readonly #timer: HostTimer;

  /**
   * Listens.
   *
   * @param host The computer; it has TCP.
   * @param address What to bind.
   * @param memberOf Whose a username fragment is.
   * @throws {OpenError} If it can not be bound.
   */
  constructor(
    host: Host,
    { address, port }: TransportAddress,
    memberOf: (ufrag: string) => MuxMember | undefined,
  ) {
    this.#host = host;
    this.#memberOf = memberOf;
    this.#timer = host.createTimer(() => this.#expire());
    this.#listener = host.listenStream!({ transport: "tcp", address, port }, (stream) => this.#admit(stream));
  }

  /** What is bound. */
  get localAddress(): TransportAddress {
    return this.#listener.localAddress;
  }

  /** Hands a member the connections that are its own, until that is closed. */
  listenFor(member: MuxMember, accept: AcceptStream): ByteStreamListener {
    this.#members.set(member, accept);
    return {
      localAddress: this.localAddress,
      acceptErrors: 0,
      setTls() {},
      close: () => void this.#members.delete(member),
    };
  }

  /** How many connections wait for their first packet. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Stops listening, and closes what waits. What was handed on stays. Resolves when the port is free. */
  async close(): Promise<void> {
    this.#timer.set(Infinity);
    this.#listener.close();
    for (const newcomer of this.#waiting) newcomer.close();
    this.#waiting.clear();
    this.#sources.clear();
    await this.#listener.closed;
  }

  #admit(stream: ByteStream): ByteStreamReceiver | undefined {
    const source = sourceOf(stream.remoteAddress);
    const count = this.#sources.get(source) ?? 0;
    if (this.#waiting.size >= MAX_WAITING || count >= MAX_WAITING_PER_SOURCE) {
      this.counters.refused++;
      return undefined;
    }
    const newcomer = new Newcomer(stream, this.#host.now() + FIRST_PACKET, {
      route: (ufrag) => this.#routeTo(this.#memberOf(ufrag)),
      decided: (fate) => {
        this.counters[fate]++;
        this.#release(newcomer);
      },
    });
    this.#sources.set(source, count + 1);
    this.#waiting.add(newcomer);
    this.#arm();
    stream.resume();
    return newcomer;
  }

  #routeTo(member: MuxMember | undefined): AcceptStream | undefined {
    return member === undefined ? undefined : this.#members.get(member);
  }

  #release(newcomer: Newcomer): void {
    if (!this.#waiting.delete(newcomer)) return;
    const source = sourceOf(newcomer.remoteAddress);
    const count = this.#sources.get(source)! - 1;
    if (count === 0) this.#sources.delete(source);
    else this.#sources.set(source, count);
    this.#arm();
  }

  #expire(): void {
    const now = this.#host.now();
    for (const newcomer of this.#waiting) {
      if (newcomer.deadline > now) break;
      newcomer.close();
      this.counters.silent++;
      this.#release(newcomer);
    }
    this.#arm();
  }

  #arm(): void {
    const [first] = this.#waiting;
    this.#timer.set(first?.deadline ?? Infinity);
  }
}

/** Who is asked about a connection, and told. */
interface Porter {
  route(ufrag: string): AcceptStream | undefined;
  decided(fate: "accepted" | "unknown"): void;
}

/** A connection that came in: read here up to its first packet, and from there on by whose it is, from its beginning. */
class Newcomer implements ByteStream, ByteStreamReceiver {
  readonly deadline: number;
  readonly #stream: ByteStream;
  readonly #porter: Porter;
  readonly #framer = new StreamFramer("rfc4571");
  /** What was read, until it is handed on. */
  #early: Uint8Array[] = [];
  #receiver: ByteStreamReceiver | undefined;
  #isWanted = true;
  #isClosed = false;

  constructor(stream: ByteStream, deadline: number, porter: Porter) {
    this.#stream = stream;
    this.deadline = deadline;
    this.#porter = porter;
  }

  get transport(): "tcp" | "tls" {
    return this.#stream.transport;
  }
  get localAddress(): TransportAddress {
    return this.#stream.localAddress;
  }
  get remoteAddress(): TransportAddress {
    return this.#stream.remoteAddress;
  }
  get alpn(): string | undefined {
    return this.#stream.alpn;
  }

  resume(): void {
    this.#isWanted = true;
    if (this.#early.length === 0) this.#stream.resume();
  }

  pause(): void {
    this.#isWanted = false;
    this.#stream.pause();
  }

  send(bytes: Uint8Array, ends?: readonly number[]): void {
    this.#stream.send(bytes, ends);
  }

  end(): void {
    this.#stream.end();
  }

  close(): void {
    this.#isClosed = true;
    this.#early.length = 0;
    this.#stream.close();
  }

  onData(bytes: Uint8Array, offset: number, length: number): void {
    if (this.#isClosed) return;
    if (this.#receiver !== undefined) return this.#receiver.onData(bytes, offset, length);
    const copy = bytes.slice(offset, offset + length);
    this.#early.push(copy);
    this.#framer.push(copy);
    if (this.#framer.next()) this.#introduce();
    else if (this.#framer.isMalformed) this.#turnAway();
  }

  onSent(): void {
    this.#receiver?.onSent();
  }

  onEnd(reason: "end" | "reset"): void {
    if (this.#isClosed) return;
    if (this.#receiver !== undefined) return this.#receiver.onEnd(reason);
    this.#turnAway();
  }

  #introduce(): void {
    const { buffer, offset, length } = this.#framer;
    const username = StunMessage.parse(buffer.subarray(offset, offset + length))?.get(USERNAME);
    const accept = username === undefined ? undefined : this.#porter.route(username.split(":", 1)[0]!);
    // It says itself when it wants to read.
    this.#isWanted = false;
    const receiver = accept?.(this);
    if (receiver === undefined) return this.#turnAway();
    this.#receiver = receiver;
    this.#porter.decided("accepted");
    const early = this.#early.splice(0);
    for (const bytes of early) if (!this.#isClosed) receiver.onData(bytes, 0, bytes.length);
    if (!this.#isWanted && !this.#isClosed) this.#stream.pause();
  }

  #turnAway(): void {
    this.close();
    this.#porter.decided("unknown");
  }
}

function sourceOf({ family, ipKey }: TransportAddress): number | string {
  return family === 4 ? ipKey : (ipKey as string).slice(0, 4);
}
