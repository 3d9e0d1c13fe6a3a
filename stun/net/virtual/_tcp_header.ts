/** The flags of a TCP header (RFC 9293 §3.1). */
export const FIN = 1;
/** Begins a connection. */
export const SYN = 2;
/** Breaks it. */
export const RST = 4;
/** The acknowledgement is valid: in all but the first segment. */
export const ACK = 16;

/** The part of a TCP header that matters here. Numbers never wrap: JavaScript's are long enough. */
export interface TcpHeader {
  readonly flags: number;
  readonly seq: number;
  readonly ack: number;
  readonly window: number;
  /** Stands for the ICMP error of a router that has no route, or of a link that the segment does not fit. */
  readonly onRefused: ((why: "noRoute" | "tooBig") => void) | undefined;
}

/** As text: `"SYN ACK"`. Segments with nothing but an acknowledgement or data are `"ACK"`. */
export function flagsText(flags: number): string {
  const names = [[SYN, "SYN"], [FIN, "FIN"], [RST, "RST"], [ACK, "ACK"]] as const;
  return names.filter(([flag]) => (flags & flag) !== 0).map(([, name]) => name).join(" ");
}

/** Whether a segment with these flags begins a connection. */
export function beginsConnection(flags: number): boolean {
  return (flags & (SYN | ACK | RST)) === SYN;
}
