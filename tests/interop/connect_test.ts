// `natkit connect --json` crossed with itself and with independent ICE agents, both roles, host and relay, with Debian's
// coturn as the STUN and TURN server.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { COTURN, startCoturn } from "./_coturn.ts";
import { crossAgents } from "./_pair.ts";
import { type PeerPrograms, peerTest } from "./_peers.ts";

const root = new URL("../../", import.meta.url);
const path = (file: string) => new URL(file, root).pathname;
const AIOICE: PeerPrograms = {
  programs: ["turnserver", "/usr/lib/python3/dist-packages/aioice/__init__.py"],
  install: "apt-get install -y coturn python3-aioice",
};
const LIBNICE: PeerPrograms = {
  programs: ["turnserver", "gcc", "/usr/include/nice/agent.h", "/usr/include/json-glib-1.0/json-glib/json-glib.h"],
  install: "apt-get install -y coturn gcc pkg-config libnice-dev libjson-glib-dev",
};

/** Our own agent, as a program. */
const NATKIT = [
  ...[Deno.execPath(), "run", "--quiet", "--no-prompt", "--allow-net", "--allow-sys=networkInterfaces"],
  ...["--config", path("deno.json"), path("cli/main.ts"), "connect", "--json"],
];
const AIOICE_AGENT = ["/usr/bin/python3", path("tests/interop/agents/aioice_agent.py")];

/** Builds the libnice agent into a folder that goes with the test. */
async function niceAgent(): Promise<{ command: string[] } & AsyncDisposable> {
  const folder = await Deno.makeTempDir({ prefix: "natkit-nice-" });
  const script = `gcc -o "$1/nice_agent" "$2" $(pkg-config --cflags --libs nice json-glib-1.0)`;
  const { success, stderr } = await new Deno.Command("bash", {
    args: ["-c", script, "bash", folder, path("tests/interop/agents/nice_agent.c")],
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  return {
    command: [`${folder}/nice_agent`],
    [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }),
  };
}

/** Crosses two agents on loopback through coturn and checks that they agree on the path. */
async function cross(a: string[], b: string[], policy: "all" | "relay"): Promise<void> {
  await using coturn = await startCoturn();
  const options = ["--bind", "127.0.0.1", "--stun", String(coturn.address), "--turn", String(coturn.address)];
  const credentials = ["--user", "test", "--pass", "secret", "--policy", policy];
  const results = await crossAgents([
    [...a, ...options, ...credentials, "--role", "controlling"],
    [...b, ...options, ...credentials, "--role", "controlled"],
  ]);
  // Only of our own ends: aioice checks from its host sockets as well when it shall use relays only.
  const type = policy === "relay" ? "typ relay" : "typ host";
  [a, b].forEach((command, i) => command === NATKIT && assertStringIncludes(results[i]!.local, type));
  // Both ends mean the same path.
  const addressOf = (line: string) => line.split(" ").slice(4, 6).join(" ");
  assertEquals(addressOf(results[0].local), addressOf(results[1].remote));
}

for (const policy of ["all", "relay"] as const) {
  const way = policy === "all" ? "host" : "relay";
  peerTest(`connect: natkit and natkit through coturn, ${way}`, COTURN, () => cross(NATKIT, NATKIT, policy));
  peerTest(`connect: natkit controlling and aioice, ${way}`, AIOICE, () => cross(NATKIT, AIOICE_AGENT, policy));
  peerTest(`connect: aioice controlling and natkit, ${way}`, AIOICE, () => cross(AIOICE_AGENT, NATKIT, policy));
  peerTest(`connect: natkit controlling and libnice, ${way}`, LIBNICE, async () => {
    await using nice = await niceAgent();
    await cross(NATKIT, nice.command, policy);
  });
  peerTest(`connect: libnice controlling and natkit, ${way}`, LIBNICE, async () => {
    await using nice = await niceAgent();
    await cross(nice.command, NATKIT, policy);
  });
}
