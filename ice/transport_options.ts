import type { UserAgentOptions } from "./agent_options.ts";
import type { OpenIceOptions } from "./connection_options.ts";
import type { IceTurnServer } from "./gather_options.ts";
import type { IceRole } from "./pair.ts";

/** Credentials, named as in W3C's RTCIceParameters. */
export interface IceTransportParameters {
  /** 4 to 256 ice-chars. */
  readonly usernameFragment: string;
  /** 22 to 256 ice-chars. */
  readonly password: string;
  /** Whether the agent is lite. Default: no. */
  readonly iceLite?: boolean;
  /** The ICE options of its description, as `renomination`. Not one of W3C's. Default: none is known. */
  readonly iceOptions?: readonly string[];
}

/** What to gather, named as in W3C's RTCIceGatherOptions. */
export interface IceTransportGatherOptions {
  /** `"relay"` uses relayed candidates only. Default: `"all"`. */
  readonly gatherPolicy?: "all" | "relay";
  /** STUN and TURN servers. Default: none. */
  readonly iceServers?: readonly IceTurnServer[];
}

/** What W3C's RTCIceTransport has no options for. */
export interface IceTransportOptions
  extends
    Pick<OpenIceOptions, "host" | "tcp" | "mdns" | "mux" | "portMapping" | "watchNetwork" | keyof UserAgentOptions>,
    Pick<OpenIceOptions, "bind" | "interfaceFilter" | "ipVersion" | "portRange" | "addressRules"> {
  /** The role that `start()` will be given, for a transport that gathers before. Default: not known yet. */
  readonly role?: IceRole;
}

/** A candidate of the peer's, named as in W3C's RTCIceCandidateInit. What else is in there is not looked at. */
export interface IceTransportCandidateInit {
  /** The candidate's line; empty: there are no more. */
  readonly candidate?: string;
}
