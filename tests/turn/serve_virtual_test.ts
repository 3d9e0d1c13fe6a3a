// serveTurn() and allocate() in virtual time: what takes hours on a clock.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { restCredential } from "../../stun/rest_users.ts";
import { allocate, serveTurn, TurnError } from "../../turn/mod.ts";

const SERVER = "198.51.100.1:3478";

Deno.test("draft-uberti-rtcweb-turn-rest-00 §4.2: after its end a credential makes no allocation, and a day later the old one lives", async () => {
  const world = new VirtualWorld({ link: { delay: 5 } });
  const host = world.addHost("server", { addresses: ["198.51.100.1"] });
  const client = world.addHost("client", { addresses: ["203.0.113.1"] });
  await world.run(async () => {
    await using server = serveTurn({ host, listen: [SERVER], realm: "example.org", users: {}, restSecrets: ["north"] });
    const credential = restCredential("north", { expires: host.unixTime() + 60, user: "alice" });
    const open = () => allocate({ host: client, server: TransportAddress.parse(SERVER), ...credential });
    await using relay = await open();
    await world.sleep(59_000);
    await using second = await open();
    assertEquals(second.relayedAddress.address, relay.relayedAddress.address);
    await world.sleep(1000);
    await assertRejects(open, TurnError, "401");
    await world.sleep(86_400_000);
    assertEquals(server.stats().allocations, 2, "both were refreshed all the time");
  }, { limit: 2 * 86_400_000 });
});

Deno.test("A user who takes 3 s to be found out about is waited for; one who takes 10 s is not, and none is asked for twice at a time", async () => {
  const world = new VirtualWorld({ link: { delay: 5 } });
  const host = world.addHost("server", { addresses: ["198.51.100.1"] });
  const client = world.addHost("client", { addresses: ["203.0.113.1"] });
  await world.run(async () => {
    let asked = 0;
    await using server = serveTurn({
      host,
      listen: [SERVER],
      realm: "example.org",
      users: {},
      async lookUpUser(username) {
        asked++;
        await world.sleep(username === "slow" ? 3000 : 10_000);
        return "secret";
      },
    });
    const open = (username: string) =>
      allocate({ host: client, server: TransportAddress.parse(SERVER), username, password: "secret" });
    const start = world.now;
    await using _relay = await open("slow");
    // 401 first (10 ms), then 3 s in which the request comes again and again, and the answer.
    assert(world.now - start >= 3010 && world.now - start < 3100, `${world.now - start}`);
    assertEquals([asked, server.stats().drops.alreadyWaiting], [1, 2]);
    await assertRejects(() => open("slower"));
    assert(server.stats().drops.userSearchFailed > 0);
    assertEquals(server.stats().allocations, 1);
    await world.sleep(20_000);
  });
});
