import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { defaultPort, formatStunUri, parseStunUri, type StunUri } from "../../stun/uri.ts";

const VALID: readonly [string, StunUri][] = [
  ["stun:example.org", { scheme: "stun", host: "example.org" }],
  ["stun:example.org:8000", { scheme: "stun", host: "example.org", port: 8000 }],
  ["stuns:example.org", { scheme: "stuns", host: "example.org" }],
  ["turn:192.0.2.1:3478?transport=udp", { scheme: "turn", host: "192.0.2.1", port: 3478, transport: "udp" }],
  ["turns:[2001:db8::1]:443?transport=tcp", { scheme: "turns", host: "2001:db8::1", port: 443, transport: "tcp" }],
  ["turn:[::1]", { scheme: "turn", host: "::1" }],
  ["turns:relay_1.example.org", { scheme: "turns", host: "relay_1.example.org" }],
];

Deno.test("RFC 7064 §3.1, RFC 7065 §3.1: URIs are read and written back as they were", () => {
  for (const [text, uri] of VALID) {
    assertEquals(parseStunUri(text), uri);
    assertEquals(formatStunUri(uri), text);
  }
});

Deno.test("RFC 7064 §3.1: scheme and transport are read in either case", () => {
  assertEquals(parseStunUri("TURN:Example.org?Transport=TCP"), {
    scheme: "turn",
    host: "Example.org",
    transport: "tcp",
  });
});

Deno.test("RFC 7064 §3.2, RFC 7065 §3.2: the port is 3478, and 5349 over TLS", () => {
  assertEquals((["stun", "turn", "stuns", "turns"] as const).map(defaultPort), [3478, 3478, 5349, 5349]);
});

Deno.test("RFC 7064 §3.1: what is wrong with a URI is said", () => {
  const wrong: readonly [string, string][] = [
    ["", "must begin with stun:"],
    ["example.org:3478", "must begin with stun:"],
    ["http://example.org", "must begin with stun:"],
    ["stun://example.org", `no "//"`],
    ["turn:alice:secret@example.org", "user name and password are no part"],
    ["stun:example.org?transport=udp", `has no part after "?"`],
    ["turn:example.org?transport=sctp", `only "?transport=udp" or "?transport=tcp"`],
    ["turn:example.org?ttl=1", `only "?transport=udp" or "?transport=tcp"`],
    ["stun:2001:db8::1", "must stand in brackets"],
    ["stun:[2001:db8::1", "must stand in brackets"],
    ["stun:", "names no host"],
    ["stun::3478", "names no host"],
    ["stun:[]", "names no host"],
    ["stun:[192.0.2.1]", "only an IPv6 address"],
    ["stun:exa mple.org", "character that is not allowed"],
    ["stun:example.org/path", "character that is not allowed"],
    ["stun:example.org:", "port must be in 1 to 65535"],
    ["stun:example.org:0", "port must be in 1 to 65535"],
    ["stun:example.org:65536", "port must be in 1 to 65535"],
    ["stun:example.org:0x10", "port must be in 1 to 65535"],
  ];
  for (const [text, why] of wrong) {
    const { message } = assertThrows(() => parseStunUri(text), SyntaxError, why);
    assertEquals(message, message.split("\n")[0]);
  }
});

Deno.test("RFC 7065 §3.1: any text is read or refused by a SyntaxError, and what is read is written the same", () => {
  const scheme = fc.constantFrom("stun:", "turns:", "TURN:", "x:", "");
  fc.assert(fc.property(scheme, fc.string(), fc.constantFrom("", "?transport=udp", ":1"), (scheme, host, tail) => {
    let uri: StunUri;
    try {
      uri = parseStunUri(scheme + host + tail);
    } catch (error) {
      return error instanceof SyntaxError;
    }
    assertEquals(parseStunUri(formatStunUri(uri)), uri);
    return true;
  }));
});
