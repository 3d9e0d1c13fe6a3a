import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { describeDatagram, describeSegment } from "../../cli/lab_datagram.ts";
import { findKind, kindNamed, LAB_KINDS, rulesOf } from "../../cli/lab_kinds.ts";
import { runCell } from "../../cli/lab_run.ts";
import type { DatagramStep, LabStep } from "../../cli/lab_steps.ts";
import { drawSteps } from "../../cli/lab_svg.ts";
import { expectedPath } from "../../cli/lab_theory.ts";
import { main } from "../../cli/main.ts";
import { UsageError } from "../../cli/terminal.ts";
import { MessageWriter, METHOD, TransportAddress } from "../../stun/mod.ts";
import { DATA, XOR_PEER_ADDRESS } from "../../turn/mod.ts";
import { FakeTerminal } from "./_terminal.ts";

async function lab(...args: string[]): Promise<{ code: number; lines: string[]; stderr: string }> {
  const terminal = new FakeTerminal();
  const code = await main(["lab", ...args], terminal);
  // deno-lint-ignore no-control-regex
  const plain = (text: string) => text.replaceAll(/\x1b\[\d+m/g, "");
  return { code, lines: terminal.stdout.map(plain), stderr: plain(terminal.stderr.join("\n")) };
}

async function stepsOf(a: string, b: string): Promise<{ steps: LabStep[]; picture: string }> {
  const steps: LabStep[] = [];
  const cell = await runCell({ a: kindNamed(a), b: kindNamed(b), onStep: (step) => steps.push(step) });
  return { steps, picture: drawSteps(steps, cell) };
}

Deno.test("lab: a kind by its name or a part of it, in any case, with hyphens", () => {
  assertEquals(findKind("a", "port-restricted").name, "port restricted cone");
  assertEquals(findKind("a", "Symmetric").name, "symmetric");
  assertEquals(findKind("a", "firewall").name, "symmetric firewall");
  assertEquals(findKind("a", "udp_blocked").name, "UDP blocked");
  assertEquals(findKind("a", "apdm+eif").name, "APDM+EIF");
  assertThrows(
    () => findKind("b", "cone"),
    UsageError,
    "Option --b must be one of full cone, restricted cone, port restricted cone, double cone, symmetric then cone: ",
  );
  assertThrows(() => findKind("a", "banana"), UsageError, "open, full cone");
  assertEquals(new Set(LAB_KINDS.map(({ name }) => name)).size, LAB_KINDS.length);
});

Deno.test("lab: NATs in a row are as strict as the strictest of them", () => {
  assertEquals(rulesOf(kindNamed("symmetric then cone")), rulesOf(kindNamed("symmetric")));
  assertEquals(rulesOf(kindNamed("double cone")), rulesOf(kindNamed("full cone")));
});

Deno.test("lab: theory knows that one who answers from everywhere can follow one who moves once", () => {
  const direct = { path: "direct", local: "prflx", remote: "prflx" } as const;
  assertEquals(expectedPath(kindNamed("ADM+EIF"), kindNamed("APDM+ADF")), direct);
  assertEquals(expectedPath(kindNamed("ADM+ADF"), kindNamed("APDM+ADF")), { path: "relay" });
  // Each check comes from another port, for ever.
  assertEquals(expectedPath(kindNamed("APDM+EIF"), kindNamed("APDM+EIF")), { path: "relay" });
  assertEquals(expectedPath(kindNamed("TLS only"), kindNamed("UDP blocked")), { path: "relay" });
  assertEquals(expectedPath(kindNamed("open"), kindNamed("closed")), { path: "none" });
});

Deno.test("lab: theory does not depend on who is called A", () => {
  for (const a of LAB_KINDS) {
    for (const b of LAB_KINDS) {
      const [there, back] = [expectedPath(a, b), expectedPath(b, a)];
      assertEquals([there.path, there.local, there.remote], [back.path, back.remote, back.local]);
    }
  }
});

Deno.test("lab: datagrams in words", () => {
  const peer = TransportAddress.parse("203.0.113.1:5000");
  const question = new MessageWriter(new Uint8Array(20)).begin(METHOD.BINDING, "request", new Uint8Array(12)).finish();
  assertEquals(describeDatagram(question), { kind: "stun", text: "what is my address?" });
  const carried = new MessageWriter(new Uint8Array(100)).begin(METHOD.SEND, "indication", new Uint8Array(12))
    .add(XOR_PEER_ADDRESS, peer).add(DATA, new TextEncoder().encode("hello")).finish();
  assertEquals(describeDatagram(carried), { kind: "data", text: 'data "hello" for 203.0.113.1:5000', peer });
  const channel = Uint8Array.of(0x40, 0x01, 0, 2, 0x68, 0x69);
  assertEquals(describeDatagram(channel), { kind: "data", text: 'data "hi" in channel 0x4001' });
  assertEquals(describeDatagram(new Uint8Array(0)), { kind: "data", text: "data, 0 bytes" });
  assertEquals(describeDatagram(Uint8Array.of(0xff, 0)), { kind: "data", text: "data, 2 bytes" });
  // Segments may have several frames, ChannelData with padding, or a part of one.
  const two = Uint8Array.of(...question, ...channel, 0, 0);
  const text = 'what is my address?; data "hi" in channel 0x4001 over TCP';
  assertEquals(describeSegment(two, "ACK"), { kind: "data", text });
  const framed = (bytes: Uint8Array) => Uint8Array.of(bytes.length >> 8, bytes.length, ...bytes);
  const hello = framed(new TextEncoder().encode("hello"));
  assertEquals(describeSegment(framed(question), "ACK").text, "what is my address? over TCP");
  assertEquals(describeSegment(hello, "ACK"), { kind: "data", text: 'data "hello" over TCP' });
  assertEquals(describeSegment(hello.subarray(0, 4), "ACK"), { kind: "tcp", text: "TCP data, 4 bytes" });
  assertEquals(describeSegment(question.subarray(0, 7), "ACK"), { kind: "tcp", text: "TCP data, 7 bytes" });
  assertEquals(describeSegment(new Uint8Array(0), "SYN ACK"), { kind: "tcp", text: "TCP SYN ACK" });
});

Deno.test("lab: candidates, checks, what became of each datagram where, the valid pair, the nomination", async () => {
  const { code, lines, stderr } = await lab("--a", "symmetric", "--b", "port-restricted");
  assertEquals([code, stderr], [0, ""]);
  const text = lines.join("\n");
  for (
    const part of [
      /^A behind symmetric /m,
      /^ +0 ms {2}A has host {2}192\.168\.1\.2:\d+$/m,
      /^ +\d+ ms {2}B has srflx 203\.0\.113\.2:\d+$/m,
      /^ +120 ms {2}A -> B host 10\.0\.0\.2:\d+: check\n +A-nat: from 203\.0\.113\.1:\d+; no route at internet at 140 ms$/m,
      /B -> A srflx 203\.0\.113\.1:\d+: check\n +B-nat: from \S+; filtered at A-nat at 200 ms$/m,
      /B has it at \d+ ms$/m,
      /A pair valid prflx 203\.0\.113\.1:\d+ - relay 198\.51\.100\.1:\d+$/m,
      /: check, USE-CANDIDATE/,
      /B nominated relay/,
      /A -> B relay \S+: data "hello"$/m,
      /\d+ datagrams to and from the server, and of later keepalives: --all shows them$/m,
      /^relay, prflx to relay: data after \d+ ms, nominated after \d+ ms, round trip 120 ms$/m,
    ]
  ) assertMatch(text, part);
  assert(!text.includes("Allocate"), "What the servers are asked is for --all");
  const all = (await lab("--a", "symmetric", "--b", "port-restricted", "--all")).lines.join("\n");
  assertStringIncludes(all, "A -> server 198.51.100.1:3478: Allocate");
  assertStringIncludes(all, "CreatePermission 203.0.113.2:");
});

Deno.test("lab: the same seed gives the same lines, another one other ports", async () => {
  const args = ["--a", "open", "--b", "symmetric", "--loss", "10", "--jitter", "3"];
  const first = await lab(...args, "--seed", "x");
  assertEquals(await lab(...args, "--seed", "x"), first);
  const other = await lab(...args, "--seed", "y");
  assert(other.lines.join() !== first.lines.join());
  assertStringIncludes(first.lines.join("\n"), "lost at");
});

Deno.test("lab --json: a line for each step, of each datagram one beginning and one end, at last the outcome", async () => {
  const { code, lines } = await lab("--a", "carrier", "--b", "firewall", "--json");
  const steps = lines.map((line) => JSON.parse(line));
  const outcome = steps.pop();
  assertEquals([code, outcome.t, outcome.path, outcome.isExpected], [0, "outcome", "direct", true]);
  assertEquals([outcome.a, outcome.b, outcome.isCarrying], ["carrier", "symmetric firewall", true]);
  assertEquals([...steps].sort((a, b) => a.at - b.at), steps);
  const ends = new Map<number, string[]>();
  for (const { t, id, step } of steps as DatagramStep[]) {
    if (t === "datagram" && step !== "translated") ends.set(id, [...ends.get(id) ?? [], step]);
  }
  // What the run's end caught under way has no end.
  for (const [first, end, ...more] of ends.values()) assertEquals([first, more, typeof end], ["sent", [], "string"]);
  const { sent, sentAfter } = outcome;
  assertEquals(ends.size, sent.a + sent.b + sent.server + sentAfter);
});

Deno.test("lab: UDP blocked: relays over TCP and a path around them, and over TLS where port 443 is all there is", async () => {
  for (const [kind, port] of [["UDP blocked", 3478], ["TLS only", 443]]) {
    const { code, lines } = await lab("--a", "full cone", "--b", `${kind}`);
    assertEquals(code, 0);
    const text = lines.join("\n");
    assertMatch(text, new RegExp(`B -> server 198\\.51\\.100\\.1:${port}: answer, you are .* over TCP`));
    const outcome = kind === "TLS only" ? "relay, \\w+ to relay" : "direct over TCP, srflx to srflx";
    assertMatch(text, new RegExp(`^${outcome}: data after \\d+ ms`, "m"));
  }
});

Deno.test("lab: UDP blocked: directly over TCP to a host in the open", async () => {
  const { code, lines } = await lab("--a", "open", "--b", "UDP blocked");
  assertEquals(code, 0);
  assertMatch(lines.join("\n"), /^direct over TCP, host to prflx: data after \d+ ms/m);
  assertMatch(lines.join("\n"), /A has host {2}203\.0\.113\.1:9 TCP active/);
  assertMatch(lines.join("\n"), /B -> A host 203\.0\.113\.1:\d+: check over TCP/);
  const json = await lab("--a", "UDP blocked", "--b", "open", "--json");
  const { path, transport, local, remote, isExpected } = JSON.parse(json.lines.at(-1)!);
  assertEquals([path, transport, local, remote, isExpected], ["direct", "tcp", "prflx", "host", true]);
});

Deno.test("lab: closed: no path, no error of ours, and both sides' reasons", async () => {
  const { code, lines } = await lab("--a", "open", "--b", "closed");
  assertEquals(code, 0);
  const text = lines.join("\n");
  assertStringIncludes(text, "No path.");
  assertMatch(text, /^ {2}B after 39\d\d\d ms: Cannot connect: all checks have failed.*No answer from STUN server/m);
});

Deno.test("lab --matrix: every pair, for people and for machines", async () => {
  const { code, lines } = await lab("--matrix", "--delay", "5");
  assertEquals(code, 0);
  assertMatch(lines.join("\n"), /^ {2}port restricted cone .*rp \d+\/\d+ \d+/m);
  assertEquals(lines.at(-1), "  Every path is the best that theory allows.");
  assert(lines.every((line) => line.length <= 120), "It fits a terminal of 120 columns");
  const machines = await lab("--matrix", "--json", "--controlling", "b");
  assertEquals([machines.code, machines.lines.length], [0, 121]);
  const { t, a, b, path, sent } = JSON.parse(machines.lines[1]!);
  assertEquals([t, a, b, path, typeof sent.server], ["outcome", "open", "full cone", "direct", "number"]);
});

Deno.test("lab --svg: well-formed, with its own colours for light and dark, dropped datagrams marked", async () => {
  const { steps, picture } = await stepsOf("symmetric", "restricted cone");
  assertMatch(picture, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" viewBox="0 0 \d+ [\d.]+" /);
  assertStringIncludes(picture, "@media (prefers-color-scheme: dark)");
  assert(!/href|url\(|<script/.test(picture), "It stands for itself");
  assertBalanced(picture);
  const isMain = ({ kind }: DatagramStep) => kind !== "stun" && kind !== "turn" && kind !== "tcp";
  // By order: in the moment of the nomination more may be sent, which is drawn if it was before.
  const done = steps.findIndex(({ t }) => t === "done");
  const datagrams = steps.filter((step): step is DatagramStep => step.t === "datagram");
  const shown = datagrams.filter((step) =>
    step.step === "sent" && isMain(step) && (steps.indexOf(step) < done || step.kind === "data")
  );
  assertEquals(picture.match(/<polyline/g)!.length, shown.length);
  const ids = new Set(shown.map(({ id }) => id));
  const lost = datagrams.filter(({ id, step }) => ids.has(id) && (step === "filtered" || step === "noRoute"));
  assertEquals(picture.match(/class="way dropped"/g)!.length, lost.length);
  assertEquals(picture.match(/>filtered<\/text>/g)!.length, lost.filter(({ step }) => step === "filtered").length);
  assertStringIncludes(picture, `to 203.0.113.2:`);
});

Deno.test("lab --svg: any pair can be drawn, arrows never point back in time", async () => {
  for (const [a, b] of [["double cone", "carrier"], ["open", "UDP blocked"], ["symmetric firewall", "symmetric"]]) {
    const { picture } = await stepsOf(a!, b!);
    assertBalanced(picture);
    assert(!picture.includes("NaN") && !picture.includes("undefined"), `${a} x ${b}`);
    for (const [, points] of picture.matchAll(/<polyline[^>]* points="([^"]*)"/g)) {
      const heights = points!.split(" ").map((point) => Number(point.split(",")[1]));
      // The shaft ends a little before the arrow's point.
      heights.forEach((y, i) => i === 0 || assert(y >= heights[i - 1]! - 0.1, `${a} x ${b}: ${points}`));
    }
  }
});

Deno.test("lab --svg FILE writes the file, --svg - the picture alone to stdout", async () => {
  const file = await Deno.makeTempFile({ suffix: ".svg" });
  try {
    const { code, lines } = await lab("--a", "open", "--b", "open", "--svg", file);
    assertEquals([code, lines.at(-1)], [0, `Picture in ${file}`]);
    const { lines: picture } = await lab("--a", "open", "--b", "open", "--svg", "-");
    assertEquals(picture, [await Deno.readTextFile(file)]);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("lab: wrong usage", async () => {
  const cases: [string[], RegExp][] = [
    [[], /Options --a and --b are needed, or --matrix/],
    [["--a", "open"], /Options --a and --b are needed/],
    [["--a", "open", "--b", "banana"], /Option --b must be one of open, full cone, .*: "banana"/],
    [["--matrix", "--a", "open"], /Option --a does not go with --matrix/],
    [["--a", "open", "--b", "open", "--rfc4787"], /Option --rfc4787 goes with --matrix/],
    [["--a", "open", "--b", "open", "--loss", "101"], /Option --loss must be a whole number from 0 to 100: "101"/],
    [["--a", "open", "--b", "open", "--controlling", "c"], /Option --controlling must be one of A, B: "C"/],
  ];
  for (const [args, expected] of cases) {
    const { code, lines, stderr } = await lab(...args);
    assertMatch(stderr, expected);
    assertEquals([code, lines], [2, []], args.join(" "));
  }
});

/** Every tag is closed, and nothing is left unescaped. */
function assertBalanced(xml: string): void {
  const open: string[] = [];
  const rest = xml.replaceAll(
    /<(\/?)([a-z]+)((?: [a-zA-Z0-9-]+="[^"<>]*")*)(\/?)>/g,
    (_all, close, name, _rest, alone) => {
      if (close === "/") assertEquals(open.pop(), name);
      else if (alone !== "/") open.push(name);
      return "";
    },
  );
  assertEquals(open, []);
  assert(!/[<]|&(?!amp;|lt;|gt;|quot;)/.test(rest), "Unescaped text");
}
