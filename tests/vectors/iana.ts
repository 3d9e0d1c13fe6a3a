// IANA's registry "Session Traversal Utilities for NAT (STUN) Parameters",
// https://www.iana.org/assignments/stun-parameters, as far as RFCs fill it: typed in from the RFCs named beside each
// entry, which are the registry's own references. Experts' entries for single vendors are left out.

/** A number, the registry's name for it, and where that is defined. */
export type Entry = readonly [number: number, name: string, source: string];

/** "STUN Methods". 0x000 and 0x002 are reserved, 0x100 to 0xFFF too (RFC 7983). */
export const METHODS: readonly Entry[] = [
  [0x001, "Binding", "RFC 8489 §18.2"],
  [0x003, "Allocate", "RFC 8656 §17"],
  [0x004, "Refresh", "RFC 8656 §17"],
  [0x006, "Send", "RFC 8656 §17"],
  [0x007, "Data", "RFC 8656 §17"],
  [0x008, "CreatePermission", "RFC 8656 §17"],
  [0x009, "ChannelBind", "RFC 8656 §17"],
  [0x00a, "Connect", "RFC 6062 §6.1"],
  [0x00b, "ConnectionBind", "RFC 6062 §6.1"],
  [0x00c, "ConnectionAttempt", "RFC 6062 §6.1"],
];

/** "STUN Attributes". */
export const ATTRIBUTES: readonly Entry[] = [
  [0x0001, "MAPPED-ADDRESS", "RFC 8489 §18.3.1"],
  [0x0003, "CHANGE-REQUEST", "RFC 5780 §9.1"],
  [0x0006, "USERNAME", "RFC 8489 §18.3.1"],
  [0x0008, "MESSAGE-INTEGRITY", "RFC 8489 §18.3.1"],
  [0x0009, "ERROR-CODE", "RFC 8489 §18.3.1"],
  [0x000a, "UNKNOWN-ATTRIBUTES", "RFC 8489 §18.3.1"],
  [0x000c, "CHANNEL-NUMBER", "RFC 8656 §18"],
  [0x000d, "LIFETIME", "RFC 8656 §18"],
  [0x0012, "XOR-PEER-ADDRESS", "RFC 8656 §18"],
  [0x0013, "DATA", "RFC 8656 §18"],
  [0x0014, "REALM", "RFC 8489 §18.3.1"],
  [0x0015, "NONCE", "RFC 8489 §18.3.1"],
  [0x0016, "XOR-RELAYED-ADDRESS", "RFC 8656 §18"],
  [0x0017, "REQUESTED-ADDRESS-FAMILY", "RFC 8656 §18"],
  [0x0018, "EVEN-PORT", "RFC 8656 §18"],
  [0x0019, "REQUESTED-TRANSPORT", "RFC 8656 §18"],
  [0x001a, "DONT-FRAGMENT", "RFC 8656 §18"],
  [0x001b, "ACCESS-TOKEN", "RFC 7635 §6.2"],
  [0x001c, "MESSAGE-INTEGRITY-SHA256", "RFC 8489 §18.3.2"],
  [0x001d, "PASSWORD-ALGORITHM", "RFC 8489 §18.3.2"],
  [0x001e, "USERHASH", "RFC 8489 §18.3.2"],
  [0x0020, "XOR-MAPPED-ADDRESS", "RFC 8489 §18.3.1"],
  [0x0022, "RESERVATION-TOKEN", "RFC 8656 §18"],
  [0x0024, "PRIORITY", "RFC 8445 §20.1"],
  [0x0025, "USE-CANDIDATE", "RFC 8445 §20.1"],
  [0x0026, "PADDING", "RFC 5780 §9.1"],
  [0x0027, "RESPONSE-PORT", "RFC 5780 §9.1"],
  [0x002a, "CONNECTION-ID", "RFC 6062 §6.2"],
  [0x8000, "ADDITIONAL-ADDRESS-FAMILY", "RFC 8656 §18"],
  [0x8001, "ADDRESS-ERROR-CODE", "RFC 8656 §18"],
  [0x8002, "PASSWORD-ALGORITHMS", "RFC 8489 §18.3.2"],
  [0x8003, "ALTERNATE-DOMAIN", "RFC 8489 §18.3.2"],
  [0x8004, "ICMP", "RFC 8656 §18"],
  [0x8022, "SOFTWARE", "RFC 8489 §18.3.1"],
  [0x8023, "ALTERNATE-SERVER", "RFC 8489 §18.3.1"],
  [0x8025, "TRANSACTION_TRANSMIT_COUNTER", "RFC 7982 §7"],
  [0x8027, "CACHE-TIMEOUT", "RFC 5780 §9.1"],
  [0x8028, "FINGERPRINT", "RFC 8489 §18.3.1"],
  [0x8029, "ICE-CONTROLLED", "RFC 8445 §20.1"],
  [0x802a, "ICE-CONTROLLING", "RFC 8445 §20.1"],
  [0x802b, "RESPONSE-ORIGIN", "RFC 5780 §9.1"],
  [0x802c, "OTHER-ADDRESS", "RFC 5780 §9.1"],
  [0x802d, "ECN-CHECK", "RFC 6679 §7.4"],
  [0x802e, "THIRD-PARTY-AUTHORIZATION", "RFC 7635 §6.1"],
  [0x8030, "MOBILITY-TICKET", "RFC 8016 §5"],
];

