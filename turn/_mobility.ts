import { timingSafeEqual } from "@std/crypto/timing-safe-equal";
import { IntegrityKey } from "../stun/integrity.ts";
import type { Random } from "../stun/machine.ts";
import { randomBytes } from "../stun/random.ts";
import type { Allocation, ClientPath, Ticket } from "./allocation.ts";

/**
 * Of a ticket, so many bytes are random, 6 bits in each, and as many show that it was made here. All are ASCII letters and
 * the like, since there are clients that take a ticket for text.
 */
const HALF = 16;
/** What a MAC is written with. */
const DIGITS = new TextEncoder().encode("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
/** How many tickets of one allocation are good at a time: of a client that moves on before its data has come. */
const MAX_TICKETS = 4;

/** Who holds a ticket. */
export interface Holder {
  readonly allocation: Allocation;
  readonly ticket: Ticket;
}

/**
 * The tickets by which allocations follow their clients to other 5-tuples (RFC 8016), and that step itself.
 *
 * What a ticket stands for is kept here, not in the ticket, which tells its holder nothing and can not be guessed.
 */
export class Mobility {
  readonly #mac: IntegrityKey;
  readonly #holders = new Map<string, Holder>();

  /** `secret`: 16 random bytes or more. */
  constructor(secret: Uint8Array) {
    this.#mac = new IntegrityKey(secret);
  }

  /** How many tickets are good. */
  get size(): number {
    return this.#holders.size;
  }

  /** Makes a ticket for an allocation whose client is at `path`, and keeps it. */
  issue(allocation: Allocation, path: ClientPath, random: Random): Ticket {
    if (allocation.tickets.length === MAX_TICKETS) this.#forget(allocation.tickets.splice(0, 1));
    const bytes = new Uint8Array(2 * HALF);
    bytes.set(encode(randomBytes(random, HALF)));
    bytes.set(this.#seal(bytes), HALF);
    const ticket: Ticket = { bytes, path };
    allocation.tickets.push(ticket);
    this.#holders.set(keyOf(bytes), { allocation, ticket });
    return ticket;
  }

  /** Whose ticket that is, if it is good. */
  find(ticket: Uint8Array): Holder | undefined {
    return this.#holders.get(keyOf(ticket));
  }

  /** Whether it was made here, good or not. */
  isOwn(ticket: Uint8Array): boolean {
    return ticket.length === 2 * HALF && timingSafeEqual(this.#seal(ticket), ticket.subarray(HALF));
  }

  /**
   * RFC 8016 §3.2.2: the client is at `path` as well from now on. The old one is used as before until there is data from
   * the new one: `arrive()`.
   */
  move(allocation: Allocation, path: ClientPath, random: Random): Ticket {
    this.leaveNext(allocation);
    if (!isSamePath(allocation, path)) {
      allocation.next = path;
      path.listener.allocations.set(path.client.key, allocation);
    }
    return this.issue(allocation, path, random);
  }

  /** Leaves the old path, and forgets the tickets from before the move. Gives whether there was a new one. */
  arrive(allocation: Allocation): boolean {
    const { next, tickets } = allocation;
    if (next === undefined) return false;
    allocation.listener.allocations.delete(allocation.client.key);
    allocation.path = next;
    allocation.next = undefined;
    this.#forget(tickets.splice(0, tickets.length - 1));
    return true;
  }

  /** An allocation has ended. */
  end(allocation: Allocation): void {
    this.leaveNext(allocation);
    this.#forget(allocation.tickets.splice(0));
  }

  /** The new path of an allocation, on which nothing has come yet, is gone. What tickets there are stay good. */
  leaveNext(allocation: Allocation): void {
    const { next } = allocation;
    next?.listener.allocations.delete(next.client.key);
    allocation.next = undefined;
  }

  #forget(tickets: readonly Ticket[]): void {
    for (const { bytes } of tickets) this.#holders.delete(keyOf(bytes));
  }

  #seal(ticket: Uint8Array): Uint8Array {
    const digest = new Uint8Array(32);
    this.#mac.hmac("sha256").sign(ticket, 0, HALF, digest);
    return encode(digest.subarray(0, HALF));
  }
}

/** Whether two clients are one. */
export function isSamePath(a: ClientPath, b: ClientPath): boolean {
  return a.listener === b.listener && a.client.equals(b.client);
}

/** Six bits of each byte. */
function encode(bytes: Uint8Array): Uint8Array {
  return bytes.map((byte) => DIGITS[byte & 63]!);
}

function keyOf(ticket: Uint8Array): string {
  return String.fromCharCode(...ticket.subarray(0, 2 * HALF + 1));
}
