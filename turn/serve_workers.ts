import type { IoChoice, SocketSetup } from "../stun/net/linux_host.ts";
import type { TlsServerOptions } from "../stun/net/transport.ts";
import type { UserCredential } from "../stun/users.ts";
import { Crew } from "./_crew.ts";
import type { ServeTurnOptions, TurnServerHandle } from "./serve.ts";
import type { TurnServerStats } from "./server_counters.ts";

/**
 * Options of `serveTurnWorkers()`: those of `serveTurn()`, as far as they can be copied to another thread. There is no
 * `mobility` with more than one worker; with `tcpRelay` the first worker has all TCP and TLS clients.
 */
export interface ServeTurnWorkersOptions
  extends Omit<ServeTurnOptions, "users" | "host" | "common" | "lookUpUserHash"> {
  /** How many workers there are, 1 to 256: one for each core that is to be used. */
  readonly workers: number;
  /** Who may allocate: user names with passwords or stored keys. */
  readonly users: Readonly<Record<string, UserCredential>> | Iterable<readonly [string, UserCredential]>;
  /** Which back end carries UDP. Sharing a port needs that of Linux. Default: `"auto"`. */
  readonly io?: IoChoice;
  /** How the Linux back end sets up its sockets. Defaults: see `SocketSetup`. */
  readonly setup?: SocketSetup;
}

/**
 * A running TURN server of several workers. `stats()` and `streamStats()` are up to a second old, until it is shut down.
 * `finished` rejects if a worker has failed, which is the end of all.
 */
export interface TurnWorkersHandle extends TurnServerHandle {
  /** How UDP is carried, for people. */
  readonly io: string;
  /** What each worker did, as `stats()` tells it of all of them. */
  readonly workerStats: readonly TurnServerStats[];
  /**
   * Puts other users in the place of those of the options. Allocations that are there stay. This and the next ones resolve
   * when all workers go by it.
   *
   * @throws {SyntaxError} If a name or a password is empty or has a control character; the old ones stay.
   */
  setUsers(users: ServeTurnWorkersOptions["users"]): Promise<void>;
  /**
   * Takes another certificate, for the connections to come.
   *
   * @throws {TypeError} If the server was started without TLS.
   */
  setTls(tls: TlsServerOptions): Promise<void>;
  /**
   * Puts other secrets in the place of `restSecrets`.
   *
   * @throws {TypeError} If there were none from the beginning.
   */
  setRestSecrets(secrets: readonly string[]): Promise<void>;
  /**
   * Puts other keys in the place of those of `tokens`, whose own changes do not reach the workers.
   *
   * @throws {RangeError} If a key has a wrong length.
   * @throws {TypeError} If the server was started without `tokens`.
   */
  setTokenKeys(keys: Iterable<readonly [kid: string, key: Uint8Array]>): Promise<void>;
}

const MAX_WORKERS = 256;

/**
 * Serves TURN with several threads on the same ports: the kernel gives each client, by its address and port, to one of
 * them. Quotas, speed limits, relay ports, counters and draining are those of one server. Needs Linux, `--allow-ffi`, and
 * `--allow-read` of its own code if that is on this machine.
 *
 * @example Two workers
 * ```ts ignore
 * import { serveTurnWorkers } from "@natkit/natkit/turn";
 *
 * const server = await serveTurnWorkers({ workers: 2, realm: "example.org", users: { alice: "secret" } });
 * console.log(server.addresses.map(String));
 * await server.finished;
 * ```
 *
 * @param options How many, where and to whom.
 * @throws {OpenError} If a socket can not be bound, as when the port is in use.
 * @throws {SyntaxError} If an address, a range, the realm, a name or a password is malformed.
 * @throws {RangeError} If a number is out of range.
 * @throws {TypeError} If the Linux back end does not work here.
 */
export async function serveTurnWorkers(options: ServeTurnWorkersOptions): Promise<TurnWorkersHandle> {
  const { workers, signal } = options;
  if (!Number.isInteger(workers) || workers < 1 || workers > MAX_WORKERS) {
    throw new RangeError(
      `Cannot use so many workers as there must be 1 to ${MAX_WORKERS}: current value is ${workers}`,
    );
  }
  if (workers > 1 && options.mobility === true) {
    // The kernel gives a client that has moved to any of them, and only one has its socket.
    throw new TypeError("Cannot offer mobility (RFC 8016) with more than one worker");
  }
  signal?.throwIfAborted();
  const crew = new Crew(options);
  try {
    await crew.start(workers);
  } catch (error) {
    // The caller has no handle on it, and learns of the failure here.
    crew.finished.catch(() => {});
    await crew.shutdown();
    throw error;
  }
  signal?.addEventListener("abort", () => void crew.shutdown(), { once: true });
  return crew;
}
