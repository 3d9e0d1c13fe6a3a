// What the workers of one server and the thread that runs them tell each other: data only, since it is copied.
import { TransportAddress } from "../stun/address.ts";
import type { ServerTransport } from "../stun/locate.ts";
import type { OpenFailure } from "../stun/machine.ts";
import type { IoChoice, SocketSetup } from "../stun/net/linux_host.ts";
import type { StreamStats } from "../stun/net/streams.ts";
import type { TlsServerOptions } from "../stun/net/transport.ts";
import type { UserCredential } from "../stun/users.ts";
import type { ServeTurnOptions } from "./serve.ts";
import type { TurnServerStats } from "./server_counters.ts";
import type { AllocationEnd, AllocationEvent, AllocationReport } from "./server_events.ts";

/** Options of `serveTurn()` that can be copied. */
export type PlainOptions =
  & Omit<
    ServeTurnOptions,
    "users" | "lookUpUser" | "lookUpUserHash" | "onEvent" | "host" | "signal" | "alternates" | "common" | "tokens"
  >
  & {
    readonly users: readonly (readonly [string, UserCredential])[];
    readonly tokens?: { readonly serverName: string; readonly keys: TokenKeys };
    readonly alternates?: { readonly addresses: readonly string[]; readonly domain?: string };
  };

/** Keys of access tokens, by their `kid`. */
export type TokenKeys = readonly (readonly [kid: string, key: Uint8Array])[];

/** What a worker begins with. */
export interface WorkerStart {
  readonly t: "start";
  readonly options: PlainOptions;
  readonly io: IoChoice;
  readonly setup: SocketSetup;
  /** Whether users that are not found are to be asked for. */
  readonly asksForUsers: boolean;
  /** Whether anybody wants to hear of allocations. */
  readonly reports: boolean;
  readonly memory: SharedArrayBuffer;
  readonly secret: Uint8Array;
  /** When the clock that is common to all began, in ms since 1970. */
  readonly epoch: number;
}

/** To a worker. */
export type WorkerOrder =
  | WorkerStart
  | { readonly t: "drain" | "shutdown" }
  /** Is answered by `synced` when all orders before it are carried out. */
  | { readonly t: "sync" }
  | { readonly t: "tls"; readonly tls: TlsServerOptions }
  | { readonly t: "users"; readonly users: PlainOptions["users"] }
  | { readonly t: "secrets"; readonly secrets: readonly string[] }
  | { readonly t: "tokenKeys"; readonly keys: TokenKeys }
  | { readonly t: "found"; readonly id: number; readonly credential: UserCredential | undefined }
  | { readonly t: "notFound"; readonly id: number; readonly why: string };

/** What a worker has done so far. */
export interface WorkerStats {
  readonly turn: TurnServerStats;
  readonly streams: StreamStats;
}

/** An error as data. */
export interface PlainError {
  readonly name: string;
  readonly message: string;
  readonly failure?: OpenFailure;
}

/** From a worker. */
export type WorkerReport =
  | {
    readonly t: "listening";
    readonly addresses: readonly string[];
    readonly transports: readonly (readonly ServerTransport[])[];
    readonly reason: string;
  }
  | { readonly t: "failed"; readonly error: PlainError }
  | { readonly t: "event"; readonly event: PlainEvent }
  | { readonly t: "wanted"; readonly id: number; readonly username: string; readonly client: string }
  | { readonly t: "drained" | "synced" }
  | { readonly t: "stats" | "finished"; readonly stats: WorkerStats };

type PlainReport = Omit<AllocationReport, "client" | "server" | "relayedAddresses"> & {
  readonly client: string;
  readonly server: string;
  readonly relayedAddresses: readonly string[];
};

/** An event as data. */
export interface PlainEvent {
  readonly type: AllocationEvent["type"];
  readonly allocation: PlainReport;
  readonly why?: AllocationEnd;
  readonly from?: string;
}

/** An event as data, addresses as text. */
export function toPlain(event: AllocationEvent): PlainEvent {
  const { client, server, relayedAddresses, ...rest } = event.allocation;
  const allocation = {
    ...rest,
    client: String(client),
    server: String(server),
    relayedAddresses: relayedAddresses.map(String),
  };
  return event.type === "moved" ? { ...event, allocation, from: String(event.from) } : { ...event, allocation };
}

/** The event that was made data. */
export function fromPlain(event: PlainEvent): AllocationEvent {
  const { client, server, relayedAddresses, ...rest } = event.allocation;
  const allocation = {
    ...rest,
    client: TransportAddress.parse(client),
    server: TransportAddress.parse(server),
    relayedAddresses: relayedAddresses.map((text) => TransportAddress.parse(text)),
  };
  const { from } = event;
  const addresses = from === undefined ? { allocation } : { allocation, from: TransportAddress.parse(from) };
  return { ...event, ...addresses } as AllocationEvent;
}

/** What several workers did, as one: numbers are added up, names with numbers name by name. */
export function addUp<T extends object>(all: readonly T[]): T {
  const sum: Record<string, unknown> = {};
  for (const one of all) {
    for (const [name, value] of Object.entries(one)) {
      const before = sum[name];
      if (typeof value === "number") sum[name] = (typeof before === "number" ? before : 0) + value;
      else sum[name] = addUp([(before ?? {}) as object, value as object]);
    }
  }
  return sum as T;
}
