// Debian's turnserver (coturn) on loopback.
import { TransportAddress } from "../../stun/address.ts";
import { requestBinding } from "../../stun/request.ts";
import { StunError, StunTimeoutError } from "../../stun/error.ts";
import { type PeerPrograms, startPeer } from "./_peers.ts";
import { freePort } from "../free_port.ts";

/** What tests against coturn need. */
export const COTURN: PeerPrograms = { programs: ["turnserver"], install: "apt-get install -y coturn" };

/** A coturn that takes clients. */
export interface Coturn extends AsyncDisposable {
  readonly address: TransportAddress;
  /** The file with a line for each request. */
  readonly log: string;
}

/** What coturn serves besides UDP: TCP, also for peers, and with a certificate and its key in files TLS on the same port. */
export interface CoturnConnections {
  readonly certificate?: string;
  readonly key?: string;
}

/** Starts coturn on loopback, for user `test` with password `secret`. Without `connections` it serves UDP only. */
export async function startCoturn(
  args: readonly string[] = [],
  port = freePort(),
  connections?: CoturnConnections,
): Promise<Coturn> {
  const folder = await Deno.makeTempDir();
  const log = `${folder}/log`;
  const address = TransportAddress.of("127.0.0.1", port);
  const peer = startPeer("turnserver", [
    ...["-n", "--no-cli", "-v", `--log-file=${log}`, "--simple-log", `--pidfile=${folder}/pid`, `--db=${folder}/db`],
    ...["--no-dtls", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", ...connectionArgs(connections)],
    ...[`--listening-port=${address.port}`, "--min-port=50000", "--max-port=55000", "--lt-cred-mech"],
    ...["--user=test:secret", "--realm=example.org", "--fingerprint", "--allow-loopback-peers", ...args],
  ]);
  const stop = async () => {
    await peer[Symbol.asyncDispose]();
    await Deno.remove(folder, { recursive: true });
  };
  try {
    await untilAnswered(address);
  } catch (error) {
    await stop();
    throw error;
  }
  return { address, log, [Symbol.asyncDispose]: stop };
}

function connectionArgs(connections: CoturnConnections | undefined): string[] {
  if (connections === undefined) return ["--no-tls", "--no-tcp", "--no-tcp-relay"];
  const { certificate, key } = connections;
  return certificate === undefined ? ["--no-tls"] : [`--cert=${certificate}`, `--pkey=${key}`];
}

/** Waits until a server answers, 10 s at most. */
export async function untilAnswered(server: TransportAddress): Promise<void> {
  for (let tries = 1;; tries++) {
    try {
      return void await requestBinding({ server, rto: 100, rc: 1, rm: 1 });
    } catch (error) {
      // With --secure-stun it wants credentials: an answer as well.
      if (error instanceof StunError) return;
      if (tries === 100 || !(error instanceof StunTimeoutError)) throw error;
    }
  }
}

/** Waits until turnutils_peer answers. */
export async function untilEcho(port: number): Promise<void> {
  const conn = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
  const asked: Promise<number>[] = [];
  const ask = () => asked.push(conn.send(new Uint8Array(1), { transport: "udp", hostname: "127.0.0.1", port }));
  const timer = setInterval(ask, 20);
  ask();
  await conn.receive();
  clearInterval(timer);
  await Promise.allSettled(asked);
  conn.close();
}
