// `natkit connect --json` crossed with itself and with independent ICE agents, both roles, host and relay, with Debian's
// coturn as the STUN and TURN server.
import { assertEquals, assertStringIncludes } from "@std/assert";
import { COTURN, type Coturn, startCoturn } from "./_coturn.ts";
import { type Connected, crossAgents } from "./_pair.ts";
import { peerTest } from "./_peers.ts";
import { ICE_PROGRAMS, iceProgram, NATKIT } from "./ice_agents.ts";

type Policy = "all" | "relay";
const WAYS = [["host", "all"], ["relay", "relay"]] as const;

interface CrossOptions {
  readonly policy?: Policy;
  /** Of both. Default: the first is controlling. */
  readonly roles?: readonly [string, string];
}

/** Crosses two agents on loopback through coturn and checks that they agree on the path. */
async function cross(
  coturn: Coturn,
  agents: readonly [readonly string[], readonly string[]],
  { policy = "all", roles = ["controlling", "controlled"] }: CrossOptions = {},
): Promise<[Connected, Connected]> {
  const options = ["--bind", "127.0.0.1", "--stun", String(coturn.address), "--turn", String(coturn.address)];
  const credentials = ["--user", "test", "--pass", "secret", "--policy", policy];
  const commands = agents.map((command, i) => [...command, ...options, ...credentials, "--role", roles[i]!]);
  const results = await crossAgents(commands as [string[], string[]]);
  // Only of our own ends: aioice checks from its host sockets as well when it shall use relays only.
  const type = policy === "relay" ? "typ relay" : "typ host";
  agents.forEach((command, i) => command === NATKIT && assertStringIncludes(results[i]!.local, type));
  // Both ends mean the same path.
  const addressOf = (line: string) => line.split(" ").slice(4, 6).join(" ");
  assertEquals(addressOf(results[0].local), addressOf(results[1].remote));
  return results;
}

peerTest("connect: natkit and natkit through coturn", COTURN, async (t) => {
  await using coturn = await startCoturn();
  for (const [way, policy] of WAYS) {
    await t.step(way, async () => {
      await cross(coturn, [NATKIT, NATKIT], { policy });
    });
  }
});

for (const { name, peers, repairsConflicts, build } of ICE_PROGRAMS) {
  peerTest(`connect: natkit and ${name} through coturn`, peers, async (t) => {
    await using peer = await build();
    await using coturn = await startCoturn();
    for (const [way, policy] of WAYS) {
      await t.step(`natkit controlling, ${way}`, async () => {
        await cross(coturn, [NATKIT, peer.command], { policy });
      });
      await t.step(`${name} controlling, ${way}`, async () => {
        await cross(coturn, [peer.command, NATKIT], { policy });
      });
    }
    for (const role of repairsConflicts ? ["controlling", "controlled"] : []) {
      await t.step(`both ${role}: the conflict of roles is repaired`, async () => {
        await cross(coturn, [NATKIT, peer.command], { roles: [role, role] });
      });
    }
  });
}

/** Crosses natkit with an agent that has TCP candidates only. */
async function crossTcp(peer: readonly string[], tcp: string, natkitRole: string): Promise<string> {
  const roles = natkitRole === "controlling" ? [natkitRole, "controlled"] : [natkitRole, "controlling"];
  const commands = [[...NATKIT, "--tcp", tcp], [...peer, "--tcp-only"]].map((command, i) => [
    ...[...command, "--bind", "127.0.0.1", "--role", roles[i]!],
  ]);
  const [{ local, remote }] = await crossAgents(commands as [string[], string[]]);
  const [, , protocol, , , , , type] = local.split(" ");
  return `${protocol} ${type} ${/tcptype (\w+)/.exec(local)?.[1]}, ${/tcptype (\w+)/.exec(remote)?.[1]}`;
}

for (const role of ["controlling", "controlled"]) {
  peerTest(`RFC 6544, I36: natkit ${role} and libnice over TCP alone`, iceProgram("libnice").peers, async (t) => {
    await using peer = await iceProgram("libnice").build();
    await t.step("natkit connects", async () => {
      assertEquals(await crossTcp(peer.command, "active", role), "tcp host active, passive");
    });
    await t.step("libnice connects", async () => {
      assertEquals(await crossTcp(peer.command, "passive", role), "tcp host passive, active");
    });
  });

  peerTest(`RFC 6544, I36: natkit ${role} and pion over TCP alone`, iceProgram("pion").peers, async () => {
    await using peer = await iceProgram("pion").build();
    assertEquals(await crossTcp(peer.command, "active", role), "tcp host active, passive");
  });
}

peerTest("connect: natkit and pion as a lite agent", iceProgram("pion").peers, async (t) => {
  await using peer = await iceProgram("pion").build();
  await using coturn = await startCoturn();
  for (const [way, policy] of WAYS) {
    await t.step(way, async () => {
      const [, { local }] = await cross(coturn, [NATKIT, [...peer.command, "--lite"]], { policy });
      assertStringIncludes(local, "typ host");
    });
  }
});
