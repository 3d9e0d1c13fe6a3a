import type { SharedPorts } from "./mux_table.ts";
import type { Host } from "../stun/net/transport.ts";
import { addressMapper } from "./address_rules.ts";
import { type IceAgentOptions, type UserAgentOptions, userAgentOptions } from "./agent_options.ts";
import type { IceComponentConnection } from "./component_connection.ts";
import type { IceEvent } from "./events.ts";
import type { GatherOptions } from "./gather_options.ts";
import type { IceRole } from "./pair.ts";

/** How `openIce()` makes a connection. */
export interface OpenIceOptions extends GatherOptions, UserAgentOptions {
  /**
   * Who nominates: one side `"controlling"`, the other `"controlled"`; or both `"auto"`, so that their username fragments
   * decide. A conflict is repaired, which takes a round trip. Default: `"controlling"`.
   */
  readonly role?: IceRole | "auto";
  /** Called for each event: candidates, checks, states, servers that gave nothing. Must not throw. */
  readonly onEvent?: (event: IceEvent) => void;
  /**
   * Called for each datagram, in place of iterating: without a copy, so `bytes` are good during the call only. Must not
   * throw.
   */
  readonly onDatagram?: (bytes: Uint8Array, component: IceComponentConnection) => void;
  /**
   * UDP ports that connections share, from `openIceMux()`: the addresses and the computer of it take the place of `bind`
   * and `host`. Default: ports of its own.
   */
  readonly mux?: SharedPorts;
  /** The computer to work from. Default: `denoHost()`. */
  readonly host?: Host;
  /** Closes the connection; what waits is rejected with its reason. */
  readonly signal?: AbortSignal;
  /**
   * Whether to look once a second whether network interfaces, or their addresses, have come or gone, and whether the
   * computer has slept. What is gone is not used any more, what is new makes candidates. Default: yes, unless `bind` names
   * the addresses. `networkChanged()` looks at once.
   */
  readonly watchNetwork?: boolean;
  /**
   * Whether to restart ICE by itself (RFC 8445 §9): when there is a new local address, when the pair in use is gone with its
   * address, does not answer any more, or has lost the peer's consent. A connection that was there is then given up only if
   * there is no path for `recoverWithin`. Needs signaling that goes on. Default: yes with `connectIce()`; with `openIce()` there is no
   * signaling, and `restart()` is yours to call.
   */
  readonly autoRestart?: boolean;
  /** How many ms a connection that was there may be without a path, with `autoRestart`. Default: 60,000. */
  readonly recoverWithin?: number;
}

/** How texts get to the other side, and from there: in order, each once. */
export interface IceSignaling {
  /** Takes a text to the other side. */
  send(text: string): void | Promise<void>;
  /** The texts from the other side. Its end means that no more candidates come. */
  readonly receive: AsyncIterable<string>;
}

/** WebTransport-like streams of datagrams. */
export interface IceDatagrams {
  /** What the peer sends, in competition with iterating. */
  readonly readable: ReadableStream<Uint8Array>;
  /** What is sent to the peer. A write waits until data can flow for the first time, and is lost if it can not later. */
  readonly writable: WritableStream<Uint8Array>;
}

/**
 * What the agent of a connection is made of.
 *
 * @throws {SyntaxError} If an address in `addressRules` is none.
 */
export function agentOptionsOf(options: OpenIceOptions, host: Host): IceAgentOptions {
  const { role = "controlling", addressRules } = options;
  return {
    role,
    random: host.random,
    ...userAgentOptions(options),
    ...(addressRules === undefined ? {} : { mapAddress: addressMapper(addressRules, () => host.interfaces()) }),
    // Through relays alone no named address may be reached.
    resolvesNames: options.mdns !== "off" && options.policy !== "relay",
  };
}
