import { isIpAddress, TransportAddress } from "../stun/address.ts";
import type { Candidate, CandidateType, HostPort } from "./candidate.ts";
import { tcpTypeNamed } from "./tcp.ts";

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

/** What a description says of one data stream: a media section of SDP. */
export interface IceStreamDescription {
  /** What it is called (`a=mid`). */
  readonly mid?: string;
  /** Which of all sections it is, from 0. Default: by its place here. */
  readonly index?: number;
  /** Credentials and options, if they are not the session's. */
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
   * The data streams, if the text has several media sections, or says which one it is about; what is said above is then the
   * session's.
   */
  readonly streams?: readonly IceStreamDescription[];
  /** Lines about candidates that no agent of ours can use, as they were: other types and transports. */
  readonly ignored: readonly string[];
}

const TYPES: ReadonlySet<string> = new Set(["host", "srflx", "prflx", "relay"]);
// RFC 8839 allows letters, digits, "+" and "/". Some agents write "-" and "_", too: they are carried, not judged.
const VISIBLE = /^[\x21-\x7e]+$/;

/**
 * Reads a candidate: `candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host`, with or without `a=` and `candidate:`.
 *
 * @throws {SyntaxError} If it is none, or of a type that is not in RFC 8445.
 */
export function parseCandidate(line: string): Candidate {
  try {
    return readCandidate(line.trim().replace(/^(a=)?(candidate:)?/i, ""));
  } catch (error) {
    throw new SyntaxError(`Cannot parse candidate "${line.trim()}": ${(error as Error).message}`);
  }
}

function readCandidate(value: string): Candidate {
  const parts = value.split(/\s+/);
  const [foundation = "", component = "", protocol = "", priority = "", host = "", port = "", ...rest] = parts;
  if (parts.length < 8) throw new SyntaxError(`it has ${parts.length} of at least 8 words`);
  if (foundation.length > 32 || !VISIBLE.test(foundation)) {
    throw new SyntaxError("its foundation must have 1 to 32 characters");
  }
  if (!isNumber(component, 1, 256)) throw new SyntaxError("its component must be in 1 to 256");
  if (!isNumber(priority, 1, 0xffffffff)) throw new SyntaxError("its priority must be in 1 to 4294967295");
  if (!isNumber(port, 0, 65535)) throw new SyntaxError("its port must be in 0 to 65535");
  const { known, extensions } = readPairs(rest);
  const tcpType = protocol.toLowerCase() === "tcp" ? tcpTypeNamed(known.get("tcptype") ?? "") : undefined;
  // A type of the future, or one of a transport of the future, is carried along.
  if (tcpType === undefined && known.has("tcptype")) extensions.unshift(["tcptype", known.get("tcptype")!]);
  const type = known.get("typ")?.toLowerCase() ?? "";
  if (!TYPES.has(type)) throw new SyntaxError("its type must be host, srflx, prflx or relay");
  const bare = host.replace(/^\[(.*)\]$/, "$1");
  const related = relatedAddress(known.get("raddr"), known.get("rport"));
  const isIp = isIpAddress(bare.split("%")[0]!);
  return {
    foundation,
    component: Number(component),
    protocol: protocol.toLowerCase(),
    ...(tcpType === undefined ? {} : { tcpType }),
    priority: Number(priority),
    address: isIp ? TransportAddress.of(bare, Number(port)) : undefined,
    type: type as CandidateType,
    ...(isIp ? {} : { name: { host: bare, port: Number(port) } }),
    ...(related === undefined ? {} : { relatedAddress: related }),
    ...(extensions.length === 0 ? {} : { extensions }),
  };
}

/** The name-value pairs at the end of a candidate line, in whatever order they come. */
function readPairs(words: readonly string[]): { known: Map<string, string>; extensions: [string, string][] } {
  const known = new Map<string, string>();
  const extensions: [string, string][] = [];
  for (let i = 0; i < words.length; i += 2) {
    const name = words[i]!;
    const value = words[i + 1] ?? "";
    if (["typ", "raddr", "rport", "tcptype"].includes(name.toLowerCase())) known.set(name.toLowerCase(), value);
    else extensions.push([name, value]);
  }
  return { known, extensions };
}

