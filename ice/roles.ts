import type { Random } from "../stun/machine.ts";
import type { StunMessage } from "../stun/message.ts";
import { ICE_CONTROLLED, ICE_CONTROLLING } from "./attributes.ts";
import type { ConnectivityOptions } from "./connectivity_options.ts";
import { randomTieBreaker } from "./credentials.ts";
import type { IceRole } from "./pair.ts";

/** Who controls (RFC 8445 §6.1.1), as far as one agent knows: its role, whether that is still open, and its tie-breaker. */
export class Roles {
  /** Our role; provisional while it is open. */
  role: IceRole;
  /** Whether the role is to be decided: with `"auto"`, until the peer's credentials are known. */
  isOpen: boolean;
  #tieBreaker: bigint;
  /** Whose check has told us our role while it was open. */
  #toldBy: string | undefined;

  /**
   * The role to begin with.
   *
   * @param options See `ConnectivityOptions`.
   * @param before What a restart takes over from: the role stays (RFC 8445 §9).
   */
  constructor(options: Pick<ConnectivityOptions, "role" | "random" | "tieBreaker">, before?: Roles) {
    this.role = before?.role ?? (options.role === "auto" ? "controlling" : options.role);
    this.isOpen = before === undefined ? options.role === "auto" : before.isOpen;
    this.#tieBreaker = options.tieBreaker ?? randomTieBreaker(options.random);
  }

  /** The 64 bits that decide a conflict. */
  get tieBreaker(): bigint {
    return this.#tieBreaker;
  }

  /** Takes another tie-breaker, after a conflict (RFC 8445 §7.2.5.1). */
  renewTieBreaker(random: Random): void {
    this.#tieBreaker = randomTieBreaker(random);
  }

  /** While it is open: a peer that checks already has a role, and ours is the other. */
  adopt(message: StunMessage, ufrag: string): void {
    if (message.has(ICE_CONTROLLING)) this.role = "controlled";
    else if (message.has(ICE_CONTROLLED)) this.role = "controlling";
    else return;
    this.#toldBy = ufrag;
  }

  /** Decides it, when both username fragments are known: what sorts first controls, unless a check has told. */
  decide(ourUfrag: string, theirUfrag: string): void {
    this.isOpen = false;
    if (this.#toldBy !== theirUfrag) this.role = ourUfrag < theirUfrag ? "controlling" : "controlled";
  }

  /** Changes it to the other. */
  flip(): IceRole {
    return this.role = this.role === "controlling" ? "controlled" : "controlling";
  }
}
