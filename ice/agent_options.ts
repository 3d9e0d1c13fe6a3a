import type { ConnectivityOptions } from "./connectivity_options.ts";
import type { PathPolicy } from "./path_policy.ts";
import { MAX_PREDICTED } from "./prediction.ts";
import type { Presentation } from "./presentation.ts";

/** The pacing that RFC 8445 §14.2 recommends, in ms. */
export const DEFAULT_TA = 50;
/** How many pairs are kept warm, unless it is said. */
export const DEFAULT_STANDBY = 2;

/** One data stream, as an `m=` line of SDP stands for. */
export interface IceStreamOptions {
  /** How many components it has, 1 to 256: two for RTP with RTCP on a port of its own. Default: 1. */
  readonly components?: number;
  /** How the stream is called, as in `a=mid`. Default: its number, from 0. */
  readonly mid?: string;
}

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
  /**
   * How many public ports to guess for each socket behind a NAT with a mapping for each destination (a symmetric NAT), 0 to
   * 16: where two STUN servers or more have seen ports that follow each other, the next ones are told as candidates,
   * and the peer checks them. That connects some symmetric NATs without a relay, and costs the peer a check for each.
   * Default: 0.
   */
  readonly predictPorts?: number;
  /** The data streams (RFC 8445 §2.4), 1 to 64. Default: one, with one component. */
  readonly streams?: readonly IceStreamOptions[];
}

/** Those among an agent's options that a shell takes from its user as they are. */
export type UserAgentOptions = Partial<
  Pick<
    IceAgentOptions,
    | "ta"
    | "maxPairs"
    | "ufrag"
    | "pwd"
    | "lite"
    | "pathPolicy"
    | "standby"
    | "candidateFilter"
    | "streams"
    | "predictPorts"
  >
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
  "streams",
  "predictPorts",
];

/** Those of them that are given. */
export function userAgentOptions(options: UserAgentOptions): UserAgentOptions {
  return Object.fromEntries(NAMES.filter((name) => options[name] !== undefined).map((name) => [name, options[name]]));
}

/** @throws {RangeError} If an option is not as it must be. */
export function assertAgentOptions(options: IceAgentOptions): void {
  const { ta = DEFAULT_TA, standby = DEFAULT_STANDBY, streams = [{}] } = options;
  if (!(ta >= 5)) {
    // RFC 8445 §14.2: nothing is sent more often than every 5 ms.
    throw new RangeError(`Cannot use ta as it must be at least 5 ms: current value is ${ta}`);
  }
  if (!(Number.isInteger(standby) && standby >= 0 && standby <= 8)) {
    throw new RangeError(`Cannot keep standby pairs as their number must be in 0 to 8: current value is ${standby}`);
  }
  const { predictPorts = 0 } = options;
  if (!(Number.isInteger(predictPorts) && predictPorts >= 0 && predictPorts <= MAX_PREDICTED)) {
    throw new RangeError(
      `Cannot predict ports as their number must be in 0 to ${MAX_PREDICTED}: current value is ${predictPorts}`,
    );
  }
  if (streams.length < 1 || streams.length > 64) {
    throw new RangeError(`Cannot use streams as there must be 1 to 64: current number is ${streams.length}`);
  }
  for (const { components = 1 } of streams) {
    if (Number.isInteger(components) && components >= 1 && components <= 256) continue;
    throw new RangeError(`Cannot use a stream as it must have 1 to 256 components: current value is ${components}`);
  }
  const mids = midsOf(options);
  if (new Set(mids).size < mids.length) {
    throw new RangeError(`Cannot use streams as no two may have the same mid: current values are ${mids.join(", ")}`);
  }
}

/** What the streams are called. */
export function midsOf({ streams = [{}] }: Pick<IceAgentOptions, "streams">): string[] {
  return streams.map(({ mid }, i) => mid ?? String(i));
}
