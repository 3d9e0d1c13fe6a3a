import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { main } from "../../cli/main.ts";
import { openIce } from "../../ice/mod.ts";
import { serveTurn } from "../../turn/mod.ts";
import { FakeTerminal } from "./_terminal.ts";

const isDescription = (line: string) => line.includes("ice-ufrag:");

Deno.test("connect: two terminals, each given the other's line; then lines travel", async () => {
  const [a, b] = [new FakeTerminal(), new FakeTerminal()];
  const codes = [a, b].map((terminal) => main(["connect", "--bind", "127.0.0.1"], terminal));
  b.type(await a.line(isDescription));
  a.type(await b.line(isDescription));
  a.type("hello from a");
  b.type("hello from b");
  assertEquals(await b.line((line) => !isDescription(line)), "hello from a");
  assertEquals(await a.line((line) => !isDescription(line)), "hello from b");
  a.end();
  b.end();
  assertEquals(await Promise.all(codes), [0, 0]);
  assertMatch(
    a.stderr.join("\n"),
    /connected in \d+ ms: 127\.0\.0\.1:\d+ \(host\) <-> 127\.0\.0\.1:\d+ \(host\), round trip/,
  );
});

Deno.test("connect: relayed, through a server of ours", async () => {
  await using server = serveTurn({
    listen: ["127.0.0.1:0"],
    realm: "example.org",
    users: { alice: "secret" },
    allowPeers: ["127.0.0.0/8"],
  });
  const args = ["connect", "--turn", String(server.addresses[0]), "--user", "alice", "--pass", "secret"];
  const [a, b] = [new FakeTerminal(), new FakeTerminal()];
  const codes = [a, b].map((terminal) => main([...args, "--policy", "relay"], terminal));
  b.type(await a.line(isDescription));
  a.type(await b.line(isDescription));
  a.type("over the relay");
  assertEquals(await b.line((line) => !isDescription(line)), "over the relay");
  a.end();
  b.end();
  assertEquals(await Promise.all(codes), [0, 0]);
  assertMatch(a.stderr.join("\n"), /\(relay\) <-> 127\.0\.0\.1:\d+ \(relay\)/);
});

Deno.test("connect: a wrong password is one clear line and exit code 1", async () => {
  await using server = serveTurn({ listen: ["127.0.0.1:0"], realm: "example.org", users: { alice: "secret" } });
  const terminal = new FakeTerminal();
  const turn = ["--turn", String(server.addresses[0]), "--user", "alice", "--pass", "wrong", "--policy", "relay"];
  assertEquals(await main(["connect", ...turn], terminal), 1);
  const said = terminal.stderr.filter((line) => line.startsWith("natkit:"));
  assertEquals(said.length, 1, terminal.stderr.join("\n"));
  assertMatch(said[0]!, /password|credentials|401/);
});

Deno.test("connect: a description that does not parse is named with its line, exit code 1", async () => {
  const terminal = new FakeTerminal();
  const code = main(["connect", "--bind", "127.0.0.1"], terminal);
  await terminal.line(isDescription);
  terminal.type("a=ice-ufrag:abcd");
  terminal.type("a=ice-pwd:short");
  terminal.type("");
  assertEquals(await code, 1);
  assertMatch(terminal.stderr.at(-1)!, /line 2 \("a=ice-pwd:short"\)/);
});

Deno.test("connect: a line that was broken where it was copied from is put together, one's own is refused", async () => {
  const [a, b] = [new FakeTerminal(), new FakeTerminal()];
  const codes = [a, b].map((terminal) => main(["connect", "--bind", "127.0.0.1"], terminal));
  const line = await a.line(isDescription);
  for (let at = 0; at < line.length; at += 60) b.type(line.slice(at, at + 60));
  a.type(await b.line(isDescription));
  a.type("hello");
  assertEquals(await b.line((line) => !isDescription(line)), "hello");
  a.end();
  b.end();
  assertEquals(await Promise.all(codes), [0, 0]);

  const alone = new FakeTerminal();
  const code = main(["connect", "--bind", "127.0.0.1"], alone);
  alone.type(await alone.line(isDescription));
  assertEquals(await code, 1);
  assertStringIncludes(alone.stderr.at(-1)!, "This is this side's own line");
});

Deno.test("connect: the end of the input before a description, exit code 1", async () => {
  const terminal = new FakeTerminal();
  const code = main(["connect", "--bind", "127.0.0.1"], terminal);
  await terminal.line(isDescription);
  terminal.end();
  assertEquals(await code, 1);
  assertStringIncludes(terminal.stderr.at(-1)!, "input ended before the other side's description");
});

Deno.test("connect: Ctrl-C at the prompt ends it", async () => {
  const terminal = new FakeTerminal();
  const code = main(["connect", "--bind", "127.0.0.1"], terminal);
  await terminal.line(isDescription);
  terminal.interrupt();
  assertEquals(await code, 1);
  assertEquals(terminal.stderr.at(-1), "natkit: Interrupted");
});

