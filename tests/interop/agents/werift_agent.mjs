// An ICE agent on werift (npm, in the folder that PEERS_NPM names) that speaks JSON lines; see README.md. For Node.
import { createRequire } from "node:module";
import process from "node:process";
import readline from "node:readline";
import { parseArgs } from "node:util";

const { Candidate, Connection } = createRequire(`${process.env.PEERS_NPM}/package.json`)("werift");
const { values: options } = parseArgs({
  options: {
    role: { type: "string", default: "controlling" },
    bind: { type: "string" },
    stun: { type: "string" },
    turn: { type: "string" },
    "turn-transport": { type: "string", default: "udp" },
    user: { type: "string", default: "test" },
    pass: { type: "string", default: "secret" },
    policy: { type: "string", default: "all" },
  },
});

const emit = (message) => process.stdout.write(JSON.stringify(message) + "\n");
const hostAndPort = (text) =>
  text && [text.slice(0, text.lastIndexOf(":")), Number(text.slice(text.lastIndexOf(":") + 1))];

const agent = new Connection(options.role === "controlling", {
  // Without one it would ask a public server.
  stunServer: hostAndPort(options.stun) ?? hostAndPort(options.turn) ?? ["127.0.0.1", 3478],
  turnServer: hostAndPort(options.turn),
  turnUsername: options.turn && options.user,
  turnPassword: options.turn && options.pass,
  turnTransport: options["turn-transport"],
  turnTlsOptions: { rejectUnauthorized: false },
  forceTurn: options.policy === "relay",
  useIpv4: true,
  useIpv6: false,
  // It leaves loopback out by itself.
  additionalHostAddresses: options.bind?.split(","),
});

async function connect() {
  const start = performance.now();
  try {
    await agent.connect();
  } catch (error) {
    return emit({ t: "failed", e: String(error) });
  }
  const ms = performance.now() - start;
  const { localCandidate, remoteCandidate } = agent.nominated;
  emit({ t: "connected", local: localCandidate.toSdp(), remote: remoteCandidate.toSdp(), ms });
}

async function handle(message) {
  switch (message.t) {
    case "params":
      return agent.setRemoteParams({ iceLite: false, usernameFragment: message.ufrag, password: message.pwd });
    case "cand":
      return await agent.addRemoteCandidate(Candidate.fromSdp(message.c.replace(/^candidate:/, "")));
    case "eoc":
      await agent.addRemoteCandidate(undefined);
      return void connect();
    case "send":
      return await agent.send(new TextEncoder().encode(message.d));
    case "close":
      await agent.close();
      process.exit(0);
  }
}

agent.onIceCandidate.subscribe((candidate) => candidate && emit({ t: "cand", c: `candidate:${candidate.toSdp()}` }));
agent.onData.subscribe((bytes) => emit({ t: "recv", d: new TextDecoder().decode(bytes) }));
agent.stateChanged.subscribe((state) => emit({ t: "state", s: state }));

emit({ t: "params", ufrag: agent.localUsername, pwd: agent.localPassword });
// One after the other; what comes while it gathers waits.
let work = agent.gatherCandidates().then(() => emit({ t: "eoc" }));
readline.createInterface({ input: process.stdin })
  .on("line", (line) => work = work.then(() => handle(JSON.parse(line))))
  .on("close", () => process.exit(0));
