// `natkit connect` on a computer that gets another address, made by the Linux kernel in network namespaces: two processes
// whose descriptions travel by their stdin and stdout.
import { assert, assertEquals } from "@std/assert";
import { LAB, labObstacle, NatLab } from "./_natlab.ts";
import { peerTest, runPeer } from "./_peers.ts";

const root = new URL("../../", import.meta.url).pathname;
const NATKIT = [
  ...[Deno.execPath(), "run", "--quiet", "--no-prompt", "--no-check", "--allow-net", "--allow-sys=networkInterfaces"],
  ...[`--config=${root}deno.json`, `${root}cli/main.ts`],
];
const TIME_LIMIT = 20_000;
const obstacle = await labObstacle();

/** A process in the lab, with its lines. */
class Side implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly #lines: { readonly text: string; readonly at: number }[] = [];
  readonly #reading: Promise<unknown>;
  #more = Promise.withResolvers<void>();
  /** Gets each description. */
  onDescription: (line: string) => void = () => {};

  constructor(lab: NatLab, node: "a" | "b", args: readonly string[]) {
    this.#process = new Deno.Command("timeout", {
      args: ["60", "ip", ...lab.in(node, ...NATKIT, ...args)],
      ...{ stdin: "piped", stdout: "piped", stderr: "piped" },
    }).spawn();
    this.#writer = this.#process.stdin.getWriter();
    this.#reading = Promise.all([this.#process.stdout, this.#process.stderr].map((stream) => this.#read(stream)));
  }

  write(line: string): void {
    this.#writer.write(new TextEncoder().encode(`${line}\n`)).catch(() => {});
  }

  /** The first line since then that fits, and when it came. */
  async line(pattern: RegExp, since = 0): Promise<{ readonly text: string; readonly at: number }> {
    const end = performance.now() + TIME_LIMIT;
    for (;;) {
      const found = this.#lines.find(({ text, at }) => at >= since && pattern.test(text));
      if (found !== undefined) return found;
      const timer = Promise.withResolvers<void>();
      const id = setTimeout(timer.resolve, Math.max(0, end - performance.now()));
      await Promise.race([this.#more.promise, timer.promise]);
      clearTimeout(id);
      if (performance.now() >= end) {
        throw new Error(`Nothing like ${pattern} was said:\n${this.#lines.map(({ text }) => text).join("\n")}`);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close().catch(() => {});
    try {
      this.#process.kill("SIGTERM");
    } catch { /* It has ended. */ }
    await Promise.all([this.#process.status, this.#reading]);
  }

  async #read(stream: ReadableStream<Uint8Array>): Promise<void> {
    let rest = "";
    const decoder = new TextDecoder();
    for await (const bytes of stream) {
      const parts = (rest + decoder.decode(bytes, { stream: true })).split("\n");
      rest = parts.pop()!;
      for (const text of parts) {
        this.#lines.push({ text, at: performance.now() });
        if (/^ice-.*ice-ufrag:/.test(text)) this.onDescription(text);
      }
      this.#more.resolve();
      this.#more = Promise.withResolvers();
    }
  }
}

const name = "natkit connect survives a change of the computer's address, seen within a second, and says so";
if (obstacle !== undefined) Deno.test({ name: `${name} (skipped, ${obstacle})`, ignore: true, fn: () => {} });
else {
  peerTest(name, LAB, async () => {
    await using lab = await NatLab.up({ a: "open", b: "open" });
    await using a = new Side(lab, "a", ["connect", "--role", "controlling"]);
    await using b = new Side(lab, "b", ["connect", "--role", "controlled"]);
    a.onDescription = (line) => b.write(line);
    b.onDescription = (line) => a.write(line);
    await Promise.all([a.line(/^nominated/), b.line(/^nominated/)]);
    a.write("before");
    await b.line(/^before$/);
    const ip = async (...args: string[]) => {
      const { code, output } = await runPeer("ip", ["-n", `${lab.name}-a`, ...args]);
      assertEquals(code, 0, output);
    };
    const changedAt = performance.now();
    await ip("addr", "del", "10.1.0.2/24", "dev", "eth");
    await ip("addr", "add", "10.1.0.77/24", "dev", "eth");
    await ip("route", "add", "default", "via", "10.1.0.1");
    const seen = await a.line(/The network has changed: 10\.1\.0\.2 is gone, 10\.1\.0\.77 is new/, changedAt);
    const path = await a.line(/^path 10\.1\.0\.77:\d+ \(host\) <-> 10\.2\.0\.2:\d+/, changedAt);
    a.write("after");
    await Promise.all([b.line(/^after$/), b.line(/^path 10\.2\.0\.2:\d+ \(host\) <-> 10\.1\.0\.77:\d+/, changedAt)]);
    b.write("and back");
    await a.line(/^and back$/);
    // The machine may be busy.
    assert(seen.at - changedAt < 3000, `Seen after ${seen.at - changedAt} ms`);
    assert(path.at - seen.at < 3000, `Another path after ${path.at - seen.at} ms`);
  });
}
