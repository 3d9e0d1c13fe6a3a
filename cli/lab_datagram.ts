import { PRIORITY, USE_CANDIDATE } from "../ice/mod.ts";
import {
  ERROR_CODE_ATTRIBUTE,
  METHOD,
  StreamFramer,
  StunMessage,
  type TransportAddress,
  USERNAME,
  XOR_MAPPED_ADDRESS,
} from "../stun/mod.ts";
import {
  CHANNEL_HEADER_LENGTH,
  channelDataLength,
  channelNumber,
  DATA,
  isChannelByte,
  XOR_PEER_ADDRESS,
  XOR_RELAYED_ADDRESS,
} from "../turn/mod.ts";

/** What a datagram is about. */
export interface LabMessage {
  /**
   * What it does: a check, one that nominates, the answer to either, application data, or what goes on between a client
   * and its server (`"stun"` and `"turn"`), or between both ends of a TCP connection (`"tcp"`).
   */
  readonly kind: "check" | "nomination" | "answer" | "data" | "stun" | "turn" | "tcp";
  /** In a few words. */
  readonly text: string;
  /** In a message to or from a relay that carries another: whom the carried one goes to, or comes from. */
  readonly peer?: TransportAddress;
}

const METHOD_NAMES = new Map<number, string>([
  [METHOD.BINDING, "Binding"],
  [METHOD.ALLOCATE, "Allocate"],
  [METHOD.REFRESH, "Refresh"],
  [METHOD.CREATE_PERMISSION, "CreatePermission"],
  [METHOD.CHANNEL_BIND, "ChannelBind"],
]);

/** Reads a datagram as an ICE agent, its peer or its servers would. */
export function describeDatagram(bytes: Uint8Array): LabMessage {
  if (bytes.length > 0 && isChannelByte(bytes[0]!)) {
    const length = channelDataLength(bytes, 0, bytes.length);
    if (length >= 0) {
      const inner = describeDatagram(bytes.subarray(CHANNEL_HEADER_LENGTH, CHANNEL_HEADER_LENGTH + length));
      const channel = channelNumber(bytes, 0).toString(16).toUpperCase();
      return { kind: inner.kind, text: `${inner.text} in channel 0x${channel}` };
    }
  }
  const message = StunMessage.parse(bytes);
  if (message === undefined) return { kind: "data", text: dataText(bytes) };
  if (message.method === METHOD.BINDING) return describeBinding(message);
  const data = message.get(DATA);
  const peer = message.get(XOR_PEER_ADDRESS);
  if (message.class === "indication" && data !== undefined && peer !== undefined) {
    const inner = describeDatagram(data);
    const isSend = message.method === METHOD.SEND;
    return { kind: inner.kind, text: `${inner.text} ${isSend ? "for" : "from"} ${peer}`, peer };
  }
  return describeTurn(message);
}

/** The types of TLS records for alerts and handshakes (RFC 8446 §5.1). */
const TLS_RECORDS: ReadonlySet<number> = new Set([21, 22]);

/** A STUN message by itself: what a connection with RFC 4571's framing begins with. */
const FIRST_PACKET = Uint8Array.of(0, 20, 0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, ...new Uint8Array(12));

/** Reads a TCP segment, to a TURN server or between two agents: its frames, or what it does for the connection. */
export function describeSegment(bytes: Uint8Array, flags: string): LabMessage {
  if (bytes.length === 0) return { kind: "tcp", text: `TCP ${flags}` };
  if (TLS_RECORDS.has(bytes[0]!)) return { kind: "tcp", text: "TLS handshake" };
  let frames = framesOf(bytes, new StreamFramer());
  if (frames.length === 0) {
    const framer = new StreamFramer("rfc4571");
    framer.push(FIRST_PACKET);
    framer.next();
    frames = framesOf(bytes, framer);
    // Bytes of anything begin with something that looks like a length.
    if (framer.buffered > 0) frames = [];
  }
  const main = frames.find(({ kind }) => kind !== "stun" && kind !== "turn") ?? frames[0];
  if (main === undefined) return { kind: "tcp", text: `TCP data, ${bytes.length} bytes` };
  return { ...main, text: `${frames.map(({ text }) => text).join("; ")} over TCP` };
}

function framesOf(bytes: Uint8Array, framer: StreamFramer): LabMessage[] {
  const frames: LabMessage[] = [];
  framer.push(bytes);
  while (framer.next()) {
    frames.push(describeDatagram(framer.buffer.subarray(framer.offset, framer.offset + framer.length)));
  }
  return frames;
}

function describeBinding(message: StunMessage): LabMessage {
  const error = message.get(ERROR_CODE_ATTRIBUTE);
  // Only checks and their answers are signed.
  const isIce = message.hasIntegrity;
  switch (message.class) {
    case "request":
      if (!message.has(USERNAME) || !message.has(PRIORITY)) return { kind: "stun", text: "what is my address?" };
      return message.has(USE_CANDIDATE)
        ? { kind: "nomination", text: "check, USE-CANDIDATE" }
        : { kind: "check", text: "check" };
    case "success":
      return isIce
        ? { kind: "answer", text: `answer, you are ${message.get(XOR_MAPPED_ADDRESS)}` }
        : { kind: "stun", text: `you are ${message.get(XOR_MAPPED_ADDRESS)}` };
    case "error":
      return { kind: isIce ? "answer" : "stun", text: `error ${error?.code} ${error?.reason ?? ""}`.trimEnd() };
    case "indication":
      return { kind: "stun", text: "keepalive" };
  }
}

function describeTurn(message: StunMessage): LabMessage {
  const name = METHOD_NAMES.get(message.method) ?? `method 0x${message.method.toString(16)}`;
  if (message.class === "error") {
    const error = message.get(ERROR_CODE_ATTRIBUTE);
    return { kind: "turn", text: `${name} error ${error?.code} ${error?.reason ?? ""}`.trimEnd() };
  }
  if (message.class === "success") {
    const relayed = message.get(XOR_RELAYED_ADDRESS);
    return { kind: "turn", text: `${name} success${relayed === undefined ? "" : `, relay ${relayed}`}` };
  }
  const peers = message.getAll(XOR_PEER_ADDRESS).filter((peer) => peer !== undefined);
  return { kind: "turn", text: peers.length === 0 ? name : `${name} ${peers.join(", ")}` };
}

function dataText(bytes: Uint8Array): string {
  const text = new TextDecoder().decode(bytes);
  return /^[\x20-\x7e]{1,40}$/.test(text) ? `data "${text}"` : `data, ${bytes.length} bytes`;
}
