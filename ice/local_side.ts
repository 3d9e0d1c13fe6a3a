import type { TransportAddress } from "../stun/address.ts";
import type { MachineIo, SocketId } from "../stun/machine.ts";
import type { StunMessage } from "../stun/message.ts";
import type { LocalCandidate } from "./candidate.ts";
import type { IceEvent } from "./events.ts";
import { ReflexiveGathering } from "./gathering.ts";
import { LocalCandidates } from "./local_candidates.ts";
import type { Connectivity } from "./connectivity.ts";
import type { Base } from "./pair.ts";
import { TcpReflexive } from "./tcp_reflexive.ts";
import type { Presentation } from "./presentation.ts";
import { type MappingSeen, predictMappings } from "./prediction.ts";
import type { IceParameters } from "./sdp.ts";

/** The ICE options of ours (RFC 8839 §5.6): RFC 8445, RFC 8838 and draft-thatcher-ice-renomination. */
export const ICE_OPTIONS: readonly string[] = ["ice2", "trickle", "renomination"];

/**
 * What to tell the peer besides candidates.
 *
 * @param session Has our credentials.
 * @param pacing The pacing to propose in ms, if it is not the usual one.
 */
export function parametersOf({ credentials, isLite }: Connectivity, pacing: number | undefined): IceParameters {
  const { ufrag, pwd } = credentials;
  return {
    ufrag,
    pwd,
    options: ICE_OPTIONS,
    ...(isLite ? { lite: true } : {}),
    ...(pacing === undefined ? {} : { pacing }),
  };
}

/** Our side of a session: the candidates that we have, the servers that are asked for more, and whether more may come. */
export class LocalSide {
  /** Our candidates. */
  readonly candidates: LocalCandidates;
  #ta: number;
  #gathering: ReflexiveGathering;
  #overTcp = new TcpReflexive();
  #predictions: number;
  /** What servers saw of each base. */
  #seen = new Map<Base, MappingSeen[]>();
  #isEnded = false;
  #isDone = false;

  /**
   * @param ta The pacing in ms.
   * @param options How candidates are shown to the peer, and how many are guessed of each base.
   */
  constructor(ta: number, { predictions = 0, ...presentation }: Presentation & { readonly predictions?: number }) {
    this.#ta = ta;
    this.#predictions = predictions;
    this.candidates = new LocalCandidates(presentation);
    this.#gathering = new ReflexiveGathering(ta);
  }

  /** The questions to STUN servers. */
  get gathering(): ReflexiveGathering {
    return this.#gathering;
  }

  /** The same over TCP. */
  get overTcp(): TcpReflexive {
    return this.#overTcp;
  }

