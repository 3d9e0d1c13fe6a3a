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
  /** What it relays: datagrams, or connections. */
  readonly transport: "udp" | "tcp";
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

/** A connection between a TCP allocation's client and a peer (RFC 6062), for people. */
export interface ConnectionReport {
  /** The peer. */
  readonly peer: TransportAddress;
  /** Who made it: the client by a Connect request, or the peer. */
  readonly by: "client" | "peer";
  /** Bytes relayed to the peer so far. */
  readonly bytesToPeer: number;
  /** Bytes relayed to the client so far. */
  readonly bytesToClient: number;
}

/** Allocations that come and go, and their connections. */
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
  }
  | {
    /** A client and a peer have a connection, and it was none before; or they had one. */
    readonly type: "connected" | "disconnected";
    /** Whose. */
    readonly allocation: AllocationReport;
    /** Which. */
    readonly connection: ConnectionReport;
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
  }
  | {
    /**
     * The same of a USERHASH (RFC 8489 §14.4). The answer is `handleHashedCredential()` or `handleCredentialFailed()`.
     */
    readonly type: "userHashWanted";
    /** SHA-256 of `username:realm`, 32 bytes. Comes from strangers, who get what is sent to their address. */
    readonly userHash: Uint8Array;
    /** Who asked first. */
    readonly client: TransportAddress;
  };
