import { bold, dim } from "@std/fmt/colors";
import { denoHost, TransportAddress } from "../stun/mod.ts";
import type { AllocationEvent, AllocationReport, TurnServerHandle, TurnServerStats } from "../turn/mod.ts";
import { parseOptions, usage } from "./config.ts";
import { ServerAccess, watchFiles } from "./serve_access.ts";
import { SERVE_OPTIONS, serverSettings, type ServeSettings } from "./serve_settings.ts";
import { serveMetrics } from "./serve_metrics.ts";
import { type StartedServer, startServer } from "./serve_start.ts";
import type { Command, Terminal } from "./terminal.ts";

type ConnectionEvent = Extract<AllocationEvent, { readonly connection: unknown }>;

const HELP = `natkit serve: a STUN and TURN server

Usage: natkit serve --realm REALM --user NAME:PASSWORD [OPTIONS]

Answers STUN Binding requests (RFC 8489) for everybody and relays (TURN, RFC 8656) for its users, over UDP, TCP, TLS
and DTLS. docs/turn-server.md tells how to operate it.

Where:
  --listen ADDRESS:PORT    serve clients here; may be given several times (default: 127.0.0.1:3478);
                           0.0.0.0 and [::] stand for each address of this machine
  --listen-tls ADDRESS:PORT  serve TLS and DTLS only here, as 0.0.0.0:5349; may be given several times
  --cert FILE --key FILE   certificate and key (PEM): the TCP ports of --listen then take TLS as well, the UDP ports DTLS
  --dtls auto|on|off       whether they do (default: auto): it needs OpenSSL 3 on Linux, and --allow-ffi
  --alternate-port PORT    the second port for NAT behaviour discovery (RFC 5780), which is on when --listen names two
                           addresses with the same port (default: the port above)
  --classic                answer classic STUN clients (RFC 3489) as well
  --relay-address ADDRESS  lend relayed addresses on this local address (default: those of --listen);
                           ADDRESS=EXTERNAL tells clients EXTERNAL instead, for a server behind a 1:1 NAT
  --relay-ports MIN-MAX    the ports of relayed addresses (default: 49152-65535)
  --io auto|linux|deno     how UDP is carried (default: auto): linux moves many datagrams per system call and needs
                           Linux and --allow-ffi

Who may relay; without any of these it is a STUN server only:
  --realm REALM            the realm, usually a domain name (default: localhost)
  --user NAME:PASSWORD     somebody; may be given several times
  --users-file FILE        a line NAME:PASSWORD or NAME:KEYS for each user; "natkit password" makes the latter
  --rest-secret SECRET     who has a time-limited credential made with this secret; may be given several times
  --rest-secret-file FILE  the same, one secret a line
  --oauth-key KID:KEY      who has an access token made with this key (RFC 7635; 16 or 32 bytes as base64); may be given
                           several times
  --oauth-key-file FILE    the same, one a line
  --oauth-name NAME        the server's name in access tokens (default: REALM)
  --auth-url URL           whom this web service knows: POST {"username", "realm", "client"}, 200 {"password"} or 404

To whom it relays; not to loopback, private, link-local, multicast and other non-public addresses unless allowed here:
  --allow-peer RANGE       relay to these addresses too: 10.0.0.0/8, 10.1.2.3, 10.0.0.0/8:5000-6000, [fd00::/8]:53
  --deny-peer RANGE        never relay to these; wins over --allow-peer
  --tcp-relay              TCP allocations too (RFC 6062): users make and take TCP connections with peers. Off by default:
                           browsers never ask for them, and users could reach any public server from this one's address

How much:
  --quota N                allocations of one user at a time (default: 4096)
  --total-quota N          allocations of all users at a time (default: 65536)
  --permissions N          permissions of one allocation at a time (default: 256)
  --channels N             channels of one allocation at a time (default: 256)
  --max-clients N          clients by TCP and TLS, and by DTLS, on one port at a time (default: 10000)
  --max-clients-per-address N  the same of one IPv4 address or IPv6 /64 (default: 256)
  --connections N          TCP connections with peers of one allocation at a time (default: 64)
  --total-connections N    the same of all allocations; each takes two file descriptors (default: 4096)
  --max-lifetime SECONDS   the longest lifetime of an allocation (default: 3600)
  --max-bps N              bits a second in each direction, of one allocation (default: no limit); datagrams beyond it are
                           dropped, TCP connections slowed down
  --user-bps N             the same of all allocations of a user
  --total-bps N            the same of all allocations
  --challenge-rate N       answers a second to one source address without credentials, ten times as many at once
                           (default: 10; 0: no limit)
  --binding-rate N         answers a second to Binding requests over UDP from one source address (STUN), ten times as many
                           at once (default: no limit)
  --alternate-server ADDRESS:PORT  where to send clients when this server is full or draining; one for IPv4, one for IPv6
  --alternate-domain NAME  the name in that server's certificate

Other:
  --no-mobility            405 for clients that want to take their relayed address along to another network (RFC 8016)
  --gather MS              at a middling load, let datagrams gather for so long before they are relayed, 0 to 5, as 0.5: less
                           work for a little delay (default: 0); with --io linux
  --workers N|auto         serve with N threads on the same ports, or with one for each core; quotas and counters are those
                           of one server (default: 1); needs --io linux, and is without mobility
  --metrics ADDRESS:PORT   counters by HTTP: /metrics for Prometheus, /stats as JSON, /health with 503 when draining
  --quiet                  no line for each allocation
  --json                   JSON lines {"t": KIND, ...}: listening, metrics, allocated, moved, ended, connected,
                           disconnected, reloaded, draining, stats

Files are read again when they change and on SIGHUP. SIGUSR1 drains: no new allocations, and the end with the last one.
Ctrl-C ends it and prints what it did.

Example:
  natkit serve --listen 127.0.0.1:3478 --realm example.org --user alice:secret --allow-peer 127.0.0.0/8`;

