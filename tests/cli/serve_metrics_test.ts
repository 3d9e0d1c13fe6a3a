import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { main } from "../../cli/main.ts";
import { metricsText } from "../../cli/serve_metrics.ts";
import { TransportAddress } from "../../stun/mod.ts";
import { allocate, serveTurn } from "../../turn/mod.ts";
import { FakeTerminal } from "./_terminal.ts";

const BASICS = [
  "--json",
  "--listen",
  "127.0.0.1:0",
  "--realm",
  "example.org",
  "--io",
  "deno",
  "--user",
  "alice:secret",
];

Deno.test("serve --metrics: counters of allocations, refusals and connections by HTTP; 503 once it is draining", async () => {
  const handlers = new Map<string, () => void>();
  const terminal = Object.assign(new FakeTerminal(), {
    onSignal(name: string, handler: () => void) {
      handlers.set(name, handler);
      return () => void handlers.delete(name);
    },
  });
  const exit = main(["serve", ...BASICS, "--metrics", "127.0.0.1:0"], terminal);
  const kind = (t: string) => terminal.line((text) => JSON.parse(text).t === t);
  const server = TransportAddress.parse(JSON.parse(await kind("listening")).addresses[0]);
  const { url } = JSON.parse(await kind("metrics"));
  const get = async (path: string) => {
    const response = await fetch(new URL(path, url));
    return [response.status, await response.text()] as const;
  };
  {
    await using _relay = await allocate({ server, username: "alice", password: "secret" });
    const [status, text] = await get("/metrics");
    assertEquals(status, 200);
    assertStringIncludes(text, "# TYPE natkit_turn_allocations gauge\nnatkit_turn_allocations 1\n");
    assertStringIncludes(text, "# TYPE natkit_turn_allocations_total counter\nnatkit_turn_allocations_total 1\n");
    assertStringIncludes(text, 'natkit_turn_error_answers_total{code="401"} 1\n');
    assertStringIncludes(text, 'natkit_turn_dropped_total{reason="noPermission"} 0\n');
    const [, stats] = await get("/stats");
    assertEquals(JSON.parse(stats).allocations, 1);
    assertEquals(JSON.parse(stats).streams.open, 0);
    assertEquals(await get("/health"), [200, "ok\n"]);
    handlers.get("SIGUSR1")!();
    assertEquals(await get("/health"), [503, "draining\n"]);
    assertEquals((await get("/other"))[0], 404);
    const post = await fetch(url, { method: "POST" });
    await post.body?.cancel();
    assertEquals(post.status, 405);
  }
  assertEquals(await exit, 0);
});

Deno.test("Metrics: every line is a type or a sample of Prometheus' text format, and no name comes twice", async () => {
  await using server = serveTurn({ listen: ["127.0.0.1:0"], realm: "example.org", users: {} });
  const text = metricsText(server.stats(), server.streamStats());
  const types = new Set<string>();
  for (const line of text.trimEnd().split("\n")) {
    if (line.startsWith("#")) {
      assertMatch(line, /^# TYPE natkit_[a-z_]+ (gauge|counter)$/);
      assert(!types.has(line), line);
      types.add(line);
    } else assertMatch(line, /^natkit_[a-z_]+(\{[a-z]+="\w+"\})? \d+$/);
  }
  assert(types.size > 20);
});

Deno.test("serve --metrics: an address that is none is wrong usage, a port in use an error", async () => {
  const terminal = new FakeTerminal();
  assertEquals(await main(["serve", ...BASICS, "--metrics", "nowhere"], terminal), 2);
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  assertEquals(await main(["serve", ...BASICS, "--metrics", `127.0.0.1:${taken.addr.port}`], terminal), 1);
});
