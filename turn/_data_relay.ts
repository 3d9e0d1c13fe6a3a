import type { TransportAddress } from "../stun/address.ts";
import type { MachineIo, Packet } from "../stun/machine.ts";
import type { AllocationTable } from "./_allocation_table.ts";
import { dataIndicationLength, SendIndication, TransactionIds, writeDataIndication } from "./_indications.ts";
import type { Allocation, Destination, Listener, Relay } from "./allocation.ts";
import { CHANNEL_HEADER_LENGTH, channelDataLength, channelNumber, writeChannelHeader } from "./channel_data.ts";
import type { PeerPolicy } from "./peer_policy.ts";
import type { RequestScope } from "./_request.ts";
import type { TurnServerCounters } from "./server_counters.ts";
import type { TurnServerEvent } from "./server_events.ts";

type Io = MachineIo<TurnServerEvent>;

/** The data path of a TURN server: between clients and peers, both ways, without objects per datagram. */
export class DataRelay {
  #counters: TurnServerCounters;
  #table: AllocationTable;
  #known: ReadonlySet<number>;
  #policy: PeerPolicy;
  #send = new SendIndication();
  #transactionIds = new TransactionIds();

  constructor({ table, known, policy }: RequestScope, counters: TurnServerCounters) {
    this.#counters = counters;
    this.#table = table;
    this.#known = known;
    this.#policy = policy;
  }

  /** RFC 8656 §12.6. */
  handleChannelData(listener: Listener, packet: Packet, io: Io): void {
    const { drops } = this.#counters;
    const allocation = listener.allocations.get(packet.from.key);
    if (allocation === undefined || allocation.state !== "active") return void drops.noAllocation++;
    if (allocation.next !== undefined) this.#follow(allocation, listener, packet, io);
    const { buffer, offset } = packet;
    const dataLength = channelDataLength(buffer, offset, packet.length);
    if (dataLength === -1) return void drops.shortChannelData++;
    const channel = allocation.channels.get(channelNumber(buffer, offset));
    if (channel === undefined || channel.expiresAt <= io.now) return void drops.unboundChannel++;
    if (channel.relay.dontFragment) this.#setDontFragment(channel.relay, false, io);
    this.#toPeer(channel.relay, channel, buffer, offset + CHANNEL_HEADER_LENGTH, dataLength, io);
  }

  /** RFC 8656 §11.2. */
  handleSend(listener: Listener, packet: Packet, io: Io): void {
    const { drops } = this.#counters;
    const send = this.#send;
    if (!send.read(packet.buffer, packet.offset, packet.length, this.#known)) return void drops.badSend++;
    const allocation = listener.allocations.get(packet.from.key);
    if (allocation === undefined || allocation.state !== "active") return void drops.noAllocation++;
    if (allocation.next !== undefined) this.#follow(allocation, listener, packet, io);
    if (allocation.transport === "tcp") return void drops.notUdp++;
    const relay = allocation.relayOf(send.family);
    if (relay === undefined) return void drops.wrongFamily++;
    let destination = relay.destination(send.hash);
    if (destination === undefined || !send.isPeer(destination.peer)) destination = this.#findDestination(relay, io.now);
    if (destination === undefined) return;
    if (destination.permission.expiresAt <= io.now) return void drops.noPermission++;
    // §14, §15: from IPv4 to IPv4, and from a connection to either. Else it is ignored (§13).
    const dontFragment = send.dontFragment &&
      (listener.isStream || (relay.family === 4 && allocation.client.family === 4));
    if (relay.dontFragment !== dontFragment) this.#setDontFragment(relay, dontFragment, io);
    this.#toPeer(relay, destination, packet.buffer, send.dataOffset, send.dataLength, io);
  }

  /** It holds for all that leaves from there until it is said otherwise: seldom, as data of one kind comes in a row. */
  #setDontFragment(relay: Relay, on: boolean, io: Io): void {
    relay.dontFragment = on;
    io.setDontFragment?.(relay.socket, on);
  }

  /** RFC 8016 §3.2.2: a Send indication or ChannelData on the new 5-tuple ends the use of the old one. */
  #follow(allocation: Allocation, listener: Listener, { from }: Packet, io: Io): void {
    const { next } = allocation;
    if (next!.listener === listener && next!.client.equals(from)) this.#table.arrive(allocation, io);
  }

