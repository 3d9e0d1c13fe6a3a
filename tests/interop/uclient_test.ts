// Debian's turnutils_uclient against serveTurn(), with turnutils_peer as the peer. It ends with code 0 even when
// datagrams were lost, so its report is read.
import { assertEquals } from "@std/assert";
import { TokenUsers } from "../../stun/access_token.ts";
import { linuxHost } from "../../stun/net/linux_host.ts";
import { serveTurn } from "../../turn/serve.ts";
import type { TurnServerStats } from "../../turn/server_counters.ts";
import { untilEcho } from "./_coturn.ts";
import { type PeerResult, peerTest, runPeer, startPeer } from "./_peers.ts";
import { freePort } from "../free_port.ts";

const COTURN = { programs: ["turnutils_uclient", "turnutils_peer"], install: "apt-get install -y coturn" };
const MESSAGES = 20;
const CLIENTS = 2;

/** What the program reports. */
interface Report {
  readonly sent: number;
  readonly received: number;
  readonly lost: number;
}

function readReport(output: string): Report | undefined {
  const totals = /start_mclient: tot_send_msgs=(\d+), tot_recv_msgs=(\d+)/.exec(output);
  const lost = /Total lost packets (\d+)/.exec(output);
  if (totals === null || lost === null) return undefined;
  return { sent: Number(totals[1]), received: Number(totals[2]), lost: Number(lost[1]) };
}

/** A way to run the program, and which server it talks to. */
interface Mode {
  readonly what: string;
  readonly args: readonly string[];
  readonly server?: "127.0.0.1" | "::1";
  /** With the sockets of `linuxHost()`, which can set DF. */
  readonly isLinux?: boolean;
}