Deno.test("connect --json: params, candidates, end of candidates, connected, data, close", async () => {
  const [a, b] = [new FakeTerminal(), new FakeTerminal()];
  const codes = ["controlling", "controlled"].map((role, i) =>
    main(["connect", "--json", "--bind", "127.0.0.1", "--role", role], [a, b][i]!)
  );
  const is = (...types: string[]) => (line: string) => types.includes(JSON.parse(line).t);
  for (const [from, to] of [[a, b], [b, a]] as const) {
    await from.line(is("eoc"));
    for (const line of from.stdout.filter(is("params", "cand", "eoc"))) to.type(line);
  }
  const connected = JSON.parse(await a.line(is("connected")));
  assertMatch(connected.local, /^\S+ 1 udp \d+ 127\.0\.0\.1 \d+ typ host$/);
  a.type(`{"t":"nonsense"}`);
  a.type(`{"t":"send","d":"ping0"}`);
  assertEquals(JSON.parse(await b.line(is("recv"))).d, "ping0");
  assertMatch(JSON.parse(await a.line(is("warn"))).e, /Unknown message "nonsense"/);
  a.type(`{"t":"close"}`);
  b.type(`{"t":"close"}`);
  assertEquals(await Promise.all(codes), [0, 0]);
});

Deno.test("connect --json: a restart, which the other side answers; data goes on", async () => {
  const [a, b] = [new FakeTerminal(), new FakeTerminal()];
  const is = (...types: string[]) => (line: string) => types.includes(JSON.parse(line).t);
  for (const [from, to] of [[a, b], [b, a]] as const) {
    const out = from.out.bind(from);
    from.out = (line) => {
      out(line);
      if (is("params", "cand", "eoc")(line)) to.type(line);
    };
  }
  const codes = [a, b].map((terminal) => main(["connect", "--json", "--bind", "127.0.0.1"], terminal));
  await Promise.all([a.line(is("connected")), b.line(is("connected"))]);
  a.type(`{"t":"restart"}`);
  a.type(`{"t":"send","d":"meanwhile"}`);
  assertEquals(JSON.parse(await b.line(is("recv"))).d, "meanwhile");
  const again = (terminal: FakeTerminal) => {
    let count = 0;
    return terminal.line((line) => line === `{"t":"state","s":"completed"}` && ++count === 2);
  };
  await Promise.all([again(a), again(b)]);
  assertEquals([a, b].map(({ stdout }) => stdout.filter(is("params")).length), [2, 2]);
  a.type(`{"t":"close"}`);
  b.type(`{"t":"close"}`);
  assertEquals(await Promise.all(codes), [0, 0]);
});

Deno.test("connect --tcp: by TCP where the descriptions have nothing else", async () => {
  const [a, b] = [new FakeTerminal(), new FakeTerminal()];
  const codes = ["active", "passive"].map((tcp, i) =>
    main(["connect", "--bind", "127.0.0.1", "--tcp", tcp], [a, b][i]!)
  );
  const withoutUdp = (line: string) => line.split(",").filter((part) => !part.includes("~udp~")).join(",");
  b.type(withoutUdp(await a.line(isDescription)));
  a.type(withoutUdp(await b.line(isDescription)));
  a.type("hello over TCP");
  assertEquals(await b.line((line) => !isDescription(line)), "hello over TCP");
  a.end();
  b.end();
  assertEquals(await Promise.all(codes), [0, 0]);
  assertMatch(
    a.stderr.join("\n"),
    /connected in \d+ ms: 127\.0\.0\.1:9 \(TCP host\) <-> 127\.0\.0\.1:\d+ \(TCP host\)/,
  );
  assertEquals(await main(["connect", "--tcp", "sideways"], new FakeTerminal()), 2);
});

Deno.test("connect --ports, --external, --ip, --interface: what the description tells of this computer", async () => {
  const describe = async (...args: string[]) => {
    const terminal = new FakeTerminal();
    const code = main(["connect", "--tcp", "none", ...args], terminal);
    const line = await terminal.line(isDescription);
    terminal.end();
    await code;
    return line;
  };
  const loopback = ["--interface", "lo", "--ip", "4"];
  assertMatch(await describe(...loopback, "--ports", "40000-45000"), /~udp~\d+~127\.0\.0\.1~4[0-5]\d{3}~typ~host/);
  const external = await describe(...loopback, "--external", "127.0.0.0/8=203.0.113.5");
  assertMatch(external, /~udp~\d+~203\.0\.113\.5~\d+~typ~host/);
  assertEquals(external.includes("127.0.0.1"), false);
});

Deno.test("connect: options about addresses that make no sense, exit code 2", async () => {
  for (
    const [args, why] of [
      [["--ports", "high"], /--ports must be like 50000-50099/],
      [["--path", "best"], /--path must be one of first, priority, quality: "best"/],
      [["--standby", "9"], /--standby must be/],
      [["--ports", "5-4"], /two ports from 1 to 65535/],
      [["--external", "10.0.0.0/99=203.0.113.5"], /"10\.0\.0\.0\/99" is no range/],
      [["--ip", "5"], /ip/],
    ] as const
  ) {
    const terminal = new FakeTerminal();
    assertEquals(await main(["connect", ...args], terminal), 2);
    assertMatch(terminal.stderr.join("\n"), why);
  }
});

Deno.test("connect: a description that comes later is a restart, which is answered by a new line, and no data", async () => {
  const [a, b] = [new FakeTerminal(), new FakeTerminal()];
  const codes = [a, b].map((terminal) => main(["connect", "--bind", "127.0.0.1"], terminal));
  const first = await b.line(isDescription);
  b.type(await a.line(isDescription));
  a.type(first);
  a.type("before");
  await b.line((line) => line === "before");
  await using other = openIce({ bind: ["127.0.0.1"] });
  b.type(await other.localDescription());
  const answer = await b.line((line) => isDescription(line) && line !== first);
  assertEquals(answer === first, false);
  // Data goes on along the pair that there is.
  b.type("after");
  assertEquals(await a.line((line) => !isDescription(line)), "after");
  a.end();
  b.end();
  assertEquals(await Promise.all(codes), [0, 0]);
});
