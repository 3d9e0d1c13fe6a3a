// ICMP messages about what a relay sent, for its client (RFC 8656 §11.5).
import type { TransportAddress } from "../stun/address.ts";
import type { IcmpMessage, MachineIo } from "../stun/machine.ts";
import { MessageWriter, METHOD } from "../stun/message.ts";
import { randomBytes } from "../stun/random.ts";
import type { Relay } from "./allocation.ts";
import { ICMP, type IcmpError, XOR_PEER_ADDRESS } from "./attributes.ts";
import type { DropReason } from "./server_counters.ts";

// How many an allocation's client is told of, a second and at once: each of its own datagrams can cause one, and so can
// whoever forges them.
const INTERVAL_MS = 100;
const BURST = 20;
const INDICATION_SIZE = 64;

/** What a client is told; or why it is not. `peer` is where the datagram went, as the client knows it. */
export function icmpIndication(
  relay: Relay,
  peer: TransportAddress,
  message: IcmpMessage,
  io: MachineIo<never>,
): Uint8Array | DropReason {
  const error = icmpError(message);
  if (error === undefined) return "icmpType";
  // "Only addresses are compared and port numbers are not considered."
  if (relay.permissionFor(peer.ipKey, io.now) === undefined) return "noPermission";
  const { allocation } = relay;
  const start = Math.max(allocation.icmpEmptyAt, io.now);
  if (start - io.now > (BURST - 1) * INTERVAL_MS) return "icmpRate";
  allocation.icmpEmptyAt = start + INTERVAL_MS;
  return new MessageWriter(io.scratch(INDICATION_SIZE))
    .begin(METHOD.DATA, "indication", randomBytes(io.random, 12))
    .add(XOR_PEER_ADDRESS, peer)
    .add(ICMP, error)
    .finish();
}

/** The attribute's value (§18.13); `undefined` for types that are not for clients. */
function icmpError({ to, type, code, mtu }: IcmpMessage): IcmpError | undefined {
  if (to.family === 4) {
    return type === 3 || type === 11 ? { type, code, data: type === 3 && code === 4 ? mtu : 0 } : undefined;
  }
  return type >= 1 && type <= 3 ? { type, code, data: type === 2 ? mtu : 0 } : undefined;
}