/** Attributes that the registry calls reserved, under the name that it says they had. */
export const FORMER_ATTRIBUTES: readonly Entry[] = [
  [0x0002, "RESPONSE-ADDRESS", "RFC 3489 §11.2"],
  [0x0004, "SOURCE-ADDRESS", "RFC 3489 §11.2"],
  [0x0005, "CHANGED-ADDRESS", "RFC 3489 §11.2"],
  [0x0007, "PASSWORD", "RFC 3489 §11.2"],
  [0x000b, "REFLECTED-FROM", "RFC 3489 §11.2"],
];

/** Of drafts, by numbers that the registry leaves unassigned and browsers use. */
export const DRAFT_ATTRIBUTES: readonly Entry[] = [[0xc001, "NOMINATION", "draft-thatcher-ice-renomination-01"]];

/** "STUN Error Codes". */
export const ERROR_CODES: readonly Entry[] = [
  [300, "Try Alternate", "RFC 8489 §14.8"],
  [400, "Bad Request", "RFC 8489 §14.8"],
  [401, "Unauthenticated", "RFC 8489 §14.8"],
  [403, "Forbidden", "RFC 8656 §19"],
  [405, "Mobility Forbidden", "RFC 8016 §5"],
  [420, "Unknown Attribute", "RFC 8489 §14.8"],
  [437, "Allocation Mismatch", "RFC 8656 §19"],
  [438, "Stale Nonce", "RFC 8489 §14.8"],
  [440, "Address Family not Supported", "RFC 8656 §19"],
  [441, "Wrong Credentials", "RFC 8656 §19"],
  [442, "Unsupported Transport Protocol", "RFC 8656 §19"],
  [443, "Peer Address Family Mismatch", "RFC 8656 §19"],
  [446, "Connection Already Exists", "RFC 6062 §6.3"],
  [447, "Connection Timeout or Failure", "RFC 6062 §6.3"],
  [486, "Allocation Quota Reached", "RFC 8656 §19"],
  [487, "Role Conflict", "RFC 8445 §20.2"],
  [500, "Server Error", "RFC 8489 §14.8"],
  [508, "Insufficient Capacity", "RFC 8656 §19"],
];

/** "STUN Password Algorithms". */
export const PASSWORD_ALGORITHMS: readonly Entry[] = [
  [0x0001, "MD5", "RFC 8489 §18.5"],
  [0x0002, "SHA-256", "RFC 8489 §18.5"],
];

/** "STUN Security Features", as numbers of bits; bit 0 is the least significant (erratum 6290 of RFC 8489). */
export const SECURITY_FEATURES: readonly Entry[] = [
  [0, "Password algorithms", "RFC 8489 §18.1"],
  [1, "Username anonymity", "RFC 8489 §18.1"],
];
