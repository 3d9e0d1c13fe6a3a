import { IceConnection } from "./connection.ts";
import type { IceSignaling, OpenIceOptions } from "./connection_options.ts";

/** How `connectIce()` makes a connection. */
export interface ConnectIceOptions extends OpenIceOptions {
  /** How texts get to the other side, and from there. */
  readonly signaling: IceSignaling;
}

/**
 * Connects to a peer that does the same, by the best path there is (RFC 8445), with candidates trickling both ways over
 * `signaling`. Needs `--unstable-net`, `--allow-net` and `--allow-sys=networkInterfaces`.
 *
 * No server is used but those that are named. The connection is returned as soon as data can flow.
 *
 * @example Two agents in one program
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { connectIce } from "@natkit/natkit/ice";
 *
 * // Stands for what carries texts between two programs, as a WebSocket does.
 * const [one, other] = [new TransformStream<string>(), new TransformStream<string>()];
 * const signalingOf = (out: TransformStream<string>, receive: TransformStream<string>) => {
 *   const writer = out.writable.getWriter();
 *   return { send: (text: string) => writer.write(text), receive: receive.readable };
 * };
 *
 * const [alice, bob] = await Promise.all([
 *   connectIce({ role: "controlling", bind: ["127.0.0.1"], signaling: signalingOf(one, other) }),
 *   connectIce({ role: "controlled", bind: ["127.0.0.1"], signaling: signalingOf(other, one) }),
 * ]);
 * alice.send(new TextEncoder().encode("hello"));
 * for await (const bytes of bob) {
 *   assertEquals(new TextDecoder().decode(bytes), "hello");
 *   break;
 * }
 * await Promise.all([alice.close(), bob.close()]);
 * ```
 *
 * @throws {IceError} If there is no local candidate, no path to the peer, or the signaling breaks.
 * @throws {RangeError} If an option is out of range.
 * @throws {SyntaxError} If an address in `bind` is none.
 * @throws {OpenError} If the addresses of this computer may not be looked at, and `bind` does not name them.
 */
export async function connectIce(options: ConnectIceOptions): Promise<IceConnection> {
  const connection = openIce(options);
  try {
    connection.signal(options.signaling);
    await connection.connected;
    return connection;
  } catch (error) {
    await connection.close();
    throw error;
  }
}

/**
 * Begins a connection whose signaling is done by hand: gathering starts at once; `localDescription()` is what the other
 * side needs, and what comes from there goes into `addRemoteDescription()`.
 *
 * @example One line each way, to copy and paste
 * ```ts
 * import { openIce } from "@natkit/natkit/ice";
 *
 * await using alice = openIce({ role: "controlling", bind: ["127.0.0.1"] });
 * await using bob = openIce({ role: "controlled", bind: ["127.0.0.1"] });
 * bob.addRemoteDescription(await alice.localDescription());
 * alice.addRemoteDescription(await bob.localDescription());
 * console.log(`alice: ${await alice.connected}`);
 * ```
 *
 * @throws {RangeError} If an option is out of range.
 * @throws {SyntaxError} If an address in `bind` is none.
 * @throws {OpenError} If the addresses of this computer may not be looked at, and `bind` does not name them.
 */
export function openIce(options: OpenIceOptions = {}): IceConnection {
  return new IceConnection(options);
}
