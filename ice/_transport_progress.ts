import { describe, describePair } from "./_transport_shapes.ts";
import type { IceEvent, IceState } from "./events.ts";
import {
  IceCandidateEvent,
  type IceTransportCandidate,
  type IceTransportCandidatePair,
  type IceTransportGatheringState,
} from "./transport_events.ts";

/** How far an `IceTransport` has got, as far as its events have told: what it says of itself changes with each. */
export class TransportProgress {
  /** Our username fragment. */
  ufrag: string;
  readonly #target: EventTarget;
  #state: IceState = "new";
  #gatheringState: IceTransportGatheringState = "new";
  #selectedPair: IceTransportCandidatePair | null = null;
  #localCandidates: IceTransportCandidate[] = [];

  /**
   * @param target Where the events are dispatched.
   * @param ufrag Our first username fragment.
   */
  constructor(target: EventTarget, ufrag: string) {
    this.#target = target;
    this.ufrag = ufrag;
  }

  get state(): IceState {
    return this.#state;
  }

  get gatheringState(): IceTransportGatheringState {
    return this.#gatheringState;
  }

  get selectedPair(): IceTransportCandidatePair | null {
    return this.#selectedPair;
  }

  get localCandidates(): readonly IceTransportCandidate[] {
    return this.#localCandidates;
  }

  /** An event of the connection. */
  handleEvent(event: IceEvent): void {
    switch (event.type) {
      case "restart":
        this.ufrag = event.parameters.ufrag;
        this.#localCandidates = [];
        return this.beginGathering();
      case "local-candidate": {
        const described = describe(event.candidate, this.ufrag);
        this.#localCandidates.push(described);
        return this.#tell(new IceCandidateEvent(described));
      }
      case "gathering-done":
        this.#setGatheringState("complete");
        return this.#tell(new IceCandidateEvent(null));
      case "gathering-error":
        return this.#tell(new ErrorEvent("error", { message: event.text }));
      case "selected-pair": {
        const { pair } = event;
        this.#selectedPair = pair === undefined ? null : describePair(pair, this.ufrag);
        return this.#tell(new Event("selectedcandidatepairchange"));
      }
      case "state":
        return this.#setState(event.state);
    }
  }

  /** Candidates are being gathered from now on. */
  beginGathering(): void {
    this.#setGatheringState("gathering");
  }

  /** The connection has failed. */
  fail(error: Error): void {
    this.#setState("failed");
    this.#tell(new ErrorEvent("error", { message: error.message, error }));
  }

  /** The transport is stopped. */
  stop(): void {
    this.#selectedPair = null;
    this.#setState("closed");
  }

  #setState(state: IceState): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#tell(new Event("statechange"));
  }

  #setGatheringState(state: IceTransportGatheringState): void {
    this.#gatheringState = state;
    this.#tell(new Event("gatheringstatechange"));
  }

  #tell(event: Event): void {
    this.#target.dispatchEvent(event);
  }
}
