import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { main } from "../../cli/main.ts";
import { readAccessToken, restCredential, StunConnectionError, TransportAddress, UserTable } from "../../stun/mod.ts";
import { readUsers } from "../../stun/users_file.ts";
import { allocate, allocateTcp, TurnError } from "../../turn/mod.ts";
import { FakeTerminal } from "./_terminal.ts";
import { freePort } from "../free_port.ts";

const BASICS = ["--json", "--listen", "127.0.0.1:0", "--realm", "example.org"];

/** A terminal that can be sent signals. */
class SignalTerminal extends FakeTerminal {
  #handlers = new Map<string, () => void>();
  onSignal(name: "SIGHUP" | "SIGUSR1", handler: () => void): () => void {
    this.#handlers.set(name, handler);
    return () => void this.#handlers.delete(name);
  }
  signal(name: "SIGHUP" | "SIGUSR1"): void {
    this.#handlers.get(name)!();
  }
  get handlers(): number {
    return this.#handlers.size;
  }
}

/** `natkit serve` on loopback. */
async function serve(...args: string[]) {
  const terminal = new SignalTerminal();
  const exit = main(["serve", ...BASICS, ...args], terminal);
  const line = await Promise.race([
    terminal.line((text) => JSON.parse(text).t === "listening"),
    exit.then(() => Promise.reject(new Error(terminal.stderr.join("\n")))),
  ]);
  const server = TransportAddress.parse(JSON.parse(line).addresses[0]);
  return {
    terminal,
    server,
    exit,
    /** Allocates and lets go; gives the error code, or 0. */
    async try(username: string, password: string): Promise<number> {
      try {
        await using _relay = await allocate({ server, username, password, transport: "udp" });
        return 0;
      } catch (error) {
        if (error instanceof TurnError) return error.code;
        throw error;
      }
    },
    async [Symbol.asyncDispose]() {
      terminal.interrupt();
      assertEquals(await exit, 0);
      assertEquals(terminal.handlers, 0);
    },
  };
}

function said(terminal: FakeTerminal, t: string): Promise<string> {
  return terminal.line((text) => JSON.parse(text).t === t);
}