  /** When one of them is due. */
  get deadline(): number {
    return Math.min(this.#gathering.deadline, this.#overTcp.deadline);
  }

  /** Asks the next question, if there is one. */
  startNext(io: MachineIo<IceEvent>): boolean {
    return this.#gathering.startNext(io) || this.#overTcp.startNext(io);
  }

  /** Repeats questions, and gives them up. */
  handleTimeout(io: MachineIo<IceEvent>): void {
    this.#gathering.handleTimeout(io);
    this.#overTcp.handleTimeout(io);
  }

  /** Tells how long an answer may take in ms, besides the time until the second transmission. */
  hasten(ms: number): void {
    this.#gathering.hasten(ms);
    this.#overTcp.hasten(ms);
  }

  /** Asks nothing any more. */
  stop(io: MachineIo<IceEvent>): void {
    this.#gathering.stop();
    this.#overTcp.stop(io);
  }

  /** Whether no more candidates come. */
  get isDone(): boolean {
    return this.#isDone;
  }

  /** What the peer is told of: what only answers have shown (prflx) it knows itself. */
  get signalled(): LocalCandidate[] {
    return this.candidates.all.filter(({ type, isHidden }) => type !== "prflx" && isHidden !== true);
  }

  /** Tells of a candidate, and of what goes with it. */
  announce(candidate: LocalCandidate, io: MachineIo<IceEvent>): void {
    for (const one of [candidate, ...this.candidates.companions(candidate)]) {
      if (one.isHidden !== true) io.emit({ type: "local-candidate", candidate: one });
    }
  }

  /** Asks STUN servers from a base, if that is of use. */
  askFrom(base: Base): void {
    if (!this.candidates.isToBeAskedFor(base.candidate)) return;
    if (base.kind === "udp") this.#gathering.addBase(base);
    else this.#overTcp.addBase(base);
  }

  /** No more sockets and servers follow. */
  end(): void {
    this.#isEnded = true;
  }

  /** Reports the end, once every server has had its time. */
  conclude(io: MachineIo<IceEvent>): void {
    if (this.#isDone || !this.#isEnded || !this.#gathering.isDone || !this.#overTcp.isDone) return;
    this.#isDone = true;
    this.#guess(io);
    io.emit({ type: "gathering-done" });
  }

  /** Takes in a response if it is a STUN server's to us; tells whether it was one. */
  handleAnswer(message: StunMessage, socket: SocketId, io: MachineIo<IceEvent>): boolean {
    const overTcp = this.#overTcp.handleAnswer(message, socket, io);
    if (overTcp === undefined && !this.#gathering.isAnswer(message, socket)) return false;
    const found = overTcp ?? this.#gathering.handleAnswer(message, io);
    if (found === undefined || found === "nothing" || this.#isDone) return true;
    const { base, mapped, server, askedAt } = found;
    if (this.#predictions > 0 && overTcp === undefined) this.#note(base, { mapped, askedAt });
    // It forms no pairs of its own: they would be those of its base (RFC 8445 §6.1.2.4).
    const candidate = this.candidates.addReflexive(base.candidate, mapped, {
      server,
      isBelowGuesses: this.#predictions > 0,
    });
    if (candidate !== undefined) this.announce(candidate, io);
    return true;
  }

  /** Takes in what a router has mapped to a socket of ours. */
  addMapped(internal: TransportAddress, mapped: TransportAddress, router: TransportAddress, io: MachineIo<IceEvent>) {
    const host = this.candidates.all.find(({ type, protocol, base }) =>
      type === "host" && protocol === "udp" && base.equals(internal)
    );
    if (host === undefined || this.#isDone) return;
    const candidate = this.candidates.addReflexive(host, mapped, { server: router });
    if (candidate !== undefined) this.announce(candidate, io);
  }

  /** The candidate that the peer sees of a base (RFC 8445 §7.2.5.3.1). */
  mapped(base: Base, mapped: TransportAddress, priority: number): LocalCandidate | undefined {
    return this.candidates.mapped(base.candidate, mapped, priority);
  }

  /** Forgets a socket. */
  removeSocket(socket: SocketId, base: Base | undefined, io: MachineIo<IceEvent>): void {
    if (base !== undefined) {
      this.#gathering.removeBase(base);
      this.#overTcp.removeBase(base, io);
      this.#seen.delete(base);
    }
    this.candidates.removeSocket(socket);
  }

  /** Begins anew with the sockets that there are (RFC 8445 §9). */
  restart(io: MachineIo<IceEvent>): void {
    this.#overTcp.stop(io);
    this.#overTcp = new TcpReflexive();
    this.#gathering = new ReflexiveGathering(this.#ta);
    this.#isEnded = this.#isDone = false;
    this.#seen.clear();
    this.candidates.restart();
  }

  #note(base: Base, seen: MappingSeen): void {
    const known = this.#seen.get(base);
    if (known === undefined) this.#seen.set(base, [seen]);
    else known.push(seen);
  }

  /** Tells of the addresses that checks will likely leave from: at the last moment, as others use the NAT as well. */
  #guess(io: MachineIo<IceEvent>): void {
    for (const [base, seen] of this.#seen) {
      for (const address of predictMappings(seen, this.#predictions)) {
        const candidate = this.candidates.addGuess(base.candidate, address);
        if (candidate !== undefined) this.announce(candidate, io);
      }
    }
    this.#seen.clear();
  }
}
