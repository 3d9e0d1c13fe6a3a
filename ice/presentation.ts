import { TransportAddress } from "../stun/address.ts";
import type { LocalCandidate } from "./candidate.ts";

/** By what others know an address of ours. */
export interface AddressMapping {
  /** The IP addresses, at least one, of the same IP version. Their ports do not matter. */
  readonly to: readonly TransportAddress[];
  /** What kind of candidate they make. */
  readonly as: "host" | "srflx";
  /** See `AddressRule`. */
  readonly mode: "replace" | "append";
}

/** How our candidates are shown to the peer. */
export interface Presentation {
  /**
   * Whether the peer is told of a candidate. What it is not told is used all the same: its socket sends checks, and is where
   * reflexive candidates come from; but its address is in nothing that is signalled. Must not throw. Default: all are told.
   */
  readonly candidateFilter?: (candidate: LocalCandidate) => boolean;
  /** By what others know a local address; `undefined`: by itself. Default: all by themselves. */
  readonly mapAddress?: (address: TransportAddress) => AddressMapping | undefined;
}

/** Whether the peer is not to learn the address of a candidate's base. */
export function concealsBase({ name, isHidden, address, base }: LocalCandidate): boolean {
  return name !== undefined || isHidden === true || address.ipKey !== base.ipKey;
}

/** What stands for an address that is not told (RFC 8839 §5.1). */
export function concealed({ family }: TransportAddress): TransportAddress {
  return TransportAddress.of(family === 4 ? "0.0.0.0" : "::", 9);
}
