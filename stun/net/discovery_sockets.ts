// The second port that NAT behaviour discovery needs on each address of a server (RFC 5780 §6).
import type { TransportAddress } from "../address.ts";
import { scopeOf } from "../discovery_server.ts";
import type { SocketId, SocketWish } from "../machine.ts";
import type { BoundSocket, MachineHandle } from "./machine_handle.ts";
import { OpenError } from "./transport.ts";

/** How often a port that is to be free on all addresses is looked for. */
const PORT_TRIES = 16;

/** How `bindAlternates()` binds. */
export interface AlternateOptions {
  /** The port. Default: the one above the first, or else any that is free on all. */
  readonly alternatePort?: number | undefined;
  /** What else is asked of the UDP sockets. Default: nothing. */
  readonly udp?: Omit<SocketWish, "address" | "port"> | undefined;
  /** Listens for connections on an address, too. */
  readonly listen?: ((address: TransportAddress) => { close(): void }) | undefined;
}

/** The addresses that have scope and port in common, where there are two at least: alternates of each other. */
export function alternateGroups(addresses: readonly TransportAddress[]): TransportAddress[][] {
  const groups = Map.groupBy(addresses, (address) => `${scopeOf(address)} ${address.port}`);
  return [...groups.values()].filter((group) => group.length > 1);
}

/**
 * Binds a second port on all addresses of a group.
 *
 * @param handle The machine that they are for.
 * @param group By `alternateGroups()`.
 * @param options Which port, and what for.
 * @throws {OpenError} If it can not; nothing stays bound.
 */
export function bindAlternates<Event>(
  handle: MachineHandle<Event>,
  group: readonly TransportAddress[],
  options: AlternateOptions = {},
): BoundSocket[] {
  const { alternatePort, ...rest } = options;
  const { port: first } = group[0]!;
  const next = first < 65535 ? first + 1 : 0;
  for (let tries = 1;; tries++) {
    try {
      return bindAll(handle, group, { port: alternatePort ?? (tries === 1 ? next : 0), ...rest });
    } catch (error) {
      const isTaken = error instanceof OpenError && error.failure === "address-in-use";
      if (!isTaken || alternatePort !== undefined || tries === PORT_TRIES) throw error;
    }
  }
}

/** Binds one port on all. With 0 the first address's host chooses for all of them. */
function bindAll<Event>(
  handle: MachineHandle<Event>,
  group: readonly TransportAddress[],
  { port, listen, udp = { transport: "udp" } }: AlternateOptions & { readonly port: number },
): BoundSocket[] {
  const bound: BoundSocket[] = [];
  const listeners: { close(): void }[] = [];
  try {
    for (const { address } of group) {
      bound.push(handle.bind({ ...udp, address, port: bound[0]?.localAddress.port ?? port }));
      if (listen !== undefined) listeners.push(listen(bound.at(-1)!.localAddress));
    }
    return bound;
  } catch (error) {
    for (const listener of listeners) listener.close();
    const sockets: SocketId[] = bound.map(({ socket }) => socket);
    handle.call((io) => sockets.forEach((socket) => io.close(socket)));
    throw error;
  }
}
