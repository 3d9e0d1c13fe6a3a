// DTLS on the command line: with the library in this process, and without the permission in one of its own.
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { main } from "../../cli/main.ts";
import { denoHost } from "../../stun/net/deno_host.ts";
import { serveTurn } from "../../turn/serve.ts";
import { FakeTerminal } from "./_terminal.ts";

const path = (file: string) => new URL(`../../${file}`, import.meta.url).pathname;
const pem = (name: string) => path(`tests/vectors/tls/${name}.pem`);
const TLS = { certificate: Deno.readTextFileSync(pem("one")), key: Deno.readTextFileSync(pem("one_key")) };
const FILES = ["--cert", pem("one"), "--key", pem("one_key")];

async function run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const terminal = new FakeTerminal();
  const code = await main(args, terminal);
  return { code, stdout: terminal.stdout.join("\n"), stderr: terminal.stderr.join("\n") };
}

function dtlsTest(name: string, work: () => Promise<void>): void {
  Deno.test({ name, ignore: denoHost().dtls!.obstacle !== undefined, fn: work });
}

dtlsTest("natkit serve --dtls on, and natkit stun and natkit turn over DTLS", async () => {
  const terminal = new FakeTerminal();
  const allow = ["--realm", "example.org", "--user", "alice:secret", "--allow-peer", "127.0.0.1"];
  const exit = main(["serve", "--listen", "127.0.0.1:0", "--io", "deno", "--dtls", "on", ...allow, ...FILES], terminal);
  const [, port, transports] = /^ {2}127\.0\.0\.1:(\d+) (.*)$/.exec(await terminal.line((text) => /dtls/.test(text)))!;
  assertEquals(transports, "udp, tcp, tls, dtls");
  const common = ["--ca", pem("ca"), "--json"];
  const stun = await run("stun", `stuns:localhost:${port}`, "--transport", "dtls", "--local", "127.0.0.1", ...common);
  assertEquals([stun.code, stun.stderr, JSON.parse(stun.stdout).server], [0, "", `127.0.0.1:${port}`]);
  const users = ["--user", "alice:secret", "--count", "5"];
  const turn = await run("turn", `turns:127.0.0.1:${port}?transport=udp`, ...users, ...common);
  assertEquals([turn.code, JSON.parse(turn.stdout).verdict], [0, "TURN works over DTLS"], turn.stdout);
  const stranger = await run("turn", `turns:127.0.0.1:${port}?transport=udp`, ...users);
  assertMatch(stranger.stdout, /The certificate of DTLS .* nobody who is trusted here vouches/);
  terminal.interrupt();
  assertEquals(await exit, 0);
});

Deno.test("natkit serve --dtls: wrong usage", async () => {
  for (const [args, message] of [[["--dtls", "on"], "needs --cert and --key"], [["--dtls", "yes"], "must be one of"]]) {
    const { code, stderr } = await run("serve", ...args as string[]);
    assertEquals(code, 2);
    assertStringIncludes(stderr, message as string);
  }
});

/** `natkit` as a program that may not load libraries. */
function natkit(...args: string[]): Deno.Command {
  const flags = ["--quiet", "--no-prompt", "--allow-net", "--allow-read", "--allow-sys=networkInterfaces"];
  const all = ["run", ...flags, "--config", path("deno.json"), path("cli/main.ts"), ...args];
  return new Deno.Command(Deno.execPath(), { args: all, stdin: "null", stdout: "piped", stderr: "piped" });
}

Deno.test("without --allow-ffi: natkit serve says that DTLS is off, and what needs it says why it can not be", async () => {
  await using server = serveTurn({ listen: ["127.0.0.1:0"], realm: "r", users: {}, tls: TLS, dtls: false });
  const { port } = server.addresses[0]!;
  const why = Deno.build.os === "linux" ? "it needs --allow-ffi" : `it needs Linux: this is ${Deno.build.os}`;
  const serving = natkit("serve", "--listen", "127.0.0.1:0", ...FILES).spawn();
  const commands = [
    ["serve", "--listen", "127.0.0.1:0", "--dtls", "on", ...FILES],
    ["stun", `stuns:localhost:${port}`, "--transport", "dtls", "--insecure"],
    ["turn", `turns:127.0.0.1:${port}?transport=udp`, "--insecure"],
  ];
  const results = await Promise.all(commands.map(async (args) => {
    const { code, stderr } = await natkit(...args).output();
    return [code, new TextDecoder().decode(stderr).trim()];
  }));
  assertEquals(results, [
    [1, `natkit: Cannot serve DTLS: ${why}`],
    [1, `natkit: Cannot use DTLS: ${why}`],
    [1, `natkit: Cannot use "turns:127.0.0.1:${port}?transport=udp" over DTLS: ${why}`],
  ]);
  const reader = serving.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let said = "";
  while (!/DTLS is off.*\n/.test(said)) {
    const { done, value } = await reader.read();
    if (done) break;
    said += value;
  }
  serving.kill("SIGINT");
  assertStringIncludes(said, `  DTLS is off: ${why}\n`);
  while (!(await reader.read()).done);
  await Promise.all([serving.status, serving.stderr.cancel()]);
});
