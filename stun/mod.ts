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
export {
  addressAttribute,
  type Attribute,
  bytesAttribute,
  type ErrorCode,
  flagAttribute,
  readErrorCode,
  textAttribute,
  type TextLimits,
  uint32Attribute,
  uint64Attribute,
  writeErrorCode,
  xorAddressAttribute,
} from "./attribute.ts";
export * from "./attributes.ts";
export * from "./authenticator.ts";
export * from "./client.ts";
export {
  type Challenge,
  type ChallengeVerdict,
  LongTermCredentials,
  type RequestCredentials,
  StunChallengeError,
} from "./credentials.ts";
export * from "./discover.ts";
export * from "./discovery_attributes.ts";
export {
  type AlternateServer,
  DiscoveryServer,
  type DiscoveryServerCounters,
  type DiscoveryServerOptions,
} from "./discovery_server.ts";
export * from "./error.ts";
export { LENGTH_PREFIX, MAX_FRAME, StreamFramer } from "./framing.ts";
export * from "./integrity.ts";
export { type NaptrRecord, type RelayPointer, type ServerTransport, type SrvRecord, transportsOf } from "./locate.ts";
export * from "./machine.ts";
export * from "./message.ts";
export * from "./nat.ts";
export type { LifetimeOptions, LifetimeProgress } from "./nat_lifetime.ts";
export * from "./nat_report.ts";
export * from "./random.ts";
export * from "./request.ts";
export { ClientRequests, type ClientRequestsOptions, type RequestOutcome, type RequestPlan } from "./requests.ts";
export * from "./rest_users.ts";
export * from "./rto_cache.ts";
export * from "./serve.ts";
export { answerBinding, type AnswerIo, STUN_ATTRIBUTES } from "./server.ts";
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
export {
  type ByteStream,
  type ByteStreamListener,
  type ByteStreamReceiver,
  type DatagramReceiver,
  type DatagramSocket,
  type DetachedStream,
  HEADROOM,
  type Host,
  type HostTimer,
  type LocalInterface,
  MAX_DATAGRAM,
  OpenError,
  PacketBatch,
  RECEIVE_SIZE,
  type StreamListenWish,
  type TlsIdentity,
  type TlsServerOptions,
} from "./net/transport.ts";
export { DenoAddress, DenoDatagramSocket, type UdpOptions } from "./net/udp.ts";
