import type { TransportAddress } from "../stun/address.ts";

/**
 * Why an allocation ended: its time was over, its client said so, its client's connection is gone, or its sockets could
 * not be bound.
 */
export type AllocationEnd = "expired" | "deleted" | "disconnected" | "failed";

/** An allocation, for people. */
export interface AllocationReport {
  /** The client. */
  readonly client: TransportAddress;
  /** The server's address that the client talks to. */
  readonly server: TransportAddress;
  /** Whose it is. */
  readonly username: string;
  /** Its relayed transport addresses: one, or one of each family. */
  readonly relayedAddresses: readonly TransportAddress[];
  /** Datagrams relayed to peers so far. */
  readonly packetsToPeers: number;
  /** Bytes of data relayed to peers so far. */
  readonly bytesToPeers: number;
  /** Datagrams relayed to the client so far. */
  readonly packetsToClient: number;
  /** Bytes of data relayed to the client so far. */
  readonly bytesToClient: number;
}

/** Allocations that come and go. */
export type AllocationEvent =
  | {
    /** An allocation was made. */
    readonly type: "allocated";
    /** Which. */
    readonly allocation: AllocationReport;
  }
  | {
    /** An allocation ended that had been made. */
    readonly type: "ended";
    /** Which. */
    readonly allocation: AllocationReport;
    /** Why. */
    readonly why: AllocationEnd;
  }
  | {
    /** An allocation went along with its client to another 5-tuple (RFC 8016). */
    readonly type: "moved";
    /** Which, and where it is now. */
    readonly allocation: AllocationReport;
    /** Where its client was. */
    readonly from: TransportAddress;
  };

/** What a TURN server reports. */
export type TurnServerEvent =
  | AllocationEvent
  | {
    /** After `drain()`: no allocation and no reserved port is left. */
    readonly type: "drained";
  }
  | {
    /** The directory said `"later"`: who is this? The answer is `handleCredential()` or `handleCredentialFailed()`. */
    readonly type: "userWanted";
    /** The name in the request. Comes from strangers, who get what is sent to their address. */
    readonly username: string;
    /** Who asked first. */
    readonly client: TransportAddress;
  };
