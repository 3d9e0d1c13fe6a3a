import { ERROR_CODE, StunError } from "../stun/error.ts";
import { TurnError } from "./error.ts";

/** Whether it may go better in a moment: silence, or a 5xx (RFC 8489 §6.3.4). */
export function isTransient(error: Error): boolean {
  return !(error instanceof StunError) || (error.code >= 500 && error.code !== ERROR_CODE.INSUFFICIENT_CAPACITY);
}

/** After how many ms a refresh that failed for the moment is tried again: a 5xx four times in the last minute (§6.3.4). */
export function retryPause(error: Error): number {
  return error instanceof StunError ? 15_000 : 5_000;
}

/** The error with what RFC 8656 has to say about its code. */
export function withAdvice(error: Error): Error {
  if (!(error instanceof StunError) || error instanceof TurnError) return error;
  return new TurnError(error.code, error.reason, error.doing);
}
