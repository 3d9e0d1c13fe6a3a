import type { MachineIo } from "../stun/machine.ts";
import type { AgentCore } from "./agent_core.ts";
import type { Candidate } from "./candidate.ts";
import type { IceEvent } from "./events.ts";
import type { IceDescription, IceParameters } from "./sdp.ts";
import { type StreamPart, streamsOf } from "./streams.ts";

/** How long a check takes with all its repetitions, in ms: for so long RFC 8863 §4 lets nothing fail. */
const PATIENCE = 39_500;

/** What the peer tells an agent by signaling, of all its streams. */
export class RemoteSide {
  readonly #core: AgentCore;
  readonly #mids: readonly string[];

  /**
   * Nothing is told yet.
   *
   * @param core What is told goes there.
   * @param mids What the streams are called.
   */
  constructor(core: AgentCore, mids: readonly string[]) {
    this.#core = core;
    this.#mids = mids;
  }

  /** See `IceAgent.setRemoteParameters()`. */
  setParameters(parameters: IceParameters, io: MachineIo<IceEvent>, stream?: number): void {
    const { generations } = this.#core;
    const streams = stream === undefined ? this.#mids.map((_, i) => i) : [stream];
    const news = streams.filter((one) => !generations.isKnown(parameters, one));
    if (this.#core.state === "closed" || news.length === 0) return;
    if (news.some((one) => generations.parametersOf(one) !== undefined)) this.#core.restart(io, {});
    this.#core.current.patienceAt = io.now + PATIENCE;
    for (const one of news) {
      for (const { connectivity } of this.#core.current.ofStream(one)) connectivity.setRemote(parameters, io);
      for (const candidate of generations.takeFuture(parameters.ufrag, one)) {
        this.addCandidate(candidate, io, one);
      }
    }
    this.#core.proceed(io);
  }

  /** See `IceAgent.addRemoteCandidate()`. */
  addCandidate(candidate: Candidate, io: MachineIo<IceEvent>, stream: number): boolean {
    const { current, generations, isOver } = this.#core;
    if (generations.isOfAnother(candidate, stream)) return false;
    const session = current.session(stream, candidate.component);
    // RFC 8838 §14: after end-of-candidates new ones are ignored, and §13: so they are after the nomination.
    if (session === undefined || session.remoteDone || isOver) return false;
    if (!session.addRemoteCandidate(candidate, io)) return false;
    this.#core.proceed(io);
    return true;
  }

  /** See `IceAgent.endOfCandidates()`. */
  endOfCandidates(io: MachineIo<IceEvent>, stream?: number): void {
    const { sessions, isRestart } = this.#core.current;
    for (const session of sessions) {
      // After a restart the peer's new credentials come first: what was under way before ends the candidates of before.
      if (isRestart && !session.connectivity.isReady) continue;
      if (stream === undefined || stream === session.stream) session.remoteDone = true;
    }
    this.#core.proceed(io);
  }

  /** See `IceAgent.addRemoteDescription()`. */
  addDescription(description: IceDescription, io: MachineIo<IceEvent>): void {
    const parts = streamsOf(description, this.#mids);
    // A restart is one of all streams; what is of before it was repeated by whoever signals.
    const isNews = ({ parameters, stream }: StreamPart) =>
      parameters !== undefined && !this.#core.generations.isKnown(parameters, stream);
    const known = parts.filter(({ stream }) => this.#core.generations.parametersOf(stream) !== undefined);
    if (known.some(isNews)) {
      this.#core.restart(io, {});
      for (const { parameters } of parts) {
        if (parameters !== undefined) this.#core.generations.keepUfrag(parameters.ufrag);
      }
    }
    for (const part of parts) {
      const { parameters, stream } = part;
      if (part.isRejected === true) {
        this.#core.removeStream(stream, io);
        continue;
      }
      const isPast = parameters !== undefined && !isNews(part) &&
        parameters.ufrag !== this.#core.generations.parametersOf(stream)?.ufrag;
      if (isPast) continue;
      // Candidates first: the checks then begin with the best pair.
      for (const candidate of part.candidates) this.addCandidate(candidate, io, stream);
      if (parameters !== undefined) this.setParameters(parameters, io, stream);
      if (part.endOfCandidates) this.endOfCandidates(io, stream);
      this.#core.takeChoice(part, io);
    }
  }
}
