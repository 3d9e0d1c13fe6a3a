import type { TransportAddress } from "../stun/address.ts";
import type { SocketId } from "../stun/machine.ts";
import type { Base } from "./pair.ts";

const MAX_EARLY = 32;

/** An authenticated check from the peer, as far as it matters once it was answered. */
export interface ReceivedCheck {
  /** Where it arrived. */
  readonly base: Base;
  /** By which socket: over TCP the connection. */
  readonly socket: SocketId;
  /** Who sent it. */
  readonly from: TransportAddress;
  /** The sender's username fragment. */
  readonly ufrag: string;
  /** Its PRIORITY; `undefined` if it had none. */
  readonly priority: number | undefined;
  /** Whether it had USE-CANDIDATE, or NOMINATION. */
  readonly useCandidate: boolean;
  /** The value of NOMINATION; 0 if it had none. */
  readonly nomination: number;
  /** Its transaction: the same for a repetition. */
  readonly transactionKey: string;
}

/** Checks that came before the peer's credentials: answered at once, acted on later (RFC 8445 §7.3). Bounded. */
export class EarlyChecks {
  #checks: ReceivedCheck[] = [];

  /** Remembers a check, in place of an earlier one of the same kind; gives whether there was room. */
  add(check: ReceivedCheck): boolean {
    const index = this.#checks.findIndex((one) =>
      one.base === check.base && one.ufrag === check.ufrag && one.from.equals(check.from)
    );
    if (index !== -1) {
      const before = this.#checks[index]!;
      const useCandidate = check.useCandidate || before.useCandidate;
      const nomination = Math.max(check.nomination, before.nomination);
      this.#checks[index] = { ...check, useCandidate, nomination };
      return true;
    }
    if (this.#checks.length >= MAX_EARLY) return false;
    this.#checks.push(check);
    return true;
  }

  /** Takes out those of the peer with this username fragment, in order; the others are forgotten. */
  take(ufrag: string): ReceivedCheck[] {
    const taken = this.#checks.filter((check) => check.ufrag === ufrag);
    this.#checks = [];
    return taken;
  }
}
