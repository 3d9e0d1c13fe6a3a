// allocate() and probeTurn() against a TURN server by pion.
import { assert, assertEquals } from "@std/assert";
import { allocate } from "../../turn/allocate.ts";
import { probeTurn } from "../../turn/probe.ts";
import { peerTest, runPeer } from "./_peers.ts";
import { freePort } from "../free_port.ts";

const PION = {
  programs: ["go", "/usr/share/gocode/src/github.com/pion/turn/v2/server.go"],
  install: "apt-get install -y golang-go golang-github-pion-{dtls,turn}.v2-dev",
};
const pem = (name: string) => new URL(`../vectors/tls/${name}.pem`, import.meta.url).pathname;

/** Builds and starts the server. Gives its port; TLS is on the next one, DTLS on the one after that. */
async function startPion(): Promise<AsyncDisposable & { readonly port: number }> {
  const folder = await Deno.makeTempDir();
  const program = `${folder}/server`;
  const build = ["GOPATH=/usr/share/gocode", "GO111MODULE=off", "GOFLAGS=", `GOCACHE=${folder}/cache`];
  const source = new URL("agents/pion_server.go", import.meta.url).pathname;
  const built = await runPeer("env", [...build, "go", "build", "-o", program, source], 180_000);
  assertEquals(built.code, 0, built.output);
  const port = freePort(3);
  const args = [`127.0.0.1:${port}`, pem("one"), pem("one_key")];
  const child = new Deno.Command(program, { args, stdin: "piped", stdout: "piped", stderr: "inherit" }).spawn();
  const reader = child.stdout.getReader();
  const { done } = await reader.read();
  assert(!done, "the server ended at once");
  reader.releaseLock();
  return {
    port,
    async [Symbol.asyncDispose]() {
      await child.stdin.close();
      await child.stdout.cancel();
      await child.status;
      await Deno.remove(folder, { recursive: true });
    },
  };
}

peerTest("pion: the TURN client over UDP, TCP, TLS and DTLS, and probeTurn()", PION, async (t) => {
  await using pion = await startPion();
  const credentials = { username: "test", password: "secret" };
  const tls = { ca: [await Deno.readTextFile(pem("ca"))] };
  const servers = [
    `turn:127.0.0.1:${pion.port}`,
    `turn:127.0.0.1:${pion.port}?transport=tcp`,
    `turns:localhost:${pion.port + 1}`,
    `turns:localhost:${pion.port + 2}?transport=udp`,
  ];
  for (const server of servers) {
    await t.step(server.replaceAll(/\d{4,}/g, "PORT"), async () => {
      await using relay = await allocate({ server, tls, ...credentials });
      await using peer = await allocate({ server, tls, ...credentials });
      await Promise.all([relay.bindChannel(peer.relayedAddress), peer.permit(relay.relayedAddress)]);
      for (const size of [5, 100, 1200]) {
        relay.send(peer.relayedAddress, new Uint8Array(size).fill(7));
        const { value } = await peer[Symbol.asyncIterator]().next();
        assertEquals([String(value!.from), value!.data.length], [String(relay.relayedAddress), size]);
      }
      assertEquals(relay.stats().sentChannelData, 3);
    });
  }
  await t.step("probeTurn(): a wrong password", async () => {
    const options = { ...credentials, password: "guess", transports: ["udp", "tcp"] } as const;
    const report = await probeTurn({ server: servers[0]!, ...options });
    assertEquals(report.paths.map(({ failure }) => failure?.kind), ["wrong-credentials", "wrong-credentials"]);
  });
  await t.step("probeTurn()", async () => {
    const report = await probeTurn({ server: servers[0]!, ...credentials, transports: ["udp", "tcp"], count: 20 });
    assertEquals([report.verdict, report.realm], ["TURN works over UDP and TCP", "example.org"]);
    assertEquals([report.permissionsEnforced, report.reachableFromOutside], [true, true]);
    assertEquals(report.paths[0]!.channel!.received, 20);
    assert(report.paths[0]!.largest! >= 1200, `${report.paths[0]!.largest}`);
  });
});