  /** The peer that `#send` names, if it may be sent to. */
  #findDestination(relay: Relay, now: number): Destination | undefined {
    const peer = this.#send.toPeer();
    const permission = relay.permissionFor(peer.ipKey, now);
    if (permission === undefined) {
      this.#counters.drops.noPermission++;
      return undefined;
    }
    const verdict = this.#policy.judge(peer);
    if (verdict === "refused") {
      this.#counters.drops.refusedPeer++;
      return undefined;
    }
    const destination: Destination = { peer, permission, isRelay: verdict === "relay" };
    relay.keepDestination(this.#send.hash, destination);
    return destination;
  }

  #toPeer(
    relay: Relay,
    { peer, isRelay }: { readonly peer: TransportAddress; readonly isRelay: boolean },
    buffer: Uint8Array,
    offset: number,
    length: number,
    io: Io,
  ): void {
    const counters = this.#counters;
    if (relay.expiresAt <= io.now) return void counters.drops.noAllocation++;
    let to = peer;
    if (isRelay) {
      const inner = this.#table.addresses.inner(peer);
      if (inner === undefined) return void counters.drops.refusedPeer++;
      to = inner;
    }
    const refusal = relay.allocation.throttle?.refuse("toPeers", length, io.now);
    if (refusal !== undefined) return void counters.drops[refusal]++;
    counters.packetsToPeers++;
    counters.bytesToPeers += length;
    relay.allocation.packetsToPeers++;
    relay.allocation.bytesToPeers += length;
    io.send(relay.socket, to, buffer, offset, length);
  }

  /** RFC 8656 §11.3, §12.7. The data is never looked at. */
  toClient(relay: Relay, packet: Packet, io: Io): void {
    const counters = this.#counters;
    const { allocation } = relay;
    const { length } = packet;
    if (relay.expiresAt <= io.now || allocation.state !== "active") return void counters.drops.noAllocation++;
    const peer = this.#table.addresses.outer(packet.from);
    const channel = relay.channelTo(peer.key, io.now);
    const permission = channel?.permission ?? relay.permissions.get(peer.ipKey);
    if (permission === undefined || permission.expiresAt <= io.now) return void counters.drops.noPermission++;
    const { client, listener } = allocation;
    if (listener.isClosed) return void counters.drops.noClient++;
    const size = channel === undefined ? dataIndicationLength(peer, length) : CHANNEL_HEADER_LENGTH + length;
    if (size > listener.maxLength[client.family]) return void counters.drops.tooLong++;
    const refusal = allocation.throttle?.refuse("toClients", length, io.now);
    if (refusal !== undefined) return void counters.drops[refusal]++;
    counters.packetsToClients++;
    counters.bytesToClients += length;
    allocation.packetsToClient++;
    allocation.bytesToClient += length;
    if (channel === undefined) return this.#sendDataIndication(listener, client, peer, packet, io);
    // The header goes into the four free bytes in front of the datagram, so nothing is copied.
    const start = packet.offset - CHANNEL_HEADER_LENGTH;
    writeChannelHeader(packet.buffer, start, channel.number, length);
    io.send(listener.socket, client, packet.buffer, start, length + CHANNEL_HEADER_LENGTH);
  }

  #sendDataIndication(
    listener: Listener,
    client: TransportAddress,
    peer: TransportAddress,
    packet: Packet,
    io: Io,
  ): void {
    const out = io.scratch(dataIndicationLength(peer, packet.length));
    this.#transactionIds.write(out, 8, io.random);
    writeDataIndication(out, peer, packet.bytes);
    io.send(listener.socket, client, out);
  }
}
