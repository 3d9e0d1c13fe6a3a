// Binding with credentials: requestBinding() against coturn, which knows the long-term ones, and pion's client, which knows
// both, against serveStun().
import { assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import { StunError } from "../../stun/error.ts";
import { requestBinding } from "../../stun/request.ts";
import { serveStun, type ServeStunCredentials } from "../../stun/serve.ts";
import { UserTable } from "../../stun/mod.ts";
import { COTURN, startCoturn } from "./_coturn.ts";
import { peerTest, runPeer } from "./_peers.ts";

const PION = {
  programs: ["go", "/usr/share/gocode/src/github.com/pion/stun/stun.go"],
  install: "apt-get install -y golang-go golang-github-pion-stun-dev",
};

peerTest("coturn --secure-stun: requestBinding() with long-term credentials", COTURN, async () => {
  await using coturn = await startCoturn(["--secure-stun"]);
  const server = `stun:${coturn.address}`;
  const credentials = { type: "long-term", username: "test", password: "secret" } as const;
  const { mapped, local } = await requestBinding({ server, credentials });
  assertEquals(String(mapped), String(local));
  for (const wrong of [undefined, { ...credentials, password: "guess" }, { ...credentials, username: "nobody" }]) {
    const error = await assertRejects(() =>
      requestBinding({ server, rto: 200, rc: 3, rm: 2, ...(wrong === undefined ? {} : { credentials: wrong }) })
    );
    assertInstanceOf(error, StunError);
    assertEquals(error.code, 401);
  }
});

peerTest("pion's STUN client is let in by serveStun() with short- and long-term credentials", PION, async (t) => {
  const folder = await Deno.makeTempDir();
  try {
    const source = new URL("agents/pion_binding.go", import.meta.url).pathname;
    const program = `${folder}/client`;
    const build = ["GOPATH=/usr/share/gocode", "GO111MODULE=off", "GOFLAGS=", `GOCACHE=${folder}/cache`];
    const built = await runPeer("env", [...build, "go", "build", "-o", program, source], 180_000);
    assertEquals(built.code, 0, built.output);
    const all: ServeStunCredentials[] = [
      { type: "short-term", users: [["alice", "secret"]] },
      { type: "long-term", realm: "example.org", users: new UserTable("example.org", [["alice", "secret"]]) },
    ];
    for (const credentials of all) {
      await t.step(credentials.type, async () => {
        await using server = serveStun({ listen: ["127.0.0.1:0"], credentials });
        const ask = (password: string) =>
          runPeer(program, [String(server.addresses[0]), credentials.type, "alice", password]);
        const { code, output } = await ask("secret");
        assertEquals([code, output.startsWith("mapped 127.0.0.1:")], [0, true], output);
        assertEquals(await ask("guess"), { code: 1, output: "error 401\n" });
      });
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
