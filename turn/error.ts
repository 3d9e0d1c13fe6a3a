import type { TransportAddress } from "../stun/address.ts";
import { ERROR_CODE, StunError } from "../stun/error.ts";

const MINUTE = 60_000;

/** What people can do about a code, and how long to leave the server alone (RFC 8656 §7.4). */
const ADVICE: ReadonlyMap<number, { readonly hint: string; readonly wait: number }> = new Map([
  [ERROR_CODE.TRY_ALTERNATE, { hint: "it names no other server that can be tried", wait: Infinity }],
  [ERROR_CODE.UNAUTHENTICATED, { hint: "check user name and password", wait: Infinity }],
  [ERROR_CODE.FORBIDDEN, { hint: "the server's rules refuse it", wait: Infinity }],
  [ERROR_CODE.ALLOCATION_MISMATCH, { hint: "the allocation is gone", wait: 0 }],
  [ERROR_CODE.ADDRESS_FAMILY_NOT_SUPPORTED, { hint: "it has no relay address of that IP version", wait: Infinity }],
  [ERROR_CODE.WRONG_CREDENTIALS, { hint: "another user made this allocation", wait: Infinity }],
  [ERROR_CODE.UNSUPPORTED_TRANSPORT_PROTOCOL, { hint: "it does not relay UDP", wait: Infinity }],
  [ERROR_CODE.PEER_ADDRESS_FAMILY_MISMATCH, { hint: "the peer's IP version is not the relay's", wait: Infinity }],
  [ERROR_CODE.ALLOCATION_QUOTA_REACHED, { hint: "this user has as many as allowed; wait a minute", wait: MINUTE }],
  [ERROR_CODE.INSUFFICIENT_CAPACITY, { hint: "nothing is free there; wait a minute", wait: MINUTE }],
]);

/** A TURN server refused, or the allocation was lost. `code` says why (RFC 8656 §19). */
export class TurnError extends StunError {
  /** `"TurnError"`. */
  override readonly name: string = "TurnError";
  /** For how many ms the same should not be asked of this server again; `Infinity`: not until something has changed. */
  readonly retryAfter: number;
  /** The servers that were named instead (300 Try Alternate). */
  readonly alternates: readonly TransportAddress[];
  /** The realm that the server asked for credentials of, if it did; fit for a line that people read. */
  readonly realm: string | undefined;

  /**
   * An error whose message is `doing: code reason (hint)`.
   *
   * @param code The code, 300 to 699.
   * @param reason The server's reason.
   * @param doing What was being done, for the message: `Cannot allocate`.
   * @param options What else is known: a better hint than the code's usual one, other servers, a time to wait.
   */
  constructor(code: number, reason: string, doing: string, options: TurnErrorOptions = {}) {
    super(code, reason, doing);
    const advice = ADVICE.get(code);
    const hint = options.hint ?? advice?.hint;
    if (hint !== undefined) this.message += ` (${hint})`;
    this.retryAfter = options.retryAfter ?? advice?.wait ?? 0;
    this.alternates = options.alternates ?? [];
    this.realm = options.realm;
  }
}

/** What a `TurnError` may know besides its code. */
export interface TurnErrorOptions {
  /** What people can do about it, in place of the code's usual hint. */
  readonly hint?: string;
  /** In place of the code's usual time to wait, in ms. */
  readonly retryAfter?: number;
  /** The servers that were named instead. */
  readonly alternates?: readonly TransportAddress[];
  /** The realm that the server asked for credentials of. */
  readonly realm?: string;
}
