/**
 * TURN (RFC 8656): a server, and a client that relays through one.
 *
 * @example A server on loopback
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { serveTurn } from "@natkit/natkit/turn";
 *
 * await using server = serveTurn({ listen: ["127.0.0.1:0"], realm: "example.org", users: { alice: "secret" } });
 * assertEquals(server.stats().allocationsTotal, 0);
 * ```
 *
 * @module
 */
export * from "./allocate.ts";
export * from "./attributes.ts";
export * from "./channel_data.ts";
export * from "./client.ts";
export * from "./client_events.ts";
export type { TurnClientStats } from "./client_stats.ts";
export * from "./error.ts";
export * from "./peer_policy.ts";
export * from "./probe.ts";
export * from "./probe_report.ts";
export * from "./relay_ports.ts";
export * from "./serve.ts";
export * from "./serve_workers.ts";
export * from "./server.ts";
export * from "./server_counters.ts";
export * from "./server_events.ts";
