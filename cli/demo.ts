import { bold, cyan, dim, green, red } from "@std/fmt/colors";
import { type CandidatePair, type IceConnection, openIce } from "../ice/mod.ts";
import { serveTurn } from "../turn/mod.ts";
import { parseOptions } from "./config.ts";
import { CLASSIC_KINDS } from "./lab_kinds.ts";
import { LAB_DELAY, type LabCell, runMatrix } from "./lab_run.ts";
import { tableOf } from "./lab_table.ts";
import { isExpected } from "./lab_theory.ts";
import type { Command, Terminal } from "./terminal.ts";

const HELP = `natkit demo: the main job, end to end, in one process

Usage: natkit demo [--json]

On real loopback sockets: a STUN and TURN server, two ICE agents, offer and answer, the path that they choose, 10,000
datagrams across it, and 10,000 across the relay. Then the same two agents in the virtual internet, behind each pair of NAT
types: which path won, and how long it took in virtual time.

Options:
  --json   one JSON object: {loopback: [...], nats: [...], ok}

Fails if a datagram is lost or if a pair of NATs does not get the path that theory allows.`;

const DATAGRAMS = 10_000;
/** Datagrams under way at a time: a socket's buffer holds some 200 of them. */
const WINDOW = 50;
const PAYLOAD = 200;

/** `natkit demo`. */
export const demoCommand: Command = {
  name: "demo",
  summary: "The main job in one process, and a table of NAT pairs",
  help: HELP,
  async run(args, terminal) {
    const json = parseOptions(args, { command: "demo", flag: ["json"] }).flag("json");
    const say = json ? () => {} : (line: string) => terminal.say(line);
    const loopback = await loopbackDemo(say, terminal);
    const nats = await natDemo(say, terminal);
    const ok = nats.every(isExpected) && loopback.every(({ sent, received }) => sent === received);
    if (json) terminal.out(JSON.stringify({ loopback, nats, ok }));
    else say(ok ? green("All as it should be.") : red("Something is not as it should be."));
    return ok ? 0 : 1;
  },
};

/** What came of one connection on loopback. */
interface LoopbackResult {
  readonly policy: "all" | "relay";
  readonly local: string;
  readonly remote: string;
  readonly connectedMs: number;
  readonly nominatedMs: number;
  readonly sent: number;
  readonly received: number;
  readonly transferMs: number;
}

async function loopbackDemo(say: (line: string) => void, terminal: Terminal): Promise<LoopbackResult[]> {
  await using server = serveTurn({
    listen: ["127.0.0.1:0"],
    realm: "example.org",
    users: { alice: "secret" },
    allowPeers: ["127.0.0.0/8"],
  });
  const address = String(server.addresses[0]);
  say(bold("On loopback, with real sockets"));
  say(`  STUN and TURN server on ${address}`);
  const results: LoopbackResult[] = [];
  for (const policy of ["all", "relay"] as const) {
    say(policy === "all" ? "  two agents, with every candidate there is:" : "  the same, relay only:");
    results.push(await connectOnLoopback(address, policy, { say, terminal }));
  }
  const { packetsToPeers, packetsToClients } = server.stats();
  say(dim(`  the server relayed ${packetsToPeers} datagrams to peers and ${packetsToClients} to clients`));
  return results;
}

async function connectOnLoopback(
  server: string,
  policy: "all" | "relay",
  { say, terminal }: { say: (line: string) => void; terminal: Terminal },
): Promise<LoopbackResult> {
  let received = 0;
  let wake = () => {};
  const shared = {
    bind: ["127.0.0.1"],
    stunServers: [`stun:${server}`],
    turnServers: [{ urls: `turn:${server}`, username: "alice", credential: "secret" }],
    policy,
    signal: terminal.interrupted,
  };
  const onDatagram = () => {
    received++;
    wake();
  };
  await using one = openIce({ ...shared, role: "controlling" });
  await using other = openIce({ ...shared, role: "controlled", onDatagram });
  const [offer, answer] = await Promise.all([one.localDescription(), other.localDescription()]);
  for (const { address, port, candidateType, tcpType } of one.stats().localCandidates) {
    const tcp = tcpType === undefined ? "" : dim(` TCP ${tcpType}: connects to a peer that listens, from any port`);
    say(`    ${cyan(candidateType.padEnd(5))} ${tcp === "" ? `${address}:${port}` : address}${tcp}`);
  }
  if (policy === "all") say(dim("    srflx is the same as host here, and left out: there is no NAT on loopback"));
  const start = performance.now();
  other.addRemoteDescription(offer);
  one.addRemoteDescription(answer);
  await Promise.all([one.connected, other.connected]);
  const connectedMs = performance.now() - start;
  const [pair] = await Promise.all([one.nominated, other.nominated]);
  const nominatedMs = performance.now() - start;
  say(
    `    ${green(pathOf(pair))}: data can flow after ${connectedMs.toFixed(1)} ms, nominated after ${
      nominatedMs.toFixed(1)
    } ms`,
  );
  terminal.progress(`    sending ${DATAGRAMS} datagrams ...`);
  const begin = performance.now();
  await transfer(one, () => received, (callback) => wake = callback);
  const transferMs = performance.now() - begin;
  terminal.progress("");
  const rate = Math.round(received / transferMs * 1000).toLocaleString("en");
  const paint = received === DATAGRAMS ? green : red;
  say(`    ${paint(`${received} of ${DATAGRAMS} datagrams arrived`)} in ${transferMs.toFixed(0)} ms, ${rate} a second`);
  const { local, remote } = pair;
  return {
    policy,
    local: `${local.address} ${local.type}`,
    remote: `${remote.address} ${remote.type}`,
    connectedMs,
    nominatedMs,
    sent: DATAGRAMS,
    received,
    transferMs,
  };
}

/** Sends all datagrams, never more than `WINDOW` ahead of what arrived; gives up when nothing arrives for a second. */
async function transfer(
  sender: IceConnection,
  received: () => number,
  onArrival: (callback: () => void) => void,
): Promise<void> {
  const payload = new Uint8Array(PAYLOAD);
  let sent = 0;
  while (received() < DATAGRAMS) {
    while (sent < DATAGRAMS && sent - received() < WINDOW) {
      new DataView(payload.buffer).setUint32(0, sent++);
      sender.send(payload);
    }
    const before = received();
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, 1000);
    onArrival(resolve);
    await promise;
    clearTimeout(timer);
    if (received() === before) return;
  }
}

/** `natkit lab --matrix` has the others. */
const NATS = CLASSIC_KINDS.slice(0, 5);

async function natDemo(say: (line: string) => void, terminal: Terminal): Promise<LabCell[]> {
  say("");
  say(
    bold("In the virtual internet, behind each pair of NATs") +
      dim(` (each link takes ${LAB_DELAY} ms one way)`),
  );
  const before = (text: string) => {
    terminal.interrupted.throwIfAborted();
    terminal.progress(`  ${text}`);
  };
  const cells = await runMatrix(NATS, { before });
  terminal.progress("");
  for (const line of tableOf(NATS, cells, describeCell, terminal.columns)) say(line);
  say(
    dim(
      "  path, and virtual ms from both descriptions being there until data could flow / until the path was nominated",
    ),
  );
  return cells;
}

function describeCell({ path, connectedMs, nominatedMs }: LabCell): string {
  return path === "none" ? path : `${path} ${Math.round(connectedMs!)} / ${Math.round(nominatedMs!)}`;
}

function pathOf({ local, remote }: CandidatePair): string {
  return `${local.address} (${local.type}) <-> ${remote.address} (${remote.type})`;
}
