// allocate() and requestBinding() over TCP, TLS and DTLS against Debian's turnserver (coturn).
import { assert, assertEquals, assertRejects } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import type { ServerTransport } from "../../stun/locate.ts";
import { OpenError } from "../../stun/net/transport.ts";
import { requestBinding } from "../../stun/request.ts";
import { allocate, type AllocateOptions, type Relay } from "../../turn/allocate.ts";
import { TurnError } from "../../turn/error.ts";
import { COTURN, untilAnswered } from "./_coturn.ts";
import { peerTest, startPeer } from "./_peers.ts";
import { freePort } from "../free_port.ts";

const FOLDER = new URL("../vectors/tls/", import.meta.url).pathname;
const TLS = { ca: [Deno.readTextFileSync(`${FOLDER}ca.pem`)] };

interface Server extends AsyncDisposable {
  readonly tcp: TransportAddress;
  readonly tls: TransportAddress;
}

/** A coturn for UDP, TCP, TLS and DTLS on loopback. */
async function start(): Promise<Server> {
  const folder = await Deno.makeTempDir();
  const [port, tlsPort] = [freePort(), freePort()];
  const peer = startPeer("turnserver", [
    ...["-n", "--no-cli", `--log-file=${folder}/log`, "--simple-log", `--pidfile=${folder}/pid`, `--db=${folder}/db`],
    ...["--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", `--listening-port=${port}`],
    ...[`--tls-listening-port=${tlsPort}`, `--cert=${FOLDER}one.pem`, `--pkey=${FOLDER}one_key.pem`],
    ...["--min-port=50000", "--max-port=55000", "--lt-cred-mech", "--user=test:secret", "--realm=example.org"],
    ...["--fingerprint", "--allow-loopback-peers"],
  ]);
  await untilAnswered(TransportAddress.of("127.0.0.1", port));
  return {
    tcp: TransportAddress.of("127.0.0.1", port),
    tls: TransportAddress.of("127.0.0.1", tlsPort),
    async [Symbol.asyncDispose]() {
      await peer[Symbol.asyncDispose]();
      await Deno.remove(folder, { recursive: true });
    },
  };
}

function open(server: Server, over: ServerTransport, options: Partial<AllocateOptions> = {}): Promise<Relay> {
  const isSecure = over === "tls" || over === "dtls";
  const below = over === "tls" ? "tcp" : over === "dtls" ? "udp" : over;
  const uri = `${isSecure ? `turns:${server.tls}` : `turn:${server.tcp}`}?transport=${below}`;
  return allocate({ server: uri, username: "test", password: "secret", tls: TLS, ...options });
}

async function next(relay: Relay): Promise<Uint8Array> {
  const { value } = await relay[Symbol.asyncIterator]().next();
  return value!.data;
}

peerTest("coturn over TCP, TLS and DTLS: the address it sees", COTURN, async () => {
  await using server = await start();
  for (
    const options of [
      { server: `stun:${server.tcp}`, transport: "tcp" },
      { server: `stuns:localhost:${server.tls.port}`, tls: TLS },
      { server: `stuns:localhost:${server.tls.port}`, transport: "dtls", localAddress: "127.0.0.1", tls: TLS },
    ] as const
  ) {
    const { mapped, local, software } = await requestBinding(options);
    assertEquals(String(mapped), String(local));
    assert(software?.startsWith("Coturn"), software);
  }
});

peerTest("coturn over TCP, TLS and DTLS: data of all sizes, by indications and by channels", COTURN, async () => {
  await using server = await start();
  await using peer = await open(server, "udp");
  for (const over of ["tcp", "tls", "dtls"] as const) {
    await using relay = await open(server, over);
    await Promise.all([relay.permit(peer.relayedAddress), peer.permit(relay.relayedAddress)]);
    for (const how of ["indications", "channels"]) {
      if (how === "channels") await relay.bindChannel(peer.relayedAddress);
      for (const size of [0, 1, 2, 3, 4, 5, 1200]) {
        const data = Uint8Array.from({ length: size }, (_, i) => i + size);
        relay.send(peer.relayedAddress, data);
        assertEquals(await next(peer), data, `${how} to the peer`);
        peer.send(relay.relayedAddress, data);
        assertEquals(await next(relay), data, `${how} from the peer`);
      }
    }
  }
});

peerTest("coturn over TCP and TLS: 500 datagrams at once each way, none lost, none out of order", COTURN, async () => {
  await using server = await start();
  for (const over of ["tcp", "tls"] as const) {
    await using a = await open(server, over);
    await using b = await open(server, over);
    await Promise.all([a.bindChannel(b.relayedAddress), b.bindChannel(a.relayedAddress)]);
    for (let round = 0; round < 10; round++) {
      for (let i = 0; i < 50; i++) a.send(b.relayedAddress, Uint8Array.of(i, round));
      for (let i = 0; i < 50; i++) b.send(a.relayedAddress, Uint8Array.of(i, round));
      for (const relay of [a, b]) {
        for (let i = 0; i < 50; i++) assertEquals(await next(relay), Uint8Array.of(i, round));
      }
    }
  }
});

peerTest("coturn over TCP, TLS and DTLS: wrong passwords, wrong names", COTURN, async () => {
  await using server = await start();
  for (const over of ["tcp", "tls", "dtls"] as const) {
    const error = await assertRejects(() => open(server, over, { password: "guess" }), TurnError);
    assertEquals(error.code, 401);
  }
  const tls = { ...TLS, serverName: "two.example" };
  for (const over of ["tls", "dtls"] as const) {
    const error = await assertRejects(() => open(server, over, { tls }), OpenError, "for another name");
    assertEquals(error.failure, "certificate");
  }
});
