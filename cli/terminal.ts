import { setColorEnabled } from "@std/fmt/colors";

/** What a command sees of the terminal: tests give their own. */
export interface Terminal {
  /** Whether stdout is a terminal: colours and progress lines only then. */
  readonly isTerminal: boolean;
  /** Aborted by Ctrl-C or SIGTERM. */
  readonly interrupted: AbortSignal;
  /** Calls back whenever the process is sent a signal. Gives what ends that. Missing where there are no signals. */
  onSignal?(name: "SIGHUP" | "SIGUSR1", handler: () => void): () => void;
  /** Writes a line to stdout. */
  out(line: string): void;
  /** Writes a line to stderr. */
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
  const stop = () => {
    // A second Ctrl-C ends a command that does not listen.
    if (interrupted.signal.aborted) Deno.exit(130);
    interrupted.abort(new Error("Interrupted"));
  };
  Deno.addSignalListener("SIGINT", stop);
  if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", stop);
  return {
    isTerminal,
    interrupted: interrupted.signal,
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
    err(line) {
      clear();
      write(Deno.stderr, line + "\n");
    },
    progress(text) {
      if (!showsProgress) return;
      clear();
      if (text === "") return;
      write(Deno.stderr, text);
      shown = true;
    },
    lines: stdinLines,
  };
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
