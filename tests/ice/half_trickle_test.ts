import { assert, assertEquals } from "@std/assert";
import { meet } from "./meeting.ts";

Deno.test("RFC 8838 §16: half trickle: the offer has all candidates, the answer trickles", async (t) => {
  for (const type of ["port restricted cone", "symmetric"] as const) {
    await t.step(type, async () => {
      await meet({ a: { type }, b: { type: "port restricted cone" } }, async ({ a, b, world }) => {
        b.connection.addRemoteDescription(await a.connection.localDescription());
        let fragments = 0;
        for await (const text of b.connection.localFragments()) {
          fragments++;
          await world.sleep(20);
          a.connection.addRemoteDescription(text);
        }
        const [pair] = await Promise.all([a.connection.nominated, b.connection.nominated]);
        assert(fragments > 2, `${fragments}`);
        assertEquals(pair.local.type === "relay" || pair.remote.type === "relay", type === "symmetric");
      });
    });
  }
});
