// The command line as its users run it, against Debian's coturn tools and servers.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { COTURN, startCoturn, untilAnswered, untilEcho } from "./_coturn.ts";
import { type PeerPrograms, peerTest, runPeer, startPeer } from "./_peers.ts";
import { TransportAddress } from "../../stun/address.ts";
import { freePort } from "../free_port.ts";

const TOOLS: PeerPrograms = {
  programs: ["turnutils_uclient", "turnutils_peer", "turnutils_stunclient"],
  install: "apt-get install -y coturn",
};
const STUND: PeerPrograms = { programs: ["stund"], install: "apt-get install -y stun-server" };

const root = new URL("../../", import.meta.url);
const path = (file: string) => new URL(file, root).pathname;
const NATKIT = [
  ...["run", "--quiet", "--no-prompt", "--allow-net", "--allow-sys=networkInterfaces", "--allow-ffi"],
  ...["--config", path("deno.json"), path("cli/main.ts")],
];

/** A `natkit serve --json` in a process of its own. */
interface ServeProcess extends AsyncDisposable {
  readonly address: TransportAddress;
  /** Which back end carries UDP. */
  readonly io: string;
  /** Sends SIGINT, and gives the exit code and the last line. */
  stop(): Promise<{ code: number; stats: Record<string, unknown> }>;
}

async function startServe(...args: string[]): Promise<ServeProcess> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...NATKIT, "serve", "--json", "--listen", "127.0.0.1:0", "--realm", "example.org", ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!text.includes("\n")) {
    const { done, value } = await reader.read();
    if (done) throw new Error(`natkit serve ended: ${text}`);
    text += value;
  }
  const { t, addresses, io } = JSON.parse(text.slice(0, text.indexOf("\n")));
  assertEquals(t, "listening");
  let isOver = false;
  const stop = async () => {
    isOver = true;
    child.kill("SIGINT");
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) text += chunk.value;
    return { code: (await child.status).code, stats: JSON.parse(text.trim().split("\n").at(-1)!) };
  };
  return {
    address: TransportAddress.parse(addresses[0]),
    io,
    stop,
    async [Symbol.asyncDispose]() {
      if (!isOver) await stop();
    },
  };
}

for (const io of ["deno", "linux"]) {
  const ignore = io === "linux" && Deno.build.os !== "linux";
  if (ignore) continue;
  peerTest(
    `natkit serve --io ${io}: turnutils_uclient by channels and by Send indications, 0 lost`,
    TOOLS,
    async () => {
      await using server = await startServe("--user", "alice:secret", "--allow-peer", "127.0.0.0/8", "--io", io);
      assertEquals(server.io, io);
      const peerPort = String(freePort());
      await using _peer = startPeer("turnutils_peer", ["-L", "127.0.0.1", "-p", peerPort]);
      await untilEcho(Number(peerPort));
      const port = String(server.address.port);
      const args = [
        "-u",
        "alice",
        "-w",
        "secret",
        "-e",
        "127.0.0.1",
        "-r",
        peerPort,
        "-p",
        port,
        "-n",
        "20",
        "-m",
        "2",
      ];
      for (const mode of [[], ["-s"]]) {
        const { code, output } = await runPeer("turnutils_uclient", [...mode, ...args, "-l", "170", "127.0.0.1"]);
        assertEquals(code, 0, output);
        assertMatch(output, /tot_send_msgs=40, tot_recv_msgs=40/);
        assertMatch(output, /Total lost packets 0 /);
      }
      const { code, stats } = await server.stop();
      assertEquals([code, stats.t, stats.packetsToPeers, stats.packetsToClients], [0, "stats", 80, 80]);
    },
  );
}

peerTest("natkit serve: turnutils_stunclient learns its address", TOOLS, async () => {
  await using server = await startServe();
  const { code, output } = await runPeer("turnutils_stunclient", ["-p", String(server.address.port), "127.0.0.1"]);
  assertEquals(code, 0, output);
  assertMatch(output, /UDP reflexive addr: 127\.0\.0\.1:\d+/);
});

async function askFor(server: TransportAddress): Promise<void> {
  const { code, output } = await runPeer(Deno.execPath(), [...NATKIT, "stun", "--json", `stun:${server}`]);
  assertEquals(code, 0, output);
  const answer = JSON.parse(output);
  assertEquals(answer.mapped, answer.local);
  assert(answer.rtt > 0);
}

peerTest("natkit stun against coturn", COTURN, async () => {
  await using coturn = await startCoturn();
  await askFor(coturn.address);
});

peerTest("natkit stun against stund", STUND, async () => {
  const server = TransportAddress.of("127.0.0.1", freePort());
  const args = ["-h", "127.0.0.1", "-a", "127.0.0.2", "-p", String(server.port), "-o", String(freePort())];
  await using _stund = startPeer("stund", args);
  await untilAnswered(server);
  await askFor(server);
});
