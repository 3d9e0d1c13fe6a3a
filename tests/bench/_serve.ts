/** A TURN server for the load generator: `deno run -A tests/bench/_serve.ts --io linux --port 3478`. */
import { parseArgs } from "@std/cli/parse-args";
import { type IoChoice, pickHost } from "../../stun/net/linux_host.ts";
import { serveTurn } from "../../turn/serve.ts";

const args = parseArgs(Deno.args, { string: ["io"], default: { io: "auto", port: 3478, gather: 0 } });
const { host, reason } = pickHost(args.io as IoChoice, {
  ...{ receiveBuffer: 4 << 20, sendBuffer: 4 << 20, gather: Number(args.gather) },
});
const many = 1_000_000;
const server = serveTurn({
  host,
  listen: [`127.0.0.1:${args.port}`],
  realm: "bench.example",
  users: { test: "secret" },
  allowPeers: ["127.0.0.0/8"],
  relayPorts: { min: 40000, max: 65535 },
  limits: { allocations: many, allocationsPerUser: many },
  // All clients come from one address.
  challengeRate: false,
});
// deno-lint-ignore no-console
console.log(`ready at ${server.addresses[0]}, process ${Deno.pid}, ${reason}`);
// With --v8-flags=--expose-gc: what is live, on SIGUSR2.
const { gc } = globalThis as { gc?: () => void };
if (gc !== undefined) {
  Deno.addSignalListener("SIGUSR2", () => {
    gc();
    const { heapUsed, rss } = Deno.memoryUsage();
    // deno-lint-ignore no-console
    console.log(JSON.stringify({ allocations: server.stats().allocations, heapUsed, rss }));
  });
}
await server.finished;
