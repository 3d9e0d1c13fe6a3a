/**
 * Load for a TURN server: clients that send to an echoing peer through it, in closed loop or paced; or Binding requests,
 * or allocations.
 *
 * ```sh
 * deno run -A tests/bench/loadgen.ts --port 3478 --clients 100 --size 200 --window 4 --seconds 5 --pid 1234
 * ```
 *
 * It polls without ever sleeping, so it takes all of its core; `idle` tells which part of the time it found nothing to
 * do. When that is near 0 while `cpuShare` is not near 1, the generator is the bottleneck. Prints one line of JSON.
 */
import { parseArgs } from "@std/cli/parse-args";
import { FloodSocket, ipWord, portWord } from "./_flood.ts";
import { LatencyHistogram } from "./_latency.ts";
import { Messages, type Mode } from "./_messages.ts";
import { cpuSeconds, machineSeconds, residentBytes } from "./_proc.ts";
import { type Client, makeClients, Setup } from "./_turn_clients.ts";

const args = parseArgs(Deno.args, {
  string: ["server", "user", "password", "peer", "mode"],
  boolean: ["gro", "bare"],
  default: {
    ...{ server: "127.0.0.1", port: 3478, user: "test", password: "secret", peer: "127.0.0.1", "peer-port": 3480 },
    ...{ "client-port": 20000 + Deno.pid % 20000, clients: 100, active: 0, size: 200, window: 1, rate: 0 },
    ...{ warmup: 1, seconds: 4, pid: 0, mode: "channel", gro: false, bare: false },
  },
});

const LOST_AFTER_MS = 200;
const mode = args.mode as Mode | "allocate";
const pid = Number(args.pid);
const target = {
  server: args.server,
  port: Number(args.port),
  username: args.user,
  password: args.password,
  peer: args.peer,
  peerPort: Number(args["peer-port"]),
  indications: mode === "indication",
};
const serverPort = portWord(target.port);
const serverIp = ipWord(target.server);
const clients = makeClients(Number(args.clients));
const active = clients.slice(0, Number(args.active) || clients.length);
const socket = new FloodSocket("0.0.0.0", Number(args["client-port"]), { gro: args.gro });
const peer = new FloodSocket(target.peer, target.peerPort, { gro: args.gro });
const messages = new Messages(mode === "allocate" ? "channel" : mode, Number(args.size), target);
const setup = new Setup(socket, target);
const lastSeen = new Float64Array(clients.length);
const latencies = new LatencyHistogram();
let received = 0;
let echoed = 0;
let lost = 0;
let sent = 0;
let generation = 0;

function send(client: Client, now: number): void {
  const start = socket.place * 2048;
  messages.write(socket.outBytes, socket.outView, start, client, now);
  socket.queue(messages.length, serverPort, serverIp, client.source);
  sent++;
}

function takeIn(now: number, isClosedLoop: boolean): number {
  const count = socket.receive();
  for (let i = 0; i < count; i++) {
    const end = socket.offset(i) + socket.lengths[i]!;
    for (let start = socket.offset(i); start < end; start += socket.segments[i]!) {
      const stamp = messages.find(socket.view, start, end);
      const client = stamp === -1 ? undefined : clients[socket.view.getUint32(stamp)];
      if (client === undefined) continue;
      received++;
      latencies.add(now - socket.view.getFloat64(stamp + 4));
      lastSeen[client.index] = now;
      if (isClosedLoop) send(client, now);
    }
  }
  socket.flush();
  return count;
}

function echo(): number {
  const count = peer.receive();
  for (let i = 0; i < count; i++) echoed += Math.ceil(peer.lengths[i]! / peer.segments[i]!);
  peer.echo(count);
  return count;
}

function refill(now: number, window: number): void {
  for (const client of active) {
    if (now - lastSeen[client.index]! < LOST_AFTER_MS) continue;
    lastSeen[client.index] = now;
    lost += window;
    for (let i = 0; i < window; i++) send(client, now);
  }
  socket.flush();
}

