import type { ConnectivityOptions } from "./connectivity_options.ts";

/** The pacing that RFC 8445 §14.2 recommends, in ms. */
export const DEFAULT_TA = 50;

/** What makes an agent. */
export interface IceAgentOptions extends ConnectivityOptions {
  /** The pacing in ms, at least 5. Default: 50; another is told to the peer, and the larger of both is used. */
  readonly ta?: number;
}

/**
 * The pacing that we propose, in ms.
 *
 * @throws {RangeError} If it is below 5 ms.
 */
export function ownTa({ ta = DEFAULT_TA }: IceAgentOptions): number {
  // RFC 8445 §14.2: nothing is sent more often than every 5 ms.
  if (ta >= 5) return ta;
  throw new RangeError(`Cannot use ta as it must be at least 5 ms: current value is ${ta}`);
}
