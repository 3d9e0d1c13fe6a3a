// TLS as the virtual internet has it: who talks when, and about which names. Nothing is encrypted. Each flight is one
// record: type, 0xfe 0xfe for a version that nobody has, and a length, as TLS's are; then text.
import type { TlsClientOptions } from "../../machine.ts";
import type { TlsIdentity, TlsServerOptions } from "../transport.ts";

/** The first byte of a handshake's record, as in TLS. STUN begins with 0 to 3. */
export const HANDSHAKE = 22;
const ALERT = 21;
const VERSION = 0xfe;
const HEADER = 5;
/** RFC 7443 §3. */
const STUN_ALPN: readonly string[] = ["stun.turn", "stun.nat-discovery"];

/** What a record, or a piece of the stream, means for one end. */
export interface HandshakeStep {
  /** What to send. */
  readonly answer?: Uint8Array;
  /** The handshake is done. */
  readonly isDone?: boolean;
  /** It has failed. */
  readonly failure?: "certificate" | "other";
}

/** One end of a handshake: takes bytes, gives steps. Two round trips, as TLS 1.2 has them. */
export class TlsHandshake {
  alpn: string | undefined;
  #steps: ((text: string) => HandshakeStep)[];
  #bytes = new Uint8Array(0);

  private constructor(steps: ((text: string) => HandshakeStep)[]) {
    this.#steps = steps;
  }

  /** What the client says first. */
  static hello(options: TlsClientOptions, address: string): Uint8Array {
    const { serverName = address, alpn = [] } = options;
    return record(HANDSHAKE, `hello ${serverName}\n${alpn.join(" ")}`);
  }

  /** The client's end: names are compared, and nothing else is. */
  static client(options: TlsClientOptions, address: string): TlsHandshake {
    const { serverName = address, insecureAcceptAnyCertificate = false } = options;
    const handshake: TlsHandshake = new TlsHandshake([
      (text) => {
        const [certificate = "", alpn = ""] = text.split("\n");
        if (!insecureAcceptAnyCertificate && !isFor(certificate, serverName)) {
          return { failure: "certificate", answer: record(ALERT, "certificate") };
        }
        handshake.alpn = alpn === "" ? undefined : alpn;
        return { answer: record(HANDSHAKE, "finished") };
      },
      () => ({ isDone: true }),
    ]);
    return handshake;
  }

  /** The server's end. */
  static server(options: TlsServerOptions): TlsHandshake {
    const handshake: TlsHandshake = new TlsHandshake([
      (text) => {
        const [hello = "", offer = ""] = text.split("\n");
        const offered = offer.split(" ").filter((name) => name !== "");
        const alpn = (options.alpn ?? STUN_ALPN).find((name) => offered.includes(name));
        // RFC 7301 §3.2.
        if (offered.length > 0 && alpn === undefined) return { failure: "other", answer: record(ALERT, "alpn") };
        handshake.alpn = alpn;
        const { certificate } = identityFor(options, hello.replace("hello ", ""));
        return { answer: record(HANDSHAKE, `${namesOf(certificate).join(" ")}\n${alpn ?? ""}`) };
      },
      () => ({ isDone: true, answer: record(HANDSHAKE, "finished") }),
    ]);
    return handshake;
  }

  /** What came behind the last record. */
  get rest(): Uint8Array {
    return this.#bytes;
  }

  /** Takes in bytes and gives what to do, in order. */
  *feed(bytes: Uint8Array): Generator<HandshakeStep> {
    const joined = new Uint8Array(this.#bytes.length + bytes.length);
    joined.set(this.#bytes);
    joined.set(bytes, this.#bytes.length);
    this.#bytes = joined;
    while (this.#steps.length > 0 && this.#bytes.length > 0) {
      const [type, ...versions] = this.#bytes.subarray(0, 3);
      if (type !== HANDSHAKE || versions.some((byte) => byte !== VERSION)) return yield { failure: "other" };
      const end = HEADER + (this.#bytes[3]! << 8 | this.#bytes[4]!);
      if (!(this.#bytes.length >= end)) return;
      const text = new TextDecoder().decode(this.#bytes.subarray(HEADER, end));
      this.#bytes = this.#bytes.subarray(end);
      yield this.#steps.shift()!(text);
    }
  }
}

function record(type: number, text: string): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  return Uint8Array.of(type, VERSION, VERSION, bytes.length >> 8, bytes.length & 0xff, ...bytes);
}

/** The certificate for a name. */
export function identityFor(options: TlsServerOptions, serverName: string): TlsIdentity {
  for (const [name, identity] of options.names ?? []) {
    if (name.toLowerCase() === serverName.toLowerCase()) return identity;
  }
  return options;
}

/** The names that a certificate is for: it is a list of them, and nothing else. Real PEM is for all names. */
export function namesOf(certificate: string): string[] {
  if (certificate.includes("-----BEGIN")) return ["*"];
  return certificate.split(/\s+/).filter((name) => name !== "");
}

/** RFC 9525 §6.3: a wildcard stands for one label. */
export function isFor(certificate: string, name: string): boolean {
  const wanted = name.toLowerCase();
  const parent = wanted.slice(wanted.indexOf(".") + 1);
  return certificate.toLowerCase().split(" ").some((one) => one === "*" || one === wanted || one === `*.${parent}`);
}
