import { parseArgs } from "@std/cli/parse-args";
import { UsageError } from "./terminal.ts";

/** The options of a command. */
export interface OptionSpec {
  /** The command, for error messages. */
  readonly command: string;
  /** Options with one value. */
  readonly value?: readonly string[];
  /** Options that may be given several times. */
  readonly list?: readonly string[];
  /** Options without a value. */
  readonly flag?: readonly string[];
  /** What the positional arguments are called, for error messages. Default: none are taken. */
  readonly positional?: { readonly name: string; readonly min: number; readonly max: number };
}

/** Parsed options. */
export interface Options {
  /** Positional arguments. */
  readonly positional: readonly string[];
  /** The value of an option, `undefined` if it was not given. */
  value(name: string): string | undefined;
  /** The values of an option that may be given several times. */
  list(name: string): readonly string[];
  /** Whether a flag was given. */
  flag(name: string): boolean;
}

/**
 * Parses a command's arguments.
 *
 * @throws {UsageError} For an unknown option, a missing value, or too few or too many positional arguments.
 */
export function parseOptions(args: readonly string[], spec: OptionSpec): Options {
  const { command, value = [], list = [], flag = [], positional } = spec;
  const hint = `see "natkit ${command} --help"`;
  const parsed = parseArgs(joinDashes(args, [...value, ...list]), {
    string: [...value, ...list, "_"],
    collect: [...list],
    boolean: [...flag],
    unknown: (arg) => {
      if (arg.startsWith("-") && arg !== "-") throw new UsageError(`Unknown option "${arg.split("=")[0]}": ${hint}`);
      return true;
    },
  });
  for (const name of value) {
    if (Array.isArray(parsed[name])) throw new UsageError(`Option --${name} can be given once only`);
    if (parsed[name] === "") throw new UsageError(`Option --${name} needs a value: ${hint}`);
  }
  for (const name of list) {
    if (((parsed[name] ?? []) as string[]).includes("")) {
      throw new UsageError(`Option --${name} needs a value: ${hint}`);
    }
  }
  const given = parsed._.map(String);
  const { name = "", min = 0, max = 0 } = positional ?? {};
  if (given.length < min) throw new UsageError(`Missing ${name}: ${hint}`);
  if (given.length > max) throw new UsageError(`Unexpected argument "${given[max]}": ${hint}`);
  return {
    positional: given,
    value: (option) => parsed[option] as string | undefined,
    list: (option) => (parsed[option] ?? []) as string[],
    flag: (option) => parsed[option] === true,
  };
}

/** A server's URI for what somebody typed: `HOST` and `HOST:PORT` are meant with `scheme`. */
export function serverUri(text: string, scheme: "stun" | "turn"): string {
  return /^(?:stuns?|turns?):|:\/\//i.test(text) ? text : `${scheme}:${text}`;
}

/** Who somebody is, by `--user NAME:PASSWORD`; with `--pass` all of `--user` is the name. `undefined` without both. */
export function loginOption(options: Options): { username: string; password: string } | undefined {
  const [user, pass] = [options.value("user"), options.value("pass")];
  if (user === undefined) {
    if (pass === undefined) return undefined;
    throw new UsageError("Option --pass needs --user");
  }
  if (pass !== undefined) return { username: user, password: pass };
  const colon = user.indexOf(":");
  if (colon < 1 || colon === user.length - 1) {
    throw new UsageError(`Option --user must be NAME:PASSWORD: "${colon === -1 ? user : user.slice(0, colon + 1)}"`);
  }
  return { username: user.slice(0, colon), password: user.slice(colon + 1) };
}

/** The parser takes a lone "-" for an argument of its own, and not for the value of the option before it. */
function joinDashes(args: readonly string[], options: readonly string[]): string[] {
  const joined: string[] = [];
  for (const arg of args) {
    const isValue = arg === "-" && options.some((name) => joined.at(-1) === `--${name}`);
    joined.push(isValue ? `${joined.pop()}=-` : arg);
  }
  return joined;
}

/** A whole number out of an option's text. */
export function numberOption(name: string, text: string, range: { min: number; max: number }): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < range.min || value > range.max) {
    throw new UsageError(`Option --${name} must be a whole number from ${range.min} to ${range.max}: "${text}"`);
  }
  return value;
}

/** `text` if it is one of `choices`. */
export function choiceOption<T extends string>(name: string, text: string, choices: readonly T[]): T {
  if (!(choices as readonly string[]).includes(text)) {
    throw new UsageError(`Option --${name} must be one of ${choices.join(", ")}: "${text}"`);
  }
  return text as T;
}

/** Runs a parser of what the user typed; what it throws is a matter of usage. */
export function usage<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof RangeError) throw new UsageError(error.message);
    throw error;
  }
}