Deno.test("serve: users of a file, with passwords and with keys; read again when the file changes and on SIGHUP", async () => {
  const folder = await Deno.makeTempDir();
  const path = `${folder}/users`;
  try {
    await Deno.writeTextFile(path, `alice:secret\n${await passwordLine("bob", "hidden")}\n`);
    await using running = await serve("--users-file", path);
    assertEquals([await running.try("alice", "secret"), await running.try("bob", "hidden")], [0, 0]);
    assertEquals([await running.try("carol", "x"), await running.try("bob", "guess")], [401, 401]);
    await Deno.writeTextFile(`${path}.new`, "carol:x\n");
    await Deno.rename(`${path}.new`, path);
    await said(running.terminal, "reloaded");
    assertEquals([await running.try("carol", "x"), await running.try("alice", "secret")], [0, 401]);
    running.terminal.stdout.length = 0;
    running.terminal.signal("SIGHUP");
    await said(running.terminal, "reloaded");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

async function passwordLine(user: string, password: string): Promise<string> {
  const terminal = new FakeTerminal();
  terminal.type(password);
  assertEquals(await main(["password", "--user", user, "--realm", "example.org"], terminal), 0);
  assert(!terminal.stdout[0]!.includes(password));
  return terminal.stdout[0]!;
}

Deno.test("serve: a users file that is wrong at the start is an error; later the server goes on with what it had", async () => {
  const folder = await Deno.makeTempDir();
  const path = `${folder}/users`;
  try {
    const missing = new FakeTerminal();
    assertEquals(await main(["serve", "--users-file", path], missing), 1);
    assertMatch(missing.stderr[0]!, /^natkit: Cannot read .*users as there is no such file$/);
    await Deno.writeTextFile(path, "alice");
    const wrong = new FakeTerminal();
    assertEquals(await main(["serve", "--users-file", path], wrong), 1);
    assertMatch(wrong.stderr[0]!, /users: Cannot read users as line 1 must be NAME:PASSWORD/);
    await Deno.writeTextFile(path, "alice:secret");
    await using running = await serve("--users-file", path);
    await Deno.writeTextFile(path, "alice");
    running.terminal.signal("SIGHUP");
    while (running.terminal.stderr.length === 0) await running.try("alice", "secret");
    assertMatch(running.terminal.stderr[0]!, /line 1 .*: the server goes on with what it had$/);
    assertEquals(await running.try("alice", "secret"), 0);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("serve: time-limited credentials, with secrets of the command line and of a file", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/secrets`, "# for rollover\nold\nolder\n");
    await using running = await serve("--rest-secret", "new", "--rest-secret-file", `${folder}/secrets`);
    const expires = Date.now() / 1000 + 60;
    for (const [secret, code] of [["new", 0], ["old", 0], ["older", 0], ["other", 401]] as const) {
      const { username, password } = restCredential(secret, { expires, user: "alice" });
      assertEquals(await running.try(username, password), code, secret);
    }
    const terminal = new FakeTerminal();
    terminal.type("old");
    assertEquals(await main(["password", "--rest", "--user", "alice", "--ttl", "60", "--json"], terminal), 0);
    const { username, password, ttl } = JSON.parse(terminal.stdout[0]!);
    assertEquals([await running.try(username, password), ttl], [0, 60]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("serve: access tokens, with keys of the command line and of a file that is read again; natkit password makes them", async () => {
  const folder = await Deno.makeTempDir();
  const keys = [
    "one:AAAAAAAAAAAAAAAAAAAAAA==",
    "two:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
    "a:b:AgICAgICAgICAgICAgICAg==",
  ];
  try {
    await Deno.writeTextFile(`${folder}/keys`, `# for rollover\n${keys[1]}\n`);
    await using running = await serve("--oauth-key", keys[0]!, "--oauth-key-file", `${folder}/keys`);
    const tryKey = async (key: string, name = "example.org") => {
      const terminal = new FakeTerminal();
      terminal.type(key);
      assertEquals(await main(["password", "--token", "--server-name", name, "--ttl", "60"], terminal), 0);
      const accessToken = readAccessToken(terminal.stdout[0]!, Date.now() / 1000);
      try {
        await using _relay = await allocate({ server: running.server, accessToken, transport: "udp" });
        return 0;
      } catch (error) {
        if (error instanceof TurnError) return error.code;
        throw error;
      }
    };
    assertEquals([await tryKey(keys[0]!), await tryKey(keys[1]!), await tryKey(keys[2]!)], [0, 0, 401]);
    assertEquals(await tryKey(keys[0]!, "other.example.org"), 401);
    await Deno.writeTextFile(`${folder}/keys`, keys[2]!);
    running.terminal.signal("SIGHUP");
    await said(running.terminal, "reloaded");
    assertEquals([await tryKey(keys[0]!), await tryKey(keys[1]!), await tryKey(keys[2]!)], [0, 401, 0]);
    const turn = async (...args: string[]) => {
      const terminal = new FakeTerminal();
      const uri = `turn:${running.server}`;
      const code = await main(["turn", uri, "--transport", "udp", "--count", "1", ...args], terminal);
      return { code, text: [...terminal.stdout, ...terminal.stderr].join("\n") };
    };
    for (const [key, code, what] of [[keys[2]!, 0, "TURN works"], [keys[1]!, 1, 'know the key "two"']] as const) {
      const terminal = new FakeTerminal();
      terminal.type(key);
      await main(["password", "--token", "--server-name", "example.org"], terminal);
      await Deno.writeTextFile(`${folder}/token`, terminal.stdout[0]!);
      const result = await turn("--token", `${folder}/token`);
      assertEquals(result.code, code);
      assertStringIncludes(result.text, what);
    }
    assertEquals((await turn("--token", `${folder}/nothing`)).code, 2);
    assertEquals((await turn("--token", `${folder}/keys`)).code, 2);
    assertEquals((await turn("--token", `${folder}/token`, "--user", "a:b")).code, 2);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("serve, password: keys of access tokens that are none are told, and not shown", async () => {
  const wrong = ["secret", "kid:secret", "kid:AAAA", ":AAAAAAAAAAAAAAAAAAAAAA=="];
  for (const key of wrong) {
    const terminal = new FakeTerminal();
    assertEquals(await main(["serve", ...BASICS, "--oauth-key", key], terminal), 2);
    assertStringIncludes(terminal.stderr.join("\n"), "must be KID:KEY");
    assertEquals(terminal.stderr.join("\n").includes("AAAA"), false);
    assertEquals(terminal.stderr.join("\n").includes("secret"), false);
  }
  for (const args of [["serve", ...BASICS, "--oauth-name", "a"], ["password", "--token"]]) {
    assertEquals(await main(args, new FakeTerminal()), 2);
  }
});

Deno.test("serve: whom a web service knows", async () => {
  const asked: unknown[] = [];
  const keys = readUsers(await passwordLine("keys", "secret"))[0]![1] as { md5: Uint8Array; sha256: Uint8Array };
  assertEquals(new UserTable("example.org", [["keys", keys]]).size, 1);
  await using service = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const body = await request.json();
    asked.push([request.method, body]);
    if (body.username === "alice") return Response.json({ password: "secret" });
    if (body.username === "keys") return Response.json({ md5: keys.md5.toHex(), sha256: keys.sha256.toHex() });
    return new Response("no", { status: 404 });
  });
  await using running = await serve("--auth-url", `http://127.0.0.1:${service.addr.port}/who`, "--user", "bob:hidden");
  assertEquals([await running.try("alice", "secret"), await running.try("keys", "secret")], [0, 0]);
  assertEquals([await running.try("nobody", "x"), await running.try("bob", "hidden")], [401, 0]);
  assertEquals(asked[0], ["POST", { username: "alice", realm: "example.org", client: "127.0.0.1" }]);
  assertEquals(asked.length, 3);
});

Deno.test("serve: SIGUSR1 drains, and the end of the last allocation is the end of the server", async () => {
  await using running = await serve("--user", "alice:secret");
  const { server, terminal, exit } = running;
  const relay = await allocate({ server, username: "alice", password: "secret" });
  terminal.signal("SIGUSR1");
  assertEquals(JSON.parse(await said(terminal, "draining")).allocations, 1);
  assertEquals(await running.try("alice", "secret"), 508);
  await relay.close();
  assertEquals(await exit, 0);
  assertEquals(JSON.parse(terminal.stdout.at(-1)!).limits.draining, 1);
});

Deno.test("serve: a full server names another one", async () => {
  await using other = await serve("--user", "alice:secret");
  await using full = await serve(
    "--user",
    "alice:secret",
    "--total-quota",
    "0",
    "--alternate-server",
    `${other.server}`,
  );
  await using relay = await allocate({ server: full.server, username: "alice", password: "secret" });
  assertEquals(relay.relayedAddress.address, "127.0.0.1");
  await said(other.terminal, "allocated");
});

Deno.test("serve: challenges and bandwidth are limited as told", async () => {
  await using running = await serve("--user", "alice:secret", "--challenge-rate", "0", "--max-bps", "64000");
  for (let i = 0; i < 120; i++) assertEquals(await running.try("nobody", "x"), 401);
  assertEquals(await running.try("alice", "secret"), 0);
});

Deno.test("serve: permissions and channels of an allocation, and clients by TCP, are limited as told", async () => {
  await using running = await serve(
    ...["--user", "alice:secret", "--allow-peer", "127.0.0.0/8"],
    ...["--permissions", "1", "--channels", "1", "--max-clients-per-address", "1"],
  );
  const credentials = { username: "alice", password: "secret" };
  await using relay = await allocate({ server: running.server, ...credentials });
  const peer = (host: number) => TransportAddress.of(`127.0.0.${host}`, 9);
  await relay.bindChannel(peer(1));
  assertEquals((await assertRejects(() => relay.permit(peer(2)), TurnError)).code, 508);
  assertEquals((await assertRejects(() => relay.bindChannel(peer(1).withPort(10)), TurnError)).code, 508);
  const tcp = `turn:${running.server}?transport=tcp`;
  await using first = await allocate({ server: tcp, ...credentials });
  await assertRejects(() => allocate({ server: tcp, ...credentials }), StunConnectionError);
  assertEquals(first.relayedAddress.address, "127.0.0.1");
});

Deno.test("serve: options that do not fit are told, and no secret is shown", async () => {
  const cases: [string[], RegExp][] = [
    [["--cert", "x"], /Options --cert and --key belong together/],
    [["--listen-tls", "127.0.0.1:0"], /--listen-tls needs --cert and --key/],
    [["--auth-url", "ftp://example.org"], /must begin with http/],
    [["--alternate-server", "elsewhere:1"], /elsewhere/],
    [["--max-bps", "0"], /Option --max-bps must be a whole number from 1/],
    [["--channels", "4097"], /Option --channels must be a whole number from 1 to 4096/],
    [["--max-clients", "0"], /Option --max-clients must be/],
    [["--challenge-rate", "many"], /challenge-rate/],
    [["--binding-rate", "0"], /Option --binding-rate must be a whole number from 1/],
    [["--deny-peer", "10.0.0.0/8:0"], /10\.0\.0\.0\/8:0/],
  ];
  for (const [args, expected] of cases) {
    const terminal = new FakeTerminal();
    assertEquals(await main(["serve", ...args], terminal), 2, args.join(" "));
    assertMatch(terminal.stderr.join("\n"), expected);
  }
});

Deno.test("serve: TLS with a certificate that is read again on SIGHUP", async () => {
  const vector = (name: string) => new URL(`../vectors/tls/${name}.pem`, import.meta.url);
  const folder = await Deno.makeTempDir();
  const use = async (name: string) => {
    await Deno.copyFile(vector(name), `${folder}/cert.pem`);
    await Deno.copyFile(vector(`${name}_key`), `${folder}/key.pem`);
  };
  try {
    await use("one");
    const ca = [await Deno.readTextFile(vector("ca"))];
    const files = ["--cert", `${folder}/cert.pem`, "--key", `${folder}/key.pem`];
    await using running = await serve("--user", "alice:secret", ...files);
    const connect = async (serverName: string) => {
      const tls = { ca, serverName };
      const { server } = running;
      await using relay = await allocate({ server, username: "alice", password: "secret", transport: "tls", tls });
      return relay.relayedAddress.address;
    };
    assertEquals(await connect("one.example"), "127.0.0.1");
    await use("two");
    running.terminal.signal("SIGHUP");
    await said(running.terminal, "reloaded");
    assertEquals(await connect("two.example"), "127.0.0.1");
    await assertRejects(() => connect("one.example"));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("password: wrong usage, and an empty stdin", async () => {
  const bare = new FakeTerminal();
  assertEquals(await main(["password"], bare), 2);
  assertStringIncludes(bare.stderr[0]!, "--user and --realm");
  const silent = new FakeTerminal();
  silent.end();
  assertEquals(await main(["password", "--rest"], silent), 2);
});

Deno.test("serve: the greeting tells what is served on each address; the second port of RFC 5780 too", async () => {
  const terminal = new FakeTerminal();
  const vector = (name: string) => new URL(`../vectors/tls/${name}.pem`, import.meta.url).pathname;
  const exit = main([
    ...["serve", "--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0"],
    ...["--cert", vector("one"), "--key", vector("one_key"), "--dtls", "off"],
  ], terminal);
  await terminal.line((text) => text.includes("UDP by"));
  terminal.interrupt();
  assertEquals(await exit, 0);
  assertMatch(terminal.stdout[1]!, /^ {2}127\.0\.0\.1:\d+ udp, tcp, tls$/);
  assertMatch(terminal.stdout[2]!, /^ {2}127\.0\.0\.1:\d+ tls$/);
  const two = new FakeTerminal();
  const port = freePort();
  const pair = ["--listen", `127.0.0.1:${port}`, "--listen", `127.0.0.2:${port}`];
  const end = main(["serve", ...pair], two);
  await two.line((text) => text.includes("UDP by"));
  two.interrupt();
  assertEquals(await end, 0);
  assertEquals(two.stdout.slice(1, 5).map((line) => line.split(" ").slice(3).join(" ")), new Array(4).fill("udp, tcp"));
});

Deno.test("RFC 5780, RFC 3489: serve --alternate-port is the second port, and --classic answers without the cookie", async () => {
  const [port, second] = [freePort(), freePort()];
  for (const flags of [[], ["--classic"]]) {
    const terminal = new FakeTerminal();
    const listen = ["--listen", `127.0.0.1:${port}`, "--listen", `127.0.0.2:${port}`, "--alternate-port", `${second}`];
    const exit = main(["serve", "--json", ...listen, ...flags], terminal);
    const { addresses } = JSON.parse(await terminal.line((text) => text.includes("listening")));
    assertEquals(addresses.slice(2), [`127.0.0.1:${second}`, `127.0.0.2:${second}`]);
    const client = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
    // A request of RFC 3489, then one of RFC 8489: who ignores the first answers the second first.
    const classic = new Uint8Array(20).fill(7, 4);
    classic.set([0x00, 0x01, 0x00, 0x00]);
    const modern = classic.slice();
    modern.set([0x21, 0x12, 0xa4, 0x42], 4);
    for (const request of [classic, modern]) {
      await client.send(request, { transport: "udp", hostname: "127.0.0.1", port });
    }
    const [answer] = await client.receive();
    assertEquals([answer[1], answer[4]], [0x01, flags.length === 0 ? 0x21 : 7]);
    client.close();
    terminal.interrupt();
    assertEquals(await exit, 0);
  }
});

Deno.test("serve --tcp-relay: TCP to peers, told as it comes and goes, and found by natkit turn; without it 442", async () => {
  {
    await using off = await serve("--user", "alice:secret");
    const options = { server: `turn:${off.server}?transport=tcp`, username: "alice", password: "secret" };
    assertEquals((await assertRejects(() => allocateTcp(options), TurnError)).code, 442);
  }
  const limits = ["--connections", "1", "--total-connections", "5"];
  await using on = await serve("--tcp-relay", "--user", "alice:secret", "--allow-peer", "127.0.0.0/8", ...limits);
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const peer = TransportAddress.of("127.0.0.1", listener.addr.port);
  const options = { server: `turn:${on.server}?transport=tcp`, username: "alice", password: "secret" };
  await using relay = await allocateTcp(options);
  const [connection, conn] = await Promise.all([relay.connect(peer), listener.accept()]);
  assertEquals((await assertRejects(() => relay.connect(peer.withPort(1)), TurnError)).code, 508);
  const { connection: connected, transport, username } = JSON.parse(await said(on.terminal, "connected"));
  assertEquals([connected.peer, connected.by, transport, username], [String(peer), "client", "tcp", "alice"]);
  connection.close();
  conn.close();
  await said(on.terminal, "disconnected");
  const probe = new FakeTerminal();
  const turn = ["turn", `turn:${on.server}`, "--transport", "tcp", "--user", "alice:secret", "--count", "5", "--json"];
  await main(turn, probe);
  assertEquals(JSON.parse(probe.stdout[0]!).features.tcpPeers, true);
});
