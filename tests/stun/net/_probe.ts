import { TransportAddress } from "../../../stun/address.ts";
import type { Machine, MachineIo, OpenFailure, Packet, SocketId, Tunnel } from "../../../stun/machine.ts";
import { Driver, type MachineHandle } from "../../../stun/net/driver.ts";
import { type VirtualHost, VirtualWorld } from "../../../stun/net/virtual/mod.ts";
import { type Endpoint, endpoint } from "./virtual/rig.ts";

/** The address of the driver's host. */
export const A = "192.0.2.1";
/** The address of another host. */
export const B = "192.0.2.2";
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** What a probe is handed. */
export type Io = MachineIo<string>;

/** A machine whose every reaction a test can set. It notes what it is told. */
export class Probe implements Machine<string> {
  deadline = Infinity;
  readonly log: string[] = [];
  onPacket: (text: string, packet: Packet, io: Io) => void = () => {};
  onTimeout: (io: Io) => void = () => {};
  onOpened: (socket: SocketId, io: Io) => void = () => {};
  onOpenFailed: (failure: OpenFailure, io: Io) => void = () => {};

  handlePacket(packet: Packet, io: Io): void {
    const text = decoder.decode(packet.bytes);
    this.log.push(`${io.now} socket ${packet.socket}: ${packet.from} ${text}`);
    this.onPacket(text, packet, io);
  }

  handleTimeout(io: Io): void {
    this.log.push(`${io.now} timeout`);
    this.deadline = Infinity;
    this.onTimeout(io);
  }

  handleOpened(socket: SocketId, localAddress: TransportAddress, io: Io): void {
    this.log.push(`${io.now} opened ${socket} at ${localAddress}`);
    this.onOpened(socket, io);
  }

  handleOpenFailed(socket: SocketId, failure: OpenFailure, io: Io): void {
    this.log.push(`${io.now} failed ${socket}: ${failure}`);
    this.onOpenFailed(failure, io);
  }
}

/** A tunnel that puts a mark in front of what goes down, and takes one off what comes up. */
export class Marker extends Probe implements Tunnel<string> {
  readonly mark: string;
  /** The socket below, and where it sends. */
  below: { socket: SocketId; to: TransportAddress } | undefined;

  constructor(mark: string) {
    super();
    this.mark = mark;
  }

  handleSend(to: TransportAddress, bytes: Uint8Array, offset: number, length: number, io: Io): void {
    const marked = io.scratch(length + 1);
    marked[0] = this.mark.charCodeAt(0);
    marked.set(bytes.subarray(offset, offset + length), 1);
    io.send(this.below!.socket, this.below!.to, marked);
    this.log.push(`${io.now} down to ${to}`);
  }

  override handlePacket(packet: Packet, io: Io): void {
    super.handlePacket(packet, io);
    io.deliver(packet.from, packet.buffer, packet.offset + 1, packet.length - 1);
  }
}

/** A driver with one probe on host `a`, bound to port 1000, and a socket of another host, at port 2000. */
export interface Scene {
  readonly world: VirtualWorld;
  readonly a: VirtualHost;
  readonly driver: Driver;
  readonly probe: Probe;
  readonly handle: MachineHandle<string>;
  /** What the probe emitted and delivered. */
  readonly events: string[];
  readonly socket: SocketId;
  readonly peer: Endpoint;
}

/** Sets a scene. */
export function scene(): Scene {
  const world = new VirtualWorld({ seed: 1 });
  const a = world.addHost("a", { addresses: [A] });
  const b = world.addHost("b", { addresses: [B] });
  const driver = new Driver(a);
  const probe = new Probe();
  const events: string[] = [];
  const handle = driver.add(probe, {
    onEvent: (event) => events.push(event),
    onDeliver: (from, bytes) => events.push(`${from} ${decoder.decode(bytes)}`),
  });
  const { socket } = handle.bind({ transport: "udp", address: A, port: 1000 });
  return { world, a, driver, probe, handle, events, socket, peer: endpoint(b, `${B}:2000`) };
}

/** Sends text out of scratch memory. Default destination: the scene's peer. */
export function send(
  io: Io,
  socket: SocketId,
  text: string,
  to: TransportAddress = TransportAddress.parse(`${B}:2000`),
) {
  const bytes = encoder.encode(text);
  const scratch = io.scratch(bytes.length);
  scratch.set(bytes);
  io.send(socket, to, scratch);
}
