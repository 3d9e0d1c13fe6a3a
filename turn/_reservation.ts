import { type SocketId, Timer } from "../stun/machine.ts";
import type { BoundRelay } from "./allocation.ts";
import type { RelayPorts } from "./relay_ports.ts";

/** "The server MUST hold this reservation for at least 30 seconds" (RFC 8656 §7.2), in ms. */
export const RESERVATION_LIFETIME = 30_000;

/** A port that waits for the Allocate request that brings its token. */
export class Reservation {
  /** The token. */
  readonly bytes: Uint8Array;
  /** The same as a map key. */
  readonly token: string;
  /** The address, and the socket unless that was closed for another worker to bind the port. */
  readonly bound: Omit<BoundRelay, "socket"> & { readonly socket: SocketId | undefined };
  /** Where its port came from. */
  readonly ports: RelayPorts;
  /** Whose quota it counts against. */
  readonly account: string;
  /** Rings when it ends. */
  readonly timer: Timer<Reservation> = new Timer<Reservation>(this);

  constructor(token: Uint8Array, bound: Reservation["bound"], ports: RelayPorts, account: string) {
    this.bytes = token;
    this.token = tokenKey(token);
    this.bound = bound;
    this.ports = ports;
    this.account = account;
  }
}

/** A token as a map key. */
export function tokenKey(token: Uint8Array): string {
  return String.fromCharCode(...token);
}
