// Rule I29: what a peer with the right password, or whoever carries its candidates, can make an agent keep is bounded too.
import { assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { parseCandidate } from "../../ice/sdp.ts";
import { PEER, Rig } from "./rig.ts";

Deno.test("I29: candidates that wait for their names are 64, those beyond are left out, and each name is asked for once", () => {
  const rig = Rig.gathered({ resolvesNames: true });
  rig.remote();
  const add = (n: number, port = 6000) => {
    const name = `00000000-0000-4000-8000-${String(n).padStart(12, "0")}.local`;
    return rig.agent.addRemoteCandidate(parseCandidate(`n${n} 1 udp ${1e9 - n} ${name} ${port} typ host`), rig.io);
  };
  const added = Array.from({ length: 100 }, (_, n) => add(n));
  assertEquals(added.filter((isTaken) => isTaken).length, 64);
  assertEquals(rig.events.filter(({ type }) => type === "lookup").length, 64);
  // Another candidate with a name that is asked for already asks nobody, and has no room either.
  assertEquals(add(0, 6001), false);
  assertEquals(rig.events.filter(({ type }) => type === "lookup").length, 64);
});

Deno.test("I29: a peer that sees us at another address each time teaches us 32 of them", () => {
  const rig = Rig.gathered();
  for (let i = 0; i < 60; i++) rig.candidate(PEER.withPort(6000 + i), "host", 2130706431 - i);
  rig.remote();
  let done = 0;
  for (let i = 0; i < 60; i++, rig.advance(50)) {
    for (; done < rig.requests.length; done++) {
      rig.succeed(rig.requests[done]!, { mapped: TransportAddress.of("203.0.113.1", 10_000 + done) });
    }
  }
  assertEquals(rig.agent.localCandidates.filter(({ type }) => type === "prflx").length, 32);
});
