import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { TransportAddress } from "../../stun/address.ts";
import type { Candidate } from "../../ice/candidate.ts";
import {
  formatCandidate,
  formatDescription,
  formatDescriptionLine,
  type IceDescription,
  parseCandidate,
  parseDescription,
} from "../../ice/sdp.ts";
import { anyAddress } from "../arbitraries.ts";

const PWD = "asd88fgpdd777uzjYhagZg";

Deno.test("RFC 8839 §5.1: the example's candidate line, read and written", () => {
  const line = "candidate:2 1 udp 1694498815 192.0.2.3 45664 typ srflx raddr 203.0.113.141 rport 8998";
  const candidate = parseCandidate(`a=${line}`);
  assertEquals(candidate, {
    foundation: "2",
    component: 1,
    protocol: "udp",
    priority: 1694498815,
    address: TransportAddress.parse("192.0.2.3:45664"),
    type: "srflx",
    relatedAddress: TransportAddress.parse("203.0.113.141:8998"),
  });
  assertEquals(formatCandidate(candidate), line);
});

Deno.test("I30: transport in any case, unknown extensions kept, in any order, with or without prefix", () => {
  const lines = [
    "a=candidate:1 1 UDP 2122260223 192.168.1.5 58143 typ host generation 0 ufrag vcX8 network-id 1 network-cost 10",
    "candidate:1 1 udp 2122260223 192.168.1.5 58143 typ host generation 0 ufrag vcX8 network-id 1 network-cost 10",
    "1 1 Udp 2122260223 192.168.1.5 58143 generation 0 ufrag vcX8 typ host network-id 1 network-cost 10",
  ];
  for (const line of lines) {
    const { protocol, type, extensions } = parseCandidate(line);
    assertEquals([protocol, type], ["udp", "host"]);
    assertEquals(extensions, [["generation", "0"], ["ufrag", "vcX8"], ["network-id", "1"], ["network-cost", "10"]]);
  }
});

Deno.test("I30: names, active TCP candidates and hidden related addresses", () => {
  const mdns = parseCandidate(
    "candidate:3 1 udp 2113937151 8a1e1f0c-1f3d-4d9a-9d86-b8f2f6a1b1c2.local 60000 typ host",
  );
  assertEquals([mdns.address, mdns.name], [undefined, {
    host: "8a1e1f0c-1f3d-4d9a-9d86-b8f2f6a1b1c2.local",
    port: 60000,
  }]);
  const tcp = parseCandidate("candidate:4 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active");
  assertEquals([tcp.protocol, tcp.address?.port, tcp.tcpType, tcp.extensions], ["tcp", 9, "active", undefined]);
  const hidden = parseCandidate("candidate:5 1 udp 1677722111 2001:db8::5 9999 typ srflx raddr :: rport 9");
  assertEquals([String(hidden.address), String(hidden.relatedAddress)], ["[2001:db8::5]:9999", "[::]:9"]);
  assertEquals(parseCandidate("candidate:6 1 udp 1 x.invalid 9 typ host").name?.host, "x.invalid");
});

Deno.test("Malformed candidate lines say what is wrong with them", () => {
  const cases: [line: string, why: string][] = [
    ["candidate:1 1 udp 1 192.0.2.1", "5 of at least 8 words"],
    ["candidate:1 0 udp 1 192.0.2.1 5 typ host", "component"],
    ["candidate:1 1 udp 0 192.0.2.1 5 typ host", "priority"],
    ["candidate:1 1 udp 99999999999 192.0.2.1 5 typ host", "priority"],
    ["candidate:1 1 udp 1 192.0.2.1 65536 typ host", "port"],
    ["candidate:1 1 udp 1 192.0.2.1 5 typ guest", "type"],
    [`candidate:${"1".repeat(33)} 1 udp 1 192.0.2.1 5 typ host`, "foundation"],
  ];
  for (const [line, why] of cases) assertThrows(() => parseCandidate(line), SyntaxError, why);
});

