import { ERROR_CODE_ATTRIBUTE, NONCE, REALM, USERNAME } from "../../stun/attributes.ts";
import { TransportAddress } from "../../stun/address.ts";
import { IntegrityKey } from "../../stun/integrity.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";
import {
  CHANNEL_NUMBER,
  LIFETIME,
  REQUESTED_TRANSPORT,
  TRANSPORT_PROTOCOL,
  XOR_PEER_ADDRESS,
} from "../../turn/attributes.ts";
import { type FloodSocket, ipWord, portWord } from "./_flood.ts";

const CONCURRENCY = 64;
const RETRANSMIT_MS = 500;

/** Where a client stands: `"allocate"` and `"bind"` are what it is to do next. */
export type ClientStep = "allocate" | "bind" | "ready" | "gone";
/** Where clients can be brought: to an allocation, to one that is ready for data, to none. */
export type Goal = "bind" | "ready" | "gone";

/** One TURN client of the load: its source address and where it stands. */
export interface Client {
  readonly index: number;
  readonly source: number;
  readonly channel: number;
  nonce: string;
  step: ClientStep;
  sentAt: number;
}

/** What the clients need to know of the server. */
export interface Target {
  readonly server: string;
  readonly port: number;
  readonly username: string;
  readonly password: string;
  readonly peer: string;
  readonly peerPort: number;
  /** Whether data goes in indications: then there is a permission instead of a channel. */
  readonly indications: boolean;
}

/**
 * Clients on 127.1.x.y, which all share one socket: what tells them apart is their source address.
 *
 * @param generation Clients of different ones have different addresses.
 */
export function makeClients(count: number, generation = 0): Client[] {
  return Array.from({ length: count }, (_, index) => ({
    index,
    source: ipWord(`127.${1 + generation % 200 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`),
    channel: 0x4000 + (index & 0xfff),
    nonce: "",
    step: "allocate",
    sentAt: -Infinity,
  }));
}

/** Allocates for each client and binds its channel to the peer, some clients at a time. */
export class Setup {
  readonly #socket: FloodSocket;
  #clients: readonly Client[] = [];
  readonly #target: Target;
  readonly #peer: TransportAddress;
  readonly #port: number;
  readonly #ip: number;
  #realm = "";
  #key: IntegrityKey | undefined;
  #random = 1;
  /** How many transactions had to be sent again. */
  retransmits = 0;
  errors = new Map<string, number>();

  constructor(socket: FloodSocket, target: Target) {
    this.#socket = socket;
    this.#target = target;
    this.#peer = TransportAddress.of(target.peer, target.peerPort);
    this.#port = portWord(target.port);
    this.#ip = ipWord(target.server);
  }

  /** Runs until every client has come to `step`. Gives how long that took, in milliseconds. */
  run(clients: readonly Client[], step: Goal, timeout = 60_000): number {
    this.#clients = clients;
    const start = performance.now();
    let next = 0;
    const active = new Set<Client>();
    for (;;) {
      const now = performance.now();
      while (active.size < CONCURRENCY && next < this.#clients.length) {
        const client = this.#clients[next++]!;
        active.add(client);
        this.#send(client, now, step);
      }
      if (active.size === 0) return performance.now() - start;
      for (const client of active) {
        if (now - client.sentAt < RETRANSMIT_MS) continue;
        this.retransmits++;
        this.#send(client, now, step);
      }
      this.#socket.flush();
      this.#receive(active, step);
      if (now - start > timeout) {
        throw new Error(`${active.size} clients did not come to "${step}": ${JSON.stringify([...this.errors])}`);
      }
    }
  }

  #receive(active: Set<Client>, step: Goal): void {
    const count = this.#socket.receive();
    const now = performance.now();
    for (let i = 0; i < count; i++) {
      const start = this.#socket.offset(i);
      const message = StunMessage.parse(this.#socket.bytes.subarray(start, start + this.#socket.lengths[i]!));
      if (message === undefined) continue;
      const id = message.transactionId;
      const client = this.#clients[(id[0]! << 24) | (id[1]! << 16) | (id[2]! << 8) | id[3]!];
      if (client === undefined || !active.has(client) || !this.#handle(client, message, step)) continue;
      if (client.step === step) active.delete(client);
      else this.#send(client, now, step);
    }
  }

  /** Gives whether the message moved the client on. */
  #handle(client: Client, message: StunMessage, goal: Goal): boolean {
    const { method } = message;
    if (method !== this.#method(client, goal)) return false;
    if (message.class === "error") {
      const code = message.get(ERROR_CODE_ATTRIBUTE);
      const nonce = message.get(NONCE);
      if ((code?.code === 401 && client.nonce === "" || code?.code === 438) && nonce !== undefined) {
        client.nonce = nonce;
        this.#realm = message.get(REALM) ?? this.#realm;
        this.#key ??= IntegrityKey.longTerm(this.#target.username, this.#realm, this.#target.password);
        return true;
      }
      const text = `${method} ${code?.code} ${code?.reason}`;
      this.errors.set(text, (this.errors.get(text) ?? 0) + 1);
      return false;
    }
    client.step = goal === "gone" ? "gone" : client.step === "allocate" ? "bind" : "ready";
    return true;
  }

  #method(client: Client, goal: Goal): number {
    if (goal === "gone") return METHOD.REFRESH;
    if (client.step === "allocate") return METHOD.ALLOCATE;
    return this.#target.indications ? METHOD.CREATE_PERMISSION : METHOD.CHANNEL_BIND;
  }

  #send(client: Client, now: number, goal: Goal): void {
    client.sentAt = now;
    const id = new Uint8Array(12);
    const view = new DataView(id.buffer);
    view.setUint32(0, client.index);
    view.setUint32(4, this.#random++);
    const place = this.#socket.place * 2048;
    const writer = new MessageWriter(this.#socket.outBytes.subarray(place, place + 1024));
    const method = this.#method(client, goal);
    writer.begin(method, "request", id);
    if (method === METHOD.REFRESH) writer.add(LIFETIME, 0);
    else if (method === METHOD.ALLOCATE) writer.add(REQUESTED_TRANSPORT, TRANSPORT_PROTOCOL.UDP);
    else {
      if (method === METHOD.CHANNEL_BIND) writer.add(CHANNEL_NUMBER, client.channel);
      writer.add(XOR_PEER_ADDRESS, this.#peer);
    }
    if (this.#key !== undefined && client.nonce !== "") {
      writer.add(USERNAME, this.#target.username).add(REALM, this.#realm).add(NONCE, client.nonce)
        .addIntegrity(this.#key);
    }
    this.#socket.queue(writer.finish().length, this.#port, this.#ip, client.source);
  }
}
