// A headless Chromium, driven over its DevTools protocol: enough to run a script in a page and get its result.

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--remote-debugging-port=0",
];

interface Reply {
  id?: number;
  result?: Record<string, unknown>;
  error?: { message: string };
}

/** A running browser with one blank page. */
export class Chromium {
  #process: Deno.ChildProcess;
  #socket: WebSocket;
  #profile: string;
  #session = "";
  #nextId = 1;
  #waiting = new Map<number, PromiseWithResolvers<Record<string, unknown>>>();

  private constructor(process: Deno.ChildProcess, socket: WebSocket, profile: string) {
    this.#process = process;
    this.#socket = socket;
    this.#profile = profile;
    socket.onmessage = (event) => this.#handle(JSON.parse(event.data));
  }

  /** Starts the program `chromium` with more flags. */
  static async launch(flags: readonly string[] = []): Promise<Chromium> {
    const profile = await Deno.makeTempDir({ prefix: "natkit-chromium-" });
    const process = new Deno.Command("chromium", {
      args: [...FLAGS, ...flags, `--user-data-dir=${profile}`, "about:blank"],
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const socket = new WebSocket(await devToolsUrl(process.stderr));
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onerror = reject;
    });
    const browser = new Chromium(process, socket, profile);
    const { targetId } = await browser.#call("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await browser.#call("Target.attachToTarget", { targetId, flatten: true });
    browser.#session = sessionId as string;
    return browser;
  }

  /** Runs an async function, given as source text, in the page with one argument, and gives what it resolves to. */
  async evaluate(functionText: string, argument: unknown): Promise<unknown> {
    const answer = await this.#call("Runtime.evaluate", {
      expression: `(${functionText})(${JSON.stringify(argument)})`,
      awaitPromise: true,
      returnByValue: true,
    });
    if (answer.exceptionDetails !== undefined) throw new Error(JSON.stringify(answer.exceptionDetails));
    return (answer.result as { value: unknown }).value;
  }

  /** Ends the browser. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#socket.onclose = resolve);
    this.#socket.send(JSON.stringify({ id: this.#nextId++, method: "Browser.close" }));
    await closed;
    await this.#process.status;
    await Deno.remove(this.#profile, { recursive: true }).catch(() => {});
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #call(method: string, params: Record<string, unknown>): Promise<Record<string, unknown>> {
    const id = this.#nextId++;
    const waiting = Promise.withResolvers<Record<string, unknown>>();
    this.#waiting.set(id, waiting);
    const sessionId = this.#session === "" ? {} : { sessionId: this.#session };
    this.#socket.send(JSON.stringify({ id, method, params, ...sessionId }));
    return waiting.promise;
  }

  #handle(reply: Reply): void {
    const waiting = this.#waiting.get(reply.id ?? 0);
    if (waiting === undefined) return;
    this.#waiting.delete(reply.id!);
    if (reply.error !== undefined) waiting.reject(new Error(reply.error.message));
    else waiting.resolve(reply.result ?? {});
  }
}

/** Chromium says on stderr where its DevTools listen. The rest of stderr is read and dropped, so that it never blocks. */
async function devToolsUrl(stderr: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<string> {
  const reader = stderr.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error(`Chromium ended before its DevTools were up: ${text.slice(-500)}`);
    text += value;
    const url = /DevTools listening on (ws:\S+)/.exec(text)?.[1];
    if (url === undefined) continue;
    (async () => {
      while (!(await reader.read()).done);
    })().catch(() => {});
    return url;
  }
}
