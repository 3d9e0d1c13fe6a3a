// Shell of probeTurn(): what a server lets through, and what it refuses.
import { TransportAddress } from "../stun/address.ts";
import { StunError } from "../stun/error.ts";
import { defaultLocalAddress } from "../stun/net/server_address.ts";
import { PacketBatch } from "../stun/net/transport.ts";
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

/**
 * Whether a plain socket of this computer reaches a relayed address, and is reached from there.
 *
 * @param outer The address that a peer here seems to have, seen from the server.
 * @throws {Error} If there is no permission for it, or no socket.
 */
export async function isReachedFromOutside(scope: ProbeScope, tap: Tap, outer: TransportAddress): Promise<boolean> {
  const { host } = scope;
  const { relayedAddress } = tap.relay;
  await permit(scope, tap, outer);
  const word = randomUint32(host.random);
  const [out, back] = [new ProbeTraffic(word, PROBE_HEADER), new ProbeTraffic((word ^ 1) >>> 0, PROBE_HEADER)];
  const { promise: done, resolve } = Promise.withResolvers<void>();
  const batch = new PacketBatch(1);
  const wish = { transport: "udp", address: defaultLocalAddress(relayedAddress), port: 0 } as const;
  const socket = host.openDatagram(wish, ({ buffers, offsets, lengths, length }) => {
    for (let i = 0; i < length; i++) {
      const bytes = buffers[i]!.subarray(offsets[i]!, offsets[i]! + lengths[i]!);
      back.handle(bytes, host.now());
    }
    if (back.received > 0) resolve();
  });
  tap.onData = ({ from, data }) => {
    // To where it came from, which a NAT may have made.
    if (out.handle(data, host.now())) tap.relay.send(from, back.next(host.now()));
  };
  try {
    for (let i = 0; i < OUTSIDE_KNOCKS && back.received === 0; i++) {
      batch.length = 0;
      batch.push(relayedAddress, out.next(host.now()), 0, PROBE_HEADER);
      socket.send(batch);
      await pause(scope, i === OUTSIDE_KNOCKS - 1 ? grace(OUTSIDE_PAUSE) : OUTSIDE_PAUSE, done);
    }
    return back.received > 0;
  } finally {
    socket.close();
  }
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
