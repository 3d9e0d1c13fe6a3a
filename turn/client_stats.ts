/** What a `TurnClient` has counted. `dropped...` is data on its way out, `rejected...` are packets that came in. */
export interface TurnClientStats {
  /** Datagrams sent by channel. */
  sentChannelData: number;
  /** Datagrams sent by Send indication. */
  sentIndications: number;
  /** Datagrams that came by channel. */
  receivedChannelData: number;
  /** Datagrams that came by Data indication. */
  receivedIndications: number;
  /** Datagrams that waited for a permission, or for another way to the server. */
  held: number;
  /** There was no allocation. */
  droppedNotAllocated: number;
  /** Too many waited for a permission, or for another way to the server. */
  droppedQueueFull: number;
  /** The permission was refused, or not answered. */
  droppedRefused: number;
  /** Longer than a UDP datagram with its TURN header may be. */
  droppedTooLong: number;
  /** The peer's IP version is not the relay's. */
  droppedFamily: number;
  /** Connections of peers that were not taken: too many at a time, or the server did not answer. */
  droppedAttempts: number;
  /** Not from the server. */
  rejectedSource: number;
  /** Neither ChannelData nor STUN, or not well-formed. */
  rejectedMalformed: number;
  /** ChannelData on a channel that is not bound. */
  rejectedChannel: number;
  /** Data from a peer that was not permitted. */
  rejectedPeer: number;
  /** A response to nothing that was asked. */
  rejectedResponse: number;
  /** A response that was not authenticated. */
  rejectedIntegrity: number;
}

/** All zero. */
export function newTurnClientStats(): TurnClientStats {
  return {
    sentChannelData: 0,
    sentIndications: 0,
    receivedChannelData: 0,
    receivedIndications: 0,
    held: 0,
    droppedNotAllocated: 0,
    droppedQueueFull: 0,
    droppedRefused: 0,
    droppedTooLong: 0,
    droppedFamily: 0,
    droppedAttempts: 0,
    rejectedSource: 0,
    rejectedMalformed: 0,
    rejectedChannel: 0,
    rejectedPeer: 0,
    rejectedResponse: 0,
    rejectedIntegrity: 0,
  };
}
