// A router that gives ports: by PCP, by NAT-PMP, not at all, or not for this.
import { TransportAddress } from "../../stun/address.ts";
import { type DatagramSocket, PacketBatch } from "../../stun/net/transport.ts";
import type { VirtualGateway, VirtualHost } from "../../stun/net/virtual/mod.ts";

export interface PcpServerOptions {
  /** Default: `"pcp"`. */
  readonly speaks?: "pcp" | "nat-pmp" | "nothing";
  /** Refuses with this result code. */
  readonly result?: number;
  /** The longest lifetime in seconds. Default: an hour. */
  readonly lifetime?: number;
  /** What it says its address outside is. Default: the NAT's. */
  readonly external?: string;
}

/** The server: at port 5351 of a host that stands for the router. */
export class PcpServer {
  /** What came in, in short: `"pcp map 5000 for 1200"`. */
  readonly requests: string[] = [];
  /** When. */
  readonly times: number[] = [];
  options: PcpServerOptions;
  readonly #gateway: VirtualGateway;
  readonly #host: VirtualHost;
  readonly #socket: DatagramSocket;

  constructor(host: VirtualHost, gateway: VirtualGateway, options: PcpServerOptions = {}) {
    this.#host = host;
    this.#gateway = gateway;
    this.options = options;
    const address = host.networkInterfaces[0]!.addresses[0]!;
    this.#socket = host.openDatagram({ transport: "udp", address, port: 5351 }, (batch) => {
      const bytes = batch.buffers[0]!.slice(batch.offsets[0]!, batch.offsets[0]! + batch.lengths[0]!);
      this.#handle(bytes, batch.addresses[0]!);
    });
  }

  #handle(bytes: Uint8Array, from: TransportAddress): void {
    const { speaks = "pcp" } = this.options;
    const view = new DataView(bytes.buffer);
    this.times.push(this.#host.now());
    if (bytes[0] === 2) {
      this.requests.push(`pcp map ${view.getUint16(40)} for ${view.getUint32(4)}`);
      if (speaks === "pcp") this.#answerPcp(bytes, from);
      // RFC 6886 §3.5.
      else if (speaks === "nat-pmp") this.#send(Uint8Array.of(0, 0x81, 0, 1, 0, 0, 0, 9), from);
    } else if (speaks === "nat-pmp") this.#answerNatPmp(bytes, from);
  }

  #answerPcp(bytes: Uint8Array, from: TransportAddress): void {
    const answer = bytes.slice();
    const view = new DataView(answer.buffer);
    const asked = view.getUint32(4);
    answer[1]! |= 0x80;
    answer[3] = this.options.result ?? 0;
    // RFC 6887 §8.3: the address that the client says it has is the one that the request comes from.
    if (!bytes.subarray(20, 24).every((byte, i) => byte === from.bytes[i])) answer[3] = 12;
    const given = answer[3] === 0 ? this.#map(from.withPort(view.getUint16(40)), view.getUint16(42), asked) : undefined;
    view.setUint32(4, given?.lifetime ?? 30);
    view.setUint32(8, 1000);
    answer.fill(0, 12, 24);
    if (given !== undefined) {
      view.setUint16(42, given.external.port);
      answer.set(given.external.bytes, 56);
    }
    this.#send(answer, from);
  }

  #answerNatPmp(bytes: Uint8Array, from: TransportAddress): void {
    const request = new DataView(bytes.buffer);
    const answer = new Uint8Array(bytes[1] === 0 ? 12 : 16);
    const view = new DataView(answer.buffer);
    answer[1] = bytes[1]! | 0x80;
    view.setUint16(2, this.options.result ?? 0);
    view.setUint32(4, 1000);
    if (bytes[1] === 0) {
      this.requests.push("nat-pmp address");
      answer.set(TransportAddress.of(this.#external, 0).bytes, 8);
    } else {
      const asked = request.getUint32(8);
      this.requests.push(`nat-pmp map ${request.getUint16(4)} for ${asked}`);
      const given = this.#map(from.withPort(request.getUint16(4)), request.getUint16(6), asked);
      view.setUint16(8, request.getUint16(4));
      view.setUint16(10, given.external.port);
      view.setUint32(12, given.lifetime);
    }
    this.#send(answer, from);
  }

  #map(internal: TransportAddress, port: number, asked: number): { external: TransportAddress; lifetime: number } {
    if (asked === 0) {
      this.#gateway.unforward(internal);
      return { external: TransportAddress.of("0.0.0.0", 0), lifetime: 0 };
    }
    const lifetime = Math.min(asked, this.options.lifetime ?? 3600);
    const mapping = this.#gateway.forward(internal, { lifetime: lifetime * 1000, ...(port === 0 ? {} : { port }) })!;
    return { external: TransportAddress.of(this.#external, mapping.external.port), lifetime };
  }

  get #external(): string {
    return this.options.external ?? this.#gateway.external[0]!;
  }

  #send(bytes: Uint8Array, to: TransportAddress): void {
    const batch = new PacketBatch(1);
    batch.push(to, bytes, 0, bytes.length);
    this.#socket.send(batch);
  }
}
