// The npm package `turn-server` for the load generator: node npm_turn_server.mjs FOLDER PORT, FOLDER has node_modules.

const [folder, port] = process.argv.slice(2);
const { createServer } = await import(`${folder}/node_modules/turn-server/index.js`);
createServer({
  auth: { mechanism: "long-term", realm: "bench.example", credentials: { test: "secret" } },
  relay: { ip: "127.0.0.1" },
  allowLoopback: true,
  maxConnections: 1_000_000,
}).listen({ address: "127.0.0.1", port: Number(port), transport: "udp" });
