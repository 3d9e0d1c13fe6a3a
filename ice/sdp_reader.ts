import type { Candidate, HostPort } from "./candidate.ts";
import type { IceDescription, IceParameters, IceStreamDescription } from "./sdp.ts";
import { isNumber, readCandidate, TYPES, VISIBLE } from "./sdp_candidate.ts";

/** What one section of a description says; a media section takes what it lacks from the session's (RFC 8839 §5.4). */
interface Section {
  mid?: string;
  index?: number;
  remoteCandidates?: readonly (readonly [component: number, candidate: HostPort])[];
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

/** Reads a description line by line, or part by part of the one-line form. */
export class DescriptionReader {
  #word: "line" | "part";
  #sections: Section[] = [newSection()];
  #found = false;

  /** @param word What the pieces are called in error messages. */
  constructor(word: "line" | "part") {
    this.#word = word;
  }

  /** Takes in the next one. */
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

  /** What they say. */
  finish(): IceDescription {
    if (!this.#found) {
      throw new SyntaxError(
        "Cannot parse session description as there is nothing about ICE in it: it should have ice-ufrag, ice-pwd or candidate",
      );
    }
    const [session, ...media] = this.#sections as [Section, ...Section[]];
    const own = media.find((section) => !section.isRejected) ?? session;
    const parameters = parametersOf(own, session);
    const streams = this.#streamsOf(session, media);
    return {
      ...(parameters === undefined ? {} : { parameters }),
      candidates: own === session ? session.candidates : [...session.candidates, ...own.candidates],
      endOfCandidates: own.endOfCandidates || session.endOfCandidates,
      ...(streams === undefined ? {} : { streams }),
      ignored: own === session ? session.ignored : [...session.ignored, ...own.ignored],
    };
  }

  /** The streams, if there are several, or if the one says which it is. */
  #streamsOf(session: Section, media: readonly Section[]): IceStreamDescription[] | undefined {
    // A fragment (RFC 8840 §9) without a media line may name the one that it is about all the same.
    const sections = media.length === 0 && session.mid !== undefined ? [session] : media;
    if (sections.length < 2 && sections[0]?.mid === undefined) return undefined;
    return sections.map((section) => {
      const { mid, index, isRejected, remoteCandidates, candidates, endOfCandidates } = section;
      const parameters = isRejected ? undefined : parametersOf(section, session);
      return {
        ...(mid === undefined ? {} : { mid }),
        ...(index === undefined ? {} : { index }),
        ...(isRejected ? { isRejected } : {}),
        ...(parameters === undefined ? {} : { parameters }),
        candidates,
        endOfCandidates: endOfCandidates || session.endOfCandidates,
        ...(remoteCandidates === undefined ? {} : { remoteCandidates }),
      };
    });
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
      case "mid":
        // In one line a name begins its stream.
        if (this.#word === "part") this.#sections.push({ ...newSection(), mid: value });
        else section.mid = value;
        return this.#word === "part";
      case "remote-candidates":
        section.remoteCandidates = readRemoteCandidates(value);
        return true;
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

/** The parameters of a section; what it lacks is the session's (RFC 8839 §5.4). */
function parametersOf(own: Section, session: Section): IceParameters | undefined {
  const { ufrag = session.ufrag, pwd = session.pwd } = own;
  const options = own.options ?? session.options;
  const pacing = own.pacing ?? session.pacing;
  if ((ufrag === undefined) !== (pwd === undefined)) {
    const missing = ufrag === undefined ? "ice-ufrag" : "ice-pwd";
    throw new SyntaxError(`Cannot parse session description as ${missing} is missing`);
  }
  if (ufrag === undefined || pwd === undefined) return undefined;
  return {
    ufrag,
    pwd,
    ...(options === undefined ? {} : { options }),
    ...(session.lite === true || own.lite === true ? { lite: true } : {}),
    ...(pacing === undefined ? {} : { pacing }),
  };
}

/** RFC 8839 §5.2: component, address and port of each. */
function readRemoteCandidates(value: string): (readonly [component: number, candidate: HostPort])[] {
  const words = value.split(/\s+/);
  const found: (readonly [number, HostPort])[] = [];
  for (let i = 0; i < words.length; i += 3) {
    const [component = "", host = "", port = ""] = words.slice(i, i + 3);
    if (host === "" || !isNumber(component, 1, 256) || !isNumber(port, 0, 65535)) {
      throw new SyntaxError("remote-candidates must have component, address and port of each");
    }
    found.push([Number(component), { host, port: Number(port) }]);
  }
  return found;
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