Deno.test("A browser's offer: credentials of the section count, foreign lines are passed over", () => {
  const offer = [
    "v=0",
    "o=- 4962303333179871722 1 IN IP4 0.0.0.0",
    "s=-",
    "t=0 0",
    "a=group:BUNDLE 0 1",
    "a=extmap-allow-mixed",
    "a=ice-options:trickle ice2",
    "m=audio 0 UDP/TLS/RTP/SAVPF 111",
    "a=ice-ufrag:rejected",
    `a=ice-pwd:${"x".repeat(24)}`,
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    "c=IN IP4 0.0.0.0",
    "a=candidate:1 1 udp 2113937151 192.0.2.7 54400 typ host generation 0",
    "a=candidate:2 1 tcp 1518149375 192.0.2.7 9 typ host tcptype active generation 0",
    "a=candidate:3 1 udp 1 192.0.2.7 9 typ future",
    "a=ice-ufrag:EsAw",
    "a=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y",
    "a=fingerprint:sha-256 DA:7B:57:DC:28:CE:04:4F",
    "a=setup:actpass",
    "a=end-of-candidates",
    "",
  ].join("\r\n");
  const description = parseDescription(offer);
  assertEquals(description.parameters, {
    ufrag: "EsAw",
    pwd: "bP+XJMM09aR8AiX1jdukzR6Y",
    options: ["trickle", "ice2"],
  });
  assertEquals(description.candidates.map(({ protocol }) => protocol), ["udp", "tcp"]);
  assertEquals(description.ignored, ["a=candidate:3 1 udp 1 192.0.2.7 9 typ future"]);
  assertEquals(description.endOfCandidates, true);
  assertEquals(parseDescription(JSON.stringify({ type: "offer", sdp: offer })), description);
});

Deno.test("RFC 8839 §5.4: session-level credentials are the default of each media section", () => {
  const { parameters } = parseDescription(`a=ice-lite\na=ice-ufrag:8hhY\na=ice-pwd:${PWD}\nm=audio 9 RTP/AVP 0\n`);
  assertEquals(parameters, { ufrag: "8hhY", pwd: PWD, lite: true });
});

Deno.test("I31: ice-options are separated by spaces; commas are understood", () => {
  assertEquals(parseDescription("a=ice-options:ice2 trickle,renomination\na=end-of-candidates").parameters, undefined);
  const text = `a=ice-ufrag:8hhY\na=ice-pwd:${PWD}\na=ice-options:ice2 trickle,renomination`;
  const { parameters } = parseDescription(text);
  assertEquals(parameters?.options, ["ice2", "trickle", "renomination"]);
  assertEquals(
    formatDescription({ parameters: parameters!, candidates: [], endOfCandidates: false, ignored: [] }).split(
      "\r\n",
    )[0],
    "a=ice-options:ice2 trickle renomination",
  );
});

Deno.test("RFC 8839 §5.5: ice-pacing", () => {
  assertEquals(parseDescription(`a=ice-ufrag:8hhY\na=ice-pwd:${PWD}\na=ice-pacing:20`).parameters?.pacing, 20);
  assertThrows(() => parseDescription("a=ice-pacing:soon"), SyntaxError, 'line 1 ("a=ice-pacing:soon")');
});

Deno.test("A description that does not parse names the line, or the part of the one line", () => {
  const cases: [text: string, message: string][] = [
    [`a=ice-ufrag:8hhY\r\na=ice-pwd:${PWD}\r\na=candidate:1 1 udp x 192.0.2.1 5 typ host`, "line 3"],
    ["a=ice-ufrag:8hh\na=ice-pwd:short", 'line 1 ("a=ice-ufrag:8hh"): it must have 4 to 256 characters'],
    [`a=ice-ufrag:8hhY\na=ice-pwd:short`, 'line 2 ("a=ice-pwd:short")'],
    [`a=ice-ufrag:8hhY`, "ice-pwd is missing"],
    ["hello there", 'line 1 ("hello there"): it is no SDP line'],
    ["hello", "nothing about ICE"],
    ["", "nothing about ICE"],
    ["{}", "JSON"],
    ["{broken", "JSON"],
    [`ice-ufrag:8hhY,ice-pwd:${PWD},candidate:1~1~udp~1~192.0.2.1~99999~typ~host`, "part 3"],
  ];
  for (const [text, message] of cases) assertThrows(() => parseDescription(text), SyntaxError, message);
});

