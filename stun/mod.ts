/**
 * STUN (RFC 8489): the wire format, integrity, transactions, and the contract between protocol machines and sockets that
 * TURN and ICE build on.
 *
 * @example A Binding request and its answer, as bytes
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { MessageWriter, METHOD, StunMessage, TransportAddress, XOR_MAPPED_ADDRESS } from "@natkit/natkit/stun";
 *
 * const transactionId = crypto.getRandomValues(new Uint8Array(12));
 * const request = StunMessage.parse(
 *   new MessageWriter(new Uint8Array(64)).begin(METHOD.BINDING, "request", transactionId).addFingerprint().finish(),
 * )!;
 * const answer = StunMessage.parse(
 *   new MessageWriter(new Uint8Array(64))
 *     .beginResponse(request, "success")
 *     .add(XOR_MAPPED_ADDRESS, TransportAddress.parse("198.51.100.7:40000"))
 *     .addFingerprint()
 *     .finish(),
 * )!;
 * assertEquals(answer.verifyFingerprint(), true);
 * assertEquals(String(answer.get(XOR_MAPPED_ADDRESS)), "198.51.100.7:40000");
 * ```
 *
 * @module
 */
export * from "./access_token.ts";
export * from "./address.ts";
export * from "./alternate.ts";
export * from "./attribute.ts";
export * from "./attributes.ts";
export * from "./authenticator.ts";
export * from "./client.ts";
export * from "./credentials.ts";
export * from "./discover.ts";
export * from "./discovery_attributes.ts";
export * from "./discovery_server.ts";
export * from "./error.ts";
export * from "./framing.ts";
export * from "./integrity.ts";
export * from "./locate.ts";
export * from "./machine.ts";
export * from "./message.ts";
export * from "./nat.ts";
export type { LifetimeOptions, LifetimeProgress } from "./nat_lifetime.ts";
export * from "./nat_report.ts";
export * from "./random.ts";
export * from "./request.ts";
export * from "./requests.ts";
export * from "./rest_users.ts";
export * from "./rto_cache.ts";
export * from "./serve.ts";
export * from "./server.ts";
export * from "./short_term.ts";
export * from "./transaction.ts";
export * from "./uri.ts";
export * from "./users.ts";
export * from "./users_file.ts";
export * from "./resolve.ts";
export * from "./net/deno_host.ts";
export * from "./net/driver.ts";
export * from "./net/dtls.ts";
export * from "./net/linux_host.ts";
export * from "./net/streams.ts";
export * from "./net/transport.ts";
export * from "./net/udp.ts";
