import { STUN_ATTRIBUTES } from "../stun/server.ts";
import {
  CHANNEL_NUMBER,
  CONNECTION_ID,
  DATA,
  DONT_FRAGMENT,
  EVEN_PORT,
  LIFETIME,
  REQUESTED_ADDRESS_FAMILY,
  REQUESTED_TRANSPORT,
  RESERVATION_TOKEN,
  XOR_PEER_ADDRESS,
  XOR_RELAYED_ADDRESS,
} from "./attributes.ts";

/** The comprehension-required attributes that a TURN server knows where the host can not set DF (RFC 8489 §6.3). */
export const TURN_ATTRIBUTES: ReadonlySet<number> = new Set([
  ...STUN_ATTRIBUTES,
  CHANNEL_NUMBER.type,
  LIFETIME.type,
  XOR_PEER_ADDRESS.type,
  DATA.type,
  XOR_RELAYED_ADDRESS.type,
  REQUESTED_ADDRESS_FAMILY.type,
  EVEN_PORT.type,
  REQUESTED_TRANSPORT.type,
  RESERVATION_TOKEN.type,
  CONNECTION_ID.type,
]);

/** The same where it can, and those that a client knows. */
export const TURN_ATTRIBUTES_WITH_DF: ReadonlySet<number> = new Set([...TURN_ATTRIBUTES, DONT_FRAGMENT.type]);
