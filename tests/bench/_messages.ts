import { TransportAddress } from "../../stun/address.ts";
import { MessageWriter, METHOD } from "../../stun/message.ts";
import { XOR_PEER_ADDRESS } from "../../turn/attributes.ts";
import type { Client, Target } from "./_turn_clients.ts";

/** How the load's datagrams look. */
export type Mode = "channel" | "indication" | "binding";

// Client number (4 bytes) and time of sending (8): what a datagram carries, or its transaction id is.
const STAMP = 12;
const DATA = 0x0013;
const DATA_INDICATION = 0x0017;
const BINDING_SUCCESS = 0x0101;

/** Writes the datagrams that clients send, and reads those that they get back. */
export class Messages {
  readonly #mode: Mode;
  readonly #size: number;
  readonly #template: Uint8Array;

  /** @param size Bytes of data in each, at least 12. */
  constructor(mode: Mode, size: number, target: Target) {
    this.#mode = mode;
    this.#size = size = Math.max(STAMP, size);
    const writer = new MessageWriter(new Uint8Array(2048));
    const peer = TransportAddress.of(target.peer, target.peerPort);
    if (mode === "channel") this.#template = new Uint8Array(4 + size);
    else if (mode === "binding") {
      this.#template = writer.begin(METHOD.BINDING, "request", new Uint8Array(12)).finish();
    } else {
      const data = {
        type: DATA,
        name: "DATA",
        read: () => undefined,
        write: (to: MessageWriter, value: Uint8Array) => to.writeBytes(value),
      };
      this.#template = writer.begin(METHOD.SEND, "indication", new Uint8Array(12)).add(XOR_PEER_ADDRESS, peer)
        .add(data, new Uint8Array(size)).finish();
    }
  }

  /** How long each is. */
  get length(): number {
    return this.#template.length;
  }

  /** Writes one at `start`. */
  write(bytes: Uint8Array, view: DataView, start: number, client: Client, now: number): void {
    const stamp = start + (this.#mode === "channel" ? 4 : this.#mode === "binding" ? 8 : 36);
    if (this.#mode === "channel") {
      view.setUint16(start, client.channel);
      view.setUint16(start + 2, this.#size);
    } else bytes.set(this.#template, start);
    view.setUint32(stamp, client.index);
    view.setFloat64(stamp + 4, now);
  }

  /** Where the stamp of the one at `start` is; -1 if it is none of ours. */
  find(view: DataView, start: number, end: number): number {
    const type = view.getUint16(start);
    if (this.#mode === "channel") return type >> 14 === 1 ? start + 4 : -1;
    if (this.#mode === "binding") return type === BINDING_SUCCESS ? start + 8 : -1;
    if (type !== DATA_INDICATION) return -1;
    for (let at = start + 20; at + 4 <= end; at += 4 + ((view.getUint16(at + 2) + 3) & ~3)) {
      if (view.getUint16(at) === DATA) return at + 4;
    }
    return -1;
  }
}
