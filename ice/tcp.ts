import type { CandidateType } from "./candidate.ts";

/**
 * How a TCP candidate comes by its connections (RFC 6544 §3): it makes them, it waits for them, or both sides make the same
 * one at the same time (simultaneous open).
 */
export type TcpType = "active" | "passive" | "so";

/** The port that an active candidate names: its connections leave from ports that nobody knows before (RFC 6544 §4.1). */
export const ACTIVE_PORT = 9;

/** What a candidate is, as far as it decides with which ones of the peer's it makes pairs. */
export type CandidateKind = "udp" | TcpType;

/** By direction, when nothing has shown what is in between, and when a server or the peer has seen us (RFC 6544 §4.2). */
const DIRECTION = {
  direct: { active: 6, passive: 4, so: 2 },
  reflexive: { so: 6, active: 4, passive: 2 },
} as const satisfies Record<string, Record<TcpType, number>>;

/** The highest preference of an address among those of its type and direction. */
export const HIGHEST_OTHER = 8191;

/**
 * The local preference of a TCP candidate (RFC 6544 §4.2).
 *
 * @param type How it was found.
 * @param tcpType Its direction.
 * @param other How good its address is among ours: 0 to 8191, the higher the better.
 */
export function tcpLocalPreference(type: CandidateType, tcpType: TcpType, other: number): number {
  const isReflexive = type === "srflx" || type === "prflx";
  return (HIGHEST_OTHER + 1) * DIRECTION[isReflexive ? "reflexive" : "direct"][tcpType] + other;
}

/** How good the address is that a local preference was made for. */
export function otherPreference(localPreference: number): number {
  return localPreference & HIGHEST_OTHER;
}

/** The TCP type by its name in a candidate line; `undefined` if there is none of that name. */
export function tcpTypeNamed(name: string): TcpType | undefined {
  const lower = name.toLowerCase();
  return lower === "active" || lower === "passive" || lower === "so" ? lower : undefined;
}

/** The kind of a candidate; `undefined` if it is of no use here. */
export function kindOf(
  { protocol, tcpType }: { readonly protocol: string; readonly tcpType?: TcpType },
): CandidateKind | undefined {
  return protocol === "udp" ? "udp" : protocol === "tcp" ? tcpType : undefined;
}

/** What the other end of a connection is, or of UDP: who waits is met by who connects (RFC 6544 §6.2). */
export function counterpart(kind: CandidateKind): CandidateKind {
  return kind === "active" ? "passive" : kind === "passive" ? "active" : kind;
}
