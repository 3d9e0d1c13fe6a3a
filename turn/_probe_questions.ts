// Shell of probeTurn(): what a server lets through, and what it refuses.
import { TransportAddress } from "../stun/address.ts";
import { XOR_MAPPED_ADDRESS } from "../stun/attributes.ts";
import { StunError } from "../stun/error.ts";
import { MessageWriter, METHOD, newTransactionId, StunMessage } from "../stun/message.ts";
import { defaultLocalAddress } from "../stun/net/server_address.ts";
import { type DatagramSocket, PacketBatch } from "../stun/net/transport.ts";
import { randomUint32 } from "../stun/random.ts";
import { peerClasses } from "./_probe_peers.ts";
import { grace, knock, patiently, pause, type ProbeScope, type RelayPair, type Tap } from "./_probe_relay.ts";
import { PROBE_HEADER, ProbeTraffic } from "./probe_traffic.ts";
import type { PeerClassReport } from "./probe_report.ts";

/** The port of an address whose port does not matter. */
const ANY_PORT = 9;
/** How often the outside knocks, and the ms between. */
const OUTSIDE_KNOCKS = 4;
const OUTSIDE_PAUSE = 250;

/** Asks for a permission that should be granted. */
export function permit(scope: ProbeScope, tap: Tap, peer: TransportAddress): Promise<void> {
  return patiently(scope, (signal) => tap.relay.permit(peer, { signal }));
}

/**
 * Whether a peer is kept out that has no permission (RFC 8656 §9), and let in when it has. The first relay sends to the
 * second one, which has heard nothing of it so far.
 *
 * @returns `undefined` if nothing comes in with a permission either.
 */
export async function arePermissionsEnforced(
  scope: ProbeScope,
  { from, to }: RelayPair,
  wait: number,
): Promise<boolean | undefined> {
  await permit(scope, from, to.relay.relayedAddress);
  // The client drops what has no permission, and counts it.
  const before = to.relay.stats().rejectedPeer;
  await knock(scope, { from, to }, wait);
  const leaked = to.relay.stats().rejectedPeer - before;
  await permit(scope, to, from.relay.relayedAddress);
  if (leaked > 0) return false;
  return await knock(scope, { from, to }, wait) ? true : undefined;
}

/** Whom a plain socket asks for its public address, and what is taken for it otherwise. */
export interface OuterAddress {
  readonly asks: TransportAddress | undefined;
  readonly otherwise: TransportAddress;
}

/**
 * Whether a plain socket of this computer reaches a relayed address, and is reached from there.
 *
 * @throws {Error} If there is no permission for it, or no socket.
 */
export async function isReachedFromOutside(scope: ProbeScope, tap: Tap, outer: OuterAddress): Promise<boolean> {
  const { host } = scope;
  const { relayedAddress } = tap.relay;
  const word = randomUint32(host.random);
  const [out, back] = [new ProbeTraffic(word, PROBE_HEADER), new ProbeTraffic((word ^ 1) >>> 0, PROBE_HEADER)];
  const mapped = Promise.withResolvers<void>();
  const done = Promise.withResolvers<void>();
  let seen: TransportAddress | undefined;
  const wish = { transport: "udp", address: defaultLocalAddress(relayedAddress), port: 0 } as const;
  const socket = host.openDatagram(wish, ({ buffers, offsets, lengths, length }) => {
    for (let i = 0; i < length; i++) {
      const bytes = buffers[i]!.subarray(offsets[i]!, offsets[i]! + lengths[i]!);
      if (back.handle(bytes, host.now())) done.resolve();
      else seen ??= StunMessage.parse(bytes.slice())?.get(XOR_MAPPED_ADDRESS);
      if (seen !== undefined) mapped.resolve();
    }
  });
  tap.onData = ({ from, data }) => {
    // To where it came from, which a NAT may have made.
    if (out.handle(data, host.now())) tap.relay.send(from, back.next(host.now()));
  };
  try {
    if (outer.asks !== undefined) {
      const id = newTransactionId(host.random);
      sendTo(socket, outer.asks, new MessageWriter(new Uint8Array(32)).begin(METHOD.BINDING, "request", id).finish());
      await pause(scope, grace(OUTSIDE_PAUSE), mapped.promise);
    }
    await permit(scope, tap, seen ?? outer.otherwise);
    for (let i = 0; i < OUTSIDE_KNOCKS && back.received === 0; i++) {
      sendTo(socket, relayedAddress, out.next(host.now()));
      await pause(scope, i === OUTSIDE_KNOCKS - 1 ? grace(OUTSIDE_PAUSE) : OUTSIDE_PAUSE, done.promise);
    }
    return back.received > 0;
  } finally {
    socket.close();
  }
}

function sendTo(socket: DatagramSocket, to: TransportAddress, bytes: Uint8Array): void {
  const batch = new PacketBatch(1);
  batch.push(to, bytes, 0, bytes.length);
  socket.send(batch);
}

/** What a server says to each class of peers that it should refuse. Nothing is sent to them. */
export function askAboutPeers(scope: ProbeScope, tap: Tap): Promise<PeerClassReport[]> {
  return Promise.all(
    peerClasses(tap.relay.relayedAddress.family).map(async ({ name, address }) => {
      try {
        await permit(scope, tap, TransportAddress.of(address, ANY_PORT));
        return { name, address, outcome: "granted", code: null };
      } catch (error) {
        scope.signal?.throwIfAborted();
        if (!(error instanceof StunError)) return { name, address, outcome: "silent", code: null };
        return { name, address, outcome: error.code === 403 ? "refused" : "error", code: error.code };
      }
    }),
  );
}
