import type { Candidate, HostPort } from "./candidate.ts";
import { formatCandidate, parseCandidate } from "./sdp_candidate.ts";
import { DescriptionReader } from "./sdp_reader.ts";

export { formatCandidate, parseCandidate } from "./sdp_candidate.ts";

/** What one agent tells the other besides candidates (RFC 8445 §5.3). */
export interface IceParameters {
  /** The username fragment: 4 to 256 ice-chars. */
  readonly ufrag: string;
  /** The password: 22 to 256 ice-chars. */
  readonly pwd: string;
  /** ICE options, as `ice2` and `trickle`. Default: none. */
  readonly options?: readonly string[];
  /** Whether the agent is lite. Default: no. */
  readonly lite?: boolean;
  /** The Ta that the agent proposes, in ms. Default: 50. */
  readonly pacing?: number;
}

/** What a description says of one data stream: a media section of SDP (`m=`). */
export interface IceStreamDescription {
  /** What it is called (`a=mid`). */
  readonly mid?: string;
  /** Which of all sections it is, from 0. Default: by its place here. */
  readonly index?: number;
  /** Whether the peer does not want it: its port is 0 (RFC 3264 §6). Default: no. */
  readonly isRejected?: boolean;
  /** Credentials and options. Default: those of the description. */
  readonly parameters?: IceParameters;
  /** Candidates, in the order of the text. */
  readonly candidates: readonly Candidate[];
  /** Whether no more candidates follow for it. */
  readonly endOfCandidates: boolean;
  /** The peer's candidates in use, by component, as the controlling side's updated offer tells (RFC 8839 §5.2). */
  readonly remoteCandidates?: readonly (readonly [component: number, candidate: HostPort])[];
}

/** A session description, or a part of one that trickles in: whatever is missing comes in another. */
export interface IceDescription {
  /** Credentials and options. */
  readonly parameters?: IceParameters;
  /** Candidates, in the order of the text. */
  readonly candidates: readonly Candidate[];
  /** Whether no more candidates follow (RFC 8838 §13). */
  readonly endOfCandidates: boolean;
  /**
   * All data streams, if the text has several media sections, or says which one it is about. What is said above is the
   * session's, and of the first one that is in use.
   */
  readonly streams?: readonly IceStreamDescription[];
  /** Lines about candidates that no agent of ours can use, as they were: other types and transports. */
  readonly ignored: readonly string[];
}

/**
 * Reads a session description or a part of one. Taken are: the one line that `formatDescriptionLine()` writes, bare
 * ICE attributes one per line, a whole SDP offer or answer, a browser's `{"type": ..., "sdp": ...}`, and its candidates as
 * `{"candidate": ..., "sdpMid": ..., "sdpMLineIndex": ...}`. To an agent with one data stream the first media section that
 * is in use counts.
 *
 * @throws {SyntaxError} Naming the line that is wrong, or if nothing about ICE is in the text.
 */
export function parseDescription(text: string): IceDescription {
  const trimmed = text.trim();
  if (trimmed.startsWith("{")) return parseJson(trimmed);
  // A line that was copied from a terminal may have been broken there; it has no spaces of its own.
  const unbroken = trimmed.replace(/\s+/g, "");
  const isOneLine = !/^\s*[a-z]=/im.test(trimmed) &&
    /,(ice-|candidate:|end-of-candidates)|^candidate:[^,]*~/i.test(unbroken);
  const lines = isOneLine ? unbroken.split(",").map(unescapePart) : trimmed.split(/\r\n|\r|\n/);
  const reader = new DescriptionReader(isOneLine ? "part" : "line");
  lines.forEach((line, i) => reader.read(line.trim(), i + 1));
  return reader.finish();
}

/**
 * Writes a session description as SDP lines, each ended by CR LF: those of the session first, which `a=ice-lite`,
 * `a=ice-options` and `a=ice-pacing` are, then those of the media. With several data streams, several components or
 * `a=ice-lite`, each stream begins with its `m=` line, for the default candidate (RFC 8839 §4.2.1).
 */
export function formatDescription(description: IceDescription): string {
  const { parameters, streams } = description;
  const lines = sessionAttributes(description).map((attribute) => `a=${attribute}`);
  const isPlain = streams === undefined && parameters?.lite !== true &&
    description.candidates.every(({ component }) => component === 1);
  for (const stream of streams ?? [description as IceStreamDescription]) {
    if (!isPlain) lines.push(...mediaLines(stream));
    lines.push(...streamAttributes(stream, parameters).map((attribute) => `a=${attribute}`));
  }
  return lines.map((line) => `${line}\r\n`).join("");
}

