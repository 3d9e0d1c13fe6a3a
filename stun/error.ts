/** Error codes, by IANA's registry "STUN Error Codes". */
export const ERROR_CODE = {
  /** RFC 8489 §14.8. */
  TRY_ALTERNATE: 300,
  /** RFC 8489 §14.8. */
  BAD_REQUEST: 400,
  /** RFC 8489 §14.8. */
  UNAUTHENTICATED: 401,
  /** RFC 8656 §19. */
  FORBIDDEN: 403,
  /** RFC 8016 §5. */
  MOBILITY_FORBIDDEN: 405,
  /** RFC 8489 §14.8. */
  UNKNOWN_ATTRIBUTE: 420,
  /** RFC 8656 §19. */
  ALLOCATION_MISMATCH: 437,
  /** RFC 8489 §14.8. */
  STALE_NONCE: 438,
  /** RFC 8656 §19. */
  ADDRESS_FAMILY_NOT_SUPPORTED: 440,
  /** RFC 8656 §19. */
  WRONG_CREDENTIALS: 441,
  /** RFC 8656 §19. */
  UNSUPPORTED_TRANSPORT_PROTOCOL: 442,
  /** RFC 8656 §19. */
  PEER_ADDRESS_FAMILY_MISMATCH: 443,
  /** RFC 6062 §6.3. */
  CONNECTION_ALREADY_EXISTS: 446,
  /** RFC 6062 §6.3. */
  CONNECTION_TIMEOUT_OR_FAILURE: 447,
  /** RFC 8656 §19. */
  ALLOCATION_QUOTA_REACHED: 486,
  /** RFC 8445 §16.2. */
  ROLE_CONFLICT: 487,
  /** RFC 8489 §14.8. */
  SERVER_ERROR: 500,
  /** RFC 8656 §19. */
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
   * An error whose message is `doing: code reason`.
   *
   * @param code The code, 300 to 699.
   * @param reason The server's reason.
   * @param doing What was being done, for the message: `Cannot allocate`.
   */
  constructor(code: number, reason: string, doing = "STUN request failed") {
    super(`${doing}: ${code}${reason === "" ? "" : ` ${reason}`}`);
    this.code = code;
    this.reason = reason;
    this.doing = doing;
  }
}

/** A server did not answer. */
export class StunTimeoutError extends Error {
  /** `"StunTimeoutError"`. */
  override readonly name: string = "StunTimeoutError";
}

/** A server answered, but nothing of it was authenticated (RFC 8489 §9.2.5): a wrong password there, or a forger. */
export class StunIntegrityError extends Error {
  /** `"StunIntegrityError"`. */
  override readonly name: string = "StunIntegrityError";
}

/** A server's answer breaks the protocol, so that nothing can be done with it. */
export class StunProtocolError extends Error {
  /** `"StunProtocolError"`. */
  override readonly name: string = "StunProtocolError";
}
