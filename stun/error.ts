/** Error codes, by IANA's registry "STUN Error Codes". */
export const ERROR_CODE = {
  /** Go to ALTERNATE-SERVER. RFC 8489 §14.8. */
  TRY_ALTERNATE: 300,
  /** The request was malformed. RFC 8489 §14.8. */
  BAD_REQUEST: 400,
  /** Credentials are missing or wrong. RFC 8489 §14.8. */
  UNAUTHENTICATED: 401,
  /** The server does not want to, by policy. RFC 8656 §19. */
  FORBIDDEN: 403,
  /** The server does not move allocations. RFC 8016 §5. */
  MOBILITY_FORBIDDEN: 405,
  /** The server does not know the attributes in UNKNOWN-ATTRIBUTES. RFC 8489 §14.8. */
  UNKNOWN_ATTRIBUTE: 420,
  /** There is no allocation where one is needed, or one where none may be. RFC 8656 §19. */
  ALLOCATION_MISMATCH: 437,
  /** The nonce has expired; a new one comes along. RFC 8489 §14.8. */
  STALE_NONCE: 438,
  /** The server has no relayed addresses of this family. RFC 8656 §19. */
  ADDRESS_FAMILY_NOT_SUPPORTED: 440,
  /** The allocation was made by another user. RFC 8656 §19. */
  WRONG_CREDENTIALS: 441,
  /** The server does not relay this transport. RFC 8656 §19. */
  UNSUPPORTED_TRANSPORT_PROTOCOL: 442,
  /** The peer is of another family than the relayed address. RFC 8656 §19. */
  PEER_ADDRESS_FAMILY_MISMATCH: 443,
  /** There is a connection to this peer already. RFC 6062 §6.3. */
  CONNECTION_ALREADY_EXISTS: 446,
  /** The connection to the peer could not be made. RFC 6062 §6.3. */
  CONNECTION_TIMEOUT_OR_FAILURE: 447,
  /** This user has as many allocations as allowed. RFC 8656 §19. */
  ALLOCATION_QUOTA_REACHED: 486,
  /** Both ICE agents have the same role. RFC 8445 §7.3.1.1. */
  ROLE_CONFLICT: 487,
  /** The server failed for a while; try again. RFC 8489 §14.8. */
  SERVER_ERROR: 500,
  /** The server has no more ports or memory to give. RFC 8656 §19. */
  INSUFFICIENT_CAPACITY: 508,
} as const;

/** A server answered with an error. */
export class StunError extends Error {
  /** `"StunError"`. */
  override readonly name: string = "StunError";
  /** The code, 300 to 699. */
  readonly code: number;
  /** The server's reason; may be empty. */
  readonly reason: string;
  /** What was being done. */
  readonly doing: string;

  /**
   * An error whose message is `doing: code reason`, without what a terminal would take for commands. A reason that the
   * server left out is the code's name there.
   *
   * @param code The code, 300 to 699.
   * @param reason The server's reason.
   * @param doing What was being done, for the message: `Cannot allocate`.
   */
  constructor(code: number, reason: string, doing = "STUN request failed") {
    super(`${doing}: ${code} ${reason.replaceAll(/\p{C}/gu, "") || usualReason(code)}`.trimEnd());
    this.code = code;
    this.reason = reason;
    this.doing = doing;
  }
}

/** A code's name in words: `Stale Nonce`. */
function usualReason(code: number): string {
  const name = Object.entries(ERROR_CODE).find(([, value]) => value === code)?.[0] ?? "";
  return name.toLowerCase().replace(/(^|_)([a-z])/g, (_, gap, letter) => (gap && " ") + letter.toUpperCase());
}

/** A server did not answer. */
export class StunTimeoutError extends Error {
  /** `"StunTimeoutError"`. */
  override readonly name: string = "StunTimeoutError";
}

/** A server did not answer, and an ICMP message said that nobody is there (RFC 8489 §6.2.1). Such messages can be forged. */
export class StunUnreachableError extends StunTimeoutError {
  /** `"StunUnreachableError"`. */
  override readonly name: string = "StunUnreachableError";
}

/** A server answered, but nothing of it was authenticated (RFC 8489 §9.2.5): a wrong password there, or a forger. */
export class StunIntegrityError extends Error {
  /** `"StunIntegrityError"`. */
  override readonly name: string = "StunIntegrityError";
  /** Whether the request was signed. If it was not, the server was not even asked with credentials. */
  readonly isSigned: boolean;

  /**
   * An error with its message.
   *
   * @param message What was being done, and what the last answer said.
   * @param options Whether the request was signed (default: no), and the cause.
   */
  constructor(message: string, options: ErrorOptions & { readonly isSigned?: boolean } = {}) {
    super(message, options);
    this.isSigned = options.isSigned ?? false;
  }
}

/** A server's answer breaks the protocol, so that nothing can be done with it. */
export class StunProtocolError extends Error {
  /** `"StunProtocolError"`. */
  override readonly name: string = "StunProtocolError";
}

/** The connection to a server ended before it answered (RFC 8489 §6.2.2). */
export class StunConnectionError extends Error {
  /** `"StunConnectionError"`. */
  override readonly name: string = "StunConnectionError";
}
