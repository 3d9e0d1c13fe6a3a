// Shell of probeTurn(): relays, and what goes through them.
import { StunTimeoutError } from "../stun/error.ts";
import { abortable } from "../stun/net/server_address.ts";
import type { Host } from "../stun/net/transport.ts";
import { randomUint32 } from "../stun/random.ts";
import { SizeSearch } from "./probe_size.ts";
import { PROBE_HEADER, ProbeTraffic } from "./probe_traffic.ts";
import type { Relay, RelayDatagram } from "./allocate.ts";
import type { TrafficReport } from "./probe_report.ts";

/** What ChannelData can carry over UDP: 65,507 bytes less its header. */
const MAX_CHANNEL_DATA = 65_503;
/** The ms between two datagrams of different sizes. */
const SIZE_PAUSE = 5;
/** Datagrams that tell whether anything comes through at all, and how many a second. */
const KNOCKS = { count: 3, size: PROBE_HEADER, rate: 20 } as const;

/** A stream of datagrams. */
export interface StreamPlan {
  /** How many. */
  readonly count: number;
  /** Bytes of each. */
  readonly size: number;
  /** How many a second. */
  readonly rate: number;
}

/** What all steps need. */
export interface ProbeScope {
  readonly host: Host;
  readonly signal: AbortSignal | undefined;
  /** For how many ms a server is waited for. */
  readonly timeout: number;
  readonly plan: StreamPlan;
}

/** Waits for `ms`, less if `until` settles first. */
export function pause({ host, signal }: ProbeScope, ms: number, until?: Promise<void>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = host.createTimer(resolve);
  timer.set(host.now() + ms);
  until?.then(resolve);
  return abortable(promise, signal).finally(() => timer.set(Infinity));
}

/** Does something that a server takes part in, for as long as it is waited for. */
export async function patiently<T>(scope: ProbeScope, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const { host, signal, timeout } = scope;
  const patience = new AbortController();
  const timer = host.createTimer(() => patience.abort(new StunTimeoutError(`No answer within ${timeout} ms`)));
  timer.set(host.now() + timeout);
  try {
    return await work(signal === undefined ? patience.signal : AbortSignal.any([patience.signal, signal]));
  } finally {
    timer.set(Infinity);
  }
}

/** A relay, and who gets what comes through it at the moment. */
export class Tap implements AsyncDisposable {
  readonly relay: Relay;
  onData: (datagram: RelayDatagram) => void = () => {};
  #reading: Promise<void>;

  constructor(relay: Relay) {
    this.relay = relay;
    this.#reading = this.#read();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.relay.close();
    await this.#reading;
  }

  async #read(): Promise<void> {
    try {
      for await (const datagram of this.relay) this.onData(datagram);
    } catch {
      // The allocation is lost: whoever uses it next is told.
    }
  }
}

/** Two relays of one server, or one that stands for both. */
export interface RelayPair {
  readonly from: Tap;
  readonly to: Tap;
}

/** How long to wait for what may still be under way, by a round trip in ms. */
export function grace(roundTrip: number): number {
  return Math.min(1500, Math.max(200, 4 * roundTrip));
}

/** Whether any of a few datagrams comes through. */
export async function knock(scope: ProbeScope, pair: RelayPair, wait: number): Promise<boolean> {
  return (await stream(scope, pair, { wait, plan: KNOCKS })).received > 0;
}

/** What becomes of a stream of datagrams, of which the last is waited for for `wait` ms. */
export async function stream(
  scope: ProbeScope,
  { from, to }: RelayPair,
  { wait, plan }: { wait: number; plan: StreamPlan },
): Promise<TrafficReport> {
  const { host } = scope;
  const { count, size, rate } = plan;
  const traffic = new ProbeTraffic(randomUint32(host.random), size);
  const { promise: complete, resolve } = Promise.withResolvers<void>();
  to.onData = ({ data }) => {
    traffic.handle(data, host.now());
    if (traffic.received === count) resolve();
  };
  const start = host.now();
  while (traffic.sent < count) {
    const due = Math.min(count, Math.floor((host.now() - start) * rate / 1000) + 1);
    while (traffic.sent < due) from.relay.send(to.relay.relayedAddress, traffic.next(host.now()));
    if (traffic.sent < count) await pause(scope, start + traffic.sent * 1000 / rate - host.now());
  }
  await pause(scope, wait, complete);
  return traffic.report();
}

/** The largest datagram that comes through, in bytes; 0 if none does. Each size is sent `copies` times. */
export async function findLargest(
  scope: ProbeScope,
  pair: RelayPair,
  { wait, copies }: { wait: number; copies: number },
): Promise<number> {
  const search = new SizeSearch(MAX_CHANNEL_DATA);
  for (let sizes = search.next; sizes.length > 0; sizes = search.next) {
    const passed = await passing(scope, pair, { sizes, wait, copies });
    search.handle(passed);
    // One that was too large may have stalled the connection.
    if (passed.size === 0 && !await knock(scope, pair, wait)) break;
  }
  return search.largest;
}

/** Those of some sizes that come through. */
async function passing(
  scope: ProbeScope,
  { from, to }: RelayPair,
  { sizes, wait, copies }: { sizes: readonly number[]; wait: number; copies: number },
): Promise<Set<number>> {
  const { host } = scope;
  const streams = sizes.map((size) => new ProbeTraffic(randomUint32(host.random), Math.max(size, PROBE_HEADER)));
  const passed = new Set<number>();
  const { promise: complete, resolve } = Promise.withResolvers<void>();
  to.onData = ({ data }) => {
    const i = streams.findIndex((traffic) => traffic.handle(data, host.now()));
    if (i !== -1 && streams[i]!.received > 0) passed.add(sizes[i]!);
    if (passed.size === sizes.length) resolve();
  };
  for (let copy = 0; copy < copies; copy++) {
    for (const [i, traffic] of streams.entries()) {
      if (passed.has(sizes[i]!)) continue;
      from.relay.send(to.relay.relayedAddress, traffic.next(host.now()));
      // Sockets hold only a few of the largest.
      await pause(scope, SIZE_PAUSE, complete);
    }
  }
  await pause(scope, wait, complete);
  return passed;
}
