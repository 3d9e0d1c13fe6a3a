import type { TransportAddress } from "./address.ts";
import { MAPPED_ADDRESS, XOR_MAPPED_ADDRESS } from "./attributes.ts";
import type { MachineIo, Packet, SocketId } from "./machine.ts";
import { MessageWriter, METHOD, newTransactionId, StunMessage, transactionKey } from "./message.ts";

/** Whether a server that is silent over UDP answers over TCP: then it is there, and UDP is blocked. */
export class TcpCheck<Event> {
  /** The connection. */
  readonly socket: SocketId;
  /** Whether it has answered so far. */
  hasAnswered = false;
  readonly #server: TransportAddress;
  #key: string | undefined;

  /**
   * Connects.
   *
   * @param server Where to.
   * @param timeout How many ms connecting may take.
   */
  constructor(server: TransportAddress, timeout: number, io: MachineIo<Event>) {
    this.#server = server;
    this.socket = io.open({ transport: "tcp", remote: server, timeout });
  }

  /** The connection is there: asks. */
  handleOpened(io: MachineIo<Event>): void {
    const transactionId = newTransactionId(io.random);
    this.#key = transactionKey(transactionId);
    io.send(
      this.socket,
      this.#server,
      new MessageWriter(io.scratch(20)).begin(METHOD.BINDING, "request", transactionId).finish(),
    );
  }

  /** Takes in a frame. */
  handlePacket(packet: Packet): void {
    const message = StunMessage.parse(packet.bytes);
    if (message?.class !== "success" || message.transactionKey !== this.#key) return;
    this.hasAnswered = message.has(XOR_MAPPED_ADDRESS) || message.has(MAPPED_ADDRESS);
  }
}
