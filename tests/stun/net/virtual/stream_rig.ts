import { TransportAddress } from "../../../../stun/address.ts";
import type { ByteStreamWish } from "../../../../stun/machine.ts";
import {
  type ByteStream,
  type ByteStreamListener,
  type ByteStreamReceiver,
  type Host,
  OpenError,
  type StreamListenWish,
} from "../../../../stun/net/transport.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** One end of a connection that keeps what it was told. */
export class End implements ByteStreamReceiver {
  /** What happened, with times: `"30 open"`, `"50 hello"`, `"90 sent"`, `"90 end"`. */
  readonly log: string[] = [];
  /** All that arrived. */
  readonly bytes: number[] = [];
  /** When the last of it arrived. */
  lastAt = 0;
  sentAt = -1;
  stream: ByteStream | undefined;
  error: OpenError | undefined;
  #host: Host;
  #isQuiet: boolean;

  constructor(host: Host, { isQuiet = false } = {}) {
    this.#host = host;
    this.#isQuiet = isQuiet;
  }

  /** Says something. */
  say(text: string): void {
    this.stream!.send(encoder.encode(text));
  }

  take(result: ByteStream | OpenError, isReading = true): this | undefined {
    if (result instanceof OpenError) {
      this.error = result;
      this.#note(result.failure);
      return undefined;
    }
    this.stream = result;
    this.#note("open");
    if (isReading) result.resume();
    return this;
  }

  onData(bytes: Uint8Array, offset: number, length: number): void {
    const part = bytes.subarray(offset, offset + length);
    this.lastAt = this.#host.now();
    if (this.#isQuiet) { for (const byte of part) this.bytes.push(byte); }
    else this.#note(decoder.decode(part));
  }

  onSent(): void {
    this.sentAt = this.#host.now();
    if (!this.#isQuiet) this.#note("sent");
  }

  onEnd(reason: "end" | "reset"): void {
    this.#note(reason);
  }

  #note(what: string): void {
    this.log.push(`${this.#host.now()} ${what}`);
  }
}

/** Connects; gives up by `cancel`. */
export function dial(
  host: Host,
  remote: string,
  { isReading = true, isQuiet = false, ...wish }: Partial<ByteStreamWish> & { isReading?: boolean; isQuiet?: boolean } =
    {},
): End & { cancel: () => void } {
  const end = new End(host, { isQuiet });
  const full = { transport: "tcp", remote: TransportAddress.parse(remote), ...wish } as const;
  const cancel = host.connectStream!(full, (result) => end.take(result, isReading));
  return Object.assign(end, { cancel });
}

/** Listens, and keeps what was accepted. */
export function answer(
  host: Host,
  local: string,
  { isReading = true, isQuiet = false, ...wish }: Partial<StreamListenWish> & {
    isReading?: boolean;
    isQuiet?: boolean;
  } = {},
): { listener: ByteStreamListener; ends: End[] } {
  const ends: End[] = [];
  const { address, port } = TransportAddress.parse(local);
  const listener = host.listenStream!({ transport: "tcp", address, port, ...wish }, (stream) => {
    const end = new End(host, { isQuiet });
    ends.push(end);
    return end.take(stream, isReading);
  });
  return { listener, ends };
}
