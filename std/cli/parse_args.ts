// The npm mirror of @std/cli, with types for the names this project uses. See CONTRIBUTING.md, "Dependencies".
import * as mirror from "npm:deno-std@1.4.0/cli/parse_args.js";

/** The options of `parseArgs()` that this project uses. */
export interface ParseOptions {
  /** Flags without a value. */
  boolean?: readonly string[];
  /** Flags with a value. */
  string?: readonly string[];
  /** Flags that may be given more than once: always an array. */
  collect?: readonly string[];
  /** Flags with a `--no-` form. */
  negatable?: readonly string[];
  /** Other names of a flag. */
  alias?: Record<string, string | readonly string[]>;
  /** Values for flags that were not given. */
  default?: Record<string, unknown>;
  /** Stop at the first positional argument. */
  stopEarly?: boolean;
  /** Put what follows `--` apart. */
  "--"?: boolean;
  /** Called for a flag that no option names; `false` drops it. */
  unknown?: (arg: string, key?: string, value?: unknown) => unknown;
}

/** What `parseArgs()` gives: positional arguments under `_`, flags by name. */
// deno-lint-ignore no-explicit-any
export type Args = Record<string, any> & { _: (string | number)[] };

/** Parses command-line arguments. */
export function parseArgs(args: readonly string[], options?: ParseOptions): Args {
  // deno-lint-ignore no-explicit-any
  return (mirror as any).parseArgs(args, options);
}