/** How a run went: in ms, but the server's CPU time in seconds, where it is not that of the whole run. */
interface Run {
  readonly idle: number;
  readonly elapsed: number;
  readonly cpu: number | undefined;
}

/** Load for so long. `rate` is in datagrams that clients send a second; 0 is closed loop. */
function load(milliseconds: number, rate: number, window: number): Run {
  const start = performance.now();
  let now = start;
  let nextScan = start;
  let nextSend = start;
  let turn = 0;
  let idle = 0;
  while (now < start + milliseconds) {
    if (rate > 0) {
      for (; nextSend <= now; nextSend += 1000 / rate) send(active[turn++ % active.length]!, now);
      socket.flush();
    } else if (now > nextScan) {
      nextScan = now + LOST_AFTER_MS / 2;
      refill(now, window);
    }
    const worked = echo() + takeIn(now, rate === 0);
    const after = performance.now();
    if (worked === 0) idle += after - now;
    now = after;
  }
  return { idle, elapsed: now - start, cpu: undefined };
}

/** Allocates and gives back for so long; only the time for allocating counts. */
function allocate(milliseconds: number): Run {
  let elapsed = 0;
  let cpu = 0;
  for (const end = performance.now() + milliseconds; performance.now() < end;) {
    // Others each time: some servers keep the 5-tuple of an allocation for a while after its end.
    const some = makeClients(clients.length, ++generation);
    const before = cpuSeconds(pid).all;
    elapsed += setup.run(some, "bind");
    cpu += cpuSeconds(pid).all - before;
    received += some.length;
    setup.run(some, "gone");
  }
  return { idle: 0, elapsed, cpu };
}

const residentBefore = residentBytes(pid);
const needsSetup = !args.bare && (mode === "channel" || mode === "indication");
const setupMs = needsSetup ? setup.run(clients, "ready") : 0;
const residentGrowth = residentBytes(pid) - residentBefore;
const rate = Number(args.rate) / 2;
const window = Number(args.window);
lastSeen.fill(-Infinity);
const warmup = Number(args.warmup) * 1000;
if (mode === "allocate") allocate(warmup);
else load(warmup, rate, window);
latencies.clear();
received =
  echoed =
  lost =
  sent =
    0;
const before = { server: cpuSeconds(pid), own: cpuSeconds(Deno.pid), machine: machineSeconds() };
const run = mode === "allocate"
  ? allocate(Number(args.seconds) * 1000)
  : load(Number(args.seconds) * 1000, rate, window);
const after = { server: cpuSeconds(pid), own: cpuSeconds(Deno.pid), machine: machineSeconds() };
const used = after.server.all - before.server.all;
const cpu = run.cpu ?? used;
const foreign = after.machine - before.machine - used - (after.own.all - before.own.all);
const count = Math.max(1, received + echoed);
const rounded = (value: number, digits = 3) => Number(value.toFixed(digits));
const result = {
  // Packets relayed both ways, Binding responses, or allocations.
  perSecond: Math.round(count / run.elapsed * 1000),
  cpuMicroseconds: rounded(cpu * 1e6 / count, 2),
  userMicroseconds: rounded((after.server.user - before.server.user) * 1e6 / count, 2),
  cpuShare: rounded(cpu * 1000 / run.elapsed),
  // The part of one core that others on the machine took meanwhile: measurements with much of it are worth little.
  foreign: rounded(foreign * 1000 / run.elapsed),
  p50: latencies.quantile(0.5),
  p99: latencies.quantile(0.99),
  lostShare: rounded(rate === 0 ? lost / Math.max(1, sent) : Math.max(0, 1 - received / Math.max(1, sent)), 4),
  idle: rounded(run.idle / run.elapsed),
  bytesPerAllocation: needsSetup ? Math.round(residentGrowth / clients.length) : 0,
  setupPerSecond: needsSetup ? Math.round(clients.length / setupMs * 1000) : 0,
  retransmits: setup.retransmits,
  sendErrors: socket.sendErrors + peer.sendErrors,
};
if (needsSetup) setup.run(clients, "gone");
// deno-lint-ignore no-console
console.log(JSON.stringify(result));
