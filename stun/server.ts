import { TransportAddress } from "./address.ts";
import {
  ERROR_CODE_ATTRIBUTE,
  FINGERPRINT,
  MAPPED_ADDRESS,
  MESSAGE_INTEGRITY,
  MESSAGE_INTEGRITY_SHA256,
  NONCE,
  PASSWORD_ALGORITHM,
  REALM,
  SOFTWARE,
  UNKNOWN_ATTRIBUTES,
  USERHASH,
  USERNAME,
  XOR_MAPPED_ADDRESS,
} from "./attributes.ts";
import { ERROR_CODE } from "./error.ts";
import type { MachineIo, Packet } from "./machine.ts";
import { MessageWriter, type StunMessage } from "./message.ts";

/** The comprehension-required attributes that RFC 8489 defines: none of them is unknown to a server. */
export const STUN_ATTRIBUTES: ReadonlySet<number> = new Set([
  MAPPED_ADDRESS.type,
  USERNAME.type,
  MESSAGE_INTEGRITY.type,
  ERROR_CODE_ATTRIBUTE.type,
  UNKNOWN_ATTRIBUTES.type,
  REALM.type,
  NONCE.type,
  MESSAGE_INTEGRITY_SHA256.type,
  PASSWORD_ALGORITHM.type,
  USERHASH.type,
  XOR_MAPPED_ADDRESS.type,
]);

/** What an answer needs of its `MachineIo`. */
export type AnswerIo = Pick<MachineIo, "scratch" | "send">;

// XOR-MAPPED-ADDRESS with IPv6, or ERROR-CODE and the header of UNKNOWN-ATTRIBUTES; the header of SOFTWARE; FINGERPRINT.
const ANSWER_SIZE = 64;

/**
 * Answers a Binding request (RFC 8489 §6.3.1) to whom it came from. Anybody gets an answer, so it is as short as it may
 * be: SOFTWARE only on demand, FINGERPRINT only if the request had one.
 *
 * @param request The request, with its FINGERPRINT checked.
 * @param packet The datagram it came in.
 * @param io Where to send the answer.
 * @param software The text of SOFTWARE. Default: none.
 * @returns The error code, or 0 for success.
 */
export function answerBinding(request: StunMessage, packet: Packet, io: AnswerIo, software = ""): number {
  const unknown = request.unknownRequired(STUN_ATTRIBUTES);
  const writer = new MessageWriter(io.scratch(ANSWER_SIZE + 3 * software.length + 2 * unknown.length));
  if (unknown.length === 0) {
    // RFC 3489 knows no XOR-MAPPED-ADDRESS.
    const attribute = request.hasCookie ? XOR_MAPPED_ADDRESS : MAPPED_ADDRESS;
    writer.beginResponse(request, "success").add(attribute, unmappedAddress(packet.from));
  } else {
    writer.beginResponse(request, "error")
      .add(ERROR_CODE_ATTRIBUTE, { code: ERROR_CODE.UNKNOWN_ATTRIBUTE, reason: "" })
      .add(UNKNOWN_ATTRIBUTES, unknown);
  }
  if (software !== "") writer.add(SOFTWARE, software);
  if (request.has(FINGERPRINT)) writer.addFingerprint();
  io.send(packet.socket, packet.from, writer.finish());
  return unknown.length === 0 ? 0 : ERROR_CODE.UNKNOWN_ATTRIBUTE;
}

/** The IPv4 address inside an IPv4-mapped one, which is how an IPv6 socket shows an IPv4 sender; else the address itself. */
export function unmappedAddress(address: TransportAddress): TransportAddress {
  if (address.family === 4) return address;
  const { bytes } = address;
  for (let i = 0; i < 10; i++) if (bytes[i] !== 0) return address;
  if (bytes[10] !== 0xff || bytes[11] !== 0xff) return address;
  return new TransportAddress(bytes.slice(12), address.port);
}
