/**
 * Load for a TURN server: clients that send to an echoing peer through it, in closed loop or paced.
 *
 * ```sh
 * deno run -A tests/bench/loadgen.ts --port 3478 --clients 100 --size 200 --window 4 --seconds 5 --pid 1234
 * ```
 *
 * It polls without ever sleeping, so it takes all of its core; `idle` tells which part of the time it found nothing to
 * do. When that is near 0 the generator is the bottleneck, else the server is. Prints one line of JSON.
 */
import { parseArgs } from "@std/cli/parse-args";
import { FloodSocket, ipWord, portWord } from "./_flood.ts";
import { LatencyHistogram } from "./_latency.ts";
import { type Client, makeClients, Setup } from "./_turn_clients.ts";

const args = parseArgs(Deno.args, {
  string: ["server", "user", "password", "peer", "mode"],
  boolean: ["gro", "bare", "keep"],
  default: {
    ...{ server: "127.0.0.1", port: 3478, user: "test", password: "secret", peer: "127.0.0.1", "peer-port": 3480 },
    ...{
      "client-port": 20000 + Deno.pid % 20000,
      clients: 100,
      size: 200,
      window: 1,
      rate: 0,
      warmup: 1,
      seconds: 4,
      pid: 0,
    },
    ...{ mode: "channel", gro: false, bare: false, keep: false },
  },
});

const HEADER = 4;
// Client number and time of sending.
const STAMP = 12;
const LOST_AFTER_MS = 200;

const size = Math.max(STAMP, Number(args.size));
const target = {
  server: args.server,
  port: Number(args.port),
  username: args.user,
  password: args.password,
  peer: args.peer,
  peerPort: Number(args["peer-port"]),
};
const serverPort = portWord(target.port);
const serverIp = ipWord(target.server);
const clients = makeClients(Number(args.clients));
const socket = new FloodSocket("0.0.0.0", Number(args["client-port"]), { gro: args.gro });
const peer = new FloodSocket(target.peer, target.peerPort, { gro: args.gro });
const lastSeen = new Float64Array(clients.length);
const latencies = new LatencyHistogram();
let received = 0;
let echoed = 0;
let lost = 0;
let sent = 0;

function send(client: Client, now: number): void {
  const start = socket.place * 2048;
  const view = socket.outView;
  view.setUint16(start, client.channel);
  view.setUint16(start + 2, size);
  view.setUint32(start + HEADER, client.index);
  view.setFloat64(start + HEADER + 4, now);
  socket.queue(HEADER + size, serverPort, serverIp, client.source);
  sent++;
}

function takeIn(now: number, isClosedLoop: boolean): number {
  const count = socket.receive();
  for (let i = 0; i < count; i++) {
    const end = socket.offset(i) + socket.lengths[i]!;
    for (let start = socket.offset(i); start < end; start += socket.segments[i]!) {
      if (socket.bytes[start]! >> 6 !== 1) continue;
      const client = clients[socket.view.getUint32(start + HEADER)];
      if (client === undefined) continue;
      received++;
      latencies.add(now - socket.view.getFloat64(start + HEADER + 4));
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
  for (const client of clients) {
    if (now - lastSeen[client.index]! < LOST_AFTER_MS) continue;
    lastSeen[client.index] = now;
    lost += window;
    for (let i = 0; i < window; i++) send(client, now);
  }
  socket.flush();
}

/** What a process has used, in seconds; user and system time are counted in ticks of 10 ms, their sum is exact. */
function cpuSeconds(pid: number): { user: number; all: number } {
  if (pid === 0) return { user: 0, all: 0 };
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\) /, "").split(" ");
  return { user: Number(fields[11]) / 100, all: (Number(fields[11]) + Number(fields[12])) / 100 };
}

/** What all processes of the machine have used, in seconds: steal is left out, idle and waiting are none. */
function machineSeconds(): number {
  const fields = Deno.readTextFileSync("/proc/stat").split("\n")[0]!.trim().split(/\s+/).map(Number);
  const [, user, nice, system, , , irq, softirq] = fields;
  return (user! + nice! + system! + irq! + softirq!) / 100;
}

function run(milliseconds: number, rate: number, window: number): { idle: number; elapsed: number } {
  const start = performance.now();
  let now = start;
  let nextScan = start + LOST_AFTER_MS;
  let nextSend = start;
  let turn = 0;
  let idle = 0;
  while (now < start + milliseconds) {
    if (rate > 0) {
      for (; nextSend <= now; nextSend += 1000 / rate) send(clients[turn++ % clients.length]!, now);
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
  return { idle, elapsed: now - start };
}

const setup = new Setup(socket, clients, target);
const setupMs = args.bare ? 0 : setup.run("ready");
const rate = Number(args.rate) / 2;
const window = Number(args.window);
lastSeen.fill(-Infinity);
run(Number(args.warmup) * 1000, rate, window);
latencies.clear();
received =
  echoed =
  lost =
  sent =
    0;
const pid = Number(args.pid);
const before = { server: cpuSeconds(pid), own: cpuSeconds(Deno.pid), machine: machineSeconds() };
const { idle, elapsed } = run(Number(args.seconds) * 1000, rate, window);
const after = { server: cpuSeconds(pid), own: cpuSeconds(Deno.pid), machine: machineSeconds() };
const cpu = after.server.all - before.server.all;
const foreign = after.machine - before.machine - cpu - (after.own.all - before.own.all);
const relayed = Math.max(1, received + echoed);
const result = {
  packetsPerSecond: Math.round(relayed / elapsed * 1000),
  cpuMicroseconds: Number((cpu * 1e6 / relayed).toFixed(2)),
  userMicroseconds: Number(((after.server.user - before.server.user) * 1e6 / relayed).toFixed(2)),
  cpuShare: Number((cpu * 1000 / elapsed).toFixed(3)),
  // The part of one core that others on the machine took meanwhile: measurements with much of it are worth little.
  foreign: Number((foreign * 1000 / elapsed).toFixed(3)),
  p50: latencies.quantile(0.5),
  p99: latencies.quantile(0.99),
  lost: rate === 0 ? lost : Math.max(0, sent - received),
  idle: Number((idle / elapsed).toFixed(3)),
  allocationsPerSecond: args.bare ? 0 : Math.round(clients.length / setupMs * 1000),
  retransmits: setup.retransmits,
  sendErrors: socket.sendErrors + peer.sendErrors,
};
if (!args.keep && !args.bare) setup.run("gone");
// deno-lint-ignore no-console
console.log(JSON.stringify(result));
