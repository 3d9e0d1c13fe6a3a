// A TURN server that takes no credentials, checks nothing and does what a test wants wrong.
import { TransportAddress } from "../../stun/address.ts";
import { ERROR_CODE_ATTRIBUTE, XOR_MAPPED_ADDRESS } from "../../stun/attributes.ts";
import type { Machine, MachineIo, Packet, SocketId } from "../../stun/machine.ts";
import { isStunByte, MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import { Driver, type MachineHandle } from "../../stun/net/driver.ts";
import type { Host } from "../../stun/net/transport.ts";
import {
  CHANNEL_NUMBER,
  DATA,
  LIFETIME,
  MOBILITY_TICKET,
  REQUESTED_ADDRESS_FAMILY,
  XOR_PEER_ADDRESS,
  XOR_RELAYED_ADDRESS,
} from "../../turn/attributes.ts";
import { isChannelByte } from "../../turn/channel_data.ts";

/** What it does wrong. */
export interface Sloppiness {
  /** The code to answer requests of a method with; 0: success, -1: silence. */
  readonly codes?: ReadonlyMap<number, number>;
  /** What becomes of data on its way to a client. Default: it is passed on as it is. */
  readonly data?: (bytes: Uint8Array) => readonly Uint8Array[];
  /** The relayed address that clients are told. Default: the real one. */
  readonly relayed?: (address: TransportAddress) => TransportAddress;
}

interface Lent {
  client: TransportAddress;
  readonly relay: SocketId;
  readonly relayed: TransportAddress;
  readonly channels: Map<number, TransportAddress>;
}

class SloppyServer implements Machine {
  readonly deadline = Infinity;
  handle!: MachineHandle<never>;
  readonly #sloppiness: Sloppiness;
  readonly #address: string;
  #byClient = new Map<number | string, Lent>();
  #byRelay = new Map<SocketId, Lent>();
  #byTicket = new Map<number, Lent>();
  #tickets = 0;
  #socket: SocketId;

  constructor(address: string, sloppiness: Sloppiness) {
    this.#address = address;
    this.#sloppiness = sloppiness;
    this.#socket = -1;
  }

  listen(port: number): TransportAddress {
    const bound = this.handle.bind({ transport: "udp", address: this.#address, port });
    this.#socket = bound.socket;
    return bound.localAddress;
  }

  handleTimeout(): void {}

  handlePacket(packet: Packet, io: MachineIo): void {
    const lent = this.#byRelay.get(packet.socket);
    if (lent !== undefined) return this.#toClient(lent, packet, io);
    const bytes = packet.bytes.slice();
    if (isChannelByte(bytes[0]!)) {
      const from = this.#byClient.get(packet.from.key);
      const peer = from?.channels.get((bytes[0]! << 8) | bytes[1]!);
      if (peer !== undefined) io.send(from!.relay, peer, bytes, 4);
      return;
    }
    const message = isStunByte(bytes[0]!) ? StunMessage.parse(bytes) : undefined;
    if (message?.class === "request") this.#answer(message, packet.from, io);
    else if (message?.method === METHOD.SEND) {
      const from = this.#byClient.get(packet.from.key);
      if (from !== undefined) io.send(from.relay, message.get(XOR_PEER_ADDRESS)!, message.get(DATA)!);
    }
  }

  #answer(request: StunMessage, client: TransportAddress, io: MachineIo): void {
    const isUnknownFamily = request.method === METHOD.ALLOCATE && request.get(REQUESTED_ADDRESS_FAMILY) === 6;
    const code = isUnknownFamily ? 440 : this.#sloppiness.codes?.get(request.method) ?? 0;
    if (code === -1) return;
    const writer = new MessageWriter(new Uint8Array(512)).beginResponse(request, code === 0 ? "success" : "error");
    if (code !== 0) writer.add(ERROR_CODE_ATTRIBUTE, { code, reason: "" });
    else if (request.method === METHOD.BINDING) writer.add(XOR_MAPPED_ADDRESS, client);
    else if (request.method === METHOD.ALLOCATE) {
      const { relayed } = this.#lend(client);
      const told = this.#sloppiness.relayed?.(relayed) ?? relayed;
      writer.add(XOR_RELAYED_ADDRESS, told).add(XOR_MAPPED_ADDRESS, client).add(LIFETIME, 600);
      if (request.has(MOBILITY_TICKET)) writer.add(MOBILITY_TICKET, this.#newTicket(client));
    } else if (request.method === METHOD.REFRESH) {
      writer.add(LIFETIME, request.get(LIFETIME) ?? 600);
      const ticket = request.get(MOBILITY_TICKET);
      if (ticket !== undefined) this.#move(ticket, client, writer);
    } else if (request.method === METHOD.CHANNEL_BIND) {
      this.#byClient.get(client.key)?.channels.set(request.get(CHANNEL_NUMBER)!, request.get(XOR_PEER_ADDRESS)!);
    }
    io.send(this.#socket, client, writer.finish());
  }

  /** RFC 8016, without asking who it is. */
  #move(ticket: Uint8Array, client: TransportAddress, writer: MessageWriter): void {
    const lent = this.#byTicket.get(ticket[0]!);
    if (lent === undefined) return void writer.add(ERROR_CODE_ATTRIBUTE, { code: 437, reason: "" });
    this.#byTicket.delete(ticket[0]!);
    this.#byClient.delete(lent.client.key);
    lent.client = client;
    this.#byClient.set(client.key, lent);
    writer.add(MOBILITY_TICKET, this.#newTicket(client)).add(XOR_MAPPED_ADDRESS, client);
  }

  #newTicket(client: TransportAddress): Uint8Array {
    const ticket = Uint8Array.of(++this.#tickets, 0, 0, 0);
    this.#byTicket.set(this.#tickets, this.#byClient.get(client.key)!);
    return ticket;
  }

  #lend(client: TransportAddress): Lent {
    const { socket: relay, localAddress: relayed } = this.handle.bind({
      transport: "udp",
      address: this.#address,
      port: 0,
    });
    const lent = { client, relay, relayed, channels: new Map<number, TransportAddress>() };
    this.#byClient.set(client.key, lent);
    this.#byRelay.set(relay, lent);
    return lent;
  }

  #toClient({ client, channels }: Lent, packet: Packet, io: MachineIo): void {
    const number = [...channels].find(([, peer]) => peer.equals(packet.from))?.[0];
    for (const data of this.#sloppiness.data?.(packet.bytes.slice()) ?? [packet.bytes.slice()]) {
      if (number !== undefined) {
        const frame = Uint8Array.of(number >> 8, number & 255, data.length >> 8, data.length & 255, ...data);
        io.send(this.#socket, client, frame);
        continue;
      }
      const id = new Uint8Array(12);
      io.random.fill(id);
      const message = new MessageWriter(new Uint8Array(data.length + 64)).begin(METHOD.DATA, "indication", id)
        .add(XOR_PEER_ADDRESS, packet.from).add(DATA, data).finish();
      io.send(this.#socket, client, message);
    }
  }
}

/** Starts one. Gives the address that it serves. */
export function serveSloppily(host: Host, address: string, sloppiness: Sloppiness = {}): TransportAddress {
  const { address: ip, port } = TransportAddress.parse(address);
  const server = new SloppyServer(ip, sloppiness);
  server.handle = new Driver(host).add<never>(server);
  return server.listen(port);
}

/** Codes by method. */
export function codes(entries: Partial<Record<keyof typeof METHOD, number>>): ReadonlyMap<number, number> {
  return new Map(Object.entries(entries).map(([name, code]) => [METHOD[name as keyof typeof METHOD], code]));
}
