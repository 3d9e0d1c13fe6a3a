// An ICE agent that speaks JSON lines (tests/interop/agents/README.md), with the clock of whoever measures it.

interface Line {
  readonly t: string;
  readonly s?: string;
  readonly ms?: number | string;
  readonly e?: string;
}

/** A running agent. */
export class IceProcess implements AsyncDisposable {
  /** All that is to be told to the other side: candidates first, so that no check finds an agent without them. */
  readonly described: PromiseWithResolvers<string> = Promise.withResolvers();
  /** It takes data to send. */
  readonly ready: PromiseWithResolvers<void> = Promise.withResolvers();
  /** It has a nominated pair: the milliseconds by its own clock, from the other side's description on. */
  readonly connected: PromiseWithResolvers<number> = Promise.withResolvers();
  /** When the first data arrived, by `performance.now()`. */
  readonly received: PromiseWithResolvers<number> = Promise.withResolvers();
  #process: Deno.ChildProcess;
  #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  #reading: Promise<void>;
  #parameters = "";
  #candidates = "";

  /** Starts it; it gathers at once. */
  constructor(command: readonly string[]) {
    this.#process = new Deno.Command(command[0]!, {
      args: command.slice(1),
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#writer = this.#process.stdin.getWriter();
    for (const { promise } of this.#milestones) promise.catch(() => {});
    this.#reading = this.#read();
  }

  /** Writes lines in one go. */
  write(lines: string): void {
    this.#writer.write(new TextEncoder().encode(lines)).catch(() => {});
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.status;
    await this.#reading;
    await this.#writer.close().catch(() => {});
  }

  get #milestones() {
    return [this.described, this.ready, this.connected, this.received] as const;
  }

  async #read(): Promise<void> {
    let rest = "";
    for await (const chunk of this.#process.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop()!;
      for (const line of lines) this.#handle(line);
    }
    for (const { reject } of this.#milestones) reject(new Error("The agent has ended"));
  }

  #handle(text: string): void {
    let line: Line;
    try {
      line = JSON.parse(text);
    } catch {
      return;
    }
    switch (line.t) {
      case "params":
        this.#parameters = `${text}\n`;
        return;
      case "cand":
        this.#candidates += `${text}\n`;
        return;
      case "eoc":
        return this.described.resolve(`${this.#candidates}${this.#parameters}${text}\n`);
      case "state":
        // natkit and libnice take data on a valid pair.
        if (line.s === "connected") this.ready.resolve();
        return;
      case "connected":
        this.ready.resolve();
        return this.connected.resolve(Number(line.ms));
      case "recv":
        return this.received.resolve(performance.now());
      case "failed":
        for (const { reject } of this.#milestones) reject(new Error(line.e ?? "failed"));
    }
  }
}
