import type { ConnectivityOptions } from "./connectivity_options.ts";
import type { PathPolicy } from "./path_policy.ts";
import type { Presentation } from "./presentation.ts";

/** The pacing that RFC 8445 §14.2 recommends, in ms. */
export const DEFAULT_TA = 50;
/** How many pairs are kept warm, unless it is said. */
export const DEFAULT_STANDBY = 2;

/** What makes an agent. */
export interface IceAgentOptions extends ConnectivityOptions, Presentation {
  /** The pacing in ms, at least 5. Default: 50; another is told to the peer, and the larger of both is used. */
  readonly ta?: number;
  /**
   * Which path to use when several work. Default: `"priority"`. A switch from one that works needs a peer with the ICE
   * option `renomination`, as an agent of this package.
   */
  readonly pathPolicy?: PathPolicy;
  /**
   * How many other pairs are kept warm to take over, 0 to 8: each is checked every 12 s or so, every 5 s where paths are
   * compared, by each side. Default: 2; none with `pathPolicy: "first"`, or if this agent is lite.
   */
  readonly standby?: number;
}

/** Those among an agent's options that a shell takes from its user as they are. */
export type UserAgentOptions = Partial<
  Pick<IceAgentOptions, "ta" | "maxPairs" | "ufrag" | "pwd" | "lite" | "pathPolicy" | "standby" | "candidateFilter">
>;

const NAMES: readonly (keyof UserAgentOptions)[] = [
  "ta",
  "maxPairs",
  "ufrag",
  "pwd",
  "lite",
  "pathPolicy",
  "standby",
  "candidateFilter",
];

/** Those of them that are given. */
export function userAgentOptions(options: UserAgentOptions): UserAgentOptions {
  return Object.fromEntries(NAMES.filter((name) => options[name] !== undefined).map((name) => [name, options[name]]));
}

/** @throws {RangeError} If an option is not as it must be. */
export function assertAgentOptions({ ta = DEFAULT_TA, standby = DEFAULT_STANDBY }: IceAgentOptions): void {
  if (!(ta >= 5)) {
    // RFC 8445 §14.2: nothing is sent more often than every 5 ms.
    throw new RangeError(`Cannot use ta as it must be at least 5 ms: current value is ${ta}`);
  }
  if (!(Number.isInteger(standby) && standby >= 0 && standby <= 8)) {
    throw new RangeError(`Cannot keep standby pairs as their number must be in 0 to 8: current value is ${standby}`);
  }
}
