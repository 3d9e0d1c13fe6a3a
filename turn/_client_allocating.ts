import { ServerTrail } from "../stun/alternate.ts";
import { REALM, THIRD_PARTY_AUTHORIZATION } from "../stun/attributes.ts";
import type { LongTermCredentials } from "../stun/credentials.ts";
import { ERROR_CODE, type StunError, StunProtocolError } from "../stun/error.ts";
import type { MachineIo } from "../stun/machine.ts";
import { METHOD, type StunMessage } from "../stun/message.ts";
import { type ClientRequests, printable } from "../stun/requests.ts";
import type { AllocationWish, Grant } from "./_client_allocation.ts";
import type { TurnClientEvent } from "./client_events.ts";
import { TurnError } from "./error.ts";

type Io = MachineIo<TurnClientEvent>;

/** RFC 8656 §7.4: how many local addresses to try when the server says 437. */
const MAX_LOCAL_ADDRESSES = 3;

/** What a `ClientAllocating` needs of its client. */
export interface AllocatingOwner {
  readonly requests: ClientRequests<TurnClientEvent>;
  readonly wish: AllocationWish;
  readonly credentials: LongTermCredentials | undefined;
  /** Whether the client talks to its server over a connection. */
  readonly isStream: boolean;
  /** Another socket is needed: for another local address or for another server. `ask()` follows when it is there. */
  reopen(io: Io): void;
  granted(grant: Grant, startedAt: number, io: Io): void;
  /** There is an allocation, of no use: it has to be given back. */
  useless(error: Error, io: Io): void;
  failed(error: Error, io: Io): void;
}

/** The part of a TURN client that gets the allocation: whom it asks, how often, and from where (RFC 8656 §7). */
export class ClientAllocating {
  readonly #owner: AllocatingOwner;
  readonly #trail: ServerTrail;
  #localAddresses = 1;
  #domain: string | undefined;

  constructor(owner: AllocatingOwner) {
    this.#owner = owner;
    this.#trail = new ServerTrail(owner.requests.server);
  }

  /** The name that the server's certificate must have, if another server gave it. */
  get domain(): string | undefined {
    return this.#domain;
  }

  /** RFC 8656 §7.1. */
  ask(io: Io): void {
    const { requests, wish } = this.#owner;
    requests.start({
      method: METHOD.ALLOCATE,
      doing: `Cannot allocate on ${requests.server}`,
      write: (writer) => wish.write(writer),
      done: (outcome, io) => {
        if (outcome.type === "success") this.#handleSuccess(outcome.response, outcome.startedAt, io);
        else if (outcome.type === "error") this.#handleError(outcome.error, outcome.response, io);
        else this.#owner.failed(outcome.error, io);
      },
    }, io);
  }

  /** RFC 8656 §7.3. */
  #handleSuccess(response: StunMessage, startedAt: number, io: Io): void {
    const { requests, wish } = this.#owner;
    const grant = wish.read(response);
    if (typeof grant !== "string") return this.#owner.granted(grant, startedAt, io);
    this.#owner.useless(new StunProtocolError(`Cannot use the allocation of ${requests.server} as ${grant}`), io);
  }

  /** RFC 8656 §7.4. */
  #handleError(error: StunError, response: StunMessage, io: Io): void {
    const { code, reason, doing } = error;
    const { credentials, wish } = this.#owner;
    if (code === ERROR_CODE.ALLOCATION_MISMATCH) {
      if (this.#localAddresses++ < MAX_LOCAL_ADDRESSES) return this.#owner.reopen(io);
      const hint = `it holds allocations for ${MAX_LOCAL_ADDRESSES} of our ports already; wait 2 minutes`;
      return this.#owner.failed(new TurnError(code, reason, doing, { hint, retryAfter: 120_000 }), io);
    }
    if (code === ERROR_CODE.TRY_ALTERNATE) return this.#tryAlternate(error, response, io);
    if (wish.isWorthAnotherTry(code, response)) return this.ask(io);
    const isAnonymous = code === ERROR_CODE.UNAUTHENTICATED && credentials === undefined;
    const audience = response.get(THIRD_PARTY_AUTHORIZATION);
    const orToken = audience === undefined ? "" : `, or an access token for "${printable(audience)}"`;
    const hint = isAnonymous ? { hint: `it wants user name and password${orToken}` } : {};
    const realm = credentials?.realm ?? response.get(REALM);
    const known = realm === undefined ? {} : { realm: printable(realm) };
    this.#owner.failed(new TurnError(code, reason, doing, { ...hint, ...known }), io);
  }

  /** RFC 8489 §10. */
  #tryAlternate({ code, reason, doing }: StunError, response: StunMessage, io: Io): void {
    const { requests, credentials, isStream } = this.#owner;
    const { next, domain, alternates, fault } = this.#trail.follow(response);
    if (next === undefined) {
      return this.#owner.failed(new TurnError(code, reason, doing, { alternates, hint: fault! }), io);
    }
    requests.server = next;
    credentials?.forget();
    if (!isStream) return this.ask(io);
    // Its certificate is for this domain, or else for the same as the first server's.
    this.#domain = domain ?? this.#domain;
    this.#owner.reopen(io);
  }
}
