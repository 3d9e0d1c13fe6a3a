// A shared port on real sockets, by Deno's and by the system calls of Linux.
import { assert, assertEquals } from "@std/assert";
import { openIce } from "../../ice/connect.ts";
import { openIceMux } from "../../ice/mux.ts";
import { denoHost } from "../../stun/net/deno_host.ts";
import { pickHost } from "../../stun/net/linux_host.ts";

const COUNT = 20;
const MESSAGES = 10;

for (const io of ["deno", "linux"] as const) {
  Deno.test({
    name: `Mux on loopback, ${io}: twenty connections on one port, each with its own data both ways`,
    ignore: io === "linux" && Deno.build.os !== "linux",
    async fn() {
      const { host } = pickHost(io);
      await using mux = openIceMux({ host, listen: ["127.0.0.1:0"] });
      const couples = Array.from({ length: COUNT }, (_, i) => {
        const got: string[][] = [[], []];
        const done = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
        const take = (side: number) => (bytes: Uint8Array) => {
          got[side]!.push(new TextDecoder().decode(bytes));
          if (got[side]!.length === MESSAGES) done[side]!.resolve();
        };
        const server = openIce({ mux, tcp: "none", role: "controlled", onDatagram: take(0) });
        const client = openIce({
          host: denoHost(),
          bind: ["127.0.0.1"],
          tcp: "none",
          role: "controlling",
          onDatagram: take(1),
        });
        return { i, server, client, got, done: Promise.all(done.map(({ promise }) => promise)) };
      });
      await Promise.all(couples.map(async ({ i, server, client, done }) => {
        server.addRemoteDescription(await client.localDescription());
        client.addRemoteDescription(await server.localDescription());
        const [, pair] = await Promise.all([server.connected, client.connected]);
        assertEquals(String(pair.remote.address), String(mux.addresses[0]));
        for (let n = 0; n < MESSAGES; n++) {
          assert(
            client.send(new TextEncoder().encode(`${i} up`)) && server.send(new TextEncoder().encode(`${i} down`)),
          );
        }
        await done;
      }));
      for (const { i, got } of couples) {
        assertEquals(got, [Array(MESSAGES).fill(`${i} up`), Array(MESSAGES).fill(`${i} down`)]);
      }
      assertEquals(mux.counters.conflicts, 0);
      await Promise.all(couples.flatMap(({ server, client }) => [server.close(), client.close()]));
    },
  });
}
