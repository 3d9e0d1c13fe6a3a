// Another access token before the last one ends (RFC 7635). Shell.
import type { AccessToken } from "../stun/access_token.ts";
import type { Host, HostTimer } from "../stun/net/transport.ts";

/** How long before its end a token is replaced, or half its time where that is less, in ms. */
const MARGIN = 60_000;
/** After how long it is tried again when there was none, in ms. */
const PAUSE = 5_000;

/** Asks for an access token each time the last one is about to end. */
export class TokenRenewal {
  readonly #host: Host;
  readonly #timer: HostTimer;
  readonly #next: () => Promise<AccessToken>;
  readonly #take: (token: AccessToken) => void;
  #isClosed = false;

  constructor(host: Host, next: () => Promise<AccessToken>, take: (token: AccessToken) => void) {
    this.#host = host;
    this.#next = next;
    this.#take = take;
    this.#timer = host.createTimer(() => void this.#renew());
  }

  /** This is the last one. One that does not tell its end is not replaced. */
  follow({ expires }: AccessToken): void {
    if (expires === undefined || this.#isClosed) return;
    const left = Math.max(0, (expires - this.#host.unixTime()) * 1000);
    this.#timer.set(this.#host.now() + Math.max(PAUSE, left - MARGIN, left / 2));
  }

  close(): void {
    this.#isClosed = true;
    this.#timer.set(Infinity);
  }

  async #renew(): Promise<void> {
    try {
      const token = await this.#next();
      if (this.#isClosed) return;
      this.#take(token);
      this.follow(token);
    } catch {
      // It is good for a while yet; the allocation tells when it is not.
      if (!this.#isClosed) this.#timer.set(this.#host.now() + PAUSE);
    }
  }
}
