import type { CandidatePair } from "./pair.ts";

/** What somebody may wait for: that data can flow, that a pair is nominated, and the end. Anew for a connection revived. */
export class Outcome {
  #connected = pending<CandidatePair>();
  #nominated = pending<CandidatePair>();
  #closed = pending<void>();
  /** Whether the connection has failed. */
  hasFailed = false;

  get connected(): PromiseWithResolvers<CandidatePair> {
    return this.#connected;
  }

  get nominated(): PromiseWithResolvers<CandidatePair> {
    return this.#nominated;
  }

  get closed(): PromiseWithResolvers<void> {
    return this.#closed;
  }

  fail(error: Error): void {
    this.hasFailed = true;
    for (const { reject } of [this.#connected, this.#nominated, this.#closed]) reject(error);
  }

  revive(): void {
    this.hasFailed = false;
    this.#connected = pending();
    this.#nominated = pending();
    this.#closed = pending();
  }
}

/** Nobody has to wait for it: a rejection is for those who do. */
export function pending<T>(): PromiseWithResolvers<T> {
  const made = Promise.withResolvers<T>();
  made.promise.catch(() => {});
  return made;
}
