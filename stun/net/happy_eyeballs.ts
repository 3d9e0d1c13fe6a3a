import { StunTimeoutError } from "../error.ts";
import { type Host, OpenError } from "./transport.ts";

/** RFC 8305 §5: "Connection Attempt Delay", in ms. */
const ATTEMPT_DELAY = 250;

/** How `raceAttempts()` runs. */
export interface RaceOptions<T> {
  /** The computer whose clock it goes by. */
  readonly host: Host;
  /** How many ms an attempt has for itself before the next begins. Default: 250 (RFC 8305 §5). */
  readonly delay?: number;
  /** Gives all of them up: the promise is rejected with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Gets what an attempt gave that came too late. */
  readonly discard?: (result: T) => void;
}

/**
 * Makes attempts one after another, each as soon as the one before has failed or has taken a while, until one succeeds
 * (Happy Eyeballs, RFC 8305 §5). The others are given up then.
 *
 * @param attempts Each makes one attempt, which it gives up when its signal is aborted.
 * @param options How to run them.
 * @returns What the first one that succeeded gave.
 * @throws {unknown} If all fail, what the first attempt threw that reached somebody, or else the first one. All reasons
 * are in the `cause` if it has room for one.
 */
export function raceAttempts<T>(
  attempts: readonly ((signal: AbortSignal) => Promise<T>)[],
  options: RaceOptions<T>,
): Promise<T> {
  const { host, delay = ATTEMPT_DELAY, signal, discard } = options;
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const aborter = new AbortController();
  const timer = host.createTimer(() => start());
  const failures: unknown[] = [];
  let next = 0;
  let isOver = false;
  const finish = (work: () => void) => {
    isOver = true;
    timer.set(Infinity);
    signal?.removeEventListener("abort", abort);
    work();
    aborter.abort();
  };
  const abort = () => finish(() => reject(signal!.reason));
  const fail = (index: number, error: unknown) => {
    if (isOver) return;
    failures[index] = error;
    if (next < attempts.length) start();
    else if (Object.keys(failures).length === attempts.length) finish(() => reject(mostTelling(failures)));
  };
  const start = () => {
    const index = next++;
    timer.set(next < attempts.length ? host.now() + delay : Infinity);
    attempts[index]!(aborter.signal).then((result) => {
      if (isOver) discard?.(result);
      else finish(() => resolve(result));
    }, (error) => fail(index, error));
  };
  if (signal?.aborted) reject(signal.reason);
  else if (attempts.length === 0) reject(new Error("Cannot connect as there is no address to try"));
  else {
    signal?.addEventListener("abort", abort, { once: true });
    start();
  }
  return promise;
}

/** The failure that says most: of an attempt that got an answer rather than of one that reached nobody. */
function mostTelling(failures: readonly unknown[]): unknown {
  const telling = failures.find((error) => !isSilence(error)) ?? failures[0];
  if (failures.length > 1 && telling instanceof Error && telling.cause === undefined) {
    telling.cause = new AggregateError(failures, `${failures.length} attempts failed`);
  }
  return telling;
}

function isSilence(error: unknown): boolean {
  if (error instanceof OpenError) return ["refused", "unreachable", "timeout"].includes(error.failure);
  return error instanceof StunTimeoutError;
}
