import type { CandidateType } from "./candidate.ts";
import type { TcpType } from "./tcp.ts";

/** A candidate, named as in W3C's RTCIceCandidate. */
export interface IceTransportCandidate {
  /** The line to signal, beginning with `candidate:`. */
  readonly candidate: string;
  /** Always the first component. */
  readonly component: "rtp";
  /** Its foundation. */
  readonly foundation: string;
  /** Its priority. */
  readonly priority: number;
  /** The IP address, or the name that hides it. */
  readonly address: string | null;
  /** The port. */
  readonly port: number | null;
  /** The transport. */
  readonly protocol: "udp" | "tcp";
  /** How it was found. */
  readonly type: CandidateType;
  /** How a TCP candidate comes by its connections; `null` for UDP. */
  readonly tcpType: TcpType | null;
  /** The base's address of a reflexive candidate, the mapped one of a relayed one. */
  readonly relatedAddress: string | null;
  /** Its port. */
  readonly relatedPort: number | null;
  /** To which credentials it belongs; `null` when nobody said so. */
  readonly usernameFragment: string | null;
}

/** A pair, named as in W3C's RTCIceCandidatePair. */
export interface IceTransportCandidatePair {
  /** Ours. */
  readonly local: IceTransportCandidate;
  /** The peer's. */
  readonly remote: IceTransportCandidate;
}

/** The progress of gathering. */
export type IceTransportGatheringState = "new" | "gathering" | "complete";

/** `icecandidate`: one more local candidate, to be signalled. */
export class IceCandidateEvent extends Event {
  /** The candidate; `null` when there are no more. */
  readonly candidate: IceTransportCandidate | null;

  /** The event of a candidate. */
  constructor(candidate: IceTransportCandidate | null) {
    super("icecandidate");
    this.candidate = candidate;
  }
}

/** `datagram`: the peer has sent something. */
export class IceDatagramEvent extends Event {
  /** What it sent: a copy of one's own. */
  readonly data: Uint8Array;

  /** The event of a datagram. */
  constructor(data: Uint8Array) {
    super("datagram");
    this.data = data;
  }
}

/** The events of an `IceTransport` by their names. */
export interface IceTransportEventMap {
  /** See `IceCandidateEvent`. */
  readonly icecandidate: IceCandidateEvent;
  /** `state` has changed. */
  readonly statechange: Event;
  /** `gatheringState` has changed. */
  readonly gatheringstatechange: Event;
  /** Data goes along another pair, or along none any more. */
  readonly selectedcandidatepairchange: Event;
  /** A server gave no candidate, or the connection has failed, with the `error`. */
  readonly error: ErrorEvent;
  /** See `IceDatagramEvent`. */
  readonly datagram: IceDatagramEvent;
}

/** What is called for each event of a kind; `null`: nothing. */
export type IceTransportHandler<K extends keyof IceTransportEventMap> =
  | ((event: IceTransportEventMap[K]) => void)
  | null;
