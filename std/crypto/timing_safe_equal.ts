// The npm mirror of @std/crypto, with types for the names this project uses. See CONTRIBUTING.md, "Dependencies".
import * as mirror from "npm:deno-std@1.4.0/crypto/timing_safe_equal.js";

/** Compares in a time that does not depend on the contents. */
export function timingSafeEqual(
  a: ArrayBufferView | ArrayBufferLike,
  b: ArrayBufferView | ArrayBufferLike,
): boolean {
  // deno-lint-ignore no-explicit-any
  return (mirror as any).timingSafeEqual(a, b);
}
