import type { TransportAddress } from "../stun/address.ts";
import type { ChecklistState } from "./checklist.ts";
import type { LocalCandidate } from "./candidate.ts";
import type { CandidatePair, IceRole, PairState } from "./pair.ts";
import type { IceParameters } from "./sdp.ts";

/**
 * The state of an agent:
 *
 * - `"new"`: the peer's credentials are not known.
 * - `"checking"`: no pair works yet.
 * - `"connected"`: a pair works and data may flow; none is nominated yet, or none anew after a restart.
 * - `"completed"`: a pair is nominated.
 * - `"disconnected"`: the pair in use has stopped answering. It may come back.
 * - `"failed"`: no pair works, or consent is over (RFC 7675). Only new candidates or a restart can help.
 * - `"closed"`: by our own `close()`.
 */
export type IceState = "new" | "checking" | "connected" | "completed" | "disconnected" | "failed" | "closed";

/** Why a server gave no candidate. */
export interface GatheringError {
  /** Says so in an event. */
  readonly type: "gathering-error";
  /** What the user called the server, or its address. */
  readonly url: string;
  /** The server's address, if it got that far. */
  readonly server?: TransportAddress;
  /** The server's error code, 300 to 699; missing if it did not answer. */
  readonly code?: number;
  /** What went wrong, for people. */
  readonly text: string;
}

/** What an agent reports. */
export type IceEvent =
  /** A candidate to tell the peer. */
  | { readonly type: "local-candidate"; readonly candidate: LocalCandidate }
  /**
   * A candidate of the peer's has this name, in lower case, in place of an address: `handleLookup()` takes what came of
   * looking it up by multicast DNS.
   */
  | { readonly type: "lookup"; readonly name: string }
  /** No more candidates follow: tell the peer so. */
  | { readonly type: "gathering-done" }
  /** A server gave no candidate; the others are not affected. */
  | GatheringError
  /**
   * IP addresses of this computer have come or gone (`networkChanged()`). What is gone is not used any more; what has come
   * makes candidates, at once while gathering is under way, else with the next restart.
   */
  | { readonly type: "network-change"; readonly gained: readonly string[]; readonly lost: readonly string[] }
  /**
   * ICE has been restarted, by `restart()` or by the peer (RFC 8445 §9): tell the peer these parameters, and the
   * candidates that follow.
   */
  | { readonly type: "restart"; readonly parameters: IceParameters }
  /** A pair is new, or its state has changed to `state`. */
  | { readonly type: "pair"; readonly pair: CandidatePair; readonly state: PairState }
  /**
   * Data goes along another pair from now on; `undefined` when there is none any more. `stream`, from 0, and `component`,
   * from 1, say which data.
   */
  | {
    readonly type: "selected-pair";
    readonly pair: CandidatePair | undefined;
    readonly stream: number;
    readonly component: number;
  }
  /** A pair is nominated, for its `stream` and `component`. */
  | { readonly type: "nominated"; readonly pair: CandidatePair }
  /** The state of the checklist of a data stream has changed (RFC 8445 §6.1.2.1). Only with several components. */
  | { readonly type: "stream-state"; readonly stream: number; readonly state: ChecklistState }
  /** The state has changed; `reason` says why, when it is not good. */
  | { readonly type: "state"; readonly state: IceState; readonly reason?: string }
  /** The role has changed, after a conflict (RFC 8445 §7.3.1.1), or was decided, with `role: "auto"`. */
  | { readonly type: "role"; readonly role: IceRole };