/** Where Prometheus looks for TURN servers by custom. */
const METRICS_PORT = 9641;

/** `natkit serve`. */
export const serveCommand: Command = {
  name: "serve",
  summary: "A STUN and TURN server",
  help: HELP,
  async run(args, terminal) {
    const options = parseOptions(args, SERVE_OPTIONS);
    const json = options.flag("json");
    const settings = serverSettings(options);
    const metricsText = options.value("metrics");
    const metricsAt = metricsText === undefined
      ? undefined
      : usage(() => TransportAddress.parse(metricsText, METRICS_PORT));
    const access = new ServerAccess(options, settings.realm);
    await access.load();
    const onEvent = options.flag("quiet") ? undefined : (event: AllocationEvent) => report(event, json, terminal);
    const started = await startServer(options, settings, { access, onEvent });
    const { io, reason, workers } = started;
    await using server = started.server;
    const { addresses } = server;
    if (json) terminal.out(JSON.stringify({ t: "listening", addresses, realm: settings.realm, io, workers }));
    else {
      greet(server, settings, access, terminal);
      terminal.say(dim(`  UDP by ${reason}${workers === 1 ? "" : `; ${workers} workers`}`));
      const obstacle = denoHost().dtls?.obstacle;
      if (access.tls !== undefined && settings.dtls === undefined && obstacle !== undefined) {
        terminal.say(dim(`  DTLS is off: ${obstacle}`));
      }
    }
    let isDraining = false;
    const metrics = metricsAt === undefined
      ? undefined
      : serveMetrics(metricsAt, { server, isDraining: () => isDraining });
    if (metrics !== undefined) {
      terminal.out(json ? JSON.stringify({ t: "metrics", url: metrics.url }) : dim(`  counters at ${metrics.url}`));
    }
    try {
      await untilEnd(started, access, { json, terminal, onDrain: () => isDraining = true });
    } finally {
      await metrics?.close();
    }
    // The last counters of all workers.
    await server.shutdown();
    const stats = server.stats();
    if (json) terminal.out(JSON.stringify({ t: "stats", ...stats }));
    else terminal.say(farewell(stats));
    return 0;
  },
};

/** Serves until it is interrupted or drained. Meanwhile files are read again when they change. */
async function untilEnd(
  started: StartedServer,
  access: ServerAccess,
  { json, terminal, onDrain }: { json: boolean; terminal: Terminal; onDrain: () => void },
): Promise<void> {
  const { interrupted } = terminal;
  const { server } = started;
  const { promise: ended, resolve: end, reject: fail } = Promise.withResolvers<void>();
  server.finished.catch(fail);
  const reload = () => void reloadAccess(started, access, json, terminal);
  const drain = () => {
    onDrain();
    const { allocations } = server.stats();
    terminal.out(
      json ? JSON.stringify({ t: "draining", allocations }) : `draining: ${allocations} allocations are left`,
    );
    void server.drain().then(end);
  };
  const undo = [
    terminal.onSignal?.("SIGHUP", reload),
    terminal.onSignal?.("SIGUSR1", drain),
    access.files.length === 0 ? undefined : watchFiles(access.files, reload),
  ];
  interrupted.addEventListener("abort", () => end(), { once: true });
  if (interrupted.aborted) end();
  await ended;
  for (const one of undo) one?.();
}