const ALL_MODES: readonly Mode[] = [
  { what: "channels", args: ["-e", "127.0.0.1"] },
  { what: "Send indications", args: ["-s", "-e", "127.0.0.1"] },
  { what: "channels without RTCP ports", args: ["-c", "-e", "127.0.0.1"] },
  { what: "Send indications without RTCP ports", args: ["-c", "-s", "-e", "127.0.0.1"] },
  { what: "client to client, channels", args: ["-y", "-c"] },
  { what: "client to client, Send indications", args: ["-y", "-c", "-s"] },
  { what: "IPv4 to IPv6, channels", args: ["-x", "-e", "::1"] },
  { what: "IPv6 to IPv6, channels", args: ["-x", "-e", "::1"], server: "::1" },
  { what: "IPv6 to IPv6, Send indications", args: ["-x", "-s", "-e", "::1"], server: "::1" },
  { what: "IPv6 to IPv4, channels", args: ["-e", "127.0.0.1"], server: "::1" },
  { what: "dual allocation", args: ["-Z", "-e", "127.0.0.1"] },
  { what: "needless requests in between", args: ["-G", "-e", "127.0.0.1"] },
  { what: "IPv4 asked for by its number", args: ["-X", "-e", "127.0.0.1"] },
  { what: "padded ChannelData over UDP", args: ["-D", "-e", "127.0.0.1"] },
  { what: "clients that vanish and begin anew", args: ["-B", "-e", "127.0.0.1"] },
  { what: "DONT-FRAGMENT, channels", args: ["-g", "-e", "127.0.0.1"], isLinux: true },
  { what: "DONT-FRAGMENT, Send indications", args: ["-g", "-s", "-e", "127.0.0.1"], isLinux: true },
  { what: "DONT-FRAGMENT to IPv6", args: ["-g", "-x", "-s", "-e", "::1"], isLinux: true },
  { what: "DONT-FRAGMENT, TCP", args: ["-g", "-t", "-s", "-X", "-e", "127.0.0.1"], isLinux: true },
  { what: "TCP, channels", args: ["-t", "-e", "127.0.0.1"] },
  { what: "TCP, Send indications", args: ["-t", "-s", "-e", "127.0.0.1"] },
  { what: "TCP over IPv6, channels", args: ["-t", "-x", "-e", "::1"], server: "::1" },
  { what: "TLS, channels", args: ["-t", "-S", "-e", "127.0.0.1"] },
  { what: "TLS, Send indications", args: ["-t", "-S", "-s", "-e", "127.0.0.1"] },
  { what: "TLS, client to client", args: ["-t", "-S", "-y", "-c"] },
  { what: "mobility, channels", args: ["-M", "-e", "127.0.0.1"] },
  { what: "mobility, Send indications", args: ["-M", "-s", "-e", "127.0.0.1"] },
  { what: "mobility, TCP", args: ["-M", "-t", "-e", "127.0.0.1"] },
  { what: "TCP allocations, client to client", args: ["-T"] },
  { what: "TCP allocations, each of four clients to each", args: ["-T", "-m", "4"] },
  { what: "TCP allocations over TLS", args: ["-T", "-S"] },
  { what: "TCP allocations over TLS, IPv6", args: ["-T", "-S", "-x"] },
  { what: "DTLS, channels", args: ["-S", "-e", "127.0.0.1"] },
  { what: "DTLS, Send indications", args: ["-S", "-s", "-e", "127.0.0.1"] },
  { what: "DTLS, client to client", args: ["-S", "-y", "-c"] },
  { what: "DTLS over IPv6, channels", args: ["-S", "-x", "-e", "::1"], server: "::1" },
  { what: "access tokens, channels", args: ["-J", "-e", "127.0.0.1"] },
  { what: "access tokens, TCP, Send indications", args: ["-J", "-t", "-s", "-e", "127.0.0.1"] },
  { what: "access tokens, client to client", args: ["-J", "-y", "-c"] },
  { what: "time-limited credentials", args: ["-W", "north", "-e", "127.0.0.1"] },
  { what: "time-limited credentials, client to client", args: ["-W", "north", "-y", "-c"] },
  { what: "time-limited credentials of the secret before, TCP", args: ["-W", "south", "-t", "-e", "127.0.0.1"] },
];
const MODES = ALL_MODES.filter(({ isLinux = false }) => !isLinux || Deno.build.os === "linux");
/** The keys that the program has built in. It takes one of them for each token. */
const OAUTH_KEYS = {
  north: "01234567890123456789012345678901",
  union: "1234567890123456",
  oldempire: "12345678901234567890123456789012",
};
const TLS = { certificate: readPem("one"), key: readPem("one_key") };

function readPem(name: string): string {
  return Deno.readTextFileSync(new URL(`../vectors/tls/${name}.pem`, import.meta.url));
}

peerTest("turnutils_uclient: every datagram comes back, whatever the mode", COTURN, async (t) => {
  const peerPort = freePort();
  await using _peer = startPeer("turnutils_peer", ["-L", "127.0.0.1", "-L", "::1", "-p", String(peerPort)]);
  await untilEcho(peerPort);
  // All at once: the program waits for seconds where nothing is to be done.
  const runs = await Promise.all(MODES.map((mode) => runMode(mode, peerPort)));
  for (const [i, { result, stats }] of runs.entries()) {
    await t.step(MODES[i]!.what, () => {
      const { code, output } = result;
      const { args } = MODES[i]!;
      const clients = args.includes("-m") ? 4 : CLIENTS;
      const total = MESSAGES * clients;
      assertEquals({ code, ...readReport(output) }, { code: 0, sent: total, received: total, lost: 0 }, output);
      // Client to client, a message is relayed twice and does not come back: the numbers are equal there as well.
      assertEquals(stats.packetsToPeers, stats.packetsToClients);
      assertEquals(stats.bytesToPeers, stats.bytesToClients);
      // One client connects to the other's relayed address: a connection on each side of it.
      assertEquals([stats.connectionsTotal, stats.connections], [args.includes("-T") ? clients * (clients - 1) : 0, 0]);
      assertEquals(Object.entries(stats.drops).filter(([, count]) => count > 0), []);
      // How often it moves is its own choice, by chance over connections.
      assertEquals(stats.moves > 0, MODES[i]!.args.includes("-M"));
    });
  }
});

