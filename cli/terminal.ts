import { setColorEnabled, stripAnsiCode } from "@std/fmt/colors";
import { fold } from "./fold.ts";

/** What a command sees of the terminal: tests give their own. */
export interface Terminal {
  /** Whether stdout is a terminal: colours and progress lines only then. */
  readonly isTerminal: boolean;
  /** Aborted by Ctrl-C or SIGTERM. */
  readonly interrupted: AbortSignal;
  /** Calls back whenever the process is sent a signal. Gives what ends that. Missing where there are no signals. */
  onSignal?(name: "SIGHUP" | "SIGUSR1", handler: () => void): () => void;
  /** How many characters a line of stdout has room for: those of the terminal, else 120. */
  readonly columns: number;
  /** Writes a line to stdout as it is: JSON, a description, data. */
  out(line: string): void;
  /** Writes lines for people to stdout: at a terminal, long ones are broken between words. */
  say(text: string): void;
  /** Writes a line for people to stderr. */
  err(line: string): void;
  /** Shows what is going on in the last line of a terminal's stderr; `""` takes it away. Does nothing elsewhere. */
  progress(text: string): void;
  /** The lines of stdin, without their ends. Ends with stdin or when `signal` aborts. */
  lines(signal?: AbortSignal): AsyncIterable<string>;
}

/** The arguments do not fit. The message says what was wrong and what would be right. Exit code 2. */
export class UsageError extends Error {
  /** `"UsageError"`. */
  override readonly name: string = "UsageError";
}

/** A subcommand. */
export interface Command {
  /** Its name on the command line. */
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** The whole text of `--help`. */
  readonly help: string;
  /** Runs it. Gives the exit code: 0 ok, 1 failed. Throws a `UsageError` for arguments that do not fit. */
  run(args: readonly string[], terminal: Terminal): Promise<number>;
}

/** The real terminal. */
export function denoTerminal(): Terminal {
  const interrupted = new AbortController();
  const isTerminal = Deno.stdout.isTerminal();
  const showsProgress = Deno.stderr.isTerminal();
  setColorEnabled(isTerminal && !Deno.noColor);
  let shown = false;
  const clear = () => {
    if (shown) write(Deno.stderr, "\r\x1b[K");
    shown = false;
  };
  let interruptedAt = 0;
  const stop = () => {
    // A second Ctrl-C ends a command that does not listen. `deno task` passes the first one on, which comes from the
    // terminal as well.
    if (!interrupted.signal.aborted) {
      interruptedAt = performance.now();
      interrupted.abort(new Error("Interrupted"));
    } else if (performance.now() - interruptedAt > ECHO) Deno.exit(130);
  };
  Deno.addSignalListener("SIGINT", stop);
  if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", stop);
  return {
    isTerminal,
    interrupted: interrupted.signal,
    get columns() {
      return isTerminal ? widthOf() : NO_TERMINAL;
    },
    ...(Deno.build.os === "windows" ? {} : {
      onSignal(name: "SIGHUP" | "SIGUSR1", handler: () => void) {
        Deno.addSignalListener(name, handler);
        return () => Deno.removeSignalListener(name, handler);
      },
    }),
    out(line) {
      clear();
      write(Deno.stdout, line + "\n");
    },
    say(text) {
      this.out(isTerminal ? foldAll(harmless(text), widthOf()) : text);
    },
    err(line) {
      clear();
      write(Deno.stderr, (showsProgress ? foldAll(harmless(line), widthOf()) : stripAnsiCode(line)) + "\n");
    },
    progress(text) {
      if (!showsProgress) return;
      clear();
      if (text === "") return;
      // What goes on in a second row could not be taken away again.
      const plain = stripAnsiCode(text);
      const columns = widthOf();
      write(Deno.stderr, plain.length < columns ? text : plain.slice(0, columns - 1));
      shown = true;
    },
    lines: stdinLines,
  };
}

/** How soon after another a signal is the same one again, in ms. */
const ECHO = 300;

/** The width of a line where no terminal tells. */
const NO_TERMINAL = 120;

function widthOf(): number {
  try {
    return Deno.consoleSize().columns || NO_TERMINAL;
  } catch {
    return NO_TERMINAL;
  }
}

/** Servers and peers shall not command the terminal: of control characters only colours, tabs and ends of lines pass. */
function harmless(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replaceAll(/\x1b(?!\[[\d;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]/g, "\ufffd");
}

function foldAll(text: string, columns: number): string {
  return text.split("\n").map((line) => fold(line, columns)).join("\n");
}

function write(stream: { writeSync(bytes: Uint8Array): number }, text: string): void {
  const bytes = new TextEncoder().encode(text);
  try {
    for (let done = 0; done < bytes.length;) done += stream.writeSync(bytes.subarray(done));
  } catch (error) {
    // Whoever read our output has gone (`natkit ... | head`): nobody is left to tell.
    if (error instanceof Deno.errors.BrokenPipe) Deno.exit(0);
    throw error;
  }
}

async function* stdinLines(signal?: AbortSignal): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  const reader = Deno.stdin.readable.getReader();
  const stop = () => void reader.cancel().catch(() => {});
  signal?.addEventListener("abort", stop, { once: true });
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done || signal?.aborted) break;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop()!;
      for (const line of lines) yield line.replace(/\r$/, "");
    }
    if (rest !== "" && !signal?.aborted) yield rest;
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}
