// Agents in the middle of all that an agent does, for tests of what strangers may do to them.
import type { IceRole } from "../../ice/pair.ts";
import { parseCandidate } from "../../ice/sdp.ts";
import type { SocketId } from "../../stun/machine.ts";
import { TransportAddress } from "../../stun/address.ts";
import { HOST, PEER, PEER_PWD, PEER_UFRAG, Rig, type RigOptions } from "./rig.ts";

/** Where the peer's second address is. */
export const SECOND: TransportAddress = TransportAddress.parse("198.51.100.3:6001");
/** Where the peer's TCP connection comes from. */
export const TCP_PEER: TransportAddress = PEER.withPort(40_000);
const LISTENER: SocketId = 7;
const LISTENING = TransportAddress.parse("192.0.2.1:7000");

/** An agent, and where its peer's messages come from and arrive. */
export interface Beginning {
  readonly rig: Rig;
  readonly from: TransportAddress;
  readonly socket: SocketId;
}

const udp = (rig: Rig): Beginning => ({ rig, from: PEER, socket: 1 });

/** By name: how far the agent has come. */
export const BEGINNINGS: Readonly<Record<string, (role: IceRole) => Beginning>> = {
  "gathered": (role) => udp(Rig.gathered({ role })),
  "checking": (role) => udp(Rig.checking({ role })),
  "connected": (role) => udp(Rig.connected({ role })),
  "completed": (role) => udp(Rig.completed({ role })),
  "restarted": (role) => {
    const rig = Rig.completed({ role });
    rig.agent.restart(rig.io);
    rig.agent.endOfLocalCandidates(rig.io);
    return udp(rig);
  },
  "auto": () => udp(Rig.gathered({ role: "auto" })),
  "lite": (role) => udp(Rig.checking({ role, lite: true })),
  "lite completed": (role) => {
    const rig = Rig.checking({ role, lite: true });
    rig.request({ useCandidate: true });
    return udp(rig);
  },
  "standby": (role) => udp(twoPaths({ role })),
  "quality": (role) => udp(twoPaths({ role, pathPolicy: "quality" })),
  "renominating": (role) => {
    const rig = twoPaths({ role });
    const other = rig.agent.pairs.find(({ remote }) => remote.address.equals(SECOND))!;
    if (role === "controlling") rig.agent.selectPair(other, rig.io);
    else rig.request({ from: SECOND, nomination: 2 });
    return udp(rig);
  },
  "a name is looked up": (role) => {
    const rig = Rig.gathered({ role, resolvesNames: true });
    rig.remote();
    rig.agent.addRemoteCandidate(
      parseCandidate("n 1 udp 2130706431 d5ba37f9-2b50-4d6a-8d4e-1d2c3f4a5b6c.local 6000 typ host"),
      rig.io,
    );
    return udp(rig);
  },
  "streams": (role) => {
    const rig = new Rig({ role, streams: [{ components: 2 }, { components: 1 }] });
    rig.agent.components.forEach((at, flow) => rig.agent.addHost(flow + 1, HOST.withPort(5000 + flow), rig.io, at));
    rig.agent.endOfLocalCandidates(rig.io);
    rig.candidate(PEER);
    rig.remote();
    return udp(rig);
  },
  "tcp, a connection is made": (role) => tcpActive(role),
  "tcp, checking": (role) => tcpActive(role, "opened"),
  "tcp, completed": (role) => tcpActive(role, "answered"),
  "tcp, listening": (role) => tcpPassive(role),
  "tcp, a peer has connected": (role) => tcpPassive(role, true),
};

/** Somebody connects to the port that the agent listens on, if it does. */
export function accept(rig: Rig, socket: SocketId, from: TransportAddress): void {
  const connection = { listener: LISTENER, transport: "tcp", remoteAddress: from, localAddress: LISTENING } as const;
  rig.agent.handleAccepted(socket, { ...connection, alpn: undefined }, rig.io);
}

/** Two ways to the peer that both work, the better one nominated. */
function twoPaths(options: RigOptions & { role: IceRole }): Rig {
  const rig = Rig.gathered(options);
  rig.candidate(PEER, "host", 2130706431);
  rig.candidate(SECOND, "srflx", 1694498815);
  rig.agent.setRemoteParameters({ ufrag: PEER_UFRAG, pwd: PEER_PWD, options: ["ice2", "renomination"] }, rig.io);
  rig.agent.endOfCandidates(rig.io);
  rig.advance(50);
  for (const request of rig.requests) rig.succeed(request);
  for (const from of [PEER, SECOND]) rig.request({ from });
  if (options.role === "controlled") rig.request({ useCandidate: true });
  else {
    rig.advance(50);
    rig.succeed(rig.lastRequest());
  }
  return rig;
}

function tcpActive(role: IceRole, until?: "opened" | "answered"): Beginning {
  const rig = new Rig({ role });
  rig.agent.addTcp({ tcpType: "active", address: HOST, isBound: false }, rig.io);
  rig.agent.endOfLocalCandidates(rig.io);
  rig.agent.addRemoteCandidate(
    parseCandidate(`p 1 TCP 1524629503 ${PEER.address} ${PEER.port} typ host tcptype passive`),
    rig.io,
  );
  rig.remote();
  rig.agent.endOfCandidates(rig.io);
  const beginning = { rig, from: PEER, socket: 100 };
  if (until === undefined) return beginning;
  rig.advance(20);
  rig.agent.handleOpened(100, HOST.withPort(33333), rig.io);
  if (until === "opened") return beginning;
  rig.advance(20);
  rig.succeed(rig.lastRequest(), { mapped: HOST.withPort(33333) });
  if (role === "controlled") rig.request({ ...beginning, useCandidate: true });
  else {
    rig.advance(100);
    rig.succeed(rig.lastRequest(), { mapped: HOST.withPort(33333) });
  }
  return beginning;
}

function tcpPassive(role: IceRole, isConnected = false): Beginning {
  const rig = new Rig({ role });
  rig.agent.addTcp({ tcpType: "passive", address: LISTENING, socket: LISTENER }, rig.io);
  rig.agent.endOfLocalCandidates(rig.io);
  rig.remote();
  const beginning = { rig, from: TCP_PEER, socket: 50 };
  if (!isConnected) return beginning;
  accept(rig, 50, TCP_PEER);
  rig.request(beginning);
  return beginning;
}
