// The attributes of NAT behaviour discovery (RFC 5780), and those of classic STUN (RFC 3489) that RFC 8489 dropped.
import type { TransportAddress } from "./address.ts";
import { addressAttribute, type Attribute, bytesAttribute, checkInteger, uint32Attribute } from "./attribute.ts";
import { readUint16 } from "./_bytes.ts";

/** From where a server is asked to answer (RFC 5780 §7.2). */
export interface ChangeRequest {
  /** Whether from its other IP address. */
  readonly changeIp: boolean;
  /** Whether from its other port. */
  readonly changePort: boolean;
}

/** Asks to be answered from another address of the server's. RFC 5780 §7.2; in RFC 3489 §11.2.4 as well. */
export const CHANGE_REQUEST: Attribute<ChangeRequest> = {
  type: 0x0003,
  name: "CHANGE-REQUEST",
  read(bytes, offset, length) {
    if (length !== 4) return undefined;
    const flags = bytes[offset + 3]!;
    return { changeIp: (flags & 4) !== 0, changePort: (flags & 2) !== 0 };
  },
  write(writer, { changeIp, changePort }) {
    writer.writeUint32((changeIp ? 4 : 0) | (changePort ? 2 : 0));
  },
};
/** Makes a message as long as the test needs it; what it holds does not matter. RFC 5780 §7.6. */
export const PADDING: Attribute<Uint8Array> = bytesAttribute(0x0026, "PADDING");
/** The port, 0 to 65535, to which a server is asked to answer. RFC 5780 §7.5. */
export const RESPONSE_PORT: Attribute<number> = {
  type: 0x0027,
  name: "RESPONSE-PORT",
  // The section counts two bytes of padding to the value. Who leaves them to the attribute's own padding means the same.
  read: (bytes, offset, length) => length === 4 || length === 2 ? readUint16(bytes, offset) : undefined,
  write(writer, value) {
    checkInteger("RESPONSE-PORT", value, 0, 65535);
    writer.writeUint16(value);
    writer.writeUint16(0);
  },
};
/** For how many seconds an answer holds. In IANA's registry for RFC 5780, whose text does not define it. */
export const CACHE_TIMEOUT: Attribute<number> = uint32Attribute(0x8027, "CACHE-TIMEOUT");
/** The address that the answer was sent from. RFC 5780 §7.3. */
export const RESPONSE_ORIGIN: Attribute<TransportAddress> = addressAttribute(0x802b, "RESPONSE-ORIGIN");
/** The server's other IP address and other port. RFC 5780 §7.4. */
export const OTHER_ADDRESS: Attribute<TransportAddress> = addressAttribute(0x802c, "OTHER-ADDRESS");

/** To where a classic server is asked to answer. RFC 3489 §11.2.2. A server that obeys can be turned on others. */
export const RESPONSE_ADDRESS: Attribute<TransportAddress> = addressAttribute(0x0002, "RESPONSE-ADDRESS");
/** The address that a classic server's answer was sent from. RFC 3489 §11.2.5. */
export const SOURCE_ADDRESS: Attribute<TransportAddress> = addressAttribute(0x0004, "SOURCE-ADDRESS");
/** A classic server's other IP address and other port. RFC 3489 §11.2.3. */
export const CHANGED_ADDRESS: Attribute<TransportAddress> = addressAttribute(0x0005, "CHANGED-ADDRESS");
/** Who caused an answer to RESPONSE-ADDRESS. RFC 3489 §11.2.11. */
export const REFLECTED_FROM: Attribute<TransportAddress> = addressAttribute(0x000b, "REFLECTED-FROM");
