import type { TransportAddress } from "../stun/address.ts";
import type { Random } from "../stun/machine.ts";
import type { MachineHandle } from "../stun/net/driver.ts";
import type { StreamLimits } from "../stun/net/streams.ts";
import { type Host, OpenError } from "../stun/net/transport.ts";
import { randomFraction } from "../stun/random.ts";
import type { IceAgent } from "./agent.ts";
import { isPrivate } from "./candidate.ts";
import type { GatheringError, IceEvent } from "./events.ts";
import type { GatherOptions } from "./gather_options.ts";
import { portsToTry } from "./host_addresses.ts";
import type { IceComponent } from "./streams.ts";
import type { TcpType } from "./tcp.ts";
import type { NewTcpHost } from "./tcp_connections.ts";

/**
 * Anybody may connect, and has shown by then that it is the peer, or is closed: long enough for what is lost three times
 * (RFC 6298).
 */
const LIMITS: StreamLimits = { maxConnections: 64, maxPerAddress: 16, firstFrameTimeout: 15_000, frameTimeout: 15_000 };

/**
 * Which directions an option stands for. Simultaneous open is for addresses behind a firewall, where the host can do it, and
 * behind a NAT if a server can tell the port that it leaves from: at home the other two are enough.
 */
const DIRECTIONS: Readonly<Record<NonNullable<GatherOptions["tcp"]>, readonly TcpType[]>> = {
  none: [],
  active: ["active"],
  passive: ["passive"],
  both: ["active", "passive", "so"],
};

/** Where TCP candidates come from, and go to. */
export interface TcpHostsOwner {
  /** The computer. */
  readonly host: Host;
  /** The agent. */
  readonly agent: IceAgent;
  /** The agent's handle. */
  readonly handle: MachineHandle<IceEvent>;
  /** What the user wants. */
  readonly options: GatherOptions;
  /** Is told which address gave nothing. */
  report(event: GatheringError): void;
}

/** What TCP candidates are for. */
export interface TcpHostFor {
  /** What hides the address; `undefined` if nothing does. */
  readonly name: string | undefined;
  /** The component. */
  readonly component: Pick<IceComponent, "stream" | "component">;
}

/** Gives an agent its TCP host candidates of one address (RFC 6544 §4.1): listens, where it is to be connected to. */
export function addTcpHosts(owner: TcpHostsOwner, address: TransportAddress, what: TcpHostFor): void {
  const { name, component: { stream, component } } = what;
  const { host, agent, handle, options } = owner;
  if (host.connectStream === undefined || host.listenStream === undefined) return;
  const isBound = host.canShareStreamPort === true;
  for (const tcpType of DIRECTIONS[options.tcp ?? "active"]) {
    if (tcpType === "active") {
      handle.call((io) => agent.addTcp({ tcpType, address, name, isBound, stream, component }, io));
    } else if (tcpType === "passive") listen(owner, address, { tcpType, ...what, isUntold: false });
    else if (isBound && (!isPrivate(address) || hasTcpServer(options))) {
      listen(owner, address, { tcpType, ...what, isUntold: isPrivate(address) });
    }
  }
}

/** A TURN server is a STUN server over TCP, too. */
function hasTcpServer({ turnServers = [] }: GatherOptions): boolean {
  return turnServers.some(({ urls }) => [urls].flat().some((url) => /^turn:.*\?transport=tcp/i.test(url)));
}

function listen(
  { host, agent, handle, options, report }: TcpHostsOwner,
  address: TransportAddress,
  { tcpType, name, isUntold, component: { stream, component } }: TcpHostFor & Pick<NewTcpHost, "tcpType" | "isUntold">,
): void {
  const { address: ip } = address;
  const wish = { transport: "tcp", address: ip, framing: "rfc4571", isShared: tcpType === "so" } as const;
  // A port of the user's choice is for those who connect from outside.
  const wanted = tcpType === "passive" ? address : address.withPort(0);
  try {
    const listener = bindInRange(
      wanted,
      { transport: "TCP", random: host.random, ...options },
      (port) => handle.listenStream({ ...wish, port }, LIMITS),
    );
    const { socket, localAddress } = listener;
    handle.call((io) =>
      agent.addTcp({ tcpType, address: localAddress, name, socket, isUntold, stream, component }, io)
    );
  } catch (error) {
    if (!(error instanceof OpenError)) throw error;
    report({ type: "gathering-error", url: address.address, text: error.message });
  }
}

/**
 * Binds an address: to its own port, or if it has none to a free one of the range, or the host's choice.
 *
 * @param address Port 0 is any.
 * @param how The range; what is bound, for people; chooses where in the range to begin.
 * @param bind Binds one port.
 * @throws {OpenError} If it can not.
 */
export function bindInRange<T>(
  address: TransportAddress,
  { portRange, transport, random }: {
    readonly portRange?: GatherOptions["portRange"];
    readonly transport: "UDP" | "TCP";
    readonly random: Random;
  },
  bind: (port: number) => T,
): T {
  if (portRange === undefined || address.port !== 0) return bind(address.port);
  const ports = portsToTry(portRange, randomFraction(random));
  let failure: OpenError | undefined;
  for (const port of ports) {
    try {
      return bind(port);
    } catch (error) {
      if (!(error instanceof OpenError) || error.failure !== "address-in-use") throw error;
      failure = error;
    }
  }
  if (ports.length === 1) throw failure!;
  const text = `Cannot bind ${transport} ${address.address} as all ${ports.length} ports of portRange are in use (` +
    `${portRange[0]} to ${portRange[1]}, each tried once): choose a wider range`;
  throw new OpenError("address-in-use", text, { cause: failure });
}
