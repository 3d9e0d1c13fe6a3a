import type { TransportAddress } from "../stun/address.ts";
import type { MachineIo } from "../stun/machine.ts";
import type { MessageWriter, StunMessage } from "../stun/message.ts";
import type { LongTermUser } from "../stun/users.ts";
import type { AllocationTable } from "./_allocation_table.ts";
import type { AllocateRequest, Allocation, Listener } from "./allocation.ts";
import type { PeerPolicy } from "./peer_policy.ts";
import type { LimitName } from "./server_counters.ts";
import type { TurnServerEvent } from "./server_events.ts";
import type { AlternateServers, TurnServerLimits } from "./server_options.ts";

type Io = MachineIo<TurnServerEvent>;

/** What requests are about. */
export interface RequestScope {
  /** Allocations and reservations. */
  readonly table: AllocationTable;
  /** Which peers are good. */
  readonly policy: PeerPolicy;
  /** The comprehension-required attributes that are known. */
  readonly known: ReadonlySet<number>;
  /** How much anybody may have. */
  readonly limits: TurnServerLimits;
  /** The longest lifetime of an allocation, in seconds. */
  readonly maxLifetime: number;
  /** Whether RFC 5766's clients get its channel numbers. */
  readonly legacyChannels: boolean;
  /** Whether there are TCP allocations. */
  readonly tcpRelay: boolean;
  /** A client's connection is one to a peer from now on. */
  readonly giveUp: (listener: Listener) => void;
  /** Where clients are sent that are not taken here. */
  readonly alternates: AlternateServers | undefined;
  /** Whether no new allocations are made any more. */
  isDraining: boolean;
}

/** A request that has been authenticated and whose attributes are all known. */
export interface TurnRequest {
  /** The message. */
  readonly message: StunMessage;
  /** Where it arrived. */
  readonly listener: Listener;
  /** Who sent it. */
  readonly client: TransportAddress;
  /** Whose it is. */
  readonly user: LongTermUser;
  /** What the answer to an Allocate needs. */
  readonly origin: AllocateRequest;
  /** The allocation of its 5-tuple, live or being opened. Nothing is left in it that has ended. */
  readonly allocation: Allocation | undefined;
}

/** What a request is answered with. */
export interface Answer {
  /** The error code; 0 for success. */
  readonly code: number;
  /** With 420: the types that are not known. */
  readonly unknown?: readonly number[];
  /** Adds the answer's own attributes. */
  readonly write?: (writer: MessageWriter) => void;
  /** The limit that is the reason for a refusal. */
  readonly limit?: LimitName;
  /** What follows when it has been sent. */
  readonly after?: (io: Io) => void;
}

/** `"later"`: the answer follows when the sockets are bound, or the peer has taken the connection. `"never"`: it is on its way already. */
export type Outcome = Answer | "later" | "never";

/** Whether a message has an attribute that cannot be read. */
export function isMalformed(message: StunMessage, attribute: Parameters<StunMessage["has"]>[0]): boolean {
  return message.has(attribute) && message.get(attribute) === undefined;
}

/** The answer with an error code. */
export function refuse(code: number, limit?: LimitName): Answer {
  return limit === undefined ? { code } : { code, limit };
}
