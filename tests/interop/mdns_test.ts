// ICE candidates with names in place of addresses, between computers of a network of their own.
import { assert, assertEquals, assertMatch } from "@std/assert";
import type { Meeting } from "./_chromium_ice.ts";
import { Lan } from "./_lan.ts";
import { LAB, labObstacle } from "./_natlab.ts";
import { peerTest, runPeer } from "./_peers.ts";
import { type Connected, crossAgents, ICE_PROGRAMS, NATKIT } from "./ice_agents.ts";

const root = new URL("../../", import.meta.url).pathname;
const NAME = /^\S+ 1 udp \d+ [0-9a-f-]{36}\.local \d+ typ host/;
const obstacle = await labObstacle();

function lanTest(name: string, programs: readonly string[], fn: (t: Deno.TestContext) => Promise<void>): void {
  if (obstacle === undefined) peerTest(name, { ...LAB, programs: [...LAB.programs, ...programs] }, fn);
  else Deno.test({ name: `${name} (skipped, ${obstacle})`, ignore: true, fn });
}

/** Both ends know both by name, or as host candidates: nothing is left peer-reflexive. */
function assertNamed({ local, remote }: Connected): void {
  assertMatch(local, NAME);
  assertMatch(remote, NAME);
}

lanTest("mDNS: natkit and natkit on two computers, no address told", [], async () => {
  await using lan = await Lan.up(2);
  const agents = [lan.on(1, ...NATKIT, "--mdns", "hide"), lan.on(2, ...NATKIT, "--mdns", "hide")] as const;
  for (const connected of await crossAgents([agents[0], agents[1]])) assertNamed(connected);
});

lanTest("mDNS: two programs on one computer share the port, and find each other", [], async () => {
  await using lan = await Lan.up(1);
  const agent = lan.on(1, ...NATKIT, "--mdns", "hide");
  for (const connected of await crossAgents([agent, agent])) {
    assertMatch(connected.local, NAME);
    assert(connected.ms < 900, `a question was lost: it took ${connected.ms} ms`);
  }
});

const aioice = ICE_PROGRAMS.find(({ name }) => name === "aioice")!;
lanTest("mDNS: aioice looks natkit's name up, in both roles", aioice.peers.programs, async (t) => {
  await using lan = await Lan.up(2);
  await using agent = await aioice.build();
  for (const role of ["controlling", "controlled"] as const) {
    await t.step(`natkit ${role}`, async () => {
      const other = role === "controlling" ? "controlled" : "controlling";
      const [ours, theirs] = await crossAgents([
        lan.on(1, ...NATKIT, "--mdns", "hide", "--role", role),
        lan.on(2, ...agent.command, "--role", other, "--bind", "10.3.0.2"),
      ]);
      assertMatch(ours.local, NAME);
      assertMatch(ours.remote, / 10\.3\.0\.2 \d+ typ host/);
      assertMatch(theirs.remote, / 10\.3\.0\.1 \d+ typ host/);
    });
  }
});

const pion = ICE_PROGRAMS.find(({ name }) => name === "pion")!;
lanTest("mDNS: pion, which tells names as well, in both roles", pion.peers.programs, async (t) => {
  await using lan = await Lan.up(2);
  await using agent = await pion.build();
  for (const role of ["controlling", "controlled"] as const) {
    await t.step(`natkit ${role}`, async () => {
      const other = role === "controlling" ? "controlled" : "controlling";
      const [ours] = await crossAgents([
        lan.on(1, ...NATKIT, "--mdns", "hide", "--role", role),
        lan.on(2, ...agent.command, "--role", other, "--mdns", "hide"),
      ]);
      assertMatch(ours.local, NAME);
      assertMatch(ours.remote, NAME);
    });
  }
});

interface Named extends Meeting {
  readonly offerer: string;
  readonly onlyFrom: string;
}

lanTest("mDNS: Chromium as it comes: natkit finds its names, it finds natkit's", ["chromium"], async (t) => {
  await using lan = await Lan.up(1);
  const script = `${root}tests/interop/_chromium_mdns.ts`;
  const [program, ...args] = lan.on(1, Deno.execPath(), "run", "--quiet", "-A", `--config=${root}deno.json`, script);
  const { code, output } = await runPeer(program!, args);
  assertEquals(code, 0, output);
  const results: Named[] = JSON.parse(output.trim().split("\n").at(-1)!);
  assertEquals(results.length, 4);
  for (const { offerer, onlyFrom, natkit, chromium } of results) {
    await t.step(`${offerer} controlling, only ${onlyFrom} tells names`, () => {
      assertEquals([natkit.state, chromium.state], ["succeeded", "succeeded"]);
      // Who does not know the other side's candidates can but be found by it.
      const types = [["host", "host"], ["host", "prflx"]];
      assertEquals([natkit.types, chromium.types], onlyFrom === "chromium" ? types : types.toReversed());
    });
  }
});
