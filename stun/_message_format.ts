// What StunMessage and MessageWriter both know of the wire format.
/** The first 32 bits after type and length (RFC 8489 §5). */
export const MAGIC_COOKIE = 0x2112a442;
/** Bytes in front of the first attribute. */
export const HEADER_LENGTH = 20;
/** Bytes of a transaction id. */
export const TRANSACTION_ID_LENGTH = 12;
/** What a FINGERPRINT's CRC is XORed with (RFC 8489 §14.7). */
export const FINGERPRINT_XOR = 0x5354554e;
