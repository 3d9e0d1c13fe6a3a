import { setImmediate } from "node:timers";

/** What the loop asks of a world. */
export interface Turns {
  /** Lets things happen until code from outside may have been woken. Throws when it can not go on. */
  turn(): void;
  /** Real waits that virtual time stands still for, if there are any. */
  held(): Promise<unknown> | undefined;
}

/**
 * Alternates between a program and the world it runs in, until the program's promise settles.
 *
 * A program woken by an event must come to rest before the clock goes on. Nothing tells when the microtasks have run out,
 * but an immediate runs only after all of them, however long the chain, and costs about 1 us: cheaper than being clever.
 * Real time plays no part, so the same seed gives the same run.
 */
export function runToEnd<T>(promise: Promise<T>, turns: Turns): Promise<T> {
  const { promise: result, resolve, reject } = Promise.withResolvers<T>();
  let isOver = false;
  const loop = (): void => {
    if (isOver) return;
    const held = turns.held();
    if (held !== undefined) return void held.then(() => setImmediate(loop));
    try {
      turns.turn();
    } catch (error) {
      isOver = true;
      return reject(error);
    }
    setImmediate(loop);
  };
  promise.then((value) => {
    isOver = true;
    resolve(value);
  }, (error) => {
    isOver = true;
    reject(error);
  });
  setImmediate(loop);
  return result;
}