/** Writes a candidate as RFC 8839 §5.1 and RFC 6544 §4.5 have it, beginning with `candidate:` and without `a=`. */
export function formatCandidate(candidate: Candidate): string {
  const { foundation, component, protocol, priority, address, name, type, relatedAddress, extensions } = candidate;
  const { tcpType } = candidate;
  const host = name?.host ?? address?.address ?? "0.0.0.0";
  const port = name?.port ?? address?.port ?? 9;
  let line = `candidate:${foundation} ${component} ${protocol} ${priority} ${host} ${port} typ ${type}`;
  if (relatedAddress !== undefined) line += ` raddr ${relatedAddress.address} rport ${relatedAddress.port}`;
  if (tcpType !== undefined) line += ` tcptype ${tcpType}`;
  for (const [key, value] of extensions ?? []) line += ` ${key} ${value}`;
  return line;
}

/**
 * Reads a session description or a part of one. Taken are: the one line that `formatDescriptionLine()` writes, bare
 * ICE attributes one per line, a whole SDP offer or answer, and a browser's `{"type": ..., "sdp": ...}`. Of several
 * media sections the first that is in use counts.
 *
 * @throws {SyntaxError} Naming the line that is wrong, or if nothing about ICE is in the text.
 */
export function parseDescription(text: string): IceDescription {
  const trimmed = text.trim();
  if (trimmed.startsWith("{")) return parseDescription(sdpOfJson(trimmed));
  // A line that was copied from a terminal may have been broken there; it has no spaces of its own.
  const unbroken = trimmed.replace(/\s+/g, "");
  const isOneLine = !/^\s*[a-z]=/im.test(trimmed) &&
    /,(ice-|candidate:|end-of-candidates)|^candidate:[^,]*~/i.test(unbroken);
  const lines = isOneLine ? unbroken.split(",").map(unescapePart) : trimmed.split(/\r\n|\r|\n/);
  const reader = new DescriptionReader(isOneLine ? "part" : "line");
  lines.forEach((line, i) => reader.read(line.trim(), i + 1));
  return reader.finish();
}

/** Writes a session description as SDP attribute lines, each ended by CR LF. */
export function formatDescription(description: IceDescription): string {
  return attributesOf(description).map((attribute) => `a=${attribute}\r\n`).join("");
}

/**
 * Writes a session description as one line to copy and paste: the SDP attributes without `a=`, with a comma between
 * them and `~` for each space. It has no spaces, quotes or characters that a shell would touch.
 */
