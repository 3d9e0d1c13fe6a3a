import { isIpAddress, isIpv4 } from "./address.ts";

/** A STUN or TURN server as a URI names it (RFC 7064 §3.1, RFC 7065 §3.1). */
export interface StunUri {
  /** `stuns` and `turns` run over TLS or DTLS. */
  readonly scheme: "stun" | "stuns" | "turn" | "turns";
  /** A name or an IP address, without brackets. */
  readonly host: string;
  /** The port, if the URI has one. Without it: `defaultPort()`, or what DNS says (RFC 5928). */
  readonly port?: number;
  /** The transport between client and server, if the URI has one; only `turn` and `turns` can. */
  readonly transport?: "udp" | "tcp";
}

const NAME = /^[A-Za-z0-9_~.!$&'()*+,;=-]+$/;

/** The port of a URI without one: 3478, or 5349 for `stuns` and `turns` (RFC 7064 §3.2). */
export function defaultPort(scheme: StunUri["scheme"]): number {
  return scheme.endsWith("s") ? 5349 : 3478;
}

/**
 * Reads a `stun:`, `stuns:`, `turn:` or `turns:` URI.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseStunUri } from "@natkit/natkit/stun";
 *
 * assertEquals(parseStunUri("turn:relay.example.org:3479?transport=tcp"), {
 *   scheme: "turn",
 *   host: "relay.example.org",
 *   port: 3479,
 *   transport: "tcp",
 * });
 * ```
 *
 * @param text As `stun:192.0.2.1`, `turn:[2001:db8::1]:3478`, `turns:relay.example.org?transport=tcp`.
 * @throws {SyntaxError} If the text is none; the message says what is wrong.
 */
export function parseStunUri(text: string): StunUri {
  const fail = (why: string): never => {
    throw new SyntaxError(`Cannot parse STUN or TURN URI as ${why}: "${text}"`);
  };
  const colon = text.indexOf(":");
  const scheme = (colon === -1 ? "" : text.slice(0, colon)).toLowerCase();
  if (!isScheme(scheme)) return fail("it must begin with stun:, stuns:, turn: or turns: and the host");
  let rest = text.slice(colon + 1);
  if (rest.startsWith("//")) return fail(`there is no "//" in such a URI, only "${scheme}:HOST:PORT"`);
  if (rest.includes("@")) return fail("user name and password are no part of it");
  let transport: StunUri["transport"];
  const query = rest.indexOf("?");
  if (query !== -1) {
    if (!scheme.startsWith("turn")) return fail(`"${scheme}:" has no part after "?"`);
    const value = /^\?transport=(.*)$/i.exec(rest.slice(query))?.[1]?.toLowerCase();
    if (value !== "udp" && value !== "tcp") return fail(`only "?transport=udp" or "?transport=tcp" may follow`);
    transport = value;
    rest = rest.slice(0, query);
  }
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::([^:]*))?$/.exec(rest);
  if (match === null) return fail("an IPv6 address must stand in brackets, as [2001:db8::1]");
  const host = match[1] ?? match[2]!;
  if (host === "") return fail("it names no host");
  if (match[1] !== undefined && (!isIpAddress(host) || isIpv4(host))) return fail("only an IPv6 address may be in []");
  if (match[2] !== undefined && !NAME.test(host)) return fail("the host has a character that is not allowed");
  const port = match[3] === undefined ? undefined : /^\d{1,5}$/.test(match[3]) ? Number(match[3]) : -1;
  if (port !== undefined && (port < 1 || port > 65535)) return fail("the port must be in 1 to 65535");
  return { scheme, host, ...(port === undefined ? {} : { port }), ...(transport === undefined ? {} : { transport }) };
}

/** Writes a URI: the text that `parseStunUri()` reads back. */
export function formatStunUri({ scheme, host, port, transport }: StunUri): string {
  const written = host.includes(":") ? `[${host}]` : host;
  return `${scheme}:${written}${port === undefined ? "" : `:${port}`}` +
    (transport === undefined ? "" : `?transport=${transport}`);
}

function isScheme(text: string): text is StunUri["scheme"] {
  return text === "stun" || text === "stuns" || text === "turn" || text === "turns";
}
