// Every kind of NAT against every other, in virtual time: which path, how soon, and how many datagrams.
//
// tests/ice/matrix.tsv has the counts of seed 1. What changes what ICE or TURN sends shows there as a diff:
//   deno test -A tests/ice/matrix_test.ts -- --update
import { assert, assertEquals, assertLessOrEqual, assertMatch } from "@std/assert";
import { CLASSIC_KINDS, kindNamed, type LabKind, linksOf, RFC4787_KINDS, rulesOf } from "../../cli/lab_kinds.ts";
import { LAB_DELAY, LAB_SERVER, type LabCell, runCell, runMatrix } from "../../cli/lab_run.ts";
import { expectedPath, isExpected } from "../../cli/lab_theory.ts";
import { openIce } from "../../ice/mod.ts";
import { addHostBehind, type Hairpinning, NAT_TYPES, VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { serveTurn } from "../../turn/mod.ts";

const RECORD = new URL("matrix.tsv", import.meta.url);
const TA = 50;
/** Four of RFC 4787's nine combinations are classic kinds. */
const KINDS: readonly LabKind[] = [
  ...CLASSIC_KINDS,
  ...RFC4787_KINDS.filter((kind) => !Object.values(NAT_TYPES).some((rules) => isSame(rules, rulesOf(kind)))),
];

let cells: Promise<LabCell[]> | undefined;

/** All cells with seed 1, made once. */
function allCells(): Promise<LabCell[]> {
  return cells ??= runMatrix(KINDS);
}

Deno.test("NAT x NAT: theory agrees with what libwebrtc's own tests expect of seven kinds", () => {
  const columns = KINDS.slice(0, 7);
  // A row is what the controlling side is behind; a cell its own candidate type and the other's: local (host), stun
  // (srflx), prflx, relay.
  const rows = `
    LL LS LS LS LP LS LP
    SL SS SS SS SP SS SP
    SL SS SS SS SP SS SP
    SL SS SS SS RP SS RP
    PL PS PS PR PR PS PR
    SL SS SS SS SP SS SP
    PL PS PS PR PR PS PR`;
  const letters = { host: "L", srflx: "S", prflx: "P", relay: "R" } as const;
  const expected = rows.trim().split("\n").map((row) => row.trim().split(" "));
  const found = columns.map((a, i) =>
    columns.map((b, j) => {
      const { path, local, remote } = expectedPath(a, b);
      if (path === "direct") return `${letters[local!]}${letters[remote!]}`;
      // Theory does not say whose relay it is.
      return path === "relay" && expected[i]![j]!.includes("R") ? expected[i]![j] : path;
    })
  );
  assertEquals(found, expected);
});

Deno.test("NAT x NAT: every path is the best that theory allows, and data comes through both ways", async () => {
  const wrong = (await allCells()).filter((cell) => !isExpected(cell) || cell.isCarrying !== (cell.path !== "none"));
  assertEquals(wrong.map(titleOf), []);
});

Deno.test("NAT x NAT: data flows, and the path is nominated, within a few round trips", async () => {
  for (const cell of await allCells()) {
    if (cell.path === "none") continue;
    const { connectedMs = Infinity, nominatedMs = Infinity, rttMs = 0 } = cell;
    const [a, b] = [kindNamed(cell.a), kindNamed(cell.b)];
    const roundTrip = 2 * LAB_DELAY * (linksOf(a) + linksOf(b) + (cell.path === "relay" ? 2 : 0));
    const title = `${titleOf(cell)}: data after ${connectedMs} ms, nominated after ${nominatedMs} ms`;
    assertEquals(rttMs, roundTrip, title);
    if (cell.path === "direct" && cell.transport === undefined) {
      // The good pair is the first or the second. A filter may drop one side's check, as the other has not sent yet: the
      // other's triggers it anew, in the next slot. An address that no server knows takes one more round.
      const rounds = Number(cell.local === "prflx") + Number(cell.remote === "prflx");
      assertLessOrEqual(connectedMs, 2 * TA + 1.5 * roundTrip + rounds * (TA + roundTrip), title);
      // Whatever is better gets three round trips (ice/nomination.ts).
      assertLessOrEqual(nominatedMs, connectedMs + 4 * roundTrip + 2 * TA, title);
    } else {
      assertLessOrEqual(connectedMs, 5 * TA + 2 * roundTrip, title);
      // The second transmission of direct checks over UDP is waited for. A connection over TCP is one round trip.
      assertLessOrEqual(nominatedMs, 2000, title);
    }
  }
});

Deno.test("NAT x NAT: where nothing gets through, both sides are told so, and why", async () => {
  const closed = kindNamed("closed");
  const [a, b] = [await runMatrix([closed]), await Promise.all(CLASSIC_KINDS.map((a) => runCell({ a, b: closed })))];
  for (const cell of [...a, ...b]) {
    const title = titleOf(cell);
    assertEquals([cell.path, isExpected(cell)], ["none", true], title);
    // Nobody waits for longer for a server that does not answer.
    assertEquals(cell.gatheredMs, 5000, title);
    for (const [side, kind] of [["A", cell.a], ["B", cell.b]] as const) {
      const { at, text } = cell.errors![side];
      // RFC 8863 §4: for 39.5 s something may still come; then the last check's answer may.
      assert(at >= 39_500 && at <= 40_000, `${title}: ${side} after ${at} ms`);
      assertMatch(text, /^Cannot connect: all checks have failed/, title);
      assertEquals(/No answer from STUN server/.test(text), kindNamed(kind).type === "blocked", title);
    }
  }
});

Deno.test("NAT x NAT: as many datagrams as on record", async () => {
  const found = [HEAD, ...(await allCells()).map(lineOf)];
  if (Deno.args.includes("--update")) return await Deno.writeTextFile(RECORD, `${found.join("\n")}\n`);
  const recorded = (await Deno.readTextFile(RECORD)).trimEnd().split("\n");
  const changes = found.flatMap((line, i) => line === recorded[i] ? [] : [`- ${recorded[i] ?? ""}`, `+ ${line}`]);
  const shown = [`  ${HEAD}`, ...changes.slice(0, 20)].join("\n").replaceAll("\t", " | ");
  assert(
    changes.length === 0 && recorded.length === found.length,
    `ICE or TURN sends other than in tests/ice/matrix.tsv, in ${changes.length / 2} of ${found.length - 1} cells. ` +
      `If that is meant to be so: deno test -A tests/ice/matrix_test.ts -- --update\n${shown}`,
  );
});

Deno.test("NAT x NAT with B's agent controlling: the same paths", async () => {
  const wrong = (await runMatrix(CLASSIC_KINDS, { controlling: "B" })).filter((cell) => !isExpected(cell));
  assertEquals(wrong.map(titleOf), []);
});

Deno.test("NAT x NAT with candidates that trickle: the same paths", async () => {
  const wrong = (await runMatrix(CLASSIC_KINDS, { trickle: 20 })).filter((cell) => !isExpected(cell));
  assertEquals(wrong.map(titleOf), []);
});

Deno.test("NAT x NAT with jitter, repetition and reordering: the same paths, with any seed", async () => {
  const link = { delay: LAB_DELAY, jitter: 5, duplicate: 0.05, reorder: 0.05 };
  for (const seed of ["one", "another", "a third"]) {
    const wrong = (await runMatrix(CLASSIC_KINDS, { seed, link })).filter((cell) => !isExpected(cell));
    assertEquals(wrong.map(titleOf), [], `Seed ${seed}`);
  }
});

Deno.test("A symmetric NAT with several addresses: to a restricted cone directly only by luck, but there is always a path", async () => {
  const external = ["203.0.113.1", "203.0.113.11", "203.0.113.12"];
  const pool: LabKind = {
    ...kindNamed("symmetric"),
    nat: { ...NAT_TYPES.symmetric, external, pooling: "arbitrary" },
  };
  const paths = new Set<string>();
  for (let seed = 1; seed <= 12; seed++) {
    const cell = await runCell({ a: pool, b: kindNamed("restricted cone"), seed });
    assert(cell.isCarrying, `Seed ${seed}`);
    paths.add(cell.path);
  }
  assertEquals([...paths].sort(), ["direct", "relay"]);
});

Deno.test("RFC 4787 REQ-9: two homes behind one carrier's NAT meet inside if it turns datagrams back, else by a relay", async () => {
  assertEquals(await meetBehindOneCarrier("external-source"), "srflx-srflx");
  // The homes' own NATs know nothing of the address that it comes from then (REQ-9a).
  assertMatch(await meetBehindOneCarrier("internal-source"), /relay/);
  assertMatch(await meetBehindOneCarrier("none"), /relay/);
});

async function meetBehindOneCarrier(hairpinning: Hairpinning): Promise<string> {
  const world = new VirtualWorld({ link: { delay: LAB_DELAY } });
  const server = world.addHost("server", { addresses: [LAB_SERVER] });
  const carrier = world.addNat("carrier", { external: ["203.0.113.1"], hairpinning });
  const [one, other] = [1, 2].map((i) => {
    return addHostBehind(carrier, { name: `${i}`, type: "port restricted cone", external: `100.64.0.${i}` }).host;
  });
  return await world.run(async () => {
    await using _turn = serveTurn({
      ...{ host: server, listen: [`${LAB_SERVER}:3478`], realm: "example.org", users: { alice: "secret" } },
      allowPeers: ["198.51.100.0/24", "203.0.113.0/24"],
    });
    const turnServers = [{ urls: `turn:${LAB_SERVER}`, username: "alice", credential: "secret" }];
    await using a = openIce({ host: one!, role: "controlling", turnServers });
    await using b = openIce({ host: other!, role: "controlled", turnServers });
    b.addRemoteDescription(await a.localDescription());
    a.addRemoteDescription(await b.localDescription());
    const [{ local, remote }] = await Promise.all([a.nominated, b.nominated]);
    return `${local.type}-${remote.type}`;
  });
}

const HEAD = [
  ...["A", "B", "path", "gathered ms", "data ms", "nominated ms", "failed ms", "from A", "from B", "from server"],
  ...["in the next 10 s", "dropped"],
].join("\t");

function lineOf({ a, b, path, transport, local, remote, errors, ...cell }: LabCell): string {
  const { gatheredMs, connectedMs = "", nominatedMs = "", sent, sentAfter, drops } = cell;
  const failed = errors === undefined ? "" : `${errors.A.at}, ${errors.B.at}`;
  const dropped = Object.entries(drops).map(([reason, count]) => `${count} ${reason}`).join(", ");
  const by = path === "none" ? "none" : `${local}-${remote}${transport === undefined ? "" : ` ${transport}`}`;
  const times = [gatheredMs, connectedMs, nominatedMs, failed];
  return [a, b, by, ...times, sent.a, sent.b, sent.server, sentAfter, dropped].join("\t");
}

function titleOf({ a, b }: LabCell): string {
  return `${a} x ${b}`;
}

function isSame(a: { mapping: string; filtering: string }, b: { mapping: string; filtering: string }): boolean {
  return a.mapping === b.mapping && a.filtering === b.filtering;
}