/**
 * Writes a session description as one line to copy and paste: the SDP attributes without `a=`, with a comma between
 * them and `~` for each space; several data streams begin with their `mid`. It has no spaces, quotes or characters that a
 * shell would touch.
 */
export function formatDescriptionLine(description: IceDescription): string {
  const { parameters, streams } = description;
  const attributes = sessionAttributes(description);
  if (streams === undefined) attributes.push(...streamAttributes(description as IceStreamDescription, parameters));
  else {
    // One set of credentials is said once.
    if (parameters !== undefined) attributes.push(...credentials(parameters));
    for (const [i, stream] of streams.entries()) {
      const { parameters: own, ...rest } = stream;
      const isSame = own !== undefined && own.ufrag === parameters?.ufrag && own.pwd === parameters.pwd;
      attributes.push(`mid:${stream.mid ?? i}`, ...streamAttributes(isSame ? rest : stream, undefined));
    }
  }
  return attributes.map((attribute) =>
    attribute.replace(/[%,~]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`).replaceAll(" ", "~")
  ).join(",");
}

function sessionAttributes({ parameters }: IceDescription): string[] {
  if (parameters === undefined) return [];
  const { lite, options = [], pacing } = parameters;
  return [
    ...(lite === true ? ["ice-lite"] : []),
    ...(options.length > 0 ? [`ice-options:${options.join(" ")}`] : []),
    ...(pacing === undefined ? [] : [`ice-pacing:${pacing}`]),
  ];
}

function streamAttributes(stream: IceStreamDescription, session: IceParameters | undefined): string[] {
  const { parameters = session, candidates, remoteCandidates = [], endOfCandidates } = stream;
  const remotes = remoteCandidates.map(([component, { host, port }]) => `${component} ${host} ${port}`).join(" ");
  return [
    ...(parameters === undefined ? [] : credentials(parameters)),
    ...candidates.map(formatCandidate),
    ...(remotes === "" ? [] : [`remote-candidates:${remotes}`]),
    ...(endOfCandidates ? ["end-of-candidates"] : []),
  ];
}

function credentials({ ufrag, pwd }: IceParameters): string[] {
  return [`ice-ufrag:${ufrag}`, `ice-pwd:${pwd}`];
}

/** A media section's first lines, with the default destination: the candidate that works for most (RFC 8839 §4.2.1.2). */
function mediaLines({ mid, candidates, isRejected }: IceStreamDescription): string[] {
  const defaultOf = (component: number) => {
    const fit = candidates.filter((one) =>
      // Port 0 in an m= line would refuse the stream (RFC 3264 §6).
      one.component === component && one.protocol === "udp" && one.address !== undefined && one.address.port !== 0
    );
    return ["relay", "srflx", "host"].map((type) => fit.find((one) => one.type === type)?.address).find((one) => one);
  };
  const [first, second] = [defaultOf(1), defaultOf(2)];
  const name = mid === undefined ? [] : [`a=mid:${mid}`];
  if (isRejected === true) return ["m=application 0 UDP data", "c=IN IP4 0.0.0.0", ...name];
  return [
    `m=application ${first?.port ?? 9} UDP data`,
    `c=IN IP${first?.family ?? 4} ${first?.address ?? "0.0.0.0"}`,
    ...name,
    ...(second === undefined ? [] : [`a=rtcp:${second.port} IN IP${second.family} ${second.address}`]),
  ];
}

function unescapePart(part: string): string {
  return part.replaceAll("~", " ").replace(/%(25|2C|7E)/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
}

/** What browsers make of a description, and of a candidate. */
function parseJson(text: string): IceDescription {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  const { sdp, candidate, sdpMid, sdpMLineIndex, usernameFragment } = (value ?? {}) as Record<string, unknown>;
  if (typeof sdp === "string") return parseDescription(sdp);
  if (typeof candidate !== "string") {
    throw new SyntaxError('Cannot parse session description as its JSON has no "sdp", and no "candidate"');
  }
  const parsed = candidate === "" ? [] : [parseCandidate(candidate)];
  const hasUfrag = parsed.some(({ extensions = [] }) => extensions.some(([name]) => name === "ufrag"));
  const ufrag = typeof usernameFragment === "string" && !hasUfrag ? [["ufrag", usernameFragment] as const] : [];
  const candidates = parsed.map((one) =>
    ufrag.length === 0 ? one : { ...one, extensions: [...one.extensions ?? [], ...ufrag] }
  );
  const part = { candidates, endOfCandidates: candidate === "" };
  const stream = {
    ...(typeof sdpMid === "string" ? { mid: sdpMid } : {}),
    ...(typeof sdpMLineIndex === "number" ? { index: sdpMLineIndex } : {}),
    ...part,
  };
  return { ...part, streams: [stream], ignored: [] };
}
