// Each verb that waits takes a signal: it rejects with the signal's reason and leaves nothing open, which is what the op
// and resource sanitizers look for. Over loopback, against a server that takes everything and says nothing.
import { assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { connectIce, openIce } from "../ice/mod.ts";
import { discoverNat, requestBinding, serveStun, TransportAddress } from "../stun/mod.ts";
import { allocate, probeTurn, serveTurn } from "../turn/mod.ts";

/** A server that never answers. `asked` resolves when somebody has sent something, or has connected. */
interface Silence extends Disposable {
  readonly port: number;
  readonly asked: Promise<unknown>;
}

function silentUdp(): Silence {
  const socket = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
  const { port } = socket.addr as Deno.NetAddr;
  const asked = socket.receive().catch(() => {});
  return { port, asked, [Symbol.dispose]: () => socket.close() };
}

function silentTcp(): Silence {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  let conn: Deno.Conn | undefined;
  // Connected, and the request is there: a TLS handshake, or STUN.
  const asked = listener.accept().then(async (accepted) => {
    conn = accepted;
    await accepted.read(new Uint8Array(1024));
  }).catch(() => {});
  return {
    port,
    asked,
    [Symbol.dispose]() {
      conn?.close();
      listener.close();
    },
  };
}

type Verb = (port: number, signal: AbortSignal) => Promise<unknown>;

/** Runs a verb twice: with a signal that was aborted before, and with one that is aborted when the server was asked. */
function abortTest(name: string, silent: () => Silence, verb: Verb): void {
  Deno.test(`${name}: a signal ends the wait with its reason, and nothing is left open`, async () => {
    const reason = new Error("Enough");
    {
      using server = silent();
      assertStrictEquals(await assertRejects(() => verb(server.port, AbortSignal.abort(reason))), reason);
    }
    using server = silent();
    const controller = new AbortController();
    const pending = verb(server.port, controller.signal);
    server.asked.then(() => controller.abort(reason));
    assertStrictEquals(await assertRejects(() => pending), reason);
  });
}

const user = { username: "alice", password: "secret" };

abortTest(
  "requestBinding() over UDP",
  silentUdp,
  (port, signal) => requestBinding({ server: `stun:127.0.0.1:${port}`, signal }),
);
abortTest(
  "requestBinding() over TCP",
  silentTcp,
  (port, signal) => requestBinding({ server: `stun:127.0.0.1:${port}`, transport: "tcp", signal }),
);
abortTest(
  "requestBinding() over TLS",
  silentTcp,
  (port, signal) => requestBinding({ server: TransportAddress.of("127.0.0.1", port), transport: "tls", signal }),
);
abortTest(
  "discoverNat()",
  silentUdp,
  (port, signal) => discoverNat({ servers: [`stun:127.0.0.1:${port}`], signal }),
);
abortTest(
  "allocate() over UDP",
  silentUdp,
  (port, signal) => allocate({ server: `turn:127.0.0.1:${port}`, ...user, signal }),
);
abortTest(
  "allocate() over TCP",
  silentTcp,
  (port, signal) => allocate({ server: `turn:127.0.0.1:${port}?transport=tcp`, ...user, signal }),
);
abortTest(
  "allocate() over TLS",
  silentTcp,
  (port, signal) => allocate({ server: `turns:127.0.0.1:${port}?transport=tcp`, ...user, signal }),
);
abortTest(
  "probeTurn()",
  silentUdp,
  (port, signal) => probeTurn({ server: `turn:127.0.0.1:${port}?transport=udp`, ...user, signal }),
);
abortTest("openIce(), which asks a STUN server", silentUdp, async (port, signal) => {
  const connection = openIce({ bind: ["127.0.0.1"], stunServers: [`stun:127.0.0.1:${port}`], signal });
  try {
    await connection.connected;
  } finally {
    await connection.closed;
  }
});
abortTest("connectIce(), whose peer does not answer", silentUdp, async (port, signal) => {
  // The peer takes what it is sent, and says nothing.
  const signaling = { send: () => Promise.resolve(), receive: new ReadableStream<string>() };
  const stunServers = [`stun:127.0.0.1:${port}`];
  await connectIce({ role: "controlling", bind: ["127.0.0.1"], stunServers, signaling, signal });
});

Deno.test("serveStun(), serveTurn(): a signal shuts the server down and frees its port; one aborted before throws its reason", async () => {
  const verbs = [
    (listen: string, signal: AbortSignal) => serveStun({ listen: [listen], signal }),
    (listen: string, signal: AbortSignal) => serveTurn({ listen: [listen], realm: "r", users: [["u", "p"]], signal }),
  ];
  const reason = new Error("Enough");
  for (const verb of verbs) {
    assertStrictEquals(assertThrows(() => verb("127.0.0.1:0", AbortSignal.abort(reason))), reason);
    const controller = new AbortController();
    const server = verb("127.0.0.1:0", controller.signal);
    const address = String(server.addresses[0]);
    controller.abort(reason);
    await server.finished;
    await using again = verb(address, new AbortController().signal);
    assertEquals(String(again.addresses[0]), address);
  }
});
