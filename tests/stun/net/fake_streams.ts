// A host with connections but no network: a test is the other end of each, and sets the clock.
import { TransportAddress } from "../../../stun/address.ts";
import { StreamFramer } from "../../../stun/framing.ts";
import type { StreamWish } from "../../../stun/machine.ts";
import type {
  ByteStream,
  ByteStreamListener,
  ByteStreamReceiver,
  Host,
  StreamListenWish,
} from "../../../stun/net/transport.ts";
import { OpenError } from "../../../stun/net/transport.ts";

/** The driver's side of a connection, with the test's side as methods of their own. */
export class FakeStream implements ByteStream {
  readonly alpn = undefined;
  readonly localAddress: TransportAddress = TransportAddress.parse("192.0.2.1:3478");
  readonly transport = "tcp";
  readonly remoteAddress: TransportAddress;
  receiver: ByteStreamReceiver | undefined;
  isReading = false;
  hasEnded = false;
  isClosed = false;
  /** Each write that the driver made. */
  readonly writes: Uint8Array[] = [];
  /** While set, writes stay under way until `accept()`. */
  isSlow = false;
  #unsent = 0;

  constructor(remote: string) {
    this.remoteAddress = TransportAddress.parse(remote);
  }

  resume(): void {
    this.isReading = true;
  }
  pause(): void {
    this.isReading = false;
  }
  send(bytes: Uint8Array): void {
    if (this.#unsent !== 0) throw new Error("two writes at a time");
    this.writes.push(bytes.slice());
    this.#unsent++;
    if (!this.isSlow) queueMicrotask(() => this.accept());
  }
  end(): void {
    if (this.#unsent !== 0) throw new Error("end in the middle of a write");
    this.hasEnded = true;
  }
  close(): void {
    this.isClosed = true;
  }

  /** The network takes what is being written. */
  accept(): void {
    if (this.#unsent === 0 || this.isClosed) return;
    this.#unsent = 0;
    this.receiver!.onSent();
  }

  /** Bytes from the other end. */
  arrive(...pieces: Uint8Array[]): void {
    const bytes = Uint8Array.from(pieces.flatMap((piece) => [...piece]));
    this.receiver!.onData(bytes, 0, bytes.length);
    bytes.fill(0xee);
  }

  /** The frames written so far, checked to be whole. */
  get frames(): Uint8Array[] {
    const framer = new StreamFramer();
    const found: Uint8Array[] = [];
    // ChannelData may come first here, which on a real connection it may not.
    framer.push(Uint8Array.of(0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, ...new Uint8Array(12)));
    framer.next();
    for (const write of this.writes) {
      framer.push(write);
      while (framer.next()) found.push(framer.buffer.slice(framer.offset, framer.offset + framer.length));
    }
    if (framer.isMalformed || framer.buffered !== 0) throw new Error("a frame was cut");
    return found;
  }

  /** All bytes written so far. */
  get written(): Uint8Array {
    return Uint8Array.from(this.writes.flatMap((write) => [...write]));
  }
}

/** The host. */
export class FakeHost implements Host {
  #now = 1000;
  #alarms: { at: number; ring: () => void }[] = [];
  #accept: ((stream: ByteStream) => ByteStreamReceiver | undefined) | undefined;
  readonly random = { fill: (bytes: Uint8Array) => void bytes.fill(7) };
  /** The attempts to connect that were not answered yet. */
  readonly attempts: { wish: StreamWish; done: (result: ByteStream | OpenError) => ByteStreamReceiver | undefined }[] =
    [];
  /** How many attempts were given up. */
  givenUp = 0;

  now(): number {
    return this.#now;
  }

  unixTime(): number {
    return 946_684_800 + this.#now / 1000;
  }

  createTimer(ring: () => void): { set(at: number): void } {
    const alarm = { at: Infinity, ring };
    this.#alarms.push(alarm);
    return { set: (at) => void (alarm.at = at) };
  }

  /** Lets time pass; alarms ring at their time. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const next = this.#alarms.reduce((a, b) => b.at < a.at ? b : a);
      if (next.at > end) break;
      this.#now = Math.max(this.#now, next.at);
      next.at = Infinity;
      next.ring();
    }
    this.#now = end;
  }

  /** A client connects. Gives its stream, closed already if it was refused. */
  arrive(remote: string): FakeStream {
    const stream = new FakeStream(remote);
    stream.receiver = this.#accept!(stream);
    if (stream.receiver === undefined) stream.close();
    return stream;
  }

  /** Answers the oldest attempt to connect. */
  answer(failure?: "refused"): FakeStream {
    const { wish, done } = this.attempts.shift()!;
    const stream = new FakeStream(String(wish.remote));
    if (failure === undefined) stream.receiver = done(stream);
    else done(new OpenError(failure, "no"));
    return stream;
  }

  connectStream(
    wish: StreamWish,
    done: (result: ByteStream | OpenError) => ByteStreamReceiver | undefined,
  ): () => void {
    const attempt = { wish, done };
    this.attempts.push(attempt);
    return () => {
      this.givenUp++;
      this.attempts.splice(this.attempts.indexOf(attempt), 1);
    };
  }

  listenStream(
    _wish: StreamListenWish,
    accept: (stream: ByteStream) => ByteStreamReceiver | undefined,
  ): ByteStreamListener {
    this.#accept = accept;
    return {
      localAddress: TransportAddress.parse("192.0.2.1:3478"),
      acceptErrors: 0,
      setTls() {},
      close: () => void (this.#accept = undefined),
    };
  }

  openDatagram(): never {
    throw new OpenError("other", "no UDP here");
  }
  interfaces(): [] {
    return [];
  }
  resolve(): Promise<[]> {
    return Promise.resolve([]);
  }
}

/** Lets everything that waits for nothing but its turn happen. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}
