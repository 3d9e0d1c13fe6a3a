import { setColorEnabled } from "@std/fmt/colors";
import type { Terminal } from "../../cli/terminal.ts";

// Here, so that a test that makes no terminal has no colours either, whichever is the first.
setColorEnabled(false);

/** A terminal in memory. */
export class FakeTerminal implements Terminal {
  readonly isTerminal = false;
  readonly columns = 120;
  readonly stdout: string[] = [];
  readonly stderr: string[] = [];
  readonly #interrupt = new AbortController();
  readonly #input: ReadableStream<string>;
  readonly #writer: ReadableStreamDefaultController<string>;
  #waiting: { test: (line: string) => boolean; found: (line: string) => void }[] = [];

  constructor() {
    let writer!: ReadableStreamDefaultController<string>;
    this.#input = new ReadableStream({ start: (controller) => void (writer = controller) });
    this.#writer = writer;
  }

  get interrupted(): AbortSignal {
    return this.#interrupt.signal;
  }

  /** Presses Ctrl-C. */
  interrupt(): void {
    this.#interrupt.abort(new Error("Interrupted"));
  }

  /** Types a line. */
  type(line: string): void {
    this.#writer.enqueue(line);
  }

  /** Presses Ctrl-D. */
  end(): void {
    this.#writer.close();
  }

  /** The first line on stdout, now or later, that passes the test. */
  line(test: (line: string) => boolean): Promise<string> {
    const there = this.stdout.find(test);
    if (there !== undefined) return Promise.resolve(there);
    return new Promise((found) => this.#waiting.push({ test, found }));
  }

  out(line: string): void {
    this.stdout.push(line);
    this.#waiting = this.#waiting.filter(({ test, found }) => {
      if (!test(line)) return true;
      found(line);
      return false;
    });
  }

  say(text: string): void {
    this.out(text);
  }

  err(line: string): void {
    this.stderr.push(line);
  }

  progress(): void {}

  async *lines(signal?: AbortSignal): AsyncGenerator<string> {
    const reader = this.#input.getReader();
    const stop = () => void reader.cancel();
    signal?.addEventListener("abort", stop);
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        yield value;
      }
    } finally {
      signal?.removeEventListener("abort", stop);
      reader.releaseLock();
    }
  }
}
