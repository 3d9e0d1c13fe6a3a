/**
 * natkit: NAT traversal with STUN, TURN and ICE.
 *
 * @example A TURN server, and two peers that connect through it
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openIce, serveTurn } from "@natkit/natkit";
 *
 * await using server = serveTurn({
 *   listen: ["127.0.0.1:0"],
 *   realm: "example.org",
 *   users: { alice: "secret" },
 *   allowPeers: ["127.0.0.0/8"],
 * });
 * const options = {
 *   turnServers: [{ urls: `turn:${server.addresses[0]}`, username: "alice", credential: "secret" }],
 *   policy: "relay",
 * } as const;
 * await using one = openIce({ ...options, role: "controlling" });
 * await using other = openIce({ ...options, role: "controlled" });
 * other.addRemoteDescription(await one.localDescription());
 * one.addRemoteDescription(await other.localDescription());
 *
 * await Promise.all([one.connected, other.connected]);
 * one.send(new TextEncoder().encode("hello"));
 * for await (const bytes of other) {
 *   assertEquals(new TextDecoder().decode(bytes), "hello");
 *   break;
 * }
 * ```
 *
 * @module
 */
export * from "./stun/mod.ts";
export * from "./turn/mod.ts";
export * from "./ice/mod.ts";
