import type { GatheringError } from "./events.ts";

/**
 * Why there is no connection: no local candidate at all, no path to the peer, the peer's consent is over, the signaling
 * broke, or `close()` was called.
 */
export type IceFailure = "no-candidates" | "no-path" | "consent-lost" | "signaling" | "closed";

/** There is no connection, or no more. */
export class IceError extends Error {
  /** `"IceError"`. */
  override readonly name: string = "IceError";
  /** Why. */
  readonly failure: IceFailure;
  /** Servers that gave no candidate, which may be the reason. */
  readonly gatheringErrors: readonly GatheringError[];

  /**
   * An error with its reason for programs and its message for people.
   *
   * @param failure Why.
   * @param message The same for people.
   * @param options Which servers gave nothing, and the cause.
   */
  constructor(
    failure: IceFailure,
    message: string,
    options: ErrorOptions & { readonly gatheringErrors?: readonly GatheringError[] } = {},
  ) {
    const { gatheringErrors = [] } = options;
    const notes = gatheringErrors.map(({ text }) => text).join("; ");
    super(notes === "" ? message : `${message} (${notes})`, options);
    this.failure = failure;
    this.gatheringErrors = gatheringErrors;
  }
}