Deno.test("The one line has no space, quote or shell character, and survives being broken by a terminal", () => {
  const description: IceDescription = {
    parameters: { ufrag: "abcd+/12", pwd: PWD, options: ["ice2", "trickle"], pacing: 5 },
    candidates: [
      parseCandidate("candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host"),
      parseCandidate("candidate:2 1 udp 1694498815 2001:db8::7 6000 typ srflx raddr 2001:db8::1 rport 5000 x a%b,c~d"),
    ],
    endOfCandidates: true,
    ignored: [],
  };
  const line = formatDescriptionLine(description);
  assertEquals(/^[A-Za-z0-9+/:.,~%-]+$/.test(line), true, line);
  assertEquals(parseDescription(line), description);
  assertEquals(
    parseDescription(`  ${line.slice(0, 60)}\n${line.slice(60, 130)}\r\n  ${line.slice(130)}\n`),
    description,
  );
  assertEquals(parseDescription(formatDescription(description)), description);
});

Deno.test("Fragments: each part of a description is a description", () => {
  assertEquals(parseDescription("end-of-candidates").endOfCandidates, true);
  assertEquals(parseDescription("candidate:1 1 udp 1 192.0.2.1 5 typ host").candidates.length, 1);
  assertEquals(parseDescription("candidate:1~1~udp~1~192.0.2.1~5~typ~host").candidates.length, 1);
  assertEquals(parseDescription(`ice-ufrag:8hhY,ice-pwd:${PWD}`).parameters?.ufrag, "8hhY");
  assertEquals(
    parseDescription(`ice-ufrag:8hhY\nice-pwd:${PWD}\ncandidate:1 1 udp 1 192.0.2.1 5 typ host`).candidates.length,
    1,
  );
});

