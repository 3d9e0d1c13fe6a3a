import type { TransportAddress } from "../stun/address.ts";
import { ALTERNATE_DOMAIN, ALTERNATE_SERVER } from "../stun/attributes.ts";
import type { AnswerProtection } from "../stun/authenticator.ts";
import type { MessageWriter } from "../stun/message.ts";
import { unmappedAddress } from "../stun/server.ts";
import type { Listener } from "./allocation.ts";
import type { AlternateServers } from "./server_options.ts";

/** What of a request decides how its client is sent elsewhere. */
interface Redirected {
  readonly client: TransportAddress;
  readonly listener: Listener;
  readonly protection: AnswerProtection;
}

/**
 * What a 300 answer names (RFC 8489 §10): a server of the client's family, as it must, and one of the other, as it should.
 *
 * @returns Adds that to the answer; `undefined` if there is no server that this client could be told.
 */
export function writeAlternates(
  alternates: AlternateServers | undefined,
  request: Redirected,
): ((writer: MessageWriter) => void) | undefined {
  const { family } = unmappedAddress(request.client);
  const own = alternates?.addresses.find((address) => address.family === family);
  if (alternates === undefined || own === undefined) return undefined;
  const other = alternates.addresses.find((address) => address.family !== family);
  // To others than clients of RFC 8489 on TLS it means nothing.
  const hasDomain = request.listener.isSecure && request.protection.hash === "sha256";
  return (writer) => {
    writer.add(ALTERNATE_SERVER, own);
    if (other !== undefined) writer.add(ALTERNATE_SERVER, other);
    if (hasDomain && alternates.domain !== undefined) writer.add(ALTERNATE_DOMAIN, alternates.domain);
  };
}
