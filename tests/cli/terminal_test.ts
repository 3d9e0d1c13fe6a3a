import { assertEquals, assertMatch } from "@std/assert";

/** Runs `natkit serve` until it listens, sends it signals, and gives its exit code and last line. */
async function serveUntil(signals: readonly Deno.Signal[]): Promise<[number, string]> {
  const args = ["run", "--quiet", "--allow-net", "--allow-sys=networkInterfaces", "cli/main.ts"];
  const command = new Deno.Command(Deno.execPath(), {
    args: [...args, "serve", "--listen", "127.0.0.1:0", "--io", "deno", "--json"],
    stdout: "piped",
  });
  const server = command.spawn();
  let said = "";
  for await (const text of server.stdout.pipeThrough(new TextDecoderStream())) {
    if (said === "") { for (const signal of signals) server.kill(signal); }
    said += text;
  }
  return [(await server.status).code, said.trim().split("\n").at(-1)!];
}

// Two of the same kind may arrive as one, so they are of two kinds here.
Deno.test("Ctrl-C under `deno task`, which comes twice, ends a command as one does: with its last words", async () => {
  const [code, last] = await serveUntil(["SIGINT", "SIGTERM"]);
  assertEquals(code, 0);
  assertMatch(last, /^\{"t":"stats"/);
});