const iceChars = (minLength: number, maxLength: number) =>
  fc.string({
    unit: fc.constantFrom(..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"),
    minLength,
    maxLength,
  });
const visible = fc.string({
  unit: fc.integer({ min: 0x21, max: 0x7e }).map(String.fromCharCode),
  minLength: 1,
  maxLength: 12,
});
const anyCandidate: fc.Arbitrary<Candidate> = fc.record({
  foundation: iceChars(1, 32),
  component: fc.integer({ min: 1, max: 256 }),
  protocol: fc.constantFrom("udp", "tcp"),
  priority: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
  address: anyAddress,
  type: fc.constantFrom("host" as const, "srflx" as const, "prflx" as const, "relay" as const),
  relatedAddress: anyAddress,
  extensions: fc.array(
    fc.tuple(visible.filter((name) => !["typ", "raddr", "rport", "tcptype"].includes(name.toLowerCase())), visible),
    { minLength: 1, maxLength: 3 },
  ),
});
const anyDescription: fc.Arbitrary<IceDescription> = fc.record({
  parameters: fc.record({
    ufrag: iceChars(4, 32),
    pwd: iceChars(22, 64),
    options: fc.array(iceChars(1, 10), { minLength: 1, maxLength: 3 }),
    pacing: fc.integer({ min: 5, max: 1000 }),
  }),
  candidates: fc.array(anyCandidate, { maxLength: 4 }),
  endOfCandidates: fc.boolean(),
  ignored: fc.constant([]),
});

/** Addresses compare by what they stand for, not by what they have cached. */
const plain = (description: IceDescription) => JSON.parse(JSON.stringify(description));

Deno.test("Property: a description survives both of its forms", () => {
  fc.assert(fc.property(anyDescription, (description) => {
    assertEquals(plain(parseDescription(formatDescriptionLine(description))), plain(description));
    assertEquals(plain(parseDescription(formatDescription(description))), plain(description));
  }));
});

Deno.test("Property: whatever the text, reading it gives a description or a SyntaxError", () => {
  const scrap = fc.constantFrom(
    "a=",
    "candidate:",
    "ice-ufrag:",
    "ice-pwd:",
    "m=audio 9",
    " ",
    "~",
    ",",
    "\n",
    "typ host",
    "1",
    "{",
    "%7E",
  );
  const anyTextual = fc.oneof(
    fc.string(),
    fc.array(fc.oneof(scrap, fc.string({ maxLength: 5 }))).map((parts) => parts.join("")),
  );
  fc.assert(
    fc.property(anyTextual, (text) => {
      try {
        parseDescription(text);
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error;
      }
    }),
    { numRuns: 1000 },
  );
});

const TWO_STREAMS = [
  "a=ice-options:ice2 trickle",
  "m=audio 45664 RTP/AVP 0",
  "c=IN IP4 203.0.113.141",
  "a=mid:audio",
  "a=rtcp:53 IN IP4 203.0.113.141",
  "a=ice-ufrag:8hhY",
  `a=ice-pwd:${PWD}`,
  "a=candidate:1 1 UDP 2130706431 10.0.1.1 8998 typ host",
  "a=candidate:1 2 UDP 2130706430 10.0.1.1 8999 typ host",
  "a=remote-candidates:1 192.0.2.3 45664 2 2001:db8::3 45665",
  "a=end-of-candidates",
  "m=video 0 RTP/AVP 31",
  "a=mid:video",
  "m=video 9 RTP/AVP 31",
  "a=ice-ufrag:ofvideo",
  `a=ice-pwd:${PWD}x`,
  "a=candidate:1 1 UDP 2130706431 10.0.1.1 9000 typ host",
  "",
].join("\r\n");

Deno.test("RFC 8839 §5: each media section is a data stream with candidates, components and credentials of its own", () => {
  const { parameters, candidates, streams } = parseDescription(TWO_STREAMS);
  assertEquals([parameters!.ufrag, candidates.length], ["8hhY", 2]);
  const options = ["ice2", "trickle"];
  assertEquals(
    streams!.map(({ candidates, ...rest }) => ({ ...rest, components: candidates.map((one) => one.component) })),
    [
      {
        mid: "audio",
        parameters: { ufrag: "8hhY", pwd: PWD, options },
        endOfCandidates: true,
        remoteCandidates: [[1, { host: "192.0.2.3", port: 45664 }], [2, { host: "2001:db8::3", port: 45665 }]],
        components: [1, 2],
      },
      { mid: "video", isRejected: true, endOfCandidates: false, components: [] },
      { parameters: { ufrag: "ofvideo", pwd: `${PWD}x`, options }, endOfCandidates: false, components: [1] },
    ],
  );
});

Deno.test("RFC 8839 §4.2.1, §5: several streams are written with their m= and c= lines, a=rtcp, a=mid and a=remote-candidates", () => {
  const description = parseDescription(TWO_STREAMS);
  const text = formatDescription(description);
  assertEquals(parseDescription(text), description);
  const lines = text.split("\r\n");
  assertEquals(lines.slice(0, 5), [
    ...["a=ice-options:ice2 trickle", "m=application 8998 UDP data", "c=IN IP4 10.0.1.1", "a=mid:audio"],
    "a=rtcp:8999 IN IP4 10.0.1.1",
  ]);
  assertEquals(lines.filter((line) => /^m=/.test(line)), [
    ...["m=application 8998 UDP data", "m=application 0 UDP data", "m=application 9000 UDP data"],
  ]);
  assertEquals(lines.includes("a=remote-candidates:1 192.0.2.3 45664 2 2001:db8::3 45665"), true);
});

Deno.test("RFC 3264 §6: a candidate with port 0 does not make the m= line refuse the stream", () => {
  const lines = ["0 typ host", "5000 typ srflx raddr 10.0.0.1 rport 0"].map((end, i) =>
    parseCandidate(`candidate:${i} 2 udp 1 192.0.2.${i} ${end}`)
  );
  for (const component of [1, 2]) {
    const candidates = lines.slice(0, component).map((one) => ({ ...one, component }));
    const first = parseCandidate("candidate:A 1 udp 1 :: 0 typ host");
    const description = {
      ...{ parameters: { ufrag: "8hhY", pwd: PWD }, candidates: [first, ...candidates, lines[0]!] },
      ...{ endOfCandidates: false, ignored: [] },
    };
    const text = formatDescription(description);
    assertEquals(text.startsWith("m=application 9 UDP data\r\nc=IN IP4 0.0.0.0\r\n"), true, text);
    assertEquals(parseDescription(text), description);
  }
});

Deno.test("RFC 8839 §5.3: a=ice-lite is the session's, and stands before the media it has nothing to do with", () => {
  const parameters = { ufrag: "8hhY", pwd: PWD, lite: true };
  const text = formatDescription({ parameters, candidates: [], endOfCandidates: true, ignored: [] });
  assertEquals(text.split("\r\n").slice(0, 4), [
    ...["a=ice-lite", "m=application 9 UDP data", "c=IN IP4 0.0.0.0", "a=ice-ufrag:8hhY"],
  ]);
  assertEquals(parseDescription(text).parameters, parameters);
});

Deno.test("The one line of several streams: credentials once, then each stream by its mid", () => {
  const parameters = { ufrag: "8hhY", pwd: PWD };
  const streams = ["audio", "video"].map((mid, i) => ({
    mid,
    parameters,
    candidates: [parseCandidate(`1 ${i + 1} udp 2130706431 10.0.1.1 ${9000 + i} typ host`)],
    endOfCandidates: true,
  }));
  const description = { parameters, candidates: streams[0]!.candidates, endOfCandidates: true, streams, ignored: [] };
  const line = formatDescriptionLine(description);
  assertEquals(line.split(",").map((part) => part.split(/[:~]/)[0]), [
    ...["ice-ufrag", "ice-pwd", "mid", "candidate", "end-of-candidates", "mid", "candidate", "end-of-candidates"],
  ]);
  assertEquals(parseDescription(line), description);
});

Deno.test("RFC 8840 §9: a fragment says which stream it is about, by a=mid, a browser's by sdpMid and sdpMLineIndex", () => {
  const candidate = "candidate:1 1 udp 2130706431 10.0.1.1 9000 typ host";
  const fragment = parseDescription(`a=mid:video\r\na=${candidate}\r\na=end-of-candidates\r\n`);
  assertEquals(
    fragment.streams!.map(({ mid, candidates, endOfCandidates }) => [mid, candidates.length, endOfCandidates]),
    [
      ["video", 1, true],
    ],
  );
  assertEquals(parseDescription(`mid:video,${candidate.replaceAll(" ", "~")}`).streams![0]!.mid, "video");
  const init = { candidate, sdpMid: "video", sdpMLineIndex: 1, usernameFragment: "8hhY" };
  const { streams, candidates } = parseDescription(JSON.stringify(init));
  assertEquals([streams![0]!.mid, streams![0]!.index, candidates[0]!.extensions], ["video", 1, [["ufrag", "8hhY"]]]);
  const end = parseDescription(JSON.stringify({ candidate: "", sdpMid: "video" }));
  assertEquals([end.endOfCandidates, end.candidates, end.streams![0]!.endOfCandidates], [true, [], true]);
  assertThrows(() => parseDescription("{}"), SyntaxError, 'no "sdp", and no "candidate"');
  assertThrows(() => parseDescription("a=remote-candidates:1 192.0.2.3"), SyntaxError, "component, address and port");
});
