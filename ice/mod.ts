/**
 * ICE (RFC 8445, RFC 8838, RFC 7675): finds the best path between two programs that may both be behind NATs.
 *
 * `connectIce()` does it all over a signaling channel of yours; `openIce()` leaves the signaling to your hands;
 * `IceTransport` has the shape of W3C's RTCIceTransport; `IceAgent` is the agent itself, a machine without sockets, clock
 * or randomness of its own.
 *
 * @example Two descriptions, exchanged by hand
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openIce } from "@natkit/natkit/ice";
 *
 * await using alice = openIce({ role: "controlling", bind: ["127.0.0.1"] });
 * await using bob = openIce({ role: "controlled", bind: ["127.0.0.1"] });
 * bob.addRemoteDescription(await alice.localDescription());
 * alice.addRemoteDescription(await bob.localDescription());
 *
 * const pair = await alice.nominated;
 * assertEquals([pair.local.type, pair.remote.type], ["host", "host"]);
 * ```
 *
 * @module
 */
export type { AddressRule } from "./address_rules.ts";
export * from "./agent.ts";
export type { IceAgentOptions, IceStreamOptions, UserAgentOptions } from "./agent_options.ts";
export type { PortMappingOptions, UpnpClient, UpnpGateway } from "./port_mapping_options.ts";
export { IceMux, type IceMuxOptions, openIceMux } from "./mux.ts";
export type { StreamMuxCounters } from "./mux_streams.ts";
export type { Membership, MuxCounters, SharedPorts } from "./mux_table.ts";
export * from "./attributes.ts";
export {
  type Candidate,
  candidatePriority,
  type CandidateType,
  type HostPort,
  type LocalCandidate,
  RemoteCandidate,
  TCP_TYPE_PREFERENCE,
  TYPE_PREFERENCE,
} from "./candidate.ts";
export type { ChecklistState } from "./checklist.ts";
export { IceComponentConnection, IceStreamConnection } from "./component_connection.ts";
export * from "./connect.ts";
export * from "./connection.ts";
export { type ConnectivityOptions, type IceCounters } from "./connectivity_options.ts";
export * from "./error.ts";
export * from "./events.ts";
export * from "./gather_options.ts";
export { hostAddresses } from "./host_addresses.ts";
export type { ComponentOf, NewRelay } from "./local_candidates.ts";
export * from "./pair.ts";
export { type PathChooser, pathCost, type PathPolicy } from "./path_policy.ts";
export type { PathQuality } from "./path_quality.ts";
export type { AddressMapping, Presentation } from "./presentation.ts";
export * from "./sdp.ts";
export type { IceCandidatePairStats, IceCandidateStats, IceStats } from "./stats.ts";
export type { IceComponent } from "./streams.ts";
export type { CandidateKind, TcpType } from "./tcp.ts";
export type { NewTcpHost } from "./tcp_connections.ts";
export * from "./transport.ts";
export * from "./transport_events.ts";
export type {
  IceTransportCandidateStats,
  IceTransportPairStats,
  IceTransportStats,
  IceTransportStatsEntry,
  IceTransportSummary,
} from "./transport_stats.ts";
