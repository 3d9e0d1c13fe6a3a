import type { LocalCandidate } from "./candidate.ts";
import type { IceSignaling } from "./connection_options.ts";
import { formatCandidate, formatDescriptionLine, type IceDescription } from "./sdp.ts";
import { SignalLog } from "./_signal_log.ts";

/** What is told to the other side, and what carries it, if there is something that does. */
export class Signals {
  #log = new SignalLog();
  #signaling: IceSignaling | undefined;
  #sending: Promise<void> = Promise.resolve();
  #receiver: AsyncIterator<string> | undefined;
  #isClosed = false;
  readonly #failed: (cause: unknown) => void;
  /** Whether texts go both ways. */
  isLive = false;

  /** @param failed Is told when signaling breaks. */
  constructor(failed: (cause: unknown) => void) {
    this.#failed = failed;
  }

  /** What this generation has to say. */
  get log(): SignalLog {
    return this.#log;
  }

  /** Begins another generation. */
  renew(): void {
    this.#log.end();
    this.#log = new SignalLog();
    if (this.#signaling !== undefined) this.#send(this.#signaling);
  }

  /** Trickles both ways. `receive` takes what comes, and `undefined` at its end. */
  connect(signaling: IceSignaling, receive: (text: string | undefined) => void): void {
    this.#signaling = signaling;
    this.isLive = true;
    this.#send(signaling);
    this.#receive(signaling, receive).catch((error) => this.#fail(error));
  }

  close(): void {
    this.#isClosed = true;
    this.isLive = false;
    this.#log.end();
    this.#receiver?.return?.();
  }

  #fail(error: unknown): void {
    this.isLive = false;
    this.#failed(error);
  }

  /** Sends all of this generation, after what is still to be sent of the one before. */
  #send(signaling: IceSignaling): void {
    const log = this.#log;
    this.#sending = this.#sending.then(async () => {
      for await (const text of log) await signaling.send(text);
    }).catch((error) => this.#fail(error));
  }

  async #receive(signaling: IceSignaling, receive: (text: string | undefined) => void): Promise<void> {
    const receiver = this.#receiver = signaling.receive[Symbol.asyncIterator]();
    while (!this.#isClosed) {
      const { done, value } = await receiver.next();
      if (this.#isClosed) return;
      if (done) this.isLive = false;
      receive(done ? undefined : value);
      if (done) return;
    }
  }
}

/** A part of a description as text. */
export function formatFragment(part: Partial<IceDescription>): string {
  return formatDescriptionLine({ candidates: [], endOfCandidates: false, ignored: [], ...part });
}

/** A candidate as text: it tells which generation it belongs to (RFC 8838 §9), and of several streams which one. */
export function candidateFragment(candidate: LocalCandidate, ufrag: string, mids: readonly string[]): string {
  const told = { ...candidate, extensions: [["ufrag", ufrag]] as const };
  if (mids.length === 1) return formatCandidate(told);
  return formatFragment({ streams: [{ mid: mids[candidate.stream]!, candidates: [told], endOfCandidates: false }] });
}
