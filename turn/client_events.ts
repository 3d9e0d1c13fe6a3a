import type { TransportAddress } from "../stun/address.ts";
import type { SocketId } from "../stun/machine.ts";
import type { IcmpError } from "./attributes.ts";

/**
 * Where a TURN client is: `"opening"` a socket, `"allocating"` on the server, `"allocated"` and usable, `"closing"` while
 * it gives the allocation back, `"closed"` by its owner, `"failed"` by itself.
 */
export type TurnClientState = "new" | "opening" | "allocating" | "allocated" | "closing" | "closed" | "failed";

/** Which states may follow which. */
export const TURN_CLIENT_TRANSITIONS: Readonly<Record<TurnClientState, readonly TurnClientState[]>> = {
  new: ["opening", "closed"],
  opening: ["allocating", "failed", "closed"],
  allocating: ["allocated", "opening", "closing", "failed"],
  allocated: ["closing", "failed"],
  closing: ["closed"],
  closed: [],
  failed: ["closed"],
};

/** What a `TurnClient` reports. */
export type TurnClientEvent =
  /**
   * There is an allocation: data can flow. `lifetime` in seconds; it is refreshed without anybody's doing. `relayed` is the
   * first of `relayedAddresses`, of which there is one of each IP version at most.
   */
  | {
    readonly type: "allocated";
    readonly relayed: TransportAddress;
    readonly relayedAddresses: readonly TransportAddress[];
    readonly mapped: TransportAddress;
    readonly lifetime: number;
    readonly software?: string;
  }
  /**
   * There is none, or no more: the client is of no use now. The error is a `TurnError` (the server refused or forgot the
   * allocation), `StunTimeoutError`, `StunIntegrityError`, `StunChallengeError`, `StunProtocolError` or `OpenError`.
   */
  | { readonly type: "failed"; readonly error: Error }
  /** The allocation is at another local address now, with all permissions and channels (RFC 8016). */
  | { readonly type: "migrated"; readonly local: TransportAddress }
  /** It is where it was: `migrate()` did not succeed. */
  | { readonly type: "migration-failed"; readonly error: Error }
  /** The server relays to and from the peer's IP address, whatever the port. */
  | { readonly type: "permission"; readonly peer: TransportAddress }
  /** It does not, or no more. `code` if the server said so. */
  | {
    readonly type: "permission-failed";
    readonly peer: TransportAddress;
    readonly code: number | undefined;
    readonly error: Error;
  }
  /** Data to and from this peer has a header of 4 bytes from now on. */
  | { readonly type: "channel-bound"; readonly peer: TransportAddress; readonly number: number }
  /** There is no channel, or no more; data goes by indications. `code` if the server said so. */
  | {
    readonly type: "channel-failed";
    readonly peer: TransportAddress;
    readonly code: number | undefined;
    readonly error: Error;
  }
  /**
   * There is a connection to a peer, which answers the `connect()` that gave this `call`, or from one, without a `call`:
   * its bytes are the socket's from here on, which the driver hands out by `detach()`.
   */
  | {
    readonly type: "connected";
    readonly peer: TransportAddress;
    readonly socket: SocketId;
    readonly call: number | undefined;
  }
  /** There is none: the answer to `connect()`. */
  | {
    readonly type: "connect-failed";
    readonly peer: TransportAddress;
    readonly call: number;
    readonly error: Error;
  }
  /** An ICMP message came for what was sent to the peer (RFC 8656 §11.6). */
  | { readonly type: "icmp"; readonly peer: TransportAddress; readonly icmp: IcmpError }
  /** The allocation is given back, or as good as: the answer to `close()`. */
  | { readonly type: "closed" };
