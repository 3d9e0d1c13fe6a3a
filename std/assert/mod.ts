// The npm mirror of @std/assert, with types for the names this project uses. See CONTRIBUTING.md, "Dependencies".
import * as mirror from "npm:deno-std@1.4.0/assert/mod.js";

// deno-lint-ignore no-explicit-any
const std = mirror as any;
// deno-lint-ignore no-explicit-any
type ErrorClass<E> = abstract new (...args: any[]) => E;

/** Throws an `AssertionError` unless `condition` is truthy. */
export function assert(condition: unknown, message?: string): asserts condition {
  std.assert(condition, message);
}
/** Throws unless both values are structurally equal. */
export function assertEquals<T>(actual: T, expected: T, message?: string): void {
  std.assertEquals(actual, expected, message);
}
/** Throws if both values are structurally equal. */
export function assertNotEquals<T>(actual: T, expected: T, message?: string): void {
  std.assertNotEquals(actual, expected, message);
}
/** Throws unless both values are the same by `Object.is`. */
export function assertStrictEquals<T>(actual: unknown, expected: T, message?: string): asserts actual is T {
  std.assertStrictEquals(actual, expected, message);
}
/** Throws if `actual` is null or undefined. */
export function assertExists<T>(actual: T, message?: string): asserts actual is NonNullable<T> {
  std.assertExists(actual, message);
}
/** Throws unless `actual` matches `expected`. */
export function assertMatch(actual: string, expected: RegExp, message?: string): void {
  std.assertMatch(actual, expected, message);
}
/** Throws unless `actual` contains `expected`. */
export function assertStringIncludes(actual: string, expected: string, message?: string): void {
  std.assertStringIncludes(actual, expected, message);
}
/** Throws unless `actual` is greater than `expected`. */
export function assertGreater<T>(actual: T, expected: T, message?: string): void {
  std.assertGreater(actual, expected, message);
}
/** Throws unless `actual` is at least `expected`. */
export function assertGreaterOrEqual<T>(actual: T, expected: T, message?: string): void {
  std.assertGreaterOrEqual(actual, expected, message);
}
/** Throws unless `actual` is less than `expected`. */
export function assertLess<T>(actual: T, expected: T, message?: string): void {
  std.assertLess(actual, expected, message);
}
/** Throws unless `actual` is at most `expected`. */
export function assertLessOrEqual<T>(actual: T, expected: T, message?: string): void {
  std.assertLessOrEqual(actual, expected, message);
}
/** Throws unless both numbers differ by at most `tolerance`. */
export function assertAlmostEquals(actual: number, expected: number, tolerance?: number, message?: string): void {
  std.assertAlmostEquals(actual, expected, tolerance, message);
}
/** Throws unless `actual` is an instance of `expected`. */
export function assertInstanceOf<T>(actual: unknown, expected: ErrorClass<T>, message?: string): asserts actual is T {
  std.assertInstanceOf(actual, expected, message);
}
/** Throws unless `fn` throws, and gives the error. */
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  errorClass?: ErrorClass<E>,
  includes?: string,
  message?: string,
): E {
  return errorClass === undefined ? std.assertThrows(fn) : std.assertThrows(fn, errorClass, includes, message);
}
/** Rejects unless `fn` rejects, and gives the error. */
export function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  errorClass?: ErrorClass<E>,
  includes?: string,
  message?: string,
): Promise<E> {
  return errorClass === undefined ? std.assertRejects(fn) : std.assertRejects(fn, errorClass, includes, message);
}
/** Always throws. */
export function fail(message?: string): never {
  throw std.fail(message);
}