export function formatDescriptionLine(description: IceDescription): string {
  return attributesOf(description).map((attribute) =>
    attribute.replace(/[%,~]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`).replaceAll(" ", "~")
  ).join(",");
}

function attributesOf({ parameters, candidates, endOfCandidates }: IceDescription): string[] {
  const attributes: string[] = [];
  if (parameters !== undefined) {
    if (parameters.lite === true) attributes.push("ice-lite");
    attributes.push(`ice-ufrag:${parameters.ufrag}`, `ice-pwd:${parameters.pwd}`);
    if ((parameters.options ?? []).length > 0) attributes.push(`ice-options:${parameters.options!.join(" ")}`);
    if (parameters.pacing !== undefined) attributes.push(`ice-pacing:${parameters.pacing}`);
  }
  attributes.push(...candidates.map(formatCandidate));
  if (endOfCandidates) attributes.push("end-of-candidates");
  return attributes;
}

/** What one section of a description says; a media section takes what it lacks from the session's (RFC 8839 §5.4). */
interface Section {
  ufrag?: string;
  pwd?: string;
  options?: readonly string[];
  pacing?: number;
  lite?: boolean;
  isRejected: boolean;
  endOfCandidates: boolean;
  readonly candidates: Candidate[];
  readonly ignored: string[];
}

class DescriptionReader {
  #word: string;
  #sections: Section[] = [newSection()];
  #found = false;

  /** @param word What the pieces are called in error messages. */
  constructor(word: string) {
    this.#word = word;
  }

  read(line: string, number: number): void {
    if (/^m=/i.test(line)) {
      this.#sections.push({ ...newSection(), isRejected: /^m=\S+\s+0\s/i.test(line) && !/bundle-only/i.test(line) });
      return;
    }
    const match = /^(?:a=)?([a-z-]+)(?::(.*))?$/i.exec(line);
    if (match === null) {
      if (line !== "" && !/^[a-z]=/i.test(line)) throw this.#error(line, number, "it is no SDP line");
      return;
    }
    try {
      if (this.#attribute(match[1]!.toLowerCase(), (match[2] ?? "").trim(), line)) this.#found = true;
    } catch (error) {
      throw this.#error(line, number, (error as Error).message);
    }
  }

  finish(): IceDescription {
    if (!this.#found) {
      throw new SyntaxError(
        "Cannot parse session description as there is nothing about ICE in it: it should have ice-ufrag, ice-pwd or candidate",
      );
    }
    const [session, ...media] = this.#sections as [Section, ...Section[]];
    const own = media.find((section) => !section.isRejected) ?? session;
    const { ufrag = session.ufrag, pwd = session.pwd } = own;
    const options = own.options ?? session.options;
    const pacing = own.pacing ?? session.pacing;
    if ((ufrag === undefined) !== (pwd === undefined)) {
      const missing = ufrag === undefined ? "ice-ufrag" : "ice-pwd";
      throw new SyntaxError(`Cannot parse session description as ${missing} is missing`);
    }
    return {
      ...(ufrag === undefined || pwd === undefined ? {} : {
        parameters: {
          ufrag,
          pwd,
          ...(options === undefined ? {} : { options }),
          ...(session.lite === true || own.lite === true ? { lite: true } : {}),
          ...(pacing === undefined ? {} : { pacing }),
        },
      }),
      candidates: own === session ? session.candidates : [...session.candidates, ...own.candidates],
      endOfCandidates: own.endOfCandidates || session.endOfCandidates,
      ignored: own === session ? session.ignored : [...session.ignored, ...own.ignored],
    };
  }

  /** Takes in an attribute; tells whether it is one of ICE's. */
  #attribute(name: string, value: string, line: string): boolean {
    const section = this.#sections.at(-1)!;
    switch (name) {
      case "ice-ufrag":
        section.ufrag = credential(value, 4);
        return true;
      case "ice-pwd":
        section.pwd = credential(value, 22);
        return true;
      case "ice-options":
        // RFC 8839 §5.6 has spaces between options; commas are seen, too.
        section.options = value.split(/[\s,]+/).filter((option) => option !== "");
        return true;
      case "ice-pacing":
        if (!isNumber(value, 0, 0xffffffff)) throw new SyntaxError("ice-pacing must be a number of milliseconds");
        section.pacing = Number(value);
        return true;
      case "ice-lite":
        return section.lite = true;
      case "end-of-candidates":
        return section.endOfCandidates = true;
      case "bundle-only":
        section.isRejected = false;
        return false;
      case "candidate":
        this.#candidate(section, value, line);
        return true;
      default:
        return false;
    }
  }

  #candidate(section: Section, value: string, line: string): void {
    const [, , , , , , word, type] = value.split(/\s+/);
    // Types of the future are left out, not refused: the peer has other candidates (RFC 8839 §5.1).
    if (word?.toLowerCase() === "typ" && type !== undefined && !TYPES.has(type.toLowerCase())) {
      section.ignored.push(line);
    } else section.candidates.push(readCandidate(value));
  }

  #error(line: string, number: number, why: string): SyntaxError {
    const shown = line.length > 60 ? `${line.slice(0, 57)}...` : line;
    return new SyntaxError(`Cannot parse session description, ${this.#word} ${number} ("${shown}"): ${why}`);
  }
}

function newSection(): Section {
  return { isRejected: false, endOfCandidates: false, candidates: [], ignored: [] };
}

function credential(value: string, least: number): string {
  if (value.length < least || value.length > 256 || !VISIBLE.test(value)) {
    throw new SyntaxError(`it must have ${least} to 256 characters: current length is ${value.length}`);
  }
  return value;
}

function relatedAddress(host: string | undefined, port: string | undefined): TransportAddress | undefined {
  if (host === undefined || !isIpAddress(host) || !isNumber(port ?? "0", 0, 65535)) return undefined;
  return TransportAddress.of(host, Number(port ?? "0"));
}

function isNumber(text: string, least: number, most: number): boolean {
  return /^\d{1,10}$/.test(text) && Number(text) >= least && Number(text) <= most;
}

function unescapePart(part: string): string {
  return part.replaceAll("~", " ").replace(/%(25|2C|7E)/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
}

function sdpOfJson(text: string): string {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  const sdp = typeof value === "object" && value !== null && "sdp" in value ? value.sdp : undefined;
  if (typeof sdp !== "string") throw new SyntaxError('Cannot parse session description as its JSON has no "sdp"');
  return sdp;
}
