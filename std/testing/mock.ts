// The npm mirror of @std/testing, with types for the names this project uses. See CONTRIBUTING.md, "Dependencies".
import * as mirror from "npm:deno-std@1.3.1/testing/mock.js";

// deno-lint-ignore no-explicit-any
const std = mirror as any;

/** One recorded call. */
export interface SpyCall {
  /** The arguments. */
  args: unknown[];
  /** What the call gave. */
  returned?: unknown;
  /** What the call threw. */
  error?: unknown;
}
/** A function that records its calls. */
export interface Spy<F> {
  /** The calls so far. */
  calls: SpyCall[];
  /** The function spied on. */
  original: F;
}

/** Wraps a function so that its calls are recorded. */
// deno-lint-ignore no-explicit-any
export function spy<F extends (...args: any[]) => unknown>(fn?: F): F & Spy<F> {
  return fn === undefined ? std.spy() : std.spy(fn);
}
/** Throws unless the spy was called `count` times. */
export function assertSpyCalls(spied: Spy<unknown>, count: number): void {
  std.assertSpyCalls(spied, count);
}
/** Replaces a method until it is restored. */
export function stub<T, K extends keyof T>(
  self: T,
  property: K,
  // deno-lint-ignore no-explicit-any
  fn?: (...args: any[]) => unknown,
): { restore(): void; calls: SpyCall[]; [Symbol.dispose](): void } {
  return std.stub(self, property, fn);
}
