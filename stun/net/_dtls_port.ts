import type { TransportAddress } from "../address.ts";
import type { Packet, SocketId } from "../machine.ts";
import { Admission } from "./_admission.ts";
import { DtlsAssociation } from "./_dtls_association.ts";
import type { DtlsTable } from "./_dtls_table.ts";
import type { DtlsDoor, DtlsLibrary } from "./dtls.ts";
import type { MachineHandle } from "./machine_handle.ts";
import { DEFAULT_STREAM_LIMITS, type DtlsListener, type DtlsListenOptions, type StreamLimits } from "./streams.ts";
import type { TlsServerOptions } from "./transport.ts";

/** The server's side of a UDP socket: what its datagrams that are DTLS go to. */
export class DtlsPort implements DtlsListener {
  readonly socket: SocketId;
  /** Set when it is bound. */
  localAddress!: TransportAddress;
  #table: DtlsTable;
  #handle: MachineHandle<unknown>;
  #door: DtlsDoor;
  #admission: Admission;
  #limits: Required<StreamLimits>;
  #isOnly: boolean;
  #associations = new Map<number | string, DtlsAssociation>();

  constructor(
    table: DtlsTable,
    handle: MachineHandle<unknown>,
    socket: SocketId,
    library: DtlsLibrary,
    { tls, limits = {}, only = false }: DtlsListenOptions,
  ) {
    this.#table = table;
    this.#handle = handle;
    this.socket = socket;
    this.#isOnly = only;
    this.#limits = { ...DEFAULT_STREAM_LIMITS, ...limits };
    this.#admission = new Admission(this.#limits);
    this.#door = library.open({
      tls,
      answer(to, bytes, offset, length) {
        const kept = table.scratch(length);
        kept.set(bytes.subarray(offset, offset + length));
        table.sendDatagram(socket, to, kept, length);
      },
      carrier: (from) => this.#newAssociation(from),
    });
  }

  get connections(): number {
    return this.#admission.connections;
  }

  /** Takes a datagram that is DTLS (RFC 7983 §7), which the machine then does not get. */
  take(packet: Packet): boolean {
    const first = packet.length === 0 ? 0 : packet.buffer[packet.offset]!;
    if (first < 20 || first > 63) return this.#isOnly;
    const known = this.#associations.get(packet.from.key);
    if (known === undefined || known.isRestart(packet)) this.#welcome(packet, known);
    else known.handleDatagram(packet);
    return true;
  }

  setTls(options: TlsServerOptions): void {
    this.#door.setTls(options);
  }

  forget(association: DtlsAssociation): void {
    if (this.#associations.get(association.from.key) === association) this.#associations.delete(association.from.key);
    this.#admission.release(association.from);
  }

  closeDoor(): void {
    this.#door.close();
  }

  #welcome(packet: Packet, known: DtlsAssociation | undefined): void {
    const { from, buffer, offset, length } = packet;
    // One that begins anew takes the place of its own.
    const verdict = known === undefined ? this.#admission.verdict(from) : undefined;
    if (verdict !== undefined) return void this.#table.counts[verdict]++;
    const session = this.#door.receive(from, buffer, offset, length);
    if (session === undefined) return void this.#table.counts.challenged++;
    const association = this.#associations.get(from.key)!;
    association.session = session;
    association.noteHello(packet);
    association.settle();
  }

  /** The sender has shown a cookie: here state begins. */
  #newAssociation(from: TransportAddress): DtlsAssociation {
    const known = this.#associations.get(from.key);
    // Its other end has the same address, and would take an end for its own.
    if (known !== undefined) this.#table.lose(known, "end", true);
    const { firstFrameTimeout: startTimeout, idleTimeout } = this.#limits;
    const { socket: udp, localAddress } = this;
    const limits = { startTimeout, idleTimeout };
    const setup = { handle: this.#handle, udp, localAddress, from, limits, isServer: true };
    const association = new DtlsAssociation(this.#table, setup);
    this.#associations.set(from.key, association);
    this.#admission.admit(from);
    this.#table.add(association);
    return association;
  }
}