async function reloadAccess(
  started: StartedServer,
  access: ServerAccess,
  json: boolean,
  terminal: Terminal,
): Promise<void> {
  try {
    await access.load();
    await started.reload(access);
    terminal.out(json ? JSON.stringify({ t: "reloaded" }) : dim(`read again: ${access.files.join(", ")}`));
  } catch (error) {
    terminal.err(`natkit: ${error instanceof Error ? error.message : error}: the server goes on with what it had`);
  }
}

function greet(
  { addresses, transports }: TurnServerHandle,
  settings: ServeSettings,
  access: ServerAccess,
  terminal: Terminal,
): void {
  const uses = access.isOpen
    ? `STUN and TURN for ${access.describe()}, realm ${settings.realm}`
    : "STUN only, as there is no --user";
  terminal.say(`${bold("natkit serve")}: ${uses}`);
  for (const [i, address] of addresses.entries()) {
    terminal.say(`  ${bold(String(address))} ${transports[i]!.join(", ")}`);
  }
  if (!access.isOpen) return;
  const { min, max } = settings.relayPorts ?? { min: 49152, max: 65535 };
  const where = settings.relayAddresses?.map(({ address }) => address).join(", ") ?? "the same addresses";
  terminal.say(dim(`  relays on ${where}, ports ${min}-${max}`));
  const allowed = settings.allowPeers.length === 0 ? "" : ` and ${settings.allowPeers.join(", ")}`;
  const denied = settings.denyPeers.length === 0 ? "" : `, never to ${settings.denyPeers.join(", ")}`;
  terminal.say(dim(`  relays to public addresses${allowed}${denied}${settings.tcpRelay ? ", by UDP and TCP" : ""}`));
}

function report(event: AllocationEvent, json: boolean, terminal: Terminal): void {
  const { type: t, allocation, ...rest } = event;
  if (json) return terminal.out(JSON.stringify({ t, ...allocation, ...rest }));
  if ("connection" in event) return reportConnection(event, terminal);
  const { username, client, relayedAddresses, transport } = allocation;
  const what = transport === "tcp" ? "relayed by TCP" : "relayed";
  const who = `${username} at ${client}, ${what} ${relayedAddresses.join(" and ")}`;
  if (event.type === "ended") terminal.say(`- ${who}: ${event.why}${traffic(allocation)}`);
  else terminal.say(event.type === "moved" ? `> ${who}: moved from ${event.from}` : `+ ${who}`);
}

function reportConnection({ type, allocation, connection }: ConnectionEvent, terminal: Terminal): void {
  const { peer, by, bytesToPeer, bytesToClient } = connection;
  const who = `${allocation.username} at ${allocation.client}`;
  const between = by === "client" ? `${who} to ${peer}` : `${peer} to ${who}`;
  const counts = dim(`, out ${size(bytesToPeer)}, in ${size(bytesToClient)}`);
  terminal.say(type === "connected" ? `  + ${between}` : `  - ${between}${counts}`);
}

function traffic(allocation: AllocationReport): string {
  const { packetsToPeers, bytesToPeers, packetsToClient, bytesToClient, transport } = allocation;
  if (transport === "tcp") return dim(`, out ${size(bytesToPeers)}, in ${size(bytesToClient)}`);
  return dim(`, out ${packetsToPeers} (${size(bytesToPeers)}), in ${packetsToClient} (${size(bytesToClient)})`);
}

function farewell(stats: TurnServerStats): string {
  const dropped = Object.entries(stats.drops).filter(([, count]) => count > 0);
  const limits = Object.entries(stats.limits).filter(([, count]) => count > 0);
  const failures = Object.entries(stats.connectionFailures).filter(([, count]) => count > 0);
  const errors = Object.entries(stats.errors);
  return [
    `${stats.bindings} Binding requests, ${stats.requests} TURN requests, ${stats.allocationsTotal} allocations`,
    ...stats.allocationsTotal === 0 ? [] : [
      `relayed ${stats.packetsToPeers} datagrams (${size(stats.bytesToPeers)}) to peers, ` +
      `${stats.packetsToClients} (${size(stats.bytesToClients)}) to clients`,
    ],
    ...stats.connectionsTotal === 0 ? [] : [`${stats.connectionsTotal} TCP connections with peers`],
    ...errors.map(([code, count]) => `error ${code}: ${count}`),
    ...limits.map(([name, count]) => `refused, ${name}: ${count}`),
    ...failures.map(([reason, count]) => `no connection with a peer, ${reason}: ${count}`),
    ...dropped.map(([reason, count]) => `dropped, ${reason}: ${count}`),
  ].join("\n");
}

function size(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1_000_000) return `${(bytes / 1000).toFixed(1)} kB`;
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}
