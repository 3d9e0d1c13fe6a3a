import type { Host, HostTimer } from "../stun/net/transport.ts";
import type { IceEvent } from "./events.ts";

/** How long a connection that was there may be without a path, in ms, unless it is said. */
export const RECOVERY_LIMIT = 60_000;

/** What a recovery needs of its connection. */
export interface RecoveryOwner {
  /** How long there may be no path, in ms. */
  readonly limit: number;
  /** The computer, for its clock. */
  readonly host: Host;
  /** Whether ICE can be restarted without anybody's doing. */
  canRestart(): boolean;
  /** Whether a restart is under way: no pair is nominated anew yet. */
  isRestarting(): boolean;
  /** Restarts ICE. */
  restart(): void;
  /** There was no path for too long. */
  giveUp(reason: string): void;
}

/** Gets a connection back that was there and is lost: by restarts of ICE, for some time (RFC 8445 §9). */
export class Recovery {
  readonly #owner: RecoveryOwner;
  readonly #timer: HostTimer;
  #wasConnected = false;
  #isUnderWay = false;
  #reason = "";

  /** @param owner The connection. */
  constructor(owner: RecoveryOwner) {
    this.#owner = owner;
    this.#timer = owner.host.createTimer(() => this.#giveUp());
  }

  /** Whether a lost connection is being got back. */
  get isUnderWay(): boolean {
    return this.#isUnderWay;
  }

  /** Takes in a change of state; gives whether a failure is none yet. */
  handleState({ state, reason = "" }: Extract<IceEvent, { type: "state" }>): boolean {
    if (state === "connected" || state === "completed") {
      this.#wasConnected = true;
      this.#stop();
    } else if (state === "disconnected" || state === "failed" || state === "checking") {
      if (!this.#wasConnected || !this.#owner.canRestart()) return false;
      if (!this.#isUnderWay) this.#timer.set(this.#owner.host.now() + this.#owner.limit);
      this.#isUnderWay = true;
      if (reason !== "") this.#reason = reason;
      // What has failed is the generation of now; what has gone silent may be the one before, and a restart under way.
      if (state === "failed" || (state === "disconnected" && !this.#owner.isRestarting())) this.#owner.restart();
      return true;
    }
    return false;
  }

  /** Ends it. */
  close(): void {
    this.#wasConnected = false;
    this.#stop();
  }

  #stop(): void {
    this.#isUnderWay = false;
    this.#timer.set(Infinity);
  }

  #giveUp(): void {
    const reason = this.#reason === "" ? "its path is gone" : this.#reason;
    this.close();
    this.#owner.giveUp(`${reason}, and no other way was found in ${this.#owner.limit / 1000} s`);
  }
}