async function runMode(mode: Mode, peerPort: number): Promise<{ result: PeerResult; stats: TurnServerStats }> {
  const { args, server: address = "127.0.0.1", isLinux = false } = mode;
  const keys = Object.entries(OAUTH_KEYS).map(([kid, key]) => [kid, new TextEncoder().encode(key)] as const);
  await using server = serveTurn({
    ...isLinux && { host: linuxHost() },
    listen: [address === "::1" ? "[::1]:0" : "127.0.0.1:0"],
    relayAddresses: ["127.0.0.1", "::1"],
    realm: "example.org",
    users: args.includes("-W") || args.includes("-J") ? {} : { alice: "secret" },
    ...args.includes("-J") && { tokens: new TokenUsers({ serverName: "turn.example.org", keys }) },
    restSecrets: ["north", "south"],
    allowPeers: ["127.0.0.0/8", "::1"],
    tls: TLS,
    tcpRelay: true,
  });
  const result = await runPeer("turnutils_uclient", [
    ...["-u", "alice", "-w", "secret", "-p", String(server.addresses[0]!.port), "-r", String(peerPort)],
    ...["-n", String(MESSAGES), "-m", String(CLIENTS), "-l", "170", ...args, address],
  ]);
  return { result, stats: server.stats() };
}

peerTest("turnutils_uclient -g where DF can not be set (RFC 8656 §7.2): 420, and no allocation", COTURN, async () => {
  await using server = serveTurn({ listen: ["127.0.0.1:0"], realm: "example.org", users: { alice: "secret" } });
  const port = String(server.addresses[0]!.port);
  const args = ["-g", "-u", "alice", "-w", "secret", "-e", "127.0.0.1", "-p", port, "127.0.0.1"];
  assertEquals((await runPeer("turnutils_uclient", args)).code, 255);
  // The program asks once more for the same.
  assertEquals([server.stats().allocationsTotal, server.stats().errors[420]], [0, 2]);
});

peerTest("turnutils_uclient -P: one client's TCP connection to the other, by data of one side", COTURN, async () => {
  await using server = serveTurn({
    ...{ listen: ["127.0.0.1:0"], realm: "example.org", users: { alice: "secret" } },
    ...{ allowPeers: ["127.0.0.0/8"], tcpRelay: true },
  });
  const port = String(server.addresses[0]!.port);
  const result = await runPeer("turnutils_uclient", [
    ...["-P", "-u", "alice", "-w", "secret", "-n", String(MESSAGES), "-m", "2", "-l", "170", "-p", port, "127.0.0.1"],
  ]);
  // One of the two sends; the program counts the other one's messages as lost, with every server.
  const report = { sent: 2 * MESSAGES, received: MESSAGES, lost: MESSAGES };
  assertEquals({ code: result.code, ...readReport(result.output) }, { code: 0, ...report }, result.output);
  assertEquals([server.stats().connectionsTotal, server.stats().connections], [1, 0]);
});

peerTest("turnutils_uclient with a wrong password: 401, and no allocation", COTURN, async () => {
  await using server = serveTurn({ listen: ["127.0.0.1:0"], realm: "example.org", users: { alice: "secret" } });
  const port = String(server.addresses[0]!.port);
  const { code } = await runPeer("turnutils_uclient", ["-u", "alice", "-w", "guess", "-y", "-p", port, "127.0.0.1"]);
  assertEquals(code, 255);
  assertEquals(server.stats().allocationsTotal, 0);
});

peerTest("turnutils_stunclient: sees its own address", {
  ...COTURN,
  programs: ["turnutils_stunclient"],
}, async () => {
  await using server = serveTurn({ listen: ["127.0.0.1:0"], realm: "example.org", users: {} });
  const port = String(server.addresses[0]!.port);
  const { code, output } = await runPeer("turnutils_stunclient", ["-p", port, "127.0.0.1"]);
  assertEquals({ code, seen: /reflexive addr: 127\.0\.0\.1:\d+/.test(output) }, { code: 0, seen: true }, output);
});
